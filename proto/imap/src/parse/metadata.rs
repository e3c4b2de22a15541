//! Reads GETMETADATA, SETMETADATA, and what LIST is to tell of them.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::command::Command;
use crate::metadata::{Depth, Get, Set};

use super::cursor::{Cursor, Result};
use super::mailbox;

/// Each is looked for among all there are.
const MAX_ENTRIES: usize = 100;
const MAX_NAME: usize = 255;

// RFC 5464 §5: getmetadata = "GETMETADATA" [SP getmetadata-options] SP mailbox SP entries. The examples of §4.2 have the options
// behind the mailbox, and so have clients.
pub(super) fn get(cursor: &mut Cursor<'_>) -> Result<Command> {
    let mut get = Get {
        mailbox: String::new(),
        entries: Vec::new(),
        depth: Depth::Zero,
        max_size: None,
    };
    let is_first = cursor.peek() == Some(b'(');
    if is_first {
        options(cursor, &mut get)?;
        cursor.space()?;
    }
    get.mailbox = mailbox(cursor)?;
    cursor.space()?;
    if !is_first && are_options(cursor) {
        options(cursor, &mut get)?;
        cursor.space()?;
    }
    get.entries = entries(cursor)?;
    Ok(Command::GetMetadata(get))
}

// The name of an entry begins with a slash, that of an option does not.
fn are_options(cursor: &Cursor<'_>) -> bool {
    matches!(cursor.rest(), [b'(', first, ..] if first.is_ascii_alphabetic())
}

fn options(cursor: &mut Cursor<'_>, get: &mut Get) -> Result<()> {
    let (mut has_size, mut has_depth) = (false, false);
    let found = cursor.list(|cursor| {
        let start = cursor.clone();
        let word = cursor.word("expected MAXSIZE or DEPTH")?;
        cursor.space()?;
        match word.as_str() {
            "MAXSIZE" if !has_size => {
                has_size = true;
                get.max_size = Some(cursor.number()?);
            }
            "DEPTH" if !has_depth => {
                has_depth = true;
                get.depth = match cursor.word("expected 0, 1 or infinity")?.as_str() {
                    "0" => Depth::Zero,
                    "1" => Depth::One,
                    "INFINITY" => Depth::Infinity,
                    _ => return cursor.fail("expected 0, 1 or infinity"),
                };
            }
            _ => return start.fail("expected MAXSIZE or DEPTH, each once"),
        }
        Ok(())
    })?;
    if found.is_empty() {
        return cursor.fail("expected MAXSIZE or DEPTH");
    }
    Ok(())
}

// RFC 5464 §5: entries = entry / "(" entry *(SP entry) ")".
pub(super) fn entries(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    let entries = match cursor.peek() {
        Some(b'(') => cursor.list(entry)?,
        _ => vec![entry(cursor)?],
    };
    if entries.is_empty() || entries.len() > MAX_ENTRIES {
        return cursor.fail("expected some entries, but not many");
    }
    Ok(entries)
}

// RFC 5464 §3.2: a path in printable ASCII, compared without case, without wildcards or empty levels.
fn entry(cursor: &mut Cursor<'_>) -> Result<String> {
    let start = cursor.clone();
    let mut name = cursor.text("expected an entry like /private/comment")?;
    name.make_ascii_lowercase();
    let levels = name.strip_prefix('/').unwrap_or_default();
    let is_fine = |byte: u8| (b' '..=b'~').contains(&byte) && !b"*%".contains(&byte);
    let is_path = levels.split('/').all(|level| !level.is_empty());
    if !is_path || !name.bytes().all(is_fine) || name.len() > MAX_NAME {
        return start.fail("this cannot be the name of an entry");
    }
    if !matches!(levels.split('/').next(), Some("private" | "shared")) {
        return start.fail("entries are below /private or /shared");
    }
    Ok(name)
}

// RFC 5464 §5: setmetadata = "SETMETADATA" SP mailbox SP "(" entry SP value *(SP entry SP value) ")".
pub(super) fn set(cursor: &mut Cursor<'_>) -> Result<Command> {
    let mailbox = mailbox(cursor)?;
    cursor.space()?;
    let changes = cursor.list(|cursor| {
        let start = cursor.clone();
        let name = entry(cursor)?;
        if name.matches('/').count() < 2 {
            return start.fail("this is no entry, but a level above them");
        }
        cursor.space()?;
        Ok((name, cursor.value("expected a string or NIL")?))
    })?;
    if changes.is_empty() || changes.len() > MAX_ENTRIES {
        return cursor.fail("expected some entries, but not many");
    }
    Ok(Command::SetMetadata(Set { mailbox, changes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn read(line: &str) -> core::result::Result<Command, &'static str> {
        let line = alloc::format!("a {line}");
        let request = parse::request(line.as_bytes());
        request
            .map(|request| request.command)
            .map_err(|bad| bad.error.reason)
    }

    #[test]
    fn options_may_stand_on_either_side_of_the_mailbox() {
        let expected = Command::GetMetadata(Get {
            mailbox: "INBOX".into(),
            entries: ["/shared/comment".into(), "/private/a b".into()].into(),
            depth: Depth::Infinity,
            max_size: Some(1024),
        });
        for line in [
            "GETMETADATA (MAXSIZE 1024 DEPTH infinity) inbox (/shared/comment \"/private/A b\")",
            "GETMETADATA inbox (depth INFINITY maxsize 1024) (/Shared/Comment \"/private/a b\")",
        ] {
            assert_eq!(read(line).as_ref(), Ok(&expected), "{line}");
        }
        for wrong in [
            "GETMETADATA INBOX",
            "GETMETADATA INBOX ()",
            "GETMETADATA () INBOX /shared/a",
            "GETMETADATA (DEPTH 2) INBOX /shared/a",
            "GETMETADATA (DEPTH 1 DEPTH 1) INBOX /shared/a",
            "GETMETADATA (MAXSIZE) INBOX /shared/a",
            "GETMETADATA (DEPTH 1) INBOX (DEPTH 1) /shared/a",
            "GETMETADATA INBOX /shared/*",
            "GETMETADATA INBOX /shared/a%",
            "GETMETADATA INBOX /shared/a/",
            "GETMETADATA INBOX /shared//a",
            "GETMETADATA INBOX /",
            "GETMETADATA INBOX /public/a",
            "GETMETADATA INBOX shared/a",
            "GETMETADATA INBOX \"/shared/\u{e9}\"",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_are_strings_literals_or_nil() {
        let line = "SETMETADATA \"\" (/private/a \"x\" /private/b NIL /private/c {2}\r\nyz /private/d ~{1}\r\n\0)";
        let change = |name: &str, value: Option<&[u8]>| (name.into(), value.map(Vec::from));
        let changes = [
            change("/private/a", Some(b"x")),
            change("/private/b", None),
            change("/private/c", Some(b"yz")),
            change("/private/d", Some(b"\0")),
        ];
        let mailbox = String::new();
        let changes = changes.into();
        assert_eq!(
            read(line),
            Ok(Command::SetMetadata(Set { mailbox, changes }))
        );
        for wrong in [
            "SETMETADATA INBOX",
            "SETMETADATA INBOX ()",
            "SETMETADATA INBOX (/private/a)",
            "SETMETADATA INBOX (/private/a x)",
            "SETMETADATA INBOX /private/a NIL",
            "SETMETADATA INBOX (/private NIL)",
            "SETMETADATA INBOX (/private/a NILs)",
            "SETMETADATA INBOX (/private/a {1}\r\n\0)",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
