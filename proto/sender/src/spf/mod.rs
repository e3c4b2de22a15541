//! SPF (RFC 7208): may a host send mail in the name of a domain?
//!
//! [`Check`] is `check_host()` of §4. Records that include others lie on a stack, which is no deeper than there may be look-ups.

mod record;
mod text;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use self::record::{Mechanism, Record, Selected};
use self::text::{Text, Values};
use crate::dns::{self, Answer, Kind, Question, is_within};
use crate::iprev;

/// Terms that ask DNS, in all records of a check (RFC 7208 §4.6.4).
const MAX_LOOKUPS: usize = 10;
/// Those of them that may find nothing.
const MAX_VOID: usize = 2;
/// Mail exchangers of a domain.
const MAX_EXCHANGES: usize = 10;
/// Bytes of an explanation.
const MAX_EXPLANATION: usize = 400;

/// What a check says (RFC 7208 §2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is no domain, or it publishes nothing.
    None,
    /// The domain says nothing about the host.
    Neutral,
    /// The host may.
    Pass,
    /// The host may not.
    Fail,
    /// The host probably may not.
    SoftFail,
    /// DNS did not answer; later it may.
    TempError,
    /// What the domain publishes cannot be read.
    PermError,
}

impl Verdict {
    /// The word for it in `Authentication-Results`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// What is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The client's.
    pub address: IpAddr,
    /// What it said in HELO or EHLO.
    pub helo: String,
    /// The local part of the sender; `None` for `postmaster`.
    pub local: Option<String>,
    /// The domain that is asked.
    pub domain: String,
    /// Our name.
    pub receiver: String,
    /// Seconds since 1970.
    pub now: u64,
}

impl Subject {
    /// Of MAIL: the sender, or the name in HELO where there is none (RFC 7208 §2.4).
    #[must_use]
    pub fn mail(address: IpAddr, helo: &str, sender: Option<(&str, &str)>) -> Self {
        let (local, domain) = match sender {
            Some((local, domain)) => (Some(local.into()), domain),
            None => (None, helo),
        };
        Self {
            address,
            helo: helo.into(),
            local,
            domain: domain.into(),
            receiver: "unknown".into(),
            now: 0,
        }
    }
}

/// A check that is under way; asks some 130 questions at most.
#[derive(Debug, Clone)]
pub struct Check {
    subject: Subject,
    /// The record of the domain, and those it includes; the innermost one last.
    stack: Vec<Frame>,
    lookups: usize,
    void: usize,
    /// Of the client, once they were needed.
    names: Option<Vec<String>>,
    phase: Phase,
    problem: Option<&'static str>,
}

#[derive(Debug, Clone)]
struct Frame {
    domain: String,
    record: Record,
    /// The directive that is looked at.
    at: usize,
}

#[derive(Debug, Clone)]
enum Phase {
    /// The next term is to be looked at.
    Ready,
    /// A record is asked for.
    Record {
        domain: String,
        why: Why,
    },
    /// The addresses of a name: do they match in these bits?
    Addresses {
        name: String,
        bits: u32,
    },
    /// Does a name have an IPv4 address at all?
    Exists {
        name: String,
    },
    Exchanges {
        name: String,
        bits: u32,
    },
    /// The addresses of the mail exchangers, the next one last.
    Exchangers {
        names: Vec<String>,
        bits: u32,
    },
    /// The names of the client; what was to be done before comes after it.
    Names {
        check: iprev::Check,
        then: Option<(Text, String)>,
    },
    /// The check failed, and the text says why in the words of the domain.
    Explain {
        text: Text,
        domain: String,
    },
    Explanation {
        name: String,
        domain: String,
    },
    /// The words have the client's name in them.
    Words {
        text: Text,
        domain: String,
    },
    Over {
        verdict: Verdict,
        explanation: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    First,
    Include,
    Redirect,
}

/// What a term comes to.
enum Flow {
    Wait(Phase),
    Match(bool),
    End(Verdict),
}

impl Check {
    /// Begins. An IPv4 address mapped into IPv6 is that IPv4 address.
    #[must_use]
    pub fn new(mut subject: Subject) -> Self {
        subject.address = subject.address.to_canonical();
        let domain = iprev::without_dot(&subject.domain);
        // RFC 7208 §4.3: what is no name of several labels publishes nothing.
        let is_good = dns::is_name(domain) && domain.contains('.') && !domain.starts_with('[');
        let phase = match is_good {
            true => Phase::Record {
                domain: domain.into(),
                why: Why::First,
            },
            false => Phase::Over {
                verdict: Verdict::None,
                explanation: None,
            },
        };
        Self {
            subject,
            stack: Vec::new(),
            lookups: 0,
            void: 0,
            names: None,
            phase,
            problem: None,
        }
    }

