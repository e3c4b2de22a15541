//! Reads GETQUOTA, GETQUOTAROOT and SETQUOTA.

use alloc::string::String;

use crate::command::Command;

use super::cursor::{Cursor, Result};
use super::mailbox;

// RFC 9208 §7: quota-root-name = astring.
fn root(cursor: &mut Cursor<'_>) -> Result<String> {
    cursor.text("expected a quota root")
}

pub(super) fn get(cursor: &mut Cursor<'_>) -> Result<Command> {
    Ok(Command::GetQuota(root(cursor)?))
}

pub(super) fn get_root(cursor: &mut Cursor<'_>) -> Result<Command> {
    Ok(Command::GetQuotaRoot(mailbox(cursor)?))
}

// RFC 9208 §7: setquota-list = "(" [setquota-resource *(SP setquota-resource)] ")". Nothing of it is kept: nobody may.
pub(super) fn set(cursor: &mut Cursor<'_>) -> Result<Command> {
    root(cursor)?;
    cursor.space()?;
    cursor.list(|cursor| {
        cursor.atom("expected a resource like STORAGE")?;
        cursor.space()?;
        cursor.number().map(|_| ())
    })?;
    Ok(Command::SetQuota)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn quota_commands_are_read_strictly() {
        let read = |line: &[u8]| parse::request(line).map(|request| request.command);
        assert_eq!(
            read(b"a GETQUOTA \"\""),
            Ok(Command::GetQuota(String::new()))
        );
        assert_eq!(
            read(b"a getquotaroot inbox"),
            Ok(Command::GetQuotaRoot("INBOX".into()))
        );
        for right in ["\"\" ()", "root (STORAGE 512 MESSAGE 5)"] {
            let line = alloc::format!("a SETQUOTA {right}");
            assert_eq!(read(line.as_bytes()), Ok(Command::SetQuota), "{right}");
        }
        for wrong in [
            "GETQUOTA",
            "GETQUOTA a b",
            "GETQUOTAROOT",
            "GETQUOTAROOT &&",
            "SETQUOTA \"\"",
            "SETQUOTA \"\" STORAGE 1",
            "SETQUOTA \"\" (STORAGE)",
            "SETQUOTA \"\" (STORAGE -1)",
            "SETQUOTA \"\" (STORAGE 1 )",
            "SETQUOTA (STORAGE 1)",
        ] {
            assert!(
                read(alloc::format!("a {wrong}").as_bytes()).is_err(),
                "{wrong}"
            );
        }
    }
}
