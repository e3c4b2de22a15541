//! What a mailbox keeps for its readers, so that they need not open and parse its messages again: the form of the files.
//!
//! A reader works something out about a message and gives it to deliverd, which keeps it as bytes that mean nothing to it. A file
//! holds what is known about the messages of one shard: a [`Header`], a [`Slot`] per UID, and the entries in the order they came.
//! Nothing of it is flushed and any of it may be missing, cut off or damaged: what does not fit its sum is not there.

use crate::frame::{Decode, Encode};

/// How many UIDs share a file, as they share a directory in the store.
pub const MESSAGES_PER_SHARD: u32 = 1000;
/// How many files one `OpenCache` may ask for (the kernel passes at most 253 descriptors).
pub const SHARDS_PER_FRAME: usize = 64;
/// How many entries one `FillCache` may announce.
pub const ENTRIES_PER_FILL: usize = 1000;
/// How many bytes they may have in all.
pub const MAX_FILL: usize = 1 << 20;
/// Where the entries of a file begin.
pub const ENTRIES_START: usize = HEADER_LEN + MESSAGES_PER_SHARD as usize * SLOT_LEN;

/// Bytes of a header.
const HEADER_LEN: usize = 24;
/// Bytes of a slot.
const SLOT_LEN: usize = 12;
const MAGIC: [u8; 8] = *b"rmlcach1";

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum CacheKind {
    /// Envelopes and structures.
    Summary,
    /// Text to be searched.
    Text,
}

impl CacheKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Summary, Self::Text];

    /// How many bytes may be kept about one message.
    #[must_use]
    pub const fn max_entry(self) -> usize {
        match self {
            Self::Summary => 16 << 10,
            Self::Text => 296 << 10,
        }
    }

    /// How many bytes a file may have.
    #[must_use]
    pub const fn max_file(self) -> u64 {
        match self {
            Self::Summary => 16 << 20,
            Self::Text => 64 << 20,
        }
    }
}

/// An entry that is about to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct NewEntry {
    /// UID of the message it is about.
    pub uid: u32,
    /// How many bytes it has.
    pub length: u32,
}

/// Which messages a file is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What is kept.
    pub kind: CacheKind,
    /// UIDVALIDITY of the mailbox.
    pub uid_validity: u32,
    /// UIDs from `shard` × [`MESSAGES_PER_SHARD`] on.
    pub shard: u32,
}

/// Where an entry is. An empty slot is all zeros.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slot {
    /// Place in the file.
    pub offset: u32,
    /// Bytes.
    pub length: u32,
    /// CRC-32 of the UID and the bytes.
    pub sum: u32,
}

impl Header {
    /// A file without entries: the header and empty slots, little endian.
    #[must_use]
    pub fn begin(&self) -> Vec<u8> {
        let mut bytes = self.to_bytes().to_vec();
        bytes.resize(ENTRIES_START, 0);
        bytes
    }

    /// Whether this is the beginning of such a file.
    #[must_use]
    pub fn begins(&self, bytes: &[u8]) -> bool {
        bytes.len() >= ENTRIES_START && bytes.starts_with(&self.to_bytes())
    }

