//! The world around relayd in tests: servers that follow a script, programs on free ports, a carrier that knows them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod deliverd;
pub(crate) mod house;
pub(crate) mod https;
pub(crate) mod keyd;
pub(crate) mod zones;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mail::address::{Address, Domain, ReversePath};
use relayd::attempt::{Carrier, Finding};
use relayd::dial::Phone;
use relayd::dns::Dns;
use relayd::lanes::Destination;
use relayd::pool::Pool;
use relayd::tls::{Tls, Wish};
use rustls::RootCertStore;
use smtp::client::{Config, Envelope, Timeouts};
use smtp::parameter::MailParameters;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One line of a script.
#[derive(Clone)]
pub(crate) enum Step {
    /// Write this.
    Say(&'static [u8]),
    /// Write this so often.
    SayAgain(&'static [u8], usize),
    /// Read a line that begins so.
    Hear(&'static str),
    /// Read up to the end of data.
    HearBody,
    /// Run a TLS handshake.
    Tls,
    /// The same with this certificate and key, DER.
    TlsAs(Vec<u8>, Vec<u8>),
    /// The same with a chain of certificates.
    TlsWith(Vec<Vec<u8>>, Vec<u8>),
    /// Say nothing for so long.
    Wait(Duration),
}

pub(crate) use Step::{Hear, HearBody, Say, SayAgain, Wait};

pub(crate) const EHLO: [Step; 3] = [
    Say(b"220 mx ready\r\n"),
    Hear("EHLO "),
    Say(b"250-mx\r\n250 SIZE\r\n"),
];

/// A server that plays one script per connection, in order; ends with what it read.
pub(crate) async fn scripted(scripts: Vec<Vec<Step>>) -> (SocketAddr, JoinHandle<String>) {
    scripted_at(([127, 0, 0, 1], 0).into(), scripts).await
}

pub(crate) async fn scripted_at(
    address: SocketAddr,
    scripts: Vec<Vec<Step>>,
) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let play = tokio::spawn(async move {
        let mut heard = String::new();
        for script in scripts {
            let (stream, _) = listener.accept().await.unwrap();
            heard.push_str(&play(BufStream::new(Box::new(stream)), &script).await);
        }
        heard
    });
    (address, play)
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Plays a script over a connection that somebody has taken; returns what was heard.
pub(crate) async fn play_over(stream: tokio::net::TcpStream, script: &[Step]) -> String {
    play(BufStream::new(Box::new(stream)), script).await
}

async fn play(mut stream: BufStream<Box<dyn Stream>>, script: &[Step]) -> String {
    let mut heard = String::new();
    for step in script {
        match step {
            Say(bytes) => {
                let _ = stream.write_all(bytes).await;
                let _ = stream.flush().await;
            }
            SayAgain(bytes, times) => {
                for _ in 0..*times {
                    if stream.write_all(bytes).await.is_err() {
                        break;
                    }
                }
                let _ = stream.flush().await;
            }
            Hear(start) => {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                assert!(line.starts_with(start), "expected {start}, heard {line:?}");
                heard.push_str(&line);
            }
            HearBody => loop {
                let mut line = Vec::new();
                stream.read_until(b'\n', &mut line).await.unwrap();
                heard.push_str(&String::from_utf8_lossy(&line));
                if line == b".\r\n" || line.is_empty() {
                    break;
                }
            },
            Step::Tls => {
                let Ok(secured) = acceptor().accept(stream.into_inner()).await else {
                    return heard;
                };
                stream = BufStream::new(Box::new(secured));
            }
            Step::TlsAs(certificate, key) => {
                let acceptor = acceptor_for(vec![certificate.clone().into()], key.clone());
                let Ok(secured) = acceptor.accept(stream.into_inner()).await else {
                    return heard;
                };
                stream = BufStream::new(Box::new(secured));
            }
            Step::TlsWith(chain, key) => {
                let chain = chain.iter().map(|one| one.clone().into()).collect();
                let acceptor = acceptor_for(chain, key.clone());
                let Ok(secured) = acceptor.accept(stream.into_inner()).await else {
                    return heard;
                };
                let name = secured.get_ref().1.server_name().unwrap_or_default();
                heard.push_str(&format!("SNI {name}\n"));
                stream = BufStream::new(Box::new(secured));
            }
            Wait(time) => tokio::time::sleep(*time).await,
        }
    }
    // Wait for the other side to end, so that nothing is reset that it has not read.
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut rest)).await;
    heard
}

fn acceptor() -> tokio_rustls::TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["mx.example.org".into()]).unwrap();
    acceptor_for(
        vec![made.cert.der().clone()],
        made.signing_key.serialize_der(),
    )
}

