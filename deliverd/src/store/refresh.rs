//! A mailbox in memory is compared with its files: when it is read, when it is selected, and when a file is not where it should be.
//! So what a person did to the files, or a crash left in them, becomes a change like any other.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use ipc::Refusal;
use ipc::session::{SessionEvent, UidRanges};
use ipc::snapshot::Record;
use rustix::io::Errno;
use tracing::{info, warn};

use super::disk::Dir;
use super::feed;
use super::keywords;
use super::mailbox::{Mailbox, State, Totals};
use super::message_file::{self, MAX_UID, shard_of};
use super::records::Page;
use super::scan;
use crate::clock;
use crate::fault::OrFault;

/// Modification time of a directory.
pub(super) type Time = (i64, u64);

/// The time of what is not there.
const ABSENT: Time = (i64::MIN, 0);
/// A directory changed less than a second ago may change again without its time showing it.
const FRESH_SECONDS: i64 = 1;
/// Of a mailbox with more shards than this, who selects it does not wait until they are compared.
const SHARDS_AT_ONCE: usize = 64;
/// Shards compared under one hold of the lock, when nobody waits for it.
const COMPARED_TOGETHER: usize = 10;

/// A file that needs a UID.
pub(super) struct Stray {
    shard: u32,
    name: String,
}

/// The names of a shard, as they relate to what is known.
#[derive(Default)]
struct Names {
    /// Known messages with their flags now.
    known: BTreeMap<u32, (u8, String)>,
    /// Messages nobody has heard of.
    new: BTreeMap<u32, (u8, String)>,
    /// Everything else that ends in `.eml`.
    strays: Vec<String>,
}

impl Mailbox {
    /// Takes in what was changed by hand; in a mailbox of many shards, or one that was read a moment ago, this goes on in the
    /// background.
    pub(super) fn refresh(self: &Arc<Self>, state: &mut State) -> Result<(), Refusal> {
        // New messages get UIDs above all that were given.
        self.drain(state);
        let dir = self.dir().or_fault("open a mailbox")?;
        self.find_shards(state, &dir)?;
        let shards: Vec<u32> = state.records.shards().map(|(shard, _)| shard).collect();
        if shards.len() > SHARDS_AT_ONCE {
            if Self::is_due(state) {
                state.to_compare.extend(shards);
                self.shared.compare_soon(Arc::clone(self));
            }
            return Ok(());
        }
        let verified = state
            .records
            .shards()
            .filter(|(_, known)| known.is_verified);
        let verified: Vec<u32> = verified.map(|(shard, _)| shard).collect();
        if verified.len() != shards.len() {
            self.shared.compare_soon(Arc::clone(self));
        }
        self.compare_all(state, &dir, &verified)
    }

    /// Messages and bytes, when what was changed by hand is taken in.
    pub(super) fn totals_by_files(self: &Arc<Self>) -> Result<Totals, Refusal> {
        self.with(|state| {
            self.refresh(state)?;
            Ok(state.totals())
        })
    }

    /// Takes in what was changed by hand in these shards.
    pub(super) fn refresh_shards(
        self: &Arc<Self>,
        state: &mut State,
        shards: &[u32],
    ) -> Result<(), Refusal> {
        self.drain(state);
        let dir = self.dir().or_fault("open a mailbox")?;
        self.find_shards(state, &dir)?;
        self.compare_all(state, &dir, shards)
    }

    /// Has all shards compared soon, if somebody selected the mailbox.
    pub(super) fn look_again(self: &Arc<Self>) {
        let is_selected = self.with_loaded(|state| {
            if state.feed.is_empty() {
                return false;
            }
            let dir = self.dir().or_fault("open a mailbox");
            // A fault is logged; whoever uses the mailbox next meets it again.
            let is_found = dir.and_then(|dir| self.find_shards(state, &dir)).is_ok();
            let shards: Vec<u32> = state.records.shards().map(|(shard, _)| shard).collect();
            state.to_compare.extend(shards);
            is_found
        });
        if is_selected == Some(true) {
            self.shared.compare_soon(Arc::clone(self));
        }
    }

