//! Holds what is in a store against what its clients were told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::ledger::{Change, Ledger, Message, Place};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Loss {
    /// The disk cannot be mounted, the store not opened or read.
    Unusable(String),
    /// A message whose arrival was acknowledged is not there.
    Message(Place, Message),
    /// Flags or keywords are not as they were acknowledged.
    Flags(Place, Message, Found),
    /// A message is not known by what it was known by.
    Ids(Place, Message, Found),
    /// Two messages are known by one id.
    Twice(Place, Place),
    /// The bytes are not those of the message that belongs here.
    Bytes(Place, Found),
    /// Of messages that come together or not at all, only some are there.
    Half(Place),
    /// A message is there that nobody put there, or that was removed.
    Intruder(Place, Found),
    /// UIDVALIDITY is another one.
    UidValidity(usize),
    /// A new message got a UID although a higher one was given before.
    Uid(Place),
    /// What was expunged and can be had back is not whole.
    Kept(String),
    /// What is here became something else when the store was opened once more.
    Changed(Place, Option<Found>, Option<Found>),
}

/// A message as it is found in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Found {
    /// `None` if it is no whole message of ours.
    pub(in crate::store) number: Option<u64>,
    pub(in crate::store) flags: u8,
    pub(in crate::store) keywords: BTreeSet<String>,
    pub(in crate::store) id: u128,
    pub(in crate::store) email_id: u128,
}

/// What was found in a store.
pub(in crate::store) type Findings = BTreeMap<Place, Found>;

/// Which promises of one moment are broken: `acknowledged` has for each ledger the number of operations that were; one more may
/// have begun.
pub(super) fn losses(ledgers: &[Ledger], acknowledged: &[usize], found: &Findings) -> Vec<Loss> {
    let mut unexplained = found.clone();
    let mut losses = Vec::new();
    for (client, ledger) in ledgers.iter().enumerate() {
        let count = acknowledged.get(client).copied().unwrap_or(0);
        let messages = ledger.after(count);
        let operation = ledger.operations.get(count);
        let begun = operation.map_or(&[][..], |operation| &operation.changes);
        if operation.is_some_and(|operation| operation.is_whole) {
            let is_there = |change: &&Change| found.contains_key(&change.place);
            let missing = begun.iter().find(|change| !is_there(change));
            let has_some = begun.iter().any(|change| is_there(&change));
            losses.extend(
                missing
                    .filter(|_| has_some)
                    .map(|one| Loss::Half(one.place)),
            );
        }
        for (place, message) in &messages {
            unexplained.remove(place);
            let change = begun.iter().find(|change| change.place == *place);
            losses.extend(at_place(*place, message, change, found));
        }
        for change in begun {
            if !messages.contains_key(&change.place) {
                unexplained.remove(&change.place);
                losses.extend(unacknowledged(change, found));
            }
        }
    }
    let intruders = unexplained.into_iter();
    losses.extend(intruders.map(|(place, found)| Loss::Intruder(place, found)));
    losses.extend(twice(found).map(|(first, second)| Loss::Twice(first, second)));
    losses
}

/// Messages that have the id of another one.
pub(in crate::store) fn twice(found: &Findings) -> impl Iterator<Item = (Place, Place)> {
    let mut places = BTreeMap::new();
    found
        .iter()
        .filter_map(move |(place, found)| Some((places.insert(found.id, *place)?, *place)))
}

