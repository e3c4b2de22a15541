//! What SEARCH looks for, and whether a message is it.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::command::Numbering;
use crate::flag::Flag;
use crate::sequence::{Ranges, SequenceSet};

/// Search keys nested deeper than this are refused.
pub const MAX_DEPTH: usize = 32;
/// A search of more keys is refused: each is looked at for each message.
pub const MAX_KEYS: usize = 1000;
/// A search for more texts is refused: for each, messages are decoded.
pub const MAX_TEXTS: usize = 50;

/// A search key. As the client gives it, its sets may name the last message; [`Key::resolve`] settles what that is.
// RFC 3501 §6.4.4. Days count from 1970-01-01.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key<S = SequenceSet> {
    /// ALL
    All,
    /// Sequence numbers.
    Sequence(S),
    /// UID
    Uid(S),
    /// UIDAFTER (RFC 9738 §3.2): its UID is larger.
    UidAfter(u32),
    /// UIDBEFORE: its UID is smaller.
    UidBefore(u32),
    /// ANSWERED, KEYWORD and their kin; UN… is [`Key::Not`] of it.
    Flag(Flag),
    /// RECENT, and NEW and OLD by way of it. No message is recent here (RFC 9051 §2.3.2 did away with it).
    Recent,
    /// Received before, on or since that day.
    Received(When, i64),
    /// SAVEDBEFORE and its kin: it came into the mailbox before, on or since that day (RFC 8514 §4.3).
    Saved(When, i64),
    /// EMAILID (RFC 8474 §5.3); `None` for an id that no message can have.
    EmailId(Option<u128>),
    /// THREADID; `None` for an id that no conversation can have.
    ThreadId(Option<u128>),
    /// The Date: field says before, on or since that day.
    Sent(When, i64),
    /// LARGER
    Larger(u64),
    /// SMALLER
    Smaller(u64),
    /// OLDER: it came so many seconds ago, or earlier (RFC 5032).
    Older(u32),
    /// YOUNGER: it came so many seconds ago, or later.
    Younger(u32),
    /// MODSEQ: its modification sequence is this or a later one (RFC 7162 §3.1.5).
    ModSeq(u64),
    /// A field of the header contains a text: HEADER, FROM, SUBJECT, …
    Header {
        /// Name of the field.
        name: String,
        /// What it contains; anything if empty.
        text: String,
    },
    /// BODY
    Body(String),
    /// TEXT
    Text(String),
    /// FUZZY: texts of that key are found where they are near enough (RFC 6203).
    Fuzzy(Box<Self>),
    /// NOT
    Not(Box<Self>),
    /// OR
    Or(Box<Self>, Box<Self>),
    /// All of them.
    And(Vec<Self>),
}

/// How a date compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Earlier than that day.
    Before,
    /// On that day.
    On,
    /// On that day or later.
    Since,
}

impl When {
    const fn holds(self, day: i64, wanted: i64) -> bool {
        match self {
            Self::Before => day < wanted,
            Self::On => day == wanted,
            Self::Since => day >= wanted,
        }
    }
}

/// How much of a message must be read to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Nothing of it: flags, numbers, dates and sizes suffice.
    Nothing,
    /// Its header.
    Header,
    /// All of it.
    Whole,
}

/// Where a text is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within<'a> {
    /// In the fields of that name.
    Field(&'a str),
    /// In the body.
    Body,
    /// In header and body.
    Text,
}

