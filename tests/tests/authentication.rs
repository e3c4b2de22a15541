//! Mail from other servers is judged by what a real name server says, through relayd, and carries what was found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::time::Duration;

use serde_json::{Value, json};
use system_tests::dns::NameServer;
use system_tests::imap;
use system_tests::maildir::body;
use system_tests::options::PASSWORD;
use system_tests::patience::wait_for;
use system_tests::smtp::Client;
use system_tests::{Options, System, skip_without};

const ALICE: &str = "alice@example.test";

/// A system that trusts nobody, with these settings.
fn system(dns: &Value, authentication: &Value) -> System {
    let config = json!({
        "authentication": {"trusted_clients": []},
        "relay": {"dns": dns},
    });
    let settings = json!({ "authentication": authentication });
    System::start(Options::alice().config(&config).config(&settings))
}

fn send(system: &System, sender: &str, message: &str) -> Result<(), String> {
    let mut client = Client::hello(system.address("smtp")).unwrap();
    let sent = client.deliver(sender, ALICE, message.as_bytes());
    sent.map_err(|error| error.to_string())
}

/// The header of alice's newest message, unfolded.
fn header(system: &System) -> String {
    let messages = system.account(ALICE).messages("INBOX");
    let text = String::from_utf8(messages.last().unwrap().bytes()).unwrap();
    let (header, _) = text.split_once("\r\n\r\n").unwrap();
    header.replace("\r\n\t ", " ").replace("\r\n\t", " ")
}

#[test]
fn what_dns_says_stands_on_small_and_large_messages_and_spoofs_are_refused() {
    skip_without!("nsd");
    let names = NameServer::start();
    let system = system(&json!([names.address()]), &json!({}));
    for (number, lines) in [1, 300, 500, 20_000].into_iter().enumerate() {
        let text = "0123456789abcdef0123456789abcde\r\n".repeat(lines);
        let message = format!(
            "From: Dave <dave@honest.test>\r\nAuthentication-Results: mail.example.test; dmarc=fail\r\n\r\n{text}"
        );
        send(&system, "dave@honest.test", &message).unwrap();
        let messages = system.account(ALICE).messages("INBOX");
        assert_eq!(messages.len(), number + 1);
        assert_eq!(body(&messages[number].bytes()), text.as_bytes());
        let header = header(&system);
        assert!(
            header.starts_with(
                "Return-Path: <dave@honest.test>\r\nAuthentication-Results: mail.example.test; "
            ),
            "{header}"
        );
        for found in [
            "spf=pass smtp.mailfrom=dave@honest.test;",
            "dmarc=pass (p=reject) header.from=honest.test;",
            "dkim=none\r\nReceived: from ",
        ] {
            assert!(header.contains(found), "{found}\n{header}");
        }
        assert!(
            header.ends_with("From: Dave <dave@honest.test>"),
            "{header}"
        );
        assert_eq!(header.matches("Authentication-Results").count(), 1);
    }
    let spoof = "From: Dave <dave@honest.test>\r\n\r\nhello\r\n";
    let refused = send(&system, "eve@elsewhere.test", spoof).unwrap_err();
    assert!(refused.contains("550 5.7.26"), "{refused}");
    assert_eq!(system.account(ALICE).messages("INBOX").len(), 4);
}

#[test]
fn what_its_domain_wants_put_aside_goes_into_junk_and_stays_there() {
    skip_without!("nsd");
    let names = NameServer::start();
    let system = system(&json!([names.address()]), &json!({}));
    // In one piece, as a stream that is small, and as a file.
    let texts = [1, 1000, 10_000].map(|lines| "0123456789abcdef\r\n".repeat(lines));
    for text in &texts {
        let spoof = format!("From: Carol <carol@careful.test>\r\n\r\n{text}");
        send(&system, "eve@elsewhere.test", &spoof).unwrap();
        let plain = format!("From: Eve <eve@elsewhere.test>\r\n\r\n{text}");
        send(&system, "eve@elsewhere.test", &plain).unwrap();
    }
    let before = system.kill("deliverd");
    system.wait_for_restart("deliverd", before);
    let mut client = wait_for(Duration::from_secs(10), || {
        let (mut client, _) = imap::Client::connect(system.address("imap")).ok()?;
        let login = client.command(&format!("LOGIN {ALICE} \"{PASSWORD}\""));
        login.ok()?.result.starts_with("OK").then_some(client)
    })
    .unwrap();
    for mailbox in ["Junk", "INBOX"] {
        let selected = client.command(&format!("SELECT {mailbox}")).unwrap().ok();
        let lines = selected.untagged;
        assert!(lines.iter().any(|line| line == "* 3 EXISTS"), "{lines:?}");
    }
    for (message, text) in system.account(ALICE).messages("Junk").iter().zip(&texts) {
        let bytes = message.bytes();
        assert_eq!(body(&bytes), text.as_bytes());
        let whole = String::from_utf8(bytes).unwrap();
        assert!(
            whole.contains("From: Carol") && whole.contains("dmarc=fail"),
            "{whole}"
        );
    }
}

#[test]
fn without_a_name_server_mail_is_taken_or_put_off_as_configured() {
    let silent = json!(["127.0.0.1:9"]);
    let message = "From: Dave <dave@honest.test>\r\n\r\nhello\r\n";
    let taking = system(&silent, &json!({"patience_seconds": 1}));
    send(&taking, "dave@honest.test", message).unwrap();
    let header = header(&taking);
    for found in ["spf=temperror", "dmarc=temperror", "iprev="] {
        assert!(header.contains(found), "{header}");
    }
    let deferring = system(
        &silent,
        &json!({"patience_seconds": 1, "unanswered": "defer"}),
    );
    let refused = send(&deferring, "dave@honest.test", message).unwrap_err();
    assert!(refused.contains("451 4.4.3"), "{refused}");
}
