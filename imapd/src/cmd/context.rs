//! Contexts (RFC 5267): what SEARCH and SORT found is kept up to date, and the client hears what comes to it and what goes.
//!
//! A message is looked at again when it comes, when its flags change, or when it gets so old that its age counts; of one that is gone
//! nothing has to be known. What is kept is what was looked for and which messages were found, for SORT also where they stand; how
//! much that may be is limited for a session and for all together. A search that is beyond it is answered, and not kept.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use daemon::channel::CallError;
use imap::command::Numbering;
use imap::context::{self, Ranked, Results, Way};
use imap::esearch::{Correlator, Return};
use imap::response::{Code, Kind};
use imap::search::Key;
use imap::sequence::Ranges;
use imap::sort::Criterion;
use ipc::snapshot::Record;
use tracing::warn;

use super::order::{self, Sorted};
use super::query;
use super::search::{Findings, Found, Search};
use super::{Desk, Session, desk, out_of_place};
use crate::budget::Room;
use crate::house::House;
use crate::session::farewell;
use crate::view::{Context, View, Work, number_of};
use crate::wire::{Close, Wire};
use crate::words::Tagged;

/// Searches of one session that are kept up to date.
const MAX_CONTEXTS: usize = 10;
/// Bytes that they may take all together: SORT by a short text of 100,000 messages.
const MAX_MEMORY: usize = 8 << 20;
/// Bytes that each takes, beside what was looked for and found.
const PER_CONTEXT: usize = 512;
/// Messages of which it is known when they will be so old that it counts.
const MAX_PASSING: usize = 100_000;
const PER_PASSING: usize = 32;

/// When messages begin to match, or cease to, only because they get older (RFC 5032).
#[derive(Debug, Default)]
pub(crate) struct Passing {
    ages: Vec<i64>,
    /// Unix seconds.
    now: i64,
    /// Unix seconds, and the UID.
    due: BTreeSet<(i64, u32)>,
    /// There are more than can be known.
    is_too_much: bool,
}

impl Passing {
    pub(super) fn new(key: &Key<Ranges>, now: i64) -> Self {
        Self {
            ages: key.ages(),
            now,
            ..Self::default()
        }
    }

    /// Notes when next the age of a message will count.
    pub(super) fn add(&mut self, record: &Record) {
        let moments = self.ages.iter();
        let moments = moments.map(|age| record.internal_date.saturating_add(*age));
        if let Some(next) = moments.filter(|moment| *moment > self.now).min() {
            self.due.insert((next, record.uid));
            self.limit();
        }
    }

    fn and(&mut self, other: Self) {
        self.due.extend(other.due);
        self.is_too_much |= other.is_too_much;
        self.limit();
    }

    fn limit(&mut self) {
        while self.due.len() > MAX_PASSING {
            self.due.pop_last();
            self.is_too_much = true;
        }
    }

    /// The messages whose age counts now.
    pub(crate) fn take_due(&mut self, now: i64) -> Vec<u32> {
        let later = self.due.split_off(&(now.saturating_add(1), 0));
        let due = std::mem::replace(&mut self.due, later);
        due.into_iter().map(|(_, uid)| uid).collect()
    }

    /// When the age of any counts next.
    pub(crate) fn next(&self) -> Option<i64> {
        self.due.first().map(|(moment, _)| *moment)
    }
}

impl Context {
    fn memory(&self) -> usize {
        let passing = self.passing.due.len() * PER_PASSING;
        PER_CONTEXT + self.sought.memory() + self.results.memory() + passing
    }
}

/// The wish that what is found is kept up to date.
pub(super) struct Request {
    tag: String,
    by: Numbering,
    /// See [`Context::is_located`].
    is_located: bool,
    refused: Option<&'static str>,
}

/// What is to be done with what is found, if that is to be kept up to date; or the answer that says why it cannot be looked for.
pub(super) fn begin(
    session: &mut Session,
    tag: &str,
    by: Numbering,
    results: Option<Return>,
    key: &Key,
) -> Result<Result<Option<Request>, Tagged>, Close> {
    if !results.is_some_and(|results| results.update) {
        return Ok(Ok(None));
    }
    let Some(view) = &mut session.view else {
        return Ok(Err(out_of_place(tag)));
    };
    // §4.3.
    if view.contexts.all.iter().any(|context| context.tag == tag) {
        session.count_mistake()?;
        let text = "a search of that tag is kept up to date, take another one";
        return Ok(Err(Tagged::bad(tag, text)));
    }
    let mut refused = None;
    if key.counts() {
        refused =
            Some("what is searched by sequence number or * is not kept up to date, search by UID");
    } else if view.contexts.all.len() >= MAX_CONTEXTS {
        refused = Some(TOO_MUCH);
    }
    view.watch();
    Ok(Ok(Some(Request {
        tag: tag.to_owned(),
        by,
        is_located: false,
        refused,
    })))
}

