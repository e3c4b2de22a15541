//! Whether two domains belong to one organization (RFC 9989 §4.10.2), so that reports about the one may go to the other unasked.

use alloc::string::String;

use super::{Check, State, Subject};
use crate::dns::{Answer, Question, is_name};

/// A look at both that is under way, in the same steps as a [`Check`].
#[derive(Debug, Clone)]
pub struct Kinship {
    // For what it knows of the records; it has no author, so it asks nothing by itself.
    check: Check,
    one: String,
    other: String,
    /// DNS is to be asked for the record of this domain.
    open: Option<String>,
    is_one: bool,
}

impl Kinship {
    /// Begins.
    #[must_use]
    pub fn new(one: &str, other: &str) -> Self {
        let mut kinship = Self {
            check: Check::new(Subject::default()),
            one: one.to_ascii_lowercase(),
            other: other.to_ascii_lowercase(),
            open: None,
            is_one: false,
        };
        kinship.go_on();
        kinship
    }

    /// What DNS is to be asked next; `None` when all is known.
    #[must_use]
    pub fn next(&self) -> Option<Question> {
        self.open.as_deref().map(Question::record_of)
    }

    /// Takes what DNS said to [`Self::next`].
    pub fn answer(&mut self, answer: &Answer) {
        if let Some(domain) = self.open.take() {
            self.check.learn(domain, answer);
            self.go_on();
        }
    }

    /// Whether both are of one organization; `None` while DNS does not answer.
    #[must_use]
    pub const fn is_one(&self) -> Option<bool> {
        match self.check.is_faulty || self.open.is_some() {
            true => None,
            false => Some(self.is_one),
        }
    }

    fn go_on(&mut self) {
        if self.one == self.other {
            self.is_one = true;
            return;
        }
        if ![&self.one, &self.other]
            .into_iter()
            .all(|name| is_name(name))
        {
            return;
        }
        match (self.check.walk(&self.one), self.check.walk(&self.other)) {
            (Ok(one), Ok(other)) => self.is_one = one.organization() == other.organization(),
            (Err(State::Record(domain)), _) | (_, Err(State::Record(domain))) => {
                self.open = Some(domain);
            }
            // A walk wants nothing else.
            (Err(_), _) | (_, Err(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::super::dns;
    use super::*;

    fn is_one(one: &str, other: &str) -> (Option<bool>, usize) {
        let zone = [
            ("_dmarc.example.com", "v=DMARC1; p=none"),
            ("_dmarc.com", "v=DMARC1; p=none; psd=y"),
            ("_dmarc.own.example.com", "v=DMARC1; p=none; psd=n"),
        ];
        let mut kinship = Kinship::new(one, other);
        let mut asked = 0;
        while let Some(question) = kinship.next() {
            let text = zone.iter().find(|(name, _)| *name == question.name);
            kinship.answer(&match text {
                Some((_, text)) => {
                    Answer::Records(vec![dns::Record::Text(text.as_bytes().to_vec())])
                }
                None if question.name == "_dmarc.silent.test" => Answer::Fault,
                None => Answer::NoSuchName,
            });
            asked += 1;
            assert!(asked < 50);
        }
        (kinship.is_one(), asked)
    }

    #[test]
    fn domains_below_the_same_organization_belong_together() {
        assert_eq!(is_one("Example.com", "example.COM"), (Some(true), 0));
        for (one, other, wanted) in [
            ("example.com", "reports.example.com", Some(true)),
            ("a.b.example.com", "c.example.com", Some(true)),
            ("example.com", "own.example.com", Some(false)),
            ("example.com", "example.net", Some(false)),
            ("example.com", "other.com", Some(false)),
            ("example.com", "evilexample.com", Some(false)),
            ("example.com", "silent.test", None),
            ("example.com", "", Some(false)),
        ] {
            assert_eq!(is_one(one, other).0, wanted, "{one} {other}");
            assert_eq!(is_one(other, one).0, wanted, "{other} {one}");
        }
        let deep = "a.".repeat(120) + "example.com";
        assert!(is_one(&deep, "example.com").1 <= 12);
    }
}
