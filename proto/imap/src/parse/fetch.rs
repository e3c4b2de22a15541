//! Reads what FETCH wants.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::body::{Partial, Section, SectionText};
use crate::command::{FetchItem, Numbering, SectionName};
use crate::dialect::Dialect;
use crate::esearch::Window;
use crate::sync::ChangedSince;

use super::cursor::{Cursor, Result};
use super::{search, sync};

/// More part numbers than messages have levels.
const MAX_PARTS: usize = 100;

// RFC 3501 §6.4.5: a macro stands alone; items stand alone or in a list.
pub(super) fn items(cursor: &mut Cursor<'_>) -> Result<Vec<FetchItem>> {
    if cursor.peek() == Some(b'(') {
        let items = cursor.list(item)?;
        return if items.is_empty() {
            cursor.fail("expected an item of FETCH")
        } else {
            Ok(items)
        };
    }
    let mut ahead = cursor.clone();
    let items = match ahead.word("expected an item of FETCH")?.as_str() {
        "FAST" => fast(),
        "ALL" => [fast(), vec![FetchItem::Envelope]].concat(),
        "FULL" => [fast(), vec![FetchItem::Envelope, FetchItem::Body]].concat(),
        _ => return Ok(vec![item(cursor)?]),
    };
    *cursor = ahead;
    Ok(items)
}

/// What comes behind the items of FETCH.
#[derive(Debug, Default)]
pub(super) struct Modifiers {
    pub(super) changed_since: Option<ChangedSince>,
    pub(super) partial: Option<Window>,
}

// RFC 7162 §3.1.4.1, §3.2.6; RFC 9394 §3.3.
pub(super) fn modifiers(cursor: &mut Cursor<'_>, by: Numbering) -> Result<Modifiers> {
    let (mut since, mut vanished, mut partial) = (None, false, None);
    if !cursor.accept(b' ') {
        return Ok(Modifiers::default());
    }
    let start = cursor.clone();
    let modifiers = cursor.list(|cursor| {
        let start = cursor.clone();
        let name = cursor.word("expected CHANGEDSINCE or PARTIAL")?;
        match (name.as_str(), by) {
            ("CHANGEDSINCE", _) if since.is_none() => {
                cursor.space()?;
                since = Some(sync::modseq(cursor)?);
            }
            ("VANISHED", Numbering::Uid) if !vanished => vanished = true,
            ("PARTIAL", Numbering::Uid) if partial.is_none() => {
                cursor.space()?;
                partial = Some(search::window(cursor)?);
            }
            ("VANISHED" | "PARTIAL", Numbering::Sequence) => {
                return start.fail("VANISHED and PARTIAL go with UID FETCH");
            }
            ("CHANGEDSINCE" | "VANISHED" | "PARTIAL", _) => {
                return start.fail("this was given already");
            }
            _ => return start.fail("expected CHANGEDSINCE or PARTIAL"),
        }
        Ok(())
    })?;
    if modifiers.is_empty() || vanished && since.is_none() {
        return start.fail("expected CHANGEDSINCE or PARTIAL");
    }
    let changed_since = since.map(|modseq| ChangedSince { modseq, vanished });
    Ok(Modifiers {
        changed_since,
        partial,
    })
}

fn fast() -> Vec<FetchItem> {
    vec![FetchItem::Flags, FetchItem::InternalDate, FetchItem::Size]
}

fn item(cursor: &mut Cursor<'_>) -> Result<FetchItem> {
    let start = cursor.clone();
    let name = cursor.word("expected an item of FETCH")?;
    Ok(match name.as_str() {
        "ENVELOPE" => FetchItem::Envelope,
        "FLAGS" => FetchItem::Flags,
        "INTERNALDATE" => FetchItem::InternalDate,
        "RFC822.SIZE" => FetchItem::Size,
        "UID" => FetchItem::Uid,
        "MODSEQ" => FetchItem::ModSeq,
        "EMAILID" => FetchItem::EmailId,
        "THREADID" => FetchItem::ThreadId,
        "SAVEDATE" => FetchItem::SaveDate,
        // RFC 8970 §6: the modifiers are a list, of which LAZY is the only member there is.
        "PREVIEW" => FetchItem::Preview {
            lazy: cursor.accept_word(" (LAZY)"),
        },
        "BODYSTRUCTURE" => FetchItem::BodyStructure,
        "BODY" if cursor.peek() != Some(b'[') => FetchItem::Body,
        "BODY" => section(cursor, false)?,
        "BODY.PEEK" => section(cursor, true)?,
        "BINARY" => binary(cursor, false)?,
        "BINARY.PEEK" => binary(cursor, true)?,
        "BINARY.SIZE" => FetchItem::BinarySize {
            part: section_binary(cursor)?,
        },
        "RFC822" => rfc822(SectionName::Rfc822, None),
        "RFC822.HEADER" => rfc822(SectionName::Rfc822Header, Some(SectionText::Header)),
        "RFC822.TEXT" => rfc822(SectionName::Rfc822Text, Some(SectionText::Text)),
        _ => return start.fail("unknown item of FETCH"),
    })
}

