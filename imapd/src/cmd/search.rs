//! SEARCH: what is known decides first; only where it does not, messages are read, and no further than needed.

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use daemon::channel::CallError;
use imap::command::Numbering;
use imap::esearch::{Correlator, Return};
use imap::response::Code;
use imap::search::Key;
use imap::sequence::Ranges;
use imap::sync::Awareness;
use imap::write;
use ipc::cache::CacheKind;
use ipc::snapshot::Record;
use tracing::error;

use super::context::{self, Passing};
use super::limit::{self, Cut, common};
use super::query::{self, Known, Query, Sought, Source, Unread};
use super::reading::{BATCH, LOOK_UP};
use super::{Desk, Session, desk, no_such_number, out_of_place};
use crate::budget::Budget;
use crate::cache::Borrowed;
use crate::message::Message;
use crate::render;
use crate::view::{View, number_of};
use crate::wire::Close;
use crate::words::Tagged;

/// Messages decided on by what is known before others get a turn.
const TURN: usize = 256;

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
    if let Some(tagged) = refuse_charset(session, tag, charset)? {
        return Ok(tagged);
    }
    let request = match context::begin(session, tag, by, results, &key)? {
        Ok(request) => request,
        Err(tagged) => return Ok(tagged),
    };
    let mut findings = match find(session, tag, charset, saves, key).await? {
        Ok(findings) => findings,
        Err(tagged) => return Ok(tagged),
    };
    let house = Arc::clone(&session.house);
    let Some(mut desk) = desk(session) else {
        return Ok(out_of_place(tag));
    };
    if let Some(request) = request {
        request.keep(&mut desk, &house, &mut findings, None);
    }
    Ok(tell(&mut desk, tag, "SEARCH", by, results, findings))
}

/// The answer where a charset may not be named.
// RFC 6855 §3.
pub(super) fn refuse_charset(
    session: &mut Session,
    tag: &str,
    charset: Option<&str>,
) -> Result<Option<Tagged>, Close> {
    if charset.is_none() || !session.dialect.utf8 {
        return Ok(None);
    }
    session.count_mistake()?;
    let text = "everything is UTF-8 since ENABLE UTF8=ACCEPT, leave CHARSET out";
    Ok(Some(Tagged::bad(tag, text)))
}

/// The answer where a charset is not known.
pub(super) fn bad_charset(tag: &str, charset: Option<&str>) -> Option<Tagged> {
    let is_bad = !matches!(charset, None | Some("UTF-8" | "US-ASCII"));
    let code = Code::BadCharset;
    is_bad.then(|| Tagged::no(tag, Some(&code), "search in UTF-8 or US-ASCII"))
}

/// What a search found.
pub(super) struct Findings {
    /// In ascending order.
    pub(super) found: Vec<Found>,
    /// A message that might match could not be read.
    pub(super) unreadable: bool,
    /// Not all messages were looked at.
    pub(super) cut: Option<Cut>,
    /// What was looked for.
    pub(super) sought: Arc<Sought>,
    /// See [`Search::passing`].
    pub(super) passing: Passing,
    /// The client wants to hear of modification sequences.
    is_aware: bool,
}

