//! One message into mailboxes: into the INBOX of many users, or by APPEND into one. One file per domain, a name for each
//! mailbox, and everything durable before anyone is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipc::Refusal;

use super::append::{NewMessage, Placing, Promise};
use super::incoming::{Incoming, Sealed};
use super::journal::Permit;
use super::mailbox::{Mailbox, Totals};
use super::name::MailboxName;
use super::quota::{self, Hold, Member};
use super::{Owner, Store};
use crate::clock;

/// Mailboxes that get a message by one use of the journal.
const RECIPIENTS: usize = 200;
/// Bytes of an event that gives a message to a mailbox, at most, beside its keywords.
const EVENT: usize = 1024;
/// Events for one mailbox: the message is given, and perhaps taken back.
const EVENTS: usize = 2;

/// A message that a mailbox was promised.
struct Promised<'a> {
    mailbox: &'a Arc<Mailbox>,
    promise: Promise,
}

impl Store {
    /// Makes a message durable and visible in the INBOX of every owner. On an error nobody may count on it; those who got it
    /// already may get it again. If one has no room for it, nobody gets it.
    pub(crate) fn deliver(&self, mut message: Incoming, owners: &[Owner]) -> Result<(), Refusal> {
        let mut inboxes: BTreeMap<&str, Vec<Arc<Mailbox>>> = BTreeMap::new();
        for owner in owners {
            let inbox = self.user(owner)?.mailbox(&MailboxName::inbox())?;
            inboxes.entry(&owner.domain).or_default().push(inbox);
        }
        let inboxes: Vec<_> = inboxes.into_values().collect();
        let members: Vec<_> = inboxes.iter().flatten().map(member).collect();
        let size = Totals::message(message.size());
        let room = self.reserve(std::mem::take(&mut message.room), &members, size);
        if room.as_ref().err() == Some(&Refusal::OverQuota) {
            quota::remember(&members, size);
        }
        let mut room = room?;
        let sealed = Arc::new(message.seal(clock::seconds())?);
        // A file is never shared between domains: a descriptor of it would show the neighbour's bytes.
        let mut places = Vec::with_capacity(owners.len());
        for (at, inboxes) in inboxes.into_iter().enumerate() {
            let file = if at == 0 {
                Arc::clone(&sealed)
            } else {
                Arc::new(sealed.duplicate()?)
            };
            places.extend(inboxes.into_iter().map(|inbox| (inbox, Arc::clone(&file))));
        }
        let message = NewMessage {
            size: sealed.size,
            internal_date: sealed.internal_date,
            ..NewMessage::default()
        };
        let placed = places
            .chunks(RECIPIENTS)
            .zip(room.chunks_mut(RECIPIENTS))
            .try_for_each(|(places, room)| self.place(places, room, &message).map(|_| ()));
        self.trim();
        placed?;
        self.count_stored(owners.len() as u64);
        Ok(())
    }

    /// APPEND: one message into one mailbox. Gives its UIDVALIDITY and UID.
    pub(crate) fn append(
        &self,
        mut incoming: Incoming,
        mailbox: &Arc<Mailbox>,
        mut message: NewMessage,
    ) -> Result<(u32, u32), Refusal> {
        let size = Totals::message(incoming.size());
        let room = std::mem::take(&mut incoming.room);
        let mut room = self.reserve(room, &[member(mailbox)], size)?;
        let sealed = incoming.seal(message.internal_date)?;
        message.size = sealed.size;
        let places = [(Arc::clone(mailbox), Arc::new(sealed))];
        let placed = self.place(&places, &mut room, &message);
        self.trim();
        let uid = placed?.first().copied().ok_or(Refusal::StorageFault)?;
        self.count_stored(1);
        let uid_validity = mailbox.with(|state| Ok(state.status.uid_validity))?;
        Ok((uid_validity, uid))
    }

    /// Gives a message a UID and a name in mailboxes, durably, where there is `room` for each. Gives the UIDs.
    fn place(
        &self,
        places: &[(Arc<Mailbox>, Arc<Sealed>)],
        room: &mut [Hold],
        message: &NewMessage,
    ) -> Result<Vec<u32>, Refusal> {
        let Some((_, first)) = places.first() else {
            return Ok(Vec::new());
        };
        let Some(body) = &first.body else {
            return link(places, room, message);
        };
        let keywords: usize = message.keywords.iter().map(|name| name.len() + 2).sum();
        let bytes = body.len() + EVENT + places.len() * EVENTS * (EVENT + keywords);
        let permit = self
            .shared
            .journal
            .admit(1 + EVENTS * places.len(), bytes)?;
        let number = permit.body(message.internal_date, body);
        let mut promised = Vec::with_capacity(places.len());
        for ((mailbox, file), room) in places.iter().zip(room) {
            match mailbox.promise(&permit, number, file, message, room) {
                Ok(promise) => promised.push(Promised { mailbox, promise }),
                Err(refusal) => {
                    take_back(&permit, &promised);
                    return Err(refusal);
                }
            }
        }
        if let Some(last) = promised.last() {
            // What became of each record is told when it is published.
            let _ = self.shared.journal.commit(last.promise.sequence);
        }
        // Each one is tried: an error at one recipient must not leave the others half done.
        let mut uids = Vec::with_capacity(places.len());
        let mut done = Ok(());
        for Promised { mailbox, promise } in &promised {
            done = done.and(mailbox.publish(&permit, *promise));
            uids.push(promise.uid);
        }
        done.map(|()| uids)
    }
}

fn take_back(permit: &Permit, promised: &[Promised<'_>]) {
    for Promised { mailbox, promise } in promised {
        mailbox.withdraw(permit, *promise);
    }
}

fn member(mailbox: &Arc<Mailbox>) -> Arc<Member> {
    Arc::clone(mailbox.tally.member())
}

/// Gives a message whose bytes are on disk its names.
fn link(
    places: &[(Arc<Mailbox>, Arc<Sealed>)],
    room: &mut [Hold],
    message: &NewMessage,
) -> Result<Vec<u32>, Refusal> {
    let mut uids = Vec::with_capacity(places.len());
    for ((mailbox, file), room) in places.iter().zip(room) {
        let (from, name) = file.place();
        let placing = Placing {
            from,
            name: name.to_owned(),
            message: message.clone(),
        };
        uids.extend(mailbox.with(|state| {
            let linked = mailbox.link_all(state, &[placing], |_| Ok(()))?;
            state.granted = state.granted.plus(room.give(Totals::message(file.size)));
            Ok(linked)
        })?);
    }
    Ok(uids)
}
