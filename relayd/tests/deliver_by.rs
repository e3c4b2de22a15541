//! Mail that is of use until a certain time (RFC 2852): passed on with what is left of it, or back to its sender.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use loopback::free_port;
use world::deliverd::Deliverd;
use world::house::{House, envelope, wanting};
use world::{Hear, HearBody, Say, Step, scripted};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@[127.0.0.1]";
const BODY: &[u8] = b"Subject: soon\r\n\r\nhello\r\n";

/// Has a message brought to a server on `port`; returns alice's reports once the queue is empty.
async fn carry(port: u16, by: &str, of_rcpt: &str) -> String {
    let relay =
        format!("\"port\": {port}, \"dns\": [\"127.0.0.1:9\"], \"retry_seconds\": [1, 86400]");
    let house = House::build(&relay);
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    let recipients = vec![wanting(BOB, of_rcpt)];
    let brought = house.submit_as(envelope(ALICE, by), recipients, BODY);
    brought.await.unwrap();
    // With mode N the message stays, but the sender is told.
    let is_told = || !deliverd.inbox.lock().unwrap().is_empty();
    house
        .queue_until(|queue| queue.is_empty() || is_told())
        .await;
    let inbox = deliverd.inbox.lock().unwrap();
    inbox.iter().map(|(_, report)| report.as_str()).collect()
}

fn server(ehlo: &'static [u8], mail: &'static str) -> Vec<Step> {
    let mut script = vec![Say(b"220 mx\r\n"), Hear("EHLO "), Say(ehlo)];
    script.extend([
        Hear(mail),
        Say(b"250 ok\r\n"),
        Hear("RCPT"),
        Say(b"250 ok\r\n"),
    ]);
    script.extend([
        Hear("DATA"),
        Say(b"354 go\r\n"),
        HearBody,
        Say(b"250 ok\r\n"),
    ]);
    script
}

#[tokio::test]
async fn a_server_that_knows_it_hears_what_is_left() {
    let mail = "MAIL FROM:<alice@example.test> BY=86";
    let (address, server) = scripted(vec![server(b"250-mx\r\n250 DELIVERBY\r\n", mail)]).await;
    let reports = carry(address.port(), "BY=86500;RT", "").await;
    assert!(server.await.unwrap().contains(";RT\r\n"));
    // RFC 2852 §4.1.5: with T each server tells.
    assert!(reports.contains("Action: relayed"), "{reports}");
}

#[tokio::test]
async fn a_server_that_does_not_know_it_gets_no_mail_that_must_come_back() {
    let script = vec![Say(b"220 mx\r\n"), Hear("EHLO "), Say(b"250 mx\r\n")];
    let (address, server) = scripted(vec![script]).await;
    let reports = carry(address.port(), "BY=86500;R", "").await;
    assert!(!server.await.unwrap().contains("MAIL"));
    assert!(
        reports.contains("Action: failed\r\nStatus: 5.3.3"),
        "{reports}"
    );
}

#[tokio::test]
async fn what_is_late_comes_back_or_is_told_of() {
    let late = "Action: failed\r\nStatus: 5.4.7";
    let reports = carry(free_port(), "BY=2;R", "").await;
    assert!(reports.contains(late), "{reports}");
    let reports = carry(free_port(), "BY=2;N", "").await;
    assert!(reports.contains("Action: delayed"), "{reports}");
    assert!(!reports.contains(late), "{reports}");
}

#[tokio::test]
async fn a_trace_is_not_sent_to_who_wants_to_hear_nothing() {
    let (address, _server) = scripted(vec![server(b"250 mx\r\n", "MAIL")]).await;
    assert_eq!(carry(address.port(), "BY=600;NT", "NOTIFY=NEVER").await, "");
}
