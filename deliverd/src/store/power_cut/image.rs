//! The content of a disk, of which only what is not zero takes memory, and which is cheap to copy.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Bytes a disk writes as a whole, at most; also the unit of copying.
pub(super) const BLOCK: usize = 4096;

type Block = [u8; BLOCK];

/// Content of a disk. Copies share the blocks that are equal.
#[derive(Clone, Default)]
pub(super) struct Image(BTreeMap<u64, Arc<Block>>);

impl Image {
    /// Reads a file whose length is a multiple of [`BLOCK`].
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut blocks = BTreeMap::new();
        let mut block = [0; BLOCK];
        for number in 0..file.metadata()?.len() / BLOCK as u64 {
            file.read_exact_at(&mut block, number * BLOCK as u64)?;
            if block != [0; BLOCK] {
                blocks.insert(number, Arc::new(block));
            }
        }
        Ok(Self(blocks))
    }

    /// Writes the image as a file of `length` bytes with holes.
    pub(super) fn write(&self, path: &Path, length: u64) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(length)?;
        self.0
            .iter()
            .try_for_each(|(number, block)| file.write_all_at(&**block, number * BLOCK as u64))
    }

    /// Takes over what was written at `offset`.
    pub(super) fn apply(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (number, from) = (
                offset / BLOCK as u64,
                usize::try_from(offset % BLOCK as u64).unwrap(),
            );
            let piece = bytes.len().min(BLOCK - from);
            let mut block = self.0.get(&number).map_or([0; BLOCK], |block| **block);
            block[from..from + piece].copy_from_slice(&bytes[..piece]);
            if block == [0; BLOCK] {
                self.0.remove(&number);
            } else {
                self.0.insert(number, Arc::new(block));
            }
            bytes = &bytes[piece..];
            offset += piece as u64;
        }
    }
}
