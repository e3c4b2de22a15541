//! How long, and how much of, the mail is kept that nobody sees until the operator has.

use serde::{Deserialize, Serialize};

use super::value::AtLeast;

/// The `quarantine` section of `authentication`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quarantine {
    /// Days after which a message that was not released is gone, without a word to its sender.
    pub days: AtLeast<1>,
    /// Messages kept at once of each tenant, and of all domains together that have none. When there is no room, a message for the
    /// quarantine is put off: its sender tries again, and nothing is lost while the operator makes room.
    pub max_messages: AtLeast<1>,
    /// Bytes of all of them.
    pub max_bytes: AtLeast<1>,
    /// Bytes of what is kept of all tenants together, each message with 8 KiB more for what stands beside it on the disk. No tenant may
    /// have more of that than is left: one that is flooded gets half of it, the next one half of the rest, and there is always some left
    /// for one that has little. Twice `max_bytes` or more, or nobody ever has that.
    pub total_bytes: AtLeast<1>,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self {
            days: AtLeast::known(30),
            max_messages: AtLeast::known(10_000),
            max_bytes: AtLeast::known(1 << 30),
            total_bytes: AtLeast::known(4 << 30),
        }
    }
}
