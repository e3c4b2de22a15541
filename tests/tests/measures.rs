//! What is done about mail that is not from whom it says, for whom: real daemons, a real name server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::time::Duration;

use serde_json::{Value, json};
use system_tests::dns::NameServer;
use system_tests::maildir::MessageFile;
use system_tests::patience::wait_for;
use system_tests::smtp::{Client, stuffed};
use system_tests::{Options, System, skip_without};

const ALICE: &str = "alice@example.test";
const TINA: &str = "tina@tenant.test";

/// A system with a user in each of two domains that trusts nobody.
fn system(names: &NameServer, authentication: &Value) -> System {
    let config = json!({
        "domains": ["example.test", "tenant.test"],
        "authentication": {"trusted_clients": []},
        "relay": {"dns": [names.address()]},
    });
    let settings = json!({ "authentication": authentication });
    let options = Options::alice().user(TINA);
    System::start(options.config(&config).config(&settings))
}

/// The reply to a message for all of these.
fn send(system: &System, to: &[&str], message: &str) -> String {
    let mut client = Client::hello(system.address("smtp")).unwrap();
    let mut ask = |line: &str| client.command(line).unwrap();
    assert_eq!(ask("MAIL FROM:<eve@elsewhere.test>").code, 250);
    for one in to {
        assert_eq!(ask(&format!("RCPT TO:<{one}>")).code, 250, "{one}");
    }
    assert_eq!(ask("DATA").code, 354);
    client.send(&stuffed(message.as_bytes())).unwrap();
    client.reply().unwrap().text()
}

fn count(system: &System, user: &str) -> [usize; 2] {
    ["INBOX", "Junk"].map(|mailbox| system.account(user).messages(mailbox).len())
}

#[test]
fn domains_differ_in_what_they_take() {
    skip_without!("nsd");
    let names = NameServer::start();
    let lenient = json!([{"names": ["Tenant.test"], "dmarc_reject": "accept"}]);
    let system = system(&names, &json!({ "domains": lenient }));
    // In one piece, as a stream that is small, and as a file.
    for (lines, number) in [1, 1000, 20_000].into_iter().zip(1..) {
        let text = "0123456789abcdef\r\n".repeat(lines);
        let spoof = format!("From: Dave <dave@honest.test>\r\n\r\n{text}");
        let refused = send(&system, &[ALICE], &spoof);
        assert!(refused.contains("5.7.26"), "{refused}");
        let taken = send(&system, &[ALICE, TINA], &spoof);
        assert!(taken.starts_with("250"), "{taken}");
        assert_eq!(count(&system, ALICE), [0, number]);
        assert_eq!(count(&system, TINA), [number, 0]);
    }
}

#[test]
fn what_is_in_quarantine_is_seen_by_the_operator_alone_until_it_is_released() {
    skip_without!("nsd");
    let names = NameServer::start();
    let system = system(
        &names,
        &json!({
            "dmarc_reject": "quarantine",
            "domains": [{"names": ["tenant.test"], "dmarc_reject": "junk"}],
            "quarantine": {"max_messages": 2},
        }),
    );
    let spoof = |lines| {
        let text = "0123456789abcdef\r\n".repeat(lines);
        format!("From: Dave <dave@honest.test>\r\n\r\n{text}")
    };
    let (small, large) = (spoof(1), spoof(20_000));
    for (message, number) in [&small, &large].into_iter().zip(1..) {
        let taken = send(&system, &[ALICE, TINA], message);
        assert!(taken.starts_with("250"), "{taken}");
        assert_eq!(count(&system, TINA), [0, number]);
    }
    assert_eq!(count(&system, ALICE), [0, 0]);
    // There is room for two.
    let full = send(&system, &[ALICE], &small);
    assert!(full.starts_with("452"), "{full}");
    let queue = || -> Vec<Value> {
        let listed = system.rmailctl(&["queue", "list", "--json"]).succeeded();
        serde_json::from_str(&listed.stdout).unwrap()
    };
    let held = queue();
    assert_eq!(held.len(), 2);
    for one in &held {
        assert_eq!(
            one["hold"],
            "quarantine by authentication.dmarc_reject: neither SPF nor DKIM speaks for honest.test"
        );
        assert_eq!(one["recipients"][0]["address"], ALICE);
    }
    let listed = system.rmailctl(&["queue", "list"]).succeeded();
    assert!(
        listed.stdout.contains("held: quarantine by"),
        "{}",
        listed.stdout
    );
    // It is there after a crash.
    let before = system.kill("relayd");
    system.wait_for_restart("relayd", before);
    for (one, message) in held.iter().zip([&small, &large]) {
        let id = one["queue_id"].as_str().unwrap();
        system.rmailctl(&["queue", "release", id]).succeeded();
        let text = wait_for(Duration::from_secs(60), || {
            let messages = system.account(ALICE).messages("INBOX");
            let bytes = messages.iter().map(MessageFile::bytes);
            let mut found = bytes.map(|bytes| String::from_utf8(bytes).unwrap());
            found.find(|text| text.ends_with(message.as_str()))
        })
        .unwrap();
        assert!(
            text.starts_with(
                "Return-Path: <eve@elsewhere.test>\r\nAuthentication-Results: mail.example.test;"
            ) && text.contains("dmarc=fail"),
            "{text}"
        );
    }
    wait_for(Duration::from_secs(60), || queue().is_empty().then_some(())).unwrap();
    let taken = send(&system, &[ALICE], &small);
    assert!(taken.starts_with("250"), "{taken}");
    let id = queue()[0]["queue_id"].as_str().unwrap().to_owned();
    system.rmailctl(&["queue", "remove", &id]).succeeded();
    assert!(queue().is_empty());
    assert_eq!(count(&system, ALICE), [2, 0]);
}
