//! Channels whose calls are answered on the threads that read them.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed"
)]

use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use daemon::channel::{
    Answered, CallError, Client, Events, Prompt, Reply, Service, serve_promptly,
};
use daemon::stop;
use ipc::smtp::{SmtpAnswer, SmtpEdge, SmtpRequest};
use ipc::{Call, Context, Edge, Refusal};
use sys::packet::{PacketListener, PacketSocket};

const SOON: Duration = Duration::from_secs(10);

/// Allows the sender "here" at once, "later" and "late panic" when it settles, and others by the runtime; "wait" waits for the barrier, "panic"
/// panics.
struct Clerk {
    barrier: Barrier,
    gone: mpsc::Sender<()>,
}

/// Tells when it is dropped.
struct Peer(mpsc::Sender<()>);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

impl Service<SmtpEdge> for Clerk {
    type Peer = Peer;

    fn open(&self, _: Events<SmtpEdge>) -> Peer {
        Peer(self.gone.clone())
    }

    async fn answer(
        &self,
        _: Arc<Peer>,
        _: Call<SmtpRequest>,
    ) -> Result<Answered<SmtpAnswer>, Refusal> {
        Err(Refusal::SenderNotAllowed)
    }
}

impl Prompt<SmtpEdge> for Clerk {
    type Shift = Vec<(bool, Reply<SmtpEdge>)>;

    fn answer_here(
        &self,
        shift: &mut Self::Shift,
        _: &Peer,
        call: Call<SmtpRequest>,
        reply: Reply<SmtpEdge>,
    ) -> Option<(Call<SmtpRequest>, Reply<SmtpEdge>)> {
        let SmtpRequest::CheckSender { sender, .. } = &call.request else {
            return Some((call, reply));
        };
        match sender.as_str() {
            "here" => reply.send(Ok(Answered::plain(SmtpAnswer::SenderAllowed))),
            "later" => shift.push((true, reply)),
            "late panic" => shift.push((false, reply)),
            "wait" => {
                self.barrier.wait();
                reply.send(Ok(Answered::plain(SmtpAnswer::SenderAllowed)));
            }
            "panic" => panic!("as asked"),
            _ => return Some((call, reply)),
        }
        None
    }

    fn settle(&self, shift: Self::Shift) {
        for (is_fine, reply) in shift {
            assert!(is_fine, "as asked");
            reply.send(Ok(Answered::plain(SmtpAnswer::SenderAllowed)));
        }
    }
}

struct World {
    _directory: tempfile::TempDir,
    clerk: Arc<Clerk>,
    client: Client<SmtpEdge>,
    path: std::path::PathBuf,
    gone: mpsc::Receiver<()>,
    sender: stop::StopSender,
}

fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("clerk.sock");
    let (sender, stop) = stop::channel();
    let (tell, gone) = mpsc::channel();
    let clerk = Arc::new(Clerk {
        barrier: Barrier::new(2),
        gone: tell,
    });
    let listener = PacketListener::bind(&path).unwrap();
    tokio::spawn(serve_promptly(listener, Arc::clone(&clerk), stop));
    World {
        _directory: directory,
        clerk,
        client: Client::new(path.clone()),
        path,
        gone,
        sender,
    }
}

async fn ask(client: &Client<SmtpEdge>, sender: &str) -> Result<SmtpAnswer, CallError> {
    let request = SmtpRequest::CheckSender {
        account: "alice@example.test".into(),
        sender: sender.into(),
    };
    let answered = client.call(Context::default(), SOON, request).await;
    answered.map(|answered| answered.answer)
}

const ALLOWED: Result<SmtpAnswer, CallError> = Ok(SmtpAnswer::SenderAllowed);

#[tokio::test]
async fn calls_of_many_tasks_are_answered_each_its_own() {
    let world = world();
    let tasks = (0..400).map(|n| {
        let client = world.client.clone();
        let sender = ["here", "later", "elsewhere"][n % 3];
        tokio::spawn(async move { (sender, ask(&client, sender).await) })
    });
    for task in tasks.collect::<Vec<_>>() {
        let (sender, answer) = task.await.unwrap();
        match sender {
            "elsewhere" => assert_eq!(answer, Err(CallError::Refused(Refusal::SenderNotAllowed))),
            _ => assert_eq!(answer, ALLOWED, "{sender}"),
        }
    }
}

#[tokio::test]
async fn a_panic_is_told_to_who_asked_and_ends_neither_thread() {
    let world = world();
    for sender in ["panic", "late panic"].repeat(4) {
        let panicked = ask(&world.client, sender).await;
        assert_eq!(panicked, Err(CallError::Refused(Refusal::StorageFault)));
    }
    assert_eq!(ask(&world.client, "later").await, ALLOWED);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_thread_reads_while_the_other_one_waits() {
    let world = world();
    let client = world.client.clone();
    let waits = tokio::spawn(async move { ask(&client, "wait").await });
    for sender in ["here", "later"].repeat(20) {
        assert_eq!(ask(&world.client, sender).await, ALLOWED);
    }
    let clerk = Arc::clone(&world.clerk);
    tokio::task::spawn_blocking(move || clerk.barrier.wait())
        .await
        .unwrap();
    assert_eq!(waits.await.unwrap(), ALLOWED);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_threads_of_a_channel_end_with_it() {
    let world = world();
    // The asker goes away.
    let other = Client::<SmtpEdge>::new(world.path.clone());
    assert_eq!(ask(&other, "here").await, ALLOWED);
    drop(other);
    world.gone.recv_timeout(SOON).unwrap();
    // It sends what is no frame.
    let other = PacketSocket::connect(&world.path).unwrap();
    let hello = ipc::frame::encode(&ipc::hello::Hello::ours(SmtpEdge::NAME)).unwrap();
    other.send(&hello, &[]).unwrap();
    other.send(&[0xff; 300], &[]).unwrap();
    world.gone.recv_timeout(SOON).unwrap();
    // It is told to stop.
    assert_eq!(ask(&world.client, "here").await, ALLOWED);
    world.sender.stop();
    world.gone.recv_timeout(SOON).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn few_channels_have_threads_and_the_runtime_answers_the_others() {
    let world = world();
    let mut clients: Vec<_> = (0..6)
        .map(|_| Client::<SmtpEdge>::new(world.path.clone()))
        .collect();
    for (number, client) in clients.iter().enumerate() {
        let answer = match number {
            0..4 => ALLOWED,
            _ => Err(CallError::Refused(Refusal::SenderNotAllowed)),
        };
        assert_eq!(ask(client, "here").await, answer, "{number}");
    }
    // Another one has those of one that is gone.
    drop(clients.remove(0));
    world.gone.recv_timeout(SOON).unwrap();
    let next = Client::<SmtpEdge>::new(world.path.clone());
    assert_eq!(ask(&next, "here").await, ALLOWED);
}
