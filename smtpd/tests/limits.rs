//! Clients that do too much, and others who do not notice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use daemon::config::Network;
use daemon::port::Begins;
use smtp::server::{Config, Role};
use tokio::net::TcpStream;
use world::{Client, World};

fn network(text: &str) -> Network {
    Network::try_from(text.to_string()).unwrap()
}

/// A world whose clients say through a proxy who they are.
fn world(limits: &str) -> World {
    let mut world = World::guarded(limits);
    world.proxies = vec![network("127.0.0.1")];
    world
}

async fn open(address: SocketAddr, client: &str) -> Client<TcpStream> {
    let mut connection = Client::new(TcpStream::connect(address).await.unwrap());
    let (family, here) = match client.contains(':') {
        true => ("TCP6", "::1"),
        false => ("TCP4", "127.0.0.1"),
    };
    let header = format!("PROXY {family} {client} {here} 50000 25\r\n");
    connection.send(&header).await;
    connection
}

async fn greeted(address: SocketAddr, client: &str) -> Client<TcpStream> {
    let mut connection = open(address, client).await;
    connection.expect("220").await;
    connection
}

async fn sent_away(address: SocketAddr, client: &str) {
    let mut connection = open(address, client).await;
    connection
        .expect("421 4.7.0 mx.example.org too many connections")
        .await;
    assert_eq!(connection.hear().await, "");
}

/// One that says EHLO and sends bob a message.
async fn sends_mail(world: &World, address: SocketAddr, client: &str) {
    let before = world.store.kept().len();
    let mut connection = greeted(address, client).await;
    connection.ask("EHLO client.example", "250").await;
    connection
        .begin("a@example.com", &["bob@example.org"])
        .await;
    connection
        .ask("From: a@example.com\r\n\r\nx\r\n.", "250")
        .await;
    connection.ask("QUIT", "221").await;
    assert_eq!(world.store.kept().len(), before + 1);
}

