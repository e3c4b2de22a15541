//! What is read of the log at the start.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::Arc;

use super::super::id::QueueId;
use super::super::journal::crc32;
use super::entry::Entry;
use super::{BLOCK, HEAD};

/// What the last process left: files of the log, the oldest first.
#[derive(Debug)]
pub(in crate::queue) struct Past(pub(super) Vec<(u64, Arc<File>)>);

impl Past {
    /// Goes through all entries, in the order in which they were written.
    ///
    /// # Errors
    /// What the system or `each` says.
    pub(in crate::queue) fn for_each(
        &self,
        mut each: impl FnMut(QueueId, Entry<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        for (_, file) in &self.0 {
            let Some(batches) = Batches::of(file)? else {
                continue;
            };
            for mut entries in batches.iter() {
                while let Some((id, entry, rest)) = Entry::decode(entries) {
                    each(id, entry)?;
                    entries = rest;
                }
            }
        }
        Ok(())
    }

    pub(in crate::queue) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The batches of one file.
pub(super) struct Batches {
    bytes: Vec<u8>,
    pub(super) generation: u64,
    nonce: u64,
}

impl Batches {
    /// `None` if there is none.
    pub(super) fn of(mut file: &File) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        let Some((generation, nonce, _)) = batch_at(&bytes, 0) else {
            return Ok(None);
        };
        Ok(Some(Self {
            bytes,
            generation,
            nonce,
        }))
    }

    /// The entries of each, up to the first that is not whole, or of another use of the file.
    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (generation, nonce, entries) = batch_at(&self.bytes, at)?;
            if (generation, nonce) != (self.generation, self.nonce) {
                return None;
            }
            at = (at + HEAD + entries.len()).next_multiple_of(BLOCK as usize);
            Some(entries)
        })
    }
}

fn batch_at(bytes: &[u8], at: usize) -> Option<(u64, u64, &[u8])> {
    let (crc, bytes) = bytes.get(at..)?.split_first_chunk::<4>()?;
    let (length, _) = bytes.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    let bytes = bytes.get(..(HEAD - 4).checked_add(length)?)?;
    if length == 0 || crc32(bytes).to_le_bytes() != *crc {
        return None;
    }
    let (generation, rest) = bytes.get(4..)?.split_first_chunk()?;
    let (nonce, entries) = rest.split_first_chunk()?;
    let (generation, nonce) = (u64::from_le_bytes(*generation), u64::from_le_bytes(*nonce));
    Some((generation, nonce, entries))
}
