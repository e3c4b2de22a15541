//! Bringing a message to local users: the same for smtpd and relayd.

use std::sync::Arc;

use daemon::channel::Answered;
use ipc::Refusal;
use ipc::delivery::{DeliveryAnswer, DeliveryRequest, MessageHandle, RECIPIENTS_PER_FRAME};
use ipc::frame::MAX_FRAME;
use tracing::{Instrument, info};

use super::House;
use super::desk::Desk;
use super::room::Rooms;
use crate::accounts::{Resolved, address};
use crate::store::{Hold, Owner};

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
struct Envelope {
    owners: Vec<Owner>,
    room: Vec<Hold>,
}

/// For a new channel.
pub(super) fn messages(house: &Arc<House>) -> Messages {
    Messages {
        desk: Desk::new(Arc::clone(house), MAX_OPEN),
        rooms: Rooms::new(),
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
            house
                .work(move |house| resolve(house, &rooms, transaction, &address, size))
                .await
                .map(Answered::plain)
        }
        DeliveryRequest::EndTransaction { transaction } => {
            drop(messages.rooms.take(transaction));
            Ok(Answered::plain(DeliveryAnswer::TransactionEnded))
        }
        DeliveryRequest::OpenMessage { transaction } => {
            let envelope = Envelope {
                owners: Vec::new(),
                room: messages.rooms.take(transaction),
            };
            let (handle, stream) = messages.desk.open(envelope)?;
            Ok(Answered::with(
                DeliveryAnswer::MessageOpened(handle),
                vec![stream],
            ))
        }
        DeliveryRequest::AddRecipients {
            message,
            recipients,
        } => {
            add_recipients(house, messages, message, recipients).await?;
            Ok(Answered::plain(DeliveryAnswer::RecipientsAdded))
        }
        DeliveryRequest::CommitMessage { message, size } => {
            commit(house, messages, message, size).await?;
            Ok(Answered::plain(DeliveryAnswer::MessageDelivered))
        }
        DeliveryRequest::AbortMessage { message } => {
            messages.desk.abort(message)?;
            Ok(Answered::plain(DeliveryAnswer::MessageAborted))
        }
    }
}

fn resolve(
    house: &House,
    rooms: &Rooms,
    transaction: u64,
    text: &str,
    size: u64,
) -> Result<DeliveryAnswer, Refusal> {
    // What is no address is nobody here, and nobody elsewhere.
    let address = address(text).map_err(|_| Refusal::NoSuchUser)?;
    if size > house.max_kept_size {
        return Err(Refusal::MessageTooLarge);
    }
    let Some(Resolved { local, remote }) = house.accounts.resolve(&address)? else {
        return Ok(DeliveryAnswer::RecipientForeign);
    };
    // There is one reply for all an alias leads to: it is as full as the fullest of them.
    let holds = house.hold(&rooms.missing(transaction, &local), size)?;
    let answer = DeliveryAnswer::RecipientResolved {
        local: local.iter().map(Owner::address).collect(),
        remote,
    };
    // A frame holds a few hundred addresses; an expansion beyond that cannot be told.
    match ipc::frame::encode(&answer) {
        Ok(bytes) if bytes.len() + ENVELOPE <= MAX_FRAME => {
            rooms.keep(transaction, holds);
            Ok(answer)
        }
        _ => Err(Refusal::TooManyRecipients),
    }
}

async fn add_recipients(
    house: &Arc<House>,
    messages: &Messages,
    message: MessageHandle,
    recipients: Vec<String>,
) -> Result<(), Refusal> {
    if recipients.len() > RECIPIENTS_PER_FRAME {
        return Err(Refusal::TooManyRecipients);
    }
    // Doubted, although resolved by us a moment ago: the asker may send anything.
    let owners = house.work(move |house| {
        let owner = |text: &String| {
            let owner = address(text)
                .map(|address| Owner::of(&address))
                .map_err(|_| Refusal::NoSuchUser)?;
            let member = house.store.ledger().member(&owner);
            member.map(|_| owner).ok_or(Refusal::NoSuchUser)
        };
        recipients.iter().map(owner).collect::<Result<Vec<_>, _>>()
    });
    let owners = owners.await?;
    messages
        .desk
        .with(message, |Envelope { owners: known, .. }| {
            for owner in owners {
                if !known.contains(&owner) {
                    known.push(owner);
                }
            }
            if known.len() > MAX_RECIPIENTS {
                Err(Refusal::TooManyRecipients)
            } else {
                Ok(())
            }
        })
}

async fn commit(
    house: &Arc<House>,
    messages: &Messages,
    message: MessageHandle,
    size: u64,
) -> Result<(), Refusal> {
    let (mut incoming, Envelope { owners, room }) = messages.desk.close(message, size).await?;
    incoming.room = room;
    if owners.is_empty() {
        return Err(Refusal::NoSuchUser);
    }
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
