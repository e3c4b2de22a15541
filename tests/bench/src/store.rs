//! The store alone, without SMTP and IMAP: deliverd asked over its sockets as smtpd and imapd ask it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::channel::{Answered, Client, Link};
use ipc::delivery::{
    DeliveryAnswer, DeliveryRequest, Destination, MessageHandle, RECIPIENTS_PER_FRAME,
    fits_in_frame,
};
use ipc::imap::{ImapAnswer, ImapEdge, ImapRequest};
use ipc::session::{PAGES_PER_READ, SessionAnswer, SessionEdge, SessionRequest};
use ipc::smtp::{Credentials, SmtpAnswer, SmtpEdge, SmtpRequest};
use ipc::snapshot::{RECORD_LEN, Record, flag};
use ipc::{Context, Secret};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::writers::{Limit, Tally, Tickets};

/// A first SELECT of ten million messages takes minutes.
const WITHIN: Duration = Duration::from_secs(1200);

/// A connection to deliverd, in smtpd's place.
pub(crate) struct Store {
    runtime: Runtime,
    smtpd: Client<SmtpEdge>,
    imapd: Client<ImapEdge>,
}

impl Store {
    /// Will ask over the sockets in `run`.
    pub(crate) fn new(run: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .expect("threads");
        Self {
            runtime,
            smtpd: Client::new(run.join("deliverd-smtpd.sock")),
            imapd: Client::new(run.join("deliverd-imapd.sock")),
        }
    }

    /// As many writers as said deliver to one of `users` each time.
    pub(crate) fn race(
        &self,
        writers: usize,
        limit: Limit,
        users: &[String],
        letter: &[u8],
    ) -> Tally {
        let (users, letter): (Arc<[String]>, Arc<[u8]>) = (users.into(), letter.into());
        self.runtime.block_on(async {
            self.link().await;
            let tickets = Arc::new(Tickets::new(limit));
            let mut tasks = Vec::new();
            for _ in 0..writers {
                let (tickets, client) = (Arc::clone(&tickets), self.smtpd.clone());
                let (users, letter) = (Arc::clone(&users), Arc::clone(&letter));
                tasks.push(tokio::spawn(async move {
                    let mut times = Vec::new();
                    while let Some(number) = tickets.draw() {
                        let begun = Instant::now();
                        let user = &users[number % users.len()];
                        deliver(&client, std::slice::from_ref(user), &letter).await;
                        times.push(begun.elapsed());
                    }
                    times
                }));
            }
            let mut times = Vec::new();
            for task in tasks {
                times.extend(task.await.expect("no panic"));
            }
            Tally::of(&times, tickets.taken())
        })
    }

    /// One message to all these.
    pub(crate) fn deliver(&self, users: &[String], letter: &[u8]) -> Duration {
        self.runtime.block_on(async {
            self.link().await;
            let begun = Instant::now();
            deliver(&self.smtpd, users, letter).await;
            begun.elapsed()
        })
    }

    /// Brings a message as smtpd does, and takes it back instead of committing it, so many times.
    pub(crate) fn bring(&self, times: usize, user: &str, letter: &[u8]) -> Vec<Duration> {
        let user = [user.to_owned()];
        self.runtime.block_on(async {
            self.link().await;
            let mut taken = Vec::with_capacity(times);
            for _ in 0..times {
                let begun = Instant::now();
                let (link, message) = bring(&self.smtpd, &user, letter).await;
                let (answer, _) = ask(&link, DeliveryRequest::AbortMessage { message }).await;
                taken.push(begun.elapsed());
                assert_eq!(answer, DeliveryAnswer::MessageAborted);
            }
            taken
        })
    }

    /// Waits until deliverd takes mail.
    pub(crate) fn link_up(&self) {
        self.runtime.block_on(self.link());
    }

    async fn link(&self) {
        self.smtpd.pinned(WITHIN).await.expect("deliverd is there");
    }

    /// Logs in, in imapd's place.
    pub(crate) fn session(&self, user: &str, password: &str) -> Session<'_> {
        let credentials = Credentials {
            user: user.to_owned(),
            password: Secret::new(password),
            client: "127.0.0.1".to_owned(),
        };
        let request = ImapRequest::Authenticate(credentials);
        let link = self.runtime.block_on(async {
            let answered = self.imapd.call(Context::default(), WITHIN, request).await;
            let Answered { answer, mut fds } = answered.expect("the password is right");
            assert!(
                matches!(answer, ImapAnswer::SessionOpened { .. }),
                "{answer:?}"
            );
            Link::over(fds.remove(0)).expect("a packet socket")
        });
        Session { store: self, link }
    }
}

