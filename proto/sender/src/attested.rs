//! What somebody else found, as it stands in an `ARC-Authentication-Results` field (RFC 8617 §4.1.1): in the words of
//! `Authentication-Results` (RFC 8601 §2.2), and from whomever.

use alloc::vec::Vec;

/// Whether the results, which stand behind `i=`, say that DMARC passed for the author's domain `author`. Where they say nothing about
/// DMARC, SPF or DKIM for just that domain is enough, which is what DMARC asks for.
///
/// What cannot be read says nothing. Of two things said about DMARC both must be that.
#[must_use]
pub fn passed(results: &[u8], author: &str) -> bool {
    let Some(tokens) = tokens(results) else {
        return false;
    };
    let (mut is_said, mut is_aligned) = (false, false);
    // The first is who says it.
    for tokens in tokens.split(|token| *token == Token::End).skip(1) {
        let Some(result) = Finding::read(tokens) else {
            continue;
        };
        match result.method.as_slice() {
            b"dmarc" => match result.is_pass && result.is_of("header.from", author) {
                true => is_said = true,
                false => return false,
            },
            b"dkim" => {
                let is_of = result.is_of("header.d", author) || result.is_of("header.i", author);
                is_aligned |= result.is_pass && is_of;
            }
            b"spf" => is_aligned |= result.is_pass && result.is_of("smtp.mailfrom", author),
            _ => {}
        }
    }
    is_said || is_aligned
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// A word or a quoted string, in lower case.
    Word(Vec<u8>),
    Equals,
    /// `;`
    End,
}

/// What one method found.
struct Finding<'a> {
    method: Vec<u8>,
    is_pass: bool,
    properties: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Finding<'a> {
    fn read(tokens: &'a [Token]) -> Option<Self> {
        let mut pairs = tokens.chunks(3).map(|three| match three {
            [Token::Word(name), Token::Equals, Token::Word(value)] => {
                Some((name.as_slice(), value.as_slice()))
            }
            _ => None,
        });
        let (method, result) = pairs.next()??;
        // A version may stand behind the name.
        let method = method.split(|byte| *byte == b'/').next()?;
        Some(Self {
            method: method.to_vec(),
            is_pass: result == b"pass",
            properties: pairs.collect::<Option<_>>()?,
        })
    }

    /// Whether it says once whom it is about, and that is `domain`, or an address there.
    fn is_of(&self, property: &str, domain: &str) -> bool {
        let mut values = self.properties.iter();
        let mut values = values
            .by_ref()
            .filter(|(name, _)| *name == property.as_bytes());
        let (Some((_, value)), None) = (values.next(), values.next()) else {
            return false;
        };
        let host = value.rsplit(|byte| *byte == b'@').next();
        host.is_some_and(|host| host.eq_ignore_ascii_case(domain.as_bytes()))
    }
}

