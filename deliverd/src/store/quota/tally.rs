//! What of a mailbox is in the ledger, and room that is set aside for what is to come into it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipc::Refusal;
use ipc::quota::Usage;

use super::Member;
use crate::store::Owner;
use crate::store::mailbox::Totals;

/// Room set aside for messages of a user; what was not used is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(super) member: Arc<Member>,
    pub(super) amount: Totals,
}

/// What of a mailbox is in the ledger.
#[derive(Debug)]
pub(in crate::store) struct Tally {
    member: Arc<Member>,
    /// Written under the mailbox's lock.
    counted: Mutex<Option<Totals>>,
}

/// A mailbox that has something else than the ledger knows.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Change {
    /// `None`: it was not counted yet.
    pub(super) before: Option<Totals>,
    pub(super) now: Totals,
    /// What of it was set aside.
    pub(super) granted: Totals,
}

impl Hold {
    pub(super) fn nothing(member: &Arc<Member>) -> Self {
        Self {
            member: Arc::clone(member),
            amount: Totals::default(),
        }
    }

    pub(crate) fn owner(&self) -> &Owner {
        &self.member.owner
    }

    pub(in crate::store) fn member(&self) -> Arc<Member> {
        Arc::clone(&self.member)
    }

    /// Takes out what becomes usage when the lock of the mailbox that gets it is released.
    pub(in crate::store) fn give(&mut self, amount: Totals) -> Totals {
        let given = Totals {
            messages: self.amount.messages.min(amount.messages),
            bytes: self.amount.bytes.min(amount.bytes),
        };
        self.amount = self.amount.minus(given);
        given
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.amount != Totals::default() {
            let amount = self.amount;
            self.member
                .look(|levels| levels.hold_instead(amount, Totals::default()));
        }
    }
}

impl Tally {
    /// Of a mailbox nobody has counted yet.
    pub(in crate::store) fn new(member: Arc<Member>) -> Self {
        Self {
            member,
            counted: Mutex::new(None),
        }
    }

    pub(in crate::store) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    fn counted(&self) -> MutexGuard<'_, Option<Totals>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn is_counted(&self) -> bool {
        self.counted().is_some()
    }

    /// Sets room aside for what shall come into the mailbox.
    pub(in crate::store) fn hold(&self, amount: Totals) -> Result<Hold, Refusal> {
        let mut hold = Hold::nothing(&self.member);
        self.member
            .ledger
            .resize(std::slice::from_mut(&mut hold), amount)?;
        Ok(hold)
    }

    /// What is to be told to the ledger of a mailbox that has `now` so much, `granted` of it set aside before.
    pub(in crate::store) fn change(&self, now: Totals, granted: Totals) -> Change {
        Change {
            before: *self.counted(),
            now,
            granted,
        }
    }

    /// Tells the ledger of a change of this mailbox, and of `other` in the same step. Called under the locks of both.
    pub(in crate::store) fn settle(&self, change: Change, other: Option<(&Self, Change)>) {
        if let Some((other, its_change)) = other
            && !Arc::ptr_eq(&self.member, &other.member)
        {
            // Of two users, each has its own.
            self.settle(change, None);
            other.settle(its_change, None);
            return;
        }
        let both = [Some(change), other.map(|(_, change)| change)];
        let changes: Vec<Change> = both.into_iter().flatten().filter(Change::is_one).collect();
        if changes.is_empty() {
            return;
        }
        self.member.ledger.settle(&self.member, &changes);
        *self.counted() = Some(change.now);
        if let Some((other, change)) = other {
            *other.counted() = Some(change.now);
        }
    }

    /// The mailbox has nothing: it was made a moment ago.
    pub(in crate::store) fn begin_empty(&self) {
        *self.counted() = Some(Totals::default());
    }

    /// The mailbox is gone with its messages.
    pub(in crate::store) fn leave(&self) {
        let before = self.counted().take();
        if before.is_some() {
            let (now, granted) = (Totals::default(), Totals::default());
            let change = Change {
                before,
                now,
                granted,
            };
            self.member.ledger.settle(&self.member, &[change]);
        }
    }

    /// The mailbox goes on as another object.
    pub(in crate::store) fn pass_on(&self, to: &Self) {
        *to.counted() = self.counted().take();
    }
}

impl Change {
    fn is_one(&self) -> bool {
        self.before != Some(self.now) || self.granted != Totals::default()
    }
}

impl Totals {
    /// One message.
    pub(crate) fn message(bytes: u64) -> Self {
        Self { messages: 1, bytes }
    }

    pub(in crate::store) fn plus(self, more: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(more.messages),
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }

    pub(super) fn minus(self, less: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(less.messages),
            bytes: self.bytes.saturating_sub(less.bytes),
        }
    }
}

impl From<Totals> for Usage {
    fn from(Totals { messages, bytes }: Totals) -> Self {
        Self { messages, bytes }
    }
}