/// One message as smtpd brings it: in one piece if it is small; otherwise opened, recipients named, body through the stream,
/// committed.
async fn deliver(client: &Client<SmtpEdge>, users: &[String], letter: &[u8]) {
    if fits_in_frame(users, letter.len()) {
        let link = client.pinned(WITHIN).await.expect("deliverd is there");
        let whole = DeliveryRequest::DeliverMessage {
            transaction: 0,
            recipients: users.to_vec(),
            junk: Vec::new(),
            bytes: letter.to_vec(),
        };
        let (answer, _) = ask(&link, whole).await;
        assert_eq!(answer, DeliveryAnswer::MessageDelivered);
        return;
    }
    let (link, message) = bring(client, users, letter).await;
    let size = letter.len() as u64;
    let (answer, _) = ask(
        &link,
        DeliveryRequest::CommitMessage {
            message,
            size,
            head: Vec::new(),
        },
    )
    .await;
    assert_eq!(answer, DeliveryAnswer::MessageDelivered);
}

/// All of it but the commit: opened, recipients named, body through the stream.
async fn bring(
    client: &Client<SmtpEdge>,
    users: &[String],
    letter: &[u8],
) -> (Arc<Link<SmtpEdge>>, MessageHandle) {
    let link = client.pinned(WITHIN).await.expect("deliverd is there");
    let open = DeliveryRequest::OpenMessage { transaction: 0 };
    let (answer, mut fds) = ask(&link, open).await;
    let DeliveryAnswer::MessageOpened(message) = answer else {
        panic!("{answer:?}");
    };
    for page in users.chunks(RECIPIENTS_PER_FRAME) {
        let recipients = page.to_vec();
        ask(
            &link,
            DeliveryRequest::AddRecipients {
                message,
                recipients,
                destination: Destination::Inbox,
            },
        )
        .await;
    }
    let stream = std::os::unix::net::UnixStream::from(fds.remove(0));
    stream.set_nonblocking(true).expect("a socket");
    let mut stream = UnixStream::from_std(stream).expect("a socket");
    stream.write_all(letter).await.expect("deliverd reads it");
    stream.shutdown().await.expect("deliverd reads it");
    (link, message)
}

async fn ask(link: &Link<SmtpEdge>, request: DeliveryRequest) -> (DeliveryAnswer, Vec<OwnedFd>) {
    let answered = link
        .call(Context::default(), WITHIN, SmtpRequest::Delivery(request))
        .await
        .expect("deliverd answers");
    let SmtpAnswer::Delivery(answer) = answered.answer else {
        panic!("{:?}", answered.answer);
    };
    (answer, answered.fds)
}

/// A mail session, in imapd's place.
pub(crate) struct Session<'a> {
    store: &'a Store,
    link: Link<SessionEdge>,
}

impl Session<'_> {
    fn ask(&self, request: SessionRequest) -> (SessionAnswer, Vec<OwnedFd>) {
        let call = self.link.call(Context::default(), WITHIN, request);
        let answered = self.store.runtime.block_on(call);
        let Answered { answer, fds } = answered.expect("deliverd answers");
        (answer, fds)
    }

    /// Selects a mailbox of not too many shards. Gives each UID, and whether it is \Seen.
    pub(crate) fn flags(&self, name: &str) -> BTreeMap<u32, bool> {
        let request = SessionRequest::Select {
            name: name.to_owned(),
            read_only: false,
        };
        let (selected, _) = self.ask(request);
        let SessionAnswer::Selected { shards, .. } = selected else {
            panic!("{selected:?}");
        };
        let mut snapshot = Vec::new();
        let shards: Vec<u32> = shards.iter().map(|line| line.shard).collect();
        for some in shards.chunks(PAGES_PER_READ) {
            let shards = some.to_vec();
            let (answer, mut fds) = self.ask(SessionRequest::ReadPages { shards });
            let SessionAnswer::PagesRead { shards } = answer else {
                panic!("{answer:?}");
            };
            let count: usize = shards.iter().map(|line| usize::from(line.messages)).sum();
            let start = snapshot.len();
            snapshot.resize(start + count * RECORD_LEN, 0);
            // deliverd left it where it stopped writing.
            std::fs::File::from(fds.remove(0))
                .read_exact_at(&mut snapshot[start..], 0)
                .expect("it is in memory");
        }
        let (records, _) = snapshot.as_chunks::<RECORD_LEN>();
        let flags: BTreeMap<u32, bool> = records
            .iter()
            .map(Record::from_bytes)
            .map(|record| (record.uid, record.flags & flag::SEEN != 0))
            .collect();
        assert_eq!(flags.len(), records.len(), "a UID came twice");
        flags
    }

    /// Selects a mailbox of `messages` messages.
    pub(crate) fn select(&self, name: &str, messages: u32) -> Duration {
        let request = SessionRequest::Select {
            name: name.to_owned(),
            read_only: false,
        };
        self.store.runtime.block_on(async {
            let begun = Instant::now();
            let answered = self.link.call(Context::default(), WITHIN, request).await;
            let taken = begun.elapsed();
            let answer = answered.expect("the mailbox exists").answer;
            let SessionAnswer::Selected { status, .. } = answer else {
                panic!("{answer:?}");
            };
            assert_eq!(status.messages, messages, "{name}");
            taken
        })
    }
}
