//! What a mailbox keeps for its readers: bytes that mean nothing here, in files that may go at any time.
//!
//! ```text
//! .cache/summaries/0000      envelopes and structures of shard 0
//! .cache/text/0000           text to be searched
//! ```
//! The form is in [`ipc::cache`]. An entry is never moved, so whoever holds a descriptor of a file can go on reading; when it has to
//! shrink another one takes its place. An entry is written before its slot and neither is flushed: what a crash, a person or the
//! disk does to them shows in the sums, and then there is no entry. No fault here is any reader's business.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, MutexGuard, PoisonError};

use ipc::Refusal;
use ipc::cache::{CacheKind, ENTRIES_START, Header, MESSAGES_PER_SHARD, Slot};
use tracing::{debug, warn};

use super::disk::Dir;
use super::mailbox::{Mailbox, State};
use super::message_file;
use crate::fault::OrFault;

/// Directory of a mailbox in which everything may be deleted.
const DIRECTORY: &str = ".cache";
/// Dead bytes that are not worth writing a file anew for.
const TOLERATED: u64 = 64 << 10;

/// What is known about the caches of a mailbox while one of them is written.
#[derive(Debug, Default)]
pub(super) struct Writing {
    /// Files without messages were looked for.
    swept: bool,
    /// A fault was logged.
    warned: bool,
}

/// UID and entry.
pub(crate) type Entry<'a> = (u32, &'a [u8]);

/// A mailbox as it is when its caches are written.
struct Place {
    dir: Dir,
    uid_validity: u32,
    /// Of the shards that are written to, the UIDs that have a message.
    uids: BTreeSet<u32>,
    /// All shards that have messages; `None` where nobody asks.
    shards: Option<BTreeSet<u32>>,
}

impl Mailbox {
    /// Opens caches for reading; shards of which nothing is kept are left out.
    pub(crate) fn open_caches(
        self: &Arc<Self>,
        kind: CacheKind,
        shards: &[u32],
    ) -> Result<Vec<(u32, File)>, Refusal> {
        let dir = self.with(|_| self.dir().or_fault("open a mailbox"))?;
        let directory = match dir.dir(&path(kind)) {
            Ok(directory) => directory,
            Err(error) => {
                note_unusable(self.path(), &error);
                return Ok(Vec::new());
            }
        };
        let mut opened = Vec::with_capacity(shards.len());
        for &shard in shards {
            match directory.open_file(&message_file::shard_name(shard)) {
                Ok(file) => opened.push((shard, file)),
                Err(error) => note_unusable(self.path(), &error),
            }
        }
        Ok(opened)
    }

    /// Keeps what a reader worked out, if it `is_wanted` while the caches are locked. Entries about messages that are gone, or too
    /// long, are passed over.
    pub(crate) fn fill_cache(
        self: &Arc<Self>,
        kind: CacheKind,
        entries: &[Entry<'_>],
        is_wanted: impl FnOnce() -> bool,
    ) {
        let mut writing = self.lock_caches();
        if !is_wanted() {
            return;
        }
        let mut by_shard: BTreeMap<u32, Vec<Entry<'_>>> = BTreeMap::new();
        for entry in entries {
            let shard = message_file::shard_of(entry.0);
            by_shard.entry(shard).or_default().push(*entry);
        }
        let all = !writing.swept;
        let look = |state: &mut State| self.place_of_caches(state, by_shard.keys(), all);
        // Deleted meanwhile, or the fault is logged.
        let Ok(place) = self.with(look) else { return };
        writing.swept = true;
        self.note_fault(&mut writing, place.fill(kind, &by_shard));
    }

    /// Wipes out what is kept about messages that were removed.
    pub(crate) fn forget_removed(self: &Arc<Self>) {
        let mut writing = self.lock_caches();
        let mut shards = BTreeSet::new();
        let look = |state: &mut State| {
            shards = std::mem::take(&mut state.remembered);
            self.place_of_caches(state, shards.iter(), false)
        };
        let Ok(place) = self.with(look) else { return };
        let forgotten = CacheKind::ALL
            .into_iter()
            .try_for_each(|kind| place.forget(kind, &shards));
        self.note_fault(&mut writing, forgotten);
    }

    fn note_fault(&self, writing: &mut Writing, outcome: io::Result<()>) {
        let Err(error) = outcome else { return };
        let mailbox = self.path();
        if std::mem::replace(&mut writing.warned, true) {
            debug!(mailbox, %error, "caches for readers are not as they should be");
        } else {
            warn!(mailbox, %error, "caches for readers are not as they should be; readers go on without");
        }
    }

    pub(super) fn lock_caches(&self) -> MutexGuard<'_, Writing> {
        // Whatever a call that panicked left shows in the sums.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place_of_caches<'a>(
        self: &Arc<Self>,
        state: &mut State,
        shards: impl Iterator<Item = &'a u32>,
        all: bool,
    ) -> Result<Place, Refusal> {
        let mut uids = BTreeSet::new();
        for &shard in shards {
            self.need_pages(state, &message_file::uids_of(shard))?;
            let in_shard = state.records.in_shard(shard);
            uids.extend(in_shard.map(|record| record.uid));
        }
        let all = all.then(|| {
            let shards = state.records.shards();
            let shards = shards.filter(|(_, known)| known.sums().messages != 0);
            shards.map(|(shard, _)| shard).collect()
        });
        Ok(Place {
            dir: self.dir().or_fault("open a mailbox")?,
            uid_validity: state.status.uid_validity,
            uids,
            shards: all,
        })
    }
}

