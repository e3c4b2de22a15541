//! The selected mailbox as this client has been told it is: numbers stay valid until the client hears of a change.
//!
//! Changes come at any time and are noted at once; the client is told when RFC 3501 allows it. Sequence number n is the n-th
//! message in [`View`], also if it is gone meanwhile and the client does not know.

use std::collections::BTreeSet;
use std::ops::Range;

use imap::command::Numbering;
use imap::flag::{self, Flag};
use imap::response::{self, Code, Kind};
use imap::sequence::{Ranges, SequenceSet};
use imap::write;
use ipc::session::{MAX_KEYWORDS, SessionEvent};
use ipc::snapshot::{Record, flag as bit};

use crate::ask::Selection;
use crate::cache::notes::Notes;

/// A selected mailbox.
#[derive(Debug)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Whether changes are refused.
    pub read_only: bool,
    /// What was worked out about its messages and is not given away yet.
    pub notes: Notes,
    uid_next: u32,
    uid_validity: u32,
    /// What the client has numbers for.
    messages: Vec<Record>,
    keywords: Vec<String>,
    /// New messages the client does not know of.
    fresh: Vec<Record>,
    /// UIDs whose flags the client does not know.
    changed: BTreeSet<u32>,
    /// UIDs that are gone without the client knowing.
    gone: BTreeSet<u32>,
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
}

/// Whether the client may be told that messages are gone.
// RFC 3501 §7.4.1: not while no command is in progress, nor while responding to FETCH, STORE or SEARCH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expunges {
    /// Yes.
    Allowed,
    /// Not now.
    Held,
}

/// A sequence number beyond the last message was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchNumber;

