//! Deliveries by the threads that read smtpd's channel: what waits there keeps nothing else waiting.

use std::sync::mpsc;

use super::*;
use crate::answer::jobs::{PLACES, Place};
use crate::store::{Listener, MailboxName};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const LETTER: &[u8] = b"Subject: x\r\n\r\nhello\r\n";

/// Holds a mailbox up, under its lock, when it is told of a message: until the other end of `go_on` is gone.
struct Holding {
    /// Hears on which thread it was told.
    told: mpsc::Sender<String>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

impl Listener for Holding {
    fn tell(&self, _: SessionEvent) -> bool {
        let thread = std::thread::current();
        let _ = self.told.send(thread.name().unwrap_or_default().into());
        let _ = self.go_on.lock().unwrap().recv();
        true
    }
}

/// Has both INBOXes in memory, and the next message of alice hold hers up until the sender is dropped.
async fn hold_up(world: &World, smtp: &Smtp) -> (mpsc::Receiver<String>, mpsc::Sender<()>) {
    for user in [ALICE, BOB] {
        smtp.resolve(user, 0).await.unwrap();
        smtp.deliver_whole(&[user], LETTER, 0).await.unwrap();
    }
    let (told, thread) = mpsc::channel();
    let (go_on, waits) = mpsc::channel();
    let holding = Arc::new(Holding {
        told,
        go_on: Mutex::new(waits),
    });
    let alice = Owner {
        local: "alice".into(),
        domain: "example.test".into(),
    };
    let user = world.house.store.user(&alice).unwrap();
    let inbox = user.mailbox(&MailboxName::inbox()).unwrap();
    inbox.select(holding).unwrap();
    (thread, go_on)
}

fn bring(smtp: &Smtp, to: &'static str) -> tokio::task::JoinHandle<Result<(), CallError>> {
    let smtp = Smtp(smtp.0.clone());
    tokio::spawn(async move { smtp.deliver_whole(&[to], LETTER, 0).await })
}

async fn messages(world: &World, user: &str) -> u32 {
    let session = world.login(user, "password").await.unwrap();
    session.select("INBOX").await.0.messages
}

/// All places for work of the house, of which none is left. Those who have one are waited for: a thread may have answered and keep it for a
/// moment.
async fn take_all(world: &World) -> Vec<Place> {
    let house = &world.house;
    let mut places = Vec::new();
    while places.len() < PLACES {
        match house.jobs.try_take(&house.party) {
            Some(place) => places.push(place),
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_is_worked_on_keeps_no_other_waiting() {
    let world = world().await;
    let smtp = Smtp(world.client("smtpd"));
    let (thread, go_on) = hold_up(&world, &smtp).await;
    let mut to_alice = vec![bring(&smtp, ALICE)];
    // It is delivered by a thread that reads the channel, and holds that up.
    assert!(thread.recv_timeout(WITHIN).unwrap().starts_with("from "));
    for _ in 0..4 {
        to_alice.push(bring(&smtp, ALICE));
        smtp.resolve(BOB, 0).await.unwrap();
        smtp.deliver_whole(&[BOB], LETTER, 0).await.unwrap();
    }
    assert_eq!(messages(&world, BOB).await, 5);
    assert!(to_alice.iter().all(|bringing| !bringing.is_finished()));
    drop(go_on);
    for bringing in to_alice {
        assert_eq!(bringing.await.unwrap(), Ok(()));
    }
    assert_eq!(messages(&world, ALICE).await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_waits_for_a_place_and_what_needs_none_does_not() {
    let world = world().await;
    let smtp = Smtp(world.client("smtpd"));
    smtp.resolve(ALICE, 0).await.unwrap();
    smtp.deliver_whole(&[ALICE], LETTER, 0).await.unwrap();
    let places = take_all(&world).await;
    let bringing = bring(&smtp, ALICE);
    while world.house.jobs.waiting(&Party::House) == 0 {
        assert!(!bringing.is_finished());
        tokio::task::yield_now().await;
    }
    smtp.resolve(ALICE, 0).await.unwrap();
    let (message, _stream) = smtp.open().await;
    let recipients = vec![ALICE.to_owned()];
    let add = DeliveryRequest::AddRecipients {
        message,
        recipients,
        destination: Destination::Inbox,
    };
    smtp.ask(add).await.unwrap();
    smtp.ask(DeliveryRequest::AbortMessage { message })
        .await
        .unwrap();
    assert!(!bringing.is_finished());
    drop(places);
    assert_eq!(bringing.await.unwrap(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_nobody_waits_for_any_more_is_not_kept() {
    let world = world().await;
    let smtp = Smtp(world.client("smtpd"));
    smtp.deliver_whole(&[ALICE], LETTER, 0).await.unwrap();
    let places = take_all(&world).await;
    let within = Duration::from_millis(100);
    let whole = DeliveryRequest::DeliverMessage {
        transaction: 0,
        recipients: vec![ALICE.into()],
        junk: Vec::new(),
        bytes: LETTER.to_vec(),
    };
    let client = smtp.0.clone();
    let bringing = tokio::spawn(async move {
        let request = SmtpRequest::Delivery(whole);
        client.call(Context::default(), within, request).await
    });
    while world.house.jobs.waiting(&Party::House) == 0 {
        tokio::task::yield_now().await;
    }
    // It was read, so its time is over by then.
    tokio::time::sleep(within * 2).await;
    assert_eq!(bringing.await.unwrap().unwrap_err(), CallError::Unavailable);
    drop(places);
    smtp.deliver_whole(&[ALICE], LETTER, 0).await.unwrap();
    assert_eq!(messages(&world, ALICE).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_on_its_way_is_answered_before_the_end_and_no_other_is_taken() {
    let world = world().await;
    let smtp = Smtp(world.client("smtpd"));
    let (thread, go_on) = hold_up(&world, &smtp).await;
    let bringing = bring(&smtp, ALICE);
    thread.recv_timeout(WITHIN).unwrap();
    let house = Arc::clone(&world.house);
    let closing = tokio::spawn(async move { house.close().await });
    while !world.house.jobs.is_closed() {
        tokio::task::yield_now().await;
    }
    let more = smtp.deliver_whole(&[BOB], LETTER, 0).await;
    assert_eq!(refused(more), Refusal::ShuttingDown);
    assert!(!closing.is_finished() && !bringing.is_finished());
    world.stop.stop();
    drop(go_on);
    assert_eq!(bringing.await.unwrap(), Ok(()));
    closing.await.unwrap();
}
