//! Mail goes to mail servers that we did not write: every octet arrives, with what its sender wished, as far as they know the wish.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};
use system_tests::certificate::Authority;
use system_tests::dns::NameServer;
use system_tests::mx::{Door, Exim, Mx, OpenSmtpd};
use system_tests::patience::wait_for;
use system_tests::postfix::Postfix;
use system_tests::program;
use system_tests::system::Home;
use system_tests::{Options, System, skip_unless, skip_without};

const DOOR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// alice, and a foreign server behind outside.test.
struct World<M> {
    system: System,
    server: M,
    _names: NameServer,
}

/// `None`, and a word why, where it cannot run.
fn world<M: Mx>(secured: bool) -> Option<World<M>> {
    world_with(secured, M::open)
}

fn world_with<M: Mx>(
    secured: bool,
    open: impl FnOnce(&[Door], std::net::SocketAddr) -> M,
) -> Option<World<M>> {
    if !M::is_possible() {
        eprintln!("SKIPPED: the mail server is not there, or only root can start it");
        return None;
    }
    let options = Options::alice();
    let home = Home::prepare(&options);
    let certificate = secured.then(|| {
        let authority = Authority::make(&home.path().join("authority"));
        authority.sign(&["mx.outside.test".to_owned()], 2)
    });
    let address = DOOR;
    let door = Door {
        address,
        certificate,
    };
    let server = open(&[door], home.address("smtp"));
    let names = NameServer::with("", &[("outside.test", &zone())]);
    home.configure(&json!({"relay": {
        "dns": [names.address()], "port": server.port(), "retry_seconds": [1, 1, 2, 3, 5, 5, 5, 10, 10],
    }}));
    Some(World {
        system: System::launch(home, &options),
        server,
        _names: names,
    })
}

/// The zone above has another server for the name.
fn zone() -> String {
    format!(
        "$ORIGIN outside.test.\n$TTL 5\n@ SOA ns.test. admin.test. 1 3600 600 86400 5\n@ NS ns.test.\n@ MX 10 mx\nmx A {DOOR}\n"
    )
}

/// Everything that somebody on the way might touch: dots, blanks at the end of lines, long lines, octets beyond ASCII, empty lines.
fn letter(subject: &str) -> String {
    let mut text = format!(
        "From: alice@example.test\r\nTo: carol@outside.test\r\nSubject: {subject}\r\nDate: Mon, 02 Mar 2026 10:00:00 +0000\r\n\
         Message-ID: <{subject}@example.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\
         X-Folded: one\r\n\ttwo\r\n   three\r\n\r\n\
         .\r\n..\r\n.begins with a dot\r\nends with blanks  \t \r\n\r\n\r\nGrüße, Ωραία, 你好\r\nFrom the start of a line\r\n"
    );
    writeln!(text, "{}\r", "x".repeat(990)).unwrap();
    for line in 0..3000 {
        let dot = if line % 7 == 0 { "." } else { "" };
        writeln!(text, "{dot}{line:05} {}\r", "ä ".repeat(line % 20)).unwrap();
    }
    text.push_str("\r\n.\r\n");
    text
}

/// alice sends what stands in a file, with these parameters of MAIL and of RCPT.
const SEND: &str = r#"
wire = open(path, "rb").read()
with submission() as client:
    client.ehlo()
    client.command_encoding = "utf-8"
    for answer in (client.mail(ALICE, mail), client.rcpt(to, rcpt), client.data(wire)):
        assert answer[0] == 250, answer
"#;

fn send(system: &System, to: &str, text: &str, mail: &[&str], rcpt: &[&str]) {
    let path = system.dir().join("letter");
    std::fs::write(&path, text).unwrap();
    system.python(
        SEND,
        &json!({"path": path, "to": to, "mail": mail, "rcpt": rcpt}),
    );
}

/// Waits for a report in alice's INBOX about `to`, of `action`.
const REPORT: &str = r#"
client = imap()
def report():
    for number in range(1, messages(client) + 1):
        raw = fetched(client, number)
        one = email.message_from_bytes(raw, policy=email.policy.default)
        for part in one.walk():
            if part.get_content_type() == "message/delivery-status":
                whole, *recipients = part.get_payload()
                for recipient in recipients:
                    if to in str(recipient["Final-Recipient"]) and recipient["Action"].split()[0] in actions:
                        return whole, recipient, raw