/// Where the caches of a kind are, in a mailbox.
pub(super) fn path(kind: CacheKind) -> String {
    format!("{DIRECTORY}/{}", directory(kind))
}

const fn directory(kind: CacheKind) -> &'static str {
    match kind {
        CacheKind::Summary => "summaries",
        CacheKind::Text => "text",
    }
}

fn note_unusable(mailbox: &str, error: &io::Error) {
    if error.kind() != ErrorKind::NotFound {
        debug!(mailbox, %error, "a cache cannot be read");
    }
}

impl Place {
    fn fill(&self, kind: CacheKind, by_shard: &BTreeMap<u32, Vec<Entry<'_>>>) -> io::Result<()> {
        if let Some(shards) = &self.shards {
            for kind in CacheKind::ALL {
                self.sweep(kind, shards)?;
            }
        }
        self.dir.make_dir(DIRECTORY)?;
        let caches = self.dir.dir(DIRECTORY)?;
        caches.make_dir(directory(kind))?;
        let directory = caches.dir(directory(kind))?;
        for (&shard, entries) in by_shard {
            let header = self.header(kind, shard);
            let there = |entry: &&Entry<'_>| {
                self.uids.contains(&entry.0) && (1..=kind.max_entry()).contains(&entry.1.len())
            };
            let entries: Vec<Entry<'_>> = entries.iter().filter(there).copied().collect();
            if !entries.is_empty() {
                self.fill_shard(&directory, &header, &entries)?;
            }
        }
        Ok(())
    }

    /// Removes files of shards without messages, and what is none of ours.
    fn sweep(&self, kind: CacheKind, shards: &BTreeSet<u32>) -> io::Result<()> {
        let directory = match self.dir.dir(&path(kind)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        for entry in directory.entries()? {
            let shard = message_file::parse_shard(&entry.name);
            if !entry.is_dir && shard.is_none_or(|shard| !shards.contains(&shard)) {
                directory.unlink(&entry.name)?;
            }
        }
        Ok(())
    }

    /// Wipes out entries about messages that are not there.
    fn forget(&self, kind: CacheKind, shards: &BTreeSet<u32>) -> io::Result<()> {
        let directory = match self.dir.dir(&path(kind)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        for &shard in shards {
            let header = self.header(kind, shard);
            let name = message_file::shard_name(shard);
            if let Some(mut known) = Known::open(&directory, &name, &header)? {
                known.forget_all_but(&self.uids)?;
            }
        }
        Ok(())
    }

    const fn header(&self, kind: CacheKind, shard: u32) -> Header {
        Header {
            kind,
            uid_validity: self.uid_validity,
            shard,
        }
    }

    fn fill_shard(
        &self,
        directory: &Dir,
        header: &Header,
        entries: &[Entry<'_>],
    ) -> io::Result<()> {
        let name = message_file::shard_name(header.shard);
        match Known::open(directory, &name, header)? {
            Some(mut known) if !known.is_wasteful(&self.uids) => entries
                .iter()
                .try_for_each(|(uid, entry)| known.add(*uid, entry)),
            old => self.replace(directory, &name, header, old.as_ref(), entries),
        }
    }

    /// Writes a file anew: the new entries, and as much of `old` as is alive.
    fn replace(
        &self,
        directory: &Dir,
        name: &str,
        header: &Header,
        old: Option<&Known>,
        entries: &[Entry<'_>],
    ) -> io::Result<()> {
        let temporary = format!(".{name}.new");
        let write = || {
            let beginning = header.begin();
            let file = directory.create_temporary(&temporary)?;
            file.write_all_at(&beginning, 0)?;
            let mut known = Known {
                file,
                header: *header,
                end: beginning.len() as u64,
                beginning,
            };
            for (uid, entry) in entries {
                known.add(*uid, entry)?;
            }
            if let Some(old) = old {
                old.copy_to(&mut known, &self.uids)?;
            }
            directory.replace(&temporary, name)
        };
        let written = write();
        if written.is_err() {
            // The first failure is what counts; a leftover is removed by the next attempt.
            let _ = directory.unlink(&temporary);
        }
        written
    }
}

/// A file that can be added to.
struct Known {
    file: File,
    header: Header,
    /// Header and slots.
    beginning: Vec<u8>,
    /// Where the next entry goes.
    end: u64,
}

impl Known {
    /// Opens the file of a shard; `None` where there is none of use.
    fn open(directory: &Dir, name: &str, header: &Header) -> io::Result<Option<Self>> {
        let file = match directory.open_to_write(name) {
            // A link, a directory: it is replaced, which fails for a directory.
            Err(_) | Ok(None) => return Ok(None),
            Ok(Some(file)) => file,
        };
        let about = file.metadata()?;
        if !about.is_file() || about.len() > header.kind.max_file() {
            return Ok(None);
        }
        let mut beginning = vec![0; ENTRIES_START];
        match file.read_exact_at(&mut beginning, 0) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        Ok(header.begins(&beginning).then_some(Self {
            file,
            header: *header,
            beginning,
            end: about.len(),
        }))
    }

    fn slot(&self, uid: u32) -> Option<Slot> {
        let slot = Slot::read(&self.beginning, uid, self.header.kind)?;
        (u64::from(slot.offset) + u64::from(slot.length) <= self.end).then_some(slot)
    }

    /// Whether more than half of it is about messages that are gone, or was written again.
    fn is_wasteful(&self, uids: &BTreeSet<u32>) -> bool {
        let slots = self.among(uids).filter_map(|uid| self.slot(uid));
        let live: u64 = slots.map(|slot| u64::from(slot.length)).sum();
        let dead = self.end.saturating_sub(ENTRIES_START as u64 + live);
        dead > TOLERATED && dead > live
    }

    /// Those of `uids` that belong here.
    fn among(&self, uids: &BTreeSet<u32>) -> impl Iterator<Item = u32> {
        let first = self.header.shard.saturating_mul(MESSAGES_PER_SHARD);
        let last = first.saturating_add(MESSAGES_PER_SHARD - 1);
        uids.range(first..=last).copied()
    }

    /// The entry about a message, if it is whole.
    fn entry(&self, uid: u32) -> Option<Vec<u8>> {
        let slot = self.slot(uid)?;
        let mut entry = vec![0; slot.length as usize];
        let read = self.file.read_exact_at(&mut entry, u64::from(slot.offset));
        (read.is_ok() && slot.fits(uid, &entry)).then_some(entry)
    }

    /// Puts an entry at the end and then its slot in its place. What does not fit into a file is not kept.
    fn add(&mut self, uid: u32, entry: &[u8]) -> io::Result<()> {
        let end = self.end + entry.len() as u64;
        let offset = u32::try_from(self.end).map_err(io::Error::other)?;
        let slot = Slot::new(uid, offset, entry);
        if end > self.header.kind.max_file() || self.has(uid, entry, &slot) {
            return Ok(());
        }
        self.file.write_all_at(entry, self.end)?;
        let old = self.slot(uid).filter(|_| self.entry(uid).is_some());
        self.write_slot(uid, &slot)?;
        self.end = end;
        old.map_or(Ok(()), |old| self.wipe(&old))
    }

    fn write_slot(&mut self, uid: u32, slot: &Slot) -> io::Result<()> {
        let bytes = slot.to_bytes();
        let place = Slot::place(uid);
        self.file.write_all_at(&bytes, place as u64)?;
        self.beginning[place..place + bytes.len()].copy_from_slice(&bytes);
        Ok(())
    }

    /// Nobody shall read any more what was at `slot`. It must have been whole, so that nobody else's bytes are hit.
    fn wipe(&self, slot: &Slot) -> io::Result<()> {
        let zeros = vec![0; slot.length as usize];
        self.file.write_all_at(&zeros, u64::from(slot.offset))
    }

    /// Wipes out the entries about messages that are not there.
    fn forget_all_but(&mut self, uids: &BTreeSet<u32>) -> io::Result<()> {
        let first = self.header.shard.saturating_mul(MESSAGES_PER_SHARD);
        for uid in first..=first.saturating_add(MESSAGES_PER_SHARD - 1) {
            if !uids.contains(&uid)
                && let Some(slot) = self.slot(uid)
            {
                let was_whole = self.entry(uid).is_some();
                self.write_slot(uid, &Slot::default())?;
                if was_whole {
                    self.wipe(&slot)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the entry is there already: two readers may have been at it.
    fn has(&self, uid: u32, entry: &[u8], new: &Slot) -> bool {
        self.slot(uid).is_some_and(|old| old.sum == new.sum)
            && self.entry(uid).is_some_and(|old| old == entry)
    }

    /// Copies whole entries about messages that are there and that `to` knows nothing of.
    fn copy_to(&self, to: &mut Self, uids: &BTreeSet<u32>) -> io::Result<()> {
        for uid in self.among(uids) {
            if to.slot(uid).is_none()
                && let Some(entry) = self.entry(uid)
            {
                to.add(uid, &entry)?;
            }
        }
        Ok(())
    }
}
