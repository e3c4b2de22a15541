//! deliverd as its askers see it: over real sockets, each role on its own.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use daemon::channel::{Answered, CallError, Client, Link};
use daemon::stop::StopSender;
use ipc::api::{ApiAnswer, ApiEdge, ApiRequest};
use ipc::control::{Alias, AliasKind, StoreControlAnswer, StoreControlEdge, StoreControlRequest};
use ipc::delivery::{DeliveryAnswer, DeliveryRequest, Destination, MessageHandle};
use ipc::imap::{ImapAnswer, ImapEdge, ImapRequest};
use ipc::quota::{LimitChange, Limits, Usage};
use ipc::relay::{DeliveryEdge, RelayRequest};
use ipc::session::{
    FlagChange, MailboxStatus, MessageIds, PAGES_PER_READ, SessionAnswer, SessionEdge,
    SessionEvent, SessionRequest,
};
use ipc::smtp::{SmtpAnswer, SmtpEdge, SmtpRequest};
use ipc::snapshot::{RECORD_LEN, Record, ShardCount, flag};
use ipc::{Context, Secret};

use super::*;

mod accounts;
mod append;
mod cache;
mod delivery;
mod house;
mod jobs;
mod overtaken;
mod prompt;
mod quota;
mod session;
mod sharing;
mod tools;

const WITHIN: Duration = Duration::from_secs(20);
const MAX_SIZE: usize = SIZE + 4096;
/// Bytes a client may send.
const SIZE: usize = 100_000;

struct World {
    temp: tempfile::TempDir,
    house: Arc<House>,
    stop: StopSender,
}

/// A running deliverd with the users alice and bob, `auth_failures` 3 and messages of at most [`MAX_SIZE`] bytes.
async fn world() -> World {
    world_taking(SIZE).await
}

/// The same where clients may send so many bytes.
async fn world_taking(size: usize) -> World {
    let temp = tempfile::tempdir().unwrap();
    let (sender, stop) = daemon::stop::channel();
    let text = format!(
        r#"{{"version": 1, "hostname": "mx.example.test", "domains": ["example.test"], "mail_root": "{root}",
            "run_dir": "{root}", "tls": {{"cert_file": "/x", "key_file": "/x"}},
            "smtp": {{"max_message_size": {size}}}, "limits": {{"auth_failures": 3}}}}"#,
        root = temp.path().display()
    );
    let path = temp.path().join("config.json");
    std::fs::write(&path, text).unwrap();
    let config = Config::read(&path).unwrap();
    let store = Store::open(&config.store_dir()).unwrap();
    let accounts = Arc::new(Accounts::cheap_with(
        &config.store_dir(),
        crate::accounts::Policy::of(&config).unwrap(),
    ));
    let house = Arc::new(House::furnish(&config, stop.clone(), store, accounts, None).unwrap());
    let listener = |role: &str| PacketListener::bind(&config.ipc_socket("deliverd", role)).unwrap();
    tokio::spawn(serve_promptly(
        listener("smtpd"),
        Arc::new(smtp::Door(Arc::clone(&house))),
        stop.clone(),
    ));
    tokio::spawn(door(
        listener("relayd"),
        relay::Door(Arc::clone(&house)),
        stop.clone(),
    ));
    tokio::spawn(door(
        listener("imapd"),
        imap::Door(Arc::clone(&house)),
        stop.clone(),
    ));
    tokio::spawn(door(
        listener("apid"),
        api::Door(Arc::clone(&house)),
        stop.clone(),
    ));
    tokio::spawn(door(
        listener("ctl"),
        control::Door(Arc::clone(&house)),
        stop,
    ));
    let world = World {
        temp,
        house,
        stop: sender,
    };
    world.add_user("alice@example.test", 0).await;
    world.add_user("bob@example.test", 0).await;
    world
}

impl World {
    fn socket(&self, role: &str) -> PathBuf {
        self.temp.path().join(format!("deliverd-{role}.sock"))
    }

    fn client<E: Edge>(&self, role: &str) -> Client<E> {
        Client::new(self.socket(role))
    }