whole, recipient, raw = wait_for(report, 60)
assert re.fullmatch(status, recipient["Status"].split()[0]), raw
if reporter:
    assert reporter in whole["Reporting-MTA"], raw
if envelope:
    assert whole["Original-Envelope-Id"] == envelope, raw
if original:
    assert recipient["Original-Recipient"].replace(" ", "") == original, raw
"#;

fn expect_report(system: &System, wanted: &Value) {
    let mut all = json!({"reporter": "", "envelope": "", "original": ""});
    system_tests::options::lay_over(&mut all, wanted);
    system.python(REPORT, &all);
}

fn wait_for_empty_queue(system: &System) {
    let list = || {
        system
            .rmailctl(&["queue", "list", "--json"])
            .succeeded()
            .stdout
    };
    let empty = wait_for(Duration::from_secs(20), || {
        (list().trim() == "[]").then_some(())
    });
    assert!(empty.is_ok(), "{}", list());
}

/// With LF line ends, as maildirs have them.
#[track_caller]
fn expect_end(delivered: &[u8], text: &str) {
    let text = text.replace('\r', "");
    let delivered = String::from_utf8_lossy(delivered);
    if !delivered.ends_with(&text) {
        let body = delivered.find("\n\n").map_or("", |at| &delivered[at..]);
        let differs = body.lines().zip(text[text.find("\n\n").unwrap()..].lines());
        let differs = differs.enumerate().find(|(_, (one, other))| one != other);
        panic!(
            "first difference: {differs:?}\n{}",
            &delivered[..delivered.floor_char_boundary(2000)]
        );
    }
}

/// What `mail` says in `log` of MAIL, and the letter, unchanged.
fn expect_every_octet<M: Mx>(world: &World<M>) {
    let text = letter("octets");
    let mail = ["BODY=8BITMIME", "RET=HDRS", "ENVID=wish-7"];
    let rcpt = [
        "NOTIFY=SUCCESS,FAILURE",
        "ORCPT=rfc822;carol+2Bold@outside.test",
    ];
    send(&world.system, "carol@outside.test", &text, &mail, &rcpt);
    expect_end(&world.server.wait_for_text("<octets@example.test>"), &text);
    wait_for_empty_queue(&world.system);
    assert_eq!(world.server.delivered().len(), 1, "once, and no more");
}

fn expect_own_report<M: Mx>(world: &World<M>, more: &Value) {
    let mut wanted = json!({
        "to": "carol@outside.test", "actions": ["delivered"], "status": r"2\.\d+\.\d+", "reporter": "mx.outside.test",
    });
    system_tests::options::lay_over(&mut wanted, more);
    expect_report(&world.system, &wanted);
}

/// Unicode in the address and in the header.
fn expect_smtputf8<M: Mx>(world: &World<M>) {
    let text = letter("unicode")
        .replace("To: carol@", "To: Käthe <käthe@")
        .replace("outside.test\r\nSubject", "outside.test>\r\nSubject");
    send(
        &world.system,
        "käthe@outside.test",
        &text,
        &["SMTPUTF8", "BODY=8BITMIME"],
        &[],
    );
    expect_end(&world.server.wait_for_text("<unicode@example.test>"), &text);
    wait_for_empty_queue(&world.system);
}

fn expect_refusal<M: Mx>(world: &World<M>, status: &str) {
    let text = letter("refused");
    send(&world.system, "nobody@outside.test", &text, &[], &[]);
    let to = "nobody@outside.test";
    expect_report(
        &world.system,
        &json!({"to": to, "actions": ["failed"], "status": status, "reporter": "mail.example.test"}),
    );
    wait_for_empty_queue(&world.system);
}

#[test]
fn postfix_gets_every_octet_and_every_wish() {
    skip_without!("nsd", "python3");
    let Some(world) = world::<Postfix>(true) else {
        return;
    };
    expect_every_octet(&world);
    let log = world.server.log();
    for command in [
        "MAIL FROM:<alice@example.test> SIZE=",
        " BODY=8BITMIME RET=HDRS ENVID=wish-7",
        "RCPT TO:<carol@outside.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;carol+2Bold@outside.test",
    ] {
        assert!(
            log.contains(command),
            "{command}\n{}",
            program::end_of(&log)
        );
    }
    expect_own_report(
        &world,
        &json!({"envelope": "wish-7", "original": "rfc822;carol+old@outside.test"}),
    );
    expect_smtputf8(&world);
    expect_refusal(&world, r"5\.1\.1");
}

