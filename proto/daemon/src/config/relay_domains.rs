//! What differs for mail to some domains.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::value::HostName;

/// An entry of `relay.domains`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RelayDomain {
    /// The domains, as they stand in recipients' addresses.
    pub names: Vec<HostName>,
    /// How much TLS is asked of their servers.
    pub tls: TlsDemand,
}

/// How much TLS is asked of a domain's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsDemand {
    /// None, though it is offered: for a server whose TLS is broken.
    None,
    /// TLS if it is offered, whatever the domain demands.
    May,
    /// TLS, and what the domain demands.
    Encrypt,
    /// The same, and a certificate that is good for the server's name.
    Verify,
    /// The same, and a policy by MTA-STS that is enforced, or TLSA records.
    Sts,
    /// TLSA records, and a certificate that they mean.
    Dane,
}

/// What is wrong with the entries together.
pub(super) fn flaw(entries: &[RelayDomain]) -> Option<String> {
    let mut seen = BTreeSet::new();
    for entry in entries {
        if entry.names.is_empty() {
            return Some("an entry without names is of no use".into());
        }
        for name in &entry.names {
            if name.is_address() {
                return Some(format!("\"{}\" is an address, not a name", name.as_str()));
            }
            if !seen.insert(name) {
                return Some(format!("\"{}\" is in two entries", name.as_str()));
            }
        }
    }
    None
}