    /// What DNS is to be asked next; `None` when the check is over.
    #[must_use]
    pub fn next(&self) -> Option<Question> {
        match &self.phase {
            Phase::Record { domain, .. } => Some(Question::new(domain, Kind::Txt)),
            Phase::Addresses { name, .. } => Some(Question::addresses(name, self.subject.address)),
            Phase::Exists { name } => Some(Question::new(name, Kind::A)),
            Phase::Exchanges { name, .. } => Some(Question::new(name, Kind::Mx)),
            Phase::Exchangers { names, .. } => {
                let name = names.last()?;
                Some(Question::addresses(name, self.subject.address))
            }
            Phase::Names { check, .. } => check.next(),
            Phase::Explanation { name, .. } => Some(Question::new(name, Kind::Txt)),
            // `answer` does not stop at these.
            Phase::Ready | Phase::Explain { .. } | Phase::Words { .. } => None,
            Phase::Over { .. } => None,
        }
    }

    /// Takes what DNS said to [`Self::next`].
    pub fn answer(&mut self, answer: Answer) {
        let phase = core::mem::replace(&mut self.phase, Phase::Ready);
        self.take(phase, answer);
        self.go_on();
    }

    /// The verdict, when the check is over.
    #[must_use]
    pub const fn verdict(&self) -> Option<Verdict> {
        match self.phase {
            Phase::Over { verdict, .. } => Some(verdict),
            _ => None,
        }
    }

    /// The domain's own words about a failure (RFC 7208 §6.2): printable ASCII, from a stranger.
    #[must_use]
    pub fn explanation(&self) -> Option<&str> {
        match &self.phase {
            Phase::Over { explanation, .. } => explanation.as_deref(),
            _ => None,
        }
    }

    /// What is wrong, with [`Verdict::PermError`] and [`Verdict::TempError`].
    #[must_use]
    pub const fn problem(&self) -> Option<&'static str> {
        self.problem
    }

    /// Whom it is about.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }

    fn take(&mut self, phase: Phase, answer: Answer) {
        let flow = match phase {
            Phase::Record { domain, why } => return self.take_record(domain, why, answer),
            Phase::Addresses { bits, .. } => self
                .found(answer)
                .map(|found| Flow::Match(found.iter().any(|record| self.is_near(record, bits)))),
            Phase::Exists { .. } => self
                .found(answer)
                .map(|found| Flow::Match(!found.is_empty())),
            Phase::Exchanges { bits, .. } => {
                let found = self.found(answer);
                found.and_then(|found| self.take_exchangers(found, bits))
            }
            Phase::Exchangers { mut names, bits } => {
                names.pop();
                self.heard(answer).map(|found| {
                    match found.iter().any(|record| self.is_near(record, bits)) {
                        true => Flow::Match(true),
                        false if names.is_empty() => Flow::Match(false),
                        false => Flow::Wait(Phase::Exchangers { names, bits }),
                    }
                })
            }
            Phase::Names { mut check, then } => {
                check.answer(answer);
                return self.take_names(check, then);
            }
            Phase::Explanation { domain, .. } => {
                let texts = match answer {
                    Answer::Records(records) => texts(records),
                    Answer::NoSuchName | Answer::Unusable | Answer::Fault => Vec::new(),
                };
                self.phase = match record::explanation(&texts) {
                    Some(text) => Phase::Words { text, domain },
                    None => failed(None),
                };
                return;
            }
            over => {
                self.phase = over;
                return;
            }
        };
        self.settle(flow.unwrap_or_else(Flow::End));
    }

    // The records in an answer to a term; it counts when there are none (RFC 7208 §4.6.4).
    fn found(&mut self, answer: Answer) -> Result<Vec<dns::Record>, Verdict> {
        let found = self.heard(answer)?;
        if found.is_empty() {
            self.void += 1;
        }
        match self.void > MAX_VOID {
            true => Err(self.broken("too many look-ups that find nothing")),
            false => Ok(found),
        }
    }

