//! Channels under load, garbage and death of the other side.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed"
)]

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use daemon::channel::{Answered, CallError, Client, Events, Link, Service, serve, serve_link};
use daemon::stop;
use ipc::session::{SessionAnswer, SessionEdge, SessionEvent, SessionRequest};
use ipc::smtp::{SmtpAnswer, SmtpEdge, SmtpRequest};
use ipc::{Call, Context, Refusal};
use sys::packet::{PacketListener, PacketSocket};

const SOON: Duration = Duration::from_secs(5);

/// Allows the sender "ok", panics on "panic", never answers "slow", hands descriptors out for "fds", and for "crowd" more
/// than a packet can carry.
struct Judge;

impl Service<SmtpEdge> for Judge {
    type Peer = ();

    fn open(&self, _: Events<SmtpEdge>) {}

    async fn answer(
        &self,
        _: Arc<()>,
        call: Call<SmtpRequest>,
    ) -> Result<Answered<SmtpAnswer>, Refusal> {
        let SmtpRequest::CheckSender { sender, .. } = call.request else {
            return Err(Refusal::NotFound);
        };
        match sender.as_str() {
            "ok" => Ok(Answered::plain(SmtpAnswer::SenderAllowed)),
            "fds" => {
                let (a, b) = sys::packet::stream_pair().unwrap();
                Ok(Answered::with(
                    SmtpAnswer::SenderAllowed,
                    vec![a.into(), b.into()],
                ))
            }
            "crowd" => {
                let (a, _b) = sys::packet::stream_pair().unwrap();
                let crowd = (0..=sys::packet::MAX_DESCRIPTORS).map(|_| a.try_clone().unwrap());
                Ok(Answered::with(
                    SmtpAnswer::SenderAllowed,
                    crowd.map(Into::into).collect(),
                ))
            }
            "panic" => panic!("as asked"),
            "slow" => std::future::pending().await,
            _ => Err(Refusal::SenderNotAllowed),
        }
    }
}

fn request(sender: &str) -> SmtpRequest {
    SmtpRequest::CheckSender {
        account: "alice@example.test".into(),
        sender: sender.into(),
    }
}

struct House {
    _directory: tempfile::TempDir,
    path: PathBuf,
    sender: stop::StopSender,
    stop: stop::Stop,
}

fn house() -> House {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("judge.sock");
    let (sender, stop) = stop::channel();
    House {
        _directory: directory,
        path,
        sender,
        stop,
    }
}

fn open(house: &House) {
    let listener = PacketListener::bind(&house.path).unwrap();
    tokio::spawn(serve::<SmtpEdge, _>(
        listener,
        Arc::new(Judge),
        house.stop.clone(),
    ));
}

