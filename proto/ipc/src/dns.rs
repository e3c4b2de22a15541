//! smtpd → relayd: what DNS says. Part of [`crate::queue`], because relayd alone reaches the network.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::frame::{Decode, Encode};

/// Bytes of a name in text form, at most; RFC 1035 §2.3.4 allows no more on the wire.
pub const MAX_NAME: usize = 255;

/// Bytes of all records of an answer, as [`Record::size`] counts them, so that they fit into a frame with what stands around.
pub const MAX_RECORDS_SIZE: usize = 14 * 1024;

/// Asks for the records of a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Question {
    /// Absolute, with or without the final dot; any bytes between the dots.
    pub name: String,
    /// Which of its records.
    pub kind: Kind,
}

/// A type of record (RFC 1035 §3.2.2, RFC 3596).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Mail exchangers.
    Mx,
    /// Text.
    Txt,
    /// Names of an address.
    Ptr,
}

/// A record of the kind asked for; aliases (CNAME) were followed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Record {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// A mail exchanger.
    Mx {
        /// Lower ones come first.
        preference: u16,
        /// A host name in lower case without the final dot; empty for the root, which says "no mail" (RFC 7505).
        exchange: String,
    },
    /// The strings of a TXT record put together without anything between them (RFC 7208 §3.3).
    Txt(Vec<u8>),
    /// A host name in lower case without the final dot.
    Ptr(String),
}

impl Record {
    /// Bytes it takes in a frame, at most.
    #[must_use]
    pub fn size(&self) -> usize {
        // The variant, and the longest of what has a fixed size.
        const AROUND: usize = 4 + 16;
        AROUND
            + match self {
                Self::A(_) | Self::Aaaa(_) => 0,
                Self::Mx { exchange, .. } => exchange.len(),
                Self::Txt(text) => text.len(),
                Self::Ptr(name) => name.len(),
            }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Found {
    /// At least one.
    Records(Vec<Record>),
    /// The name exists, such a record does not.
    NoData,
    /// The name does not exist (NXDOMAIN), or is none.
    NoSuchName,
    /// The records together are larger than [`MAX_RECORDS_SIZE`]; they will be the next time, too.
    TooLarge,
    /// No server gave an answer; the next time one may. relayd's log has the reason.
    Fault,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::Silence;
    use crate::queue::QueueAnswer;
    use crate::{Return, frame};

    #[test]
    fn the_largest_answers_fit_into_a_frame() {
        let text = |length: usize| Record::Txt(vec![b'x'; length]);
        let name = Record::Ptr("x".repeat(MAX_NAME));
        for record in [Record::A(Ipv4Addr::LOCALHOST), text(0), text(4000), name] {
            let count = MAX_RECORDS_SIZE / record.size();
            let found = Found::Records(vec![record; count]);
            let answer: Return<QueueAnswer, Silence> = Return::Answer {
                id: u64::MAX,
                result: Ok(QueueAnswer::LookedUp(found)),
            };
            assert!(frame::encode(&answer).is_ok(), "{count}");
        }
    }
}
