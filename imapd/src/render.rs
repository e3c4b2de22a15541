//! Works out what FETCH shows of a message: small things as bytes, large ones as a piece of the file to be copied.
//!
//! Everything here blocks and belongs on a blocking thread.

use std::cell::OnceCell;
use std::io;
use std::ops::Range;

use imap::body::{self, Extract, Form, Partial, Section, SectionText};
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
        | FetchItem::ThreadId
        | FetchItem::SaveDate
        | FetchItem::Preview { lazy: true } => Need::Nothing,
        FetchItem::Envelope => Need::Header,
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
    if !section.part.is_empty() {
        return Need::Whole;
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

/// What the parts of such messages may need beside, if contents of parts are wanted.
#[must_use]
pub fn memory_of_parts(items: &[FetchItem], sizes: impl Iterator<Item = u64>) -> u64 {
    let has_part = |item: &FetchItem| match item {
        FetchItem::Binary { part, .. } | FetchItem::BinarySize { part } => !part.is_empty(),
        _ => false,
    };
    if !items.iter().any(has_part) {
        return 0;
    }
    let largest = sizes.max().unwrap_or(0);
    MAX_MEMORY.min(largest.saturating_mul(MEMORY_PER_BYTE))
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
        parts: OnceCell::new(),
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
        // RFC 8474 §5.2: of a server that does not put messages into threads.
        FetchItem::ThreadId => out.extend_from_slice(b"NIL"),
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
            write_section(message, section, *partial, walked, sheet)?;
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
    /// The content of a part, or of the message; `None` if there is no such part.
    fn content(&self, numbers: &[u32]) -> io::Result<Option<Content>> {
        let (message, _) = self.message.ok_or(io::ErrorKind::NotFound)?;
        if numbers.is_empty() {
            return Content::new(message, 0..message.size(), &Encoding::Binary).map(Some);
        }
        let parts = match self.parts.get() {
            Some(parts) => parts,
            None => {
                let found = content::parts(message)?;
                self.parts.get_or_init(|| found)
            }
        };
        let part = body::find_part(parts, numbers);
        let content = |part: &Part| {
            let range = part.body.start as u64..part.body.end as u64;
            Content::new(message, range, &part.encoding)
        };
        part.map(content).transpose()
    }
}

fn write_section(
    message: &Message,
    section: &Section,
    partial: Option<Partial>,
    walked: &mime::Message<'_>,
    sheet: &mut Sheet,
) -> io::Result<()> {
    match find(message, section, partial, walked) {
        // There is no such part.
        None => sheet.bytes.extend_from_slice(b"NIL"),
        Some(Cutting::Range(range)) => sheet.copy(message, range)?,
        Some(Cutting::Bytes(mut bytes)) => sheet.literal(&mut bytes),
    }
    Ok(())
}

/// What a section of a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cutting {
    /// These bytes of its file.
    Range(Range<u64>),
    /// These, which had to be picked.
    Bytes(Vec<u8>),
}

