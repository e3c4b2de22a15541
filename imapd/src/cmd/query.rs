//! What SEARCH looks for, and whether a message is it: by what is known of it, by what is kept about it, or by its bytes.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use imap::flag::Flag;
use imap::relevancy;
use imap::search::{Depth, Key, Subject, Within};
use imap::sequence::Ranges;
use ipc::snapshot::Record;
use mail::{date, header, mime};

use super::beside::{Beside, Wanted};
use super::search::Found;
use crate::cache::Borrowed;
use crate::cache::READ_WHOLE;
use crate::cache::notes::Entry;
use crate::cache::summary::{self, Extent};
use crate::cache::text::{Completeness, SearchText};
use crate::fuzzy::Fuzzy;
use crate::message::Message;
use crate::search_text::{self, Needle};
use crate::view::{View, has_flag, number_of};

const DAY: i64 = 86_400;

/// What is looked for.
#[derive(Debug)]
pub(crate) struct Sought {
    pub(super) key: Key<Ranges>,
    /// All texts that are looked for.
    needles: HashMap<String, Needle>,
    /// The same, where something is looked for with FUZZY.
    fuzzies: HashMap<String, Fuzzy>,
    /// What has to be known beside.
    pub(super) wanted: Wanted,
}

impl Sought {
    /// What `key` looks for while these are the largest sequence number and UID, and `$` means these UIDs.
    pub(super) fn new(key: Key, last_sequence: u32, last_uid: u32, saved: &Ranges) -> Self {
        let texts = key.texts().into_iter();
        let needles = texts.map(|text| (text.to_owned(), Needle::new(text)));
        let fuzzies = key.texts().into_iter().filter(|_| key.is_fuzzy());
        let fuzzies = fuzzies.map(|text| (text.to_owned(), Fuzzy::new(text)));
        Self {
            needles: needles.collect(),
            fuzzies: fuzzies.collect(),
            wanted: Wanted::of_search(&key),
            key: key.resolve(last_sequence, last_uid, saved),
        }
    }

    /// Bytes of memory that it takes, roughly.
    pub(super) fn memory(&self) -> usize {
        let texts = self.needles.iter();
        let texts = texts.map(|(text, needle)| text.len() + needle.folded().len());
        // A finder has tables of its own.
        let fuzzies = self.fuzzies.iter();
        let fuzzies = fuzzies.map(|(text, fuzzy)| 3 * text.len() + 512 + fuzzy.memory());
        self.key.memory()
            + fuzzies.sum::<usize>()
            + texts.map(|bytes| 3 * bytes + 512).sum::<usize>()
    }
}

/// What is looked for, now.
pub(super) struct Query {
    pub(super) sought: Arc<Sought>,
    /// Unix seconds.
    pub(super) now: i64,
    pub(super) keywords: Vec<String>,
}

/// Unix seconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

impl Query {
    /// Whether the message matches; `None` if that cannot be said without reading it.
    pub(super) fn matches(&self, known: Known, source: Source<'_>) -> Option<bool> {
        self.sought.key.matches(&Candidate {
            known,
            query: self,
            source,
        })
    }

    /// A message that matches.
    pub(super) fn found(&self, known: Known, source: Source<'_>) -> Found {
        let score = match self.sought.fuzzies.is_empty() {
            true => relevancy::HIGHEST,
            false => self.sought.key.relevancy(&Candidate {
                known,
                query: self,
                source,
            }),
        };
        Found::new(known.index, &known.record, score)
    }

    /// Those of `some` that match, and those on which what is kept does not decide.
    pub(super) fn look_up(&self, borrowed: &Borrowed, some: &[Known]) -> (Vec<Found>, Vec<Unread>) {
        let (mut found, mut decided, mut kept) = (Vec::new(), HashSet::new(), HashSet::new());
        let uids: Vec<u32> = some.iter().map(|known| known.record.uid).collect();
        for shard in &borrowed.shards {
            shard.visit(&uids, |uid, entry| {
                let place = uids.binary_search(&uid).ok();
                let Some(known) = place.and_then(|place| some.get(place)) else {
                    return;
                };
                let Some(text) = SearchText::decode(entry, known.record.size) else {
                    return;
                };
                let matches = self.matches(*known, Source::Kept(&text));
                if matches == Some(true) {
                    found.push(self.found(*known, Source::Kept(&text)));
                }
                if matches.is_some() {
                    decided.insert(uid);
                } else if text.completeness == Completeness::Beginning {
                    // Nothing better can be kept.
                    kept.insert(uid);
                }
            });
        }
        let is_open = |known: &&Known| !decided.contains(&known.record.uid);
        let unread = some.iter().filter(is_open).map(|known| Unread {
            known: *known,
            is_kept: borrowed.is_kept && !kept.contains(&known.record.uid),
        });
        (found, unread.collect())
    }

