//! The store alone, without SMTP and IMAP: deliverd asked over its sockets as smtpd and imapd ask it.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::channel::{Answered, Client, Link};
use ipc::delivery::{DeliveryAnswer, DeliveryRequest, RECIPIENTS_PER_FRAME, fits_in_frame};
use ipc::imap::{ImapAnswer, ImapEdge, ImapRequest};
use ipc::session::{SessionAnswer, SessionEdge, SessionRequest};
use ipc::smtp::{Credentials, SmtpAnswer, SmtpEdge, SmtpRequest};
use ipc::{Context, Secret};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::writers::{Limit, Tally, Tickets};

const WITHIN: Duration = Duration::from_secs(120);

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
            let ImapAnswer::SessionOpened { .. } = answer;
            Link::over(fds.remove(0)).expect("a packet socket")
        });
        Session { store: self, link }
    }
}

/// One message as smtpd brings it: in one piece if it is small; otherwise opened, recipients named, body through the stream,
/// committed.
async fn deliver(client: &Client<SmtpEdge>, users: &[String], letter: &[u8]) {
    let link = client.pinned(WITHIN).await.expect("deliverd is there");
    if fits_in_frame(users, letter.len()) {
        let whole = DeliveryRequest::DeliverMessage {
            transaction: 0,
            recipients: users.to_vec(),
            bytes: letter.to_vec(),
        };
        let (answer, _) = ask(&link, whole).await;
        assert_eq!(answer, DeliveryAnswer::MessageDelivered);
        return;
    }
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
            },
        )
        .await;
    }
    let stream = std::os::unix::net::UnixStream::from(fds.remove(0));
    stream.set_nonblocking(true).expect("a socket");
    let mut stream = UnixStream::from_std(stream).expect("a socket");
    stream.write_all(letter).await.expect("deliverd reads it");
    stream.shutdown().await.expect("deliverd reads it");
    let size = letter.len() as u64;
    let (answer, _) = ask(&link, DeliveryRequest::CommitMessage { message, size }).await;
    assert_eq!(answer, DeliveryAnswer::MessageDelivered);
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