#[test]
fn exim_gets_every_octet_and_every_wish() {
    skip_without!("nsd", "python3");
    let Some(world) = world::<Exim>(true) else {
        return;
    };
    expect_every_octet(&world);
    // It offers CHUNKING; DATA is as good. `M8S=8`: MAIL had BODY=8BITMIME.
    let log = world.server.log();
    assert!(log.contains("P=esmtps") && log.contains("M8S=8"), "{log}");
    expect_own_report(&world, &json!({"envelope": "wish-7"}));
    expect_smtputf8(&world);
    expect_refusal(&world, r"5\.\d+\.\d+");
}

#[test]
fn opensmtpd_gets_every_octet_and_nothing_that_it_cannot_take() {
    skip_without!("nsd", "python3");
    let Some(world) = world::<OpenSmtpd>(false) else {
        return;
    };
    expect_every_octet(&world);
    let log = world.server.log();
    for command in [
        "BODY=8BITMIME RET=HDRS ENVID=wish-7",
        "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;carol",
    ] {
        assert!(
            log.contains(command),
            "{command}\n{}",
            program::end_of(&log)
        );
    }
    // It offers no SMTPUTF8, so the mail comes back from here (RFC 6531 §3.5), and it never hears of it.
    let text = letter("unicode");
    send(
        &world.system,
        "käthe@outside.test",
        &text,
        &["SMTPUTF8"],
        &[],
    );
    expect_report(
        &world.system,
        &json!({"to": "k", "actions": ["failed"], "status": r"5\.6\.7", "reporter": "mail.example.test"}),
    );
    assert!(!world.server.log().contains("SMTPUTF8"));
    expect_refusal(&world, r"5\.\d+\.\d+");
}

#[test]
fn opensmtpd_whose_tls_is_broken_gets_the_mail_in_clear_text() {
    skip_without!("nsd", "python3");
    let Some(world) = world::<OpenSmtpd>(true) else {
        return;
    };
    expect_every_octet(&world);
    let has_tried = world.server.log().contains("STARTTLS");
    assert!(has_tried, "{}", world.server.log());
    skip_unless!(
        world.server.log().contains("reason=\"io-error"),
        "this OpenSMTPD knows how to do TLS"
    );
    assert!(
        world
            .system
            .log()
            .contains("TLS failed; trying this host again in clear text")
    );
}

#[test]
fn who_is_on_a_grey_list_comes_again_and_is_let_in() {
    skip_without!("nsd", "python3");
    // The directory is there when somebody came before.
    let checks = "  defer message = greylisted, come again\n        condition = ${run{/bin/mkdir $spool_directory/seen}{yes}{no}}\n";
    let open = |doors: &[Door], inside| Exim::with(doors, inside, checks);
    let Some(world) = world_with(true, open) else {
        return;
    };
    expect_every_octet(&world);
    let log = world.server.log();
    assert_eq!(log.matches("temporarily rejected RCPT").count(), 1, "{log}");
}

#[test]
fn of_two_recipients_each_has_an_answer_of_its_own() {
    skip_without!("nsd", "python3");
    let Some(world) = world::<Postfix>(true) else {
        return;
    };
    let path = world.system.dir().join("letter");
    std::fs::write(&path, letter("two")).unwrap();
    let script = r#"
with submission() as client:
    assert client.sendmail(ALICE, ["nobody@outside.test", "carol@outside.test"], open(path, "rb").read()) == {}
"#;
    world.system.python(script, &json!({"path": path}));
    expect_end(
        &world.server.wait_for_text("<two@example.test>"),
        &letter("two"),
    );
    let to = "nobody@outside.test";
    expect_report(
        &world.system,
        &json!({"to": to, "actions": ["failed"], "status": r"5\.1\.1"}),
    );
    wait_for_empty_queue(&world.system);
    assert_eq!(world.server.delivered().len(), 1);
}
