//! Lists in DNS of whose mail is wanted and whose is not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::config::{DnsList, DnsLists, Listed, Network, ReplyPattern, ReplyScore};
use daemon::port::Begins;
use ipc::dns::{Found, Kind, Record};
use smtp::server::Role;
use tokio::net::TcpStream;
use world::{Client, World};

fn list(zone: &str, score: i16) -> DnsList {
    DnsList {
        zone: zone.to_string().try_into().unwrap(),
        of: Listed::Address,
        score,
        replies: Vec::new(),
    }
}

fn reply(pattern: &str, score: i16) -> ReplyScore {
    let reply = ReplyPattern::try_from(pattern.to_string()).unwrap();
    ReplyScore { reply, score }
}

fn world(lists: Vec<DnsList>) -> World {
    let lists = DnsLists {
        lists,
        ..DnsLists::default()
    };
    let mut world = World::with_lists(&lists);
    world.proxies = vec![Network::try_from("127.0.0.1".to_string()).unwrap()];
    world
}

fn add(world: &World, name: &str, reply: &str) {
    let record = Record::A(reply.parse().unwrap());
    let key = (name.to_string(), Kind::A);
    world
        .queue
        .zone
        .lock()
        .unwrap()
        .insert(key, Found::Records(vec![record]));
}

/// What a client at this address is told who sends this to bob.
async fn told(address: SocketAddr, client: &str, sender: &str) -> String {
    let mut connection = Client::new(TcpStream::connect(address).await.unwrap());
    connection
        .send(&format!("PROXY TCP4 {client} 127.0.0.1 50000 25\r\n"))
        .await;
    connection.expect("220").await;
    connection.ask("EHLO client.example", "250").await;
    connection
        .ask(&format!("MAIL FROM:<{sender}>"), "250")
        .await;
    connection
        .ask("RCPT TO:<postmaster@example.org>", "250")
        .await;
    connection.send("RCPT TO:<bob@example.org>\r\n").await;
    connection.hear().await
}

const SENDER: &str = "a@example.com";

#[tokio::test]
async fn the_scores_of_all_lists_decide_together() {
    let weighted = DnsList {
        replies: vec![reply("127.0.0.4-7", 6), reply("127.0.0.10", 3)],
        ..list("b.example", 99)
    };
    let mut world = world(vec![list("a.example", 4), weighted, list("w.example", -5)]);
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    // 4 + 6 is enough; 4 + 3 is not, nor is a reply that nothing is said about, nor what a list of good senders takes away.
    for (last, replies, start) in [
        (
            1,
            &[("a", "127.0.0.2"), ("b", "127.0.0.5")][..],
            "550 5.7.1",
        ),
        (2, &[("a", "127.0.0.2"), ("b", "127.0.0.10")], "250"),
        (3, &[("a", "127.0.0.2"), ("b", "127.0.0.9")], "250"),
        (
            4,
            &[("a", "127.0.0.2"), ("b", "127.0.0.4"), ("w", "127.0.5.1")],
            "250",
        ),
        (5, &[], "250"),
    ] {
        for (zone, reply) in replies {
            add(&world, &format!("{last}.2.0.192.{zone}.example"), reply);
        }
        let said = told(address, &format!("192.0.2.{last}"), SENDER).await;
        assert!(said.starts_with(start), "{last}: {said}");
    }
    let said = told(address, "192.0.2.1", SENDER).await;
    assert!(said.contains("refused because of b.example"), "{said}");
}

#[tokio::test]
async fn what_is_no_reply_counts_for_nothing() {
    let mut world = world(vec![list("a.example", 10)]);
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    for (last, reply, start) in [
        (1, "127.0.0.2", "550"),
        (2, "192.0.2.1", "250"),
        (3, "127.255.255.254", "250"),
        (4, "128.0.0.2", "250"),
    ] {
        add(&world, &format!("{last}.2.0.192.a.example"), reply);
        let said = told(address, &format!("192.0.2.{last}"), SENDER).await;
        assert!(said.starts_with(start), "{reply}: {said}");
    }
}

