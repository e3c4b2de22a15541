//! ESEARCH: what is searched in several mailboxes (RFC 7377).

use alloc::string::String;
use alloc::vec::Vec;

use crate::esearch::Return;
use crate::mailbox::DELIMITER;
use crate::notify::{Candidate, is_within};
use crate::search::Key;

/// Sources of one ESEARCH, and names in all of them.
pub const MAX_SOURCES: usize = 50;
/// See [`MAX_SOURCES`].
pub const MAX_NAMES: usize = 200;

/// ESEARCH
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiSearch {
    /// A mailbox that any of them is of is searched, once.
    pub sources: Vec<Source>,
    /// `RETURN (…)`, if given.
    pub results: Option<Return>,
    /// CHARSET, if given.
    pub charset: Option<String>,
    /// What is looked for.
    pub key: Key,
    /// There has to be a selected mailbox.
    pub needs_selected: bool,
}

/// Which mailboxes are searched (RFC 5465 §6, RFC 7377 §2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The selected one.
    Selected,
    /// Those into which mail is delivered.
    Inboxes,
    /// All of the user's own.
    Personal,
    /// Those subscribed to.
    Subscribed,
    /// These and all below them.
    Subtree(Vec<String>),
    /// These and those one level below.
    SubtreeOne(Vec<String>),
    /// These.
    Mailboxes(Vec<String>),
}

impl Source {
    /// Whether a mailbox is meant; `selected` is the name of the one that is.
    #[must_use]
    pub fn is_of(&self, mailbox: Candidate<'_>, selected: Option<&str>) -> bool {
        match self {
            Self::Selected => selected == Some(mailbox.name),
            Self::Inboxes => mailbox.is_inbox,
            Self::Personal => mailbox.is_personal,
            Self::Subscribed => mailbox.is_subscribed,
            Self::Subtree(names) => names.iter().any(|name| is_within(mailbox.name, name)),
            Self::SubtreeOne(names) => names.iter().any(|name| is_right_below(mailbox.name, name)),
            Self::Mailboxes(names) => names.iter().any(|name| name == mailbox.name),
        }
    }

    /// The names in it.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            Self::Subtree(names) | Self::SubtreeOne(names) | Self::Mailboxes(names) => names,
            Self::Selected | Self::Inboxes | Self::Personal | Self::Subscribed => &[],
        }
    }
}

fn is_right_below(name: &str, root: &str) -> bool {
    let below = name.get(root.len()..).unwrap_or_default();
    is_within(name, root) && !below.get(1..).unwrap_or_default().contains(DELIMITER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn sources_mean_what_they_say() {
        let mailbox = |name| Candidate {
            name,
            is_inbox: name == "INBOX",
            is_personal: name != "o/p",
            is_subscribed: name == "a/b",
        };
        let meant = |source: &Source, selected| -> Vec<&str> {
            let mut names = vec!["INBOX", "a", "a/b", "a/b/c", "ab", "o/p", "ü/x"];
            names.retain(|name| source.is_of(mailbox(name), selected));
            names
        };
        assert_eq!(meant(&Source::Inboxes, None), ["INBOX"]);
        assert_eq!(meant(&Source::Personal, None).len(), 6);
        assert_eq!(meant(&Source::Subscribed, None), ["a/b"]);
        assert_eq!(meant(&Source::Selected, Some("ab")), ["ab"]);
        assert_eq!(meant(&Source::Selected, None), [""; 0]);
        let a = vec![String::from("a")];
        assert_eq!(
            meant(&Source::Subtree(a.clone()), None),
            ["a", "a/b", "a/b/c"]
        );
        assert_eq!(meant(&Source::SubtreeOne(a.clone()), None), ["a", "a/b"]);
        let names = vec!["a".into(), "a*".into(), "%".into()];
        assert_eq!(meant(&Source::Mailboxes(names), None), ["a"]);
        let u = vec![String::from("u")];
        assert_eq!(meant(&Source::SubtreeOne(u), None), [""; 0]);
    }
}