    fn take_exchangers(&mut self, found: Vec<dns::Record>, bits: u32) -> Result<Flow, Verdict> {
        if found.len() > MAX_EXCHANGES {
            return Err(self.broken("too many mail exchangers"));
        }
        let name = |record| match record {
            dns::Record::Name(name) => Some(iprev::without_dot(&name).to_string()),
            dns::Record::Address(_) | dns::Record::Text(_) => None,
        };
        let names = found.into_iter().rev().filter_map(name);
        // RFC 7505: "." stands for no host.
        let names: Vec<String> = names.filter(|name| dns::is_name(name)).collect();
        Ok(match names.is_empty() {
            true => Flow::Match(false),
            false => Flow::Wait(Phase::Exchangers { names, bits }),
        })
    }

    fn heard(&mut self, answer: Answer) -> Result<Vec<dns::Record>, Verdict> {
        match answer {
            Answer::Records(records) => Ok(records),
            Answer::NoSuchName => Ok(Vec::new()),
            Answer::Unusable => Err(self.broken("an answer from DNS is too large")),
            Answer::Fault => {
                self.problem = Some("no answer from DNS");
                Err(Verdict::TempError)
            }
        }
    }

    fn broken(&mut self, problem: &'static str) -> Verdict {
        self.problem = Some(problem);
        Verdict::PermError
    }

    fn take_record(&mut self, domain: String, why: Why, answer: Answer) {
        let records = match self.heard(answer) {
            Ok(records) => records,
            Err(verdict) => return self.abandon(verdict),
        };
        let record = match record::select(&texts(records)) {
            Selected::One(record) => record,
            Selected::None if why == Why::First => return self.abandon(Verdict::None),
            Selected::None => {
                let verdict = self.broken("a record that another one refers to is not there");
                return self.abandon(verdict);
            }
            Selected::Bad(problem) => {
                let verdict = self.broken(problem);
                return self.abandon(verdict);
            }
        };
        if why == Why::Redirect {
            self.stack.pop();
        }
        self.stack.push(Frame {
            domain,
            record,
            at: 0,
        });
    }

    fn take_names(&mut self, check: iprev::Check, then: Option<(Text, String)>) {
        if check.next().is_some() {
            self.phase = Phase::Names { check, then };
            return;
        }
        // RFC 7208 §5.5: without an answer there is no name, which is no error.
        self.names = Some(check.names().to_vec());
        if let Some((text, domain)) = then {
            self.phase = Phase::Words { text, domain };
            return;
        }
        self.void += usize::from(check.verdict() == Some(iprev::Verdict::PermError));
        if self.void > MAX_VOID {
            let verdict = self.broken("too many look-ups that find nothing");
            self.abandon(verdict);
        }
    }

    // Goes from term to term until something is to be asked, or the check is over.
    fn go_on(&mut self) {
        loop {
            match core::mem::replace(&mut self.phase, Phase::Ready) {
                Phase::Ready => {
                    let flow = self.look();
                    self.settle(flow.unwrap_or_else(Flow::End));
                }
                Phase::Explain { text, domain } => self.explain(text, domain),
                Phase::Words { text, domain } => self.speak(text, domain),
                waiting => {
                    self.phase = waiting;
                    return;
                }
            }
        }
    }

    // The term that the innermost record is at.
    fn look(&mut self) -> Result<Flow, Verdict> {
        let Some(frame) = self.stack.last() else {
            return Ok(Flow::End(Verdict::None));
        };
        let Some(directive) = frame.record.directives.get(frame.at) else {
            let redirect = frame.record.redirect.clone();
            return match redirect {
                Some(text) => self.follow(&text, Why::Redirect),
                None => Ok(Flow::End(Verdict::Neutral)),
            };
        };
        let mechanism = directive.mechanism.clone();
        let wants_names = matches!(mechanism, Mechanism::Ptr(_))
            || mechanism.text().is_some_and(|text| text.has(b'p'));
        if wants_names && self.names.is_none() {
            return Ok(Flow::Wait(self.ask_names(None)));
        }
        if mechanism.asks() {
            self.count()?;
        }
        self.evaluate(&mechanism)
    }

