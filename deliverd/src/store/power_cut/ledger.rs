//! What one client did, in order: from it follows what must be there after any number of acknowledgements.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{FOLDERS, OWNERS};

/// A message's place: an index into [`super::MAILBOXES`], and a UID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Place {
    pub(in crate::store) mailbox: usize,
    pub(in crate::store) uid: u32,
}

/// A message as a client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Message {
    /// What its bytes follow from.
    pub(in crate::store) number: u64,
    pub(in crate::store) flags: u8,
    pub(in crate::store) keywords: BTreeSet<String>,
    /// What it is known by, as far as the client asked for it.
    pub(in crate::store) id: Option<u128>,
    pub(in crate::store) email_id: Option<u128>,
}

/// Messages by their places.
pub(super) type Messages = BTreeMap<Place, Message>;

impl Message {
    /// A message that is just brought.
    pub(in crate::store) fn new(number: u64, flags: u8, keywords: BTreeSet<String>) -> Self {
        Self {
            number,
            flags,
            keywords,
            id: None,
            email_id: None,
        }
    }

    /// The same message, of which it is known now what it is known by. It must be what was known before.
    pub(in crate::store) fn known_by(mut self, (id, email_id): (u128, u128)) -> Self {
        assert!(self.id.is_none_or(|known| known == id), "{self:?}: {id:x}");
        assert!(
            self.email_id.is_none_or(|known| known == email_id),
            "{self:?}: {email_id:x}"
        );
        self.id = Some(id);
        self.email_id = Some(email_id);
        self
    }

    /// A copy of it: a message of its own.
    pub(in crate::store) fn copy(&self) -> Self {
        Self {
            id: None,
            ..self.clone()
        }
    }
}

/// What an operation does to one place.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) place: Place,
    /// `None`: the message goes.
    pub(super) becomes: Option<Message>,
    /// Where a message that goes has its name before.
    pub(super) moves_to: Option<Place>,
}

/// One call of the store.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) changes: Vec<Change>,
    /// All of them or none, whenever the power goes.
    pub(super) is_whole: bool,
}

/// Everything a client did. No other client touches its messages.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Its messages before the first operation.
    pub(super) start: Messages,
    pub(super) operations: Vec<Operation>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (local, domain) = OWNERS[self.mailbox / FOLDERS.len()];
        let folder = FOLDERS[self.mailbox % FOLDERS.len()];
        write!(f, "{local}@{domain} {folder} {}", self.uid)
    }
}

impl Change {
    /// A message comes or is changed.
    pub(super) fn puts(place: Place, message: Message) -> Self {
        Self {
            place,
            becomes: Some(message),
            moves_to: None,
        }
    }

    /// A message is removed.
    pub(super) fn removes(place: Place) -> Self {
        Self {
            place,
            becomes: None,
            moves_to: None,
        }
    }

    /// A message is removed after it got its name in another place.
    pub(super) fn moves(place: Place, to: Place) -> Self {
        Self {
            place,
            becomes: None,
            moves_to: Some(to),
        }
    }
}

impl Operation {
    pub(super) fn apply(&self, messages: &mut Messages) {
        for change in &self.changes {
            match &change.becomes {
                Some(message) => messages.insert(change.place, message.clone()),
                None => messages.remove(&change.place),
            };
        }
    }
}

impl Ledger {
    /// The messages after the first `count` operations.
    pub(super) fn after(&self, count: usize) -> Messages {
        let mut messages = self.start.clone();
        for operation in &self.operations[..count] {
            operation.apply(&mut messages);
        }
        messages
    }

    /// Every place that the first `count` operations put a message into, whether or not it is still there.
    pub(super) fn places(&self, count: usize) -> impl Iterator<Item = Place> {
        let changes = self.operations[..count]
            .iter()
            .flat_map(|operation| &operation.changes);
        let put = changes.filter(|change| change.becomes.is_some());
        self.start
            .keys()
            .copied()
            .chain(put.map(|change| change.place))
    }
}
