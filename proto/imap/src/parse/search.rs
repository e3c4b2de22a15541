//! Reads what SEARCH looks for.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::command::{Command, Numbering};
use crate::esearch::{Return, Window};
use crate::flag::Flag;
use crate::search::{Key, MAX_DEPTH, MAX_KEYS, MAX_TEXTS, When};
use crate::sort::{Criterion, SortKey};
use crate::write::{self, Object};

use super::cursor::{Cursor, Result};
use super::{sequence_set, sync};

const RETURNED: &str =
    "expected MIN, MAX, ALL, COUNT, SAVE, CONTEXT, UPDATE, RELEVANCY or one PARTIAL";

// RFC 4731 §4: search = "SEARCH" [SP "RETURN" SP "(" [option *(SP option)] ")"] SP search-program.
pub(super) fn results(cursor: &mut Cursor<'_>) -> Result<Option<Return>> {
    if !cursor.accept_word("RETURN ") {
        return Ok(None);
    }
    let start = cursor.clone();
    let mut wanted = Return::default();
    cursor.list(|cursor| {
        let start = cursor.clone();
        match cursor.word(RETURNED)?.as_str() {
            "MIN" => wanted.min = true,
            "MAX" => wanted.max = true,
            "ALL" => wanted.all = true,
            "COUNT" => wanted.count = true,
            "SAVE" => wanted.save = true,
            "PARTIAL" if wanted.partial.is_none() => {
                cursor.space()?;
                wanted.partial = Some(window(cursor)?);
            }
            "CONTEXT" => wanted.context = true,
            "UPDATE" => wanted.update = true,
            "RELEVANCY" => wanted.relevancy = true,
            _ => return start.fail(RETURNED),
        }
        Ok(())
    })?;
    // RFC 9394 §3.1.
    if wanted.all && wanted.partial.is_some() {
        return start.fail("ALL does not go with PARTIAL");
    }
    cursor.space()?;
    Ok(Some(wanted))
}

/// `1:500`, or `-1:-100` counted from the end.
// RFC 9394 §4: the ends can come in any order.
pub(super) fn window(cursor: &mut Cursor<'_>) -> Result<Window> {
    let from_end = cursor.accept(b'-');
    let first = cursor.nonzero()?;
    cursor.expect(b':', "expected :")?;
    if cursor.accept(b'-') != from_end {
        return cursor.fail("both ends are counted from the same side");
    }
    let last = cursor.nonzero()?;
    Ok(Window {
        first: first.min(last),
        last: first.max(last),
        from_end,
    })
}

// RFC 3501 §6.4.4: search = "SEARCH" [SP "CHARSET" SP astring] 1*(SP search-key).
pub(super) fn arguments(by: Numbering, cursor: &mut Cursor<'_>) -> Result<Command> {
    let (results, charset, key) = program(cursor)?;
    Ok(Command::Search {
        by,
        results,
        charset,
        key,
    })
}

/// What is searched for in which charset, and how the results are wanted.
pub(super) fn program(cursor: &mut Cursor<'_>) -> Result<(Option<Return>, Option<String>, Key)> {
    let results = results(cursor)?;
    let mut charset = None;
    if cursor.accept_word("CHARSET ") {
        charset = Some(self::charset(cursor)?);
        cursor.space()?;
    }
    let key = keys(cursor)?;
    check_relevancy(results, &[], &key, cursor)?;
    Ok((results, charset, key))
}

/// Where nothing is searched for with FUZZY there are no scores.
// RFC 6203 §4, §6.
pub(super) fn check_relevancy(
    results: Option<Return>,
    criteria: &[Criterion],
    key: &Key,
    cursor: &Cursor<'_>,
) -> Result<()> {
    let is_key = |criterion: &Criterion| criterion.key == SortKey::Relevancy;
    let is_wanted = results.is_some_and(|results| results.relevancy) || criteria.iter().any(is_key);
    if is_wanted && !key.is_fuzzy() {
        return cursor.fail("RELEVANCY goes with FUZZY");
    }
    Ok(())
}

