//! xtext (RFC 3461 §4): printable ASCII in a parameter, with `+` and two hexadecimal digits for what may not stand there.

use alloc::string::String;
use core::fmt::Write;

/// Reads xtext; `None` for what is none, and for what holds anything but printable ASCII and spaces, which no header field
/// of a report could show (RFC 3461 §4.4).
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let octet = match b {
            b'+' => digit(bytes.next()?)? * 16 + digit(bytes.next()?)?,
            b'=' => return None,
            b'!'..=b'~' => b,
            _ => return None,
        };
        if !(b' '..=b'~').contains(&octet) {
            return None;
        }
        out.push(char::from(octet));
    }
    Some(out)
}

// RFC 3461 §4: the digits are upper-case.
fn digit(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// Writes printable ASCII as xtext.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'!'..=b'~' if b != b'+' && b != b'=' => out.push(char::from(b)),
            // Invariant: writing to a String cannot fail.
            _ => drop(write!(out, "+{b:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_may_not_stand_in_a_parameter_is_two_digits() {
        assert_eq!(encode("a+b=c d"), "a+2Bb+3Dc+20d");
        assert_eq!(decode("a+2Bb+3Dc+20d").as_deref(), Some("a+b=c d"));
    }

    #[test]
    fn what_is_no_xtext_or_hides_a_control_is_refused() {
        for text in [
            "+", "+4", "+4g", "+4x", "+2b", "a=b", "a b", "\u{e9}", "+0D+0A", "+7F", "+E9",
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn printable_text_comes_back(text in "[ -~]{0,80}") {
            prop_assert_eq!(decode(&encode(&text)), Some(text));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,40}") {
            let _ = decode(&text);
        }
    }
}
