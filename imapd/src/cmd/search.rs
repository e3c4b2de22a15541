//! SEARCH: what is known decides first; only where it does not, messages are read, and no further than needed.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use daemon::channel::CallError;
use imap::command::Numbering;
use imap::esearch::Return;
use imap::flag::Flag;
use imap::response::Code;
use imap::search::{Depth, Key, Subject};
use imap::sequence::Ranges;
use imap::sync::Awareness;
use imap::write;
use ipc::cache::CacheKind;
use ipc::snapshot::Record;
use mail::{date, header, mime};
use tracing::error;

use super::beside::{Beside, Wanted};
use super::limit::{self, Cut, common};
use super::reading::{BATCH, LOOK_UP};
use super::{Desk, Session, desk, no_such_number, out_of_place};
use crate::budget::Budget;
use crate::cache::Borrowed;
use crate::cache::READ_WHOLE;
use crate::cache::notes::Entry;
use crate::cache::summary::Extent;
use crate::cache::text::{Completeness, SearchText};
use crate::message::Message;
use crate::render;
use crate::search_text::{self, Needle};
use crate::view::{View, has_flag, number_of};
use crate::wire::Close;
use crate::words::Tagged;

/// Messages decided on by what is known before others get a turn.
const TURN: usize = 256;
const DAY: i64 = 86_400;

/// What SEARCH is to find, and how that is told.
pub(super) struct Order {
    pub(super) by: Numbering,
    pub(super) results: Option<Return>,
    pub(super) key: Key,
}

pub(super) async fn search(
    session: &mut Session,
    tag: &str,
    charset: Option<&str>,
    Order { by, results, key }: Order,
) -> Result<Tagged, Close> {
    let saves = results.is_some_and(|results| results.save);
    // RFC 6855 §3.
    if charset.is_some() && session.dialect.utf8 {
        session.count_mistake()?;
        let text = "everything is UTF-8 since ENABLE UTF8=ACCEPT, leave CHARSET out";
        return Ok(Tagged::bad(tag, text));
    }
    let findings = match find(session, tag, charset, saves, key).await? {
        Ok(findings) => findings,
        Err(tagged) => return Ok(tagged),
    };
    let Some(mut desk) = desk(session) else {
        return Ok(out_of_place(tag));
    };
    Ok(tell(&mut desk, tag, "SEARCH", by, results, findings))
}

/// What a search found.
pub(super) struct Findings {
    /// In ascending order.
    pub(super) found: Vec<Found>,
    /// A message that might match could not be read.
    pub(super) unreadable: bool,
    /// Not all messages were looked at.
    pub(super) cut: Option<Cut>,
    /// The client wants to hear of modification sequences.
    is_aware: bool,
}

impl Desk<'_> {
    /// The places of the messages that have to be looked at: all others do not match.
    // RFC 9738 §3.1: if they are too many, some of them.
    async fn within(
        &mut self,
        key: &Key<Ranges>,
    ) -> Result<(Vec<Range<usize>>, Option<Cut>), CallError> {
        let count = self.view.len();
        let mut within = Vec::from([0..count]);
        for (by, set) in key.bounds() {
            let mut places = Vec::new();
            for &(first, last) in set.as_slice() {
                places.push(match by {
                    Numbering::Sequence => {
                        (first as usize).saturating_sub(1)..(last as usize).min(count)
                    }
                    Numbering::Uid => self.places(first, last).await?,
                });
            }
            places.retain(|place| !place.is_empty());
            within = common(&within, &places);
        }
        let cut = self.cut(&mut within, self.user.limits.any).await?;
        Ok((within, cut))
    }
}

/// Finds messages, or the answer that says why not. If what is found `saves` for later, nothing is until [`tell`].
pub(super) async fn find(
    session: &mut Session,
    tag: &str,
    charset: Option<&str>,
    saves: bool,
    key: Key,
) -> Result<Result<Findings, Tagged>, Close> {
    if !matches!(charset, None | Some("UTF-8" | "US-ASCII")) {
        if let Some(view) = session.view.as_mut().filter(|_| saves) {
            view.saved = Ranges::default();
        }
        return Ok(Err(Tagged::no(
            tag,
            Some(&Code::BadCharset),
            "search in UTF-8 or US-ASCII",
        )));
    }
    let is_aware = key.names_modseq();
    if is_aware {
        session.learn(Awareness::CondStore);
    }
    let house = Arc::clone(&session.house);
    let Some(mut desk) = desk(session) else {
        return Ok(Err(out_of_place(tag)));
    };
    if key.largest_sequence() as usize > desk.view.len() {
        return Ok(Err(no_such_number(tag)));
    }
    let saved = desk.view.saved.clone();
    if saves {
        // RFC 5182 §2.1: a search that fails leaves nothing.
        desk.view.saved = Ranges::default();
    }
    let last = number_of(desk.view.len()).saturating_sub(1);
    let last_uid = match desk.last_uid().await {
        Ok(last_uid) => last_uid,
        Err(error) => return Ok(Err(Tagged::refused(tag, &error))),
    };
    let wanted = Wanted::of_search(&key);
    let query = Arc::new(Query {
        needles: needles(&key),
        key: key.resolve(last, last_uid, &saved),
        now: now(),
        keywords: desk.view.keywords().to_vec(),
    });
    let limited = match desk.within(&query.key).await {
        Ok(limited) => limited,
        Err(error) => return Ok(Err(Tagged::refused(tag, &error))),
    };
    let (places, cut) = limited;
    let mut search = Search {
        query,
        budget: &house.budget,
        wanted,
        found: Vec::new(),
        unreadable: false,
    };
    if let Err(error) = search.run(&mut desk, places).await? {
        return Ok(Err(Tagged::refused(tag, &error)));
    }
    Ok(Ok(Findings {
        found: search.found,
        unreadable: search.unreadable,
        cut,
        is_aware,
    }))
}

