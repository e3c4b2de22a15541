//! Reads what RFC 7162 adds to SELECT, FETCH, STORE, SEARCH and ENABLE.

use alloc::vec::Vec;

use crate::sequence::SequenceSet;
use crate::sync::{Extension, MAX_MODSEQ, Resync};

use super::cursor::{Cursor, Result};
use super::sequence_set;

/// The parameters of SELECT: whether CONDSTORE is among them, and QRESYNC.
// RFC 4466 §2.1: select-params = SP "(" select-param *(SP select-param) ")".
pub(super) fn select(cursor: &mut Cursor<'_>) -> Result<(bool, Option<Resync>)> {
    let (mut condstore, mut resync) = (false, None);
    if !cursor.accept(b' ') {
        return Ok((condstore, resync));
    }
    let parameters = cursor.list(|cursor| {
        let start = cursor.clone();
        match cursor.word("expected a parameter of SELECT")?.as_str() {
            "CONDSTORE" if !condstore => condstore = true,
            "QRESYNC" if resync.is_none() => {
                cursor.space()?;
                resync = Some(self::resync(cursor)?);
            }
            "CONDSTORE" | "QRESYNC" => return start.fail("this parameter was given already"),
            _ => return start.fail("parameters of SELECT are CONDSTORE and QRESYNC"),
        }
        Ok(())
    })?;
    if parameters.is_empty() {
        return cursor.fail("expected a parameter of SELECT");
    }
    Ok((condstore, resync))
}

// RFC 7162 §7: select-param =/ "QRESYNC" SP "(" uidvalidity SP mod-sequence-value [SP known-uids] [SP seq-match-data] ")".
fn resync(cursor: &mut Cursor<'_>) -> Result<Resync> {
    cursor.expect(b'(', "expected (")?;
    let uid_validity = cursor.nonzero()?;
    cursor.space()?;
    let modseq = modseq(cursor)?;
    let mut known = None;
    let mut blank = cursor.accept(b' ');
    if blank && cursor.peek() != Some(b'(') {
        known = Some(named_set(cursor)?);
        blank = cursor.accept(b' ');
    }
    if blank {
        // Which number a UID had helps servers that forget what is gone; this one says all that is gone of what is known.
        cursor.expect(b'(', "expected (")?;
        named_set(cursor)?;
        cursor.space()?;
        named_set(cursor)?;
        cursor.expect(b')', "expected )")?;
    }
    cursor.expect(b')', "expected )")?;
    Ok(Resync {
        uid_validity,
        modseq,
        known,
        names_numbers: blank,
    })
}

// RFC 7162 §7: "*" is not allowed here, RFC 5182 knows nothing of it.
fn named_set(cursor: &mut Cursor<'_>) -> Result<SequenceSet> {
    let start = cursor.clone();
    let set = sequence_set(cursor)?;
    if set.names_last() || set == SequenceSet::Saved {
        return start.fail("* and $ mean nothing here");
    }
    Ok(set)
}

/// What comes before the flags of STORE.
// RFC 7162 §3.1.3: STORE 1 (UNCHANGEDSINCE 12345) FLAGS (\Seen).
pub(super) fn store(cursor: &mut Cursor<'_>) -> Result<Option<u64>> {
    if cursor.peek() != Some(b'(') {
        return Ok(None);
    }
    let mut conditions = cursor.list(|cursor| {
        if !cursor.accept_word("UNCHANGEDSINCE ") {
            return cursor.fail("expected UNCHANGEDSINCE");
        }
        modseq(cursor)
    })?;
    let condition = conditions.pop();
    if condition.is_none() || !conditions.is_empty() {
        return cursor.fail("expected one UNCHANGEDSINCE");
    }
    cursor.space()?;
    Ok(condition)
}

