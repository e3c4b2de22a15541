//! What the outcome of a check stands on, for those who report it to the domain (RFC 9990).

use alloc::string::String;

use super::{Check, Policy, State};

/// What a domain published, and which of its means were aligned with the author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    /// Where the record is: the author's domain, or one above it.
    pub domain: String,
    /// For the domain itself (`p`).
    pub policy: Policy,
    /// For domains below (`sp`).
    pub below: Option<Policy>,
    /// For domains below that do not exist (`np`).
    pub missing: Option<Policy>,
    /// `adkim=s`.
    pub strict_dkim: bool,
    /// `aspf=s`.
    pub strict_spf: bool,
    /// `t=y`.
    pub is_test: bool,
    /// The domain wants reports (`rua`).
    pub wants_reports: bool,
    /// A good signature is of a domain aligned with the author's.
    pub dkim_aligned: bool,
    /// SPF passed for a domain aligned with the author's.
    pub spf_aligned: bool,
}

impl Check {
    /// `None` before the check is over, and where nothing is published.
    #[must_use]
    pub fn basis(&self) -> Option<Basis> {
        if !matches!(self.state, State::Over(_)) {
            return None;
        }
        let walk = self.walk(&self.subject.author).ok()?;
        let (at, record) = walk.policy()?;
        let organization = walk.organization();
        // What was not asked about came to nothing.
        let is_aligned =
            |domain: &String, strict| self.is_aligned(domain, strict, organization) == Ok(true);
        let mut dkim = self.subject.dkim.iter();
        let mut spf = self.subject.spf.iter();
        Some(Basis {
            domain: at.into(),
            policy: record.policy,
            below: record.below,
            missing: record.missing,
            strict_dkim: record.strict_dkim,
            strict_spf: record.strict_spf,
            is_test: record.is_test,
            wants_reports: record.wants_reports,
            dkim_aligned: dkim.any(|domain| is_aligned(domain, record.strict_dkim)),
            spf_aligned: spf.any(|domain| is_aligned(domain, record.strict_spf)),
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::super::{Subject, dns};
    use super::*;

    fn basis(text: &str, subject: Subject) -> Option<Basis> {
        let mut check = Check::new(subject);
        while let Some(question) = check.next() {
            check.answer(match question.name.as_str() {
                "_dmarc.example.com" => {
                    dns::Answer::Records(vec![dns::Record::Text(text.as_bytes().to_vec())])
                }
                _ => dns::Answer::NoSuchName,
            });
        }
        check.basis()
    }

    #[test]
    fn each_of_the_two_is_aligned_by_itself() {
        let text = "v=DMARC1; p=reject; sp=none; aspf=s; t=y; rua=mailto:d@example.com";
        let subject = |spf: &str, dkim: &str| Subject {
            author: "a.example.com".into(),
            spf: Some(spf.into()),
            dkim: vec!["evil.test".into(), dkim.into()],
            ..Subject::default()
        };
        for (spf, dkim, spf_aligned, dkim_aligned) in [
            ("a.example.com", "example.com", true, true),
            ("a.example.com", "b.example.com", true, true),
            ("a.example.com", "com", true, false),
            ("b.example.com", "b.example.com", false, true),
            ("evil.test", "evil.test", false, false),
        ] {
            let found = basis(text, subject(spf, dkim)).unwrap();
            assert_eq!(found.domain, "example.com");
            let aligned = (found.spf_aligned, found.dkim_aligned);
            assert_eq!(aligned, (spf_aligned, dkim_aligned), "{spf} {dkim}");
            assert_eq!(
                (found.policy, found.below),
                (Policy::Reject, Some(Policy::None))
            );
            assert!(found.strict_spf && !found.strict_dkim);
            assert!(found.is_test && found.wants_reports);
        }
        assert_eq!(basis("v=spf1", subject("evil.test", "evil.test")), None);
        let silent = basis("v=DMARC1; p=none", subject("x.test", "x.test")).unwrap();
        assert!(!silent.wants_reports && !silent.is_test);
    }
}
