//! Lines as SMTP has them: ended by CRLF and nothing else, and never longer than a limit.
//!
//! All commands and replies pass through here before any grammar sees them, so nothing behind this
//! module meets a CR, LF or NUL.

use alloc::vec::Vec;
use core::fmt;

use memchr::memchr3;

/// Longest line while SASL is possible. RFC 4954 §4: base64 strings of at least 12288 octets.
pub const MAX_AUTH: usize = 12288;

/// Longest line of a reply we read, CRLF included. RFC 5321 §4.5.3.1.5 asks for 512 octets.
pub const MAX_REPLY: usize = 2048;

/// What makes a line unacceptable. There is no way to go on reading lines after one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineError {
    /// The line is longer than the limit.
    TooLong,
    /// A CR that no LF follows.
    BareCr,
    /// An LF that no CR precedes.
    BareLf,
    /// A NUL octet.
    Nul,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "line too long",
            Self::BareCr => "CR without LF, lines end with CRLF",
            Self::BareLf => "LF without CR, lines end with CRLF",
            Self::Nul => "NUL octet",
        })
    }
}

impl core::error::Error for LineError {}

/// Bytes that arrived and are not yet used up.
///
/// Invariant: `start <= scanned <= bytes.len()`, and nothing in `start..scanned` is CR, LF or NUL.
#[derive(Debug)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    start: usize,
    scanned: usize,
    limit: usize,
}

impl LineBuffer {
    // A buffer grown for a burst is given back once it is empty.
    const KEEP: usize = 1024;

    /// An empty buffer whose lines have at most `limit` octets, CRLF included.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            scanned: 0,
            limit,
        }
    }

    /// From now on, lines have at most `limit` octets, CRLF included.
    pub fn limit_lines(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Adds what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        // Without this, a client that always sends a piece of its next line fills the memory.
        self.bytes.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next line, without its CRLF; `None` when it has not arrived in full.
    ///
    /// # Errors
    /// A [`LineError`] as soon as the octet that causes it is seen.
    pub fn take_line(&mut self) -> Result<Option<Vec<u8>>, LineError> {
        let unscanned = self.bytes.get(self.scanned..).unwrap_or_default();
        let special = memchr3(b'\r', b'\n', 0, unscanned);
        let end = special.map_or(self.bytes.len(), |n| self.scanned + n);
        self.scanned = end;
        if end - self.start + 2 > self.limit {
            return Err(LineError::TooLong);
        }
        match (self.bytes.get(end), self.bytes.get(end + 1)) {
            (None, _) | (Some(b'\r'), None) => Ok(None),
            (Some(b'\r'), Some(b'\n')) => Ok(Some(self.cut(end))),
            (Some(b'\r'), Some(_)) => Err(LineError::BareCr),
            (Some(b'\n'), _) => Err(LineError::BareLf),
            (Some(_), _) => Err(LineError::Nul),
        }
    }

    fn cut(&mut self, end: usize) -> Vec<u8> {
        let line = self.bytes.get(self.start..end).unwrap_or_default().to_vec();
        self.consume(end + 2 - self.start);
        line
    }

    /// What arrived and is not used up.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Uses up the first `count` octets of [`LineBuffer::pending`].
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
        self.scanned = self.start;
        if self.start == self.bytes.len() {
            self.clear();
        }
    }

    /// Forgets everything that arrived.
    pub fn clear(&mut self) {
        self.start = 0;
        self.scanned = 0;
        if self.bytes.capacity() > Self::KEEP {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, LineError> {
        let mut buffer = LineBuffer::new(limit);
        buffer.push(input);
        let mut lines = Vec::new();
        while let Some(line) = buffer.take_line()? {
            lines.push(line);
        }
        Ok(lines)
    }

    #[test]
    fn lines_come_out_without_crlf() {
        assert_eq!(
            lines(b"NOOP\r\n\r\nQU", 512),
            Ok([&b"NOOP"[..], b""].map(Vec::from).to_vec())
        );
    }

    #[test]
    fn bare_line_ends_and_nul_are_errors() {
        assert_eq!(lines(b"a\nb\r\n", 512), Err(LineError::BareLf));
        assert_eq!(lines(b"a\rb\r\n", 512), Err(LineError::BareCr));
        assert_eq!(lines(b"a\r\r\n", 512), Err(LineError::BareCr));
        assert_eq!(lines(b"a\0b\r\n", 512), Err(LineError::Nul));
        assert_eq!(lines(b"\n", 512), Err(LineError::BareLf));
    }

    #[test]
    fn the_limit_counts_crlf() {
        assert!(lines(b"12345678\r\n", 10).is_ok());
        assert_eq!(lines(b"123456789\r\n", 10), Err(LineError::TooLong));
        assert_eq!(lines(b"123456789", 10), Err(LineError::TooLong));
        assert_eq!(lines(b"123456789\0", 10), Err(LineError::TooLong));
    }

    #[test]
    fn lines_that_were_taken_are_not_kept_although_a_piece_of_the_next_is_always_there() {
        let mut buffer = LineBuffer::new(512);
        buffer.push(b"NO");
        for _ in 0..10_000 {
            buffer.push(b"OP\r\nNO");
            assert_eq!(buffer.take_line(), Ok(Some(b"NOOP".to_vec())));
            assert_eq!(buffer.take_line(), Ok(None));
        }
        assert!(buffer.bytes.capacity() <= LineBuffer::KEEP);
    }

    #[test]
    fn a_line_may_arrive_octet_by_octet() {
        let mut buffer = LineBuffer::new(512);
        for b in b"QUIT\r" {
            buffer.push(&[*b]);
            assert_eq!(buffer.take_line(), Ok(None));
        }
        buffer.push(b"\nrest");
        assert_eq!(buffer.take_line(), Ok(Some(b"QUIT".to_vec())));
        assert_eq!(buffer.pending(), b"rest");
    }
}
