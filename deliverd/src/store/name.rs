//! Names on disk: how mailbox names, domains and local parts become one directory name each, and back.

use std::borrow::Borrow;

use ipc::Refusal;
use ipc::session::MAX_MAILBOX_NAME;

/// The longest name a file system takes.
const MAX_FILE_NAME: usize = 255;

/// A mailbox name that is fit to be kept: UTF-8, levels separated by `/`, INBOX in upper case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MailboxName(String);

// Both are ordered by their bytes.
impl Borrow<str> for MailboxName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl MailboxName {
    /// The mailbox every user has.
    pub(crate) fn inbox() -> Self {
        Self("INBOX".into())
    }

    /// Checks a name as a client gave it.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let fits = !text.is_empty()
            && text.len() <= MAX_MAILBOX_NAME
            && !text.chars().any(char::is_control)
            && text.split('/').all(|level| !level.is_empty());
        if !fits {
            return Err(Refusal::InvalidMailboxName);
        }
        let (first, rest) = text.split_at(text.find('/').unwrap_or(text.len()));
        // RFC 9051 §5.1: INBOX is the same name in any letter case.
        let name = if first.eq_ignore_ascii_case("INBOX") {
            format!("INBOX{rest}")
        } else {
            text.to_owned()
        };
        if encode(&name).is_none() {
            return Err(Refusal::InvalidMailboxName);
        }
        Ok(Self(name))
    }

    /// Reads the name of a directory below `mailboxes/`; `None` for what [`MailboxName::file_name`] never gives.
    pub(crate) fn from_file_name(file_name: &str) -> Option<Self> {
        let name = Self::parse(&decode(file_name)?).ok()?;
        (name.file_name() == file_name).then_some(name)
    }

    /// The directory of this mailbox below `mailboxes/`.
    pub(crate) fn file_name(&self) -> String {
        // `parse` has seen that the name can be encoded.
        encode(&self.0).unwrap_or_default()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_inbox(&self) -> bool {
        self.0 == "INBOX"
    }

    /// All names above this one, outermost first.
    pub(crate) fn parents(&self) -> impl Iterator<Item = Self> + '_ {
        self.0
            .match_indices('/')
            .map(|(at, _)| Self(self.0[..at].to_owned()))
    }

    /// All names below this one are at or behind the first, and before the second.
    pub(crate) fn children(&self) -> std::ops::Range<Self> {
        // In byte order `0` follows `/`.
        Self(format!("{}/", self.0))..Self(format!("{}0", self.0))
    }

    /// Whether this name stands below `other`.
    pub(crate) fn is_below(&self, other: &Self) -> bool {
        self.0
            .strip_prefix(&other.0)
            .is_some_and(|rest| rest.starts_with('/'))
    }

    /// This name with the front `from` (itself or a parent) replaced by `to`.
    pub(crate) fn moved(&self, from: &Self, to: &Self) -> Result<Self, Refusal> {
        let rest = self.0.strip_prefix(&from.0).unwrap_or_default();
        Self::parse(&format!("{}{rest}", to.0))
    }
}

/// Encodes a text as one file name: letters, digits and `-_~.` stand for themselves (a dot not in front), all else is `%XX`.
///
/// A name that would be too long that way keeps its non-ASCII characters as they are; both forms decode without doubt,
/// and which of them is used depends on the text alone. `None` if it is too long even so, or empty.
pub(crate) fn encode(text: &str) -> Option<String> {
    let everything = percent(text, false);
    let encoded = if everything.len() <= MAX_FILE_NAME {
        everything
    } else {
        percent(text, true)
    };
    (!encoded.is_empty() && encoded.len() <= MAX_FILE_NAME).then_some(encoded)
}

/// The text that a file name made by [`encode`] stands for; `None` for any other name.
pub(crate) fn original(file_name: &str) -> Option<String> {
    decode(file_name).filter(|text| encode(text).as_deref() == Some(file_name))
}

/// The name [`encode`] would have given to what somebody named by hand, if that can be told.
pub(crate) fn proper(file_name: &str) -> Option<MailboxName> {
    MailboxName::parse(&decode(file_name)?).ok()
}

