//! Reads the `; name=value` parameters of MIME header fields, RFC 2231 pieces and charsets included.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::lexer::{Lexer, is_token};

/// Further parameters of one field are not read.
pub const MAX_PARAMETERS: usize = 200;

/// One parameter as written, its quotes removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The name in lower case, with RFC 2231 marks such as `filename*0*`.
    pub name: String,
    /// The value, still percent-encoded where RFC 2231 has it so.
    pub value: Vec<u8>,
}

/// A parameter with its RFC 2231 pieces joined and decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The name in lower case, without marks.
    pub name: String,
    /// The charset the value is in, in lower case; `None` when the field does not say.
    pub charset: Option<String>,
    /// The bytes of the value in that charset.
    pub value: Vec<u8>,
}

/// All parameters of one field, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<Parameter>);

impl Parameters {
    /// Wraps parameters that are already in raw form.
    #[must_use]
    pub fn from_raw(raw: Vec<Parameter>) -> Self {
        Self(raw)
    }

    /// As written: what IMAP's BODYSTRUCTURE shows.
    #[must_use]
    pub fn raw(&self) -> &[Parameter] {
        &self.0
    }

    /// Keeps the first `count` and no memory for more.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.0.truncate(count);
        self.0.shrink_to_fit();
    }

    /// The decoded value of the parameter `name` (lower case); the plain form wins over RFC 2231's.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<Vec<u8>> {
        let plain = self.0.iter().find(|parameter| parameter.name == name);
        if let Some(plain) = plain {
            return Some(plain.value.clone());
        }
        self.extended(name).map(|found| found.value)
    }

    /// The decoded parameter `name` (lower case); RFC 2231's form wins over the plain one.
    // RFC 6266 §4.3 gives the same order of preference.
    #[must_use]
    pub fn decoded(&self, name: &str) -> Option<Decoded> {
        self.extended(name).or_else(|| {
            let plain = self.0.iter().find(|parameter| parameter.name == name)?;
            Some(Decoded {
                name: name.into(),
                charset: None,
                value: plain.value.clone(),
            })
        })
    }

    /// Joins the pieces of `name*`, `name*0`, `name*1*`, ….
    // RFC 2231 §3, §4: pieces count from 0 without gaps; only the first carries charset and language.
    fn extended(&self, name: &str) -> Option<Decoded> {
        let mut pieces = BTreeMap::new();
        for parameter in &self.0 {
            if let Some(mark) = mark_of(&parameter.name, name) {
                pieces
                    .entry(mark.number)
                    .or_insert((mark.encoded, parameter));
            }
        }
        let mut decoded = Decoded {
            name: name.into(),
            charset: None,
            value: Vec::new(),
        };
        for (expected, (number, (encoded, parameter))) in pieces.iter().enumerate() {
            if expected != *number {
                break;
            }
            decoded.append(*number, *encoded, &parameter.value);
        }
        pieces.contains_key(&0).then_some(decoded)
    }
}

impl Decoded {
    fn append(&mut self, number: usize, encoded: bool, piece: &[u8]) {
        if !encoded {
            self.value.extend_from_slice(piece);
            return;
        }
        let mut text = piece;
        if number == 0
            && let Some((charset, value)) = split_charset(piece)
        {
            let charset = String::from_utf8_lossy(charset).to_ascii_lowercase();
            self.charset = (!charset.is_empty()).then_some(charset);
            text = value;
        }
        append_percent_decoded(text, &mut self.value);
    }
}

struct Mark {
    number: usize,
    encoded: bool,
}

/// The RFC 2231 mark of `written` if it is a piece of `name`.
fn mark_of(written: &str, name: &str) -> Option<Mark> {
    let rest = written.strip_prefix(name)?.strip_prefix('*')?;
    if rest.is_empty() {
        return Some(Mark {
            number: 0,
            encoded: true,
        });
    }
    let digits = rest.strip_suffix('*');
    let number = digits.unwrap_or(rest);
    let canonical = number == "0" || !number.starts_with('0');
    let valid = canonical && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    Some(Mark {
        number: valid.then(|| number.parse().ok()).flatten()?,
        encoded: digits.is_some(),
    })
}

/// Splits `charset'language'value`.
fn split_charset(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = piece.splitn(3, |&byte| byte == b'\'');
    let charset = parts.next()?;
    let _language = parts.next()?;
    Some((charset, parts.next()?))
}

fn append_percent_decoded(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        match rest {
            [b'%', high, low, after @ ..] => {
                if let Some(byte) = crate::decode::hex_pair(*high, *low) {
                    out.push(byte);
                    rest = after;
                } else {
                    out.push(b'%');
                    rest = &rest[1..];
                }
            }
            [byte, after @ ..] => {
                out.push(*byte);
                rest = after;
            }
            [] => return,
        }
    }
}

/// Reads parameters up to the end of the field; what is not one is passed over.
pub(crate) fn parse(lexer: &mut Lexer<'_>) -> Parameters {
    let mut raw = Vec::new();
    while raw.len() < MAX_PARAMETERS && skip_to_semicolon(lexer) {
        if let Some(parameter) = parameter(lexer) {
            raw.push(parameter);
        }
    }
    Parameters(raw)
}

/// Steps over the next semicolon that is outside of quotes and comments.
fn skip_to_semicolon(lexer: &mut Lexer<'_>) -> bool {
    loop {
        lexer.skip_blanks();
        match lexer.peek() {
            None => return false,
            Some(b';') => {
                lexer.advance();
                return true;
            }
            Some(b'"') => drop(lexer.quoted_string()),
            Some(_) => lexer.advance(),
        }
    }
}

fn parameter(lexer: &mut Lexer<'_>) -> Option<Parameter> {
    lexer.skip_blanks();
    let name = core::str::from_utf8(lexer.run(is_token)).ok()?;
    lexer.skip_blanks();
    if name.is_empty() || !lexer.accept(b'=') {
        return None;
    }
    lexer.skip_blanks();
    let value = if lexer.peek() == Some(b'"') {
        lexer.quoted_string()
    } else {
        // More than a token is taken here: many senders leave `=`, `/` or 8-bit text unquoted.
        lexer.run(|byte| !b" \t\r\n;(\"".contains(&byte)).to_vec()
    };
    Some(Parameter {
        name: name.to_ascii_lowercase(),
        value,
    })
}
