//! The mail store: directories of `.eml` files, which are the truth about every message.
//!
//! ```text
//! mailstore/.lock, .incoming/                         who owns the store; messages that are not finished
//! mailstore/.journal/0                                what was acknowledged and is not yet on disk where it belongs
//! mailstore/domains/example.com/users/alice/
//! ├── account.json                                    subscriptions
//! ├── .expunged/2026-11-27/                           what was removed that day and can be had back
//! └── mailboxes/INBOX/                                percent-encoded mailbox name
//!     ├── status.json                                 UIDVALIDITY, UIDNEXT, MAILBOXID
//!     ├── .cache/                                     what need not be read from the files again
//!     ├── .keywords/0000                              keywords of shard 0
//!     ├── .ids/0000                                   ids of those messages of shard 0 that came by COPY or MOVE
//!     ├── .cache/summaries/0000                       what readers need not work out again; may go at any time
//!     └── 0000/00000041_AFS.eml                       UID 41: \Answered \Flagged \Seen
//! ```
//! What a crash can leave at each step, and why that is sound, stands in `docs/store.md`. All of this blocks: it is called on
//! the runtime's blocking threads.

mod acl;
mod apart;
mod append;
mod cache;
mod change;
mod check;
mod chores;
mod delivery;
mod disk;
mod expunged;
mod feed;
mod gone;
mod ids;
mod incoming;
mod index;
mod journal;
mod keep;
mod keywords;
mod mailbox;
mod message_file;
mod metadata;
mod name;
mod quota;
mod reader_cache;
mod records;
mod recovery;
mod recovery_report;
mod refresh;
mod registry;
mod scan;
mod select;
mod sharing;
mod status;
mod together;
mod transfer;
mod user;
mod users;
mod watch;
mod watched;

#[cfg(test)]
mod dice;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod model;
#[cfg(test)]
mod power_cut;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ipc::Refusal;
use tracing::warn;

use self::cache::Cache;
use self::chores::{Bell, Chores, Shared};
use self::disk::Dir;
use self::expunged::{Attic, Purger};
use self::incoming::Nursery;
use self::users::Users;
use crate::clock;
use crate::fault::OrFault;

pub(crate) use self::acl::{Identifier, Marks, Visitor, parse_shared};
pub(crate) use self::append::NewMessage;
pub(crate) use self::change::{FlagOrder, Untold};
pub(crate) use self::check::{After, Order, Piece, Walker, give_way};
pub(crate) use self::delivery::{Addressed, NotPledged, Pledge, RECIPIENTS};
pub(crate) use self::expunged::{Retention, Wanted};
pub(crate) use self::feed::{Listener, Selection, ranges};
pub(crate) use self::incoming::{BUFFER, Incoming, Parked};
pub(crate) use self::mailbox::{Mailbox, Totals};
pub(crate) use self::name::MailboxName;
pub(crate) use self::quota::{Hold, Ledger, Member};
pub(crate) use self::sharing::Register;
pub(crate) use self::transfer::Transfer;
pub(crate) use self::user::{MAX_MAILBOXES, User};
pub(crate) use self::watch::Watch;

/// Messages that may be in memory: 100 MB of them.
const CACHED_RECORDS: usize = 4_000_000;
/// How long a clean stop may take to write indexes.
const SAVING: Duration = Duration::from_secs(10);

/// Whose mail: a local part (lower case, without quotes) in a domain (lower case, A-labels).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Owner {
    pub(crate) local: String,
    pub(crate) domain: String,
}

/// The mail of all users.
pub(crate) struct Store {
    /// Ends first: it works on what follows.
    _chores: Chores,
    _purger: Purger,
    shared: Arc<Shared>,
    users: Users,
    /// Messages delivered and appended since the start.
    stored: AtomicU64,
    /// Held for the life of the process: two owners would give one UID twice.
    _lock: File,
}

