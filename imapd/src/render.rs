//! Works out what FETCH shows of a message: small things as bytes, large ones as a piece of the file to be copied.
//!
//! Everything here blocks and belongs on a blocking thread.

use std::cell::OnceCell;
use std::io;
use std::ops::Range;

use imap::body::{self, Extract, Form, Partial, Place, Section, SectionText};
use imap::command::{FetchItem, Numbering};
use imap::envelope;
use imap::search::Depth;
use imap::write::{self, Object};
use mail::content::Encoding;
use mail::mime::{self, Part};

use crate::cache::READ_WHOLE;
use crate::cache::summary::{Extent, Summary};
use crate::content::{self, Content};
use crate::message::{Message, without_nul};

/// Sections up to this size are sent together with what stands around them.
const INLINE: u64 = 32 * 1024;
/// What is kept in memory of one message's answer, beside what is copied from its file.
const MAX_SHEET: usize = 16 << 20;
/// How many times the bytes of a message its parts and their description take, at worst …
const MEMORY_PER_BYTE: u64 = 40;
/// … and no more than this, whatever its size: `docs/hostile-mime.md`.
const MAX_MEMORY: u64 = 16 << 20;

/// What is known of a message without looking at it.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// What its number counts.
    pub by: Numbering,
    /// Its number, with which the answer begins.
    pub number: u32,
    /// Its UID.
    pub uid: u32,
    /// Its INTERNALDATE.
    pub internal_date: i64,
    /// Its size.
    pub size: u64,
    /// Its modification sequence.
    pub modseq: u64,
    /// Its EMAILID, if it was asked for.
    pub email_id: Option<u128>,
    /// When it came into the mailbox, if that was asked for and is known.
    pub save_date: Option<i64>,
}

/// One message to be read and shown.
#[derive(Debug)]
pub struct Job {
    /// What is known of it.
    pub facts: Facts,
    /// Its flags as they are sent, if they are.
    pub flags: Vec<u8>,
    /// Whether its flags are told though nobody asked.
    pub tell_flags: bool,
    /// Its bytes.
    pub message: Message,
}

/// One message as it is shown.
#[derive(Debug)]
pub struct Rendered {
    /// What is to be sent.
    pub pieces: Vec<Piece>,
    /// What was worked out and can be kept.
    pub note: Option<Vec<u8>>,
}

/// Something to be sent.
#[derive(Debug)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes of the file.
    Copy(Message, Range<u64>),
    /// What these bytes of the file stand for.
    Decode(Content),
}

impl Piece {
    /// How many bytes it holds in memory.
    #[must_use]
    pub const fn held(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Copy(..) | Self::Decode(_) => 0,
        }
    }
}

/// How much of a message an item needs, beside what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// The file, but not what is in it.
    File,
    /// The header.
    Header,
    /// All of it, to see how it is built.
    Whole,
}

/// Whether a [`Summary`] can stand in for the message: it is needed, but nothing else of it is.
#[must_use]
pub fn is_summary(items: &[FetchItem]) -> bool {
    (need(items) != Need::Nothing || is_lazy(items)) && !items.iter().any(is_section)
}

/// Whether something is wanted of a summary if it is there already.
#[must_use]
pub fn is_lazy(items: &[FetchItem]) -> bool {
    items.contains(&FetchItem::Preview { lazy: true })
}

/// Whether what is shown is in the message, and no summary has it.
const fn is_section(item: &FetchItem) -> bool {
    matches!(
        item,
        FetchItem::Section { .. } | FetchItem::Binary { .. } | FetchItem::BinarySize { .. }
    )
}

/// Whether this summary can.
#[must_use]
pub fn suffices(summary: &Summary<'_>, items: &[FetchItem]) -> bool {
    summary.has_structure() || need(items) != Need::Whole
}

/// How much of a message these items need.
#[must_use]
pub fn need(items: &[FetchItem]) -> Need {
    items.iter().map(need_of).max().unwrap_or(Need::Nothing)
}

