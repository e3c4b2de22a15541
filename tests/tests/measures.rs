//! What is done about mail that is not from whom it says, for whom: real daemons, a real name server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use serde_json::{Value, json};
use system_tests::dns::NameServer;
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