// RFC 5267 §5: "CANCELUPDATE" 1*(SP quoted).
pub(super) fn cancel_update(cursor: &mut Cursor<'_>) -> Result<Command> {
    let mut tags = Vec::new();
    loop {
        if cursor.peek() != Some(b'"') {
            return cursor.fail("expected a tag in quotes");
        }
        tags.push(cursor.text("expected a tag in quotes")?);
        if !cursor.accept(b' ') {
            return Ok(Command::CancelUpdate(tags));
        }
    }
}

pub(super) fn charset(cursor: &mut Cursor<'_>) -> Result<String> {
    Ok(cursor.text("expected a charset")?.to_ascii_uppercase())
}

/// Search keys, all of which must match.
pub(super) fn keys(cursor: &mut Cursor<'_>) -> Result<Key> {
    let mut keys = alloc::vec![key(cursor, 0)?];
    while cursor.accept(b' ') {
        keys.push(key(cursor, 0)?);
    }
    let key = Key::And(keys);
    let (keys, texts) = key.weight();
    if keys > MAX_KEYS || texts > MAX_TEXTS {
        return cursor.fail("the search has too many keys");
    }
    Ok(key)
}

fn key(cursor: &mut Cursor<'_>, depth: usize) -> Result<Key> {
    if depth > MAX_DEPTH {
        return cursor.fail("the search is nested too deeply");
    }
    match cursor.peek() {
        Some(b'(') => {
            let keys = cursor.list(|cursor| key(cursor, depth + 1))?;
            if keys.is_empty() {
                return cursor.fail("expected a search key");
            }
            return Ok(Key::And(keys));
        }
        Some(b'*' | b'$' | b'0'..=b'9') => return Ok(Key::Sequence(sequence_set(cursor)?)),
        _ => {}
    }
    let start = cursor.clone();
    let name = cursor.word("expected a search key")?;
    if let Some(key) = plain(&name) {
        return Ok(key);
    }
    if !is_known(&name) {
        return start.fail("unknown search key");
    }
    cursor.space()?;
    with_argument(&name, cursor, depth)
}

fn plain(name: &str) -> Option<Key> {
    let not = |key| Key::Not(Box::new(key));
    Some(match name {
        "ALL" => Key::All,
        "ANSWERED" => Key::Flag(Flag::Answered),
        "DELETED" => Key::Flag(Flag::Deleted),
        "DRAFT" => Key::Flag(Flag::Draft),
        "FLAGGED" => Key::Flag(Flag::Flagged),
        "SEEN" => Key::Flag(Flag::Seen),
        "UNANSWERED" => not(Key::Flag(Flag::Answered)),
        "UNDELETED" => not(Key::Flag(Flag::Deleted)),
        "UNDRAFT" => not(Key::Flag(Flag::Draft)),
        "UNFLAGGED" => not(Key::Flag(Flag::Flagged)),
        "UNSEEN" => not(Key::Flag(Flag::Seen)),
        "RECENT" => Key::Recent,
        // RFC 8514 §4.3: all, where dates are kept.
        "SAVEDATESUPPORTED" => Key::All,
        "OLD" => not(Key::Recent),
        // RFC 3501 §6.4.4: NEW is (RECENT UNSEEN).
        "NEW" => Key::And(alloc::vec![Key::Recent, not(Key::Flag(Flag::Seen))]),
        _ => return None,
    })
}

