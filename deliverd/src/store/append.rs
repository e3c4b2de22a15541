//! How messages come into a mailbox: linked under a new UID, flushed together with what others linked meanwhile, then shown.
//!
//! 1. [`Mailbox::link`], under the mailbox's lock: a UID is taken and the finished, flushed file gets its final name.
//! 2. [`Mailbox::flush`], outside of it: whoever comes first flushes the directories for all that is pending (group commit).
//! 3. Only then the messages are shown, in the order of their UIDs, and their bringers may acknowledge them.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::{Arc, MutexGuard, PoisonError};

use ipc::Refusal;
use ipc::snapshot::Record;
use tracing::error;

use super::disk::Dir;
use super::mailbox::{Mailbox, State};
use super::message_file::{self, MAX_UID};
use crate::fault::OrFault;

/// Names tried when a file somebody made by hand stands where a new message should go.
const ATTEMPTS: u32 = 100;

/// A message that is about to get a name in a mailbox.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewMessage {
    pub(crate) flags: u8,
    pub(crate) keywords: Vec<String>,
    pub(crate) size: u64,
    pub(crate) internal_date: i64,
}

/// A finished file and what it shall be in the mailbox.
pub(super) struct Placing<'a> {
    pub(super) from: &'a Dir,
    pub(super) name: String,
    pub(super) message: NewMessage,
}

impl Mailbox {
    /// Gives the file `name` in `from`, whose bytes are flushed, a UID and a name in this mailbox. Shown after [`Mailbox::flush`].
    pub(crate) fn link(
        self: &Arc<Self>,
        from: &Dir,
        name: &str,
        message: &NewMessage,
    ) -> Result<u32, Refusal> {
        let placing = Placing {
            from,
            name: name.to_owned(),
            message: message.clone(),
        };
        let uids = self.with(|state| self.link_all(state, &[placing]))?;
        uids.first().copied().ok_or(Refusal::StorageFault)
    }

