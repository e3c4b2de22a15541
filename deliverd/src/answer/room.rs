//! Room set aside for the transactions of a channel: by RCPT, until the message is opened.
//!
//! smtpd says a number for each transaction. What a transaction never uses is freed when it ends, when the channel closes, or
//! after a while without another recipient: a message that is opened after that asks for its room at the commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::store::{Hold, Owner};

/// RFC 5321 §4.5.3.2: so long a client may take for its next command.
const IDLE: Duration = Duration::from_secs(300);
/// How often that is looked at.
const SWEEP: Duration = Duration::from_secs(30);
/// Users one channel may have room set aside for; for those beyond it is looked only.
const MOST: usize = 100_000;

/// Room set aside for the transactions of a channel.
#[derive(Default)]
pub(super) struct Rooms(Mutex<Open>);

#[derive(Default)]
struct Open {
    transactions: HashMap<u64, Transaction>,
    holds: usize,
}

struct Transaction {
    holds: Vec<Hold>,
    touched: Instant,
}

impl Rooms {
    /// Of a new channel.
    pub(super) fn new() -> Arc<Self> {
        let rooms = Arc::new(Self::default());
        tokio::spawn(sweep(Arc::downgrade(&rooms)));
        rooms
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of `owners` the transaction has no room set aside for.
    pub(super) fn missing(&self, transaction: u64, owners: &[Owner]) -> Vec<Owner> {
        let open = self.lock();
        let known = open.transactions.get(&transaction);
        let is_missing = |owner: &&Owner| {
            known.is_none_or(|known| known.holds.iter().all(|hold| hold.owner() != *owner))
        };
        owners.iter().filter(is_missing).cloned().collect()
    }

    /// Keeps room for the transaction.
    pub(super) fn keep(&self, transaction: u64, holds: Vec<Hold>) {
        let mut open = self.lock();
        if transaction == 0 || open.holds + holds.len() > MOST {
            return;
        }
        open.holds += holds.len();
        let known = open
            .transactions
            .entry(transaction)
            .or_insert_with(|| Transaction {
                holds: Vec::new(),
                touched: Instant::now(),
            });
        known.touched = Instant::now();
        known.holds.extend(holds);
    }

    /// Ends the transaction, and gives the room it has.
    pub(super) fn take(&self, transaction: u64) -> Vec<Hold> {
        let mut open = self.lock();
        let holds = open.transactions.remove(&transaction);
        let holds = holds.map_or_else(Vec::new, |known| known.holds);
        open.holds -= holds.len();
        holds
    }

    /// Frees what was not touched for so long.
    fn forget(&self, idle: Duration) {
        let mut open = self.lock();
        open.transactions
            .retain(|_, known| known.touched.elapsed() < idle);
        open.holds = open
            .transactions
            .values()
            .map(|known| known.holds.len())
            .sum();
    }
}

async fn sweep(rooms: Weak<Rooms>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(rooms) = rooms.upgrade() else { return };
        rooms.forget(IDLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, Totals};

    #[test]
    fn what_nobody_asks_for_any_more_is_free_again() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path()).unwrap();
        let alice = Owner {
            local: "alice".into(),
            domain: "example.test".into(),
        };
        let limits = ipc::quota::Limits {
            messages: 2,
            bytes: 0,
        };
        store.ledger().set_user(&alice, limits, Totals::default());
        let hold = || store.hold(std::slice::from_ref(&alice), Totals::message(1));
        let rooms = Rooms::default();
        rooms.keep(1, hold().unwrap());
        rooms.keep(2, hold().unwrap());
        assert!(rooms.missing(1, std::slice::from_ref(&alice)).is_empty());
        assert!(hold().is_err());
        rooms.forget(IDLE);
        assert!(hold().is_err());
        drop(rooms.take(1));
        rooms.keep(3, hold().unwrap());
        rooms.forget(Duration::ZERO);
        assert_eq!(rooms.missing(2, std::slice::from_ref(&alice)).len(), 1);
        assert!(
            store
                .hold(&[alice.clone(), alice], Totals::message(1))
                .is_ok()
        );
        assert_eq!(rooms.lock().holds, 0);
    }
}
