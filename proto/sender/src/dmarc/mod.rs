//! DMARC (RFC 9989): does what SPF and DKIM found belong to the author that people see, and what does the author's domain want done
//! with mail for which that is not so?
//!
//! Organizational domains are found by the walk up the tree of RFC 9989 §4.10, not by a list of suffixes as in RFC 7489. The tag
//! `pct` of RFC 7489, which the newer one has no more, is honoured, and `t=y` is `pct=0`.

mod basis;
mod kinship;
mod record;
mod report;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

pub use self::basis::Basis;
pub use self::kinship::Kinship;
use self::record::{Record, Suffix};
pub use self::report::{ReportUri, permission, report_uris};
use crate::dns::{self, Answer, Kind, Question, is_name, is_within, record_name};

/// Domains above one that are asked, with itself (RFC 9989 §4.10).
const MAX_STEPS: usize = 8;

/// What a domain wants done with mail that is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Nothing.
    None,
    /// It is to be put aside.
    Quarantine,
    /// It is not to be taken.
    Reject,
}

impl Policy {
    fn parse(word: &str) -> Option<Self> {
        let all = [Self::None, Self::Quarantine, Self::Reject];
        all.into_iter()
            .find(|policy| word.eq_ignore_ascii_case(policy.as_str()))
    }

    /// The word for it in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }

    /// RFC 9989 §4.7 (`t`), RFC 7489 §6.6.4: what is done with mail that the policy is not for.
    const fn softer(self) -> Self {
        match self {
            Self::Reject => Self::Quarantine,
            Self::Quarantine | Self::None => Self::None,
        }
    }
}

/// What a check says (RFC 9989 §5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The author's domain publishes nothing.
    None,
    /// SPF or DKIM passed for a domain that is the author's.
    Pass,
    /// They did not.
    Fail,
    /// DNS did not answer; later it may.
    TempError,
}

impl Verdict {
    /// The word for it in `Authentication-Results`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TempError => "temperror",
        }
    }
}

/// What is checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// The domain in the From field.
    pub author: String,
    /// The domain of the sender, if SPF passed for it.
    pub spf: Option<String>,
    /// The domains of signatures that are good.
    pub dkim: Vec<String>,
    /// Domains for which SPF or DKIM may still pass when DNS answers again.
    pub unsure: Vec<String>,
    /// A number below 100, drawn for the message: whether the policy is for it.
    pub lot: u8,
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it is the author's.
    pub verdict: Verdict,
    /// What the domain wants done with this message; nothing unless the verdict is [`Verdict::Fail`].
    pub policy: Policy,
    /// What it publishes for such mail.
    pub published: Policy,
}

/// A check that is under way. Asks [`MAX_STEPS`] questions for the author and for each domain of another name that passed below
/// the same organization, and three more.
#[derive(Debug, Clone)]
pub struct Check {
    subject: Subject,
    /// What was found at each domain asked.
    known: BTreeMap<String, Option<Record>>,
    /// A domain could not be asked.
    is_faulty: bool,
    /// Whether the author's domain has anything in DNS, in the order of [`EXISTENCE`].
    exists: Vec<bool>,
    state: State,
}

/// RFC 9989 §3.2.13: what has none of these does not exist.
const EXISTENCE: [Kind; 3] = [Kind::A, Kind::Aaaa, Kind::Mx];

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Record(String),
    Existence,
    Over(Outcome),
}

impl Check {
    /// Begins.
    #[must_use]
    pub fn new(mut subject: Subject) -> Self {
        let domains = [&mut subject.author].into_iter().chain(&mut subject.spf);
        let domains = domains.chain(&mut subject.dkim).chain(&mut subject.unsure);
        domains.for_each(|domain| domain.make_ascii_lowercase());
        let mut check = Self {
            subject,
            known: BTreeMap::new(),
            is_faulty: false,
            exists: Vec::new(),
            state: State::Over(over(Verdict::None, Policy::None, Policy::None)),
        };
        check.go_on();
        check
    }

    /// What DNS is to be asked next; `None` when the check is over.
    #[must_use]
    pub fn next(&self) -> Option<Question> {
        match &self.state {
            State::Record(domain) => Some(Question::record_of(domain)),
            State::Existence => {
                let kind = EXISTENCE.get(self.exists.len())?;
                Some(Question::new(&self.subject.author, *kind))
            }
            State::Over(_) => None,
        }
    }

    /// Takes what DNS said to [`Self::next`].
    pub fn answer(&mut self, answer: Answer) {
        match &self.state {
            State::Record(domain) => {
                let domain = domain.clone();
                self.learn(domain, &answer);
            }
            // Who cannot be asked may well exist.
            State::Existence => self.exists.push(match answer {
                Answer::Records(records) => !records.is_empty(),
                Answer::NoSuchName => false,
                Answer::Unusable | Answer::Fault => true,
            }),
            State::Over(_) => return,
        }
        self.go_on();
    }

    fn learn(&mut self, domain: String, answer: &Answer) {
        let record = match answer {
            Answer::Records(records) => only(records).and_then(Record::parse),
            Answer::NoSuchName | Answer::Unusable => None,
            Answer::Fault => {
                self.is_faulty = true;
                None
            }
        };
        self.known.insert(domain, record);
    }

