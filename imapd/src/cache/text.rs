//! What SEARCH looks at: the text of a message as its reader sees it, decoded and folded, so that looking is all that is left.
//!
//! The text is in pieces, each with a byte behind it that no text has: a line per field of the header, then what is searched in
//! the body. As an entry: version, completeness, size of the message, day of its Date field, THREADID, length of the header's lines, length
//! of the text, its map of trigrams, and the text under LZ4, which is decompressed only if the map does not answer. The size guards
//! against a file that somebody replaced.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::LazyLock;

use imap::casemap;
use imap::search::Within;
use ipc::cache::CacheKind;
use lz4_flex::block::{compress_with_dict, decompress_into_with_dict};
use mail::mime::Message;
use mail::{date, header};

use super::summary::{self, Extent};
use super::{number, trigrams};
use crate::fuzzy::Look;
use crate::search_text::{self, Needle};

/// Changes with [`casemap::fold`], too: what was folded otherwise is of no use.
const VERSION: u8 = 3;
/// What is beyond so many bytes of text is not kept.
const MAX_TEXT: usize = 256 << 10;
/// Ends a piece. UTF-8 has no such byte, so nothing that is looked for is found across an end.
const END: u8 = 0xff;

/// What most headers have, for a short text to refer to when it is compressed. Never to be changed without [`VERSION`].
static TYPICAL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let pieces = include_bytes!("typical.txt");
    let end = |byte: &u8| match byte {
        b'\n' => END,
        byte => byte.to_ascii_uppercase(),
    };
    pieces.iter().map(end).collect()
});

/// How much of a message's text there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// All of it.
    Whole,
    /// The header and the beginning of the body.
    Beginning,
    /// The header.
    Header,
}

/// The text of a message.
#[derive(Debug, Clone)]
pub struct SearchText<'a> {
    /// How much of it.
    pub completeness: Completeness,
    /// Day the Date field names, from 1970-01-01; `None` if there is none or it cannot be read.
    pub sent_on: Option<i64>,
    /// THREADID, if it is in a conversation.
    pub thread_id: Option<u128>,
    size: u64,
    /// Where the body begins.
    body: usize,
    /// How long the text is.
    length: usize,
    map: Cow<'a, [u8]>,
    /// What the text is compressed to; nothing where it was gathered just now.
    compressed: &'a [u8],
    /// The text, once it was needed; the inner `None` if it cannot be decompressed.
    text: OnceCell<Option<Vec<u8>>>,
}

impl SearchText<'static> {
    /// Gathers it from a message of `size` bytes, of which `walked` was read. `None` where the header alone is too long.
    #[must_use]
    pub fn of(walked: &Message<'_>, extent: Extent, size: u64) -> Option<Self> {
        let root = walked.parts().first()?;
        let mut text = Vec::new();
        for field in walked.fields(root) {
            if !push(&search_text::field_line(&field), &mut text) {
                return None;
            }
        }
        let body = text.len();
        let completeness = match extent {
            Extent::Header => Completeness::Header,
            Extent::Whole if search_text::any_body_text(walked, |more| !push(more, &mut text)) => {
                Completeness::Beginning
            }
            Extent::Whole => Completeness::Whole,
        };
        let date = header::find(walked.header(root), "Date");
        let date = date.and_then(|field| date::parse_rfc5322(field.value));
        Some(Self {
            completeness,
            sent_on: date.map(|date| date.local_day()),
            thread_id: summary::thread_id(walked.header(root)),
            size,
            body,
            length: text.len(),
            map: Cow::Owned(trigrams::map(&text)),
            compressed: &[],
            text: OnceCell::from(Some(text)),
        })
    }
}

/// Appends a piece; false if it did not fit, and only its beginning is there.
fn push(piece: &str, text: &mut Vec<u8>) -> bool {
    let room = MAX_TEXT.saturating_sub(text.len() + 1);
    let folded = casemap::fold(piece);
    let kept = &folded[..folded.floor_char_boundary(room)];
    text.extend_from_slice(kept.as_bytes());
    text.push(END);
    kept.len() == folded.len()
}

impl<'a> SearchText<'a> {
    /// Whether a field called `name` contains `needle`, as [`search_text::header_contains`] has it; `None` if that cannot be said.
    #[must_use]
    pub fn header_contains(&self, name: &str, needle: &Needle) -> Option<bool> {
        if !self.may_have(needle) {
            return Some(false);
        }
        let header = self.text()?.get(..self.body)?;
        // Most messages have it nowhere.
        if !needle.is_in_folded(header) {
            return Some(false);
        }
        let mut fields = header.split(|byte| *byte == END);
        Some(fields.any(|field| {
            let colon = field.iter().position(|byte| *byte == b':');
            let parts = colon.and_then(|colon| field.split_at_checked(colon));
            parts.is_some_and(|(known, value)| {
                // Names are ASCII, and folded.
                known.eq_ignore_ascii_case(name.as_bytes())
                    && needle.is_in_folded(value.get(2..).unwrap_or_default())
            })
        }))
    }

