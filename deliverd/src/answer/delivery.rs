//! Bringing a message to local users: the same for smtpd and relayd.

use std::sync::Arc;

use daemon::channel::Answered;
use ipc::Refusal;
use ipc::delivery::{DeliveryAnswer, DeliveryRequest, MessageHandle, RECIPIENTS_PER_FRAME};
use ipc::frame::MAX_FRAME;
use tracing::{Instrument, info};

use super::House;
use super::desk::Desk;
use crate::accounts::{Resolved, address};
use crate::store::Owner;

/// Messages one daemon may have open at once.
const MAX_OPEN: usize = 4096;
/// Recipients one message may have, aliases expanded.
const MAX_RECIPIENTS: usize = 10_000;

/// What stands around an answer in its frame, generously.
const ENVELOPE: usize = 64;

/// The opened messages of a channel.
pub(super) type Messages = Arc<Desk<Vec<Owner>>>;

/// The desk of a new channel.
pub(super) fn messages(house: &Arc<House>) -> Messages {
    Desk::new(Arc::clone(house), MAX_OPEN)
}

/// Answers a delivery request.
pub(super) async fn answer(
    house: &Arc<House>,
    messages: &Messages,
    request: DeliveryRequest,
) -> Result<Answered<DeliveryAnswer>, Refusal> {
    match request {
        DeliveryRequest::ResolveRecipient { address, size } => house
            .work(move |house| resolve(house, &address, size))
            .await
            .map(Answered::plain),
        DeliveryRequest::OpenMessage => {
            let (handle, stream) = messages.open(Vec::new())?;
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
            messages.abort(message)?;
            Ok(Answered::plain(DeliveryAnswer::MessageAborted))
        }
    }
}

fn resolve(house: &House, text: &str, size: u64) -> Result<DeliveryAnswer, Refusal> {
    // What is no address is nobody here, and nobody elsewhere.
    let address = address(text).map_err(|_| Refusal::NoSuchUser)?;
    if size > house.max_kept_size {
        return Err(Refusal::MessageTooLarge);
    }
    let Some(Resolved { local, remote }) = house.accounts.resolve(&address)? else {
        return Ok(DeliveryAnswer::RecipientForeign);
    };
    let mut has_room = !remote.is_empty();
    for owner in &local {
        has_room = has_room || house.is_over_quota(owner, size)? == Some(false);
    }
    if !has_room {
        return Err(Refusal::OverQuota);
    }
    let answer = DeliveryAnswer::RecipientResolved {
        local: local.iter().map(Owner::address).collect(),
        remote,
    };
    // A frame holds a few hundred addresses; an expansion beyond that cannot be told.
    match ipc::frame::encode(&answer) {
        Ok(bytes) if bytes.len() + ENVELOPE <= MAX_FRAME => Ok(answer),
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
            house
                .accounts
                .user(&owner)?
                .map(|account| account.owner)
                .ok_or(Refusal::NoSuchUser)
        };
        recipients.iter().map(owner).collect::<Result<Vec<_>, _>>()
    });
    let owners = owners.await?;
    messages.with(message, |known| {
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
    let (incoming, owners) = messages.close(message, size).await?;
    if owners.is_empty() {
        return Err(Refusal::NoSuchUser);
    }
    let span = tracing::Span::current();
    let delivered = house.work(move |house| {
        let _entered = span.enter();
        // One that still has room takes the others along: each of them exceeds its quota by at most this one message per
        // commit, and nobody gets a message twice because another mailbox was full.
        let mut has_room = false;
        for owner in &owners {
            let over = house
                .is_over_quota(owner, size)?
                .ok_or(Refusal::NoSuchUser)?;
            has_room = has_room || !over;
        }
        if !has_room {
            return Err(Refusal::OverQuota);
        }
        house.store.deliver(incoming, &owners)?;
        info!(size, recipients = owners.len(), "delivered");
        Ok(())
    });
    delivered.in_current_span().await
}
