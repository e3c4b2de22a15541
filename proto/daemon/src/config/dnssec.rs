//! Whether answers of DNS are checked before mail goes where they say.

use serde::{Deserialize, Serialize};

/// The `dnssec` section of `relay`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dnssec {
    /// When relayd checks them.
    pub mode: DnssecMode,
    /// Keys of the root zone, each as the text of a DNSKEY record; those that are built in if empty.
    pub trust_anchors: Vec<String>,
}

/// When answers are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DnssecMode {
    /// Once the DNS server was seen to pass signatures on; until then nothing is, and no mail waits for it.
    #[default]
    Auto,
    /// Always: with a DNS server that passes no signatures on all mail waits.
    Require,
    /// Never.
    Off,
}
