//! The `submission` section: what becomes of mail that our own users send.

use serde::{Deserialize, Serialize};

/// The `submission` section.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Submission {
    /// Leave out of the `Received` field which address the author's client has and what it calls itself. RFC 5321 §4.4 wants it
    /// told; the log has it in any case.
    pub redact_received: bool,
}
