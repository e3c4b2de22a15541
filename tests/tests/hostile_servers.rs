//! Mail servers that answer with what broke other senders: relayd takes nothing from them, and the mail comes back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::time::Duration;

use loopback::Port;
use serde_json::json;
use system_tests::dns::NameServer;
use system_tests::patience::wait_for;
use system_tests::program::Service;
use system_tests::system::Home;
use system_tests::{Options, System, python, skip_without};

/// A mail server that behaves badly in the way `deed` says; it notes what it heard in the file `heard`.
const BAD_SERVER: &str = r#"
import threading
def serve(connection):
    def say(data):
        connection.sendall(data)
    reader = connection.makefile("rb")
    with open(heard, "ab", buffering=0) as log:
        say(b"220 bad.test ESMTP\r\n")
        for line in reader:
            log.write(line)
            verb = line[:4].upper()
            if verb == b"EHLO":
                say(b"250-bad.test\r\n250-STARTTLS\r\n250 8BITMIME\r\n" if deed == "inject" else b"250 bad.test\r\n")
            elif verb == b"STAR":
                say(b"220 go\r\n250 injected.test\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n250 2.0.0 taken\r\n")
                log.write(b"AFTER " + connection.recv(20)[:1].hex().encode() + b"\n")
                return
            elif verb == b"RCPT" and deed == "lines":
                say(b"".join(b"550-5.7.1 line %d of the reason\r\n" % n for n in range(100000)) + b"550 5.7.1 no\r\n")
            elif verb == b"RCPT" and deed == "long line":
                say(b"550 5.7.1 " + b"x" * 10_000_000 + b"\r\n")
            elif verb == b"RCPT" and deed == "controls":
                say(b"550 5.7.1 no\x1b[31m \xff\xfe \0 bare\nX-Injected: yes\r\n")
            elif verb == b"DATA":
                say(b"354 go\r\n")
            elif verb == b"QUIT":
                say(b"221 bye\r\n")
                return
            else:
                say(b"250 ok\r\n")
def guarded(connection):
    try:
        serve(connection)
    except OSError:
        pass
    connection.close()
listener = socket.create_server(("127.0.0.1", port))
while True:
    threading.Thread(target=guarded, args=(listener.accept()[0],), daemon=True).start()
"#;

struct BadWorld {
    system: System,
    heard: std::path::PathBuf,
    _names: NameServer,
    _server: Service,
    _port: Port,
}

fn sent_to_a_bad_server(deed: &str) -> BadWorld {
    let options = Options::alice().config(&json!({"relay": {"retry_seconds": [1]}}));
    let home = Home::prepare(&options);
    let (names, port) = (NameServer::start(), Port::reserve());
    home.configure(&json!({"relay": {"dns": [names.address()], "port": port.number()}}));
    let system = System::launch(home, &options);
    let heard = system.dir().join("heard");
    let variables = json!({"port": port.number(), "deed": deed, "heard": heard});
    let server = Service::start(
        &mut python::command(BAD_SERVER, &variables),
        &system.dir().join("server.log"),
    );
    wait_for(Duration::from_secs(10), || {
        std::net::TcpStream::connect(("127.0.0.1", port.number())).ok()
    })
    .unwrap();
    let script = r#"
with submission() as client:
    client.sendmail(ALICE, "carol@outside.test", f"From: {ALICE}\r\nSubject: going out\r\n\r\nsecret words\r\n")
client = imap()
wait_for(lambda: messages(client) == 1, 25)
raw_report = fetched(client, 1)
assert len(raw_report) < 100_000, len(raw_report)
assert not re.search(rb"[\0\x1b]", raw_report) and not re.search(rb"(?m)^X-Injected", raw_report), raw_report
report = email.message_from_bytes(raw_report, policy=email.policy.default)
assert report.get_content_type() == "multipart/report", raw_report
whole, recipient = list(report.iter_parts())[1].get_payload()
assert recipient["Action"] == "failed" and re.fullmatch(r"[45]\.\d+\.\d+", recipient["Status"]), raw_report
"#;
    system.python(script, &json!({}));
    BadWorld {
        system,
        heard,
        _names: names,
        _server: server,
        _port: port,
    }
}

#[test]
fn words_a_server_says_before_tls_are_never_taken_for_its_answers() {
    skip_without!("nsd", "python3");
    let world = sent_to_a_bad_server("inject");
    let heard = std::fs::read_to_string(&world.heard).unwrap();
    assert!(
        heard.contains("STARTTLS")
            && !heard.contains("MAIL FROM")
            && !heard.contains("secret words"),
        "{heard}"
    );
}

#[test]
fn a_reply_of_endless_lines_is_cut_and_the_mail_comes_back() {
    skip_without!("nsd", "python3");
    let world = sent_to_a_bad_server("lines");
    assert!(world.system.pid("relayd").is_some());
}

#[test]
fn a_reply_of_one_endless_line_is_cut_and_the_mail_comes_back() {
    skip_without!("nsd", "python3");
    let world = sent_to_a_bad_server("long line");
    assert!(world.system.pid("relayd").is_some());
}

#[test]
fn control_characters_in_a_reply_do_not_reach_the_report() {
    skip_without!("nsd", "python3");
    let world = sent_to_a_bad_server("controls");
    assert!(world.system.pid("relayd").is_some());
}
