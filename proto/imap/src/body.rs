//! Shows a message's structure (BODY, BODYSTRUCTURE) and finds its sections (`BODY[1.2.HEADER]`).

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use mail::content::{Disposition, languages};
use mail::header::{self, Field};
use mail::mime::{Message, Part, Structure, children};
use mail::parameter::Parameters;

use crate::envelope::{self, write_nstring, write_number, write_string};

/// What stands between the brackets of `BODY[…]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// The part numbers; empty for the message itself.
    pub part: Vec<u32>,
    /// What of that part; `None` for all of its body (of the message itself: all of it).
    pub text: Option<SectionText>,
}

/// What of a part a section names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SectionText {
    /// `HEADER`: the header of a message.
    Header,
    /// `HEADER.FIELDS (…)`: these fields only.
    HeaderFields(Vec<String>),
    /// `HEADER.FIELDS.NOT (…)`: all fields but these.
    HeaderFieldsNot(Vec<String>),
    /// `TEXT`: the body of a message.
    Text,
    /// `MIME`: the header of a part.
    Mime,
}

/// The `<origin.count>` after a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// The first byte wanted.
    pub origin: u64,
    /// How many bytes at most.
    pub count: u64,
}

/// The bytes of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extract {
    /// They lie together in the message.
    Range(Range<usize>),
    /// They had to be picked.
    Owned(Vec<u8>),
}

impl Extract {
    /// The bytes themselves, of the `message` they were extracted from.
    #[must_use]
    pub fn bytes<'a>(&'a self, message: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Range(range) => &message[range.clone()],
            Self::Owned(bytes) => bytes,
        }
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::Owned(bytes) => bytes.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The wanted part of it; nothing when it begins past the end.
    // RFC 3501 §6.4.5: a partial fetch beyond the end of the text is truncated.
    #[must_use]
    pub fn partial(self, partial: Partial) -> Self {
        let clamp = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let start = clamp(partial.origin).min(self.len());
        let end = start.saturating_add(clamp(partial.count)).min(self.len());
        match self {
            Self::Range(range) => Self::Range(range.start + start..range.start + end),
            Self::Owned(bytes) => Self::Owned(bytes[start..end].to_vec()),
        }
    }
}

/// Where a section lies in its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place<'s> {
    /// It is these bytes.
    Bytes(Range<usize>),
    /// It is fields of the header in these bytes: [`pick`] finds them.
    Fields {
        /// Where the header is.
        header: Range<usize>,
        /// Names of fields.
        names: &'s [String],
        /// Whether those of these names are meant, and not the others.
        among: bool,
    },
}

impl Section {
    /// Writes the section as it stands between the brackets.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_part(&self.part, out);
        let Some(text) = &self.text else { return };
        if !self.part.is_empty() {
            out.push(b'.');
        }
        match text {
            SectionText::Header => out.extend_from_slice(b"HEADER"),
            SectionText::HeaderFields(names) => write_names(b"HEADER.FIELDS (", names, out),
            SectionText::HeaderFieldsNot(names) => write_names(b"HEADER.FIELDS.NOT (", names, out),
            SectionText::Text => out.extend_from_slice(b"TEXT"),
            SectionText::Mime => out.extend_from_slice(b"MIME"),
        }
    }

    /// Finds the section in `message`; `None` if there is no such part.
    #[must_use]
    pub fn extract(&self, message: &Message<'_>) -> Option<Extract> {
        if self.part.is_empty() && self.text.is_none() {
            return Some(Extract::Range(0..message.bytes().len()));
        }
        Some(match self.locate(message.parts())? {
            Place::Bytes(range) => Extract::Range(range),
            Place::Fields {
                header,
                names,
                among,
            } => Extract::Owned(pick(&message.bytes()[header], names, among)),
        })
    }

    /// Where in a message with these parts the section lies; `None` if there is no such part.
    #[must_use]
    pub fn locate(&self, parts: &[Part]) -> Option<Place<'_>> {
        let part = find_part(parts, &self.part)?;
        let Some(text) = &self.text else {
            return Some(Place::Bytes(match self.part.is_empty() {
                true => part.header.start..part.body.end,
                false => part.body.clone(),
            }));
        };
        if *text == SectionText::Mime {
            // RFC 3501 §6.4.5: MIME must be preceded by a part number.
            return (!self.part.is_empty()).then(|| Place::Bytes(part.header.clone()));
        }
        // RFC 3501 §6.4.5: HEADER and TEXT refer to the message itself, or to one inside of it.
        let whole = match self.part.is_empty() {
            true => part,
            false => enclosed_message(parts, part)?,
        };
        let fields = |names, among| Place::Fields {
            header: whole.header.clone(),
            names,
            among,
        };
        Some(match text {
            SectionText::Text => Place::Bytes(whole.body.clone()),
            SectionText::HeaderFields(names) => fields(names, true),
            SectionText::HeaderFieldsNot(names) => fields(names, false),
            SectionText::Header | SectionText::Mime => Place::Bytes(whole.header.clone()),
        })
    }
}

