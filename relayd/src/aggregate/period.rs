//! What is to be reported of a period: rows with counts per domain, within bounds, and the lines of the file from which they are read
//! again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::marker::PhantomData;
use std::sync::Arc;

use daemon::config::AggregateReports;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::queue::journal;

/// What a row costs beside its text.
const ROW_OCTETS: usize = 100;

/// A line of the file; `P` is what domains publish, `R` a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry<P, R> {
    /// A row of this number that was not there yet.
    Row {
        /// Its number.
        id: u32,
        /// Of which domain.
        domain: String,
        /// What is told.
        row: R,
        /// Of how many messages.
        count: u64,
    },
    /// So many more messages of that row.
    More(u32, u64),
    /// A domain publishes this now.
    Policy {
        /// The domain.
        domain: String,
        /// What it publishes.
        published: P,
    },
    /// So many messages of a domain were not written down for lack of room; of any domain if it is none of those here.
    Unlisted {
        /// The domain.
        domain: Option<String>,
        /// How many.
        count: u64,
    },
    /// The period has ended.
    Closed {
        /// Unix seconds.
        end: i64,
    },
    /// The report about a domain is on its way to this address.
    Sent {
        /// About which domain.
        domain: String,
        /// To whom.
        to: String,
    },
    /// Nothing more is to be done about a domain.
    Done {
        /// The domain.
        domain: String,
    },
}

/// All of a period.
#[derive(Debug)]
pub struct Period<P, R> {
    /// Unix seconds.
    pub begin: i64,
    /// Unix seconds, once it is over.
    pub end: Option<i64>,
    /// Messages of domains for which there was no room.
    pub unlisted: u64,
    /// By domain.
    pub domains: BTreeMap<String, Bucket<P, R>>,
    limits: Limits,
    octets: usize,
    last_id: u32,
    /// The domain and text of each row.
    rows: HashMap<u32, (String, Arc<str>)>,
}

/// What there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    domains: usize,
    rows: usize,
    octets: usize,
}

/// What is to be reported to a domain.
#[derive(Debug)]
pub struct Bucket<P, R> {
    /// What it published last.
    pub published: Option<P>,
    /// Messages, listed or not.
    pub messages: u64,
    /// Messages that are in no row.
    pub unlisted: u64,
    /// To whom the report went already.
    pub sent: HashSet<String>,
    /// Nothing more is to be done.
    pub is_done: bool,
    /// The text of each row, and number and count.
    rows: HashMap<Arc<str>, (u32, u64)>,
    kind: PhantomData<fn() -> R>,
}

impl<P, R> Default for Bucket<P, R> {
    fn default() -> Self {
        Self {
            published: None,
            messages: 0,
            unlisted: 0,
            sent: HashSet::new(),
            is_done: false,
            rows: HashMap::new(),
            kind: PhantomData,
        }
    }
}

impl Limits {
    /// Those of the configuration.
    #[must_use]
    pub fn new(rules: &AggregateReports) -> Self {
        let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            domains: count(rules.max_domains.value()),
            rows: count(rules.max_rows.value()),
            octets: count(rules.max_octets.value()),
        }
    }
}

