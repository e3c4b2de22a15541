//! The `smtp.xclient` section: proxies that say with XCLIENT who their client is.

use serde::{Deserialize, Serialize};

use super::value::Network;

/// The `smtp.xclient` section, for the port of other servers and those of submission.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Xclient {
    /// Who may say the address and name of a client. They are counted as their clients are, not by their own address.
    pub clients: Vec<Network>,
    /// Who may say, too, as which account the client has logged in, on the ports of submission. They need no password for it, so
    /// list only what checks one itself.
    pub login_clients: Vec<Network>,
}
