//! Where a transaction's message goes.

use std::collections::BTreeSet;

use ipc::Refusal;
use smtp::command::BodyType;
use smtp::server::Answer;

use super::ways::Ways;
use crate::passage::Passage;
use crate::reservation::Reservation;
use crate::wishes::Wishes;
use crate::words;

/// Addresses one message may go to once all aliases are expanded.
const MAX_TARGETS: usize = 10_000;

/// Where the transaction's message goes; each address once, however many aliases lead to it.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub(super) local: BTreeSet<String>,
    pub(super) remote: BTreeSet<String>,
    /// Of each recipient granted, in order: whether any of its addresses is elsewhere.
    pub(super) reach: Vec<Reach>,
    pub(super) wishes: Wishes,
    pub(super) ways: Ways,
    /// How an alias passes it on.
    pub(super) by_alias: Option<Passage>,
    /// How it goes out, once somebody elsewhere gets it.
    pub(super) passage: Option<Passage>,
    pub(super) body: Option<BodyType>,
    pub(super) size: u64,
    pub(super) reservation: Option<Reservation>,
    /// What the last recipient added.
    pub(super) last: (BTreeSet<String>, BTreeSet<String>),
}

/// Where a recipient's mail goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// To users here only.
    Here,
    /// To other servers, too.
    Elsewhere,
}

impl Targets {
    /// Whether the message goes out in another way than this.
    pub(super) fn goes_otherwise(&self, passage: Option<Passage>) -> bool {
        self.passage.is_some() && self.passage != passage
    }

    /// Notes what a recipient expands to: all of it, or nothing when that is too much.
    pub(super) fn add(
        &mut self,
        local: Vec<String>,
        remote: Vec<String>,
        passage: Option<Passage>,
        max_remote: usize,
    ) -> Answer {
        let reach = match remote.is_empty() {
            true => Reach::Here,
            false => Reach::Elsewhere,
        };
        let (local, remote) = (missing(&self.local, local), missing(&self.remote, remote));
        let all_local = self.local.len() + local.len();
        let all_remote = self.remote.len() + remote.len();
        // Told now, so that the client sends the rest as another message; later it could only
        // send the same again.
        if all_local + all_remote > MAX_TARGETS || all_remote > max_remote {
            return Answer::Refused(words::refused(&Refusal::TooManyRecipients));
        }
        if reach == Reach::Elsewhere {
            self.passage = passage;
        }
        self.local.extend(local.iter().cloned());
        self.remote.extend(remote.iter().cloned());
        self.last = (local, remote);
        self.reach.push(reach);
        Answer::Granted
    }
}

/// Those of `addresses` that are not `known`, each once.
fn missing(known: &BTreeSet<String>, addresses: Vec<String>) -> BTreeSet<String> {
    let addresses = addresses.into_iter();
    addresses.filter(|one| !known.contains(one)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{n}@far.example")).collect()
    }

    fn one(address: &str) -> Vec<String> {
        vec![address.to_string()]
    }

    #[test]
    fn a_recipient_too_many_leaves_nothing_in_the_transaction() {
        let mut targets = Targets::default();
        let list = addresses(MAX_TARGETS - 1);
        assert_eq!(
            targets.add(one("alice@example.org"), list, None, MAX_TARGETS),
            Answer::Granted
        );
        for (local, remote) in [
            (one("bob@example.org"), Vec::new()),
            (Vec::new(), one("dave@far.example")),
            (one("alice@example.org"), one("dave@far.example")),
        ] {
            let Answer::Refused(reply) = targets.add(local, remote, None, MAX_TARGETS) else {
                panic!("one too many was granted");
            };
            assert_eq!(reply.code(), 452);
        }
        assert_eq!(targets.local.len() + targets.remote.len(), MAX_TARGETS);
        assert!(!targets.local.contains("bob@example.org"));
        assert!(!targets.remote.contains("dave@far.example"));
    }

    #[test]
    fn who_is_a_target_already_is_granted_at_the_limit_too() {
        let mut targets = Targets::default();
        for count in [100, 2] {
            let answer = targets.add(Vec::new(), addresses(count), None, 100);
            assert_eq!(answer, Answer::Granted);
        }
        assert_eq!(targets.remote.len(), 100);
    }
}
