//! What came of TLS lately, for whoever asks; in memory only.

use std::collections::{HashMap, VecDeque};

use super::row::{Failure, Means, Row};

/// Domains of which something is remembered.
const DOMAINS: usize = 1000;
/// Connections remembered of each.
const EACH: usize = ipc::demands::MAX_SEEN;

/// A connection, or why there was none.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Unix seconds.
    pub at: i64,
    /// By which means something was demanded.
    pub means: Means,
    /// What failed, if anything did.
    pub failure: Option<Failure>,
}

/// The last ones of some domains.
#[derive(Debug, Default)]
pub(super) struct Recent(HashMap<String, VecDeque<Seen>>);

impl Recent {
    pub(super) fn note(&mut self, domain: &str, row: &Row, at: i64) {
        if self.0.len() >= DOMAINS && !self.0.contains_key(domain) {
            let last = |seen: &VecDeque<Seen>| seen.back().map(|one| one.at);
            let oldest = self.0.iter().min_by_key(|(_, seen)| last(seen));
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.0.remove(&oldest);
            }
        }
        let seen = self.0.entry(domain.to_owned()).or_default();
        if seen.len() >= EACH {
            seen.pop_front();
        }
        seen.push_back(Seen {
            at,
            means: row.policy.means,
            failure: row.failure.clone(),
        });
    }

    /// The last one first.
    pub(super) fn of(&self, domain: &str) -> Vec<Seen> {
        let seen = self.0.get(domain).into_iter().flatten();
        seen.rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Policy;
    use super::*;

    #[test]
    fn the_last_connections_of_the_last_domains_are_remembered() {
        let row = Row {
            policy: Policy::none(),
            failure: None,
        };
        let mut recent = Recent::default();
        for at in 0..5000 {
            recent.note(&format!("{at}.example"), &row, at);
            recent.note("busy.example", &row, at);
        }
        assert_eq!(recent.0.len(), DOMAINS);
        let seen: Vec<_> = recent.of("busy.example").iter().map(|one| one.at).collect();
        assert_eq!(seen, [4999, 4998, 4997, 4996]);
        assert!(recent.of("1.example").is_empty());
        assert_eq!(recent.of("4999.example").len(), 1);
    }
}
