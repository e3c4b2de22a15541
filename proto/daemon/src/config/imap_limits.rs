//! The `imap.limits` section: how many messages one command is about (RFC 9738).

use serde::{Deserialize, Serialize};

use super::value::AtLeast;

/// The `imap.limits` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImapLimits {
    /// Messages that one FETCH, STORE, SEARCH, MOVE or UID EXPUNGE is about at most, those with the largest UIDs; COPY and APPEND of more
    /// are refused, SORT and THREAD too (MESSAGELIMIT). No limit if not set: clients that do not know it miss what they do not get.
    pub messages: Option<AtLeast<1000>>,
    /// Messages that one COPY or APPEND saves at most (SAVELIMIT), where `messages` is not set.
    pub saved: Option<AtLeast<1000>>,
}

impl ImapLimits {
    /// Messages that one command is about at most.
    #[must_use]
    pub fn of_any(&self) -> Option<u32> {
        self.messages.map(number)
    }

    /// Messages that one COPY or APPEND saves at most.
    #[must_use]
    pub fn of_saving(&self) -> Option<u32> {
        self.saved.map(number)
    }
}

// No mailbox has more.
fn number(most: AtLeast<1000>) -> u32 {
    u32::try_from(most.value()).unwrap_or(u32::MAX)
}
