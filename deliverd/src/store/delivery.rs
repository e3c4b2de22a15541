//! One message into mailboxes: into the INBOX or the junk mailbox of many users, or by APPEND into one. One file per domain, a name for each
//! mailbox, and everything durable before anyone is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipc::Refusal;
use ipc::delivery::Destination;
use tracing::error;

use super::append::{NewMessage, Placing, Promise};
use super::incoming::{Incoming, Sealed};
use super::journal::Permit;
use super::mailbox::{Mailbox, Totals};
use super::quota::{self, Hold, Member};
use super::{Owner, Store};
use crate::clock;

/// Mailboxes that get a message by one use of the journal.
pub(crate) const RECIPIENTS: usize = 200;
/// Bytes of an event that gives a message to a mailbox, at most, beside its keywords.
const EVENT: usize = 1024;
/// Events for one mailbox: the message is given, and perhaps taken back.
const EVENTS: usize = 2;

/// A mailbox and the file of a message for it.
type Place = (Arc<Mailbox>, Arc<Sealed>);

/// A message with all that it needs.
pub(crate) struct Addressed {
    places: Vec<Place>,
    /// In the order of the places.
    room: Vec<Hold>,
    message: NewMessage,
}

/// A message that a mailbox was promised.
struct Promised {
    mailbox: Arc<Mailbox>,
    promise: Promise,
}

/// A message in the journal that mailboxes were promised. It is theirs when the journal is on disk up to its record and it is
/// published.
pub(crate) struct Pledge {
    permit: Permit,
    promised: Vec<Promised>,
}

/// Why a message is not in the journal.
pub(crate) enum NotPledged {
    /// Without waiting there is no room for it.
    NoRoom(Addressed),
    Refused(Refusal),
}

impl Store {
    /// Makes a message durable and visible in the mailbox of every owner it is for. On an error nobody may count on it; those who got it
    /// already may get it again. If one has no room for it, nobody gets it.
    pub(crate) fn deliver(&self, message: Incoming, owners: &[Owner]) -> Result<(), Refusal> {
        self.deliver_addressed(self.address(message, owners)?)
    }

    /// [`Store::deliver`] from there on.
    pub(crate) fn deliver_addressed(&self, addressed: Addressed) -> Result<(), Refusal> {
        let Addressed {
            places,
            mut room,
            message,
        } = addressed;
        let placed = places
            .chunks(RECIPIENTS)
            .zip(room.chunks_mut(RECIPIENTS))
            .try_for_each(|(places, room)| self.place(places, room, &message).map(|_| ()));
        self.trim();
        placed?;
        self.count_stored(places.len() as u64);
        Ok(())
    }

    /// Puts a message that is not large, to at most [`RECIPIENTS`] owners, into the journal without waiting for room there. It
    /// goes on with [`Pledge::commit`] and [`Store::publish`], so that one thread can do that for many messages.
    ///
    /// Whoever has a pledge must wait for nothing but the disk before it is published: the journal is not emptied before that.
    pub(crate) fn pledge(&self, mut addressed: Addressed) -> Result<Pledge, NotPledged> {
        let Addressed {
            places,
            room,
            message,
        } = &mut addressed;
        let Some(body) = places.first().and_then(|(_, file)| file.body.as_deref()) else {
            return Err(NotPledged::NoRoom(addressed));
        };
        let (records, bytes) = cost(places, body, message);
        let Some(permit) = self.shared.journal.admit_now(records, bytes) else {
            return Err(NotPledged::NoRoom(addressed));
        };
        promise_all(permit, places, body, room, message).map_err(NotPledged::Refused)
    }

    /// Shows a message that was pledged and flushed in its mailboxes.
    pub(crate) fn publish(&self, pledge: Pledge) -> Result<(), Refusal> {
        let uids = pledge.publish();
        drop(pledge);
        self.trim();
        self.count_stored(uids?.len() as u64);
        Ok(())
    }

