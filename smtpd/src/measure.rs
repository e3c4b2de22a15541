//! What is done with a message: which measures count for which recipients, and what comes of them for each.

use std::collections::HashMap;

use daemon::config::{Authentication, Measure, Measures};
use ipc::delivery::Destination;
use mail::address::Domain;
use sender::dmarc::{Outcome, Policy};
use tracing::info;

/// Which measures count for a recipient, by its domain: those of an entry of `authentication.domains`, or the general ones.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule(usize);

/// All measures of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Rulebook {
    general: Measures,
    /// Of each entry for some domains; the first is `Rule(1)`.
    special: Vec<Measures>,
    by_domain: HashMap<String, Rule>,
}

impl Rulebook {
    pub(crate) fn new(config: &Authentication) -> Self {
        let general = config.measures();
        let mut by_domain = HashMap::new();
        for (entry, number) in config.domains.iter().zip(1..) {
            let names = entry.names.iter();
            by_domain.extend(names.map(|name| (name.as_str().to_owned(), Rule(number))));
        }
        let special = config.domains.iter();
        Self {
            general,
            special: special.map(|entry| entry.over(general)).collect(),
            by_domain,
        }
    }

    /// Which measures count for recipients of that domain; `None` where all domains are alike.
    pub(crate) fn rule(&self, domain: &Domain) -> Option<Rule> {
        if self.special.is_empty() {
            return None;
        }
        // Both are in lower case.
        Some(
            self.by_domain
                .get(domain.as_str())
                .copied()
                .unwrap_or_default(),
        )
    }

    /// What they are.
    pub(crate) fn measures(&self, Rule(number): Rule) -> Measures {
        let special = number
            .checked_sub(1)
            .and_then(|index| self.special.get(index));
        special.copied().unwrap_or(self.general)
    }
}

/// What was found that leads to a measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nothing against it.
    Nothing,
    /// There is no one author.
    UnclearAuthor,
    /// Neither SPF nor DKIM speaks for the author's domain, which wants this done.
    Dmarc(Policy),
    /// The sender's domain says the client may not send its mail.
    Spf,
    /// No signature is good, and one is bad.
    Dkim,
}

impl Cause {
    /// The key of the configuration that says what is done about it.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Nothing | Self::Dmarc(Policy::None) => "authentication",
            Self::UnclearAuthor => "authentication.unclear_author",
            Self::Dmarc(Policy::Quarantine) => "authentication.dmarc_quarantine",
            Self::Dmarc(Policy::Reject) => "authentication.dmarc_reject",
            Self::Spf => "authentication.spf_fail",
            Self::Dkim => "authentication.dkim_fail",
        }
    }
}

/// What the measures for a recipient come to for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disposition {
    /// The strictest of them against anything that was found.
    pub(crate) measure: Measure,
    /// Against what.
    pub(crate) cause: Cause,
    /// The message is rather to come again when DNS answers.
    pub(crate) is_put_off: bool,
}

impl Disposition {
    /// Nothing is done.
    pub(crate) const ACCEPTED: Self = Self {
        measure: Measure::Accept,
        cause: Cause::Nothing,
        is_put_off: false,
    };

    /// Whether the client would be told that the message is not taken, were there no other recipients.
    pub(crate) fn is_refused(self) -> bool {
        self.measure == Measure::Reject || self.is_put_off
    }

    /// Whether the recipient does not get a message that is taken, until the operator releases it.
    pub(crate) fn is_held(self) -> bool {
        self.measure == Measure::Quarantine
    }

    /// Where the recipient finds a message that is taken and not held: what would be refused, but for other recipients, is junk.
    pub(crate) fn destination(self) -> Destination {
        match self.measure {
            Measure::Accept => Destination::Inbox,
            Measure::Junk | Measure::Quarantine | Measure::Reject => Destination::Junk,
        }
    }
}

/// What was done with a message because of its author's domain's policy, as that domain may hear of it (RFC 9990).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    /// What was done: for whom it was the mildest, if not the same for all.
    pub(crate) disposition: Policy,
    /// Why it is not what the domain wants, if it is not.
    pub(crate) reason: Option<Override>,
    /// The key of the configuration that says so.
    key: &'static str,
}

/// Why something else was done than the author's domain wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Override {
    /// The configuration wants it.
    LocalPolicy,
    /// The domain wants it for a part of the messages only (RFC 7489 §6.6.4), or tries its policy out.
    SampledOut,
    /// Sealers of ARC that are trusted say that DMARC passed before.
    Vouched(String),
}

impl Override {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::LocalPolicy | Self::Vouched(_) => "local_policy",
            Self::SampledOut => "sampled_out",
        }
    }
}

impl Applied {
    /// Where DMARC said `outcome`, and these are the dispositions for the recipients of a message that was taken, or not.
    pub(crate) fn new(outcome: Outcome, is_taken: bool, dispositions: &[Disposition]) -> Self {
        let done = |one: &Disposition| match one.measure {
            Measure::Accept => Policy::None,
            Measure::Junk | Measure::Quarantine => Policy::Quarantine,
            Measure::Reject if is_taken => Policy::Quarantine,
            Measure::Reject => Policy::Reject,
        };
        let mildest = dispositions.iter().min_by_key(|one| done(one));
        let disposition = mildest.map_or(Policy::None, done);
        Self {
            disposition,
            reason: match disposition {
                done if done == outcome.published => None,
                done if done == outcome.policy => Some(Override::SampledOut),
                _ => Some(Override::LocalPolicy),
            },
            key: mildest.map_or(Cause::Nothing, |one| one.cause).key(),
        }
    }