/// The argument of SEARCH MODSEQ. There is one sequence for all flags, so which of them is meant does not matter.
// RFC 7162 §3.1.5: search-modsequence = "MODSEQ" [SP entry-name SP entry-type-req] SP mod-sequence-valzer.
pub(super) fn search(cursor: &mut Cursor<'_>) -> Result<u64> {
    if cursor.peek() == Some(b'"') {
        let name = cursor.string("expected the name of a flag")?;
        if !name.starts_with(b"/flags/") {
            return cursor.fail("expected a name like \"/flags/\\\\draft\"");
        }
        cursor.space()?;
        let start = cursor.clone();
        if !matches!(
            cursor.word("expected all, priv or shared")?.as_str(),
            "ALL" | "PRIV" | "SHARED"
        ) {
            return start.fail("expected all, priv or shared");
        }
        cursor.space()?;
    }
    modseq(cursor)
}

pub(super) fn modseq(cursor: &mut Cursor<'_>) -> Result<u64> {
    let start = cursor.clone();
    match cursor.number()? {
        modseq if modseq <= MAX_MODSEQ => Ok(modseq),
        _ => start.fail("the modification sequence is too large"),
    }
}

// RFC 5161 §3.1: what is not known is ignored.
pub(super) fn enable(cursor: &mut Cursor<'_>) -> Result<Vec<Extension>> {
    let mut extensions = Vec::new();
    loop {
        let name = cursor.atom("expected a capability")?;
        match name.to_ascii_uppercase().as_str() {
            "CONDSTORE" => extensions.push(Extension::CondStore),
            "QRESYNC" => extensions.push(Extension::QResync),
            "UTF8=ACCEPT" => extensions.push(Extension::Utf8Accept),
            "IMAP4REV2" => extensions.push(Extension::Rev2),
            "UIDONLY" => extensions.push(Extension::UidOnly),
            _ => {}
        }
        if !cursor.accept(b' ') {
            return Ok(extensions);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;
    use crate::command::{Command, FetchItem};
    use crate::dialect::Dialect;
    use crate::parse;
    use crate::search::Key;
    use crate::sync::ChangedSince;

    fn read(command: &str) -> core::result::Result<Command, &'static str> {
        let line = format!("a {command}");
        let request = parse::request(line.as_bytes());
        request
            .map(|request| request.command)
            .map_err(|bad| bad.error.reason)
    }

    // RFC 7162 §3.1.8, §3.2.5.
    #[test]
    fn select_takes_condstore_and_what_is_known_from_before() {
        let select = |parameters: &str| match read(&format!("SELECT INBOX{parameters}")) {
            Ok(Command::Select {
                condstore, resync, ..
            }) => Ok((condstore, resync)),
            Ok(other) => Err(other.name()),
            Err(reason) => Err(reason),
        };
        assert_eq!(select(""), Ok((false, None)));
        assert_eq!(select(" (condstore)"), Ok((true, None)));
        let known = |known: Option<&str>, names_numbers| Resync {
            uid_validity: 67_890_007,
            modseq: 20_050_715_194_045_000,
            known: known.map(|set| {
                let mut cursor = Cursor::new(set.as_bytes(), Dialect::REV1);
                sequence_set(&mut cursor).unwrap()
            }),
            names_numbers,
        };
        let first = " (QRESYNC (67890007 20050715194045000";
        for (rest, set, numbers) in [
            ("))", None, false),
            (" 41,43:211,214:541))", Some("41,43:211,214:541"), false),
            (" 1:29997 (1,10 2,20)))", Some("1:29997"), true),
            (" (1,10 2,20)))", None, true),
        ] {
            let expected = Ok((false, Some(known(set, numbers))));
            assert_eq!(select(&format!("{first}{rest}")), expected, "{rest}");
        }
        for wrong in [
            " ()",
            " (QRESYNC)",
            " (QRESYNC (1))",
            " (QRESYNC (0 1))",
            " (QRESYNC (1 1 *))",
            " (QRESYNC (1 1 1:* ))",
            " (QRESYNC (1 1 (1)))",
            " (QRESYNC (1 9223372036854775808))",
            " (CONDSTORE CONDSTORE)",
            " (ANNOTATE)",
            " CONDSTORE",
        ] {
            assert!(select(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn fetch_takes_a_beginning_and_vanished_only_by_uid() {
        let fetch = |command: &str| match read(command) {
            Ok(Command::Fetch {
                items,
                changed_since,
                ..
            }) => Ok((items, changed_since)),
            Ok(other) => Err(other.name()),
            Err(reason) => Err(reason),
        };
        let since = |vanished| ChangedSince {
            modseq: 12345,
            vanished,
        };
        let (items, changed_since) =
            fetch("FETCH 1:* (FLAGS MODSEQ) (CHANGEDSINCE 12345)").unwrap();
        assert_eq!(items, vec![FetchItem::Flags, FetchItem::ModSeq]);
        assert_eq!(changed_since, Some(since(false)));
        let (items, changed_since) =
            fetch("UID FETCH 300:500 FAST (CHANGEDSINCE 12345 VANISHED)").unwrap();
        assert_eq!(items.len(), 3);
        assert_eq!(changed_since, Some(since(true)));
        for wrong in [
            "FETCH 1 FLAGS (CHANGEDSINCE 12345 VANISHED)",
            "UID FETCH 1 FLAGS (VANISHED)",
            "UID FETCH 1 FLAGS ()",
            "UID FETCH 1 FLAGS (CHANGEDSINCE)",
            "UID FETCH 1 FLAGS (CHANGEDSINCE 1 CHANGEDSINCE 2)",
            "UID FETCH 1 FLAGS CHANGEDSINCE 1",
        ] {
            assert!(fetch(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn store_takes_one_condition() {
        let store = |command: &str| match read(command) {
            Ok(Command::Store {
                unchanged_since, ..
            }) => Ok(unchanged_since),
            Ok(other) => Err(other.name()),
            Err(reason) => Err(reason),
        };
        let conditional = "STORE 7,5,9 (UNCHANGEDSINCE 320162338) +FLAGS.SILENT (\\Deleted)";
        assert_eq!(store(conditional), Ok(Some(320_162_338)));
        assert_eq!(store("STORE 1 (unchangedsince 0) FLAGS ()"), Ok(Some(0)));
        assert_eq!(store("STORE 1 FLAGS (\\Seen)"), Ok(None));
        for wrong in [
            "STORE 1 () FLAGS ()",
            "STORE 1 (UNCHANGEDSINCE 1 UNCHANGEDSINCE 2) FLAGS ()",
            "STORE 1 (UNCHANGEDSINCE) FLAGS ()",
            "STORE 1 (UNCHANGEDSINCE 9223372036854775808) FLAGS ()",
        ] {
            assert!(store(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn search_takes_a_modification_sequence_with_or_without_the_name_of_a_flag() {
        let search = |command: &str| match read(command) {
            Ok(Command::Search { key, .. }) => Ok(key),
            Ok(other) => Err(other.name().to_string()),
            Err(reason) => Err(reason.to_string()),
        };
        let found = Key::And(vec![Key::ModSeq(620_162_338)]);
        assert_eq!(search("SEARCH MODSEQ 620162338"), Ok(found.clone()));
        let named = "SEARCH MODSEQ \"/flags/\\\\draft\" all 620162338";
        assert_eq!(search(named), Ok(found));
        for wrong in [
            "SEARCH MODSEQ",
            "SEARCH MODSEQ \"/comment\" all 1",
            "SEARCH MODSEQ \"/flags/x\" 1",
            "SEARCH MODSEQ \"/flags/x\" mine 1",
        ] {
            assert!(search(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn enable_ignores_what_it_does_not_know() {
        let both = vec![Extension::CondStore, Extension::QResync];
        assert_eq!(
            read("ENABLE condstore X-GOOD-IDEA QRESYNC"),
            Ok(Command::Enable(both))
        );
        assert!(read("ENABLE").is_err());
    }
}
