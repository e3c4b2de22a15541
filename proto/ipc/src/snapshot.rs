//! A mailbox at one moment: how many messages its shards have, and the messages of some of them as fixed-size records in a
//! descriptor, so that they need not go through frames.

use crate::frame::{Decode, Encode};

/// Bytes of one record in a descriptor.
pub const RECORD_LEN: usize = 40;
/// Bytes of a line of a table of shards in a descriptor.
pub const LINE_LEN: usize = 14;

/// System flags as bits. `\Recent` is not stored (RFC 9051 §2.3.2 dropped it).
pub mod flag {
    /// `\Answered`, letter A.
    pub const ANSWERED: u8 = 1;
    /// `\Draft`, letter D.
    pub const DRAFT: u8 = 2;
    /// `\Flagged`, letter F.
    pub const FLAGGED: u8 = 4;
    /// `\Seen`, letter S.
    pub const SEEN: u8 = 8;
    /// `\Deleted`, letter T.
    pub const DELETED: u8 = 16;
    /// Every bit that has a meaning.
    pub const ALL: u8 = 31;
}

/// One message of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    /// UID, ascending within a shard.
    pub uid: u32,
    /// Bits of [`flag`].
    pub flags: u8,
    /// Bit i set: the message has keyword i of the mailbox's keyword table.
    pub keywords: u64,
    /// Bytes of the message (RFC822.SIZE).
    pub size: u64,
    /// INTERNALDATE, Unix seconds.
    pub internal_date: i64,
    /// Modification sequence (RFC 7162).
    pub modseq: u64,
}

impl Record {
    /// The record as it stands in a descriptor: little endian, `uid flags 0 0 0 keywords size date modseq`.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; RECORD_LEN] {
        let mut bytes = [0; RECORD_LEN];
        bytes[0..4].copy_from_slice(&self.uid.to_le_bytes());
        bytes[4] = self.flags;
        bytes[8..16].copy_from_slice(&self.keywords.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.size.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.internal_date.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.modseq.to_le_bytes());
        bytes
    }

    /// Reads a record back.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; RECORD_LEN]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        Self {
            uid: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            flags: bytes[4],
            keywords: word(8),
            size: word(16),
            internal_date: word(24).cast_signed(),
            modseq: word(32),
        }
    }
}

/// How many messages a shard has, and up to when they changed. Its UIDs are those from [`MESSAGES_PER_SHARD`] times its number on, and so many in all.
///
/// [`MESSAGES_PER_SHARD`]: crate::cache::MESSAGES_PER_SHARD
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ShardCount {
    /// Its number.
    pub shard: u32,
    /// Messages in it.
    pub messages: u16,
    /// None of them has a modification sequence above this one.
    pub modseq: u64,
}

impl ShardCount {
    /// The line as it stands in a descriptor: little endian, `shard messages modseq`.
    #[must_use]
    pub fn to_bytes(self) -> [u8; LINE_LEN] {
        let mut bytes = [0; LINE_LEN];
        bytes[..4].copy_from_slice(&self.shard.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.messages.to_le_bytes());
        bytes[6..].copy_from_slice(&self.modseq.to_le_bytes());
        bytes
    }

    /// Reads a line back.
    #[must_use]
    pub const fn from_bytes(bytes: &[u8; LINE_LEN]) -> Self {
        Self {
            shard: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            messages: u16::from_le_bytes([bytes[4], bytes[5]]),
            modseq: u64::from_le_bytes([
                bytes[6], bytes[7], bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13],
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_round_trip() {
        let record = Record {
            uid: 41,
            flags: flag::SEEN,
            keywords: 1 << 63,
            size: 4096,
            internal_date: -1,
            modseq: 7,
        };
        assert_eq!(Record::from_bytes(&record.to_bytes()), record);
        let line = ShardCount {
            shard: u32::MAX / 1000,
            messages: 1000,
            modseq: u64::MAX - 1,
        };
        assert_eq!(ShardCount::from_bytes(&line.to_bytes()), line);
    }
}
