//! Mail goes out: to Postfix by MX and STARTTLS, to a smarthost with a login, later when it cannot go now, and back to its
//! sender when it cannot go at all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::path::Path;
use std::time::Duration;

use loopback::Port;
use serde_json::{Value, json};
use system_tests::certificate::Certificate;
use system_tests::dns::NameServer;
use system_tests::patience::wait_for;
use system_tests::postfix::Postfix;
use system_tests::program::{self, Service};
use system_tests::smtp::Client;
use system_tests::system::Home;
use system_tests::{Options, System, python, sink, skip_unless, skip_without};

/// alice, and Postfix as the mail server of outside.test.
struct World {
    system: System,
    postfix: Postfix,
    _names: NameServer,
}

impl World {
    fn start() -> Self {
        let options = Options::alice();
        let home = Home::prepare(&options);
        let names = NameServer::start();
        let postfix = Postfix::start(home.address("smtp"));
        home.configure(&relay(&names, postfix.address().port(), &[1, 1, 2]));
        Self {
            system: System::launch(home, &options),
            postfix,
            _names: names,
        }
    }
}

fn relay(names: &NameServer, port: u16, waits: &[u32]) -> Value {
    json!({"relay": {"dns": [names.address()], "port": port, "retry_seconds": waits}})
}

/// alice sends this over 587, STARTTLS and AUTH.
const SEND: &str = r#"
wire = text.replace("\n", "\r\n").encode()
with submission() as client:
    assert not client.sendmail(ALICE, to, wire)
"#;

const LETTER: &str = "From: alice@example.test\nTo: somebody\nSubject: going out\n\nfirst line\n.\n..\n.begins with a dot\n\nlast line\n";

fn send(system: &System, to: &str) {
    system.python(SEND, &json!({"text": LETTER, "to": to}));
}

/// Waits for a report in alice's INBOX, checks that it is one (RFC 3464), and prints its status.
const REPORT: &str = r#"
client = imap()
wait_for(lambda: messages(client) == 1, 20)
raw_report = fetched(client, 1)
report = email.message_from_bytes(raw_report, policy=email.policy.default)
assert report.get_content_type() == "multipart/report", raw_report
assert report.get_param("report-type") == "delivery-status", raw_report
parts = list(report.iter_parts())
assert [p.get_content_type() for p in parts][:2] == ["text/plain", "message/delivery-status"], raw_report
assert parts[2].get_content_type() in ("message/rfc822", "text/rfc822-headers"), raw_report
assert raw_report.startswith(b"Return-Path: <>\r\n"), raw_report
assert report["Auto-Submitted"].startswith("auto-"), raw_report
assert ALICE in report["To"], raw_report
whole, recipient = parts[1].get_payload()
assert whole["Reporting-MTA"] == "dns; mail.example.test", raw_report
assert recipient["Final-Recipient"].replace(" ", "") == f"rfc822;{to}", raw_report
assert recipient["Action"] == "failed", raw_report
assert re.fullmatch(status, recipient["Status"]), raw_report
assert b"Subject: going out" in parts[2].as_bytes(), raw_report
assert to in parts[0].get_content(), raw_report
"#;

fn expect_report(system: &System, to: &str, status: &str) {
    system.python(REPORT, &json!({"to": to, "status": status}));
}

fn queue(system: &System) -> Vec<Value> {
    let listing = system.rmailctl(&["queue", "list", "--json"]).succeeded();
    serde_json::from_str(&listing.stdout).unwrap()
}

fn wait_for_empty_queue(system: &System) {
    let empty = wait_for(Duration::from_secs(10), || {
        queue(system).is_empty().then_some(())
    });
    assert!(empty.is_ok(), "{:?}", queue(system));
}

#[test]
fn a_mail_to_another_domain_arrives_in_postfix_over_tls_with_its_dots() {
    skip_unless!(
        Postfix::is_possible(),
        "Postfix must be installed, and only root can start it"
    );
    skip_without!("nsd", "python3");
    let world = World::start();
    send(&world.system, "carol@outside.test");
    let delivered =
        String::from_utf8(world.postfix.wait_for_delivery(Duration::from_secs(20))).unwrap();
    let body = delivered.split_once("\n\n").unwrap().1;
    assert_eq!(body, LETTER.split_once("\n\n").unwrap().1);
    assert!(
        delivered.contains("using TLSv1.3 with cipher"),
        "{delivered}"
    );
    assert!(
        delivered.contains("Return-Path: <alice@example.test>"),
        "{delivered}"
    );
    assert!(
        delivered.contains("\nDate: ") && delivered.to_lowercase().contains("\nmessage-id: "),
        "submission adds them: {delivered}"
    );
    wait_for_empty_queue(&world.system);
}