/// What is wrong with an acknowledged message that `change` may be at work on.
fn at_place(
    place: Place,
    message: &Message,
    change: Option<&Change>,
    found: &Findings,
) -> Option<Loss> {
    let is_there = |place: &Place| {
        found
            .get(place)
            .is_some_and(|found| found.number == Some(message.number) && found.has_ids_of(message))
    };
    let Some(present) = found.get(&place) else {
        let may_be_gone = change.is_some_and(|change| {
            // In the middle of a move it is in both mailboxes, never in none.
            change.becomes.is_none() && change.moves_to.as_ref().is_none_or(is_there)
        });
        return (!may_be_gone).then(|| Loss::Message(place, message.clone()));
    };
    if present.number != Some(message.number) {
        return Some(Loss::Bytes(place, present.clone()));
    }
    let may_become = change.and_then(|change| change.becomes.as_ref());
    let candidates = || may_become.into_iter().chain([message]);
    let fits = candidates().any(|message| message.flags == present.flags)
        && candidates().any(|message| message.keywords == present.keywords);
    if !fits {
        return Some(Loss::Flags(place, message.clone(), present.clone()));
    }
    (!present.has_ids_of(message)).then(|| Loss::Ids(place, message.clone(), present.clone()))
}

/// What is wrong with a message whose bringer was not told yet: it may be there or not, but never in part.
fn unacknowledged(change: &Change, found: &Findings) -> Option<Loss> {
    let (message, present) = (change.becomes.as_ref()?, found.get(&change.place)?);
    (present.number != Some(message.number)).then(|| Loss::Bytes(change.place, present.clone()))
}

/// What is not the same in a store that was closed and opened in between.
pub(super) fn differences(before: &Findings, after: &Findings) -> Vec<Loss> {
    let places: BTreeSet<&Place> = before.keys().chain(after.keys()).collect();
    let differ = places
        .into_iter()
        .filter(|place| before.get(place) != after.get(place));
    differ
        .map(|place| {
            Loss::Changed(
                *place,
                before.get(place).cloned(),
                after.get(place).cloned(),
            )
        })
        .collect()
}

/// For each mailbox the highest UID that was acknowledged.
pub(super) fn highest_uids(ledgers: &[Ledger], acknowledged: &[usize]) -> BTreeMap<usize, u32> {
    let mut highest = BTreeMap::new();
    for (client, ledger) in ledgers.iter().enumerate() {
        let count = acknowledged.get(client).copied().unwrap_or(0);
        for Place { mailbox, uid } in ledger.places(count) {
            let known = highest.entry(mailbox).or_insert(uid);
            *known = uid.max(*known);
        }
    }
    highest
}

impl Found {
    /// Whether it is known by what this message is known by, as far as the client knows.
    fn has_ids_of(&self, message: &Message) -> bool {
        message.id.is_none_or(|id| id == self.id)
            && message
                .email_id
                .is_none_or(|email_id| email_id == self.email_id)
    }

    /// Whether it is this message.
    pub(in crate::store) fn is(&self, message: &Message) -> bool {
        self.number == Some(message.number)
            && (self.flags, &self.keywords) == (message.flags, &message.keywords)
            && self.has_ids_of(message)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(why) => write!(f, "the store cannot be used: {why}"),
            Self::Message(place, message) => write!(f, "lost: {message:?} at {place:?}"),
            Self::Flags(place, message, found) => {
                write!(f, "flags of {message:?} at {place:?} are lost: {found:?}")
            }
            Self::Ids(place, message, found) => {
                write!(f, "{message:?} at {place:?} has other ids: {found:?}")
            }
            Self::Twice(first, second) => write!(f, "one id at {first:?} and {second:?}"),
            Self::Bytes(place, found) => {
                write!(
                    f,
                    "at {place:?} is no whole message or another one: {found:?}"
                )
            }
            Self::Half(place) => {
                write!(
                    f,
                    "others came, and what belongs to them is not at {place:?}"
                )
            }
            Self::Intruder(place, found) => {
                write!(
                    f,
                    "nobody put this at {place:?}, or it was removed: {found:?}"
                )
            }
            Self::UidValidity(mailbox) => write!(f, "another UIDVALIDITY in mailbox {mailbox}"),
            Self::Changed(place, before, after) => {
                write!(f, "opened again, {before:?} at {place:?} is {after:?}")
            }
            Self::Kept(path) => write!(f, "kept, and no whole message: {path}"),
            Self::Uid(place) => write!(f, "a new message got a UID too low: {place:?}"),
        }
    }
}
