//! A message as filters see it: fields and a body, which can be changed.

use alloc::vec::Vec;

use crate::reply::{Change, Field};

/// A message that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Our own trace field, which no filter is shown.
    trace: Vec<u8>,
    fields: Vec<Line>,
    /// The empty line, if there is one.
    separator: Vec<u8>,
    body: Vec<u8>,
}

/// A field with its line ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    octets: Vec<u8>,
    /// Where the colon is.
    colon: usize,
}

impl Message {
    /// Divides a message whose first field is our own trace field. The header ends at an empty line, or at a line that is
    /// no field, which is the first of the body then.
    #[must_use]
    pub fn parse(mut octets: Vec<u8>) -> Self {
        let mut rest = octets.as_slice();
        let mut fields = Vec::new();
        while let Some((line, behind)) = field(rest) {
            fields.push(line);
            rest = behind;
        }
        let trace = match fields.is_empty() {
            true => Vec::new(),
            false => fields.remove(0).octets,
        };
        let separator: &[u8] = match rest.starts_with(b"\r\n") {
            true => b"\r\n",
            false => b"",
        };
        let start = octets.len() - rest.len() + separator.len();
        Self {
            trace,
            fields,
            separator: separator.to_vec(),
            body: octets.split_off(start),
        }
    }

    /// The fields a filter is shown: name and value, which has LF where it goes on on another line.
    pub fn fields(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.fields.iter().map(|line| {
            let value = line.octets.get(line.colon + 1..).unwrap_or_default();
            let value = value.strip_suffix(b"\r\n").unwrap_or(value);
            let value = value.iter().filter(|octet| **octet != b'\r').copied();
            (line.name().to_vec(), value.collect())
        })
    }

    /// Octets of what a filter is shown: all but our own trace field.
    #[must_use]
    pub fn size(&self) -> usize {
        let fields: usize = self.fields.iter().map(|line| line.octets.len()).sum();
        fields + self.separator.len() + self.body.len()
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Makes a filter's changes; those to the envelope are the caller's. With `leading_space` what a filter wrote as a
    /// value begins with the white space behind the colon.
    pub fn change(&mut self, changes: &[Change], leading_space: bool) {
        let mut body: Option<Vec<u8>> = None;
        for change in changes {
            match change {
                Change::AddHeader(field) => self.fields.push(Line::new(field, leading_space)),
                Change::InsertHeader(0, field) => {
                    let mut line = Line::new(field, leading_space).octets;
                    line.extend_from_slice(&self.trace);
                    self.trace = line;
                }
                Change::InsertHeader(place, field) => {
                    let place = usize::try_from(*place).unwrap_or(usize::MAX);
                    let place = place.saturating_sub(1).min(self.fields.len());
                    self.fields.insert(place, Line::new(field, leading_space));
                }
                Change::ChangeHeader(number, field) => {
                    self.replace(*number, field, leading_space);
                }
                Change::Body(piece) => body.get_or_insert_default().extend_from_slice(piece),
                Change::Sender(_) | Change::AddRecipient(_) | Change::DeleteRecipient(_) => {}
            }
        }
        if let Some(body) = body {
            self.body = canonical(&body);
            // Without it the first line of the new body might be read as a field.
            self.separator = b"\r\n".to_vec();
        }
    }

    fn replace(&mut self, number: u32, field: &Field, leading_space: bool) {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let mut same = (0..self.fields.len()).filter(|place| {
            let line = self.fields.get(*place);
            line.is_some_and(|line| line.name().eq_ignore_ascii_case(&field.name))
        });
        match (same.nth(number.saturating_sub(1)), field.value.is_empty()) {
            (Some(place), true) => {
                self.fields.remove(place);
            }
            (Some(place), false) => {
                if let Some(line) = self.fields.get_mut(place) {
                    *line = Line::new(field, leading_space);
                }
            }
            (None, true) => {}
            (None, false) => self.fields.push(Line::new(field, leading_space)),
        }
    }

    /// The whole message again: its header with the empty line, and its body.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, Vec<u8>) {
        let mut header = self.trace;
        for line in &self.fields {
            header.extend_from_slice(&line.octets);
        }
        header.extend_from_slice(&self.separator);
        (header, self.body)
    }
}

impl Line {
    fn new(field: &Field, leading_space: bool) -> Self {
        let mut octets = field.name.clone();
        octets.push(b':');
        if !leading_space {
            octets.push(b' ');
        }
        octets.extend_from_slice(&field.value);
        octets.extend_from_slice(b"\r\n");
        Self {
            octets,
            colon: field.name.len(),
        }
    }

    /// RFC 5322 §4.5: white space may precede the colon in old mail.
    fn name(&self) -> &[u8] {
        let name = self.octets.get(..self.colon).unwrap_or_default();
        name.trim_ascii_end()
    }
}

/// Takes the first field off a header: its line, and those that begin with white space.
fn field(octets: &[u8]) -> Option<(Line, &[u8])> {
    let first = octets.first()?;
    if matches!(first, b' ' | b'\t' | b'\r') {
        return None;
    }
    let mut end = line_end(octets, 0);
    let colon = octets
        .get(..end)?
        .iter()
        .position(|octet| *octet == b':')
        .filter(|colon| *colon > 0)?;
    while matches!(octets.get(end), Some(b' ' | b'\t')) {
        end = line_end(octets, end);
    }
    let (line, rest) = octets.split_at_checked(end)?;
    let mut octets = line.to_vec();
    if !octets.ends_with(b"\r\n") {
        octets.extend_from_slice(b"\r\n");
    }
    Some((Line { octets, colon }, rest))
}

/// Where the line that begins at `start` ends.
fn line_end(octets: &[u8], start: usize) -> usize {
    let rest = octets.get(start..).unwrap_or_default();
    let length = rest.windows(2).position(|two| two == b"\r\n");
    length.map_or(octets.len(), |length| start + length + 2)
}

/// Only CRLF ends a line, whatever a filter thinks, and the last line has an end.
fn canonical(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    let mut octets = octets.iter().peekable();
    while let Some(octet) = octets.next() {
        match octet {
            b'\r' => {
                octets.next_if(|next| **next == b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            0 => {}
            octet => out.push(*octet),
        }
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}
