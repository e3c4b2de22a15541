//! Flags, keywords and removal: a flag is a rename, a removal an unlink, and nothing is told before it is flushed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipc::Refusal;
use ipc::session::{FlagChange, UidRanges};
use ipc::snapshot::{Record, flag};

use super::disk::Dir;
use super::feed;
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
const PIECE: usize = 5000;

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
        self.with(|state| {
            let bits = match order.change {
                FlagChange::Remove => state.keywords.known_bits(&order.keywords),
                FlagChange::Add | FlagChange::Replace => state.keyword_bits(&order.keywords)?,
            };
            let uids: Vec<u32> = feed::members(&state.records, uids)
                .iter()
                .map(|at| state.records[*at].uid)
                .collect();
            let mut changed = Changed::default();
            let done = self.rename_all(
                state,
                &uids,
                |record| apply(order, bits, record),
                &mut changed,
            );
            // What was done before a fault is done: it is flushed and told like the rest.
            let flushed = self.flush_changes(state, &changed);
            let modseq = state.next_modseq();
            let mut records = Vec::with_capacity(changed.uids.len());
            for uid in &changed.uids {
                if let Some(at) = state.position(*uid) {
                    state.records[at].modseq = modseq;
                    records.push(state.records[at]);
                }
            }
            state.feed.changed(&records);
            done.and(flushed)
        })
    }

    fn rename_all(
        &self,
        state: &mut State,
        uids: &[u32],
        change: impl Fn(&Record) -> (u8, u64),
        changed: &mut Changed,
    ) -> Result<(), Refusal> {
        let mut open: Option<(u32, Dir)> = None;
        for &uid in uids {
            let Some(mut record) = state.record(uid) else {
                continue;
            };
            let (mut flags, mut keywords) = change(&record);
            if (flags, keywords) == (record.flags, record.keywords) {
                continue;
            }
            let shard = message_file::shard_of(uid);
            if flags != record.flags {
                if open.as_ref().is_none_or(|(known, _)| *known != shard) {
                    open = Some((shard, self.shard(shard).or_fault("open a shard")?));
                }
                let Some((_, dir)) = &open else { continue };
                let mut renamed = rename(dir, &record, flags);
                if is_not_found(&renamed) {
                    let Some(found) = self.find_again(state, dir, uid)? else {
                        continue;
                    };
                    record = found;
                    (flags, keywords) = change(&record);
                    renamed = rename(dir, &record, flags);
                }
                renamed.or_fault("rename a message")?;
                changed.names.insert(shard);
            }
            if keywords != record.keywords {
                changed.keywords.insert(shard);
            }
            if let Some(at) = state.position(uid) {
                state.records[at].flags = flags;
                state.records[at].keywords = keywords;
                changed.uids.push(uid);
            }
        }
        Ok(())
    }

    fn flush_changes(&self, state: &State, changed: &Changed) -> Result<(), Refusal> {
        for shard in &changed.keywords {
            self.write_keywords(state, *shard)?;
        }
        for shard in &changed.names {
            self.shard(*shard)
                .and_then(|dir| dir.sync())
                .or_fault("flush a shard")?;
        }
        Ok(())
    }

    /// Removes messages with `\Deleted`: all, or those among `uids`.
    pub(crate) fn expunge(self: &Arc<Self>, uids: Option<&UidRanges>) -> Result<(), Refusal> {
        self.with(|state| {
            let everything = vec![(0, u32::MAX)];
            let mut positions = feed::members(&state.records, uids.unwrap_or(&everything));
            positions.retain(|at| state.records[*at].flags & flag::DELETED != 0);
            self.remove(state, &positions)
        })
    }

    /// Removes the messages `uids`, ascending, whatever their flags (the second half of MOVE).
    pub(super) fn remove_uids(&self, state: &mut State, uids: &[u32]) -> Result<(), Refusal> {
        let positions: Vec<usize> = uids.iter().filter_map(|uid| state.position(*uid)).collect();
        self.remove(state, &positions)
    }

    /// Removes the messages at `positions`, ascending.
    fn remove(&self, state: &mut State, positions: &[usize]) -> Result<(), Refusal> {
        let Some(highest) = positions.last().map(|at| state.records[*at].uid) else {
            return Ok(());
        };
        // Invariant: status.json's UIDNEXT is above every UID whose file was ever removed, so none of them returns.
        if highest >= state.status.uid_next {
            self.write_status(state)?;
        }
        let mut by_shard: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for at in positions {
            by_shard
                .entry(message_file::shard_of(state.records[*at].uid))
                .or_default()
                .push(*at);
        }
        let mut removed = Vec::with_capacity(positions.len());
        let done = by_shard.iter().try_for_each(|(shard, positions)| {
            self.remove_in(state, *shard, positions, &mut removed)
        });
        state.forget(&removed);
        done
    }

    fn remove_in(
        &self,
        state: &State,
        shard: u32,
        positions: &[usize],
        removed: &mut Vec<usize>,
    ) -> Result<(), Refusal> {
        let dir = self.shard(shard).or_fault("open a shard")?;
        for at in positions {
            let record = state.records[*at];
            let mut gone = dir.unlink(&message_file::file_name(record.uid, record.flags));
            if is_not_found(&gone) {
                gone = unlink_by_uid(&dir, record.uid);
            }
            gone.or_fault("remove a message")?;
            removed.push(*at);
        }
        dir.sync().or_fault("flush a shard")
    }
}

/// What a change has touched so far.
#[derive(Default)]
struct Changed {
    uids: Vec<u32>,
    /// Shards with renamed files.
    names: BTreeSet<u32>,
    /// Shards whose keyword file is out of date.
    keywords: BTreeSet<u32>,
}

fn apply(order: &FlagOrder, bits: u64, record: &Record) -> (u8, u64) {
    let wanted = order.flags & flag::ALL;
    match order.change {
        FlagChange::Add => (record.flags | wanted, record.keywords | bits),
        FlagChange::Remove => (record.flags & !wanted, record.keywords & !bits),
        FlagChange::Replace => (wanted, bits),
    }
}

fn rename(dir: &Dir, record: &Record, flags: u8) -> std::io::Result<()> {
    if flags == record.flags {
        return Ok(());
    }
    dir.rename(
        &message_file::file_name(record.uid, record.flags),
        dir,
        &message_file::file_name(record.uid, flags),
    )
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
