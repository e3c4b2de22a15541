//! What is done about each thing that may be found out about a message, and for the users of which domains.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::authentication::{Authentication, Measure, Unanswered};
use super::value::HostName;

/// What is done about each thing that may be found; the keys of `authentication` say when it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measures {
    /// `spf_fail`
    pub spf_fail: Measure,
    /// `dkim_fail`
    pub dkim_fail: Measure,
    /// `dmarc_reject`
    pub dmarc_reject: Measure,
    /// `dmarc_quarantine`
    pub dmarc_quarantine: Measure,
    /// `unclear_author`
    pub unclear_author: Measure,
    /// `unanswered`
    pub unanswered: Unanswered,
}

/// An entry of `authentication.domains`: what differs for mail to some domains.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DomainMeasures {
    /// The domains, as they stand in recipients' addresses.
    pub names: Vec<HostName>,
    /// Instead of the key of that name in `authentication`; so are those below.
    #[serde(default)]
    pub spf_fail: Option<Measure>,
    /// See there.
    #[serde(default)]
    pub dkim_fail: Option<Measure>,
    /// See there.
    #[serde(default)]
    pub dmarc_reject: Option<Measure>,
    /// See there.
    #[serde(default)]
    pub dmarc_quarantine: Option<Measure>,
    /// See there.
    #[serde(default)]
    pub unclear_author: Option<Measure>,
    /// See there.
    #[serde(default)]
    pub unanswered: Option<Unanswered>,
}

impl Measures {
    /// Whether any of them is [`Measure::Quarantine`].
    #[must_use]
    pub fn has_quarantine(&self) -> bool {
        let Self {
            spf_fail,
            dkim_fail,
            dmarc_reject,
            dmarc_quarantine,
            unclear_author,
            unanswered: _,
        } = *self;
        [
            spf_fail,
            dkim_fail,
            dmarc_reject,
            dmarc_quarantine,
            unclear_author,
        ]
        .contains(&Measure::Quarantine)
    }
}

impl DomainMeasures {
    /// All that is done there, where `others` are the measures elsewhere.
    #[must_use]
    pub fn over(&self, others: Measures) -> Measures {
        Measures {
            spf_fail: self.spf_fail.unwrap_or(others.spf_fail),
            dkim_fail: self.dkim_fail.unwrap_or(others.dkim_fail),
            dmarc_reject: self.dmarc_reject.unwrap_or(others.dmarc_reject),
            dmarc_quarantine: self.dmarc_quarantine.unwrap_or(others.dmarc_quarantine),
            unclear_author: self.unclear_author.unwrap_or(others.unclear_author),
            unanswered: self.unanswered.unwrap_or(others.unanswered),
        }
    }
}

impl Authentication {
    /// What is done for domains that are not listed.
    #[must_use]
    pub fn measures(&self) -> Measures {
        Measures {
            spf_fail: self.spf_fail,
            dkim_fail: self.dkim_fail,
            dmarc_reject: self.dmarc_reject,
            dmarc_quarantine: self.dmarc_quarantine,
            unclear_author: self.unclear_author,
            unanswered: self.unanswered,
        }
    }

    /// Whether mail may have to be kept for the operator alone.
    #[must_use]
    pub fn has_quarantine(&self) -> bool {
        let general = self.measures();
        let mut special = self.domains.iter().map(|entry| entry.over(general));
        self.enabled && (general.has_quarantine() || special.any(|one| one.has_quarantine()))
    }

    /// What is wrong with the list of domains, if anything is.
    pub(super) fn check_domains(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for entry in &self.domains {
            if entry.names.is_empty() {
                return Err("an entry names no domain: give it \"names\"".into());
            }
            for name in &entry.names {
                let name = name.as_str();
                if !seen.insert(name) {
                    return Err(format!("{name} is there twice: name it in one entry only"));
                }
            }
        }
        Ok(())
    }
}
