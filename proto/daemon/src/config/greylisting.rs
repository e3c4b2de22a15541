//! The `smtp.greylisting` section: mail of strangers is put off once (RFC 6647).

use serde::{Deserialize, Serialize};

use super::value::AtLeast;

/// The `smtp.greylisting` section, for clients of port 25 that `smtp.limits.exempt` does not name. Sender, recipient and the client's /24 or
/// IPv6 /64 together are what is known or not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Greylisting {
    /// Whether it is done at all: it makes first messages late, some by hours.
    pub enabled: bool,
    /// Seconds for which a stranger's mail is put off.
    pub delay_seconds: AtLeast<1>,
    /// Seconds after these within which it has to come back, or it begins anew.
    pub return_seconds: AtLeast<3600>,
    /// Days for which it is known after its last message.
    pub known_days: AtLeast<1>,
    /// A network from which so many different ones came back is no stranger any more; 0 for none.
    pub trusted_after: u32,
}

impl Default for Greylisting {
    fn default() -> Self {
        Self {
            enabled: false,
            // RFC 6647 §5: a minute to a day. Servers commonly come back after five or fifteen minutes.
            delay_seconds: AtLeast::known(240),
            return_seconds: AtLeast::known(86_400),
            known_days: AtLeast::known(36),
            trusted_after: 5,
        }
    }
}
