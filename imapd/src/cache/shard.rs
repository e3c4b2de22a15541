//! A file of entries, as deliverd lends it. It may grow while it is read, and anything may be wrong with it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use ipc::cache::{ENTRIES_START, Header, MESSAGES_PER_SHARD, Slot};

/// Entries read together, in bytes, …
const SPAN: usize = 256 << 10;
/// … and bytes between them, that nobody asked for, read along with them.
const GAPS: usize = 256 << 10;
/// So many of those are rather read than jumped over.
const GAP: usize = 16 << 10;

/// Memory that reading takes: these, and the entry that may be longer than all of them.
pub const MEMORY: u64 = 1 << 20;

/// What is kept about the messages of a shard.
#[derive(Debug)]
pub struct Shard {
    header: Header,
    file: File,
}

/// Some entries of a shard.
#[derive(Debug, Default)]
pub struct Entries {
    /// Slots of the shard they were read from.
    beginning: Vec<u8>,
    bytes: Vec<u8>,
    /// Ascending by UID.
    places: Vec<Place>,
}

/// Where an entry is.
#[derive(Debug, Clone, Copy)]
struct Place {
    uid: u32,
    slot: Slot,
    /// In `bytes`.
    start: usize,
}

/// How files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Only if that does not block.
    InMemory,
    /// Waiting for the disk.
    Waiting,
}

/// Reads entries about the first of `uids`, which ascend, from that one of `shards` where they are. Returns about how many it looked, at
/// least one; `None` if the disk had to be waited for and must not be.
pub fn read(shards: &[Shard], uids: &[u32], entries: &mut Entries, how: How) -> Option<usize> {
    entries.places.clear();
    let shard = uids.first()? / MESSAGES_PER_SHARD;
    let others = uids.partition_point(|uid| uid / MESSAGES_PER_SHARD <= shard);
    let uids = uids.get(..others).unwrap_or_default();
    match shards.iter().find(|known| known.header.shard == shard) {
        Some(shard) => shard.read(uids, entries, how),
        None => Some(uids.len()),
    }
}

impl Shard {
    /// A file that should begin with `header`.
    #[must_use]
    pub const fn new(header: Header, file: File) -> Self {
        Self { header, file }
    }

    /// Shows the entries about those of `uids` that are here and whole, in no order. `uids` ascend.
    pub fn visit(&self, uids: &[u32], mut each: impl FnMut(u32, &[u8])) {
        let mut entries = Entries::default();
        let mut rest = self.among(uids);
        while !rest.is_empty() {
            let count = self.read(rest, &mut entries, How::Waiting);
            rest = rest.get(count.unwrap_or(rest.len())..).unwrap_or_default();
            for place in &entries.places {
                if let Some(entry) = place.entry(&entries.bytes) {
                    each(place.uid, entry);
                }
            }
        }
    }

    fn among<'a>(&self, uids: &'a [u32]) -> &'a [u32] {
        let shard = |uid: &u32| uid / MESSAGES_PER_SHARD;
        let start = uids.partition_point(|uid| shard(uid) < self.header.shard);
        let end = uids.partition_point(|uid| shard(uid) <= self.header.shard);
        uids.get(start..end).unwrap_or_default()
    }

    /// Like [`read`], for UIDs of this shard.
    fn read(&self, uids: &[u32], entries: &mut Entries, how: How) -> Option<usize> {
        let Entries {
            beginning,
            bytes,
            places,
        } = entries;
        places.clear();
        beginning.resize(ENTRIES_START, 0);
        let read = self.read_at(beginning, 0, how)?;
        if read < ENTRIES_START || !self.header.begins(beginning) {
            return Some(uids.len());
        }
        let (mut count, mut length) = (0, 0);
        for &uid in uids {
            if let Some(slot) = Slot::read(beginning, uid, self.header.kind) {
                length += slot.length as usize;
                if length > SPAN && !places.is_empty() {
                    break;
                }
                places.push(Place {
                    uid,
                    slot,
                    start: 0,
                });
            }
            count += 1;
        }
        places.sort_unstable_by_key(|place| place.slot.offset);
        self.read_places(places, bytes, how)?;
        places.sort_unstable_by_key(|place| place.uid);
        Some(count)
    }

    /// Reads the entries at these places, which ascend in the file.
    fn read_places(&self, mut rest: &mut [Place], bytes: &mut Vec<u8>, how: How) -> Option<()> {
        let (mut start, mut gaps) = (0, GAPS);
        while let Some(first) = rest.first().map(|place| place.slot.offset) {
            let (count, length) = run(rest, &mut gaps);
            let (together, others) = std::mem::take(&mut rest).split_at_mut(count);
            rest = others;
            if bytes.len() < start + length {
                bytes.resize(start + length, 0);
            }
            let buffer = bytes.get_mut(start..start + length).unwrap_or_default();
            let read = self.read_at(buffer, u64::from(first), how)?;
            // What is beyond the end fits no sum, whatever was there before.
            buffer.get_mut(read..).unwrap_or_default().fill(0);
            for place in together {
                place.start = start + (place.slot.offset - first) as usize;
            }
            start += length;
        }
        Some(())
    }

    /// Fills `buffer` as far as the file goes; says how far. `None` if the disk must not be waited for.
    fn read_at(&self, buffer: &mut [u8], offset: u64, how: How) -> Option<usize> {
        match how {
            How::InMemory => {
                let read = sys::file::read_in_memory(&self.file, buffer, offset);
                read.ok().filter(|read| *read == buffer.len())
            }
            // What cannot be read is not there.
            How::Waiting => Some(read_up_to(&self.file, buffer, offset).unwrap_or(0)),
        }
    }
}

