//! smtpd may have been taken over: what it says is bounded and read anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::time::Duration;

use daemon::channel::{CallError, Link};
use ipc::queue::{
    FORESEEN, QueueAnswer, QueueEdge, QueueRequest, RECIPIENTS_PER_FRAME, Recipient, Standing,
};
use ipc::{Context, Refusal};
use world::house::{House, envelope, waiting};

const ALICE: &str = "alice@example.test";
const PATIENCE: Duration = Duration::from_secs(20);

fn house() -> House {
    House::build("\"port\": 9, \"dns\": [\"127.0.0.1:9\"]")
}

async fn ask(link: &Link<QueueEdge>, request: QueueRequest) -> Result<QueueAnswer, Refusal> {
    match link.call(Context::default(), PATIENCE, request).await {
        Ok(answered) => Ok(answered.answer),
        Err(CallError::Refused(refusal)) => Err(refusal),
        Err(CallError::Unavailable) => panic!("relayd does not answer"),
    }
}

#[tokio::test]
async fn a_page_of_recipients_is_no_longer_than_it_may_be_and_each_is_there_once() {
    let house = house();
    let link = house.smtpd.pinned(PATIENCE).await.unwrap();
    let opened = ask(&link, QueueRequest::OpenMessage(envelope(ALICE, ""))).await;
    let Ok(QueueAnswer::MessageOpened(message)) = opened else {
        panic!("{opened:?}")
    };
    let add = |recipients: Vec<Recipient>| {
        let request = QueueRequest::AddRecipients {
            message,
            recipients,
        };
        ask(&link, request)
    };
    let page = |count: usize| -> Vec<_> {
        (0..count)
            .map(|number| waiting(&format!("r{number}@[127.0.0.1]")))
            .collect()
    };
    let too_many = add(page(RECIPIENTS_PER_FRAME + 1)).await;
    assert_eq!(too_many, Err(Refusal::TooManyRecipients));
    let whole = add(page(RECIPIENTS_PER_FRAME)).await;
    assert_eq!(whole, Ok(QueueAnswer::RecipientsAdded));
    // Once more, and the first of them as one who has it already, of whom the sender is told.
    let told = Recipient {
        standing: Standing::Delivered,
        ..waiting("r0@[127.0.0.1]")
    };
    add(vec![waiting("r0@[127.0.0.1]"), told]).await.unwrap();
    let id = house.commit(&link, message, 0).await.unwrap();
    let queue = house.queue().await;
    assert_eq!(queue[0].waiting as usize, RECIPIENTS_PER_FRAME);
    let journal = house.journal(&id);
    let journal = std::fs::read_to_string(journal).unwrap();
    assert_eq!(journal.matches("r0@[127.0.0.1]").count(), 2, "{journal}");
}

#[tokio::test]
async fn what_is_to_be_foreseen_is_read_like_what_is_to_be_sent() {
    let house = house();
    let link = house.smtpd.pinned(PATIENCE).await.unwrap();
    let foresee = |from: &str, count: usize| {
        let request = QueueRequest::Foresee {
            envelope: envelope(from, ""),
            recipients: vec!["r@[127.0.0.1]".into(); count],
        };
        ask(&link, request)
    };
    let foreseen = foresee(ALICE, FORESEEN).await;
    assert_eq!(foreseen, Ok(QueueAnswer::Foreseen { hold: None }));
    let too_many = foresee(ALICE, FORESEEN + 1).await;
    assert_eq!(too_many, Err(Refusal::TooManyRecipients));
    let nobody = foresee("no address", 1).await;
    assert!(matches!(nobody, Err(Refusal::Invalid(_))), "{nobody:?}");
}
