//! What is done behind the clients' backs: files are renamed after flag changes, and what the journal carries is brought to disk
//! where it belongs, so that the journal can be written over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipc::Refusal;
use tracing::{error, info};

use super::apart;
use super::cache::Cache;
use super::disk::Dir;
use super::expunged::Attic;
use super::incoming::Nursery;
use super::journal::{Event, Journal, Needs};
use super::mailbox::Mailbox;
use super::quota::Ledger;
use super::recovery;
use crate::fault::OrFault;

/// How long something is in the journal alone, if nothing else comes.
const REST: Duration = Duration::from_secs(5);

/// How often the mailboxes that somebody has selected are compared with their files.
const ROUND: Duration = Duration::from_secs(30);

/// What all mailboxes share.
pub(super) struct Shared {
    pub(super) root: Dir,
    pub(super) cache: Cache,
    pub(super) nursery: Arc<Nursery>,
    pub(super) journal: Arc<Journal>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) attic: Attic,
    bell: Arc<Bell>,
    /// Mailboxes whose files are behind what memory and journal know.
    untidy: Mutex<Vec<Arc<Mailbox>>>,
    /// Those with files that wait to be renamed.
    late: Mutex<Vec<Arc<Mailbox>>>,
    /// Those to be compared with their files.
    to_compare: Mutex<Vec<Arc<Mailbox>>>,
    /// Those whose files cannot be written: see [`apart`].
    apart: Mutex<Vec<Arc<Mailbox>>>,
    /// Whether every change of a directory shows in its time, however soon it follows another.
    pub(super) has_fine_times: bool,
    /// Whether the process before this one came to an orderly end, with all indexes written.
    pub(super) was_stopped: bool,
    /// Whether an index may say something old about a mailbox.
    pub(super) has_old_index: AtomicBool,
    /// Held while the journal is emptied.
    emptying: Mutex<()>,
}

/// The thread that does the chores; it ends when this is dropped.
pub(super) struct Chores {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Wakes the thread.
#[derive(Default)]
pub(super) struct Bell {
    state: Mutex<Rung>,
    rung: Condvar,
}

#[derive(Default)]
struct Rung {
    is_rung: bool,
    is_over: bool,
}

impl Shared {
    pub(super) fn new(
        root: Dir,
        cache: Cache,
        nursery: Arc<Nursery>,
        (journal, bell): (Arc<Journal>, Arc<Bell>),
        attic: Attic,
        has_fine_times: bool,
        was_stopped: bool,
    ) -> Self {
        Self {
            attic,
            has_fine_times,
            was_stopped,
            to_compare: Mutex::default(),
            apart: Mutex::default(),
            has_old_index: AtomicBool::new(false),
            root,
            cache,
            nursery,
            journal,
            ledger: Arc::default(),
            bell,
            untidy: Mutex::default(),
            late: Mutex::default(),
            emptying: Mutex::default(),
        }
    }

    /// Has a mailbox tidied before the journal is emptied. Called under the mailbox's lock.
    pub(super) fn list(&self, mailbox: Arc<Mailbox>) {
        locked(&self.untidy).push(mailbox);
    }

    /// Has the files of a mailbox renamed soon. Called under the mailbox's lock.
    pub(super) fn rename_soon(&self, mailbox: Arc<Mailbox>) {
        locked(&self.late).push(mailbox);
        self.bell.ring();
    }

    /// Has shards of a mailbox compared with their files soon. Called under the mailbox's lock.
    pub(super) fn compare_soon(&self, mailbox: Arc<Mailbox>) {
        if !mailbox.waits.swap(true, Ordering::AcqRel) {
            locked(&self.to_compare).push(mailbox);
            self.bell.ring();
        }
    }

    /// Has all selected mailboxes compared with their files, so that their clients hear of what was done by hand.
    pub(super) fn look_around(&self) {
        for mailbox in self.cache.mailboxes() {
            mailbox.look_again();
        }
    }

