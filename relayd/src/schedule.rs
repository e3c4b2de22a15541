//! When each message is due: all that is kept in memory of a message that nobody works on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use smtp::parameter::Priority;

use crate::queue::QueueId;
use crate::turns::{Party, Rank, Turns};

/// The queue's messages by id and by time.
#[derive(Debug, Default)]
pub struct Schedule {
    messages: BTreeMap<QueueId, Entry>,
    /// Those whose time has not come, as far as anybody has looked.
    due: BTreeSet<(i64, QueueId)>,
    /// Those whose time has come: of each party in turn the most urgent, of them the one that has been due longest.
    ready: Turns<(Reverse<Priority>, i64, QueueId)>,
    /// Everybody whose mail ever was here, so that no message has a name of its own.
    parties: HashSet<Arc<Party>>,
}

#[derive(Debug, Clone)]
struct Entry {
    rank: Rank,
    turn: Turn,
}

// Invariant: a message that is `Waiting` stands either in `Schedule::due` or in `Schedule::ready`, another in neither.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Waiting { due: i64, hurried: bool },
    InWork,
}

/// A message whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub id: QueueId,
    /// The operator wants all its recipients tried, due or not.
    pub hurried: bool,
    /// Whose it is, and how urgent.
    pub rank: Rank,
}

impl Schedule {
    /// Adds a message, or changes when it is due.
    pub fn insert(&mut self, id: QueueId, due: i64, rank: Rank) {
        let party = match self.parties.get(&rank.party) {
            Some(known) => Arc::clone(known),
            None => {
                self.parties.insert(Arc::clone(&rank.party));
                rank.party
            }
        };
        let rank = Rank { party, ..rank };
        self.put(id, due, rank, false);
    }

    fn put(&mut self, id: QueueId, due: i64, rank: Rank, hurried: bool) {
        let turn = Turn::Waiting { due, hurried };
        if let Some(old) = self.messages.insert(id, Entry { rank, turn }) {
            self.forget_turn(id, &old);
        }
        self.due.insert((due, id));
    }

    fn forget_turn(&mut self, id: QueueId, Entry { rank, turn }: &Entry) {
        if let Turn::Waiting { due, .. } = *turn
            && !self.due.remove(&(due, id))
        {
            let key = (Reverse(rank.priority), due, id);
            self.ready.remove(&rank.party, &key);
        }
    }

    /// Takes the next message that is due at `now`: of each party in turn the most urgent, of them the one that has been due longest.
    /// It is in work until [`Schedule::settle`].
    pub fn take_due(&mut self, now: i64) -> Option<Due> {
        while let Some((due, id)) = self.due.first().filter(|(due, _)| *due <= now).copied() {
            self.due.remove(&(due, id));
            if let Some(Entry { rank, .. }) = self.messages.get(&id) {
                let key = (Reverse(rank.priority), due, id);
                self.ready.insert(&rank.party, key);
            }
        }
        let (_, _, id) = self.ready.pop()?;
        let entry = self.messages.get_mut(&id)?;
        let turn = std::mem::replace(&mut entry.turn, Turn::InWork);
        Some(Due {
            id,
            hurried: matches!(turn, Turn::Waiting { hurried: true, .. }),
            rank: entry.rank.clone(),
        })
    }

    /// Work on a message is over; it is due again then. Does nothing when the message was removed meanwhile.
    pub fn settle(&mut self, id: QueueId, due: i64) {
        if let Some(Entry { rank, .. }) = self.messages.get(&id).cloned() {
            self.insert(id, due, rank);
        }
    }

    /// Changes when a message is due, unless it is being worked on.
    pub fn postpone(&mut self, id: QueueId, due: i64) {
        let entry = self.messages.get(&id).cloned();
        if let Some(Entry {
            rank,
            turn: Turn::Waiting { .. },
        }) = entry
        {
            self.insert(id, due, rank);
        }
    }

    /// Forgets a message. Tells whether it was there.
    pub fn remove(&mut self, id: QueueId) -> bool {
        let entry = self.messages.remove(&id);
        if let Some(entry) = &entry {
            self.forget_turn(id, entry);
        }
        entry.is_some()
    }

