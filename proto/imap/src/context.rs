//! Contexts (RFC 5267 §4.3): what a search found, kept up to date, and how the client hears what changed in it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::command::Numbering;
use crate::esearch::{Correlator, joined};
use crate::sequence::Ranges;
use crate::write;

/// Pairs of a position and messages in one response.
const PAIRS: usize = 500;

/// What a search found, by UID.
#[derive(Debug)]
pub enum Results {
    /// Of SEARCH: in the order of the mailbox.
    Found(Ranges),
    /// Of SORT: ascending.
    Sorted(Vec<Ranked>),
}

/// A message among those that are sorted. Of two in the same place the one with the lower UID comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranked {
    /// See [`crate::sort::Place`].
    pub place: Box<[u8]>,
    /// Which message.
    pub uid: u32,
}

/// Messages that come or go, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where the first of them is when all steps before are taken, from 1; 0 where they are in the order of the mailbox.
    pub position: u32,
    /// Their UIDs.
    pub uids: Vec<u32>,
}

/// Which way messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// ADDTO
    In,
    /// REMOVEFROM
    Out,
}

impl Results {
    /// Those of `uids` that are among them.
    #[must_use]
    pub fn among(&self, uids: &Ranges) -> Ranges {
        match self {
            Self::Found(found) => found.and(uids),
            Self::Sorted(sorted) => {
                let uid = sorted.iter().map(|ranked| ranked.uid);
                let among = uid.filter(|uid| uids.contains(*uid));
                Ranges::new(among.map(|uid| (uid, uid)).collect())
            }
        }
    }

    /// Takes messages away. Returns what the client is to be told with [`Way::Out`].
    pub fn take_away(&mut self, gone: &Ranges) -> Vec<Step> {
        match self {
            Self::Found(found) => {
                let uids = members(&found.and(gone));
                *found = found.without(gone);
                in_mailbox_order(uids)
            }
            Self::Sorted(sorted) => {
                let mut steps: Vec<Step> = Vec::new();
                let (mut kept, mut follows) = (0, false);
                sorted.retain(|ranked| {
                    let goes = gone.contains(ranked.uid);
                    match steps.last_mut().filter(|_| follows) {
                        Some(step) if goes => step.uids.push(ranked.uid),
                        _ if goes => steps.push(Step {
                            position: position(kept),
                            uids: alloc::vec![ranked.uid],
                        }),
                        _ => kept += 1,
                    }
                    follows = goes;
                    !goes
                });
                steps
            }
        }
    }

    /// Takes messages in that were not there. Returns what the client is to be told with [`Way::In`].
    pub fn take_in(&mut self, mut new: Vec<Ranked>) -> Vec<Step> {
        match self {
            Self::Found(found) => {
                let mut uids: Vec<u32> = new.iter().map(|ranked| ranked.uid).collect();
                uids.sort_unstable();
                let all = found.as_slice().iter().copied();
                *found = Ranges::new(all.chain(uids.iter().map(|uid| (*uid, *uid))).collect());
                in_mailbox_order(uids)
            }
            Self::Sorted(sorted) => {
                new.sort_unstable();
                let mut steps: Vec<Step> = Vec::new();
                let mut merged = Vec::with_capacity(sorted.len() + new.len());
                let mut old = core::mem::take(sorted).into_iter().peekable();
                for ranked in new {
                    let mut follows = true;
                    while let Some(before) = old.next_if(|before| *before < ranked) {
                        merged.push(before);
                        follows = false;
                    }
                    match steps.last_mut().filter(|_| follows) {
                        Some(step) => step.uids.push(ranked.uid),
                        None => steps.push(Step {
                            position: position(merged.len()),
                            uids: alloc::vec![ranked.uid],
                        }),
                    }
                    merged.push(ranked);
                }
                merged.extend(old);
                *sorted = merged;
                steps
            }
        }
    }

    /// Bytes of memory that they take, roughly.
    #[must_use]
    pub fn memory(&self) -> usize {
        match self {
            Self::Found(found) => size_of_val(found.as_slice()),
            Self::Sorted(sorted) => {
                // An allocation has a head of its own.
                let places = sorted.iter().map(|ranked| ranked.place.len() + 16);
                places.sum::<usize>() + size_of_val(sorted.as_slice())
            }
        }
    }
}

fn position(before: usize) -> u32 {
    u32::try_from(before).map_or(u32::MAX, |before| before.saturating_add(1))
}

// RFC 5267 §4.3.3, §4.3.4: the position may be 0 for SEARCH, and the order is then that of the mailbox.
fn in_mailbox_order(uids: Vec<u32>) -> Vec<Step> {
    let step = Step { position: 0, uids };
    Some(step)
        .filter(|step| !step.uids.is_empty())
        .into_iter()
        .collect()
}

fn members(ranges: &Ranges) -> Vec<u32> {
    let ranges = ranges.as_slice().iter();
    ranges.flat_map(|&(first, last)| first..=last).collect()
}

