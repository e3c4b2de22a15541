//! The messages a client has numbers for: how many there are in each shard, and the pages of some shards.
//!
//! Numbers become places in a shard by adding up. What a message is, only its page says, and only some pages are here at a time:
//! whoever needs another one is told which ([`Lacking`]), has it read and asks again.

use std::collections::{BTreeSet, VecDeque};
use std::ops::{Range, RangeInclusive};

use ipc::cache::MESSAGES_PER_SHARD;
use ipc::session::PAGES_PER_READ;
use ipc::snapshot::{Record, ShardCount};

/// Pages that are kept. Those used longest ago are dropped, and read again when they are needed.
pub const PAGES_KEPT: usize = 2 * PAGES_PER_READ;

/// Pages have to be read first: those of these shards, no more than can be kept together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking(pub Vec<u32>);

/// The messages a client has numbers for.
#[derive(Debug, Default)]
pub(super) struct Shards {
    /// Ascending; none is empty.
    shards: Vec<Shard>,
    /// The shards whose pages are here, the one used longest ago first.
    recent: VecDeque<u32>,
}

#[derive(Debug)]
struct Shard {
    number: u32,
    /// How many messages are in the shards before.
    before: usize,
    count: usize,
    /// No change of any of them that was noted has a modification sequence above this one.
    modseq: u64,
    page: Option<Page>,
}

/// The messages of a shard.
#[derive(Debug)]
pub(super) struct Page {
    /// Ascending by UID.
    messages: Vec<Record>,
    /// Those that were gone before they could be read: nothing but their UIDs is known.
    unread: BTreeSet<u32>,
}

/// The shard of a UID.
pub(super) const fn shard_of(uid: u32) -> u32 {
    uid / MESSAGES_PER_SHARD
}

/// The UIDs a shard can have.
pub(super) const fn uids_of(shard: u32) -> RangeInclusive<u32> {
    let first = shard.saturating_mul(MESSAGES_PER_SHARD);
    first..=first.saturating_add(MESSAGES_PER_SHARD - 1)
}

impl Page {
    /// A page as it was read, in which messages are missing that went away meanwhile: they keep their places.
    pub(super) fn new(read: Vec<Record>, gone: impl Iterator<Item = u32>) -> Self {
        let is_read = |uid: &u32| find(&read, *uid).is_ok();
        let unread: BTreeSet<u32> = gone.filter(|uid| !is_read(uid)).collect();
        let mut messages = read;
        messages.extend(unread.iter().map(|uid| Record {
            uid: *uid,
            flags: 0,
            keywords: 0,
            size: 0,
            internal_date: 0,
            modseq: 0,
        }));
        if !unread.is_empty() {
            messages.sort_unstable_by_key(|message| message.uid);
        }
        Self { messages, unread }
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn uids(&self) -> impl Iterator<Item = u32> + '_ {
        self.messages.iter().map(|message| message.uid)
    }

    /// A message of which more than its UID is known.
    pub(super) fn message_mut(&mut self, uid: u32) -> Option<&mut Record> {
        if self.unread.contains(&uid) {
            return None;
        }
        let at = find(&self.messages, uid).ok()?;
        self.messages.get_mut(at)
    }
}

fn find(messages: &[Record], uid: u32) -> Result<usize, usize> {
    messages.binary_search_by_key(&uid, |message| message.uid)
}

impl Shards {
    /// Shards without pages. Ascending, and none empty.
    pub(super) fn new(table: &[ShardCount]) -> Self {
        let shard = |line: &ShardCount| Shard {
            number: line.shard,
            before: 0,
            count: usize::from(line.messages),
            modseq: line.modseq,
            page: None,
        };
        let mut shards = Self {
            shards: table.iter().map(shard).collect(),
            recent: VecDeque::new(),
        };
        shards.add_up();
        shards
    }

    fn add_up(&mut self) {
        let mut before = 0;
        for shard in &mut self.shards {
            shard.before = before;
            before += shard.count;
        }
    }

