//! `rmailctl audit`: every message that was taken is in the queue, or the history says how it ended.
//!
//! The history is read first, then the queue, then what has come into the history meanwhile. So a message that comes, goes or is delivered during
//! the audit is no difference: relayd writes down that a message came before it can be seen in the queue, and that it ended after it cannot.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use daemon::config::Config;
use ipc::queue_walk::{EventRow, HistoryPlace, QueueEvent, QueueFilter};
use serde_json::json;

use super::queue::{history, ids};
use crate::Error;
use crate::operator::Queue;

/// What the history says.
#[derive(Debug, Default)]
struct Books {
    /// Came, and did not end as far as was read.
    open: HashSet<String>,
    /// Ended, of those that came within the history.
    ended: HashSet<String>,
    /// How many came.
    accepted: u64,
    /// How many ended in each way.
    endings: BTreeMap<&'static str, u64>,
    /// The first thing in it.
    begin: Option<i64>,
}

impl Books {
    fn take(&mut self, event: &EventRow) {
        self.begin.get_or_insert(event.at);
        let id = &event.queue_id;
        let ending = match &event.event {
            QueueEvent::Queued { .. } => {
                if !self.ended.contains(id) && self.open.insert(id.clone()) {
                    self.accepted += 1;
                }
                return;
            }
            QueueEvent::Tried { .. } => return,
            QueueEvent::Done => "done",
            QueueEvent::Removed => "removed",
            QueueEvent::Expired => "expired",
        };
        if self.open.remove(id) {
            *self.endings.entry(ending).or_default() += 1;
            self.ended.insert(id.clone());
        }
    }

    /// Reads on; tells where it stopped.
    async fn read(
        &mut self,
        queue: &Queue,
        mut from: Option<HistoryPlace>,
    ) -> Result<Option<HistoryPlace>, Error> {
        loop {
            let (events, next, more) = history::piece(queue, from, None).await?;
            events.iter().for_each(|event| self.take(event));
            from = Some(next);
            if !more {
                return Ok(from);
            }
        }
    }
}

/// What does not fit together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Differences {
    /// Came, did not end, and are not in the queue.
    missing: Vec<String>,
    /// Ended, and are in the queue.
    undead: Vec<String>,
    /// In the queue, and never came.
    unknown: Vec<String>,
}

impl Differences {
    /// `ended` are those that had ended before the queue was looked at. What is older than the history it cannot know.
    fn of(books: &Books, ended: &HashSet<String>, queued: &HashSet<String>, begin: &str) -> Self {
        let sorted = |ids: &mut dyn Iterator<Item = &String>| {
            let mut ids: Vec<_> = ids.cloned().collect();
            ids.sort();
            ids
        };
        let is_known = |id: &String| books.open.contains(id) || books.ended.contains(id);
        Self {
            missing: sorted(&mut books.open.difference(queued)),
            undead: sorted(&mut ended.intersection(queued)),
            unknown: sorted(
                &mut queued
                    .iter()
                    .filter(|id| !is_known(id) && id.as_str() > begin),
            ),
        }
    }

    const fn count(&self) -> usize {
        self.missing.len() + self.undead.len() + self.unknown.len()
    }
}

/// Compares, and says what it found.
///
/// # Errors
/// [`Error::Findings`] if there are differences.
pub async fn run(config: &Path, as_json: bool) -> Result<(), Error> {
    let queue = Queue::of(&Config::read(config)?);
    let mut books = Books::default();
    let end = books.read(&queue, None).await?;
    let ended = books.ended.clone();
    let mut queued = HashSet::new();
    ids(&queue, QueueFilter::default(), |id| {
        queued.insert(id);
    })
    .await?;
    books.read(&queue, end).await?;
    let begin = first_id(books.begin.unwrap_or(i64::MAX));
    let differences = Differences::of(&books, &ended, &queued, &begin);
    let of_before = queued.iter().filter(|id| **id <= begin).count();
    if as_json {
        println!(
            "{}",
            json!({
                "since": books.begin, "accepted": books.accepted, "ended": books.endings, "queued": queued.len(), "queued_before": of_before,
                "missing": differences.missing, "undead": differences.undead, "unknown": differences.unknown,
            })
        );
    } else {
        show(&books, queued.len(), of_before, &differences);
    }
    match differences.count() {
        0 => Ok(()),
        count => Err(Error::Findings(format!(
            "{count} messages are not where they should be; see rmailctl queue history ID and the log of relayd for each"
        ))),
    }
}