    fn to_bytes(self) -> [u8; HEADER_LEN] {
        let kind = match self.kind {
            CacheKind::Summary => 1_u32,
            CacheKind::Text => 2,
        };
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&kind.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.uid_validity.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.shard.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..20]);
        bytes[20..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

impl Slot {
    /// The slot of an entry that is to stand at `offset`.
    #[must_use]
    pub fn new(uid: u32, offset: u32, entry: &[u8]) -> Self {
        Self {
            offset,
            length: u32::try_from(entry.len()).unwrap_or(u32::MAX),
            sum: sum(uid, entry),
        }
    }

    /// Where the slot of `uid` is.
    #[must_use]
    pub const fn place(uid: u32) -> usize {
        HEADER_LEN + (uid % MESSAGES_PER_SHARD) as usize * SLOT_LEN
    }

    /// The slot of `uid` in the beginning of a file; `None` if it is empty or cannot be right.
    #[must_use]
    pub fn read(beginning: &[u8], uid: u32, kind: CacheKind) -> Option<Self> {
        let bytes = beginning.get(Self::place(uid)..)?.first_chunk()?;
        let slot = Self::from_bytes(bytes);
        let end = u64::from(slot.offset) + u64::from(slot.length);
        let fits = slot.length > 0
            && slot.length as usize <= kind.max_entry()
            && slot.offset as usize >= ENTRIES_START
            && end <= kind.max_file();
        fits.then_some(slot)
    }

    /// Whether `entry` is what the slot of `uid` was written for.
    #[must_use]
    pub fn fits(&self, uid: u32, entry: &[u8]) -> bool {
        entry.len() == self.length as usize && sum(uid, entry) == self.sum
    }

    /// The slot as it stands in the file: offset, length, sum, little endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SLOT_LEN] {
        let mut bytes = [0; SLOT_LEN];
        for (place, number) in bytes
            .chunks_mut(4)
            .zip([self.offset, self.length, self.sum])
        {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    const fn from_bytes(bytes: &[u8; SLOT_LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
        Self {
            offset: u32::from_le_bytes([a, b, c, d]),
            length: u32::from_le_bytes([e, f, g, h]),
            sum: u32::from_le_bytes([i, j, k, l]),
        }
    }
}

fn sum(uid: u32, entry: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&uid.to_le_bytes());
    hasher.update(entry);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        kind: CacheKind::Text,
        uid_validity: 7,
        shard: 3,
    };

    #[test]
    fn only_the_file_it_was_written_for_begins_so() {
        let bytes = HEADER.begin();
        assert!(HEADER.begins(&bytes));
        for other in [
            Header {
                kind: CacheKind::Summary,
                ..HEADER
            },
            Header {
                uid_validity: 8,
                ..HEADER
            },
            Header { shard: 2, ..HEADER },
        ] {
            assert!(!other.begins(&bytes), "{other:?}");
        }
        for at in 0..HEADER_LEN {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(!HEADER.begins(&damaged), "{at}");
        }
        assert!(!HEADER.begins(&bytes[..ENTRIES_START - 1]));
    }

    #[test]
    fn a_slot_survives_the_round_trip_and_fits_its_entry_only() {
        let slot = Slot::new(3041, 20_000, b"entry");
        let mut bytes = HEADER.begin();
        let place = Slot::place(3041);
        bytes[place..place + SLOT_LEN].copy_from_slice(&slot.to_bytes());
        assert_eq!(Slot::read(&bytes, 3041, HEADER.kind), Some(slot));
        assert_eq!(Slot::read(&bytes, 3042, HEADER.kind), None);
        assert!(slot.fits(3041, b"entry"));
        assert!(!slot.fits(3041, b"entrY"));
        assert!(!slot.fits(3041, b"entry "));
        assert!(!slot.fits(4041, b"entry"));
    }

    #[test]
    fn a_slot_that_cannot_be_right_is_empty() {
        let good = Slot::new(1, 20_000, b"entry");
        let most = u32::try_from(HEADER.kind.max_entry()).unwrap();
        let end = u32::try_from(HEADER.kind.max_file()).unwrap();
        for bad in [
            Slot { offset: 0, ..good },
            Slot {
                offset: u32::MAX,
                ..good
            },
            Slot {
                offset: end - 4,
                ..good
            },
            Slot { length: 0, ..good },
            Slot {
                length: most + 1,
                ..good
            },
            Slot {
                length: u32::MAX,
                ..good
            },
        ] {
            let mut bytes = HEADER.begin();
            let place = Slot::place(1);
            bytes[place..place + SLOT_LEN].copy_from_slice(&bad.to_bytes());
            assert_eq!(Slot::read(&bytes, 1, HEADER.kind), None, "{bad:?}");
        }
        assert_eq!(Slot::read(&[], 1, HEADER.kind), None);
    }
}
