//! Messages as deliverd lends them: open files that are read in pieces, never mapped and never written.
//!
//! What reads from the disk blocks and belongs on a blocking thread.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use mail::header;

/// Read at first when a header is wanted; most headers are shorter.
const HEADER_READ: usize = 16 * 1024;

/// An open message.
#[derive(Debug, Clone)]
pub struct Message {
    file: Arc<File>,
    size: u64,
}

impl Message {
    /// Looks how large it is.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn new(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self {
            file: Arc::new(file),
            size,
        })
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The header with the empty line that ends it. All of a message without one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_header(&self) -> io::Result<Vec<u8>> {
        let mut length = HEADER_READ as u64;
        loop {
            let mut start = self.read(0, length.min(self.size))?;
            let body = header::body_start(&start);
            if body < start.len() || length >= self.size {
                start.truncate(body);
                return Ok(start);
            }
            length = length.saturating_mul(4);
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_whole(&self) -> io::Result<Vec<u8>> {
        self.read(0, self.size)
    }

    /// The bytes `start..end`.
    ///
    /// # Errors
    /// When they are not there.
    pub fn read(&self, start: u64, end: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(end.saturating_sub(start))
            .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    }

    /// Fills `buffer` with the bytes from `start` on.
    ///
    /// # Errors
    /// When they are not there.
    pub fn read_into(&self, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, start)
    }

    /// Fills `buffer` with what of the bytes from `start` on is in memory already; returns how many those are. Does not block.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_in_memory(&self, start: u64, buffer: &mut [u8]) -> io::Result<usize> {
        sys::file::read_in_memory(&self.file, buffer, start)
    }
}

/// Makes bytes fit to be sent in a literal.
// RFC 3501 §9: CHAR8 excludes NUL. 0x80 stands in for it, so that sizes stay what they are.
pub fn without_nul(bytes: &mut [u8]) {
    // Hardly any message has one, and looking for the first is many times as fast as looking at each.
    let first = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    for byte in bytes.iter_mut().skip(first) {
        if *byte == 0 {
            *byte = 0x80;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn message(bytes: &[u8]) -> Message {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Message::new(file).unwrap()
    }

    #[test]
    fn a_header_is_found_however_long_it_is() {
        for length in [10, HEADER_READ - 9, HEADER_READ - 8, HEADER_READ, 100_000] {
            let header = format!("X: {}\r\n\r\n", "x".repeat(length));
            let found = message(format!("{header}body\r\n\r\n").as_bytes());
            assert_eq!(found.read_header().unwrap(), header.as_bytes(), "{length}");
        }
    }

    #[test]
    fn nul_is_replaced_wherever_it_stands() {
        for text in [&b""[..], b"\0", b"abc", b"abc\0", b"\0\0a\0bc\0"] {
            let mut bytes = text.to_vec();
            without_nul(&mut bytes);
            let expected = text
                .iter()
                .map(|byte| if *byte == 0 { 0x80 } else { *byte });
            assert!(bytes.into_iter().eq(expected), "{text:?}");
        }
    }

    #[test]
    fn a_message_without_a_body_is_all_header() {
        for text in ["", "X: y", "X: y\r\n", "X: y\r\n\r\n"] {
            assert_eq!(
                message(text.as_bytes()).read_header().unwrap(),
                text.as_bytes()
            );
        }
    }
}
