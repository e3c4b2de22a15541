//! Finds the parts of a message that is too large to be in memory.

use alloc::vec::Vec;

use super::Part;
use super::walk::Walker;
use crate::header::MAX_HEADER_BYTES;

/// No line that is longer can be a boundary: that is part of a header field, and blanks behind it are not that many.
const MAX_LINE: usize = MAX_HEADER_BYTES + 4096;

/// The parts of a message of which a piece after the other is shown. Beside them one header and one line are held in memory, each up to
/// about [`MAX_HEADER_BYTES`].
pub struct Skeleton {
    walker: Walker,
    /// The beginning of a line that was not seen to its end.
    line: Vec<u8>,
    /// Whether more than [`MAX_LINE`] bytes of the current line have passed.
    is_long: bool,
}

impl Default for Skeleton {
    fn default() -> Self {
        Self::new()
    }
}

impl Skeleton {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            walker: Walker::new(),
            line: Vec::new(),
            is_long: false,
        }
    }

    /// The next bytes of the message.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.walker.nothing_more_to_find() && self.line.is_empty() {
                self.walker.rest(bytes);
                return;
            }
            let end = memchr::memchr(b'\n', bytes);
            let (piece, others) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            bytes = others;
            self.piece(piece, end.is_some());
        }
    }

    /// A piece of a line, which ends with it or goes on.
    fn piece(&mut self, piece: &[u8], ends: bool) {
        if self.line.len() + piece.len() > MAX_LINE {
            self.walker.rest(&self.line);
            self.line.clear();
            self.is_long = true;
        }
        match (self.is_long, ends) {
            (false, true) if self.line.is_empty() => self.walker.line(piece),
            (false, true) => {
                self.line.extend_from_slice(piece);
                self.walker.line(&self.line);
                self.line.clear();
            }
            (false, false) => self.line.extend_from_slice(piece),
            (true, _) => {
                self.walker.long_line(piece, ends);
                self.is_long = !ends;
            }
        }
    }

    /// The parts, in the order of their beginnings. The first is the message itself.
    #[must_use]
    pub fn finish(mut self) -> Vec<Part> {
        if !self.line.is_empty() {
            self.walker.line(&self.line);
        }
        self.walker.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_of_a_message_without_line_ends_is_bounded() {
        let mut skeleton = Skeleton::new();
        for _ in 0..100 {
            skeleton.push(&[b'x'; 64 << 10]);
            assert!(skeleton.line.capacity() <= 4 << 20);
        }
        for _ in 0..100 {
            skeleton.push(&b"X: y\r\n".repeat(10_000));
        }
        assert!(skeleton.walker.held() <= 4 << 20);
        assert_eq!(skeleton.finish().len(), 1);
    }
}
