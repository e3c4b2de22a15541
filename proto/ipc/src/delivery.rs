//! Bringing a message into local mailboxes: what smtpd (mail from outside) and relayd (delivery reports) ask of deliverd.
//!
//! ```text
//! ResolveRecipient ─► RecipientResolved      (room is set aside for the message)
//! OpenMessage      ─► MessageOpened + one end of a stream socket
//!   … the asker writes the message into the stream as it arrives, then shuts it down …
//! AddRecipients    ─► RecipientsAdded        (pages of at most RECIPIENTS_PER_FRAME, any time before the commit)
//! CommitMessage    ─► MessageDelivered       (durable and visible in every mailbox)
//! ```
//! A message that is not committed leaves nothing: `AbortMessage`, a closed channel or ten idle minutes drop it. So it is with the
//! room set aside for a transaction whose message is not opened: `EndTransaction`, a closed channel or five minutes free it.

use crate::frame::{Decode, Encode};

/// How many recipients one `AddRecipients` may carry, so that the longest addresses fit into a frame.
pub const RECIPIENTS_PER_FRAME: usize = 32;

/// Identifies an opened message on the channel that opened it. Chosen by the answerer, never reused on that channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct MessageHandle(pub u64);

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
    },
    /// All bytes were written and the stream shut down: make it durable in the INBOX of every recipient.
    CommitMessage {
        /// From [`DeliveryAnswer::MessageOpened`].
        message: MessageHandle,
        /// Bytes written into the stream.
        size: u64,
    },
    /// Forget the message.
    AbortMessage {
        /// From [`DeliveryAnswer::MessageOpened`].
        message: MessageHandle,
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
    /// The domain of the address is not ours.
    RecipientForeign,
    /// Nothing is set aside for the transaction.
    TransactionEnded,
    /// Comes with one descriptor, a connected stream socket.
    MessageOpened(MessageHandle),
    /// The recipients were noted.
    RecipientsAdded,
    /// On disk and visible in every recipient's INBOX.
    MessageDelivered,
    /// Forgotten.
    MessageAborted,
}