    async fn control(&self, request: StoreControlRequest) -> Result<StoreControlAnswer, CallError> {
        let client = self.client::<StoreControlEdge>("ctl");
        client
            .call(Context::default(), WITHIN, request)
            .await
            .map(|answered| answered.answer)
    }

    async fn add_user(&self, address: &str, quota: u64) {
        let request = StoreControlRequest::AddUser {
            address: address.into(),
            password: Secret::new("password"),
            limits: bytes(quota),
        };
        assert_eq!(self.control(request).await, Ok(StoreControlAnswer::Done));
    }

    async fn login(&self, user: &str, password: &str) -> Result<Session, CallError> {
        let client = self.client::<ImapEdge>("imapd");
        let request = ImapRequest::Authenticate(credentials(user, password));
        let Answered { answer, mut fds } = client.call(Context::default(), WITHIN, request).await?;
        let ImapAnswer::SessionOpened { account, .. } = answer else {
            panic!("no session: {answer:?}");
        };
        assert_eq!((account.as_str(), fds.len()), (user, 1));
        Ok(Session(Link::over(fds.remove(0)).unwrap()))
    }

    async fn deliver(&self, recipients: &[&str], bytes: &[u8]) -> Result<(), CallError> {
        Smtp(self.client("smtpd"))
            .deliver(recipients, bytes, bytes.len() as u64)
            .await
    }
}

fn bytes(limit: u64) -> LimitChange {
    LimitChange {
        bytes: Some(limit),
        messages: None,
    }
}

fn credentials(user: &str, password: &str) -> Credentials {
    Credentials {
        user: user.into(),
        password: Secret::new(password),
        client: "192.0.2.1".into(),
    }
}

struct Smtp(Client<SmtpEdge>);

impl Smtp {
    async fn ask(
        &self,
        request: DeliveryRequest,
    ) -> Result<(DeliveryAnswer, Vec<OwnedFd>), CallError> {
        let Answered { answer, fds } = self
            .0
            .call(Context::default(), WITHIN, SmtpRequest::Delivery(request))
            .await?;
        let SmtpAnswer::Delivery(answer) = answer else {
            panic!("{answer:?}")
        };
        Ok((answer, fds))
    }

    async fn resolve(&self, address: &str, size: u64) -> Result<DeliveryAnswer, CallError> {
        Ok(self
            .ask(DeliveryRequest::ResolveRecipient {
                address: address.into(),
                size,
                transaction: 0,
            })
            .await?
            .0)
    }

    async fn open(&self) -> (MessageHandle, OwnedFd) {
        let (answer, mut fds) = self
            .ask(DeliveryRequest::OpenMessage { transaction: 0 })
            .await
            .unwrap();
        let DeliveryAnswer::MessageOpened(handle) = answer else {
            panic!("{answer:?}")
        };
        (handle, fds.remove(0))
    }

    async fn deliver(&self, recipients: &[&str], bytes: &[u8], size: u64) -> Result<(), CallError> {
        self.deliver_behind(recipients, b"", bytes, size).await
    }

    async fn deliver_behind(
        &self,
        recipients: &[&str],
        head: &[u8],
        bytes: &[u8],
        size: u64,
    ) -> Result<(), CallError> {
        let (message, stream) = self.open().await;
        let recipients = recipients.iter().map(|text| (*text).to_owned()).collect();
        self.ask(DeliveryRequest::AddRecipients {
            message,
            recipients,
            destination: Destination::Inbox,
        })
        .await?;
        write(stream, bytes).await;
        let (answer, _) = self
            .ask(DeliveryRequest::CommitMessage {
                message,
                size,
                head: head.to_vec(),
            })
            .await?;
        assert_eq!(answer, DeliveryAnswer::MessageDelivered);
        Ok(())
    }
}

impl Smtp {
    /// A message in one piece.
    async fn deliver_whole(
        &self,
        recipients: &[&str],
        bytes: &[u8],
        transaction: u64,
    ) -> Result<(), CallError> {
        let recipients = recipients.iter().map(|text| (*text).to_owned()).collect();
        let whole = DeliveryRequest::DeliverMessage {
            transaction,
            recipients,
            junk: Vec::new(),
            bytes: bytes.to_vec(),
        };
        let (answer, fds) = self.ask(whole).await?;
        assert_eq!((answer, fds.len()), (DeliveryAnswer::MessageDelivered, 0));
        Ok(())
    }
}

