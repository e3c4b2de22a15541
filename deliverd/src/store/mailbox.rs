//! One mailbox: its files, and what of them is kept in memory while it is in use.
//!
//! Invariant: files and journal are the truth. Memory is read from the files at first use, and changed only after they or the
//! journal were.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use ipc::Refusal;
use ipc::session::{MailboxStatus, SessionEvent, SpecialUse};
use ipc::snapshot::Record;
use tracing::{error, warn};

use super::acl::HasAcl;
use super::append::Pending;
use super::chores::Shared;
use super::disk::{Dir, is_not_found};
use super::feed::{self, Feed};
use super::gone::Gone;
use super::ids::Lines;
use super::index::Pages;
use super::journal::{Journal, Place};
use super::keywords::Table;
use super::message_file;
use super::quota::{Change, Tally};
use super::reader_cache::Writing;
use super::records::Records;
use super::refresh::Time;
use super::status::Status;
use super::watch::Watchers;
use crate::clock;
use crate::fault::OrFault;

/// A mailbox of a user. Cheap while it is not loaded.
pub(crate) struct Mailbox {
    pub(super) shared: Arc<Shared>,
    /// Directory beneath the root.
    path: String,
    /// Who watches the mailboxes of its user.
    pub(super) watchers: Arc<Watchers>,
    /// Who needs two of these takes them in the order of [`Mailbox::load_both`].
    pub(super) slot: Mutex<Slot>,
    /// Held while caches for readers are written; taken before `slot`.
    pub(super) writing: Mutex<Writing>,
    /// Whether it is on the list of those to be compared with their files.
    pub(super) waits: AtomicBool,
    /// Whether it is just being read for a long time.
    takes_long: AtomicBool,
    /// RFC 6154 use, once `status.json` was read.
    special_use: OnceLock<Option<SpecialUse>>,
    /// Whether it may be shared.
    pub(super) has_acl: HasAcl,
    /// The cache's clock at the last use.
    pub(super) used: AtomicU64,
    /// Records in memory, as the cache counts them.
    pub(super) weight: AtomicUsize,
    /// What of it the quota has counted.
    pub(super) tally: Tally,
}

pub(super) enum Slot {
    Unloaded {
        totals: Option<Totals>,
        /// The highest modification sequence, if it was in memory before.
        modseq: Option<u64>,
    },
    Loaded(Box<State>),
    /// Deleted, renamed, or its user removed: this object must not touch files any more.
    Gone,
}

/// Sums over the messages of a mailbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// What is known about a mailbox in use.
pub(super) struct State {
    pub(super) status: Status,
    pub(super) uid_next: u32,
    pub(super) modseq: u64,
    /// Messages everyone may see.
    pub(super) records: Records,
    /// Where those are that only the index has.
    pub(super) pages: Pages,
    /// UIDs below this were known when the index was written, and when that was (Unix seconds).
    pub(super) indexed_below: u32,
    pub(super) indexed_at: i64,
    /// Messages added, changed and removed since.
    pub(super) unindexed: usize,
    /// What was removed.
    pub(super) gone: Gone,
    /// Whether the index knew everything when it was read, but for edits by hand.
    pub(super) is_current: bool,
    /// Whether it is still being read.
    pub(super) is_reading: bool,
    /// Shards to be compared with their files soon.
    pub(super) to_compare: BTreeSet<u32>,
    /// When somebody who selected it last had all of them compared.
    pub(super) looked_at: Option<Instant>,
    /// Messages the journal is about to carry, ascending, all above `records`.
    pub(super) pending: VecDeque<Pending>,
    /// Pending messages that could not be kept, until their bringer was told.
    pub(super) failed: HashMap<u32, Refusal>,
    /// Promises whose bringers were not told yet what became of them.
    pub(super) promised: usize,
    /// Flags in the names of files that are not renamed yet: the record knows better.
    pub(super) late: BTreeMap<u32, u8>,
    /// Shards whose keyword file is not written yet: the records know better.
    pub(super) stale_keywords: BTreeSet<u32>,
    /// What messages brought along from elsewhere and no file says yet.
    pub(super) brought: Lines,
    /// Messages that are gone, and whose files could not be removed yet.
    pub(super) doomed: BTreeSet<u32>,
    /// The highest UID that was removed.
    pub(super) removed: u32,
    /// Shards whose caches may still know messages that were removed.
    pub(super) remembered: BTreeSet<u32>,
    /// Whether it is on the list of mailboxes to be tidied.
    pub(super) is_listed: bool,
    /// Distinguishes this reading of the files from any other.
    pub(super) reading: u64,
    /// Messages below this UID are on disk …
    settled_below: u32,
    /// … and those below that UID as soon as that record of the journal is not needed any more.
    settling: (u32, u64),
    /// What came in since the lock was taken and had room set aside.
    pub(super) granted: Totals,
    pub(super) keywords: Table,
    /// Modification time of the mailbox's directory when it was last read.
    pub(super) seen: Option<Time>,
    pub(super) feed: Feed,
}

