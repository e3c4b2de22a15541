//! What a client was told, and what may therefore be in the store.

use std::collections::{BTreeMap, BTreeSet};

use super::super::power_cut::ledger::{Message, Place};
use super::super::power_cut::verdict::{self, Findings, Found};

/// What a client knows about a store that nobody else uses.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// What may be at each place (`None`: nothing). More than one after a refusal: a crash may bring what was refused.
    places: BTreeMap<Place, Vec<Option<Message>>>,
    /// Messages that must be somewhere in one of these mailboxes.
    somewhere: Vec<(u64, Vec<usize>)>,
    /// The numbers of all messages that were ever brought.
    brought: BTreeSet<u64>,
    /// The highest UID given in each mailbox.
    highest: BTreeMap<usize, u32>,
}

impl Book {
    /// A message that was not brought before, with a length that `fits`.
    pub(super) fn new_number(&mut self, fits: impl Fn(u64) -> bool) -> u64 {
        let first = self.brought.last().map_or(1, |last| last + 1);
        let number = (first..).find(|number| fits(*number)).unwrap();
        self.brought.insert(number);
        number
    }

    /// A message was acknowledged under a new UID.
    pub(super) fn comes(&mut self, place: Place, message: Message) {
        let highest = self.highest.entry(place.mailbox).or_default();
        assert!(place.uid > *highest, "{place:?}: not above {highest}");
        *highest = place.uid;
        self.is(place, Some(message));
    }

    /// It was acknowledged that this is there now, or that nothing is.
    pub(super) fn is(&mut self, place: Place, message: Option<Message>) {
        self.places.insert(place, vec![message]);
    }

    /// This was refused: it may be there after a crash, or what was there before.
    pub(super) fn may_be(&mut self, place: Place, message: Option<Message>) {
        self.places.entry(place).or_default().push(message);
    }

    /// A message must be in one of these mailboxes, under whatever UID.
    pub(super) fn is_somewhere(&mut self, number: u64, mailboxes: Vec<usize>) {
        self.somewhere.push((number, mailboxes));
    }

    /// Messages of a mailbox about which there is no doubt, ascending.
    pub(super) fn certain(&self, mailbox: usize) -> Vec<(Place, Message)> {
        let here = self
            .places
            .iter()
            .filter(|(place, _)| place.mailbox == mailbox);
        let certain = here.filter_map(|(place, candidates)| match &candidates[..] {
            [Some(message)] => Some((*place, message.clone())),
            _ => None,
        });
        certain.collect()
    }

    /// What of the promises for these mailboxes is not kept by what was found in them.
    pub(super) fn broken(
        &self,
        found: &Findings,
        mailboxes: impl Fn(usize) -> bool,
    ) -> Vec<String> {
        let mut broken = Vec::new();
        for (place, candidates) in &self.places {
            let present = found.get(place);
            let fits = candidates.iter().any(|candidate| match candidate {
                Some(message) => present.is_some_and(|found| found.is(message)),
                None => present.is_none(),
            });
            if mailboxes(place.mailbox) && !fits {
                broken.push(format!(
                    "at {place:?} is {present:?}, and not one of {candidates:?}"
                ));
            }
        }
        for (number, places) in &self.somewhere {
            let is_there = |place: &Place, found: &Found| {
                found.number == Some(*number) && places.contains(&place.mailbox)
            };
            if places.iter().all(|at| mailboxes(*at))
                && !found.iter().any(|(place, found)| is_there(place, found))
            {
                broken.push(format!(
                    "message {number} is in none of the mailboxes {places:?}"
                ));
            }
        }
        for (first, second) in verdict::twice(found) {
            broken.push(format!("one id at {first:?} and {second:?}"));
        }
        for (place, found) in found {
            if found
                .number
                .is_none_or(|number| !self.brought.contains(&number))
            {
                broken.push(format!("at {place:?} is no whole message: {found:?}"));
            }
        }
        broken
    }

    /// Takes over what was found in the whole store, without doubts.
    pub(super) fn settle(&mut self, found: Findings) {
        self.somewhere.clear();
        self.places.clear();
        for (
            place,
            Found {
                number,
                flags,
                keywords,
                id,
                email_id,
            },
        ) in found
        {
            let highest = self.highest.entry(place.mailbox).or_default();
            *highest = place.uid.max(*highest);
            let message =
                number.map(|number| Message::new(number, flags, keywords).known_by((id, email_id)));
            self.places.insert(place, vec![message]);
        }
    }
}
