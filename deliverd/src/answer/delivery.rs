//! Bringing a message to local users: the same for smtpd and relayd.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daemon::channel::Answered;
use ipc::Refusal;
use ipc::delivery::{
    DeliveryAnswer, DeliveryRequest, Destination, MAX_HEAD, MessageHandle, RECIPIENTS_PER_FRAME,
};
use ipc::frame::MAX_FRAME;
use tracing::{Instrument, info};

use super::House;
use super::desk::Desk;
use super::room::Rooms;
use crate::accounts::{Resolved, address};
use crate::store::{Hold, Incoming, Owner, RECIPIENTS};

/// Messages one daemon may have open at once.
const MAX_OPEN: usize = 4096;
/// Recipients one message may have, aliases expanded.
const MAX_RECIPIENTS: usize = 10_000;

/// What stands around an answer in its frame, generously.
const ENVELOPE: usize = 64;

/// What is under way on a channel.
pub(super) struct Messages {
    desk: Arc<Desk<Envelope>>,
    rooms: Arc<Rooms>,
}

/// Who shall get a message, and the room that is set aside for it.
#[derive(Default)]
struct Envelope {
    /// In which mailbox each finds it.
    owners: BTreeMap<Owner, Destination>,
    room: Vec<Hold>,
}

/// For a new channel.
pub(super) fn messages(house: &Arc<House>) -> Messages {
    Messages {
        desk: Desk::new(Arc::clone(house), MAX_OPEN),
        rooms: Rooms::new(),
    }
}

/// What came of a request that a thread of the channel has begun with.
pub(super) enum Begun {
    Answered(Result<Answered<DeliveryAnswer>, Refusal>),
    /// A message that is to be kept, of at most [`RECIPIENTS`] owners.
    Small(Incoming, Vec<Owner>),
    /// Nothing: it may have to wait.
    Not(DeliveryRequest),
}

/// Begins with a delivery request, as far as nobody is waited for.
pub(super) fn begin(house: &Arc<House>, messages: &Messages, request: DeliveryRequest) -> Begun {
    match request {
        DeliveryRequest::ResolveRecipient {
            ref address,
            size,
            transaction,
        } => match resolve_known(house, &messages.rooms, transaction, address, size) {
            Some(answered) => Begun::Answered(answered.map(Answered::plain)),
            None => Begun::Not(request),
        },
        DeliveryRequest::DeliverMessage {
            ref recipients,
            ref junk,
            ..
        } if recipients.len() + junk.len() > RECIPIENTS => Begun::Not(request),
        DeliveryRequest::DeliverMessage {
            transaction,
            recipients,
            junk,
            bytes,
        } => {
            let whole = whole(
                house,
                messages,
                transaction,
                (&recipients[..], &junk[..]),
                bytes,
            );
            match whole.and_then(|(incoming, envelope)| envelope.around(incoming)) {
                Ok((incoming, owners)) => Begun::Small(incoming, owners),
                Err(refusal) => Begun::Answered(Err(refusal)),
            }
        }
        DeliveryRequest::EndTransaction { transaction } => {
            Begun::Answered(Ok(end_transaction(messages, transaction)))
        }
        DeliveryRequest::OpenMessage { transaction } => {
            Begun::Answered(open(messages, transaction))
        }
        DeliveryRequest::AddRecipients {
            message,
            recipients,
            destination,
        } => Begun::Answered(add_recipients(
            house,
            messages,
            message,
            &recipients,
            destination,
        )),
        DeliveryRequest::AbortMessage { message } => Begun::Answered(abort(messages, message)),
        DeliveryRequest::ForeseeRecipient { .. } | DeliveryRequest::CommitMessage { .. } => {
            Begun::Not(request)
        }
    }
}

/// Answers a delivery request.
pub(super) async fn answer(
    house: &Arc<House>,
    messages: &Messages,
    request: DeliveryRequest,
) -> Result<Answered<DeliveryAnswer>, Refusal> {
    match request {
        DeliveryRequest::ResolveRecipient {
            address,
            size,
            transaction,
        } => {
            let rooms = Arc::clone(&messages.rooms);
            if let Some(answered) = resolve_known(house, &rooms, transaction, &address, size) {
                return answered.map(Answered::plain);
            }
            house
                .work(move |house| resolve(house, &rooms, transaction, &address, size))
                .await
                .map(Answered::plain)
        }
        DeliveryRequest::ForeseeRecipient {
            address,
            size,
            beside,
        } => {
            if beside.len() > RECIPIENTS_PER_FRAME {
                return Err(Refusal::TooManyRecipients);
            }
            house
                .work(move |house| foresee(house, &address, size, &beside))
                .await
                .map(Answered::plain)
        }
        DeliveryRequest::EndTransaction { transaction } => {
            Ok(end_transaction(messages, transaction))
        }
        DeliveryRequest::DeliverMessage {
            transaction,
            recipients,
            junk,
            bytes,
        } => {
            let addresses = (&recipients[..], &junk[..]);
            let (incoming, envelope) = whole(house, messages, transaction, addresses, bytes)?;
            deliver(house, incoming, envelope).await?;
            Ok(Answered::plain(DeliveryAnswer::MessageDelivered))
        }
        DeliveryRequest::OpenMessage { transaction } => open(messages, transaction),
        DeliveryRequest::AddRecipients {
            message,
            recipients,
            destination,
        } => add_recipients(house, messages, message, &recipients, destination),
        DeliveryRequest::CommitMessage {
            message,
            size,
            head,
        } => {
            commit(house, messages, message, size, head).await?;
            Ok(Answered::plain(DeliveryAnswer::MessageDelivered))
        }
        DeliveryRequest::AbortMessage { message } => abort(messages, message),
    }
}

