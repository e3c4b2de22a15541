//! Counts what is to be reported in the running period, and knows which reports of the periods before are still to be sent.
//!
//! A line is written before whoever tells of it is answered, and not flushed: a kill costs nothing, a power failure the last seconds. In memory are the
//! running period and a few words about each report that waits.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use daemon::config::AggregateReports;
use ipc::Refusal;
use ipc::control::REPORTS_PER_FRAME;
use ipc::reports::{MAX_LAST, ReportSummary};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, Notify};
use tracing::{error, info, warn};

use super::kind::Kind;
use super::period::{self, Limits, encode};
use crate::clock;
use crate::desk::{self, Desk};
use crate::queue::Queue;

/// Lines of a file beyond those it needs, before it is written anew.
const MAX_LINES: usize = 100_000;
/// Seconds before a file is written anew again after that failed.
const PAUSE: i64 = 60;
/// Seconds after its period for which it is tried to send a report, and for which it is known what became of it.
const PATIENCE: i64 = 2 * DAY;
const DAY: i64 = 86_400;

type Entry<K> = period::Entry<<K as Kind>::Published, <K as Kind>::Row>;
type Period<K> = period::Period<<K as Kind>::Published, <K as Kind>::Row>;
type Bucket<K> = period::Bucket<<K as Kind>::Published, <K as Kind>::Row>;

/// The running period of one kind of reports, and those before.
#[derive(Debug)]
pub struct Register<K: Kind> {
    desk: Arc<Desk>,
    limits: Limits,
    /// Seconds over which the reports of a period are spread.
    spread: u64,
    /// Held while a line is written; nothing if nothing is to be reported.
    inner: Option<Mutex<Inner<K>>>,
    /// Rung when reports may be due earlier than thought.
    pub bell: Notify,
}

#[derive(Debug)]
struct Inner<K: Kind> {
    current: Period<K>,
    /// Lines in its file.
    lines: usize,
    /// Its file lacks something; it is written anew then.
    stale: Option<i64>,
    closed: BTreeMap<i64, Closed>,
}

/// A period that has ended.
#[derive(Debug)]
struct Closed {
    end: i64,
    /// By domain.
    reports: BTreeMap<String, Report>,
}

#[derive(Debug, Clone)]
struct Report {
    messages: u64,
    rows: u64,
    unlisted: u64,
    /// Unix seconds.
    due: i64,
    /// Nothing more is to be done about it.
    is_done: bool,
    /// What came of it last.
    last: String,
}

impl Closed {
    fn waiting(&self) -> impl Iterator<Item = (&String, &Report)> {
        self.reports.iter().filter(|(_, one)| !one.is_done)
    }
}

