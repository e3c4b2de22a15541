//! The selected mailbox as this client has been told it is: numbers stay valid until the client hears of a change.
//!
//! Changes come at any time and are noted at once; the client is told when RFC 3501 allows it. Sequence number n is the n-th
//! message in [`View`], also if it is gone meanwhile and the client does not know.
//!
//! Only a few pages of messages are here at a time ([`shards`]), and each was read later than the mailbox was selected. What it was in
//! the client's eyes is what it is now, less what the client does not know of yet, and with what is gone without the client knowing.
//! [`crate::pages`] reads them.

mod compare;
mod contexts;
mod flags;
mod shards;
mod wanted;

use std::collections::BTreeSet;
use std::ops::Range;

use imap::capability::Off;
use imap::command::Numbering;
use imap::dialect::Dialect;
use imap::flag::{self, Flag};
use imap::response::{self, Code, Kind};
use imap::sequence::Ranges;
use imap::sync::Awareness;
use imap::write;
use ipc::acl::Rights;
use ipc::session::{MAX_KEYWORDS, PAGES_PER_READ, SessionEvent};
use ipc::snapshot::{Record, flag as bit};

use self::shards::{Page, Shards, shard_of, uids_of};
use crate::ask::{Pages, Selection};
use crate::cache::notes::Notes;

pub use self::compare::{Comparison, Lost};
pub(crate) use self::contexts::{Context, Contexts, Work};
pub use self::flags::{has_flag, store_form};
pub use self::shards::{Lacking, PAGES_KEPT};
pub use self::wanted::{Expunges, Wanted};

/// A selected mailbox.
#[derive(Debug)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Whether changes are refused.
    pub read_only: bool,
    /// What may be done with it.
    pub rights: Rights,
    /// What was worked out about its messages and is not given away yet.
    pub notes: Notes,
    /// How its client hears of changes.
    pub awareness: Awareness,
    /// How the client speaks.
    pub dialect: Dialect,
    /// Which changes its client hears of.
    pub wanted: Wanted,
    /// So many messages the client was told of, and was not shown yet (RFC 5465 §5.2).
    pub to_show: usize,
    /// The UIDs that `$` means (RFC 5182). None of those that are gone is ever another message's.
    pub saved: Ranges,
    /// What is kept up to date of what searches found.
    pub(crate) contexts: Contexts,
    uid_next: u32,
    uid_validity: u32,
    mailbox_id: u128,
    /// The number of the first message that was not seen when it was selected; 0 if there was none.
    first_unseen: u32,
    /// What the client has numbers for …
    told: Shards,
    /// … and all of it has UIDs below this.
    told_below: u32,
    keywords: Vec<String>,
    /// New messages the client does not know of.
    fresh: Vec<Record>,
    /// UIDs whose flags the client does not know.
    changed: BTreeSet<u32>,
    /// UIDs that are gone without the client knowing.
    gone: BTreeSet<u32>,
    /// All changes up to this one are from before the first of these.
    before_gone: u64,
    /// Some of the UIDs of which the client was told that they are gone.
    told_gone: BTreeSet<u32>,
    /// All changes up to this modification sequence were noted.
    noted: u64,
    /// The same, or the one behind, if the last event had all of it.
    heard: u64,
    keywords_changed: bool,
    fate: Fate,
}

/// What became of the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Selected,
    /// Changes were lost; it must be selected again and compared.
    Stale,
    /// It was deleted or renamed.
    Gone,
    /// Changes were lost, and cannot be found out.
    Lost,
}

/// UIDs of which it is remembered that the client knows that they are gone.
const GONE_KEPT: usize = 1000;

