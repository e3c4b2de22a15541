//! `.cache/`: what is known about a mailbox, so that it need not be read from its files again.
//!
//! `table` has a line for each shard – its sums, and the times its directory and keyword file had – and the last removals. `pages`
//! has a page of messages for each shard, in a slot of its own. Both may be missing, old or damaged: a checksum or a time does
//! not fit then, and that shard is read from its files. Neither is ever flushed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};
use tracing::debug;

use super::disk::Dir;
use super::gone::Gone;
use super::mailbox::Totals;
use super::message_file::SHARD;
use super::records::{ENTRY_LEN, Kept, Page, Records, Shard, Sums};
use super::refresh::Time;

/// Directory of the caches in a mailbox.
pub(super) const DIRECTORY: &str = ".cache";
const TABLE: &str = "table";
const PAGES: &str = "pages";
/// Changes with the format.
const MAGIC: [u8; 8] = *b"rmail\0t3";
/// Bytes in front of the first slot; room for the magic and the name of the generation.
const FRONT: u64 = 4096;
/// Room for a page with keywords.
const SLOT: u64 = SHARD as u64 * (ENTRY_LEN as u64 + 8) + 768;

/// Names a pair of table and pages.
type Generation = [u8; 16];

/// What the table has beside its shards.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) uid_validity: u32,
    pub(super) uid_next: u32,
    pub(super) modseq: u64,
    /// Unix seconds when it was written.
    pub(super) written: i64,
    pub(super) keywords: Vec<String>,
    /// Modification time of the mailbox's directory when it was read last.
    pub(super) seen: Option<Time>,
    pub(super) gone: Gone,
    generation: Generation,
    lines: Vec<Line>,
}

/// A shard in the table.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    shard: u32,
    messages: u32,
    unseen: u32,
    deleted: u32,
    bytes: u64,
    modseq: u64,
    slot: u32,
    checksum: u32,
    length: u32,
    seen: Option<Time>,
    keywords_seen: Option<Time>,
}

/// The pages of a mailbox.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Pages {
    generation: Option<Generation>,
}

impl Table {
    /// Reads the table of a mailbox. `None` if there is none that can be used.
    pub(super) fn read(mailbox: &Dir, uid_validity: u32) -> Option<Self> {
        let bytes = mailbox.read_small(&format!("{DIRECTORY}/{TABLE}"));
        let bytes = bytes.unwrap_or_else(|error| {
            debug!(%error, "cannot read an index");
            None
        })?;
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        if *magic != MAGIC || crc32fast::hash(rest).to_le_bytes() != *checksum {
            return None;
        }
        let table: Self = postcard::from_bytes(rest).ok()?;
        (table.uid_validity == uid_validity).then_some(table)
    }

    /// The shards, without their pages.
    pub(super) fn records(&mut self) -> (Records, Pages) {
        let mut records = Records::default();
        for line in std::mem::take(&mut self.lines) {
            let sums = Sums {
                messages: line.messages,
                unseen: line.unseen,
                deleted: line.deleted,
                bytes: line.bytes,
            };
            let kept = Kept {
                slot: line.slot,
                checksum: line.checksum,
                length: line.length,
            };
            let times = (line.seen, line.keywords_seen);
            let shard = Shard::kept(sums, line.modseq, kept, times);
            records.put_shard(line.shard, shard);
        }
        let pages = Pages {
            generation: Some(self.generation),
        };
        (records, pages)
    }

    /// Messages and bytes.
    pub(super) fn totals(&self) -> Totals {
        let messages = self.lines.iter().map(|line| u64::from(line.messages));
        Totals {
            messages: messages.sum(),
            bytes: self.lines.iter().map(|line| line.bytes).sum(),
        }
    }