/// Writes part numbers, `1.2`.
pub(crate) fn write_part(part: &[u32], out: &mut Vec<u8>) {
    for (index, &number) in part.iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        write_number(number as usize, out);
    }
}

/// The part with these numbers, among all `parts` of a message; no numbers mean the message itself.
// RFC 3501 §6.4.5: every message has at least part 1, and a message/rfc822 is counted into.
#[must_use]
pub fn find_part<'m>(parts: &'m [Part], numbers: &[u32]) -> Option<&'m Part> {
    let mut part = parts.first()?;
    let mut is_message = true;
    for &number in numbers {
        if !is_message && part.structure == Structure::Message {
            part = children(parts, part).next()?;
            is_message = true;
        }
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        part = match part.structure {
            Structure::Multipart => children(parts, part).nth(index)?,
            Structure::Leaf | Structure::Message if is_message && index == 0 => part,
            Structure::Leaf | Structure::Message => return None,
        };
        is_message = false;
    }
    Some(part)
}

fn enclosed_message<'m>(parts: &'m [Part], part: &Part) -> Option<&'m Part> {
    if part.structure != Structure::Message {
        return None;
    }
    children(parts, part).next()
}

/// The fields whose names are (or are not) among `names`, and the empty line behind all of them.
// RFC 3501 §6.4.5: the delimiting blank line is included, except of a message which has no body and no blank line.
#[must_use]
pub fn pick(header: &[u8], names: &[String], among: bool) -> Vec<u8> {
    let wanted = Names::new(names);
    let mut picked = Vec::new();
    for field in header::fields(header) {
        if wanted.contains(field.name) == among {
            picked.extend_from_slice(&header[field.start..field.end]);
        }
    }
    if ends_with_blank_line(header) {
        picked.extend_from_slice(b"\r\n");
    }
    picked
}

fn ends_with_blank_line(header: &[u8]) -> bool {
    let before = header
        .strip_suffix(b"\r\n")
        .or_else(|| header.strip_suffix(b"\n"));
    before.is_some_and(|before| before.is_empty() || before.ends_with(b"\n"))
}

/// Field names in lower case, sorted, so that many names against many fields stay cheap.
struct Names(Vec<Vec<u8>>);

impl Names {
    fn new(names: &[String]) -> Self {
        let lower = |name: &String| name.as_bytes().to_ascii_lowercase();
        let mut sorted: Vec<_> = names.iter().map(lower).collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    fn contains(&self, name: &[u8]) -> bool {
        self.0.binary_search(&name.to_ascii_lowercase()).is_ok()
    }
}

fn write_names(open: &[u8], names: &[String], out: &mut Vec<u8>) {
    out.extend_from_slice(open);
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        // RFC 3501 §9: header-fld-name is an astring.
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"(){%*\"\\".contains(&byte);
        if !name.is_empty() && name.bytes().all(plain) {
            out.extend_from_slice(name.as_bytes());
        } else {
            write_string(name.as_bytes(), out);
        }
    }
    out.push(b')');
}

