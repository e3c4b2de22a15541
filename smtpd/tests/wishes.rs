//! What a sender wants to be told (RFC 3461), from the command to the order that relayd gets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use daemon::port::Begins;
use ipc::Refusal;
use ipc::queue::{Recipient, Standing};
use smtp::server::Role;
use world::World;

const MESSAGE: &str = "Subject: x\r\n\r\ntext\r\n.";

fn recipient(address: &str, parameters: &str, standing: Standing) -> Recipient {
    Recipient {
        address: address.into(),
        parameters: parameters.into(),
        standing,
    }
}

#[tokio::test]
async fn wishes_reach_relayd_with_those_for_whom_they_are() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client
        .ask("MAIL FROM:<a@example.com> RET=FULL ENVID=q+2B1", "250")
        .await;
    for rcpt in [
        "RCPT TO:<list@example.org> NOTIFY=SUCCESS,FAILURE",
        "RCPT TO:<bob@example.org> NOTIFY=SUCCESS ORCPT=rfc822;Bob@example.org",
        "RCPT TO:<alice@example.org> NOTIFY=FAILURE",
    ] {
        client.ask(rcpt, "250").await;
    }
    client.ask("DATA", "354").await;
    client.ask(MESSAGE, "250").await;
    let kept = world.queue.kept();
    assert_eq!(kept.len(), 1);
    let envelope = kept[0].envelope.as_ref().unwrap();
    assert_eq!(envelope.parameters, "RET=FULL ENVID=q+2B1");
    assert_eq!(
        kept[0].queued,
        [
            recipient(
                "carol@far.example",
                "NOTIFY=FAILURE ORCPT=rfc822;list@example.org",
                Standing::Waiting
            ),
            recipient(
                "list@example.org",
                "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;list@example.org",
                Standing::Expanded
            ),
            recipient(
                "bob@example.org",
                "NOTIFY=SUCCESS ORCPT=rfc822;Bob@example.org",
                Standing::Delivered
            ),
        ]
    );
}

#[tokio::test]
async fn of_mail_for_users_here_alone_relayd_gets_the_beginning_only() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client
        .ask("RCPT TO:<bob@example.org> NOTIFY=SUCCESS", "250")
        .await;
    client.ask("DATA", "354").await;
    let long = format!("Subject: x\r\n\r\n{}.", "line of text\r\n".repeat(10_000));
    client.ask(&long, "250").await;
    let (delivered, told) = (world.store.kept(), world.queue.kept());
    assert!(delivered[0].bytes.len() > 120_000);
    assert_eq!(told[0].bytes.len(), 32 * 1024);
    let path = b"Return-Path: <a@example.com>\r\n";
    assert!(delivered[0].bytes[path.len()..].starts_with(&told[0].bytes));
    assert_eq!(told[0].queued[0].standing, Standing::Delivered);
}

#[tokio::test]
async fn nobody_is_told_of_what_was_not_delivered_or_has_no_sender() {
    let mut world = World::new();
    let mut client = world.visit().await;
    for (sender, refusal, reply) in [
        ("", None, "250"),
        ("a@example.com", Some(Refusal::OverQuota), "452"),
    ] {
        *world.store.commit_refusal.lock().unwrap() = refusal;
        client.ask(&format!("MAIL FROM:<{sender}>"), "250").await;
        client
            .ask("RCPT TO:<bob@example.org> NOTIFY=SUCCESS", "250")
            .await;
        client.ask("DATA", "354").await;
        client.ask(MESSAGE, reply).await;
    }
    assert_eq!(world.store.kept().len(), 1);
    assert!(world.queue.kept().is_empty());
}

#[tokio::test]
async fn mail_that_is_delivered_is_not_refused_for_want_of_a_report() {
    let mut world = World::new();
    *world.queue.open_refusal.lock().unwrap() = Some(Refusal::DiskFull);
    let mut client = world.visit().await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client
        .ask("RCPT TO:<bob@example.org> NOTIFY=SUCCESS", "250")
        .await;
    client.ask("DATA", "354").await;
    client.ask(MESSAGE, "250").await;
    assert_eq!(world.store.kept().len(), 1);
}

#[tokio::test]
async fn a_recipient_that_is_refused_is_not_told_of() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client
        .ask("RCPT TO:<sixty@example.org> NOTIFY=SUCCESS", "250")
        .await;
    client
        .ask("RCPT TO:<others@example.org> NOTIFY=SUCCESS", "452")
        .await;
    client.ask("DATA", "354").await;
    client.ask(MESSAGE, "250").await;
    let kept = world.queue.kept();
    let told = kept[0].queued.iter();
    let told: Vec<_> = told
        .filter(|one| one.standing != Standing::Waiting)
        .collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].address, "sixty@example.org");
}

#[tokio::test]
async fn mail_that_is_held_waits_in_the_queue_for_users_here_too() {
    let mut world = World::new();
    let address = world.listen(Role::Submission, Begins::Clear).await;
    let mut client = world.connect(address).await;
    client.ask("STARTTLS", "220").await;
    let mut client = world.secure(client.into_inner()).await;
    let offer = client.ask("EHLO client.example", "250").await;
    let limit = offer.split_once("FUTURERELEASE 600 ").unwrap().1;
    // The moment lies before us; it is not 1970 any more.
    assert!(limit.starts_with("2"), "{offer}");
    client
        .ask("AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHdvbmRlcmxhbmQ=", "235")
        .await;
    client
        .ask("MAIL FROM:<alice@example.org> HOLDFOR=601", "501 5.5.4")
        .await;
    client
        .ask("MAIL FROM:<alice@example.org> HOLDFOR=600", "250")
        .await;
    client
        .ask("RCPT TO:<bob@example.org> NOTIFY=SUCCESS", "250")
        .await;
    client.ask("RCPT TO:<x@far.example>", "250").await;
    client.ask("DATA", "354").await;
    client
        .ask(&format!("From: alice@example.org\r\n{MESSAGE}"), "250")
        .await;
    assert!(world.store.kept().is_empty());
    world.store.sees_nothing_held().await;
    let kept = world.queue.kept();
    assert_eq!(kept[0].envelope.as_ref().unwrap().parameters, "HOLDFOR=600");
    assert!(!kept[0].text().contains("Return-Path"));
    let parameters = "NOTIFY=SUCCESS ORCPT=rfc822;bob@example.org";
    assert_eq!(
        kept[0].queued,
        [
            recipient("x@far.example", "", Standing::Waiting),
            recipient("bob@example.org", parameters, Standing::Here),
        ]
    );
}
