//! Which mailboxes are in memory, and which of them leave it when there are too many.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::mailbox::Mailbox;

/// What a loaded mailbox costs beside its records, counted in records.
const BASE_WEIGHT: usize = 32;
/// So many records leave memory before what they took is given back to the system: 2 MB.
const GIVEN_BACK: usize = 100_000;
/// So many mailboxes are looked through at once without a thought.
const ENOUGH: usize = 1000;

/// Bounds what loaded mailboxes take. Mailboxes somebody selected are never unloaded.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Records (of 24 bytes) that may be in memory.
    budget: usize,
    clock: AtomicU64,
    /// What all mailboxes in memory weigh.
    weight: AtomicUsize,
    /// What those weighed that could not be unloaded when that was last tried, less what was let go since.
    in_use: AtomicUsize,
    loaded: Mutex<Loaded>,
}

#[derive(Debug, Default)]
struct Loaded {
    /// Those in memory, and some that were.
    mailboxes: Vec<Weak<Mailbox>>,
    /// How many make it worth while to look which of them are not any more.
    enough: usize,
}

impl Cache {
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            budget,
            clock: AtomicU64::new(0),
            weight: AtomicUsize::new(0),
            in_use: AtomicUsize::new(0),
            loaded: Mutex::default(),
        }
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a mailbox that came into memory and was weighed.
    pub(super) fn register(&self, mailbox: &Arc<Mailbox>) {
        let mut loaded = self.loaded();
        if loaded.mailboxes.len() >= loaded.enough {
            let mailboxes = distinct(std::mem::take(&mut loaded.mailboxes));
            let mailboxes = mailboxes.iter().filter(|mailbox| is_loaded(mailbox));
            loaded.mailboxes = mailboxes.map(Arc::downgrade).collect();
            loaded.enough = loaded.mailboxes.len() * 2 + ENOUGH;
        }
        loaded.mailboxes.push(Arc::downgrade(mailbox));
    }

    pub(super) fn touch(&self, mailbox: &Mailbox) {
        mailbox.used.store(
            self.clock.fetch_add(1, Ordering::Relaxed),
            Ordering::Relaxed,
        );
    }

    /// Notes what a mailbox has in memory: so many records, or that it is not in memory. Called under its lock.
    pub(super) fn weigh(&self, mailbox: &Mailbox, records: Option<usize>) {
        let now = records.map_or(0, |records| records + BASE_WEIGHT);
        let before = mailbox.weight.swap(now, Ordering::Relaxed);
        // One after the other, as neither may be below the other.
        self.weight.fetch_add(now, Ordering::Relaxed);
        self.weight.fetch_sub(before, Ordering::Relaxed);
    }

    /// Unloads what was not used for longest until three quarters of the budget are kept, or an eighth of it beside what is in use:
    /// who selects a mailbox that is larger than all of it does not drive the others out. Must be called without any mailbox's lock.
    pub(crate) fn trim(&self) {
        let in_use = self.in_use.load(Ordering::Relaxed);
        if self.weight() <= self.budget.max(in_use + self.budget / 4) {
            return;
        }
        // Whoever registers meanwhile starts a new list.
        let mailboxes = std::mem::take(&mut self.loaded().mailboxes);
        let (used, mut unused): (Vec<_>, Vec<_>) = distinct(mailboxes)
            .into_iter()
            .partition(|mailbox| mailbox.is_in_use());
        let in_use = used.iter().map(weight_of).sum();
        self.in_use.store(in_use, Ordering::Relaxed);
        let kept = (self.budget / 4 * 3).max(in_use + self.budget / 8);
        unused.sort_by_key(|mailbox| mailbox.used.load(Ordering::Relaxed));
        let before = self.weight();
        unused.retain(|mailbox| self.weight() <= kept || !mailbox.unload());
        if before.saturating_sub(self.weight()) >= GIVEN_BACK {
            sys::memory::give_back();
        }
        let both = used.iter().chain(&unused);
        self.loaded().mailboxes.extend(both.map(Arc::downgrade));
    }

    /// Of what was in use, so much may be unloaded now.
    pub(super) fn loosen(&self, weight: usize) {
        let less = |in_use: usize| Some(in_use.saturating_sub(weight));
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        // It is always changed.
        let _ = self.in_use.fetch_update(set, get, less);
    }

    fn weight(&self) -> usize {
        self.weight.load(Ordering::Relaxed)
    }

    /// All mailboxes in memory.
    pub(crate) fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        let mut mailboxes = distinct(self.loaded().mailboxes.clone());
        mailboxes.retain(is_loaded);
        mailboxes
    }
}

/// Those that are still there. One that was unloaded and came back is listed twice.
fn distinct(mailboxes: Vec<Weak<Mailbox>>) -> Vec<Arc<Mailbox>> {
    let mut mailboxes: Vec<_> = mailboxes.iter().filter_map(Weak::upgrade).collect();
    mailboxes.sort_by_key(Arc::as_ptr);
    mailboxes.dedup_by(|one, other| Arc::ptr_eq(one, other));
    mailboxes
}

fn weight_of(mailbox: &Arc<Mailbox>) -> usize {
    mailbox.weight.load(Ordering::Relaxed)
}

fn is_loaded(mailbox: &Arc<Mailbox>) -> bool {
    weight_of(mailbox) > 0
}