#[test]
fn postfix_relays_a_mail_to_rmail_over_tls() {
    skip_unless!(
        Postfix::is_possible(),
        "Postfix must be installed, and only root can start it"
    );
    skip_without!("nsd");
    let world = World::start();
    let mut client = Client::hello(world.postfix.address()).unwrap();
    let letter = "From: carol@outside.test\r\nTo: alice@example.test\r\nSubject: from Postfix\r\n\r\n.dot\r\n..\r\nend\r\n";
    client
        .deliver(
            "carol@outside.test",
            "alice@example.test",
            letter.as_bytes(),
        )
        .unwrap();
    let account = world.system.account("alice@example.test");
    let arrived = wait_for(Duration::from_secs(20), || {
        account.messages("INBOX").into_iter().next()
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", world.postfix.log()));
    let text = String::from_utf8(arrived.bytes()).unwrap();
    assert!(text.ends_with("\r\n\r\n.dot\r\n..\r\nend\r\n"), "{text}");
    assert!(
        text.starts_with("Return-Path: <carol@outside.test>\r\n"),
        "{text}"
    );
    assert!(text.contains("with ESMTPS"), "{text}");
    assert!(
        world.postfix.log().contains("TLS connection established"),
        "{}",
        world.postfix.log()
    );
}

#[test]
fn a_recipient_that_postfix_does_not_know_comes_back_as_a_report() {
    skip_unless!(
        Postfix::is_possible(),
        "Postfix must be installed, and only root can start it"
    );
    skip_without!("nsd", "python3");
    let world = World::start();
    send(&world.system, "nobody@outside.test");
    expect_report(&world.system, "nobody@outside.test", r"5\.1\.1");
    wait_for_empty_queue(&world.system);
}

/// A system with alice whose mail for outside.test goes to a port where nobody listens yet.
fn with_far_port(waits: &[u32]) -> (System, NameServer, Port) {
    let options = Options::alice();
    let home = Home::prepare(&options);
    let names = NameServer::start();
    let port = Port::reserve();
    home.configure(&relay(&names, port.number(), waits));
    (System::launch(home, &options), names, port)
}

fn kept(dir: &Path) -> Vec<Vec<u8>> {
    let Ok(listing) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    listing
        .filter_map(|entry| std::fs::read(entry.ok()?.path()).ok())
        .filter(|bytes| !bytes.is_empty())
        .collect()
}

#[test]
fn a_mail_waits_until_the_other_server_comes_up() {
    skip_without!("nsd", "smtp-sink", "python3");
    let (system, _names, port) = with_far_port(&[1, 1, 2, 2]);
    send(&system, "carol@outside.test");
    let waiting = queue(&system);
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    std::thread::sleep(Duration::from_millis(1500));
    let dir = system.dir().join("sink");
    let _sink = sink::start(&port, &dir, &[]);
    let arrived = wait_for(Duration::from_secs(15), || kept(&dir).into_iter().next());
    assert!(
        arrived.is_ok(),
        "{:?}\n{}",
        queue(&system),
        program::end_of(&system.log())
    );
    wait_for_empty_queue(&system);
    assert!(
        system
            .account("alice@example.test")
            .messages("INBOX")
            .is_empty(),
        "no report for a mail that arrived"
    );
}

#[test]
fn a_mail_that_is_refused_for_now_is_tried_again() {
    skip_without!("nsd", "smtp-sink", "python3");
    let (system, _names, port) = with_far_port(&[1, 1, 2, 2, 2]);
    let (first, second) = (system.dir().join("busy"), system.dir().join("sink"));
    let mut busy = sink::start(&port, &first, &["-r", "RCPT"]);
    wait_for(Duration::from_secs(5), || {
        std::net::TcpStream::connect(("127.0.0.1", port.number())).ok()
    })
    .unwrap();
    send(&system, "carol@outside.test");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(queue(&system).len(), 1);
    busy.stop(Duration::from_secs(2));
    let _sink = sink::start(&port, &second, &[]);
    let arrived = wait_for(Duration::from_secs(15), || kept(&second).into_iter().next());
    assert!(
        arrived.is_ok(),
        "{:?}\n{}",
        queue(&system),
        program::end_of(&system.log())
    );
    wait_for_empty_queue(&system);
}

#[test]
fn an_operator_can_have_a_waiting_mail_tried_now() {
    skip_without!("nsd", "smtp-sink", "python3");
    let (system, _names, port) = with_far_port(&[600]);
    send(&system, "carol@outside.test");
    let refused_once = wait_for(Duration::from_secs(10), || {
        system.log().contains("outside.test").then_some(())
    });
    assert!(refused_once.is_ok());
    let dir = system.dir().join("sink");
    let _sink = sink::start(&port, &dir, &[]);
    wait_for(Duration::from_secs(5), || {
        std::net::TcpStream::connect(("127.0.0.1", port.number())).ok()
    })
    .unwrap();
    let arrived = wait_for(Duration::from_secs(15), || {
        system.rmailctl(&["queue", "retry"]).succeeded();
        kept(&dir).into_iter().next()
    });
    assert!(
        arrived.is_ok(),
        "{:?}\n{}",
        queue(&system),
        program::end_of(&system.log())
    );
    wait_for_empty_queue(&system);
}

#[test]
fn a_mail_that_never_gets_through_comes_back_after_the_last_attempt() {
    skip_without!("nsd", "python3");
    let (system, _names, _port) = with_far_port(&[1, 1]);
    send(&system, "carol@outside.test");
    expect_report(&system, "carol@outside.test", r"[45]\.4\.\d+");
    wait_for_empty_queue(&system);
}

#[test]
fn a_domain_that_does_not_exist_comes_back_at_once() {
    skip_without!("nsd", "python3");
    let (system, _names, _port) = with_far_port(&[600]);
    send(&system, "carol@nowhere.test");
    expect_report(&system, "carol@nowhere.test", r"5\.[14]\.\d+");
}

#[test]
fn a_domain_that_takes_no_mail_comes_back_at_once() {
    skip_without!("nsd", "python3");
    let (system, _names, _port) = with_far_port(&[600]);
    send(&system, "carol@null.test");
    // RFC 7505 §4.2
    expect_report(&system, "carol@null.test", r"5\.1\.10");
}

#[test]
fn the_second_mail_server_is_used_when_the_first_is_away() {
    skip_without!("nsd", "smtp-sink", "python3");
    let (system, _names, port) = with_far_port(&[600]);
    let dir = system.dir().join("sink");
    let _sink = sink::start(&port, &dir, &[]);
    wait_for(Duration::from_secs(5), || {
        std::net::TcpStream::connect(("127.0.0.1", port.number())).ok()
    })
    .unwrap();
    send(&system, "carol@two.test");
    send(&system, "carol@bare.test");
    let arrived = wait_for(Duration::from_secs(15), || {
        (kept(&dir).len() == 2).then_some(())
    });
    assert!(
        arrived.is_ok(),
        "{:?}\n{}",
        queue(&system),
        program::end_of(&system.log())
    );
}

#[test]
fn a_sender_that_is_somebody_else_is_refused_at_submission() {
    skip_without!("python3");
    let system = System::start(Options::default());
    system
        .rmailctl(&[
            "alias",
            "add",
            "example.test",
            "exact",
            "sales",
            "alice@example.test",
        ])
        .succeeded();
    let script = r#"
for sender in (BOB, "carol@outside.test"):
    with submission() as client:
        code, text = client.mail(sender)
        if code == 250:
            code, text = client.rcpt(BOB)
        assert code in (550, 553) and text.startswith(b"5.7.1"), (sender, code, text)
        client.rset()
with submission() as client:
    assert client.mail("sales@example.test")[0] == 250
    assert client.rcpt(BOB)[0] == 250
"#;
    system.python(script, &json!({}));
}

#[test]
fn a_forged_from_header_is_refused_at_submission() {
    skip_without!("python3");
    let system = System::start(Options::default());
    let script = r#"
for head in (f"From: {BOB}", f"From: {ALICE}\r\nFrom: {BOB}", f"From: {ALICE}, {BOB}"):
    with submission() as client:
        try:
            client.sendmail(ALICE, BOB, head + "\r\nSubject: forged\r\n\r\nx\r\n")
        except smtplib.SMTPDataError as error:
            assert error.smtp_code in (550, 553, 554), error
        else:
            raise AssertionError(f"taken: {head!r}")
"#;
    system.python(script, &json!({}));
}

#[test]
fn all_mail_goes_to_the_smarthost_with_a_login_over_tls() {
    skip_unless!(
        python::has("aiosmtpd"),
        "Python's aiosmtpd is not installed (python3-aiosmtpd)"
    );
    let options = Options::alice();
    let home = Home::prepare(&options);
    let port = Port::reserve();
    let password = home.path().join("smarthost.password");
    std::fs::write(&password, "relay secret\n").unwrap();
    let smarthost = json!({"relay": {
        "smarthost": "127.0.0.1", "smarthost_port": port.number(), "smarthost_username": "relay-user",
        "smarthost_password_file": password,
    }});
    home.configure(&smarthost);
    let system = System::launch(home, &options);
    let dir = system.dir().join("kept");
    std::fs::create_dir_all(&dir).unwrap();
    let certificate = Certificate::make(&system.dir().join("smarthost-tls"), "smarthost.test");
    let mut server = std::process::Command::new(python::interpreter().unwrap());
    server
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/smarthost.py"))
        .arg(port.number().to_string())
        .args([&certificate.cert, &certificate.key, &dir]);
    let _server = Service::start(&mut server, &system.dir().join("smarthost.log"));
    wait_for(Duration::from_secs(10), || {
        std::net::TcpStream::connect(("127.0.0.1", port.number())).ok()
    })
    .unwrap();
    send(&system, "anybody@wherever.test");
    let arrived = wait_for(Duration::from_secs(20), || {
        std::fs::read_to_string(dir.join("1.eml")).ok()
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", queue(&system), system.log()));
    assert!(
        arrived
            .starts_with("login=relay-user from=alice@example.test to=anybody@wherever.test\r\n"),
        "{arrived}"
    );
    let body = arrived.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(
        body,
        LETTER.split_once("\n\n").unwrap().1.replace('\n', "\r\n")
    );
    wait_for_empty_queue(&system);
}