fn acceptor_for(
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: Vec<u8>,
) -> tokio_rustls::TlsAcceptor {
    let key = rustls::pki_types::PrivateKeyDer::try_from(key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

pub(crate) fn timeouts(each: Duration) -> Timeouts {
    Timeouts {
        greeting: each,
        command: each,
        data: each,
        block: each,
        end_of_data: each,
    }
}

/// Goes to port `port`, with DNS asked of `dns`, and little patience.
pub(crate) fn carrier(port: u16, dns: SocketAddr) -> Carrier {
    let hostname = Domain::parse("relay.example.test").unwrap();
    let phone = Phone {
        config: Config {
            hostname,
            timeouts: timeouts(Duration::from_secs(2)),
        },
        tls: Tls::new(RootCertStore::empty()).unwrap(),
        pool: Arc::new(Pool::new(Duration::ZERO)),
    };
    Carrier {
        dns: Dns::new(&[dns], "relay.example.test").unwrap(),
        sts: None,
        rules: std::collections::HashMap::new(),
        phone: Arc::new(phone),
        port,
        smarthost: None,
        ledger: None,
    }
}

/// The part of a dialog from MAIL, which begins so, to the end of data, all accepted.
pub(crate) fn delivery(mail: &'static str) -> Vec<Step> {
    vec![
        Hear(mail),
        Say(b"250 ok\r\n"),
        Hear("RCPT"),
        Say(b"250 ok\r\n"),
        Hear("DATA"),
        Say(b"354 go\r\n"),
        HearBody,
        Say(b"250 ok\r\n"),
    ]
}

pub(crate) fn envelope(recipients: &[&str]) -> Envelope {
    Envelope {
        sender: ReversePath::parse("alice@example.test").unwrap(),
        recipients: recipients
            .iter()
            .map(|text| Address::parse(text).unwrap())
            .collect(),
        size: 12,
        eight_bit: false,
        smtputf8: false,
        parameters: MailParameters::default(),
        recipient_parameters: Vec::new(),
    }
}

pub(crate) const NO_DNS: ([u8; 4], u16) = ([127, 0, 0, 1], 9);

/// One attempt with `body` at the server at `address`.
pub(crate) async fn attempt(
    address: SocketAddr,
    recipients: &[&str],
    body: &'static [u8],
) -> Vec<Finding> {
    attempt_with(&carrier(address.port(), NO_DNS.into()), recipients, body).await
}

pub(crate) async fn attempt_with(
    carrier: &Carrier,
    recipients: &[&str],
    body: &'static [u8],
) -> Vec<Finding> {
    attempt_as(carrier, recipients, body, Wish::AsDemanded).await
}

pub(crate) async fn attempt_as(
    carrier: &Carrier,
    recipients: &[&str],
    body: &'static [u8],
    wish: Wish,
) -> Vec<Finding> {
    let destination = match &carrier.smarthost {
        Some(_) => Destination::Smarthost,
        None => Destination::Domain(Address::parse(recipients[0]).unwrap().domain().clone()),
    };
    let open = || {
        use std::io::{Seek, Write};
        let mut file = tempfile::tempfile()?;
        file.write_all(body)?;
        file.rewind()?;
        Ok(file)
    };
    carrier
        .attempt(&destination, &envelope(recipients), wish, open)
        .await
}

/// A program that ends with the test; `None` (and a word why) if it is not installed.
pub(crate) struct Program(Child);

impl Program {
    pub(crate) fn start(path: &str, arguments: &[&str]) -> Option<Self> {
        let child = Command::new(path)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        child
            .inspect_err(|error| eprintln!("SKIPPED: {path}: {error}"))
            .ok()
            .map(Self)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until somebody listens.
pub(crate) async fn listening(port: u16) {
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_ok()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("nobody listens on port {port}");
}

/// What a part holds that is compressed and in base64, up to the next boundary.
pub(crate) fn gunzip(part: &str) -> String {
    use std::io::Read;
    let base64: String = part
        .split("\n--")
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let mut document = String::new();
    let mut decoder = flate2::read::GzDecoder::new(std::io::Cursor::new(decode(&base64)));
    decoder.read_to_string(&mut document).unwrap();
    document
}

fn decode(base64: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |byte| DIGITS.iter().position(|one| *one == byte);
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in base64.bytes().filter_map(digit) {
        bits = bits << 6 | u32::try_from(byte).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 255).unwrap());
        }
    }
    out
}
