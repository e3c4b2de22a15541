//! The program relayd with real sockets: mail in from smtpd, out to servers, reports to deliverd, killed in between.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::channel::CallError;
use ipc::control::{QueueControlAnswer, QueueControlRequest};
use ipc::queue::{QueueAnswer, QueueRequest};
use ipc::{Context, Refusal};
use loopback::free_port;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use world::deliverd::Deliverd;
use world::house::{House, PATIENCE, envelope, waiting, wanting};
use world::{EHLO, Hear, HearBody, Say, Wait, scripted};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@[127.0.0.1]";
const BODY: &[u8] = b"From: alice@example.test\r\nSubject: hello\r\n\r\nhello\r\n";

/// A server that answers RCPT with `reply` and keeps the bodies it took.
#[derive(Clone)]
struct Mx {
    port: u16,
    taken: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Mx {
    async fn start(reply: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mx = Self {
            port,
            taken: Arc::default(),
            connections: Arc::default(),
        };
        let server = mx.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                server.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(server.clone().serve(stream, reply));
            }
        });
        mx
    }

    async fn serve(self, stream: TcpStream, reply: &'static str) -> std::io::Result<()> {
        let mut stream = BufStream::new(stream);
        stream.write_all(b"220 mx\r\n").await?;
        loop {
            stream.flush().await?;
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let answer = match line.get(..4).unwrap_or_default() {
                "RCPT" => reply,
                "DATA" => {
                    stream.write_all(b"354 go\r\n").await?;
                    stream.flush().await?;
                    let mut body = String::new();
                    while !body.ends_with("\r\n.\r\n") {
                        if stream.read_line(&mut body).await? == 0 {
                            return Ok(());
                        }
                    }
                    self.taken.lock().unwrap().push(body);
                    "250 2.0.0 taken"
                }
                "QUIT" => "221 bye",
                _ => "250 ok",
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        }
    }

    fn taken(&self) -> usize {
        self.taken.lock().unwrap().len()
    }

    fn relay(&self, more: &str) -> String {
        format!("\"port\": {}, \"dns\": [\"127.0.0.1:9\"]{more}", self.port)
    }
}