    fn evaluate(&mut self, mechanism: &Mechanism) -> Result<Flow, Verdict> {
        let bits = |lengths: record::Lengths| match self.subject.address {
            IpAddr::V4(_) => lengths.v4,
            IpAddr::V6(_) => lengths.v6,
        };
        Ok(match mechanism {
            Mechanism::All => Flow::Match(true),
            Mechanism::Ip4(network, bits) => Flow::Match(self.is_in((*network).into(), *bits)),
            Mechanism::Ip6(network, bits) => Flow::Match(self.is_in((*network).into(), *bits)),
            Mechanism::Include(text) => {
                return self.find(text, Why::Include);
            }
            Mechanism::A(text, lengths) => {
                let bits = bits(*lengths);
                self.ask(text.as_ref(), |name| Phase::Addresses { name, bits })
            }
            Mechanism::Mx(text, lengths) => {
                let bits = bits(*lengths);
                self.ask(text.as_ref(), |name| Phase::Exchanges { name, bits })
            }
            Mechanism::Exists(text) => self.ask(Some(text), |name| Phase::Exists { name }),
            Mechanism::Ptr(text) => {
                let names = self.names.iter().flatten();
                let target = self.target(text.as_ref());
                let is_below =
                    |target: String| names.into_iter().any(|name| is_within(name, &target));
                Flow::Match(target.is_some_and(is_below))
            }
        })
    }

    // RFC 7208 §4.8: what cannot be a name matches nothing.
    fn ask(&self, text: Option<&Text>, wait: impl FnOnce(String) -> Phase) -> Flow {
        match self.target(text) {
            Some(name) => Flow::Wait(wait(name)),
            None => Flow::Match(false),
        }
    }

    fn target(&self, text: Option<&Text>) -> Option<String> {
        let domain = self.domain();
        match text {
            Some(text) => text.name(&self.values(domain)),
            None => Some(domain.into()),
        }
    }

    fn follow(&mut self, text: &Text, why: Why) -> Result<Flow, Verdict> {
        if text.has(b'p') && self.names.is_none() {
            return Ok(Flow::Wait(self.ask_names(None)));
        }
        self.count()?;
        self.find(text, why)
    }

    fn find(&mut self, text: &Text, why: Why) -> Result<Flow, Verdict> {
        match self.target(Some(text)) {
            Some(domain) => Ok(Flow::Wait(Phase::Record { domain, why })),
            None => Err(self.broken("a record refers to another one at what is no domain")),
        }
    }

    fn count(&mut self) -> Result<(), Verdict> {
        self.lookups += 1;
        match self.lookups > MAX_LOOKUPS {
            true => Err(self.broken("too many look-ups")),
            false => Ok(()),
        }
    }

    fn ask_names(&self, then: Option<(Text, String)>) -> Phase {
        let check = iprev::Check::new(self.subject.address);
        Phase::Names { check, then }
    }

    fn settle(&mut self, flow: Flow) {
        match flow {
            Flow::Wait(phase) => self.phase = phase,
            Flow::End(verdict) => self.end(verdict),
            Flow::Match(true) => {
                let frame = self.stack.last();
                let directive = frame.and_then(|frame| frame.record.directives.get(frame.at));
                let verdict = directive.map_or(Verdict::None, |directive| directive.verdict);
                self.end(verdict);
            }
            Flow::Match(false) => self.pass_on(),
        }
    }

    fn pass_on(&mut self) {
        if let Some(frame) = self.stack.last_mut() {
            frame.at += 1;
        }
    }

    // The innermost record has its verdict; those that include it go on from there (RFC 7208 §5.2).
    fn end(&mut self, mut verdict: Verdict) {
        loop {
            let ended = self.stack.pop();
            let Some(outer) = self.stack.last() else {
                return self.conclude(verdict, ended);
            };
            verdict = match verdict {
                Verdict::Pass => match outer.record.directives.get(outer.at) {
                    Some(directive) => directive.verdict,
                    None => Verdict::PermError,
                },
                Verdict::Fail | Verdict::SoftFail | Verdict::Neutral => return self.pass_on(),
                Verdict::TempError | Verdict::PermError => return self.abandon(verdict),
                Verdict::None => return self.abandon(Verdict::PermError),
            };
        }
    }

