//! Logins in several messages are carried to deliverd and back, and what nobody goes on with is forgotten there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use daemon::port::Begins;
use smtp::auth::Mechanism;
use smtp::server::{Config, Role};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use world::{Client, World};

/// "hello" and "yes".
const HELLO: &str = "aGVsbG8=";
const YES: &str = "eWVz";

/// A client of port 465 that has said EHLO, and what it heard.
async fn visit(world: &mut World) -> (Client<TlsStream<TcpStream>>, String) {
    let address = world.listen(Role::Submission, Begins::Tls).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let mut client = world.secure(stream).await;
    client.expect("220 mx.example.org").await;
    let offer = client.ask("EHLO client.example", "250").await;
    (client, offer)
}

#[tokio::test]
async fn a_login_in_three_messages_lets_a_client_send() {
    let mut world = World::new();
    let (mut client, offer) = visit(&mut world).await;
    let mechanisms = "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 OAUTHBEARER XOAUTH2 PLAIN LOGIN";
    assert!(offer.contains(mechanisms), "{offer}");
    client
        .ask(&format!("AUTH SCRAM-SHA-256 {HELLO}"), "334 ")
        .await;
    client.ask(YES, "235 2.7.0").await;
    client
        .begin("alice@example.org", &["dave@far.example"])
        .await;
    client
        .ask("From: alice@example.org\r\n\r\nx\r\n.", "250")
        .await;
    assert_eq!(world.queue.kept().len(), 1);
    world.store.sees_no_login().await;
}

#[tokio::test]
async fn both_sides_bind_a_login_to_the_same_tls_session() {
    let mut world = World::new();
    let (mut client, _) = visit(&mut world).await;
    // The deliverd of this world says back what it was told.
    let said = client
        .ask(&format!("AUTH SCRAM-SHA-256-PLUS {HELLO}"), "334 ")
        .await;
    let stream = client.into_inner();
    let ours = stream
        .get_ref()
        .1
        .export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[]))
        .unwrap();
    assert_eq!(
        said.trim_end(),
        format!("334 {}", mail::encode::base64(&ours))
    );
}

#[tokio::test]
async fn without_tls_there_is_nothing_to_bind_to() {
    let mut world = World::new();
    let address = world.listen(Role::Submission, Begins::Clear).await;
    let mut client = world.connect(address).await;
    let offer = client.ask("EHLO client.example", "250").await;
    assert!(!offer.contains("AUTH"), "{offer}");
    client.ask("STARTTLS", "220").await;
    let mut client = world.secure(client.into_inner()).await;
    let offer = client.ask("EHLO client.example", "250").await;
    assert!(offer.contains("SCRAM-SHA-256-PLUS"), "{offer}");
}

#[tokio::test]
async fn where_no_binding_is_offered_there_is_nothing_to_bind_to() {
    let mut world = World::new();
    let scram = Mechanism::Exchange(sasl::Mechanism::ScramSha256);
    world.offer = Some(Config {
        starttls: true,
        mechanisms: vec![scram],
        ..Config::new(world.house.hostname.clone(), Role::Submission)
    });
    let address = world.listen(Role::Submission, Begins::Clear).await;
    let mut other = world.connect(address).await;
    other.ask("EHLO client.example", "250").await;
    other.ask("STARTTLS", "220").await;
    let mut other = world.secure(other.into_inner()).await;
    other.ask("EHLO client.example", "250").await;
    let (client, offer) = visit(&mut world).await;
    assert!(
        offer.contains(" AUTH SCRAM-SHA-256\r\n") || offer.contains("-AUTH SCRAM-SHA-256\r\n"),
        "{offer}"
    );
    for mut client in [client, other] {
        // The deliverd of this world says back what it was told, which would be the binding.
        let said = client
            .ask(&format!("AUTH SCRAM-SHA-256 {HELLO}"), "334 ")
            .await;
        assert_eq!(said.trim_end(), format!("334 {HELLO}"));
        client.ask("*", "501").await;
        client.ask("AUTH PLAIN", "504 5.5.4").await;
    }
}

#[tokio::test]
async fn what_the_mechanism_does_not_allow_is_a_failed_login() {
    let mut world = World::new();
    let (mut client, _) = visit(&mut world).await;
    client
        .ask(&format!("AUTH SCRAM-SHA-256 {HELLO}"), "334 ")
        .await;
    client.ask("Z2FyYmxlZA==", "535 5.7.8 garbled").await;
    client.ask(&format!("AUTH XOAUTH2 {HELLO}"), "334 ").await;
    client.ask("AQ==", "535 5.7.8 wrong").await;
    world.store.sees_no_login().await;
}

#[tokio::test]
async fn many_aborted_logins_leave_nothing_behind() {
    let mut world = World::new();
    for abort in ["*", "not base64", "*\r\nQUIT", ""] {
        for _ in 0..10 {
            let (mut client, _) = visit(&mut world).await;
            for _ in 0..3 {
                client
                    .ask(&format!("AUTH SCRAM-SHA-256 {HELLO}"), "334 ")
                    .await;
                client.ask("*", "501").await;
            }
            client
                .ask(&format!("AUTH SCRAM-SHA-256 {HELLO}"), "334 ")
                .await;
            client.send(&format!("{abort}\r\n")).await;
            drop(client);
        }
    }
    world.store.sees_no_login().await;
}