const fn need_of(item: &FetchItem) -> Need {
    match item {
        FetchItem::Flags
        | FetchItem::InternalDate
        | FetchItem::Size
        | FetchItem::Uid
        | FetchItem::ModSeq
        | FetchItem::EmailId
        | FetchItem::SaveDate
        | FetchItem::Preview { lazy: true } => Need::Nothing,
        FetchItem::Envelope | FetchItem::ThreadId => Need::Header,
        FetchItem::Body | FetchItem::BodyStructure | FetchItem::Preview { lazy: false } => {
            Need::Whole
        }
        FetchItem::Section { section, .. } => need_of_section(section),
        // Parts are found without having all of a message in memory.
        FetchItem::Binary { .. } | FetchItem::BinarySize { .. } => Need::File,
    }
}

/// How much of a message a section needs.
#[must_use]
pub const fn need_of_section(section: &Section) -> Need {
    // Parts are found without having all of a message in memory.
    if !section.part.is_empty() {
        return Need::File;
    }
    match section.text {
        None => Need::File,
        Some(_) => Need::Header,
    }
}

/// What messages of these sizes may need of the budget, read one after the other.
#[must_use]
pub fn memory(need: Need, sizes: impl Iterator<Item = u64>) -> u64 {
    let largest = sizes.max().unwrap_or(0);
    match need {
        // A header is usually short, but may be all of a message.
        Need::Header => largest,
        Need::Whole => {
            largest.saturating_add(MAX_MEMORY.min(largest.saturating_mul(MEMORY_PER_BYTE)))
        }
        Need::Nothing | Need::File => 0,
    }
}

/// What the parts of such messages may need beside, if some of them are wanted.
#[must_use]
pub fn memory_of_parts(items: &[FetchItem], sizes: impl Iterator<Item = u64>) -> u64 {
    let largest = sizes.max().unwrap_or(0);
    let of_item = |item: &FetchItem| match item {
        FetchItem::Binary { part, .. } | FetchItem::BinarySize { part } if part.is_empty() => 0,
        FetchItem::Binary { .. } | FetchItem::BinarySize { .. } => memory_of_tree(largest),
        // Of the message itself [`memory`] knows.
        FetchItem::Section { section, .. } if section.part.is_empty() => 0,
        FetchItem::Section { section, .. } => memory_of_section(section, largest),
        _ => 0,
    };
    items.iter().map(of_item).max().unwrap_or(0)
}

/// What one section of a message of this size may need of the budget.
#[must_use]
pub fn memory_of_section(section: &Section, size: u64) -> u64 {
    if section.part.is_empty() {
        return memory(need_of_section(section), [size].into_iter());
    }
    match section.text {
        // The header of a message within may be all of it.
        Some(SectionText::HeaderFields(_) | SectionText::HeaderFieldsNot(_)) => {
            memory_of_tree(size).saturating_add(size)
        }
        _ => memory_of_tree(size),
    }
}

fn memory_of_tree(size: u64) -> u64 {
    MAX_MEMORY.min(size.saturating_mul(MEMORY_PER_BYTE))
}

/// Like [`need`], for SEARCH.
#[must_use]
pub const fn need_of_search(depth: Depth) -> Need {
    match depth {
        Depth::Nothing => Need::Nothing,
        Depth::Header => Need::Header,
        Depth::Whole => Need::Whole,
    }
}

