//! Reads SETACL, DELETEACL, GETACL, LISTRIGHTS and MYRIGHTS.

use alloc::string::String;

use crate::acl::{Acl, Change, Rights};
use crate::command::Command;

use super::cursor::{Cursor, Result};
use super::mailbox;

/// Longest identifier in bytes: an address with a dash in front.
const MAX_IDENTIFIER: usize = 255;

pub(super) fn command(name: &str, cursor: &mut Cursor<'_>) -> Result<Command> {
    let mailbox = mailbox(cursor)?;
    Ok(Command::Acl(match name {
        "GETACL" => Acl::Get(mailbox),
        "MYRIGHTS" => Acl::MyRights(mailbox),
        "DELETEACL" => Acl::Delete {
            mailbox,
            identifier: identifier(cursor)?,
        },
        "LISTRIGHTS" => Acl::ListRights {
            mailbox,
            identifier: identifier(cursor)?,
        },
        _ => {
            let identifier = identifier(cursor)?;
            cursor.space()?;
            let change = change(cursor)?;
            Acl::Set {
                mailbox,
                identifier,
                change,
            }
        }
    }))
}

// RFC 4314 §3, §6: what SASLprep would not let pass is no identifier. Here they are addresses, so it is enough that nothing that
// cannot be in one is taken.
fn identifier(cursor: &mut Cursor<'_>) -> Result<String> {
    cursor.space()?;
    let start = cursor.clone();
    let text = cursor.text("expected an address or \"anyone\"")?;
    let is_odd = |c: char| c.is_control() || c.is_whitespace() && c != ' ';
    if text.trim_start_matches('-').is_empty() || text.chars().any(is_odd) {
        return start.fail("expected an address or \"anyone\"");
    }
    if text.len() > MAX_IDENTIFIER {
        return start.fail("the identifier is too long");
    }
    Ok(text)
}

// RFC 4314 §3.1: a right that is not known, or in upper case, is never passed over.
fn change(cursor: &mut Cursor<'_>) -> Result<Change> {
    let start = cursor.clone();
    let text = cursor.text("expected rights")?;
    let (make, letters): (fn(Rights) -> Change, &str) = match text.as_bytes().first() {
        Some(b'+') => (Change::Add, &text[1..]),
        Some(b'-') => (Change::Remove, &text[1..]),
        _ => (Change::Set, &text),
    };
    match Rights::parse(letters) {
        Ok(rights) => Ok(make(rights)),
        Err(letter) if letter.is_uppercase() => start.fail("uppercase rights are not allowed"),
        Err(_) => start.fail("there is no such right; rights are lrswipkxtea, and c and d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn acl_commands_are_read_strictly() {
        let read = |line: &str| {
            let line = alloc::format!("a {line}");
            parse::request(line.as_bytes()).map(|request| request.command)
        };
        let set = |identifier: &str, change| {
            Ok(Command::Acl(Acl::Set {
                mailbox: "INBOX/Drafts".into(),
                identifier: identifier.into(),
                change,
            }))
        };
        let rights = |letters| Rights::parse(letters).unwrap();
        assert_eq!(
            read("SetAcl INBOX/Drafts David lrswida"),
            set("David", Change::Set(rights("lrswitea")))
        );
        assert_eq!(
            read("SETACL INBOX/Drafts Chris +cda"),
            set("Chris", Change::Add(rights("kxtea")))
        );
        assert_eq!(
            read("SETACL INBOX/Drafts -bob@a -c"),
            set("-bob@a", Change::Remove(rights("kx")))
        );
        assert_eq!(
            read("SETACL INBOX/Drafts \"b b\" \"\""),
            set("b b", Change::Set(Rights(0)))
        );
        assert_eq!(
            read("MYRIGHTS inbox"),
            Ok(Command::Acl(Acl::MyRights("INBOX".into())))
        );
        for wrong in [
            "SETACL INBOX John lrQswicda",
            "SETACL INBOX John lrqswicda",
            "SETACL INBOX John",
            "SETACL INBOX John l r",
            "SETACL INBOX \"\" l",
            "SETACL INBOX - l",
            "SETACL INBOX \"a\tb\" l",
            "SETACL INBOX John +-l",
            "DELETEACL INBOX",
            "GETACL",
            "GETACL a b",
            "LISTRIGHTS a",
            "MYRIGHTS",
            "MYRIGHTS a b",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
