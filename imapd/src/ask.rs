//! Everything imapd may ask of deliverd: a login, and what the mail session that follows from it can do.

mod acl;
mod append;
mod beside;
mod cache;
mod lent;
mod metadata;
mod quota;
mod watching;

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daemon::channel::{Answered, CallError, Client, Link};
use imap::capability::Off;
use imap::mailbox::DELIMITER;
use imap::sasl::Credentials;
use imap::sequence::Ranges;
use ipc::Context;
use ipc::acl::{OTHER_USERS, Rights};
use ipc::cache::MESSAGES_PER_SHARD;
use ipc::imap::{ImapAnswer, ImapEdge, ImapRequest};
use ipc::login::{Challenge, LoginRequest};
use ipc::session::{
    FlagChange, MailboxInfo, MailboxStatus, SessionAnswer, SessionEdge, SessionEvent,
    SessionRequest, SpecialUse, UidRanges,
};
use ipc::snapshot::{Record, ShardCount};
use tokio::net::UnixStream;
use tracing::{debug, error};

use self::lent::{is_line, read_records, read_table, unreadable};

pub use self::append::{HELD, Upload, Wish};
pub use self::quota::Quota;
pub use self::watching::Happenings;

/// A password is worth a quarter of a second of computing, and others may be before us; a restarted deliverd needs a moment.
const LOGIN_PATIENCE: Duration = Duration::from_secs(30);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long changes of many messages may take.
const LONG_PATIENCE: Duration = Duration::from_mins(5);
/// How long a mailbox may take to be read whose index is lost: ten million messages take five to ten minutes.
const SELECT_PATIENCE: Duration = Duration::from_mins(30);

/// The channel on which logins are asked for.
#[derive(Debug)]
pub struct Ask {
    deliverd: Client<ImapEdge>,
    patience: Duration,
}

impl Ask {
    /// Will ask over this socket file; connects when something is to be asked.
    #[must_use]
    pub fn new(deliverd: PathBuf) -> Self {
        Self {
            deliverd: Client::new(deliverd),
            patience: LOGIN_PATIENCE,
        }
    }

    /// The same, but waiting no longer than `patience` for a daemon that is away.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Verifies a login. Returns the account's address and its mail session.
    ///
    /// # Errors
    /// [`ipc::Refusal::BadCredentials`] for a wrong password; otherwise a [`CallError`].
    pub async fn log_in(
        &self,
        context: Context,
        credentials: &Credentials,
        client: IpAddr,
    ) -> Result<(String, MailSession), CallError> {
        let request = ImapRequest::Authenticate(ipc::smtp::Credentials {
            user: credentials.user.clone(),
            password: ipc::Secret::new(credentials.password.reveal()),
            client: client.to_canonical().to_string(),
        });
        // A login has an effect (failures are counted), so it is asked once only.
        match self.advance(context, request).await? {
            Step::Admitted(account, mail) => Ok((account, mail)),
            Step::Challenged(_) => Err(nonsense()),
        }
    }

    /// Carries a message of a login in several messages.
    ///
    /// # Errors
    /// [`ipc::Refusal::BadCredentials`], [`ipc::Refusal::Invalid`] for what is no such message; otherwise a [`CallError`].
    pub async fn carry(&self, context: Context, request: LoginRequest) -> Result<Step, CallError> {
        self.advance(context, ImapRequest::Login(request)).await
    }

    async fn advance(&self, context: Context, request: ImapRequest) -> Result<Step, CallError> {
        let answered = self.deliverd.call(context, self.patience, request).await?;
        let (account, without) = match answered.answer {
            ImapAnswer::SessionOpened { account, without } => (account, without),
            ImapAnswer::LoginChallenged(challenge) => return Ok(Step::Challenged(challenge)),
            ImapAnswer::LoginAbandoned => return Err(nonsense()),
        };
        let link = Link::over(single(answered.fds)?).map_err(|error| {
            error!(%error, "cannot use a mail session");
            CallError::Unavailable
        })?;
        let off = Off::of(without.iter().map(String::as_str));
        let rung = AtomicBool::new(false);
        let mail = MailSession {
            link,
            context,
            off,
            rung,
        };
        Ok(Step::Admitted(account, mail))
    }

    /// Has a login forgotten that the client gave up. deliverd forgets it by itself after a while.
    pub async fn abandon(&self, context: Context, exchange: u64) {
        let request = ImapRequest::Login(LoginRequest::Abandon { exchange });
        if let Err(error) = self.deliverd.call(context, self.patience, request).await {
            debug!(%error, "the end of a login was not heard");
        }
    }
}

/// What comes of a message of a login.
#[derive(Debug)]
pub enum Step {
    /// The login goes on.
    Challenged(Challenge),
    /// This account has logged in, and this is its mail session.
    Admitted(String, MailSession),
}