/// Shows one message.
///
/// # Errors
/// When the message cannot be read; then nothing of it is to be sent.
pub fn render(job: &Job, items: &[FetchItem]) -> io::Result<Rendered> {
    let need = need(items);
    let (text, extent) = read(job, need, is_summary(items))?;
    let walked = mime::Message::walk(&text);
    let shows_summary = |item: &FetchItem| !is_section(item);
    let summary = (need >= Need::Header && items.iter().any(shows_summary))
        .then(|| Summary::of(&walked, extent, job.facts.size));
    let source = Source {
        facts: &job.facts,
        flags: &|out| out.extend_from_slice(&job.flags),
        message: Some((&job.message, &walked)),
        parts: match extent {
            Extent::Whole => OnceCell::from(walked.parts().to_vec()),
            Extent::Header => OnceCell::new(),
        },
        summary: summary.as_ref(),
    };
    let mut sheet = Sheet::default();
    let length = summary.as_ref().map_or(0, Summary::length);
    sheet.bytes.reserve(length + 128);
    write_items(&source, items, job.tell_flags, &mut sheet)?;
    let pieces = sheet.finish();
    let note = summary
        .filter(|_| is_summary(items))
        .and_then(|summary| summary.encode());
    Ok(Rendered { pieces, note })
}

/// Shows a message that need not be read, since this is all that is wanted of it.
///
/// # Errors
/// When it is not; then nothing was written.
pub fn write_known(
    facts: &Facts,
    items: &[FetchItem],
    summary: Option<&Summary<'_>>,
    flags: &dyn Fn(&mut Vec<u8>),
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let before = out.len();
    let source = Source {
        facts,
        flags,
        message: None,
        parts: OnceCell::new(),
        summary,
    };
    let mut sheet = Sheet {
        bytes: std::mem::take(out),
        ..Sheet::default()
    };
    let written = write_items(&source, items, false, &mut sheet);
    *out = sheet.bytes;
    if written.is_err() {
        out.truncate(before);
    }
    written
}

/// What there is to be shown of a message.
struct Source<'a> {
    facts: &'a Facts,
    /// Writes its flags.
    flags: &'a dyn Fn(&mut Vec<u8>),
    message: Option<(&'a Message, &'a mime::Message<'a>)>,
    /// Its parts, once they were looked for.
    parts: OnceCell<Vec<Part>>,
    summary: Option<&'a Summary<'a>>,
}

fn write_items(
    source: &Source<'_>,
    items: &[FetchItem],
    tell_flags: bool,
    sheet: &mut Sheet,
) -> io::Result<()> {
    write::fetch_begin(source.facts.by, source.facts.number, &mut sheet.bytes);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            sheet.bytes.push(b' ');
        }
        write::fetch_name(item, &mut sheet.bytes);
        write_item(source, item, sheet)?;
        if sheet.is_full() {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "too much was asked for at once",
            ));
        }
    }
    if tell_flags && !items.contains(&FetchItem::Flags) {
        sheet.bytes.extend_from_slice(b" FLAGS ");
        (source.flags)(&mut sheet.bytes);
    }
    write::fetch_end(&mut sheet.bytes);
    Ok(())
}

/// Reads as much as is needed; all of a message that is not large, if what is worked out will be kept.
fn read(job: &Job, need: Need, is_kept: bool) -> io::Result<(Vec<u8>, Extent)> {
    let message = &job.message;
    Ok(match need {
        Need::Whole => (message.read_whole()?, Extent::Whole),
        Need::Header if is_kept && message.size() <= READ_WHOLE => {
            (message.read_whole()?, Extent::Whole)
        }
        Need::Header => (message.read_header()?, Extent::Header),
        Need::Nothing | Need::File => (Vec::new(), Extent::Header),
    })
}

