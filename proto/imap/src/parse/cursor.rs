//! Steps through a command: atoms, strings, numbers.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use crate::dialect::Dialect;

/// Where a command stops making sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyntaxError {
    /// What should have been there, or what is wrong.
    pub reason: &'static str,
    /// How many bytes into the command.
    pub at: usize,
}

impl core::fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} at byte {}", self.reason, self.at)
    }
}

pub(super) type Result<T> = core::result::Result<T, SyntaxError>;

/// A place in a command.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    dialect: Dialect,
}

/// A character of an atom.
// RFC 3501 §9: ATOM-CHAR is any CHAR except "(" ")" "{" SP CTL list-wildcards quoted-specials "]".
pub(crate) fn is_atom_char(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"(){%*\"\\]".contains(&byte)
}

// RFC 3501 §9: ASTRING-CHAR = ATOM-CHAR / resp-specials.
fn is_astring_char(byte: u8) -> bool {
    is_atom_char(byte) || byte == b']'
}

// RFC 3501 §9: tag = 1*<any ASTRING-CHAR except "+">.
fn is_tag_char(byte: u8) -> bool {
    is_astring_char(byte) && byte != b'+'
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8], dialect: Dialect) -> Self {
        Self {
            bytes,
            at: 0,
            dialect,
        }
    }

    /// How the client speaks.
    pub(super) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(super) const fn fail<T>(&self, reason: &'static str) -> Result<T> {
        Err(SyntaxError {
            reason,
            at: self.at,
        })
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Steps over `byte` if it is next.
    pub(super) fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, byte: u8, reason: &'static str) -> Result<()> {
        if self.accept(byte) {
            Ok(())
        } else {
            self.fail(reason)
        }
    }

    pub(super) fn space(&mut self) -> Result<()> {
        self.expect(b' ', "expected a space")
    }

    pub(super) fn end(&self) -> Result<()> {
        if self.is_at_end() {
            Ok(())
        } else {
            self.fail("expected the end of the command")
        }
    }

    /// Steps over `word` in any case, if it is next.
    pub(super) fn accept_word(&mut self, word: &str) -> bool {
        let found = self
            .rest()
            .get(..word.len())
            .is_some_and(|next| next.eq_ignore_ascii_case(word.as_bytes()));
        if found {
            self.at += word.len();
        }
        found
    }

    pub(super) fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let length = rest.iter().take_while(|byte| wanted(**byte)).count();
        self.at += length;
        &rest[..length]
    }

    fn text_while(&mut self, wanted: fn(u8) -> bool, reason: &'static str) -> Result<&'a str> {
        let start = self.at;
        match core::str::from_utf8(self.take_while(wanted)) {
            Ok(text) if !text.is_empty() => Ok(text),
            _ => Err(SyntaxError { reason, at: start }),
        }
    }

    pub(super) fn tag(&mut self) -> Result<&'a str> {
        self.text_while(is_tag_char, "expected a tag")
    }

    pub(super) fn atom(&mut self, reason: &'static str) -> Result<&'a str> {
        self.text_while(is_atom_char, reason)
    }

    /// A word in upper case: letters, digits, dots and hyphens.
    pub(super) fn word(&mut self, reason: &'static str) -> Result<String> {
        let is_word_char = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        Ok(self.text_while(is_word_char, reason)?.to_ascii_uppercase())
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        let digits = self.text_while(|byte| byte.is_ascii_digit(), "expected a number")?;
        match digits.parse() {
            Ok(number) => Ok(number),
            Err(_) => self.fail("the number is too large"),
        }
    }

    pub(super) fn nonzero(&mut self) -> Result<u32> {
        let number = self.number()?;
        match u32::try_from(number) {
            Ok(0) => self.fail("expected a number above 0"),
            Ok(number) => Ok(number),
            Err(_) => self.fail("the number is too large"),
        }
    }

    /// An atom or a string.
    pub(super) fn astring(&mut self, reason: &'static str) -> Result<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(reason),
            _ => Ok(self.text_while(is_astring_char, reason)?.as_bytes().into()),
        }
    }

    /// A quoted string or a literal.
    pub(super) fn string(&mut self, reason: &'static str) -> Result<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"') => self.quoted().map(Cow::Owned),
            Some(b'{') => self.literal().map(Cow::Borrowed),
            _ => self.fail(reason),
        }
    }

    /// An astring of UTF-8, without control characters.
    pub(super) fn text(&mut self, reason: &'static str) -> Result<String> {
        let bytes = self.astring(reason)?;
        match String::from_utf8(bytes.into_owned()) {
            Ok(text) => Ok(text),
            Err(_) => self.fail("expected UTF-8"),
        }
    }

    // RFC 3501 §9: quoted; only quotes and backslashes are escaped. Bytes above 127 are let in, as clients send UTF-8.
    fn quoted(&mut self) -> Result<Vec<u8>> {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(byte @ (b'"' | b'\\')) => text.push(byte),
                        _ => return self.fail("expected \" or \\ behind a backslash"),
                    }
                }
                Some(0 | b'\r' | b'\n') => {
                    return self.fail("a quoted string must not hold this character");
                }
                Some(byte) => text.push(byte),
                None => return self.fail("expected the end of a quoted string"),
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(text)
    }

    // The fragmenter has seen to it that the bytes are there; whoever calls without it gets an error.
    fn literal(&mut self) -> Result<&'a [u8]> {
        let literal = self.octets()?;
        // RFC 3501 §9: CHAR8 is any byte but NUL.
        if literal.contains(&0) {
            return self.fail("a literal must not hold NUL");
        }
        Ok(literal)
    }

    /// A string, `~` and a literal of any octets, or NIL.
    // RFC 5464 §5: value = nstring / literal8.
    pub(super) fn value(&mut self, reason: &'static str) -> Result<Option<Vec<u8>>> {
        if self.accept_word("NIL") {
            return Ok(None);
        }
        if self.rest().starts_with(b"~{") {
            self.at += 1;
            return Ok(Some(self.octets()?.to_vec()));
        }
        Ok(Some(self.string(reason)?.into_owned()))
    }

    fn octets(&mut self) -> Result<&'a [u8]> {
        self.at += 1;
        let size = self.number()?;
        self.accept(b'+');
        self.expect(b'}', "expected }")?;
        self.expect(b'\r', "expected the end of the line")?;
        self.expect(b'\n', "expected the end of the line")?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let Some(literal) = self.rest().get(..size) else {
            return self.fail("the literal is not complete");
        };
        self.at += size;
        Ok(literal)
    }

    /// `( … )`, the members separated by single blanks.
    pub(super) fn list<T>(
        &mut self,
        mut member: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.expect(b'(', "expected (")?;
        let mut members = Vec::new();
        if self.accept(b')') {
            return Ok(members);
        }
        loop {
            members.push(member(self)?);
            if self.accept(b')') {
                return Ok(members);
            }
            self.expect(b' ', "expected a space or )")?;
        }
    }
}
