//! Flags, keywords and removal: in the journal first, then told; the files follow.
//!
//! The first files are renamed at once and removed ones are unlinked at once, all without flushing; a large number of renames is
//! left to the chores, and keyword files to the moment when the journal is emptied.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipc::Refusal;
use ipc::session::{FlagChange, UidRanges};
use ipc::snapshot::{Record, flag};

use super::disk::Dir;
use super::feed;
use super::journal::{Change, Event, Permit};
use super::mailbox::{Mailbox, State, is_not_found};
use super::message_file;
use crate::fault::OrFault;

/// What STORE asks for.
#[derive(Debug, Clone)]
pub(crate) struct FlagOrder {
    pub(crate) change: FlagChange,
    pub(crate) flags: u8,
    pub(crate) keywords: Vec<String>,
}

/// Messages changed under one hold of the lock, so that a STORE over a large mailbox does not keep deliveries waiting.
const PIECE: usize = 20_000;
/// Files renamed before a change is told.
const RENAMED_AT_ONCE: usize = 64;
/// Files renamed under one hold of the lock.
const RENAMED_TOGETHER: usize = 500;
/// Bytes of an event beside its changes or ranges: the mailbox, and the names of its keywords.
const EVENT: usize = 8 * 1024;
/// Bytes in an event for a message that changes, at most.
const ENTRY: usize = 24;
/// Bytes in an event for a range of UIDs, at most.
const RANGE: usize = 10;

impl Mailbox {
    /// The messages `uids` in pieces that are small enough for one [`Mailbox::store_flags`].
    pub(crate) fn pieces(self: &Arc<Self>, uids: &UidRanges) -> Result<Vec<UidRanges>, Refusal> {
        self.with(|state| {
            let uids: Vec<u32> = feed::members(&state.records, uids)
                .iter()
                .map(|at| state.records[*at].uid)
                .collect();
            Ok(uids.chunks(PIECE).map(feed::ranges).collect())
        })
    }

    /// Changes flags; messages that are gone are skipped.
    pub(crate) fn store_flags(
        self: &Arc<Self>,
        uids: &UidRanges,
        order: &FlagOrder,
    ) -> Result<(), Refusal> {
        self.pieces(uids)?
            .iter()
            .try_for_each(|piece| self.store_piece(piece, order))
    }

    fn store_piece(self: &Arc<Self>, uids: &UidRanges, order: &FlagOrder) -> Result<(), Refusal> {
        let messages = feed::count(uids).min(PIECE);
        let permit = self.shared.journal.admit(1, EVENT + messages * ENTRY)?;
        self.with(|state| {
            let bits = match order.change {
                FlagChange::Remove => state.keywords.known_bits(&order.keywords),
                FlagChange::Add | FlagChange::Replace => state.keyword_bits(&order.keywords)?,
            };
            let changed: Vec<(usize, u8, u64)> = feed::members(&state.records, uids)
                .into_iter()
                .map(|at| {
                    let (flags, keywords) = apply(order, bits, &state.records[at]);
                    (at, flags, keywords)
                })
                .filter(|(at, flags, keywords)| {
                    let record = &state.records[*at];
                    (*flags, *keywords) != (record.flags, record.keywords)
                })
                .collect();
            if changed.is_empty() {
                return Ok(());
            }
            let sequence = permit.tell(&Event::Changed {
                place: self.place(state),
                keywords: state.keywords.names().to_vec(),
                changes: changes(state, &changed),
            })?;
            self.shared.journal.commit(sequence)?;
            self.change(state, &changed);
            Ok(())
        })
    }

    /// Makes in memory, and in some of the names, what the journal has on disk.
    fn change(self: &Arc<Self>, state: &mut State, changed: &[(usize, u8, u64)]) {
        let modseq = state.next_modseq();
        let mut records = Vec::with_capacity(changed.len());
        for (at, flags, keywords) in changed {
            let record = &mut state.records[*at];
            let uid = record.uid;
            if record.keywords != *keywords {
                state.stale_keywords.insert(message_file::shard_of(uid));
            }
            if record.flags != *flags {
                let in_name = *state.late.entry(uid).or_insert(record.flags);
                if in_name == *flags {
                    state.late.remove(&uid);
                }
            }
            record.flags = *flags;
            record.keywords = *keywords;
            record.modseq = modseq;
            records.push(*record);
        }
        state.feed.changed(&records);
        self.list(state);
        // The fault is logged; the names are tried again when the journal is emptied.
        let _ = self.rename_late(state, RENAMED_AT_ONCE);
        if !state.late.is_empty() {
            self.shared.rename_soon(Arc::clone(self));
        }
    }

    /// Renames some of the files that wait for it.
    pub(super) fn rename_some(self: &Arc<Self>) {
        let is_done = self.with(|state| {
            self.rename_late(state, RENAMED_TOGETHER)?;
            Ok(state.late.is_empty())
        });
        // After a fault the rest waits until the journal is emptied.
        if is_done == Ok(false) {
            self.shared.rename_soon(Arc::clone(self));
        }
    }