    /// Makes a message due at `now`. `None` when there is none of that id; `Some(false)` when it is being worked on already.
    pub fn hurry(&mut self, id: QueueId, now: i64) -> Option<bool> {
        let Entry { rank, turn } = self.messages.get(&id)?.clone();
        match turn {
            Turn::InWork => Some(false),
            Turn::Waiting { .. } => {
                self.put(id, now, rank, true);
                Some(true)
            }
        }
    }

    /// Makes all messages due at `now`; tells how many.
    pub fn hurry_all(&mut self, now: i64) -> u64 {
        let ready = self.ready.iter().map(|(_, _, id)| *id);
        let waiting: Vec<_> = self.due.iter().map(|(_, id)| *id).chain(ready).collect();
        waiting.iter().for_each(|id| {
            self.hurry(*id, now);
        });
        waiting.len() as u64
    }

    /// When the next message is due.
    #[must_use]
    pub fn next_due(&self) -> Option<i64> {
        let ready = self.ready.first().map(|(_, due, _)| *due);
        ready.or(self.due.first().map(|(due, _)| *due))
    }

    /// Whether the message is in the queue.
    #[must_use]
    pub fn contains(&self, id: QueueId) -> bool {
        self.messages.contains_key(&id)
    }

    /// Whether somebody works on the message.
    #[must_use]
    pub fn is_in_work(&self, id: QueueId) -> bool {
        let turn = self.messages.get(&id).map(|entry| entry.turn);
        matches!(turn, Some(Turn::InWork))
    }

    /// Messages in the queue.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether the queue is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The next `count` ids behind `after`, in order.
    #[must_use]
    pub fn page(&self, after: Option<QueueId>, count: usize) -> Vec<QueueId> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.messages
            .range((start, Bound::Unbounded))
            .take(count)
            .map(|(id, _)| *id)
            .collect()
    }
}

