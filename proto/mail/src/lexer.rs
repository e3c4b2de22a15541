//! Reads the words of a structured header field: blanks, comments, quoted strings, tokens.
//!
//! Every function moves forward only, so a field costs time linear in its length; comments are
//! counted, never recursed into.

use alloc::vec::Vec;

/// A cursor over the value of one header field, folded or not.
#[derive(Debug, Clone)]
pub(crate) struct Lexer<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    pub(crate) fn advance(&mut self) {
        self.position += 1;
    }

    /// Steps over `byte` if it comes next.
    pub(crate) fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.position += 1;
        }
        found
    }

    /// Steps over blanks and comments; returns the text of the last comment.
    // RFC 5322 §3.2.2: CFWS.
    pub(crate) fn skip_blanks(&mut self) -> Option<&'a [u8]> {
        let mut last = None;
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => self.position += 1,
                b'(' => last = Some(self.comment()),
                _ => break,
            }
        }
        last
    }

    /// A comment with all that nests in it; one that never ends takes the rest of the field.
    fn comment(&mut self) -> &'a [u8] {
        let start = self.position + 1;
        let mut nested = 0_usize;
        while let Some(byte) = self.peek() {
            self.position += 1;
            match byte {
                // RFC 5322 §3.2.1: a quoted pair; a backslash at the very end quotes nothing.
                b'\\' => self.position = (self.position + 1).min(self.bytes.len()),
                b'(' => nested += 1,
                b')' => {
                    nested -= 1;
                    if nested == 0 {
                        return &self.bytes[start..self.position - 1];
                    }
                }
                _ => {}
            }
        }
        &self.bytes[start..]
    }

    /// The longest run of bytes that `belongs` allows; may be empty.
    pub(crate) fn run(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.bytes[self.position..];
        let length = rest
            .iter()
            .position(|&byte| !belongs(byte))
            .unwrap_or(rest.len());
        self.position += length;
        &rest[..length]
    }

    /// The text of a quoted string, without quotes, escapes and folding. The opening quote comes next.
    // RFC 5322 §3.2.4: the quotes and escaping backslashes are not part of the meaning.
    pub(crate) fn quoted_string(&mut self) -> Vec<u8> {
        self.position += 1;
        let mut text = Vec::new();
        while let Some(byte) = self.peek() {
            self.position += 1;
            match byte {
                b'"' => break,
                b'\\' => {
                    // RFC 5322 §2.2.3: a field means what it means unfolded.
                    self.run(is_line_end);
                    if let Some(escaped) = self.peek() {
                        self.position += 1;
                        text.push(escaped);
                    }
                }
                _ if is_line_end(byte) => {}
                _ => text.push(byte),
            }
        }
        text
    }
}

const fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

// RFC 2045 §5.1: a token is any printable US-ASCII but tspecials.
pub(crate) fn is_token(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'^'..=b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_string_is_unfolded_before_its_escapes_are_read() {
        let text = |field: &[u8]| Lexer::new(field).quoted_string();
        assert_eq!(text(b"\"a\r\n b\""), b"a b");
        assert_eq!(text(b"\"a\\\r\n b\""), b"a b");
        assert_eq!(text(b"\"a\\\r\n\"b\""), b"a\"b");
    }

    #[test]
    fn a_token_has_every_printable_character_but_the_specials() {
        for byte in 0..=u8::MAX {
            let special = b"()<>@,;:\\\"/[]?=".contains(&byte);
            assert_eq!(is_token(byte), byte.is_ascii_graphic() && !special);
        }
    }
}
