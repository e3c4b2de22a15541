//! Tombstones: which messages of a mailbox are gone, and since when.

use std::collections::VecDeque;

use ipc::session::UidRanges;
use serde::{Deserialize, Serialize};

use super::feed;

/// How many removals are remembered, each of one or more neighbours.
const KEPT: usize = 100_000;

/// The last removals, oldest first.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gone {
    /// All removals above this modification sequence are remembered.
    floor: u64,
    /// Modification sequence, first and last UID.
    removals: VecDeque<(u64, u32, u32)>,
}

impl Gone {
    /// Nothing is remembered of what was up to `floor`.
    pub(super) fn since(floor: u64) -> Self {
        Self {
            floor,
            removals: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, modseq: u64, uids: &UidRanges) {
        self.removals
            .extend(uids.iter().map(|(first, last)| (modseq, *first, *last)));
        while self.removals.len() > KEPT {
            if let Some((forgotten, ..)) = self.removals.pop_front() {
                self.floor = self.floor.max(forgotten);
            }
        }
    }

    /// What is gone above a modification sequence, in order; `None` if not all of that is remembered.
    pub(super) fn above(&self, modseq: u64) -> Option<UidRanges> {
        if modseq < self.floor {
            return None;
        }
        let from = self.removals.partition_point(|(at, ..)| *at <= modseq);
        let later = self.removals.range(from..);
        let all: UidRanges = later.map(|(_, first, last)| (*first, *last)).collect();
        Some(feed::merged(&all))
    }

    /// How many removals are remembered.
    pub(super) fn len(&self) -> usize {
        self.removals.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_told_from_any_time_that_is_remembered() {
        let mut gone = Gone::since(10);
        gone.add(11, &vec![(5, 5), (7, 9)]);
        gone.add(12, &vec![(6, 6)]);
        assert_eq!(gone.above(9), None);
        assert_eq!(gone.above(10), Some(vec![(5, 9)]));
        assert_eq!(gone.above(11), Some(vec![(6, 6)]));
        assert_eq!(gone.above(12), Some(vec![]));
    }

    #[test]
    fn what_is_forgotten_is_never_told_as_all() {
        let mut gone = Gone::since(0);
        for at in 1..=u32::try_from(KEPT).unwrap() + 1 {
            gone.add(u64::from(at), &vec![(2 * at, 2 * at)]);
        }
        assert_eq!(gone.len(), KEPT);
        assert_eq!(gone.above(0), None);
        assert_eq!(gone.above(1).map(|uids| uids.len()), Some(KEPT));
    }
}
