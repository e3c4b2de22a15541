//! The messages of a mailbox in memory: a page per shard, 24 bytes a message.
//!
//! A page may be missing while the index on disk has it. Its sums are known all the same; whoever needs the messages themselves
//! has the page brought in first ([`super::mailbox::Mailbox::need`]).

use std::collections::BTreeMap;

use ipc::Refusal;
use ipc::session::UidRanges;
use ipc::snapshot::{Record, flag};
use tracing::error;

use super::feed;
use super::message_file::{SHARD, shard_of};
use super::refresh::Time;

/// Bytes of a message in a page, as it is kept on disk.
pub(super) const ENTRY_LEN: usize = 24;

/// The messages of a mailbox.
#[derive(Debug, Default, Clone)]
pub(super) struct Records {
    shards: BTreeMap<u32, Shard>,
    /// What all shards add up to.
    total: Sums,
    /// Messages whose pages are in memory.
    in_memory: usize,
}

/// What is known about a shard.
#[derive(Debug, Default, Clone)]
pub(super) struct Shard {
    sums: Sums,
    /// None of its messages has a modification sequence above this one.
    modseq: u64,
    /// Its messages, unless only the index has them.
    page: Option<Page>,
    /// Where the index has its messages, as they are now.
    pub(super) kept: Option<Kept>,
    /// Whether the page was compared with the directory since the mailbox was loaded.
    pub(super) is_verified: bool,
    /// Modification time of its directory, and of its keyword file, when they were last read.
    pub(super) seen: Option<Time>,
    pub(super) keywords_seen: Option<Time>,
}

/// What a shard adds up to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) messages: u32,
    pub(super) unseen: u32,
    pub(super) deleted: u32,
    pub(super) bytes: u64,
}

/// A page in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) slot: u32,
    pub(super) checksum: u32,
    /// Bytes in the slot.
    pub(super) length: u32,
}

/// The messages of a shard, ascending.
#[derive(Debug, Default, Clone)]
pub(super) struct Page {
    entries: Vec<Entry>,
    /// As long as `entries`, or empty if no message has a keyword.
    keywords: Vec<u64>,
}

/// A message in 24 bytes.
#[derive(Debug, Clone, Copy)]
struct Entry {
    modseq: u64,
    /// Low 32 bits of the size and of the date.
    size: u32,
    date: u32,
    /// When it came into this mailbox, Unix seconds; 0 if that is not known.
    saved: u32,
    /// UID less the first of the shard.
    offset: u16,
    flags: u8,
    /// Four more bits of the date (signed), and of the size.
    high: u8,
}

/// Sizes and dates that fit: up to 64 GiB, and 1,000 years around 1970.
const MAX_SIZE: u64 = (1 << 36) - 1;
const MAX_DATE: i64 = (1 << 35) - 1;

impl Entry {
    fn new(record: &Record, saved: u32) -> Self {
        let size = record.size.min(MAX_SIZE);
        let date = record.internal_date.clamp(-MAX_DATE, MAX_DATE);
        Self {
            modseq: record.modseq,
            size: low(size),
            date: low(date.cast_unsigned()),
            saved,
            offset: u16::try_from(record.uid % SHARD).unwrap_or(0),
            flags: record.flags,
            high: nibble(date.cast_unsigned()) << 4 | nibble(size),
        }
    }

    fn record(&self, shard: u32, keywords: u64) -> Record {
        let high_date = i64::from((self.high >> 4).cast_signed() << 4 >> 4);
        Record {
            uid: shard * SHARD + u32::from(self.offset),
            flags: self.flags,
            keywords,
            size: u64::from(self.high & 15) << 32 | u64::from(self.size),
            internal_date: high_date << 32 | i64::from(self.date),
            modseq: self.modseq,
        }
    }

    fn to_bytes(self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[0..8].copy_from_slice(&self.modseq.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.size.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.date.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.saved.to_le_bytes());
        bytes[20..22].copy_from_slice(&self.offset.to_le_bytes());
        bytes[22] = self.flags;
        bytes[23] = self.high;
        bytes
    }

    fn from_bytes(bytes: &[u8; ENTRY_LEN]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self {
            modseq: u64::from(word(4)) << 32 | u64::from(word(0)),
            size: word(8),
            date: word(12),
            saved: word(16),
            offset: u16::from_le_bytes([bytes[20], bytes[21]]),
            flags: bytes[22],
            high: bytes[23],
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low bits are what is asked for"
)]
const fn low(value: u64) -> u32 {
    value as u32
}

const fn nibble(value: u64) -> u8 {
    (value >> 32 & 15) as u8
}

impl Page {
    fn position(&self, uid: u32) -> Result<usize, usize> {
        let offset = u16::try_from(uid % SHARD).unwrap_or(0);
        self.entries
            .binary_search_by_key(&offset, |entry| entry.offset)
    }