    /// Compares some of the shards that wait for it, if the mailbox is still in memory.
    pub(super) fn compare_some(self: &Arc<Self>) {
        let has_more = self.with_loaded(|state| -> Result<bool, Refusal> {
            self.drain(state);
            let unverified = state
                .records
                .shards()
                .filter(|(_, known)| !known.is_verified);
            let unverified: Vec<u32> = unverified.map(|(shard, _)| shard).collect();
            state.to_compare.extend(unverified);
            let some: Vec<u32> = state
                .to_compare
                .iter()
                .take(COMPARED_TOGETHER)
                .copied()
                .collect();
            for shard in &some {
                state.to_compare.remove(shard);
            }
            let dir = self.dir().or_fault("open a mailbox")?;
            self.compare_all(state, &dir, &some)?;
            Ok(!state.to_compare.is_empty())
        });
        // After a fault, who needs a shard meets it again.
        if has_more == Some(Ok(true)) {
            self.shared.compare_soon(Arc::clone(self));
        }
    }

    /// Brings the shards whose pages are not in the index up to date, and reads those that are nowhere else.
    pub(super) fn settle(self: &Arc<Self>, state: &mut State, dir: &Dir) -> Result<(), Refusal> {
        self.find_shards(state, dir)?;
        let changed = state
            .records
            .shards()
            .filter(|(_, known)| known.kept.is_none());
        let changed: Vec<u32> = changed.map(|(shard, _)| shard).collect();
        self.compare_all(state, dir, &changed)
    }

    fn compare_all(
        self: &Arc<Self>,
        state: &mut State,
        dir: &Dir,
        shards: &[u32],
    ) -> Result<(), Refusal> {
        let mut strays = Vec::new();
        for shard in shards {
            self.compare(state, dir, *shard, &mut strays)?;
        }
        self.adopt(state, dir, strays)
    }

    /// Has the messages of `uids` in memory and compared with their files at least once, so that they can be used.
    pub(super) fn need(
        self: &Arc<Self>,
        state: &mut State,
        uids: &UidRanges,
    ) -> Result<(), Refusal> {
        self.need_shards(state, uids, true)
    }

    /// Has the messages of `uids` in memory, perhaps as the index has them.
    pub(super) fn need_pages(
        self: &Arc<Self>,
        state: &mut State,
        uids: &UidRanges,
    ) -> Result<(), Refusal> {
        self.need_shards(state, uids, false)
    }

    fn need_shards(
        self: &Arc<Self>,
        state: &mut State,
        uids: &UidRanges,
        verified: bool,
    ) -> Result<(), Refusal> {
        let is_ready = |known: &super::records::Shard| {
            known.page().is_some() && (known.is_verified || !verified)
        };
        let wanted = feed::merged(
            &uids
                .iter()
                .map(|(a, b)| (shard_of(*a.min(b)), shard_of(*a.max(b))))
                .collect(),
        );
        let lacking: Vec<u32> = wanted
            .into_iter()
            .flat_map(|(first, last)| state.records.range(first, last))
            .filter(|(_, known)| !is_ready(known))
            .map(|(shard, _)| shard)
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let dir = self.dir().or_fault("open a mailbox")?;
        let mut strays = Vec::new();
        for shard in lacking {
            self.bring(state, &dir, shard);
            let lacks_page = state
                .records
                .shard(shard)
                .is_some_and(|known| known.page().is_none());
            if verified || lacks_page {
                self.compare(state, &dir, shard, &mut strays)?;
            }
        }
        if strays.is_empty() {
            return Ok(());
        }
        self.drain(state);
        self.adopt(state, &dir, strays)
    }

    /// Takes the page of a shard from the index, if it is not in memory and the index has it.
    pub(super) fn bring(&self, state: &mut State, dir: &Dir, shard: u32) {
        let pages = state.pages;
        let Some(known) = state.records.shard_mut(shard) else {
            return;
        };
        if known.page().is_some() {
            return;
        }
        match pages.page(dir, known) {
            Some(page) => state.records.bring(shard, page),
            None => known.forget_index(),
        }
    }