/// Says of a mailbox that it is being read for a long time until it is dropped.
pub(super) struct LongReading(Arc<Mailbox>);

/// A mailbox in memory, under its lock.
pub(super) struct Loaded<'a> {
    mailbox: &'a Mailbox,
    slot: MutexGuard<'a, Slot>,
}

impl Mailbox {
    /// The mailbox in the directory `path` beneath the root; nothing is read yet.
    pub(super) fn new(
        shared: Arc<Shared>,
        path: String,
        tally: Tally,
        watchers: Arc<Watchers>,
    ) -> Arc<Self> {
        Arc::new(Self {
            shared,
            path,
            watchers,
            slot: Mutex::new(Slot::Unloaded {
                totals: None,
                modseq: None,
            }),
            writing: Mutex::default(),
            waits: AtomicBool::new(false),
            takes_long: AtomicBool::new(false),
            special_use: OnceLock::new(),
            has_acl: HasAcl::default(),
            used: AtomicU64::new(0),
            weight: AtomicUsize::new(0),
            tally,
        })
    }

    /// Works on the loaded mailbox under its lock.
    pub(super) fn with<T>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut State) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        work(self.load()?.state()?)
    }

    /// Works on the mailbox under its lock if it is in memory.
    pub(super) fn with_loaded<T>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut State) -> T,
    ) -> Option<T> {
        let slot = self.lock();
        let mut loaded = Loaded {
            mailbox: self,
            slot,
        };
        loaded.state().ok().map(work)
    }

    /// Locks the mailbox, and reads it if it is not in memory.
    pub(super) fn load(self: &Arc<Self>) -> Result<Loaded<'_>, Refusal> {
        let mut slot = self.lock();
        self.fill(&mut slot, true)?;
        self.shared.cache.touch(self);
        Ok(Loaded {
            mailbox: self,
            slot,
        })
    }

    fn fill(self: &Arc<Self>, slot: &mut Slot, may_take_long: bool) -> Result<(), Refusal> {
        if let Slot::Unloaded { modseq, .. } = *slot {
            let mut state = Box::new(self.read(modseq, may_take_long)?);
            self.let_watch(&mut state);
            self.tally.settle(self.difference(&mut state), None);
            self.shared.cache.weigh(self, Some(state.weight()));
            *slot = Slot::Loaded(state);
            self.shared.cache.register(self);
        }
        Ok(())
    }

    /// Reads the mailbox if it is not in memory. Called before room in the journal is set aside: whoever has some must not wait for
    /// that.
    pub(super) fn prepare(self: &Arc<Self>) -> Result<(), Refusal> {
        self.load().map(drop)
    }

    /// [`Mailbox::prepare`] for somebody who has other mailboxes to care for: where it takes long, another thread does it, and this one
    /// hears [`Refusal::Busy`] until it is done. (Who comes in the milliseconds before it is known to take long, waits.)
    pub(super) fn prepare_in_passing(self: &Arc<Self>) -> Result<(), Refusal> {
        if self.takes_long.load(Ordering::Acquire) {
            return Err(Refusal::Busy);
        }
        match self.fill(&mut self.lock(), false) {
            Err(Refusal::Busy) => {}
            filled => return filled,
        }
        if self.takes_long.swap(true, Ordering::AcqRel) {
            return Err(Refusal::Busy);
        }
        let reading = LongReading(Arc::clone(self));
        let thread = std::thread::Builder::new().name("reading".into());
        let started = thread.spawn(move || {
            // The fault is logged; the next one who needs the mailbox tries again.
            let _ = reading.0.prepare();
        });
        if let Err(error) = started {
            error!(mailbox = self.path, %error, "no thread to read a large mailbox with");
        }
        Err(Refusal::Busy)
    }

    /// Locks two different mailboxes, `self` first in the result.
    pub(super) fn load_both<'a>(
        self: &'a Arc<Self>,
        other: &'a Arc<Self>,
    ) -> Result<(Loaded<'a>, Loaded<'a>), Refusal> {
        // Invariant: two mailboxes are always locked in the order of their addresses, so nobody waits for each other.
        if Arc::as_ptr(self) < Arc::as_ptr(other) {
            let first = self.load()?;
            Ok((first, other.load()?))
        } else {
            let first = other.load()?;
            Ok((self.load()?, first))
        }
    }

    /// Works on the mailbox under its lock, whether or not it is in memory. Refused if it was deleted or renamed.
    pub(super) fn hold<T>(
        self: &Arc<Self>,
        work: impl FnOnce(Option<&mut State>) -> T,
    ) -> Result<T, Refusal> {
        let slot = self.lock();
        if matches!(*slot, Slot::Gone) {
            return Err(Refusal::NoSuchMailbox);
        }
        let mut loaded = Loaded {
            mailbox: self,
            slot,
        };
        Ok(work(loaded.state().ok()))
    }

    pub(super) fn lock(self: &Arc<Self>) -> MutexGuard<'_, Slot> {
        match self.slot.lock() {
            Ok(slot) => slot,
            Err(poisoned) => {
                // A call panicked while it changed the state: read it again from the files, and let clients do the same.
                error!(
                    mailbox = self.path,
                    "bug: a call panicked in a mailbox; reading it again"
                );
                self.slot.clear_poison();
                let mut slot = poisoned.into_inner();
                if let Slot::Loaded(state) = &mut *slot {
                    state.feed.close(&SessionEvent::Resync);
                    // What clients were promised goes into the files first, as far as it can be known.
                    if let Err(refusal) = self.tidy_state(state) {
                        error!(mailbox = self.path, %refusal, "some flags are as they were before");
                    }
                    *slot = Slot::Unloaded {
                        totals: None,
                        modseq: None,
                    };
                    self.shared.cache.weigh(self, None);
                }
                slot
            }
        }
    }

    /// What the quota is to be told.
    pub(super) fn difference(&self, state: &mut State) -> Change {
        let granted = std::mem::take(&mut state.granted);
        self.tally.change(state.totals(), granted)
    }

    #[cfg(test)]
    pub(super) fn is_loaded(self: &Arc<Self>) -> bool {
        matches!(*self.lock(), Slot::Loaded(_))
    }

    /// Directory beneath the root, for the log.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn dir(&self) -> io::Result<Dir> {
        self.shared.root.dir(&self.path)
    }

    pub(super) fn shard(&self, shard: u32) -> io::Result<Dir> {
        self.shared.root.dir(&format!(
            "{}/{}",
            self.path,
            message_file::shard_name(shard)
        ))
    }

    /// Opens a shard and makes it if need be, durably.
    pub(super) fn make_shard(&self, state: &mut State, shard: u32) -> Result<Dir, Refusal> {
        if state.records.make_shard(shard) {
            let made = self
                .dir()
                .and_then(|dir| dir.make_path(&message_file::shard_name(shard)));
            if made.is_err() {
                state.records.remove_shard(shard);
            }
            return made.or_fault("make a shard");
        }
        self.shard(shard).or_fault("open a shard")
    }

    /// Counters.
    pub(crate) fn status(self: &Arc<Self>) -> Result<MailboxStatus, Refusal> {
        self.with(|state| Ok(state.counters()))
    }

    /// What the mailbox is for.
    pub(crate) fn special_use(self: &Arc<Self>) -> Result<Option<SpecialUse>, Refusal> {
        if let Some(special_use) = self.special_use.get() {
            return Ok(*special_use);
        }
        self.uid_validity().or_fault("read status.json")?;
        Ok(self.special_use.get().copied().flatten())
    }

    /// UIDVALIDITY, without loading the messages.
    pub(super) fn uid_validity(&self) -> io::Result<u32> {
        let status = Status::read(&self.dir()?)?;
        let special_use = status.as_ref().and_then(Status::special_use);
        self.special_use.get_or_init(|| special_use);
        Ok(status.map_or(0, |status| status.uid_validity))
    }

    /// Gives a mailbox that was made by hand, or copied, a UIDVALIDITY of its own, before it is used.
    pub(super) fn renew(&self, uid_validity: u32) -> Result<(), Refusal> {
        warn!(
            mailbox = self.path,
            uid_validity, "a mailbox made by hand gets a UIDVALIDITY"
        );
        let dir = self.dir().or_fault("open a mailbox")?;
        let status = Status::read(&dir).or_fault("read status.json")?;
        let mut status = status.unwrap_or_else(|| Status::new(uid_validity, None));
        status.uid_validity = uid_validity;
        // It would be that of the mailbox it was copied from.
        status.renew_id();
        status.write(&dir).or_fault("write status.json")
    }

    /// Message count and bytes; reads the mailbox only if it was never read before.
    pub(crate) fn totals(self: &Arc<Self>) -> Result<Totals, Refusal> {
        if let Slot::Unloaded { totals, .. } = &mut *self.lock() {
            if totals.is_none() {
                *totals = self.indexed_totals();
                if let Some(totals) = *totals {
                    let change = self.tally.change(totals, Totals::default());
                    self.tally.settle(change, None);
                }
            }
            if let Some(totals) = totals {
                return Ok(*totals);
            }
        }
        self.with(|state| Ok(state.totals()))
    }

    /// Opens messages for reading; those that are gone are left out.
    pub(crate) fn open(self: &Arc<Self>, uids: &[u32]) -> Result<Vec<(u32, File)>, Refusal> {
        self.with(|state| {
            let wanted = uids.iter().map(|uid| (*uid, *uid)).collect();
            self.need(state, &wanted)?;
            let mut shards = BTreeMap::new();
            let mut opened = Vec::with_capacity(uids.len());
            for &uid in uids {
                let Some(name) = state.file_name(uid) else {
                    continue;
                };
                let shard = message_file::shard_of(uid);
                if let std::collections::btree_map::Entry::Vacant(slot) = shards.entry(shard) {
                    slot.insert(self.shard(shard).or_fault("open a shard")?);
                }
                let Some(dir) = shards.get(&shard) else {
                    continue;
                };
                let mut file = dir.open_file(&name);
                if is_not_found(&file) {
                    let Some(name) = self.find_again(state, dir, uid)? else {
                        continue;
                    };
                    file = dir.open_file(&name);
                }
                if file.as_ref().is_err_and(message_file::is_none) {
                    error!(
                        mailbox = self.path,
                        uid, "the file of a message was replaced by something else"
                    );
                    continue;
                }
                opened.push((uid, file.or_fault("open a message")?));
            }
            Ok(opened)
        })
    }

    /// Someone renamed or removed a message's file by hand: finds its name in its shard, and tells everyone.
    pub(super) fn find_again(
        &self,
        state: &mut State,
        shard: &Dir,
        uid: u32,
    ) -> Result<Option<String>, Refusal> {
        let Some(record) = state.record(uid) else {
            return Ok(None);
        };
        let entries = shard.entries().or_fault("list a shard")?;
        let known = entries
            .iter()
            .filter_map(|entry| message_file::parse(&entry.name));
        match known.into_iter().find(|(known, _)| *known == uid) {
            Some((_, flags)) => {
                let modseq = state.next_modseq();
                state.late.remove(&uid);
                let marked = state.records.mark(uid, flags, record.keywords, modseq);
                state.unindexed += 1;
                state.feed.changed(marked.as_slice());
                Ok(Some(message_file::file_name(uid, flags)))
            }
            None => {
                warn!(
                    mailbox = self.path,
                    uid, "the file of a message was removed by someone else"
                );
                if uid >= state.status.uid_next {
                    self.write_status(state)?;
                }
                state.forget(&[uid]);
                Ok(None)
            }
        }
    }

    /// Which mailbox this is, for the journal.
    pub(super) fn place(&self, state: &State) -> Place {
        Place {
            path: self.path.clone(),
            uid_validity: state.status.uid_validity,
        }
    }
}