fn show(books: &Books, queued: usize, of_before: usize, differences: &Differences) {
    let ending = |name| books.endings.get(name).copied().unwrap_or(0);
    match books.begin {
        Some(begin) => println!("since\t{}", mail::date::format_rfc5322(date(begin))),
        None => println!("since\tnothing is in the history"),
    }
    println!("accepted\t{}", books.accepted);
    println!("done\t{}", ending("done"));
    println!("removed\t{}", ending("removed"));
    println!("expired\t{}", ending("expired"));
    println!("queued\t{queued}, {of_before} of them from before");
    let kinds = [
        (
            &differences.missing,
            "accepted, and neither ended nor queued",
        ),
        (&differences.undead, "ended, and queued"),
        (&differences.unknown, "queued, and never accepted"),
    ];
    for (ids, what) in kinds {
        for id in ids {
            println!("{id}\t{what}");
        }
    }
}

const fn date(unix: i64) -> mail::date::DateTime {
    mail::date::DateTime {
        unix,
        offset_minutes: 0,
    }
}

/// An id that comes after all of that second, and before those of the next: ids begin with ten digits of milliseconds, base 32.
fn first_id(unix: i64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut rest = u64::try_from(unix)
        .unwrap_or(0)
        .saturating_add(1)
        .saturating_mul(1000);
    let mut digits = Vec::new();
    for _ in 0..10 {
        let digit = usize::try_from(rest % 32).unwrap_or(0);
        digits.push(char::from(DIGITS[digit]));
        rest /= 32;
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, event: QueueEvent) -> EventRow {
        EventRow {
            at: 1_700_000_000,
            queue_id: id.into(),
            reverse_path: String::new(),
            event,
        }
    }

    const QUEUED: QueueEvent = QueueEvent::Queued {
        account: None,
        size: 1,
        recipients: 1,
    };

    fn set(ids: &[&str]) -> HashSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn each_difference_is_named_and_what_moves_meanwhile_is_none() {
        let begin = first_id(1_700_000_000);
        let id = |name: &str| format!("{}{name}", first_id(1_700_000_001));
        let ids = ["waits", "done", "lost", "undead", "late", "moves"].map(id);
        let [waits, done, lost, undead, late, moves] = ids.each_ref().map(String::as_str);
        let mut books = Books::default();
        for one in [waits, done, lost, undead, moves] {
            // What is written down twice came once.
            books.take(&event(one, QUEUED));
            books.take(&event(one, QUEUED));
        }
        for one in [done, undead] {
            books.take(&event(one, QueueEvent::Done));
            books.take(&event(one, QueueEvent::Done));
        }
        let ended = books.ended.clone();
        let stranger = id("stranger");
        let older = "0000000000".to_owned();
        let queued = set(&[waits, undead, late, &stranger, &older, moves]);
        // What comes into the history after the queue was looked at.
        books.take(&event(late, QUEUED));
        books.take(&event(moves, QueueEvent::Done));
        assert_eq!(books.accepted, 6);
        let found = Differences::of(&books, &ended, &queued, &begin);
        assert_eq!(found.missing, [lost]);
        assert_eq!(found.undead, [undead]);
        assert_eq!(found.unknown, [stranger.as_str()]);
        assert_eq!(found.count(), 3);
    }

    #[test]
    fn the_id_of_a_second_is_between_those_of_it_and_of_the_next() {
        // 1,700,000,000,999 and 1,700,000,001,000 milliseconds in base 32.
        let of = |milliseconds: u64| {
            let id = first_id(i64::try_from(milliseconds / 1000).unwrap() - 1);
            assert_eq!(id.len(), 10);
            id
        };
        assert!(of(1_700_000_000_000) < of(1_700_000_001_000));
        assert_eq!(first_id(-5), "00000000z8");
    }
}