impl View {
    /// A mailbox that was just selected.
    #[must_use]
    pub fn new(name: String, selection: Selection) -> Self {
        Self {
            name,
            read_only: selection.read_only,
            rights: selection.rights,
            notes: Notes::default(),
            awareness: Awareness::Plain,
            dialect: Dialect::REV1,
            wanted: Wanted::ALL,
            to_show: 0,
            saved: Ranges::default(),
            contexts: Contexts::default(),
            uid_next: selection.status.uid_next,
            uid_validity: selection.status.uid_validity,
            mailbox_id: selection.status.mailbox_id,
            first_unseen: selection.first_unseen,
            told: Shards::new(&selection.shards),
            told_below: selection.status.uid_next,
            keywords: selection.keywords,
            fresh: Vec::new(),
            changed: BTreeSet::new(),
            gone: BTreeSet::new(),
            before_gone: 0,
            told_gone: BTreeSet::new(),
            noted: selection.status.highest_modseq,
            heard: selection.status.highest_modseq,
            keywords_changed: false,
            fate: Fate::Selected,
        }
    }

    /// UIDVALIDITY.
    #[must_use]
    pub const fn uid_validity(&self) -> u32 {
        self.uid_validity
    }

    /// What became of the mailbox.
    #[must_use]
    pub const fn fate(&self) -> Fate {
        self.fate
    }

    /// What SELECT tells about it.
    // RFC 3501 §6.3.1.
    pub fn introduce(&self, off: Off, out: &mut Vec<u8>) {
        self.write_flags(out);
        self.write_count(out);
        // RFC 9051 appendix E did away with it; RFC 9586 §3.6.
        if self.first_unseen != 0 && !self.dialect.rev2 && !self.dialect.uid_only {
            let code = Code::Unseen(self.first_unseen);
            response::untagged(Kind::Ok, Some(&code), "first unseen", out);
        }
        let code = Code::UidValidity(self.uid_validity);
        response::untagged(Kind::Ok, Some(&code), "UIDs are valid", out);
        let code = Code::UidNext(self.uid_next);
        response::untagged(Kind::Ok, Some(&code), "next UID", out);
        // RFC 7162 §3.1.2.1.
        if !off.has("CONDSTORE") {
            let code = Code::HighestModSeq(self.noted);
            response::untagged(Kind::Ok, Some(&code), "last change", out);
        }
        if !off.has("OBJECTID") {
            let code = Code::MailboxId(self.mailbox_id);
            response::untagged(Kind::Ok, Some(&code), "known by this for ever", out);
        }
    }

    fn write_flags(&self, out: &mut Vec<u8>) {
        let mut flags = vec![
            Flag::Answered,
            Flag::Flagged,
            Flag::Deleted,
            Flag::Seen,
            Flag::Draft,
        ];
        flags.extend(self.known_keywords().map(|(_, keyword)| keyword));
        write::flags(&flags, out);
        // RFC 4314 §5.1.1.
        let may = |right| !self.read_only && self.rights.has(right);
        let more = may(Rights::WRITE) && self.keywords.len() < MAX_KEYWORDS;
        flags.retain(|flag| {
            may(match flag {
                Flag::Seen => Rights::SEEN,
                Flag::Deleted => Rights::TRASH,
                Flag::Answered | Flag::Flagged | Flag::Draft | Flag::Keyword(_) => Rights::WRITE,
            })
        });
        let code = Code::PermanentFlags {
            flags: &flags,
            more,
        };
        response::untagged(Kind::Ok, Some(&code), "flags that can be kept", out);
    }

    // Invariant: only keywords that IMAP can write leave here, whatever the store holds.
    fn known_keywords(&self) -> impl Iterator<Item = (usize, Flag)> {
        let writable = |(_, keyword): &(usize, &String)| flag::is_keyword(keyword);
        let keywords = self.keywords.iter().enumerate().filter(writable);
        keywords.map(|(index, keyword)| (index, Flag::Keyword(keyword.clone())))
    }

    fn write_count(&self, out: &mut Vec<u8>) {
        write::message_data(number_of(self.told.len()).saturating_sub(1), "EXISTS", out);
        // RFC 9051 §2.3.2 did away with \Recent; RFC 3501 §7.3.2 still wants the line.
        if !self.dialect.rev2 {
            write::message_data(0, "RECENT", out);
        }
    }

