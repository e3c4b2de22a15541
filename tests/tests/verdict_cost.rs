//! What it costs to find out whether a message is from whom it says. Measured, not judged, so it runs only when asked for, with the
//! figures in its output:
//!
//! ```text
//! cargo build --release --workspace --locked
//! cargo nextest run --release --locked -p system-tests --run-ignored only -E 'binary(verdict_cost)' --no-capture
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dkim::{Signer, SigningKey};
use mail::address::Domain;
use serde_json::{Value, json};
use system_tests::dns::NameServer;
use system_tests::smtp::Client;
use system_tests::{Options, System, program, skip_without};

/// Domains that a message is from.
const DOMAINS: usize = 400;
/// How often each is heard of again.
const AGAIN: u32 = 3;
const ALICE: &str = "alice@example.test";

type Asked = Arc<Mutex<BTreeMap<String, u32>>>;

/// Passes questions on to a name server and counts them.
struct Counter {
    address: SocketAddr,
    asked: Asked,
}

impl Counter {
    fn before(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Asked::default();
        let counted = Arc::clone(&asked);
        std::thread::spawn(move || {
            let behind = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            behind.connect(server).unwrap();
            let (mut question, mut answer) = ([0; 4096], [0; 65536]);
            while let Ok((length, asker)) = socket.recv_from(&mut question) {
                let name = name(&question[..length]);
                *counted.lock().unwrap().entry(name).or_default() += 1;
                behind.send(&question[..length]).unwrap();
                let length = behind.recv(&mut answer).unwrap();
                socket.send_to(&answer[..length], asker).unwrap();
            }
        });
        Self { address, asked }
    }