#[tokio::test]
async fn the_domain_of_the_sender_is_looked_up_in_lists_of_domains() {
    let domains = DnsList {
        of: Listed::SenderDomain,
        ..list("d.example", 10)
    };
    let mut world = world(vec![domains]);
    add(&world, "bad.example.d.example", "127.0.0.2");
    add(&world, "1.2.0.192.d.example", "127.0.0.2");
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let bad = told(address, "192.0.2.1", "a@bad.example").await;
    assert!(bad.starts_with("550 5.7.1"), "{bad}");
    for sender in [SENDER, ""] {
        let good = told(address, "192.0.2.1", sender).await;
        assert!(good.starts_with("250"), "{good}");
    }
}

#[tokio::test]
async fn what_is_said_of_the_client_and_of_the_sender_counts_together() {
    let domains = |zone: &str, score| DnsList {
        of: Listed::SenderDomain,
        ..list(zone, score)
    };
    let (bad, good) = (domains("d.example", 10), domains("w.example", -5));
    let mut world = world(vec![list("a.example", 4), list("b.example", 5), bad, good]);
    add(&world, "1.2.0.192.a.example", "127.0.0.2");
    add(&world, "2.2.0.192.b.example", "127.0.0.2");
    for zone in ["d.example", "w.example"] {
        add(&world, &format!("mixed.example.{zone}"), "127.0.0.2");
    }
    // A list of addresses is not asked about domains.
    add(&world, "mixed.example.a.example", "127.0.0.2");
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    for (client, start) in [("192.0.2.1", "250"), ("192.0.2.2", "550 5.7.1")] {
        let said = told(address, client, "a@mixed.example").await;
        assert!(said.starts_with(start), "{client}: {said}");
    }
}

#[tokio::test]
async fn a_list_that_lists_everybody_is_ignored() {
    let mut world = world(vec![list("gone.example", 10)]);
    for last in [1, 2] {
        add(&world, &format!("{last}.0.0.127.gone.example"), "127.0.0.2");
    }
    add(&world, "1.2.0.192.gone.example", "127.0.0.2");
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let (_sender, stop) = daemon::stop::channel();
    let (lists, ask) = (&world.house.lists, &world.house.ask);
    tokio::spawn(Arc::clone(lists).keep_testing(Arc::clone(ask), stop));
    for _ in 0..100 {
        if told(address, "192.0.2.1", SENDER).await.starts_with("250") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it still counts");
}

#[tokio::test]
async fn without_an_answer_mail_is_taken_and_submission_never_asks() {
    let mut world = world(vec![list("a.example", 10)]);
    let key = ("1.2.0.192.a.example".to_string(), Kind::A);
    world.queue.zone.lock().unwrap().insert(key, Found::Fault);
    add(&world, "2.2.0.192.a.example", "127.0.0.2");
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let said = told(address, "192.0.2.1", SENDER).await;
    assert!(said.starts_with("250"), "{said}");
    let delivery = world.listen(Role::Delivery, Begins::Clear).await;
    let mut client = Client::new(TcpStream::connect(delivery).await.unwrap());
    client
        .send("PROXY TCP4 192.0.2.2 127.0.0.1 50000 24\r\n")
        .await;
    client.expect("220").await;
    client.ask("LHLO client.example", "250").await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client.ask("RCPT TO:<bob@example.org>", "250").await;
}

#[tokio::test]
async fn a_list_that_is_silent_is_not_waited_for_and_the_others_count() {
    let mut world = world(vec![list("slow.example", 9), list("a.example", 10)]);
    let silent = |last: u8| format!("{last}.2.0.192.slow.example");
    *world.queue.silence.lock().unwrap() = vec![silent(1), silent(2)];
    add(&world, "1.2.0.192.a.example", "127.0.0.2");
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let listed = told(address, "192.0.2.1", SENDER);
    let unlisted = told(address, "192.0.2.2", SENDER);
    let (listed, unlisted) = tokio::join!(listed, unlisted);
    assert!(listed.starts_with("550 5.7.1"), "{listed}");
    assert!(unlisted.starts_with("250"), "{unlisted}");
}