impl Store {
    /// Opens the store in `directory`, makes it if it is not there, and removes what a crash left unfinished. What is expunged is
    /// kept as `retention` says.
    ///
    /// # Errors
    /// A text for the admin.
    pub(crate) fn open_with(directory: &Path, retention: Retention) -> Result<Self, String> {
        let path = directory.join("mailstore");
        let explain = |error: std::io::Error| {
            format!(
                "cannot open the mail store {}: {error}; it must belong to the user deliverd runs as",
                path.display()
            )
        };
        let root = Dir::root(&path).map_err(explain)?;
        let lock = root.lock_file(".lock").map_err(explain)?;
        let lock = lock.ok_or_else(|| {
            format!(
                "the mail store {} is in use by another deliverd",
                path.display()
            )
        })?;
        let incoming = root.make_path(".incoming").map_err(explain)?;
        root.make_path("domains").map_err(explain)?;
        let nursery = Nursery::new(incoming).map_err(|refusal| {
            format!(
                "cannot clean up the mail store {}: {refusal}",
                path.display()
            )
        })?;
        let nursery = Arc::new(nursery);
        let bell = Arc::new(Bell::default());
        let attic = Attic::new(retention);
        let (journal, was_stopped) = recovery::open_journal(&root, &nursery, &bell, &attic).map_err(|fault| {
            format!(
                "cannot bring the journal {}/.journal to an end: {fault}; nothing was changed that a next start does not \
                 change again",
                path.display()
            )
        })?;
        // Where that cannot be found out – the disk may be full – it is not relied on.
        let has_fine_times = nursery.has_fine_times().unwrap_or(false);
        let shared = Arc::new(Shared::new(
            root,
            Cache::new(CACHED_RECORDS),
            nursery,
            (Arc::new(journal), bell),
            attic,
            has_fine_times,
            was_stopped,
        ));
        let no_thread = |error: std::io::Error| format!("cannot start a thread: {error}");
        Ok(Self {
            _chores: Chores::start(&shared).map_err(no_thread)?,
            _purger: Purger::start(&shared).map_err(no_thread)?,
            shared,
            users: Users::new(),
            stored: AtomicU64::new(0),
            _lock: lock,
        })
    }

    /// Opens the store in `directory` as tests do.
    #[cfg(test)]
    pub(crate) fn open(directory: &Path) -> Result<Self, String> {
        Self::open_with(directory, tests::RETENTION)
    }

    /// Begins a message.
    pub(crate) fn begin(&self) -> Incoming {
        self.begin_with(Vec::new())
    }

    /// Begins a message with these bytes.
    pub(crate) fn begin_with(&self, bytes: Vec<u8>) -> Incoming {
        self.shared.nursery.begin(bytes)
    }

    /// A user's mail; the directory of a user who has none yet is made. Whether the account exists is the caller's business.
    pub(crate) fn user(&self, owner: &Owner) -> Result<Arc<User>, Refusal> {
        self.users.get(owner, || {
            let (parent, name) = owner.place()?;
            let path = format!("{parent}/{name}");
            let member = self.shared.ledger.join(owner);
            if let Err(error) = self.shared.root.dir(&path) {
                if error.kind() != std::io::ErrorKind::NotFound {
                    return Err(error).or_fault("open a user's directory");
                }
                User::create(
                    &self
                        .shared
                        .root
                        .make_path(&parent)
                        .or_fault("make a domain's directory")?,
                    &name,
                )?;
            }
            User::open(&self.shared, path, member)
        })
    }

    /// Whether the INBOX of each of them is in memory, with its quota, and nobody works on it at this moment.
    pub(crate) fn is_at_hand(&self, owners: &[Owner]) -> bool {
        owners.iter().all(|owner| {
            let user = self.users.known(owner);
            user.is_some_and(|user| user.member().is_counted() && user.is_inbox_at_hand())
        })
    }

    /// A user's mail, if it is in memory.
    fn opened(&self, owner: &Owner) -> Option<Arc<User>> {
        self.users.opened(owner)
    }

    /// Works in a user's directory while nobody opens it, if it is not in memory. Must be short: logins wait.
    fn unless_opened<T>(&self, owner: &Owner, work: impl FnOnce() -> T) -> Option<T> {
        self.users.unless_opened(owner, work)
    }

    /// Works while no user is opened or made. Must be short: logins wait.
    fn undisturbed<T>(&self, work: impl FnOnce() -> T) -> T {
        self.users.undisturbed(work)
    }

    /// How the journal is.
    pub(crate) fn journal_state(&self) -> ipc::tools::JournalState {
        self.shared.journal.report()
    }

