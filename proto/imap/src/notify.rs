//! What a client wants to hear unasked (RFC 5465).

use alloc::string::String;
use alloc::vec::Vec;

use crate::command::FetchItem;
use crate::mailbox::DELIMITER;

/// Groups of one NOTIFY, and names in all of them.
pub const MAX_GROUPS: usize = 50;
/// See [`MAX_GROUPS`].
pub const MAX_NAMES: usize = 200;

/// NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notify {
    /// NONE: nothing, not even of the selected mailbox.
    Nothing,
    /// SET
    Set {
        /// STATUS: how the mailboxes are now is told at once.
        status: bool,
        /// The first that a mailbox belongs to counts.
        groups: Vec<Group>,
    },
    /// SET, with an event that this server knows nothing of (§5: `NO [BADEVENT …]`).
    Unsupported,
}

/// Mailboxes, and what is to be told of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Which mailboxes.
    pub filter: Filter,
    /// Which events.
    pub events: Events,
}

/// Which mailboxes a group is of (§6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// The selected one, whatever its name: at any time.
    Selected,
    /// The same, but that messages are gone is told only where RFC 3501 allows it.
    SelectedDelayed,
    /// Those into which mail is delivered.
    Inboxes,
    /// All of the user's own.
    Personal,
    /// Those subscribed to.
    Subscribed,
    /// These and all below them.
    Subtree(Vec<String>),
    /// These.
    Mailboxes(Vec<String>),
}

/// Which events are told (§5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Events {
    /// MessageNew and MessageExpunge, which go together.
    pub messages: bool,
    /// What is told of new messages of the selected mailbox.
    pub fetch: Vec<FetchItem>,
    /// FlagChange
    pub flags: bool,
    /// MailboxName
    pub names: bool,
    /// SubscriptionChange
    pub subscriptions: bool,
    /// MailboxMetadataChange
    pub annotations: bool,
    /// ServerMetadataChange; of which mailboxes the group is makes no difference.
    pub server_annotations: bool,
}

/// What of a mailbox decides to which group it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a str,
    /// Mail is delivered into it.
    pub is_inbox: bool,
    /// It is one of the user's own.
    pub is_personal: bool,
    /// It is subscribed to, or was a moment ago.
    pub is_subscribed: bool,
}

impl Filter {
    /// Whether a mailbox is meant. The selected one is by its own groups only.
    #[must_use]
    pub fn is_of(&self, mailbox: Candidate<'_>) -> bool {
        match self {
            Self::Selected | Self::SelectedDelayed => false,
            Self::Inboxes => mailbox.is_inbox,
            Self::Personal => mailbox.is_personal,
            Self::Subscribed => mailbox.is_subscribed,
            Self::Subtree(names) => names.iter().any(|name| is_within(mailbox.name, name)),
            Self::Mailboxes(names) => names.iter().any(|name| name == mailbox.name),
        }
    }
}

/// Whether it is that mailbox, or one below it.
pub(crate) fn is_within(name: &str, root: &str) -> bool {
    let below = name.strip_prefix(root);
    below.is_some_and(|below| below.is_empty() || below.starts_with(DELIMITER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn filters_mean_what_they_say() {
        let mailbox = |name| Candidate {
            name,
            is_inbox: name == "INBOX",
            is_personal: name != "o/p",
            is_subscribed: name == "a/b",
        };
        let meant = |filter: &Filter| -> Vec<&str> {
            let mut names = vec!["INBOX", "a", "a/b", "ab"];
            names.retain(|name| filter.is_of(mailbox(name)));
            names
        };
        assert_eq!(meant(&Filter::Inboxes), ["INBOX"]);
        assert_eq!(meant(&Filter::Personal).len(), 4);
        assert_eq!(meant(&Filter::Subscribed), ["a/b"]);
        assert_eq!(meant(&Filter::Subtree(vec!["a".into()])), ["a", "a/b"]);
        // No wildcards (§6.7).
        let names = vec!["a".into(), "*".into()];
        assert_eq!(meant(&Filter::Mailboxes(names)), ["a"]);
        assert_eq!(meant(&Filter::Selected), [""; 0]);
    }
}
