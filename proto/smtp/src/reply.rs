//! Replies: three digits, an enhanced status code and text, on one line or several.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::line::LineError;

/// Most lines of one reply that we read.
pub const MAX_LINES: usize = 100;

// RFC 5321 §4.5.3.1.5: a reply line has at most 512 octets, code and CRLF included.
const MAX_WRITTEN: usize = 512;

/// An enhanced status code, RFC 3463: `5.1.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Enhanced {
    /// 2 success, 4 persistent transient failure, 5 permanent failure.
    pub class: u8,
    /// What the failure is about: 1 address, 2 mailbox, 3 system, 4 network, 5 protocol, 6
    /// content, 7 policy.
    pub subject: u16,
    /// The exact condition.
    pub detail: u16,
}

impl Enhanced {
    /// Parses `class.subject.detail`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let class = match parts.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let subject = parse_part(parts.next()?)?;
        let detail = parse_part(parts.next()?)?;
        parts.next().is_none().then_some(Self {
            class,
            subject,
            detail,
        })
    }
}

// RFC 3463 §2: subject and detail have one to three digits.
fn parse_part(text: &str) -> Option<u16> {
    let digits = (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl From<(u8, u16, u16)> for Enhanced {
    fn from((class, subject, detail): (u8, u16, u16)) -> Self {
        Self {
            class,
            subject,
            detail,
        }
    }
}

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// One reply.
///
/// Invariant: at least one line; no line holds a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<Enhanced>,
    lines: Vec<String>,
}

impl Reply {
    /// A reply of one line with an enhanced status code.
    #[must_use]
    pub fn new(code: u16, enhanced: impl Into<Enhanced>, text: &str) -> Self {
        Self {
            code,
            enhanced: Some(enhanced.into()),
            lines: [sanitise(text)].into(),
        }
    }

    /// A reply without enhanced status code, as RFC 2034 §4 has it for the greeting, `EHLO` and 3xx.
    #[must_use]
    pub fn bare(code: u16, text: &str) -> Self {
        Self {
            code,
            enhanced: None,
            lines: [sanitise(text)].into(),
        }
    }

    /// The same reply with one more line.
    #[must_use]
    pub fn line(mut self, text: &str) -> Self {
        self.lines.push(sanitise(text));
        self
    }

    /// The three digits.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code, if there is one.
    #[must_use]
    pub fn enhanced(&self) -> Option<Enhanced> {
        self.enhanced
    }

    /// The lines, without codes.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// All text on one line.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// 2xx.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 4xx.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5xx.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Appends the reply as it goes over the wire.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (n, line) in self.lines.iter().enumerate() {
            // RFC 5321 §4.2.1: "-" after the code says that another line follows.
            let mark = if n == last { ' ' } else { '-' };
            let mut text = alloc::format!("{}{mark}", self.code);
            // RFC 2034 §4: each line carries the enhanced status code.
            if let Some(enhanced) = self.enhanced {
                text.push_str(&enhanced.to_string());
                text.push(' ');
            }
            text.push_str(line);
            truncate(&mut text, MAX_WRITTEN - 2);
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }

    /// The reply as it goes over the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_to(&mut out);
        out
    }
}

/// Shows the reply on one line: `550 5.1.1 no such user`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        write!(f, " {}", self.text())
    }
}

// Control characters (and what is no character at all) never pass on: not to a terminal, not to a
// log, not into another protocol.
fn sanitise(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn truncate(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
    }
}

/// Why what the server sent is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyError {
    /// It is not even a line.
    Line(LineError),
    /// It does not begin with three digits.
    NoCode,
    /// The lines of one reply have different codes.
    MixedCodes,
    /// More than [`MAX_LINES`] lines.
    TooManyLines,
}

impl From<LineError> for ReplyError {
    fn from(error: LineError) -> Self {
        Self::Line(error)
    }
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(error) => error.fmt(f),
            Self::NoCode => f.write_str("a reply without a code"),
            Self::MixedCodes => f.write_str("a reply with different codes"),
            Self::TooManyLines => f.write_str("a reply with too many lines"),
        }
    }
}

impl core::error::Error for ReplyError {}

/// Puts a reply together from its lines.
#[derive(Debug, Default)]
pub struct ReplyParser {
    code: Option<u16>,
    enhanced: Option<Enhanced>,
    lines: Vec<String>,
}

