//! Texts with macros in them (RFC 7208 §7): domain-specs, explanations.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::dns::is_name;

/// A text that is expanded for each check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// `%%`, `%_` and `%-`.
    Sign(&'static str),
    Macro(Macro),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Macro {
    /// In lower case.
    letter: u8,
    /// The letter was in upper case: the result is escaped for a URL.
    escape: bool,
    /// How many parts from the right; all of them if there are fewer.
    parts: usize,
    reverse: bool,
    delimiters: String,
}

/// Where a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In a record.
    Record,
    /// In an explanation, where there are three macros more and spaces.
    Explanation,
}

/// What the macros stand for; `None` for a letter that is not one.
pub(super) trait Values {
    fn value(&self, letter: u8) -> String;
}

impl Text {
    /// Reads a macro-string; `None` when it is none.
    pub(super) fn parse(text: &str, place: Place) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find('%').unwrap_or(rest.len());
            let (literal, tail) = rest.split_at(end);
            let good =
                |byte: u8| byte.is_ascii_graphic() || (byte == b' ' && place == Place::Explanation);
            if !literal.bytes().all(good) {
                return None;
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.into()));
            }
            rest = match tail.as_bytes() {
                [] => tail,
                [b'%', sign @ (b'%' | b'_' | b'-'), ..] => {
                    pieces.push(Piece::Sign(match sign {
                        b'%' => "%",
                        b'_' => " ",
                        _ => "%20",
                    }));
                    tail.get(2..)?
                }
                _ => {
                    let (inside, tail) = tail.strip_prefix("%{")?.split_once('}')?;
                    pieces.push(Piece::Macro(Macro::parse(inside, place)?));
                    tail
                }
            };
        }
        Some(Self(pieces))
    }

    /// Reads a domain-spec: a macro-string that ends with a macro or a top label.
    pub(super) fn parse_domain(text: &str) -> Option<Self> {
        let parsed = Self::parse(text, Place::Record)?;
        let is_good = match parsed.0.last()? {
            Piece::Sign(_) | Piece::Macro(_) => true,
            Piece::Literal(literal) => {
                let literal = literal.strip_suffix('.').unwrap_or(literal);
                literal
                    .rsplit_once('.')
                    .is_some_and(|(_, top)| is_top_label(top))
            }
        };
        is_good.then_some(parsed)
    }

    /// Whether the macro `letter` is in it.
    pub(super) fn has(&self, letter: u8) -> bool {
        let is_it = |piece: &Piece| matches!(piece, Piece::Macro(one) if one.letter == letter);
        self.0.iter().any(is_it)
    }

    /// Puts the values in, at most `limit` bytes of them.
    pub(super) fn expand(&self, values: &impl Values, limit: usize) -> Option<String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Sign(sign) => text.push_str(sign),
                Piece::Macro(one) => text.push_str(&one.expand(&values.value(one.letter))),
            }
            if text.len() > limit {
                return None;
            }
        }
        Some(text)
    }

    /// The name it stands for; `None` when that cannot be one.
    pub(super) fn name(&self, values: &impl Values) -> Option<String> {
        // A record can name its own domain so often that no name comes out of it.
        const LONGEST: usize = 16 * 1024;
        let text = self.expand(values, LONGEST)?;
        let mut name = text.strip_suffix('.').unwrap_or(&text);
        // RFC 7208 §7.3: labels are taken away from the left until it fits.
        while name.len() > 253 {
            name = name.split_once('.')?.1;
        }
        is_name(name).then(|| name.into())
    }
}

impl Macro {
    // What stands between the braces: letter, digits, "r", delimiters.
    fn parse(inside: &str, place: Place) -> Option<Self> {
        let (letter, rest) = inside.as_bytes().split_first()?;
        let is_known = match letter.to_ascii_lowercase() {
            b's' | b'l' | b'o' | b'd' | b'i' | b'p' | b'h' | b'v' => true,
            b'c' | b'r' | b't' => place == Place::Explanation,
            _ => false,
        };
        let rest = str::from_utf8(rest).ok().filter(|_| is_known)?;
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (digits, rest) = rest.split_at(digits);
        let parts = match digits {
            "" => usize::MAX,
            // More than there can be are all of them.
            _ => match digits.trim_start_matches('0') {
                "" => return None,
                digits => digits.parse().unwrap_or(usize::MAX),
            },
        };
        let delimiters = rest.strip_prefix(['r', 'R']).unwrap_or(rest);
        let is_delimiter = |c| matches!(c, '.' | '-' | '+' | ',' | '/' | '_' | '=');
        delimiters.chars().all(is_delimiter).then(|| Self {
            letter: letter.to_ascii_lowercase(),
            escape: letter.is_ascii_uppercase(),
            parts,
            reverse: rest.len() > delimiters.len(),
            delimiters: if delimiters.is_empty() {
                "."
            } else {
                delimiters
            }
            .into(),
        })
    }