/// One account's mail.
#[derive(Debug)]
pub struct MailSession {
    link: Link<SessionEdge>,
    context: Context,
    /// What the account is not offered.
    pub(crate) off: Off,
    /// Something may have happened to mailboxes that are watched.
    rung: AtomicBool,
}

/// A selected mailbox at the moment of its selection.
#[derive(Debug)]
pub struct Selection {
    /// Counters.
    pub status: MailboxStatus,
    /// The keyword table.
    pub keywords: Vec<String>,
    /// Whether changes are refused.
    pub read_only: bool,
    /// What may be done with it.
    pub rights: Rights,
    /// The number of its first message without `\Seen`; 0 if there is none.
    pub first_unseen: u32,
    /// How many messages its shards have: ascending, none of them empty.
    pub shards: Vec<ShardCount>,
}

/// The messages of some shards, ascending by UID.
pub type Pages = Vec<(u32, Vec<Record>)>;

/// What was copied or moved.
#[derive(Debug, Default)]
pub struct Copied {
    /// UIDVALIDITY of the target.
    pub uid_validity: u32,
    /// Old UIDs.
    pub source: UidRanges,
    /// New UIDs, in the same order.
    pub target: UidRanges,
}

/// What STORE could not know.
#[derive(Debug, Default)]
pub struct Stored {
    /// Messages that were left alone because they had changed since `unchanged_since`.
    pub modified: UidRanges,
    /// Among these are all messages that others had changed since `heard`.
    pub overtaken: UidRanges,
}

impl MailSession {
    async fn call(
        &self,
        patience: Duration,
        request: SessionRequest,
    ) -> Result<Answered<SessionAnswer>, CallError> {
        self.link.call(self.context, patience, request).await
    }

    async fn order(&self, request: SessionRequest) -> Result<(), CallError> {
        match self.call(PATIENCE, request).await?.answer {
            SessionAnswer::Done => Ok(()),
            _ => Err(nonsense()),
        }
    }

    /// The next change of the selected mailbox; `None` when deliverd is gone.
    pub async fn event(&self) -> Option<SessionEvent> {
        let event = self.link.event().await;
        self.listen(event.as_ref());
        event
    }

    /// The next change if there is one. All that happened before an answer is there once the answer is.
    #[must_use]
    pub fn try_event(&self) -> Option<SessionEvent> {
        let event = self.link.try_event();
        self.listen(event.as_ref());
        event
    }

    /// Where events were lost, that something happened may be one of them.
    fn listen(&self, event: Option<&SessionEvent>) {
        if matches!(event, Some(SessionEvent::Happened | SessionEvent::Resync)) {
            self.rung.store(true, Ordering::Relaxed);
        }
    }

