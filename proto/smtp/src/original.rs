//! Whom a sender named first: the address of `ORCPT` (RFC 3461 §4.2, RFC 6533 §3).

use alloc::string::{String, ToString};
use core::fmt;

use crate::xtext;

/// RFC 3461 §4.2: longest `ORCPT`.
const MAX_ORIGINAL: usize = 500;

/// An address as the sender wrote it, of any address type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalRecipient {
    /// In lower case: `rfc822`, `utf-8` (RFC 6533 §3) or another type.
    kind: String,
    /// Decoded, without controls; ASCII unless the type is `utf-8`.
    address: String,
}

impl OriginalRecipient {
    /// The address of a `RCPT` that gave none itself (RFC 3461 §5.2.7); `None` when it is longer than `ORCPT` may be.
    #[must_use]
    pub fn of(address: &str) -> Option<Self> {
        let kind = match address.is_ascii() {
            true => "rfc822",
            false => "utf-8",
        };
        let original = Self {
            kind: kind.into(),
            address: address.into(),
        };
        (original.to_string().len() <= MAX_ORIGINAL).then_some(original)
    }

    // RFC 3461 §4.2: addr-type ";" xtext; RFC 6533 §3 has another code for the type utf-8.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, address) = text
            .split_once(';')
            .filter(|_| text.len() <= MAX_ORIGINAL)?;
        let kind = Some(kind)
            .filter(|kind| is_atom(kind))?
            .to_ascii_lowercase();
        let address = match kind.as_str() {
            "utf-8" => unescape(address)?,
            _ => xtext::decode(address)?,
        };
        (!address.trim().is_empty()).then_some(Self { kind, address })
    }

    /// The value of the field `Original-Recipient` of a report (RFC 3464 §2.3.1), ASCII.
    #[must_use]
    pub fn field(&self) -> String {
        match self.kind.as_str() {
            "utf-8" => alloc::format!("utf-8; {}", escape(&self.address)),
            kind => alloc::format!("{kind}; {}", self.address),
        }
    }
}

/// As in `ORCPT=`, in ASCII.
impl fmt::Display for OriginalRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.as_str() {
            "utf-8" => write!(f, "utf-8;{}", escape(&self.address)),
            kind => write!(f, "{kind};{}", xtext::encode(&self.address)),
        }
    }
}

/// `utf-8-addr-xtext` of RFC 6533 §3: an address in printable ASCII that stands in any parameter and any field.
#[must_use]
pub fn escape(address: &str) -> String {
    let mut out = String::with_capacity(address.len());
    for c in address.chars() {
        match c {
            '!'..='~' if !matches!(c, '\\' | '+' | '=') => out.push(c),
            c => out.push_str(&alloc::format!("\\x{{{:02X}}}", u32::from(c))),
        }
    }
    out
}

// RFC 6533 §3: both utf-8-addr-xtext and utf-8-addr-unitext.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = match c {
            '\\' => {
                let (digits, after) = rest.strip_prefix("\\x{")?.split_once('}')?;
                out.push(code_point(digits)?);
                after
            }
            '+' | '=' => return None,
            c if c.is_control() || c == ' ' => return None,
            c => {
                out.push(c);
                rest.get(c.len_utf8()..)?
            }
        };
    }
    Some(out)
}

fn code_point(digits: &str) -> Option<char> {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    if !(2..=6).contains(&digits.len()) || !digits.bytes().all(is_hex) {
        return None;
    }
    let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
    (!c.is_control()).then_some(c)
}

fn is_atom(text: &str) -> bool {
    let special = |b: u8| b"()<>[]:;@\\,.\"".contains(&b);
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !special(b))
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn original_recipients_are_typed_and_bounded() {
        for value in [
            "bob@example.org",
            ";bob@example.org",
            "rfc 822;b@c",
            "rfc822;",
            "rfc822;+20",
            "rfc822;b+0D+0A@c",
            "rfc822;j\u{f6}rg@c",
            "utf-8;b\\x{0A}@c",
            "utf-8;b\\x{f6}@c",
            "utf-8;b\\x{D800}@c",
            "utf-8;b\\x{F6@c",
            "utf-8;b+20@c",
        ] {
            assert_eq!(OriginalRecipient::parse(value), None, "{value}");
        }
        let long = |n: usize| format!("rfc822;{}", "x".repeat(n));
        assert!(OriginalRecipient::parse(&long(493)).is_some());
        assert!(OriginalRecipient::parse(&long(494)).is_none());
    }

    #[test]
    fn an_original_recipient_in_utf8_becomes_ascii_on_the_way() {
        let original = OriginalRecipient::parse("UTF-8;j\u{f6}rg@example.org").unwrap();
        assert_eq!(original.to_string(), "utf-8;j\\x{F6}rg@example.org");
        assert_eq!(original.field(), "utf-8; j\\x{F6}rg@example.org");
        assert_eq!(
            OriginalRecipient::of("j\u{f6}rg@example.org"),
            Some(original)
        );
        let plain = OriginalRecipient::of("a+b@example.org").unwrap();
        assert_eq!(plain.to_string(), "rfc822;a+2Bb@example.org");
        assert_eq!(plain.field(), "rfc822; a+b@example.org");
        assert_eq!(OriginalRecipient::of(&"\u{f6}".repeat(100)), None);
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_and_read_again(kind in "(rfc822|utf-8|x400)", address in "\\PC{1,40}") {
            if let Some(read) = OriginalRecipient::parse(&format!("{kind};{address}")) {
                prop_assert_eq!(OriginalRecipient::parse(&read.to_string()), Some(read));
            }
        }
    }
}
