//! Flags, keywords and removal: in the journal first, then told; the files follow.
//!
//! A few files are renamed at once and removed ones are moved away or unlinked at once, all without flushing; a large number of renames is
//! left to the chores, and keyword files to the moment when the journal is emptied.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipc::Refusal;
use ipc::session::{FlagChange, OVERTAKEN_PER_FRAME, RANGES_PER_FRAME, UidRanges};
use ipc::snapshot::{Record, flag};

use super::acl::Marks;
use super::chores::Shared;
use super::disk::{Dir, is_not_found};
use super::expunged::{Keeper, Keeping};
use super::feed;
use super::journal::{Change, Event, Permit, Place};
use super::mailbox::{Mailbox, State};
use super::message_file;
use crate::fault::OrFault;

/// What STORE asks for.
#[derive(Debug, Clone)]
pub(crate) struct FlagOrder {
    pub(crate) change: FlagChange,
    pub(crate) flags: u8,
    pub(crate) keywords: Vec<String>,
    /// Messages with a modification sequence above this are left alone.
    pub(crate) unchanged_since: Option<u64>,
    /// Whoever orders it has heard of changes up to this modification sequence.
    pub(crate) heard: u64,
}

/// What the one who ordered a change did not know.
#[derive(Debug, Default)]
pub(crate) struct Untold {
    /// Messages that were left alone, because they had changed since [`FlagOrder::unchanged_since`].
    pub(crate) modified: UidRanges,
    /// Messages that had changed since [`FlagOrder::heard`].
    pub(crate) overtaken: UidRanges,
}

impl Untold {
    /// Takes in what was found in the piece behind.
    pub(crate) fn extend(&mut self, behind: Self) {
        self.modified.extend(behind.modified);
        self.overtaken.extend(behind.overtaken);
        // What is too much for an answer becomes one range at the end.
        if let Some(&(_, last)) = self.overtaken.last() {
            self.overtaken.truncate(OVERTAKEN_PER_FRAME);
            if let Some(range) = self.overtaken.last_mut() {
                range.1 = last;
            }
        }
    }
}

/// A UID with the flags and keywords it is to have.
type Marked = (u32, u8, u64);

/// Messages changed under one hold of the lock, so that a STORE over a large mailbox does not keep deliveries waiting.
const PIECE: usize = 20_000;
/// So many files are renamed before a change is told; more are all renamed behind it.
const RENAMED_AT_ONCE: usize = 64;
/// Files renamed under one hold of the lock.
const RENAMED_TOGETHER: usize = 500;
/// Bytes of an event beside its changes or ranges: the mailbox, and the names of its keywords.
pub(super) const EVENT: usize = 8 * 1024;
/// Bytes in an event for a message that changes, at most.
const ENTRY: usize = 24;
/// Bytes in an event for a range of UIDs, at most.
pub(super) const RANGE: usize = 10;

impl Mailbox {
    /// The messages `uids` in pieces that are small enough for one [`Mailbox::store_piece`]. Refused if there are too many of
    /// them for the answer to a conditional change.
    pub(crate) fn pieces(
        self: &Arc<Self>,
        uids: &UidRanges,
        is_conditional: bool,
    ) -> Result<Vec<UidRanges>, Refusal> {
        self.with(|state| {
            self.need_pages(state, uids)?;
            let members = state.records.members(uids).into_iter();
            let uids: Vec<u32> = members.map(|record| record.uid).collect();
            if is_conditional && uids.len() > RANGES_PER_FRAME {
                return Err(Refusal::Invalid(format!(
                    "at most {RANGES_PER_FRAME} messages are changed at once on a condition"
                )));
            }
            Ok(uids.chunks(PIECE).map(feed::ranges).collect())
        })
    }

    /// Changes flags, piece after piece; messages that are gone are skipped. Gives those that had changed before.
    #[cfg(test)]
    pub(crate) fn store_flags(
        self: &Arc<Self>,
        uids: &UidRanges,
        order: &FlagOrder,
    ) -> Result<UidRanges, Refusal> {
        self.pieces(uids, order.unchanged_since.is_some())?
            .iter()
            .try_fold(UidRanges::new(), |mut modified, piece| {
                modified.extend(self.store_piece(piece, order, Marks::ALL)?.modified);
                Ok(modified)
            })
    }

    /// UIDs gone since a modification sequence; `None` if not all of them are remembered.
    pub(crate) fn removed_since(
        self: &Arc<Self>,
        modseq: u64,
    ) -> Result<Option<UidRanges>, Refusal> {
        self.with(|state| Ok(state.gone.above(modseq)))
    }

