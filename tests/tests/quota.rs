//! Quota as admins, senders and users see it: of a user, of a domain, of a tenant.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use serde_json::{Value, json};
use system_tests::smtp::{self, Client};
use system_tests::{Options, System, skip_without};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";

fn message(size: usize) -> Vec<u8> {
    let mut message = b"Subject: x\r\n\r\n".to_vec();
    while message.len() < size {
        message.extend_from_slice(&[b'x'; 70]);
        message.extend_from_slice(b"\r\n");
    }
    message
}

/// What a listing says about one of its rows.
fn row(system: &System, list: &[&str], key: &str, name: &str) -> Value {
    let text = system.rmailctl(list).succeeded().text();
    let rows: Vec<Value> = serde_json::from_str(text.trim()).unwrap();
    rows.into_iter().find(|row| row[key] == name).unwrap()
}

fn stored(system: &System, address: &str) -> usize {
    system.account(address).messages("INBOX").len()
}

#[test]
fn a_full_recipient_is_refused_by_name_and_the_others_get_the_message() {
    let system = System::start(Options::alice().user(BOB));
    system
        .rmailctl(&["user", "quota", ALICE, "--max-messages", "1"])
        .succeeded();
    let mut client = Client::hello(system.address("smtp")).unwrap();
    client
        .deliver("carol@outside.test", ALICE, &message(100))
        .unwrap();
    let text = message(500);
    let mail = format!("MAIL FROM:<carol@outside.test> SIZE={}", text.len());
    assert_eq!(client.command(&mail).unwrap().code, 250);
    let reply = client.command(&format!("RCPT TO:<{ALICE}>")).unwrap();
    assert!(reply.text().starts_with("452 4.2.2 "), "{reply:?}");
    let reply = client.command(&format!("RCPT TO:<{BOB}>")).unwrap();
    assert_eq!(reply.code, 250);
    assert_eq!(client.command("DATA").unwrap().code, 354);
    client.send(&smtp::stuffed(&text)).unwrap();
    assert_eq!(client.reply().unwrap().code, 250);
    assert_eq!((stored(&system, ALICE), stored(&system, BOB)), (1, 1));
    let alice = row(&system, &["user", "list", "--json"], "address", ALICE);
    assert_eq!(
        (&alice["messages"], &alice["max_messages"], &alice["quota"]),
        (&json!(1), &json!(1), &json!(0))
    );
}