fn write_item(source: &Source<'_>, item: &FetchItem, sheet: &mut Sheet) -> io::Result<()> {
    let out = &mut sheet.bytes;
    let summary = || source.summary.ok_or(io::ErrorKind::NotFound);
    match item {
        FetchItem::Flags => (source.flags)(out),
        FetchItem::InternalDate => write::internal_date(source.facts.internal_date, out),
        FetchItem::Size => write::number(source.facts.size, out),
        FetchItem::Uid => write::number(u64::from(source.facts.uid), out),
        FetchItem::ModSeq => write::modseq(source.facts.modseq, out),
        FetchItem::EmailId => match source.facts.email_id {
            Some(id) => write::object_id(Object::Email, id, out),
            // It went away meanwhile.
            None => return Err(io::ErrorKind::NotFound.into()),
        },
        FetchItem::ThreadId => match summary()?.thread_id() {
            Some(id) => write::object_id(Object::Thread, id, out),
            None => out.extend_from_slice(b"NIL"),
        },
        // RFC 8514 §4.2: NIL where it is not known.
        FetchItem::SaveDate => match source.facts.save_date {
            Some(date) => write::internal_date(date, out),
            None => out.extend_from_slice(b"NIL"),
        },
        FetchItem::Preview { lazy } => match source.summary.and_then(Summary::preview) {
            Some(preview) => envelope::write_string(preview, out),
            // RFC 8970 §4.1: it is not there yet.
            None if *lazy => out.extend_from_slice(b"NIL"),
            None => return Err(io::ErrorKind::NotFound.into()),
        },
        FetchItem::Envelope => summary()?.write_envelope(out),
        FetchItem::Body => summary()?.write_structure(Form::Body, out),
        FetchItem::BodyStructure => summary()?.write_structure(Form::BodyStructure, out),
        FetchItem::Section {
            section, partial, ..
        } => {
            let (message, walked) = source.message.ok_or(io::ErrorKind::NotFound)?;
            let found = match section.part.is_empty() {
                true => find(message, section, *partial, walked),
                false => find_in_part(message, section, *partial, source.parts()?)?,
            };
            match found {
                // There is no such part.
                None => sheet.bytes.extend_from_slice(b"NIL"),
                Some(Cutting::Range(range)) => sheet.copy(message, range)?,
                Some(Cutting::Bytes(mut bytes)) => sheet.literal(&mut bytes),
            }
        }
        FetchItem::Binary { part, partial, .. } => match source.content(part)? {
            Some(content) => sheet.content(&content, *partial)?,
            // There is no such part.
            None => sheet.bytes.extend_from_slice(b"NIL"),
        },
        FetchItem::BinarySize { part } => {
            let size = source.content(part)?.map(|content| content.measure(None));
            let size = size.transpose()?.map_or(0, |measure| measure.size);
            write::number(size, &mut sheet.bytes);
        }
    }
    Ok(())
}

impl Source<'_> {
    /// All parts of the message, none of which need be in memory.
    fn parts(&self) -> io::Result<&[Part]> {
        if let Some(parts) = self.parts.get() {
            return Ok(parts);
        }
        let (message, _) = self.message.ok_or(io::ErrorKind::NotFound)?;
        let found = content::parts(message)?;
        Ok(self.parts.get_or_init(|| found))
    }

    /// The content of a part, or of the message; `None` if there is no such part.
    fn content(&self, numbers: &[u32]) -> io::Result<Option<Content>> {
        let (message, _) = self.message.ok_or(io::ErrorKind::NotFound)?;
        if numbers.is_empty() {
            return Content::new(message, 0..message.size(), &Encoding::Binary).map(Some);
        }
        let part = body::find_part(self.parts()?, numbers);
        let content = |part: &Part| {
            let range = part.body.start as u64..part.body.end as u64;
            Content::new(message, range, &part.encoding)
        };
        part.map(content).transpose()
    }
}

/// What a section of a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cutting {
    /// These bytes of its file.
    Range(Range<u64>),
    /// These, which had to be picked.
    Bytes(Vec<u8>),
}

impl Cutting {
    fn of(extract: Extract, partial: Option<Partial>) -> Self {
        let extract = match partial {
            Some(partial) => extract.partial(partial),
            None => extract,
        };
        match extract {
            Extract::Range(range) => Self::Range(range.start as u64..range.end as u64),
            Extract::Owned(bytes) => Self::Bytes(bytes),
        }
    }
}