    /// When messages came into this mailbox, Unix seconds, as far as that is known.
    pub(crate) fn save_dates(
        self: &Arc<Self>,
        uids: &UidRanges,
    ) -> Result<Vec<(u32, u32)>, Refusal> {
        self.with(|state| {
            self.need(state, uids)?;
            let members = state.records.members(uids).into_iter();
            let dates =
                members.filter_map(|record| Some((record.uid, state.records.saved(record.uid)?)));
            Ok(dates.take(RANGES_PER_FRAME).collect())
        })
    }

    /// Changes flags of one of the [`Mailbox::pieces`], as far as `marks` allows it; messages that are gone are skipped.
    pub(crate) fn store_piece(
        self: &Arc<Self>,
        uids: &UidRanges,
        order: &FlagOrder,
        marks: Marks,
    ) -> Result<Untold, Refusal> {
        let messages = feed::count(uids).min(PIECE);
        let permit = self.shared.journal.admit(1, EVENT + messages * ENTRY)?;
        self.with(|state| {
            self.need(state, uids)?;
            let bits = match order.change {
                FlagChange::Remove => state.keywords.known_bits(&order.keywords),
                // Keywords that nobody gets must not take up room.
                FlagChange::Add | FlagChange::Replace if !marks.keywords => 0,
                FlagChange::Add | FlagChange::Replace => state.keyword_bits(&order.keywords)?,
            };
            let members = state.records.members(uids).into_iter();
            let has_changed = |record: &Record| {
                order
                    .unchanged_since
                    .is_some_and(|since| record.modseq > since)
            };
            let (modified, members): (Vec<_>, Vec<_>) = members.partition(has_changed);
            let modified: Vec<u32> = modified.iter().map(|record| record.uid).collect();
            let overtaken = members.iter().filter(|record| record.modseq > order.heard);
            let overtaken: Vec<u32> = overtaken.map(|record| record.uid).collect();
            let mut untold = Untold::default();
            untold.extend(Untold {
                modified: feed::ranges(&modified),
                overtaken: feed::ranges(&overtaken),
            });
            let members = members.into_iter();
            let changed: Vec<Marked> = members
                .filter_map(|record| {
                    let (flags, keywords) = apply(order, bits, &record, marks);
                    let is_new = (flags, keywords) != (record.flags, record.keywords);
                    is_new.then_some((record.uid, flags, keywords))
                })
                .collect();
            if changed.is_empty() {
                return Ok(untold);
            }
            let sequence = permit.tell(&Event::Changed {
                place: self.place(state),
                keywords: state.keywords.names().to_vec(),
                changes: changes(&changed),
            })?;
            self.shared.journal.commit(sequence)?;
            self.change(state, &changed);
            Ok(untold)
        })
    }

