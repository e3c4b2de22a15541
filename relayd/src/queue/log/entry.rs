//! What a batch is made of.

use super::super::history::Ending;
use super::super::id::{LENGTH, QueueId};

/// What has happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) enum Entry<'a> {
    /// It is in the queue, with this first record.
    Queued {
        journal: &'a [u8],
        /// `None` for one that was flushed by itself, because it is large.
        body: Option<&'a [u8]>,
    },
    /// Its journal has this record at this place, and nothing behind it.
    Appended { offset: u64, line: &'a [u8] },
    /// It is in the queue no more.
    Gone(Ending),
}

impl<'a> Entry<'a> {
    pub(super) fn encode(self, id: QueueId, out: &mut Vec<u8>) {
        let begin = out.len();
        let kind = match self {
            Self::Queued { body: None, .. } => 0,
            Self::Queued { body: Some(_), .. } => 1,
            Self::Appended { .. } => 2,
            Self::Gone(_) => 3,
        };
        out.push(kind);
        out.extend_from_slice(id.as_str().as_bytes());
        out.extend_from_slice(&[0; 4]);
        let payload = out.len();
        match self {
            Self::Queued { journal, body } => {
                out.extend_from_slice(&number(journal.len()));
                out.extend_from_slice(journal);
                out.extend_from_slice(body.unwrap_or_default());
            }
            Self::Appended { offset, line } => {
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(line);
            }
            Self::Gone(ending) => out.push(match ending {
                Ending::Done => 0,
                Ending::Removed => 1,
                Ending::Expired => 2,
                Ending::Refused => 3,
            }),
        }
        let length = number(out.len() - payload);
        out[begin + 1 + LENGTH..payload].copy_from_slice(&length);
    }

    /// The first entry, and what is behind it.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<(QueueId, Self, &'a [u8])> {
        let (kind, rest) = bytes.split_first()?;
        let (id, rest) = rest.split_at_checked(LENGTH)?;
        let id = QueueId::parse(std::str::from_utf8(id).ok()?)?;
        let (length, rest) = rest.split_first_chunk()?;
        let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let entry = match *kind {
            0 | 1 => {
                let (length, payload) = payload.split_first_chunk()?;
                let (journal, body) =
                    payload.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                let body = (*kind == 1).then_some(body);
                Self::Queued { journal, body }
            }
            2 => {
                let (offset, line) = payload.split_first_chunk()?;
                let offset = u64::from_le_bytes(*offset);
                Self::Appended { offset, line }
            }
            3 => Self::Gone(match payload {
                [0] => Ending::Done,
                [1] => Ending::Removed,
                [2] => Ending::Expired,
                [3] => Ending::Refused,
                _ => return None,
            }),
            _ => return None,
        };
        Some((id, entry, rest))
    }
}

/// Nothing of the queue comes near four gigabytes: a message's size is bounded, and so are its recipients.
pub(super) fn number(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes()
}