    /// The same, where a chain of ARC is why nothing was done; `chain` says which, as a report has it.
    // RFC 8617 §7.2.2.
    pub(crate) fn because_of(self, chain: Option<String>) -> Self {
        match (&self.reason, self.disposition, chain) {
            (Some(Override::LocalPolicy), Policy::None, Some(chain)) => Self {
                reason: Some(Override::Vouched(chain)),
                ..self
            },
            _ => self,
        }
    }

    pub(crate) fn log(&self) {
        info!(
            disposition = self.disposition.as_str(),
            reason = self.reason.as_ref().map(Override::as_str),
            key = self.key,
            comment = match &self.reason {
                Some(Override::Vouched(chain)) => Some(chain),
                Some(Override::LocalPolicy | Override::SampledOut) | None => None,
            },
            "policy applied"
        );
    }
}

#[cfg(test)]
mod tests {
    use daemon::config::{DomainMeasures, Unanswered};

    use super::*;

    #[test]
    fn a_domain_hears_of_the_mildest_that_was_done() {
        let one = |measure| Disposition {
            measure,
            cause: Cause::Dmarc(Policy::Reject),
            is_put_off: false,
        };
        let outcome = |published, policy| Outcome {
            published,
            policy,
            ..crate::results::NOTHING
        };
        let wanted = outcome(Policy::Reject, Policy::Reject);
        let applied = |outcome, is_taken, measures: &[Measure]| {
            let all: Vec<_> = measures.iter().copied().map(one).collect();
            let Applied {
                disposition,
                reason,
                ..
            } = Applied::new(outcome, is_taken, &all);
            (disposition, reason)
        };
        let local = Some(Override::LocalPolicy);
        for (is_taken, measures, expected) in [
            (false, &[Measure::Reject][..], (Policy::Reject, None)),
            // It was taken for others, and is junk or held here.
            (
                true,
                &[Measure::Reject],
                (Policy::Quarantine, local.clone()),
            ),
            (
                true,
                &[Measure::Quarantine],
                (Policy::Quarantine, local.clone()),
            ),
            (
                true,
                &[Measure::Reject, Measure::Accept],
                (Policy::None, local.clone()),
            ),
            (
                true,
                &[Measure::Accept, Measure::Junk],
                (Policy::None, local),
            ),
        ] {
            assert_eq!(
                applied(wanted, is_taken, measures),
                expected,
                "{measures:?}"
            );
        }
        let sampled = outcome(Policy::Reject, Policy::Quarantine);
        assert_eq!(
            applied(sampled, true, &[Measure::Junk]),
            (Policy::Quarantine, Some(Override::SampledOut))
        );
    }

    #[test]
    fn a_chain_is_the_reason_only_where_nothing_was_done() {
        let chain = || Some("arc=pass".to_owned());
        let applied = |disposition, reason| Applied {
            disposition,
            reason,
            key: "x",
        };
        let vouched = applied(Policy::None, Some(Override::LocalPolicy)).because_of(chain());
        assert_eq!(
            vouched.reason,
            Some(Override::Vouched("arc=pass".to_owned()))
        );
        for other in [
            applied(Policy::Quarantine, Some(Override::LocalPolicy)),
            applied(Policy::None, Some(Override::SampledOut)),
            applied(Policy::None, None),
        ] {
            assert_eq!(other.clone().because_of(chain()), other);
        }
        let alone = applied(Policy::None, Some(Override::LocalPolicy));
        assert_eq!(alone.clone().because_of(None), alone);
    }

    #[test]
    fn an_entry_counts_for_its_domains_and_changes_only_what_it_says() {
        let config = Authentication {
            spf_fail: Measure::Junk,
            domains: vec![
                DomainMeasures {
                    names: vec![String::from("a.example").try_into().unwrap()],
                    dmarc_reject: Some(Measure::Accept),
                    ..DomainMeasures::default()
                },
                DomainMeasures {
                    names: ["B.example", "c.example"]
                        .map(|name| String::from(name).try_into().unwrap())
                        .into(),
                    spf_fail: Some(Measure::Reject),
                    unanswered: Some(Unanswered::Defer),
                    ..DomainMeasures::default()
                },
            ],
            ..Authentication::default()
        };
        let book = Rulebook::new(&config);
        let of = |name: &str| book.measures(book.rule(&Domain::parse(name).unwrap()).unwrap());
        let general = config.measures();
        assert_eq!(of("d.example"), general);
        assert_eq!(of("x.a.example"), general);
        let lenient = Measures {
            dmarc_reject: Measure::Accept,
            ..general
        };
        assert_eq!(of("A.example"), lenient);
        let strict = Measures {
            spf_fail: Measure::Reject,
            unanswered: Unanswered::Defer,
            ..general
        };
        assert_eq!([of("b.example"), of("C.Example")], [strict, strict]);
    }
}
