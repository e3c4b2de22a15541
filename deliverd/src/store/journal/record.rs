//! What the journal says: bodies of messages, and what happens to messages in mailboxes.
//!
//! A record is a kind (1 byte), a length (4 bytes, little endian) and so many bytes: a body as it came behind its number and
//! date, the same packed behind its size, or an [`Event`] in the postcard wire format.

use std::io;

use lz4_flex::block;
use serde::{Deserialize, Serialize};

use super::super::ids::Brought;

const BODY: u8 = 1;
const EVENT: u8 = 2;
const PACKED: u8 = 3;
const HEAD: usize = 5;
const BODY_HEAD: usize = 16;
const PACKED_HEAD: usize = 20;

/// Bodies of such a size are packed: smaller ones share a block with others anyway, larger ones cost more time than writing them.
const PACKABLE: std::ops::RangeInclusive<usize> = 1024..=16 * 1024;

/// The mailbox something happens in. Its name may change later, its UIDVALIDITY does not and is given once per user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::store) struct Place {
    /// Directory beneath the store when this was written.
    pub(in crate::store) path: String,
    pub(in crate::store) uid_validity: u32,
}

/// What becomes of messages. Doing an event again, or an earlier one and then this one, changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) enum Event {
    /// A message with the bytes of an earlier [`Record::Body`].
    Added {
        place: Place,
        uid: u32,
        /// Number of the body.
        body: u64,
        flags: u8,
        keywords: Vec<String>,
    },
    /// Flags and keywords as they are from now on.
    Changed {
        place: Place,
        /// What the bits of the changes stand for.
        keywords: Vec<String>,
        changes: Vec<Change>,
    },
    /// Ranges of UIDs that are no messages any more.
    Removed { place: Place, uids: Vec<(u32, u32)> },
    /// Messages came from another place and have their names on disk: what they brought along, by UID.
    Transferred {
        place: Place,
        brought: Vec<(u32, Brought)>,
        /// Of a MOVE, what is no message any more in the same moment: two would have one id.
        gone: Option<(Place, Vec<(u32, u32)>)>,
    },
    /// The same; their files are kept for some days.
    Expunged { place: Place, uids: Vec<(u32, u32)> },
    /// Ranges of UIDs that are messages, all of them on disk: takes back the [`Event::Removed`] that stands before it for the case
    /// that it does not come to that.
    Placed { place: Place, uids: Vec<(u32, u32)> },
}

/// Ranges of UIDs and what all of these messages have now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Change {
    pub(in crate::store) uids: Vec<(u32, u32)>,
    pub(in crate::store) flags: u8,
    /// Bits that index the keywords of the event.
    pub(in crate::store) keywords: u64,
}

/// A record as it is read.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) enum Record<'a> {
    Body {
        number: u64,
        /// INTERNALDATE, Unix seconds.
        date: i64,
        /// As they stand in the journal.
        bytes: &'a [u8],
        /// How many there are when they are unpacked, if they are packed.
        packed: Option<usize>,
    },
    Event(Event),
}

/// The record of a body.
pub(in crate::store) fn body(number: u64, date: i64, bytes: &[u8]) -> Vec<u8> {
    let length = BODY_HEAD + bytes.len();
    let mut record = head(BODY, length);
    record.extend_from_slice(&number.to_le_bytes());
    record.extend_from_slice(&date.to_le_bytes());
    record.extend_from_slice(bytes);
    record
}

/// The same packed (LZ4), if that makes it an eighth shorter.
pub(in crate::store) fn packed(number: u64, date: i64, bytes: &[u8]) -> Option<Vec<u8>> {
    let size = u32::try_from(bytes.len()).ok()?;
    if !PACKABLE.contains(&bytes.len()) {
        return None;
    }
    let packed = block::compress(bytes);
    if packed.len() > bytes.len() - bytes.len() / 8 {
        return None;
    }
    let mut record = head(PACKED, PACKED_HEAD + packed.len());
    record.extend_from_slice(&number.to_le_bytes());
    record.extend_from_slice(&date.to_le_bytes());
    record.extend_from_slice(&size.to_le_bytes());
    record.extend_from_slice(&packed);
    Some(record)
}

/// The `size` bytes that were packed.
///
/// # Errors
/// When they were others.
pub(super) fn unpack(packed: &[u8], size: usize) -> io::Result<Vec<u8>> {
    let bytes = block::decompress(packed, size).map_err(io::Error::other)?;
    if bytes.len() == size {
        Ok(bytes)
    } else {
        Err(io::Error::other("a packed message has another size"))
    }
}

/// The record of an event.
///
/// # Errors
/// None that an [`Event`] can cause; the encoder's type has one.
pub(in crate::store) fn event(event: &Event) -> Result<Vec<u8>, postcard::Error> {
    let payload = postcard::to_allocvec(event)?;
    let mut record = head(EVENT, payload.len());
    record.extend_from_slice(&payload);
    Ok(record)
}

