//! What senders want besides delivery: to be told (RFC 3461), by rmail and by Postfix behind and before it; and that mail waits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::time::Duration;

use serde_json::json;
use system_tests::dns::NameServer;
use system_tests::postfix::Postfix;
use system_tests::system::Home;
use system_tests::{Options, System, skip_unless, skip_without};

/// Sends, and waits for a report in alice's INBOX.
const SEND: &str = r#"
def told(to, mail, rcpt, reports):
    with submission() as client:
        assert client.has_extn("DSN")
        wire = letter("wanted", sender=ALICE, to=to, body="secret").replace("\n", "\r\n")
        assert not client.sendmail(ALICE, to, wire, mail_options=mail, rcpt_options=rcpt)
    client = imap()
    wait_for(lambda: messages(client) == reports, 20)
    raw_report = fetched(client, reports).decode()
    report = email.message_from_string(raw_report, policy=email.policy.default)
    assert report.get_content_type() == "multipart/report", raw_report
    whole, recipient = list(report.iter_parts())[1].get_payload()
    return whole, recipient, raw_report
"#;

#[test]
fn a_sender_is_told_of_delivery_to_a_user_here() {
    skip_without!("python3");
    let system = System::start(Options::default());
    let script = r#"
whole, recipient, raw_report = told(BOB, ["RET=FULL", "ENVID=QQ+2B1"], ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bob+40x"], 1)
assert whole["Original-Envelope-Id"] == "QQ+1", raw_report
assert recipient["Original-Recipient"] == "rfc822; Bob@x", raw_report
assert recipient["Final-Recipient"] == f"rfc822; {BOB}", raw_report
assert recipient["Action"] == "delivered", raw_report
assert recipient["Status"].startswith("2."), raw_report
assert "Subject: wanted" in raw_report and "secret" not in raw_report, raw_report
wait_for(lambda: messages(imap(BOB)) == 1, 10)
"#;
    system.python(&format!("{SEND}{script}"), &json!({}));
}

#[test]
fn a_mail_is_held_as_long_as_its_sender_says() {
    skip_without!("python3");
    let system = System::start(Options::default());
    let script = r#"
with submission() as client:
    client.ehlo()
    seconds, until = client.esmtp_features["futurerelease"].split()
    assert seconds == "604800" and until.endswith("Z"), client.esmtp_features
    wire = letter("held", sender=ALICE, to=BOB).replace("\n", "\r\n")
    assert not client.sendmail(ALICE, BOB, wire, mail_options=["HOLDFOR=3600", "MT-PRIORITY=3"])
    wire = letter("released", sender=ALICE, to=BOB).replace("\n", "\r\n")
    assert not client.sendmail(ALICE, BOB, wire, mail_options=["HOLDFOR=1"])
client = imap(BOB)
wait_for(lambda: messages(client) == 1, 20)
assert b"Subject: released" in fetched(client, 1)
"#;
    system.python(script, &json!({}));
    let listing = system.rmailctl(&["queue", "list", "--json"]).succeeded();
    let queue: serde_json::Value = serde_json::from_str(&listing.stdout).unwrap();
    assert_eq!(queue.as_array().unwrap().len(), 1, "{queue}");
}

struct World {
    system: System,
    postfix: Postfix,
    _names: NameServer,
}

fn with_postfix() -> World {
    let options = Options::alice();
    let home = Home::prepare(&options);
    let names = NameServer::start();
    let postfix = Postfix::start(home.address("smtp"));
    let port = postfix.address().port();
    home.configure(
        &json!({"relay": {"dns": [names.address()], "port": port, "retry_seconds": [1, 1]}}),
    );
    World {
        system: System::launch(home, &options),
        postfix,
        _names: names,
    }
}

#[test]
fn postfix_behind_us_reports_what_we_passed_on_and_we_what_it_refuses() {
    skip_unless!(
        Postfix::is_possible(),
        "Postfix must be installed, and only root can start it"
    );
    skip_without!("nsd", "python3");
    let world = with_postfix();
    let script = r#"
whole, recipient, raw_report = told("carol@outside.test", ["RET=HDRS", "ENVID=QQ+2B1"], ["NOTIFY=SUCCESS", "ORCPT=rfc822;c+40x"], 1)
assert whole["Original-Envelope-Id"] == "QQ+1", raw_report
assert recipient["Original-Recipient"].replace(" ", "") == "rfc822;c@x", raw_report
assert recipient["Action"] == "delivered", raw_report
assert "Postfix" in raw_report, raw_report
whole, recipient, raw_report = told("nobody@outside.test", ["RET=FULL", "ENVID=2"], ["NOTIFY=FAILURE"], 2)
assert whole["Original-Envelope-Id"] == "2", raw_report
assert whole["Reporting-MTA"] == "dns; mail.example.test", raw_report
assert recipient["Action"] == "failed", raw_report
assert "secret" in raw_report, raw_report
"#;
    world.system.python(&format!("{SEND}{script}"), &json!({}));
}

#[test]
fn a_sender_at_postfix_is_told_of_delivery_here() {
    skip_unless!(
        Postfix::is_possible(),
        "Postfix must be installed, and only root can start it"
    );
    skip_without!("nsd", "python3");
    let world = with_postfix();
    let port = world.postfix.address().port();
    let script = r#"
with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
    wire = letter("asked", sender="carol@outside.test").replace("\n", "\r\n")
    assert not client.sendmail("carol@outside.test", ALICE, wire, mail_options=["ENVID=here"], rcpt_options=["NOTIFY=SUCCESS"])
"#;
    world.system.python(script, &json!({"port": port}));
    let report = world.postfix.wait_for_delivery(Duration::from_secs(20));
    let report = String::from_utf8(report).unwrap();
    for needle in [
        "Return-Path: <>",
        "Reporting-MTA: dns; mail.example.test",
        "Original-Envelope-Id: here",
        "Action: delivered",
        "Subject: asked",
    ] {
        assert!(report.contains(needle), "{needle} in {report}");
    }
}