impl View {
    /// A mailbox that was just selected.
    #[must_use]
    pub fn new(name: String, selection: Selection) -> Self {
        Self {
            name,
            read_only: selection.read_only,
            notes: Notes::default(),
            uid_next: selection.status.uid_next,
            uid_validity: selection.status.uid_validity,
            messages: selection.messages,
            keywords: selection.keywords,
            fresh: Vec::new(),
            changed: BTreeSet::new(),
            gone: BTreeSet::new(),
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
    pub fn introduce(&self, out: &mut Vec<u8>) {
        self.write_flags(out);
        self.write_count(out);
        let unseen = self
            .messages
            .iter()
            .position(|message| message.flags & bit::SEEN == 0);
        if let Some(index) = unseen {
            let code = Code::Unseen(number_of(index));
            response::untagged(Kind::Ok, Some(&code), "first unseen", out);
        }
        let code = Code::UidValidity(self.uid_validity);
        response::untagged(Kind::Ok, Some(&code), "UIDs are valid", out);
        let code = Code::UidNext(self.uid_next);
        response::untagged(Kind::Ok, Some(&code), "next UID", out);
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
        let more = !self.read_only && self.keywords.len() < MAX_KEYWORDS;
        if self.read_only {
            flags.clear();
        }
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
        write::message_data(
            number_of(self.messages.len()).saturating_sub(1),
            "EXISTS",
            out,
        );
        // RFC 9051 §2.3.2 did away with \Recent; RFC 3501 §7.3.2 still wants the line.
        write::message_data(0, "RECENT", out);
    }

    /// Notes a change; the client is not told yet.
    pub fn note(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Keywords(keywords) => {
                self.keywords_changed = true;
                self.keywords = keywords;
            }
            SessionEvent::Added(records) => records.into_iter().for_each(|record| self.add(record)),
            SessionEvent::Changed(records) => {
                records.into_iter().for_each(|record| self.change(record));
            }
            SessionEvent::Removed(ranges) => self.remove(&Ranges::new(ranges)),
            SessionEvent::Resync if self.fate == Fate::Selected => self.fate = Fate::Stale,
            SessionEvent::Resync => {}
            SessionEvent::Gone => self.fate = Fate::Gone,
        }
    }

    fn add(&mut self, record: Record) {
        let last = self.fresh.last().or(self.messages.last());
        if last.is_none_or(|last| last.uid < record.uid) {
            self.fresh.push(record);
        }
    }

    fn change(&mut self, record: Record) {
        if let Some(index) = self.index_of(record.uid) {
            let Some(known) = self.messages.get_mut(index) else {
                return;
            };
            // An event from before a comparison knows less than the comparison.
            if record.modseq < known.modseq {
                return;
            }
            if (known.flags, known.keywords) != (record.flags, record.keywords) {
                self.changed.insert(record.uid);
            }
            *known = record;
        } else if let Ok(index) = self
            .fresh
            .binary_search_by_key(&record.uid, |fresh| fresh.uid)
            && let Some(fresh) = self.fresh.get_mut(index)
        {
            *fresh = record;
        }
    }

    fn remove(&mut self, ranges: &Ranges) {
        self.fresh.retain(|message| !ranges.contains(message.uid));
        for &(first, last) in ranges.as_slice() {
            let known = self.indexes_of_uids(first, last);
            let known = self.messages.get(known).unwrap_or_default();
            self.gone.extend(known.iter().map(|message| message.uid));
        }
    }

    /// Compares with a mailbox that was selected again; returns false if it is another one.
    pub fn compare(&mut self, selection: Selection) -> bool {
        if selection.status.uid_validity != self.uid_validity {
            return false;
        }
        self.fate = Fate::Selected;
        if self.keywords != selection.keywords {
            self.note(SessionEvent::Keywords(selection.keywords));
        }
        self.uid_next = selection.status.uid_next;
        let known = self.messages.last().map_or(0, |last| last.uid);
        let there: Vec<u32> = selection.messages.iter().map(|new| new.uid).collect();
        for message in &self.messages {
            if there.binary_search(&message.uid).is_err() {
                self.gone.insert(message.uid);
            }
        }
        self.fresh.clear();
        for record in selection.messages {
            if record.uid > known {
                self.fresh.push(record);
            } else {
                self.change(record);
            }
        }
        true
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
    pub fn tell(&mut self, expunges: Expunges, out: &mut Vec<u8>) {
        if self.keywords_changed {
            self.keywords_changed = false;
            self.write_flags(out);
        }
        let changed = std::mem::take(&mut self.changed);
        for uid in changed.difference(&self.gone) {
            self.write_change(*uid, Numbering::Uid, out);
        }
        if expunges == Expunges::Allowed && !self.gone.is_empty() {
            self.tell_gone(out);
        }
        if !self.fresh.is_empty() {
            self.messages.append(&mut self.fresh);
            self.write_count(out);
        }
    }

    /// Tells one message's flags, and regards them as told.
    pub fn tell_flags(&mut self, index: usize, by: Numbering, out: &mut Vec<u8>) {
        if let Some(message) = self.messages.get(index) {
            let uid = message.uid;
            self.changed.remove(&uid);
            self.write_change(uid, by, out);
        }
    }

    /// The client knows these flags already, or does not want to hear.
    pub fn regard_as_told(&mut self, uid: u32) {
        self.changed.remove(&uid);
    }

    fn write_change(&self, uid: u32, by: Numbering, out: &mut Vec<u8>) {
        let Some(index) = self.index_of(uid) else {
            return;
        };
        let Some(message) = self.messages.get(index) else {
            return;
        };
        write::fetch_begin(number_of(index), out);
        if by == Numbering::Uid {
            out.extend_from_slice(b"UID ");
            write::number(u64::from(uid), out);
            out.push(b' ');
        }
        out.extend_from_slice(b"FLAGS ");
        self.write_flags_of(message, out);
        write::fetch_end(out);
    }

    // RFC 3501 §7.4.1: each EXPUNGE renumbers what follows; going backwards, numbers stay what they were.
    fn tell_gone(&mut self, out: &mut Vec<u8>) {
        let gone = std::mem::take(&mut self.gone);
        for uid in gone.iter().rev() {
            if let Some(index) = self.index_of(*uid) {
                write::message_data(number_of(index), "EXPUNGE", out);
            }
        }
        self.messages.retain(|message| !gone.contains(&message.uid));
    }

    /// The messages the client means, as places in the view.
    ///
    /// # Errors
    /// [`NoSuchNumber`] where a sequence number names no message.
    // RFC 3501 §9, seq-number: a number that is no message's is an error; a UID that is nobody's is ignored.
    pub fn pick(
        &self,
        by: Numbering,
        set: &SequenceSet,
    ) -> Result<Vec<Range<usize>>, NoSuchNumber> {
        let count = self.messages.len();
        match by {
            Numbering::Sequence => {
                if set.largest_named() as usize > count {
                    return Err(NoSuchNumber);
                }
                let place = |&(first, last): &(u32, u32)| {
                    (first as usize).saturating_sub(1)..(last as usize).min(count)
                };
                let ranges = set.resolve(number_of(count).saturating_sub(1));
                let places = ranges.as_slice().iter().map(place);
                Ok(places.filter(|range| !range.is_empty()).collect())
            }
            Numbering::Uid => {
                let last = self.messages.last().map_or(0, |last| last.uid);
                let ranges = set.resolve(last);
                let places = ranges.as_slice().iter();
                let places = places.map(|&(first, last)| self.indexes_of_uids(first, last));
                Ok(places.filter(|range| !range.is_empty()).collect())
            }
        }
    }

    /// The UIDs at these places, as ranges. Nobody the client knows of is between the ends who was not meant.
    #[must_use]
    pub fn uid_ranges(&self, places: &[Range<usize>]) -> Vec<(u32, u32)> {
        let ends = |range: &Range<usize>| {
            let messages = self.messages.get(range.clone())?;
            Some((messages.first()?.uid, messages.last()?.uid))
        };
        places.iter().filter_map(ends).collect()
    }

    /// The same, but a range holds nothing but UIDs that were meant: as many ranges as an answer that names them all.
    #[must_use]
    pub fn exact_uid_ranges(&self, places: &[Range<usize>]) -> Ranges {
        let messages = places.iter().cloned().flatten();
        let messages = messages.filter_map(|index| self.messages.get(index));
        Ranges::new(messages.map(|message| (message.uid, message.uid)).collect())
    }

    /// The message at a place.
    #[must_use]
    pub fn message(&self, index: usize) -> Option<&Record> {
        self.messages.get(index)
    }

    /// How many messages the client knows of.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether the client knows of none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The largest UID the client knows of; 0 if none.
    #[must_use]
    pub fn last_uid(&self) -> u32 {
        self.messages.last().map_or(0, |last| last.uid)
    }

    /// Whether a message is gone without the client knowing.
    #[must_use]
    pub fn is_gone(&self, uid: u32) -> bool {
        self.gone.contains(&uid)
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

    fn index_of(&self, uid: u32) -> Option<usize> {
        let found = self
            .messages
            .binary_search_by_key(&uid, |message| message.uid);
        found.ok()
    }

    fn indexes_of_uids(&self, first: u32, last: u32) -> Range<usize> {
        let start = self.messages.partition_point(|message| message.uid < first);
        let end = self.messages.partition_point(|message| message.uid <= last);
        start..end
    }
}

const SYSTEM: [(u8, Flag); 5] = [
    (bit::ANSWERED, Flag::Answered),
    (bit::FLAGGED, Flag::Flagged),
    (bit::DELETED, Flag::Deleted),
    (bit::SEEN, Flag::Seen),
    (bit::DRAFT, Flag::Draft),
];

/// Whether a message has a flag, in a mailbox with these keywords.
// RFC 3501 §2.3.2: keywords, like all flags, are the same in any case.
#[must_use]
pub fn has_flag(keywords: &[String], message: &Record, flag: &Flag) -> bool {
    let Flag::Keyword(wanted) = flag else {
        let (bits, _) = store_form(std::slice::from_ref(flag));
        return message.flags & bits != 0;
    };
    let named = |keyword: &String| keyword.eq_ignore_ascii_case(wanted);
    let index = keywords.iter().position(named);
    index.is_some_and(|index| index < 64 && message.keywords >> index & 1 == 1)
}

/// Flags as deliverd takes them: bits and keywords.
#[must_use]
pub fn store_form(flags: &[Flag]) -> (u8, Vec<String>) {
    let mut bits = 0;
    let mut keywords = Vec::new();
    for flag in flags {
        match flag {
            Flag::Answered => bits |= bit::ANSWERED,
            Flag::Deleted => bits |= bit::DELETED,
            Flag::Draft => bits |= bit::DRAFT,
            Flag::Flagged => bits |= bit::FLAGGED,
            Flag::Seen => bits |= bit::SEEN,
            Flag::Keyword(keyword) => keywords.push(keyword.clone()),
        }
    }
    (bits, keywords)
}

/// The sequence number of a place.
#[must_use]
pub fn number_of(index: usize) -> u32 {
    u32::try_from(index).map_or(u32::MAX, |index| index.saturating_add(1))
}

#[cfg(test)]
mod tests;