    fn record(&self, shard: u32, at: usize) -> Record {
        let keywords = self.keywords.get(at).copied().unwrap_or(0);
        self.entries[at].record(shard, keywords)
    }

    fn iter(&self, shard: u32) -> impl DoubleEndedIterator<Item = Record> + '_ {
        (0..self.entries.len()).map(move |at| self.record(shard, at))
    }

    fn set_keywords(&mut self, at: usize, keywords: u64) {
        if self.keywords.is_empty() && keywords != 0 {
            self.keywords = vec![0; self.entries.len()];
        }
        if let Some(slot) = self.keywords.get_mut(at) {
            *slot = keywords;
        }
    }

    fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for record in self.iter(0) {
            sums.add(&record);
        }
        sums
    }

    fn modseq(&self) -> u64 {
        let modseqs = self.entries.iter().map(|entry| entry.modseq);
        modseqs.max().unwrap_or(0)
    }

    /// The page as it is kept in the index.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * (ENTRY_LEN + 8));
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.to_bytes());
        }
        for keywords in &self.keywords {
            bytes.extend_from_slice(&keywords.to_le_bytes());
        }
        bytes
    }

    /// Reads a page of so many messages back; `None` if it is none.
    pub(super) fn from_bytes(bytes: &[u8], messages: u32) -> Option<Self> {
        let messages = usize::try_from(messages).ok()?;
        let (entries, keywords) = bytes.split_at_checked(messages.checked_mul(ENTRY_LEN)?)?;
        let (entries, _) = entries.as_chunks::<ENTRY_LEN>();
        let (keywords, rest) = keywords.as_chunks::<8>();
        let page = Self {
            entries: entries.iter().map(Entry::from_bytes).collect(),
            keywords: keywords
                .iter()
                .map(|bits| u64::from_le_bytes(*bits))
                .collect(),
        };
        let is_ascending = page.entries.is_sorted_by(|a, b| a.offset < b.offset);
        let fits = page
            .entries
            .last()
            .is_none_or(|last| u32::from(last.offset) < SHARD);
        let has_all = page.keywords.is_empty() || page.keywords.len() == messages;
        (rest.is_empty() && is_ascending && fits && has_all).then_some(page)
    }
}

impl Sums {
    fn add(&mut self, record: &Record) {
        self.messages += 1;
        self.unseen += u32::from(record.flags & flag::SEEN == 0);
        self.deleted += u32::from(record.flags & flag::DELETED != 0);
        self.bytes += record.size;
    }

    /// A part of the sum is another one now.
    fn replace(&mut self, before: Self, now: Self) {
        self.messages = self.messages - before.messages + now.messages;
        self.unseen = self.unseen - before.unseen + now.unseen;
        self.deleted = self.deleted - before.deleted + now.deleted;
        self.bytes = self.bytes - before.bytes + now.bytes;
    }

    fn subtract(&mut self, record: &Record) {
        self.messages -= 1;
        self.unseen -= u32::from(record.flags & flag::SEEN == 0);
        self.deleted -= u32::from(record.flags & flag::DELETED != 0);
        self.bytes -= record.size;
    }
}

impl Shard {
    /// A shard as the index has it.
    pub(super) fn kept(
        sums: Sums,
        modseq: u64,
        kept: Kept,
        (seen, keywords_seen): (Option<Time>, Option<Time>),
    ) -> Self {
        Self {
            sums,
            modseq,
            page: None,
            kept: Some(kept),
            is_verified: false,
            seen,
            keywords_seen,
        }
    }

    pub(super) fn sums(&self) -> Sums {
        self.sums
    }

    /// None of its messages has a modification sequence above this one.
    pub(super) fn modseq(&self) -> u64 {
        self.modseq
    }

    pub(super) fn page(&self) -> Option<&Page> {
        self.page.as_ref()
    }

    /// What the index has of it cannot be used.
    pub(super) fn forget_index(&mut self) {
        self.kept = None;
        self.seen = None;
        self.keywords_seen = None;
    }
}

impl Records {
    pub(super) fn shards(&self) -> impl DoubleEndedIterator<Item = (u32, &Shard)> {
        self.shards.iter().map(|(shard, known)| (*shard, known))
    }