// `None` when a comment or a quoted string does not end.
fn tokens(text: &[u8]) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b';' => tokens.push(Token::End),
            b'=' => tokens.push(Token::Equals),
            b'(' => skip_comment(&mut bytes)?,
            b'"' => tokens.push(Token::Word(quoted(&mut bytes)?)),
            first => {
                let mut word = Vec::from([first.to_ascii_lowercase()]);
                // In a value, as of `header.b`, more of them may stand.
                let is_value = tokens.last() == Some(&Token::Equals);
                let ends = |byte: u8| b" \t\r\n;(\"".contains(&byte) || !is_value && byte == b'=';
                while let Some(byte) = bytes.next_if(|byte| !ends(*byte)) {
                    word.push(byte.to_ascii_lowercase());
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Some(tokens)
}

fn skip_comment(bytes: &mut impl Iterator<Item = u8>) -> Option<()> {
    let mut depth = 1_usize;
    while depth > 0 {
        match bytes.next()? {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'\\' => drop(bytes.next()?),
            _ => {}
        }
    }
    Some(())
}

fn quoted(bytes: &mut impl Iterator<Item = u8>) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        match bytes.next()? {
            b'"' => return Some(text),
            b'\\' => text.push(bytes.next()?.to_ascii_lowercase()),
            byte => text.push(byte.to_ascii_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(results: &str) -> bool {
        passed(results.as_bytes(), "shop.example")
    }

    #[test]
    fn what_others_write_is_read() {
        for results in [
            "mx.list.example; dmarc=pass header.from=shop.example",
            "mx.google.example; dkim=pass header.i=@shop.example header.s=s1 header.b=Ab/c+=;\r\n spf=pass (google.com: domain of \
             a@shop.example designates 192.0.2.1 as permitted sender) smtp.mailfrom=a@shop.example; dmarc=pass \
             (p=REJECT sp=REJECT dis=NONE) header.from=shop.example",
            "mx.example 1; spf=fail smtp.mailfrom=x@far.example; dmarc/1 = pass (a \\) (b)) action=none header.from=\"Shop.Example\";",
            "mx.example; DMARC=Pass reason=\"x; dmarc=fail\" Header.From=a@shop.example",
            // RFC 8617, appendix B.
            "lists.example.org; spf=pass smtp.mfrom=jqd@d1.example; dkim=pass (1024-bit key) header.i=@d1.example; \
             dmarc=pass header.from=shop.example",
        ] {
            assert!(says(results), "{results}");
        }
    }

    #[test]
    fn without_dmarc_its_own_signature_or_sender_is_enough() {
        assert!(says("mx; dkim=pass header.d=shop.example header.s=x"));
        assert!(says(
            "mx; dkim=fail header.d=shop.example; dkim=pass header.i=a@shop.example"
        ));
        assert!(says("mx; spf=pass smtp.mailfrom=shop.example"));
        for results in [
            "mx; dkim=pass header.d=sub.shop.example",
            "mx; spf=pass smtp.mailfrom=a@evil.example; dkim=none",
            "mx; spf=pass smtp.helo=shop.example",
            "mx; dkim=pass header.d=shop.example; dmarc=fail header.from=shop.example",
            "mx; dkim=pass header.d=shop.example; dmarc=none header.from=shop.example",
        ] {
            assert!(!says(results), "{results}");
        }
    }

    #[test]
    fn nothing_else_says_that_it_passed() {
        for results in [
            "",
            "dmarc=pass header.from=shop.example",
            "mx; none",
            "mx; dmarc=fail header.from=shop.example",
            "mx; dmarc=pass",
            "mx; dmarc=pass header.from=evil.example",
            "mx; dmarc=pass header.from=shop.example.evil.example",
            "mx; dmarc=pass header.from=\"shop.example@evil.example\"",
            "mx; dmarc=pass header.from=shop.example header.from=evil.example",
            "mx; dmarc=pass header.from=evil.example; dmarc=pass header.from=shop.example",
            "mx; dmarc=pass header.from=shop.example; dmarc=fail header.from=shop.example",
            "mx; (dmarc=pass header.from=shop.example)",
            "mx; spf=fail reason=\"; dmarc=pass header.from=shop.example\"",
            "mx; spf=fail (; dmarc=pass header.from=shop.example",
            "mx; dmarc=pass header.from=shop.example \"open",
            "mx; dmarc=pass header.from==shop.example",
            "mx; x-dmarc=pass header.from=shop.example",
            "mx; dmarc=passed header.from=shop.example",
        ] {
            assert!(!says(results), "{results}");
        }
    }

    #[test]
    fn any_bytes_are_read() {
        let whole = b"mx (c) 1; dmarc=pass reason=\"a\\\"\" header.from=shop.example; spf=x";
        for cut in 0..whole.len() {
            for byte in 0..=u8::MAX {
                let mut bytes = whole.to_vec();
                bytes[cut] = byte;
                let _ = passed(&bytes, "shop.example");
                let _ = passed(&bytes[cut..], "");
            }
        }
    }
}
