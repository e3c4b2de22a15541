//! Mail beyond a budget is held: over kills, until the operator lets it go.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use daemon::channel::CallError;
use ipc::Refusal;
use ipc::budget::{OwnBudget, OwnBudgets, Payer, Spent, TenantBudget};
use ipc::control::{QueueControlAnswer, QueueControlRequest, QueuedMessage};
use loopback::free_port;
use world::deliverd::Deliverd;
use world::house::House;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const CAROL: &str = "carol@example.test";
const BODY: &[u8] = b"From: alice@example.test\r\nSubject: hello\r\n\r\nhello\r\n";

/// Budgets are new at midnight (UTC): a test that would go on over it begins after it.
fn avoid_midnight() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let left = 86_400 - now.as_secs() % 86_400;
    if left < 30 {
        std::thread::sleep(Duration::from_secs(left + 1));
    }
}

/// A relayd whose mail nobody takes, and a deliverd where all are users.
fn house(budgets: &str) -> (House, Deliverd) {
    avoid_midnight();
    let port = free_port();
    let house = House::build(&format!(
        "\"port\": {port}, \"retry_seconds\": [3600], \"budgets\": {budgets}"
    ));
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    (house, deliverd)
}

impl Deliverd {
    fn give_to_tenant(&self, account: &str, tenant: &str) {
        let tenant = Some(TenantBudget {
            name: tenant.into(),
            budget: OwnBudget::default(),
        });
        let budgets = OwnBudgets {
            tenant,
            ..OwnBudgets::default()
        };
        self.budgets.lock().unwrap().insert(account.into(), budgets);
    }

    /// As `rmailctl user budget` does it; relayd is not told.
    fn allow_recipients(&self, account: &str, recipients: u32) {
        let account_budget = OwnBudget {
            recipients: Some(recipients),
            ..OwnBudget::default()
        };
        let mut all = self.budgets.lock().unwrap();
        all.entry(account.into()).or_default().account = account_budget;
    }
}

