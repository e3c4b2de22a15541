//! What users expunge by mistake, and how the operator gives it back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use serde_json::{Value, json};
use system_tests::imap::Client;
use system_tests::options::PASSWORD;
use system_tests::{Options, System, smtp};

const ALICE: &str = "alice@example.test";

fn deliver(system: &System, text: &str) {
    let mut client = smtp::Client::hello(system.address("smtp")).unwrap();
    let message = format!("Subject: {text}\r\n\r\n{text}\r\n");
    client
        .deliver("carol@outside.test", ALICE, message.as_bytes())
        .unwrap();
}

/// A system that keeps what is expunged however little room the disk of this machine has.
fn start() -> System {
    let config = json!({"store": {"expunged_min_free_percent": 0}});
    System::start(Options::alice().config(&config))
}

fn login(system: &System) -> Client {
    Client::login(system.address("imap"), ALICE, PASSWORD).unwrap()
}

/// What can be had back.
fn expunged(system: &System, more: &[&str]) -> Vec<Value> {
    let command = [&["user", "expunged", ALICE, "--json"], more].concat();
    let text = system.rmailctl(&command).succeeded().stdout;
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn undelete(system: &System, more: &[&str]) -> String {
    let command = [&["user", "undelete", ALICE], more].concat();
    system.rmailctl(&command).succeeded().stdout
}

#[test]
fn what_a_client_expunged_comes_back_where_it_was_while_the_client_looks_on() {
    let system = start();
    (1..=3).for_each(|number| deliver(&system, &format!("letter {number}")));
    let mut client = login(&system);
    client.command("SELECT INBOX").unwrap().ok();
    let mark = "STORE 1:2 +FLAGS (\\Deleted \\Flagged $Forwarded)";
    client.command(mark).unwrap().ok();
    client.command("EXPUNGE").unwrap().ok();
    let rows = expunged(&system, &[]);
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (&rows[0]["mailbox"], &rows[0]["uid"]),
        (&json!("INBOX"), &json!(1))
    );
    let flags = json!(["\\Flagged", "\\Deleted", "$Forwarded"]);
    assert_eq!(rows[1]["flags"], flags);
    let day = rows[0]["day"].as_str().unwrap();
    assert_eq!(
        expunged(&system, &["--since", day, "--mailbox", "Sent"]),
        Vec::<Value>::new()
    );
    let text = undelete(&system, &["--mailbox", "INBOX", "--uid", "2"]);
    assert!(text.starts_with("1 messages, "), "{text}");
    let heard = client.command("NOOP").unwrap().ok().untagged;
    assert!(heard.contains(&"* 2 EXISTS".to_owned()), "{heard:?}");
    let fetched = client
        .command("FETCH 2 (UID FLAGS BODY[TEXT])")
        .unwrap()
        .ok();
    let fetched = fetched.untagged.join("\n");
    assert!(
        fetched.contains("UID 4") && fetched.contains("letter 2"),
        "{fetched}"
    );
    assert!(
        fetched.contains("\\Flagged") && fetched.contains("$Forwarded"),
        "{fetched}"
    );
    assert!(!fetched.contains("\\Deleted"), "{fetched}");
    assert_eq!(expunged(&system, &[]).len(), 1);
    // The store's tools know it, and a process that is killed forgets nothing of it.
    let check = system.rmailctl(&["store", "check"]);
    assert_eq!((check.code(), check.stdout.as_str()), (0, ""));
    let stat = system.rmailctl(&["store", "stat", "--json"]).succeeded();
    let stat: Value = serde_json::from_str(stat.stdout.trim()).unwrap();
    assert_eq!(
        (&stat["expunged_messages"], &stat["messages"]),
        (&json!(1), &json!(2))
    );
    let pid = system.kill("deliverd");
    system.wait_for_restart("deliverd", pid);
    let text = undelete(&system, &["--all"]);
    assert!(text.starts_with("1 messages, "), "{text}");
    assert!(undelete(&system, &["--all"]).starts_with("0 messages, "));
    assert_eq!(system.account(ALICE).messages("INBOX").len(), 3);
}

#[test]
fn a_deleted_mailbox_is_made_again_with_its_messages_if_they_fit_into_the_quota() {
    let system = start();
    let mut client = login(&system);
    client.command("CREATE Work/2026").unwrap().ok();
    (1..=2).for_each(|number| deliver(&system, &format!("letter {number}")));
    client.command("SELECT INBOX").unwrap().ok();
    client.command("MOVE 1:2 Work/2026").unwrap().ok();
    client.command("DELETE Work/2026").unwrap().ok();
    client.command("DELETE Work").unwrap().ok();
    let line = system.rmailctl(&["user", "expunged", ALICE]).succeeded();
    let fields: Vec<&str> = line.stdout.lines().next().unwrap().split('\t').collect();
    assert_eq!((fields[1], fields[3], fields.len()), ("Work/2026", "1", 6));
    let limit = |messages| {
        let command = ["user", "quota", ALICE, "--max-messages", messages];
        system.rmailctl(&command).succeeded();
    };
    limit("1");
    let refused = system.rmailctl(&["user", "undelete", ALICE, "--all"]);
    assert!(refused.code() >= 64, "{}", refused.text());
    assert!(
        refused.stderr.contains("over quota: the 2 messages"),
        "{}",
        refused.text()
    );
    limit("2");
    assert!(undelete(&system, &["--all"]).starts_with("2 messages, "));
    let status = client.command("STATUS Work/2026 (MESSAGES)").unwrap().ok();
    let status = status.untagged.join("\n");
    assert!(status.contains("MESSAGES 2"), "{status}");
}

#[test]
fn an_undelete_says_what_is_meant() {
    let system = start();
    for wrong in [
        &["user", "undelete", ALICE][..],
        &["user", "undelete", ALICE, "--uid", "1"],
        &["user", "undelete", ALICE, "--all", "--mailbox", "INBOX"],
        &["user", "undelete", ALICE, "--since", "yesterday"],
        &["user", "undelete", "nobody@example.test", "--all"],
        &[
            "user",
            "expunged",
            ALICE,
            "--mailbox",
            "INBOX",
            "--uid",
            "x",
        ],
    ] {
        let refused = system.rmailctl(wrong);
        assert!(refused.code() != 0, "{wrong:?}: {}", refused.text());
    }
}
