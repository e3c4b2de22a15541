//! Sets of message numbers: `1:3,7,9:*`.

use alloc::vec::Vec;

/// A set of sequence numbers or UIDs as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SequenceSet {
    /// Ranges in any order, each with its ends in any order.
    Named(Vec<(Number, Number)>),
    /// `$`: what the last search was told to save (RFC 5182). It names no number.
    Saved,
}

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
    fn named(&self) -> &[(Number, Number)] {
        match self {
            Self::Named(ranges) => ranges,
            Self::Saved => &[],
        }
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
        Ranges::new(self.named().iter().map(ordered).collect())
    }

    /// Whether what the set means depends on the largest number in use.
    #[must_use]
    pub fn names_last(&self) -> bool {
        let is_last = |number: &Number| matches!(number, Number::Last);
        self.named().iter().any(|(a, b)| is_last(a) || is_last(b))
    }

    /// Whether it is all there are, `1:*`.
    #[must_use]
    pub fn is_all(&self) -> bool {
        let is_all = |range: &(Number, Number)| {
            let (first, last) = (Number::Value(1), Number::Last);
            [(first, last), (last, first)].contains(range)
        };
        self.named().iter().any(is_all)
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
        self.named().iter().map(of_range).max().unwrap_or(0)
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

    /// All numbers from 1.
    #[must_use]
    pub fn up_to(last: u32) -> Self {
        Self(match last {
            0 => Vec::new(),
            last => alloc::vec![(1, last)],
        })
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let (mut all, mut mine, mut theirs) = (Vec::new(), self.0.iter(), other.0.iter());
        let (mut one, mut two) = (mine.next(), theirs.next());
        while let (Some(a), Some(b)) = (one, two) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                all.push((first, last));
            }
            if a.1 <= b.1 {
                one = mine.next();
            } else {
                two = theirs.next();
            }
        }
        Self(all)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let (mut all, mut theirs) = (Vec::new(), other.0.as_slice());
        for &(first, last) in &self.0 {
            let before = theirs.partition_point(|(_, end)| *end < first);
            theirs = theirs.get(before..).unwrap_or_default();
            let mut next = Some(first);
            for &(start, end) in theirs.iter().take_while(|(start, _)| *start <= last) {
                if let Some(from) = next.filter(|from| *from < start) {
                    all.push((from, start - 1));
                }
                next = end.checked_add(1);
            }
            if let Some(from) = next.filter(|from| *from <= last) {
                all.push((from, last));
            }
        }
        Self(all)
    }

    /// Whether `number` is among them.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        let after = self.0.partition_point(|(start, _)| *start <= number);
        after > 0 && self.0[after - 1].1 >= number
    }

    /// Whether any number from `first` to `last` is among them.
    #[must_use]
    pub fn meets(&self, first: u32, last: u32) -> bool {
        let before = self.0.partition_point(|(_, end)| *end < first);
        self.0.get(before).is_some_and(|(start, _)| *start <= last)
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
        let set = SequenceSet::Named(vec![
            (Number::Value(7), Number::Value(5)),
            (Number::Value(1), Number::Value(1)),
            (Number::Value(6), Number::Value(8)),
            (Number::Value(9), Number::Value(9)),
        ]);
        assert_eq!(set.resolve(100).as_slice(), [(1, 1), (5, 9)]);
    }

    proptest! {
        #[test]
        fn sets_are_cut_with_one_another(
            one in proptest::collection::vec((0_u32..60, 0_u32..9), 0..9),
            two in proptest::collection::vec((0_u32..60, 0_u32..9), 0..9),
        ) {
            let ranges = |some: &[(u32, u32)]| {
                Ranges::new(some.iter().map(|(first, length)| (*first, first + length)).collect())
            };
            let (one, two) = (ranges(&one), ranges(&two));
            let (both, rest) = (one.and(&two), one.without(&two));
            for &(first, last) in two.as_slice() {
                let is_met = (first..=last).any(|number| one.contains(number));
                prop_assert_eq!(one.meets(first, last), is_met);
            }
            for number in 0..80 {
                let (a, b) = (one.contains(number), two.contains(number));
                prop_assert_eq!(both.contains(number), a && b);
                prop_assert_eq!(rest.contains(number), a && !b);
            }
            prop_assert!(both.0.is_sorted_by(|a, b| a.1 < b.0));
            prop_assert!(rest.0.is_sorted_by(|a, b| a.1 < b.0));
        }
    }

    #[test]
    fn sets_reach_to_the_largest_number() {
        let all = Ranges::up_to(u32::MAX);
        assert_eq!(all.without(&all), Ranges::default());
        assert_eq!(all.and(&all), all);
        assert_eq!(Ranges::up_to(0), Ranges::default());
        let last = Ranges::new(vec![(u32::MAX, u32::MAX)]);
        assert_eq!(all.without(&last).as_slice(), [(1, u32::MAX - 1)]);
    }

    #[test]
    fn a_range_to_the_last_one_includes_it_even_from_beyond() {
        let set = SequenceSet::Named(vec![(Number::Value(50), Number::Last)]);
        assert_eq!(set.resolve(10).as_slice(), [(10, 50)]);
        assert!(set.resolve(10).contains(10));
        assert_eq!(set.largest_named(), 0);
        assert!(set.names_last());
        let numbers = vec![(Number::Value(1), Number::Value(9))];
        assert!(!SequenceSet::Named(numbers).names_last());
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