#[tokio::test]
async fn a_message_goes_out_and_leaves_the_queue_empty() {
    let mx = Mx::start("250 ok").await;
    let house = House::build(&mx.relay(""));
    house.submit(ALICE, &[BOB], BODY).await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    assert_eq!(
        *mx.taken.lock().unwrap(),
        [format!("{}.\r\n", String::from_utf8_lossy(BODY))]
    );
    assert!(house.files().is_empty());
    match house.order(QueueControlRequest::ShowStatus).await.unwrap() {
        QueueControlAnswer::Status {
            delivered,
            failed,
            queued,
            ..
        } => assert_eq!((delivered, failed, queued), (1, 0, 0)),
        answer => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn a_permanent_failure_is_reported_to_the_senders_inbox_once() {
    let mx = Mx::start("550 5.1.1 no such user").await;
    let house = House::build(&mx.relay(""));
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    house
        .submit(ALICE, &[BOB, "carol@[127.0.0.1]"], BODY)
        .await
        .unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    let inbox = deliverd.inbox.lock().unwrap().clone();
    assert_eq!(inbox.len(), 1);
    let (to, report) = &inbox[0];
    assert_eq!(to, ALICE);
    assert!(report.starts_with("Return-Path: <>\r\n"));
    for needle in [
        "rfc822; bob@[127.0.0.1]",
        "rfc822; carol@[127.0.0.1]",
        "Status: 5.1.1",
        "Subject: hello",
    ] {
        assert!(report.contains(needle), "{needle} in {report}");
    }
    assert!(house.files().is_empty());
}

#[tokio::test]
async fn a_report_waits_for_a_deliverd_that_is_away() {
    let mx = Mx::start("550 5.1.1 no such user").await;
    let mut house = House::build(&mx.relay(""));
    house.submit(ALICE, &[BOB], BODY).await.unwrap();
    house
        .queue_until(|queue| queue.len() == 1 && queue[0].waiting == 0)
        .await;
    house.kill();
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    house.start();
    house.queue_until(|queue| queue.is_empty()).await;
    assert_eq!(deliverd.inbox.lock().unwrap().len(), 1);
    assert_eq!(
        mx.connections.load(Ordering::SeqCst),
        1,
        "a recorded failure is not tried again"
    );
}

#[tokio::test]
async fn a_message_is_given_up_after_its_last_wait() {
    let mx = Mx::start("450 4.2.1 try later").await;
    let house = House::build(&mx.relay(", \"retry_seconds\": [1, 1]"));
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    house.submit(ALICE, &[BOB], BODY).await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    assert_eq!(mx.connections.load(Ordering::SeqCst), 3);
    let inbox = deliverd.inbox.lock().unwrap().clone();
    assert!(inbox[0].1.contains("Status: 4.4.7") && inbox[0].1.contains("450 4.2.1 try later"));
}

#[tokio::test]
async fn a_report_about_a_report_is_never_made() {
    let mx = Mx::start("550 5.1.1 no such user").await;
    let house = House::build(&mx.relay(""));
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    house.submit("", &[BOB], BODY).await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    assert!(deliverd.inbox.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_report_to_a_foreign_sender_goes_through_the_queue_and_ends_there() {
    let mx = Mx::start("550 5.1.1 no such user").await;
    let house = House::build(&mx.relay(""));
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    house.submit("eve@[127.0.0.1]", &[BOB], BODY).await.unwrap();
    for _ in 0..200 {
        if mx.connections.load(Ordering::SeqCst) == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    house.queue_until(|queue| queue.is_empty()).await;
    assert_eq!(mx.connections.load(Ordering::SeqCst), 2);
    assert!(deliverd.inbox.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nothing_queued_is_lost_when_relayd_is_killed_at_any_moment() {
    let mx = Mx::start("250 ok").await;
    let mut house = House::build(&mx.relay(", \"retry_seconds\": [1, 1, 1, 1, 1, 1, 1, 1]"));
    let mut queued = Vec::new();
    for round in 0..6 {
        let end = tokio::time::Instant::now() + Duration::from_millis(60 + round * 35);
        while tokio::time::Instant::now() < end {
            let subject = format!("{}-{}", round, queued.len());
            let body = format!("Subject: {subject}\r\n\r\nx\r\n");
            if house.submit(ALICE, &[BOB], body.as_bytes()).await.is_ok() {
                queued.push(subject);
            }
        }
        house.kill();
        house.start();
    }
    house.queue_until(|queue| queue.is_empty()).await;
    let taken = mx.taken.lock().unwrap().join("");
    for subject in &queued {
        assert!(
            taken.contains(&format!("Subject: {subject}\r\n")),
            "{subject} is lost of {}",
            queued.len()
        );
    }
    assert!(queued.len() > 6 && house.files().is_empty());
}

#[tokio::test]
async fn the_schedule_survives_and_the_operator_sees_hurries_and_removes() {
    let port = free_port();
    let mut house = House::build(&format!("\"port\": {port}, \"dns\": [\"127.0.0.1:9\"]"));
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(house.submit(ALICE, &[BOB], BODY).await.unwrap());
    }
    let tried = |queue: &[ipc::control::QueuedMessage]| {
        queue
            .iter()
            .all(|message| message.recipients[0].attempts == 1)
    };
    let before = house.queue_until(tried).await;
    assert_eq!(
        before
            .iter()
            .map(|message| message.queue_id.clone())
            .collect::<Vec<_>>(),
        ids
    );
    assert!(before[0].recipients[0].last_error.contains("127.0.0.1"));
    assert!(house.terminate());
    house.start();
    assert_eq!(house.queue().await, before);

    let removed = QueueControlRequest::RemoveMessage {
        queue_id: ids[0].clone(),
    };
    assert_eq!(
        house.order(removed.clone()).await.unwrap(),
        QueueControlAnswer::Removed
    );
    assert_eq!(
        house.order(removed).await,
        Err(CallError::Refused(Refusal::NotFound))
    );
    let nonsense = QueueControlRequest::RemoveMessage {
        queue_id: "../../etc".into(),
    };
    assert_eq!(
        house.order(nonsense).await,
        Err(CallError::Refused(Refusal::NotFound))
    );
    let hurry = QueueControlRequest::RetryMessage {
        queue_id: Some(ids[1].clone()),
    };
    assert_eq!(
        house.order(hurry).await.unwrap(),
        QueueControlAnswer::Retried { messages: 1 }
    );
    house
        .queue_until(|queue| queue.len() == 4 && queue[0].recipients[0].attempts == 2)
        .await;
    let all = QueueControlRequest::RetryMessage { queue_id: None };
    // The one that was hurried may still be on its way back into the schedule.
    assert!(matches!(
        house.order(all).await.unwrap(),
        QueueControlAnswer::Retried { messages: 3 | 4 }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_under_way_ends_before_relayd_stops() {
    let body = [
        Hear("MAIL"),
        Say(b"250 ok\r\n"),
        Hear("RCPT"),
        Say(b"250 ok\r\n"),
        Hear("DATA"),
        Say(b"354 go\r\n"),
        HearBody,
        Wait(Duration::from_secs(1)),
        Say(b"250 ok\r\n"),
    ];
    let (address, server) = scripted(vec![[EHLO.as_slice(), &body].concat()]).await;
    let mut house = House::build(&format!(
        "\"port\": {}, \"dns\": [\"127.0.0.1:9\"]",
        address.port()
    ));
    house.submit(ALICE, &[BOB], BODY).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(house.terminate());
    assert!(server.await.unwrap().contains("hello"));
    assert!(house.files().is_empty());
}

/// Has the operator hurry everything for a while, as often as he likes.
async fn hurry_for_a_while(house: &House) {
    for _ in 0..15 {
        let all = QueueControlRequest::RetryMessage { queue_id: None };
        house.order(all).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_result_the_disk_does_not_take_is_kept_and_the_mail_does_not_go_out_again() {
    let mx = Mx::start("250 ok").await;
    let mut house = House::build(&mx.relay(""));
    house.kill();
    house.start_without_room(512);
    let to = [BOB, "carol@[127.0.0.1]", "dave@[127.0.0.1]"];
    house.submit(ALICE, &to, BODY).await.unwrap();
    hurry_for_a_while(&house).await;
    assert_eq!((mx.taken(), house.queue().await.len()), (1, 1));
    house.make_room();
    house.queue_until(|queue| queue.is_empty()).await;
    assert_eq!((mx.taken(), house.files().len()), (1, 0));
    match house.order(QueueControlRequest::ShowStatus).await.unwrap() {
        QueueControlAnswer::Status { delivered, .. } => assert_eq!(delivered, 3),
        answer => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn a_message_whose_result_the_disk_does_not_take_can_be_removed() {
    let mx = Mx::start("250 ok").await;
    let mut house = House::build(&mx.relay(""));
    house.kill();
    house.start_without_room(512);
    let to = [BOB, "carol@[127.0.0.1]", "dave@[127.0.0.1]"];
    let queue_id = house.submit(ALICE, &to, BODY).await.unwrap();
    hurry_for_a_while(&house).await;
    let remove = QueueControlRequest::RemoveMessage { queue_id };
    house.order(remove).await.unwrap();
    assert!(house.files().is_empty() && house.queue().await.is_empty());
    hurry_for_a_while(&house).await;
    assert_eq!(mx.taken(), 1);
}

#[tokio::test]
async fn a_report_the_disk_does_not_take_note_of_is_not_brought_again() {
    let mx = Mx::start("550 5.1.1 no such user").await;
    let mut house = House::build(&mx.relay(""));
    let queue_id = house.submit(ALICE, &[BOB], BODY).await.unwrap();
    house
        .queue_until(|queue| queue.len() == 1 && queue[0].waiting == 0)
        .await;
    house.kill();
    let journal = house.journal(&queue_id);
    house.start_without_room(std::fs::metadata(journal).unwrap().len());
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    hurry_for_a_while(&house).await;
    assert_eq!(deliverd.inbox.lock().unwrap().len(), 1);
    assert_eq!(house.queue().await.len(), 1);
    house.make_room();
    house.queue_until(|queue| queue.is_empty()).await;
    assert_eq!(deliverd.inbox.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_report_that_cannot_be_brought_leaves_nothing_open_at_deliverd() {
    let mx = Mx::start("550 5.1.1 no such user").await;
    let house = House::build(&mx.relay(""));
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    house
        .submit("full@example.test", &[BOB], BODY)
        .await
        .unwrap();
    house
        .queue_until(|queue| queue.len() == 1 && queue[0].waiting == 0)
        .await;
    for _ in 0..100 {
        if deliverd.aborted.load(Ordering::SeqCst) > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(deliverd.aborted.load(Ordering::SeqCst), 1);
    assert!(deliverd.inbox.lock().unwrap().is_empty());
}

#[tokio::test]
async fn recipients_beyond_the_limit_are_refused_and_not_kept() {
    let house = House::build("\"port\": 9, \"dns\": [\"127.0.0.1:9\"]");
    let link = house.smtpd.pinned(PATIENCE).await.unwrap();
    let call = |request| link.call(Context::default(), PATIENCE, request);
    let opened = call(QueueRequest::OpenMessage(envelope(ALICE, ""))).await;
    let opened = opened.unwrap();
    let QueueAnswer::MessageOpened(message) = opened.answer else {
        panic!()
    };
    // The limit is 1,000.
    for page in 0..120 {
        let recipients = (0..10)
            .map(|n| waiting(&format!("r{page}-{n}@[127.0.0.1]")))
            .collect();
        let added = call(QueueRequest::AddRecipients {
            message,
            recipients,
        });
        let refused = Err(CallError::Refused(Refusal::TooManyRecipients));
        match added.await {
            Ok(_) => assert!(page < 100),
            error => assert_eq!((error.map(|_| ()), page >= 100), (refused, true)),
        }
    }
    drop(opened.fds);
    house.commit(&link, message, 0).await.unwrap();
    let queue = house.queue().await;
    assert_eq!(queue[0].waiting, 1000);
}

#[tokio::test]
async fn smtpd_is_doubted() {
    let mx = Mx::start("250 ok").await;
    let house = House::build(&mx.relay(""));
    let refused = |result: Result<String, CallError>| match result {
        Err(CallError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    for bad in ["x\r\nRCPT TO:<y@z>", "no address", "a@b\nc"] {
        assert!(
            matches!(
                refused(house.submit(ALICE, &[bad], BODY).await),
                Refusal::Invalid(_)
            ),
            "{bad}"
        );
        assert!(
            matches!(
                refused(house.submit(bad, &[BOB], BODY).await),
                Refusal::Invalid(_)
            ),
            "{bad}"
        );
    }
    for (of_mail, of_rcpt) in [
        ("RET=FOO", ""),
        ("", "NOTIFY=NEVER,DELAY"),
        ("X", ""),
        ("", "RET=FULL"),
    ] {
        let recipients = vec![wanting(BOB, of_rcpt)];
        let brought = house.submit_as(envelope(ALICE, of_mail), recipients, BODY);
        assert!(
            matches!(refused(brought.await), Refusal::Invalid(_)),
            "{of_mail} {of_rcpt}"
        );
    }
    assert!(matches!(
        refused(house.submit(ALICE, &[], BODY).await),
        Refusal::Invalid(_)
    ));
    assert_eq!(
        refused(house.submit(ALICE, &[BOB], &[b'x'; 70_000]).await),
        Refusal::MessageTooLarge
    );
    assert!(house.files().is_empty() && mx.taken() == 0);
}

#[tokio::test]
async fn a_size_that_is_not_true_and_an_abort_leave_nothing() {
    let mx = Mx::start("250 ok").await;
    let house = House::build(&mx.relay(""));
    let link = house.smtpd.pinned(PATIENCE).await.unwrap();
    let call = |request| link.call(Context::default(), PATIENCE, request);
    let open = || call(QueueRequest::OpenMessage(envelope(ALICE, "")));
    let opened = open().await.unwrap();
    let QueueAnswer::MessageOpened(message) = opened.answer else {
        panic!()
    };
    call(QueueRequest::AddRecipients {
        message,
        recipients: vec![waiting(BOB)],
    })
    .await
    .unwrap();
    drop(opened.fds);
    assert_eq!(
        house.commit(&link, message, 5).await,
        Err(CallError::Refused(Refusal::SizeMismatch))
    );
    assert_eq!(
        house.commit(&link, message, 0).await,
        Err(CallError::Refused(Refusal::UnknownHandle))
    );
    let opened = open().await.unwrap();
    let QueueAnswer::MessageOpened(message) = opened.answer else {
        panic!()
    };
    call(QueueRequest::AbortMessage { message }).await.unwrap();
    assert_eq!(
        house.commit(&link, message, 0).await,
        Err(CallError::Refused(Refusal::UnknownHandle))
    );
    assert!(house.files().is_empty());
}

#[tokio::test]
async fn what_is_known_only_at_the_end_goes_out_in_front() {
    let mx = Mx::start("250 ok").await;
    let house = House::build(&mx.relay(""));
    let link = house.smtpd.pinned(PATIENCE).await.unwrap();
    let call = |request| link.call(Context::default(), PATIENCE, request);
    let head = b"Authentication-Results: relay.example.test; none\r\n".to_vec();
    for (head, wanted) in [
        (
            vec![b'x'; 4097],
            Err(CallError::Refused(Refusal::MessageTooLarge)),
        ),
        (head.clone(), Ok(())),
    ] {
        let opened = call(QueueRequest::OpenMessage(envelope(ALICE, "")));
        let opened = opened.await.unwrap();
        let QueueAnswer::MessageOpened(message) = opened.answer else {
            panic!()
        };
        let recipients = vec![waiting(BOB)];
        call(QueueRequest::AddRecipients {
            message,
            recipients,
        })
        .await
        .unwrap();
        let stream = std::os::unix::net::UnixStream::from(opened.fds.into_iter().next().unwrap());
        stream.set_nonblocking(true).unwrap();
        let mut stream = tokio::net::UnixStream::from_std(stream).unwrap();
        stream.write_all(BODY).await.unwrap();
        stream.shutdown().await.unwrap();
        let size = BODY.len() as u64;
        let queued = house.commit_behind(&link, message, size, head).await;
        assert_eq!(queued.map(drop), wanted);
    }
    while mx.taken() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let taken = mx.taken.lock().unwrap().remove(0);
    let whole = [head, BODY.to_vec()].concat();
    assert!(
        taken.contains(std::str::from_utf8(&whole).unwrap()),
        "{taken}"
    );
}

#[tokio::test]
async fn garbage_on_its_sockets_does_not_stop_it() {
    let mx = Mx::start("250 ok").await;
    let house = House::build(&mx.relay(""));
    for socket in ["relayd-smtpd.sock", "relayd-ctl.sock"] {
        for garbage in [
            b"".as_slice(),
            b"\0\0\0\0",
            &[0xff; 16_000],
            b"GET / HTTP/1.1\r\n\r\n",
        ] {
            let peer = sys::packet::PacketSocket::connect(&house.socket(socket)).unwrap();
            // The channel may be closed before all of it is sent.
            let _ = peer.send(garbage, &[]);
            let file = std::fs::File::open("/dev/null").unwrap();
            let _ = peer.send(garbage, &[std::os::fd::AsFd::as_fd(&file)]);
        }
    }
    house.submit(ALICE, &[BOB], BODY).await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    assert_eq!(mx.taken(), 1);
}

#[tokio::test]
async fn a_relay_that_is_switched_off_takes_nothing() {
    let house = House::build("\"enabled\": false, \"dns\": [\"127.0.0.1:9\"]");
    let result = house.submit(ALICE, &[BOB], BODY).await;
    assert_eq!(result, Err(CallError::Refused(Refusal::RelayDisabled)));
}
