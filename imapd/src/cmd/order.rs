//! SORT and THREAD: what SEARCH finds, in another order.
//!
//! Of each message there is a place of at most [`MAX_PLACE`] bytes, or what [`imap::thread`] needs, for the time of the command. That
//! memory is taken from what all sessions have for it before messages are looked at.

use std::sync::Arc;

use daemon::channel::CallError;
use imap::command::Numbering;
use imap::esearch::Return;
use imap::relevancy;
use imap::response::Code;
use imap::search::Key;
use imap::sort::{Criterion, MAX_PLACE, SortKey};
use imap::thread::{Algorithm, Letter, MAX_DUMMIES, Threader};
use ipc::snapshot::Record;

use super::context;
use super::reading::{LOOK_UP, Survey, work};
use super::search::{self, Findings, Found};
use super::{Desk, Session, desk, out_of_place};
use crate::budget::Budget;
use crate::cache::summary::{MAX_ANCESTORS, Summary};
use crate::order;
use crate::wire::Close;
use crate::words::Tagged;

/// So many messages are put in order at once.
const MAX_MESSAGES: usize = 500_000;
/// Bytes for a message while it is sorted, beside its place.
const PER_MESSAGE: usize = 64;
/// Bytes for a message, and for an identifier that is no message's, while threads are made.
const PER_LETTER: usize = 150;
const PER_DUMMY: usize = 50;

/// What SORT is to find, and in which order.
pub(super) struct Sort {
    pub(super) by: Numbering,
    pub(super) results: Option<Return>,
    pub(super) criteria: Vec<Criterion>,
    pub(super) key: Key,
}

pub(super) async fn sort(
    session: &mut Session,
    tag: &str,
    charset: &str,
    Sort {
        by,
        results,
        criteria,
        key,
    }: Sort,
) -> Result<Tagged, Close> {
    let saves = results.is_some_and(|results| results.save);
    let request = match context::begin(session, tag, by, results, &key)? {
        Ok(request) => request,
        Err(tagged) => return Ok(tagged),
    };
    let mut findings = match search::find(session, tag, Some(charset), saves, key).await? {
        Ok(findings) => findings,
        Err(tagged) => return Ok(tagged),
    };
    // RFC 9738 §3.3.
    if let Some(cut) = findings.cut {
        return Ok(cut.too_many(tag));
    }
    if findings.found.len() > MAX_MESSAGES {
        return Ok(too_many(tag));
    }
    let house = Arc::clone(&session.house);
    let Some(mut desk) = desk(session) else {
        return Ok(out_of_place(tag));
    };
    let memory = findings.found.len() * (MAX_PLACE + PER_MESSAGE);
    let reserved = house.sorting.reserve(memory as u64).await;
    let criteria: Arc<[Criterion]> = criteria.into();
    let found = std::mem::take(&mut findings.found);
    let sorted = sorted(&mut desk, &house.budget, &criteria, &found).await?;
    let sorted = match sorted {
        Ok(sorted) => sorted,
        Err(error) => return Ok(Tagged::refused(tag, &error)),
    };
    findings.unreadable |= sorted.unreadable;
    findings.found = sorted.placed.iter().map(|(_, found)| *found).collect();
    if let Some(request) = request {
        request.keep(&mut desk, &house, &mut findings, Some((criteria, sorted)));
    }
    drop(reserved);
    Ok(search::tell(&mut desk, tag, "SORT", by, results, findings))
}

/// Messages in order.
pub(super) struct Sorted {
    pub(super) placed: Vec<(Box<[u8]>, Found)>,
    /// A message could not be read, and is missing.
    unreadable: bool,
}

/// Puts what was found in order. What is gone meanwhile is left out.
pub(super) async fn sorted(
    desk: &mut Desk<'_>,
    budget: &Budget,
    criteria: &Arc<[Criterion]>,
    found: &[Found],
) -> Result<Result<Sorted, CallError>, Close> {
    let is_in_header = criteria
        .iter()
        .any(|criterion| criterion.key.is_in_header());
    let by = Arc::clone(criteria);
    let scores = Scores::of_found(criteria, found);
    let mut survey = Survey {
        budget,
        look: move |record: &Record, summary: &Summary<'_>| {
            order::place(&by, record, Some(summary), scores.of(record.uid))
        },
        unreadable: false,
    };
    let mut places = Vec::with_capacity(found.len());
    let mut rest = found.iter().map(Found::index).peekable();
    loop {
        let some = match desk.next_some(&mut rest, LOOK_UP).await {
            Ok(some) => some,
            Err(error) => return Ok(Err(error)),
        };
        if some.is_empty() {
            break;
        }
        let records = records(desk, &some, found);
        if !is_in_header {
            let place = |(found, record): &(Found, Record)| {
                let place = order::place(criteria, record, None, found.score());
                (place, *found)
            };
            places.extend(records.iter().map(place));
            tokio::task::yield_now().await;
            continue;
        }
        let of: Vec<Record> = records.iter().map(|(_, record)| *record).collect();
        let mut seen = match survey.of(desk, &of).await? {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(error)),
        };
        places.extend(records.into_iter().filter_map(|(found, record)| {
            let place = seen.remove(&record.uid)?;
            Some((place, found))
        }));
    }
    let unreadable = survey.unreadable;
    // RFC 5256 §3: of two alike the first in the mailbox comes first, whatever is turned round.
    let sorted = work(move || {
        places.sort_unstable();
        places
    });
    let sorted = sorted.await;
    Ok(sorted.map(|placed| Sorted { placed, unreadable }))
}