fn head(kind: u8, length: usize) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD + length);
    record.push(kind);
    record.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    record
}

/// Takes the first record off `batch`; `None` at its end, an error if it does not hold what was written.
pub(in crate::store) fn take<'a>(batch: &mut &'a [u8]) -> Option<Result<Record<'a>, Unreadable>> {
    if batch.is_empty() {
        return None;
    }
    Some(split(batch).ok_or(Unreadable))
}

/// A batch with a right checksum and a content this program does not know: another version wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Unreadable;

fn split<'a>(batch: &mut &'a [u8]) -> Option<Record<'a>> {
    let (kind, rest) = batch.split_first()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (payload, rest) =
        rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *batch = rest;
    match *kind {
        BODY => {
            let (number, payload) = payload.split_first_chunk()?;
            let (date, bytes) = payload.split_first_chunk()?;
            Some(Record::Body {
                number: u64::from_le_bytes(*number),
                date: i64::from_le_bytes(*date),
                bytes,
                packed: None,
            })
        }
        PACKED => {
            let (number, payload) = payload.split_first_chunk()?;
            let (date, payload) = payload.split_first_chunk()?;
            let (size, bytes) = payload.split_first_chunk()?;
            let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
            PACKABLE.contains(&size).then_some(Record::Body {
                number: u64::from_le_bytes(*number),
                date: i64::from_le_bytes(*date),
                bytes,
                packed: Some(size),
            })
        }
        EVENT => postcard::from_bytes(payload).ok().map(Record::Event),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_round_trip() {
        let place = Place {
            path: "domains/a/users/b/mailboxes/INBOX".into(),
            uid_validity: 7,
        };
        let events = [
            Event::Added {
                place: place.clone(),
                uid: 4,
                body: 9,
                flags: 3,
                keywords: vec!["$Forwarded".into()],
            },
            Event::Changed {
                place: place.clone(),
                keywords: vec!["work".into()],
                changes: vec![Change {
                    uids: vec![(1, 3), (9, 9)],
                    flags: 1,
                    keywords: 1,
                }],
            },
            Event::Removed {
                place: place.clone(),
                uids: vec![(1, u32::MAX)],
            },
            Event::Expunged {
                place: place.clone(),
                uids: vec![(2, 3)],
            },
            Event::Placed {
                place,
                uids: vec![(4, 6)],
            },
        ];
        let mut batch = body(9, -1, b"text");
        for it in &events {
            batch.extend(event(it).unwrap());
        }
        let mut rest = &batch[..];
        let expected = Record::Body {
            number: 9,
            date: -1,
            bytes: b"text",
            packed: None,
        };
        assert_eq!(take(&mut rest), Some(Ok(expected)));
        for it in events {
            assert_eq!(take(&mut rest), Some(Ok(Record::Event(it))));
        }
        assert_eq!(take(&mut rest), None);
    }

    #[test]
    fn a_body_is_packed_where_that_makes_it_shorter() {
        let text = b"as mail has it, again and again\r\n".repeat(200);
        let record = packed(7, -1, &text).unwrap();
        assert!(record.len() < text.len() / 4);
        let Some(Ok(Record::Body {
            number: 7,
            date: -1,
            bytes,
            packed: Some(size),
        })) = take(&mut &record[..])
        else {
            panic!("{record:?}");
        };
        assert_eq!(unpack(bytes, size).unwrap(), text);
        assert!(unpack(bytes, size - 1).is_err() && unpack(bytes, size + 1).is_err());
        assert!(unpack(&bytes[1..], size).is_err());
        // Noise, and what is small or large, is not.
        let mut noise = vec![0; 4096];
        getrandom::fill(&mut noise).unwrap();
        for bytes in [&noise[..], &text[..500], &text.repeat(10)] {
            assert_eq!(packed(7, -1, bytes), None);
        }
    }

    #[test]
    fn a_packed_body_that_says_it_is_large_is_not_read() {
        let mut record = packed(7, -1, &[b'a'; 4096]).unwrap();
        let size = HEAD + BODY_HEAD..HEAD + PACKED_HEAD;
        assert_eq!(record[size.clone()], 4096_u32.to_le_bytes());
        record[size].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(take(&mut &record[..]), Some(Err(Unreadable)));
    }

    #[test]
    fn what_was_never_written_is_an_error_and_no_panic() {
        let whole = body(1, 2, b"abc");
        for length in 1..whole.len() {
            assert_eq!(take(&mut &whole[..length]), Some(Err(Unreadable)));
        }
        assert_eq!(take(&mut &[9, 0, 0, 0, 0][..]), Some(Err(Unreadable)));
        assert_eq!(take(&mut &[2, 1, 0, 0, 0, 77][..]), Some(Err(Unreadable)));
    }
}
