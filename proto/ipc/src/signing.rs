//! relayd → keyd: DKIM signatures, and which records were seen in DNS.

use crate::edge::{Edge, Silence};
use crate::frame::{Decode, Encode};

/// Octets of header fields in one frame.
pub const MAX_PIECE: usize = 12 * 1024;

/// Octets of header fields of one message. More are not signed.
pub const MAX_FIELDS: usize = 256 * 1024;

/// Keys of one domain that sign at once; their fields fit into a frame together.
pub const MAX_SIGNING: usize = 4;

/// How many keys one [`SigningAnswer::Waiting`] names.
pub const WAITING_PER_FRAME: usize = 8;

/// What is to be signed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Order {
    /// Who signs; an author in From has this domain.
    pub domain: String,
    /// The pieces before, as [`SigningRequest::Keep`] named them; nothing if there are none.
    pub kept: Option<u64>,
    /// The last piece, at most [`MAX_PIECE`]: header fields as they stand, of those that are signed and no others.
    pub fields: Vec<u8>,
    /// SHA-256 of the body in its relaxed form.
    pub body_hash: [u8; 32],
}

/// Orders of relayd to keyd.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SigningRequest {
    /// Keep the beginning of header fields that do not fit into a frame, or more of it, until they are signed.
    Keep {
        /// Chosen by the asker, one for each order.
        number: u64,
        /// At most [`MAX_PIECE`].
        piece: Vec<u8>,
    },
    /// Sign this.
    Sign(Order),
    /// Which records are to be looked for in DNS?
    ListWaiting {
        /// Behind this name.
        after: Option<String>,
    },
    /// The record is in DNS: the key may sign.
    NoteSeen {
        /// [`Waiting::name`].
        name: String,
    },
}

/// A key that signs once its record is in DNS.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Waiting {
    /// Of its record, without the final dot.
    pub name: String,
    /// What its record says.
    pub record: String,
}

/// What keyd answers to a [`SigningRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SigningAnswer {
    /// To [`SigningRequest::Keep`].
    Kept,
    /// The DKIM-Signature fields with their CRLF, one for each key that signs; none if the domain has no such key.
    Signed {
        /// To be put above the message.
        fields: String,
    },
    /// To [`SigningRequest::ListWaiting`], by name.
    Waiting {
        /// At most [`WAITING_PER_FRAME`].
        keys: Vec<Waiting>,
        /// There are more.
        more: bool,
    },
    /// To [`SigningRequest::NoteSeen`]: the key signs from now on, or did not wait any more.
    Noted,
}

/// relayd asks keyd.
#[derive(Debug)]
pub struct SigningEdge;

impl Edge for SigningEdge {
    type Request = SigningRequest;
    type Answer = SigningAnswer;
    type Event = Silence;
    const NAME: &'static str = "relayd-keyd";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Call, Context, Return, frame};

    #[test]
    fn the_largest_orders_and_answers_fit_into_a_frame() {
        let call = Call {
            id: u64::MAX,
            deadline_ms: u32::MAX,
            context: Context::default(),
            request: SigningRequest::Sign(Order {
                domain: "x".repeat(255),
                kept: Some(u64::MAX),
                fields: vec![b'x'; MAX_PIECE],
                body_hash: [0; 32],
            }),
        };
        assert!(frame::encode(&call).is_ok());
        let answer = |answer| Return::<SigningAnswer, Silence>::Answer {
            id: u64::MAX,
            result: Ok(answer),
        };
        // A field with a signature of 4096 bits, and h= of a common header.
        let fields = "x".repeat(MAX_SIGNING * 2048);
        assert!(frame::encode(&answer(SigningAnswer::Signed { fields })).is_ok());
        let waiting = Waiting {
            name: "x".repeat(253),
            record: "x".repeat(1024),
        };
        let answer = answer(SigningAnswer::Waiting {
            keys: vec![waiting; WAITING_PER_FRAME],
            more: true,
        });
        assert!(frame::encode(&answer).is_ok());
    }
}