/// Writes and closes; an answerer that hung up is no failure here.
async fn write(stream: OwnedFd, bytes: &[u8]) {
    let bytes = bytes.to_vec();
    let writing = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::from(stream);
        stream.set_nonblocking(false).unwrap();
        let _ = stream.write_all(&bytes);
    });
    writing.await.unwrap();
}

struct Session(Link<SessionEdge>);

impl Session {
    async fn ask(&self, request: SessionRequest) -> Result<Answered<SessionAnswer>, CallError> {
        self.0.call(Context::default(), WITHIN, request).await
    }

    async fn answer(&self, request: SessionRequest) -> Result<SessionAnswer, CallError> {
        self.ask(request).await.map(|answered| answered.answer)
    }

    async fn select(&self, name: &str) -> (MailboxStatus, Vec<Record>) {
        let request = SessionRequest::Select {
            name: name.into(),
            read_only: false,
        };
        let Answered { answer, mut fds } = self.ask(request).await.unwrap();
        let SessionAnswer::Selected {
            status, mut shards, ..
        } = answer
        else {
            panic!("{answer:?}")
        };
        if let Some(table) = fds.pop() {
            assert!(shards.is_empty() && sys::memfd::is_sealed(&table));
            let mut bytes = Vec::new();
            let table = std::fs::File::from(table);
            bytes.resize(table.metadata().unwrap().len().try_into().unwrap(), 0);
            table.read_exact_at(&mut bytes, 0).unwrap();
            shards = bytes
                .as_chunks()
                .0
                .iter()
                .map(ShardCount::from_bytes)
                .collect();
        }
        let shards: Vec<u32> = shards.iter().map(|line| line.shard).collect();
        let records = self.read_pages(&shards).await;
        assert_eq!(records.len(), status.messages as usize);
        (status, records)
    }

    async fn read_pages(&self, shards: &[u32]) -> Vec<Record> {
        let mut records = Vec::new();
        for shards in shards.chunks(PAGES_PER_READ) {
            let request = SessionRequest::ReadPages {
                shards: shards.to_vec(),
            };
            let Answered { answer, mut fds } = self.ask(request).await.unwrap();
            let SessionAnswer::PagesRead { shards: read } = answer else {
                panic!("{answer:?}")
            };
            assert!(shards.iter().eq(read.iter().map(|line| &line.shard)));
            let pages = fds.remove(0);
            assert!(sys::memfd::is_sealed(&pages));
            let count: usize = read.iter().map(|line| usize::from(line.messages)).sum();
            let mut bytes = vec![0; count * RECORD_LEN];
            let pages = std::fs::File::from(pages);
            pages.read_exact_at(&mut bytes, 0).unwrap();
            records.extend(bytes.as_chunks().0.iter().map(Record::from_bytes));
        }
        records
    }

    async fn append(&self, mailbox: &str, bytes: &[u8]) -> Result<SessionAnswer, CallError> {
        let open = SessionRequest::OpenAppend {
            mailbox: mailbox.into(),
            size: bytes.len() as u64,
        };
        let Answered { answer, mut fds } = self.ask(open).await?;
        let SessionAnswer::AppendOpened(message) = answer else {
            panic!("{answer:?}")
        };
        write(fds.remove(0), bytes).await;
        let (size, flags, keywords) = (bytes.len() as u64, flag::SEEN, vec!["work".into()]);
        self.answer(SessionRequest::CommitAppend {
            message,
            size,
            flags,
            keywords,
            internal_date: Some(1),
            replaces: None,
        })
        .await
    }

    async fn event(&self) -> SessionEvent {
        tokio::time::timeout(WITHIN, self.0.event())
            .await
            .unwrap()
            .unwrap()
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, CallError>) -> Refusal {
    match result {
        Err(CallError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}
