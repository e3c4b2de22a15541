//! Mail in quarantine: nobody gets it before it is released, its sender hears nothing, and there is only so much of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use daemon::channel::CallError;
use ipc::Refusal;
use ipc::control::{QueueControlAnswer, QueueControlRequest};
use ipc::queue::{MAX_REASON, Quarantine, Recipient, Standing};
use relayd::queue::journal::{Header, Particular, Quarantined, VERSION};
use relayd::queue::{Queue, QueueId};
use relayd::turns::Party;
use world::deliverd::Deliverd;
use world::house::{House, envelope, wanting};
use world::{EHLO, delivery, scripted};

const ALICE: &str = "alice@example.test";
const CAROL: &str = "carol@example.test";
const BODY: &[u8] =
    b"Authentication-Results: relay.example.test; dmarc=fail\r\nSubject: spoof\r\n\r\nhello\r\n";
const DAY: i64 = 86_400;

fn house(relay: &str, quarantine: &str) -> House {
    House::build(&format!(
        "\"dns\": [\"127.0.0.1:9\"], {relay}}}, \"authentication\": {{\"quarantine\": {{{quarantine}}}"
    ))
}

fn here(address: &str) -> Recipient {
    Recipient {
        standing: Standing::Here,
        ..wanting(address, "")
    }
}

fn because(reason: &str) -> Quarantine {
    Quarantine {
        reason: reason.into(),
        onward: None,
        domain: "example.test".into(),
    }
}

fn of(domain: &str) -> Quarantine {
    Quarantine {
        domain: domain.into(),
        ..because("x")
    }
}

