//! What is written of a mailbox beside its messages – keywords, status, index – and when it leaves memory.

use std::sync::atomic::Ordering;
use std::sync::{Arc, TryLockError};

use ipc::Refusal;
use ipc::session::SessionEvent;
use ipc::snapshot::Record;
use tracing::{debug, warn};

use super::disk::is_not_found;
use super::index::Table as Index;
use super::journal::Event;
use super::keywords;
use super::mailbox::{Mailbox, Slot, State};
use super::message_file;
use crate::clock;
use crate::fault::OrFault;

/// Changes after which the index is written again while the mailbox is in use, if it is no larger.
const UNINDEXED: usize = 1000;

impl Mailbox {
    /// Writes the keywords of a shard as they are in memory, and of messages that will be in it, durably.
    pub(super) fn write_keywords(
        self: &Arc<Self>,
        state: &mut State,
        shard: u32,
        more: &[Record],
    ) -> Result<(), Refusal> {
        self.need(state, &message_file::uids_of(shard))?;
        let more = more.iter().copied();
        let messages = state
            .records
            .in_shard(shard)
            .chain(more.filter(|record| message_file::shard_of(record.uid) == shard));
        let text = keywords::format(
            messages.map(|record| (record.uid, record.keywords)),
            &state.keywords,
        );
        let dir = self.dir().or_fault("open a mailbox")?;
        dir.make_path(keywords::DIRECTORY)
            .or_fault("open the keywords")?
            .write_small(&message_file::shard_name(shard), text.as_bytes())
            .or_fault("write keywords")?;
        if let Some(known) = state.records.shard_mut(shard) {
            // Its time is too young to tell it from the next one.
            known.keywords_seen = None;
        }
        Ok(())
    }

    /// Writes `status.json` with the present UIDNEXT, durably.
    pub(super) fn write_status(&self, state: &mut State) -> Result<(), Refusal> {
        let mut status = state.status.clone();
        status.uid_next = state.uid_next;
        status.modseq_floor = state.modseq;
        self.dir()
            .and_then(|dir| status.write(&dir))
            .or_fault("write status.json")?;
        state.status = status;
        Ok(())
    }

    /// Whether it cannot leave memory now.
    pub(super) fn is_in_use(&self) -> bool {
        match self.slot.try_lock() {
            Ok(slot) => matches!(&*slot, Slot::Loaded(state) if state.is_in_use()),
            Err(_) => true,
        }
    }

    /// Whether it is in memory, and nobody holds its lock at this moment.
    pub(super) fn is_at_hand(&self) -> bool {
        let slot = self.slot.try_lock();
        slot.is_ok_and(|slot| matches!(*slot, Slot::Loaded(_)))
    }