fn percent(text: &str, keep_non_ascii: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let plain = match c {
            '.' => at > 0,
            '-' | '_' | '~' => true,
            c if c.is_ascii() => c.is_ascii_alphanumeric(),
            c => keep_non_ascii && !c.is_control(),
        };
        if plain {
            encoded.push(c);
            continue;
        }
        let mut bytes = [0; 4];
        for byte in c.encode_utf8(&mut bytes).bytes() {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    encoded
}

fn decode(file_name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(file_name.len());
    let mut rest = file_name.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| {
                char::from(byte)
                    .to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
            };
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file_name(text: &str) -> String {
        MailboxName::parse(text).unwrap().file_name()
    }

    #[test]
    fn a_separator_is_encoded_so_that_a_mailbox_is_one_directory() {
        assert_eq!(file_name("Archive/2026"), "Archive%2F2026");
    }

    #[test]
    fn nothing_leaves_the_tree_or_hides_in_it() {
        assert_eq!(file_name("../../etc/passwd"), "%2E.%2F..%2Fetc%2Fpasswd");
        assert_eq!(file_name("."), "%2E");
        assert_eq!(file_name(".."), "%2E.");
        assert_eq!(file_name(".cache"), "%2Ecache");
        assert_eq!(file_name("50%"), "50%25");
        assert_eq!(encode("a\0b").unwrap(), "a%00b");
    }

    #[test]
    fn inbox_is_one_name_in_any_case_and_other_names_are_not() {
        assert_eq!(MailboxName::parse("inbox").unwrap(), MailboxName::inbox());
        assert_eq!(
            MailboxName::parse("InBox/Sub").unwrap().as_str(),
            "INBOX/Sub"
        );
        assert_eq!(MailboxName::parse("inboxes").unwrap().as_str(), "inboxes");
        assert_ne!(file_name("work"), file_name("Work"));
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = "x".repeat(MAX_MAILBOX_NAME + 1);
        let percents = "%".repeat(MAX_MAILBOX_NAME);
        for name in [
            "", "/", "/a", "a/", "a//b", "a\r\nb", "a\0b", "\u{7f}", "a\u{85}", &long, &percents,
        ] {
            assert_eq!(
                MailboxName::parse(name),
                Err(Refusal::InvalidMailboxName),
                "{name:?}"
            );
        }
    }

    #[test]
    fn the_longest_cyrillic_name_fits() {
        let name = "ж".repeat(MAX_MAILBOX_NAME / 2);
        assert_eq!(
            MailboxName::from_file_name(&file_name(&name))
                .unwrap()
                .as_str(),
            name
        );
    }

    #[test]
    fn directories_we_never_make_are_no_mailboxes() {
        for name in [
            "a%2fb", "%41", ".cache", "a%", "a%2", "a%zz", "%FF", "inbox", "a b",
        ] {
            assert_eq!(MailboxName::from_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn parents_and_children_are_seen_by_levels() {
        let name = MailboxName::parse("a/b/c").unwrap();
        let parents: Vec<_> = name.parents().map(|parent| parent.0).collect();
        assert_eq!(parents, ["a", "a/b"]);
        assert!(name.is_below(&MailboxName::parse("a").unwrap()));
        assert!(MailboxName::parse("a").unwrap().children().contains(&name));
        assert!(
            !MailboxName::parse("a")
                .unwrap()
                .children()
                .contains(&MailboxName::parse("a b").unwrap())
        );
        assert!(
            !MailboxName::parse("ab")
                .unwrap()
                .is_below(&MailboxName::parse("a").unwrap())
        );
        let moved = name.moved(
            &MailboxName::parse("a/b").unwrap(),
            &MailboxName::parse("x").unwrap(),
        );
        assert_eq!(moved.unwrap().as_str(), "x/c");
    }

    proptest! {
        #[test]
        fn every_accepted_name_survives_the_round_trip(text in "\\PC{1,60}") {
            if let Ok(name) = MailboxName::parse(&text) {
                let file_name = name.file_name();
                prop_assert!(!file_name.contains('/') && !file_name.starts_with('.') && file_name.len() <= MAX_FILE_NAME);
                prop_assert_eq!(MailboxName::from_file_name(&file_name), Some(name));
            }
        }
    }
}