impl Desk<'_> {
    /// The places of the messages that have to be looked at: all others do not match.
    // RFC 9738 §3.1: if they are too many, some of them.
    pub(super) async fn within(
        &mut self,
        key: &Key<Ranges>,
    ) -> Result<(Vec<Range<usize>>, Option<Cut>), CallError> {
        let count = self.view.len();
        let mut within: Vec<Range<usize>> = std::iter::once(0..count).collect();
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
    if let Some(tagged) = bad_charset(tag, charset) {
        if let Some(view) = session.view.as_mut().filter(|_| saves) {
            view.saved = Ranges::default();
        }
        return Ok(Err(tagged));
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
    let sought = Arc::new(Sought::new(key, last, last_uid, &saved));
    let (places, cut) = match desk.within(&sought.key).await {
        Ok(limited) => limited,
        Err(error) => return Ok(Err(Tagged::refused(tag, &error))),
    };
    let mut search = Search::new(&sought, &house.budget, desk.view);
    let places = places.into_iter().flatten();
    if let Err(error) = search.run(&mut desk, places).await? {
        return Ok(Err(Tagged::refused(tag, &error)));
    }
    Ok(Ok(Findings {
        found: search.found,
        unreadable: search.unreadable,
        cut,
        passing: search.passing,
        sought,
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
            let correlator = Correlator { tag, mailbox: None };
            let scores = scores(*results, found);
            let out = &mut desk.wire.out;
            results.write(correlator, by, &numbers, &scores, highest, out);
        }
        Some(_) => {}
    }
    if results.is_some_and(|results| results.save) && !findings.unreadable {
        save(desk.view, &told);
    }
    let tagged = conclude(tag, &findings);
    limit::told(findings.cut, tagged, desk.wire)
}

/// How well messages match, if that is wanted.
pub(super) fn scores(results: Return, found: &[Found]) -> Vec<u8> {
    let found = found.iter().filter(|_| results.relevancy);
    found.map(Found::score).collect()
}

/// From now on `$` means these (RFC 5182).
pub(super) fn save(view: &mut View, found: &[Found]) {
    let uids = found.iter().map(|found| (found.uid, found.uid));
    view.saved = Ranges::new(uids.collect());
}

/// The last line of the answer.
pub(super) fn conclude(tag: &str, findings: &Findings) -> Tagged {
    outcome(tag, findings.unreadable)
}

/// The same; `unreadable` says that a message that might match could not be read.
pub(super) fn outcome(tag: &str, unreadable: bool) -> Tagged {
    if unreadable {
        // RFC 9051 §6.4.4: NO is a search error. What was found is true all the same, but it may not be all.
        let code = Code::ServerBug;
        return Tagged::no(tag, Some(&code), "some messages could not be read");
    }
    Tagged::ok(tag, "searched")
}

/// A search under way.
pub(super) struct Search<'a> {
    query: Arc<Query>,
    budget: &'a Budget,
    /// The messages that match, in the end in order.
    pub(super) found: Vec<Found>,
    /// A message that might match could not be read.
    pub(super) unreadable: bool,
    /// When messages begin to match, or cease to, only because they get older.
    pub(super) passing: Passing,
}

/// A message that matches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    sequence: u32,
    uid: u32,
    modseq: u64,
    /// How well it matches (RFC 6203 §4).
    score: u8,
}

impl Found {
    pub(super) fn new(index: usize, record: &Record, score: u8) -> Self {
        Self {
            sequence: number_of(index),
            uid: record.uid,
            modseq: record.modseq,
            score,
        }
    }

    /// How well it matches.
    pub(super) const fn score(&self) -> u8 {
        self.score
    }

    /// What it is told by.
    pub(super) const fn number(&self, by: Numbering) -> u32 {
        match by {
            Numbering::Sequence => self.sequence,
            Numbering::Uid => self.uid,
        }
    }

    /// Its UID.
    pub(super) const fn uid(&self) -> u32 {
        self.uid
    }

    /// Its modification sequence.
    pub(super) const fn modseq(&self) -> u64 {
        self.modseq
    }

    /// Its place in the view.
    pub(super) const fn index(&self) -> usize {
        self.sequence.saturating_sub(1) as usize
    }
}

impl<'a> Search<'a> {
    /// A search as of now.
    pub(super) fn new(sought: &Arc<Sought>, budget: &'a Budget, view: &View) -> Self {
        let query = Query {
            sought: Arc::clone(sought),
            now: query::now(),
            keywords: view.keywords().to_vec(),
        };
        Self {
            passing: match view.contexts.is_on() {
                true => Passing::new(&sought.key, query.now),
                false => Passing::default(),
            },
            query: Arc::new(query),
            budget,
            found: Vec::new(),
            unreadable: false,
        }
    }

    /// Looks at the messages at `places`, which ascend.
    pub(super) async fn run(
        &mut self,
        desk: &mut Desk<'_>,
        places: impl Iterator<Item = usize>,
    ) -> Result<Result<(), CallError>, Close> {
        let mut places = places.peekable();
        let mut open = Vec::new();
        loop {
            let some = match desk.next_some(&mut places, TURN).await {
                Ok(some) => some,
                Err(error) => return Ok(Err(error)),
            };
            let is_end = some.is_empty();
            let beside = match desk.beside(&some, self.query.sought.wanted).await {
                Ok(beside) => beside,
                Err(error) => return Ok(Err(error)),
            };
            let known = |at| Known::new(desk.view, at, &beside);
            // What was gone before it could be read matches nothing.
            for known in some.into_iter().filter_map(known) {
                self.passing.add(&known.record);
                match self.query.matches(known, Source::Nothing) {
                    Some(true) => self.found.push(self.query.found(known, Source::Nothing)),
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
        let need = render::need_of_search(self.query.sought.key.depth());
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