/// Tells what was found, in the order in which it is, and saves it if that is wanted. `word`: the name of the plain answer.
pub(super) fn tell(
    desk: &mut Desk<'_>,
    tag: &str,
    word: &str,
    by: Numbering,
    results: Option<Return>,
    findings: Findings,
) -> Tagged {
    let Findings {
        found, is_aware, ..
    } = &findings;
    let numbers: Vec<u32> = found.iter().map(|found| found.number(by)).collect();
    // RFC 7162 §3.1.5, §3.1.10: the largest of what is told.
    let told: Cow<'_, [Found]> = match &results {
        Some(results) => Cow::Owned(results.saved(found)),
        None => Cow::Borrowed(found.as_slice()),
    };
    let modseqs = told.iter().map(|found| found.modseq);
    let highest = modseqs.max().filter(|_| *is_aware);
    match &results {
        None => write::found(word, &numbers, highest, &mut desk.wire.out),
        Some(results) if results.is_told() => {
            results.write(tag, by, &numbers, highest, &mut desk.wire.out);
        }
        Some(_) => {}
    }
    if results.is_some_and(|results| results.save) && !findings.unreadable {
        let uids = told.iter().map(|found| (found.uid, found.uid));
        desk.view.saved = Ranges::new(uids.collect());
    }
    let tagged = conclude(tag, &findings);
    limit::told(findings.cut, tagged, desk.wire)
}

/// The last line of the answer.
pub(super) fn conclude(tag: &str, findings: &Findings) -> Tagged {
    if findings.unreadable {
        // RFC 9051 §6.4.4: NO is a search error. What was found is true all the same, but it may not be all.
        let code = Code::ServerBug;
        return Tagged::no(tag, Some(&code), "some messages could not be read");
    }
    Tagged::ok(tag, "searched")
}

/// What is looked for.
struct Query {
    key: Key<Ranges>,
    /// Unix seconds.
    now: i64,
    keywords: Vec<String>,
    /// All texts that are looked for.
    needles: HashMap<String, Needle>,
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

fn needles(key: &Key) -> HashMap<String, Needle> {
    let texts = key.texts().into_iter();
    texts
        .map(|text| (text.to_owned(), Needle::new(text)))
        .collect()
}

/// A search under way.
struct Search<'a> {
    query: Arc<Query>,
    budget: &'a Budget,
    /// What has to be known beside.
    wanted: Wanted,
    /// The messages that match, in the end in order.
    found: Vec<Found>,
    /// A message that might match could not be read.
    unreadable: bool,
}

/// A message that matches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    sequence: u32,
    uid: u32,
    modseq: u64,
}

impl Found {
    pub(super) fn new(index: usize, record: &Record) -> Self {
        Self {
            sequence: number_of(index),
            uid: record.uid,
            modseq: record.modseq,
        }
    }

    /// What it is told by.
    pub(super) const fn number(&self, by: Numbering) -> u32 {
        match by {
            Numbering::Sequence => self.sequence,
            Numbering::Uid => self.uid,
        }
    }

    /// Its place in the view.
    pub(super) const fn index(&self) -> usize {
        self.sequence.saturating_sub(1) as usize
    }
}

/// A message that has to be read.
#[derive(Clone, Copy)]
struct Unread {
    known: Known,
    /// Whether what is worked out about it is kept.
    is_kept: bool,
}