    /// Finds out which shards there are, if the mailbox's directory changed.
    pub(super) fn find_shards(&self, state: &mut State, dir: &Dir) -> Result<(), Refusal> {
        let time = dir.look(".").or_fault("look at a mailbox")?.modified;
        if state.seen == Some(time) {
            return Ok(());
        }
        for entry in dir.entries().or_fault("list a mailbox")? {
            let shard = message_file::parse_shard(&entry.name).filter(|_| entry.is_dir);
            match shard {
                // While it is read, the files are all there is: whatever UIDs they have are theirs.
                Some(shard) if state.is_reading => state.records.find_shard(shard),
                Some(shard) => {
                    state.records.make_shard(shard);
                }
                None => {}
            }
        }
        state.seen = self.trusted(time);
        Ok(())
    }

    /// Compares a shard with its directory and its keyword file. Files that need a UID are left to [`Mailbox::adopt`].
    pub(super) fn compare(
        self: &Arc<Self>,
        state: &mut State,
        dir: &Dir,
        shard: u32,
        strays: &mut Vec<Stray>,
    ) -> Result<(), Refusal> {
        let name = message_file::shard_name(shard);
        let time = dir.look(&name).map_or(ABSENT, |look| look.modified);
        let is_known =
            |known: &super::records::Shard| known.kept.is_some() || known.page().is_some();
        let seen = state
            .records
            .shard(shard)
            .filter(|known| is_known(known))
            .and_then(|known| known.seen);
        if seen != Some(time) {
            self.bring(state, dir, shard);
            match dir.dir(&name) {
                Ok(open) => self.compare_names(state, shard, &open, strays)?,
                Err(error) if !is_replaced(&error) => return Err(error).or_fault("open a shard"),
                Err(error) => {
                    warn!(mailbox = self.path(), shard, %error, "a shard was removed by someone else");
                    self.lose(state, shard, &Names::default())?;
                    state.records.remove_shard(shard);
                    return Ok(());
                }
            }
        }
        self.compare_keywords(state, dir, shard)?;
        let seen = self.trusted(time);
        if let Some(known) = state.records.shard_mut(shard) {
            known.seen = seen;
            known.is_verified = true;
        }
        Ok(())
    }

    fn compare_names(
        &self,
        state: &mut State,
        shard: u32,
        dir: &Dir,
        strays: &mut Vec<Stray>,
    ) -> Result<(), Refusal> {
        let Some(known) = state.records.shard(shard) else {
            return Ok(());
        };
        let is_new = known.page().is_none();
        let is_first = !known.is_verified;
        // What the files did since the index was written, it cannot know.
        let indexed = known
            .seen
            .map_or(state.indexed_at - 1, |(seconds, _)| seconds);
        let given_below = match (is_new, is_first && state.feed.is_empty()) {
            (true, _) => 0,
            (false, true) => state.indexed_below,
            (false, false) => state.uid_next,
        };
        if is_new {
            // The files are all there is: whatever UID they have is theirs. Who was told how many messages it has by an index that
            // has lost them cannot be told what is different.
            state.records.bring(shard, Page::default());
            state.feed.close(&SessionEvent::Resync);
        }
        let mut names = names(state, shard, dir, given_below)?;
        self.lose(state, shard, &names)?;
        let mut changed = Vec::new();
        for (uid, (flags, name)) in &names.known {
            let Some(record) = state.records.get(*uid) else {
                continue;
            };
            if state.name_flags(&record) != *flags {
                state.late.remove(uid);
                let modseq = state.next_modseq();
                changed.extend(state.records.mark(*uid, *flags, record.keywords, modseq));
            } else if is_first {
                // It may have been renamed there and back; it is just being renamed if it is not there.
                let is_changed = match dir.look(name) {
                    Err(error) if error.kind() == ErrorKind::NotFound => true,
                    look => look.or_fault("look at a message")?.changed.0 >= indexed,
                };
                if is_changed {
                    let modseq = state.next_modseq();
                    changed.extend(
                        state
                            .records
                            .mark(*uid, record.flags, record.keywords, modseq),
                    );
                }
            }
        }
        state.unindexed += changed.len();
        state.feed.changed(&changed);
        let mut added = Vec::new();
        let modseq = match names.new.is_empty() {
            true => state.modseq,
            // Not below what somebody saw of them, should an index have known them.
            false => state.next_modseq(),
        };
        for (uid, (flags, name)) in &names.new {
            let found = scan::look(dir, *uid, (*flags, name));
            // Somebody removed it since it was listed.
            let Some((flags, look)) = found.or_fault("look at a message")? else {
                continue;
            };
            let record = scan::record(*uid, flags, &look, modseq);
            state.uid_next = state.uid_next.max(uid + 1);
            state.records.insert(&record, look.born())?;
            added.push(record);
        }
        state.unindexed += added.len();
        if !is_first && !is_new {
            self.took(state, dir, &added)?;
        }
        names.strays.sort_unstable();
        strays.extend(names.strays.into_iter().map(|name| Stray { shard, name }));
        Ok(())
    }