    /// Makes in memory, and in some of the names, what the journal has on disk.
    fn change(self: &Arc<Self>, state: &mut State, changed: &[Marked]) {
        let modseq = state.next_modseq();
        let mut records = Vec::with_capacity(changed.len());
        // Flags in names that become late now, ascending like `changed`.
        let mut late = Vec::new();
        for (uid, flags, keywords) in changed {
            let uid = *uid;
            let Some(record) = state.record(uid) else {
                continue;
            };
            if record.keywords != *keywords {
                state.stale_keywords.insert(message_file::shard_of(uid));
            }
            if record.flags != *flags {
                match state.late.get(&uid) {
                    None => late.push((uid, record.flags)),
                    Some(in_name) if in_name == flags => {
                        state.late.remove(&uid);
                    }
                    Some(_) => {}
                }
            }
            records.extend(state.records.mark(uid, *flags, *keywords, modseq));
        }
        state.late.append(&mut late.into_iter().collect());
        state.unindexed += records.len();
        state.feed.changed(&records);
        self.list(state);
        if state.late.len() <= RENAMED_AT_ONCE {
            // The fault is logged; the names are tried again when the journal is emptied.
            let _ = self.rename_late(state, RENAMED_AT_ONCE);
        }
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

    /// Bytes of the messages with `\Deleted`.
    pub(crate) fn deleted_size(self: &Arc<Self>) -> Result<u64, Refusal> {
        self.with(|state| {
            let mut size = 0;
            for shard in with_deleted(state) {
                let uids = message_file::uids_of(shard);
                self.need_pages(state, &uids)?;
                let records = state.records.members(&uids).into_iter();
                let deleted = records.filter(|record| record.flags & flag::DELETED != 0);
                size += deleted.map(|record| record.size).sum::<u64>();
            }
            Ok(size)
        })
    }

    /// Whether there is such a message.
    pub(super) fn has(self: &Arc<Self>, uid: u32) -> Result<bool, Refusal> {
        self.with(|state| {
            self.need(state, &vec![(uid, uid)])?;
            Ok(state.record(uid).is_some())
        })
    }

    /// Removes a message as [`Mailbox::expunge`] does, with or without `\Deleted`. No error if it is gone already.
    pub(super) fn discard(self: &Arc<Self>, uid: u32) -> Result<(), Refusal> {
        let Shared { attic, root, .. } = &*self.shared;
        attic.prepare_for(root, self.path(), self.tally.member());
        let permit = self.shared.journal.admit(1, EVENT + RANGE)?;
        self.with(|state| {
            self.need(state, &vec![(uid, uid)])?;
            let message: Vec<Record> = state.record(uid).into_iter().collect();
            self.remove(state, &permit, &message)
        })
    }

    /// Removes messages as [`Mailbox::expunge`] does, with or without `\Deleted`. Those that are gone already are skipped.
    pub(super) fn discard_all(self: &Arc<Self>, uids: &[u32]) -> Result<(), Refusal> {
        let Shared { attic, root, .. } = &*self.shared;
        attic.prepare_for(root, self.path(), self.tally.member());
        for uids in uids.chunks(PIECE) {
            let permit = self.shared.journal.admit(1, EVENT + PIECE * RANGE)?;
            let uids = feed::ranges(uids);
            self.with(|state| {
                self.need(state, &uids)?;
                let messages = state.records.members(&uids);
                self.remove(state, &permit, &messages)
            })?;
        }
        Ok(())
    }

    /// Removes messages with `\Deleted`: all, or those among `uids`.
    pub(crate) fn expunge(self: &Arc<Self>, uids: Option<&UidRanges>) -> Result<(), Refusal> {
        let everything = feed::all();
        let uids = uids.unwrap_or(&everything);
        let Shared { attic, root, .. } = &*self.shared;
        attic.prepare_for(root, self.path(), self.tally.member());
        loop {
            let permit = self.shared.journal.admit(1, EVENT + PIECE * RANGE)?;
            let has_more = self.with(|state| {
                for shard in with_deleted(state) {
                    self.need(state, &message_file::uids_of(shard))?;
                }
                let mut members = state.records.members(uids);
                members.retain(|record| record.flags & flag::DELETED != 0);
                let has_more = members.len() > PIECE;
                members.truncate(PIECE);
                self.remove(state, &permit, &members)?;
                Ok(has_more)
            })?;
            if !has_more {
                return Ok(());
            }
        }
    }

    /// Removes messages, ascending; if that is wanted, they can be had back for some days.
    fn remove(
        self: &Arc<Self>,
        state: &mut State,
        permit: &Permit,
        messages: &[Record],
    ) -> Result<(), Refusal> {
        let uids: Vec<u32> = messages.iter().map(|record| record.uid).collect();
        let Shared { attic, root, .. } = &*self.shared;
        let uid_validity = state.status.uid_validity;
        let keeper = attic.keeper(root, self.path(), uid_validity, self.tally.member());
        for uids in feed::ranges(&uids).chunks(PIECE) {
            let (place, uids) = (self.place(state), uids.to_vec());
            let sequence = permit.tell(&match keeper {
                Some(_) => Event::Expunged { place, uids },
                None => Event::Removed { place, uids },
            })?;
            self.shared.journal.commit(sequence)?;
        }
        self.take_out(state, messages, keeper.as_ref());
        Ok(())
    }

    /// Makes in memory and in the files what the journal has on disk: messages are gone, ascending. Their files go to the `keeper`,
    /// if there is one.
    pub(super) fn take_out(
        self: &Arc<Self>,
        state: &mut State,
        messages: &[Record],
        keeper: Option<&Keeper<'_>>,
    ) {
        let uids: Vec<u32> = messages.iter().map(|record| record.uid).collect();
        let Some(highest) = uids.last().copied() else {
            return;
        };
        state.removed = state.removed.max(highest);
        self.list(state);
        let mut by_shard: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
        for record in messages {
            by_shard
                .entry(message_file::shard_of(record.uid))
                .or_default()
                .push(*record);
        }
        state.remembered.extend(by_shard.keys());
        // The messages are gone, whether or not all of their files go now.
        for (shard, messages) in &by_shard {
            self.remove_in(state, *shard, messages, keeper);
        }
        state.forget(&uids);
        for shard in by_shard.keys() {
            self.forget_ids(state, *shard);
        }
    }

    /// Removes the files of messages, to where they are kept if there is room; those that cannot be removed now are tried again
    /// before the journal forgets them, and are not kept.
    fn remove_in(
        &self,
        state: &mut State,
        shard: u32,
        messages: &[Record],
        keeper: Option<&Keeper<'_>>,
    ) {
        let dir = self.shard(shard).or_fault("open a shard");
        let keeping = keeper.and_then(|keeper| keeper.keep(shard, messages, &state.keywords));
        for record in messages {
            let name = message_file::file_name(record.uid, state.name_flags(record));
            let gone = dir.as_ref().map_err(Clone::clone).and_then(|dir| {
                take_away(dir, &name, record, keeping.as_ref()).or_fault("remove a message")
            });
            if gone.is_err() {
                state.doomed.insert(record.uid);
            }
        }
    }

    /// Tries again to remove the files of messages that are gone.
    pub(super) fn unlink_doomed(&self, state: &mut State) -> Result<(), Refusal> {
        while let Some(uid) = state.doomed.first().copied() {
            let dir = self.shard(message_file::shard_of(uid));
            if !is_not_found(&dir) {
                let dir = dir.or_fault("open a shard")?;
                unlink_by_uid(&dir, uid).or_fault("remove a message")?;
            }
            state.doomed.remove(&uid);
        }
        Ok(())
    }
}

impl State {
    /// What the files do not say yet, as the journal would tell it.
    pub(super) fn debt(&self, place: &Place) -> Vec<Event> {
        let mark = |record: Record| (record.uid, record.flags, record.keywords);
        let late = self.late.keys().filter_map(|uid| self.record(*uid));
        let stale = self.stale_keywords.iter();
        let stale = stale.flat_map(|shard| self.records.in_shard(*shard));
        let marks: Vec<Marked> = late.chain(stale).map(mark).collect();
        let mut gone: Vec<u32> = self.doomed.iter().copied().collect();
        if self.removed >= self.status.uid_next {
            gone.push(self.removed);
        }
        let changed = Event::Changed {
            place: place.clone(),
            keywords: self.keywords.names().to_vec(),
            changes: changes(&marks),
        };
        let removed = Event::Removed {
            place: place.clone(),
            uids: feed::ranges(&gone),
        };
        vec![changed, removed, self.brought(place)]
    }
}

/// Changes as the journal says them: neighbours that end up alike together.
fn changes(changed: &[Marked]) -> Vec<Change> {
    let mut groups: BTreeMap<(u8, u64), Vec<u32>> = BTreeMap::new();
    for (uid, flags, keywords) in changed {
        groups.entry((*flags, *keywords)).or_default().push(*uid);
    }
    let groups = groups.into_iter().map(|((flags, keywords), uids)| Change {
        uids: feed::ranges(&uids),
        flags,
        keywords,
    });
    groups.collect()
}

fn apply(order: &FlagOrder, bits: u64, record: &Record, marks: Marks) -> (u8, u64) {
    let wanted = order.flags & marks.flags & flag::ALL;
    let bits = if marks.keywords { bits } else { 0 };
    match order.change {
        FlagChange::Add => (record.flags | wanted, record.keywords | bits),
        FlagChange::Remove => (record.flags & !wanted, record.keywords & !bits),
        FlagChange::Replace => {
            let kept = if marks.keywords { 0 } else { record.keywords };
            (wanted | record.flags & !marks.flags, bits | kept)
        }
    }
}

/// Removes a message's file, to where it is kept if that is possible. It is no error if there is none.
fn take_away(
    dir: &Dir,
    name: &str,
    record: &Record,
    keeping: Option<&Keeping<'_>>,
) -> std::io::Result<()> {
    let Some(keeping) = keeping else {
        let gone = dir.unlink(name);
        return if is_not_found(&gone) {
            unlink_by_uid(dir, record.uid)
        } else {
            gone
        };
    };
    let mut kept = keeping.take(dir, name, record);
    if is_not_found(&kept) {
        // Somebody renamed it by hand.
        if let Some(name) = name_of(dir, record.uid)? {
            kept = keeping.take(dir, &name, record);
        }
    }
    if kept.is_err() {
        keeping.give_back(record);
        unlink_by_uid(dir, record.uid)?;
    }
    Ok(())
}

/// The name a message has that somebody renamed by hand.
fn name_of(dir: &Dir, uid: u32) -> std::io::Result<Option<String>> {
    let is_it = |name: &str| message_file::parse(name).is_some_and(|(known, _)| known == uid);
    let names = dir.entries()?.into_iter().map(|entry| entry.name);
    Ok(names.into_iter().find(|name| is_it(name)))
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

/// The shards that have messages with `\Deleted`.
fn with_deleted(state: &State) -> Vec<u32> {
    let shards = state.records.shards();
    let shards = shards.filter(|(_, known)| known.sums().deleted != 0);
    shards.map(|(shard, _)| shard).collect()
}