    /// Notes a change; the client is not told yet.
    pub fn note(&mut self, event: SessionEvent) {
        // What comes behind what was lost is found out with it.
        if self.fate != Fate::Selected && event != SessionEvent::Gone {
            return;
        }
        self.contexts.events += 1;
        match event {
            SessionEvent::Keywords(keywords) => {
                self.keywords_changed = true;
                self.keywords = keywords;
            }
            SessionEvent::Added(records) => {
                self.hear(&records);
                records.into_iter().for_each(|record| self.add(record));
            }
            SessionEvent::Changed(records) => {
                self.hear(&records);
                records.iter().for_each(|record| self.change(record));
            }
            SessionEvent::Removed(ranges) => self.remove(&Ranges::new(ranges)),
            SessionEvent::Resync => self.fate = Fate::Stale,
            SessionEvent::Gone => self.fate = Fate::Gone,
            // RFC 4314 §5.1.1: the client is told which flags it can keep now.
            SessionEvent::Rights(rights) => {
                self.keywords_changed = true;
                self.rights = rights;
            }
            // Not to this one.
            SessionEvent::Happened => {}
        }
    }

    fn add(&mut self, record: Record) {
        self.noted = self.noted.max(record.modseq.saturating_sub(1));
        let next = self
            .fresh
            .last()
            .map_or(0, |last| last.uid.saturating_add(1));
        if record.uid >= next.max(self.told_below) {
            self.fresh.push(record);
        }
    }

    fn change(&mut self, record: &Record) {
        // The rest of the same change may be in an event that is yet to come.
        self.noted = self.noted.max(record.modseq.saturating_sub(1));
        let uid = record.uid;
        self.told.changed(shard_of(uid), record.modseq);
        self.contexts.touch(uid);
        if uid >= self.told_below {
            self.update(record);
        } else if let Some(page) = self.told.page_mut(shard_of(uid)) {
            let Some(known) = page.message_mut(uid) else {
                return;
            };
            // An event from before a comparison knows less than the comparison.
            if record.modseq < known.modseq {
                return;
            }
            if (known.flags, known.keywords) != (record.flags, record.keywords) {
                self.changed.insert(uid);
            }
            *known = *record;
        } else if self.told.count(shard_of(uid)) != 0 {
            self.changed.insert(uid);
        }
    }

    /// What is known of a message, if it is not newer.
    fn update(&mut self, record: &Record) {
        let known = if record.uid < self.told_below {
            let page = self.told.page_mut(shard_of(record.uid));
            page.and_then(|page| page.message_mut(record.uid))
        } else {
            let place = self
                .fresh
                .binary_search_by_key(&record.uid, |fresh| fresh.uid);
            place.ok().and_then(|place| self.fresh.get_mut(place))
        };
        if let Some(known) = known.filter(|known| known.modseq <= record.modseq) {
            *known = *record;
        }
    }

    fn remove(&mut self, ranges: &Ranges) {
        let fresh = &mut self.fresh;
        let untold = fresh.extract_if(.., |message| ranges.contains(message.uid));
        let untold = untold.map(|message| message.uid).collect();
        self.forget(untold);
        let Some(last_told) = self.told_below.checked_sub(1) else {
            return;
        };
        if self.gone.is_empty() {
            self.before_gone = self.noted;
        }
        for &(first, last) in ranges.as_slice() {
            let last = last.min(last_told);
            for number in self.told.overlapping(first, last) {
                let uids = uids_of(number);
                let (first, last) = (first.max(*uids.start()), last.min(*uids.end()));
                if let Some(page) = self.told.page(number) {
                    let gone = page.uids().filter(|uid| (first..=last).contains(uid));
                    self.gone.extend(gone);
                } else {
                    // No others are named than those that were there.
                    self.gone.extend(first..=last);
                }
            }
        }
    }

    /// Takes in pages that were read, and the events that came before the answer, or with it. Pages that do not fit what is known
    /// are not kept: changes were lost.
    pub fn take(&mut self, pages: Pages, events: Vec<SessionEvent>) {
        let replay = self.note_all(events);
        for (number, records) in pages {
            if self.fate != Fate::Selected {
                return;
            }
            let records = records.into_iter();
            let told = records.filter(|record| record.uid < self.told_below);
            let page = Page::new(told.collect(), self.gone.range(uids_of(number)).copied());
            if page.len() == self.told.count(number) {
                self.told.keep(number, page);
            } else {
                self.fate = Fate::Stale;
            }
        }
        // Some of these happened after the pages were read.
        replay.iter().for_each(|record| self.update(record));
    }