impl Loaded<'_> {
    /// What is known about the mailbox. Refused if it was deleted or renamed.
    pub(super) fn state(&mut self) -> Result<&mut State, Refusal> {
        match &mut *self.slot {
            Slot::Loaded(state) => Ok(state),
            Slot::Unloaded { .. } | Slot::Gone => Err(Refusal::NoSuchMailbox),
        }
    }

    /// Tells the quota what changed here, and in `other` in the same step.
    pub(super) fn settle(&mut self, other: Option<&mut Self>) {
        let Some(change) = self.difference() else {
            return;
        };
        let tally = &self.mailbox.tally;
        let other = other.and_then(|other| Some((&other.mailbox.tally, other.difference()?)));
        tally.settle(change, other);
    }

    fn difference(&mut self) -> Option<Change> {
        match &mut *self.slot {
            Slot::Loaded(state) => Some(self.mailbox.difference(state)),
            Slot::Unloaded { .. } | Slot::Gone => None,
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.shared.cache.weigh(self, None);
    }
}

impl Drop for Loaded<'_> {
    fn drop(&mut self) {
        self.settle(None);
        if let Slot::Loaded(state) = &*self.slot {
            let records = state.weight();
            self.mailbox.shared.cache.weigh(self.mailbox, Some(records));
        }
    }
}

