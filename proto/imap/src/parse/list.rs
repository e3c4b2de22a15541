//! Reads LIST and STATUS.

use alloc::vec;
use alloc::vec::Vec;

use crate::command::{Command, List, Selection, StatusItem, Told};

use super::cursor::{Cursor, Result};
use super::{mailbox, metadata, pattern};

/// Each is looked at for each name.
const MAX_PATTERNS: usize = 20;

// RFC 5258 §6: list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts].
pub(super) fn list(cursor: &mut Cursor<'_>) -> Result<List> {
    let mut list = List::default();
    if cursor.peek() == Some(b'(') {
        list.is_extended = true;
        list.selection = selection(cursor)?;
        cursor.space()?;
    }
    list.reference = mailbox(cursor)?;
    cursor.space()?;
    list.patterns = match cursor.peek() {
        Some(b'(') => {
            list.is_extended = true;
            cursor.list(pattern)?
        }
        _ => vec![pattern(cursor)?],
    };
    if list.patterns.is_empty() || list.patterns.len() > MAX_PATTERNS {
        return cursor.fail("expected some patterns, but not many");
    }
    if cursor.accept(b' ') {
        if !cursor.accept_word("RETURN ") {
            return cursor.fail("expected RETURN");
        }
        list.is_extended = true;
        list.told = told(cursor)?;
    }
    Ok(list)
}

fn selection(cursor: &mut Cursor<'_>) -> Result<Selection> {
    let start = cursor.clone();
    let mut selection = Selection::default();
    cursor.list(|cursor| {
        let start = cursor.clone();
        match cursor.word("expected an option of LIST")?.as_str() {
            "SUBSCRIBED" => selection.subscribed = true,
            "SPECIAL-USE" => selection.special_use = true,
            "RECURSIVEMATCH" => selection.recursive = true,
            "REMOTE" => {}
            _ => return start.fail("unknown option of LIST"),
        }
        Ok(())
    })?;
    // RFC 5258 §3.1.
    if selection.recursive && !selection.subscribed && !selection.special_use {
        return start.fail("RECURSIVEMATCH goes with SUBSCRIBED or SPECIAL-USE");
    }
    Ok(selection)
}

fn told(cursor: &mut Cursor<'_>) -> Result<Told> {
    let mut told = Told::default();
    cursor.list(|cursor| {
        let start = cursor.clone();
        match cursor.word("expected an option of LIST")?.as_str() {
            "SUBSCRIBED" => told.subscribed = true,
            "CHILDREN" | "SPECIAL-USE" => {}
            "STATUS" if told.status.is_empty() => {
                cursor.space()?;
                told.status = items(cursor)?;
            }
            "MYRIGHTS" => told.rights = true,
            "METADATA" if told.metadata.is_empty() => {
                cursor.space()?;
                told.metadata = metadata::entries(cursor)?;
            }
            _ => return start.fail("unknown option of LIST"),
        }
        Ok(())
    })?;
    Ok(told)
}

pub(super) fn status(cursor: &mut Cursor<'_>) -> Result<Command> {
    let mailbox = mailbox(cursor)?;
    cursor.space()?;
    let items = items(cursor)?;
    Ok(Command::Status { mailbox, items })
}

fn items(cursor: &mut Cursor<'_>) -> Result<Vec<StatusItem>> {
    let items = cursor.list(|cursor| {
        let start = cursor.clone();
        Ok(match cursor.word("expected an item of STATUS")?.as_str() {
            "MESSAGES" => StatusItem::Messages,
            // RFC 9051 §6.3.11: no such item.
            "RECENT" if cursor.dialect().rev2 => {
                return start.fail("RECENT is not in IMAP4rev2");
            }
            "RECENT" => StatusItem::Recent,
            "UIDNEXT" => StatusItem::UidNext,
            "UIDVALIDITY" => StatusItem::UidValidity,
            "UNSEEN" => StatusItem::Unseen,
            "HIGHESTMODSEQ" => StatusItem::HighestModSeq,
            "SIZE" => StatusItem::Size,
            "DELETED" => StatusItem::Deleted,
            "DELETED-STORAGE" => StatusItem::DeletedStorage,
            "MAILBOXID" => StatusItem::MailboxId,
            "APPENDLIMIT" => StatusItem::AppendLimit,
            _ => return start.fail("unknown item of STATUS"),
        })
    })?;
    if items.is_empty() {
        return cursor.fail("expected an item of STATUS");
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::parse;

    fn read(arguments: &str) -> core::result::Result<List, &'static str> {
        let line = format!("a LIST {arguments}");
        match parse::request(line.as_bytes()) {
            Ok(request) => match request.command {
                Command::List(list) => Ok(list),
                other => Err(other.name()),
            },
            Err(bad) => Err(bad.error.reason),
        }
    }

    #[test]
    fn a_list_has_options_patterns_and_what_is_told() {
        let plain = read("\"\" *").unwrap();
        assert!(!plain.is_extended && plain.told == Told::default());
        let full = "(subscribed RECURSIVEMATCH REMOTE) \"\" (% a/* INBOX) RETURN (SUBSCRIBED CHILDREN STATUS (UNSEEN SIZE))";
        let list = read(full).unwrap();
        assert!(list.is_extended && list.selection.subscribed && list.selection.recursive);
        assert_eq!(list.patterns, ["%", "a/*", "INBOX"]);
        assert!(list.told.subscribed);
        assert_eq!(list.told.status, [StatusItem::Unseen, StatusItem::Size]);
        assert!(read("() \"\" % RETURN ()").unwrap().is_extended);
        for wrong in [
            "(RECURSIVEMATCH) \"\" *",
            "(RECURSIVEMATCH REMOTE) \"\" *",
            "\"\" ()",
            "\"\" * RETURN (STATUS)",
            "\"\" * RETURN (STATUS ())",
            "\"\" * RETURN (STATUS (UNSEEN) STATUS (SIZE))",
            "\"\" * RETURN",
            "(NEW) \"\" *",
            "\"\" (a a a a a a a a a a a a a a a a a a a a a)",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
