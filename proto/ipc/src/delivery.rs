//! Bringing a message into local mailboxes: what smtpd (mail from outside) and relayd (delivery reports) ask of deliverd.
//!
//! ```text
//! ResolveRecipient ─► RecipientResolved      (room is set aside for the message)
//! OpenMessage      ─► MessageOpened + one end of a stream socket
//!   … the asker writes the message into the stream as it arrives, then shuts it down …
//! AddRecipients    ─► RecipientsAdded        (pages of at most RECIPIENTS_PER_FRAME, any time before the commit)
//! CommitMessage    ─► MessageDelivered       (durable and visible in every mailbox)
//! ```
//! A message that [`fits_in_frame`] needs none of that: `DeliverMessage` carries it and is answered like `CommitMessage`.
//!
//! A message that is not committed leaves nothing: `AbortMessage`, a closed channel or ten idle minutes drop it. So it is with the
//! room set aside for a transaction whose message is not opened: `EndTransaction`, a closed channel or five minutes free it.

use crate::frame::{Decode, Encode, MAX_FRAME};

/// How many recipients one `AddRecipients` may carry, so that the longest addresses fit into a frame.
pub const RECIPIENTS_PER_FRAME: usize = 32;

/// Bytes that a `CommitMessage` puts in front of a message, at most.
pub const MAX_HEAD: usize = 4096;

/// What stands around recipients and bytes in the frame of a `DeliverMessage`, generously.
const AROUND: usize = 128;
/// What stands before each text in a frame.
const LENGTH: usize = 8;

/// Whether a message of `size` bytes to `recipients` can be said in one frame, wherever they find it.
#[must_use]
pub fn fits_in_frame(recipients: &[String], size: usize) -> bool {
    let recipients = recipients.iter().map(|one| LENGTH + one.len());
    recipients
        .fold(AROUND, usize::saturating_add)
        .saturating_add(size)
        <= MAX_FRAME
}

/// Identifies an opened message on the channel that opened it. Chosen by the answerer, never reused on that channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct MessageHandle(pub u64);

/// Which mailbox of a recipient a message is for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Destination {
    /// The INBOX.
    #[default]
    Inbox,
    /// The one for junk (RFC 6154); the INBOX of those who have none.
    Junk,
}

/// Orders of smtpd and relayd to deliverd.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum DeliveryRequest {
    /// Where does mail for this address go? Aliases are expanded: exact, then regular expressions in order, then catch-all.
    ResolveRecipient {
        /// `local@domain` as [`mail::address::Address`] displays it.
        address: String,
        /// Declared or known size of the message in bytes, 0 if unknown; for the quota.
        size: u64,
        /// A number of the asker's choice for the transaction on this channel. Room for the message is set aside in the name of
        /// the transaction, for each local user once. With 0 it is only looked whether there is room now.
        transaction: u64,
    },
    /// The same, with room looked for beside what others take of it, and none set aside.
    ForeseeRecipient {
        /// As above.
        address: String,
        /// As above.
        size: u64,
        /// Users here who get the message, too, at most [`RECIPIENTS_PER_FRAME`].
        beside: Vec<String>,
    },
    /// The transaction will not open a message: free the room that is set aside for it.
    EndTransaction {
        /// From [`DeliveryRequest::ResolveRecipient`].
        transaction: u64,
    },
    /// Begin a message. Answered with the stream to write it into.
    OpenMessage {
        /// The room set aside for this transaction becomes the message's; 0 for none.
        transaction: u64,
    },
    /// Name users who shall get the message.
    AddRecipients {
        /// From [`DeliveryAnswer::MessageOpened`].
        message: MessageHandle,
        /// Addresses of local users, as in [`DeliveryAnswer::RecipientResolved`].
        recipients: Vec<String>,
        /// Where they find it.
        destination: Destination,
    },
    /// All bytes were written and the stream shut down: make it durable in that mailbox of every recipient.
    CommitMessage {
        /// From [`DeliveryAnswer::MessageOpened`].
        message: MessageHandle,
        /// Bytes written into the stream.
        size: u64,
        /// What stands in front of them, at most [`MAX_HEAD`] bytes: what is known only when the message has ended.
        head: Vec<u8>,
    },
    /// Forget the message.
    AbortMessage {
        /// From [`DeliveryAnswer::MessageOpened`].
        message: MessageHandle,
    },
    /// A whole message: make it durable in that mailbox of every recipient.
    DeliverMessage {
        /// The room set aside for this transaction is the message's; 0 for none.
        transaction: u64,
        /// Addresses of local users, as in [`DeliveryAnswer::RecipientResolved`], who find it in their INBOX.
        recipients: Vec<String>,
        /// Those who find it in their mailbox for junk.
        junk: Vec<String>,
        /// The message.
        bytes: Vec<u8>,
    },
}

/// What deliverd answers to a [`DeliveryRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum DeliveryAnswer {
    /// The address is in one of our domains and expands to these.
    RecipientResolved {
        /// Local users, canonical addresses.
        local: Vec<String>,
        /// Addresses in foreign domains an alias points to.
        remote: Vec<String>,
    },
    /// We are a backup for the domain of the address: mail for it goes out under its own sender, whoever brings it.
    RecipientRelayed,
    /// The domain of the address is not ours.
    RecipientForeign,
    /// Nothing is set aside for the transaction.
    TransactionEnded,
    /// Comes with one descriptor, a connected stream socket.
    MessageOpened(MessageHandle),
    /// The recipients were noted.
    RecipientsAdded,
    /// On disk and visible in a mailbox of every recipient.
    MessageDelivered,
    /// Forgotten.
    MessageAborted,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::SmtpRequest;
    use crate::{Call, Context, frame};

    #[test]
    fn what_is_said_to_fit_into_a_frame_does() {
        for (count, junk) in [(1, 0), (1, 1), (30, 15)] {
            let recipients = vec![format!("{}@example.org", "x".repeat(64)); count];
            let size = (0..MAX_FRAME).rfind(|size| fits_in_frame(&recipients, *size));
            let call = Call {
                id: u64::MAX,
                deadline_ms: u32::MAX,
                context: Context::default(),
                request: SmtpRequest::Delivery(DeliveryRequest::DeliverMessage {
                    transaction: u64::MAX,
                    recipients: recipients[junk..].to_vec(),
                    junk: recipients[..junk].to_vec(),
                    bytes: vec![0; size.unwrap()],
                }),
            };
            assert!(frame::encode(&call).is_ok(), "{count}");
        }
    }
}