impl ReplyParser {
    /// Takes one line without CRLF; returns the reply when it was the last.
    ///
    /// # Errors
    /// A [`ReplyError`]; the parser is of no use after it.
    pub fn feed(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyError> {
        let (code, more, text) = split_line(line)?;
        if self.code.is_some_and(|first| first != code) {
            return Err(ReplyError::MixedCodes);
        }
        if self.lines.len() >= MAX_LINES {
            return Err(ReplyError::TooManyLines);
        }
        self.code = Some(code);
        let text = String::from_utf8_lossy(text);
        self.add_text(code, &text);
        if more {
            return Ok(None);
        }
        let done = core::mem::take(self);
        Ok(Some(Reply {
            code,
            enhanced: done.enhanced,
            lines: done.lines,
        }))
    }

    fn add_text(&mut self, code: u16, text: &str) {
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        let found = Enhanced::parse(first).filter(|e| u16::from(e.class) == code / 100);
        let text = match found {
            Some(enhanced) if self.lines.is_empty() => {
                self.enhanced = Some(enhanced);
                rest
            }
            Some(enhanced) if self.enhanced == Some(enhanced) => rest,
            _ => text,
        };
        self.lines.push(sanitise(text));
    }
}

// RFC 5321 §4.2: Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ].
fn split_line(line: &[u8]) -> Result<(u16, bool, &[u8]), ReplyError> {
    let (&[a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'], rest) =
        line.split_first_chunk::<3>().ok_or(ReplyError::NoCode)?
    else {
        return Err(ReplyError::NoCode);
    };
    let code = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
    match rest.split_first() {
        None => Ok((code, false, rest)),
        Some((b' ', text)) => Ok((code, false, text)),
        Some((b'-', text)) => Ok((code, true, text)),
        Some(_) => Err(ReplyError::NoCode),
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn parse(lines: &[&str]) -> Result<Option<Reply>, ReplyError> {
        let mut parser = ReplyParser::default();
        let mut reply = None;
        for line in lines {
            reply = parser.feed(line.as_bytes())?;
        }
        Ok(reply)
    }

    #[test]
    fn each_line_carries_the_enhanced_code() {
        let reply = Reply::new(550, (5, 7, 1), "no").line("really no");
        assert_eq!(reply.to_bytes(), b"550-5.7.1 no\r\n550 5.7.1 really no\r\n");
    }

    #[test]
    fn what_is_written_parses_back() {
        let reply = Reply::new(452, (4, 5, 3), "too many").line("recipients");
        assert_eq!(
            parse(&["452-4.5.3 too many", "452 4.5.3 recipients"]),
            Ok(Some(reply))
        );
    }

    #[test]
    fn text_cannot_break_out_of_its_line() {
        let reply = Reply::bare(250, "a\r\n250 b\u{7}");
        assert_eq!(reply.to_bytes(), b"250 a??250 b?\r\n");
    }

    #[test]
    fn long_text_is_cut_at_512_octets() {
        let bytes = Reply::bare(250, &"ü".repeat(600)).to_bytes();
        assert!(bytes.len() <= 512);
        assert!(core::str::from_utf8(&bytes).is_ok());
    }

    #[test]
    fn an_enhanced_code_of_another_class_is_text() {
        let reply = parse(&["250 5.1.1 odd"]).unwrap().unwrap();
        assert_eq!(reply.enhanced(), None);
        assert_eq!(reply.text(), "5.1.1 odd");
    }

    #[test]
    fn a_code_alone_is_a_reply() {
        assert_eq!(parse(&["250"]), Ok(Some(Reply::bare(250, ""))));
    }

    #[test]
    fn garbage_is_no_reply() {
        for line in ["", "25", "abc", "150 x", "250_x", "SSH-2.0-x", "600 x"] {
            assert_eq!(parse(&[line]), Err(ReplyError::NoCode), "{line:?}");
        }
        assert_eq!(parse(&["250-a", "550 b"]), Err(ReplyError::MixedCodes));
        let many = ["250-x"; MAX_LINES + 1];
        assert_eq!(parse(&many), Err(ReplyError::TooManyLines));
    }

    #[test]
    fn remote_text_is_sanitised() {
        let mut parser = ReplyParser::default();
        let reply = parser.feed(b"550 a\x1b[2Jb\xff").unwrap().unwrap();
        assert_eq!(reply.text(), "a?[2Jb\u{fffd}");
    }
}
