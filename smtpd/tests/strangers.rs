//! Clients behind proxies, clients that dawdle, and clients that are none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use std::sync::Arc;
use std::time::Duration;

use daemon::config::Network;
use daemon::port::Begins;
use smtp::server::Role;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use world::{Client, World};

fn network(text: &str) -> Network {
    Network::try_from(text.to_string()).unwrap()
}

const HEADER: &str = "PROXY TCP4 192.0.2.7 127.0.0.1 50000 25\r\n";

#[tokio::test]
async fn the_trace_names_the_client_and_not_its_proxy() {
    let mut world = World::new();
    world.proxies = vec![network("127.0.0.0/8")];
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    client.send(HEADER).await;
    client.expect("220 mx.example.org ESMTP").await;
    client.ask("EHLO client.example", "250").await;
    client.begin("a@example.com", &["bob@example.org"]).await;
    client.ask("From: a@example.com\r\n\r\n.", "250").await;
    let text = world.store.kept()[0].text();
    assert!(
        text.contains("Received: from client.example ([192.0.2.7])\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn the_header_comes_before_the_handshake() {
    let mut world = World::new();
    world.proxies = vec![network("127.0.0.1")];
    let address = world.listen(Role::Submission, Begins::Tls).await;
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    client.send(HEADER).await;
    let mut client = world.secure(client.into_inner()).await;
    client.expect("220 mx.example.org ESMTP").await;
    client.ask("EHLO client.example", "250").await;
}

#[tokio::test]
async fn the_header_of_anybody_else_is_no_command() {
    let mut world = World::new();
    world.proxies = vec![network("192.0.2.0/24")];
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let mut client = world.connect(address).await;
    client.ask(HEADER.trim_end(), "500 5.5.1").await;
    client.ask("EHLO client.example", "250").await;
    client.begin("a@example.com", &["bob@example.org"]).await;
    client.ask("x\r\n.", "250").await;
    let text = world.store.kept()[0].text();
    assert!(text.contains(" ([127.0.0.1])\r\n"), "{text}");
    let mut client = world.connect(address).await;
    client.send("\r\n\r\n\0\r\nQUIT\n").await;
    client.expect("500 5.5.1").await;
}

#[tokio::test]
async fn a_proxy_that_does_not_say_for_whom_it_speaks_hears_nothing() {
    let mut world = World::new();
    world.proxies = vec![network("127.0.0.1")];
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    client.send("EHLO client.example\r\n").await;
    assert_eq!(client.hear().await, "");
}

#[tokio::test]
async fn a_transaction_has_an_end_however_busy_its_client_seems() {
    let mut world = World::new();
    world.transaction_timeout = Duration::from_secs(1);
    let mut client = world.visit().await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    let mut reply = String::new();
    for _ in 0..95 {
        client.send("NOOP\r\n").await;
        reply = client.hear().await;
        if !reply.starts_with("250") {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(reply.starts_with("421 4.4.2"), "{reply}");
    // Between transactions there is no such end.
    let mut client = world.visit().await;
    for _ in 0..60 {
        client.ask("NOOP", "250").await;
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_text_that_arrives_in_drops_has_an_end() {
    let mut world = World::new();
    world.transaction_timeout = Duration::from_secs(1);
    let mut client = world.visit().await;
    // So large that deliverd has it open from the start.
    client
        .ask("MAIL FROM:<a@example.com> SIZE=100000", "250")
        .await;
    client.ask("RCPT TO:<bob@example.org>", "250").await;
    client.ask("DATA", "354").await;
    client.send("Subject: x\r\n").await;
    client.expect("421 4.4.2").await;
    assert_eq!(client.hear().await, "");
    world.store.sees_aborts(1).await;
}

#[tokio::test]
async fn a_browser_is_sent_away_behind_tls_too() {
    let mut world = World::new();
    let address = world.listen(Role::Submission, Begins::Tls).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let mut client = world.secure_as(stream, &[b"h2", b"http/1.1"]).await;
    client.expect("220").await;
    client
        .send("GET / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\n")
        .await;
    client.expect("421 4.7.0").await;
    assert_eq!(client.hear().await, "");
}

#[tokio::test]
async fn who_sends_on_and_on_after_the_last_reply_is_not_listened_to() {
    const MANY: usize = 64 << 20;
    let mut world = World::new();
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let piece = vec![b'x'; 1 << 16];
    let mut sent = 0;
    while sent < MANY && stream.write_all(&piece).await.is_ok() {
        sent += piece.len();
    }
    assert!(sent < MANY, "the server took all of it");
}

#[tokio::test]
async fn any_name_gets_the_one_certificate() {
    let mut world = World::new();
    let address = world.listen(Role::Submission, Begins::Tls).await;
    let connector = TlsConnector::from(Arc::new(world.client_config()));
    for number in 0..20 {
        let name = ServerName::try_from(format!("{number}.{}.example", "x".repeat(60))).unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        // The client is shown a certificate that it trusts, but not for that name.
        let refused = connector.connect(name, stream).await.unwrap_err();
        assert!(
            refused.to_string().contains("not valid for name"),
            "{refused}"
        );
    }
    let stream = TcpStream::connect(address).await.unwrap();
    world.secure(stream).await.expect("220").await;
}
