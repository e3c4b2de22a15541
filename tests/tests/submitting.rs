//! What a user may send, in whose name, and what is taken out of it on its way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use serde_json::json;
use system_tests::options::PASSWORD;
use system_tests::smtp::Client;
use system_tests::{Options, System};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";

fn start(options: Options) -> System {
    System::start(options.config(&json!({"smtp": {"cleartext_auth_on_loopback": true}})))
}

/// alice sends a message with this header to herself.
fn submit(system: &System, header: &str) -> std::io::Result<()> {
    let mut client = Client::hello(system.address("submission")).unwrap();
    client.login(ALICE, PASSWORD).unwrap();
    let message = format!("{header}\r\nSubject: x\r\n\r\ntext\r\n");
    client.deliver(ALICE, ALICE, message.as_bytes())
}

fn last(system: &System) -> String {
    let mut messages = system.account(ALICE).messages("INBOX");
    String::from_utf8(messages.pop().unwrap().bytes()).unwrap()
}

#[test]
fn every_name_in_the_header_is_ones_own() {
    let system = start(Options::default());
    system
        .rmailctl(&["domain", "add", "tenant.test"])
        .succeeded();
    system
        .rmailctl_with(
            &["user", "add", "carol@tenant.test", "--password-stdin"],
            PASSWORD,
        )
        .succeeded();
    for header in [
        "X: no author",
        "From: alice@example.test\r\nFrom: bob@example.test",
        "From: alice@example.test\r\nFrom: alice@example.test",
        "From: alice@example.test, bob@example.test\r\nSender: alice@example.test",
        "From: alice@example.test, alice+x@example.test",
        "From: carol@tenant.test",
        "From: team: alice@example.test;",
        "From: \"alice@example.test\" <carol@tenant.test>",
        "From: alice@example.test\r\nSender: bob@example.test",
        "From: alice@example.test\r\nResent-From: bob@example.test",
    ] {
        let error = submit(&system, header).unwrap_err().to_string();
        assert!(error.contains("550 5.7.1 "), "{header}: {error}");
    }
    assert!(system.account(ALICE).messages("INBOX").is_empty());
    for header in [
        "From: Alice <Alice@example.test>",
        "From: alice@example.test, alice+x@example.test\r\nSender: alice@example.test",
        "From: \"carol@tenant.test\" <alice@example.test>",
    ] {
        submit(&system, header).unwrap_or_else(|error| panic!("{header}: {error}"));
    }
    // None of it is asked of other servers' mail.
    let mut stranger = Client::hello(system.address("smtp")).unwrap();
    let odd = b"From: a@x.test\r\nFrom: b@x.test\r\nBcc: c@x.test\r\n\r\ntext\r\n";
    stranger.deliver("a@x.test", BOB, odd).unwrap();
}

#[test]
fn a_user_sends_as_whom_the_admin_lets_it() {
    let system = start(Options::default());
    let grants = || {
        system
            .rmailctl(&["user", "grants", ALICE])
            .succeeded()
            .stdout
    };
    for sender in [BOB, "team@partner.test"] {
        let header = format!("From: {sender}");
        assert!(submit(&system, &header).is_err(), "{sender}");
        system
            .rmailctl(&["user", "grant", ALICE, sender])
            .succeeded();
        submit(&system, &header).unwrap();
        let mut client = Client::hello(system.address("submission")).unwrap();
        client.login(ALICE, PASSWORD).unwrap();
        let mail = format!("MAIL FROM:<{sender}>");
        assert_eq!(client.command(&mail).unwrap().code, 250);
    }
    assert_eq!(grants(), "bob@example.test\nteam@partner.test\n");
    system.rmailctl(&["user", "revoke", ALICE, BOB]).succeeded();
    assert!(submit(&system, "From: bob@example.test").is_err());
    assert_eq!(grants(), "team@partner.test\n");
    let again = system.rmailctl(&["user", "revoke", ALICE, BOB]);
    assert_eq!(again.code(), 65);
    let listed = system
        .rmailctl(&["user", "grants", ALICE, "--json"])
        .succeeded();
    assert_eq!(listed.stdout, "[\"team@partner.test\"]\n");
}

#[test]
fn blind_copies_are_taken_out_and_what_is_missing_is_added() {
    let system = start(Options::alice());
    let header = "Bcc: carol@outside.test,\r\n\tdave@outside.test\r\nFrom: alice@example.test\r\nResent-Bcc: erin@outside.test";
    submit(&system, header).unwrap();
    let text = last(&system);
    assert!(!text.contains("outside.test"), "{text}");
    for field in ["\r\nFrom: alice@", "\r\nDate: ", "\r\nMessage-ID: <"] {
        assert_eq!(text.matches(field).count(), 1, "{text}");
    }
    assert!(text.contains("Received: from client.example.net ([127.0.0.1])"));
}

#[test]
fn on_request_nobody_is_told_where_the_author_is() {
    let system = start(Options::alice().config(&json!({"submission": {"redact_received": true}})));
    submit(&system, "From: alice@example.test").unwrap();
    let text = last(&system);
    assert!(
        text.contains("\r\nReceived: by mail.example.test with ESMTPA id "),
        "{text}"
    );
    assert!(
        !text.contains("client.example.net") && !text.contains("127.0.0.1"),
        "{text}"
    );
    let mut stranger = Client::hello(system.address("smtp")).unwrap();
    stranger
        .deliver("a@x.test", ALICE, b"From: a@x.test\r\n\r\ntext\r\n")
        .unwrap();
    assert!(last(&system).contains("Received: from client.example.net"));
}
