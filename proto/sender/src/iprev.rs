//! Whether an address has a name that has that address (RFC 8601 §3, RFC 7208 §5.5).

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::dns::{Answer, Question, Record};

/// Names of an address that are looked at (RFC 7208 §4.6.4).
pub const MAX_NAMES: usize = 10;

/// What is the matter with an address (RFC 8601 §2.7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has a name that has it.
    Pass,
    /// None of its names has it.
    Fail,
    /// A name server did not answer.
    TempError,
    /// It has no name.
    PermError,
}

impl Verdict {
    /// The word for it in `Authentication-Results`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// A check that is under way; asks 1 + [`MAX_NAMES`] questions at most.
#[derive(Debug, Clone)]
pub struct Check {
    address: IpAddr,
    /// Those still to be looked at, the last one first.
    waiting: Vec<String>,
    good: Vec<String>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Names,
    Addresses { faulty: bool },
    Over(Verdict),
}

impl Check {
    /// Begins. An IPv4 address mapped into IPv6 is that IPv4 address.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self {
            address: address.to_canonical(),
            waiting: Vec::new(),
            good: Vec::new(),
            state: State::Names,
        }
    }

    /// What DNS is to be asked next; `None` when the check is over.
    #[must_use]
    pub fn next(&self) -> Option<Question> {
        match self.state {
            State::Names => Some(Question::names(self.address)),
            State::Addresses { .. } => {
                let name = self.waiting.last()?;
                Some(Question::addresses(name, self.address))
            }
            State::Over(_) => None,
        }
    }

    /// Takes what DNS said to [`Self::next`].
    pub fn answer(&mut self, answer: Answer) {
        match self.state {
            State::Names => self.take_names(answer),
            State::Addresses { faulty } => self.take_addresses(answer, faulty),
            State::Over(_) => {}
        }
    }

    fn take_names(&mut self, answer: Answer) {
        self.state = match answer {
            Answer::Records(records) => {
                let name = |record| match record {
                    Record::Name(name) => Some(name),
                    Record::Address(_) | Record::Text(_) => None,
                };
                let names = records.into_iter().filter_map(name);
                let names = names.map(|name| without_dot(&name).into());
                self.waiting = names
                    .filter(|name: &String| crate::dns::is_name(name))
                    .take(MAX_NAMES)
                    .collect();
                self.waiting.reverse();
                match self.waiting.is_empty() {
                    true => State::Over(Verdict::PermError),
                    false => State::Addresses { faulty: false },
                }
            }
            Answer::NoSuchName | Answer::Unusable => State::Over(Verdict::PermError),
            Answer::Fault => State::Over(Verdict::TempError),
        };
    }

    fn take_addresses(&mut self, answer: Answer, mut faulty: bool) {
        let name = self.waiting.pop();
        match answer {
            Answer::Records(records) if records.contains(&Record::Address(self.address)) => {
                self.good.extend(name);
            }
            Answer::Records(_) | Answer::NoSuchName | Answer::Unusable => {}
            Answer::Fault => faulty = true,
        }
        self.state = match (self.waiting.is_empty(), self.good.is_empty()) {
            (false, _) => State::Addresses { faulty },
            (true, false) => State::Over(Verdict::Pass),
            (true, true) if faulty => State::Over(Verdict::TempError),
            (true, true) => State::Over(Verdict::Fail),
        };
    }

    /// The verdict, when the check is over.
    #[must_use]
    pub const fn verdict(&self) -> Option<Verdict> {
        match self.state {
            State::Over(verdict) => Some(verdict),
            State::Names | State::Addresses { .. } => None,
        }
    }

    /// The names found to have the address, in the order DNS told them.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.good
    }
}

pub(crate) fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Kind;
    use alloc::vec;

    fn names(names: &[&str]) -> Answer {
        Answer::Records(
            names
                .iter()
                .map(|&name| Record::Name(name.into()))
                .collect(),
        )
    }

    fn addresses(addresses: &[&str]) -> Answer {
        let record = |text: &&str| Record::Address(text.parse().unwrap());
        Answer::Records(addresses.iter().map(record).collect())
    }

    fn check(address: &str, answers: Vec<Answer>) -> (Option<Verdict>, Vec<String>) {
        let mut check = Check::new(address.parse().unwrap());
        for answer in answers {
            assert!(check.next().is_some());
            check.answer(answer);
        }
        (check.verdict(), check.names().to_vec())
    }

    #[test]
    fn a_name_counts_when_it_has_the_address() {
        let found = vec![
            names(&["a.example.", "b.example"]),
            addresses(&[]),
            addresses(&["192.0.2.2", "192.0.2.1"]),
        ];
        assert_eq!(
            check("192.0.2.1", found),
            (Some(Verdict::Pass), vec!["b.example".into()])
        );
        let not_ours = vec![names(&["a.example"]), addresses(&["192.0.2.2"])];
        assert_eq!(
            check("::ffff:192.0.2.1", not_ours),
            (Some(Verdict::Fail), vec![])
        );
    }

    #[test]
    fn errors_have_their_own_words() {
        for (answers, verdict) in [
            (vec![Answer::NoSuchName], Verdict::PermError),
            (vec![names(&[])], Verdict::PermError),
            (vec![names(&["a..example"])], Verdict::PermError),
            (vec![Answer::Fault], Verdict::TempError),
            (
                vec![
                    names(&["a.example", "b.example"]),
                    Answer::Fault,
                    Answer::NoSuchName,
                ],
                Verdict::TempError,
            ),
        ] {
            assert_eq!(check("2001:db8::1", answers).0, Some(verdict));
        }
    }

    #[test]
    fn a_hundred_names_are_not_looked_at() {
        let mut check = Check::new("192.0.2.1".parse().unwrap());
        assert_eq!(
            check.next(),
            Some(Question::new("1.2.0.192.in-addr.arpa", Kind::Ptr))
        );
        check.answer(names(&["a.example"; 100]));
        let mut asked = 0;
        while check.next().is_some() {
            check.answer(Answer::NoSuchName);
            asked += 1;
        }
        assert_eq!((asked, check.verdict()), (MAX_NAMES, Some(Verdict::Fail)));
    }
}
