//! Flags of messages, and uses of mailboxes.

use alloc::string::String;
use alloc::vec::Vec;

/// Longest keyword taken.
pub const MAX_KEYWORD: usize = 100;

/// A flag a client may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flag {
    /// `\Answered`
    Answered,
    /// `\Deleted`
    Deleted,
    /// `\Draft`
    Draft,
    /// `\Flagged`
    Flagged,
    /// `\Seen`
    Seen,
    /// A keyword, an atom such as `$Forwarded`.
    Keyword(String),
}

impl Flag {
    /// Writes the flag.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Self::Answered => b"\\Answered",
            Self::Deleted => b"\\Deleted",
            Self::Draft => b"\\Draft",
            Self::Flagged => b"\\Flagged",
            Self::Seen => b"\\Seen",
            Self::Keyword(keyword) => keyword.as_bytes(),
        });
    }
}

/// Whether `text` can be written as a keyword.
// RFC 3501 §9: flag-keyword = atom.
#[must_use]
pub fn is_keyword(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_KEYWORD && text.bytes().all(crate::parse::is_atom_char)
}

/// What a mailbox is for.
// RFC 6154 §2. \All and \Flagged are views, which this server does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// `\Archive`
    Archive,
    /// `\Drafts`
    Drafts,
    /// `\Junk`
    Junk,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
}

impl Use {
    /// The attribute of LIST.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Archive => "\\Archive",
            Self::Drafts => "\\Drafts",
            Self::Junk => "\\Junk",
            Self::Sent => "\\Sent",
            Self::Trash => "\\Trash",
        }
    }

    /// Reads the attribute, `Sent` for `\Sent`.
    pub(crate) fn parse(name: &[u8]) -> Option<Self> {
        let all = [
            Self::Archive,
            Self::Drafts,
            Self::Junk,
            Self::Sent,
            Self::Trash,
        ];
        all.into_iter()
            .find(|known| known.as_str().as_bytes()[1..].eq_ignore_ascii_case(name))
    }
}
