//! Where mail for addresses goes, remembered until anything in the database changes.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mail::address::Address;
use rusqlite::Connection;

use super::resolve::Resolved;

/// Addresses that are remembered.
const MOST: usize = 10_000;
/// What an address may lead to, to be remembered.
const MOST_TARGETS: usize = 16;

/// Answers of the database.
#[derive(Default)]
pub(super) struct Known(Mutex<Answers>);

#[derive(Default)]
struct Answers {
    /// How often it was forgotten.
    generation: u64,
    resolved: HashMap<Address, Arc<Resolved>>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, address: &Address) -> Option<Arc<Resolved>> {
        self.lock().resolved.get(address).cloned()
    }

    /// To be asked before the database is, and given to [`Known::put`].
    pub(super) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Remembers what was read, unless something has changed since `generation`.
    pub(super) fn put(&self, generation: u64, address: &Address, resolved: &Arc<Resolved>) {
        let mut answers = self.lock();
        if generation != answers.generation
            || resolved.local.len() + resolved.remote.len() > MOST_TARGETS
        {
            return;
        }
        if answers.resolved.len() >= MOST {
            answers.resolved.clear();
        }
        let address = address.clone();
        answers.resolved.insert(address, Arc::clone(resolved));
    }

    pub(super) fn forget(&self) {
        let mut answers = self.lock();
        answers.generation += 1;
        answers.resolved.clear();
    }
}

/// The database. Whoever changes it makes what is known forgotten before anybody else can read it.
pub(super) struct Database<'a> {
    connection: MutexGuard<'a, Connection>,
    known: &'a Known,
    /// Rows changed until it was locked.
    changes: u64,
}

impl<'a> Database<'a> {
    pub(super) fn new(connection: MutexGuard<'a, Connection>, known: &'a Known) -> Self {
        let changes = connection.total_changes();
        Self {
            connection,
            known,
            changes,
        }
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        if self.connection.total_changes() != self.changes {
            self.known.forget();
        }
    }
}

impl Deref for Database<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Database<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}