const TOO_MUCH: &str = "too much is kept up to date, use CANCELUPDATE or search for less";

impl Request {
    /// The same, of ESEARCH.
    pub(super) fn located(mut self) -> Self {
        self.is_located = true;
        self
    }

    /// Keeps what was found, or says why not.
    pub(super) fn keep(
        self,
        desk: &mut Desk<'_>,
        house: &House,
        findings: &mut Findings,
        sorted: Option<(Arc<[Criterion]>, Sorted)>,
    ) {
        let refused = match self.refused {
            None if findings.unreadable => Some("some messages could not be read"),
            None if findings.cut.is_some() => {
                Some("not all messages were looked at, search for less")
            }
            refused => refused,
        };
        if let Some(text) = refused {
            return refuse(desk.wire, &self.tag, text);
        }
        let found = findings.found.iter().map(Found::uid);
        let (criteria, results) = match sorted {
            None => {
                let found = found.map(|uid| (uid, uid)).collect();
                (None, Results::Found(Ranges::new(found)))
            }
            Some((criteria, sorted)) => (Some(criteria), Results::Sorted(ranked(sorted))),
        };
        let Some(taken) = house.contexts.take(0) else {
            return refuse(desk.wire, &self.tag, TOO_MUCH);
        };
        let mut context = Context {
            tag: self.tag,
            by: self.by,
            is_located: self.is_located,
            sought: Arc::clone(&findings.sought),
            criteria,
            results,
            passing: std::mem::take(&mut findings.passing),
            taken,
        };
        let all = &mut desk.view.contexts.all;
        if fits(&mut context, all, &house.contexts) {
            all.push(context);
        } else {
            refuse(desk.wire, &context.tag, TOO_MUCH);
        }
    }
}

fn ranked(sorted: Sorted) -> Vec<Ranked> {
    let ranked = sorted.placed.into_iter().map(|(place, found)| Ranked {
        place,
        uid: found.uid(),
    });
    ranked.collect()
}

/// Whether there is room for it beside the others.
fn fits(context: &mut Context, others: &[Context], room: &Room) -> bool {
    let others: usize = others.iter().map(Context::memory).sum();
    let memory = context.memory();
    !context.passing.is_too_much
        && others + memory <= MAX_MEMORY
        && room.enlarge(&mut context.taken, memory)
}

// §4.3.1.
fn refuse(wire: &mut Wire, tag: &str, text: &str) {
    wire.say(Kind::No, Some(&Code::NoUpdate(tag)), text);
}

/// CANCELUPDATE. What is not kept up to date need not be given up.
pub(super) fn cancel(session: &mut Session, tag: &str, tags: &[String]) -> Tagged {
    let Some(view) = &mut session.view else {
        return out_of_place(tag);
    };
    let all = &mut view.contexts.all;
    all.retain(|context| !tags.contains(&context.tag));
    Tagged::ok(tag, "no more of that")
}

/// What would be told by message numbers is not kept any more.
// RFC 9586 §3: from ENABLE UIDONLY on none may be sent.
pub(super) fn give_up_numbers(session: &mut Session) {
    let Session {
        wire,
        view: Some(view),
        ..
    } = session
    else {
        return;
    };
    let all = &mut view.contexts.all;
    for context in all.extract_if(.., |context| context.by == Numbering::Sequence) {
        let text = "there are no message numbers any more, search by UID";
        refuse(wire, &context.tag, text);
    }
}

/// A message that has to be looked at.
struct Candidate {
    index: usize,
    uid: u32,
    is_new: bool,
    is_touched: bool,
    is_aged: bool,
}

impl Session {
    /// Whether something is kept up to date.
    pub(crate) fn is_following(&self) -> bool {
        let view = self.view.as_ref();
        view.is_some_and(|view| view.contexts.is_on())
    }

    /// Tells what has come to what searches found, and what went from it. Returns whether anything happened meanwhile.
    pub(crate) async fn follow(&mut self) -> Result<bool, Close> {
        let house = Arc::clone(&self.house);
        let Some(mut desk) = desk(self) else {
            return Ok(false);
        };
        let before = desk.view.contexts.events;
        let Some(work) = desk.view.work(query::now()) else {
            return Ok(false);
        };
        match desk.follow(&house, &work).await? {
            Ok(()) => Ok(desk.view.contexts.events != before),
            Err(CallError::Refused(refusal)) => {
                warn!(%refusal, "a client is not told yet what changed in what it searched for");
                desk.view.contexts.put_back(work);
                Ok(false)
            }
            Err(CallError::Unavailable) => Err(farewell(desk.view.fate())),
        }
    }
}

