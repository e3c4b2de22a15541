//! Whose mail it is, and turns: who sends much keeps only itself waiting.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smtp::parameter::Priority;

/// Whose mail it is where turns are taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// A tenant's.
    Tenant(String),
    /// A domain's that belongs to no tenant.
    Domain(String),
    /// Nobody's in particular: what aliases lead elsewhere, and our own reports to other servers.
    #[default]
    Nobody,
}

impl Party {
    /// [`Party::Nobody`].
    #[must_use]
    pub const fn is_nobody(&self) -> bool {
        matches!(self, Self::Nobody)
    }
}

/// How a message stands among those that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rank {
    /// Whose it is.
    pub party: Arc<Party>,
    /// How urgent it is among theirs.
    pub priority: Priority,
}

/// What waits: one of each party in turn, of one party's the least.
#[derive(Debug)]
pub struct Turns<K> {
    lines: HashMap<Arc<Party>, BTreeSet<K>>,
    /// The parties of `lines`, the next one first.
    ring: VecDeque<Arc<Party>>,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self {
            lines: HashMap::new(),
            ring: VecDeque::new(),
        }
    }
}

impl<K: Ord> Turns<K> {
    /// Lines one up.
    pub fn insert(&mut self, party: &Arc<Party>, key: K) {
        match self.lines.get_mut(party) {
            Some(line) => {
                line.insert(key);
            }
            None => {
                self.lines.insert(Arc::clone(party), BTreeSet::from([key]));
                self.ring.push_back(Arc::clone(party));
            }
        }
    }

    /// Takes one out, if it is there.
    pub fn remove(&mut self, party: &Arc<Party>, key: &K) {
        if let Some(line) = self.lines.get_mut(party) {
            line.remove(key);
            if line.is_empty() {
                self.lines.remove(party);
                self.ring.retain(|other| other != party);
            }
        }
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Option<K> {
        let party = self.ring.pop_front()?;
        let line = self.lines.get_mut(&party)?;
        let next = line.pop_first();
        if line.is_empty() {
            self.lines.remove(&party);
        } else {
            self.ring.push_back(party);
        }
        next
    }

    /// The next one.
    #[must_use]
    pub fn first(&self) -> Option<&K> {
        self.lines.get(self.ring.front()?)?.first()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &K> {
        self.lines.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_party_has_its_turn_and_its_own_least_first() {
        let [busy, other, nobody] = [
            Party::Tenant("busy".into()),
            Party::Domain("other.example".into()),
            Party::Nobody,
        ]
        .map(Arc::new);
        let mut turns = Turns::default();
        (0..1000).for_each(|key| turns.insert(&busy, key));
        turns.insert(&other, 3000);
        turns.insert(&other, 2000);
        turns.insert(&nobody, 5000);
        turns.insert(&nobody, 4000);
        turns.remove(&nobody, &4000);
        let next: Vec<_> = std::iter::from_fn(|| turns.pop()).take(7).collect();
        assert_eq!(next, [0, 2000, 5000, 1, 3000, 2, 3]);
        turns.insert(&other, 6000);
        turns.remove(&other, &6000);
        assert_eq!(turns.first(), Some(&4));
        assert_eq!(turns.iter().count(), 996);
        assert_eq!(std::iter::from_fn(|| turns.pop()).count(), 996);
        assert!(turns.lines.is_empty() && turns.ring.is_empty());
    }
}