    /// Whether somebody holds its lock at this moment.
    pub(super) fn is_locked(&self) -> bool {
        matches!(self.slot.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Takes the mailbox out of memory if nobody uses it. False if it is in use.
    pub(super) fn unload(self: &Arc<Self>) -> bool {
        let Ok(mut slot) = self.slot.try_lock() else {
            return false;
        };
        let Slot::Loaded(state) = &mut *slot else {
            return true;
        };
        if state.is_in_use() {
            return false;
        }
        if state.status.uid_next != state.uid_next && self.write_status(state).is_err() {
            return false;
        }
        self.write_index(state);
        self.tally.settle(self.difference(state), None);
        *slot = Slot::Unloaded {
            totals: Some(state.totals()),
            modseq: Some(state.modseq),
        };
        self.shared.cache.weigh(self, None);
        true
    }

    /// Takes the mailbox out of memory, in use or not: what memory knows better is written, `between` is done, and whoever has it
    /// selected is told to compare with what is read next. `None`, and nothing is done, while messages are on their way in.
    pub(super) fn forget<T>(
        self: &Arc<Self>,
        between: impl FnOnce() -> Result<T, Refusal>,
    ) -> Result<Option<T>, Refusal> {
        let mut slot = self.lock();
        let modseq = match &mut *slot {
            Slot::Gone => return Err(Refusal::NoSuchMailbox),
            Slot::Unloaded { modseq, .. } => *modseq,
            Slot::Loaded(state) => {
                self.drain(state);
                if state.promised != 0 || !state.pending.is_empty() {
                    return Ok(None);
                }
                let kept = self
                    .tidy_state(state)
                    .and_then(|()| self.write_status(state));
                if kept.is_ok() {
                    self.write_index(state);
                }
                self.tally.settle(self.difference(state), None);
                kept?;
                Some(state.modseq)
            }
        };
        let done = between()?;
        if let Slot::Loaded(state) = &mut *slot {
            state.feed.close(&SessionEvent::Resync);
        }
        *slot = Slot::Unloaded {
            totals: None,
            modseq,
        };
        self.shared.cache.weigh(self, None);
        Ok(Some(done))
    }

    /// Brings the files up to what memory knows better.
    pub(super) fn tidy(self: &Arc<Self>) -> Result<(), Refusal> {
        match &mut *self.lock() {
            Slot::Loaded(state) => {
                let tidied = self.tidy_state(state);
                if tidied.is_ok() {
                    // Changes there and back leave no trace in the files.
                    self.write_index(state);
                }
                self.tally.settle(self.difference(state), None);
                tidied?;
                state.is_listed = false;
                Ok(())
            }
            Slot::Unloaded { .. } | Slot::Gone => Ok(()),
        }
    }

    /// What the journal must go on telling because the files cannot be brought up to what memory knows.
    pub(super) fn debt(self: &Arc<Self>) -> Vec<Event> {
        let events = self.with_loaded(|state| state.debt(&self.place(state)));
        events.unwrap_or_default()
    }

    pub(super) fn tidy_state(self: &Arc<Self>, state: &mut State) -> Result<(), Refusal> {
        if is_not_found(&self.dir()) {
            // What is not there needs no tidying, and must not keep the journal from being emptied for everyone.
            warn!(
                mailbox = self.path(),
                "a mailbox was removed by someone else"
            );
            state.late.clear();
            state.stale_keywords.clear();
            state.brought.clear();
            state.doomed.clear();
            return Ok(());
        }
        self.unlink_doomed(state)?;
        self.rename_late(state, usize::MAX)?;
        while let Some(shard) = state.stale_keywords.first().copied() {
            self.write_keywords(state, shard, &[])?;
            state.stale_keywords.remove(&shard);
        }
        while let Some(uid) = state.brought.keys().next().copied() {
            self.write_ids(state, message_file::shard_of(uid))?;
        }
        // Invariant: status.json's UIDNEXT is above every UID whose file was ever removed, so none of them returns. Until it is
        // written, the journal knows of the removal.
        if state.removed >= state.status.uid_next {
            self.write_status(state)?;
        }
        Ok(())
    }

    /// Has the index written again when much has happened since.
    pub(super) fn note_growth(self: &Arc<Self>, state: &mut State) {
        if state.unindexed > UNINDEXED && state.unindexed > state.records.len() / 16 {
            self.list(state);
        }
    }

    /// Has the files tidied before the journal forgets what is in it now.
    pub(super) fn list(self: &Arc<Self>, state: &mut State) {
        if !state.is_listed {
            state.is_listed = true;
            self.shared.list(Arc::clone(self));
        }
    }

    /// Writes what memory knows better than `status.json`; at a clean stop.
    pub(crate) fn save(self: &Arc<Self>) {
        let mut slot = self.lock();
        if let Slot::Loaded(state) = &mut *slot {
            if state.status.uid_next != state.uid_next {
                // The fault is logged; the files alone are enough to start from.
                let _ = self.write_status(state);
            }
            self.write_index(state);
            self.tally.settle(self.difference(state), None);
        }
    }

    /// Writes what is known into the index, unless the files are behind it. That it cannot be written is no fault.
    fn write_index(self: &Arc<Self>, state: &mut State) {
        let is_behind = !state.late.is_empty()
            || !state.stale_keywords.is_empty()
            || !state.doomed.is_empty()
            || !state.pending.is_empty()
            || state.promised != 0;
        if is_behind || state.unindexed == 0 {
            return;
        }
        let written = self
            .dir()
            .map_err(|_| Refusal::StorageFault)
            .and_then(|dir| {
                let file = state
                    .pages
                    .open_or_make(&dir, &mut state.records)
                    .or_fault("open an index")?;
                self.settle(state, &dir)?;
                let mut index = Index::new(
                    state.status.uid_validity,
                    state.uid_next,
                    state.modseq,
                    clock::seconds(),
                );
                index.keywords = state.keywords.names().to_vec();
                index.seen = state.seen;
                index.gone = state.gone.clone();
                index
                    .write(&dir, &mut state.records, state.pages, &file)
                    .or_fault("write an index")
            });
        match written {
            Ok(()) => state.unindexed = 0,
            Err(refusal) => {
                debug!(mailbox = self.path(), %refusal, "an index is not written");
                let removed = self.dir().and_then(|dir| Index::remove(&dir));
                if removed.is_err() {
                    self.shared.has_old_index.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// Ends the life of this object: what is pending is shown, the files are brought up to date, `last` is done under the lock,
    /// and listeners hear `Gone`.
    pub(super) fn retire<T>(
        self: &Arc<Self>,
        last: impl FnOnce() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        // Invariant: no cache is written while the directory goes, nor afterwards.
        let _writing = self.lock_caches();
        let mut slot = self.lock();
        if let Slot::Loaded(state) = &mut *slot {
            self.drain(state);
            let mut kept = self.tidy_state(state);
            if kept.is_ok() && state.status.uid_next != state.uid_next {
                kept = self.write_status(state);
            }
            if kept.is_ok() {
                self.write_index(state);
            }
            self.tally.settle(self.difference(state), None);
            kept?;
        }
        let done = last()?;
        if let Slot::Loaded(state) = &mut *slot {
            state.feed.close(&SessionEvent::Gone);
        }
        *slot = Slot::Gone;
        self.shared.cache.weigh(self, None);
        Ok(done)
    }
}