impl Desk<'_> {
    async fn follow(&mut self, house: &House, work: &Work) -> Result<Result<(), CallError>, Close> {
        let candidates = match self.candidates(work).await {
            Ok(candidates) => candidates,
            Err(error) => return Ok(Err(error)),
        };
        let mut rest = std::mem::take(&mut self.view.contexts.all).into_iter();
        let (mut done, mut outcome) = (Vec::new(), Ok(()));
        for mut context in rest.by_ref() {
            outcome = self.follow_one(house, &mut context, &candidates).await?;
            if fits(&mut context, &done, &house.contexts) {
                done.push(context);
            } else {
                refuse(self.wire, &context.tag, TOO_MUCH);
            }
            if outcome.is_err() {
                break;
            }
            self.wire.flush_if_full().await?;
        }
        done.extend(rest);
        self.view.contexts.all = done;
        Ok(outcome)
    }

    /// The messages that have to be looked at, as far as they are there.
    async fn candidates(&mut self, work: &Work) -> Result<Vec<Candidate>, CallError> {
        let mut candidates = Vec::new();
        let both = work.touched.union(&work.aged).copied();
        for uid in both.filter(|uid| !work.new.contains(uid)) {
            if !self.view.is_gone(uid) {
                let places = self.places(uid, uid).await?;
                candidates.extend(places.map(|index| Candidate {
                    index,
                    uid,
                    is_new: false,
                    is_touched: work.touched.contains(&uid),
                    is_aged: work.aged.contains(&uid),
                }));
            }
        }
        if let Some(last) = work.new.end.checked_sub(1).filter(|_| !work.new.is_empty()) {
            let places = self.places(work.new.start, last).await?;
            let mut places = places.peekable();
            loop {
                let some = self.next_some(&mut places, usize::MAX).await?;
                if some.is_empty() {
                    break;
                }
                let new = some.into_iter().filter_map(|index| {
                    Some(Candidate {
                        index,
                        uid: self.view.uid(index)?,
                        is_new: true,
                        is_touched: false,
                        is_aged: false,
                    })
                });
                candidates.extend(new);
            }
        }
        Ok(candidates)
    }

    async fn follow_one(
        &mut self,
        house: &House,
        context: &mut Context,
        candidates: &[Candidate],
    ) -> Result<Result<(), CallError>, Close> {
        let is_of_flags = context.sought.key.is_of_flags();
        let is_meant =
            |one: &&Candidate| one.is_new || one.is_aged || one.is_touched && is_of_flags;
        let meant: Vec<&Candidate> = candidates.iter().filter(is_meant).collect();
        if meant.is_empty() {
            return Ok(Ok(()));
        }
        let mut search = Search::new(&context.sought, &house.budget, self.view);
        let places: Vec<usize> = meant.iter().map(|one| one.index).collect();
        if let Err(error) = search.run(self, places.into_iter()).await? {
            return Ok(Err(error));
        }
        context.passing.and(std::mem::take(&mut search.passing));
        let mut found = std::mem::take(&mut search.found);
        found.retain(|found| !self.view.is_gone(found.uid()));
        let tested = ranges(meant.iter().map(|one| one.uid));
        let (before, now) = (
            context.results.among(&tested),
            ranges(found.iter().map(Found::uid)),
        );
        found.retain(|found| !before.contains(found.uid()));
        let new = match &context.criteria {
            None => found.iter().map(unranked).collect(),
            Some(criteria) => match order::sorted(self, &house.budget, criteria, &found).await? {
                Ok(sorted) => ranked(sorted),
                Err(error) => return Ok(Err(error)),
            },
        };
        let (tag, by) = (context.tag.as_str(), context.by);
        let mailbox = context.is_located.then(|| self.view.located());
        let correlator = Correlator { tag, mailbox };
        let number = |uid| match by {
            Numbering::Uid => uid,
            Numbering::Sequence => number(candidates, uid),
        };
        let out = context.results.take_away(&before.without(&now));
        context::write(Way::Out, correlator, by, &out, number, &mut self.wire.out);
        let into = context.results.take_in(new);
        context::write(Way::In, correlator, by, &into, number, &mut self.wire.out);
        Ok(Ok(()))
    }
}

fn unranked(found: &Found) -> Ranked {
    Ranked {
        place: Box::default(),
        uid: found.uid(),
    }
}

fn ranges(uids: impl Iterator<Item = u32>) -> Ranges {
    Ranges::new(uids.map(|uid| (uid, uid)).collect())
}

/// The sequence number of one of the candidates, which ascend.
fn number(candidates: &[Candidate], uid: u32) -> u32 {
    let place = candidates.binary_search_by_key(&uid, |one| one.uid);
    let candidate = place.ok().and_then(|place| candidates.get(place));
    candidate.map_or(0, |one| number_of(one.index))
}