/// When to try again after `attempts` attempts (one or more), or `None` when that was the last one. A wait is `spread` thousandths longer than
/// it would be.
#[must_use]
pub fn next_attempt(waits: &[u32], attempts: u32, now: i64, spread: u32) -> Option<i64> {
    let wait = waits.get(usize::try_from(attempts).ok()?.checked_sub(1)?)?;
    let wait = i64::from(*wait);
    Some(now.saturating_add(wait + wait * i64::from(spread) / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(schedule: &mut Schedule, now: i64) -> Option<QueueId> {
        schedule.take_due(now).map(|due| due.id)
    }

    fn ids(count: usize) -> Vec<QueueId> {
        let mut ids: Vec<_> = (0..count).map(|_| QueueId::generate().unwrap()).collect();
        ids.sort();
        ids
    }

    #[test]
    fn messages_come_when_they_are_due_and_not_before() {
        let ids = ids(2);
        let mut schedule = Schedule::default();
        schedule.insert(ids[0], 20, Rank::default());
        schedule.insert(ids[1], 10, Rank::default());
        assert_eq!(take(&mut schedule, 9), None);
        assert_eq!(schedule.next_due(), Some(10));
        assert_eq!(take(&mut schedule, 30), Some(ids[1]));
        assert_eq!(take(&mut schedule, 30), Some(ids[0]));
        assert_eq!(take(&mut schedule, 30), None);
        assert_eq!(schedule.len(), 2);
    }

    #[test]
    fn of_what_is_due_the_most_urgent_comes_first() {
        let priority = |text: &str| {
            let parameters = format!("MT-PRIORITY={text}");
            let parameters = smtp::parameter::MailParameters::parse(&parameters);
            Rank {
                priority: parameters.unwrap().priority.unwrap(),
                ..Rank::default()
            }
        };
        let ids = ids(4);
        let mut schedule = Schedule::default();
        schedule.insert(ids[0], 10, priority("-3"));
        schedule.insert(ids[1], 20, priority("0"));
        schedule.insert(ids[2], 15, priority("0"));
        schedule.insert(ids[3], 99, priority("9"));
        assert_eq!(take(&mut schedule, 30), Some(ids[2]));
        assert_eq!(schedule.next_due(), Some(20));
        schedule.insert(ids[2], 16, priority("4"));
        assert!(schedule.remove(ids[1]));
        assert_eq!(take(&mut schedule, 30), Some(ids[2]));
        assert_eq!(take(&mut schedule, 30), Some(ids[0]));
        assert_eq!(take(&mut schedule, 30), None);
        assert_eq!(schedule.next_due(), Some(99));
        assert_eq!(take(&mut schedule, 99), Some(ids[3]));
    }

    #[test]
    fn a_party_that_has_much_mail_due_keeps_only_itself_waiting() {
        let rank = |name: &str| Rank {
            party: Arc::new(Party::Tenant(name.into())),
            ..Rank::default()
        };
        let ids = ids(1002);
        let mut schedule = Schedule::default();
        for id in &ids[..1000] {
            schedule.insert(*id, 0, rank("busy"));
        }
        take(&mut schedule, 10);
        schedule.insert(ids[1000], 9, rank("second"));
        schedule.insert(ids[1001], 10, rank("third"));
        let next: Vec<_> = (0..3).map(|_| take(&mut schedule, 10).unwrap()).collect();
        assert!(next.contains(&ids[1000]) && next.contains(&ids[1001]));
        assert_eq!(schedule.parties.len(), 3);
    }

    #[test]
    fn a_message_in_work_is_not_taken_twice_and_comes_back_when_settled() {
        let ids = ids(1);
        let mut schedule = Schedule::default();
        schedule.insert(ids[0], 0, Rank::default());
        take(&mut schedule, 0);
        assert!(schedule.is_in_work(ids[0]));
        assert_eq!(schedule.hurry(ids[0], 0), Some(false));
        schedule.settle(ids[0], 5);
        assert!(!schedule.is_in_work(ids[0]));
        assert_eq!(take(&mut schedule, 5), Some(ids[0]));
    }

    #[test]
    fn a_message_removed_while_in_work_does_not_come_back() {
        let ids = ids(1);
        let mut schedule = Schedule::default();
        schedule.insert(ids[0], 0, Rank::default());
        take(&mut schedule, 0);
        assert!(schedule.remove(ids[0]));
        schedule.settle(ids[0], 5);
        assert!(schedule.is_empty());
        assert_eq!(schedule.next_due(), None);
    }

    #[test]
    fn the_operator_can_hurry_one_or_all() {
        let ids = ids(3);
        let mut schedule = Schedule::default();
        ids.iter()
            .for_each(|id| schedule.insert(*id, 1000, Rank::default()));
        assert_eq!(schedule.hurry(ids[1], 1), Some(true));
        assert_eq!(
            schedule.take_due(1),
            Some(Due {
                id: ids[1],
                hurried: true,
                rank: Rank::default()
            })
        );
        assert_eq!(schedule.hurry_all(2), 2);
        assert_eq!(schedule.next_due(), Some(2));
        assert_eq!(schedule.hurry(QueueId::generate().unwrap(), 1), None);
    }

    #[test]
    fn pages_are_ordered_and_complete() {
        let ids = ids(5);
        let mut schedule = Schedule::default();
        ids.iter()
            .for_each(|id| schedule.insert(*id, 0, Rank::default()));
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = schedule.page(after, 2);
            if page.is_empty() {
                break;
            }
            after = page.last().copied();
            seen.extend(page);
        }
        assert_eq!(seen, ids);
    }

    #[test]
    fn attempts_follow_the_list_and_end_with_it() {
        let waits = [60, 300];
        assert_eq!(next_attempt(&waits, 1, 0, 0), Some(60));
        assert_eq!(next_attempt(&waits, 2, 0, 0), Some(300));
        assert_eq!(next_attempt(&waits, 2, 7, 100), Some(337));
        assert_eq!(next_attempt(&waits, 3, 0, 0), None);
    }
}