pub(super) async fn thread(
    session: &mut Session,
    tag: &str,
    by: Numbering,
    algorithm: Algorithm,
    (charset, key): (&str, Key),
) -> Result<Tagged, Close> {
    let mut findings = match search::find(session, tag, Some(charset), false, key).await? {
        Ok(findings) => findings,
        Err(tagged) => return Ok(tagged),
    };
    // RFC 9738 §3.3.
    if let Some(cut) = findings.cut {
        return Ok(cut.too_many(tag));
    }
    if findings.found.len() > MAX_MESSAGES {
        return Ok(too_many(tag));
    }
    let house = Arc::clone(&session.house);
    let Some(mut desk) = desk(session) else {
        return Ok(out_of_place(tag));
    };
    let count = findings.found.len();
    let dummies = (count * MAX_ANCESTORS).min(MAX_DUMMIES);
    let memory = count * PER_LETTER + dummies * PER_DUMMY;
    let reserved = house.sorting.reserve(memory as u64).await;
    let threaded = threaded(&mut desk, &house.budget, by, algorithm, &mut findings).await?;
    drop(reserved);
    Ok(match threaded {
        Ok(answer) => {
            desk.wire.out.extend(answer);
            search::conclude(tag, &findings)
        }
        Err(error) => Tagged::refused(tag, &error),
    })
}

/// The answer about what was found. What is gone meanwhile is left out.
async fn threaded(
    desk: &mut Desk<'_>,
    budget: &Budget,
    by: Numbering,
    algorithm: Algorithm,
    findings: &mut Findings,
) -> Result<Result<Vec<u8>, CallError>, Close> {
    let mut survey = Survey {
        budget,
        look: move |record: &Record, summary: &Summary<'_>| {
            Relations::of(algorithm, record, summary)
        },
        unreadable: false,
    };
    let mut threader = Threader::new(algorithm);
    let mut rest = findings.found.iter().map(Found::index).peekable();
    loop {
        let some = match desk.next_some(&mut rest, LOOK_UP).await {
            Ok(some) => some,
            Err(error) => return Ok(Err(error)),
        };
        if some.is_empty() {
            break;
        }
        let records = records(desk, &some, &findings.found);
        let of: Vec<Record> = records.iter().map(|(_, record)| *record).collect();
        let mut seen = match survey.of(desk, &of).await? {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(error)),
        };
        // Looking for loops may take its time.
        let added = work(move || {
            for (found, record) in records {
                if let Some(Relations {
                    mut letter,
                    id,
                    ancestors,
                }) = seen.remove(&record.uid)
                {
                    letter.number = found.number(by);
                    threader.add(letter, id, ancestors.into_iter());
                }
            }
            threader
        });
        threader = match added.await {
            Ok(threader) => threader,
            Err(error) => return Ok(Err(error)),
        };
    }
    findings.unreadable |= survey.unreadable;
    let answer = work(move || {
        let mut answer = Vec::new();
        threader.finish().write(&mut answer);
        answer
    });
    Ok(answer.await)
}

/// What a message has to do with others.
struct Relations {
    letter: Letter,
    id: u128,
    ancestors: Vec<u128>,
}

impl Relations {
    fn of(algorithm: Algorithm, record: &Record, summary: &Summary<'_>) -> Self {
        let refers = algorithm != Algorithm::OrderedSubject;
        let ancestors = summary.ancestors().filter(|_| refers);
        Self {
            letter: order::letter(algorithm, record.uid, record, summary),
            id: summary.id(),
            ancestors: ancestors.collect(),
        }
    }
}

/// What is known of the messages at these places, which were `found`. Those that are gone are missing.
fn records(desk: &Desk<'_>, some: &[usize], found: &[Found]) -> Vec<(Found, Record)> {
    let record = |index: &usize| {
        let record = desk.view.message(*index)?;
        let place = found.binary_search_by_key(index, Found::index).ok()?;
        let score = found.get(place)?.score();
        Some((Found::new(*index, record, score), *record))
    };
    some.iter().filter_map(record).collect()
}

/// How well messages match, by UID; nothing where they are not sorted by that.
#[derive(Clone)]
struct Scores(Arc<[(u32, u8)]>);

impl Scores {
    fn of_found(criteria: &[Criterion], found: &[Found]) -> Self {
        let is_key = |criterion: &Criterion| criterion.key == SortKey::Relevancy;
        let is_wanted = criteria.iter().any(is_key);
        let found = found.iter().filter(|_| is_wanted);
        Self(found.map(|found| (found.uid(), found.score())).collect())
    }

    fn of(&self, uid: u32) -> u8 {
        let place = self.0.binary_search_by_key(&uid, |(uid, _)| *uid).ok();
        let known = place.and_then(|place| self.0.get(place));
        known.map_or(relevancy::HIGHEST, |(_, score)| *score)
    }
}

fn too_many(tag: &str) -> Tagged {
    let text = "too many messages to be put in order, search for fewer";
    Tagged::no(tag, Some(&Code::Limit), text)
}