/// Whether the extension data are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `BODY`: without.
    Body,
    /// `BODYSTRUCTURE`: with.
    BodyStructure,
}

/// A structure longer than this goes on with its parts alone: what else their headers say is left out.
///
/// Else a message of a few MiB could be given a structure of hundreds, for an address of one byte
/// takes sixteen and stands in three places.
pub const MAX_STRUCTURE: usize = 4 << 20;

/// Writes the structure of `message`.
pub fn write_structure(message: &Message<'_>, form: Form, out: &mut Vec<u8>) {
    let (structure, extensions) = structure(message);
    match form {
        Form::Body => write_without(&structure, &extensions, out),
        Form::BodyStructure => out.extend_from_slice(&structure),
    }
}

/// The structure of `message` with its extension data, and where in it they are, ascending.
// RFC 3501 §7.4.2, BODYSTRUCTURE; §9, body.
#[must_use]
pub fn structure(message: &Message<'_>) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut writer = Writer {
        message,
        out: Vec::new(),
        extensions: Vec::new(),
    };
    if let Some(root) = message.parts().first() {
        writer.write_part(root);
    }
    (writer.out, writer.extensions)
}

/// Writes `text` without the pieces `left_out`, which ascend.
pub fn write_without(text: &[u8], left_out: &[Range<usize>], out: &mut Vec<u8>) {
    let mut start = 0;
    for piece in left_out {
        out.extend_from_slice(text.get(start..piece.start).unwrap_or_default());
        start = piece.end;
    }
    out.extend_from_slice(text.get(start..).unwrap_or_default());
}

/// A structure that is being written.
struct Writer<'w, 'a> {
    message: &'w Message<'a>,
    out: Vec<u8>,
    /// Where extension data are.
    extensions: Vec<Range<usize>>,
}

impl<'a> Writer<'_, 'a> {
    // Invariant: recursion ends because the walker goes no deeper than `mail::mime::MAX_DEPTH`.
    fn write_part(&mut self, part: &Part) {
        let fields = ContentFields::collect(self.header(part));
        self.out.push(b'(');
        match part.structure {
            Structure::Multipart => self.write_children(part),
            Structure::Leaf | Structure::Message => self.write_single(part, &fields),
        }
        // What is inside of this part may have filled the answer meanwhile.
        let fields = if self.is_full() {
            ContentFields::default()
        } else {
            fields
        };
        let start = self.out.len();
        self.out.push(b' ');
        if part.structure == Structure::Multipart {
            self.write_parameters(part);
        } else {
            write_nstring(fields.md5.as_deref(), &mut self.out);
        }
        fields.write_extension(&mut self.out);
        self.extensions.push(start..self.out.len());
        self.out.push(b')');
    }

    fn is_full(&self) -> bool {
        self.out.len() >= MAX_STRUCTURE
    }

    /// The header of `part`; an empty one when no more of it is to be shown.
    fn header(&self, part: &Part) -> &'a [u8] {
        if self.is_full() {
            return &[];
        }
        self.message.header(part)
    }

    fn write_parameters(&mut self, part: &Part) {
        if self.is_full() {
            self.out.extend_from_slice(b"NIL");
        } else {
            write_parameters(&part.content_type.parameters, &mut self.out);
        }
    }

    fn write_children(&mut self, part: &Part) {
        let message = self.message;
        for child in message.children(part) {
            self.write_part(child);
        }
        if part.first_child.is_none() {
            // RFC 3501 §9: body-type-mpart has at least one body, so an empty one stands in.
            self.out.extend_from_slice(
                b"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0",
            );
            let start = self.out.len();
            self.out.extend_from_slice(b" NIL NIL NIL NIL");
            self.extensions.push(start..self.out.len());
            self.out.push(b')');
        }
        self.out.push(b' ');
        write_string(part.content_type.subtype.as_bytes(), &mut self.out);
    }

    fn write_single(&mut self, part: &Part, fields: &ContentFields<'_>) {
        let content_type = &part.content_type;
        write_string(content_type.kind.as_bytes(), &mut self.out);
        self.out.push(b' ');
        write_string(content_type.subtype.as_bytes(), &mut self.out);
        self.out.push(b' ');
        self.write_parameters(part);
        self.out.push(b' ');
        write_nstring(fields.id.as_deref(), &mut self.out);
        self.out.push(b' ');
        write_nstring(fields.description.as_deref(), &mut self.out);
        self.out.push(b' ');
        write_string(part.encoding.as_str().as_bytes(), &mut self.out);
        self.out.push(b' ');
        write_number(part.body.len(), &mut self.out);
        if let Some(inner) = enclosed_message(self.message.parts(), part) {
            self.out.push(b' ');
            envelope::write(self.header(inner), &mut self.out);
            self.out.push(b' ');
            self.write_part(inner);
        }
        if content_type.kind == "text" || part.structure == Structure::Message {
            self.out.push(b' ');
            write_number(part.lines, &mut self.out);
        }
    }
}

