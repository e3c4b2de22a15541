//! smtpd → relayd: mail for foreign domains into the durable queue. The same dance as [`crate::delivery`].

use crate::delivery::MessageHandle;
use crate::edge::{Edge, Silence};
use crate::frame::{Decode, Encode};

/// The envelope of a queued message, less its recipients (RFC 5321 §2.3.1).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Envelope {
    /// MAIL FROM without angle brackets; empty for the null reverse-path.
    pub reverse_path: String,
    /// The account that submitted it, if it was authenticated.
    pub account: Option<String>,
    /// MAIL FROM had SMTPUTF8 (RFC 6531).
    pub smtp_utf8: bool,
    /// MAIL FROM had BODY=8BITMIME (RFC 6152).
    pub eight_bit: bool,
}

/// Orders of smtpd to relayd.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum QueueRequest {
    /// Begin a message. Answered with the stream to write it into.
    OpenMessage(Envelope),
    /// Name foreign recipients; pages of at most [`crate::delivery::RECIPIENTS_PER_FRAME`].
    AddRecipients {
        /// From [`QueueAnswer::MessageOpened`].
        message: MessageHandle,
        /// `local@domain` each.
        recipients: Vec<String>,
    },
    /// All bytes were written and the stream shut down: make it durable.
    CommitMessage {
        /// From [`QueueAnswer::MessageOpened`].
        message: MessageHandle,
        /// Bytes written into the stream.
        size: u64,
    },
    /// Forget the message.
    AbortMessage {
        /// From [`QueueAnswer::MessageOpened`].
        message: MessageHandle,
    },
}

/// What relayd answers to a [`QueueRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum QueueAnswer {
    /// Comes with one descriptor, a connected stream socket.
    MessageOpened(MessageHandle),
    /// The recipients were noted.
    RecipientsAdded,
    /// On disk; relayd now owns the delivery.
    MessageQueued {
        /// The queue id, as `rmailctl queue list` shows it.
        queue_id: String,
    },
    /// Forgotten.
    MessageAborted,
}

/// smtpd asks relayd.
#[derive(Debug)]
pub struct QueueEdge;

impl Edge for QueueEdge {
    type Request = QueueRequest;
    type Answer = QueueAnswer;
    type Event = Silence;
    const NAME: &'static str = "smtpd-relayd";
}