/// Waits until a message gets so old that it counts; for ever where none will.
pub(crate) async fn next_passing(view: Option<&View>) {
    let Some(due) = view.and_then(|view| view.contexts.next_due()) else {
        return std::future::pending().await;
    };
    let left = u64::try_from(due.saturating_sub(query::now())).unwrap_or(0);
    tokio::time::sleep(Duration::from_secs(left.min(MAX_SLEEP))).await;
}

/// Seconds; a session is not left alone for longer.
const MAX_SLEEP: u64 = 86_400;

#[cfg(test)]
mod tests {
    use imap::sequence::SequenceSet;

    use super::super::query::Sought;
    use super::*;

    fn context(results: Results, key: Key, room: &Room) -> Context {
        Context {
            tag: "a".into(),
            by: Numbering::Uid,
            is_located: false,
            sought: Arc::new(Sought::new(key, 0, 0, &Ranges::default())),
            criteria: None,
            results,
            passing: Passing::default(),
            taken: room.take(0).unwrap(),
        }
    }

    fn sorted(count: u32, length: usize) -> Results {
        let ranked = |uid| Ranked {
            place: vec![0; length].into_boxed_slice(),
            uid,
        };
        Results::Sorted((0..count).map(ranked).collect())
    }

    #[test]
    fn what_is_kept_has_limits_for_a_session_and_for_all() {
        let room = Room::new(12 * 1024);
        let kept = |results| context(results, Key::All, &room);
        let mut dates = kept(sorted(100_000, 8));
        assert!(fits(&mut dates, &[], &room));
        // Beside it there is no room for a session, nor later for another.
        assert!(!fits(&mut kept(sorted(10_000, 400)), &[dates], &room));
        let mut one = kept(sorted(100_000, 8));
        let mut two = kept(sorted(100_000, 20));
        assert!(fits(&mut one, &[], &room));
        assert!(fits(&mut two, &[], &room));
        assert!(!fits(&mut kept(sorted(100_000, 8)), &[], &room));
        drop(two);
        assert!(fits(&mut kept(sorted(100_000, 8)), &[], &room));
        // What is looked for counts: texts, those of fuzzy searches twice, and sets.
        let text = |size: usize| Key::Text("x ".repeat(size / 2));
        let uids = |count: u32| Ranges::new((1..count).map(|uid| (2 * uid, 2 * uid)).collect());
        let kept = |key: Key| {
            let mut context = context(sorted(0, 0), key, &room);
            fits(&mut context, &[], &room)
        };
        assert!(kept(text(1 << 20)));
        assert!(!kept(text(3 << 20)));
        assert!(!kept(Key::Fuzzy(Box::new(text(1 << 20)))));
        let mut sets = context(sorted(0, 0), Key::All, &room);
        let of_sets = |count| {
            let saved = Key::Uid(SequenceSet::Saved);
            Sought::new(saved, 0, 0, &uids(count))
        };
        sets.sought = Arc::new(of_sets(500_000));
        assert!(fits(&mut sets, &[], &room));
        sets.sought = Arc::new(of_sets(1_100_000));
        assert!(!fits(&mut sets, &[], &room));
    }

    #[test]
    fn of_ages_no_more_is_known_than_there_is_room_for() {
        let room = Room::new(12 * 1024);
        let key = Key::Older(1000);
        let mut one = context(Results::Found(Ranges::default()), key, &room);
        one.passing = Passing::new(&one.sought.key, 500);
        let count = u32::try_from(MAX_PASSING).unwrap();
        let record = |uid| Record {
            uid,
            flags: 0,
            keywords: 0,
            modseq: 1,
            internal_date: i64::from(uid),
            size: 1,
        };
        (0..count).for_each(|uid| one.passing.add(&record(uid)));
        assert!(fits(&mut one, &[], &room));
        // It takes room beside what was found.
        let mut two = context(sorted(110_000, 8), Key::All, &room);
        assert!(fits(&mut two, &[], &room));
        std::mem::swap(&mut two.passing, &mut one.passing);
        assert!(!fits(&mut two, &[], &room));
        std::mem::swap(&mut two.passing, &mut one.passing);
        assert_eq!(one.passing.next(), Some(1000));
        assert_eq!(one.passing.take_due(1001), [0, 1]);
        (count..count + 3).for_each(|uid| one.passing.add(&record(uid)));
        assert!(!fits(&mut one, &[], &room));
        // Nor is what is looked at later, where that alone is too much.
        let mut later = context(Results::Found(Ranges::default()), Key::Older(1000), &room);
        later.passing.and(one.passing);
        assert!(!fits(&mut later, &[], &room));
    }
}