impl<K: Kind> Register<K> {
    /// With what was written down before.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub async fn open(desk: Arc<Desk>, rules: &AggregateReports) -> io::Result<Self> {
        let mut register = Self {
            desk,
            limits: Limits::new(rules),
            spread: u64::from(rules.spread_hours.value()) * 3600,
            inner: None,
            bell: Notify::new(),
        };
        if K::is_on(rules) {
            let inner = register.read_all(clock::now()).await?;
            let closed = inner.closed.values();
            let waiting = closed.map(|one| one.waiting().count()).sum::<usize>();
            let rows = inner.current.rows();
            info!(kind = K::NAME, rows, waiting, "read what is to be reported");
            register.inner = Some(Mutex::new(inner));
        }
        Ok(register)
    }

    async fn read_all(&self, now: i64) -> io::Result<Inner<K>> {
        let begins = self.desk.with_queue(|queue| queue.periods(K::book)).await?;
        let mut inner = Inner {
            current: Period::<K>::new(day_of(now), self.limits),
            lines: 0,
            stale: None,
            closed: BTreeMap::new(),
        };
        let last = begins.last().copied();
        for begin in begins {
            let (period, lines) = self.read_book(begin).await?;
            let runs = period.end.is_none() && last == Some(begin) && now < end_of_day(begin);
            if period.is_empty() {
                self.remove(begin).await?;
            } else if runs {
                (inner.current, inner.lines) = (period, lines);
            } else {
                let end = period.end.unwrap_or(end_of_day(begin));
                if period.end.is_none() {
                    self.append(begin, &[Entry::<K>::Closed { end }]).await?;
                }
                self.file_away(&mut inner, &period, end).await;
                inner.current.begin = inner.current.begin.max(end);
            }
        }
        Ok(inner)
    }

    /// Whether anything is reported at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// Counts one more of a row.
    ///
    /// # Errors
    /// [`Refusal::StorageFault`] or [`Refusal::DiskFull`] when it is in memory only.
    pub async fn count(
        &self,
        domain: &str,
        published: K::Published,
        row: K::Row,
    ) -> Result<(), Refusal> {
        let Some(inner) = &self.inner else {
            return Ok(());
        };
        let mut inner = inner.lock().await;
        self.turn(&mut inner, clock::now()).await;
        let noted = inner.current.note(domain, published, row);
        let entries =
            noted.map_err(|error| desk::fault(&error.into(), "note what is to be reported"))?;
        if let [Entry::<K>::Unlisted { domain, .. }] = &entries[..] {
            warn!(
                domain,
                key = "authentication.aggregate_reports",
                "no room for one more row: it is only counted in the report"
            );
        }
        let written = self.write(&mut inner, &entries).await;
        written.map_err(|error| desk::fault(&error, "note what is to be reported"))
    }

    /// Ends the running period if its day is over.
    pub async fn go_on(&self) {
        if let Some(inner) = &self.inner {
            let mut inner = inner.lock().await;
            self.turn(&mut inner, clock::now()).await;
        }
    }

    /// Ends the running period, and has all reports sent now. Tells how many.
    pub async fn hurry(&self) -> u64 {
        let Some(inner) = &self.inner else {
            return 0;
        };
        let (mut inner, now) = (inner.lock().await, clock::now());
        self.turn(&mut inner, now).await;
        // A second that two periods share would be a row in both.
        let end = now.max(inner.current.begin + 1);
        self.close(&mut inner, end, end).await;
        let all = inner.closed.values_mut();
        let all = all.flat_map(|closed| closed.reports.values_mut());
        let mut reports = 0;
        for one in all.filter(|one| !one.is_done) {
            one.due = one.due.min(now);
            reports += 1;
        }
        self.bell.notify_one();
        reports
    }

    /// A page of what is still to be reported, or of `all` of which something is known, the oldest first, and whether there is more.
    pub async fn list(
        &self,
        after: Option<(i64, String)>,
        all: bool,
    ) -> (Vec<ReportSummary>, bool) {
        let Some(inner) = &self.inner else {
            return (Vec::new(), false);
        };
        let inner = inner.lock().await;
        let (first, name) = after.unwrap_or((i64::MIN, String::new()));
        let from = |begin| match begin == first {
            true => Bound::Excluded(name.as_str()),
            false => Bound::Unbounded,
        };
        let closed = inner.closed.range(first..).flat_map(|(begin, closed)| {
            let reports = closed
                .reports
                .range::<str, _>((from(*begin), Bound::Unbounded));
            let reports = reports.filter(|(_, one)| all || !one.is_done);
            reports.map(|(domain, one)| summary(*begin, Some(closed.end), domain, one))
        });
        let begin = inner.current.begin;
        let running = (begin >= first).then(|| {
            let domains = &inner.current.domains;
            domains.range::<str, _>((from(begin), Bound::Unbounded))
        });
        let running = running.into_iter().flatten();
        let running = running.map(|(domain, bucket)| {
            let due = end_of_day(begin).saturating_add(self.delay(domain));
            summary(begin, None, domain, &report::<K>(bucket, due))
        });
        let mut page: Vec<_> = closed.chain(running).take(REPORTS_PER_FRAME + 1).collect();
        let more = page.len() > REPORTS_PER_FRAME;
        page.truncate(REPORTS_PER_FRAME);
        (page, more)
    }

    /// The rows of a report with their counts, from one of them on.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::StorageFault`].
    pub async fn rows(
        &self,
        begin: i64,
        domain: &str,
        skip: usize,
    ) -> Result<Vec<(K::Row, u64)>, Refusal> {
        let inner = self.inner.as_ref().ok_or(Refusal::NotFound)?;
        let inner = inner.lock().await;
        let rows = if inner.current.begin == begin {
            inner.current.domains.get(domain).map(Bucket::<K>::list)
        } else {
            drop(inner);
            // Of a period that is not known there is nothing in it.
            let read = self.read(begin).await;
            let period = read.map_err(|error| desk::fault(&error, "read a report"))?;
            period.domains.get(domain).map(Bucket::<K>::list)
        };
        let rows = rows.ok_or(Refusal::NotFound)?;
        Ok(rows.into_iter().skip(skip).collect())
    }

    /// The oldest period of which reports are due, with their domains, at most `most` of them; else when the next ones are.
    pub(super) async fn due(&self, most: usize) -> Result<(i64, Vec<String>), Option<i64>> {
        let Some(inner) = &self.inner else {
            return Err(None);
        };
        let (mut inner, now) = (inner.lock().await, clock::now());
        self.give_up(&mut inner, now).await;
        let mut next: Option<i64> = None;
        for (begin, closed) in &inner.closed {
            let is_due = |(_, one): &(&String, &Report)| one.due <= now;
            let due = closed.waiting().filter(is_due).take(most);
            let due: Vec<_> = due.map(|(domain, _)| domain.clone()).collect();
            if !due.is_empty() {
                return Ok((*begin, due));
            }
            let soonest = closed.waiting().map(|(_, one)| one.due).min();
            next = next.into_iter().chain(soonest).min();
        }
        Err(next)
    }

    /// All of a period that has ended.
    pub(super) async fn read(&self, begin: i64) -> io::Result<Period<K>> {
        Ok(self.read_book(begin).await?.0)
    }

    /// The report about a domain is on its way to somebody.
    pub(super) async fn note_sent(&self, begin: i64, domain: &str, to: &str) {
        let entry = Entry::<K>::Sent {
            domain: domain.to_owned(),
            to: to.to_owned(),
        };
        if let Err(error) = self.append(begin, &[entry]).await {
            error!(domain, to, %error, "that a report was sent cannot be written down: after a restart it is sent again, under the same id");
        }
    }

    /// Nothing more is to be done about a domain; what became of its report in words.
    pub(super) async fn note_done(&self, begin: i64, domain: &str, said: &str) {
        let Some(inner) = &self.inner else { return };
        let mut inner = inner.lock().await;
        let closed = inner.closed.get_mut(&begin);
        let Some(one) = closed.and_then(|closed| closed.reports.get_mut(domain)) else {
            return;
        };
        (one.is_done, one.last) = (true, cut(said));
        let done = Entry::<K>::Done {
            domain: domain.to_owned(),
        };
        let written = self.append(begin, &[done]).await;
        if let Err(error) = written {
            error!(domain, %error, "that a report is done cannot be written down: after a restart it is looked at again");
        }
    }

    /// A report is tried again in so many seconds; why in words.
    pub(super) async fn postpone(&self, begin: i64, domain: &str, seconds: i64, said: &str) {
        let Some(inner) = &self.inner else { return };
        let mut inner = inner.lock().await;
        let closed = inner.closed.get_mut(&begin);
        if let Some(one) = closed.and_then(|closed| closed.reports.get_mut(domain)) {
            one.due = clock::now().saturating_add(seconds);
            one.last = cut(said);
        }
    }

    async fn turn(&self, inner: &mut Inner<K>, now: i64) {
        let end = end_of_day(inner.current.begin);
        if now >= end {
            self.close(inner, end, day_of(now)).await;
        }
    }

    async fn close(&self, inner: &mut Inner<K>, end: i64, next: i64) {
        let mut period = std::mem::replace(&mut inner.current, Period::<K>::new(next, self.limits));
        let (stale, _) = (inner.stale.take(), std::mem::take(&mut inner.lines));
        if period.is_empty() {
            return;
        }
        if period.unlisted > 0 {
            warn!(
                kind = K::NAME,
                messages = period.unlisted,
                key = "authentication.aggregate_reports.max_domains",
                "these are in no report, for there was no room for their domains"
            );
        }
        let closing = Entry::<K>::Closed { end };
        let written = match stale {
            None => self.append(period.begin, &[closing]).await,
            Some(_) => {
                let mut entries = period.summary();
                entries.push(closing);
                self.replace(period.begin, &entries).await
            }
        };
        if let Err(error) = written {
            error!(%error, "the end of a period of reports cannot be written down; some of it may be lost");
        }
        period.end = Some(end);
        self.file_away(inner, &period, end).await;
        self.bell.notify_one();
    }

    async fn file_away(&self, inner: &mut Inner<K>, period: &Period<K>, end: i64) {
        let all = period.domains.iter().map(|(domain, bucket)| {
            let due = end.saturating_add(self.delay(domain));
            (domain.clone(), report::<K>(bucket, due))
        });
        let reports: BTreeMap<_, _> = all.collect();
        match reports.is_empty() {
            true => self.remove_over(period.begin).await,
            false => drop(inner.closed.insert(period.begin, Closed { end, reports })),
        }
    }

    // Always the same for a domain, so that its reports come a day apart.
    fn delay(&self, domain: &str) -> i64 {
        let digest = Sha256::digest(domain);
        let number = digest.iter().take(7);
        let number = number.fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        let delay = number.checked_rem(self.spread).unwrap_or(0);
        i64::try_from(delay).unwrap_or(0)
    }

    async fn give_up(&self, inner: &mut Inner<K>, now: i64) {
        let is_over = |closed: &Closed| now.saturating_sub(closed.end) > PATIENCE;
        let over: Vec<_> = inner
            .closed
            .iter()
            .filter(|(_, one)| is_over(one))
            .collect();
        let over: Vec<_> = over
            .iter()
            .map(|(begin, one)| (**begin, one.waiting().count()))
            .collect();
        for (begin, reports) in over {
            if reports > 0 {
                warn!(
                    begin,
                    reports, "these could not be sent for two days and are given up"
                );
            }
            inner.closed.remove(&begin);
            self.remove_over(begin).await;
        }
    }

    async fn remove_over(&self, begin: i64) {
        if let Err(error) = self.remove(begin).await {
            error!(begin, %error, "what was reported cannot be removed");
        }
    }

    async fn write(&self, inner: &mut Inner<K>, entries: &[Entry<K>]) -> io::Result<()> {
        let (begin, now) = (inner.current.begin, clock::now());
        inner.lines += entries.len();
        let is_long = inner.lines > MAX_LINES + 2 * inner.current.rows();
        let written = match inner.stale {
            Some(again) if now < again => return Ok(()),
            None if !is_long => self.append(begin, entries).await,
            Some(_) | None => {
                let summary = inner.current.summary();
                inner.lines = summary.len();
                self.replace(begin, &summary).await
            }
        };
        // What is torn is behind a file that is written anew.
        inner.stale = written.is_err().then_some(now + PAUSE);
        written
    }

    async fn read_book(&self, begin: i64) -> io::Result<(Period<K>, usize)> {
        let limits = self.limits;
        let read = move |queue: &Queue| {
            let bytes = queue.read_book(K::book(begin))?;
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
            Ok((Period::<K>::read(begin, limits, &bytes), lines))
        };
        self.desk.with_queue(read).await
    }

    async fn append(&self, begin: i64, entries: &[Entry<K>]) -> io::Result<()> {
        let lines = encode(entries)?;
        let append = move |queue: &Queue| queue.append_to_book(K::book(begin), &lines);
        self.desk.with_queue(append).await
    }

    async fn replace(&self, begin: i64, entries: &[Entry<K>]) -> io::Result<()> {
        let lines = encode(entries)?;
        let replace = move |queue: &Queue| queue.replace_book(K::book(begin), &lines);
        self.desk.with_queue(replace).await
    }

    async fn remove(&self, begin: i64) -> io::Result<()> {
        let remove = move |queue: &Queue| queue.remove_book(K::book(begin));
        self.desk.with_queue(remove).await
    }
}

fn report<K: Kind>(bucket: &Bucket<K>, due: i64) -> Report {
    let mut sent: Vec<&str> = bucket.sent.iter().map(String::as_str).collect();
    sent.sort_unstable();
    Report {
        messages: bucket.messages,
        rows: bucket.len() as u64,
        unlisted: bucket.unlisted,
        due,
        is_done: bucket.is_done,
        last: match sent.is_empty() {
            true => String::new(),
            false => cut(&format!("sent to {}", sent.join(", "))),
        },
    }
}

fn summary(begin: i64, end: Option<i64>, domain: &str, report: &Report) -> ReportSummary {
    ReportSummary {
        begin,
        end,
        domain: domain.to_owned(),
        messages: report.messages,
        rows: report.rows,
        unlisted: report.unlisted,
        due: report.due,
        is_done: report.is_done,
        last: report.last.clone(),
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_LAST)].to_owned()
}

/// Where the day of `now` begins.
const fn day_of(now: i64) -> i64 {
    now.div_euclid(DAY) * DAY
}

const fn end_of_day(begin: i64) -> i64 {
    day_of(begin) + DAY
}
