//! Who may do what with a mailbox of somebody else (RFC 4314).

use crate::frame::{Decode, Encode};

/// How many entries the access control list of a mailbox has at most.
pub const MAX_ENTRIES: usize = 64;
/// Longest identifier in bytes: an address with a dash in front.
pub const MAX_IDENTIFIER: usize = 255;
/// Bytes of all identifiers of a mailbox together at most; so they always fit into a frame.
pub const MAX_BYTES: usize = 12 * 1024;
/// How many mailboxes of others one page of a listing holds at most.
pub const SHARED_PER_FRAME: usize = 16;
/// What the names of mailboxes of other users begin with; behind it are the owner's address, `/`, and the name the owner has for it.
pub const OTHER_USERS: &str = "Other Users/";
/// Everyone in the owner's tenant; in the domain, if that belongs to no tenant.
pub const ANYONE: &str = "anyone";

/// The letters of all rights, in the order of the bits of [`Rights`].
pub const LETTERS: &str = "lrswipkxtea";

/// A set of rights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Rights(pub u16);

impl Rights {
    /// `l`: it is listed.
    pub const LOOKUP: Self = Self(1);
    /// `r`: its messages are read.
    pub const READ: Self = Self(1 << 1);
    /// `s`: `\Seen` is kept.
    pub const SEEN: Self = Self(1 << 2);
    /// `w`: other flags but `\Deleted`, and shared annotations, are changed.
    pub const WRITE: Self = Self(1 << 3);
    /// `i`: messages come in by APPEND and COPY.
    pub const INSERT: Self = Self(1 << 4);
    /// `p`: mail is sent to it; not used.
    pub const POST: Self = Self(1 << 5);
    /// `k`: mailboxes are made below it.
    pub const CREATE: Self = Self(1 << 6);
    /// `x`: it is deleted and renamed.
    pub const DELETE: Self = Self(1 << 7);
    /// `t`: `\Deleted` is changed.
    pub const TRASH: Self = Self(1 << 8);
    /// `e`: messages are expunged.
    pub const EXPUNGE: Self = Self(1 << 9);
    /// `a`: the list itself is read and changed.
    pub const ADMINISTER: Self = Self(1 << 10);
    /// None.
    pub const NONE: Self = Self(0);
    /// What an owner has.
    pub const ALL: Self = Self((1 << LETTERS.len()) - 1);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self((self.0 | other.0) & Self::ALL.0)
    }

    /// Those that are not among `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0 & Self::ALL.0)
    }

    /// Whether all of `other` are there.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether some of `other` are there.
    #[must_use]
    pub const fn has_some(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Reads letters; `None` if one of them is no right.
    #[must_use]
    pub fn parse(letters: &str) -> Option<Self> {
        letters.chars().try_fold(Self::NONE, |known, letter| {
            let place = LETTERS.find(letter)?;
            Some(known.and(Self(1 << place)))
        })
    }

    /// The letters.
    #[must_use]
    pub fn letters(self) -> String {
        let set = LETTERS.char_indices();
        let set = set.filter(|(place, _)| self.0 >> place & 1 == 1);
        set.map(|(_, letter)| letter).collect()
    }
}

/// How an entry changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum RightsChange {
    /// Exactly these; none removes the entry.
    Set(Rights),
    /// These too.
    Add(Rights),
    /// Not these.
    Remove(Rights),
}

/// A line of an access control list.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AclEntry {
    /// An address or [`ANYONE`], with `-` in front if it is about rights that are taken away.
    pub identifier: String,
    /// Which.
    pub rights: Rights,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_bits_are_the_same_rights() {
        assert_eq!(Rights::ALL.letters(), LETTERS);
        assert_eq!(Rights::parse("ael"), Some(Rights(0b110_0000_0001)));
        assert_eq!(Rights::parse("ltea").unwrap().letters(), "ltea");
        assert_eq!(Rights::parse(""), Some(Rights::NONE));
        for wrong in ["c", "d", "0", "L", "lz", "é"] {
            assert_eq!(Rights::parse(wrong), None, "{wrong}");
        }
        let named = [
            (Rights::LOOKUP, "l"),
            (Rights::READ, "r"),
            (Rights::SEEN, "s"),
            (Rights::WRITE, "w"),
            (Rights::INSERT, "i"),
            (Rights::POST, "p"),
            (Rights::CREATE, "k"),
            (Rights::DELETE, "x"),
            (Rights::TRASH, "t"),
            (Rights::EXPUNGE, "e"),
            (Rights::ADMINISTER, "a"),
        ];
        for (right, letter) in named {
            assert_eq!(right.letters(), letter);
        }
    }

    #[test]
    fn bits_that_are_no_rights_never_become_some() {
        let odd = Rights(u16::MAX);
        assert_eq!(odd.and(Rights::NONE), Rights::ALL);
        assert_eq!(odd.without(Rights::ALL), Rights::NONE);
    }
}