    /// Renames up to `limit` of the files whose names are behind their records.
    pub(super) fn rename_late(&self, state: &mut State, limit: usize) -> Result<(), Refusal> {
        let late: Vec<u32> = state.late.keys().take(limit).copied().collect();
        let mut open: Option<(u32, Dir)> = None;
        for uid in late {
            let (Some(name), Some(record)) = (state.file_name(uid), state.record(uid)) else {
                state.late.remove(&uid);
                continue;
            };
            let shard = message_file::shard_of(uid);
            if open.as_ref().is_none_or(|(known, _)| *known != shard) {
                let dir = self.shard(shard);
                if is_not_found(&dir) {
                    // Removed by hand, with all that is in it.
                    state.late.remove(&uid);
                    continue;
                }
                open = Some((shard, dir.or_fault("open a shard")?));
            }
            let Some((_, dir)) = &open else { continue };
            let renamed = dir.rename(&name, dir, &message_file::file_name(uid, record.flags));
            if is_not_found(&renamed) {
                // Renamed or removed by hand: that counts.
                self.find_again(state, dir, uid)?;
            } else {
                renamed.or_fault("rename a message")?;
            }
            state.late.remove(&uid);
        }
        Ok(())
    }

    /// Removes messages with `\Deleted`: all, or those among `uids`.
    pub(crate) fn expunge(self: &Arc<Self>, uids: Option<&UidRanges>) -> Result<(), Refusal> {
        let everything = vec![(0, u32::MAX)];
        let uids = uids.unwrap_or(&everything);
        loop {
            let permit = self.shared.journal.admit(1, EVENT + PIECE * RANGE)?;
            let has_more = self.with(|state| {
                let mut positions = feed::members(&state.records, uids);
                positions.retain(|at| state.records[*at].flags & flag::DELETED != 0);
                let has_more = positions.len() > PIECE;
                positions.truncate(PIECE);
                self.remove(state, &permit, &positions)?;
                Ok(has_more)
            })?;
            if !has_more {
                return Ok(());
            }
        }
    }

    /// Those of `uids` that are there, and room in the journal for their removal by [`Mailbox::remove_uids`].
    pub(super) fn admit_removal(
        self: &Arc<Self>,
        uids: &UidRanges,
    ) -> Result<(UidRanges, Permit), Refusal> {
        let uids = self.with(|state| {
            let members = feed::members(&state.records, uids).into_iter();
            Ok(members
                .map(|at| state.records[at].uid)
                .collect::<Vec<u32>>())
        })?;
        let ranges = feed::ranges(&uids);
        // At worst every other one of them is gone by the time they are removed.
        let messages = uids.len();
        let events = 1 + messages / PIECE;
        let permit = self
            .shared
            .journal
            .admit(events, events * EVENT + messages * RANGE)?;
        Ok((ranges, permit))
    }

    /// Removes the messages `uids`, ascending, whatever their flags (the second half of MOVE).
    pub(super) fn remove_uids(
        self: &Arc<Self>,
        state: &mut State,
        permit: &Permit,
        uids: &[u32],
    ) -> Result<(), Refusal> {
        let positions: Vec<usize> = uids.iter().filter_map(|uid| state.position(*uid)).collect();
        self.remove(state, permit, &positions)
    }

    /// Removes the messages at `positions`, ascending.
    fn remove(
        self: &Arc<Self>,
        state: &mut State,
        permit: &Permit,
        positions: &[usize],
    ) -> Result<(), Refusal> {
        let Some(highest) = positions.last().map(|at| state.records[*at].uid) else {
            return Ok(());
        };
        let uids: Vec<u32> = positions.iter().map(|at| state.records[*at].uid).collect();
        for uids in feed::ranges(&uids).chunks(PIECE) {
            let sequence = permit.tell(&Event::Removed {
                place: self.place(state),
                uids: uids.to_vec(),
            })?;
            self.shared.journal.commit(sequence)?;
        }
        state.removed = state.removed.max(highest);
        self.list(state);
        let mut by_shard: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for at in positions {
            let uid = state.records[*at].uid;
            by_shard
                .entry(message_file::shard_of(uid))
                .or_default()
                .push(uid);
        }
        // The messages are gone, whether or not all of their files go now: the journal removes them at the next start.
        let done = by_shard
            .iter()
            .try_for_each(|(shard, uids)| self.unlink_in(state, *shard, uids));
        state.forget(positions);
        done
    }

    fn unlink_in(&self, state: &State, shard: u32, uids: &[u32]) -> Result<(), Refusal> {
        let dir = self.shard(shard).or_fault("open a shard")?;
        for uid in uids {
            let Some(name) = state.file_name(*uid) else {
                continue;
            };
            let mut gone = dir.unlink(&name);
            if is_not_found(&gone) {
                gone = unlink_by_uid(&dir, *uid);
            }
            gone.or_fault("remove a message")?;
        }
        Ok(())
    }
}

/// Changes as the journal says them: neighbours that end up alike together.
fn changes(state: &State, changed: &[(usize, u8, u64)]) -> Vec<Change> {
    let mut groups: BTreeMap<(u8, u64), Vec<u32>> = BTreeMap::new();
    for (at, flags, keywords) in changed {
        groups
            .entry((*flags, *keywords))
            .or_default()
            .push(state.records[*at].uid);
    }
    let groups = groups.into_iter().map(|((flags, keywords), uids)| Change {
        uids: feed::ranges(&uids),
        flags,
        keywords,
    });
    groups.collect()
}

fn apply(order: &FlagOrder, bits: u64, record: &Record) -> (u8, u64) {
    let wanted = order.flags & flag::ALL;
    match order.change {
        FlagChange::Add => (record.flags | wanted, record.keywords | bits),
        FlagChange::Remove => (record.flags & !wanted, record.keywords & !bits),
        FlagChange::Replace => (wanted, bits),
    }
}

/// Removes a message whose name somebody changed by hand; it is no error if there is none.
fn unlink_by_uid(dir: &Dir, uid: u32) -> std::io::Result<()> {
    for entry in dir.entries()? {
        if message_file::parse(&entry.name).is_some_and(|(known, _)| known == uid) {
            dir.unlink(&entry.name)?;
        }
    }
    Ok(())
}