impl LongReading {
    /// From now on.
    pub(super) fn begin(mailbox: &Arc<Mailbox>) -> Self {
        mailbox.takes_long.store(true, Ordering::Release);
        Self(Arc::clone(mailbox))
    }
}

impl Drop for LongReading {
    fn drop(&mut self) {
        self.0.takes_long.store(false, Ordering::Release);
    }
}

impl State {
    /// A mailbox of which nothing is known but its status, when the journal had given out `given` sequence numbers.
    pub(super) fn new(status: Status, given: u64) -> Self {
        static READINGS: AtomicU64 = AtomicU64::new(0);
        let uid_next = status.uid_next.max(1);
        Self {
            status,
            uid_next,
            modseq: 0,
            records: Records::default(),
            pages: Pages::default(),
            indexed_below: 0,
            indexed_at: 0,
            unindexed: 0,
            gone: Gone::default(),
            is_current: false,
            is_reading: true,
            granted: Totals::default(),
            to_compare: BTreeSet::new(),
            looked_at: None,
            pending: VecDeque::new(),
            failed: HashMap::new(),
            promised: 0,
            late: BTreeMap::new(),
            stale_keywords: BTreeSet::new(),
            brought: Lines::new(),
            doomed: BTreeSet::new(),
            removed: 0,
            remembered: BTreeSet::new(),
            is_listed: false,
            reading: READINGS.fetch_add(1, Ordering::Relaxed),
            settled_below: 0,
            settling: (uid_next, given),
            keywords: Table::default(),
            seen: None,
            feed: Feed::default(),
        }
    }

