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
use ipc::delivery::{DeliveryAnswer, DeliveryRequest, MessageHandle};
use ipc::imap::{ImapAnswer, ImapEdge, ImapRequest};
use ipc::relay::DeliveryEdge;
use ipc::session::{
    FlagChange, MailboxStatus, SessionAnswer, SessionEdge, SessionEvent, SessionRequest,
};
use ipc::smtp::{SmtpAnswer, SmtpEdge, SmtpRequest};
use ipc::snapshot::{RECORD_LEN, Record, flag};
use ipc::{Context, Secret};

use super::*;

const WITHIN: Duration = Duration::from_secs(20);
const MAX_SIZE: usize = 100_000;

struct World {
    temp: tempfile::TempDir,
    house: Arc<House>,
    _stop: StopSender,
}

/// A running deliverd with the users alice and bob, `auth_failures` 3 and messages of at most [`MAX_SIZE`] bytes.
async fn world() -> World {
    let temp = tempfile::tempdir().unwrap();
    let (sender, stop) = daemon::stop::channel();
    let text = format!(
        r#"{{"version": 1, "hostname": "mx.example.test", "domains": ["example.test"], "mail_root": "{root}",
            "run_dir": "{root}", "tls": {{"cert_file": "/x", "key_file": "/x"}},
            "smtp": {{"max_message_size": {MAX_SIZE}}}, "limits": {{"auth_failures": 3}}}}"#,
        root = temp.path().display()
    );
    let path = temp.path().join("config.json");
    std::fs::write(&path, text).unwrap();
    let config = Config::read(&path).unwrap();
    let store = Store::open(&config.store_dir()).unwrap();
    let accounts = Arc::new(Accounts::cheap(&config.store_dir()));
    let house = Arc::new(House::furnish(&config, stop.clone(), store, accounts).unwrap());
    let listener = |role: &str| PacketListener::bind(&config.ipc_socket("deliverd", role)).unwrap();
    tokio::spawn(door(
        listener("smtpd"),
        smtp::Door(Arc::clone(&house)),
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
        _stop: sender,
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
            quota,
        };
        assert_eq!(self.control(request).await, Ok(StoreControlAnswer::Done));
    }

    async fn login(&self, user: &str, password: &str) -> Result<Session, CallError> {
        let client = self.client::<ImapEdge>("imapd");
        let request = ImapRequest::Authenticate(credentials(user, password));
        let Answered { answer, mut fds } = client.call(Context::default(), WITHIN, request).await?;
        let ImapAnswer::SessionOpened { account } = answer;
        assert_eq!((account.as_str(), fds.len()), (user, 1));
        Ok(Session(Link::over(fds.remove(0)).unwrap()))
    }

    async fn deliver(&self, recipients: &[&str], bytes: &[u8]) -> Result<(), CallError> {
        Smtp(self.client("smtpd"))
            .deliver(recipients, bytes, bytes.len() as u64)
            .await
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
            })
            .await?
            .0)
    }

    async fn open(&self) -> (MessageHandle, OwnedFd) {
        let (answer, mut fds) = self.ask(DeliveryRequest::OpenMessage).await.unwrap();
        let DeliveryAnswer::MessageOpened(handle) = answer else {
            panic!("{answer:?}")
        };
        (handle, fds.remove(0))
    }

    async fn deliver(&self, recipients: &[&str], bytes: &[u8], size: u64) -> Result<(), CallError> {
        let (message, stream) = self.open().await;
        let recipients = recipients.iter().map(|text| (*text).to_owned()).collect();
        self.ask(DeliveryRequest::AddRecipients {
            message,
            recipients,
        })
        .await?;
        write(stream, bytes).await;
        let (answer, _) = self
            .ask(DeliveryRequest::CommitMessage { message, size })
            .await?;
        assert_eq!(answer, DeliveryAnswer::MessageDelivered);
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
        let SessionAnswer::Selected { status, .. } = answer else {
            panic!("{answer:?}")
        };
        let snapshot = fds.remove(0);
        assert!(sys::memfd::is_sealed(&snapshot));
        let mut bytes = vec![0; status.messages as usize * RECORD_LEN];
        std::fs::File::from(snapshot)
            .read_exact_at(&mut bytes, 0)
            .unwrap();
        let records = bytes
            .chunks_exact(RECORD_LEN)
            .map(|bytes| Record::from_bytes(bytes.try_into().unwrap()));
        (status, records.collect())
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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_delivered_and_read_back() {
    let world = world().await;
    world
        .deliver(
            &["alice@example.test", "bob@example.test"],
            b"Subject: x\r\n\r\nhello\r\n",
        )
        .await
        .unwrap();
    for user in ["alice@example.test", "bob@example.test"] {
        let session = world.login(user, "password").await.unwrap();
        let (status, records) = session.select("INBOX").await;
        assert_eq!(
            (
                status.messages,
                status.unseen,
                records[0].uid,
                records[0].size
            ),
            (1, 1, 1, 21)
        );
        let opened = session
            .ask(SessionRequest::OpenMessages { uids: vec![1, 7] })
            .await
            .unwrap();
        assert_eq!(
            opened.answer,
            SessionAnswer::MessagesOpened { uids: vec![1] }
        );
        let mut text = String::new();
        let mut file = std::fs::File::from(opened.fds.into_iter().next().unwrap());
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "Subject: x\r\n\r\nhello\r\n");
        assert!(file.write_all(b"x").is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_wakes_who_selected_the_mailbox() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    session.select("INBOX").await;
    world.deliver(&["alice@example.test"], b"x").await.unwrap();
    assert!(matches!(session.event().await, SessionEvent::Added(records) if records[0].uid == 1));
    session.answer(SessionRequest::Unselect).await.unwrap();
    world.deliver(&["alice@example.test"], b"x").await.unwrap();
    assert_eq!(session.0.try_event(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_there_before_the_answer_of_the_call_that_caused_them() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    session.append("INBOX", b"x").await.unwrap();
    session.select("INBOX").await;
    let (uids, flags) = (vec![(1, 1)], flag::DELETED);
    let store = SessionRequest::StoreFlags {
        uids,
        change: FlagChange::Replace,
        flags,
        keywords: vec![],
    };
    assert_eq!(session.answer(store).await, Ok(SessionAnswer::FlagsStored));
    assert!(
        matches!(session.0.try_event(), Some(SessionEvent::Changed(records)) if records[0].flags == flag::DELETED)
    );
    session
        .answer(SessionRequest::Expunge { uids: None })
        .await
        .unwrap();
    assert_eq!(
        session.0.try_event(),
        Some(SessionEvent::Removed(vec![(1, 1)]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_store_is_told_completely() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    session.append("INBOX", b"x").await.unwrap();
    session.select("INBOX").await;
    let mut messages = 1;
    while messages < 12_000 {
        let copy = SessionRequest::Copy {
            uids: vec![(1, u32::MAX)],
            to: "INBOX".into(),
        };
        session.answer(copy).await.unwrap();
        messages *= 2;
    }
    while session.0.try_event().is_some() {}
    let (uids, flags) = (vec![(1, u32::MAX)], flag::FLAGGED);
    let store = SessionRequest::StoreFlags {
        uids,
        change: FlagChange::Add,
        flags,
        keywords: vec![],
    };
    assert_eq!(session.answer(store).await, Ok(SessionAnswer::FlagsStored));
    let mut told = 0;
    while let Some(event) = session.0.try_event() {
        let SessionEvent::Changed(records) = event else {
            panic!("{event:?}")
        };
        told += records.len();
    }
    assert_eq!(told, messages);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_keeps_flags_keywords_and_date() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    let answer = session.append("Sent", b"hello").await.unwrap();
    let (status, records) = session.select("Sent").await;
    assert_eq!(
        answer,
        SessionAnswer::Appended {
            uid_validity: status.uid_validity,
            uid: 1
        }
    );
    let record = records[0];
    assert_eq!(
        (
            record.flags,
            record.keywords,
            record.size,
            record.internal_date
        ),
        (flag::SEEN, 1, 5, 1)
    );
    assert_eq!(
        refused(session.append("nothing", b"x").await),
        Refusal::NoSuchMailbox
    );
    assert_eq!(
        refused(session.append("../../bob/mailboxes/INBOX", b"x").await),
        Refusal::NoSuchMailbox
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_and_move_answer_with_uids_of_both_sides() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    for _ in 0..3 {
        session.append("INBOX", b"x").await.unwrap();
    }
    session.select("INBOX").await;
    let copy = SessionRequest::Copy {
        uids: vec![(1, 1), (3, 3)],
        to: "Archive".into(),
    };
    let answer = session.answer(copy).await.unwrap();
    assert!(
        matches!(answer, SessionAnswer::Copied { source, target, .. } if source == [(1, 1), (3, 3)] && target == [(1, 2)])
    );
    let moving = SessionRequest::Move {
        uids: vec![(2, 2)],
        to: "Trash".into(),
    };
    session.answer(moving).await.unwrap();
    assert_eq!(
        session.0.try_event(),
        Some(SessionEvent::Removed(vec![(2, 2)]))
    );
    let nowhere = SessionRequest::Copy {
        uids: vec![(1, 1)],
        to: "nowhere".into(),
    };
    assert_eq!(
        refused(session.answer(nowhere).await),
        Refusal::NoSuchMailbox
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_changes_through_a_read_only_selection_or_none() {
    let world = world().await;
    let session = world.login("alice@example.test", "password").await.unwrap();
    let expunge = || SessionRequest::Expunge { uids: None };
    assert_eq!(
        refused(session.answer(expunge()).await),
        Refusal::NothingSelected
    );
    session
        .answer(SessionRequest::Select {
            name: "inbox".into(),
            read_only: true,
        })
        .await
        .unwrap();
    assert_eq!(refused(session.answer(expunge()).await), Refusal::ReadOnly);
    let moving = SessionRequest::Move {
        uids: vec![(1, 1)],
        to: "Trash".into(),
    };
    assert_eq!(refused(session.answer(moving).await), Refusal::ReadOnly);
    let nowhere = SessionRequest::Select {
        name: "nowhere".into(),
        read_only: false,
    };
    assert_eq!(
        refused(session.answer(nowhere).await),
        Refusal::NoSuchMailbox
    );
    assert_eq!(
        refused(session.answer(expunge()).await),
        Refusal::NothingSelected
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversize_stream_is_refused_and_the_writer_stopped() {
    let world = world().await;
    let bytes = vec![b'x'; MAX_SIZE + 1];
    assert_eq!(
        refused(world.deliver(&["alice@example.test"], &bytes).await),
        Refusal::MessageTooLarge
    );
    world
        .deliver(&["alice@example.test"], &bytes[..MAX_SIZE])
        .await
        .unwrap();
    let resolved = Smtp(world.client("smtpd"))
        .resolve("alice@example.test", MAX_SIZE as u64 + 1)
        .await;
    assert_eq!(refused(resolved), Refusal::MessageTooLarge);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_another_size_and_an_unknown_handle_are_refused() {
    let world = world().await;
    let smtp = Smtp(world.client("smtpd"));
    assert_eq!(
        refused(smtp.deliver(&["alice@example.test"], b"hello", 4).await),
        Refusal::SizeMismatch
    );
    let (message, _stream) = smtp.open().await;
    smtp.ask(DeliveryRequest::AbortMessage { message })
        .await
        .unwrap();
    for message in [message, MessageHandle(99)] {
        assert_eq!(
            refused(
                smtp.ask(DeliveryRequest::CommitMessage { message, size: 0 })
                    .await
            ),
            Refusal::UnknownHandle
        );
    }
    // A handle belongs to the channel that opened it.
    let (message, _stream) = smtp.open().await;
    let other = Smtp(world.client("smtpd"));
    assert_eq!(
        refused(other.ask(DeliveryRequest::AbortMessage { message }).await),
        Refusal::UnknownHandle
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_are_doubted_again_when_they_are_added() {
    let world = world().await;
    for recipient in [
        "nobody@example.test",
        "alice@foreign.test",
        "",
        "../alice@example.test",
    ] {
        assert_eq!(
            refused(world.deliver(&[recipient], b"x").await),
            Refusal::NoSuchUser,
            "{recipient}"
        );
    }
    let smtp = Smtp(world.client("smtpd"));
    assert_eq!(
        refused(smtp.deliver(&[], b"x", 1).await),
        Refusal::NoSuchUser
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_are_resolved_local_foreign_or_refused() {
    let world = world().await;
    let alias = Alias {
        domain: "example.test".into(),
        kind: AliasKind::Exact,
        pattern: "all".into(),
        targets: vec!["alice@example.test".into(), "x@foreign.test".into()],
    };
    world
        .control(StoreControlRequest::AddAlias(alias))
        .await
        .unwrap();
    let smtp = Smtp(world.client("smtpd"));
    let resolved = smtp.resolve("All@Example.TEST", 0).await.unwrap();
    let (local, remote) = (
        vec!["alice@example.test".to_owned()],
        vec!["x@foreign.test".to_owned()],
    );
    assert_eq!(
        resolved,
        DeliveryAnswer::RecipientResolved { local, remote }
    );
    assert_eq!(
        smtp.resolve("x@foreign.test", 0).await,
        Ok(DeliveryAnswer::RecipientForeign)
    );
    for address in [
        "nobody@example.test",
        r#"""@example.test"#,
        "nonsense",
        r#""x'/**/UNION"@example.test"#,
    ] {
        assert_eq!(
            refused(smtp.resolve(address, 0).await),
            Refusal::NoSuchUser,
            "{address}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_refuses_unless_another_recipient_has_room() {
    let world = world().await;
    world.add_user("small@example.test", 100).await;
    let smtp = Smtp(world.client("smtpd"));
    assert_eq!(
        refused(smtp.resolve("small@example.test", 101).await),
        Refusal::OverQuota
    );
    assert_eq!(
        refused(world.deliver(&["small@example.test"], &[b'x'; 101]).await),
        Refusal::OverQuota
    );
    world
        .deliver(&["small@example.test"], &[b'x'; 60])
        .await
        .unwrap();
    assert_eq!(
        refused(world.deliver(&["small@example.test"], &[b'x'; 60]).await),
        Refusal::OverQuota
    );
    world
        .deliver(&["small@example.test", "bob@example.test"], &[b'x'; 60])
        .await
        .unwrap();
    assert_eq!(
        refused(smtp.resolve("small@example.test", 0).await),
        Refusal::OverQuota
    );
    let session = world.login("small@example.test", "password").await.unwrap();
    assert_eq!(
        refused(session.append("INBOX", b"x").await),
        Refusal::OverQuota
    );
    session.select("INBOX").await;
    let copy = SessionRequest::Copy {
        uids: vec![(1, 1)],
        to: "Archive".into(),
    };
    assert_eq!(refused(session.answer(copy).await), Refusal::OverQuota);
}

#[tokio::test(flavor = "multi_thread")]
async fn submission_logins_and_senders_are_checked() {
    let world = world().await;
    let client = world.client::<SmtpEdge>("smtpd");
    let ask = async |request| {
        client
            .call(Context::default(), WITHIN, request)
            .await
            .map(|answered| answered.answer)
    };
    let login = SmtpRequest::Authenticate(credentials("alice@example.test", "password"));
    assert_eq!(
        ask(login).await,
        Ok(SmtpAnswer::Authenticated {
            account: "alice@example.test".into()
        })
    );
    let check = |sender: &str| SmtpRequest::CheckSender {
        account: "alice@example.test".into(),
        sender: sender.into(),
    };
    assert_eq!(
        ask(check("Alice@example.test")).await,
        Ok(SmtpAnswer::SenderAllowed)
    );
    assert_eq!(
        refused(ask(check("bob@example.test")).await),
        Refusal::SenderNotAllowed
    );
    assert_eq!(
        refused(ask(check("alice@foreign.test")).await),
        Refusal::SenderNotAllowed
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_stopped_after_the_configured_failures() {
    let world = world().await;
    for _ in 0..3 {
        assert_eq!(
            refused(world.login("alice@example.test", "guess").await.map(|_| ())),
            Refusal::BadCredentials
        );
    }
    assert_eq!(
        refused(
            world
                .login("alice@example.test", "password")
                .await
                .map(|_| ())
        ),
        Refusal::TooManyFailures
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_gets_tokens_and_health() {
    let world = world().await;
    let client = world.client::<ApiEdge>("apid");
    let ask = async |request| {
        client
            .call(Context::default(), WITHIN, request)
            .await
            .map(|answered| answered.answer)
    };
    assert_eq!(ask(ApiRequest::CheckHealth).await, Ok(ApiAnswer::Healthy));
    let answer = ask(ApiRequest::IssueToken(credentials(
        "bob@example.test",
        "password",
    )))
    .await
    .unwrap();
    assert!(
        matches!(answer, ApiAnswer::TokenIssued { token, expires_in: 3600, .. } if token.reveal().len() == 43)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_users_session_sees_nothing_of_the_next_user_of_that_name() {
    let world = world().await;
    world
        .deliver(&["alice@example.test"], b"old")
        .await
        .unwrap();
    let old = world.login("alice@example.test", "password").await.unwrap();
    old.select("INBOX").await;
    world
        .control(StoreControlRequest::RemoveUser {
            address: "alice@example.test".into(),
        })
        .await
        .unwrap();
    assert_eq!(old.event().await, SessionEvent::Gone);
    world.add_user("alice@example.test", 0).await;
    world
        .deliver(&["alice@example.test"], b"new")
        .await
        .unwrap();
    for request in [
        SessionRequest::OpenMessages { uids: vec![1] },
        SessionRequest::Select {
            name: "INBOX".into(),
            read_only: false,
        },
        SessionRequest::ListMailboxes { after: None },
    ] {
        assert_eq!(refused(old.ask(request).await), Refusal::NoSuchUser);
    }
    let new = world.login("alice@example.test", "password").await.unwrap();
    let (_, records) = new.select("INBOX").await;
    assert_eq!(records.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_manages_domains_users_and_sees_usage() {
    let world = world().await;
    let done = Ok(StoreControlAnswer::Done);
    assert_eq!(
        world
            .control(StoreControlRequest::AddDomain {
                name: "Other.TEST".into()
            })
            .await,
        done
    );
    world.add_user("carol@other.test", 1000).await;
    world
        .deliver(&["carol@other.test"], b"hello")
        .await
        .unwrap();
    let domains = world
        .control(StoreControlRequest::ListDomains { after: None })
        .await
        .unwrap();
    let names = vec!["example.test".to_owned(), "other.test".to_owned()];
    assert_eq!(domains, StoreControlAnswer::Domains { names, more: false });
    let list = StoreControlRequest::ListUsers {
        domain: Some("other.test".into()),
        after: None,
    };
    let StoreControlAnswer::Users { users, .. } = world.control(list).await.unwrap() else {
        panic!()
    };
    assert_eq!(
        (
            users[0].address.as_str(),
            users[0].quota,
            users[0].used,
            users[0].messages
        ),
        ("carol@other.test", 1000, 5, 1)
    );
    let remove = || StoreControlRequest::RemoveDomain {
        name: "other.test".into(),
    };
    assert!(matches!(
        refused(world.control(remove()).await),
        Refusal::Invalid(_)
    ));
    world
        .control(StoreControlRequest::RemoveUser {
            address: "carol@other.test".into(),
        })
        .await
        .unwrap();
    assert_eq!(world.control(remove()).await, done);
    let password = StoreControlRequest::SetPassword {
        address: "bob@example.test".into(),
        password: Secret::new("changed!"),
    };
    assert_eq!(world.control(password).await, done);
    assert!(world.login("bob@example.test", "changed!").await.is_ok());
    let status = world
        .control(StoreControlRequest::ShowStatus)
        .await
        .unwrap();
    assert!(
        matches!(
            status,
            StoreControlAnswer::Status {
                domains: 1,
                users: 2,
                stored: 1,
                ..
            }
        ),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_socket_answers_its_own_role_only() {
    let world = world().await;
    let order = world.client::<StoreControlEdge>("smtpd");
    let short = Duration::from_millis(300);
    let status = order
        .call(Context::default(), short, StoreControlRequest::ShowStatus)
        .await;
    assert_eq!(
        status.map(|answered| answered.answer),
        Err(CallError::Unavailable)
    );
    let relay = world.client::<DeliveryEdge>("relayd");
    assert!(
        relay
            .call(Context::default(), WITHIN, DeliveryRequest::OpenMessage)
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_closes_its_own_channel_and_no_other() {
    use sys::packet::PacketSocket;
    let world = world().await;
    let smtp = Smtp(world.client("smtpd"));
    smtp.resolve("alice@example.test", 0).await.unwrap();
    for greeted in [false, true] {
        let bad = PacketSocket::connect(&world.socket("smtpd")).unwrap();
        if greeted {
            let hello = ipc::frame::encode(&ipc::hello::Hello::ours(SmtpEdge::NAME)).unwrap();
            bad.send(&hello, &[]).unwrap();
        }
        let _ = bad.send(&[0xff; 500], &[]);
        let mut buffer = [0; 4096];
        let closed = tokio::time::timeout(WITHIN, async {
            loop {
                match bad.recv(&mut buffer) {
                    Ok(received) if received.len == 0 => break,
                    Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        });
        closed.await.unwrap();
    }
    assert!(smtp.resolve("alice@example.test", 0).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_does_not_read_is_told_to_select_again() {
    let world = world().await;
    let client = world.client::<ImapEdge>("imapd");
    let request = ImapRequest::Authenticate(credentials("alice@example.test", "password"));
    let mut fds = client
        .call(Context::default(), WITHIN, request)
        .await
        .unwrap()
        .fds;
    let socket = sys::packet::PacketSocket::from(fds.remove(0));
    let select = SessionRequest::Select {
        name: "INBOX".into(),
        read_only: false,
    };
    let call = ipc::Call {
        id: 1,
        deadline_ms: 5000,
        context: Context::default(),
        request: select,
    };
    socket
        .send(&ipc::frame::encode(&call).unwrap(), &[])
        .unwrap();
    let owner = Owner {
        local: "alice".into(),
        domain: "example.test".into(),
    };
    let house = Arc::clone(&world.house);
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..700 {
        let owner = owner.clone();
        house
            .work(move |house| {
                let mut message = house.store.begin();
                message.buffer().push(b'x');
                house.store.deliver(message, &[owner])
            })
            .await
            .unwrap();
    }
    // Whatever fits into the queues is read, then comes Resync and nothing after it.
    let mut buffer = vec![0; ipc::frame::MAX_FRAME];
    let read = tokio::time::timeout(WITHIN, async {
        loop {
            match socket.recv(&mut buffer) {
                Ok(received) => {
                    let frame: ipc::Return<SessionAnswer, SessionEvent> =
                        ipc::frame::decode(&buffer[..received.len]).unwrap();
                    if matches!(frame, ipc::Return::Event(SessionEvent::Resync)) {
                        break;
                    }
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    });
    read.await.unwrap();
}

#[test]
fn a_store_that_can_never_be_opened_is_named_and_not_tried_again() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let text = store::unusable(&file.join("store")).unwrap();
    assert!(
        text.starts_with("cannot open the mail store") && text.contains("file/store"),
        "{text}"
    );
    assert_eq!(store::unusable(&temp.path().join("a/b")), None);
}

#[test]
fn work_under_way_is_finished_at_the_end_and_more_is_refused() {
    let runtime = runtime();
    runtime.block_on(async {
        let world = world().await;
        let house = Arc::clone(&world.house);
        let working = tokio::spawn(async move {
            house
                .work(|_| {
                    std::thread::sleep(Duration::from_millis(300));
                    Ok(7)
                })
                .await
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.house.close().await;
        assert_eq!(working.await.unwrap(), Ok(7));
        assert_eq!(
            world.house.work(|_| Ok(())).await,
            Err(Refusal::ShuttingDown)
        );
    });
}
