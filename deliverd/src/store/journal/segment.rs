//! A file of the journal: filled with zeros once, then written over and over, so that a flush never has to allocate anything.
//!
//! ```text
//! block 0          "rmail journal 1\n", nonce (16), CRC-32 of both
//! then batches, each from a block boundary on, padded with zeros:
//!                  nonce (16), sequence (8), previous (8), floor (8), length (4), CRC-32 (4), records
//! ```
//! The nonce is drawn anew whenever the file is written from its start again. So what an earlier use left in the file is no
//! batch, and neither is anything somebody put into a message to look like one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::super::disk::{self, Dir};

/// Unit of position and padding.
pub(super) const BLOCK: u64 = 4096;
/// Bytes before the records of a batch.
pub(super) const HEAD: usize = 48;
const MAGIC: &[u8; 16] = b"rmail journal 1\n";
const NONCE: usize = 16;

/// An open file of the journal.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    file: Arc<File>,
    pub(super) size: u64,
    nonce: [u8; NONCE],
    /// The last record in it that is, or may be, on disk.
    pub(super) last: u64,
}

/// The head of a batch: it holds the records after `previous` up to `sequence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) sequence: u64,
    /// The last record of the batch before, wherever that is.
    pub(super) previous: u64,
    /// Records up to this one are done and on disk elsewhere.
    pub(super) floor: u64,
    length: u32,
}

/// A batch that was found whole.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) head: Head,
    /// Where its records begin in the file.
    pub(super) at: u64,
    pub(super) records: Vec<u8>,
}

/// Batches that follow each other in one file.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) heads: Vec<(u64, Head)>,
    /// Where the next batch goes.
    pub(super) end: u64,
}

impl Segment {
    /// Opens the file `name`; `None` if it is not there.
    ///
    /// # Errors
    /// When it cannot be read, or is no file of a journal.
    pub(super) fn open(dir: &Dir, name: &str) -> io::Result<Option<Self>> {
        let Some(file) = dir.open_to_write(name)? else {
            return Ok(None);
        };
        let size = file.metadata()?.len() / BLOCK * BLOCK;
        if size < 2 * BLOCK {
            return Err(io::Error::other("the file is too short for a journal"));
        }
        let mut block = [0; 36];
        file.read_exact_at(&mut block, 0)?;
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&block[16..32]);
        let is_known =
            block[..16] == *MAGIC && block[32..] == crc32fast::hash(&block[..32]).to_le_bytes();
        let mut segment = Self {
            file: Arc::new(file),
            size,
            nonce,
            last: 0,
        };
        if block == [0; 36] {
            // Made, and never flushed since: nothing in it was ever acknowledged.
            segment.restart()?;
        } else if !is_known {
            return Err(io::Error::other("its first block is damaged"));
        }
        Ok(Some(segment))
    }

    /// Makes the file `name`, all zeros, durably.
    pub(super) fn create(dir: &Dir, name: &str, size: u64) -> io::Result<Self> {
        let file = dir.create_zeros(name, size)?;
        let mut segment = Self {
            file: Arc::new(file),
            size,
            nonce: [0; NONCE],
            last: 0,
        };
        segment.restart()?;
        Ok(segment)
    }

    /// Forgets all that is in the file; the next flush makes it so on disk.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        getrandom::fill(&mut self.nonce).map_err(io::Error::other)?;
        let mut block = [0; 36];
        block[..16].copy_from_slice(MAGIC);
        block[16..32].copy_from_slice(&self.nonce);
        let sum = crc32fast::hash(&block[..32]);
        block[32..].copy_from_slice(&sum.to_le_bytes());
        self.file.write_all_at(&block, 0)
    }

    /// Writes a batch at `at` and flushes it. `batch` is [`HEAD`] bytes to be filled, then records.
    pub(super) fn write(
        &self,
        at: u64,
        batch: &mut Vec<u8>,
        sequence: u64,
        previous: u64,
        floor: u64,
    ) -> io::Result<()> {
        let length = u32::try_from(batch.len() - HEAD).map_err(io::Error::other)?;
        let head = Head {
            sequence,
            previous,
            floor,
            length,
        };
        let sum = head.sum(&batch[HEAD..]);
        batch[..NONCE].copy_from_slice(&self.nonce);
        batch[NONCE..HEAD - 4].copy_from_slice(&head.to_bytes());
        batch[HEAD - 4..HEAD].copy_from_slice(&sum.to_le_bytes());
        batch.resize(padded(batch.len()), 0);
        self.file.write_all_at(batch, at)?;
        disk::flush_data(&self.file)
    }

    /// Reads the batch at `at`, `None` if there is no whole one.
    pub(super) fn read(&self, at: u64) -> io::Result<Option<Batch>> {
        if at + BLOCK > self.size {
            return Ok(None);
        }
        let mut head = [0; HEAD];
        self.file.read_exact_at(&mut head, at)?;
        if head[..NONCE] != self.nonce {
            return Ok(None);
        }
        let sum = u32::from_le_bytes([head[44], head[45], head[46], head[47]]);
        let head = Head::from_bytes(&head);
        let begin = at + HEAD as u64;
        if begin + u64::from(head.length) > self.size {
            return Ok(None);
        }
        let mut records = vec![0; head.length as usize];
        self.file.read_exact_at(&mut records, begin)?;
        Ok((head.sum(&records) == sum).then_some(Batch {
            head,
            at: begin,
            records,
        }))
    }

    /// Reads `length` bytes at `at`.
    pub(super) fn read_bytes(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// All batches in the file that follow each other, up to the first that is not whole.
    ///
    /// # Errors
    /// When a whole batch stands behind one that is not: a batch is only written when the one before is on disk, so that one was
    /// damaged later.
    pub(super) fn scan(&self) -> io::Result<Run> {
        let mut run = Run {
            end: BLOCK,
            ..Run::default()
        };
        while let Some(batch) = self.read(run.end)? {
            let follows = run
                .heads
                .last()
                .is_none_or(|(_, last)| last.sequence == batch.head.previous);
            if !follows {
                break;
            }
            run.heads.push((run.end, batch.head));
            run.end += batch.padded();
        }
        let last = run.heads.last().map_or(0, |(_, head)| head.sequence);
        let mut at = run.end + BLOCK;
        while at < self.size {
            if let Some(batch) = self.read(at)?
                && batch.head.sequence > last
            {
                return Err(io::Error::other(format!(
                    "the batch at byte {} of the journal is damaged, and a later one is not",
                    run.end
                )));
            }
            at += BLOCK;
        }
        Ok(run)
    }
}

impl Batch {
    fn padded(&self) -> u64 {
        padded(HEAD + self.records.len()) as u64
    }
}

impl Head {
    fn to_bytes(self) -> [u8; 28] {
        let mut bytes = [0; 28];
        bytes[..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.previous.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.floor.to_le_bytes());
        bytes[24..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; HEAD]) -> Self {
        let number = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(eight)
        };
        Self {
            sequence: number(16),
            previous: number(24),
            floor: number(32),
            length: u32::from_le_bytes([bytes[40], bytes[41], bytes[42], bytes[43]]),
        }
    }

    fn sum(self, records: &[u8]) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&self.to_bytes());
        sum.update(records);
        sum.finalize()
    }
}

/// Bytes with the zeros up to the next block boundary.
pub(super) fn padded(length: usize) -> usize {
    length.next_multiple_of(BLOCK as usize)
}