    fn take(&self) -> BTreeMap<String, u32> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// Name and type that a packet asks for (RFC 1035 §4.1.2).
fn name(packet: &[u8]) -> String {
    let (mut at, mut name) = (12, String::new());
    while packet[at] > 0 {
        let end = at + 1 + usize::from(packet[at]);
        name += &String::from_utf8_lossy(&packet[at + 1..end]).to_lowercase();
        name.push('.');
        at = end;
    }
    format!("{name} {}", packet[at + 2])
}

fn key(kind: &str) -> SigningKey {
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("pem");
    let der = dir.path().join("der");
    let mut make = program::command("openssl");
    make.args(["genpkey", "-algorithm", kind, "-out"]).arg(&pem);
    program::run(&mut make, b"", Duration::from_secs(60)).succeeded();
    let mut turn = program::command("openssl");
    turn.args(["pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in"]);
    turn.arg(&pem).arg("-out").arg(&der);
    program::run(&mut turn, b"", Duration::from_secs(60)).succeeded();
    SigningKey::from_pkcs8(&std::fs::read(&der).unwrap()).unwrap()
}

/// What the domains say of their mail.
fn records(key: &SigningKey) -> String {
    let record = key.record().unwrap();
    let pieces: Vec<&str> = record
        .as_bytes()
        .chunks(250)
        .map(|piece| std::str::from_utf8(piece).unwrap())
        .collect();
    let record = format!("\"{}\"", pieces.join("\" \""));
    let mut zone = String::from("client 3600 A 127.0.0.1\nclient 3600 TXT \"v=spf1 a -all\"\n");
    for number in 0..=DOMAINS {
        zone += &format!(
            "d{number} 3600 TXT \"v=spf1 ip4:127.0.0.0/8 -all\"\n\
             _dmarc.d{number} 3600 TXT \"v=DMARC1; p=reject\"\n\
             s._domainkey.d{number} 3600 TXT {record}\n"
        );
    }
    zone
}

const REVERSE: &str = "\
$ORIGIN 127.in-addr.arpa.
$TTL 3600
@     SOA ns.test. admin.test. 1 3600 600 86400 3600
      NS  ns.test.
1.0.0 PTR client.test.
";

fn message(number: usize, key: Option<&SigningKey>) -> Vec<u8> {
    let text = "Some words that stand for what people write.\r\n".repeat(40);
    let message = format!(
        "From: Dave <dave@d{number}.test>\r\nTo: {ALICE}\r\nSubject: number {number}\r\n\
         Date: Fri, 11 Jul 2025 21:00:37 +0000\r\nMessage-ID: <{number}@d{number}.test>\r\n\r\n{text}"
    );
    let Some(key) = key else {
        return message.into_bytes();
    };
    let domain = Domain::parse(&format!("d{number}.test")).unwrap();
    let mut signer = Signer::new(key, domain, "s");
    signer.feed(message.as_bytes());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let signature = signer.end(now.as_secs()).unwrap();
    [signature.as_bytes(), message.as_bytes()].concat()
}

/// Processor time of each daemon until now.
fn times(system: &System) -> [Duration; 3] {
    ["smtpd", "relayd", "deliverd"].map(|daemon| system.time_of(daemon))
}

/// A connection for each message; returns how long each took from MAIL on.
fn send(system: &System, messages: &[(usize, Vec<u8>)]) -> Vec<Duration> {
    let send = |(number, message): &(usize, Vec<u8>)| {
        let mut client = Client::hello_as(system.address("smtp"), "client.test").unwrap();
        let begin = Instant::now();
        let from = format!("dave@d{number}.test");
        client.deliver(&from, ALICE, message).unwrap();
        let time = begin.elapsed();
        client.command("QUIT").unwrap();
        time
    };
    messages.iter().map(send).collect()
}

fn measure(what: &str, config: &Value, signed: Option<&SigningKey>, names: &NameServer) {
    let counter = Counter::before(names.address());
    let dns = json!({"log_level": "warn", "relay": {"dns": [counter.address]}});
    let system = System::start(Options::alice().config(&dns).config(config));
    let messages: Vec<_> = (0..=DOMAINS)
        .map(|number| (number, message(number, signed)))
        .collect();
    // The first one starts everything.
    let (first, rest) = messages.split_at(1);
    send(&system, first);
    for (state, rounds) in [("cold", 1), ("warm", AGAIN)] {
        counter.take();
        let before = times(&system);
        let mut waits: Vec<Duration> = (0..rounds).flat_map(|_| send(&system, rest)).collect();
        let after = times(&system);
        waits.sort_unstable();
        let each = |place: usize| {
            let time: Duration = after[place] - before[place];
            time.as_secs_f64() * 1e6 / waits.len() as f64
        };
        let asked = counter.take();
        let count: u32 = asked.values().sum();
        println!(
            "{what:28} {state} {:9.2} {:8.0} {:8.0} {:8.0} {:9.1}",
            f64::from(count) / waits.len() as f64,
            each(0),
            each(1),
            each(2),
            waits[waits.len() / 2].as_secs_f64() * 1e3
        );
        let again: Vec<_> = asked.iter().filter(|(_, count)| **count > 1).collect();
        if !again.is_empty() {
            println!("    asked more than once: {again:?}");
        }
    }
    let text = system.account(ALICE).messages("INBOX");
    let text = String::from_utf8_lossy(&text.last().unwrap().bytes()).into_owned();
    let is_judged = text.contains("Authentication-Results");
    let good = ["spf=pass", "dmarc=pass"];
    assert!(
        !is_judged || good.iter().all(|word| text.contains(word)),
        "{text}"
    );
    assert!(
        !is_judged || signed.is_none() || text.contains("dkim=pass"),
        "{text}"
    );
}

#[test]
#[ignore = "measures for minutes; the command is at the top of this file"]
fn verdicts_have_their_price() {
    skip_without!("nsd", "openssl");
    println!(
        "{:28} {:4} {:>9} {:>8} {:>8} {:>8} {:>9}",
        "", "", "questions", "smtpd", "relayd", "deliverd", "ms"
    );
    let [rsa, ed25519] = ["RSA", "ed25519"].map(key);
    let names = |key| NameServer::with(&records(key), &[("127.in-addr.arpa", REVERSE)]);
    let of_rsa = names(&rsa);
    let judged = json!({"authentication": {"trusted_clients": []}});
    let listed = json!({
        "authentication": {"trusted_clients": []},
        "smtp": {
            "limits": {
                "exempt": [], "connections": 0, "commands": 0, "recipients": 0, "refused_recipients": 0,
                "greeting_delay_ms": 0,
            },
            "dns_lists": {"lists": [{"zone": "bl.test"}, {"zone": "dbl.test", "of": "sender_domain"}]},
        },
    });
    measure("not judged", &json!({}), Some(&rsa), &of_rsa);
    measure("SPF, iprev, DMARC", &judged, None, &of_rsa);
    measure("and DKIM, RSA 2048", &judged, Some(&rsa), &of_rsa);
    measure("and two lists", &listed, Some(&rsa), &of_rsa);
    let of_ed25519 = names(&ed25519);
    measure("DKIM, Ed25519", &judged, Some(&ed25519), &of_ed25519);
}
