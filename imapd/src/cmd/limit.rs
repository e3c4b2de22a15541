//! Places of messages, and how many of them a command is about (RFC 9738).

use std::ops::Range;

use daemon::channel::CallError;
use imap::esearch::Window;
use imap::response::{Code, Kind};

use super::Desk;
use crate::wire::Wire;
use crate::words::Tagged;

/// The window is cut out before anything else is asked of the messages.
// RFC 9394 §3.3.
pub(super) fn in_window(places: Vec<Range<usize>>, window: Window) -> Vec<Range<usize>> {
    let wanted = window.range(places.iter().map(Range::len).sum());
    let mut before = 0;
    let cut = |place: Range<usize>| {
        let part = |at: usize| place.start + at.saturating_sub(before).min(place.len());
        let (start, end) = (part(wanted.start), part(wanted.end));
        before += place.len();
        start..end
    };
    places.into_iter().map(cut).collect()
}

/// The places that are in both lists. Both ascend.
pub(super) fn common(some: &[Range<usize>], others: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut both = Vec::new();
    for place in some {
        let from = others.partition_point(|other| other.end <= place.start);
        let others = others.get(from..).unwrap_or_default().iter();
        let others = others.take_while(|other| other.start < place.end);
        both.extend(others.map(|other| place.start.max(other.start)..place.end.min(other.end)));
    }
    both
}

/// A command was about more messages than it may be: it is about those with the largest UIDs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    most: u32,
    /// The lowest UID it is about.
    lowest: u32,
}

impl Cut {
    const fn code(self) -> Code<'static> {
        Code::MessageLimit(self.most, Some(self.lowest))
    }

    /// The answer to a command that does all or nothing.
    pub(super) fn refused(self, tag: &str) -> Tagged {
        let text = "too many messages at once, take fewer";
        Tagged::no(tag, Some(&self.code()), text)
    }

    /// The same to a command that is about more than what has UIDs.
    pub(super) fn too_many(self, tag: &str) -> Tagged {
        too_many(tag, self.most)
    }
}

/// The answer to a command that was given up before any message was looked at.
pub(super) fn too_many(tag: &str, most: u32) -> Tagged {
    let text = "too many messages at once, take fewer";
    Tagged::no(tag, Some(&Code::MessageLimit(most, None)), text)
}

/// The answer, which says so if the command was about fewer messages than were meant.
// §3.1: in the tagged OK; in an untagged NO before it where that says something else.
pub(super) fn told(cut: Option<Cut>, mut tagged: Tagged, wire: &mut Wire) -> Tagged {
    if let Some(cut) = cut
        && !tagged.add_code(&cut.code())
    {
        let text = "that was not about all messages, go on below";
        wire.say(Kind::No, Some(&cut.code()), text);
    }
    tagged
}

impl Desk<'_> {
    /// Leaves the last `most` of these places.
    // §3.1: those with the largest UIDs.
    pub(super) async fn cut(
        &mut self,
        places: &mut Vec<Range<usize>>,
        most: Option<u32>,
    ) -> Result<Option<Cut>, CallError> {
        let count: usize = places.iter().map(Range::len).sum();
        let Some(most) = most.filter(|most| count > *most as usize) else {
            return Ok(None);
        };
        let last = Window {
            first: 1,
            last: most,
            from_end: true,
        };
        *places = in_window(std::mem::take(places), last);
        places.retain(|place| !place.is_empty());
        let first = places.first().map_or(0, |place| place.start);
        let lowest = self.uid(first).await?;
        Ok(Some(Cut { most, lowest }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_cut_out_of_places_that_are_apart() {
        let window = |first, last, from_end| Window {
            first,
            last,
            from_end,
        };
        let cut = |window| {
            let mut some = in_window(vec![0..3, 5..6, 8..10], window);
            some.retain(|place| !place.is_empty());
            some
        };
        assert_eq!(cut(window(1, 3, true)), [5..6, 8..10]);
        assert_eq!(cut(window(1, 4, true)), [2..3, 5..6, 8..10]);
        assert_eq!(cut(window(2, 4, false)), [1..3, 5..6]);
        assert_eq!(cut(window(1, 99, true)), [0..3, 5..6, 8..10]);
    }

    #[test]
    fn what_is_in_both_lists_is_common() {
        let (some, others) = ([0..4, 6..9], [1..2, 3..7, 8..20]);
        assert_eq!(common(&some, &others), [1..2, 3..4, 6..7, 8..9]);
        assert!(common(&some, &[]).is_empty());
    }
}