    /// How many messages there are.
    pub(super) fn len(&self) -> usize {
        self.shards
            .last()
            .map_or(0, |last| last.before + last.count)
    }

    /// The numbers of all shards.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.shards.iter().map(|shard| shard.number)
    }

    fn position(&self, number: u32) -> Result<usize, usize> {
        self.shards
            .binary_search_by_key(&number, |shard| shard.number)
    }

    fn shard(&self, number: u32) -> Option<&Shard> {
        self.shards.get(self.position(number).ok()?)
    }

    fn shard_mut(&mut self, number: u32) -> Option<&mut Shard> {
        let at = self.position(number).ok()?;
        self.shards.get_mut(at)
    }

    /// How many messages a shard has; 0 if there is none of that number.
    pub(super) fn count(&self, number: u32) -> usize {
        self.shard(number).map_or(0, |shard| shard.count)
    }

    /// Notes that a message of a shard changed.
    pub(super) fn changed(&mut self, number: u32, modseq: u64) {
        if let Some(shard) = self.shard_mut(number) {
            shard.modseq = shard.modseq.max(modseq);
        }
    }

    /// The shards in which messages changed after `modseq`, with the places of all their messages.
    pub(super) fn changed_since(
        &self,
        modseq: u64,
    ) -> impl Iterator<Item = (u32, Range<usize>)> + '_ {
        let changed = self.shards.iter().filter(move |s| s.modseq > modseq);
        changed.map(|shard| (shard.number, shard.before..shard.before + shard.count))
    }

    pub(super) fn page(&self, number: u32) -> Option<&Page> {
        self.shard(number)?.page.as_ref()
    }

    pub(super) fn page_mut(&mut self, number: u32) -> Option<&mut Page> {
        self.shard_mut(number)?.page.as_mut()
    }

    /// The shards in which UIDs of this range can be.
    pub(super) fn overlapping(&self, first: u32, last: u32) -> impl Iterator<Item = u32> + '_ {
        let from = self.shards.partition_point(|s| s.number < shard_of(first));
        let shards = self.shards.get(from..).unwrap_or_default().iter();
        let numbers = shards.map(|shard| shard.number);
        numbers.take_while(move |number| *number <= shard_of(last))
    }

    fn at(&self, index: usize) -> Option<(&Shard, usize)> {
        let behind = self.shards.partition_point(|shard| shard.before <= index);
        let shard = self.shards.get(behind.checked_sub(1)?)?;
        let place = index - shard.before;
        (place < shard.count).then_some((shard, place))
    }

    /// The shard of the message at a place.
    pub(super) fn shard_at(&self, index: usize) -> Option<u32> {
        self.at(index).map(|(shard, _)| shard.number)
    }

    /// The message at a place, if its page is here and it was not gone before that was read.
    pub(super) fn message(&self, index: usize) -> Option<&Record> {
        let (shard, place) = self.at(index)?;
        let page = shard.page.as_ref()?;
        let message = page.messages.get(place)?;
        (!page.unread.contains(&message.uid)).then_some(message)
    }

    /// The UID of the message at a place, if its page is here.
    pub(super) fn uid(&self, index: usize) -> Option<u32> {
        let (shard, place) = self.at(index)?;
        Some(shard.page.as_ref()?.messages.get(place)?.uid)
    }

    /// The place of a message; `None` if it is none that the client has a number for.
    pub(super) fn index_of(&self, uid: u32) -> Result<Option<usize>, Lacking> {
        let Some(shard) = self.shard(shard_of(uid)) else {
            return Ok(None);
        };
        let Some(page) = &shard.page else {
            return Err(Lacking(vec![shard.number]));
        };
        let place = find(&page.messages, uid).ok();
        Ok(place.map(|place| shard.before + place))
    }

    /// How many messages have a UID below this one.
    pub(super) fn below(&self, uid: u32) -> Result<usize, Lacking> {
        let (Ok(at) | Err(at)) = self.position(shard_of(uid));
        let Some(shard) = self.shards.get(at) else {
            return Ok(self.len());
        };
        // No message has UID 0.
        if uid.max(1) <= (*uids_of(shard.number).start()).max(1) {
            return Ok(shard.before);
        }
        match &shard.page {
            Some(page) => Ok(shard.before + page.messages.partition_point(|m| m.uid < uid)),
            None => Err(Lacking(vec![shard.number])),
        }
    }

    /// Those of the first shards of these places whose pages are not here. The others count as used now.
    pub(super) fn lacking(&mut self, places: &Range<usize>) -> Vec<u32> {
        let Some(first) = self.shard_at(places.start).filter(|_| !places.is_empty()) else {
            return Vec::new();
        };
        let from = self.position(first).unwrap_or_default();
        let shards = self.shards.get(from..).unwrap_or_default().iter();
        let some = shards.take_while(|shard| shard.before < places.end);
        let some: Vec<u32> = some
            .take(PAGES_PER_READ)
            .map(|shard| shard.number)
            .collect();
        self.without_page(some)
    }

    /// Those of `some` whose pages are not here. The others count as used now.
    pub(super) fn without_page(&mut self, mut some: Vec<u32>) -> Vec<u32> {
        some.retain(|number| {
            let is_here = self.page(*number).is_some();
            if is_here && self.recent.back() != Some(number) {
                self.recent.retain(|other| other != number);
                self.recent.push_back(*number);
            }
            !is_here && self.count(*number) != 0
        });
        some
    }

    /// Keeps a page of as many messages as its shard has.
    pub(super) fn keep(&mut self, number: u32, page: Page) {
        let Some(shard) = self.shard_mut(number) else {
            return;
        };
        let modseqs = page.messages.iter().map(|message| message.modseq);
        shard.modseq = shard.modseq.max(modseqs.max().unwrap_or(0));
        shard.page = Some(page);
        self.recent.retain(|other| *other != number);
        self.recent.push_back(number);
        if self.recent.len() > PAGES_KEPT
            && let Some(oldest) = self.recent.pop_front()
            && let Some(shard) = self.shard_mut(oldest)
        {
            shard.page = None;
        }
    }

    /// The client hears that messages of a shard are gone. Their places before, ascending; those behind have others now.
    pub(super) fn cut(&mut self, number: u32, gone: &BTreeSet<u32>) -> Result<Vec<usize>, Lacking> {
        let Ok(at) = self.position(number) else {
            return Ok(Vec::new());
        };
        let Some(shard) = self.shards.get_mut(at) else {
            return Ok(Vec::new());
        };
        let places: Vec<usize> = match &mut shard.page {
            // All of it.
            None if gone.len() == shard.count => (0..shard.count).collect(),
            None => return Err(Lacking(vec![number])),
            Some(page) => {
                let place = |uid: &u32| find(&page.messages, *uid).ok();
                let places = gone.iter().filter_map(place).collect();
                page.messages.retain(|message| !gone.contains(&message.uid));
                page.unread.retain(|uid| !gone.contains(uid));
                places
            }
        };
        let before = shard.before;
        shard.count -= places.len();
        if shard.count == 0 {
            self.shards.remove(at);
            self.recent.retain(|other| *other != number);
        }
        self.add_up();
        Ok(places.into_iter().map(|place| before + place).collect())
    }

    /// The client gets a number for a message behind all others.
    pub(super) fn push(&mut self, record: Record) {
        let (number, before) = (shard_of(record.uid), self.len());
        match self.shards.last_mut() {
            Some(last) if last.number == number => {
                last.count += 1;
                last.modseq = last.modseq.max(record.modseq);
                if let Some(page) = &mut last.page {
                    page.messages.push(record);
                }
            }
            _ => {
                self.shards.push(Shard {
                    number,
                    before,
                    count: 1,
                    modseq: record.modseq,
                    page: None,
                });
                self.keep(number, Page::new(vec![record], std::iter::empty()));
            }
        }
    }
}
