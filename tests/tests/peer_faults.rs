//! Servers that say no, or nothing, at each stage of a dialog (Postfix's `smtp-sink`), and connections that break in the middle: nothing is
//! lost, what must not be tried again comes back, and what arrives twice had no answer the first time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::fmt::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use loopback::Port;
use serde_json::{Value, json};
use system_tests::dns::NameServer;
use system_tests::maildir;
use system_tests::patience::wait_for;
use system_tests::program::{self, Service};
use system_tests::system::Home;
use system_tests::{Options, System, python, sink, skip_without};

/// Where a server fails, as smtp-sink(1) names it.
const STAGES: [(&str, &str); 6] = [
    ("connect", "CONNECT"),
    ("ehlo", "EHLO,HELO"),
    ("mail", "MAIL"),
    ("rcpt", "RCPT"),
    ("data", "DATA"),
    ("dot", "."),
];
/// How: it says 4yz or 5yz, hangs up, or says 421 and hangs up.
const WAYS: [(&str, &str); 4] = [
    ("soft", "-r"),
    ("hard", "-f"),
    ("gone", "-q"),
    ("closing", "-Q"),
];

/// A domain with a server that fails in one way at one stage.
struct Fault {
    name: String,
    address: Ipv4Addr,
    option: &'static str,
    stage: &'static str,
}

fn faults() -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut numbers = 10..;
    for (stage, commands) in STAGES {
        for (way, option) in WAYS {
            faults.push(Fault {
                name: format!("{stage}-{way}"),
                address: Ipv4Addr::new(127, 0, 0, numbers.next().unwrap()),
                option,
                stage: commands,
            });
        }
    }
    faults
}

/// alice writes to carol at each domain.
const SEND: &str = r#"
with submission() as client:
    for name in names:
        text = f"From: {ALICE}\r\nTo: carol@{name}.outside.test\r\nSubject: to {name}\r\n\r\n.dot\r\nend\r\n"
        assert client.sendmail(ALICE, f"carol@{name}.outside.test", text) == {}
"#;

/// Waits until there is a report about each domain, and none about another.
const REPORTS: &str = r#"
client = imap()
wait_for(lambda: messages(client) == len(names), 60)
reported = set()
for number in range(1, len(names) + 1):
    report = email.message_from_bytes(fetched(client, number), policy=email.policy.default)
    whole, recipient = list(report.iter_parts())[1].get_payload()
    assert recipient["Action"] == "failed" and recipient["Status"].startswith("5."), recipient
    reported.add(recipient["Final-Recipient"].split("@")[1].split(".")[0])
assert reported == set(names), (reported, names)
"#;

fn queue(system: &System) -> Vec<Value> {
    let list = system
        .rmailctl(&["queue", "list", "--json"])
        .succeeded()
        .stdout;
    serde_json::from_str(&list).unwrap()
}

/// Waits until the queue is as it is wished.
#[track_caller]
fn wait_for_queue(system: &System, wish: impl Fn(&[Value]) -> bool) {
    let wished = || wish(&queue(system)).then_some(());
    let wished = wait_for(Duration::from_secs(90), wished);
    assert!(
        wished.is_ok(),
        "{:#?}\n{}",
        queue(system),
        program::end_of(&system.log())
    );
}

fn listens(address: Ipv4Addr, port: &Port) {
    let connect = || TcpStream::connect((address, port.number())).ok();
    wait_for(Duration::from_secs(10), connect).unwrap();
}

/// Messages with this subject in a directory of smtp-sink.
fn copies(dir: &Path, name: &str) -> usize {
    let subject = format!("Subject: to {name}\n");
    let kept = maildir::files(dir).into_iter();
    let text = kept.map(|bytes| String::from_utf8_lossy(&bytes).replace('\r', ""));
    text.filter(|text| text.contains(&subject) && text.contains("\n\n.dot\nend\n"))
        .count()
}

#[test]
fn what_a_server_says_or_does_at_any_stage_loses_nothing() {
    skip_without!("nsd", "smtp-sink", "python3");
    let options = Options::alice();
    let home = Home::prepare(&options);
    let (faults, port) = (faults(), Port::reserve());
    let mut records = String::new();
    for Fault { name, address, .. } in &faults {
        writeln!(
            records,
            "{name}.outside MX 10 mx.{name}.outside\nmx.{name}.outside A {address}"
        )
        .unwrap();
    }
    let names = NameServer::with(&records, &[]);
    home.configure(&json!({"relay": {
        "dns": [names.address()], "port": port.number(), "retry_seconds": [600, 600, 600], "max_connections": 100,
    }}));
    let system = System::launch(home, &options);
    let (bad, good) = (system.dir().join("bad"), system.dir().join("good"));
    std::fs::create_dir_all(&bad).unwrap();
    std::fs::create_dir_all(&good).unwrap();
    let broken: Vec<Service> = faults
        .iter()
        .map(|fault| {
            sink::start_at(
                fault.address,
                &port,
                &bad.join(&fault.name),
                &[fault.option, fault.stage],
            )
        })
        .collect();
    faults
        .iter()
        .for_each(|fault| listens(fault.address, &port));
    let all: Vec<_> = faults.iter().map(|fault| &fault.name).collect();
    system.python(SEND, &json!({"names": all}));
    let (hard, waiting): (Vec<_>, Vec<_>) = faults.iter().partition(|fault| fault.option == "-f");
    let returned: Vec<_> = hard.iter().map(|fault| &fault.name).collect();
    system.python(REPORTS, &json!({"names": returned}));
    wait_for_queue(&system, |queue| {
        let tried = |one: &Value| one["recipients"][0]["attempts"] != 0;
        queue.len() == waiting.len() && queue.iter().all(tried)
    });
    drop(broken);
    let _sinks: Vec<Service> = waiting
        .iter()
        .map(|fault| sink::start_at(fault.address, &port, &good.join(&fault.name), &[]))
        .collect();
    waiting
        .iter()
        .for_each(|fault| listens(fault.address, &port));
    system.rmailctl(&["queue", "retry"]).succeeded();
    wait_for_queue(&system, <[Value]>::is_empty);
    for fault in &waiting {
        let name = &fault.name;
        assert_eq!(copies(&good.join(name), name), 1, "{name}");
        // Whoever has the whole mail and does not answer gets it again.
        let before = copies(&bad.join(name), name);
        let may_have_it = fault.stage == ".";
        assert!(before == 0 || may_have_it, "{name}: {before}");
    }
    // What came back is all that came back.
    system.python(REPORTS, &json!({"names": returned}));
}