    /// Tells of files made by hand in a mailbox that is in use.
    fn took(&self, state: &mut State, dir: &Dir, added: &[Record]) -> Result<(), Refusal> {
        if added.is_empty() {
            return Ok(());
        }
        // Their UIDs must not be given again after a power cut.
        dir.sync().or_fault("flush a shard")?;
        info!(
            mailbox = self.path(),
            messages = added.len(),
            "took files made by hand in"
        );
        state.feed.added(added);
        Ok(())
    }

    fn compare_keywords(&self, state: &mut State, dir: &Dir, shard: u32) -> Result<(), Refusal> {
        if state.stale_keywords.contains(&shard) {
            // Memory knows better, and will say so in the file.
            return Ok(());
        }
        let path = keywords::path(shard);
        let time = dir.look(&path).map_or(ABSENT, |look| look.modified);
        let Some(known) = state.records.shard(shard) else {
            return Ok(());
        };
        let is_first = !known.is_verified;
        // What happened in between, an index that may be old cannot know.
        let is_newer = known.keywords_seen.is_some() || time.0 >= state.indexed_at - FRESH_SECONDS;
        let is_indexed = state.indexed_at != 0;
        let is_in_doubt = is_first && is_indexed && is_newer && !state.is_current;
        if known.keywords_seen == Some(time) {
            return Ok(());
        }
        self.bring(state, dir, shard);
        let text = dir
            .read_small(&path)
            .or_fault("read keywords")?
            .unwrap_or_default();
        let names = state.keywords.names().len();
        let lines = keywords::parse(&text, &mut state.keywords);
        if state.keywords.names().len() != names {
            state
                .feed
                .tell(&SessionEvent::Keywords(state.keywords.names().to_vec()));
        }
        if is_first && let Some(highest) = lines.keys().rfind(|uid| **uid <= MAX_UID) {
            // A line may have been written for a message that never came to be: its UID stays unused.
            state.uid_next = state.uid_next.max(highest + 1);
        }
        let in_shard: Vec<Record> = state.records.in_shard(shard).collect();
        let mut changed = Vec::new();
        for record in in_shard {
            let bits = lines.get(&record.uid).copied().unwrap_or(0);
            // They may have been changed there and back since the index was written.
            if bits != record.keywords || is_in_doubt {
                let modseq = if is_indexed || !is_first {
                    state.next_modseq()
                } else {
                    record.modseq
                };
                state.modseq = state.modseq.max(modseq);
                changed.extend(state.records.mark(record.uid, record.flags, bits, modseq));
            }
        }
        state.unindexed += changed.len();
        state.feed.changed(&changed);
        let seen = settled(time);
        if let Some(known) = state.records.shard_mut(shard) {
            known.keywords_seen = seen;
        }
        Ok(())
    }

    /// The time something was seen to have, if a later change must show in it.
    pub(super) fn trusted(&self, time: Time) -> Option<Time> {
        settled(time).or(self.shared.has_fine_times.then_some(time))
    }

    /// Forgets the messages of a shard that have no name any more.
    fn lose(&self, state: &mut State, shard: u32, names: &Names) -> Result<(), Refusal> {
        let in_shard = state.records.in_shard(shard);
        let lost = in_shard.filter(|record| !names.known.contains_key(&record.uid));
        let lost: Vec<u32> = lost.map(|record| record.uid).collect();
        let Some(highest) = lost.last().copied() else {
            return Ok(());
        };
        warn!(
            mailbox = self.path(),
            messages = lost.len(),
            "files of messages were removed by someone else"
        );
        // As with our own removals: no UID anyone saw may return.
        if highest >= state.status.uid_next {
            self.write_status(state)?;
        }
        state.forget(&lost);
        Ok(())
    }

