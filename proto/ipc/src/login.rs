//! Logins in several messages (SASL): who speaks to the client carries them, deliverd reads and answers them.

use crate::frame::{Decode, Encode};
use crate::secret::Secret;

/// The first message of a login.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LoginStart {
    /// Registered name of the mechanism.
    pub mechanism: String,
    /// What the client said, decoded; at most 9 KiB (RFC 4954 §4 bounds its line).
    pub message: Secret,
    /// The client's IP address, for counting failures and for the log.
    pub client: String,
    /// What both sides derive from the TLS session (RFC 9266); `None` where the client was not offered to bind to it.
    pub binding: Option<Vec<u8>>,
    /// The certificates that the client has shown, its own first, in DER, at most 6 KiB; for EXTERNAL alone. deliverd verifies them.
    pub certificates: Vec<Vec<u8>>,
}

/// Orders about such a login, the same for every protocol.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum LoginRequest {
    /// Begin one.
    Begin(LoginStart),
    /// Go on with the client's next message.
    Continue {
        /// Which, from [`Challenge`].
        exchange: u64,
        /// What the client said, decoded.
        message: Secret,
    },
    /// Forget one: the client gave up. deliverd forgets it by itself after a minute.
    Abandon {
        /// Which.
        exchange: u64,
    },
}

/// The login goes on: this is for the client.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Challenge {
    /// Names the login, on this channel.
    pub exchange: u64,
    /// What is said to the client.
    pub message: Secret,
}
