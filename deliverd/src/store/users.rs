//! The users whose mail is in memory. Those that nobody uses leave it when there are too many.
//!
//! Invariant: there is never a second [`User`] of one owner: it would give the UIDs of the first one again. So an owner's user is
//! opened by one thread while others wait, and leaves only when nobody has it or one of its mailboxes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ipc::Refusal;

use super::Owner;
use super::user::User;

/// Mailboxes that users in memory may have before those leave that nobody uses: some 75 MB.
const MAILBOXES: usize = 100_000;
/// Users that are looked at, and that leave, for one that comes.
const LOOKS: usize = 8;
const LEAVE: usize = 2;

/// All of them.
pub(super) struct Users {
    state: Mutex<State>,
    /// Rung when a user was opened, or could not be.
    opened: Condvar,
    budget: usize,
}

#[derive(Default)]
struct State {
    known: HashMap<Arc<Owner>, Known>,
    /// In which turn each is looked at; who was used since the last time gets another one.
    turns: BTreeMap<u64, Arc<Owner>>,
    last_turn: u64,
    /// Mailboxes of all, as they were counted last.
    mailboxes: usize,
    /// Being opened, without the lock: it reads files.
    opening: HashSet<Owner>,
    /// Threads that wait until nobody is being opened; nobody begins meanwhile.
    quiet: usize,
}

struct Known {
    user: Arc<User>,
    turn: u64,
    mailboxes: usize,
    /// Since it was looked at.
    is_used: bool,
}

impl Users {
    pub(super) fn new() -> Self {
        Self::with_budget(MAILBOXES)
    }

    pub(super) fn with_budget(budget: usize) -> Self {
        Self {
            state: Mutex::default(),
            opened: Condvar::new(),
            budget,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, when nothing of what `is_busy` says goes on any more.
    fn lock_after(&self, is_busy: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while is_busy(&state) {
            let waited = self.opened.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// The user, opened if it is not in memory.
    pub(super) fn get(
        &self,
        owner: &Owner,
        open: impl FnOnce() -> Result<User, Refusal>,
    ) -> Result<Arc<User>, Refusal> {
        {
            let mut state =
                self.lock_after(|state| !state.known.contains_key(owner) && state.is_busy(owner));
            if let Some(known) = state.known.get_mut(owner) {
                known.is_used = true;
                return Ok(Arc::clone(&known.user));
            }
            state.opening.insert(owner.clone());
        }
        let opening = Opening { users: self, owner };
        let user = Arc::new(open()?);
        self.lock().insert(owner, &user);
        drop(opening);
        self.trim();
        Ok(user)
    }

    /// The user, if it is in memory and not being opened.
    pub(super) fn known(&self, owner: &Owner) -> Option<Arc<User>> {
        let state = self.lock();
        state.known.get(owner).map(|known| Arc::clone(&known.user))
    }

    /// The user, if it is in memory.
    pub(super) fn opened(&self, owner: &Owner) -> Option<Arc<User>> {
        let state = self.lock_after(|state| state.opening.contains(owner));
        state.known.get(owner).map(|known| Arc::clone(&known.user))
    }

    /// Works while nobody opens that user, if it is not in memory. Must be short: others wait.
    pub(super) fn unless_opened<T>(&self, owner: &Owner, work: impl FnOnce() -> T) -> Option<T> {
        let state = self.lock_after(|state| state.opening.contains(owner));
        (!state.known.contains_key(owner)).then(work)
    }

    /// Works while no user is opened or made. Must be short: others wait.
    pub(super) fn undisturbed<T>(&self, work: impl FnOnce() -> T) -> T {
        self.lock().quiet += 1;
        let mut state = self.lock_after(|state| !state.opening.is_empty());
        state.quiet -= 1;
        // Who waits goes on when the lock is free.
        self.opened.notify_all();
        work()
    }

    /// Works with the user, if it is in memory, while nobody can get it; it has left when that is done.
    pub(super) fn remove<T>(&self, owner: &Owner, work: impl FnOnce(Option<Arc<User>>) -> T) -> T {
        let mut state = self.lock_after(|state| state.opening.contains(owner));
        let user = state.remove(owner);
        work(user)
    }

    /// Takes a user out of memory, if nobody uses it.
    pub(super) fn let_go(&self, owner: &Owner) {
        let mut state = self.lock();
        let known = state.known.get(owner);
        if let Some(user) = known.map(|known| &known.user)
            && Arc::strong_count(user) == 1
            && user.is_unused()
        {
            user.member().set_known();
            state.remove(owner);
        }
    }

    /// Takes a few users out of memory if there are too many. Called without locks.
    pub(super) fn trim(&self) {
        let unused = self.lock().unused(self.budget);
        for (owner, user) in unused {
            // What it takes to write is not done under the lock of all.
            user.unload();
            drop(user);
            self.let_go(&owner);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().known.len()
    }
}

impl State {
    /// Whether this owner cannot be opened yet.
    fn is_busy(&self, owner: &Owner) -> bool {
        self.quiet > 0 || self.opening.contains(owner)
    }

    fn insert(&mut self, owner: &Owner, user: &Arc<User>) {
        let owner = Arc::new(owner.clone());
        let mailboxes = user.mailboxes_listed();
        self.mailboxes += mailboxes;
        self.last_turn += 1;
        self.turns.insert(self.last_turn, Arc::clone(&owner));
        let known = Known {
            user: Arc::clone(user),
            turn: self.last_turn,
            mailboxes,
            is_used: true,
        };
        self.known.insert(owner, known);
    }

    fn remove(&mut self, owner: &Owner) -> Option<Arc<User>> {
        let known = self.known.remove(owner)?;
        self.turns.remove(&known.turn);
        self.mailboxes -= known.mailboxes;
        Some(known.user)
    }

    /// Some that were not used for long, if there are too many.
    fn unused(&mut self, budget: usize) -> Vec<(Arc<Owner>, Arc<User>)> {
        let mut found = Vec::new();
        for _ in 0..LOOKS {
            if self.mailboxes <= budget || found.len() == LEAVE {
                break;
            }
            let Some((_, owner)) = self.turns.pop_first() else {
                break;
            };
            self.last_turn += 1;
            let Some(known) = self.known.get_mut(&owner) else {
                continue;
            };
            known.turn = self.last_turn;
            self.turns.insert(self.last_turn, Arc::clone(&owner));
            let was_used = std::mem::replace(&mut known.is_used, false);
            if !was_used && Arc::strong_count(&known.user) == 1 {
                found.push((owner, Arc::clone(&known.user)));
            }
        }
        found
    }
}

/// Says that a user is opened no more, however that ended.
struct Opening<'a> {
    users: &'a Users,
    owner: &'a Owner,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.users.lock().opening.remove(self.owner);
        self.users.opened.notify_all();
    }
}
