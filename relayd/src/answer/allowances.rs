//! What the operator lets accounts send: asked of deliverd, and remembered for a minute.
//!
//! `rmailctl` says when something has changed, so the minute matters only if it could not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use daemon::channel::CallError;
use ipc::Refusal;
use ipc::budget::OwnBudgets;
use tracing::warn;

use crate::ask::Ask;

/// How long an answer is believed. An account that sends all the time costs deliverd one question in that time.
const BELIEVED: Duration = Duration::from_mins(1);
/// Accounts that are remembered.
const MOST: usize = 10_000;

/// What deliverd has answered.
#[derive(Debug)]
pub struct Allowances {
    ask: Ask,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// How often it was forgotten.
    generation: u64,
    answers: HashMap<String, (Instant, Arc<OwnBudgets>)>,
}

impl Allowances {
    /// Nothing was asked yet.
    #[must_use]
    pub fn new(ask: Ask) -> Self {
        Self {
            ask,
            known: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The budgets that are an account's own. While deliverd does not answer, what it said last.
    ///
    /// # Errors
    /// [`Refusal::SenderNotAllowed`] when there is no such account; [`Refusal::Busy`] when deliverd does not answer.
    pub async fn of(&self, account: &str) -> Result<Arc<OwnBudgets>, Refusal> {
        let (generation, last) = {
            let known = self.lock();
            (known.generation, known.answers.get(account).cloned())
        };
        if let Some((asked, budgets)) = &last
            && asked.elapsed() < BELIEVED
        {
            return Ok(Arc::clone(budgets));
        }
        match self.ask.budgets(account).await {
            Ok(budgets) => {
                let budgets = Arc::new(budgets);
                self.lock().put(generation, account, &budgets);
                Ok(budgets)
            }
            Err(CallError::Refused(Refusal::NoSuchUser)) => Err(Refusal::SenderNotAllowed),
            Err(error) => {
                warn!(account, %error, "deliverd does not say what an account may send");
                last.map(|(_, budgets)| budgets).ok_or(Refusal::Busy)
            }
        }
    }

    /// Something has changed: everything is asked again.
    pub fn forget(&self) {
        let mut known = self.lock();
        known.generation += 1;
        known.answers.clear();
    }
}

impl Known {
    /// Remembers what was asked, unless something has changed since.
    fn put(&mut self, generation: u64, account: &str, budgets: &Arc<OwnBudgets>) {
        if generation != self.generation {
            return;
        }
        if self.answers.len() >= MOST {
            self.answers.clear();
        }
        let answer = (Instant::now(), Arc::clone(budgets));
        self.answers.insert(account.to_owned(), answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_before_a_change_is_not_remembered_after_it() {
        let allowances = Allowances::new(Ask::new("/nowhere".into()));
        let budgets = Arc::default();
        let before = allowances.lock().generation;
        allowances.forget();
        allowances.lock().put(before, "alice", &budgets);
        assert!(allowances.lock().answers.is_empty());
        let after = allowances.lock().generation;
        allowances.lock().put(after, "alice", &budgets);
        assert_eq!(allowances.lock().answers.len(), 1);
    }

    #[tokio::test]
    async fn while_deliverd_is_away_its_last_word_counts_and_without_one_mail_waits() {
        let allowances = Allowances::new(Ask::new("/nowhere".into()));
        allowances.lock().put(0, "alice", &Arc::default());
        let long_ago = Instant::now().checked_sub(BELIEVED).unwrap();
        for (asked, _) in allowances.lock().answers.values_mut() {
            *asked = long_ago;
        }
        let (alice, bob) = tokio::join!(allowances.of("alice"), allowances.of("bob"));
        assert_eq!((alice, bob), (Ok(Arc::default()), Err(Refusal::Busy)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut known = Known::default();
        for number in 0..=MOST {
            known.put(0, &number.to_string(), &Arc::default());
        }
        assert!(known.answers.len() <= MOST);
    }
}