/// Finds a section of a message; `None` if there is no such part. What it may need of the budget is [`memory_of_section`].
///
/// # Errors
/// When the message cannot be read.
pub fn cutting(
    message: &Message,
    section: &Section,
    partial: Option<Partial>,
) -> io::Result<Option<Cutting>> {
    if !section.part.is_empty() {
        return find_in_part(message, section, partial, &content::parts(message)?);
    }
    let text = match need_of_section(section) {
        Need::Whole => message.read_whole()?,
        Need::Header => message.read_header()?,
        Need::Nothing | Need::File => Vec::new(),
    };
    Ok(find(message, section, partial, &mime::Message::walk(&text)))
}

fn find_in_part(
    message: &Message,
    section: &Section,
    partial: Option<Partial>,
    parts: &[Part],
) -> io::Result<Option<Cutting>> {
    let within = |range: Range<usize>| range.start as u64..range.end as u64;
    Ok(match section.locate(parts) {
        None => None,
        Some(Place::Bytes(range)) => Some(Cutting::Range(cut(within(range), partial))),
        Some(Place::Fields {
            header,
            names,
            among,
        }) => {
            let header = within(header);
            let header = message.read(header.start, header.end)?;
            let picked = Extract::Owned(body::pick(&header, names, among));
            Some(Cutting::of(picked, partial))
        }
    })
}

fn find(
    message: &Message,
    section: &Section,
    partial: Option<Partial>,
    walked: &mime::Message<'_>,
) -> Option<Cutting> {
    // The whole message and its body need not be in memory to be sent.
    let from_file = match (&section.text, section.part.as_slice()) {
        (None, []) => Some(0),
        (Some(SectionText::Text), []) => {
            let root = walked.parts().first();
            Some(root.map_or(0, |root| root.body.start as u64))
        }
        _ => None,
    };
    if let Some(start) = from_file {
        return Some(Cutting::Range(cut(start..message.size(), partial)));
    }
    let extract = section.extract(walked)?;
    Some(Cutting::of(extract, partial))
}

fn cut(range: Range<u64>, partial: Option<Partial>) -> Range<u64> {
    let Some(partial) = partial else { return range };
    let start = range.start.saturating_add(partial.origin).min(range.end);
    start..start.saturating_add(partial.count).min(range.end)
}

/// What is to be sent of one message.
#[derive(Debug, Default)]
struct Sheet {
    pieces: Vec<Piece>,
    bytes: Vec<u8>,
    /// How many bytes went into `pieces`.
    put_by: usize,
}

impl Sheet {
    fn is_full(&self) -> bool {
        self.put_by + self.bytes.len() > MAX_SHEET
    }

    fn literal(&mut self, bytes: &mut [u8]) {
        without_nul(bytes);
        write::literal_begin(bytes.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(bytes);
    }

    fn copy(&mut self, message: &Message, range: Range<u64>) -> io::Result<()> {
        let length = range.end - range.start;
        if length <= INLINE {
            let mut bytes = message.read(range.start, range.end)?;
            self.literal(&mut bytes);
            return Ok(());
        }
        write::literal_begin(length, &mut self.bytes);
        self.put_by += self.bytes.len();
        self.pieces
            .push(Piece::Bytes(std::mem::take(&mut self.bytes)));
        self.pieces.push(Piece::Copy(message.clone(), range));
        Ok(())
    }

    // RFC 3516 §4.3: a string where that will do, so that clients know that there is no NUL in it.
    fn content(&mut self, content: &Content, partial: Option<Partial>) -> io::Result<()> {
        let measure = content.measure(partial)?;
        if measure.has_nul {
            write::literal8_begin(measure.size, &mut self.bytes);
        } else {
            write::literal_begin(measure.size, &mut self.bytes);
        }
        let cut = content.cut(partial, measure.size);
        if measure.size <= INLINE {
            return cut.append_to(&mut self.bytes);
        }
        self.put_by += self.bytes.len();
        self.pieces
            .push(Piece::Bytes(std::mem::take(&mut self.bytes)));
        self.pieces.push(Piece::Decode(cut));
        Ok(())
    }

    fn finish(mut self) -> Vec<Piece> {
        self.pieces.push(Piece::Bytes(self.bytes));
        self.pieces
    }
}

#[cfg(test)]
mod tests;
