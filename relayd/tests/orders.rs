//! What the operator sees of the queue, and what he may do with a message: walks with filters, giving up, another way, and what happened.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::fs::File;
use std::io::{Read, Seek};

use daemon::channel::CallError;
use ipc::control::{QueueControlAnswer, QueueControlRequest};
use ipc::queue_walk::{
    EventRow, QueueEvent, QueueFilter, QueueRow, QueueState, QueueView, RecipientState,
    TriedOutcome,
};
use ipc::tools::unpack;
use ipc::{Context, Refusal};
use world::deliverd::Deliverd;
use world::house::{House, PATIENCE, envelope, waiting, wanting};
use world::{EHLO, delivery, scripted};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@[127.0.0.1]";
const BODY: &[u8] = b"Subject: hello\r\nX-Long: y\r\n\r\nhello\r\n";

/// Rows of an answer with its file.
async fn rows(house: &House, request: QueueControlRequest) -> (QueueControlAnswer, Vec<QueueRow>) {
    let answered = house.ctl.ask(Context::default(), PATIENCE, request).await;
    let answered = answered.unwrap();
    let mut packed = Vec::new();
    for fd in answered.fds {
        let mut file = File::from(fd);
        file.rewind().unwrap();
        file.read_to_end(&mut packed).unwrap();
    }
    (answered.answer, unpack(&packed).unwrap())
}

async fn walk(house: &House, filter: QueueFilter, view: QueueView) -> Vec<QueueRow> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let filter = filter.clone();
        let request = QueueControlRequest::WalkQueue {
            filter,
            view,
            after,
        };
        let (answer, rows) = rows(house, request).await;
        all.extend(rows);
        match answer {
            QueueControlAnswer::QueueWalked {
                after: Some(next), ..
            } => after = Some(next),
            QueueControlAnswer::QueueWalked { after: None, .. } => return all,
            answer => panic!("{answer:?}"),
        }
    }
}

async fn ids(house: &House, filter: QueueFilter) -> Vec<String> {
    let rows = walk(house, filter, QueueView::Ids).await;
    rows.into_iter()
        .map(|row| match row {
            QueueRow::Id(id) => id,
            row => panic!("{row:?}"),
        })
        .collect()
}

async fn history(house: &House, about: Option<&str>) -> Vec<EventRow> {
    let (mut all, mut from) = (Vec::new(), None);
    loop {
        let about = about.map(str::to_owned);
        let request = QueueControlRequest::ReadHistory { from, about };
        let (answer, rows) = rows(house, request).await;
        all.extend(rows.into_iter().map(|row| match row {
            QueueRow::Event(event) => event,
            row => panic!("{row:?}"),
        }));
        match answer {
            QueueControlAnswer::History {
                next, more: true, ..
            } => from = Some(next),
            QueueControlAnswer::History { more: false, .. } => return all,
            answer => panic!("{answer:?}"),
        }
    }
}

fn name(event: &QueueEvent) -> String {
    match event {
        QueueEvent::Queued { .. } => "queued".into(),
        QueueEvent::Tried {
            recipient, outcome, ..
        } => format!("{outcome:?} {recipient}"),
        QueueEvent::Done => "done".into(),
        QueueEvent::Removed => "removed".into(),
        QueueEvent::Expired => "expired".into(),
    }
}

