//! ACL (RFC 4314): who may do what with a mailbox, and how that is told.

use alloc::string::String;
use alloc::vec::Vec;

use crate::dialect::Dialect;
use crate::envelope::write_string;
use crate::write;

/// The letters of all rights, in the order of the bits of [`Rights`] and of answers.
pub const LETTERS: &str = "lrswipkxtea";

/// Bits of `k` and `x`, which `c` stands for, and of `t` and `e`, which `d` stands for.
// RFC 4314 §2.1.1: the "x" right is a member of one of them.
const CREATE: u16 = 1 << 6 | 1 << 7;
const DELETE: u16 = 1 << 8 | 1 << 9;

/// A set of rights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rights(pub u16);

impl Rights {
    /// Whether the right with this letter is there.
    #[must_use]
    pub fn has(self, letter: char) -> bool {
        let place = LETTERS.find(letter);
        place.is_some_and(|place| self.0 >> place & 1 == 1)
    }

    /// Reads letters, the two that are obsolete too.
    ///
    /// # Errors
    /// What is no right.
    pub fn parse(letters: &str) -> Result<Self, char> {
        letters.chars().try_fold(Self(0), |known, letter| {
            let bits = match letter {
                'c' => CREATE,
                'd' => DELETE,
                letter => 1 << LETTERS.find(letter).ok_or(letter)?,
            };
            Ok(Self(known.0 | bits))
        })
    }

    /// The letters, with `c` and `d` where some of what they stand for is there.
    // RFC 4314 §2.1.1.
    #[must_use]
    pub fn letters(self) -> String {
        let set = LETTERS.chars().filter(|letter| self.has(*letter));
        let create = (self.0 & CREATE != 0).then_some('c');
        let delete = (self.0 & DELETE != 0).then_some('d');
        set.chain(create).chain(delete).collect()
    }
}

/// How SETACL changes an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Exactly these.
    Set(Rights),
    /// `+`
    Add(Rights),
    /// `-`
    Remove(Rights),
}

/// The commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acl {
    /// SETACL
    Set {
        /// Of which mailbox.
        mailbox: String,
        /// Whose rights.
        identifier: String,
        /// How.
        change: Change,
    },
    /// DELETEACL
    Delete {
        /// Of which mailbox.
        mailbox: String,
        /// Whose rights.
        identifier: String,
    },
    /// GETACL
    Get(String),
    /// LISTRIGHTS
    ListRights {
        /// Of which mailbox.
        mailbox: String,
        /// Whose rights.
        identifier: String,
    },
    /// MYRIGHTS
    MyRights(String),
}

impl Acl {
    /// The name, for logs and answers.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Set { .. } => "SETACL",
            Self::Delete { .. } => "DELETEACL",
            Self::Get(_) => "GETACL",
            Self::ListRights { .. } => "LISTRIGHTS",
            Self::MyRights(_) => "MYRIGHTS",
        }
    }
}

fn begin(word: &str, mailbox: &str, dialect: Dialect, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* ");
    out.extend_from_slice(word.as_bytes());
    out.push(b' ');
    write::mailbox_name(mailbox, dialect, out);
}

fn write_rights(rights: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    if rights.is_empty() {
        out.extend_from_slice(b"\"\"");
    } else {
        out.extend_from_slice(rights.as_bytes());
    }
}

/// Writes `* ACL …` (RFC 4314 §3.6).
pub fn write_acl<'a>(
    mailbox: &str,
    entries: impl Iterator<Item = (&'a str, Rights)>,
    dialect: Dialect,
    out: &mut Vec<u8>,
) {
    begin("ACL", mailbox, dialect, out);
    for (identifier, rights) in entries {
        out.push(b' ');
        write_string(identifier.as_bytes(), out);
        write_rights(&rights.letters(), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes `* MYRIGHTS …` (RFC 4314 §3.8).
pub fn write_my_rights(mailbox: &str, rights: Rights, dialect: Dialect, out: &mut Vec<u8>) {
    begin("MYRIGHTS", mailbox, dialect, out);
    write_rights(&rights.letters(), out);
    out.extend_from_slice(b"\r\n");
}

/// Writes `* LISTRIGHTS …` (RFC 4314 §3.7): what is there always, and what could be given, each right for itself.
pub fn write_list_rights(
    (mailbox, identifier): (&str, &str),
    (given, possible): (Rights, Rights),
    dialect: Dialect,
    out: &mut Vec<u8>,
) {
    begin("LISTRIGHTS", mailbox, dialect, out);
    out.push(b' ');
    write_string(identifier.as_bytes(), out);
    write_rights(&given.letters(), out);
    let given = given.letters();
    // The same right must not be listed twice.
    for letter in possible.letters().chars() {
        if !given.contains(letter) {
            let mut bytes = [0; 4];
            write_rights(letter.encode_utf8(&mut bytes), out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_rfc_2086_stand_for_others_and_are_told_where_one_of_those_is_there() {
        assert_eq!(Rights::parse("lrswida").unwrap().letters(), "lrswitead");
        assert_eq!(Rights::parse("c").unwrap().letters(), "kxc");
        assert_eq!(Rights::parse("lrswikda").unwrap().letters(), "lrswikteacd");
        assert_eq!(Rights::parse("x").unwrap().letters(), "xc");
        assert_eq!(Rights::parse("lrlr").unwrap().letters(), "lr");
        assert_eq!(Rights::parse(LETTERS).unwrap().letters(), "lrswipkxteacd");
        assert_eq!(Rights::parse("lrQ"), Err('Q'));
        assert_eq!(Rights::parse("l0"), Err('0'));
    }

    #[test]
    fn lists_of_rights_name_each_once() {
        let mut out = Vec::new();
        let none = Rights(0);
        let all = Rights::parse(LETTERS).unwrap();
        let few = Rights::parse("la").unwrap();
        let names = ("archive/imap", "anyone");
        write_list_rights(names, (none, all), Dialect::REV1, &mut out);
        write_list_rights(("a b", "smith"), (all, none), Dialect::REV1, &mut out);
        write_list_rights(("a", "b"), (few, all), Dialect::REV1, &mut out);
        write_acl(
            "a",
            [("-x", few), ("y", none)].into_iter(),
            Dialect::REV1,
            &mut out,
        );
        write_my_rights("a", few, Dialect::REV1, &mut out);
        let expected = "* LISTRIGHTS archive/imap \"anyone\" \"\" l r s w i p k x t e a c d\r\n\
            * LISTRIGHTS \"a b\" \"smith\" lrswipkxteacd\r\n\
            * LISTRIGHTS a \"b\" la r s w i p k x t e c d\r\n\
            * ACL a \"-x\" la \"y\" \"\"\r\n\
            * MYRIGHTS a la\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