    /// Notes changes. Those of flags are given back.
    fn note_all(&mut self, events: Vec<SessionEvent>) -> Vec<Record> {
        let changed = |event: &SessionEvent| match event {
            SessionEvent::Changed(records) => records.clone(),
            SessionEvent::Keywords(_)
            | SessionEvent::Added(_)
            | SessionEvent::Removed(_)
            | SessionEvent::Resync
            | SessionEvent::Gone
            | SessionEvent::Rights(_)
            | SessionEvent::Happened => Vec::new(),
        };
        let replay = events.iter().flat_map(changed).collect();
        events.into_iter().for_each(|event| self.note(event));
        replay
    }

    /// Whether there is something to tell.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.keywords_changed
            || !self.fresh.is_empty()
            || !self.changed.is_empty()
            || !self.gone.is_empty()
    }

    /// Tells the client what it does not know.
    ///
    /// # Errors
    /// [`Lacking`] where pages are needed to go on: to be called again when they are here.
    pub fn tell(&mut self, expunges: Expunges, out: &mut Vec<u8>) -> Result<(), Lacking> {
        if self.keywords_changed && self.wanted != Wanted::NOTHING {
            self.keywords_changed = false;
            self.write_flags(out);
        }
        if !self.wanted.flags {
            self.changed.clear();
        }
        while let Some(uid) = self.changed.first().copied() {
            if !self.gone.contains(&uid) {
                let index = self.told.index_of(uid);
                let index = index.map_err(|_| Lacking(self.shards_of(&self.changed)))?;
                if let Some(index) = index {
                    self.write_change(index, Numbering::Uid, out);
                }
            }
            self.changed.remove(&uid);
        }
        self.tell_removed(out)?;
        if !self.wanted.messages && expunges != Expunges::Due {
            return Ok(());
        }
        if expunges != Expunges::Held {
            self.tell_gone(out)?;
        } else if self.awareness == Awareness::QResync && !self.gone.is_empty() {
            // RFC 7162 §3.2.10.2: a client that loses the connection now must not believe that it knows of all before the
            // largest MODSEQ it has heard.
            let code = Code::HighestModSeq(self.before_gone);
            response::untagged(Kind::Ok, Some(&code), "more is to be told", out);
        }
        if !self.fresh.is_empty() {
            self.to_show += self.fresh.len();
            for record in std::mem::take(&mut self.fresh) {
                self.told_below = record.uid.saturating_add(1);
                self.told.push(record);
            }
            self.write_count(out);
        }
        Ok(())
    }

    /// The first shards of these UIDs.
    fn shards_of(&self, uids: &BTreeSet<u32>) -> Vec<u32> {
        let mut next = uids.first().copied();
        let mut shards = Vec::new();
        while let Some(uid) = next.filter(|_| shards.len() < PAGES_PER_READ) {
            shards.push(shard_of(uid));
            let behind = uids_of(shard_of(uid)).end().checked_add(1);
            next = behind.and_then(|behind| uids.range(behind..).next().copied());
        }
        shards
    }

    /// Tells one message's flags, and regards them as told.
    pub fn tell_flags(&mut self, index: usize, by: Numbering, out: &mut Vec<u8>) {
        if let Some(uid) = self.told.uid(index) {
            self.changed.remove(&uid);
            self.write_change(index, by, out);
        }
    }

    /// The client knows these flags already, or does not want to hear.
    pub fn regard_as_told(&mut self, uid: u32) {
        self.changed.remove(&uid);
    }

    fn write_change(&self, index: usize, by: Numbering, out: &mut Vec<u8>) {
        let Some(message) = self.told.message(index) else {
            return;
        };
        self.begin_change(index, message, by, out);
        out.extend_from_slice(b"FLAGS ");
        self.write_flags_of(message, out);
        if self.awareness >= Awareness::CondStore {
            out.push(b' ');
            write_modseq(message, out);
        }
        write::fetch_end(out);
    }

    /// Tells one message's modification sequence, to a client that knows its flags.
    pub fn tell_modseq(&self, index: usize, by: Numbering, out: &mut Vec<u8>) {
        let Some(message) = self.told.message(index) else {
            return;
        };
        self.begin_change(index, message, by, out);
        write_modseq(message, out);
        write::fetch_end(out);
    }

    // RFC 7162 §3.2, RFC 9051 §7.5.2: whoever knows QRESYNC or IMAP4rev2 always hears UIDs.
    fn begin_change(&self, index: usize, message: &Record, by: Numbering, out: &mut Vec<u8>) {
        // RFC 9586 §3.3: there the line begins with it.
        if self.dialect.uid_only {
            write::fetch_begin(Numbering::Uid, message.uid, out);
            return;
        }
        write::fetch_begin(Numbering::Sequence, number_of(index), out);
        if by == Numbering::Uid || self.awareness == Awareness::QResync || self.dialect.rev2 {
            out.extend_from_slice(b"UID ");
            write::number(u64::from(message.uid), out);
            out.push(b' ');
        }
    }

    // RFC 3501 §7.4.1: each EXPUNGE renumbers what follows; going backwards, numbers stay what they were.
    // RFC 7162 §3.2.10, RFC 9586 §3.4: VANISHED instead of it, for all of them.
    fn tell_gone(&mut self, out: &mut Vec<u8>) -> Result<(), Lacking> {
        let mut vanished = Vec::new();
        let told = loop {
            let Some(last) = self.gone.last().copied() else {
                break Ok(());
            };
            let number = shard_of(last);
            let gone: BTreeSet<u32> = self.gone.range(uids_of(number)).copied().collect();
            let places = match self.told.cut(number, &gone) {
                Ok(places) => places,
                Err(lacking) => break Err(lacking),
            };
            if self.awareness == Awareness::QResync || self.dialect.uid_only {
                vanished.extend(gone.iter().map(|uid| (*uid, *uid)));
            } else {
                for index in places.into_iter().rev() {
                    write::message_data(number_of(index), "EXPUNGE", out);
                }
            }
            // All that are in no shard before.
            let told = self.gone.split_off(uids_of(number).start());
            self.forget(told);
        };
        write::vanished(false, Ranges::new(vanished).as_slice(), out);
        told
    }

    /// They are gone, and the client has no numbers for them: it was told, or never heard of them.
    fn forget(&mut self, mut uids: BTreeSet<u32>) {
        self.told_gone.append(&mut uids);
        while self.told_gone.len() > GONE_KEPT {
            self.told_gone.pop_first();
        }
    }

    /// How many messages have UIDs below this one.
    ///
    /// # Errors
    /// [`Lacking`].
    pub fn below(&self, uid: u32) -> Result<usize, Lacking> {
        if uid >= self.told_below {
            return Ok(self.told.len());
        }
        self.told.below(uid)
    }

    /// Those of the first pages of these places that are not here. The others are kept for longer.
    pub fn lacking(&mut self, places: &Range<usize>) -> Vec<u32> {
        self.told.lacking(places)
    }

    /// Those of some pages that are not here. The others are kept for longer.
    pub fn without_page(&mut self, shards: Vec<u32>) -> Vec<u32> {
        self.told.without_page(shards)
    }

    /// The places of all messages on the pages on which one changed after `modseq`. All others did not change since then.
    #[must_use]
    pub fn changed_since(&self, modseq: u64) -> Vec<Range<usize>> {
        let pages = self.told.changed_since(modseq);
        pages.map(|(_, places)| places).collect()
    }

    /// The pages with any of `uids` on which a message changed after `modseq`, with the places of all their messages.
    #[must_use]
    pub fn changed_since_among(&self, modseq: u64, uids: &Ranges) -> Vec<(u32, Range<usize>)> {
        let pages = self.told.changed_since(modseq);
        let is_meant = |(number, _): &(u32, _)| {
            let (first, last) = uids_of(*number).into_inner();
            uids.meets(first, last)
        };
        pages.filter(is_meant).collect()
    }

    /// The page on which the message at a place is.
    #[must_use]
    pub fn shard_at(&self, index: usize) -> Option<u32> {
        self.told.shard_at(index)
    }

    /// The UID of the message at a place, if its page is here.
    #[must_use]
    pub fn uid(&self, index: usize) -> Option<u32> {
        self.told.uid(index)
    }

    /// The message at a place, if its page is here. `None` as well if it was gone before that was read.
    #[must_use]
    pub fn message(&self, index: usize) -> Option<&Record> {
        self.told.message(index)
    }

    /// How many messages the client knows of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.told.len()
    }

    /// Whether the client knows of none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.told.len() == 0
    }

    /// All messages that the client has numbers for have UIDs up to this one.
    #[must_use]
    pub const fn last_possible_uid(&self) -> u32 {
        self.told_below.saturating_sub(1)
    }

    /// The UIDs of all messages that are gone without the client knowing.
    #[must_use]
    pub fn untold_gone(&self) -> Ranges {
        Ranges::new(self.gone.iter().map(|uid| (*uid, *uid)).collect())
    }

    /// Whether a message is gone without the client knowing.
    #[must_use]
    pub fn is_gone(&self, uid: u32) -> bool {
        self.gone.contains(&uid)
    }

    /// Those of the messages in `uids` of whose changes the client has yet to hear.
    #[must_use]
    pub fn changed_among(&self, uids: &[(u32, u32)]) -> BTreeSet<u32> {
        let ranges = uids.iter();
        let changed = ranges.flat_map(|(first, last)| self.changed.range(first..=last));
        changed.copied().collect()
    }

    /// Whether the client has yet to hear of a change of this message.
    #[must_use]
    pub fn has_changed(&self, uid: u32) -> bool {
        self.changed.contains(&uid)
    }

    /// The flags of a message.
    #[must_use]
    pub fn flags_of(&self, message: &Record) -> Vec<Flag> {
        let mut flags: Vec<Flag> = SYSTEM
            .iter()
            .filter(|(bit, _)| message.flags & bit != 0)
            .map(|(_, flag)| flag.clone())
            .collect();
        if message.keywords != 0 {
            let set = self.known_keywords();
            let set = set.filter(|(index, _)| *index < 64 && message.keywords >> index & 1 == 1);
            flags.extend(set.map(|(_, keyword)| keyword));
        }
        flags
    }

    /// Writes the flags of a message.
    pub fn write_flags_of(&self, message: &Record, out: &mut Vec<u8>) {
        let start = out.len();
        for (bit, flag) in &SYSTEM {
            if message.flags & bit != 0 {
                out.push(b' ');
                flag.write(out);
            }
        }
        if message.keywords != 0 {
            let set = self.keywords.iter().take(64).enumerate();
            let set = set.filter(|(index, _)| message.keywords >> index & 1 == 1);
            for (_, keyword) in set.filter(|(_, keyword)| flag::is_keyword(keyword)) {
                out.push(b' ');
                out.extend_from_slice(keyword.as_bytes());
            }
        }
        match out.get_mut(start) {
            Some(blank) => *blank = b'(',
            None => out.push(b'('),
        }
        out.push(b')');
    }

    /// The keyword table.
    #[must_use]
    pub fn keywords(&self) -> &[String] {
        &self.keywords
    }
}

fn write_modseq(message: &Record, out: &mut Vec<u8>) {
    out.extend_from_slice(b"MODSEQ ");
    write::modseq(message.modseq, out);
}

const SYSTEM: [(u8, Flag); 5] = [
    (bit::ANSWERED, Flag::Answered),
    (bit::FLAGGED, Flag::Flagged),
    (bit::DELETED, Flag::Deleted),
    (bit::SEEN, Flag::Seen),
    (bit::DRAFT, Flag::Draft),
];

/// The sequence number of a place.
#[must_use]
pub fn number_of(index: usize) -> u32 {
    u32::try_from(index).map_or(u32::MAX, |index| index.saturating_add(1))
}

#[cfg(test)]
mod tests;
