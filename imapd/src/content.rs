//! Contents of parts, their transfer encoding undone (RFC 3516), a piece of the file after the other.
//!
//! Everything here blocks and belongs on a blocking thread.

use std::io;
use std::ops::Range;

use imap::body::Partial;
use mail::content::Encoding;
use mail::decode::Decoder;
use mail::mime::{Part, Skeleton};

use crate::message::Message;

/// Read from the file at once.
const PIECE: usize = 128 * 1024;

/// Why a content cannot be shown: nobody here knows how it is encoded.
#[derive(Debug, thiserror::Error)]
#[error("the transfer encoding is not known")]
pub struct UnknownEncoding;

/// The parts of a message, none of which is ever in memory as a whole.
///
/// # Errors
/// When the message cannot be read.
pub fn parts(message: &Message) -> io::Result<Vec<Part>> {
    let mut skeleton = Skeleton::new();
    let mut pieces = Pieces::new(message, 0..message.size());
    while let Some(piece) = pieces.next()? {
        skeleton.push(piece);
    }
    Ok(skeleton.finish())
}

/// What some bytes of a message stand for, or a window of it.
#[derive(Debug, Clone)]
pub struct Content {
    message: Message,
    encoded: Range<u64>,
    encoding: Encoding,
    /// Which bytes of the content.
    window: Range<u64>,
}

/// What must be known of a content before it is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measure {
    /// Bytes.
    pub size: u64,
    /// Whether NUL is among them.
    pub has_nul: bool,
}

impl Content {
    /// What the bytes `encoded` of a message stand for.
    ///
    /// # Errors
    /// [`UnknownEncoding`].
    pub fn new(message: &Message, encoded: Range<u64>, encoding: &Encoding) -> io::Result<Self> {
        if matches!(encoding, Encoding::Other(_)) {
            return Err(unknown());
        }
        Ok(Self {
            message: message.clone(),
            encoded,
            encoding: encoding.clone(),
            window: 0..u64::MAX,
        })
    }

    /// Looks through it, or through the wanted part of it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn measure(&self, partial: Option<Partial>) -> io::Result<Measure> {
        let wanted = self.cut(partial, u64::MAX);
        let mut measure = Measure::default();
        let mut decoding = wanted.decode()?;
        let mut piece = Vec::new();
        while decoding.next(&mut piece)? {
            measure.size += piece.len() as u64;
            measure.has_nul = measure.has_nul || memchr::memchr(0, &piece).is_some();
            piece.clear();
        }
        Ok(measure)
    }

    /// The wanted part of it, no more than `size` bytes.
    // RFC 3516 §4.2: what is beyond the end is left out.
    #[must_use]
    pub fn cut(&self, partial: Option<Partial>, size: u64) -> Self {
        let start = partial.map_or(0, |partial| partial.origin);
        let count = partial.map_or(size, |partial| partial.count.min(size));
        Self {
            window: start..start.saturating_add(count),
            ..self.clone()
        }
    }

    /// Appends all of it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn append_to(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut decoding = self.decode()?;
        while decoding.next(out)? {}
        Ok(())
    }

    /// Begins to decode it.
    ///
    /// # Errors
    /// [`UnknownEncoding`].
    pub fn decode(&self) -> io::Result<Decoding> {
        Ok(Decoding {
            message: self.message.clone(),
            left: self.encoded.clone(),
            decoder: Some(Decoder::new(&self.encoding).ok_or_else(unknown)?),
            before: self.window.start,
            wanted: self.window.end - self.window.start,
        })
    }
}

fn unknown() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, UnknownEncoding)
}

/// A content that is being decoded.
#[derive(Debug)]
pub struct Decoding {
    message: Message,
    /// What was not read yet.
    left: Range<u64>,
    /// `None` at the end.
    decoder: Option<Decoder>,
    /// How many bytes of content come before those wanted.
    before: u64,
    /// How many bytes are wanted.
    wanted: u64,
}

impl Decoding {
    /// Appends more of it to `out`; false if there is no more.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn next(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        let Some(mut decoder) = self.decoder.take().filter(|_| self.wanted > 0) else {
            return Ok(false);
        };
        let end = self.left.end.min(self.left.start + PIECE as u64);
        let encoded = self.message.read(self.left.start, end)?;
        self.left.start = end;
        let start = out.len();
        decoder.push(&encoded, out);
        if self.left.is_empty() {
            decoder.finish(out);
        } else {
            self.decoder = Some(decoder);
        }
        let come = (out.len() - start) as u64;
        let skipped = self.before.min(come);
        self.before -= skipped;
        let kept = self.wanted.min(come - skipped);
        self.wanted -= kept;
        let at = |offset: u64| start + usize::try_from(offset).unwrap_or(usize::MAX);
        out.truncate(at(skipped + kept));
        out.drain(start..at(skipped));
        Ok(true)
    }
}

/// The bytes of a file, a piece after the other.
struct Pieces<'a> {
    message: &'a Message,
    left: Range<u64>,
    buffer: Vec<u8>,
}

impl<'a> Pieces<'a> {
    fn new(message: &'a Message, left: Range<u64>) -> Self {
        Self {
            message,
            left,
            buffer: Vec::new(),
        }
    }

    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let length = PIECE.min(usize::try_from(self.left.end - self.left.start).unwrap_or(PIECE));
        self.buffer.resize(length, 0);
        self.message.read_into(self.left.start, &mut self.buffer)?;
        self.left.start += length as u64;
        Ok(Some(&self.buffer))
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

    fn content(bytes: &[u8], encoding: &Encoding) -> Content {
        let message = message(bytes);
        let size = message.size();
        Content::new(&message, 0..size, encoding).unwrap()
    }

    #[test]
    fn windows_are_cut_out_of_what_is_decoded() {
        let bytes: Vec<u8> = (0..400_000_u32)
            .map(|number| (number % 251 + 1) as u8)
            .collect();
        let encoded = mail::encode::base64_body(&bytes);
        let content = content(encoded.as_bytes(), &Encoding::Base64);
        for (origin, count) in [
            (0, 1),
            (1, 5),
            (99_999, 200_000),
            (399_999, 9),
            (400_000, 1),
        ] {
            let partial = Some(Partial { origin, count });
            let measure = content.measure(partial).unwrap();
            let mut found = Vec::new();
            let cut = content.cut(partial, measure.size);
            cut.append_to(&mut found).unwrap();
            let start = origin as usize;
            let expected = &bytes[start..bytes.len().min(start + count as usize)];
            assert!(found == expected && measure.size == expected.len() as u64);
        }
        let all = content.measure(None).unwrap();
        assert_eq!(
            all,
            Measure {
                size: 400_000,
                has_nul: false
            }
        );
    }

    // A part of a gigabyte would be held many times over otherwise.
    #[test]
    fn of_a_large_content_a_piece_is_in_memory() {
        let encoded = "QUJD".repeat(1 << 20);
        let content = content(encoded.as_bytes(), &Encoding::Base64);
        let mut decoding = content.decode().unwrap();
        let mut piece = Vec::new();
        let mut size = 0;
        while decoding.next(&mut piece).unwrap() {
            assert!(piece.capacity() <= 512 << 10);
            size += piece.len();
            piece.clear();
        }
        assert_eq!(size, 3 << 20);
    }

    #[test]
    fn what_nobody_can_decode_is_no_content() {
        let message = message(b"x");
        let error = Content::new(&message, 0..1, &Encoding::Other("x-uue".into())).unwrap_err();
        assert!(
            error
                .get_ref()
                .is_some_and(|inner| inner.is::<UnknownEncoding>())
        );
    }
}