async fn bring(
    house: &House,
    recipients: Vec<Recipient>,
    why: Quarantine,
) -> Result<String, CallError> {
    // A relayd that has just been started does not answer at once.
    for _ in 0..200 {
        let envelope = envelope(ALICE, "");
        let brought = house.quarantine(envelope, recipients.clone(), BODY, why.clone());
        match brought.await {
            Err(CallError::Unavailable) => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
    panic!("relayd does not answer");
}

async fn release(house: &House, queue_id: &str) -> u64 {
    let queue_id = queue_id.to_owned();
    match house
        .order(QueueControlRequest::ReleaseMessage { queue_id })
        .await
        .unwrap()
    {
        QueueControlAnswer::Released { messages } => messages,
        answer => panic!("{answer:?}"),
    }
}

async fn remove(house: &House, queue_id: &str) {
    let queue_id = queue_id.to_owned();
    let removed = house
        .order(QueueControlRequest::RemoveMessage { queue_id })
        .await;
    assert_eq!(removed.unwrap(), QueueControlAnswer::Removed);
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Puts a message into the queue of a house that does not run, as if it had come `age` seconds ago.
fn plant(house: &House, age: i64) -> QueueId {
    let queue = Queue::open(
        &house.home.path().join("queue"),
        (&daemon::config::History::default()).into(),
    )
    .unwrap();
    let id = QueueId::generate().unwrap();
    let draft = queue.draft().unwrap();
    draft.file().write_all(BODY).unwrap();
    let header = Header {
        version: VERSION,
        queued: now() - age,
        size: BODY.len() as u64,
        reverse_path: ALICE.into(),
        account: None,
        party: Party::Nobody,
        smtp_utf8: false,
        eight_bit: false,
        hold: Some("a spoof".into()),
        quarantine: Some(Quarantined {
            onward: None,
            tenant: None,
        }),
        recipients: vec![CAROL.into()],
        parameters: String::new(),
        tls_waived: false,
        sign: Vec::new(),
        particulars: vec![Particular {
            recipient: 0,
            parameters: String::new(),
            standing: relayd::queue::journal::Standing::Here,
        }],
    };
    queue.commit(id, &draft, &header.versioned()).unwrap();
    id
}

/// Everything that was due before is over when this is delivered.
async fn something_else_is_delivered(house: &House, deliverd: &Deliverd) {
    let before = deliverd.inbox.lock().unwrap().len();
    let other = vec![here("dora@example.test")];
    for _ in 0..200 {
        let sent = house
            .submit_as(envelope("", ""), other.clone(), b"Subject: x\r\n\r\n")
            .await;
        if sent.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for _ in 0..1000 {
        if deliverd.inbox.lock().unwrap().len() > before {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("nothing was delivered");
}

fn inbox(deliverd: &Deliverd) -> Vec<(String, String)> {
    let mut all = deliverd.inbox.lock().unwrap().clone();
    all.retain(|(to, _)| to != "dora@example.test");
    all
}

#[tokio::test]
async fn it_waits_through_a_crash_and_is_delivered_as_it_came_when_it_is_released() {
    let script = [
        EHLO.as_slice(),
        &delivery("MAIL FROM:<SRS0=alice@example.test>"),
    ]
    .concat();
    let (address, server) = scripted(vec![script]).await;
    let port = address.port();
    let mut house = house(&format!("\"port\": {port}"), "");
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    let why = Quarantine {
        onward: Some("SRS0=alice@example.test".into()),
        ..because("quarantine by authentication.spf_fail: because")
    };
    let recipients = vec![wanting("bob@[127.0.0.1]", ""), here(CAROL)];
    let id = bring(&house, recipients, why).await.unwrap();
    for _ in 0..2 {
        let all = QueueControlRequest::RetryMessage { queue_id: None };
        house.order(all).await.unwrap();
        something_else_is_delivered(&house, &deliverd).await;
        let queue = house.queue_until(|queue| queue.len() == 1).await;
        assert_eq!(
            queue[0].hold,
            "quarantine by authentication.spf_fail: because"
        );
        assert_eq!((queue[0].waiting, queue[0].recipients[0].attempts), (2, 0));
        assert_eq!(inbox(&deliverd), []);
        house.kill();
        house.start();
    }
    something_else_is_delivered(&house, &deliverd).await;
    assert_eq!(release(&house, &id).await, 1);
    house.queue_until(<[_]>::is_empty).await;
    let text = String::from_utf8_lossy(BODY);
    let text = format!("Return-Path: <alice@example.test>\r\n{text}");
    assert_eq!(inbox(&deliverd), [(CAROL.into(), text)]);
    assert!(server.await.unwrap().contains("RCPT TO:<bob@[127.0.0.1]>"));
}

#[tokio::test]
async fn after_its_days_it_is_gone_and_nobody_is_told() {
    let mut house = house("\"port\": 9", "\"days\": 2");
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    house.queue_until(<[_]>::is_empty).await;
    house.kill();
    let _old = plant(&house, 2 * DAY + 1);
    // Old enough for its sender to be told that it waits, were it another message.
    let young = plant(&house, 2 * DAY - 3600);
    house.start();
    something_else_is_delivered(&house, &deliverd).await;
    let queue = house.queue_until(|queue| queue.len() == 1).await;
    assert_eq!(queue[0].queue_id, young.to_string());
    assert_eq!(house.files().len(), 2, "{:?}", house.files());
    // What is hurried does not go either, nor does it expire.
    let all = QueueControlRequest::RetryMessage { queue_id: None };
    house.order(all).await.unwrap();
    something_else_is_delivered(&house, &deliverd).await;
    assert_eq!(house.queue_until(|queue| queue.len() == 1).await.len(), 1);
    assert_eq!(inbox(&deliverd), []);
}

#[tokio::test]
async fn what_the_operator_holds_stays() {
    let mut house = house("\"port\": 9", "\"days\": 2, \"max_messages\": 1");
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    house.queue_until(<[_]>::is_empty).await;
    house.kill();
    let id = plant(&house, 2 * DAY - 3600);
    house.start();
    house.queue_until(|queue| queue.len() == 1).await;
    let queue_id = id.to_string();
    let held = house
        .order(QueueControlRequest::HoldMessage { queue_id })
        .await;
    assert_eq!(held.unwrap(), QueueControlAnswer::Held);
    let other = bring(&house, vec![here(CAROL)], because("x")).await;
    remove(&house, &other.unwrap()).await;
    house.kill();
    // A day later.
    house.empty_log();
    age(&house.journal(id.as_str()), DAY);
    house.start();
    something_else_is_delivered(&house, &deliverd).await;
    let queue = house.queue_until(|queue| queue.len() == 1).await;
    assert_eq!(queue[0].hold, "held by the operator");
    // It is in quarantine no more, so there is room.
    bring(&house, vec![here(CAROL)], because("x"))
        .await
        .unwrap();
    assert_eq!(inbox(&deliverd), []);
}

/// Makes a message so many seconds older, by its journal.
fn age(journal: &std::path::Path, seconds: i64) {
    let bytes = std::fs::read(journal).unwrap();
    let mut records = relayd::queue::journal::decode(&bytes).records;
    if let relayd::queue::journal::Record::Message(header) = &mut records[0] {
        header.queued -= seconds;
    }
    let mut bytes = Vec::new();
    for record in &records {
        relayd::queue::journal::encode(record, &mut bytes).unwrap();
    }
    std::fs::write(journal, bytes).unwrap();
}

#[tokio::test]
async fn there_is_only_so_much_of_it_and_other_mail_is_not_bound_by_that() {
    let full = Err(CallError::Refused(Refusal::QuarantineFull));
    let size = BODY.len();
    let two_and_a_half = size * 5 / 2;
    for bound in [
        String::from("\"max_messages\": 2"),
        format!("\"max_bytes\": {two_and_a_half}"),
    ] {
        let mut house = house("\"port\": 9", &bound);
        let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
        let take = async |house: &House| bring(house, vec![here(CAROL)], because("x")).await;
        let first = take(&house).await.unwrap();
        let second = take(&house).await.unwrap();
        assert_eq!(take(&house).await, full, "{bound}");
        assert_eq!(house.files().len(), 4, "{:?}", house.files());
        something_else_is_delivered(&house, &deliverd).await;
        house.kill();
        house.start();
        assert_eq!(take(&house).await, full, "{bound}");
        remove(&house, &first).await;
        let third = take(&house).await.unwrap();
        assert_eq!(take(&house).await, full, "{bound}");
        assert_eq!(release(&house, &second).await, 1);
        house.queue_until(|queue| queue.len() == 1).await;
        let fourth = take(&house).await.unwrap();
        assert_eq!(take(&house).await, full, "{bound}");
        remove(&house, &third).await;
        remove(&house, &fourth).await;
        assert_eq!(inbox(&deliverd).len(), 1);
    }
}

#[tokio::test]
async fn a_flood_for_one_tenant_keeps_out_nobody_elses_mail() {
    let full = Err(CallError::Refused(Refusal::QuarantineFull));
    let mut house = house("\"port\": 9", "\"max_messages\": 1");
    let _deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    let take =
        async |house: &House, domain: &str| bring(house, vec![here(CAROL)], of(domain)).await;
    let flood = take(&house, "a.tenant.test").await.unwrap();
    for _ in 0..2 {
        assert_eq!(take(&house, "a.tenant.test").await, full);
        // Whose it is counts after a restart, too.
        house.kill();
        house.start();
    }
    for other in ["b.tenant.test", "example.test"] {
        take(&house, other).await.unwrap();
        assert_eq!(take(&house, other).await, full, "{other}");
    }
    remove(&house, &flood).await;
    take(&house, "a.tenant.test").await.unwrap();
}

#[tokio::test]
async fn mail_of_whom_nobody_knows_whose_it_is_is_put_off() {
    // deliverd is away.
    let house = house("\"port\": 9", "");
    let refused = bring(&house, vec![here(CAROL)], because("x")).await;
    assert_eq!(refused, Err(CallError::Refused(Refusal::Busy)));
    assert_eq!(house.files(), Vec::<String>::new());
}

#[tokio::test]
async fn what_the_disk_does_not_take_takes_no_room() {
    let mut house = house("\"port\": 9", "\"max_messages\": 1");
    let _deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    house.kill();
    // Its text fits, its journal does not.
    house.start_without_room(BODY.len() as u64);
    let refused = bring(&house, vec![here(CAROL)], because("x")).await;
    let fault = Err(CallError::Refused(Refusal::StorageFault));
    assert_eq!(refused, fault);
    house.make_room();
    bring(&house, vec![here(CAROL)], because("x"))
        .await
        .unwrap();
}

#[tokio::test]
async fn its_reason_is_doubted() {
    let house = house("\"port\": 9", "");
    let _deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    for why in [
        because(""),
        because("a\nb"),
        because(&"x".repeat(MAX_REASON + 1)),
        Quarantine {
            onward: Some("no address".into()),
            ..because("x")
        },
        of("no domain"),
    ] {
        let refused = bring(&house, vec![here(CAROL)], why).await;
        assert!(
            matches!(refused, Err(CallError::Refused(Refusal::Invalid(_)))),
            "{refused:?}"
        );
    }
    assert_eq!(house.queue().await, []);
}
