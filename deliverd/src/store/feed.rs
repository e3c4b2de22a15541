//! The change feed: everyone who selected a mailbox hears what happens to it, in order.

use std::sync::Arc;

use ipc::session::{RANGES_PER_FRAME, RECORDS_PER_FRAME, SessionEvent, Touch, UidRanges};
use ipc::snapshot::Record;

use super::watch::{Note, Watchers};

/// Someone who selected a mailbox. Must not block: it is told under the mailbox's lock.
pub(crate) trait Listener: Send + Sync {
    /// Takes an event. False if it could not be taken: the listener gets no more events and must select again.
    fn tell(&self, event: SessionEvent) -> bool;
}

/// Identifies a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Selection(u64);

/// The listeners of one mailbox.
#[derive(Default)]
pub(crate) struct Feed {
    /// Who watches all mailboxes of its user, and the name by which they know it.
    watchers: Option<(Arc<Watchers>, String)>,
    next: u64,
    listeners: Vec<(Selection, Arc<dyn Listener>)>,
}

impl Feed {
    /// Adds a listener, which hears everything from now on.
    pub(crate) fn add(&mut self, listener: Arc<dyn Listener>) -> Selection {
        let selection = Selection(self.next);
        self.next += 1;
        self.listeners.push((selection, listener));
        selection
    }

    pub(crate) fn remove(&mut self, selection: Selection) {
        self.listeners.retain(|(known, _)| *known != selection);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// Has those who watch all mailboxes of the user hear of changes as well.
    pub(super) fn watched_by(&mut self, watchers: Arc<Watchers>, name: String) {
        self.watchers = Some((watchers, name));
    }

    fn touched(&self, touch: Touch) {
        if let Some((watchers, name)) = &self.watchers {
            watchers.tell(|| Note::Touched(name.clone(), touch));
        }
    }

    /// Tells an event to all. Who cannot take it is dropped.
    pub(crate) fn tell(&mut self, event: &SessionEvent) {
        self.listeners
            .retain(|(_, listener)| listener.tell(event.clone()));
    }

    pub(crate) fn added(&mut self, records: &[Record]) {
        if !records.is_empty() {
            let new = true;
            self.touched(Touch {
                new,
                ..Touch::NOTHING
            });
        }
        self.pages(records, SessionEvent::Added);
    }

    pub(crate) fn changed(&mut self, records: &[Record]) {
        if !records.is_empty() {
            let flags = true;
            self.touched(Touch {
                flags,
                ..Touch::NOTHING
            });
        }
        self.pages(records, SessionEvent::Changed);
    }

    fn pages(&mut self, records: &[Record], event: fn(Vec<Record>) -> SessionEvent) {
        if !self.is_empty() {
            for page in records.chunks(RECORDS_PER_FRAME) {
                self.tell(&event(page.to_vec()));
            }
        }
    }

    /// `uids` ascending.
    pub(crate) fn removed(&mut self, uids: &[u32]) {
        if !uids.is_empty() {
            let gone = true;
            self.touched(Touch {
                gone,
                ..Touch::NOTHING
            });
        }
        for page in ranges(uids).chunks(RANGES_PER_FRAME) {
            self.tell(&SessionEvent::Removed(page.to_vec()));
        }
    }

    /// Tells a last event.
    pub(crate) fn close(&mut self, event: &SessionEvent) {
        self.tell(event);
        self.listeners.clear();
    }
}

/// Ascending UIDs as ranges.
pub(crate) fn ranges(uids: &[u32]) -> UidRanges {
    let mut ranges = UidRanges::new();
    for &uid in uids {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(uid) => *last = uid,
            _ => ranges.push((uid, uid)),
        }
    }
    ranges
}

/// How many UIDs the ranges name, each range for itself.
pub(crate) fn count(ranges: &UidRanges) -> usize {
    let widths = ranges.iter().map(|(a, b)| u64::from(a.abs_diff(*b)) + 1);
    usize::try_from(widths.sum::<u64>()).unwrap_or(usize::MAX)
}

/// All UIDs.
pub(crate) fn all() -> UidRanges {
    vec![(0, u32::MAX)]
}

/// UID ranges as an asker gave them, brought into order so that one pass over a mailbox finds every member.
pub(crate) fn sorted(ranges: &UidRanges) -> UidRanges {
    let mut sorted: UidRanges = ranges.iter().map(|&(a, b)| (a.min(b), a.max(b))).collect();
    sorted.sort_unstable();
    sorted
}

/// UID ranges in any order as ascending and disjoint ones.
pub(crate) fn merged(ranges: &UidRanges) -> UidRanges {
    let mut merged = UidRanges::new();
    for (first, last) in sorted(ranges) {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(uids: &[u32]) -> Vec<Record> {
        let record = |uid: &u32| Record {
            uid: *uid,
            flags: 0,
            keywords: 0,
            size: 1,
            internal_date: 0,
            modseq: 1,
        };
        uids.iter().map(record).collect()
    }

    #[test]
    fn neighbours_become_one_range() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), [(1, 3), (7, 7), (9, 10)]);
        assert_eq!(ranges(&[]), []);
        assert_eq!(ranges(&[u32::MAX]), [(u32::MAX, u32::MAX)]);
    }

    #[test]
    fn ranges_that_touch_or_overlap_become_one() {
        assert_eq!(
            merged(&vec![(5, 20), (1, 4), (30, 22), (25, 26)]),
            [(1, 20), (22, 30)]
        );
        assert_eq!(merged(&vec![(0, u32::MAX), (3, u32::MAX)]), [(0, u32::MAX)]);
    }

    struct Deaf;
    impl Listener for Deaf {
        fn tell(&self, _: SessionEvent) -> bool {
            false
        }
    }

    #[test]
    fn a_listener_that_cannot_take_an_event_is_dropped() {
        let mut feed = Feed::default();
        feed.add(Arc::new(Deaf));
        feed.added(&records(&[1]));
        assert!(feed.is_empty());
    }
}
