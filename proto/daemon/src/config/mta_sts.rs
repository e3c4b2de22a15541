//! Whether the policies that domains publish by MTA-STS are kept.

use serde::{Deserialize, Serialize};

/// The `mta_sts` section of `relay`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MtaSts {
    /// Whether they are fetched and kept.
    pub enabled: bool,
    /// Port where they are served: 443, except in tests.
    pub port: u16,
}

impl Default for MtaSts {
    fn default() -> Self {
        Self {
            enabled: true,
            port: 443,
        }
    }
}