    pub(super) fn shard(&self, shard: u32) -> Option<&Shard> {
        self.shards.get(&shard)
    }

    pub(super) fn shard_mut(&mut self, shard: u32) -> Option<&mut Shard> {
        self.shards.get_mut(&shard)
    }

    /// The first shard with a message without `\Seen`, and how many messages are in those before it.
    pub(super) fn first_unseen(&self) -> Option<(u32, u32)> {
        let mut before = 0;
        for (shard, known) in &self.shards {
            if known.sums.unseen != 0 {
                return Some((*shard, before));
            }
            before += known.sums.messages;
        }
        None
    }

    /// Notes a shard, with the messages the index has of it.
    pub(super) fn put_shard(&mut self, shard: u32, known: Shard) {
        let before = self.shards.get(&shard).map(Shard::sums).unwrap_or_default();
        self.total.replace(before, known.sums);
        self.shards.insert(shard, known);
    }

    /// Notes an empty shard if it is not known. True if it was not.
    pub(super) fn make_shard(&mut self, shard: u32) -> bool {
        let is_new = !self.shards.contains_key(&shard);
        if is_new {
            let known = Shard {
                page: Some(Page::default()),
                is_verified: true,
                ..Shard::default()
            };
            self.shards.insert(shard, known);
        }
        is_new
    }

    /// Notes a shard somebody else has made; what is in it is not known.
    pub(super) fn find_shard(&mut self, shard: u32) {
        self.shards.entry(shard).or_default();
    }

    /// The shards from one to another, both included.
    pub(super) fn range(&self, first: u32, last: u32) -> impl Iterator<Item = (u32, &Shard)> {
        self.shards
            .range(first..=last)
            .map(|(shard, known)| (*shard, known))
    }

    /// Forgets a shard; its messages were removed before.
    pub(super) fn remove_shard(&mut self, shard: u32) {
        if let Some(known) = self.shards.remove(&shard) {
            self.total.replace(known.sums, Sums::default());
        }
    }

    /// Takes the page of a shard in, as the index or the files have it.
    pub(super) fn bring(&mut self, shard: u32, page: Page) {
        if let Some(known) = self.shards.get_mut(&shard) {
            let before = known.page.as_ref().map_or(0, |page| page.entries.len());
            self.in_memory = self.in_memory + page.entries.len() - before;
            let before = std::mem::replace(&mut known.sums, page.sums());
            self.total.replace(before, known.sums);
            known.modseq = page.modseq();
            known.page = Some(page);
        }
    }

    pub(super) fn len(&self) -> usize {
        usize::try_from(self.total.messages).unwrap_or(usize::MAX)
    }

    /// What all messages add up to.
    pub(super) fn sums(&self) -> Sums {
        self.total
    }

    /// Messages whose pages are in memory.
    pub(super) fn in_memory(&self) -> usize {
        self.in_memory
    }

    pub(super) fn get(&self, uid: u32) -> Option<Record> {
        let shard = shard_of(uid);
        let page = self.shards.get(&shard)?.page.as_ref()?;
        page.position(uid).ok().map(|at| page.record(shard, at))
    }

    /// When a message came into this mailbox, Unix seconds; `None` if that is not known.
    pub(super) fn saved(&self, uid: u32) -> Option<u32> {
        let page = self.shards.get(&shard_of(uid))?.page.as_ref()?;
        let saved = page.entries[page.position(uid).ok()?].saved;
        (saved != 0).then_some(saved)
    }