    /// What came out, when the check is over.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        match self.state {
            State::Over(outcome) => Some(outcome),
            State::Record(_) | State::Existence => None,
        }
    }

    /// The domain in the From field, in lower case.
    #[must_use]
    pub fn author(&self) -> &str {
        &self.subject.author
    }

    fn go_on(&mut self) {
        self.state = self.work().unwrap_or_else(|state| state);
    }

    // Thinks everything through with what is known by now; what must be asked first is the error.
    fn work(&self) -> Result<State, State> {
        let none = State::Over(over(Verdict::None, Policy::None, Policy::None));
        let author = &self.subject.author;
        // An address literal publishes nothing.
        if !is_name(author) || author.starts_with('[') {
            return Ok(none);
        }
        let walk = self.walk(author)?;
        let Some((at, record)) = walk.policy() else {
            let verdict = match self.is_faulty {
                true => Verdict::TempError,
                false => Verdict::None,
            };
            return Ok(State::Over(over(verdict, Policy::None, Policy::None)));
        };
        let organization = walk.organization();
        let spf = self
            .subject
            .spf
            .iter()
            .map(|domain| (domain, record.strict_spf));
        let dkim = self
            .subject
            .dkim
            .iter()
            .map(|domain| (domain, record.strict_dkim));
        // Both are looked at in any case: reports tell of each.
        let mut passes = false;
        for (domain, strict) in spf.chain(dkim) {
            passes |= self.is_aligned(domain, strict, organization)?;
        }
        if passes {
            return Ok(State::Over(over(
                Verdict::Pass,
                Policy::None,
                record.policy,
            )));
        }
        let published = match (record.below, record.missing) {
            _ if at == author.as_str() => record.policy,
            (below, None) => below.unwrap_or(record.policy),
            (below, Some(missing)) => match self.is_missing()? {
                true => missing,
                false => below.unwrap_or(record.policy),
            },
        };
        let is_near = |domain: &String| is_within(domain, organization);
        if self.is_faulty || self.subject.unsure.iter().any(is_near) {
            return Ok(State::Over(over(
                Verdict::TempError,
                Policy::None,
                published,
            )));
        }
        let policy = match self.subject.lot < record.percent {
            true => published,
            false => published.softer(),
        };
        Ok(State::Over(over(Verdict::Fail, policy, published)))
    }

    fn is_aligned(&self, domain: &str, strict: bool, organization: &str) -> Result<bool, State> {
        if strict || domain == self.subject.author {
            return Ok(domain == self.subject.author);
        }
        // What is not below it cannot have it as its organization, so nobody need be asked.
        if !is_name(domain) || !is_within(domain, organization) {
            return Ok(false);
        }
        Ok(self.walk(domain)?.organization() == organization)
    }

    fn is_missing(&self) -> Result<bool, State> {
        match self.exists.contains(&true) {
            true => Ok(false),
            false if self.exists.len() < EXISTENCE.len() => Err(State::Existence),
            false => Ok(true),
        }
    }

    // RFC 9989 §4.10.
    fn walk<'a>(&self, domain: &'a str) -> Result<Walk<'a>, State> {
        let mut found = Vec::new();
        let mut at = domain;
        loop {
            let record = match self.known.get(at) {
                Some(record) => record,
                // Its name with `_dmarc` in front is too long to be one.
                None if !is_name(&record_name(at)) => &None,
                None => return Err(State::Record(at.into())),
            };
            found.extend(record.map(|record| (at, record)));
            let ends = match record {
                Some(record) if at == domain => record.suffix == Suffix::No,
                Some(record) => record.suffix != Suffix::Unknown,
                None => false,
            };
            let labels = at.split('.').count();
            let next = at.split_once('.').map(|(_, above)| above);
            // From far below only the last seven labels are asked.
            let surplus = labels.saturating_sub(MAX_STEPS);
            let next = next.and_then(|above| above.splitn(surplus + 1, '.').last());
            match next {
                Some(next) if !ends => at = next,
                _ => return Ok(Walk { domain, found }),
            }
        }
    }
}

/// The records on the way up from a domain, the lowest first.
struct Walk<'a> {
    domain: &'a str,
    found: Vec<(&'a str, Record)>,
}

impl<'a> Walk<'a> {
    // RFC 9989 §4.10.2.
    fn organization(&self) -> &'a str {
        for (at, record) in &self.found {
            match record.suffix {
                Suffix::No => return at,
                // One label below it.
                Suffix::Yes if *at != self.domain => {
                    let below = self.domain.len().checked_sub(at.len() + 1);
                    let below = below.and_then(|end| self.domain.get(..end));
                    let start = below
                        .and_then(|below| below.rfind('.'))
                        .map_or(0, |dot| dot + 1);
                    return self.domain.get(start..).unwrap_or(self.domain);
                }
                Suffix::Yes | Suffix::Unknown => {}
            }
        }
        self.found.last().map_or(self.domain, |(at, _)| at)
    }

    // The domain's own record, else its organization's, else that of the suffix above (RFC 9989 §4.10.1).
    fn policy(&self) -> Option<(&'a str, Record)> {
        let organization = self.organization();
        let at = |domain: &str| self.found.iter().find(|(at, _)| *at == domain).copied();
        let suffix = || {
            let mut all = self.found.iter().copied();
            all.find(|(_, record)| record.suffix == Suffix::Yes)
        };
        at(self.domain).or_else(|| at(organization)).or_else(suffix)
    }
}

// More than one are none (RFC 9989 §4.10).
fn only(records: &[dns::Record]) -> Option<&[u8]> {
    let mut all = texts(records).filter(|text| text.starts_with(b"v=DMARC1"));
    match (all.next(), all.next()) {
        (Some(text), None) => Some(text),
        _ => None,
    }
}

fn texts(records: &[dns::Record]) -> impl Iterator<Item = &[u8]> {
    records.iter().filter_map(|record| match record {
        dns::Record::Text(text) => Some(text.as_slice()),
        dns::Record::Address(_) | dns::Record::Name(_) => None,
    })
}

const fn over(verdict: Verdict, policy: Policy, published: Policy) -> Outcome {
    Outcome {
        verdict,
        policy,
        published,
    }
}

#[cfg(test)]
mod tests;
