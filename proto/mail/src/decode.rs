//! Undoes the content transfer encodings, base64 and quoted-printable, on whatever bytes come.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::content::Encoding;
use crate::header::{line_end, without_line_end};

/// The content of `body`; an encoding we do not know leaves it as it is.
#[must_use]
pub fn decode<'a>(encoding: &Encoding, body: &'a [u8]) -> Cow<'a, [u8]> {
    match encoding {
        Encoding::Base64 => Cow::Owned(base64(body)),
        Encoding::QuotedPrintable => Cow::Owned(quoted_printable(body)),
        _ => Cow::Borrowed(body),
    }
}

/// Decodes base64, passing over bytes outside its alphabet; a tail without padding is kept.
// RFC 2045 §6.8: characters not in the alphabet must be ignored.
#[must_use]
pub fn base64(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let mut group = 0_u32;
    let mut held = 0_u32;
    for &byte in text {
        if byte == b'=' {
            // Padding ends a run; parts glued together each begin a new one.
            flush(group, held, &mut out);
            (group, held) = (0, 0);
            continue;
        }
        let Some(value) = sextet(byte) else { continue };
        group = group << 6 | value;
        held += 1;
        if held == 4 {
            let [_, first, second, third] = group.to_be_bytes();
            out.extend_from_slice(&[first, second, third]);
            (group, held) = (0, 0);
        }
    }
    flush(group, held, &mut out);
    out
}

/// Writes the whole bytes among the `held` sextets of an unfinished group.
fn flush(group: u32, held: u32, out: &mut Vec<u8>) {
    if held < 2 {
        return;
    }
    let bytes = (group << (6 * (4 - held))).to_be_bytes();
    out.extend_from_slice(&bytes[1..held as usize]);
}

fn sextet(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

/// Decodes base64 as SASL uses it (RFC 4648 §4): canonical, padded, without line breaks. `None` for anything else.
#[must_use]
pub fn base64_strict(text: &[u8]) -> Option<Vec<u8>> {
    let bytes = base64(text);
    (crate::encode::base64(&bytes).as_bytes() == text).then_some(bytes)
}

/// Decodes quoted-printable; what is wrongly encoded stays as written.
// RFC 2045 §6.7: trailing blanks of a line are not content, `=` at its end joins it to the next.
#[must_use]
pub fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut position = 0;
    while position < text.len() {
        let next = line_end(text, position);
        let whole = &text[position..next];
        let line = without_line_end(whole);
        let written = line.trim_ascii_end();
        let soft = written.last() == Some(&b'=');
        let content = if soft {
            &written[..written.len() - 1]
        } else {
            written
        };
        append_line(content, &mut out);
        if !soft {
            out.extend_from_slice(&whole[line.len()..]);
        }
        position = next;
    }
    out
}

fn append_line(line: &[u8], out: &mut Vec<u8>) {
    let mut rest = line;
    while let Some(found) = memchr::memchr(b'=', rest) {
        out.extend_from_slice(&rest[..found]);
        let after = &rest[found + 1..];
        let pair = match after {
            [high, low, ..] => hex_pair(*high, *low),
            _ => None,
        };
        if let Some(byte) = pair {
            out.push(byte);
            rest = &after[2..];
        } else {
            out.push(b'=');
            rest = after;
        }
    }
    out.extend_from_slice(rest);
}

/// The byte two hexadecimal digits stand for.
pub(crate) fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}
