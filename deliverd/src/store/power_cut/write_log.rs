//! The log of all writes and flushes a recorded disk got, and what a power cut at any moment can leave of them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::dice::Dice;
use super::image::{BLOCK, Image};
use super::recorded_disk::FILE_SYSTEM_SIZE;

/// The format is that of the kernel's dm-log-writes, of which QEMU's `blklogwrites` writes version 1: a super block
/// `magic version entries sector_size`, then per entry a sector `sector sectors flags data_length` and the data.
const MAGIC: u64 = 0x006a_7366_7773_6872;
/// Unit of all lengths in the log, as the recorder asks for.
const SECTOR: u64 = 512;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// What the disk was told, in order.
pub(super) struct WriteLog {
    file: File,
    entries: Vec<Entry>,
}

enum Entry {
    /// All writes before it are durable.
    Flush,
    Write(Write),
    /// A client says that its first `count` operations were acknowledged.
    Acknowledgement {
        client: usize,
        count: usize,
    },
}

struct Write {
    offset: u64,
    length: u64,
    /// Where its data is in the log.
    data: u64,
}

/// Whether the disk does what a flush asks for.
#[derive(Clone, Copy)]
pub(super) enum Flushes {
    /// After a flush all writes before it are durable.
    Honoured,
    /// They mean nothing: any of the last so many writes may be lost.
    Ignored(usize),
}

/// Which of the writes that are not durable survive a cut.
#[derive(Debug, Clone, Copy)]
pub(super) enum Survival {
    /// The first ones.
    Prefix,
    /// Of each block of each write it is as good as any other.
    Subset,
}

/// A power cut.
pub(super) struct Cut {
    /// How many entries of the log had been written.
    pub(super) after: usize,
    pub(super) survival: Survival,
    /// How many operations of each client were acknowledged before.
    pub(super) acknowledged: Vec<usize>,
    /// What is on the disk.
    pub(super) image: Image,
}

impl WriteLog {
    /// Reads the log in `path`.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let [magic, _version, count] = numbers(&file, 0)?;
        assert_eq!(
            magic, MAGIC,
            "the log is not in the format of dm-log-writes"
        );
        let mut entries = Vec::new();
        let mut at = SECTOR;
        for _ in 0..count {
            let [sector, sectors, flags] = numbers(&file, at)?;
            at += SECTOR;
            let (offset, length) = (sector * SECTOR, sectors * SECTOR);
            if flags & FLUSH != 0 {
                entries.push(Entry::Flush);
            }
            // What was discarded may have any content, so also the content it had.
            if flags & DISCARD != 0 {
                continue;
            }
            if offset >= FILE_SYSTEM_SIZE && length > 0 {
                let [count] = numbers(&file, at)?;
                entries.push(Entry::Acknowledgement {
                    client: usize::try_from((offset - FILE_SYSTEM_SIZE) / BLOCK as u64).unwrap(),
                    count: usize::try_from(count).unwrap(),
                });
            } else if length > 0 {
                entries.push(Entry::Write(Write {
                    offset,
                    length,
                    data: at,
                }));
            }
            at += length;
        }
        Ok(Self { file, entries })
    }

    /// How many entries there are, and how many of them are flushes.
    pub(super) fn len(&self) -> (usize, usize) {
        let is_flush = |entry: &&Entry| matches!(entry, Entry::Flush);
        (
            self.entries.len(),
            self.entries.iter().filter(is_flush).count(),
        )
    }

    /// Cuts the power `count` times, at moments the dice choose, on a disk that was `durable` when the log began.
    pub(super) fn cuts(
        &self,
        mut durable: Image,
        flushes: Flushes,
        count: usize,
        mut dice: Dice,
    ) -> impl Iterator<Item = io::Result<Cut>> {
        let mut moments: Vec<usize> = (0..count)
            .map(|_| dice.below(self.entries.len() + 1))
            .collect();
        moments.sort_unstable();
        let mut done = 0;
        moments.into_iter().enumerate().map(move |(number, after)| {
            let kept = self.durable_at(after, flushes);
            self.apply(done..kept, &mut durable)?;
            done = kept;
            let survival = if number % 2 == 0 {
                Survival::Prefix
            } else {
                Survival::Subset
            };
            let mut image = durable.clone();
            match survival {
                Survival::Prefix => {
                    let end = kept + dice.below(after - kept + 1);
                    self.apply(kept..end, &mut image)?;
                }
                Survival::Subset => self.apply_some(kept..after, &mut image, &mut dice)?,
            }
            Ok(Cut {
                after,
                survival,
                acknowledged: self.acknowledged_before(after),
                image,
            })
        })
    }

    /// How many entries from the start are durable when the power is cut after entry `after`.
    fn durable_at(&self, after: usize, flushes: Flushes) -> usize {
        match flushes {
            Flushes::Honoured => self.entries[..after]
                .iter()
                .rposition(|entry| matches!(entry, Entry::Flush))
                .map_or(0, |at| at + 1),
            Flushes::Ignored(writes) => after.saturating_sub(writes),
        }
    }

    /// How many operations of each client were acknowledged in all.
    pub(super) fn acknowledged(&self) -> Vec<usize> {
        self.acknowledged_before(self.entries.len())
    }

    fn acknowledged_before(&self, after: usize) -> Vec<usize> {
        let mut acknowledged = Vec::new();
        for entry in &self.entries[..after] {
            if let Entry::Acknowledgement { client, count } = entry {
                acknowledged.resize(acknowledged.len().max(client + 1), 0);
                acknowledged[*client] = *count;
            }
        }
        acknowledged
    }

    fn apply(&self, entries: Range<usize>, image: &mut Image) -> io::Result<()> {
        self.writes(entries).try_for_each(|write| {
            image.apply(write.offset, &self.data(write)?);
            Ok(())
        })
    }

    /// Applies each block of the writes, or not.
    fn apply_some(
        &self,
        entries: Range<usize>,
        image: &mut Image,
        dice: &mut Dice,
    ) -> io::Result<()> {
        self.writes(entries).try_for_each(|write| {
            for (at, block) in (0..).zip(self.data(write)?.chunks(BLOCK)) {
                if dice.below(2) == 0 {
                    image.apply(write.offset + at * BLOCK as u64, block);
                }
            }
            Ok(())
        })
    }

    fn writes(&self, entries: Range<usize>) -> impl Iterator<Item = &Write> {
        self.entries[entries]
            .iter()
            .filter_map(|entry| match entry {
                Entry::Write(write) => Some(write),
                Entry::Flush | Entry::Acknowledgement { .. } => None,
            })
    }

    fn data(&self, write: &Write) -> io::Result<Vec<u8>> {
        let mut data = vec![0; usize::try_from(write.length).unwrap()];
        self.file.read_exact_at(&mut data, write.data)?;
        Ok(data)
    }
}

/// Little-endian numbers at `offset`.
fn numbers<const N: usize>(file: &File, offset: u64) -> io::Result<[u64; N]> {
    let mut numbers = [0; N];
    for (at, number) in (0..).zip(&mut numbers) {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, offset + 8 * at)?;
        *number = u64::from_le_bytes(bytes);
    }
    Ok(numbers)
}