    /// Finds the mailboxes, sets room aside and makes the files.
    pub(crate) fn address(
        &self,
        mut message: Incoming,
        owners: &[Owner],
    ) -> Result<Addressed, Refusal> {
        let mut mailboxes: BTreeMap<&str, Vec<Arc<Mailbox>>> = BTreeMap::new();
        for owner in owners {
            let destination = match message.junk.contains(owner) {
                true => Destination::Junk,
                false => Destination::Inbox,
            };
            let mailbox = self.user(owner)?.mailbox_for(destination)?;
            mailbox.prepare_in_passing()?;
            mailboxes.entry(&owner.domain).or_default().push(mailbox);
        }
        let mailboxes: Vec<_> = mailboxes.into_values().collect();
        let members: Vec<_> = mailboxes.iter().flatten().map(member).collect();
        let size = Totals::message(message.size());
        let room = self.reserve(std::mem::take(&mut message.room), &members, size);
        if room.as_ref().err() == Some(&Refusal::OverQuota) {
            quota::remember(&members, size);
        }
        let room = room?;
        let mut sealed = message.seal(clock::seconds())?;
        let message = NewMessage {
            size: sealed.size,
            internal_date: sealed.internal_date,
            ..NewMessage::default()
        };
        // A file is never shared between domains: a descriptor of it would show the neighbour's bytes.
        let mut copies = Vec::with_capacity(mailboxes.len());
        for mailboxes in mailboxes.iter().skip(1) {
            let mut copy = sealed.duplicate()?;
            copy.is_single = mailboxes.len() == 1;
            copies.push(Arc::new(copy));
        }
        sealed.is_single = mailboxes
            .first()
            .is_some_and(|mailboxes| mailboxes.len() == 1);
        let files = std::iter::once(Arc::new(sealed)).chain(copies);
        let mut places = Vec::with_capacity(owners.len());
        for (mailboxes, file) in mailboxes.into_iter().zip(files) {
            places.extend(
                mailboxes
                    .into_iter()
                    .map(|mailbox| (mailbox, Arc::clone(&file))),
            );
        }
        Ok(Addressed {
            places,
            room,
            message,
        })
    }

    /// APPEND: one message into one mailbox. Gives its UIDVALIDITY and UID.
    pub(crate) fn append(
        &self,
        mut incoming: Incoming,
        mailbox: &Arc<Mailbox>,
        mut message: NewMessage,
    ) -> Result<(u32, u32), Refusal> {
        mailbox.prepare()?;
        let size = Totals::message(incoming.size());
        let room = std::mem::take(&mut incoming.room);
        let mut room = self.reserve(room, &[member(mailbox)], size)?;
        let mut sealed = incoming.seal(message.internal_date)?;
        sealed.is_single = true;
        message.size = sealed.size;
        let places = [(Arc::clone(mailbox), Arc::new(sealed))];
        let placed = self.place(&places, &mut room, &message);
        self.trim();
        let uid = placed?.first().copied().ok_or(Refusal::StorageFault)?;
        self.count_stored(1);
        let uid_validity = mailbox.with(|state| Ok(state.status.uid_validity))?;
        Ok((uid_validity, uid))
    }

    /// REPLACE: [`Store::append`], and the message `old` of another mailbox, or of the same, goes. The new one is durable before the
    /// old one is gone: a crash in between leaves both. If the old one cannot be removed, the new one is.
    pub(crate) fn replace(
        &self,
        incoming: Incoming,
        mailbox: &Arc<Mailbox>,
        message: NewMessage,
        (source, old): (&Arc<Mailbox>, u32),
    ) -> Result<(u32, u32), Refusal> {
        if !source.has(old)? {
            return Err(Refusal::NotFound);
        }
        let (uid_validity, uid) = self.append(incoming, mailbox, message)?;
        let gone = source.discard(old).inspect_err(|_| {
            if let Err(refusal) = mailbox.discard(uid) {
                error!(%refusal, uid, "the message that should have replaced another one could not be taken back");
            }
        });
        self.trim();
        // If somebody else removed it meanwhile, it is gone as it should be.
        gone.map(|()| (uid_validity, uid))
    }