    /// Whether the body contains `needle`, as [`search_text::body_contains`] has it; `None` if that cannot be said.
    #[must_use]
    pub fn body_contains(&self, needle: &Needle) -> Option<bool> {
        self.found_from(self.body, needle)
    }

    /// Whether header or body contains `needle`, as [`search_text::text_contains`] has it; `None` if that cannot be said.
    #[must_use]
    pub fn text_contains(&self, needle: &Needle) -> Option<bool> {
        self.found_from(0, needle)
    }

    /// Looks for a text that need not be there as it is, as [`search_text::look`] does; `None` if that cannot be done.
    pub fn look(&self, within: Within<'_>, look: &mut Look<'_>) -> Option<()> {
        let (header, body) = self.text()?.split_at_checked(self.body)?;
        let mut is_whole = false;
        let mut fields = pieces(header);
        match within {
            Within::Field(name) => {
                let value = |field: &str| {
                    let (known, value) = field.split_once(": ")?;
                    known.eq_ignore_ascii_case(name).then(|| look.at(value))
                };
                is_whole = fields.filter_map(value).any(|is_whole| is_whole);
            }
            Within::Text => is_whole = fields.any(|field| look.at(field)),
            Within::Body => {}
        }
        if matches!(within, Within::Field(_)) || is_whole || pieces(body).any(|text| look.at(text))
        {
            return Some(());
        }
        // What is not kept may be nearer.
        (self.completeness == Completeness::Whole).then_some(())
    }

    fn found_from(&self, start: usize, needle: &Needle) -> Option<bool> {
        let is_found = self.may_have(needle) && needle.is_in_folded(self.text()?.get(start..)?);
        let is_said = is_found || self.completeness == Completeness::Whole;
        is_said.then_some(is_found)
    }

    fn may_have(&self, needle: &Needle) -> bool {
        trigrams::may_have(&self.map, needle.folded())
    }

    fn text(&self) -> Option<&[u8]> {
        let decompress = || {
            let mut text = vec![0; self.length];
            let written = decompress_into_with_dict(self.compressed, &mut text, &TYPICAL).ok()?;
            (written == self.length).then_some(text)
        };
        self.text.get_or_init(decompress).as_deref()
    }

    /// As an entry; `None` if it is too long to be kept.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut entry = vec![VERSION];
        entry.push(match self.completeness {
            Completeness::Whole => 0,
            Completeness::Beginning => 1,
            Completeness::Header => 2,
        });
        number::write(self.size, &mut entry);
        number::write(write_day(self.sent_on), &mut entry);
        entry.extend(self.thread_id.unwrap_or_default().to_be_bytes());
        number::write(self.body as u64, &mut entry);
        number::write(self.length as u64, &mut entry);
        entry.extend_from_slice(&self.map);
        entry.extend(compress_with_dict(self.text()?, &TYPICAL));
        (entry.len() <= CacheKind::Text.max_entry()).then_some(entry)
    }

    /// Reads an entry about a message of `size` bytes; `None` if it is none.
    #[must_use]
    pub fn decode(entry: &'a [u8], size: u64) -> Option<Self> {
        let (&version, rest) = entry.split_first()?;
        let (&completeness, mut rest) = rest.split_first()?;
        if version != VERSION || number::read(&mut rest)? != size {
            return None;
        }
        let completeness = match completeness {
            0 => Completeness::Whole,
            1 => Completeness::Beginning,
            2 => Completeness::Header,
            _ => return None,
        };
        let sent_on = read_day(number::read(&mut rest)?);
        let thread = u128::from_be_bytes(*rest.split_off(..16)?.first_chunk()?);
        let body = number::read_length(&mut rest)?;
        let length = number::read_length(&mut rest)?;
        if body > length || length > MAX_TEXT + 1 {
            return None;
        }
        Some(Self {
            completeness,
            sent_on,
            thread_id: Some(thread).filter(|thread| *thread != 0),
            size,
            body,
            length,
            map: Cow::Borrowed(rest.split_off(..trigrams::length_of(length))?),
            compressed: rest,
            text: OnceCell::new(),
        })
    }
}

fn pieces(text: &[u8]) -> impl Iterator<Item = &str> {
    let pieces = text.split(|byte| *byte == END);
    pieces.filter_map(|piece| str::from_utf8(piece).ok())
}

/// 0 for none; the sign goes into the lowest bit.
fn write_day(day: Option<i64>) -> u64 {
    day.map_or(0, |day| {
        ((day << 1) ^ (day >> 63)).cast_unsigned().wrapping_add(1)
    })
}

fn read_day(number: u64) -> Option<i64> {
    let number = number.checked_sub(1)?;
    Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
}

#[cfg(test)]
mod tests;
