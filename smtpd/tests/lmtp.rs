//! LMTP: who may bring mail without a login, and a reply for each recipient.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use daemon::config::Network;
use daemon::port::Begins;
use ipc::Refusal;
use smtp::server::Role;
use tokio::net::TcpStream;
use world::{Client, World};

const TEXT: &str = "Subject: x\r\n\r\ntext\r\n.\r\n";

fn network(text: &str) -> Network {
    Network::try_from(text.to_string()).unwrap()
}

#[tokio::test]
async fn a_program_of_this_machine_brings_mail_over_a_unix_socket() {
    let mut world = World::new();
    let mut client = world.visit_locally().await;
    let offer = client.ask("LHLO client.example", "250").await;
    assert!(!offer.contains("AUTH"), "{offer}");
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client.ask("RCPT TO:<bob@example.org>", "250").await;
    client.ask("RCPT TO:<who@example.org>", "550 5.1.1").await;
    client.ask("RCPT TO:<x@far.example>", "550 5.7.1").await;
    client.ask("RCPT TO:<alice@example.org>", "250").await;
    client.ask("DATA", "354").await;
    client.send(TEXT).await;
    client
        .expect("250 2.1.5 <bob@example.org> accepted as ")
        .await;
    client
        .expect("250 2.1.5 <alice@example.org> accepted as ")
        .await;
    let kept = world.store.kept();
    assert_eq!(kept[0].recipients, ["alice@example.org", "bob@example.org"]);
    let text = kept[0].text();
    assert!(
        text.starts_with("Return-Path: <a@example.com>\r\n"),
        "{text}"
    );
    assert!(text.contains(" with LMTP id "), "{text}");
    client.ask("QUIT", "221").await;
}

#[tokio::test]
async fn over_tcp_only_those_who_are_listed_may_bring_mail() {
    let mut world = World::new();
    world.clients = Some(vec![network("192.0.2.0/24"), network("::1")]);
    let address = world.listen(Role::Delivery, Begins::Clear).await;
    let mut stranger = Client::new(TcpStream::connect(address).await.unwrap());
    stranger
        .expect("554 5.7.1 mx.example.org does not take mail from your address here")
        .await;
    assert_eq!(stranger.hear().await, "");
    world.clients = Some(vec![network("192.0.2.0/24"), network("127.0.0.0/8")]);
    let address = world.listen(Role::Delivery, Begins::Clear).await;
    let mut client = world.connect(address).await;
    client.ask("LHLO x", "250").await;
    client.begin("a@example.com", &["bob@example.org"]).await;
    client.send(TEXT).await;
    client.expect("250 2.1.5").await;
}

#[tokio::test]
async fn who_is_behind_a_proxy_is_looked_up_in_the_list_and_not_the_proxy() {
    let mut world = World::new();
    world.proxies = vec![network("127.0.0.1")];
    world.clients = Some(vec![network("127.0.0.0/8")]);
    let address = world.listen(Role::Delivery, Begins::Clear).await;
    for (client, greeting) in [("192.0.2.7", "554 5.7.1"), ("127.0.0.9", "220 ")] {
        let mut visitor = Client::new(TcpStream::connect(address).await.unwrap());
        let header = format!("PROXY TCP4 {client} 127.0.0.1 50000 24\r\n");
        visitor.send(&header).await;
        visitor.expect(greeting).await;
    }
}

#[tokio::test]
async fn who_is_served_is_told_so_although_another_is_not() {
    let mut world = World::new();
    *world.queue.commit_refusal.lock().unwrap() = Some(Refusal::StorageFault);
    let mut client = world.visit_locally().await;
    client.ask("LHLO x", "250").await;
    let recipients = ["away@example.org", "bob@example.org", "list@example.org"];
    client.begin("a@example.com", &recipients).await;
    client.send(TEXT).await;
    client.expect("451 4.3.0").await;
    client.expect("250 2.1.5 <bob@example.org>").await;
    client.expect("451 4.3.0").await;
    assert_eq!(world.store.kept().len(), 1);
    assert!(world.queue.kept().is_empty());
}

#[tokio::test]
async fn each_is_told_its_own_reason_when_deliverd_refuses_all() {
    let mut world = World::new();
    *world.store.commit_refusal.lock().unwrap() = Some(Refusal::OverQuota);
    let mut client = world.visit_locally().await;
    client.ask("LHLO x", "250").await;
    let recipients = ["bob@example.org", "filling@example.org", "list@example.org"];
    client.begin("a@example.com", &recipients).await;
    client.send(TEXT).await;
    client
        .expect("451 4.3.0 <bob@example.org>: not delivered because of another recipient")
        .await;
    client
        .expect("452 4.2.2 <filling@example.org>: mailbox full")
        .await;
    client.expect("451 4.3.0 <list@example.org>").await;
    assert!(world.store.kept().is_empty());
    world.queue.sees_aborts(1).await;
    // Where it is nobody's own fault, all are told the same.
    *world.store.commit_refusal.lock().unwrap() = Some(Refusal::DiskFull);
    client
        .begin("a@example.com", &["bob@example.org", "alice@example.org"])
        .await;
    client.send(TEXT).await;
    client.expect("452 4.3.1").await;
    client.expect("452 4.3.1").await;
    client.ask("NOOP", "250").await;
}

#[tokio::test]
async fn a_message_in_chunks_has_a_reply_for_each_recipient() {
    let mut world = World::new();
    let mut client = world.visit_locally().await;
    client.ask("LHLO x", "250").await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client.ask("RCPT TO:<bob@example.org>", "250").await;
    client.ask("RCPT TO:<alice@example.org>", "250").await;
    client.send("BDAT 12\r\nSubject: x\r\n").await;
    client.expect("250 2.0.0 12 octets taken").await;
    client.send("BDAT 6 LAST\r\n\r\n.\r\nx").await;
    client.expect("250 2.1.5 <bob@example.org>").await;
    client.expect("250 2.1.5 <alice@example.org>").await;
    let text = world.store.kept()[0].text();
    assert!(text.ends_with("\r\nSubject: x\r\n\r\n.\r\nx\r\n"), "{text}");
}
