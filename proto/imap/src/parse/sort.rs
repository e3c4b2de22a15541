//! Reads SORT and THREAD.

use alloc::vec::Vec;

use crate::command::{Command, Numbering};
use crate::sort::{Criterion, SortKey};
use crate::thread::Algorithm;

use super::cursor::{Cursor, Result};
use super::search;

// RFC 5256 §5: sort = ["UID" SP] "SORT" SP sort-criteria SP search-criteria; RFC 5267 §5: with RETURN before them.
pub(super) fn sort(by: Numbering, cursor: &mut Cursor<'_>) -> Result<Command> {
    let results = search::results(cursor)?;
    let criteria = criteria(cursor)?;
    cursor.space()?;
    let charset = search::charset(cursor)?;
    cursor.space()?;
    let key = search::keys(cursor)?;
    search::check_relevancy(results, &criteria, &key, cursor)?;
    Ok(Command::Sort {
        by,
        results,
        criteria,
        charset,
        key,
    })
}

/// The criteria. One that was named before decides nothing, and is left out.
fn criteria(cursor: &mut Cursor<'_>) -> Result<Vec<Criterion>> {
    let mut criteria: Vec<Criterion> = Vec::new();
    let named = cursor.list(|cursor| {
        let reverse = cursor.accept_word("REVERSE ");
        let key = sort_key(cursor)?;
        if criteria.iter().all(|known| known.key != key) {
            criteria.push(Criterion { key, reverse });
        }
        Ok(())
    })?;
    if named.is_empty() {
        return cursor.fail("expected a sort criterion");
    }
    Ok(criteria)
}

fn sort_key(cursor: &mut Cursor<'_>) -> Result<SortKey> {
    let start = cursor.clone();
    Ok(match cursor.word("expected a sort criterion")?.as_str() {
        "ARRIVAL" => SortKey::Arrival,
        "CC" => SortKey::Cc,
        "DATE" => SortKey::Date,
        "DISPLAYFROM" => SortKey::DisplayFrom,
        "DISPLAYTO" => SortKey::DisplayTo,
        "FROM" => SortKey::From,
        "RELEVANCY" => SortKey::Relevancy,
        "SIZE" => SortKey::Size,
        "SUBJECT" => SortKey::Subject,
        "TO" => SortKey::To,
        _ => {
            return start.fail(
                "criteria are ARRIVAL, CC, DATE, DISPLAYFROM, DISPLAYTO, FROM, RELEVANCY, SIZE, SUBJECT and TO",
            );
        }
    })
}

// RFC 5256 §5: thread = ["UID" SP] "THREAD" SP thread-alg SP search-criteria.
pub(super) fn thread(by: Numbering, cursor: &mut Cursor<'_>) -> Result<Command> {
    let start = cursor.clone();
    let algorithm = match cursor.word("expected a way to make threads")?.as_str() {
        "ORDEREDSUBJECT" => Algorithm::OrderedSubject,
        "REFERENCES" => Algorithm::References,
        "REFS" => Algorithm::Refs,
        _ => return start.fail("threads are made by ORDEREDSUBJECT, REFERENCES or REFS"),
    };
    cursor.space()?;
    let charset = search::charset(cursor)?;
    cursor.space()?;
    Ok(Command::Thread {
        by,
        algorithm,
        charset,
        key: search::keys(cursor)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{SyntaxError, request};
    use super::*;
    use alloc::format;

    fn parse(text: &str) -> core::result::Result<Command, SyntaxError> {
        let parsed = request(format!("a {text}").as_bytes());
        parsed.map(|found| found.command).map_err(|bad| bad.error)
    }

    fn criterion(key: SortKey, reverse: bool) -> Criterion {
        Criterion { key, reverse }
    }

    // RFC 5256 §3, RFC 5267 §3.
    #[test]
    fn sorts_are_read() {
        let Ok(Command::Sort {
            by,
            results,
            criteria,
            charset,
            ..
        }) = parse("uid sort (subject REVERSE date Subject) utf-8 ALL")
        else {
            panic!("no sort");
        };
        assert_eq!(
            (by, results, charset.as_str()),
            (Numbering::Uid, None, "UTF-8")
        );
        let expected = [
            criterion(SortKey::Subject, false),
            criterion(SortKey::Date, true),
        ];
        assert_eq!(criteria, expected);
        let Ok(Command::Sort { results, .. }) =
            parse("SORT RETURN (PARTIAL 23500:24000 COUNT) (REVERSE DATE) UTF-8 UNDELETED")
        else {
            panic!("no sort");
        };
        assert!(results.is_some_and(|wanted| wanted.count && wanted.partial.is_some()));
    }

    #[test]
    fn threads_are_read() {
        let Ok(Command::Thread { algorithm, .. }) =
            parse("THREAD references \"US-ASCII\" SINCE 5-MAR-2000 NOT TEXT x")
        else {
            panic!("no thread");
        };
        assert_eq!(algorithm, Algorithm::References);
    }

    #[test]
    fn what_is_not_right_is_refused() {
        for text in [
            "SORT () UTF-8 ALL",
            "SORT (DATE) ALL",
            "SORT (DATE) UTF-8",
            "SORT DATE UTF-8 ALL",
            "SORT (REVERSE) UTF-8 ALL",
            "SORT (REVERSE REVERSE DATE) UTF-8 ALL",
            "SORT (BCC) UTF-8 ALL",
            "SORT (RELEVANCY) UTF-8 SUBJECT x",
            "SORT RETURN (RELEVANCY) (DATE) UTF-8 SUBJECT x",
            "SEARCH RETURN (RELEVANCY) SUBJECT x",
            "SEARCH FUZZY",
            "SEARCH FUZZY ()",
            "SORT RETURN (DATE) UTF-8 ALL",
            "THREAD REFERENCES ALL",
            "THREAD JWZ UTF-8 ALL",
            "THREAD (REFERENCES) UTF-8 ALL",
            "THREAD RETURN (ALL) REFERENCES UTF-8 ALL",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
