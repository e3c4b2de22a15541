//! What can be wrong with a filter.

use core::fmt;

/// Why a filter is of no use for the rest of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A packet that is empty, or longer than any answer may be.
    Length(u32),
    /// A packet of a kind that there is not, or not then.
    Unexpected(u8),
    /// A packet that is not written as its kind must be.
    Malformed(u8),
    /// It wants the conversation to go as it was not offered.
    Terms,
    /// It speaks this version of the protocol, which is too old or not known.
    Version(u32),
    /// It wants the message put aside, which is not offered.
    Quarantine,
    /// It wants to change what it did not say it would.
    NotAgreed(u8),
    /// It wants more changes than a message may have.
    TooMuch,
    /// A field of the message is longer than a packet.
    LongField,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(f, "it sent a packet of {length} octets"),
            Self::Unexpected(kind) => {
                write!(f, "it sent '{}', which is no answer", kind.escape_ascii())
            }
            Self::Malformed(kind) => write!(f, "it sent a malformed '{}'", kind.escape_ascii()),
            Self::Terms => f.write_str("it wants what it was not offered"),
            Self::Version(version) => {
                write!(
                    f,
                    "it speaks version {version} of the milter protocol, not 2 to 6"
                )
            }
            Self::Quarantine => f.write_str(
                "it wants a message quarantined, which it was not offered: have it refuse or mark such mail",
            ),
            Self::NotAgreed(kind) => write!(
                f,
                "it sent '{}' without having asked for that right",
                kind.escape_ascii()
            ),
            Self::TooMuch => f.write_str("it wants too many changes"),
            Self::LongField => f.write_str("a field of the message does not fit into a packet"),
        }
    }
}

impl core::error::Error for Fault {}