    /// All mailboxes of the account itself, ordered by name, and names only subscribed to.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_own(&self) -> Result<Vec<MailboxInfo>, CallError> {
        let mut all: Vec<MailboxInfo> = Vec::new();
        loop {
            let after = all.last().map(|last| last.name.clone());
            let request = SessionRequest::ListMailboxes { after };
            let SessionAnswer::Mailboxes { mailboxes, more } =
                self.call(PATIENCE, request).await?.answer
            else {
                return Err(nonsense());
            };
            if more && mailboxes.is_empty() {
                return Err(nonsense());
            }
            all.extend(mailboxes);
            if !more {
                return Ok(all);
            }
        }
    }

    /// The mailboxes below a name, ordered, and names below it only subscribed to.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_below(&self, name: &str) -> Result<Vec<MailboxInfo>, CallError> {
        let parent = format!("{name}{DELIMITER}");
        if name.starts_with(OTHER_USERS) {
            let mut all = self.list().await?;
            all.retain(|mailbox| mailbox.name.starts_with(&parent));
            return Ok(all);
        }
        // All of them stand together, right behind this.
        let (mut all, mut after) = (Vec::new(), parent.clone());
        loop {
            let request = SessionRequest::ListMailboxes { after: Some(after) };
            let SessionAnswer::Mailboxes { mailboxes, more } =
                self.call(PATIENCE, request).await?.answer
            else {
                return Err(nonsense());
            };
            let count = mailboxes.len();
            let is_below = |mailbox: &MailboxInfo| mailbox.name.starts_with(&parent);
            let below: Vec<_> = mailboxes.into_iter().take_while(is_below).collect();
            let Some(last) = below.last().filter(|_| more && below.len() == count) else {
                all.extend(below);
                return Ok(all);
            };
            after = last.name.clone();
            all.extend(below);
        }
    }

    /// One mailbox; one that is not there is described as such.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn describe(&self, name: String) -> Result<MailboxInfo, CallError> {
        if name.starts_with(OTHER_USERS) {
            let mut all = self.list().await?.into_iter();
            if let Some(found) = all.find(|mailbox| mailbox.name == name) {
                return Ok(found);
            }
        }
        let request = SessionRequest::DescribeMailbox { name };
        match self.call(PATIENCE, request).await?.answer {
            SessionAnswer::Mailboxes { mut mailboxes, .. } => mailboxes.pop().ok_or_else(nonsense),
            _ => Err(nonsense()),
        }
    }

    /// Makes a mailbox.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn create(
        &self,
        name: String,
        special_use: Option<SpecialUse>,
    ) -> Result<(), CallError> {
        self.order(SessionRequest::CreateMailbox { name, special_use })
            .await
    }

    /// Removes a mailbox.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn delete(&self, name: String) -> Result<(), CallError> {
        self.order(SessionRequest::DeleteMailbox { name }).await
    }

    /// Renames a mailbox.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn rename(&self, from: String, to: String) -> Result<(), CallError> {
        self.order(SessionRequest::RenameMailbox { from, to }).await
    }

    /// Subscribes to a name, or not any more.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn subscribe(&self, name: String, subscribed: bool) -> Result<(), CallError> {
        self.order(SessionRequest::Subscribe { name, subscribed })
            .await
    }

    /// Counters of a mailbox.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn status(&self, name: String) -> Result<MailboxStatus, CallError> {
        match self
            .call(PATIENCE, SessionRequest::Status { name })
            .await?
            .answer
        {
            SessionAnswer::Status(status) => Ok(status),
            _ => Err(nonsense()),
        }
    }

    /// Selects a mailbox, instead of what is selected. What was left to be told of that is forgotten: the events of this selection
    /// must not be mixed up with those of the one before.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn select(&self, name: String, read_only: bool) -> Result<Selection, CallError> {
        let request = SessionRequest::Select { name, read_only };
        // Among what is forgotten there may be that something happened.
        self.rung.store(true, Ordering::Relaxed);
        let call = self.link.call_anew(self.context, SELECT_PATIENCE, request);
        let Answered { answer, fds } = call.await?;
        let SessionAnswer::Selected {
            status,
            first_unseen,
            keywords,
            read_only,
            rights,
            shards,
        } = answer
        else {
            return Err(nonsense());
        };
        let shards = match fds.into_iter().next() {
            None => shards,
            Some(table) => read_table(&File::from(table)).map_err(unreadable)?,
        };
        let counts = shards.iter().map(|line| u64::from(line.messages));
        let is_table = shards.is_sorted_by(|a, b| a.shard < b.shard)
            && shards.iter().all(is_line)
            && counts.sum::<u64>() == u64::from(status.messages)
            && first_unseen <= status.messages;
        if !is_table {
            return Err(nonsense());
        }
        Ok(Selection {
            status,
            keywords,
            read_only,
            rights,
            first_unseen,
            shards,
        })
    }

    /// Reads the messages of some shards, no more than [`ipc::session::PAGES_PER_READ`]. What happened before that is there as events.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn read_pages(&self, shards: Vec<u32>) -> Result<Pages, CallError> {
        let wanted = shards.clone();
        let request = SessionRequest::ReadPages { shards };
        let Answered { answer, fds } = self.call(PATIENCE, request).await?;
        let SessionAnswer::PagesRead { shards: read } = answer else {
            return Err(nonsense());
        };
        let counted = |line: &ShardCount| line.messages == 0 || is_line(line);
        if !read.iter().map(|line| &line.shard).eq(&wanted) || !read.iter().all(counted) {
            return Err(nonsense());
        }
        let pages = read_records(&File::from(single(fds)?), &read).map_err(unreadable)?;
        let fits = |(shard, records): &(u32, Vec<Record>)| {
            records.is_sorted_by(|a, b| a.uid < b.uid)
                && records
                    .iter()
                    .all(|record| record.uid / MESSAGES_PER_SHARD == *shard)
        };
        if pages.iter().all(fits) {
            Ok(pages)
        } else {
            Err(nonsense())
        }
    }

    /// What is gone since a modification sequence; `None` if not all of that is known.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn removed_since(&self, since: u64) -> Result<Option<Ranges>, CallError> {
        let mut all = UidRanges::new();
        loop {
            let after = all.last().map_or(0, |(_, last)| *last);
            let request = SessionRequest::ListRemoved { since, after };
            let SessionAnswer::RemovedListed {
                uids,
                more,
                complete,
            } = self.call(PATIENCE, request).await?.answer
            else {
                return Err(nonsense());
            };
            if !complete {
                return Ok(None);
            }
            if more && uids.iter().all(|(_, last)| *last <= after) {
                return Err(nonsense());
            }
            all.extend(uids);
            if !more {
                return Ok(Some(Ranges::new(all)));
            }
        }
    }

    /// The EMAILIDs of messages, no more than [`ipc::session::IDS_PER_FRAME`]; those that are gone are missing.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn email_ids(&self, uids: UidRanges) -> Result<Vec<(u32, u128)>, CallError> {
        let request = SessionRequest::ListIds { uids };
        match self.call(PATIENCE, request).await?.answer {
            SessionAnswer::IdsListed(ids) => {
                Ok(ids.into_iter().map(|ids| (ids.uid, ids.email_id)).collect())
            }
            _ => Err(nonsense()),
        }
    }

    /// When messages came into the selected mailbox, in Unix seconds, of no more than [`ipc::session::RANGES_PER_FRAME`]; those of
    /// which that is not known are missing.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn save_dates(&self, uids: UidRanges) -> Result<Vec<(u32, u32)>, CallError> {
        let request = SessionRequest::ListSaveDates { uids };
        match self.call(PATIENCE, request).await?.answer {
            SessionAnswer::SaveDatesListed(dates) => Ok(dates),
            _ => Err(nonsense()),
        }
    }

    /// Nothing is selected any more, and what was left to be told of it is forgotten: the events of the next selection must
    /// not be mixed up with those of this one.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn unselect(&self) -> Result<(), CallError> {
        let outcome = self.order(SessionRequest::Unselect).await;
        while self.try_event().is_some() {}
        outcome
    }

    /// Opens messages; those that are gone are missing.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn open(&self, uids: Vec<u32>) -> Result<Vec<(u32, File)>, CallError> {
        self.open_by(SessionRequest::OpenMessages { uids }).await
    }

    async fn open_by(&self, request: SessionRequest) -> Result<Vec<(u32, File)>, CallError> {
        let Answered { answer, fds } = self.call(PATIENCE, request).await?;
        match answer {
            SessionAnswer::MessagesOpened { uids } if uids.len() == fds.len() => Ok(uids
                .into_iter()
                .zip(fds.into_iter().map(File::from))
                .collect()),
            _ => Err(nonsense()),
        }
    }

    /// Returns when all changes that happened before are there: an answer comes behind the events before it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn catch_up(&self) -> Result<(), CallError> {
        self.open(Vec::new()).await.map(|_| ())
    }

    /// Changes flags. Events tell the outcome. With `unchanged_since` no more than [`ipc::session::RANGES_PER_FRAME`] messages may be named.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn store_flags(
        &self,
        uids: UidRanges,
        change: FlagChange,
        flags: u8,
        keywords: Vec<String>,
        unchanged_since: Option<u64>,
        heard: u64,
    ) -> Result<Stored, CallError> {
        let request = SessionRequest::StoreFlags {
            uids,
            change,
            flags,
            keywords,
            unchanged_since,
            heard,
        };
        match self.call(LONG_PATIENCE, request).await?.answer {
            SessionAnswer::FlagsStored {
                modified,
                overtaken,
            } => Ok(Stored {
                modified,
                overtaken,
            }),
            _ => Err(nonsense()),
        }
    }

    /// Removes messages that carry `\Deleted`. Events tell which.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn expunge(&self, uids: Option<UidRanges>) -> Result<(), CallError> {
        let request = SessionRequest::Expunge { uids };
        match self.call(LONG_PATIENCE, request).await?.answer {
            SessionAnswer::Expunged => Ok(()),
            _ => Err(nonsense()),
        }
    }

    /// Copies messages.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn copy(&self, uids: UidRanges, to: String) -> Result<Copied, CallError> {
        self.transfer(SessionRequest::Copy { uids, to }).await
    }

    /// Moves messages.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn move_to(&self, uids: UidRanges, to: String) -> Result<Copied, CallError> {
        self.transfer(SessionRequest::Move { uids, to }).await
    }

    async fn transfer(&self, request: SessionRequest) -> Result<Copied, CallError> {
        match self.call(LONG_PATIENCE, request).await?.answer {
            SessionAnswer::Copied {
                uid_validity,
                source,
                target,
            } => Ok(Copied {
                uid_validity,
                source,
                target,
            }),
            _ => Err(nonsense()),
        }
    }
}

fn open_stream(fd: OwnedFd) -> Result<UnixStream, CallError> {
    let stream = std::os::unix::net::UnixStream::from(fd);
    let watched = stream
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(stream));
    watched.map_err(|error| {
        error!(%error, "cannot use a stream");
        CallError::Unavailable
    })
}

fn single(fds: Vec<OwnedFd>) -> Result<OwnedFd, CallError> {
    let mut fds = fds.into_iter();
    match (fds.next(), fds.next()) {
        (Some(fd), None) => Ok(fd),
        _ => Err(nonsense()),
    }
}

// An answer to another question than was asked.
fn nonsense() -> CallError {
    error!("bug: deliverd answered another question");
    CallError::Unavailable
}