    /// The message, if it matches, and what was worked out about it and can be kept.
    pub(super) fn read(
        &self,
        unread: Unread,
        message: &Message,
    ) -> io::Result<(Option<Found>, Option<Entry>)> {
        let Unread { known, is_kept } = unread;
        let is_small = is_kept && message.size() <= READ_WHOLE;
        let (bytes, extent) = match self.sought.key.depth() {
            Depth::Whole => (message.read_whole()?, Extent::Whole),
            Depth::Nothing | Depth::Header if is_small => (message.read_whole()?, Extent::Whole),
            Depth::Nothing | Depth::Header => (message.read_header()?, Extent::Header),
        };
        let walked = mime::Message::walk(&bytes);
        let text = is_kept.then(|| SearchText::of(&walked, extent, known.record.size));
        let text = text.flatten();
        // Decoded once, it is searched for all keys.
        let kept = text.as_ref().map(Source::Kept);
        let matches = |source| Some((source, self.matches(known, source)?));
        let matched = kept.and_then(matches);
        let matched = matched.or_else(|| matches(Source::Message(&walked)));
        let found = matched.filter(|(_, matches)| *matches);
        let found = found.map(|(source, _)| self.found(known, source));
        let note = text.and_then(|text| text.encode());
        let note = note.map(|note| (known.record.uid, note));
        Ok((found, note))
    }
}

/// A message that has to be read.
#[derive(Clone, Copy)]
pub(super) struct Unread {
    pub(super) known: Known,
    /// Whether what is worked out about it is kept.
    is_kept: bool,
}

/// What is known of a message without reading it.
#[derive(Clone, Copy)]
pub(super) struct Known {
    index: usize,
    pub(super) record: Record,
    email_id: Option<u128>,
    /// Unix seconds.
    save_date: Option<i64>,
}

impl Known {
    pub(super) fn new(view: &View, index: usize, beside: &Beside) -> Option<Self> {
        let record = *view.message(index)?;
        Some(Self {
            index,
            record,
            email_id: beside.email_id(record.uid),
            save_date: beside.save_date(record.uid),
        })
    }
}

/// What a message under search is looked for in.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// It was not read.
    Nothing,
    /// What is known from a reading.
    Kept(&'a SearchText<'a>),
    /// The message.
    Message(&'a mime::Message<'a>),
}

/// A message under search.
struct Candidate<'a> {
    known: Known,
    query: &'a Query,
    source: Source<'a>,
}

impl Candidate<'_> {
    fn needle(&self, text: &str) -> Option<&Needle> {
        self.query.sought.needles.get(text)
    }
}

impl Subject for Candidate<'_> {
    fn sequence(&self) -> u32 {
        number_of(self.known.index)
    }

    fn uid(&self) -> u32 {
        self.known.record.uid
    }

    fn has_flag(&self, flag: &Flag) -> bool {
        has_flag(&self.query.keywords, &self.known.record, flag)
    }

    fn size(&self) -> u64 {
        self.known.record.size
    }

    fn modseq(&self) -> u64 {
        self.known.record.modseq
    }

    fn age(&self) -> i64 {
        let date = self.known.record.internal_date;
        self.query.now.saturating_sub(date)
    }

    fn email_id(&self) -> Option<u128> {
        self.known.email_id
    }

    fn thread_id(&self) -> Option<Option<u128>> {
        match self.source {
            Source::Nothing => None,
            Source::Kept(text) => Some(text.thread_id),
            Source::Message(text) => {
                let root = text.parts().first()?;
                Some(summary::thread_id(text.header(root)))
            }
        }
    }

    fn saved_on(&self) -> Option<i64> {
        self.known.save_date.map(|date| date.div_euclid(DAY))
    }

    // RFC 3501 §6.4.4: time and zone are disregarded; days are those of UTC, in which INTERNALDATE is shown.
    fn received_on(&self) -> i64 {
        self.known.record.internal_date.div_euclid(DAY)
    }

    fn sent_on(&self) -> Option<Option<i64>> {
        let text = match self.source {
            Source::Nothing => return None,
            Source::Kept(text) => return Some(text.sent_on),
            Source::Message(text) => text,
        };
        let root = text.parts().first()?;
        let field = header::find(text.header(root), "Date");
        let date = field.and_then(|field| date::parse_rfc5322(field.value));
        Some(date.map(|date| date.local_day()))
    }

    fn header_contains(&self, name: &str, text: &str) -> Option<bool> {
        let needle = self.needle(text)?;
        match self.source {
            Source::Nothing => None,
            Source::Kept(text) => text.header_contains(name, needle),
            Source::Message(text) => Some(search_text::header_contains(text, name, needle)),
        }
    }

    fn body_contains(&self, text: &str) -> Option<bool> {
        let needle = self.needle(text)?;
        match self.source {
            Source::Nothing => None,
            Source::Kept(text) => text.body_contains(needle),
            Source::Message(text) => Some(search_text::body_contains(text, needle)),
        }
    }

    fn text_contains(&self, text: &str) -> Option<bool> {
        let needle = self.needle(text)?;
        match self.source {
            Source::Nothing => None,
            Source::Kept(text) => text.text_contains(needle),
            Source::Message(text) => Some(search_text::text_contains(text, needle)),
        }
    }

    fn nearness(&self, within: Within<'_>, text: &str) -> Option<u8> {
        let fuzzy = self.query.sought.fuzzies.get(text)?;
        let mut look = fuzzy.look();
        match self.source {
            Source::Nothing => return None,
            // As without FUZZY: everything contains nothing, but of a field there must be one.
            _ if fuzzy.whole().is_empty() && !matches!(within, Within::Field(_)) => {
                return Some(relevancy::HIGHEST);
            }
            Source::Kept(text) => text.look(within, &mut look)?,
            Source::Message(text) => search_text::look(text, within, &mut look),
        }
        Some(look.score())
    }
}