#[tokio::test]
async fn each_filter_finds_what_it_means_and_nothing_else() {
    let house = House::build("\"port\": 9, \"dns\": [\"127.0.0.1:9\"]");
    let later = house
        .submit_as(
            envelope(ALICE, "HOLDFOR=3600"),
            vec![wanting("carol@later.test", "")],
            BODY,
        )
        .await
        .unwrap();
    let deferred = house
        .submit(
            "Zoe@Other.test",
            &[BOB, "dave@[127.0.0.2]"],
            &[BODY, BODY].concat(),
        )
        .await
        .unwrap();
    let bounce = house.submit("", &["erin@[127.0.0.3]"], BODY).await.unwrap();
    house
        .queue_until(|queue| {
            let tried = queue.iter().flat_map(|one| &one.recipients);
            tried.filter(|one| one.attempts > 0).count() == 3
        })
        .await;
    let hold = QueueControlRequest::HoldMessage {
        queue_id: bounce.clone(),
    };
    house.order(hold).await.unwrap();
    let text = |text: &str| Some(text.to_owned());
    let none = QueueFilter::default;
    let size = BODY.len() as u64;
    for (filter, expected) in [
        (none(), vec![&later, &deferred, &bounce]),
        (
            QueueFilter {
                sender: text("zoe@other.TEST"),
                ..none()
            },
            vec![&deferred],
        ),
        (
            QueueFilter {
                sender: text("@example.test"),
                ..none()
            },
            vec![&later],
        ),
        (
            QueueFilter {
                sender: text(""),
                ..none()
            },
            vec![&bounce],
        ),
        (
            QueueFilter {
                sender: text("other.test"),
                ..none()
            },
            vec![],
        ),
        (
            QueueFilter {
                recipient: text(BOB),
                ..none()
            },
            vec![&deferred],
        ),
        (
            QueueFilter {
                recipient: text("@later.test"),
                ..none()
            },
            vec![&later],
        ),
        (
            QueueFilter {
                destination: text("[127.0.0.2]"),
                ..none()
            },
            vec![&deferred],
        ),
        (
            QueueFilter {
                destination: text("LATER.test"),
                ..none()
            },
            vec![&later],
        ),
        (
            QueueFilter {
                tenant: text("acme"),
                ..none()
            },
            vec![],
        ),
        (
            QueueFilter {
                account: text(ALICE),
                ..none()
            },
            vec![],
        ),
        (
            QueueFilter {
                state: Some(QueueState::Scheduled),
                ..none()
            },
            vec![&later],
        ),
        (
            QueueFilter {
                state: Some(QueueState::Deferred),
                ..none()
            },
            vec![&deferred],
        ),
        (
            QueueFilter {
                state: Some(QueueState::Held),
                ..none()
            },
            vec![&bounce],
        ),
        (
            QueueFilter {
                state: Some(QueueState::New),
                ..none()
            },
            vec![],
        ),
        (
            QueueFilter {
                older: Some(3600),
                ..none()
            },
            vec![],
        ),
        (
            QueueFilter {
                younger: Some(3600),
                ..none()
            },
            vec![&later, &deferred, &bounce],
        ),
        (
            QueueFilter {
                larger: Some(size + 1),
                ..none()
            },
            vec![&deferred],
        ),
        (
            QueueFilter {
                smaller: Some(size + 1),
                ..none()
            },
            vec![&later, &bounce],
        ),
        (
            QueueFilter {
                smaller: Some(size + 1),
                sender: text(""),
                ..none()
            },
            vec![&bounce],
        ),
    ] {
        let found = ids(&house, filter.clone()).await;
        let mut expected: Vec<_> = expected.into_iter().cloned().collect();
        expected.sort();
        assert_eq!(found, expected, "{filter:?}");
    }
    let sums = walk(&house, none(), QueueView::Sums).await;
    let mut sums: Vec<_> = sums
        .into_iter()
        .map(|row| match row {
            QueueRow::Sum(sum) => (sum.destination, sum.messages, sum.deferred, sum.held),
            row => panic!("{row:?}"),
        })
        .collect();
    sums.sort();
    let expected = [
        ("[127.0.0.1]", 1, 1, 0),
        ("[127.0.0.2]", 1, 1, 0),
        ("[127.0.0.3]", 1, 1, 1),
        ("later.test", 1, 0, 0),
    ];
    assert_eq!(
        sums,
        expected.map(|(to, all, deferred, held)| (to.to_owned(), all, deferred, held))
    );
}