/// Finds a section of a message; `None` if there is no such part. What it may need of the budget is that of [`need_of_section`].
///
/// # Errors
/// When the message cannot be read.
pub fn cutting(
    message: &Message,
    section: &Section,
    partial: Option<Partial>,
) -> io::Result<Option<Cutting>> {
    let text = match need_of_section(section) {
        Need::Whole => message.read_whole()?,
        Need::Header => message.read_header()?,
        Need::Nothing | Need::File => Vec::new(),
    };
    Ok(find(message, section, partial, &mime::Message::walk(&text)))
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
    Some(
        match partial.map_or(extract.clone(), |partial| extract.partial(partial)) {
            Extract::Range(range) => Cutting::Range(range.start as u64..range.end as u64),
            Extract::Owned(bytes) => Cutting::Bytes(bytes),
        },
    )
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
mod tests {
    use super::*;
    use imap::command::Command;
    use std::io::Write;

    fn show(bytes: &[u8], items: &str) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let message = Message::new(file).unwrap();
        let line = format!("a FETCH 1 {items}");
        let Command::Fetch { items, .. } = imap::parse::request(line.as_bytes()).unwrap().command
        else {
            panic!("no fetch");
        };
        let job = Job {
            facts: Facts {
                by: Numbering::Sequence,
                number: 3,
                uid: 41,
                internal_date: 0,
                size: message.size(),
                modseq: 1,
                email_id: None,
                save_date: None,
            },
            flags: b"(\\Seen)".to_vec(),
            tell_flags: false,
            message,
        };
        let mut text = Vec::new();
        for piece in render(&job, &items).unwrap().pieces {
            match piece {
                Piece::Bytes(bytes) => text.extend(bytes),
                Piece::Copy(message, range) => {
                    text.extend(message.read(range.start, range.end).unwrap());
                }
                Piece::Decode(content) => content.append_to(&mut text).unwrap(),
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    const MESSAGE: &[u8] = b"From: a@example.org\r\nSubject: x\r\n\r\nhello\r\n";

    #[test]
    fn what_is_known_is_shown_without_the_message() {
        assert_eq!(
            show(MESSAGE, "(UID FLAGS INTERNALDATE RFC822.SIZE)"),
            "* 3 FETCH (UID 41 FLAGS (\\Seen) INTERNALDATE \" 1-Jan-1970 00:00:00 +0000\" RFC822.SIZE 42)\r\n"
        );
    }

    #[test]
    fn sections_are_literals_under_their_names() {
        assert_eq!(
            show(MESSAGE, "BODY[TEXT]"),
            "* 3 FETCH (BODY[TEXT] {7}\r\nhello\r\n)\r\n"
        );
        assert_eq!(
            show(MESSAGE, "RFC822.TEXT"),
            "* 3 FETCH (RFC822.TEXT {7}\r\nhello\r\n)\r\n"
        );
        assert_eq!(
            show(MESSAGE, "BODY.PEEK[1]<1.3>"),
            "* 3 FETCH (BODY[1]<1> {3}\r\nell)\r\n"
        );
        assert_eq!(
            show(MESSAGE, "BODY[]<40.10>"),
            "* 3 FETCH (BODY[]<40> {2}\r\n\r\n)\r\n"
        );
        assert_eq!(
            show(MESSAGE, "BODY[]<90.10>"),
            "* 3 FETCH (BODY[]<90> {0}\r\n)\r\n"
        );
        assert_eq!(show(MESSAGE, "BODY[2]"), "* 3 FETCH (BODY[2] NIL)\r\n");
        assert_eq!(
            show(MESSAGE, "BODY[HEADER.FIELDS (SUBJECT)]"),
            "* 3 FETCH (BODY[HEADER.FIELDS (SUBJECT)] {14}\r\nSubject: x\r\n\r\n)\r\n"
        );
    }

    #[test]
    fn large_sections_are_copied_and_complete() {
        let body = "0123456789\r\n".repeat(10_000);
        let message = format!("Subject: x\r\n\r\n{body}");
        let shown = show(message.as_bytes(), "(BODY[] BODY[TEXT] UID)");
        let (whole, text) = (message.len(), body.len());
        assert_eq!(
            shown,
            format!(
                "* 3 FETCH (BODY[] {{{whole}}}\r\n{message} BODY[TEXT] {{{text}}}\r\n{body} UID 41)\r\n"
            )
        );
    }

    #[test]
    fn an_answer_that_would_fill_the_memory_is_refused() {
        let header = format!("X: {}\r\n", "y".repeat(100)).repeat(12_000);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(header.as_bytes()).unwrap();
        let message = Message::new(file).unwrap();
        let line = format!(
            "a FETCH 1 ({})",
            ["BODY[HEADER.FIELDS.NOT (A)]"; 20].join(" ")
        );
        let Command::Fetch { items, .. } = imap::parse::request(line.as_bytes()).unwrap().command
        else {
            panic!("no fetch");
        };
        let job = Job {
            facts: Facts {
                by: Numbering::Sequence,
                number: 1,
                uid: 1,
                internal_date: 0,
                size: message.size(),
                modseq: 1,
                email_id: None,
                save_date: None,
            },
            flags: vec![],
            tell_flags: false,
            message,
        };
        assert!(render(&job, &items).is_err());
        assert!(render(&job, &items[..5]).is_ok());
    }

    #[test]
    fn nul_never_leaves_in_a_literal() {
        let shown = show(b"A: b\r\n\r\n\0\0", "BODY[TEXT]");
        assert!(shown.starts_with("* 3 FETCH (BODY[TEXT] {2}\r\n"));
        assert!(!shown.contains('\0'));
    }

    #[test]
    fn memory_for_a_message_counts_its_parts() {
        let whole = |size| memory(Need::Whole, [1, size].into_iter());
        assert_eq!(whole(10_000), 410_000);
        assert_eq!(whole(1 << 30), (1 << 30) + (16 << 20));
        assert_eq!(memory(Need::Header, [5, 7].into_iter()), 7);
        assert_eq!(memory(Need::File, [5, 7].into_iter()), 0);
        let of_parts = |part: &[u32]| {
            let part = part.to_vec();
            memory_of_parts(&[FetchItem::BinarySize { part }], [7, 1 << 30].into_iter())
        };
        assert_eq!((of_parts(&[]), of_parts(&[1])), (0, MAX_MEMORY));
    }

    #[test]
    fn a_message_is_read_no_further_than_needed() {
        let needed = |items: &str| {
            let line = format!("a FETCH 1 {items}");
            match imap::parse::request(line.as_bytes()).unwrap().command {
                Command::Fetch { items, .. } => need(&items),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(needed("FAST"), Need::Nothing);
        assert_eq!(needed("(UID BODY[])"), Need::File);
        assert_eq!(needed("(RFC822 ENVELOPE BODY[TEXT])"), Need::Header);
        assert_eq!(needed("(ENVELOPE BODYSTRUCTURE)"), Need::Whole);
    }
}