fn write_parameters(parameters: &Parameters, out: &mut Vec<u8>) {
    if parameters.raw().is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    for (index, parameter) in parameters.raw().iter().enumerate() {
        out.push(if index == 0 { b'(' } else { b' ' });
        write_string(parameter.name.as_bytes(), out);
        out.push(b' ');
        write_string(&parameter.value, out);
    }
    out.push(b')');
}

/// The fields of a part that its structure shows, beside type and encoding.
#[derive(Default)]
struct ContentFields<'a> {
    id: Option<Cow<'a, [u8]>>,
    description: Option<Cow<'a, [u8]>>,
    md5: Option<Cow<'a, [u8]>>,
    location: Option<Cow<'a, [u8]>>,
    disposition: Option<Disposition>,
    languages: Vec<String>,
}

impl<'a> ContentFields<'a> {
    fn collect(header: &'a [u8]) -> Self {
        let mut found = Self::default();
        let content = |field: &Field<'a>| {
            field.name.len() > 8 && field.name[..8].eq_ignore_ascii_case(b"content-")
        };
        for field in header::fields(header).filter(content) {
            found.note(&field);
        }
        found
    }

    fn note(&mut self, field: &Field<'a>) {
        match field.name[8..].to_ascii_lowercase().as_slice() {
            b"id" => keep_first(&mut self.id, field),
            b"description" => keep_first(&mut self.description, field),
            b"md5" => keep_first(&mut self.md5, field),
            b"location" => keep_first(&mut self.location, field),
            b"disposition" if self.disposition.is_none() => {
                self.disposition = Disposition::parse(field.value);
            }
            b"language" if self.languages.is_empty() => self.languages = languages(field.value),
            _ => {}
        }
    }

    /// Writes disposition, language and location, each with a blank before it.
    fn write_extension(&self, out: &mut Vec<u8>) {
        out.push(b' ');
        match &self.disposition {
            Some(disposition) => {
                out.push(b'(');
                write_string(disposition.kind.as_bytes(), out);
                out.push(b' ');
                write_parameters(&disposition.parameters, out);
                out.push(b')');
            }
            None => out.extend_from_slice(b"NIL"),
        }
        out.push(b' ');
        self.write_languages(out);
        out.push(b' ');
        write_nstring(self.location.as_deref(), out);
    }

    fn write_languages(&self, out: &mut Vec<u8>) {
        match self.languages.as_slice() {
            [] => out.extend_from_slice(b"NIL"),
            [one] => write_string(one.as_bytes(), out),
            several => {
                for (index, tag) in several.iter().enumerate() {
                    out.push(if index == 0 { b'(' } else { b' ' });
                    write_string(tag.as_bytes(), out);
                }
                out.push(b')');
            }
        }
    }
}

fn keep_first<'a>(place: &mut Option<Cow<'a, [u8]>>, field: &Field<'a>) {
    if place.is_none() {
        let text = field.unfolded();
        *place = (!text.is_empty()).then_some(text);
    }
}
