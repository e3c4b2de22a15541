//! A header taken apart: which fields there are, and which of them a signature means.

use std::collections::BTreeMap;

use mail::header::{Field, MAX_FIELDS};

use crate::canon::{Canon, Sink, put_field};

/// Keeps the header of a message that comes in pieces, and tells where its body begins.
#[derive(Debug)]
pub(crate) struct Splitter {
    header: Vec<u8>,
    /// Where the line begins that has not ended yet.
    line: usize,
    most: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Body,
    TooLarge,
}

impl Splitter {
    /// A header of more than `most` octets is not kept.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            header: Vec::new(),
            line: 0,
            most: most.min(mail::header::MAX_HEADER_BYTES),
            state: State::Header,
        }
    }

    /// Takes more of the message. `Some` once the header is complete: what of `input` belongs to the body.
    pub(crate) fn feed<'a>(&mut self, mut input: &'a [u8]) -> Option<&'a [u8]> {
        while self.state == State::Header && !input.is_empty() {
            let end = memchr::memchr(b'\n', input).map_or(input.len(), |found| found + 1);
            let (line, rest) = input.split_at(end);
            input = rest;
            if self.header.len() + line.len() > self.most {
                self.header = Vec::new();
                self.state = State::TooLarge;
            } else {
                self.take(line);
            }
        }
        (self.state == State::Body).then_some(input)
    }

    /// Takes a line or a part of one.
    fn take(&mut self, line: &[u8]) {
        self.header.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            return;
        }
        if matches!(self.header.get(self.line..), Some(b"\r\n" | b"\n")) {
            self.header.truncate(self.line);
            self.state = State::Body;
        }
        self.line = self.header.len();
    }

    /// The header so far; `None` if it is too large.
    pub(crate) fn header(&self) -> Option<&[u8]> {
        (self.state != State::TooLarge).then_some(&self.header)
    }

    /// Whether the body has begun.
    pub(crate) fn is_in_body(&self) -> bool {
        self.state == State::Body
    }

    /// The header, at the end of the message; `None` if it is too large.
    pub(crate) fn into_header(self) -> Option<Vec<u8>> {
        (self.state != State::TooLarge).then_some(self.header)
    }
}

/// The fields of a header.
#[derive(Debug)]
pub(crate) struct Header<'a> {
    bytes: &'a [u8],
    fields: Vec<Field<'a>>,
    /// The places of the fields of each name, which is in lower case.
    named: BTreeMap<Vec<u8>, Vec<usize>>,
}

impl<'a> Header<'a> {
    /// `None` if there are more fields than anybody writes.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let fields: Vec<_> = mail::header::fields(bytes).collect();
        // The last ones might be missing: those that signatures mean first.
        if fields.len() >= MAX_FIELDS {
            return None;
        }
        let mut named = BTreeMap::<_, Vec<_>>::new();
        for (place, field) in fields.iter().enumerate() {
            let name = field.name.to_ascii_lowercase();
            named.entry(name).or_default().push(place);
        }
        Some(Self {
            bytes,
            fields,
            named,
        })
    }

    /// The octets of the header.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The places of the fields of this name, which is in lower case, the topmost first.
    pub(crate) fn named(&self, name: &[u8]) -> &[usize] {
        self.named.get(name).map_or(&[], Vec::as_slice)
    }

    /// All fields, the topmost first.
    pub(crate) fn fields(&self) -> &[Field<'a>] {
        &self.fields
    }

    /// The field at a place.
    pub(crate) fn field(&self, place: usize) -> Option<&Field<'a>> {
        self.fields.get(place)
    }

    /// Writes the fields that `h=` names, in its order; never the one at `own`.
    // RFC 6376 §5.4.2: of several fields of one name the last is meant first; a name without a field means nothing.
    pub(crate) fn put_signed(
        &self,
        names: &[Vec<u8>],
        own: Option<usize>,
        canon: Canon,
        sink: &mut impl Sink,
    ) {
        let mut taken = BTreeMap::<&[u8], usize>::new();
        for name in names {
            let places = self.named(name);
            let taken = taken.entry(name).or_default();
            let mut left = places.iter().rev().skip(*taken).inspect(|_| *taken += 1);
            let place = left.find(|place| Some(**place) != own);
            if let Some(field) = place.and_then(|place| self.field(*place)) {
                put_field(canon, self.bytes, field, sink);
            }
        }
    }
}