// RFC 3501 §6.4.5: RFC822.HEADER alone does not set \Seen.
fn rfc822(name: SectionName, text: Option<SectionText>) -> FetchItem {
    FetchItem::Section {
        peek: name == SectionName::Rfc822Header,
        name,
        section: Section {
            part: Vec::new(),
            text,
        },
        partial: None,
    }
}

// RFC 3501 §9: section ["<" number "." nz-number ">"].
fn section(cursor: &mut Cursor<'_>, peek: bool) -> Result<FetchItem> {
    cursor.expect(b'[', "expected [")?;
    let section = section_spec(cursor)?;
    cursor.expect(b']', "expected ]")?;
    Ok(FetchItem::Section {
        name: SectionName::Body,
        section,
        partial: partial(cursor)?,
        peek,
    })
}

// RFC 3516 §7: "BINARY" [".PEEK"] section-binary [partial].
fn binary(cursor: &mut Cursor<'_>, peek: bool) -> Result<FetchItem> {
    Ok(FetchItem::Binary {
        part: section_binary(cursor)?,
        partial: partial(cursor)?,
        peek,
    })
}

// RFC 3516 §7: section-binary = "[" [section-part] "]".
fn section_binary(cursor: &mut Cursor<'_>) -> Result<Vec<u32>> {
    cursor.expect(b'[', "expected [")?;
    let mut part = Vec::new();
    while cursor.peek() != Some(b']') || !part.is_empty() {
        part.push(cursor.nonzero()?);
        if part.len() > MAX_PARTS {
            return cursor.fail("too many levels");
        }
        if !cursor.accept(b'.') {
            break;
        }
    }
    cursor.expect(b']', "expected a part number like 1.2 and ]")?;
    Ok(part)
}

fn partial(cursor: &mut Cursor<'_>) -> Result<Option<Partial>> {
    if !cursor.accept(b'<') {
        return Ok(None);
    }
    let origin = cursor.number()?;
    cursor.expect(b'.', "expected . and how many bytes")?;
    let count = cursor.number()?;
    if count == 0 {
        return cursor.fail("expected a number above 0");
    }
    cursor.expect(b'>', "expected >")?;
    Ok(Some(Partial { origin, count }))
}

/// What of a message a URL names.
pub(super) fn section_of_url(text: &[u8]) -> Option<Section> {
    let mut cursor = Cursor::new(text, Dialect::REV1);
    let section = section_spec(&mut cursor).ok()?;
    cursor.end().ok().map(|()| section)
}

fn section_spec(cursor: &mut Cursor<'_>) -> Result<Section> {
    let mut part = Vec::new();
    while cursor.peek().is_some_and(|byte| byte.is_ascii_digit()) {
        part.push(cursor.nonzero()?);
        if part.len() > MAX_PARTS {
            return cursor.fail("too many levels");
        }
        if !cursor.accept(b'.') {
            return Ok(Section { part, text: None });
        }
    }
    if part.is_empty() && cursor.peek() == Some(b']') {
        return Ok(Section { part, text: None });
    }
    let start = cursor.clone();
    let text = match cursor.word("expected a section")?.as_str() {
        "HEADER" => SectionText::Header,
        "HEADER.FIELDS" => SectionText::HeaderFields(field_names(cursor)?),
        "HEADER.FIELDS.NOT" => SectionText::HeaderFieldsNot(field_names(cursor)?),
        "TEXT" => SectionText::Text,
        "MIME" if !part.is_empty() => SectionText::Mime,
        "MIME" => return start.fail("MIME needs a part number"),
        _ => return start.fail("unknown section"),
    };
    Ok(Section {
        part,
        text: Some(text),
    })
}

fn field_names(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    cursor.space()?;
    let names = cursor.list(|cursor| {
        let name = cursor.text("expected the name of a header field")?;
        // What we send back must be what we understood, on one line.
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return cursor.fail("expected the name of a header field");
        }
        Ok(name)
    })?;
    if names.is_empty() {
        return cursor.fail("expected the name of a header field");
    }
    Ok(names)
}
