//! The `imap.metadata` section: what clients can learn about the server (RFC 5464 §6.2.1).

use serde::{Deserialize, Serialize};

/// The `imap.metadata` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerMetadata {
    /// A URI by which the administrator can be reached, as mailto:postmaster@example.org; nothing is told if not set.
    pub admin: Option<ServerText>,
    /// What users should know about the server; nothing is told if not set.
    pub comment: Option<ServerText>,
}

/// Some words about the server: 1 to 1,000 octets without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerText(String);

impl ServerText {
    /// The words.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ServerText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.len() > 1000 || text.chars().any(char::is_control) {
            return Err("must be 1 to 1000 octets without control characters".to_owned());
        }
        Ok(Self(text))
    }
}

impl From<ServerText> for String {
    fn from(text: ServerText) -> Self {
        text.0
    }
}