    fn expand(&self, value: &str) -> String {
        let mut parts: Vec<&str> = value.split(|c| self.delimiters.contains(c)).collect();
        if self.reverse {
            parts.reverse();
        }
        let text = parts
            .split_off(parts.len().saturating_sub(self.parts))
            .join(".");
        if self.escape { escaped(&text) } else { text }
    }
}

// RFC 3986 §2.3: what need not be escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

fn is_top_label(label: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !label.is_empty()
        && label.bytes().all(good)
        && !label.starts_with('-')
        && !label.ends_with('-')
        && !label.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of RFC 7208 §7.4.
    struct Example {
        is_v6: bool,
    }

    impl Values for Example {
        fn value(&self, letter: u8) -> String {
            let v6 = "2.0.0.1.0.d.b.8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.c.b.0.1";
            match letter {
                b's' => "strong-bad@email.example.com",
                b'l' => "strong-bad",
                b'o' | b'd' => "email.example.com",
                b'i' if self.is_v6 => v6,
                b'i' => "192.0.2.3",
                b'v' if self.is_v6 => "ip6",
                b'v' => "in-addr",
                b'p' => "mx.example.org",
                _ => "",
            }
            .into()
        }
    }

    #[test]
    fn macros_expand_as_in_the_examples_of_the_rfc() {
        for (text, expanded) in [
            ("%{s}", "strong-bad@email.example.com"),
            ("%{o}", "email.example.com"),
            ("%{d}", "email.example.com"),
            ("%{d4}", "email.example.com"),
            ("%{d3}", "email.example.com"),
            ("%{d2}", "example.com"),
            ("%{d1}", "com"),
            ("%{dr}", "com.example.email"),
            ("%{d2r}", "example.email"),
            ("%{l}", "strong-bad"),
            ("%{l-}", "strong.bad"),
            ("%{lr}", "strong-bad"),
            ("%{lr-}", "bad.strong"),
            ("%{l1r-}", "strong"),
            (
                "%{ir}.%{v}._spf.%{d2}",
                "3.2.0.192.in-addr._spf.example.com",
            ),
            ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
            (
                "%{lr-}.lp.%{ir}.%{v}._spf.%{d2}",
                "bad.strong.lp.3.2.0.192.in-addr._spf.example.com",
            ),
            (
                "%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}",
                "3.2.0.192.in-addr.strong.lp._spf.example.com",
            ),
            (
                "%{d2}.trusted-domains.example.net",
                "example.com.trusted-domains.example.net",
            ),
            ("%{S}", "strong-bad%40email.example.com"),
            ("%%%_%-", "% %20"),
        ] {
            let parsed = Text::parse(text, Place::Record).unwrap();
            assert_eq!(
                parsed.expand(&Example { is_v6: false }, 1000).unwrap(),
                expanded,
                "{text}"
            );
        }
        let v6 = Text::parse_domain("%{ir}.%{v}._spf.%{d2}").unwrap();
        assert_eq!(
            v6.name(&Example { is_v6: true }).unwrap(),
            "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"
        );
    }

    #[test]
    fn what_is_no_macro_is_refused() {
        for text in [
            "%", "%a", "%{", "%{}", "%{a}", "%{d", "%{d0}", "%{d00}", "%{dx}", "%{drr}", "%{c}",
            "a b", "\u{e4}",
        ] {
            assert_eq!(Text::parse(text, Place::Record), None, "{text}");
        }
        assert!(Text::parse("a b %{c}", Place::Explanation).is_some());
    }

    #[test]
    fn a_text_that_grows_without_end_is_no_name() {
        let text = "%{s}".repeat(100_000);
        assert_eq!(
            Text::parse_domain(&text)
                .unwrap()
                .name(&Example { is_v6: false }),
            None
        );
    }
}