impl Entries {
    /// The entry about a message, if it was read and is whole.
    #[must_use]
    pub fn get(&self, uid: u32) -> Option<&[u8]> {
        let found = self.places.binary_search_by_key(&uid, |place| place.uid);
        self.places.get(found.ok()?)?.entry(&self.bytes)
    }
}

impl Place {
    /// What stands here, if that is whole.
    fn entry<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let end = self.start + self.slot.length as usize;
        let entry = bytes.get(self.start..end)?;
        self.slot.fits(self.uid, entry).then_some(entry)
    }
}

/// How many of `places`, which ascend in the file, are read at once, and how many bytes that is. `gaps` is what may lie between them.
fn run(places: &[Place], gaps: &mut usize) -> (usize, usize) {
    let (mut count, mut length) = (0, 0);
    let first = places.first().map_or(0, |place| place.slot.offset);
    for place in places {
        let start = (place.slot.offset - first) as usize;
        let gap = start.saturating_sub(length);
        if count > 0 && gap > GAP.min(*gaps) {
            break;
        }
        *gaps -= gap.min(*gaps);
        count += 1;
        length = length.max(start + place.slot.length as usize);
    }
    (count, length)
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc::cache::CacheKind;
    use std::collections::BTreeMap;
    use std::io::Write;

    const HEADER: Header = Header {
        kind: CacheKind::Text,
        uid_validity: 7,
        shard: 2,
    };

    /// A file with entries at these places.
    fn file(entries: &[(u32, usize, &[u8])]) -> Vec<u8> {
        let mut bytes = HEADER.begin();
        for (uid, offset, entry) in entries {
            bytes.resize(bytes.len().max(offset + entry.len()), 0);
            bytes[*offset..offset + entry.len()].copy_from_slice(entry);
            let slot = Slot::new(*uid, u32::try_from(*offset).unwrap(), entry).to_bytes();
            let place = Slot::place(*uid);
            bytes[place..place + slot.len()].copy_from_slice(&slot);
        }
        bytes
    }

    fn visit(bytes: &[u8], uids: &[u32]) -> BTreeMap<u32, Vec<u8>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut seen = BTreeMap::new();
        Shard::new(HEADER, file).visit(uids, |uid, entry| {
            assert!(seen.insert(uid, entry.to_vec()).is_none());
        });
        seen
    }

    #[test]
    fn entries_are_found_wherever_they_are_and_nobody_elses_are_shown() {
        let large = vec![b'x'; HEADER.kind.max_entry()];
        let far = ENTRIES_START + SPAN;
        let entries: Vec<(u32, usize, &[u8])> = vec![
            (2001, ENTRIES_START + 700, b"second"),
            (2002, ENTRIES_START, b"first"),
            (2003, far, &large),
            (2004, far + large.len(), &large),
            (2005, far + 2 * large.len() + GAP + 1, b"behind a gap"),
        ];
        let bytes = file(&entries);
        let all = [1, 2001, 2002, 2003, 2004, 2005, 2006, 3001, 4001];
        let seen = visit(&bytes, &all);
        let expected = entries.iter().map(|(uid, _, entry)| (*uid, entry.to_vec()));
        assert_eq!(seen, expected.collect());
        let some = visit(&bytes, &[2002, 2005]);
        assert_eq!(some.keys().copied().collect::<Vec<_>>(), [2002, 2005]);
    }

    #[test]
    fn slots_that_overlap_or_lie_beyond_the_end_do_no_harm() {
        let mut bytes = file(&[(2001, ENTRIES_START, b"entry")]);
        for (uid, offset, length) in [(2002, 2, 3), (2003, 0, 9000), (2004, 60 << 20, 9)] {
            let slot = Slot {
                offset: u32::try_from(ENTRIES_START).unwrap() + offset,
                length,
                sum: 0,
            };
            let place = Slot::place(uid);
            bytes[place..place + 12].copy_from_slice(&slot.to_bytes());
        }
        let seen = visit(&bytes, &[2001, 2002, 2003, 2004]);
        assert_eq!(seen.into_keys().collect::<Vec<_>>(), [2001]);
    }

    #[test]
    fn another_mailboxs_file_has_nothing() {
        let bytes = file(&[(2001, ENTRIES_START, b"entry")]);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let header = Header {
            uid_validity: 8,
            ..HEADER
        };
        Shard::new(header, file).visit(&[2001], |_, _| panic!("shown"));
        assert!(visit(&bytes[..ENTRIES_START - 1], &[2001]).is_empty());
        assert!(visit(&[], &[2001]).is_empty());
    }
}