    /// Writes the pages that are not in `file`, and the table. What is known of `records` afterwards is where their pages are.
    ///
    /// # Errors
    /// Also where a shard has no page at all: a table without it would hide its messages.
    pub(super) fn write(
        mut self,
        mailbox: &Dir,
        records: &mut Records,
        pages: Pages,
        file: &File,
    ) -> io::Result<()> {
        let cache = mailbox.dir(DIRECTORY)?;
        self.generation = pages.generation.unwrap_or_default();
        let taken: std::collections::BTreeSet<u32> = records
            .shards()
            .filter_map(|(_, known)| known.kept.map(|kept| kept.slot))
            .collect();
        let mut free = (0..).filter(|slot| !taken.contains(slot));
        let all: Vec<u32> = records.shards().map(|(shard, _)| shard).collect();
        for shard in all {
            let Some(known) = records.shard_mut(shard) else {
                continue;
            };
            if known.kept.is_none()
                && let Some(page) = known.page()
                && let Some(slot) = free.next()
            {
                let bytes = page.to_bytes();
                file.write_all_at(&bytes, FRONT + u64::from(slot) * SLOT)?;
                known.kept = Some(Kept {
                    slot,
                    checksum: checksum(self.generation, &bytes),
                    length: u32::try_from(bytes.len()).unwrap_or(0),
                });
            }
            let sums = known.sums();
            let kept = known
                .kept
                .ok_or_else(|| io::Error::other("a shard has no page"))?;
            self.lines.push(Line {
                shard,
                messages: sums.messages,
                unseen: sums.unseen,
                deleted: sums.deleted,
                bytes: sums.bytes,
                modseq: known.modseq(),
                slot: kept.slot,
                checksum: kept.checksum,
                length: kept.length,
                seen: known.seen,
                keywords_seen: known.keywords_seen,
            });
        }
        let text = postcard::to_allocvec(&self).map_err(io::Error::other)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&crc32fast::hash(&text).to_le_bytes());
        bytes.extend_from_slice(&text);
        cache.write_cache(TABLE, &bytes)
    }

    /// Removes the table of a mailbox: it is read from its files then.
    pub(super) fn remove(mailbox: &Dir) -> io::Result<()> {
        match mailbox.dir(DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            cache => cache?.remove_if_there(TABLE).map(|_| ()),
        }
    }

    /// A table without shards.
    pub(super) fn new(uid_validity: u32, uid_next: u32, modseq: u64, written: i64) -> Self {
        Self {
            uid_validity,
            uid_next,
            modseq,
            written,
            keywords: Vec::new(),
            seen: None,
            gone: Gone::default(),
            generation: Generation::default(),
            lines: Vec::new(),
        }
    }
}

impl Pages {
    /// Reads a page of a shard. `None` if it is damaged or not there.
    pub(super) fn page(self, mailbox: &Dir, shard: &Shard) -> Option<Page> {
        let kept = shard.kept?;
        let path = format!("{DIRECTORY}/{PAGES}");
        let file = mailbox.open_file(&path).ok()?;
        let generation = self.generation?;
        let length = u64::from(kept.length);
        if length > SLOT {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        file.read_exact_at(&mut bytes, FRONT + u64::from(kept.slot) * SLOT)
            .ok()?;
        if checksum(generation, &bytes) != kept.checksum {
            return None;
        }
        Page::from_bytes(&bytes, shard.sums().messages)
    }

    /// The file of this generation, or that of a new one, in which no page is: what only the old one had has to be read from the
    /// mailbox's files.
    pub(super) fn open_or_make(
        &mut self,
        mailbox: &Dir,
        records: &mut Records,
    ) -> io::Result<File> {
        mailbox.make_dir(DIRECTORY)?;
        let cache = mailbox.dir(DIRECTORY)?;
        if let (Some(file), Some(_)) = (cache.open_to_write(PAGES)?, self.generation)
            && generation_of(&file) == self.generation
        {
            return Ok(file);
        }
        let mut generation = Generation::default();
        getrandom::fill(&mut generation).map_err(io::Error::other)?;
        let mut front = MAGIC.to_vec();
        front.extend_from_slice(&generation);
        let file = cache.replace_cache(PAGES, &front)?;
        self.generation = Some(generation);
        let all: Vec<u32> = records.shards().map(|(shard, _)| shard).collect();
        for shard in all {
            if let Some(known) = records.shard_mut(shard) {
                known.kept = None;
            }
        }
        Ok(file)
    }
}

/// The sum of a page. It fits no other generation, so that its name need not be read with each page.
fn checksum(generation: Generation, page: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&generation);
    sum.update(page);
    sum.finalize()
}

fn generation_of(file: &File) -> Option<Generation> {
    let mut front = [0; 24];
    file.read_exact_at(&mut front, 0).ok()?;
    let (magic, generation) = front.split_first_chunk::<8>()?;
    (*magic == MAGIC)
        .then(|| generation.try_into().ok())
        .flatten()
}