/// A message under search. Questions about what was not read are answered `None`.
pub trait Subject {
    /// Its sequence number.
    fn sequence(&self) -> u32;
    /// Its UID.
    fn uid(&self) -> u32;
    /// Whether it has the flag.
    fn has_flag(&self, flag: &Flag) -> bool;
    /// Bytes.
    fn size(&self) -> u64;
    /// Modification sequence.
    fn modseq(&self) -> u64;
    /// Seconds since the INTERNALDATE.
    fn age(&self) -> i64;
    /// EMAILID.
    fn email_id(&self) -> Option<u128>;
    /// THREADID; the inner `None` if it is in no conversation.
    fn thread_id(&self) -> Option<Option<u128>>;
    /// Day on which it came into the mailbox, if that is known.
    fn saved_on(&self) -> Option<i64>;
    /// Day of the INTERNALDATE.
    fn received_on(&self) -> i64;
    /// Day its Date: field names; the inner `None` if there is none or it cannot be read.
    fn sent_on(&self) -> Option<Option<i64>>;
    /// Whether a field of that name contains the text.
    fn header_contains(&self, name: &str, text: &str) -> Option<bool>;
    /// Whether the body contains the text.
    fn body_contains(&self, text: &str) -> Option<bool>;
    /// Whether header or body contains the text.
    fn text_contains(&self, text: &str) -> Option<bool>;
    /// How near that which is there comes to the text: 1 to 100, or 0 where it is not found.
    fn nearness(&self, within: Within<'_>, text: &str) -> Option<u8>;
}

impl Key {
    /// How many keys there are in it, and how many of them look for a text.
    #[must_use]
    pub fn weight(&self) -> (usize, usize) {
        let add = |a: (usize, usize), b: (usize, usize)| (a.0 + b.0, a.1 + b.1);
        let inner = match self {
            Self::Header { .. } | Self::Body(_) | Self::Text(_) => (0, 1),
            Self::Fuzzy(key) | Self::Not(key) => key.weight(),
            Self::Or(a, b) => add(a.weight(), b.weight()),
            Self::And(keys) => keys.iter().map(Self::weight).fold((0, 0), add),
            _ => (0, 0),
        };
        add((1, 0), inner)
    }

    /// Whether the client asks for modification sequences, and so wants to hear of them.
    #[must_use]
    pub fn names_modseq(&self) -> bool {
        self.any(&|key| matches!(key, Self::ModSeq(_)))
    }

    /// Whether it names messages by their place in the mailbox.
    #[must_use]
    pub fn names_sequence(&self) -> bool {
        self.any(&|key| matches!(key, Self::Sequence(SequenceSet::Named(_))))
    }

    /// Whether EMAILIDs have to be known.
    #[must_use]
    pub fn names_email_id(&self) -> bool {
        self.any(&|key| matches!(key, Self::EmailId(Some(_))))
    }

    /// Whether it has to be known when messages came into the mailbox.
    #[must_use]
    pub fn names_save_date(&self) -> bool {
        self.any(&|key| matches!(key, Self::Saved(..)))
    }

    /// Whether which messages it means changes as others come and go: it counts them, or names the last.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.any(&|key| match key {
            Self::Sequence(SequenceSet::Saved) => false,
            Self::Sequence(set) => !set.is_all(),
            Self::Uid(set) => set.names_last() && !set.is_all(),
            _ => false,
        })
    }

    fn any(&self, is_it: &impl Fn(&Self) -> bool) -> bool {
        match self {
            Self::Fuzzy(key) | Self::Not(key) => key.any(is_it),
            Self::Or(a, b) => a.any(is_it) || b.any(is_it),
            Self::And(keys) => keys.iter().any(|key| key.any(is_it)),
            key => is_it(key),
        }
    }

    /// All texts that are looked for in messages.
    #[must_use]
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Self::Header { text, .. } | Self::Body(text) | Self::Text(text) => alloc::vec![text],
            Self::Fuzzy(key) | Self::Not(key) => key.texts(),
            Self::Or(a, b) => [a.texts(), b.texts()].concat(),
            Self::And(keys) => keys.iter().flat_map(Self::texts).collect(),
            _ => Vec::new(),
        }
    }

    /// Settles what the sets mean while these are the largest sequence number and UID in use, and `$` means these UIDs.
    #[must_use]
    pub fn resolve(self, last_sequence: u32, last_uid: u32, saved: &Ranges) -> Key<Ranges> {
        let one = |key: Self| key.resolve(last_sequence, last_uid, saved);
        match self {
            Self::All => Key::All,
            // Also of messages that are yet to come.
            Self::Sequence(set) | Self::Uid(set) if set.is_all() => Key::All,
            Self::Sequence(SequenceSet::Saved) | Self::Uid(SequenceSet::Saved) => {
                Key::Uid(saved.clone())
            }
            Self::Sequence(set) => Key::Sequence(set.resolve(last_sequence)),
            Self::Uid(set) => Key::Uid(set.resolve(last_uid)),
            Self::UidAfter(uid) => Key::UidAfter(uid),
            Self::UidBefore(uid) => Key::UidBefore(uid),
            Self::Flag(flag) => Key::Flag(flag),
            Self::Recent => Key::Recent,
            Self::Received(when, day) => Key::Received(when, day),
            Self::Saved(when, day) => Key::Saved(when, day),
            Self::EmailId(id) => Key::EmailId(id),
            Self::ThreadId(id) => Key::ThreadId(id),
            Self::Sent(when, day) => Key::Sent(when, day),
            Self::Larger(size) => Key::Larger(size),
            Self::Smaller(size) => Key::Smaller(size),
            Self::Older(seconds) => Key::Older(seconds),
            Self::Younger(seconds) => Key::Younger(seconds),
            Self::ModSeq(modseq) => Key::ModSeq(modseq),
            Self::Header { name, text } => Key::Header { name, text },
            Self::Body(text) => Key::Body(text),
            Self::Text(text) => Key::Text(text),
            Self::Fuzzy(key) => Key::Fuzzy(Box::new(one(*key))),
            Self::Not(key) => Key::Not(Box::new(one(*key))),
            Self::Or(a, b) => Key::Or(Box::new(one(*a)), Box::new(one(*b))),
            Self::And(keys) => Key::And(keys.into_iter().map(one).collect()),
        }
    }

    /// The largest sequence number the client named; more than there are messages is its mistake.
    #[must_use]
    pub fn largest_sequence(&self) -> u32 {
        match self {
            Self::Sequence(set) => set.largest_named(),
            Self::Fuzzy(key) | Self::Not(key) => key.largest_sequence(),
            Self::Or(a, b) => a.largest_sequence().max(b.largest_sequence()),
            Self::And(keys) => keys.iter().map(Self::largest_sequence).max().unwrap_or(0),
            _ => 0,
        }
    }
}