    /// Removals before `modseq` are not remembered.
    pub(super) fn gone_since(&mut self, modseq: u64) {
        self.gone = Gone::since(modseq);
    }

    /// Whether somebody selected it, or it knows better than its files.
    pub(super) fn is_in_use(&self) -> bool {
        !self.feed.is_empty() || self.is_listed || !self.pending.is_empty() || self.promised != 0
    }

    /// What it takes in memory, in messages.
    fn weight(&self) -> usize {
        self.records.in_memory() + self.gone.len()
    }

    /// The UID below which the bytes of all messages are on disk.
    pub(super) fn settled_below(&mut self, journal: &Journal) -> u32 {
        let (uid, sequence) = self.settling;
        if journal.is_done(sequence) {
            self.settled_below = uid;
            let next = self
                .pending
                .front()
                .map_or(self.uid_next, |pending| pending.record.uid);
            self.settling = (next, journal.given());
        }
        self.settled_below
    }

    /// The flags in the name of a message's file.
    pub(super) fn name_flags(&self, record: &Record) -> u8 {
        self.late.get(&record.uid).copied().unwrap_or(record.flags)
    }

    /// The name of a message's file.
    pub(super) fn file_name(&self, uid: u32) -> Option<String> {
        let record = self.record(uid)?;
        Some(message_file::file_name(uid, self.name_flags(&record)))
    }

