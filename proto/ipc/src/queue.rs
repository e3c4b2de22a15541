//! smtpd → relayd: mail for foreign domains into the durable queue, in the same dance as [`crate::delivery`]; what DNS says; and
//! connections to filters.

use crate::delivery::MessageHandle;
use crate::dns::{Found, Question};
use crate::edge::{Edge, Silence};
use crate::frame::{Decode, Encode};
use crate::greylist::{Acquaintance, Triple};
use crate::observation::Observation;

/// How many recipients one [`QueueRequest::AddRecipients`] may carry, so that the longest addresses and parameters fit into a
/// frame.
pub const RECIPIENTS_PER_FRAME: usize = 12;

/// How many recipients one [`QueueRequest::Foresee`] may carry.
pub const FORESEEN: usize = 32;

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
    /// What else MAIL FROM had that travels with the message, in the form of the command: `RET=HDRS ENVID=x`.
    pub parameters: String,
}

/// A recipient of a queued message.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Recipient {
    /// `local@domain`.
    pub address: String,
    /// What RCPT TO had that travels with the message, in the form of the command: `NOTIFY=NEVER`.
    pub parameters: String,
    /// What is to be done about it.
    pub standing: Standing,
}

/// What is to be done about a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Standing {
    /// Take the message there.
    Waiting,
    /// A user here: have deliverd deliver the message when it is released (RFC 4865).
    Here,
    /// It has the message, and the sender wants to be told (RFC 3461 §4.1).
    Delivered,
    /// It is a list, the message is on its way to all on it, and the sender wants to be told.
    Expanded,
}

/// Why and how a message is in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Quarantine {
    /// In words for the operator, at most [`MAX_REASON`] octets and no control characters.
    pub reason: String,
    /// The reverse-path under which it goes to recipients elsewhere once it is released, if not its own.
    pub onward: Option<String>,
    /// The domain here that the first recipient has for whom it is held. Its tenant's room is what it takes.
    pub domain: String,
}

/// Octets of a [`Quarantine::reason`].
pub const MAX_REASON: usize = 200;

/// Orders of smtpd to relayd.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum QueueRequest {
    /// Begin a message. Answered with the stream to write it into.
    OpenMessage(Envelope),
    /// Name foreign recipients; pages of at most [`RECIPIENTS_PER_FRAME`].
    AddRecipients {
        /// From [`QueueAnswer::MessageOpened`].
        message: MessageHandle,
        /// Those that are not known by that standing yet.
        recipients: Vec<Recipient>,
    },
    /// All bytes were written and the stream shut down: make it durable.
    CommitMessage {
        /// From [`QueueAnswer::MessageOpened`].
        message: MessageHandle,
        /// Bytes written into the stream.
        size: u64,
        /// What stands in front of them, at most [`crate::delivery::MAX_HEAD`] bytes: what is known only when the message has ended.
        head: Vec<u8>,
        /// It waits until the operator releases it.
        quarantine: Option<Quarantine>,
    },
    /// Forget the message.
    AbortMessage {
        /// From [`QueueAnswer::MessageOpened`].
        message: MessageHandle,
    },
    /// What does DNS say? Answered `Busy` while too many such questions are open.
    LookUp(Question),
    /// Connect to a filter that the configuration lists. Where it is, relayd reads there itself.
    ConnectFilter {
        /// Its name.
        filter: String,
    },
    /// Is this mail known? Who was not known is from now on waited for.
    Greet(Triple),
    /// Remember what DMARC came to, for the reports about it.
    Note(Box<Observation>),
    /// The same, only to know: who was not known stays so.
    Recall(Triple),
    /// What would become of a message for these, at most [`FORESEEN`]? Nothing is counted, and nothing becomes of it. Refused as
    /// the message would be.
    Foresee {
        /// Of the message.
        envelope: Envelope,
        /// Addresses elsewhere.
        recipients: Vec<String>,
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
    /// To [`QueueRequest::LookUp`].
    LookedUp(Found),
    /// Comes with one descriptor, a connected stream socket.
    FilterConnected,
    /// To [`QueueRequest::Greet`] and [`QueueRequest::Recall`].
    Greeted(Acquaintance),
    /// To [`QueueRequest::Note`]: it is counted, or that there is no room for it.
    Noted,
    /// To [`QueueRequest::Foresee`].
    Foreseen {
        /// Why it would be held, if it would be.
        hold: Option<String>,
    },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Call, Context, frame};

    #[test]
    fn the_longest_recipients_fit_into_a_frame() {
        let recipient = Recipient {
            address: "x".repeat(512),
            // RFC 3461 §4.1, §4.2: NOTIFY and ORCPT as long as they may be.
            parameters: "x".repeat(28 + 1 + 6 + 500),
            standing: Standing::Expanded,
        };
        let call = Call {
            id: u64::MAX,
            deadline_ms: u32::MAX,
            context: Context::default(),
            request: QueueRequest::AddRecipients {
                message: MessageHandle(u64::MAX),
                recipients: vec![recipient; RECIPIENTS_PER_FRAME],
            },
        };
        assert!(frame::encode(&call).is_ok());
    }
}