impl Key<Ranges> {
    /// Whether a message may match, or match no more, because its flags changed.
    #[must_use]
    pub fn is_of_flags(&self) -> bool {
        match self {
            Self::Flag(_) | Self::ModSeq(_) => true,
            Self::Fuzzy(key) | Self::Not(key) => key.is_of_flags(),
            Self::Or(a, b) => a.is_of_flags() || b.is_of_flags(),
            Self::And(keys) => keys.iter().any(Self::is_of_flags),
            _ => false,
        }
    }

    /// Bytes of memory that the keys and their sets take; texts are not counted.
    #[must_use]
    pub fn memory(&self) -> usize {
        let inner = match self {
            Self::Sequence(set) | Self::Uid(set) => size_of_val(set.as_slice()),
            Self::Fuzzy(key) | Self::Not(key) => key.memory(),
            Self::Or(a, b) => a.memory() + b.memory(),
            Self::And(keys) => keys.iter().map(Self::memory).sum(),
            _ => 0,
        };
        size_of::<Self>() + inner
    }

    /// The ages, in seconds, at which a message begins or ceases to match.
    #[must_use]
    pub fn ages(&self) -> Vec<i64> {
        match self {
            Self::Older(seconds) => alloc::vec![i64::from(*seconds)],
            Self::Younger(seconds) => alloc::vec![i64::from(*seconds) + 1],
            Self::Fuzzy(key) | Self::Not(key) => key.ages(),
            Self::Or(a, b) => [a.ages(), b.ages()].concat(),
            Self::And(keys) => keys.iter().flat_map(Self::ages).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether the message matches; `None` if that depends on what was not read.
    #[must_use]
    pub fn matches(&self, subject: &impl Subject) -> Option<bool> {
        self.holds(subject, false)
    }

    fn holds(&self, subject: &impl Subject, is_fuzzy: bool) -> Option<bool> {
        Some(match self {
            Self::All => true,
            Self::Sequence(set) => set.contains(subject.sequence()),
            Self::Uid(set) => set.contains(subject.uid()),
            Self::UidAfter(uid) => subject.uid() > *uid,
            Self::UidBefore(uid) => subject.uid() < *uid,
            Self::Flag(flag) => subject.has_flag(flag),
            Self::Recent => false,
            Self::Received(when, day) => when.holds(subject.received_on(), *day),
            Self::Saved(when, day) => subject
                .saved_on()
                .is_some_and(|saved| when.holds(saved, *day)),
            Self::EmailId(id) => id.is_some() && subject.email_id() == *id,
            Self::ThreadId(None) => false,
            Self::ThreadId(id) => subject.thread_id()? == *id,
            Self::Sent(when, day) => subject
                .sent_on()?
                .is_some_and(|sent| when.holds(sent, *day)),
            Self::Larger(size) => subject.size() > *size,
            Self::Smaller(size) => subject.size() < *size,
            Self::Older(seconds) => subject.age() >= i64::from(*seconds),
            Self::Younger(seconds) => subject.age() <= i64::from(*seconds),
            Self::ModSeq(modseq) => subject.modseq() >= *modseq,
            Self::Header { .. } | Self::Body(_) | Self::Text(_) if is_fuzzy => {
                self.nearness(subject)? > 0
            }
            Self::Header { name, text } => return subject.header_contains(name, text),
            Self::Body(text) => return subject.body_contains(text),
            Self::Text(text) => return subject.text_contains(text),
            Self::Fuzzy(key) => return key.holds(subject, true),
            Self::Not(key) => !key.holds(subject, is_fuzzy)?,
            Self::Or(a, b) => {
                let either = [a, b].into_iter();
                return not(all(either.map(|key| not(key.holds(subject, is_fuzzy)))));
            }
            Self::And(keys) => {
                return all(keys.iter().map(|key| key.holds(subject, is_fuzzy)));
            }
        })
    }

    /// The sets that have every message that matches. Of the others nothing need be known.
    #[must_use]
    pub fn bounds(&self) -> Vec<(Numbering, Cow<'_, Ranges>)> {
        match self {
            Self::Sequence(set) => alloc::vec![(Numbering::Sequence, Cow::Borrowed(set))],
            Self::Uid(set) => alloc::vec![(Numbering::Uid, Cow::Borrowed(set))],
            Self::UidAfter(uid) => {
                let above = uid.checked_add(1).map(|first| (first, u32::MAX));
                let above = Ranges::new(above.into_iter().collect());
                alloc::vec![(Numbering::Uid, Cow::Owned(above))]
            }
            Self::UidBefore(uid) => {
                let below = Ranges::up_to(uid.saturating_sub(1));
                alloc::vec![(Numbering::Uid, Cow::Owned(below))]
            }
            Self::And(keys) => keys.iter().flat_map(Self::bounds).collect(),
            _ => Vec::new(),
        }
    }

    /// How much of a message may have to be read.
    #[must_use]
    pub fn depth(&self) -> Depth {
        match self {
            Self::Sent(..) | Self::ThreadId(Some(_)) | Self::Header { .. } => Depth::Header,
            Self::Body(_) | Self::Text(_) => Depth::Whole,
            Self::Fuzzy(key) | Self::Not(key) => key.depth(),
            Self::Or(a, b) => a.depth().max(b.depth()),
            Self::And(keys) => keys.iter().map(Self::depth).max().unwrap_or(Depth::Nothing),
            _ => Depth::Nothing,
        }
    }
}

const fn not(known: Option<bool>) -> Option<bool> {
    match known {
        Some(known) => Some(!known),
        None => None,
    }
}

/// One that does not hold decides, whatever is unknown of the others.
fn all(known: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut outcome = Some(true);
    for known in known {
        match known {
            Some(false) => return Some(false),
            Some(true) => {}
            None => outcome = None,
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    struct Message {
        size: u64,
        read: bool,
    }

    impl Subject for Message {
        fn sequence(&self) -> u32 {
            1
        }
        fn uid(&self) -> u32 {
            5
        }
        fn has_flag(&self, flag: &Flag) -> bool {
            *flag == Flag::Seen
        }
        fn size(&self) -> u64 {
            self.size
        }
        fn modseq(&self) -> u64 {
            7
        }
        fn age(&self) -> i64 {
            60
        }
        fn email_id(&self) -> Option<u128> {
            None
        }
        fn thread_id(&self) -> Option<Option<u128>> {
            self.read.then_some(Some(3))
        }
        fn saved_on(&self) -> Option<i64> {
            None
        }
        fn received_on(&self) -> i64 {
            100
        }
        fn sent_on(&self) -> Option<Option<i64>> {
            self.read.then_some(None)
        }
        fn header_contains(&self, _: &str, text: &str) -> Option<bool> {
            self.read.then_some(text == "x")
        }
        fn body_contains(&self, _: &str) -> Option<bool> {
            None
        }
        fn text_contains(&self, _: &str) -> Option<bool> {
            None
        }
        fn nearness(&self, within: Within<'_>, text: &str) -> Option<u8> {
            self.read.then_some(match (within, text) {
                (Within::Field("SUBJECT"), "near") => 40,
                (Within::Body, "near") => 80,
                _ => 0,
            })
        }
    }

    const UNREAD: Message = Message {
        size: 10,
        read: false,
    };
    const READ: Message = Message {
        size: 10,
        read: true,
    };

    fn boxed(key: Key<Ranges>) -> Box<Key<Ranges>> {
        Box::new(key)
    }

    #[test]
    fn what_is_known_decides_before_anything_is_read() {
        let text = Key::Text("x".into());
        let and = Key::And(vec![text.clone(), Key::Larger(10)]);
        assert_eq!(and.matches(&UNREAD), Some(false));
        let or = Key::Or(boxed(text.clone()), boxed(Key::Flag(Flag::Seen)));
        assert_eq!(or.matches(&UNREAD), Some(true));
        assert_eq!(Key::Not(boxed(text)).matches(&UNREAD), None);
    }

    #[test]
    fn the_last_message_is_in_a_set_that_ends_with_it() {
        use crate::sequence::Number;
        let set = |number| SequenceSet::Named(vec![(Number::Value(number), Number::Last)]);
        let found = |key: Key| key.resolve(1, 5, &Ranges::default()).matches(&UNREAD);
        assert_eq!(found(Key::Uid(set(9))), Some(true));
        assert_eq!(
            found(Key::Not(Box::new(Key::Sequence(set(1))))),
            Some(false)
        );
    }

    #[test]
    fn a_message_without_a_date_was_not_sent_before_nor_since() {
        for when in [When::Before, When::On, When::Since] {
            assert_eq!(Key::Sent(when, 0).matches(&READ), Some(false));
        }
    }

    #[test]
    fn a_conversation_is_known_when_the_header_is() {
        let key = |id| Key::ThreadId(id);
        assert_eq!(key(Some(3)).matches(&UNREAD), None);
        assert_eq!(key(Some(3)).matches(&READ), Some(true));
        assert_eq!(key(Some(4)).matches(&READ), Some(false));
        assert_eq!(key(None).matches(&UNREAD), Some(false));
        assert_eq!(key(Some(3)).depth(), Depth::Header);
        assert_eq!(key(None).depth(), Depth::Nothing);
    }

    #[test]
    fn days_compare_as_the_rfc_says() {
        for (when, day, expected) in [
            (When::Before, 100, false),
            (When::Before, 101, true),
            (When::On, 100, true),
            (When::Since, 100, true),
            (When::Since, 101, false),
        ] {
            assert_eq!(Key::Received(when, day).matches(&UNREAD), Some(expected));
        }
    }

    #[test]
    fn the_depth_is_that_of_the_deepest_key() {
        let header = Key::Header {
            name: "From".into(),
            text: "x".into(),
        };
        assert_eq!(Key::Not(boxed(header.clone())).depth(), Depth::Header);
        let and = Key::And(vec![header, Key::Body("x".into()), Key::All]);
        assert_eq!(and.depth(), Depth::Whole);
        assert_eq!(Key::<Ranges>::And(vec![]).depth(), Depth::Nothing);
    }

    fn parsed(text: &str) -> Key<Ranges> {
        let line = alloc::format!("a SEARCH {text}");
        let request = crate::parse::request(line.as_bytes()).expect(text);
        match request.command {
            crate::command::Command::Search { key, .. } => key.resolve(1, 5, &Ranges::default()),
            other => panic!("{other:?}"),
        }
    }

    // RFC 6203 §3, §4.
    #[test]
    fn what_is_near_is_found_where_that_is_wanted() {
        for (text, expected, relevancy) in [
            ("FUZZY SUBJECT near", true, 40),
            ("SUBJECT near", false, 100),
            ("FUZZY (SUBJECT near BODY near)", true, 60),
            ("FUZZY SUBJECT near FUZZY BODY near", true, 60),
            ("FUZZY (SUBJECT near TEXT near)", false, 20),
            ("FUZZY OR SUBJECT near BODY near", true, 80),
            ("OR FUZZY SUBJECT near SEEN", true, 40),
            ("OR FUZZY SUBJECT far SEEN", true, 100),
            ("FUZZY NOT SUBJECT near", false, 100),
            ("FUZZY NOT SUBJECT far", true, 100),
            ("FUZZY SEEN", true, 100),
            ("FUZZY LARGER 9 FUZZY BODY near", true, 80),
            ("FUZZY FUZZY BODY near", true, 80),
        ] {
            let key = parsed(text);
            assert_eq!(key.matches(&READ), Some(expected), "{text}");
            assert_eq!(key.relevancy(&READ), relevancy, "{text}");
        }
        assert_eq!(parsed("FUZZY SUBJECT near").matches(&UNREAD), None);
        assert_eq!(parsed("FUZZY SUBJECT near SEEN").relevancy(&UNREAD), 100);
    }
}
