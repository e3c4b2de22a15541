//! The single pass over a message that finds its parts.

use alloc::vec::Vec;

use super::boundary::{Boundaries, Delimiter, trim_end};
use super::{MAX_DEPTH, MAX_PARAMETERS, MAX_PARTS, Part, Structure};
use crate::content::{ContentType, Encoding};
use crate::header::{self, line_end, without_line_end};

pub(super) fn walk(bytes: &[u8]) -> Vec<Part> {
    let mut walker = Walker::new();
    let mut position = 0;
    while position < bytes.len() && !walker.nothing_more_to_find() {
        let next = line_end(bytes, position);
        walker.line(&bytes[position..next]);
        position = next;
    }
    walker.rest(&bytes[position..]);
    walker.finish()
}

pub(super) struct Walker {
    parts: Vec<Part>,
    /// The parts the current line is inside of, outermost first. Never empty before the end.
    open: Vec<Open>,
    boundaries: Boundaries,
    /// The header of the innermost open part as far as it was seen, if that is in its header.
    header: Vec<u8>,
    /// How many bytes were passed.
    position: usize,
    /// How long the end of the last line is.
    last_end: usize,
    /// What [`Walker::rest`] passed last.
    last_byte: u8,
    /// Line ends passed so far.
    lines: usize,
    /// How many parameters may still be kept.
    parameters_left: usize,
}

struct Open {
    part: usize,
    in_header: bool,
    lines_before_body: usize,
    last_child: Option<usize>,
    boundary: Option<Vec<u8>>,
}

impl Walker {
    pub(super) fn new() -> Self {
        let mut walker = Self {
            parts: Vec::new(),
            open: Vec::new(),
            boundaries: Boundaries::default(),
            header: Vec::new(),
            position: 0,
            last_end: 0,
            last_byte: 0,
            lines: 0,
            parameters_left: MAX_PARAMETERS,
        };
        walker.begin_part(0);
        walker
    }

    /// Passes a line with its end; only the last one may have none.
    pub(super) fn line(&mut self, whole: &[u8]) {
        let line = without_line_end(whole);
        let next = self.position + whole.len();
        let delimiter = self.delimiter(line);
        if let Some(delimiter) = delimiter {
            self.close_above(delimiter.level, self.position);
        }
        self.lines += usize::from(whole.ends_with(b"\n"));
        self.last_end = whole.len() - line.len();
        self.position = next;
        match delimiter {
            Some(delimiter) => self.after_delimiter(delimiter, next),
            None if self.in_header() => {
                let room = header::MAX_HEADER_BYTES.saturating_sub(self.header.len());
                self.header
                    .extend_from_slice(&whole[..whole.len().min(room)]);
                if line.is_empty() {
                    self.end_header(next);
                }
            }
            None => {}
        }
    }

    /// Passes a piece of a line that is too long for a boundary.
    pub(super) fn long_line(&mut self, piece: &[u8], ends: bool) {
        let whole = [self.last_byte, *piece.last().unwrap_or(&self.last_byte)];
        let pair = piece.last_chunk().unwrap_or(&whole);
        let end = match pair {
            [b'\r', b'\n'] => 2,
            _ => 1,
        };
        self.rest(piece);
        self.last_end = if ends { end } else { 0 };
    }