    /// The messages whose pages are in memory, ascending.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = Record> + '_ {
        let pages = self.shards.iter();
        let pages = pages.filter_map(|(shard, known)| Some((*shard, known.page.as_ref()?)));
        pages.flat_map(|(shard, page)| page.iter(shard))
    }

    /// The messages of a shard whose page is in memory, ascending.
    pub(super) fn in_shard(&self, shard: u32) -> impl Iterator<Item = Record> + '_ {
        let page = self.shards.get(&shard).and_then(Shard::page);
        page.into_iter().flat_map(move |page| page.iter(shard))
    }

    /// Messages whose UID lies in `ranges` and whose pages are in memory, ascending, each once.
    pub(super) fn members(&self, ranges: &UidRanges) -> Vec<Record> {
        let mut found = Vec::new();
        let mut from = 0;
        for (first, last) in feed::sorted(ranges) {
            let first = first.max(from);
            if first > last {
                continue;
            }
            for (shard, known) in self.shards.range(shard_of(first)..=shard_of(last)) {
                let Some(page) = &known.page else { continue };
                let inside = page.iter(*shard);
                found.extend(inside.filter(|record| (first..=last).contains(&record.uid)));
            }
            from = last.saturating_add(1);
            if last == u32::MAX {
                break;
            }
        }
        found
    }

    /// Gives a message other flags and keywords. The message as it is now, if it is there.
    pub(super) fn mark(
        &mut self,
        uid: u32,
        flags: u8,
        keywords: u64,
        modseq: u64,
    ) -> Option<Record> {
        let shard = shard_of(uid);
        let known = self.shards.get_mut(&shard)?;
        let page = known.page.as_mut()?;
        let at = page.position(uid).ok()?;
        let before = known.sums;
        known.sums.subtract(&page.record(shard, at));
        page.entries[at].flags = flags;
        page.entries[at].modseq = modseq;
        page.set_keywords(at, keywords);
        let record = page.record(shard, at);
        known.sums.add(&record);
        self.total.replace(before, known.sums);
        known.modseq = known.modseq.max(modseq);
        known.kept = None;
        Some(record)
    }

    /// Adds a message, or replaces what is known of it. Its page must be in memory, or its shard unknown.
    pub(super) fn insert(&mut self, record: &Record, saved: u32) -> Result<(), Refusal> {
        let shard = shard_of(record.uid);
        self.make_shard(shard);
        let known = self.shards.get_mut(&shard);
        let Some((kept, sums, page)) = known.and_then(|known| {
            let page = known.page.as_mut()?;
            known.modseq = known.modseq.max(record.modseq);
            Some((&mut known.kept, &mut known.sums, page))
        }) else {
            error!(
                uid = record.uid,
                "bug: a message comes into a page that is not in memory"
            );
            return Err(Refusal::StorageFault);
        };
        let before = *sums;
        let entry = Entry::new(record, saved);
        match page.position(record.uid) {
            Ok(at) => {
                sums.subtract(&page.record(shard, at));
                page.entries[at] = entry;
                page.set_keywords(at, record.keywords);
            }
            Err(at) => {
                self.in_memory += 1;
                page.entries.insert(at, entry);
                if page.keywords.is_empty() {
                    page.set_keywords(at, record.keywords);
                } else {
                    page.keywords.insert(at, record.keywords);
                }
            }
        }
        sums.add(&entry.record(shard, record.keywords));
        self.total.replace(before, *sums);
        *kept = None;
        Ok(())
    }

    /// Takes messages out; `uids` ascending.
    pub(super) fn remove(&mut self, uids: &[u32]) {
        for uids in uids.chunk_by(|a, b| shard_of(*a) == shard_of(*b)) {
            let shard = shard_of(uids[0]);
            let Some(known) = self.shards.get_mut(&shard) else {
                continue;
            };
            let Some(page) = known.page.as_mut() else {
                continue;
            };
            let before = known.sums;
            let stays: Vec<bool> = page
                .iter(shard)
                .map(|record| uids.binary_search(&record.uid).is_err())
                .collect();
            for (at, _) in stays.iter().enumerate().filter(|(_, stays)| !**stays) {
                known.sums.subtract(&page.record(shard, at));
                self.in_memory -= 1;
            }
            retain(&mut page.entries, &stays);
            if !page.keywords.is_empty() {
                retain(&mut page.keywords, &stays);
            }
            self.total.replace(before, known.sums);
            known.kept = None;
        }
    }
}

