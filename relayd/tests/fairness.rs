//! What one tenant sends, however much and however slowly it goes, keeps no other tenant's mail waiting.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::net::Ipv4Addr;
use std::time::Duration;

use ipc::budget::{OwnBudget, OwnBudgets, TenantBudget};
use ipc::control::{QueueControlRequest, QueuedMessage};
use loopback::free_port;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use world::deliverd::Deliverd;
use world::house::House;
use world::{EHLO, Hear, Say, delivery, scripted_at};

const BUSY: &str = "busy@example.test";
const OTHER: &str = "other@example.test";
const THIRD: &str = "third@example.test";
const BODY: &[u8] = b"From: a@example.test\r\nSubject: hello\r\n\r\nhello\r\n";

/// Servers that take connections and say nothing, at so many addresses from 127.0.0.`first` on.
async fn silent(port: u16, first: u8, count: u8) -> UnboundedReceiver<TcpStream> {
    let (sender, taken) = mpsc::unbounded_channel();
    for last in first..first + count {
        let address = (Ipv4Addr::new(127, 0, 0, last), port);
        let listener = TcpListener::bind(address).await.unwrap();
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
    }
    taken
}

/// A server that takes one message.
async fn ready(port: u16, last: u8) {
    let mut script = EHLO.to_vec();
    script.extend(delivery("MAIL"));
    script.extend([Hear("QUIT"), Say(b"221 bye\r\n")]);
    let address = (Ipv4Addr::new(127, 0, 0, last), port).into();
    scripted_at(address, vec![script]).await;
}

async fn send(house: &House, account: &str, to: &[String]) -> String {
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    // A relayd that has just been started does not answer at once.
    for _ in 0..200 {
        if let Ok(id) = house.submit_for(Some(account), account, &to, BODY).await {
            return id;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing was queued");
}

fn at(last: u8) -> String {
    format!("x@[127.0.0.{last}]")
}

#[tokio::test]
async fn mail_that_is_stuck_keeps_only_its_own_tenants_mail_waiting() {
    let port = free_port();
    let house = House::build(&format!("\"port\": {port}, \"max_connections\": 4"));
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    for account in [BUSY, OTHER, THIRD] {
        let tenant = TenantBudget {
            name: account.into(),
            budget: OwnBudget::default(),
        };
        let budgets = OwnBudgets {
            tenant: Some(tenant),
            ..OwnBudgets::default()
        };
        let mut all = deliverd.budgets.lock().unwrap();
        all.insert(account.into(), budgets);
    }
    let mut stuck = silent(port, 100, 20).await;
    let newsletter: Vec<String> = (100..112).map(at).collect();
    let newsletter = send(&house, BUSY, &newsletter).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(stuck.recv().await.unwrap());
    }

    // There is a place that the newsletter cannot have.
    ready(port, 10).await;
    let id = send(&house, OTHER, &[at(10)]).await;
    let is_gone = |id: &str| {
        let id = id.to_owned();
        move |queue: &[QueuedMessage]| queue.iter().all(|one| one.queue_id != id)
    };
    house.queue_until(is_gone(&id)).await;
    assert!(stuck.is_empty());

    // All places are taken: the next one is not for the newsletter either.
    send(&house, THIRD, &[at(115)]).await;
    let third = stuck.recv().await.unwrap();
    ready(port, 11).await;
    let id = send(&house, OTHER, &[at(11)]).await;
    held.pop();
    house.queue_until(is_gone(&id)).await;

    // Then it goes on.
    let next = stuck.recv().await.unwrap();
    let queue = house.queue().await;
    assert!(queue.iter().any(|one| one.queue_id == newsletter));
    drop((held, third, next));
}

// Some 40 messages, of which three go out: two find nobody, and the first one after the operator's word finds somebody.
#[tokio::test]
async fn a_destination_that_does_not_answer_is_left_alone_until_somebody_wants_it() {
    let port = free_port();
    let house = House::build(&format!(
        "\"port\": {port}, \"retry_seconds\": [3600, 3600], \"max_connections_per_domain\": 1"
    ));
    let _deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(send(&house, BUSY, &[at(150)]).await);
    }
    let all_tried = |queue: &[QueuedMessage]| {
        let tried = |one: &QueuedMessage| one.recipients[0].attempts == 1;
        queue.iter().all(tried)
    };
    let queue = house.queue_until(all_tried).await;
    assert_eq!(queue.len(), 2);

    let mut taken = silent(port, 150, 1).await;
    for _ in 0..40 {
        ids.push(send(&house, OTHER, &[at(150)]).await);
    }
    let queue = house.queue_until(all_tried).await;
    assert_eq!(queue.len(), ids.len());
    let is_left_alone = |one: &&QueuedMessage| {
        let said = &one.recipients[0].last_error;
        said.contains("not tried again yet: ")
    };
    assert_eq!(queue.iter().filter(is_left_alone).count(), 40);
    assert!(taken.is_empty());

    let retry = QueueControlRequest::RetryMessage {
        queue_id: ids.pop(),
    };
    house.order(retry).await.unwrap();
    taken.recv().await.unwrap();
}