    /// Passes what has no lines to be looked at.
    pub(super) fn rest(&mut self, bytes: &[u8]) {
        self.lines += memchr::memchr_iter(b'\n', bytes).count();
        self.position += bytes.len();
        self.last_byte = bytes.last().copied().unwrap_or(self.last_byte);
        if self.in_header() {
            let room = header::MAX_HEADER_BYTES.saturating_sub(self.header.len());
            self.header
                .extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    /// Bytes of the header that is held.
    #[cfg(test)]
    pub(super) const fn held(&self) -> usize {
        self.header.capacity()
    }

    pub(super) fn finish(mut self) -> Vec<Part> {
        self.close_all(self.position, self.lines);
        self.parts
    }

    /// What `line` separates. When no part may be added any more, nothing is separated from then on.
    fn delimiter(&mut self, line: &[u8]) -> Option<Delimiter> {
        let delimiter = self.boundaries.delimiter(line)?;
        if !delimiter.closing && self.parts.len() >= MAX_PARTS {
            self.boundaries.clear();
            return None;
        }
        Some(delimiter)
    }

    fn in_header(&self) -> bool {
        self.open.last().is_some_and(|open| open.in_header)
    }

    pub(super) fn nothing_more_to_find(&self) -> bool {
        self.boundaries.is_empty() && !self.in_header()
    }

    fn after_delimiter(&mut self, delimiter: Delimiter, next: usize) {
        if delimiter.closing {
            // RFC 2046 §5.1.1: what follows the close delimiter is epilogue, to be ignored.
            if let Some(boundary) = self.open[delimiter.level].boundary.take() {
                self.boundaries.close(&boundary);
            }
        } else {
            self.begin_part(next);
        }
    }

    /// Opens a part whose header begins at `start`, inside the innermost open one.
    fn begin_part(&mut self, start: usize) {
        let part = self.parts.len();
        let parent = self.open.last_mut().map(|open| {
            let previous = open.last_child.replace(part);
            (open.part, previous)
        });
        match parent {
            Some((_, Some(previous))) => self.parts[previous].next_sibling = Some(part),
            Some((parent, None)) => self.parts[parent].first_child = Some(part),
            None => {}
        }
        self.parts.push(Part {
            parent: parent.map(|(parent, _)| parent),
            first_child: None,
            next_sibling: None,
            depth: self.open.len(),
            header: start..start,
            body: start..start,
            lines: 0,
            structure: Structure::Leaf,
            content_type: ContentType::text_plain(),
            encoding: Encoding::SevenBit,
        });
        self.header.clear();
        self.open.push(Open {
            part,
            in_header: true,
            lines_before_body: self.lines,
            last_child: None,
            boundary: None,
        });
    }

    /// Ends the header of the innermost open part; its body begins at `end`.
    fn end_header(&mut self, end: usize) {
        let level = self.open.len() - 1;
        let index = self.open[level].part;
        let start = self.parts[index].header.start;
        // A header that is cut off may begin within the line end that belongs to the delimiter.
        let length = self.header.len().min(end.saturating_sub(start));
        let (declared, encoding) = content_fields(&self.header[..length]);
        let content_type = declared.unwrap_or_else(|| self.default_type(index));
        let (structure, mut content_type, boundary) = self.judge(content_type, &encoding);
        content_type.parameters.truncate(self.parameters_left);
        self.parameters_left -= content_type.parameters.raw().len();

        let open = &mut self.open[level];
        open.in_header = false;
        open.lines_before_body = self.lines;
        open.boundary.clone_from(&boundary);
        let part = &mut self.parts[index];
        part.header.end = end;
        part.body = end..end;
        part.structure = structure;
        part.content_type = content_type;
        part.encoding = encoding;
        if let Some(boundary) = boundary {
            self.boundaries.open(boundary, level);
        }
        if structure == Structure::Message {
            self.begin_part(end);
        }
    }

    // RFC 2046 §5.1.5: inside multipart/digest the default is message/rfc822.
    fn default_type(&self, index: usize) -> ContentType {
        let parent = self.parts[index].parent.map(|parent| &self.parts[parent]);
        match parent {
            Some(parent) if parent.content_type.is("multipart", "digest") => {
                ContentType::bare("message", "rfc822")
            }
            _ => ContentType::text_plain(),
        }
    }

    /// Whether the innermost open part divides, and what it is then called.
    fn judge(
        &self,
        content_type: ContentType,
        encoding: &Encoding,
    ) -> (Structure, ContentType, Option<Vec<u8>>) {
        // Invariant: depth and number of parts grow only through what is decided here and in
        // `delimiter`.
        let room = self.open.len() <= MAX_DEPTH && self.parts.len() < MAX_PARTS;
        let opaque = || ContentType::bare("application", "octet-stream");
        if content_type.kind == "multipart" {
            let boundary = boundary_of(&content_type);
            return match boundary {
                None => (Structure::Leaf, ContentType::text_plain(), None),
                Some(_) if !room => (Structure::Leaf, opaque(), None),
                Some(_) => (Structure::Multipart, content_type, boundary),
            };
        }
        if content_type.is("message", "rfc822") {
            // RFC 2046 §5.2.1: such a part is never encoded; one that is cannot be looked into.
            return if room && encoding.is_identity() {
                (Structure::Message, content_type, None)
            } else {
                (Structure::Leaf, opaque(), None)
            };
        }
        (Structure::Leaf, content_type, None)
    }

    /// Ends all parts inside `level` before the delimiter line at `line_start`.
    fn close_above(&mut self, level: usize, line_start: usize) {
        let Some(outermost) = self.open.get(level + 1) else {
            return;
        };
        let begin = self.parts[outermost.part].header.start;
        // RFC 2046 §5.1.1: the line end before a delimiter belongs to the delimiter.
        let end = line_start - self.last_end.min(line_start - begin);
        let lines = self.lines - usize::from(end < line_start);
        self.close_down_to(level + 1, end, lines);
    }

    fn close_all(&mut self, end: usize, lines: usize) {
        self.close_down_to(0, end, lines);
    }

    /// Ends the open parts until `remaining` are left; their bodies end at `end`.
    fn close_down_to(&mut self, remaining: usize, end: usize, lines: usize) {
        while self.in_header() {
            // The header was cut off. A message/rfc822 among them opens one more, which is empty.
            self.end_header(end);
        }
        for open in self.open.drain(remaining..).rev() {
            if let Some(boundary) = open.boundary {
                self.boundaries.close(&boundary);
            }
            let part = &mut self.parts[open.part];
            part.header.start = part.header.start.min(end);
            part.header.end = part.header.end.min(end);
            part.body = part.body.start.min(end)..end;
            part.lines = lines.saturating_sub(open.lines_before_body);
        }
    }
}

/// The type and encoding a header declares.
fn content_fields(header: &[u8]) -> (Option<ContentType>, Encoding) {
    let mut content_type = None;
    let mut encoding = None;
    for field in header::fields(header) {
        if content_type.is_none() && field.is("content-type") {
            content_type = Some(
                // RFC 2045 §5.2: a type that cannot be read is treated as the default.
                ContentType::parse(field.value).unwrap_or_else(ContentType::text_plain),
            );
        } else if encoding.is_none() && field.is("content-transfer-encoding") {
            encoding = Some(Encoding::parse(field.value));
        }
    }
    (content_type, encoding.unwrap_or_default())
}

fn boundary_of(content_type: &ContentType) -> Option<Vec<u8>> {
    let mut boundary = content_type.parameters.value("boundary")?;
    let length = trim_end(&boundary).len();
    boundary.truncate(length);
    (!boundary.is_empty()).then_some(boundary)
}