    // An error anywhere is the verdict of all.
    fn abandon(&mut self, verdict: Verdict) {
        self.stack.clear();
        self.conclude(verdict, None);
    }

    fn conclude(&mut self, verdict: Verdict, last: Option<Frame>) {
        let explanation = last.and_then(|frame| {
            let text = frame.record.explanation?;
            Some((text, frame.domain))
        });
        self.phase = match explanation {
            Some((text, domain)) if verdict == Verdict::Fail => Phase::Explain { text, domain },
            _ => Phase::Over {
                verdict,
                explanation: None,
            },
        };
    }

    fn explain(&mut self, text: Text, domain: String) {
        // The client's name in the name of the text is seldom worth the look-ups; without it there are no words.
        let name = match text.has(b'p') && self.names.is_none() {
            true => None,
            false => text.name(&self.values(&domain)),
        };
        self.phase = match name {
            Some(name) => Phase::Explanation { name, domain },
            None => failed(None),
        };
    }

    fn speak(&mut self, text: Text, domain: String) {
        self.phase = match text.has(b'p') && self.names.is_none() {
            true => self.ask_names(Some((text, domain))),
            false => {
                let words = text.expand(&self.values(&domain), MAX_EXPLANATION);
                let is_plain =
                    |words: &String| words.bytes().all(|byte| matches!(byte, b' '..=b'~'));
                failed(words.filter(is_plain))
            }
        };
    }

    fn domain(&self) -> &str {
        self.stack.last().map_or("", |frame| &frame.domain)
    }

    fn values<'a>(&'a self, domain: &'a str) -> Expansion<'a> {
        Expansion {
            check: self,
            domain,
        }
    }

    fn is_near(&self, record: &dns::Record, bits: u32) -> bool {
        match record {
            dns::Record::Address(address) => self.is_in(*address, bits),
            dns::Record::Name(_) | dns::Record::Text(_) => false,
        }
    }

    fn is_in(&self, network: IpAddr, bits: u32) -> bool {
        let rest = |width: u32| width.saturating_sub(bits);
        match (self.subject.address, network) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differs = ours.to_bits() ^ theirs.to_bits();
                differs.checked_shr(rest(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differs = ours.to_bits() ^ theirs.to_bits();
                differs.checked_shr(rest(128)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

const fn failed(explanation: Option<String>) -> Phase {
    Phase::Over {
        verdict: Verdict::Fail,
        explanation,
    }
}

fn texts(records: Vec<dns::Record>) -> Vec<Vec<u8>> {
    let text = |record| match record {
        dns::Record::Text(text) => Some(text),
        dns::Record::Address(_) | dns::Record::Name(_) => None,
    };
    records.into_iter().filter_map(text).collect()
}

/// What the macros of a text stand for (RFC 7208 §7.2, §7.3).
struct Expansion<'a> {
    check: &'a Check,
    /// The one whose record it is.
    domain: &'a str,
}

impl Values for Expansion<'_> {
    fn value(&self, letter: u8) -> String {
        let subject = &self.check.subject;
        let local = subject.local.as_deref().filter(|local| !local.is_empty());
        let local = local.unwrap_or("postmaster");
        match letter {
            b's' => format!("{local}@{}", subject.domain),
            b'l' => local.into(),
            b'o' => subject.domain.clone(),
            b'd' => self.domain.into(),
            b'i' => dns::labels(subject.address),
            b'p' => self.name().unwrap_or("unknown").into(),
            b'v' => match subject.address {
                IpAddr::V4(_) => "in-addr".into(),
                IpAddr::V6(_) => "ip6".into(),
            },
            b'h' => subject.helo.clone(),
            b'c' => subject.address.to_string(),
            b'r' => subject.receiver.clone(),
            b't' => subject.now.to_string(),
            _ => String::new(),
        }
    }
}

impl Expansion<'_> {
    // The domain itself, else one below it, else any.
    fn name(&self) -> Option<&str> {
        let names = self.check.names.as_deref()?;
        let same = names
            .iter()
            .find(|name| name.eq_ignore_ascii_case(self.domain));
        let below = || names.iter().find(|name| is_within(name, self.domain));
        same.or_else(below).or(names.first()).map(String::as_str)
    }
}