impl<P, R> Period<P, R>
where
    P: Clone + PartialEq + DeserializeOwned,
    R: Clone + Serialize + DeserializeOwned,
{
    /// Nothing is known of it.
    #[must_use]
    pub fn new(begin: i64, limits: Limits) -> Self {
        Self {
            begin,
            end: None,
            unlisted: 0,
            domains: BTreeMap::new(),
            limits,
            octets: 0,
            last_id: 0,
            rows: HashMap::new(),
        }
    }

    /// With what was written down. A line that is damaged is passed over.
    #[must_use]
    pub fn read(begin: i64, limits: Limits, bytes: &[u8]) -> Self {
        let mut period = Self::new(begin, limits);
        for entry in journal::decode_lines(bytes) {
            period.apply(entry);
        }
        period
    }

    /// Counts a message; what is to be written down about it.
    ///
    /// # Errors
    /// Never for the rows of this module; serde's interface allows for it.
    pub fn note(
        &mut self,
        domain: &str,
        published: P,
        row: R,
    ) -> serde_json::Result<Vec<Entry<P, R>>> {
        let text = serde_json::to_string(&row)?;
        let Some(bucket) = self.domains.get(domain) else {
            if self.domains.len() >= self.limits.domains || !self.has_room(&text) {
                return Ok(self.take(Entry::Unlisted {
                    domain: None,
                    count: 1,
                }));
            }
            let mut entries = self.take_policy(domain, published);
            entries.extend(self.take_row(domain, row));
            return Ok(entries);
        };
        let id = bucket.rows.get(text.as_str()).map(|(id, _)| *id);
        let is_full = bucket.rows.len() >= self.limits.rows || !self.has_room(&text);
        let mut entries = match bucket.published.as_ref() == Some(&published) {
            true => Vec::new(),
            false => self.take_policy(domain, published),
        };
        entries.extend(match id {
            Some(id) => self.take(Entry::More(id, 1)),
            None if is_full => self.take(Entry::Unlisted {
                domain: Some(domain.to_owned()),
                count: 1,
            }),
            None => self.take_row(domain, row),
        });
        Ok(entries)
    }

    fn has_room(&self, text: &str) -> bool {
        self.octets + text.len() + ROW_OCTETS <= self.limits.octets
    }

    fn take_policy(&mut self, domain: &str, published: P) -> Vec<Entry<P, R>> {
        let domain = domain.to_owned();
        self.take(Entry::Policy { domain, published })
    }

    fn take_row(&mut self, domain: &str, row: R) -> Vec<Entry<P, R>> {
        let (id, domain) = (self.last_id.saturating_add(1), domain.to_owned());
        let count = 1;
        self.take(Entry::Row {
            id,
            domain,
            row,
            count,
        })
    }

    fn take(&mut self, entry: Entry<P, R>) -> Vec<Entry<P, R>> {
        self.apply(entry.clone());
        vec![entry]
    }

    /// Takes in what is, or was, written down.
    pub fn apply(&mut self, entry: Entry<P, R>) {
        match entry {
            Entry::Row {
                id,
                domain,
                row,
                count,
            } => {
                // What was written can be written again.
                let Ok(text) = serde_json::to_string(&row) else {
                    return;
                };
                let text: Arc<str> = text.into();
                self.octets += text.len() + ROW_OCTETS;
                self.last_id = self.last_id.max(id);
                self.rows.insert(id, (domain.clone(), Arc::clone(&text)));
                let bucket = self.domains.entry(domain).or_default();
                bucket.messages += count;
                bucket.rows.entry(text).or_insert((id, 0)).1 += count;
            }
            Entry::More(id, count) => {
                let Some((domain, text)) = self.rows.get(&id) else {
                    return;
                };
                if let Some(bucket) = self.domains.get_mut(domain)
                    && let Some((_, known)) = bucket.rows.get_mut(text)
                {
                    *known += count;
                    bucket.messages += count;
                }
            }
            Entry::Policy { domain, published } => {
                self.domains.entry(domain).or_default().published = Some(published);
            }
            Entry::Unlisted { domain, count } => {
                let bucket = domain.and_then(|domain| self.domains.get_mut(&domain));
                match bucket {
                    Some(bucket) => {
                        bucket.messages += count;
                        bucket.unlisted += count;
                    }
                    None => self.unlisted += count,
                }
            }
            Entry::Closed { end } => self.end = Some(end),
            Entry::Sent { domain, to } => {
                if let Some(bucket) = self.domains.get_mut(&domain) {
                    bucket.sent.insert(to);
                }
            }
            Entry::Done { domain } => {
                if let Some(bucket) = self.domains.get_mut(&domain) {
                    bucket.is_done = true;
                }
            }
        }
    }

    /// Whether there is anything in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.unlisted == 0
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The shortest lines that say the same of a period that has not ended.
    #[must_use]
    pub fn summary(&self) -> Vec<Entry<P, R>> {
        let mut entries = Vec::new();
        for (domain, bucket) in &self.domains {
            let policy = bucket.published.clone().map(|published| Entry::Policy {
                domain: domain.clone(),
                published,
            });
            entries.extend(policy);
            let rows = bucket.rows.iter();
            entries.extend(rows.filter_map(|(text, (id, count))| {
                Some(Entry::Row {
                    id: *id,
                    domain: domain.clone(),
                    row: serde_json::from_str(text).ok()?,
                    count: *count,
                })
            }));
            entries.extend((bucket.unlisted > 0).then(|| Entry::Unlisted {
                domain: Some(domain.clone()),
                count: bucket.unlisted,
            }));
        }
        entries.extend((self.unlisted > 0).then_some(Entry::Unlisted {
            domain: None,
            count: self.unlisted,
        }));
        entries
    }
}

impl<P, R> Bucket<P, R> {
    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows in the order in which they came, with their counts.
    #[must_use]
    pub fn list(&self) -> Vec<(R, u64)>
    where
        R: DeserializeOwned,
    {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_unstable_by_key(|(_, (id, _))| *id);
        rows.into_iter()
            .filter_map(|(text, (_, count))| Some((serde_json::from_str(text).ok()?, *count)))
            .collect()
    }
}

