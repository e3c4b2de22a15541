//! Reads ESEARCH (RFC 7377 §3).

use alloc::vec::Vec;

use crate::command::Command;
use crate::multisearch::{MAX_NAMES, MAX_SOURCES, MultiSearch, Source};

use super::cursor::{Cursor, Result};
use super::notify::names;
use super::search;

// esearch = "ESEARCH" [SP esearch-source-opts] [SP search-return-opts] SP search-program
pub(super) fn esearch(cursor: &mut Cursor<'_>) -> Result<Command> {
    let mut sources = Vec::new();
    if cursor.accept_word("IN ") {
        cursor.expect(b'(', "expected (mailboxes)")?;
        loop {
            let start = cursor.clone();
            sources.push(source(cursor)?);
            let names = sources.iter().map(|source| source.names().len());
            if sources.len() > MAX_SOURCES || names.sum::<usize>() > MAX_NAMES {
                return start.fail("that are too many mailboxes");
            }
            if !cursor.accept(b' ') {
                break;
            }
            // No scope options are defined.
            if cursor.peek() == Some(b'(') {
                return cursor.fail("there are no such options");
            }
        }
        cursor.expect(b')', "expected )")?;
        cursor.space()?;
    } else {
        // §2.1.
        sources.push(Source::Selected);
    }
    let (results, charset, key) = search::program(cursor)?;
    let needs_selected =
        sources.contains(&Source::Selected) || results.is_some_and(|results| results.update);
    Ok(Command::MultiSearch(MultiSearch {
        sources,
        results,
        charset,
        key,
        needs_selected,
    }))
}

fn source(cursor: &mut Cursor<'_>) -> Result<Source> {
    let start = cursor.clone();
    Ok(match cursor.word("expected which mailboxes")?.as_str() {
        // RFC 5465 §6.2: they differ in when things are told, which is nothing here.
        "SELECTED" | "SELECTED-DELAYED" => Source::Selected,
        "INBOXES" => Source::Inboxes,
        "PERSONAL" => Source::Personal,
        "SUBSCRIBED" => Source::Subscribed,
        "SUBTREE" => Source::Subtree(names(cursor)?),
        "SUBTREE-ONE" => Source::SubtreeOne(names(cursor)?),
        "MAILBOXES" => Source::Mailboxes(names(cursor)?),
        _ => return start.fail(
            "mailboxes are selected, inboxes, personal, subscribed, subtree …, subtree-one … and mailboxes …",
        ),
    })
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::*;
    use crate::parse;

    fn read(arguments: &str) -> core::result::Result<MultiSearch, &'static str> {
        let line = format!("a ESEARCH {arguments}");
        match parse::request(line.as_bytes()) {
            Ok(request) => match request.command {
                Command::MultiSearch(search) => Ok(search),
                other => Err(other.name()),
            },
            Err(bad) => Err(bad.error.reason),
        }
    }

    #[test]
    fn sources_are_read_in_order() {
        let search = read(
            "in (mailboxes \"folder1\" subtree-one (a inbox) personal) return (min) charset utf-8 unseen subject x",
        );
        let search = search.unwrap();
        let names = |names: &[&str]| names.iter().map(|name| String::from(*name)).collect();
        assert_eq!(
            search.sources,
            [
                Source::Mailboxes(names(&["folder1"])),
                Source::SubtreeOne(names(&["a", "INBOX"])),
                Source::Personal,
            ]
        );
        assert!(search.results.is_some_and(|results| results.min));
        assert_eq!(search.charset.as_deref(), Some("UTF-8"));
        assert!(!search.needs_selected);
        let search = read("unseen").unwrap();
        assert_eq!(search.sources, [Source::Selected]);
        assert!(search.needs_selected && search.results.is_none());
        assert!(
            read("IN (inboxes selected-delayed) ALL")
                .unwrap()
                .needs_selected
        );
        assert!(
            read("IN (inboxes) RETURN (UPDATE) ALL")
                .unwrap()
                .needs_selected
        );
    }

    #[test]
    fn what_is_not_right_is_refused() {
        for wrong in [
            "",
            "IN",
            "IN () ALL",
            "IN (personal)",
            "IN personal ALL",
            "IN (others) ALL",
            "IN (mailboxes) ALL",
            "IN (mailboxes ()) ALL",
            "IN (personal (depth 1)) ALL",
            "IN (personal ) ALL",
            "IN (personal) RETURN ALL",
            "RETURN () IN (personal) ALL",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let some = |count| format!("IN (mailboxes ({})) ALL", "a ".repeat(count).trim_end());
        assert!(read(&some(MAX_NAMES)).is_ok());
        assert!(read(&some(MAX_NAMES + 1)).is_err());
        let some = |count| format!("IN ({}) ALL", "personal ".repeat(count).trim_end());
        assert!(read(&some(MAX_SOURCES)).is_ok());
        assert!(read(&some(MAX_SOURCES + 1)).is_err());
    }
}
