//! A thousand clients at once, some of them slow or hostile; and what an idle connection costs. Measured, not judged, so it
//! runs only when asked for, with the figures in its output:
//!
//! ```text
//! cargo build --release --workspace --locked
//! cargo nextest run --release --locked -p system-tests --run-ignored only -E 'binary(crowd)' --no-capture
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use system_tests::load::{message, recognize};
use system_tests::smtp::Client;
use system_tests::{Options, System, skip_without};

const GOOD: u32 = 950;
const BAD: u32 = 50;
/// In this time all well-behaved clients connect, and in this they bring a message each, over and over.
const ROUND: Duration = Duration::from_secs(10);
const ROUNDS: u32 = 4;
const STACK: usize = 256 * 1024;

/// What well-behaved clients had to wait for.
#[derive(Default)]
struct Waits {
    /// For greeting and EHLO.
    hello: Vec<Duration>,
    /// From MAIL to the reply to the text.
    message: Vec<Duration>,
    acknowledged: BTreeSet<u32>,
    failures: Vec<String>,
}

/// A thousand clients need as many descriptors.
fn raise_limit() {
    let hard = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: hard,
        maximum: hard,
    };
    setrlimit(Resource::Nofile, limit).expect("one's own limit, up to the hard one");
}

fn spawn<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    work: impl FnOnce() + Send + 'scope,
) {
    let builder = std::thread::Builder::new().stack_size(STACK);
    builder.spawn_scoped(scope, work).expect("a thread");
}

/// Brings one message in each round.
fn behave(server: SocketAddr, place: u32, number: &AtomicU32, waits: &Mutex<Waits>) {
    let begin = Instant::now();
    let turn = ROUND * place / GOOD;
    std::thread::sleep(turn);
    let asked = Instant::now();
    let mut client = match Client::hello(server) {
        Ok(client) => client,
        Err(error) => return waits.lock().unwrap().failures.push(error.to_string()),
    };
    waits.lock().unwrap().hello.push(asked.elapsed());
    for round in 1..=ROUNDS {
        let due = ROUND * round + turn;
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
        let number = number.fetch_add(1, Ordering::Relaxed);
        let to = ["alice@example.test", "bob@example.test"][number as usize % 2];
        let asked = Instant::now();
        let sent = client.deliver("x@outside.test", to, &message(number));
        let mut waits = waits.lock().unwrap();
        match sent {
            Ok(()) => {
                waits.message.push(asked.elapsed());
                waits.acknowledged.insert(number);
            }
            Err(error) => return waits.failures.push(error.to_string()),
        }
    }
}

