//! `account.json`: what a user has beside mailboxes – subscriptions, and the highest UIDVALIDITY given so far.

use std::collections::BTreeSet;
use std::io;

use serde::{Deserialize, Serialize};

use super::disk::Dir;
use crate::clock;

/// File name in a user's directory.
pub(super) const FILE: &str = "account.json";

/// Content of `account.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Registry {
    /// Highest UIDVALIDITY any mailbox of this user ever had.
    #[serde(default)]
    uid_validity: u32,
    /// Mailbox names, whether or not they exist (RFC 9051 §6.3.7).
    #[serde(default)]
    pub(crate) subscribed: BTreeSet<String>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

impl Registry {
    /// Reads the file; `None` if it is missing or damaged.
    pub(crate) fn read(user: &Dir) -> io::Result<Option<Self>> {
        Ok(user
            .read_small(FILE)?
            .and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Writes the file, durably.
    pub(crate) fn write(&self, user: &Dir) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        user.write_small(FILE, &bytes)
    }

    /// A UIDVALIDITY for a new mailbox: Unix time, but above all given before, so that a name made again is never taken for
    /// its predecessor (RFC 9051 §2.3.1.1).
    pub(crate) fn next_uid_validity(&mut self) -> u32 {
        let now = u32::try_from(clock::seconds()).unwrap_or(u32::MAX);
        self.uid_validity = now.max(self.uid_validity.saturating_add(1));
        self.uid_validity
    }

    /// Notes a UIDVALIDITY found on disk, in case the file was lost.
    pub(crate) fn saw_uid_validity(&mut self, uid_validity: u32) {
        self.uid_validity = self.uid_validity.max(uid_validity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_uid_validity_is_given_twice() {
        let mut registry = Registry::default();
        let first = registry.next_uid_validity();
        assert!(registry.next_uid_validity() > first);
        registry.saw_uid_validity(first + 1000);
        assert_eq!(registry.next_uid_validity(), first + 1001);
    }
}
