//! How long, and how much of, the mail is kept that nobody sees until the operator has.

use serde::{Deserialize, Serialize};

use super::value::AtLeast;

/// The `quarantine` section of `authentication`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quarantine {
    /// Days after which a message that was not released is gone, without a word to its sender.
    pub days: AtLeast<1>,
    /// Messages kept at once of each tenant, and of all domains together that have none. When there is no room, a message for the quarantine is put off: its sender tries again, and nothing is
    /// lost while the operator makes room.
    pub max_messages: AtLeast<1>,
    /// Bytes of all of them. The disk needs as many times that as there are tenants, and once more.
    pub max_bytes: AtLeast<1>,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self {
            days: AtLeast::known(30),
            max_messages: AtLeast::known(10_000),
            max_bytes: AtLeast::known(1 << 30),
        }
    }
}
