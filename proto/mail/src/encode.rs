//! Encodes content and header text so that any 7-bit path carries them unharmed.

use alloc::string::String;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const HEX: &[u8; 16] = b"0123456789ABCDEF";
// RFC 2045 §6.7, §6.8: encoded lines have at most 76 characters.
const LINE: usize = 76;
// RFC 2047 §2: an encoded word has at most 75 characters; 12 of them are `=?UTF-8?B?` and `?=`.
const WORD_BYTES: usize = (75 - 12) / 4 * 3;

/// Encodes as base64 on one line, padding included.
// RFC 4648 §4.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for index in 0..4 {
            if index > group.len() {
                out.push('=');
            } else {
                let sextet = bits >> (18 - 6 * index) & 63;
                out.push(char::from(ALPHABET[sextet as usize]));
            }
        }
    }
    out
}

/// Encodes as base64 for a message body: lines of 76 characters, each with its CR LF.
// RFC 2045 §6.8.
#[must_use]
pub fn base64_body(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() / 57 * 78 + 80);
    for line in bytes.chunks(LINE / 4 * 3) {
        out.push_str(&base64(line));
        out.push_str("\r\n");
    }
    out
}

/// Encodes text as quoted-printable; its line ends, CR LF or LF, become CR LF.
// RFC 2045 §6.7.
#[must_use]
pub fn quoted_printable(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len() * 5 / 4);
    let mut rest = text;
    while !rest.is_empty() {
        let end = crate::header::line_end(rest, 0);
        let line = crate::header::without_line_end(&rest[..end]);
        quoted_printable_line(line, &mut out);
        if line.len() < end {
            out.push_str("\r\n");
        }
        rest = &rest[end..];
    }
    out
}

fn quoted_printable_line(line: &[u8], out: &mut String) {
    let mut column = 0;
    for (index, &byte) in line.iter().enumerate() {
        let last = index + 1 == line.len();
        // RFC 2045 §6.7 rule 3: a blank at the end of a line must be encoded.
        let blank = byte == b' ' || byte == b'\t';
        let plain = byte != b'=' && (byte.is_ascii_graphic() || blank && !last);
        let width = if plain { 1 } else { 3 };
        // Rule 5: a soft line break; one column is kept for its `=`.
        if column + width > LINE - 1 {
            out.push_str("=\r\n");
            column = 0;
        }
        if plain {
            out.push(char::from(byte));
        } else {
            push_escaped(byte, out);
        }
        column += width;
    }
}

fn push_escaped(byte: u8, out: &mut String) {
    out.push('=');
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}

/// Header text as it may stand in an unstructured field or as a display name: unchanged if it is
/// plain, else as encoded words with folding between them.
// RFC 2047 §2, §5: at most 75 characters a word, no character split between words.
#[must_use]
pub fn header_text(text: &str) -> String {
    let plain = text
        .bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if plain && !text.contains("=?") {
        return text.into();
    }
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.floor_char_boundary(WORD_BYTES));
        if !out.is_empty() {
            out.push_str("\r\n ");
        }
        out.push_str("=?UTF-8?B?");
        out.push_str(&base64(word.as_bytes()));
        out.push_str("?=");
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;
    use proptest::prelude::*;

    #[test]
    fn base64_has_the_test_vectors_of_its_rfc() {
        // RFC 4648 §10.
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (text, encoded) in vectors {
            assert_eq!(base64(text.as_bytes()), encoded);
            assert_eq!(decode::base64(encoded.as_bytes()), text.as_bytes());
        }
    }

    #[test]
    fn base64_without_padding_keeps_its_tail() {
        assert_eq!(decode::base64(b"Zm9v\r\nYmE"), b"fooba");
        assert_eq!(decode::base64(b"Zg"), b"f");
        assert_eq!(decode::base64(b"Zg==Zg=="), b"ff");
        assert_eq!(decode::base64(b"Z!m-9 v"), b"foo");
    }

    #[test]
    fn quoted_printable_joins_soft_breaks_and_keeps_wrong_escapes() {
        assert_eq!(
            decode::quoted_printable(b"a=  \r\nb=3D=zz=\n=C3=A4"),
            b"ab==zz\xc3\xa4"
        );
        assert_eq!(decode::quoted_printable(b"a \t\r\nb="), b"a\r\nb");
        assert_eq!(decode::quoted_printable(b"=4"), b"=4");
    }

    #[test]
    fn plain_header_text_stays_and_other_text_is_encoded_in_short_words() {
        assert_eq!(header_text("Hello, world"), "Hello, world");
        assert_eq!(header_text("Grüße"), "=?UTF-8?B?R3LDvMOfZQ==?=");
        assert_eq!(header_text("a\r\nBcc: b"), "=?UTF-8?B?YQ0KQmNjOiBi?=");
        let long = header_text(&"ä€😀".repeat(50));
        assert!(long.split("\r\n ").all(|word| word.len() <= 75));
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(bytes: alloc::vec::Vec<u8>) {
            prop_assert_eq!(decode::base64(base64_body(&bytes).as_bytes()), bytes.clone());
            // Bare LF is a line end to this encoder, so it is left out here.
            let text: alloc::vec::Vec<u8> =
                bytes.into_iter().filter(|&byte| byte != b'\n').collect();
            let encoded = quoted_printable(&text);
            prop_assert!(encoded.lines().all(|line| line.len() <= 76));
            prop_assert_eq!(decode::quoted_printable(encoded.as_bytes()), text);
        }
    }
}
