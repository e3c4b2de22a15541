//! Mailbox names as IMAP writes them: modified UTF-7 or UTF-8 on the wire, UTF-8 in Normalization Form C inside.

use alloc::string::String;
use alloc::vec::Vec;

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Between the levels of a name.
pub const DELIMITER: char = '/';

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// Reads modified UTF-7. `None` for anything [`encode`] would not have written, so that every mailbox has one name.
// RFC 3501 §5.1.3.
#[must_use]
pub fn decode(text: &[u8]) -> Option<String> {
    let mut name = String::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'&' => {
                let end = after.iter().position(|byte| *byte == b'-')?;
                if end == 0 {
                    name.push('&');
                } else {
                    decode_shifted(&after[..end], &mut name)?;
                }
                rest = &after[end + 1..];
            }
            0x20..=0x7e => {
                name.push(char::from(byte));
                rest = after;
            }
            _ => return None,
        }
    }
    let mut canonical = Vec::new();
    encode(&name, &mut canonical);
    (canonical == text).then_some(name)
}

/// Reads a name in UTF-8. `None` for what is none, or would be no name on one line.
// RFC 6855 §3, RFC 9051 §5.1: no control characters, nor LINE SEPARATOR and PARAGRAPH SEPARATOR.
#[must_use]
pub fn decode_utf8(text: &[u8]) -> Option<String> {
    let name = core::str::from_utf8(text).ok()?;
    let is_bad = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
    (!name.contains(is_bad)).then(|| name.into())
}

/// Whether a name has the form that is kept.
#[must_use]
pub fn is_normalized(name: &str) -> bool {
    is_nfc(name)
}

/// The form of a name that is kept, so that what looks the same is one mailbox.
// RFC 9051 §5.1; RFC 5198 §3: Normalization Form C.
#[must_use]
pub fn normalize(name: String) -> String {
    // RFC 3501 §5.1: INBOX is the same in any case.
    if name.eq_ignore_ascii_case("INBOX") {
        return "INBOX".into();
    }
    if is_normalized(&name) {
        return name;
    }
    name.nfc().collect()
}

fn decode_shifted(text: &[u8], name: &mut String) -> Option<()> {
    let mut units = Vec::with_capacity(text.len() * 6 / 16);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text {
        let value = ALPHABET.iter().position(|letter| letter == byte)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 16 {
            count -= 16;
            units.push(u16::try_from(bits >> count & 0xffff).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    for unit in char::decode_utf16(units) {
        name.push(unit.ok()?);
    }
    Some(())
}

/// Writes modified UTF-7.
// RFC 3501 §5.1.3: printable US-ASCII stands for itself, "&" is "&-", all else is base64 of UTF-16.
pub fn encode(name: &str, out: &mut Vec<u8>) {
    let mut units: Vec<u16> = Vec::new();
    for letter in name.chars() {
        if (' '..='~').contains(&letter) {
            encode_shifted(&mut units, out);
            match letter {
                '&' => out.extend_from_slice(b"&-"),
                // In this arm the letter is US-ASCII.
                letter => out.push(u8::try_from(letter).unwrap_or(b'?')),
            }
        } else {
            units.extend_from_slice(letter.encode_utf16(&mut [0; 2]));
        }
    }
    encode_shifted(&mut units, out);
}

fn encode_shifted(units: &mut Vec<u16>, out: &mut Vec<u8>) {
    if units.is_empty() {
        return;
    }
    out.push(b'&');
    let (mut bits, mut count) = (0u32, 0);
    for unit in units.drain(..) {
        bits = bits << 16 | u32::from(unit);
        count += 16;
        while count >= 6 {
            count -= 6;
            out.push(ALPHABET[(bits >> count & 63) as usize]);
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        out.push(ALPHABET[(bits << (6 - count) & 63) as usize]);
    }
    out.push(b'-');
}

/// Whether `name` matches the pattern of LIST: `*` stands for anything, `%` for anything within one level.
// RFC 3501 §6.3.8. Linear in the product of the lengths: pattern states are kept as a set, nothing is tried twice.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    // reached[i]: the first i characters of the pattern match what was seen of the name.
    let mut reached: Vec<bool> = alloc::vec![false; pattern.len() + 1];
    reached[0] = true;
    spread(&pattern, &mut reached);
    for letter in name.chars() {
        let mut next: Vec<bool> = alloc::vec![false; pattern.len() + 1];
        for (at, expected) in pattern.iter().enumerate() {
            if !reached[at] {
                continue;
            }
            match expected {
                '*' => next[at] = true,
                '%' => next[at] |= letter != DELIMITER,
                expected => next[at + 1] |= *expected == letter,
            }
        }
        spread(&pattern, &mut next);
        reached = next;
    }
    reached[pattern.len()]
}

// Wildcards match nothing as well.
fn spread(pattern: &[char], reached: &mut [bool]) {
    for (at, letter) in pattern.iter().enumerate() {
        if reached[at] && matches!(letter, '*' | '%') {
            reached[at + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(name: &str) -> String {
        let mut out = Vec::new();
        encode(name, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_of_the_rfc_are_written_as_the_rfc_does() {
        // RFC 3501 §5.1.3.
        assert_eq!(
            encoded("~peter/mail/台北/日本語"),
            "~peter/mail/&U,BTFw-/&ZeVnLIqe-"
        );
        assert_eq!(encoded("Entwürfe & mehr"), "Entw&APw-rfe &- mehr");
        assert_eq!(encoded("🦀"), "&2D7dgA-");
    }

    #[test]
    fn what_has_another_canonical_form_is_refused() {
        for text in [
            "&AGE-",              // a needs no encoding
            "&U,BTFw",            // no end
            "&U,BTFw-&ZeVnLIqe-", // the shift is left and entered again
            "a&",
            "&!-",
            "&2D4-", // half a surrogate pair
            "&APx-", // stray bits
            "\u{fc}",
            "a\tb",
        ] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_percent_sign_stays_within_its_level() {
        assert!(matches("%", "INBOX") && !matches("%", "a/b"));
        assert!(matches("*", "a/b/c") && matches("a/%", "a/b") && !matches("a/%", "a/b/c"));
        assert!(matches("%/%", "a/b") && matches("*b*", "abc") && !matches("", "a"));
        assert!(matches("a*%c", "ac") && !matches("a%c", "a/c"));
    }

    #[test]
    fn a_pattern_of_many_wildcards_takes_no_time() {
        let (pattern, name) = ("*%".repeat(500) + "b", "a".repeat(1000));
        assert!(!matches(&pattern, &name));
    }

    #[test]
    fn names_are_kept_composed() {
        let composed = String::from("Entwürfe");
        assert_eq!(normalize("Entwu\u{308}rfe".into()), composed);
        assert_eq!(normalize(composed.clone()), composed);
        assert_eq!(normalize("inbox".into()), "INBOX");
        assert!(is_normalized(&composed) && !is_normalized("u\u{308}"));
    }

    #[test]
    fn names_in_utf8_are_one_line() {
        assert_eq!(
            decode_utf8("R&D/日本".as_bytes()).as_deref(),
            Some("R&D/日本")
        );
        for text in ["a\r\nb", "a\0", "\u{85}", "\u{2028}", "\u{2029}", "\u{7f}"] {
            assert_eq!(decode_utf8(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(decode_utf8(b"\xff"), None);
    }

    proptest! {
        #[test]
        fn every_name_survives_the_round_trip(name in "\\PC{0,40}") {
            prop_assert_eq!(decode(encoded(&name).as_bytes()), Some(name));
        }
    }
}