#[test]
fn a_sender_who_was_told_there_is_room_has_it() {
    let system = System::start(Options::alice());
    system
        .rmailctl(&["user", "quota", ALICE, "--quota", "20K"])
        .succeeded();
    let text = message(10_000);
    let mail = format!("MAIL FROM:<carol@outside.test> SIZE={}", text.len());
    let mut clients: Vec<Client> = Vec::new();
    let mut refused = 0;
    for _ in 0..3 {
        let mut client = Client::hello(system.address("smtp")).unwrap();
        assert_eq!(client.command(&mail).unwrap().code, 250);
        match client.command(&format!("RCPT TO:<{ALICE}>")).unwrap().code {
            250 => clients.push(client),
            452 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((clients.len(), refused), (1, 2));
    // Whoever is granted room keeps it, whatever others try meanwhile.
    let mut client = clients.remove(0);
    assert_eq!(client.command("DATA").unwrap().code, 354);
    let mut other = Client::hello(system.address("smtp")).unwrap();
    assert!(other.deliver("carol@outside.test", ALICE, &text).is_err());
    client.send(&smtp::stuffed(&text)).unwrap();
    assert_eq!(client.reply().unwrap().code, 250);
    assert_eq!(stored(&system, ALICE), 1);
    // Who leaves without a message gives it back.
    let mut leaver = Client::hello(system.address("smtp")).unwrap();
    let small = "MAIL FROM:<carol@outside.test> SIZE=4000";
    assert_eq!(leaver.command(small).unwrap().code, 250);
    let rcpt = format!("RCPT TO:<{ALICE}>");
    assert_eq!(leaver.command(&rcpt).unwrap().code, 250);
    drop(leaver);
    let mut next = Client::hello(system.address("smtp")).unwrap();
    assert_eq!(next.command(small).unwrap().code, 250);
    let freed = system_tests::patience::wait_for(std::time::Duration::from_secs(10), || {
        (next.command(&rcpt).unwrap().code == 250).then_some(())
    });
    assert!(freed.is_ok());
}

#[test]
fn domains_of_a_tenant_share_what_it_may_store() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    for command in [
        &["tenant", "add", "acme", "--quota", "30K"][..],
        &["domain", "assign", "example.test", "acme"],
        &["domain", "add", "other.test", "--tenant", "acme"],
        &["domain", "quota", "example.test", "--max-messages", "3"],
    ] {
        system.rmailctl(command).succeeded();
    }
    let carol = "carol@other.test";
    system
        .rmailctl_with(
            &["user", "add", carol, "--password-stdin"],
            "correct horse battery",
        )
        .succeeded();
    let mut client = Client::hello(system.address("smtp")).unwrap();
    client
        .deliver("dave@outside.test", carol, &message(9000))
        .unwrap();
    client
        .deliver("dave@outside.test", ALICE, &message(9000))
        .unwrap();
    let error = client
        .deliver("dave@outside.test", carol, &message(14_000))
        .unwrap_err();
    assert!(error.to_string().contains(" 4.2.2 "), "{error}");
    let script = r#"
client = imap()
answer = refused(client.append("INBOX", None, None, b"Subject: x\r\n\r\n" + b"y" * 14000 + b"\r\n"))
assert "OVERQUOTA" in answer, answer
client.select("INBOX")
# The domain's third message still fits, a fourth does not, and moving needs no room.
ok(client.append("INBOX", None, None, b"Subject: x\r\n\r\nsmall\r\n"))
ok(client.copy("2", "Archive"))
answer = refused(client.copy("2", "Archive"))
assert "OVERQUOTA" in answer, answer
result, data = client.uid("MOVE", "1:*", "Archive")
assert result == "OK", data
client.select("Archive")
ok(client.store("1:*", "+FLAGS", "\\Deleted"))
ok(client.expunge())
"#;
    system.python(script, &json!({}));
    let domain = row(
        &system,
        &["domain", "list", "--json"],
        "domain",
        "example.test",
    );
    assert_eq!(
        (
            &domain["tenant"],
            &domain["messages"],
            &domain["max_messages"]
        ),
        (&json!("acme"), &json!(0), &json!(3))
    );
    let tenant = row(&system, &["tenant", "list", "--json"], "tenant", "acme");
    assert_eq!(
        (&tenant["domains"], &tenant["messages"], &tenant["quota"]),
        (&json!(2), &json!(1), &json!(30 * 1024))
    );
    // What was expunged is room for others of the tenant.
    client
        .deliver("dave@outside.test", carol, &message(14_000))
        .unwrap();
    let refused = system.rmailctl(&["tenant", "remove", "acme"]);
    assert_ne!(refused.code(), 0);
    for command in [
        &["tenant", "quota", "acme", "--quota", "1"][..],
        &["domain", "assign", "other.test"],
        &["domain", "assign", "example.test"],
        &["tenant", "remove", "acme"],
    ] {
        system.rmailctl(command).succeeded();
    }
    client
        .deliver("dave@outside.test", carol, &message(9000))
        .unwrap();
}

#[test]
fn a_client_sees_what_its_user_stores_and_nothing_of_the_tenant() {
    skip_without!("python3");
    let system = System::start(Options::alice().user(BOB));
    for command in [
        &["tenant", "add", "acme", "--max-messages", "77"][..],
        &["domain", "assign", "example.test", "acme"],
        &["user", "quota", ALICE, "--quota", "20K"],
    ] {
        system.rmailctl(command).succeeded();
    }
    let mut client = Client::hello(system.address("smtp")).unwrap();
    client
        .deliver("dave@outside.test", ALICE, &message(3000))
        .unwrap();
    client
        .deliver("dave@outside.test", BOB, &message(3000))
        .unwrap();
    let script = r#"
client = imap()
capabilities = ok(client.capability())[0].decode().split()
assert "QUOTA" in capabilities and "QUOTASET" not in capabilities, capabilities
result, data = client.getquotaroot("INBOX")
assert result == "OK", data
roots, quotas = data
assert roots == [b'INBOX ""'], roots
assert quotas == [b'"" (STORAGE 4 20 MAILBOX 6 10000)'], quotas
answer = refused(client.setquota('""', "(STORAGE 1)"))
assert "NOPERM" in answer, answer
answer = refused(client.append("INBOX", None, None, b"Subject: x\r\n\r\n" + b"y" * 20000 + b"\r\n"))
assert "OVERQUOTA" in answer, answer
client.select("INBOX")
ok(client.store("1", "+FLAGS", "\\Deleted"))
size = int(client.fetch("1", "(RFC822.SIZE)")[1][0].split()[-1].rstrip(b")"))
result, data = client.status("INBOX", "(DELETED DELETED-STORAGE)")
assert data == [b"INBOX (DELETED 1 DELETED-STORAGE %d)" % size], (data, size)
ok(client.expunge())
result, data = client.getquota('""')
assert data == [b'"" (STORAGE 0 20 MAILBOX 6 10000)'], data
"#;
    system.python(script, &json!({}));
}