#[tokio::test]
async fn an_address_has_only_so_many_connections_at_once() {
    let mut world = world("{}");
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let mut first = greeted(address, "192.0.2.1").await;
    let _second = greeted(address, "192.0.2.1").await;
    sent_away(address, "192.0.2.1").await;
    sends_mail(&world, address, "192.0.2.2").await;
    first.ask("QUIT", "221").await;
    assert_eq!(first.hear().await, "");
    drop(first);
    // Its task notices that its client left.
    for _ in 0..100 {
        let reply = open(address, "192.0.2.1").await.hear().await;
        if reply.starts_with("220") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no room was made");
}

#[tokio::test]
async fn a_flood_from_one_network_leaves_the_others_their_service() {
    let mut world = world(r#"{"connections": 5, "network_factor": 4, "block_factor": 0}"#);
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let mut served = 0;
    for subnet in 0..60 {
        let mut flood = open(address, &format!("2001:db8:1:{subnet:x}::1")).await;
        served += usize::from(flood.hear().await.starts_with("220"));
        drop(flood);
    }
    // No more than two at once, and no more than twenty in all.
    assert!((8..=20).contains(&served), "{served}");
    sends_mail(&world, address, "2001:db8:2::1").await;
    sends_mail(&world, address, "192.0.2.1").await;
}

#[tokio::test]
async fn an_address_begins_only_so_many_connections_within_the_window() {
    let mut world = world(r#"{"connections": 3}"#);
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    for _ in 0..3 {
        sends_mail(&world, address, "192.0.2.1").await;
        // Two at once are allowed, and the last one's task has perhaps not noticed yet.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sent_away(address, "192.0.2.1").await;
    sends_mail(&world, address, "192.0.2.2").await;
}

#[tokio::test]
async fn the_command_too_many_is_the_last_one() {
    let mut world = world(r#"{"commands": 4}"#);
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let mut client = greeted(address, "192.0.2.1").await;
    for _ in 0..4 {
        client.ask("NOOP", "250").await;
    }
    client.ask("NOOP", "421 4.7.0 too many commands").await;
    assert_eq!(client.hear().await, "");
    // It counts for the next connection, too, and for nobody else.
    let mut client = greeted(address, "192.0.2.1").await;
    client.ask("NOOP", "421 4.7.0").await;
    let mut client = greeted(address, "192.0.2.2").await;
    client.ask("NOOP", "250").await;
}

#[tokio::test]
async fn the_lines_of_a_message_are_no_commands() {
    let mut world = world(r#"{"commands": 4}"#);
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let mut client = greeted(address, "192.0.2.1").await;
    client.ask("EHLO client.example", "250").await;
    client.begin("a@example.com", &["bob@example.org"]).await;
    client.send("From: a@example.com\r\n").await;
    client.send("\r\nx\r\ny\r\n").await;
    client.ask("z\r\n.", "250").await;
    client.ask("NOOP", "421 4.7.0").await;
    assert_eq!(world.store.kept().len(), 1);
}

#[tokio::test]
async fn recipients_beyond_the_rate_are_put_off() {
    let mut world = world(r#"{"recipients": 2}"#);
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let mut client = greeted(address, "192.0.2.1").await;
    client.ask("EHLO client.example", "250").await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client.ask("RCPT TO:<bob@example.org>", "250").await;
    client.ask("RCPT TO:<alice@example.org>", "250").await;
    client
        .ask(
            "RCPT TO:<postmaster@example.org>",
            "450 4.7.1 too many recipients",
        )
        .await;
    // What was granted goes on.
    client.ask("DATA", "354").await;
    client.ask("From: a@example.com\r\n\r\nx\r\n.", "250").await;
    sends_mail(&world, address, "192.0.2.2").await;
}

#[tokio::test]
async fn who_guesses_addresses_is_put_off_and_learns_no_more() {
    let mut world = world(r#"{"refused_recipients": 2}"#);
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let mut client = greeted(address, "192.0.2.1").await;
    client.ask("EHLO client.example", "250").await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    // A full mailbox is not guessed.
    client.ask("RCPT TO:<full@example.org>", "452").await;
    client.ask("RCPT TO:<x1@example.org>", "550").await;
    client.ask("RCPT TO:<bob@example.org>", "250").await;
    client.ask("RCPT TO:<x2@example.org>", "550").await;
    for recipient in ["x3@example.org", "alice@example.org"] {
        client
            .ask(&format!("RCPT TO:<{recipient}>"), "450 4.7.1")
            .await;
    }
    sends_mail(&world, address, "192.0.2.2").await;
}

#[tokio::test]
async fn an_account_has_only_so_many_connections_at_once() {
    let mut world = World::guarded(r#"{"connections_per_account": 1}"#);
    let address = world.listen(Role::Submission, Begins::Tls).await;
    // alice@example.org, wonderland
    const LOGIN: &str = "AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHdvbmRlcmxhbmQ=";
    let log_in = async |start: &str| {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut client = world.secure(stream).await;
        client.expect("220").await;
        client.ask("EHLO client.example", "250").await;
        client.ask(LOGIN, start).await;
        client
    };
    let mut first = log_in("235").await;
    log_in("454 4.7.0 too many connections of this account").await;
    first.ask("QUIT", "221").await;
    drop(first);
    tokio::time::sleep(Duration::from_millis(200)).await;
    log_in("235").await;
}

#[tokio::test]
async fn who_talks_before_the_greeting_is_refused() {
    let mut world = world("{}");
    world.greeting_delay = Duration::from_millis(300);
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let mut hasty = open(address, "192.0.2.1").await;
    hasty
        .send("EHLO client.example\r\nMAIL FROM:<a@example.com>\r\n")
        .await;
    hasty
        .expect("521 5.5.1 you spoke before you were greeted")
        .await;
    assert_eq!(hasty.hear().await, "");
    sends_mail(&world, address, "192.0.2.1").await;
}

#[tokio::test]
async fn a_client_that_only_makes_work_waits_for_its_replies_and_others_do_not() {
    let mut world = world("{}");
    world.offer = Some(Config {
        undelayed_errors: 2,
        error_delay: Duration::from_secs(3600),
        ..Config::new(world.house.hostname.clone(), Role::Exchange)
    });
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let mut idle = greeted(address, "192.0.2.1").await;
    idle.send("NOOP\r\nRSET\r\nNOOP\r\n").await;
    // Those before are not kept back with it.
    idle.expect("250").await;
    idle.expect("250").await;
    sends_mail(&world, address, "192.0.2.1").await;
    // No limit applies to this one.
    let mut exempt = greeted(address, "127.0.0.1").await;
    for _ in 0..10 {
        exempt.ask("NOOP", "250").await;
    }
    let silence = tokio::time::timeout(Duration::from_millis(50), idle.hear());
    assert!(silence.await.is_err());
    // It does not hold up the daemon's end.
    world.stop_smtpd();
    idle.expect("250").await;
    idle.expect("421 4.3.2").await;
    assert_eq!(idle.hear().await, "");
}

#[tokio::test]
async fn the_exempt_may_talk_at_once() {
    let mut world = world(r#"{"exempt": ["192.0.2.0/24"]}"#);
    world.greeting_delay = Duration::from_secs(3600);
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let mut known = open(address, "192.0.2.1").await;
    known.send("EHLO client.example\r\n").await;
    known.expect("220").await;
    known.expect("250").await;
}
