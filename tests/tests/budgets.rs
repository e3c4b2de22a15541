//! What accounts, domains and tenants may send in a day, as the operator sets it and sees it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use system_tests::options::PASSWORD;
use system_tests::patience::wait_for;
use system_tests::smtp::Client;
use system_tests::{Options, System};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const DAVE: &str = "dave@other.test";

/// Budgets are new at midnight (UTC): a test that would go on over it begins after it.
fn avoid_midnight() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let left = 86_400 - now.as_secs() % 86_400;
    if left < 120 {
        std::thread::sleep(Duration::from_secs(left + 1));
    }
}

/// alice and bob belong to acme, dave to another tenant. Nobody takes their mail.
fn start(budgets: &Value) -> System {
    avoid_midnight();
    let system = System::start(Options::default().config(&json!({
        "smtp": {"cleartext_auth_on_loopback": true},
        "relay": {"port": 1, "retry_seconds": [3600], "budgets": budgets},
    })));
    for command in [
        &["tenant", "add", "acme"][..],
        &["tenant", "add", "globex"],
        &["domain", "assign", "example.test", "acme"],
        &["domain", "add", "other.test", "--tenant", "globex"],
    ] {
        system.rmailctl(command).succeeded();
    }
    let add = ["user", "add", DAVE, "--password-stdin"];
    system.rmailctl_with(&add, PASSWORD).succeeded();
    system
}

/// Sends a message to somebody elsewhere; gives why it is held.
fn send(system: &System, account: &str) -> Option<String> {
    let before = queue(system);
    let mut client = Client::hello(system.address("submission")).unwrap();
    client.login(account, PASSWORD).unwrap();
    let text = format!("From: {account}\r\nSubject: x\r\n\r\ntext\r\n");
    client
        .deliver(account, "x@[127.0.0.1]", text.as_bytes())
        .unwrap();
    let is_new = |one: &Value| !before.iter().any(|old| old["queue_id"] == one["queue_id"]);
    let new = queue(system).into_iter().find(is_new).unwrap();
    let hold = new["hold"].as_str().unwrap();
    (!hold.is_empty()).then(|| hold.to_owned())
}

fn queue(system: &System) -> Vec<Value> {
    let text = system
        .rmailctl(&["queue", "list", "--json"])
        .succeeded()
        .text();
    serde_json::from_str(text.trim()).unwrap()
}

fn held(system: &System) -> usize {
    let is_held = |one: &&Value| one["hold"] != "";
    queue(system).iter().filter(is_held).count()
}

/// What a listing says of the budget of one of its rows.
fn listed(system: &System, what: &str, key: &str, name: &str) -> Value {
    let text = system
        .rmailctl(&[what, "list", "--json"])
        .succeeded()
        .text();
    let rows: Vec<Value> = serde_json::from_str(text.trim()).unwrap();
    let row = rows.into_iter().find(|row| row[key] == name).unwrap();
    row["budget"].clone()
}

fn figure(used: u64, limit: u64, own: bool) -> Value {
    json!({"used": used, "limit": limit, "own": own})
}

#[test]
fn a_tenant_that_floods_is_held_and_another_sends_on() {
    let system = start(&json!({"tenant": {"messages": 2}}));
    for account in [ALICE, BOB] {
        assert_eq!(send(&system, account), None);
    }
    let reason = "relay.budgets.tenant.messages allows the tenant acme no more than 2 a day";
    for account in [ALICE, BOB] {
        assert_eq!(send(&system, account).as_deref(), Some(reason));
    }
    assert_eq!(send(&system, DAVE), None);
    // What was counted is counted after a kill.
    for daemon in ["relayd", "deliverd"] {
        let before = system.kill(daemon);
        system.wait_for_restart(daemon, before);
    }
    assert_eq!(send(&system, ALICE).as_deref(), Some(reason));
    let acme = listed(&system, "tenant", "tenant", "acme");
    assert_eq!(acme["messages"], figure(2, 2, false));
    // A domain that goes to another tenant is paid by that one from now on.
    system
        .rmailctl(&["domain", "assign", "example.test", "globex"])
        .succeeded();
    assert_eq!(send(&system, ALICE), None);
    let held_now = send(&system, DAVE).unwrap();
    assert!(held_now.contains("the tenant globex"), "{held_now}");
}

#[test]
fn the_operator_gives_one_account_domain_or_tenant_a_budget_of_its_own() {
    let system = start(&json!({"account": {"messages": 1}}));
    assert_eq!(send(&system, ALICE), None);
    let reason = "relay.budgets.account.messages allows alice@example.test no more than 1 a day";
    assert_eq!(send(&system, ALICE).as_deref(), Some(reason));
    // It counts at once: relayd is told.
    system
        .rmailctl(&["user", "budget", ALICE, "--messages", "3"])
        .succeeded();
    assert_eq!(send(&system, ALICE), None);
    let alice = listed(&system, "user", "address", ALICE);
    assert_eq!(alice["messages"], figure(2, 3, true));
    assert_eq!(alice["first_time"], figure(1, 0, false));
    for (what, name) in [("domain", "example.test"), ("tenant", "acme")] {
        system
            .rmailctl(&[what, "budget", name, "--messages", "2"])
            .succeeded();
        let reason = send(&system, ALICE).unwrap();
        let rule = format!("rmailctl {what} budget --messages allows ");
        assert!(reason.starts_with(&rule), "{reason}");
        assert_eq!(
            listed(&system, what, what, name)["messages"],
            figure(2, 2, true)
        );
        let shown = system.rmailctl(&[what, "budget", name]).succeeded().text();
        assert!(
            shown.starts_with("messages\t2 of 2\tset for this one\n"),
            "{shown}"
        );
        system
            .rmailctl(&[what, "budget", name, "--default"])
            .succeeded();
        assert_eq!(
            listed(&system, what, what, name)["messages"],
            figure(2, 0, false)
        );
    }
    assert_eq!(send(&system, ALICE), None);
    assert!(send(&system, ALICE).is_some());
    let shown = system
        .rmailctl(&["user", "budget", ALICE, "--json"])
        .succeeded();
    let shown: Value = serde_json::from_str(shown.stdout.trim()).unwrap();
    assert_eq!(shown["messages"], figure(3, 3, true));
    assert_eq!(held(&system), 4);
    system
        .rmailctl(&["queue", "release", "--account", ALICE])
        .succeeded();
    let tried = wait_for(Duration::from_secs(20), || {
        let is_tried = |one: &Value| one["hold"] == "" && one["recipients"][0]["attempts"] == 1;
        queue(&system).iter().all(is_tried).then_some(())
    });
    assert!(tried.is_ok(), "{:?}", queue(&system));
    for wrong in [
        &["user", "budget", "nobody@example.test", "--messages", "1"][..],
        &["domain", "budget", "nowhere.test"],
        &["tenant", "budget", "nobody", "--default"],
        &["user", "budget", ALICE, "--default", "--messages", "1"],
    ] {
        assert_ne!(system.rmailctl(wrong).code(), 0, "{wrong:?}");
    }
}