    /// Puts a user's mail aside under a name no user can have, and cuts off everyone who still has it open. No error if the
    /// user has no mail.
    pub(crate) fn set_aside(&self, owner: &Owner) -> Result<(), Refusal> {
        self.shared.ledger.remove_user(owner);
        let (parent, name) = owner.place()?;
        self.users.remove(owner, |user| {
            let Ok(parent) = self.shared.root.dir(&parent) else {
                return Ok(());
            };
            let aside = || {
                // Nothing in the journal may reach the next user of that name.
                let path = format!("{}/", owner.path()?);
                if !self.shared.empty_journal() || self.shared.is_apart(&path) {
                    return Err(Refusal::StorageFault);
                }
                let removed = format!(".removed-{}-{name}", clock::micros());
                match parent.rename(&name, &parent, &removed) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                    renamed => renamed
                        .and_then(|()| parent.sync())
                        .or_fault("put a removed user's mail aside"),
                }
            };
            match user {
                Some(user) => user.retire(aside),
                None => aside(),
            }
        })
    }

    /// How much everyone stores and may store.
    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.shared.ledger
    }

    /// Sets room for messages aside for each owner: for all or for none.
    ///
    /// # Errors
    /// [`Refusal::OverQuota`], or [`Refusal::NoSuchUser`] for one who is not in the ledger.
    pub(crate) fn hold(&self, owners: &[Owner], amount: Totals) -> Result<Vec<Hold>, Refusal> {
        let members = owners.iter().map(|owner| {
            let member = self.shared.ledger.member(owner);
            member.ok_or(Refusal::NoSuchUser)
        });
        self.reserve(Vec::new(), &members.collect::<Result<Vec<_>, _>>()?, amount)
    }

    /// Has room that was set aside be for more, or for less.
    ///
    /// # Errors
    /// [`Refusal::OverQuota`]; then nothing is set aside any more.
    pub(crate) fn extend(&self, held: Vec<Hold>, amount: Totals) -> Result<Vec<Hold>, Refusal> {
        let members: Vec<_> = held.iter().map(Hold::member).collect();
        self.reserve(held, &members, amount)
    }

    fn reserve(
        &self,
        held: Vec<Hold>,
        members: &[Arc<Member>],
        amount: Totals,
    ) -> Result<Vec<Hold>, Refusal> {
        for member in members {
            if !member.is_counted() {
                self.user(member.owner())?.count()?;
            }
        }
        quota::reserve(held, members, amount)
    }

    /// Takes a user out of memory who was only looked at, if nobody uses it.
    pub(crate) fn let_go(&self, owner: &Owner) {
        self.users.let_go(owner);
    }

    /// Unloads mailboxes and users if too many are in memory. Called after work, without locks.
    pub(crate) fn trim(&self) {
        self.shared.cache.trim();
        self.users.trim();
    }

    /// Messages stored since the start.
    pub(crate) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Counts stored messages.
    pub(crate) fn count_stored(&self, messages: u64) {
        self.stored.fetch_add(messages, Ordering::Relaxed);
    }

    /// Whether the disk still takes a flush; for the health check.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if self.shared.journal.is_closed() {
            return Err(Refusal::StorageFault);
        }
        let root = &self.shared.root;
        root.sync().or_fault("flush the store's directory")
    }

    /// Writes what memory knows better; at a clean stop, when no work is under way.
    pub(crate) fn save(&self) {
        if !self.shared.empty_journal() || self.shared.is_apart("") {
            return;
        }
        let end = Instant::now() + SAVING;
        let mut is_complete = true;
        for mailbox in self.shared.cache.mailboxes() {
            is_complete = is_complete && Instant::now() < end;
            if is_complete {
                mailbox.save();
            }
        }
        if is_complete
            && !self.shared.has_old_index.load(Ordering::Relaxed)
            && let Err(error) = recovery::note_stop(&self.shared.root)
        {
            warn!(%error, "the next start will look at all mailboxes anew");
        }
    }
}

/// Why the directory of the store can never be used by this process as it is, in words for the admin.
pub(crate) fn unusable(directory: &Path) -> Option<String> {
    use std::os::unix::fs::DirBuilderExt;

    let probe = directory.join(".probe");
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    let error = made
        .and_then(|()| std::fs::write(&probe, b""))
        .and_then(|()| std::fs::remove_file(&probe))
        .err()?;
    let is_lasting = matches!(
        error.kind(),
        std::io::ErrorKind::PermissionDenied
            | std::io::ErrorKind::ReadOnlyFilesystem
            | std::io::ErrorKind::NotADirectory
    );
    is_lasting.then(|| {
        let store = directory.display();
        format!("cannot open the mail store {store}: {error}; make it a directory that belongs to the user deliverd runs as")
    })
}

impl Owner {
    /// The user's directory.
    fn path(&self) -> Result<String, Refusal> {
        self.place()
            .map(|(parent, name)| format!("{parent}/{name}"))
    }

    /// The directory the user's directory is in, and its name.
    fn place(&self) -> Result<(String, String), Refusal> {
        let encode = |text: &str| name::encode(text).ok_or(Refusal::NoSuchUser);
        Ok((
            format!("domains/{}/users", encode(&self.domain)?),
            encode(&self.local)?,
        ))
    }
}