fn is_known(name: &str) -> bool {
    const NAMES: [&str; 32] = [
        "BCC",
        "BEFORE",
        "BODY",
        "CC",
        "EMAILID",
        "FROM",
        "FUZZY",
        "HEADER",
        "KEYWORD",
        "LARGER",
        "MODSEQ",
        "NOT",
        "OLDER",
        "ON",
        "OR",
        "SAVEDBEFORE",
        "SAVEDON",
        "SAVEDSINCE",
        "SENTBEFORE",
        "SENTON",
        "SENTSINCE",
        "SINCE",
        "SMALLER",
        "SUBJECT",
        "TEXT",
        "THREADID",
        "TO",
        "UID",
        "UIDAFTER",
        "UIDBEFORE",
        "UNKEYWORD",
        "YOUNGER",
    ];
    NAMES.contains(&name)
}

fn with_argument(name: &str, cursor: &mut Cursor<'_>, depth: usize) -> Result<Key> {
    Ok(match name {
        "UID" => Key::Uid(sequence_set(cursor)?),
        "FUZZY" => Key::Fuzzy(Box::new(key(cursor, depth + 1)?)),
        "NOT" => Key::Not(Box::new(key(cursor, depth + 1)?)),
        "OR" => {
            let first = Box::new(key(cursor, depth + 1)?);
            cursor.space()?;
            Key::Or(first, Box::new(key(cursor, depth + 1)?))
        }
        "KEYWORD" => Key::Flag(keyword(cursor)?),
        "UNKEYWORD" => Key::Not(Box::new(Key::Flag(keyword(cursor)?))),
        "BEFORE" => Key::Received(When::Before, day(cursor)?),
        "ON" => Key::Received(When::On, day(cursor)?),
        "SINCE" => Key::Received(When::Since, day(cursor)?),
        // RFC 8514 §4.3.
        "SAVEDBEFORE" => Key::Saved(When::Before, day(cursor)?),
        "SAVEDON" => Key::Saved(When::On, day(cursor)?),
        "SAVEDSINCE" => Key::Saved(When::Since, day(cursor)?),
        "EMAILID" => {
            let id = cursor.atom("expected an id")?;
            Key::EmailId(write::parse_object_id(Object::Email, id))
        }
        "THREADID" => {
            let id = cursor.atom("expected an id")?;
            Key::ThreadId(write::parse_object_id(Object::Thread, id))
        }
        "SENTBEFORE" => Key::Sent(When::Before, day(cursor)?),
        "SENTON" => Key::Sent(When::On, day(cursor)?),
        "SENTSINCE" => Key::Sent(When::Since, day(cursor)?),
        // RFC 5032 §2.
        "OLDER" => Key::Older(cursor.nonzero()?),
        "YOUNGER" => Key::Younger(cursor.nonzero()?),
        // RFC 9738 §3.2.
        "UIDAFTER" => Key::UidAfter(cursor.nonzero()?),
        "UIDBEFORE" => Key::UidBefore(cursor.nonzero()?),
        "LARGER" => Key::Larger(cursor.number()?),
        "SMALLER" => Key::Smaller(cursor.number()?),
        "MODSEQ" => Key::ModSeq(sync::search(cursor)?),
        "BODY" => Key::Body(cursor.text("expected a text")?),
        "TEXT" => Key::Text(cursor.text("expected a text")?),
        "HEADER" => {
            let field = cursor.text("expected the name of a header field")?;
            cursor.space()?;
            let text = cursor.text("expected a text")?;
            Key::Header { name: field, text }
        }
        field => Key::Header {
            name: String::from(field),
            text: cursor.text("expected a text")?,
        },
    })
}

fn keyword(cursor: &mut Cursor<'_>) -> Result<Flag> {
    Ok(Flag::Keyword(cursor.atom("expected a keyword")?.into()))
}

// RFC 3501 §9: date = date-text / DQUOTE date-text DQUOTE.
fn day(cursor: &mut Cursor<'_>) -> Result<i64> {
    let text: Vec<u8> = cursor.astring("expected a date")?.into_owned();
    match mail::date::parse_imap_day(&text) {
        Some(day) => Ok(day),
        None => cursor.fail("expected a date like 1-Feb-1994"),
    }
}
