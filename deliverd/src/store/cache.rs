//! Which mailboxes are in memory, and which of them leave it when there are too many.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::mailbox::Mailbox;

/// What a loaded mailbox costs beside its records, counted in records.
const BASE_WEIGHT: usize = 32;
/// As large a part of the budget may come in, message by message, before it is looked at all mailboxes again.
const PART: usize = 16_384;

/// Bounds what loaded mailboxes take. Mailboxes somebody selected are never unloaded.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Records (of 40 bytes) that may be in memory.
    budget: usize,
    clock: AtomicU64,
    loaded: Mutex<Vec<Weak<Mailbox>>>,
    /// Whether a mailbox was loaded since that was looked at, and how often it was asked for.
    has_more: AtomicBool,
    asked: AtomicUsize,
}

impl Cache {
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            budget,
            clock: AtomicU64::new(0),
            loaded: Mutex::new(Vec::new()),
            has_more: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
        }
    }

    pub(super) fn register(&self, mailbox: &Arc<Mailbox>) {
        self.loaded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(mailbox));
        self.has_more.store(true, Ordering::Relaxed);
    }

    pub(super) fn touch(&self, mailbox: &Mailbox) {
        mailbox.used.store(
            self.clock.fetch_add(1, Ordering::Relaxed),
            Ordering::Relaxed,
        );
    }

    /// Unloads what was not used for longest until three quarters of the budget are kept. Must be called without any
    /// mailbox's lock.
    pub(crate) fn trim(&self) {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let is_due = asked.is_multiple_of((self.budget / PART).max(1));
        if !self.has_more.swap(false, Ordering::Relaxed) && !is_due {
            return;
        }
        let Some(mut mailboxes) = self.over_budget() else {
            return;
        };
        mailboxes.sort_by_key(|mailbox| mailbox.used.load(Ordering::Relaxed));
        let mut weight: usize = mailboxes.iter().map(|mailbox| weight_of(mailbox)).sum();
        let mut kept = Vec::new();
        for mailbox in mailboxes {
            let its = weight_of(&mailbox);
            if weight > self.budget / 4 * 3 && mailbox.unload() {
                weight -= its;
            } else {
                kept.push(Arc::downgrade(&mailbox));
            }
        }
        self.loaded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .append(&mut kept);
    }

    /// Takes the list if it is too heavy; whoever registers meanwhile starts a new one.
    fn over_budget(&self) -> Option<Vec<Arc<Mailbox>>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|mailbox| mailbox.strong_count() > 0);
        let mailboxes: Vec<_> = loaded.iter().filter_map(Weak::upgrade).collect();
        let weight: usize = mailboxes.iter().map(|mailbox| weight_of(mailbox)).sum();
        if weight <= self.budget {
            return None;
        }
        loaded.clear();
        Some(mailboxes)
    }

    /// All mailboxes in memory.
    pub(crate) fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        self.loaded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }
}

fn weight_of(mailbox: &Mailbox) -> usize {
    mailbox.weight.load(Ordering::Relaxed) + BASE_WEIGHT
}