/// A server that treats each connection as the next of `deeds` says, and notes what it took in `log` before it says so.
const SERVER: &str = r#"
import hashlib
def serve(connection, deed):
    def say(text):
        for octet in text.encode() if deed == "trickle" else [text.encode()]:
            connection.sendall(bytes([octet]) if isinstance(octet, int) else octet)
            time.sleep(0.01 if deed == "trickle" else 0)
    reader = connection.makefile("rb", buffering=100 if deed == "trickle" else 8192)
    say("220 mx\r\n")
    for line in reader:
        verb = line[:4].upper()
        if verb == b"DATA":
            say("354 go\r\n")
            body, size, begun = hashlib.sha256(), 0, False
            while (line := reader.readline()) not in (b".\r\n", b""):
                # What was put in front on the way is none of the sender's.
                begun = begun or line.startswith(b"From: ")
                if begun:
                    body.update(line[1:] if line.startswith(b".") else line)
                size += len(line)
                if size > 100_000 and deed in ("cut", "reset"):
                    if deed == "reset":
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                if deed == "trickle" and size % 7 == 0:
                    time.sleep(0.001)
            assert line, "cut off"
            record(f"{deed} {body.hexdigest()}\n")
            if deed == "silent":
                return
            say("250 2.0.0 taken\r\n")
        elif verb == b"EHLO":
            say("250-mx\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
        elif verb == b"QUIT":
            return say("221 bye\r\n")
        else:
            say("250 ok\r\n")
def record(text):
    with open(log, "a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
if window:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    listener.bind(("127.0.0.1", port))
    listener.listen()
else:
    listener = socket.create_server(("127.0.0.1", port))
for deed in deeds:
    connection = listener.accept()[0]
    try:
        serve(connection, deed)
    except OSError as error:
        print(deed, error)
    connection.close()
"#;

/// Sends a mail of some hundred kilobytes to a server that does all of `deeds`, and returns by which of them it took it, whole.
fn sent_to(deeds: &[&str], window: u32) -> Vec<String> {
    let options = Options::alice();
    let home = Home::prepare(&options);
    let (names, port) = (NameServer::start(), Port::reserve());
    let waits = [1; 12];
    home.configure(&json!({"relay": {"dns": [names.address()], "port": port.number(), "retry_seconds": waits}}));
    let system = System::launch(home, &options);
    let log = system.dir().join("taken");
    let variables = json!({"port": port.number(), "deeds": deeds, "log": log, "window": window});
    let mut command = python::command(SERVER, &variables);
    let server = Service::start(&mut command, &system.dir().join("server.log"));
    // No connection to see whether it listens: each one counts. relayd comes again if it does not.
    let path = system.dir().join("letter");
    let script = r#"
import hashlib
lines = "".join(f"{'.' * (number % 3)}{number:06} {'x' * (number % 70)}\r\n" for number in range(8000))
wire = f"From: {ALICE}\r\nDate: Mon, 02 Mar 2026 10:00:00 +0000\r\nMessage-ID: <broken@example.test>\r\nSubject: broken\r\n\r\n{lines}".encode()
with submission() as client:
    assert client.sendmail(ALICE, "carol@outside.test", wire) == {}
open(path, "w").write(hashlib.sha256(wire).hexdigest())
"#;
    system.python(script, &json!({"path": path}));
    wait_for_queue(&system, <[Value]>::is_empty);
    let inbox = system.account("alice@example.test").messages("INBOX");
    assert!(inbox.is_empty(), "no report for a mail that arrived");
    let taken =
        std::fs::read_to_string(&log).unwrap_or_else(|error| panic!("{error}\n{}", server.log()));
    let sum = std::fs::read_to_string(&path).unwrap();
    let how = |line: &str| line.strip_suffix(&sum).map(|how| how.trim().to_owned());
    let taken = taken
        .lines()
        .map(|line| how(line).unwrap_or_else(|| panic!("{line}: not {sum}")));
    taken.collect()
}

#[test]
fn a_connection_that_breaks_within_a_mail_is_made_again() {
    skip_without!("nsd", "python3");
    let taken = sent_to(&["cut", "reset", "cut", "good"], 0);
    assert_eq!(taken, ["good"]);
}

#[test]
fn a_mail_whose_last_answer_is_lost_goes_out_again() {
    skip_without!("nsd", "python3");
    // RFC 1047: nobody can know whether it was taken.
    let taken = sent_to(&["silent", "good"], 0);
    assert_eq!(taken, ["silent", "good"]);
}

#[test]
fn a_server_that_reads_slowly_and_speaks_in_single_octets_gets_the_whole_mail() {
    skip_without!("nsd", "python3");
    let taken = sent_to(&["trickle"], 4096);
    assert_eq!(taken, ["trickle"]);
}