fn retain<T>(list: &mut Vec<T>, stays: &[bool]) {
    let mut stays = stays.iter();
    list.retain(|_| stays.next().copied().unwrap_or(true));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(uid: u32) -> Record {
        Record {
            uid,
            flags: flag::SEEN,
            keywords: 0,
            size: 4096,
            internal_date: 1_700_000_000,
            modseq: u64::from(uid),
        }
    }

    fn records(uids: &[u32]) -> Records {
        let mut records = Records::default();
        for uid in uids {
            records.insert(&record(*uid), 0).unwrap();
        }
        records
    }

    #[test]
    fn a_message_takes_24_bytes() {
        assert_eq!(size_of::<Entry>(), ENTRY_LEN);
    }

    #[test]
    fn members_are_found_once_however_the_ranges_overlap() {
        let records = records(&[1, 4, 5, 9, 100, 2100]);
        let members = |ranges: &UidRanges| -> Vec<u32> {
            let members = records.members(ranges).into_iter();
            members.map(|record| record.uid).collect()
        };
        assert_eq!(members(&vec![(5, 20), (1, 5), (9, 9)]), [1, 4, 5, 9]);
        assert_eq!(members(&vec![(9, 4)]), [4, 5, 9]);
        assert_eq!(
            members(&vec![(0, u32::MAX), (1, 1)]),
            [1, 4, 5, 9, 100, 2100]
        );
        assert_eq!(members(&vec![(6, 8), (101, 200)]), [0; 0]);
    }

    #[test]
    fn what_does_not_fit_is_the_nearest_that_does() {
        let mut records = Records::default();
        let far = Record {
            size: u64::MAX,
            internal_date: i64::MIN,
            ..record(1)
        };
        records.insert(&far, 0).unwrap();
        let known = records.get(1).unwrap();
        assert_eq!((known.size, known.internal_date), (MAX_SIZE, -MAX_DATE));
        records.remove(&[1]);
        assert_eq!(records.sums(), Sums::default());
    }

    #[test]
    fn a_damaged_page_is_none() {
        let known = records(&[1, 2, 3]);
        let bytes = known.shard(0).unwrap().page().unwrap().to_bytes();
        assert!(Page::from_bytes(&bytes, 3).is_some());
        assert!(Page::from_bytes(&bytes, 4).is_none());
        assert!(Page::from_bytes(&bytes[1..], 3).is_none());
        let mut twice = bytes.clone();
        twice.copy_within(0..ENTRY_LEN, ENTRY_LEN);
        assert!(Page::from_bytes(&twice, 3).is_none());
    }

    #[derive(Debug, Clone)]
    enum Deed {
        Insert(u32, u8, u64, u64, i64),
        Mark(u32, u8, u64),
        Remove(Vec<u32>),
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let uid = 990_u32..1020;
        let keywords = prop_oneof![Just(0_u64), any::<u64>()];
        let deed = prop_oneof![
            (
                uid.clone(),
                0..=flag::ALL,
                keywords.clone(),
                0..=MAX_SIZE,
                -MAX_DATE..=MAX_DATE
            )
                .prop_map(|(uid, flags, keywords, size, date)| Deed::Insert(
                    uid, flags, keywords, size, date
                )),
            (uid.clone(), 0..=flag::ALL, keywords)
                .prop_map(|(uid, flags, keywords)| Deed::Mark(uid, flags, keywords)),
            proptest::collection::btree_set(uid, 0..8)
                .prop_map(|uids| Deed::Remove(uids.into_iter().collect())),
        ];
        proptest::collection::vec(deed, 0..60)
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_map(deeds in deeds()) {
            let mut model = BTreeMap::new();
            let mut records = Records::default();
            for (modseq, deed) in (1..).zip(deeds) {
                match deed {
                    Deed::Insert(uid, flags, keywords, size, internal_date) => {
                        let record = Record { uid, flags, keywords, size, internal_date, modseq };
                        model.insert(uid, record);
                        records.insert(&record, 7).unwrap();
                    }
                    Deed::Mark(uid, flags, keywords) => {
                        let marked = model.get_mut(&uid).map(|known| {
                            *known = Record { flags, keywords, modseq, ..*known };
                            *known
                        });
                        prop_assert_eq!(records.mark(uid, flags, keywords, modseq), marked);
                    }
                    Deed::Remove(uids) => {
                        model.retain(|uid, _| !uids.contains(uid));
                        records.remove(&uids);
                    }
                }
            }
            let all: Vec<Record> = model.into_values().collect();
            prop_assert_eq!(records.iter().collect::<Vec<_>>(), all.clone());
            prop_assert_eq!((records.len(), records.in_memory()), (all.len(), all.len()));
            let unseen = all.iter().filter(|record| record.flags & flag::SEEN == 0).count();
            prop_assert_eq!(records.sums().unseen as usize, unseen);
            let bytes: u64 = all.iter().map(|record| record.size).sum();
            prop_assert_eq!(records.sums().bytes, bytes);
            for (_, shard) in records.shards() {
                let page = shard.page().unwrap();
                let again = Page::from_bytes(&page.to_bytes(), shard.sums().messages).unwrap();
                prop_assert_eq!(again.sums(), shard.sums());
                prop_assert!(again.modseq() <= shard.modseq());
                prop_assert_eq!(again.iter(1).collect::<Vec<_>>(), page.iter(1).collect::<Vec<_>>());
            }
        }
    }
}
