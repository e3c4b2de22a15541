//! How much may be stored, and how much is: by a user, by a domain, by a tenant.

use crate::frame::{Decode, Encode};

/// What is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Usage {
    /// Messages.
    pub messages: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
}

/// How much may be stored; 0 for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Limits {
    /// Messages.
    pub messages: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
}

/// New limits; what is absent stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct LimitChange {
    /// Messages; 0 for no limit.
    pub messages: Option<u64>,
    /// Bytes; 0 for no limit.
    pub bytes: Option<u64>,
}

impl LimitChange {
    /// What `limits` become.
    #[must_use]
    pub fn apply(self, limits: Limits) -> Limits {
        Limits {
            messages: self.messages.unwrap_or(limits.messages),
            bytes: self.bytes.unwrap_or(limits.bytes),
        }
    }
}
