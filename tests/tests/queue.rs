//! What the operator does with the outbound queue, by `rmailctl` and the real daemons.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::time::Duration;

use serde_json::{Value, json};
use system_tests::load::Load;
use system_tests::options::PASSWORD;
use system_tests::patience::wait_for;
use system_tests::program::Outcome;
use system_tests::{Options, System};

const PATIENCE: Duration = Duration::from_secs(60);

fn system() -> System {
    let options = Options::alice().config(&json!({
        "smtp": {"cleartext_auth_on_loopback": true},
        // Nobody answers there.
        "relay": {"port": 9, "dns": ["127.0.0.1:9"]},
    }));
    System::start(options)
}

fn submit(system: &System, to: &str, count: usize) {
    let load = Load {
        server: system.address("submission"),
        login: Some(("alice@example.test".into(), PASSWORD.into())),
        from: "alice@example.test".into(),
        to: to.into(),
    };
    let sent = load.run(0, count, 1, PATIENCE);
    assert_eq!(sent.len(), count);
}

fn listed(system: &System, filter: &[&str]) -> Vec<Value> {
    let arguments = [&["queue", "list", "--json"], filter].concat();
    let text = system.rmailctl(&arguments).succeeded().stdout;
    serde_json::from_str(&text).unwrap()
}

/// What a command says that does not succeed.
fn failed(system: &System, arguments: &[&str]) -> Outcome {
    let outcome = system.rmailctl(arguments);
    assert!(!outcome.status.success(), "{}", outcome.text());
    outcome
}

fn audit(system: &System) -> Value {
    let text = system.rmailctl(&["audit", "--json"]).succeeded().stdout;
    serde_json::from_str(&text).unwrap()
}

fn until_queue_has(system: &System, count: usize) {
    let all = wait_for(PATIENCE, || {
        (listed(system, &[]).len() == count).then_some(())
    });
    assert!(all.is_ok(), "{:?}", listed(system, &[]));
}

#[test]
fn the_queue_is_filtered_changed_and_accounted_for() {
    let system = system();
    submit(&system, "bob@[127.0.0.2]", 5);
    submit(&system, "carol@[127.0.0.3]", 3);
    let to_bob = ["--recipient", "bob@[127.0.0.2]"];
    assert_eq!(listed(&system, &to_bob).len(), 5);
    let paged = listed(&system, &["--limit", "6"]);
    assert_eq!(paged.len(), 6);
    let last = paged[5]["queue_id"].as_str().unwrap();
    assert_eq!(listed(&system, &["--after", last]).len(), 2);
    // Who is not asked whether that is meant must say so.
    let refused = [&["queue", "remove"], to_bob.as_slice()].concat();
    assert!(failed(&system, &refused).stderr.contains("--yes"));
    let nothing = failed(&system, &["queue", "remove", "--yes"]);
    assert!(nothing.stderr.contains("--all"));
    let dry = [&["queue", "bounce", "--dry-run"], to_bob.as_slice()].concat();
    let dry = system.rmailctl(&dry).succeeded().stdout;
    assert_eq!(dry.lines().count(), 5);
    assert_eq!(listed(&system, &[]).len(), 8);
    let hold = [&["queue", "hold"], to_bob.as_slice()].concat();
    let held = system.rmailctl(&hold).succeeded().stdout;
    assert_eq!(held.trim(), "5 messages are held");
    assert_eq!(listed(&system, &["--state", "held"]).len(), 5);
    let top = system.rmailctl(&["queue", "top", "--json", "--by", "destination"]);
    let top: Value = serde_json::from_str(&top.succeeded().stdout).unwrap();
    assert_eq!(top[0]["destination"], "[127.0.0.2]");
    assert_eq!(
        (&top[0]["messages"], &top[0]["held"]),
        (&json!(5), &json!(5))
    );
    let top = system.rmailctl(&["queue", "top"]).succeeded().stdout;
    assert!(top.contains("[127.0.0.3]"), "{top}");
    let id = listed(&system, &to_bob)[0]["queue_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown = system.rmailctl(&["queue", "show", &id, "--headers"]);
    let shown = shown.succeeded().stdout;
    for needle in [
        "state\theld",
        "account\talice@example.test",
        "<bob@[127.0.0.2]>",
        "From: ",
    ] {
        assert!(shown.contains(needle), "{needle} in {shown}");
    }
    let removed = system
        .rmailctl(&["queue", "remove", &id])
        .succeeded()
        .stdout;
    assert_eq!(removed.trim(), "1 messages are removed");
    assert!(
        failed(&system, &["queue", "remove", &id])
            .stderr
            .contains(&id)
    );
    let bounced = [&["queue", "bounce", "--yes"], to_bob.as_slice()].concat();
    let bounced = system.rmailctl(&bounced).succeeded().stdout;
    assert_eq!(bounced.trim(), "4 messages are given up");
    until_queue_has(&system, 3);
    let reports = wait_for(PATIENCE, || {
        let inbox = system.account("alice@example.test").messages("INBOX");
        (inbox.len() == 4).then_some(inbox)
    });
    let report = reports.unwrap()[0].bytes();
    assert!(String::from_utf8_lossy(&report).contains("given up by the operator"));
    let history = system
        .rmailctl(&["queue", "history", &id])
        .succeeded()
        .stdout;
    assert!(
        history.contains("\tqueued\taccount alice@example.test"),
        "{history}"
    );
    assert!(history.contains("\tremoved by the operator"), "{history}");
    let found = audit(&system);
    assert_eq!(
        (&found["accepted"], &found["queued"]),
        (&json!(8), &json!(3))
    );
    assert_eq!(found["ended"], json!({"done": 4, "removed": 1}));
}

#[test]
fn the_audit_names_a_message_that_somebody_took_away() {
    let system = system();
    submit(&system, "bob@[127.0.0.2]", 4);
    let pid = system.kill("relayd");
    system.wait_for_restart("relayd", pid);
    assert_eq!(audit(&system)["queued"], 4);
    let lost = listed(&system, &[])[1]["queue_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let shard = system.dir().join("mail/queue").join(&lost[16..]);
    for suffix in ["env", "eml"] {
        std::fs::remove_file(shard.join(format!("{lost}.{suffix}"))).unwrap();
    }
    // relayd finds out when it tries it again.
    system.rmailctl(&["queue", "flush"]).succeeded();
    until_queue_has(&system, 3);
    let found = wait_for(PATIENCE, || {
        let said = failed(&system, &["audit", "--json"]);
        let found: Value = serde_json::from_str(&said.stdout).unwrap();
        (found["queued"] == 3).then_some((found, said.stderr))
    });
    let (found, said) = found.unwrap();
    assert_eq!(found["missing"], json!([lost]));
    assert_eq!(
        (&found["undead"], &found["unknown"]),
        (&json!([]), &json!([]))
    );
    assert!(
        said.contains("1 messages are not where they should be"),
        "{said}"
    );
}