/// Writes `* ESEARCH (TAG "a") UID ADDTO (0 32768:32769)`. `number`: what the client knows a UID by.
pub fn write(
    way: Way,
    correlator: Correlator<'_>,
    by: Numbering,
    steps: &[Step],
    number: impl Fn(u32) -> u32,
    out: &mut Vec<u8>,
) {
    for some in steps.chunks(PAIRS) {
        correlator.begin(by, out);
        out.extend_from_slice(match way {
            Way::In => b" ADDTO (",
            Way::Out => b" REMOVEFROM (",
        });
        for (index, Step { position, uids }) in some.iter().enumerate() {
            if index > 0 {
                out.push(b' ');
            }
            write::number(u64::from(*position), out);
            out.push(b' ');
            let numbers: Vec<u32> = uids.iter().map(|uid| number(*uid)).collect();
            write::ranges(&joined(&numbers), out);
        }
        out.extend_from_slice(b")\r\n");
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn ranges(uids: &[u32]) -> Ranges {
        Ranges::new(uids.iter().map(|uid| (*uid, *uid)).collect())
    }

    fn ranked((place, uid): (u8, u32)) -> Ranked {
        Ranked {
            place: Box::new([place]),
            uid,
        }
    }

    fn sorted(some: &[(u8, u32)]) -> Results {
        Results::Sorted(some.iter().copied().map(ranked).collect())
    }

    fn told(way: Way, steps: &[Step]) -> String {
        let mut out = Vec::new();
        let correlator = Correlator {
            tag: "B01",
            mailbox: None,
        };
        write(way, correlator, Numbering::Uid, steps, |uid| uid, &mut out);
        let text = String::from_utf8(out).unwrap();
        text.replace("* ESEARCH (TAG \"B01\") UID ", "")
            .replace("\r\n", "|")
    }

    // RFC 5267 §4.3.3, §4.3.4.
    #[test]
    fn what_comes_and_goes_is_told_as_in_the_rfc() {
        let mut found = Results::Found(ranges(&[5, 7]));
        let new = vec![ranked((0, 32769)), ranked((0, 32768))];
        let steps = found.take_in(new);
        assert_eq!(told(Way::In, &steps), "ADDTO (0 32768:32769)|");
        let steps = found.take_away(&ranges(&[6, 32768]));
        assert_eq!(told(Way::Out, &steps), "REMOVEFROM (0 32768)|");
        assert!(found.take_away(&ranges(&[6])).is_empty());
        // "The last is the preferred representation."
        let mut order = sorted(&[(4, 2734), (5, 2735)]);
        let steps = order.take_in(vec![
            ranked((3, 2733)),
            ranked((1, 2731)),
            ranked((2, 2732)),
        ]);
        assert_eq!(told(Way::In, &steps), "ADDTO (1 2731:2733)|");
        let steps = order.take_away(&ranges(&[2731, 2734, 2735]));
        assert_eq!(told(Way::Out, &steps), "REMOVEFROM (1 2731 3 2734:2735)|");
    }

    #[test]
    fn many_steps_are_told_in_several_responses() {
        let old: Vec<(u8, u32)> = (0..=250).map(|n| (n, u32::from(n) * 10 + 1)).collect();
        let mut order = sorted(&old);
        let new = |more: u32| (0..=250).map(move |n| ranked((n, u32::from(n) * 10 + more)));
        let steps = order.take_in(new(0).chain(new(5)).collect());
        assert_eq!(steps.len(), 252);
        let all = [steps.clone(), steps.clone(), steps.clone(), steps].concat();
        assert_eq!(told(Way::In, &all).matches("ADDTO").count(), 3);
    }

    /// What a client makes of it.
    fn follow(list: &mut Vec<u32>, way: Way, steps: &[Step]) {
        for step in steps {
            let at = step.position as usize - 1;
            match way {
                Way::In => drop(list.splice(at..at, step.uids.iter().copied())),
                Way::Out => {
                    let gone: Vec<u32> = list.drain(at..at + step.uids.len()).collect();
                    assert_eq!(gone, step.uids);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_client_that_takes_the_steps_has_the_same_order(
            rounds in prop::collection::vec(prop::collection::vec((any::<u8>(), any::<bool>()), 0..9), 0..9),
        ) {
            let (mut order, mut list, mut next) = (sorted(&[]), Vec::new(), 1);
            for round in rounds {
                let gone: Vec<u32> = round.iter().filter(|(_, goes)| *goes).map(|(n, _)| u32::from(*n) % 20 + 1).collect();
                follow(&mut list, Way::Out, &order.take_away(&ranges(&gone)));
                let new = round.iter().filter(|(_, goes)| !*goes).map(|(place, _)| {
                    next += 1;
                    ranked((place % 8, next))
                });
                let new = new.collect();
                follow(&mut list, Way::In, &order.take_in(new));
                let Results::Sorted(ranked) = &order else { unreachable!() };
                prop_assert!(ranked.is_sorted());
                let uids: Vec<u32> = ranked.iter().map(|ranked| ranked.uid).collect();
                prop_assert_eq!(&uids, &list, "{}", format!("{:?}", order));
            }
        }
    }
}
