//! The real binary, killed in the middle of its work: whatever it acknowledged is there afterwards, whole, once or twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::channel::{CallError, Client};
use ipc::control::{DomainInfo, StoreControlAnswer, StoreControlEdge, StoreControlRequest};
use ipc::delivery::{DeliveryAnswer, DeliveryRequest, Destination, fits_in_frame};
use ipc::quota::{LimitChange, Usage};
use ipc::smtp::{SmtpAnswer, SmtpEdge, SmtpRequest};
use ipc::{Context, Secret};
use sys::packet::PacketListener;

const ROLES: [&str; 5] = ["smtpd", "relayd", "imapd", "apid", "ctl"];
const WITHIN: Duration = Duration::from_secs(10);
const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// A deliverd as rmaild would run it: the sockets outlive the process.
struct World {
    temp: tempfile::TempDir,
    sockets: Vec<OwnedFd>,
    child: Option<Child>,
}

impl World {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().display();
        let text = format!(
            r#"{{"version": 1, "hostname": "mx.example.test", "domains": ["example.test"], "mail_root": "{root}",
                "run_dir": "{root}", "tls": {{"cert_file": "/x", "key_file": "/x"}}}}"#
        );
        std::fs::write(temp.path().join("config.json"), text).unwrap();
        let sockets = ROLES.iter().map(|role| {
            let listener =
                PacketListener::bind(&temp.path().join(format!("deliverd-{role}.sock"))).unwrap();
            let fd = OwnedFd::from(listener);
            // The child inherits it.
            rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
            fd
        });
        let sockets = sockets.collect();
        Self {
            temp,
            sockets,
            child: None,
        }
    }

    /// Starts deliverd by the protocol of sd_listen_fds(3); a shell puts the descriptors in place.
    fn start(&mut self) {
        let targets: Vec<String> = self
            .sockets
            .iter()
            .enumerate()
            .map(|(at, fd)| format!("{}<&{}", 103 + at, fd.as_raw_fd()))
            .collect();
        let places: Vec<String> = (0..ROLES.len())
            .map(|at| format!("{}<&{}-", 3 + at, 103 + at))
            .collect();
        let script = format!(
            "exec {}; exec {}; export LISTEN_FDS={} LISTEN_FDNAMES={} LISTEN_PID=$$; exec \"$0\" \"$1\"",
            targets.join(" "),
            places.join(" "),
            ROLES.len(),
            ROLES.join(":")
        );
        let child = Command::new("bash")
            .args(["-c", &script, env!("CARGO_BIN_EXE_deliverd")])
            .arg(self.temp.path().join("config.json"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and the exit status.
    fn stop(&mut self) -> std::process::ExitStatus {
        let mut child = self.child.take().unwrap();
        sys::process::terminate(child.id()).unwrap();
        child.wait().unwrap()
    }

    fn socket(&self, role: &str) -> PathBuf {
        self.temp.path().join(format!("deliverd-{role}.sock"))
    }

    fn smtp(&self) -> Client<SmtpEdge> {
        Client::new(self.socket("smtpd"))
    }

    async fn order(&self, request: StoreControlRequest) -> StoreControlAnswer {
        let client = Client::<StoreControlEdge>::new(self.socket("ctl"));
        let answered = client.call(Context::default(), WITHIN, request).await;
        answered.unwrap().answer
    }

    /// What deliverd believes the domain stores.
    async fn usage(&self) -> Usage {
        match self
            .order(StoreControlRequest::ListDomains { after: None })
            .await
        {
            StoreControlAnswer::Domains { domains, .. } => {
                let [DomainInfo { usage, .. }] = domains.try_into().unwrap();
                usage
            }
            other => panic!("{other:?}"),
        }
    }

    /// What lies on disk.
    fn stored(&self) -> Usage {
        let mut stored = Usage::default();
        for user in USERS {
            for (body, times) in self.bodies(user) {
                stored.messages += times as u64;
                stored.bytes += (times * body.len()) as u64;
            }
        }
        stored
    }

    async fn add_users(&self) {
        for user in USERS {
            let address = format!("{user}@example.test");
            let request = StoreControlRequest::AddUser {
                address,
                password: Secret::new("password"),
                limits: LimitChange::default(),
            };
            assert_eq!(self.order(request).await, StoreControlAnswer::Done);
        }
    }

    /// Bodies in a user's INBOX, as they lie on disk, with how often each is there.
    fn bodies(&self, user: &str) -> HashMap<String, usize> {
        let inbox = format!("store/mailstore/domains/example.test/users/{user}/mailboxes/INBOX");
        let mut bodies = HashMap::new();
        for shard in names(&self.temp.path().join(inbox)).filter(|path| path.is_dir()) {
            for file in
                names(&shard).filter(|path| path.extension().is_some_and(|end| end == "eml"))
            {
                *bodies
                    .entry(std::fs::read_to_string(file).unwrap())
                    .or_insert(0) += 1;
            }
        }
        bodies
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn names(path: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
}

/// One delivery to all users over one connection, as smtpd does it.
async fn deliver(client: &Client<SmtpEdge>, body: &str) -> Result<(), CallError> {
    let link = client.pinned(WITHIN).await?;
    let ask = async |request| {
        let answered = link
            .call(Context::default(), WITHIN, SmtpRequest::Delivery(request))
            .await?;
        let SmtpAnswer::Delivery(answer) = answered.answer else {
            panic!("{:?}", answered.answer)
        };
        Ok::<_, CallError>((answer, answered.fds))
    };
    let recipients: Vec<_> = USERS
        .iter()
        .map(|user| format!("{user}@example.test"))
        .collect();
    if fits_in_frame(&recipients, body.len()) {
        let whole = DeliveryRequest::DeliverMessage {
            transaction: 0,
            recipients,
            junk: Vec::new(),
            bytes: body.into(),
        };
        return ask(whole).await.map(|_| ());
    }
    let (answer, mut fds) = ask(DeliveryRequest::OpenMessage { transaction: 0 }).await?;
    let DeliveryAnswer::MessageOpened(message) = answer else {
        panic!("{answer:?}")
    };
    ask(DeliveryRequest::AddRecipients {
        message,
        recipients,
        destination: Destination::Inbox,
    })
    .await?;
    let (stream, bytes) = (UnixStream::from(fds.remove(0)), body.as_bytes().to_vec());
    tokio::task::spawn_blocking(move || {
        stream.set_nonblocking(false)?;
        (&stream).write_all(&bytes)
    })
    .await
    .unwrap()
    .map_err(|_| CallError::Unavailable)?;
    ask(DeliveryRequest::CommitMessage {
        message,
        size: body.len() as u64,
        head: Vec::new(),
    })
    .await
    .map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_kill_9() {
    let mut world = World::new();
    world.start();
    world.add_users().await;
    let acknowledged = Arc::new(Mutex::new(HashSet::new()));
    let mut sent = HashSet::new();
    for round in 0..4 {
        let mut writers = Vec::new();
        for writer in 0..8 {
            let (client, acknowledged) = (world.smtp(), Arc::clone(&acknowledged));
            writers.push(tokio::spawn(async move {
                let mut sent = Vec::new();
                for number in 0_usize.. {
                    // Some are in the frame, some come through a stream, some are too large for the journal.
                    let filler = "x".repeat([200_000, 500, 30_000, 500][number % 4]);
                    let body = format!("round {round} writer {writer} number {number} {filler}");
                    sent.push(body.clone());
                    match deliver(&client, &body).await {
                        Ok(()) => acknowledged.lock().unwrap().insert(body),
                        Err(_) => break,
                    };
                }
                sent
            }));
        }
        tokio::time::sleep(Duration::from_millis(200 + 70 * round)).await;
        world.kill();
        for writer in writers {
            sent.extend(writer.await.unwrap());
        }
        world.start();
        // The store answers again, with its mailboxes loaded from disk.
        deliver(&world.smtp(), &format!("after round {round}"))
            .await
            .unwrap();
    }
    assert!(world.stop().success());
    let acknowledged = acknowledged.lock().unwrap();
    assert!(
        acknowledged.len() > 20,
        "only {} messages were acknowledged",
        acknowledged.len()
    );
    for user in USERS {
        let bodies = world.bodies(user);
        let missing = acknowledged
            .iter()
            .filter(|body| !bodies.contains_key(*body))
            .count();
        let damaged = bodies
            .keys()
            .filter(|body| !sent.contains(*body) && !body.starts_with("after round"))
            .count();
        assert_eq!(
            (missing, damaged),
            (0, 0),
            "{user}: of {} acknowledged",
            acknowledged.len()
        );
    }
    let left = world.temp.path().join("store/mailstore/.incoming");
    assert_eq!(names(&left).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_with_success_and_a_second_start_finds_everything() {
    let mut world = World::new();
    world.start();
    world.add_users().await;
    deliver(&world.smtp(), "one").await.unwrap();
    assert!(world.stop().success());
    world.start();
    deliver(&world.smtp(), "two").await.unwrap();
    assert!(world.stop().success());
    assert_eq!(
        world.bodies("bob"),
        HashMap::from([("one".into(), 1), ("two".into(), 1)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_deliverd_on_the_same_store_does_not_start() {
    let mut world = World::new();
    world.start();
    world.add_users().await;
    let first = world.child.take().unwrap();
    world.start();
    let mut second = world.child.replace(first).unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(70));
    deliver(&world.smtp(), "one").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_never_stores_more_than_its_limit_whenever_deliverd_is_killed() {
    const LIMIT: u64 = 1000;
    let mut world = World::new();
    world.start();
    world.add_users().await;
    world
        .order(StoreControlRequest::LimitDomain {
            name: "example.test".into(),
            limits: LimitChange {
                messages: Some(LIMIT),
                bytes: None,
            },
        })
        .await;
    let refused = Arc::new(Mutex::new(0));
    for round in 0.. {
        let mut writers = Vec::new();
        for writer in 0..8 {
            let (client, refused) = (world.smtp(), Arc::clone(&refused));
            writers.push(tokio::spawn(async move {
                for number in 0..LIMIT {
                    let body = format!("round {round} writer {writer} number {number}");
                    match deliver(&client, &body).await {
                        Ok(()) => {}
                        Err(CallError::Refused(ipc::Refusal::OverQuota)) => {
                            *refused.lock().unwrap() += 1;
                            break;
                        }
                        Err(_) => break,
                    }
                }
            }));
        }
        if round < 3 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            world.kill();
        }
        for writer in writers {
            writer.await.unwrap();
        }
        if round < 3 {
            world.start();
        } else {
            break;
        }
    }
    assert_eq!(*refused.lock().unwrap(), 8);
    let stored = world.stored();
    // One more for each user would be too much.
    assert!(
        stored.messages <= LIMIT && stored.messages > LIMIT - USERS.len() as u64,
        "{stored:?}"
    );
    assert_eq!(world.usage().await, stored);
    assert!(world.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_known_after_a_clean_stop_and_counted_after_kill_9_where_it_is_limited() {
    let mut world = World::new();
    world.start();
    world.add_users().await;
    for number in 0..5 {
        deliver(&world.smtp(), &format!("{number}")).await.unwrap();
    }
    let stored = world.stored();
    assert_eq!(world.usage().await, stored);
    assert!(world.stop().success());
    // What was written down is relied on, right or wrong: after a clean stop, and after any while no limit depends on it.
    let database = rusqlite::Connection::open(world.temp.path().join("store/accounts.db"));
    database
        .unwrap()
        .execute("UPDATE usage SET messages = messages + 70", [])
        .unwrap();
    world.start();
    for _ in 0..3 {
        deliver(&world.smtp(), "more").await.unwrap();
        let wrong = 70 * USERS.len() as u64;
        assert_eq!(
            world.usage().await.messages,
            world.stored().messages + wrong
        );
    }
    world.kill();
    world.start();
    // No limit depends on it: nobody is counted for it.
    let before = world.usage().await;
    deliver(&world.smtp(), "more").await.unwrap();
    let users = USERS.len() as u64;
    assert_eq!(world.usage().await.messages, before.messages + users);
    assert!(before.messages >= stored.messages + 70 * users);
    world
        .order(StoreControlRequest::LimitDomain {
            name: "example.test".into(),
            limits: LimitChange {
                messages: Some(1_000_000),
                bytes: None,
            },
        })
        .await;
    world.kill();
    world.start();
    let counted = async {
        while world.usage().await != world.stored() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WITHIN, counted).await.unwrap();
    assert!(world.stop().success());
    world.start();
    assert_eq!(world.usage().await, world.stored());
}
