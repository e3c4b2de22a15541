//! SMTP clients that are slow or hostile, each in one way, over and over.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::program;
use crate::smtp::open_from;

/// Between two tries of the same client.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a client waits for a server that says or takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// A way of misbehaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// An octet in a second, in the middle of a command.
    SlowCommand,
    /// An octet in a second, in the middle of a message.
    SlowMessage,
    /// Asks and asks, and does not listen.
    Deaf,
    /// Tries addresses, 50 at a time, and says something that is no SMTP.
    Guess,
    /// Begins a TLS handshake and goes.
    Abandon,
    /// Has the server do its half of a TLS handshake, and goes.
    HalfShake,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SlowCommand,
        Self::SlowMessage,
        Self::Deaf,
        Self::Guess,
        Self::Abandon,
        Self::HalfShake,
    ];
}

/// Whom such clients bother.
#[derive(Debug, Clone)]
pub struct Target {
    /// Port 25.
    pub smtp: SocketAddr,
    /// A port that begins with TLS.
    pub submissions: SocketAddr,
    /// What a real TLS client says first, see [`client_hello`].
    pub client_hello: Vec<u8>,
}

/// What the `openssl` command says first to a server.
#[must_use]
pub fn client_hello() -> Vec<u8> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("a port").to_string();
    let mut client = program::command("openssl")
        .args(["s_client", "-connect", &address])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl starts");
    let (mut stream, _) = listener.accept().expect("openssl connects");
    let mut header = [0; 5];
    stream.read_exact(&mut header).expect("a record");
    let mut record = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut record).expect("a whole record");
    drop(stream);
    client.wait().expect("our own child");
    [header.to_vec(), record].concat()
}

/// Misbehaves from the address `from` until it is `over`.
pub fn misbehave(way: Way, target: &Target, from: Ipv4Addr, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        // Whatever comes of it: the next try follows.
        let _ = match way {
            Way::SlowCommand => greeted(target, from).and_then(|stream| drip(stream, over)),
            Way::SlowMessage => greeted(target, from).and_then(|mut stream| {
                stream.write_all(
                    b"EHLO x\r\nMAIL FROM:<x@outside.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n",
                )?;
                drip(stream, over)
            }),
            Way::Deaf => greeted(target, from).and_then(deaf),
            Way::Guess => greeted(target, from).and_then(guess),
            Way::Abandon => begin(target.submissions, from, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
            Way::HalfShake => half_shake(target, from),
        };
        std::thread::sleep(PAUSE);
    }
}

fn open(server: SocketAddr, from: Ipv4Addr) -> io::Result<TcpStream> {
    let stream = open_from(from, server)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

// Who talks before the greeting is sent away at once, and so does less harm.
fn greeted(target: &Target, from: Ipv4Addr) -> io::Result<TcpStream> {
    let mut stream = open(target.smtp, from)?;
    let mut octet = [0];
    while octet != *b"\n" {
        stream.read_exact(&mut octet)?;
    }
    Ok(stream)
}

fn drip(mut stream: TcpStream, over: &AtomicBool) -> io::Result<()> {
    while !over.load(Ordering::Relaxed) {
        stream.write_all(b"x")?;
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

fn deaf(mut stream: TcpStream) -> io::Result<()> {
    loop {
        stream.write_all(&b"EHLO x\r\n".repeat(1000))?;
    }
}

fn guess(mut stream: TcpStream) -> io::Result<()> {
    let mut all = b"EHLO x\r\nMAIL FROM:<>\r\n".to_vec();
    for name in 0..50 {
        all.extend(format!("RCPT TO:<{name}@example.test>\r\n").into_bytes());
    }
    all.extend(b"\0\x16\x03GET / HTTP/1.1\r\n");
    stream.write_all(&all)?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

fn begin(server: SocketAddr, from: Ipv4Addr, first: &[u8]) -> io::Result<()> {
    open(server, from)?.write_all(first)
}

fn half_shake(target: &Target, from: Ipv4Addr) -> io::Result<()> {
    let mut stream = open(target.submissions, from)?;
    stream.write_all(&target.client_hello)?;
    stream.read_exact(&mut [0; 1000])
}