    /// Gives a message a UID and a name in mailboxes, durably, where there is `room` for each. Gives the UIDs.
    fn place(
        &self,
        places: &[Place],
        room: &mut [Hold],
        message: &NewMessage,
    ) -> Result<Vec<u32>, Refusal> {
        let Some((_, first)) = places.first() else {
            return Ok(Vec::new());
        };
        let Some(body) = &first.body else {
            return link(places, room, message);
        };
        let (records, bytes) = cost(places, body, message);
        let permit = self.shared.journal.admit(records, bytes)?;
        let pledge = promise_all(permit, places, body, room, message)?;
        pledge.commit();
        pledge.publish()
    }
}

/// Records and bytes in the journal, at most.
fn cost(places: &[Place], body: &[u8], message: &NewMessage) -> (usize, usize) {
    let keywords: usize = message.keywords.iter().map(|name| name.len() + 2).sum();
    let bytes = body.len() + EVENT + places.len() * EVENTS * (EVENT + keywords);
    (1 + EVENTS * places.len(), bytes)
}

/// Puts the bytes into the journal and promises the message to the mailboxes, to all or to none.
fn promise_all(
    permit: Permit,
    places: &[Place],
    body: &[u8],
    room: &mut [Hold],
    message: &NewMessage,
) -> Result<Pledge, Refusal> {
    let number = permit.body(message.internal_date, body);
    let mut promised = Vec::with_capacity(places.len());
    for ((mailbox, file), room) in places.iter().zip(room) {
        match mailbox.promise(&permit, number, file, message, room) {
            Ok(promise) => promised.push(Promised {
                mailbox: Arc::clone(mailbox),
                promise,
            }),
            Err(refusal) => {
                take_back(&permit, &promised);
                return Err(refusal);
            }
        }
    }
    Ok(Pledge { permit, promised })
}

impl Addressed {
    /// Whether somebody works on one of its mailboxes at this moment.
    pub(crate) fn must_wait(&self) -> bool {
        self.places.iter().any(|(mailbox, _)| mailbox.is_locked())
    }
}

impl Pledge {
    /// Whether somebody works on one of its mailboxes at this moment.
    pub(crate) fn must_wait(&self) -> bool {
        let mut mailboxes = self.promised.iter().map(|promised| &promised.mailbox);
        mailboxes.any(|mailbox| mailbox.is_locked())
    }

    /// Flushes it, with all that was pledged before.
    pub(crate) fn commit(&self) {
        if let Some(last) = self.promised.last() {
            // What became of each record is told when it is published.
            let _ = self.permit.commit(last.promise.sequence);
        }
    }

    /// Gives its UIDs.
    fn publish(&self) -> Result<Vec<u32>, Refusal> {
        // Each one is tried: an error at one recipient must not leave the others half done.
        let mut uids = Vec::with_capacity(self.promised.len());
        let mut done = Ok(());
        for Promised { mailbox, promise } in &self.promised {
            done = done.and(mailbox.publish(&self.permit, *promise));
            uids.push(promise.uid);
        }
        done.map(|()| uids)
    }
}

fn take_back(permit: &Permit, promised: &[Promised]) {
    for Promised { mailbox, promise } in promised {
        mailbox.withdraw(permit, *promise);
    }
}

fn member(mailbox: &Arc<Mailbox>) -> Arc<Member> {
    Arc::clone(mailbox.tally.member())
}

/// Gives a message whose bytes are on disk its names.
fn link(places: &[Place], room: &mut [Hold], message: &NewMessage) -> Result<Vec<u32>, Refusal> {
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