fn end_transaction(messages: &Messages, transaction: u64) -> Answered<DeliveryAnswer> {
    drop(messages.rooms.take(transaction));
    Answered::plain(DeliveryAnswer::TransactionEnded)
}

fn open(messages: &Messages, transaction: u64) -> Result<Answered<DeliveryAnswer>, Refusal> {
    let envelope = Envelope {
        room: messages.rooms.take(transaction),
        ..Envelope::default()
    };
    let (handle, stream) = messages.desk.open(envelope)?;
    let answer = DeliveryAnswer::MessageOpened(handle);
    Ok(Answered::with(answer, vec![stream]))
}

fn abort(messages: &Messages, message: MessageHandle) -> Result<Answered<DeliveryAnswer>, Refusal> {
    messages.desk.abort(message)?;
    Ok(Answered::plain(DeliveryAnswer::MessageAborted))
}

/// A message that came in one piece. What fits into a frame is smaller than the smallest limit that a configuration may set.
fn whole(
    house: &House,
    messages: &Messages,
    transaction: u64,
    (recipients, junk): (&[String], &[String]),
    bytes: Vec<u8>,
) -> Result<(Incoming, Envelope), Refusal> {
    let mut envelope = Envelope::default();
    envelope.add(owners_of(recipients)?, Destination::Inbox)?;
    envelope.add(owners_of(junk)?, Destination::Junk)?;
    envelope.room = messages.rooms.take(transaction);
    Ok((house.store.begin_with(bytes), envelope))
}

fn resolve(
    house: &House,
    rooms: &Rooms,
    transaction: u64,
    text: &str,
    size: u64,
) -> Result<DeliveryAnswer, Refusal> {
    match find(house, text, size)? {
        Some(resolved) => set_aside(house, rooms, transaction, &resolved, size),
        None => Ok(DeliveryAnswer::RecipientForeign),
    }
}

fn find(house: &House, text: &str, size: u64) -> Result<Option<Arc<Resolved>>, Refusal> {
    // What is no address is nobody here, and nobody elsewhere.
    let address = address(text).map_err(|_| Refusal::NoSuchUser)?;
    if size > house.max_kept_size {
        return Err(Refusal::MessageTooLarge);
    }
    house.accounts.resolve(&address)
}

fn foresee(
    house: &House,
    text: &str,
    size: u64,
    beside: &[String],
) -> Result<DeliveryAnswer, Refusal> {
    let Some(resolved) = find(house, text, size)? else {
        return Ok(DeliveryAnswer::RecipientForeign);
    };
    if resolved.is_relayed {
        return Ok(DeliveryAnswer::RecipientRelayed);
    }
    let others = owners_of(beside)?;
    let all: BTreeSet<&Owner> = others.iter().chain(&resolved.local).collect();
    let all: Vec<Owner> = all.into_iter().cloned().collect();
    drop(house.hold(&all, size)?);
    tell(&resolved)
}

/// The same without the disk; `None` if that does not do.
fn resolve_known(
    house: &House,
    rooms: &Rooms,
    transaction: u64,
    text: &str,
    size: u64,
) -> Option<Result<DeliveryAnswer, Refusal>> {
    let resolved = house.accounts.known(&address(text).ok()?)?;
    let is_counted = |owner| {
        house
            .store
            .ledger()
            .member(owner)
            .is_some_and(|member| member.is_counted())
    };
    let may = size <= house.max_kept_size && resolved.local.iter().all(is_counted);
    may.then(|| set_aside(house, rooms, transaction, &resolved, size))
}

fn set_aside(
    house: &House,
    rooms: &Rooms,
    transaction: u64,
    resolved: &Resolved,
    size: u64,
) -> Result<DeliveryAnswer, Refusal> {
    if resolved.is_relayed {
        return Ok(DeliveryAnswer::RecipientRelayed);
    }
    let answer = tell(resolved)?;
    // There is one reply for all an alias leads to: it is as full as the fullest of them.
    let holds = house.hold(&rooms.missing(transaction, &resolved.local), size)?;
    rooms.keep(transaction, holds);
    Ok(answer)
}

