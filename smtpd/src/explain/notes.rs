//! What is found out on the way: facts for the decision that is being made, and where the mail goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipc::delivery::{Destination, RECIPIENTS_PER_FRAME};
use ipc::explain::{Fact, MAX_TEXT};
use ipc::queue::{Recipient, Standing};

/// Facts kept for one decision; who sends hostile mail cannot make them more.
const MAX_FACTS: usize = 400;

/// All that is noted since it was last taken.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    inner: Mutex<Inner>,
    /// Whether filters are asked.
    pub(crate) asks_filters: bool,
}

#[derive(Debug, Default)]
struct Inner {
    facts: Vec<Fact>,
    left_out: usize,
    granted: Option<Granted>,
    /// Users here who get the mail of those granted so far.
    here: BTreeSet<String>,
    kept: Kept,
}

/// Where the mail of a recipient goes.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    /// The recipient.
    pub(crate) address: String,
    /// Users here.
    pub(crate) here: Vec<String>,
    /// Addresses elsewhere.
    pub(crate) elsewhere: Vec<String>,
}

/// What would be kept of a message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    /// In which mailbox users here find it.
    pub(crate) here: BTreeMap<String, Destination>,
    /// For whom it is in quarantine, and why.
    pub(crate) held: BTreeMap<String, String>,
    /// How it goes elsewhere.
    pub(crate) elsewhere: Option<Queued>,
    /// What goes with it for each of those elsewhere for whom there is something.
    pub(crate) parameters: BTreeMap<String, String>,
    /// Users here who get it when it is released.
    pub(crate) later: BTreeSet<String>,
    /// What the sender is told of some recipients at once.
    pub(crate) told: BTreeMap<String, &'static str>,
}

/// A message that would be in the queue.
#[derive(Debug, Clone)]
pub(crate) struct Queued {
    /// Its sender; empty for the null reverse-path.
    pub(crate) reverse_path: String,
    /// Why it is held, if it is.
    pub(crate) hold: Option<String>,
    /// Those of MAIL that go with it.
    pub(crate) parameters: String,
}

impl Notes {
    pub(crate) fn new(asks_filters: bool) -> Self {
        Self {
            asks_filters,
            ..Self::default()
        }
    }

    pub(crate) fn add(&self, fact: Fact) {
        let mut inner = self.lock();
        if inner.facts.len() >= MAX_FACTS {
            inner.left_out += 1;
            return;
        }
        inner.facts.push(Fact {
            text: shown(&fact.text),
            key: shown(&fact.key),
        });
    }

    pub(crate) fn grant(&self, granted: Granted) {
        let mut inner = self.lock();
        inner.here.extend(granted.here.iter().cloned());
        inner.granted = Some(granted);
    }

    /// Users here beside whom there has to be room for the next one; so many as can be said.
    pub(crate) fn beside(&self) -> Vec<String> {
        let inner = self.lock();
        let all = inner.here.iter();
        all.take(RECIPIENTS_PER_FRAME).cloned().collect()
    }

    pub(crate) fn keep(&self, recipients: &[String], destination: Destination) {
        let all = recipients.iter().map(|one| (one.clone(), destination));
        self.lock().kept.here.extend(all);
    }

    pub(crate) fn hold(&self, recipients: &[String], reason: &str) {
        let all = recipients.iter();
        let all = all.map(|one| (one.clone(), shown(reason)));
        self.lock().kept.held.extend(all);
    }

    pub(crate) fn queue(&self, queued: Queued, recipients: &[Recipient]) {
        let kept = &mut self.lock().kept;
        kept.elsewhere = Some(queued);
        for one in recipients {
            let address = one.address.clone();
            match one.standing {
                Standing::Waiting if one.parameters.is_empty() => {}
                Standing::Waiting => {
                    kept.parameters.insert(address, one.parameters.clone());
                }
                Standing::Here => {
                    kept.later.insert(address);
                }
                Standing::Delivered => {
                    kept.told.insert(address, "that it was delivered");
                }
                Standing::Expanded => {
                    kept.told.insert(address, "that it went to a list");
                }
            }
        }
    }

    /// The facts since this was last asked.
    pub(crate) fn take_facts(&self) -> Vec<Fact> {
        let mut inner = self.lock();
        let mut facts = std::mem::take(&mut inner.facts);
        let left_out = std::mem::take(&mut inner.left_out);
        if left_out > 0 {
            facts.push(Fact {
                text: format!("and {left_out} more of that"),
                key: String::new(),
            });
        }
        facts
    }

    /// Where the recipient's mail goes that was granted last.
    pub(crate) fn take_granted(&self) -> Option<Granted> {
        self.lock().granted.take()
    }

    pub(crate) fn kept(&self) -> Kept {
        self.lock().kept.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fit to be shown: short, and without what a terminal would obey. Strangers wrote parts of it.
pub(crate) fn shown(text: &str) -> String {
    let text = text.get(..text.floor_char_boundary(MAX_TEXT));
    let plain = |c: char| match c {
        '\n' => '\n',
        c if c.is_control() => '?',
        c => c,
    };
    text.unwrap_or_default()
        .chars()
        .map(plain)
        .collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_few_short_and_plain() {
        let notes = Notes::default();
        for number in 0..MAX_FACTS + 3 {
            notes.add(Fact {
                text: format!("{number}\x1b[2J{}", "ä".repeat(MAX_TEXT)),
                key: String::new(),
            });
        }
        let facts = notes.take_facts();
        assert_eq!(facts.len(), MAX_FACTS + 1);
        assert_eq!(facts.last().unwrap().text, "and 3 more of that");
        assert!(facts.iter().all(|fact| !fact.text.contains('\x1b')));
        assert!(facts.iter().all(|fact| fact.text.len() <= MAX_TEXT));
        assert!(notes.take_facts().is_empty());
    }
}
