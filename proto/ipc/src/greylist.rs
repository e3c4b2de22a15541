//! smtpd → relayd: whether mail is known, or is to be put off once (RFC 6647). Part of [`crate::queue`], because relayd keeps files.

use crate::frame::{Decode, Encode};

/// What is known or not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Triple {
    /// The client's network, as in `192.0.2.0/24`.
    pub network: String,
    /// MAIL FROM; empty for the null reverse-path.
    pub sender: String,
    /// RCPT TO.
    pub recipient: String,
}

/// Whether mail is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Acquaintance {
    /// Take it.
    Known,
    /// Put it off.
    Stranger {
        /// For so many seconds at least.
        wait: u64,
    },
}
