//! Mail that is held for a while (RFC 4865) goes nowhere before, and everywhere then.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::time::Duration;

use ipc::control::QueueControlRequest;
use ipc::queue::{Recipient, Standing};
use world::deliverd::Deliverd;
use world::house::{House, envelope, wanting};
use world::{EHLO, delivery, scripted};

const ALICE: &str = "alice@example.test";
const BODY: &[u8] = b"Subject: later\r\n\r\nhello\r\n";

fn here(address: &str, parameters: &str) -> Recipient {
    Recipient {
        standing: Standing::Here,
        ..wanting(address, parameters)
    }
}

#[tokio::test]
async fn a_message_is_held_until_its_time_however_often_it_is_hurried() {
    let mut house = House::build("\"port\": 9, \"dns\": [\"127.0.0.1:9\"]");
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    let recipients = vec![
        wanting("bob@[127.0.0.1]", ""),
        here("carol@example.test", ""),
    ];
    let envelope = envelope(ALICE, "HOLDFOR=3600");
    house.submit_as(envelope, recipients, BODY).await.unwrap();
    for _ in 0..5 {
        let all = QueueControlRequest::RetryMessage { queue_id: None };
        house.order(all).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let queue = house.queue().await;
    for recipient in &queue[0].recipients {
        assert_eq!(recipient.attempts, 0);
        assert_eq!(recipient.next_attempt, queue[0].queued + 3600);
    }
    assert!(house.terminate());
    house.start();
    assert_eq!(house.queue().await, queue);
    assert!(deliverd.inbox.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_message_that_is_released_goes_to_users_here_and_elsewhere() {
    let script = [EHLO.as_slice(), &delivery("MAIL FROM:<alice@example.test>")].concat();
    let (address, server) = scripted(vec![script]).await;
    let port = address.port();
    let relay = format!("\"port\": {port}, \"dns\": [\"127.0.0.1:9\"], \"retry_seconds\": [1]");
    let house = House::build(&relay);
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    let recipients = vec![
        wanting("bob@[127.0.0.1]", ""),
        here("carol@example.test", "NOTIFY=SUCCESS"),
        here("full@example.test", ""),
    ];
    let envelope = envelope(ALICE, "HOLDFOR=1");
    house.submit_as(envelope, recipients, BODY).await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    let heard = server.await.unwrap();
    assert!(
        heard.contains("RCPT TO:<bob@[127.0.0.1]>") && !heard.contains("HOLD"),
        "{heard}"
    );
    let inbox = deliverd.inbox.lock().unwrap();
    let of = |name: &str| {
        let to = inbox.iter().filter(|(to, _)| to.starts_with(name));
        to.map(|(_, text)| text.clone()).collect::<Vec<_>>()
    };
    let text = format!(
        "Return-Path: <alice@example.test>\r\n{}",
        String::from_utf8_lossy(BODY)
    );
    assert_eq!(of("carol@"), [text]);
    let reports = of("alice@").concat();
    for needle in [
        "Final-Recipient: rfc822; carol@example.test\r\nAction: delivered\r\n",
        "Final-Recipient: rfc822; full@example.test\r\nAction: failed\r\n",
    ] {
        assert!(reports.contains(needle), "{needle} in {reports}");
    }
}
