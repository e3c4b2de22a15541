//! Sets of message numbers: `1:3,7,9:*`.

use alloc::vec::Vec;

/// A set of sequence numbers or UIDs as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceSet(Vec<(Number, Number)>);

/// One end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// A number, not 0.
    Value(u32),
    /// `*`: the largest number in use.
    Last,
}

/// Inclusive ranges, ascending, neither overlapping nor touching.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u32, u32)>);

impl SequenceSet {
    /// A set of these ranges, in any order, each with its ends in any order.
    #[must_use]
    pub const fn new(ranges: Vec<(Number, Number)>) -> Self {
        Self(ranges)
    }

    /// What the set means while `last` is the largest number in use.
    // RFC 3501 §9, seq-range: 4:2 means 2:4; a UID range n:* always includes the last message, even below n.
    #[must_use]
    pub fn resolve(&self, last: u32) -> Ranges {
        let value = |number| match number {
            Number::Value(value) => value,
            Number::Last => last,
        };
        let ordered = |&(a, b): &(Number, Number)| {
            let (a, b) = (value(a), value(b));
            (a.min(b), a.max(b))
        };
        Ranges::new(self.0.iter().map(ordered).collect())
    }

    /// Whether what the set means depends on the largest number in use.
    #[must_use]
    pub fn names_last(&self) -> bool {
        let is_last = |number: &Number| matches!(number, Number::Last);
        self.0.iter().any(|(a, b)| is_last(a) || is_last(b))
    }

    /// The largest number written in the set; 0 if there is only `*`.
    #[must_use]
    pub fn largest_named(&self) -> u32 {
        let named = |number| match number {
            Number::Value(value) => value,
            Number::Last => 0,
        };
        let of_range = |&(a, b): &(Number, Number)| match (a, b) {
            // In 5:* the 5 may be too large, but the range is not empty.
            (_, Number::Last) | (Number::Last, _) => 0,
            (a, b) => named(a).min(named(b)),
        };
        self.0.iter().map(of_range).max().unwrap_or(0)
    }
}

impl Ranges {
    /// Sorts and merges ranges.
    #[must_use]
    pub fn new(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some((_, previous)) if start <= previous.saturating_add(1) => {
                    *previous = end.max(*previous);
                }
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    /// Whether `number` is among them.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        let after = self.0.partition_point(|(start, _)| *start <= number);
        after > 0 && self.0[after - 1].1 >= number
    }

    /// The ranges.
    #[must_use]
    pub fn as_slice(&self) -> &[(u32, u32)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_sorted_and_merged() {
        let set = SequenceSet::new(vec![
            (Number::Value(7), Number::Value(5)),
            (Number::Value(1), Number::Value(1)),
            (Number::Value(6), Number::Value(8)),
            (Number::Value(9), Number::Value(9)),
        ]);
        assert_eq!(set.resolve(100).as_slice(), [(1, 1), (5, 9)]);
    }

    #[test]
    fn a_range_to_the_last_one_includes_it_even_from_beyond() {
        let set = SequenceSet::new(vec![(Number::Value(50), Number::Last)]);
        assert_eq!(set.resolve(10).as_slice(), [(10, 50)]);
        assert!(set.resolve(10).contains(10));
        assert_eq!(set.largest_named(), 0);
        assert!(set.names_last());
        let numbers = vec![(Number::Value(1), Number::Value(9))];
        assert!(!SequenceSet::new(numbers).names_last());
    }

    proptest! {
        #[test]
        fn merging_keeps_exactly_the_members(
            pairs in proptest::collection::vec((1u32..60, 1u32..60), 0..12),
        ) {
            let ordered: Vec<_> = pairs.iter().map(|&(a, b)| (a.min(b), a.max(b))).collect();
            let ranges = Ranges::new(ordered.clone());
            for number in 0..70 {
                let member = ordered.iter().any(|&(a, b)| (a..=b).contains(&number));
                prop_assert_eq!(ranges.contains(number), member);
            }
            prop_assert!(ranges.as_slice().windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
    }
}