    /// [`Mailbox::link`] for many, all or nothing; gives their UIDs in the same order.
    pub(super) fn link_all(
        &self,
        state: &mut State,
        files: &[Placing<'_>],
    ) -> Result<Vec<u32>, Refusal> {
        let names = files
            .iter()
            .map(|file| state.keyword_bits(&file.message.keywords));
        let keywords = names.collect::<Result<Vec<u64>, Refusal>>()?;
        let first = state.pending.len();
        for (file, keywords) in files.iter().zip(keywords) {
            let record = state.next_record(&file.message, keywords);
            state.pending.extend(record);
        }
        let mut linked = Vec::with_capacity(files.len());
        let done = if state.pending.len() - first == files.len() {
            self.link_pending(state, first, files, &mut linked)
        } else {
            error!(mailbox = self.path(), "the mailbox has no UID left");
            Err(Refusal::StorageFault)
        };
        match done {
            Ok(()) => Ok(linked.iter().map(|record| record.uid).collect()),
            Err(refusal) => {
                state.pending.truncate(first);
                self.undo(state, &linked);
                Err(refusal)
            }
        }
    }

    /// Links the files as the records from `first` of `pending`.
    fn link_pending(
        &self,
        state: &mut State,
        first: usize,
        files: &[Placing<'_>],
        linked: &mut Vec<Record>,
    ) -> Result<(), Refusal> {
        // Keywords first: a line without a message is harmless, a message without its keywords is not what was asked for.
        let with_keywords = state.pending[first..]
            .iter()
            .filter(|record| record.keywords != 0);
        let shards: BTreeSet<u32> = with_keywords
            .map(|record| message_file::shard_of(record.uid))
            .collect();
        for shard in shards {
            self.write_keywords(state, shard)?;
        }
        let mut open: Option<(u32, Dir)> = None;
        for (at, file) in (first..).zip(files) {
            for _ in 0..ATTEMPTS {
                let record = state.pending[at];
                let shard = message_file::shard_of(record.uid);
                let dir = match open.take() {
                    Some((known, dir)) if known == shard => dir,
                    _ => self.make_shard(state, shard)?,
                };
                let result = self.place(
                    file,
                    &dir,
                    &message_file::file_name(record.uid, record.flags),
                );
                open = Some((shard, dir));
                if fails_with(&result, ErrorKind::AlreadyExists) {
                    // Somebody made a file of that name by hand.
                    self.shift(state, at)?;
                    continue;
                }
                result.or_fault("link a message")?;
                state.bytes += record.size;
                linked.push(record);
                break;
            }
        }
        if linked.len() == files.len() {
            Ok(())
        } else {
            Err(Refusal::StorageFault)
        }
    }

    /// Gives a file one more name, or a copy of it where the file system allows it no more names (65,000 on ext4).
    fn place(&self, file: &Placing<'_>, to: &Dir, name: &str) -> io::Result<()> {
        let linked = file.from.link(&file.name, to, name);
        if !fails_with(&linked, ErrorKind::TooManyLinks) {
            return linked;
        }
        self.nursery
            .copy_to(file.from, &file.name, file.message.internal_date, to, name)
    }

    /// Gives the pending record at `at` and all behind it UIDs one higher.
    fn shift(&self, state: &mut State, at: usize) -> Result<(), Refusal> {
        state.uid_next += 1;
        let mut shards = BTreeSet::new();
        for record in &mut state.pending[at..] {
            record.uid += 1;
            if record.keywords != 0 {
                shards.insert(message_file::shard_of(record.uid));
            }
        }
        shards
            .into_iter()
            .try_for_each(|shard| self.write_keywords(state, shard))
    }

    /// Makes the names of `uids` durable and shows the messages.
    pub(crate) fn flush(self: &Arc<Self>, uids: &[u32]) -> Result<(), Refusal> {
        let flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = self.with(|state| {
            let is_pending = |uid: &u32| {
                state
                    .pending
                    .binary_search_by_key(uid, |record| record.uid)
                    .is_ok()
            };
            Ok(uids.iter().any(is_pending))
        })?;
        if waits {
            self.flush_pending(&flushing)?;
        }
        self.with(|state| state.outcome(uids))
    }

    /// [`Mailbox::flush`] for who holds both locks already.
    pub(super) fn flush_locked(
        &self,
        state: &mut State,
        flushing: &MutexGuard<'_, ()>,
        uids: &[u32],
    ) -> Result<(), Refusal> {
        let batch = state.pending.clone();
        let flushed = self.sync_all(&batch);
        self.conclude(state, flushing, &batch, &flushed);
        state.outcome(uids)
    }

    /// Takes back what [`Mailbox::link`] did, for messages that will not be flushed.
    pub(crate) fn unlink_pending(self: &Arc<Self>, uids: &[u32]) {
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let undone = self.with(|state| {
            let uids: BTreeSet<u32> = uids.iter().copied().collect();
            let records: Vec<Record> = state
                .pending
                .iter()
                .filter(|record| uids.contains(&record.uid))
                .copied()
                .collect();
            self.undo(state, &records);
            // A flush somebody else led may have shown or failed them already; either way their bringer is told an error.
            state.failed.retain(|uid, _| !uids.contains(uid));
            Ok(())
        });
        if let Err(refusal) = undone {
            error!(%refusal, "a message that was not acknowledged could not be taken back");
        }
    }

    /// Flushes the directories of everything pending and shows it. The lock makes sure that one batch follows the other.
    pub(super) fn flush_pending(
        self: &Arc<Self>,
        flushing: &MutexGuard<'_, ()>,
    ) -> Result<(), Refusal> {
        let Some(batch) = self.pending()? else {
            return Ok(());
        };
        let flushed = self.sync_all(&batch);
        self.with(|state| {
            self.conclude(state, flushing, &batch, &flushed);
            Ok(())
        })
    }

    /// Flushes the directories of a batch.
    fn sync_all(&self, batch: &[Record]) -> Result<(), Refusal> {
        let shards: BTreeSet<u32> = batch
            .iter()
            .map(|record| message_file::shard_of(record.uid))
            .collect();
        shards
            .iter()
            .try_for_each(|shard| self.shard(*shard)?.sync())
            .or_fault("flush a shard")
    }

    /// Shows a batch that was flushed. A failed flush is final: what it should have made durable is removed and its bringers
    /// are told.
    fn conclude(
        &self,
        state: &mut State,
        _flushing: &MutexGuard<'_, ()>,
        batch: &[Record],
        flushed: &Result<(), Refusal>,
    ) {
        match flushed {
            Ok(()) => state.show(batch),
            Err(refusal) => {
                self.undo(state, batch);
                state
                    .failed
                    .extend(batch.iter().map(|record| (record.uid, refusal.clone())));
            }
        }
    }

    /// What is pending; does not load a mailbox that is not in memory, since nothing can be pending there.
    fn pending(self: &Arc<Self>) -> Result<Option<Vec<Record>>, Refusal> {
        if !self.is_loaded() {
            return Ok(None);
        }
        self.with(|state| Ok((!state.pending.is_empty()).then(|| state.pending.clone())))
    }

    fn undo(&self, state: &mut State, records: &[Record]) {
        for record in records {
            let name = message_file::file_name(record.uid, record.flags);
            let unlinked = self
                .shard(message_file::shard_of(record.uid))
                .and_then(|dir| dir.unlink(&name));
            if let Err(error) = unlinked {
                error!(%error, uid = record.uid, "a message that was not acknowledged could not be removed");
            }
            state.bytes -= record.size;
        }
        let undone: BTreeSet<u32> = records.iter().map(|record| record.uid).collect();
        state.pending.retain(|record| !undone.contains(&record.uid));
    }
}

impl State {
    /// A record with the next UID; `None` when there is none.
    fn next_record(&mut self, message: &NewMessage, keywords: u64) -> Option<Record> {
        let uid = self.uid_next;
        // Room is left for names that turn out to be taken.
        if uid > MAX_UID - ATTEMPTS {
            return None;
        }
        self.uid_next += 1;
        let NewMessage {
            flags,
            size,
            internal_date,
            ..
        } = *message;
        Some(Record {
            uid,
            flags,
            keywords,
            size,
            internal_date,
            modseq: self.modseq,
        })
    }

    /// What became of messages that were flushed.
    fn outcome(&mut self, uids: &[u32]) -> Result<(), Refusal> {
        let failures: Vec<Refusal> = uids
            .iter()
            .filter_map(|uid| self.failed.remove(uid))
            .collect();
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    /// Moves the front of `pending` to `records` and tells everyone.
    fn show(&mut self, batch: &[Record]) {
        let modseq = self.next_modseq();
        let shown: Vec<Record> = batch
            .iter()
            .map(|record| Record { modseq, ..*record })
            .collect();
        self.pending.drain(..batch.len().min(self.pending.len()));
        self.records.extend_from_slice(&shown);
        self.feed.added(&shown);
    }
}

fn fails_with(result: &io::Result<()>, kind: ErrorKind) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == kind)
}