    /// The next modification sequence: the clock in microseconds, but always above the last one.
    pub(super) fn next_modseq(&mut self) -> u64 {
        self.modseq = clock::micros().max(self.modseq + 1);
        self.modseq
    }

    /// A message whose page is in memory.
    pub(super) fn record(&self, uid: u32) -> Option<Record> {
        self.records.get(uid)
    }

    /// Takes messages out of memory and tells everyone; `uids` ascending.
    pub(super) fn forget(&mut self, uids: &[u32]) {
        if uids.is_empty() {
            return;
        }
        for uid in uids {
            self.late.remove(uid);
            self.brought.remove(uid);
        }
        self.records.remove(uids);
        self.unindexed += uids.len();
        let modseq = self.next_modseq();
        self.gone.add(modseq, &feed::ranges(uids));
        self.feed.removed(uids);
    }

    /// The bits of `names`, new ones put into the table; listeners hear of the new table before any record uses it.
    pub(super) fn keyword_bits(&mut self, names: &[String]) -> Result<u64, Refusal> {
        let known = self.keywords.names().len();
        let bits = self.keywords.bits(names)?;
        if self.keywords.names().len() != known {
            self.feed
                .tell(&SessionEvent::Keywords(self.keywords.names().to_vec()));
        }
        Ok(bits)
    }

    pub(super) fn totals(&self) -> Totals {
        let pending = self.pending.iter().map(|pending| pending.record.size);
        Totals {
            messages: (self.records.len() + self.pending.len()) as u64,
            bytes: self.records.sums().bytes + pending.sum::<u64>(),
        }
    }

    pub(super) fn counters(&self) -> MailboxStatus {
        let sums = self.records.sums();
        MailboxStatus {
            messages: sums.messages,
            unseen: sums.unseen,
            deleted: sums.deleted,
            size: sums.bytes,
            // RFC 9051 §2.3.1.1: no message that shows up later may have a UID below what was announced.
            uid_next: self
                .pending
                .front()
                .map_or(self.uid_next, |pending| pending.record.uid),
            uid_validity: self.status.uid_validity,
            highest_modseq: self.modseq,
            mailbox_id: self.status.id(),
        }
    }
}