#[tokio::test]
async fn calls_of_many_tasks_are_answered_each_its_own() {
    let house = house();
    open(&house);
    let client = Client::<SmtpEdge>::new(house.path.clone());
    let tasks = (0..400).map(|n| {
        let client = client.clone();
        tokio::spawn(async move {
            let sender = if n % 2 == 0 { "ok" } else { "other" };
            (
                n,
                client
                    .call(Context::default(), SOON, request(sender))
                    .await
                    .map(|answered| answered.answer),
            )
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        let (n, answer) = task.await.unwrap();
        let expected = if n % 2 == 0 {
            Ok(SmtpAnswer::SenderAllowed)
        } else {
            Err(CallError::Refused(Refusal::SenderNotAllowed))
        };
        assert_eq!(answer, expected);
    }
}

#[tokio::test]
async fn descriptors_arrive_with_their_answer() {
    let house = house();
    open(&house);
    let client = Client::<SmtpEdge>::new(house.path.clone());
    let answered = client
        .call(Context::default(), SOON, request("fds"))
        .await
        .unwrap();
    assert_eq!(answered.fds.len(), 2);
}

#[tokio::test]
async fn a_panic_ends_one_call_and_not_the_channel() {
    let house = house();
    open(&house);
    let client = Client::<SmtpEdge>::new(house.path.clone());
    let panicked = client
        .call(Context::default(), SOON, request("panic"))
        .await;
    assert_eq!(
        panicked.unwrap_err(),
        CallError::Refused(Refusal::StorageFault)
    );
    assert!(
        client
            .call(Context::default(), SOON, request("ok"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_deadline() {
    let house = house();
    open(&house);
    let client = Client::<SmtpEdge>::new(house.path.clone());
    let slow = client
        .call(
            Context::default(),
            Duration::from_millis(50),
            request("slow"),
        )
        .await;
    assert!(slow.unwrap_err().is_temporary());
}

#[tokio::test]
async fn an_answer_that_cannot_be_sent_ends_the_channel_and_the_next_one_works() {
    let house = house();
    open(&house);
    let client = Client::<SmtpEdge>::new(house.path.clone());
    let lost = client
        .call(Context::default(), SOON, request("crowd"))
        .await
        .unwrap_err();
    assert_eq!(lost, CallError::Unavailable);
    let next = client
        .ask(Context::default(), SOON, request("ok"))
        .await
        .map(|answered| answered.answer);
    assert_eq!(next, Ok(SmtpAnswer::SenderAllowed));
}

#[tokio::test]
async fn garbage_closes_its_own_channel_only() {
    let house = house();
    open(&house);
    let client = Client::<SmtpEdge>::new(house.path.clone());
    assert!(
        client
            .call(Context::default(), SOON, request("ok"))
            .await
            .is_ok()
    );
    let intruder = PacketSocket::connect(&house.path).unwrap();
    intruder.send(&[0xff; 300], &[]).unwrap();
    intruder.send(b"more", &[intruder.as_fd()]).unwrap_or(());
    let mut buffer = vec![0; 20_000];
    let end = std::time::Instant::now() + SOON;
    loop {
        // Our greeting is answered by theirs at most; then the channel ends.
        match intruder.recv(&mut buffer) {
            Ok(received) if received.len == 0 => break,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            _ => assert!(
                std::time::Instant::now() < end,
                "the intruder is still connected"
            ),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        client
            .call(Context::default(), SOON, request("ok"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_client_waits_for_a_daemon_that_is_away_and_finds_it_again() {
    let house = house();
    let client = Client::<SmtpEdge>::new(house.path.clone());
    assert_eq!(
        client
            .call(Context::default(), Duration::from_millis(50), request("ok"))
            .await
            .unwrap_err(),
        CallError::Unavailable
    );
    open(&house);
    assert!(
        client
            .ask(Context::default(), SOON, request("ok"))
            .await
            .is_ok()
    );
    house.sender.stop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    std::fs::remove_file(&house.path).unwrap();
    let (_sender, stop) = stop::channel();
    let listener = PacketListener::bind(&house.path).unwrap();
    tokio::spawn(serve::<SmtpEdge, _>(listener, Arc::new(Judge), stop));
    assert!(
        client
            .ask(Context::default(), SOON, request("ok"))
            .await
            .is_ok()
    );
}

/// Sends `flags` events per Unselect, and counts the calls it works on at once.
#[derive(Default)]
struct Mailbox {
    running: AtomicU32,
    most: AtomicU32,
    /// Whether something happens right after each answer.
    goes_on: bool,
}

impl Service<SessionEdge> for Mailbox {
    type Peer = Events<SessionEdge>;

    fn open(&self, events: Events<SessionEdge>) -> Events<SessionEdge> {
        events
    }

    async fn answer(
        &self,
        events: Arc<Events<SessionEdge>>,
        call: Call<SessionRequest>,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        if let SessionRequest::OpenMessages { uids } = call.request {
            for uid in uids {
                events
                    .send(SessionEvent::Removed(vec![(uid, uid)]))
                    .unwrap();
            }
        }
        tokio::task::yield_now().await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(Answered::plain(SessionAnswer::Done))
    }

    fn answered(&self, events: &Events<SessionEdge>) {
        if self.goes_on {
            events.send(SessionEvent::Gone).unwrap();
        }
    }
}

#[tokio::test]
async fn a_call_anew_forgets_the_events_before_its_answer_and_none_behind_it() {
    let (ours, theirs) = PacketSocket::pair().unwrap();
    let (_sender, stop) = stop::channel();
    let mailbox = Mailbox {
        goes_on: true,
        ..Mailbox::default()
    };
    tokio::spawn(serve_link::<SessionEdge, _>(
        theirs,
        Arc::new(mailbox),
        stop,
    ));
    let link = Link::<SessionEdge>::over(ours.into()).unwrap();
    let open = |uid| SessionRequest::OpenMessages { uids: vec![uid] };
    link.call(Context::default(), SOON, open(7)).await.unwrap();
    let anew = link.call_anew(Context::default(), SOON, open(9));
    anew.await.unwrap();
    let next = tokio::time::timeout(SOON, link.event()).await;
    assert_eq!(next.unwrap(), Some(SessionEvent::Gone));
    assert_eq!(link.try_event(), None);
}

#[tokio::test]
async fn a_session_answers_in_order_and_its_events_come_before_the_answer() {
    let (ours, theirs) = PacketSocket::pair().unwrap();
    let (_sender, stop) = stop::channel();
    let mailbox = Arc::new(Mailbox::default());
    tokio::spawn(serve_link::<SessionEdge, _>(
        theirs,
        Arc::clone(&mailbox),
        stop,
    ));
    let link = Link::<SessionEdge>::over(ours.into()).unwrap();
    let call = |request| link.call(Context::default(), SOON, request);
    let (a, b, c) = tokio::join!(
        call(SessionRequest::Unselect),
        call(SessionRequest::OpenMessages { uids: vec![7, 9] }),
        call(SessionRequest::Unselect)
    );
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(mailbox.most.load(Ordering::SeqCst), 1);
    assert_eq!(link.try_event(), Some(SessionEvent::Removed(vec![(7, 7)])));
    assert_eq!(
        link.event().await,
        Some(SessionEvent::Removed(vec![(9, 9)]))
    );
    assert_eq!(link.try_event(), None);
}

#[tokio::test]
async fn a_session_that_does_not_take_its_events_is_told_to_resync() {
    let (ours, theirs) = PacketSocket::pair().unwrap();
    let (_sender, stop) = stop::channel();
    tokio::spawn(serve_link::<SessionEdge, _>(
        theirs,
        Arc::new(Mailbox::default()),
        stop,
    ));
    let link = Link::<SessionEdge>::over(ours.into()).unwrap();
    for _ in 0..10 {
        let uids = (1..=64).collect();
        link.call(
            Context::default(),
            SOON,
            SessionRequest::OpenMessages { uids },
        )
        .await
        .unwrap();
    }
    assert_eq!(link.try_event(), Some(SessionEvent::Resync));
}

#[tokio::test]
async fn a_closed_session_wakes_whoever_waits_for_events() {
    let (ours, theirs) = PacketSocket::pair().unwrap();
    let link = Link::<SessionEdge>::over(ours.into()).unwrap();
    drop(theirs);
    assert_eq!(
        tokio::time::timeout(SOON, link.event()).await.unwrap(),
        None
    );
    let call = link
        .call(Context::default(), SOON, SessionRequest::Unselect)
        .await;
    assert_eq!(call.unwrap_err(), CallError::Unavailable);
}
