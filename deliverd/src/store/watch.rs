//! Who watches all mailboxes of a user, selected or not (RFC 5465): what happens is noted for each of them, and fetched when they
//! have time. Of many changes of one mailbox one note is left.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ipc::session::Touch;

/// Notes that wait for one watcher. One that does not fetch them loses all.
pub(crate) const MAX_NOTES: usize = 1000;

/// Something that happened, with full names of mailboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// To messages of a mailbox.
    Touched(String, Touch),
    /// A mailbox was made.
    Created(String),
    /// A mailbox is gone.
    Deleted(String),
    /// A mailbox has another name.
    Renamed { from: String, to: String },
    /// A name was subscribed to, or is not any more.
    Subscribed(String),
    /// An annotation of a mailbox was changed; of the account if `mailbox` is empty.
    Annotated { mailbox: String, entry: String },
}

/// The watchers of a user.
#[derive(Default)]
pub(crate) struct Watchers {
    list: Mutex<Vec<Weak<Watch>>>,
    /// Whether there may be any: as a rule there are none, and nobody takes the lock.
    any: AtomicBool,
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Watch>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more; it hears of everything from now on, until it is dropped.
    pub(crate) fn add(&self, watch: &Arc<Watch>) {
        let mut list = self.lock();
        list.retain(|known| known.strong_count() > 0);
        list.push(Arc::downgrade(watch));
        self.any.store(true, Ordering::Release);
    }

    /// Notes for all of them. Never waits for any.
    pub(crate) fn tell(&self, note: impl Fn() -> Note) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut list = self.lock();
        list.retain(|known| {
            let watch = known.upgrade();
            if let Some(watch) = &watch {
                watch.note(note());
            }
            watch.is_some()
        });
        self.any.store(!list.is_empty(), Ordering::Release);
    }
}

/// One watcher: what it has yet to fetch.
pub(crate) struct Watch {
    notes: Mutex<Notes>,
    /// Tells it that there is something to fetch. Must not block.
    ring: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Notes {
    next: u64,
    /// In the order in which they happened.
    waiting: BTreeMap<u64, Note>,
    /// The mailboxes of those that are [`Note::Touched`].
    touched: HashMap<String, u64>,
    /// It was told that there is something, and did not come yet.
    is_rung: bool,
    is_lost: bool,
}

/// What a watcher fetches at once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) notes: Vec<Note>,
    /// There is more.
    pub(crate) more: bool,
    /// Notes were lost.
    pub(crate) lost: bool,
}

impl Watch {
    pub(crate) fn new(ring: Box<dyn Fn() + Send + Sync>) -> Self {
        let notes = Mutex::default();
        Self { notes, ring }
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: Note) {
        let mut notes = self.lock();
        notes.add(note);
        if !std::mem::replace(&mut notes.is_rung, true) {
            drop(notes);
            (self.ring)();
        }
    }

    /// The first of what happened.
    pub(crate) fn fetch(&self, limit: usize) -> Fetched {
        let mut notes = self.lock();
        notes.is_rung = false;
        let lost = std::mem::take(&mut notes.is_lost);
        let mut fetched = Vec::new();
        while fetched.len() < limit
            && let Some((_, note)) = notes.waiting.pop_first()
        {
            if let Note::Touched(name, _) = &note {
                notes.touched.remove(name);
            }
            fetched.push(note);
        }
        Fetched {
            notes: fetched,
            more: !notes.waiting.is_empty(),
            lost,
        }
    }
}

impl Notes {
    fn add(&mut self, note: Note) {
        if let Note::Touched(name, touch) = &note
            && let Some(at) = self.touched.get(name)
            && let Some(Note::Touched(_, known)) = self.waiting.get_mut(at)
        {
            *known = known.and(*touch);
            return;
        }
        if self.waiting.len() >= MAX_NOTES {
            self.waiting.clear();
            self.touched.clear();
            self.is_lost = true;
        }
        // Until it hears of the loss, nothing else is of use.
        if self.is_lost {
            return;
        }
        self.next += 1;
        if let Note::Touched(name, _) = &note {
            self.touched.insert(name.clone(), self.next);
        }
        self.waiting.insert(self.next, note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    const NEW: Touch = Touch {
        new: true,
        ..Touch::NOTHING
    };
    const FLAGS: Touch = Touch {
        flags: true,
        ..Touch::NOTHING
    };

    fn watch() -> (Watchers, Arc<Watch>, Arc<AtomicUsize>) {
        let (watchers, rings) = (Watchers::default(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&rings);
        let ring = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        let watch = Arc::new(Watch::new(Box::new(ring)));
        watchers.add(&watch);
        (watchers, watch, rings)
    }

    #[test]
    fn a_thousand_changes_of_one_mailbox_are_one_note_and_one_ring() {
        let (watchers, watch, rings) = watch();
        for _ in 0..1000 {
            watchers.tell(|| Note::Touched("a".into(), NEW));
            watchers.tell(|| Note::Touched("b".into(), FLAGS));
        }
        watchers.tell(|| Note::Touched("a".into(), FLAGS));
        watchers.tell(|| Note::Created("c".into()));
        assert_eq!(rings.load(Ordering::Relaxed), 1);
        let first = watch.fetch(2);
        let notes = [
            Note::Touched("a".into(), NEW.and(FLAGS)),
            Note::Touched("b".into(), FLAGS),
        ];
        assert_eq!(
            (first.notes, first.more, first.lost),
            (notes.into(), true, false)
        );
        watchers.tell(|| Note::Touched("a".into(), NEW));
        assert_eq!(rings.load(Ordering::Relaxed), 2);
        let rest = watch.fetch(9).notes;
        assert_eq!(
            rest,
            [Note::Created("c".into()), Note::Touched("a".into(), NEW)]
        );
        assert_eq!(watch.fetch(9).notes, []);
    }

    #[test]
    fn who_does_not_fetch_is_told_that_it_lost_something_and_holds_nothing() {
        let (watchers, watch, rings) = watch();
        for number in 0..=MAX_NOTES {
            watchers.tell(|| Note::Touched(number.to_string(), NEW));
        }
        watchers.tell(|| Note::Created("c".into()));
        assert!(watch.lock().waiting.is_empty() && watch.lock().touched.is_empty());
        let fetched = watch.fetch(9);
        assert_eq!(
            (fetched.notes, fetched.more, fetched.lost),
            (vec![], false, true)
        );
        watchers.tell(|| Note::Created("d".into()));
        assert_eq!(watch.fetch(9).notes, [Note::Created("d".into())]);
        assert_eq!(rings.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let (watchers, watch, _) = watch();
        drop(watch);
        watchers.tell(|| Note::Created("c".into()));
        assert!(watchers.lock().is_empty() && !watchers.any.load(Ordering::Relaxed));
    }
}
