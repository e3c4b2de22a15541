//! Several messages into one mailbox, all or none, over a crash too.
//!
//! 1. Each message is flushed as a file when it has come ([`super::incoming::Incoming::park`]).
//! 2. Under the mailbox's lock they get UIDs, and the journal says that these are no messages ([`Event::Removed`]).
//! 3. The files get their names, which are flushed ([`Mailbox::link_all`]).
//! 4. The journal says that they are messages ([`Event::Placed`]).
//! 5. They are shown.
//!
//! A start after a crash before 4 is on disk removes what has such a name; after that it leaves it.

use std::sync::Arc;

use ipc::Refusal;
use ipc::session::APPENDS_TOGETHER;
use tracing::{error, warn};

use super::Store;
use super::append::{ATTEMPTS, Placing};
use super::change::{EVENT, RANGE};
use super::incoming::Parked;
use super::journal::{Event, Permit};
use super::mailbox::{Mailbox, State, Totals};
use super::message_file::{self, MAX_UID};
use crate::fault::OrFault;

/// Events: what is not yet, and what is.
const EVENTS: usize = 2;

impl Store {
    /// Makes messages durable and visible, all or none. Gives the UIDVALIDITY of the mailbox and their UIDs.
    pub(crate) fn append_together(
        &self,
        mailbox: &Arc<Mailbox>,
        mut messages: Vec<Parked>,
    ) -> Result<(u32, Vec<u32>), Refusal> {
        if messages.is_empty() || messages.len() > APPENDS_TOGETHER {
            return Err(Refusal::Invalid(format!(
                "1 to {APPENDS_TOGETHER} messages are appended together"
            )));
        }
        mailbox.prepare()?;
        let member = [Arc::clone(mailbox.tally.member())];
        for parked in &mut messages {
            let size = Totals::message(parked.message.size);
            parked.room = self.reserve(std::mem::take(&mut parked.room), &member, size)?;
        }
        let journal = &self.shared.journal;
        let permit = journal.admit(EVENTS, EVENTS * (EVENT + RANGE))?;
        let placed = mailbox.with(|state| {
            let uids = mailbox.place_together(state, &permit, &messages)?;
            for parked in &mut messages {
                let size = Totals::message(parked.message.size);
                let given = parked.room.iter_mut().map(|room| room.give(size));
                state.granted = given.fold(state.granted, Totals::plus);
            }
            Ok((state.status.uid_validity, uids))
        });
        drop(permit);
        self.trim();
        let (uid_validity, uids) = placed?;
        self.count_stored(uids.len() as u64);
        Ok((uid_validity, uids))
    }
}

impl Mailbox {
    fn place_together(
        self: &Arc<Self>,
        state: &mut State,
        permit: &Permit,
        messages: &[Parked],
    ) -> Result<Vec<u32>, Refusal> {
        self.drain(state);
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        let first = self.free_uids(state, count)?;
        let range = vec![(first, first + count - 1)];
        let place = self.place(state);
        let sequence = permit.tell(&Event::Removed {
            place: place.clone(),
            uids: range.clone(),
        })?;
        // Invariant: from here on none of these UIDs is ever given to another message, or the journal would take it away.
        state.removed = state.removed.max(first + count - 1);
        self.list(state);
        let placed = self.shared.journal.commit(sequence).and_then(|()| {
            let files = messages.iter().map(|parked| {
                let (from, name) = parked.place();
                Placing {
                    from,
                    name: name.to_owned(),
                    message: parked.message.clone(),
                }
            });
            let files: Vec<Placing<'_>> = files.collect();
            self.link_all(state, &files, |uids| {
                if !uids.iter().copied().eq(first..first + count) {
                    error!(
                        mailbox = self.path(),
                        "somebody makes files by hand where messages are appended"
                    );
                    return Err(Refusal::Busy);
                }
                let sequence = permit.tell(&Event::Placed { place, uids: range })?;
                self.shared.journal.commit(sequence)
            })
        });
        state.uid_next = state.uid_next.max(first + count);
        placed
    }

    /// The first of so many UIDs in a row that no file has, not even one made by hand that was not seen yet.
    fn free_uids(&self, state: &mut State, count: u32) -> Result<u32, Refusal> {
        loop {
            let first = state.uid_next;
            let last = first.checked_add(count);
            let Some(last) = last.filter(|last| *last < MAX_UID - ATTEMPTS) else {
                error!(mailbox = self.path(), "the mailbox has no UID left");
                return Err(Refusal::StorageFault);
            };
            let mut highest = None;
            for shard in message_file::shard_of(first)..=message_file::shard_of(last) {
                let entries = self.make_shard(state, shard)?.entries();
                let entries = entries.or_fault("list a shard")?;
                let named = entries
                    .iter()
                    .filter_map(|entry| message_file::parse(&entry.name));
                let uids = named.map(|(uid, _)| uid);
                highest = highest.max(uids.filter(|uid| (first..=last).contains(uid)).max());
            }
            let Some(highest) = highest else {
                return Ok(first);
            };
            warn!(
                mailbox = self.path(),
                uid = highest,
                "files made by hand have the names of new messages; those get higher UIDs"
            );
            state.uid_next = highest + 1;
        }
    }
}
