//! Under which sender mail goes out that smtpd passes on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use world::World;

const MESSAGE: &str = "From: x@example.com\r\n\r\ntext\r\n.";

#[tokio::test]
async fn only_what_an_alias_passes_on_for_a_stranger_gets_another_sender() {
    let mut world = World::new();
    let mut client = world.visit().await;
    for (sender, recipient, expected) in [
        (
            "a@far.example",
            "away@example.org",
            "SRS0=a=far.example@example.org",
        ),
        ("", "away@example.org", ""),
        ("a@far.example", "x@backed.example", "a@far.example"),
    ] {
        client.begin(sender, &[recipient]).await;
        client.ask(MESSAGE, "250").await;
        let queued = world.queue.kept();
        assert_eq!(
            queued.last().unwrap().reverse_path(),
            expected,
            "{recipient}"
        );
    }
    // What stays here keeps its own.
    client.begin("a@far.example", &["list@example.org"]).await;
    client.ask(MESSAGE, "250").await;
    let kept = world.store.kept();
    assert!(
        kept[0]
            .text()
            .starts_with("Return-Path: <a@far.example>\r\n")
    );
}

#[tokio::test]
async fn copies_under_two_senders_are_two_messages() {
    let mut world = World::new();
    let mut client = world.visit().await;
    for pair in [
        ["x@backed.example", "away@example.org"],
        ["away@example.org", "x@backed.example"],
    ] {
        client.ask("MAIL FROM:<a@far.example>", "250").await;
        client.ask(&format!("RCPT TO:<{}>", pair[0]), "250").await;
        let refused = format!("452 4.5.3 <{}>: send this", pair[1]);
        client
            .ask(&format!("RCPT TO:<{}>", pair[1]), &refused)
            .await;
        client.ask("RCPT TO:<x@far.example>", "550 5.7.1").await;
        client.ask("RCPT TO:<bob@example.org>", "250").await;
        client.ask(&format!("RCPT TO:<{}>", pair[0]), "250").await;
        client.ask("RSET", "250").await;
    }
    client.ask("MAIL FROM:<>", "250").await;
    client.ask("RCPT TO:<x@backed.example>", "250").await;
    client.ask("RCPT TO:<away@example.org>", "250").await;
}