    /// Gives files made by hand the next UIDs and their proper names. Nothing may be pending.
    pub(super) fn adopt(
        self: &Arc<Self>,
        state: &mut State,
        dir: &Dir,
        strays: Vec<Stray>,
    ) -> Result<(), Refusal> {
        let mut added = Vec::new();
        for stray in strays {
            let from = dir
                .dir(&message_file::shard_name(stray.shard))
                .or_fault("open a shard")?;
            added.extend(self.adopt_one(state, &from, &stray.name)?);
        }
        state.feed.added(&added);
        Ok(())
    }

    fn adopt_one(
        &self,
        state: &mut State,
        from: &Dir,
        name: &str,
    ) -> Result<Option<Record>, Refusal> {
        let uid = state.uid_next;
        if uid > MAX_UID {
            warn!(
                file = name,
                "a file is left alone: the mailbox has no UID left"
            );
            return Ok(None);
        }
        let flags = message_file::parse(name).map_or(0, |(_, flags)| flags);
        let to = self.make_shard(state, shard_of(uid))?;
        state.uid_next += 1;
        let new = message_file::file_name(uid, flags);
        if let Err(error) = from.rename(name, &to, &new) {
            warn!(mailbox = self.path(), file = name, %error, "a file made by hand could not be taken in");
            return Ok(None);
        }
        to.sync()
            .and_then(|()| from.sync())
            .or_fault("flush a shard")?;
        info!(
            mailbox = self.path(),
            file = name,
            uid,
            "took a file made by hand in"
        );
        let look = to.look(&new).or_fault("look at a message")?;
        let record = scan::record(uid, flags, &look, state.next_modseq());
        state.records.insert(&record, look.born())?;
        state.unindexed += 1;
        Ok(Some(record))
    }
}

/// The time of a file that is replaced as a whole: a new file may have the time of the one before, unless that is old.
pub(super) fn settled(time: Time) -> Option<Time> {
    (time.0.saturating_add(FRESH_SECONDS) < clock::seconds()).then_some(time)
}

/// What the names of a shard are. Those of UIDs below `given_below` that are not known are strays.
fn names(state: &State, shard: u32, dir: &Dir, given_below: u32) -> Result<Names, Refusal> {
    let mut names = Names::default();
    for entry in dir.entries().or_fault("list a shard")? {
        // Dot files, links, and what has another ending are none of ours.
        if !entry.is_file || entry.name.starts_with('.') || !entry.name.ends_with(".eml") {
            continue;
        }
        let parsed = message_file::parse(&entry.name).filter(|(uid, _)| shard_of(*uid) == shard);
        let Some((uid, flags)) = parsed else {
            names.strays.push(entry.name);
            continue;
        };
        if state.doomed.contains(&uid) {
            continue;
        }
        let record = state.records.get(uid);
        let (list, given) = match &record {
            Some(record) => (&mut names.known, Some(state.name_flags(record))),
            None if uid < given_below => {
                names.strays.push(entry.name);
                continue;
            }
            None => (&mut names.new, None),
        };
        let mut slot = match list.entry(uid) {
            Entry::Vacant(slot) => {
                slot.insert((flags, entry.name));
                continue;
            }
            Entry::Occupied(slot) => slot,
        };
        let inode = |name: &str| dir.look(name).map(|look| look.inode);
        let is_same = inode(&entry.name)
            .and_then(|new| Ok(new == inode(&slot.get().1)?))
            .or_fault("look at a message")?;
        // Of two names of one file the newer stays, the one we did not give; of two files the one we know.
        let rank = |(flags, name): &(u8, String)| {
            let is_given = given == Some(*flags);
            (
                is_given != is_same,
                flags.count_ones(),
                Reverse(name.clone()),
            )
        };
        let mut other = (flags, entry.name);
        if rank(&other) > rank(slot.get()) {
            std::mem::swap(slot.get_mut(), &mut other);
        }
        if is_same {
            dir.unlink(&other.1)
                .or_fault("remove a second name of a message")?;
        } else {
            names.strays.push(other.1);
        }
    }
    Ok(names)
}

/// Nothing, or no directory, stands where a shard should be. Any other fault says nothing about the messages in it.
fn is_replaced(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}
