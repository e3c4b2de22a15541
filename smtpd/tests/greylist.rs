//! Mail of strangers is put off once, and no other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use daemon::config::{Network, Xclient};
use daemon::port::Begins;
use smtp::server::Role;
use tokio::net::TcpStream;
use world::{Client, World};

fn loopback() -> Vec<Network> {
    vec![Network::try_from("127.0.0.1".to_string()).unwrap()]
}

/// A connection to a port that believes the PROXY protocol.
async fn from(world: &mut World, role: Role, client: &str) -> Client<TcpStream> {
    world.proxies = loopback();
    let address = world.listen(role, Begins::Clear).await;
    let (family, server) = match client.contains(':') {
        true => ("TCP6", "::1"),
        false => ("TCP4", "127.0.0.1"),
    };
    let mut connection = Client::new(TcpStream::connect(address).await.unwrap());
    let header = format!("PROXY {family} {client} {server} 50000 25\r\n");
    connection.send(&header).await;
    connection.expect("220").await;
    let hello = match role {
        Role::Delivery => "LHLO client.example",
        Role::Exchange | Role::Submission => "EHLO client.example",
    };
    connection.ask(hello, "250").await;
    connection
}

#[tokio::test]
async fn only_recipients_that_there_are_are_put_off_and_only_once() {
    let mut world = World::greylisting();
    for (client, start) in [("192.0.2.1", "450 4.7.1"), ("192.0.2.200", "250")] {
        let mut connection = from(&mut world, Role::Exchange, client).await;
        connection.ask("MAIL FROM:<A@example.com>", "250").await;
        let reply = connection.ask("RCPT TO:<bob@example.org>", start).await;
        assert!(
            start == "250" || reply.contains("try again in 7 seconds"),
            "{reply}"
        );
        let nobody = "RCPT TO:<nobody-here@example.org>";
        connection.ask(nobody, "550 5.1.1").await;
        connection.ask("RCPT TO:<a@far.example>", "550 5.7.1").await;
        connection.ask("RCPT TO:<postmaster>", "250").await;
        connection
            .ask("RCPT TO:<postmaster@example.org>", "250")
            .await;
        connection.ask("DATA", "354").await;
        connection
            .ask("From: a@example.com\r\n\r\nx\r\n.", "250")
            .await;
    }
    // Nothing is remembered of those that are refused anyhow.
    let greeted = world.queue.greeted.lock().unwrap().clone();
    assert_eq!(greeted.len(), 2);
    for triple in greeted {
        assert_eq!(triple.network, "192.0.2.0/24");
        assert_eq!(triple.sender, "a@example.com");
        assert_eq!(triple.recipient, "bob@example.org");
    }
    // Who was put off does not get the message that others get.
    let kept = world.store.kept();
    assert_eq!(kept[0].recipients, ["postmaster@example.org"]);
    assert_eq!(kept[1].recipients.len(), 2);
}

#[tokio::test]
async fn reports_and_mail_for_others_that_we_back_up_are_put_off_too() {
    let mut world = World::greylisting();
    let mut connection = from(&mut world, Role::Exchange, "2001:db8:1:2:3::4").await;
    connection.ask("MAIL FROM:<>", "250").await;
    for recipient in ["bob@example.org", "a@backed.example"] {
        let rcpt = format!("RCPT TO:<{recipient}>");
        connection.ask(&rcpt, "450 4.7.1").await;
        connection.ask(&rcpt, "250").await;
    }
    let greeted = world.queue.greeted.lock().unwrap();
    assert_eq!(greeted[0].network, "2001:db8:1:2::/64");
    assert_eq!(greeted[0].sender, "");
}

#[tokio::test]
async fn the_exempt_those_who_logged_in_and_other_ports_are_not_put_off() {
    let mut world = World::greylisting();
    let mut exempt = world.visit().await;
    let mut local = from(&mut world, Role::Delivery, "192.0.2.2").await;
    for client in [&mut exempt, &mut local] {
        client.ask("MAIL FROM:<a@example.com>", "250").await;
        client.ask("RCPT TO:<bob@example.org>", "250").await;
    }
    world.proxies = Vec::new();
    world.xclient = Xclient {
        clients: Vec::new(),
        login_clients: loopback(),
    };
    let address = world.listen(Role::Submission, Begins::Clear).await;
    let mut client = world.connect(address).await;
    let known = "XCLIENT ADDR=192.0.2.1 LOGIN=alice@example.org";
    client.ask(known, "220").await;
    client.ask("EHLO client.example", "250").await;
    client.ask("MAIL FROM:<alice@example.org>", "250").await;
    client.ask("RCPT TO:<bob@example.org>", "250").await;
    assert!(world.queue.greeted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_relayd_mail_is_taken() {
    let mut world = World::greylisting();
    let mut connection = from(&mut world, Role::Exchange, "192.0.2.1").await;
    world.kill_relayd().await;
    connection.ask("MAIL FROM:<a@example.com>", "250").await;
    connection.ask("RCPT TO:<bob@example.org>", "250").await;
}