#[tokio::test]
async fn a_walk_comes_in_pieces_and_passes_over_nothing() {
    let house = House::build("\"port\": 9, \"dns\": [\"127.0.0.1:9\"]");
    let mut expected = Vec::new();
    for number in 0..230 {
        let parameters = "HOLDFOR=3600";
        let to = vec![waiting(&format!("r{number}@later.test"))];
        let id = house.submit_as(envelope(ALICE, parameters), to, BODY).await;
        expected.push(id.unwrap());
    }
    expected.sort();
    let rows = walk(&house, QueueFilter::default(), QueueView::Messages).await;
    let found: Vec<_> = rows
        .iter()
        .filter_map(|row| match row {
            QueueRow::Message(message) => Some(message.queue_id.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!(rows.len(), 460);
}

#[tokio::test]
async fn a_message_is_shown_with_all_there_is() {
    let house = House::build("\"port\": 9, \"dns\": [\"127.0.0.1:9\"]");
    let to = vec![wanting(BOB, "NOTIFY=FAILURE"), waiting("carol@[127.0.0.2]")];
    let queue_id = house
        .submit_as(envelope(ALICE, "RET=HDRS"), to, BODY)
        .await
        .unwrap();
    house
        .queue_until(|queue| queue[0].recipients.iter().all(|one| one.attempts > 0))
        .await;
    let request = QueueControlRequest::ShowMessage {
        queue_id: queue_id.clone(),
        headers: true,
    };
    let (_, rows) = rows(&house, request).await;
    let [
        QueueRow::Message(message),
        QueueRow::Recipient(bob),
        QueueRow::Recipient(carol),
        QueueRow::Header(header),
    ] = rows.as_slice()
    else {
        panic!("{rows:?}")
    };
    assert_eq!(message.queue_id, queue_id);
    assert_eq!((message.recipients, message.waiting), (2, 2));
    assert_eq!(
        (message.parameters.as_str(), message.state),
        ("RET=HDRS", QueueState::Deferred)
    );
    assert_eq!(
        (bob.address.as_str(), bob.parameters.as_str()),
        (BOB, "NOTIFY=FAILURE")
    );
    assert_eq!((carol.attempts, carol.status.as_str()), (1, "4.4.1"));
    assert!(matches!(carol.state, RecipientState::Waiting(_)));
    assert!(header.starts_with(b"Subject: hello\r\nX-Long: y\r\n"));
    let request = QueueControlRequest::ShowMessage {
        queue_id: "000000000000000000".into(),
        headers: false,
    };
    let refused = house.order(request).await;
    assert_eq!(refused, Err(CallError::Refused(Refusal::NotFound)));
}

#[tokio::test]
async fn what_is_given_up_goes_back_to_its_sender_also_when_it_was_held() {
    let house = House::build("\"port\": 9, \"dns\": [\"127.0.0.1:9\"]");
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    for hold in [false, true] {
        let to = [BOB, "carol@[127.0.0.2]"];
        let queue_id = house.submit(ALICE, &to, BODY).await.unwrap();
        house
            .queue_until(|queue| queue[0].recipients.iter().all(|one| one.attempts > 0))
            .await;
        if hold {
            let queue_id = queue_id.clone();
            let request = QueueControlRequest::HoldMessage { queue_id };
            house.order(request).await.unwrap();
        }
        // While it is being tried it is refused.
        loop {
            let queue_id = queue_id.clone();
            match house
                .order(QueueControlRequest::BounceMessage { queue_id })
                .await
            {
                Ok(answer) => {
                    assert_eq!(answer, QueueControlAnswer::Bounced);
                    break;
                }
                Err(error) => assert_eq!(error, CallError::Refused(Refusal::Busy)),
            }
        }
        house.queue_until(<[_]>::is_empty).await;
        let inbox = std::mem::take(&mut *deliverd.inbox.lock().unwrap());
        assert_eq!(inbox.len(), 1);
        let report = &inbox[0].1;
        assert_eq!(
            report.matches("Action: failed\r\nStatus: 5.7.1").count(),
            2,
            "{report}"
        );
        let events = history(&house, Some(&queue_id)).await;
        let names: Vec<_> = events.iter().map(|event| name(&event.event)).collect();
        assert_eq!(names.last().map(String::as_str), Some("done"), "{names:?}");
        assert_eq!(
            names
                .iter()
                .filter(|name| name.starts_with("Failed"))
                .count(),
            2
        );
    }
}

#[tokio::test]
async fn a_rerouted_message_goes_to_that_server_and_is_remembered_by_it() {
    let script = [EHLO.as_slice(), &delivery("MAIL FROM:<alice@example.test>")].concat();
    let (address, server) = scripted(vec![script]).await;
    let mut house = House::build("\"port\": 9, \"dns\": [\"127.0.0.1:9\"]");
    let queue_id = house
        .submit(ALICE, &["bob@nowhere.test"], BODY)
        .await
        .unwrap();
    house
        .queue_until(|queue| queue[0].recipients[0].attempts > 0)
        .await;
    let reroute = |server: &str| QueueControlRequest::RerouteMessage {
        queue_id: queue_id.clone(),
        server: Some(server.into()),
    };
    let refused = house.order(reroute("no server")).await;
    assert!(matches!(
        refused,
        Err(CallError::Refused(Refusal::Invalid(_)))
    ));
    // It survives a kill, and the filter knows it.
    let hold = QueueControlRequest::HoldMessage {
        queue_id: queue_id.clone(),
    };
    house.order(hold).await.unwrap();
    assert_eq!(
        house.order(reroute(&address.to_string())).await,
        Ok(QueueControlAnswer::Rerouted)
    );
    house.kill();
    house.start();
    let filter = QueueFilter {
        destination: Some(address.to_string()),
        ..QueueFilter::default()
    };
    assert_eq!(ids(&house, filter).await, [queue_id.as_str()]);
    let release = QueueControlRequest::ReleaseMessage {
        queue_id: queue_id.clone(),
    };
    house.order(release).await.unwrap();
    house.queue_until(<[_]>::is_empty).await;
    assert!(server.await.unwrap().contains("RCPT TO:<bob@nowhere.test>"));
    let events = history(&house, Some("BOB@nowhere.test")).await;
    let delivered = events.iter().find_map(|event| match &event.event {
        QueueEvent::Tried {
            outcome: TriedOutcome::Delivered,
            reply,
            ..
        } => Some(reply.clone()),
        _ => None,
    });
    assert_eq!(delivered.as_deref(), Some("250 ok"));
}

#[tokio::test]
async fn what_happened_is_known_whenever_it_is_killed() {
    let mut house = House::build("\"port\": 9, \"dns\": [\"127.0.0.1:9\"]");
    let waits = house.submit(ALICE, &[BOB], BODY).await.unwrap();
    let queue_id = house.submit(ALICE, &[BOB], BODY).await.unwrap();
    let remove = QueueControlRequest::RemoveMessage {
        queue_id: queue_id.clone(),
    };
    house.order(remove).await.unwrap();
    house.kill();
    // The power failed, and the lines were not on the disk.
    let queue = house.home.path().join("queue");
    for entry in std::fs::read_dir(queue).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().unwrap().starts_with(".history-") {
            std::fs::write(entry.path(), "").unwrap();
        }
    }
    house.start();
    let of = |all: &[EventRow], id: &str| -> Vec<String> {
        let its = all.iter().filter(|event| event.queue_id == id);
        its.map(|event| name(&event.event))
            .filter(|name| !name.starts_with("Deferred"))
            .collect()
    };
    let all = history(&house, None).await;
    assert_eq!(of(&all, &waits), ["queued"]);
    assert_eq!(of(&all, &queue_id), ["queued", "removed"]);
    // And is written once.
    house.kill();
    house.start();
    let all = history(&house, None).await;
    assert_eq!(of(&all, &waits), ["queued"]);
    assert_eq!(of(&all, &queue_id), ["queued", "removed"]);
}
