//! For how long it is known what became of outgoing mail.

use serde::{Deserialize, Serialize};

use super::value::{AtLeast, AtMost};

/// The `history` section of `relay`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct History {
    /// Days for which `rmailctl queue history` and `rmailctl audit` know what happened; 0 keeps nothing.
    pub days: AtMost<3650>,
    /// Bytes of it that are kept at most, some 250 for each message that comes, each attempt for a recipient, and each message that goes. The oldest go first.
    pub max_bytes: AtLeast<65536>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            days: AtMost::known(7),
            max_bytes: AtLeast::known(256 << 20),
        }
    }
}