async fn send(house: &House, account: &str, to: &[&str]) -> String {
    // A relayd that has just been started does not answer at once.
    for _ in 0..200 {
        if let Ok(id) = house.submit_for(Some(account), account, to, BODY).await {
            return id;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing was queued");
}

async fn find(house: &House, id: &str) -> QueuedMessage {
    let queue = house.queue().await;
    queue
        .into_iter()
        .find(|message| message.queue_id == id)
        .unwrap()
}

/// Whether an attempt was made, which fails at once.
async fn is_tried(house: &House, id: &str) {
    house
        .queue_until(|queue| {
            let mine = queue.iter().find(|message| message.queue_id == id);
            mine.is_some_and(|message| message.recipients[0].attempts == 1)
        })
        .await;
}

async fn release(house: &House, request: QueueControlRequest) -> u64 {
    match house.order(request).await.unwrap() {
        QueueControlAnswer::Released { messages } => messages,
        answer => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn mail_beyond_the_budget_is_held_until_it_is_released() {
    let (mut house, _deliverd) = house("{\"account\": {\"recipients\": 2}}");
    let first = send(&house, ALICE, &["x@[127.0.0.1]"]).await;
    let second = send(&house, ALICE, &["x@[127.0.0.1]"]).await;
    let third = send(&house, ALICE, &["x@[127.0.0.1]"]).await;
    let others = send(&house, BOB, &["x@[127.0.0.1]"]).await;
    for id in [&first, &second, &others] {
        is_tried(&house, id).await;
        assert_eq!(find(&house, id).await.hold, "");
    }
    let reason = "relay.budgets.account.recipients allows alice@example.test no more than 2 a day";
    assert_eq!(find(&house, &third).await.hold, reason);
    // A kill loses neither the message nor the count.
    house.kill();
    house.start();
    let fourth = send(&house, ALICE, &["x@[127.0.0.1]"]).await;
    let hurry = QueueControlRequest::RetryMessage { queue_id: None };
    house.order(hurry).await.unwrap();
    for id in [&third, &fourth] {
        let message = find(&house, id).await;
        assert_eq!(
            (message.hold.as_str(), message.recipients[0].attempts),
            (reason, 0)
        );
    }
    let queue_id = third.clone();
    let request = QueueControlRequest::ReleaseMessage { queue_id };
    assert_eq!(release(&house, request.clone()).await, 1);
    assert_eq!(release(&house, request).await, 0);
    is_tried(&house, &third).await;
    assert_eq!(find(&house, &fourth).await.recipients[0].attempts, 0);
    let account = BOB.to_owned();
    assert_eq!(
        release(&house, QueueControlRequest::ReleaseAccount { account }).await,
        0
    );
    let account = ALICE.to_uppercase();
    assert_eq!(
        release(&house, QueueControlRequest::ReleaseAccount { account }).await,
        1
    );
    is_tried(&house, &fourth).await;
}

async fn is_held(house: &House, account: &str, to: &str) -> bool {
    let id = send(house, account, &[to]).await;
    !find(house, &id).await.hold.is_empty()
}

async fn spent(house: &House, payer: Payer) -> Spent {
    let payers = vec![Payer::Domain("nobody.test".into()), payer];
    match house.order(QueueControlRequest::ShowSpent { payers }).await {
        Ok(QueueControlAnswer::Spent(spent)) => {
            assert_eq!((spent.len(), spent[0]), (2, Spent::default()));
            spent[1]
        }
        answer => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn a_tenant_that_floods_uses_up_its_own_budget_over_kills_and_no_other_tenants() {
    let (mut house, deliverd) = house("{\"tenant\": {\"recipients\": 3}}");
    for (account, tenant) in [(ALICE, "acme"), (BOB, "acme"), (CAROL, "other")] {
        deliverd.give_to_tenant(account, tenant);
    }
    send(&house, ALICE, &["x@[127.0.0.1]", "y@[127.0.0.1]"]).await;
    house.kill();
    house.start();
    assert!(!is_held(&house, BOB, "x@[127.0.0.1]").await);
    for account in [ALICE, BOB] {
        let id = send(&house, account, &["x@[127.0.0.1]"]).await;
        let reason = "relay.budgets.tenant.recipients allows the tenant acme no more than 3 a day";
        assert_eq!(find(&house, &id).await.hold, reason);
    }
    assert!(!is_held(&house, CAROL, "x@[127.0.0.1]").await);
    let expected = Spent {
        messages: 2,
        recipients: 3,
        first_time_recipients: 3,
    };
    assert_eq!(spent(&house, Payer::Tenant("acme".into())).await, expected);
    house.kill();
    house.start();
    // Until relayd answers again nothing is known of what was sent.
    assert!(is_held(&house, ALICE, "x@[127.0.0.1]").await);
    assert_eq!(spent(&house, Payer::Tenant("acme".into())).await, expected);
}

#[tokio::test]
async fn what_the_operator_allows_one_account_counts_from_when_relayd_is_told() {
    let (house, deliverd) = house("{\"account\": {\"recipients\": 1}}");
    deliverd.allow_recipients(ALICE, 2);
    for account in [ALICE, BOB] {
        assert!(!is_held(&house, account, "x@[127.0.0.1]").await);
    }
    assert!(is_held(&house, BOB, "x@[127.0.0.1]").await);
    assert!(!is_held(&house, ALICE, "x@[127.0.0.1]").await);
    let id = send(&house, ALICE, &["x@[127.0.0.1]"]).await;
    assert_eq!(
        find(&house, &id).await.hold,
        "rmailctl user budget --recipients allows alice@example.test no more than 2 a day"
    );
    // Once for each account, however much it sends.
    assert_eq!(deliverd.asked.load(Ordering::SeqCst), 2);
    deliverd.allow_recipients(ALICE, 0);
    let forgotten = house.order(QueueControlRequest::ForgetBudgets).await;
    assert_eq!(forgotten.unwrap(), QueueControlAnswer::BudgetsForgotten);
    assert!(!is_held(&house, ALICE, "x@[127.0.0.1]").await);
    // What was held stays so until it is released, and then costs nothing.
    assert!(!find(&house, &id).await.hold.is_empty());
    let queue_id = id.clone();
    let request = QueueControlRequest::ReleaseMessage { queue_id };
    assert_eq!(release(&house, request).await, 1);
    is_tried(&house, &id).await;
    let payer = Payer::Account(ALICE.into());
    assert_eq!(spent(&house, payer).await.recipients, 3);
}

#[tokio::test]
async fn mail_of_an_account_that_there_is_not_is_refused() {
    let (house, _deliverd) = house("{}");
    send(&house, ALICE, &["x@[127.0.0.1]"]).await;
    let account = Some("mallory@elsewhere.test");
    let refused = house.submit_for(account, ALICE, &["x@[127.0.0.1]"], BODY);
    let refused = refused.await.unwrap_err();
    assert_eq!(refused, CallError::Refused(Refusal::SenderNotAllowed));
}

#[tokio::test]
async fn the_operator_holds_a_message_and_it_stays_held_after_a_kill() {
    let (mut house, _deliverd) = house("{}");
    let id = send(&house, ALICE, &["x@[127.0.0.1]"]).await;
    is_tried(&house, &id).await;
    let queue_id = id.clone();
    let held = house
        .order(QueueControlRequest::HoldMessage { queue_id })
        .await;
    assert_eq!(held.unwrap(), QueueControlAnswer::Held);
    house.kill();
    house.start();
    let queue_id = Some(id.clone());
    house
        .order(QueueControlRequest::RetryMessage { queue_id })
        .await
        .unwrap();
    // Another message has its turn behind the one that was hurried.
    let other = send(&house, ALICE, &["y@[127.0.0.1]"]).await;
    is_tried(&house, &other).await;
    let message = find(&house, &id).await;
    assert_eq!(message.hold, "held by the operator");
    assert_eq!(message.recipients[0].attempts, 1);
}

#[tokio::test]
async fn whom_an_account_wrote_to_is_known_after_a_restart() {
    let (mut house, _deliverd) = house("{\"account\": {\"first_time_recipients\": 3}}");
    send(&house, ALICE, &["x@[127.0.0.1]", "y@[127.0.0.1]"]).await;
    house.kill();
    // As a crash of the system may leave the file.
    let file = house.home.path().join("queue/.sent");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend(b"{\"day\":1,\"acc");
    std::fs::write(&file, bytes).unwrap();
    house.start();
    let id = send(&house, ALICE, &["y@[127.0.0.1]", "z@[127.0.0.1]"]).await;
    assert_eq!(find(&house, &id).await.hold, "");
    house.kill();
    house.start();
    for (to, is_held) in [("z@[127.0.0.1]", false), ("w@[127.0.0.1]", true)] {
        let id = send(&house, ALICE, &[to]).await;
        assert_eq!(!find(&house, &id).await.hold.is_empty(), is_held, "{to}");
    }
}
