//! A file of entries, as deliverd lends it. It may grow while it is read, and anything may be wrong with it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use ipc::cache::{ENTRIES_START, Header, MESSAGES_PER_SHARD, Slot};

/// Entries that lie together are read together, up to so many bytes, …
const SPAN: usize = 1 << 20;
/// … also if there are so many bytes between them that nobody asked for.
const GAP: usize = 16 << 10;

/// Memory that [`Shard::visit`] takes.
pub const MEMORY: u64 = SPAN as u64;

/// What is kept about the messages of a shard.
#[derive(Debug)]
pub struct Shard {
    header: Header,
    file: File,
}

impl Shard {
    /// A file that should begin with `header`.
    #[must_use]
    pub const fn new(header: Header, file: File) -> Self {
        Self { header, file }
    }

    /// Shows the entries about those of `uids` that are here and whole, in no order. `uids` ascend.
    pub fn visit(&self, uids: &[u32], mut each: impl FnMut(u32, &[u8])) {
        let mut beginning = vec![0; ENTRIES_START];
        if self.file.read_exact_at(&mut beginning, 0).is_err() || !self.header.begins(&beginning) {
            return;
        }
        let mut slots: Vec<(Slot, u32)> = self
            .among(uids)
            .iter()
            .filter_map(|&uid| Some((Slot::read(&beginning, uid, self.header.kind)?, uid)))
            .collect();
        slots.sort_unstable_by_key(|(slot, _)| slot.offset);
        let mut bytes = Vec::new();
        let mut rest = slots.as_slice();
        while let Some((first, _)) = rest.first() {
            let (count, length) = span(rest);
            let (together, others) = rest.split_at(count);
            rest = others;
            bytes.resize(length, 0);
            // What cannot be read, or is beyond the end, fits no sum.
            let read = read_up_to(&self.file, &mut bytes, u64::from(first.offset)).unwrap_or(0);
            let there = bytes.get(..read).unwrap_or_default();
            for (slot, uid) in together {
                let start = (slot.offset - first.offset) as usize;
                let entry = there.get(start..start + slot.length as usize);
                if let Some(entry) = entry.filter(|entry| slot.fits(*uid, entry)) {
                    each(*uid, entry);
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
}

/// How many of `slots`, which ascend, are read together, and how many bytes that is.
fn span(slots: &[(Slot, u32)]) -> (usize, usize) {
    let (mut count, mut length) = (0, 0);
    let first = slots.first().map_or(0, |(slot, _)| slot.offset);
    for (slot, _) in slots {
        let start = (slot.offset - first) as usize;
        let end = start + slot.length as usize;
        if count > 0 && (start > length + GAP || end > SPAN) {
            break;
        }
        count += 1;
        length = length.max(end);
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