/// The lines of these entries.
///
/// # Errors
/// Never for the entries of this module; serde's interface allows for it.
pub fn encode<P, R>(entries: &[Entry<P, R>]) -> serde_json::Result<Vec<u8>>
where
    P: Serialize,
    R: Serialize,
{
    let mut lines = Vec::new();
    for entry in entries {
        journal::encode(entry, &mut lines)?;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::super::row::{Published, Row, read, tests::observation};
    use super::*;

    type Period = super::Period<Published, Row>;
    type Entry = super::Entry<Published, Row>;

    const LIMITS: Limits = Limits {
        domains: 2,
        rows: 3,
        octets: 1 << 20,
    };

    fn note(period: &mut Period, domain: &str, last: u8) -> Vec<Entry> {
        let (domain, published, row) = read(observation(domain, [192, 0, 2, last])).unwrap();
        period.note(&domain, published, row).unwrap()
    }

    /// Messages, listed rows with their counts, unlisted messages.
    fn told(period: &Period, domain: &str) -> (u64, Vec<(String, u64)>, u64) {
        let bucket = &period.domains[domain];
        let rows = bucket
            .list()
            .into_iter()
            .map(|(row, count)| (row.source, count));
        (bucket.messages, rows.collect(), bucket.unlisted)
    }

    #[test]
    fn equal_messages_are_one_row_and_the_file_says_the_same() {
        let mut period = Period::new(0, LIMITS);
        let mut lines = Vec::new();
        for last in [1, 2, 1, 1] {
            lines.extend(encode(&note(&mut period, "a.example", last)).unwrap());
        }
        lines.extend(encode(&note(&mut period, "b.example", 9)).unwrap());
        let rows = vec![("192.0.2.1".to_owned(), 3), ("192.0.2.2".to_owned(), 1)];
        let wanted = (4, rows, 0);
        assert_eq!(told(&period, "a.example"), wanted);
        let summary = encode(&period.summary()).unwrap();
        assert!(summary.len() < lines.len());
        for lines in [lines, summary] {
            let mut again = Period::read(0, LIMITS, &lines);
            assert_eq!(told(&again, "a.example"), wanted);
            assert_eq!(again.octets, period.octets);
            // It goes on where it was.
            assert!(matches!(
                note(&mut again, "a.example", 2)[..],
                [Entry::More(_, 1)]
            ));
            note(&mut again, "a.example", 3);
            assert_eq!(told(&again, "a.example").1.len(), 3);
        }
    }

    #[test]
    fn what_is_beyond_a_bound_is_counted() {
        let mut period = Period::new(0, LIMITS);
        let mut lines = Vec::new();
        for last in 0..10 {
            lines.extend(encode(&note(&mut period, "a.example", last)).unwrap());
        }
        for domain in ["b.example", "c.example", "d.example"] {
            lines.extend(encode(&note(&mut period, domain, 1)).unwrap());
        }
        for period in [&period, &Period::read(0, LIMITS, &lines)] {
            let (messages, rows, unlisted) = told(period, "a.example");
            assert_eq!((messages, rows.len(), unlisted), (10, 3, 7));
            assert_eq!((period.domains.len(), period.unlisted), (2, 2));
        }
        // What is listed goes on being counted.
        note(&mut period, "a.example", 0);
        assert_eq!(told(&period, "a.example").1[0].1, 2);
        let small = Limits {
            octets: 1000,
            ..LIMITS
        };
        let mut period = Period::new(0, small);
        for last in 0..10 {
            note(&mut period, "a.example", last);
        }
        note(&mut period, "b.example", 0);
        let (messages, rows, unlisted) = told(&period, "a.example");
        assert_eq!((messages, rows.len() as u64 + unlisted), (10, 10));
        assert!((1..3).contains(&rows.len()) && period.octets <= 1000);
        assert_eq!(period.unlisted, 1);
    }

    #[test]
    fn the_policy_seen_last_counts_and_damage_costs_its_line_only() {
        let mut period = Period::new(0, LIMITS);
        let mut lines = encode(&note(&mut period, "a.example", 1)).unwrap();
        let mut changed = observation("a.example", [192, 0, 2, 1]);
        changed.published.strict_spf = true;
        let (domain, published, row) = read(changed).unwrap();
        lines.extend(encode(&period.note(&domain, published, row).unwrap()).unwrap());
        lines.extend(encode(&note(&mut period, "a.example", 2)).unwrap());
        lines.extend(encode::<Published, Row>(&[Entry::Closed { end: 7 }]).unwrap());
        let read = Period::read(0, LIMITS, &lines);
        assert_eq!(told(&read, "a.example").0, 3);
        assert_eq!(read.end, Some(7));
        // Seen last: relaxed again.
        assert_eq!(
            read.domains["a.example"].published.as_ref().unwrap().spf,
            "r"
        );
        for place in (0..lines.len()).step_by(7) {
            let mut damaged = lines.clone();
            damaged[place] ^= 0x41;
            let read = Period::read(0, LIMITS, &damaged);
            let messages = read.domains.get("a.example").map_or(0, |one| one.messages);
            assert!(messages <= 3);
        }
    }
}