    /// Brings everything the journal carries to disk where it belongs, and makes room in it. False if that failed; the journal
    /// keeps what it has then.
    pub(super) fn empty_journal(&self) -> bool {
        let _emptying = locked(&self.emptying);
        let done = self.journal.wait_for_done();
        let mailboxes = std::mem::take(&mut *locked(&self.untidy));
        let mut behind = mailboxes.into_iter();
        let (mut broken, mut debts) = (Vec::new(), Vec::new());
        while let Some(mailbox) = behind.next() {
            match mailbox.tidy() {
                Ok(()) => {}
                Err(Refusal::StorageFault) => {
                    debts.extend(mailbox.debt());
                    broken.push(mailbox);
                }
                Err(_) => {
                    // The fault is logged. These are tried again.
                    broken.push(mailbox);
                    locked(&self.untidy).extend(broken.into_iter().chain(behind));
                    self.journal.deny();
                    return false;
                }
            }
        }
        locked(&self.untidy).extend(broken.iter().cloned());
        if !self.set_apart(done, broken, &debts) {
            self.journal.deny();
            return false;
        }
        if let Err(fault) = self.root.sync_file_system() {
            error!(
                %fault,
                "the disk of the mail store does not keep what is written to it; no more mail is taken. The journal has all \
                 that was acknowledged: repair the file system, then restart deliverd"
            );
            self.journal.close();
            return false;
        }
        let is_raised = self.journal.raise_floor(done).is_ok();
        if !is_raised {
            self.journal.deny();
        }
        self.cache.loosen(usize::MAX);
        is_raised
    }

    /// Has mailboxes that cannot be written told by a file of their own instead of the journal. False if that failed.
    fn set_apart(&self, done: u64, broken: Vec<Arc<Mailbox>>, debts: &[Event]) -> bool {
        let mut apart = locked(&self.apart);
        for mailbox in &broken {
            if !apart.iter().any(|known| Arc::ptr_eq(known, mailbox)) {
                error!(
                    mailbox = mailbox.path(),
                    "the files of a mailbox cannot be written; what was changed in it is kept in .journal/apart, and written \
                     when it can be"
                );
            }
        }
        for mailbox in apart.iter() {
            if !broken.iter().any(|known| Arc::ptr_eq(known, mailbox)) {
                info!(mailbox = mailbox.path(), "a mailbox can be written again");
            }
        }
        let is_written = broken.is_empty()
            || self
                .root
                .dir(recovery::DIRECTORY)
                .or_fault("open the journal")
                .and_then(|dir| apart::write(&dir, done, debts))
                .is_ok();
        *apart = broken;
        is_written
    }

    /// Whether a mailbox whose path begins like this is set apart.
    pub(super) fn is_apart(&self, beginning: &str) -> bool {
        let apart = locked(&self.apart);
        apart
            .iter()
            .any(|mailbox| mailbox.path().starts_with(beginning))
    }

    fn run(&self) {
        let mut rested = Instant::now();
        let mut looked = Instant::now();
        loop {
            if looked.elapsed() >= ROUND {
                self.look_around();
                self.cache.trim();
                looked = Instant::now();
            }
            let late = std::mem::take(&mut *locked(&self.late));
            for mailbox in late {
                mailbox.rename_some();
            }
            let next = locked(&self.to_compare).pop();
            if let Some(mailbox) = next {
                mailbox.waits.store(false, Ordering::Release);
                mailbox.compare_some();
            }
            if self.bell.is_over() {
                return;
            }
            let due = match self.journal.needs() {
                Needs::Nothing => None,
                Needs::Since(time) => Some(time.max(rested) + REST),
                Needs::Room => Some(Instant::now()),
            };
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            let has_late = !locked(&self.late).is_empty();
            if left == Some(Duration::ZERO) && !has_late {
                if !self.empty_journal() {
                    rested = Instant::now();
                    if self.bell.wait(Duration::from_secs(1)) {
                        return;
                    }
                }
                continue;
            }
            let is_idle = !has_late && locked(&self.to_compare).is_empty();
            let round = (looked + ROUND).saturating_duration_since(Instant::now());
            if is_idle && self.bell.wait(left.unwrap_or(round).min(round)) {
                return;
            }
        }
    }
}

impl Chores {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let working = Arc::clone(shared);
        let thread = std::thread::Builder::new()
            .name("chores".into())
            .spawn(move || working.run())?;
        Ok(Self {
            shared: Arc::clone(shared),
            thread: Some(thread),
        })
    }
}

impl Drop for Chores {
    fn drop(&mut self) {
        self.shared.bell.end();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            error!("bug: the thread that empties the journal panicked");
        }
        // Mailboxes and what they share hold each other.
        locked(&self.shared.untidy).clear();
        locked(&self.shared.late).clear();
        locked(&self.shared.to_compare).clear();
        locked(&self.shared.apart).clear();
    }
}

impl Bell {
    pub(super) fn ring(&self) {
        locked(&self.state).is_rung = true;
        self.rung.notify_all();
    }

    pub(super) fn end(&self) {
        locked(&self.state).is_over = true;
        self.rung.notify_all();
    }

    fn is_over(&self) -> bool {
        locked(&self.state).is_over
    }

    /// Waits until it is rung, at most so long. True if it is over.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = locked(&self.state);
        while !state.is_rung && !state.is_over {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.rung.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.is_rung = false;
        state.is_over
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
