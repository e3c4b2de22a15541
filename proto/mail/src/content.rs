//! Reads the MIME header fields: what a part is, how it is encoded, how it should be shown.

use alloc::string::String;
use alloc::vec::Vec;

use crate::lexer::{Lexer, is_token};
use crate::parameter::{self, Parameters};

/// Longer words are none.
// RFC 6838 §4.2: names of types have at most 127 characters.
pub const MAX_WORD: usize = 127;

/// A `Content-Type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentType {
    /// The top-level type in lower case, `text`.
    pub kind: String,
    /// The subtype in lower case, `plain`.
    pub subtype: String,
    /// What follows the subtype.
    pub parameters: Parameters,
}

impl ContentType {
    /// Reads the value of a `Content-Type` field; `None` when it is not one.
    // RFC 2045 §5.1: type "/" subtype *(";" parameter).
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut lexer = Lexer::new(value);
        lexer.skip_blanks();
        let kind = token(&mut lexer)?;
        lexer.skip_blanks();
        if !lexer.accept(b'/') {
            return None;
        }
        lexer.skip_blanks();
        let subtype = token(&mut lexer)?;
        Some(Self {
            kind,
            subtype,
            parameters: parameter::parse(&mut lexer),
        })
    }

    /// What a part is that does not say.
    // RFC 2045 §5.2: text/plain; charset=us-ascii.
    #[must_use]
    pub fn text_plain() -> Self {
        let mut plain = Self::bare("text", "plain");
        plain.parameters = Parameters::from_raw(alloc::vec![parameter::Parameter {
            name: "charset".into(),
            value: b"us-ascii".to_vec(),
        }]);
        plain
    }

    /// A type without parameters.
    #[must_use]
    pub fn bare(kind: &str, subtype: &str) -> Self {
        Self {
            kind: kind.into(),
            subtype: subtype.into(),
            parameters: Parameters::default(),
        }
    }

    /// Whether this is `kind/subtype`, both given in lower case.
    #[must_use]
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind == kind && self.subtype == subtype
    }
}

/// A `Content-Disposition`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disposition {
    /// `attachment`, `inline` or another word, in lower case.
    pub kind: String,
    /// What follows it, such as `filename`.
    pub parameters: Parameters,
}

impl Disposition {
    /// Reads the value of a `Content-Disposition` field; `None` when it is not one.
    // RFC 2183 §2.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut lexer = Lexer::new(value);
        lexer.skip_blanks();
        let kind = token(&mut lexer)?;
        let parameters = parameter::parse(&mut lexer);
        Some(Self { kind, parameters })
    }
}

/// A `Content-Transfer-Encoding`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `7bit`, the default.
    #[default]
    SevenBit,
    /// `8bit`.
    EightBit,
    /// `binary`.
    Binary,
    /// `quoted-printable`.
    QuotedPrintable,
    /// `base64`.
    Base64,
    /// A word we do not know, in lower case.
    Other(String),
}

impl Encoding {
    /// Reads the value of a `Content-Transfer-Encoding` field; what is no word means `7bit`.
    // RFC 2045 §6.1: the default is 7bit, names are not case-sensitive.
    #[must_use]
    pub fn parse(value: &[u8]) -> Self {
        let mut lexer = Lexer::new(value);
        lexer.skip_blanks();
        let Some(word) = token(&mut lexer) else {
            return Self::SevenBit;
        };
        match word.as_str() {
            "7bit" => Self::SevenBit,
            "8bit" => Self::EightBit,
            "binary" => Self::Binary,
            "quoted-printable" => Self::QuotedPrintable,
            "base64" => Self::Base64,
            _ => Self::Other(word),
        }
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::SevenBit => "7bit",
            Self::EightBit => "8bit",
            Self::Binary => "binary",
            Self::QuotedPrintable => "quoted-printable",
            Self::Base64 => "base64",
            Self::Other(word) => word,
        }
    }

    /// Whether the bytes of such a part are its content.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        matches!(self, Self::SevenBit | Self::EightBit | Self::Binary)
    }
}

/// The tags of a `Content-Language` field, at most 100.
// RFC 3282 §2: a list of language tags with commas between.
#[must_use]
pub fn languages(value: &[u8]) -> Vec<String> {
    let mut lexer = Lexer::new(value);
    let mut tags = Vec::new();
    while tags.len() < 100 {
        lexer.skip_blanks();
        if let Some(tag) = token(&mut lexer) {
            tags.push(tag);
        } else if lexer.peek().is_some() {
            lexer.advance();
        } else {
            break;
        }
    }
    tags
}

fn token(lexer: &mut Lexer<'_>) -> Option<String> {
    let word = core::str::from_utf8(lexer.run(is_token)).ok()?;
    (1..=MAX_WORD)
        .contains(&word.len())
        .then(|| word.to_ascii_lowercase())
}
