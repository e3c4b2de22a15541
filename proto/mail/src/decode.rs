//! Undoes the content transfer encodings, base64 and quoted-printable, on whatever bytes come.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::content::Encoding;
use crate::header::without_line_end;

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
#[must_use]
pub fn base64(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let mut decoder = Base64::default();
    decoder.push(text, &mut out);
    flush(decoder.group, decoder.held, &mut out);
    out
}

/// Decodes a body of which a piece after the other is shown, into what [`decode()`] makes of it.
#[derive(Debug)]
pub struct Decoder(Method);

#[derive(Debug)]
enum Method {
    Identity,
    Base64(Base64),
    QuotedPrintable(QuotedPrintable),
}

impl Decoder {
    /// `None` for an encoding we do not know.
    #[must_use]
    pub fn new(encoding: &Encoding) -> Option<Self> {
        Some(Self(match encoding {
            Encoding::SevenBit | Encoding::EightBit | Encoding::Binary => Method::Identity,
            Encoding::Base64 => Method::Base64(Base64::default()),
            Encoding::QuotedPrintable => Method::QuotedPrintable(QuotedPrintable::default()),
            Encoding::Other(_) => return None,
        }))
    }

    /// Appends the content of the next bytes of the body, as far as it is certain.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match &mut self.0 {
            Method::Identity => out.extend_from_slice(bytes),
            Method::Base64(decoder) => decoder.push(bytes, out),
            Method::QuotedPrintable(decoder) => decoder.push(bytes, out),
        }
    }

    /// Appends what is left of it at the end of the body.
    pub fn finish(self, out: &mut Vec<u8>) {
        match self.0 {
            Method::Identity => {}
            Method::Base64(Base64 { group, held }) => flush(group, held, out),
            Method::QuotedPrintable(decoder) => decoder.finish(out),
        }
    }
}

/// An unfinished group of base64.
#[derive(Debug, Default)]
struct Base64 {
    group: u32,
    held: u32,
}

impl Base64 {
    // RFC 2045 §6.8: characters not in the alphabet must be ignored.
    fn push(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let Self {
            mut group,
            mut held,
        } = *self;
        for &byte in text {
            if byte == b'=' {
                // Padding ends a run; parts glued together each begin a new one.
                flush(group, held, out);
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
        *self = Self { group, held };
    }
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
#[must_use]
pub fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut decoder = QuotedPrintable::default();
    decoder.push(text, &mut out);
    decoder.finish(&mut out);
    out
}

/// Of a line longer than this so much is decoded at once, as if what is written there stood within the line.
const MAX_LINE: usize = 64 << 10;

/// A line of quoted-printable that was not seen to its end.
#[derive(Debug, Default)]
struct QuotedPrintable {
    line: Vec<u8>,
}

impl QuotedPrintable {
    fn push(&mut self, mut text: &[u8], out: &mut Vec<u8>) {
        while !text.is_empty() {
            let room = MAX_LINE - self.line.len();
            let window = &text[..text.len().min(room)];
            let end = memchr::memchr(b'\n', window).map(|end| end + 1);
            let (piece, rest) = text.split_at(end.unwrap_or(window.len()));
            text = rest;
            match end {
                Some(_) if self.line.is_empty() => whole_line(piece, out),
                Some(_) => {
                    self.line.extend_from_slice(piece);
                    whole_line(&self.line, out);
                    self.line.clear();
                }
                None => {
                    self.line.extend_from_slice(piece);
                    if self.line.len() == MAX_LINE {
                        self.beginning(out);
                    }
                }
            }
        }
    }

    /// Decodes what is there of a long line, but for what may be half a byte.
    fn beginning(&mut self, out: &mut Vec<u8>) {
        let last = self.line.len() - 2;
        let half = memchr::memchr(b'=', &self.line[last..]).map(|at| last + at);
        let end = half.unwrap_or(self.line.len());
        append_line(&self.line[..end], out);
        self.line.drain(..end);
    }

    fn finish(self, out: &mut Vec<u8>) {
        whole_line(&self.line, out);
    }
}

// RFC 2045 §6.7: trailing blanks of a line are not content, `=` at its end joins it to the next.
fn whole_line(whole: &[u8], out: &mut Vec<u8>) {
    let line = without_line_end(whole);
    let written = line.trim_ascii_end();
    if let Some(content) = written.strip_suffix(b"=") {
        append_line(content, out);
    } else {
        append_line(written, out);
        out.extend_from_slice(&whole[line.len()..]);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_of_a_line_without_end_is_bounded() {
        let mut decoder = QuotedPrintable::default();
        let mut out = Vec::new();
        for _ in 0..100 {
            decoder.push(&[b' '; 10_000], &mut out);
            assert!(decoder.line.capacity() <= 256 << 10);
        }
        assert!(out.len() > 900_000);
    }
}