fn tell(Resolved { local, remote, .. }: &Resolved) -> Result<DeliveryAnswer, Refusal> {
    let answer = DeliveryAnswer::RecipientResolved {
        local: local.iter().map(Owner::address).collect(),
        remote: remote.clone(),
    };
    // A frame holds a few hundred addresses; an expansion beyond that cannot be told.
    match ipc::frame::encode(&answer) {
        Ok(bytes) if bytes.len() + ENVELOPE <= MAX_FRAME => Ok(answer),
        _ => Err(Refusal::TooManyRecipients),
    }
}

fn add_recipients(
    house: &House,
    messages: &Messages,
    message: MessageHandle,
    recipients: &[String],
    destination: Destination,
) -> Result<Answered<DeliveryAnswer>, Refusal> {
    if recipients.len() > RECIPIENTS_PER_FRAME {
        return Err(Refusal::TooManyRecipients);
    }
    // Doubted, although resolved by us a moment ago: the asker may send anything.
    let owners = owners_of(recipients)?;
    let is_here = |owner| house.store.ledger().member(owner).is_some();
    if !owners.iter().all(is_here) {
        return Err(Refusal::NoSuchUser);
    }
    let add = |envelope: &mut Envelope| envelope.add(owners, destination);
    messages.desk.with(message, add)?;
    Ok(Answered::plain(DeliveryAnswer::RecipientsAdded))
}

fn owners_of(recipients: &[String]) -> Result<Vec<Owner>, Refusal> {
    let owner = |text: &String| {
        let address = address(text).map_err(|_| Refusal::NoSuchUser)?;
        Ok(Owner::of(&address))
    };
    recipients.iter().map(owner).collect()
}

impl Envelope {
    /// Each is there once, where they were said to find it first.
    fn add(&mut self, owners: Vec<Owner>, destination: Destination) -> Result<(), Refusal> {
        for owner in owners {
            self.owners.entry(owner).or_insert(destination);
        }
        if self.owners.len() > MAX_RECIPIENTS {
            Err(Refusal::TooManyRecipients)
        } else {
            Ok(())
        }
    }

    /// The message with what is known about it, and whom it is for.
    fn around(self, mut incoming: Incoming) -> Result<(Incoming, Vec<Owner>), Refusal> {
        let Self { owners, room } = self;
        if owners.is_empty() {
            return Err(Refusal::NoSuchUser);
        }
        let junk = owners.iter();
        let junk = junk.filter(|(_, destination)| **destination == Destination::Junk);
        incoming.junk = junk.map(|(owner, _)| owner.clone()).collect();
        incoming.room = room;
        Ok((incoming, owners.into_keys().collect()))
    }
}

async fn commit(
    house: &Arc<House>,
    messages: &Messages,
    message: MessageHandle,
    size: u64,
    head: Vec<u8>,
) -> Result<(), Refusal> {
    let (mut incoming, envelope) = messages.desk.close(message, size).await?;
    if head.len() > MAX_HEAD || incoming.size() + head.len() as u64 > house.max_kept_size {
        return Err(Refusal::MessageTooLarge);
    }
    if !head.is_empty() {
        let put = house.work(move |_| {
            incoming.put_in_front(&head)?;
            Ok(incoming)
        });
        incoming = put.await?;
    }
    deliver(house, incoming, envelope).await
}

async fn deliver(
    house: &Arc<House>,
    incoming: Incoming,
    envelope: Envelope,
) -> Result<(), Refusal> {
    let (incoming, owners) = envelope.around(incoming)?;
    if !incoming.is_large() && owners.len() <= RECIPIENTS {
        return house.deliver_small(incoming, owners).await;
    }
    let size = incoming.size();
    let span = tracing::Span::current();
    let delivered = house.work(move |house| {
        let _entered = span.enter();
        let is_here = |owner| house.store.ledger().member(owner).is_some();
        if !owners.iter().all(is_here) {
            return Err(Refusal::NoSuchUser);
        }
        house.store.deliver(incoming, &owners)?;
        info!(size, recipients = owners.len(), "delivered");
        Ok(())
    });
    delivered.in_current_span().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_so_many_recipients_and_no_more() {
        let owners = |numbers: std::ops::Range<usize>| {
            let address = |number| address(&format!("u{number}@example.test")).unwrap();
            numbers.map(|number| Owner::of(&address(number))).collect()
        };
        let mut envelope = Envelope::default();
        let page = 100;
        for first in (0..MAX_RECIPIENTS).step_by(page) {
            let added = envelope.add(owners(first..first + page), Destination::Inbox);
            assert_eq!(added, Ok(()));
        }
        // Who is there already is none more.
        assert_eq!(envelope.add(owners(0..1), Destination::Junk), Ok(()));
        let more = envelope.add(
            owners(MAX_RECIPIENTS..MAX_RECIPIENTS + 1),
            Destination::Inbox,
        );
        assert_eq!(more, Err(Refusal::TooManyRecipients));
    }
}