impl Search<'_> {
    async fn run(
        &mut self,
        desk: &mut Desk<'_>,
        places: Vec<Range<usize>>,
    ) -> Result<Result<(), CallError>, Close> {
        let mut places = places.into_iter().flatten().peekable();
        let mut open = Vec::new();
        loop {
            let some = match desk.next_some(&mut places, TURN).await {
                Ok(some) => some,
                Err(error) => return Ok(Err(error)),
            };
            let is_end = some.is_empty();
            let beside = match desk.beside(&some, self.wanted).await {
                Ok(beside) => beside,
                Err(error) => return Ok(Err(error)),
            };
            let known = |at| Known::new(desk.view, at, &beside);
            // What was gone before it could be read matches nothing.
            for known in some.into_iter().filter_map(known) {
                match self.query.matches(known, Source::Nothing) {
                    Some(true) => self.found.push(known.found()),
                    Some(false) => {}
                    None => open.push(known),
                }
            }
            if open.len() >= LOOK_UP || is_end {
                let open = std::mem::take(&mut open);
                if let Err(error) = self.decide(desk, &open).await? {
                    return Ok(Err(error));
                }
            }
            if is_end {
                break;
            }
            tokio::task::yield_now().await;
        }
        self.found.sort_unstable();
        Ok(Ok(()))
    }

    /// Decides on messages of which not enough is known, by what is kept about them or by reading them.
    async fn decide(
        &mut self,
        desk: &mut Desk<'_>,
        open: &[Known],
    ) -> Result<Result<(), CallError>, Close> {
        for some in open.chunks(LOOK_UP) {
            let unread = match self.look_up(desk, some).await {
                Ok(unread) => unread,
                Err(error) => return Ok(Err(error)),
            };
            for batch in unread.chunks(BATCH) {
                if let Err(error) = self.read(desk, batch.to_vec()).await {
                    return Ok(Err(error));
                }
                desk.give_many().await?;
            }
        }
        Ok(Ok(()))
    }

    /// Decides on messages by what is known from an earlier reading. Returns those on which that is not possible.
    async fn look_up(&mut self, desk: &Desk<'_>, some: &[Known]) -> Result<Vec<Unread>, CallError> {
        let uids = some.iter().map(|known| known.record.uid);
        let (query, some) = (Arc::clone(&self.query), some.to_vec());
        let look = move |borrowed: &Borrowed| query.look_up(borrowed, &some);
        let seen = desk.look_up(self.budget, CacheKind::Text, uids, look);
        let (found, unread) = seen.await?;
        self.found.extend(found);
        Ok(unread)
    }

    /// Decides on messages by reading them.
    async fn read(&mut self, desk: &mut Desk<'_>, batch: Vec<Unread>) -> Result<(), CallError> {
        let need = render::need_of_search(self.query.key.depth());
        let records: Vec<Record> = batch.iter().map(|unread| unread.known.record).collect();
        let query = Arc::clone(&self.query);
        let look = move |uid, message: &Message| {
            let is_it = |unread: &&Unread| unread.known.record.uid == uid;
            let unread = batch.iter().find(is_it);
            query.read(*unread.ok_or(io::ErrorKind::NotFound)?, message)
        };
        let read = desk.read(self.budget, need, records.into_iter(), look);
        for (uid, outcome) in read.await? {
            match outcome {
                Ok((found, note)) => {
                    self.found.extend(found);
                    desk.view.notes.add(CacheKind::Text, note);
                }
                Err(error) => {
                    error!(uid, %error, "a message cannot be searched");
                    self.unreadable = true;
                }
            }
        }
        Ok(())
    }
}

impl Query {
    fn matches(&self, known: Known, source: Source<'_>) -> Option<bool> {
        self.key.matches(&Candidate {
            known,
            query: self,
            source,
        })
    }

    /// Those of `some` that match, and those on which what is kept does not decide.
    fn look_up(&self, borrowed: &Borrowed, some: &[Known]) -> (Vec<Found>, Vec<Unread>) {
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
                    found.push(known.found());
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
    fn read(
        &self,
        unread: Unread,
        message: &Message,
    ) -> io::Result<(Option<Found>, Option<Entry>)> {
        let Unread { known, is_kept } = unread;
        let is_small = is_kept && message.size() <= READ_WHOLE;
        let (bytes, extent) = match self.key.depth() {
            Depth::Whole => (message.read_whole()?, Extent::Whole),
            Depth::Nothing | Depth::Header if is_small => (message.read_whole()?, Extent::Whole),
            Depth::Nothing | Depth::Header => (message.read_header()?, Extent::Header),
        };
        let walked = mime::Message::walk(&bytes);
        let text = is_kept.then(|| SearchText::of(&walked, extent, known.record.size));
        let text = text.flatten();
        // Decoded once, it is searched for all keys.
        let kept = text.as_ref().map(Source::Kept);
        let matches = kept.and_then(|kept| self.matches(known, kept));
        let matches = matches.or_else(|| self.matches(known, Source::Message(&walked)));
        let note = text.and_then(|text| text.encode());
        let note = note.map(|note| (known.record.uid, note));
        Ok(((matches == Some(true)).then(|| known.found()), note))
    }
}

/// What is known of a message without reading it.
#[derive(Clone, Copy)]
struct Known {
    index: usize,
    record: Record,
    email_id: Option<u128>,
    /// Unix seconds.
    save_date: Option<i64>,
}

impl Known {
    fn new(view: &View, index: usize, beside: &Beside) -> Option<Self> {
        let record = *view.message(index)?;
        Some(Self {
            index,
            record,
            email_id: beside.email_id(record.uid),
            save_date: beside.save_date(record.uid),
        })
    }

    fn found(self) -> Found {
        Found::new(self.index, &self.record)
    }
}

/// What a message under search is looked for in.
#[derive(Clone, Copy)]
enum Source<'a> {
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
        self.query.needles.get(text)
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
}
