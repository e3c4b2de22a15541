//! METADATA (RFC 5464): annotations of mailboxes and of the server.

use alloc::string::String;
use alloc::vec::Vec;

use crate::dialect::Dialect;
use crate::envelope::write_string;
use crate::write;

/// GETMETADATA
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// Of which mailbox; empty for the server.
    pub mailbox: String,
    /// Which entries, in lower case.
    pub entries: Vec<String>,
    /// Which of those below them.
    pub depth: Depth,
    /// MAXSIZE: longer values are left out.
    pub max_size: Option<u64>,
}

/// SETMETADATA
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Of which mailbox; empty for the server.
    pub mailbox: String,
    /// Names in lower case, with new values; `None` removes an entry.
    pub changes: Vec<(String, Option<Vec<u8>>)>,
}

/// DEPTH: which entries below one that is named are meant, too.
// RFC 5464 §4.2.2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Depth {
    /// None.
    #[default]
    Zero,
    /// Those one level below.
    One,
    /// All.
    Infinity,
}

impl Depth {
    /// Whether an entry is meant where `asked` is named.
    #[must_use]
    pub fn means(self, asked: &str, entry: &str) -> bool {
        if asked == entry {
            return true;
        }
        let below = entry.strip_prefix(asked);
        let Some(below) = below.and_then(|rest| rest.strip_prefix('/')) else {
            return false;
        };
        match self {
            Self::Zero => false,
            Self::One => !below.contains('/'),
            Self::Infinity => true,
        }
    }
}

/// Writes `* METADATA INBOX (/private/comment "My comment" /shared/x NIL)`. Nothing if there are no entries.
pub fn write(
    mailbox: &str,
    entries: &[(&str, Option<&[u8]>)],
    dialect: Dialect,
    out: &mut Vec<u8>,
) {
    if entries.is_empty() {
        return;
    }
    out.extend_from_slice(b"* METADATA ");
    write::mailbox_name(mailbox, dialect, out);
    out.extend_from_slice(b" (");
    for (index, (name, value)) in entries.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        write_name(name, out);
        out.push(b' ');
        match value {
            None => out.extend_from_slice(b"NIL"),
            // RFC 5464 §5: value = nstring / literal8; only the latter may hold NUL.
            Some(value) if value.contains(&0) => {
                out.push(b'~');
                write::literal_begin(value.len() as u64, out);
                out.extend_from_slice(value);
            }
            Some(value) => write_string(value, out),
        }
    }
    out.extend_from_slice(b")\r\n");
}

/// Writes `* METADATA INBOX /private/comment`: that an entry has changed.
// RFC 5464 §4.4.2.
pub fn write_changed(mailbox: &str, entry: &str, dialect: Dialect, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* METADATA ");
    write::mailbox_name(mailbox, dialect, out);
    out.push(b' ');
    write_name(entry, out);
    out.extend_from_slice(b"\r\n");
}

// RFC 5464 §5: entry = astring.
fn write_name(name: &str, out: &mut Vec<u8>) {
    if !name.is_empty() && name.bytes().all(crate::parse::is_atom_char) {
        out.extend_from_slice(name.as_bytes());
    } else {
        write_string(name.as_bytes(), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_levels() {
        let means = |depth: Depth, entry: &str| depth.means("/shared/a", entry);
        for (entry, expected) in [
            ("/shared/a", [true, true, true]),
            ("/shared/a/b", [false, true, true]),
            ("/shared/a/b/c", [false, false, true]),
            ("/shared/ab", [false, false, false]),
            ("/shared", [false, false, false]),
        ] {
            let found = [Depth::Zero, Depth::One, Depth::Infinity].map(|depth| means(depth, entry));
            assert_eq!(found, expected, "{entry}");
        }
    }

    #[test]
    fn entries_are_written_as_strings_literals_or_nil() {
        let mut out = Vec::new();
        write("", &[], Dialect::REV1, &mut out);
        let entries: [(&str, Option<&[u8]>); 4] = [
            ("/shared/comment", Some(b"a \"b\"")),
            ("/private/a b", None),
            ("/private/c", Some(b"1\r\n2")),
            ("/private/d", Some(b"\0")),
        ];
        write("", &entries, Dialect::REV1, &mut out);
        let expected = b"* METADATA \"\" (/shared/comment \"a \\\"b\\\"\" \"/private/a b\" NIL /private/c {4}\r\n1\r\n2 /private/d ~{1}\r\n\0)\r\n";
        assert_eq!(out, expected);
    }
}
