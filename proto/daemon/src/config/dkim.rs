//! The keys that sign mail (DKIM).

use serde::{Deserialize, Serialize};

use super::value::{AtLeast, AtMost};

/// The `dkim` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dkim {
    /// Days after which a key that signs gets a successor by itself; 0 for never. The successor signs once its record is seen in DNS, where
    /// somebody has to publish it: `rmailctl dkim list` shows what waits.
    pub rotate_days: AtMost<3650>,
    /// Days for which a signature counts, and for which the record of a key must stay in DNS after the key has been retired. Then the
    /// private key is destroyed.
    pub overlap_days: AtLeast<2>,
}

impl Default for Dkim {
    fn default() -> Self {
        Self {
            rotate_days: AtMost::known(0),
            overlap_days: AtLeast::known(14),
        }
    }
}