/// Misbehaves in one of several ways until it is over.
fn misbehave(system: &System, kind: u32, over: &AtomicBool) {
    let (plain, tls) = (system.address("smtp"), system.address("submissions"));
    while !over.load(Ordering::Relaxed) {
        // Whatever comes of it: the next try follows.
        let _ = match kind % 5 {
            0 => drip(plain, b"", over),
            1 => drip(
                plain,
                b"EHLO x\r\nMAIL FROM:<x@outside.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n",
                over,
            ),
            2 => deaf(plain),
            3 => probe(plain),
            _ => abandon(tls),
        };
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    Ok(stream)
}

/// An octet in a second, in the middle of a command or of a message.
fn drip(server: SocketAddr, first: &[u8], over: &AtomicBool) -> io::Result<()> {
    let mut stream = connect(server)?;
    stream.write_all(first)?;
    while !over.load(Ordering::Relaxed) {
        stream.write_all(b"x")?;
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// Asks and asks, and does not listen.
fn deaf(server: SocketAddr) -> io::Result<()> {
    let mut stream = connect(server)?;
    loop {
        stream.write_all(&b"EHLO x\r\n".repeat(1000))?;
    }
}

/// Tries addresses, and then something that is no SMTP.
fn probe(server: SocketAddr) -> io::Result<()> {
    let mut stream = connect(server)?;
    stream.write_all(b"EHLO x\r\nMAIL FROM:<>\r\n")?;
    for name in 0..50 {
        stream.write_all(format!("RCPT TO:<{name}@example.test>\r\n").as_bytes())?;
    }
    stream.write_all(b"\0\x16\x03GET / HTTP/1.1\r\n")?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

/// Begins a TLS handshake and goes.
fn abandon(server: SocketAddr) -> io::Result<()> {
    let mut stream = connect(server)?;
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
}

/// All rounds, beside so many clients that misbehave.
fn measure(system: &System, bad: u32, number: &AtomicU32) -> Waits {
    let waits = Mutex::new(Waits::default());
    let over = AtomicBool::new(false);
    let server = system.address("smtp");
    std::thread::scope(|scope| {
        for kind in 0..bad {
            let over = &over;
            spawn(scope, move || misbehave(system, kind, over));
        }
        std::thread::scope(|scope| {
            for place in 0..GOOD {
                let waits = &waits;
                spawn(scope, move || behave(server, place, number, waits));
            }
        });
        over.store(true, Ordering::Relaxed);
    });
    waits.into_inner().unwrap()
}

/// At 50, 90 and 99 percent, and the longest, in milliseconds.
fn quantiles(times: &mut [Duration]) -> [f64; 4] {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    [at(50), at(90), at(99), at(100)]
}

fn show(what: &str, mut quiet: Vec<Duration>, mut crowded: Vec<Duration>) {
    let (quiet, crowded) = (quantiles(&mut quiet), quantiles(&mut crowded));
    println!("{what:8} {:>10} {:>10} {:>7}", "without", "with", "ratio");
    for (name, (without, with)) in ["50 %", "90 %", "99 %", "longest"]
        .iter()
        .zip(quiet.iter().zip(crowded))
    {
        let ratio = with / without;
        println!("{name:8} {without:7.1} ms {with:7.1} ms {ratio:7.2}");
    }
}

#[test]
#[ignore = "measures for minutes; the command is at the top of this file"]
fn the_well_behaved_of_a_thousand_clients_lose_nothing() {
    raise_limit();
    let config = json!({"log_level": "warn", "smtp": {"max_connections": 2000}});
    let system = System::start(Options::default().config(&config));
    let number = AtomicU32::new(0);
    let (mut quiet, mut crowded) = (Waits::default(), Waits::default());
    // Turn by turn, so that both meet the same moods of the machine.
    for _ in 0..2 {
        for (all, bad) in [(&mut quiet, 0), (&mut crowded, BAD)] {
            let waits = measure(&system, bad, &number);
            assert!(waits.failures.is_empty(), "{:?}", waits.failures);
            all.hello.extend(waits.hello);
            all.message.extend(waits.message);
            all.acknowledged.extend(waits.acknowledged);
        }
    }
    let all = &quiet.acknowledged | &crowded.acknowledged;
    assert_eq!(all.len(), (GOOD * ROUNDS * 4) as usize);
    let mut kept = BTreeSet::new();
    for address in ["alice@example.test", "bob@example.test"] {
        let files = system.account(address).messages("INBOX");
        kept.extend(files.iter().filter_map(|file| recognize(&file.bytes())));
    }
    assert_eq!(all.difference(&kept).count(), 0, "acknowledged and gone");
    println!(
        "{GOOD} clients, {} messages, without and with {BAD} others",
        all.len()
    );
    show("hello", quiet.hello, crowded.hello);
    show("message", quiet.message, crowded.message);
}

const IDLE: &str = r#"
import resource, socket, ssl
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
context = ssl.create_default_context(cafile=ca_file)

def memory():
    lines = open(f'/proc/{smtpd}/smaps_rollup').read().splitlines()
    sizes = dict(line.split(':', 1) for line in lines if line.endswith('kB'))
    return {name: int(sizes[name].split()[0]) for name in ('Rss', 'Pss', 'Private_Dirty')}

def hear(stream):
    data = b''
    while not (data.endswith(b'\r\n') and data[data.rfind(b'\n', 0, -1) + 4:][:1] == b' '):
        piece = stream.recv(4096)
        assert piece, data
        data += piece

def visit(port, secure):
    stream = socket.create_connection(('127.0.0.1', port))
    if secure:
        stream = context.wrap_socket(stream, server_hostname='localhost')
    hear(stream)
    stream.sendall(b'EHLO client.example\r\n')
    hear(stream)
    return stream

def measure(what, port, secure):
    # What the first connections bring into memory for good is not theirs.
    first = [visit(port, secure) for _ in range(100)]
    before = memory()
    all = [visit(port, secure) for _ in range(count)]
    after = memory()
    each = ', '.join(f'{name} {(after[name] - before[name]) * 1024 // count}' for name in before)
    print(f'{what}: {count} idle connections: {each} bytes each')
    # They stay: what is freed now would be given to the next.
    return first + all

clear = measure('clear text', ports['smtp'], False)
secure = measure('TLS', ports['submissions'], True)
"#;

#[test]
#[ignore = "measures; the command is at the top of this file"]
fn an_idle_connection_is_small() {
    skip_without!("/usr/bin/python3");
    let config = json!({"log_level": "warn", "smtp": {"max_connections": 4000}});
    let system = System::start(Options::without_users().config(&config));
    let outcome = system.python(IDLE, &json!({"smtpd": system.pid("smtpd"), "count": 1000}));
    print!("{}", outcome.stdout);
}
