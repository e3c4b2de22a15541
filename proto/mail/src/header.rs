//! Splits a message's header into its fields without copying a byte.
//!
//! Offsets always mean the bytes as they lie in the file: lines may end in CR LF or, in a file put
//! into the store by hand, in a bare LF.

use alloc::borrow::Cow;
use alloc::vec::Vec;

/// No field is looked for beyond this many bytes of a header.
pub const MAX_HEADER_BYTES: usize = 1 << 20;
/// At most this many fields of one header are shown.
pub const MAX_FIELDS: usize = 10_000;

/// One header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as written, never empty.
    pub name: &'a [u8],
    /// Everything after the colon, folding included, without the last line end.
    pub value: &'a [u8],
    /// Where the name begins.
    pub start: usize,
    /// Just after the field's last line end.
    pub end: usize,
}

impl<'a> Field<'a> {
    /// Whether this field is called `name`, in whatever case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value on one line, without blanks around it.
    #[must_use]
    pub fn unfolded(&self) -> Cow<'a, [u8]> {
        match unfold(self.value) {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim_ascii()),
            Cow::Owned(text) => Cow::Owned(text.trim_ascii().to_vec()),
        }
    }
}

/// The fields of `header`, in order. Lines that are not part of a field are passed over.
#[must_use]
pub fn fields(header: &[u8]) -> Fields<'_> {
    Fields {
        header: &header[..header.len().min(MAX_HEADER_BYTES)],
        position: 0,
        left: MAX_FIELDS,
    }
}

/// The first field called `name`.
#[must_use]
pub fn find<'a>(header: &'a [u8], name: &str) -> Option<Field<'a>> {
    fields(header).find(|field| field.is(name))
}

/// Where the body begins: just after the first empty line, or at the end if there is none.
// RFC 5322 §2.1: the body follows the header and is separated from it by an empty line.
#[must_use]
pub fn body_start(message: &[u8]) -> usize {
    let mut position = 0;
    while position < message.len() {
        let next = line_end(message, position);
        if is_empty_line(&message[position..next]) {
            return next;
        }
        position = next;
    }
    message.len()
}

/// `value` without the line ends of its folding.
// RFC 5322 §2.2.3: unfolding removes any CRLF that is immediately followed by WSP.
#[must_use]
pub fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut text = Vec::with_capacity(value.len());
    let mut position = 0;
    while position < value.len() {
        let next = line_end(value, position);
        text.extend_from_slice(without_line_end(&value[position..next]));
        position = next;
    }
    Cow::Owned(text)
}

/// Walks over the fields of a header; made by [`fields`].
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    header: &'a [u8],
    position: usize,
    left: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        while self.left > 0 && self.position < self.header.len() {
            let start = self.position;
            let first_end = line_end(self.header, start);
            if is_empty_line(&self.header[start..first_end]) {
                break;
            }
            let end = self.continued(first_end);
            self.position = end;
            if let Some(name_end) = name_end(&self.header[start..first_end]) {
                self.left -= 1;
                return Some(self.field(start, name_end, end));
            }
        }
        self.left = 0;
        None
    }
}

impl<'a> Fields<'a> {
    /// The end of a field whose first line ends at `end`.
    fn continued(&self, mut end: usize) -> usize {
        while matches!(self.header.get(end), Some(b' ' | b'\t')) {
            end = line_end(self.header, end);
        }
        end
    }

    fn field(&self, start: usize, name_end: usize, end: usize) -> Field<'a> {
        let whole = &self.header[start..end];
        let name = whole[..name_end].trim_ascii_end();
        let value = without_line_end(&whole[name_end + 1..]);
        Field {
            name,
            value,
            start,
            end,
        }
    }
}

/// The place of the colon, if `line` begins with a field name.
// RFC 5322 §2.2: a name is printable US-ASCII except colon; §4.5: blanks may precede the colon.
fn name_end(line: &[u8]) -> Option<usize> {
    let colon = memchr::memchr(b':', line)?;
    let name = trim_blanks_end(&line[..colon]);
    let valid = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    valid.then_some(colon)
}

fn trim_blanks_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The start of the line after the one that holds `position`.
pub(crate) fn line_end(bytes: &[u8], position: usize) -> usize {
    memchr::memchr(b'\n', &bytes[position..]).map_or(bytes.len(), |found| position + found + 1)
}

/// `line` without its CR LF or LF.
pub(crate) fn without_line_end(line: &[u8]) -> &[u8] {
    match line {
        [rest @ .., b'\r', b'\n'] | [rest @ .., b'\n'] => rest,
        _ => line,
    }
}

fn is_empty_line(line: &[u8]) -> bool {
    matches!(line, b"\r\n" | b"\n")
}
