//! What FETCH shows of a message without its body: envelope and structure as they go to the client, ready-made.
//!
//! As an entry: version, thread, size of the message, lengths of envelope, structure and preview, the number of identifiers, the gaps and
//! lengths of the extension data in the structure, identifiers, envelope, structure, preview. The size guards against a file that somebody replaced.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;

use imap::{body, envelope};
use ipc::cache::CacheKind;
use mail::mime::Message;
use mail::{header, message_id};
use sha2::{Digest, Sha256};

use super::number;
use crate::preview;

const VERSION: u8 = 3;
/// Of how many ancestors a message tells at most: the closest ones.
pub const MAX_ANCESTORS: usize = 30;
/// Bytes of an identifier.
const ID: usize = size_of::<u128>();

/// Which conversation a message belongs to: stands for the Message-ID that began it; zeros if it has none.
pub type Thread = [u8; ID];

/// What is shown of a message without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary<'a> {
    /// The conversation.
    pub thread: Thread,
    size: u64,
    /// What stands for its Message-ID, zeros if it has none, and for those of its ancestors, the parent last.
    ids: Cow<'a, [u8]>,
    envelope: Cow<'a, [u8]>,
    /// Empty where it was not worked out.
    structure: Cow<'a, [u8]>,
    extensions: Extensions<'a>,
    /// Its first words, where the structure was worked out.
    preview: Cow<'a, [u8]>,
}

/// Where the extension data are in a structure, as it stands in an entry: of each the gap before it, and its length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Extensions<'a> {
    count: usize,
    numbers: Cow<'a, [u8]>,
}

/// How much of a message was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Its header.
    Header,
    /// All of it.
    Whole,
}

impl Summary<'static> {
    /// Works it out for a message of `size` bytes, of which `walked` was read.
    #[must_use]
    pub fn of(walked: &Message<'_>, extent: Extent, size: u64) -> Self {
        let root = walked.parts().first();
        let header = root.map_or(&[][..], |root| walked.header(root));
        let mut shown = Vec::new();
        envelope::write(header, &mut shown);
        let ((structure, extensions), preview) = match extent {
            Extent::Header => Default::default(),
            Extent::Whole => (body::structure(walked), preview::of(walked)),
        };
        Self {
            thread: thread(header),
            size,
            ids: ids(header).into(),
            envelope: shown.into(),
            structure: structure.into(),
            extensions: Extensions::of(&extensions),
            preview: preview.into_bytes().into(),
        }
    }
}

impl<'a> Summary<'a> {
    /// Whether the structure is known.
    #[must_use]
    pub fn has_structure(&self) -> bool {
        !self.structure.is_empty()
    }

    /// Its first words; `None` where they are not known.
    #[must_use]
    pub fn preview(&self) -> Option<&[u8]> {
        self.has_structure().then_some(&*self.preview)
    }

    /// THREADID (RFC 8474 §5.2); `None` if it is in no conversation.
    #[must_use]
    pub fn thread_id(&self) -> Option<u128> {
        id_of(self.thread)
    }

    /// What stands for its Message-ID; 0 if it has none.
    #[must_use]
    pub fn id(&self) -> u128 {
        self.numbers().next().unwrap_or_default()
    }

    /// What stands for the Message-IDs of its closest ancestors, the parent last.
    pub fn ancestors(&self) -> impl Iterator<Item = u128> {
        self.numbers().skip(1)
    }

    fn numbers(&self) -> impl Iterator<Item = u128> {
        let ids = self.ids.as_chunks().0.iter();
        ids.map(|id| u128::from_be_bytes(*id))
    }

    /// The envelope.
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }

    /// Bytes of envelope and structure.
    #[must_use]
    pub fn length(&self) -> usize {
        self.envelope.len() + self.structure.len()
    }

    /// Writes ENVELOPE.
    pub fn write_envelope(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.envelope());
    }

    /// Writes BODYSTRUCTURE, or BODY.
    pub fn write_structure(&self, form: body::Form, out: &mut Vec<u8>) {
        match form {
            body::Form::Body => {
                body::write_without(&self.structure, &self.extensions.ranges(), out)
            }
            body::Form::BodyStructure => out.extend_from_slice(&self.structure),
        }
    }

    /// As an entry; `None` if it is too long to be kept.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let most = CacheKind::Summary.max_entry();
        let mut entry = Vec::with_capacity(self.length() + self.ids.len() + 64);
        entry.push(VERSION);
        entry.extend_from_slice(&self.thread);
        number::write(self.size, &mut entry);
        let lengths = [&self.envelope, &self.structure, &self.preview].map(|it| it.len());
        let counts = [self.ids.len() / ID, self.extensions.count];
        for length in lengths.into_iter().chain(counts) {
            number::write(length as u64, &mut entry);
        }
        entry.extend_from_slice(&self.extensions.numbers);
        entry.extend_from_slice(&self.ids);
        entry.extend_from_slice(&self.envelope);
        entry.extend_from_slice(&self.structure);
        entry.extend_from_slice(&self.preview);
        (entry.len() <= most).then_some(entry)
    }

    /// Reads an entry about a message of `size` bytes; `None` if it is none.
    #[must_use]
    pub fn decode(entry: &'a [u8], size: u64) -> Option<Self> {
        let (&version, mut rest) = entry.split_first()?;
        let thread = *rest.split_off(..16)?.first_chunk()?;
        if version != VERSION || number::read(&mut rest)? != size {
            return None;
        }
        let envelope = number::read_length(&mut rest)?;
        let structure = number::read_length(&mut rest)?;
        let preview = number::read_length(&mut rest)?;
        let ids = number::read_length(&mut rest)?.checked_mul(ID)?;
        let (extensions, end) = Extensions::read(&mut rest)?;
        let ids = rest.split_off(..ids)?;
        let envelope = rest.split_off(..envelope)?;
        let length = structure;
        let structure = rest.split_off(..length)?;
        let is_right = rest.len() == preview && end <= length && !envelope.is_empty();
        is_right.then_some(Self {
            thread,
            size,
            ids: ids.into(),
            envelope: envelope.into(),
            structure: structure.into(),
            extensions,
            preview: rest.into(),
        })
    }
}

impl<'a> Extensions<'a> {
    fn of(ranges: &[Range<usize>]) -> Self {
        let (mut numbers, mut end) = (Vec::new(), 0);
        for range in ranges {
            number::write((range.start - end) as u64, &mut numbers);
            number::write(range.len() as u64, &mut numbers);
            end = range.end;
        }
        Self {
            count: ranges.len(),
            numbers: numbers.into(),
        }
    }

    /// Takes them off the front, with their count; says where the last one ends.
    fn read(rest: &mut &'a [u8]) -> Option<(Self, usize)> {
        let count = number::read_length(rest)?;
        let (all, mut end) = (*rest, 0);
        for _ in 0..count {
            end = next_range(rest, end)?.end;
        }
        let numbers = all.get(..all.len() - rest.len())?;
        let extensions = Self {
            count,
            numbers: numbers.into(),
        };
        Some((extensions, end))
    }

    fn ranges(&self) -> Vec<Range<usize>> {
        let (mut rest, mut end) = (&*self.numbers, 0);
        let next = || {
            let range = next_range(&mut rest, end)?;
            end = range.end;
            Some(range)
        };
        std::iter::from_fn(next).collect()
    }
}

/// The range behind the one that ends at `end`.
fn next_range(rest: &mut &[u8], end: usize) -> Option<Range<usize>> {
    let start = end.checked_add(number::read_length(rest)?)?;
    Some(start..start.checked_add(number::read_length(rest)?)?)
}

/// THREADID of the message with this header. It never changes, because the header does not, and is the same for all copies.
#[must_use]
pub fn thread_id(header: &[u8]) -> Option<u128> {
    id_of(thread(header))
}

fn id_of(thread: Thread) -> Option<u128> {
    Some(u128::from_be_bytes(thread)).filter(|id| *id != 0)
}

/// The conversation of the message with this header.
// RFC 5322 §3.6.4: References begins with the message that began it; where there is none, In-Reply-To has the parent.
fn thread(header: &[u8]) -> Thread {
    let first_id = |name| {
        Some(mark(
            &message_id::ids(header::find(header, name)?.value).next()?,
        ))
    };
    let names = ["References", "In-Reply-To", "Message-ID"];
    let found = names.into_iter().find_map(first_id);
    found.unwrap_or_default()
}

/// What stands for the message with this header and its closest ancestors.
// RFC 5256 §3, REFERENCES: the first of In-Reply-To, where References has none.
fn ids(header: &[u8]) -> Vec<u8> {
    let value = |name| header::find(header, name).map_or(&[][..], |field| field.value);
    let own = message_id::ids(value("Message-ID")).next();
    let mut closest = VecDeque::with_capacity(MAX_ANCESTORS);
    for id in message_id::ids(value("References")) {
        if closest.len() == MAX_ANCESTORS {
            closest.pop_front();
        }
        closest.push_back(id);
    }
    if closest.is_empty() {
        closest.extend(message_id::ids(value("In-Reply-To")).next());
    }
    let mut ids = own.map_or([0; ID], |id| mark(&id)).to_vec();
    ids.extend(closest.iter().flat_map(|id| mark(id)));
    ids
}

/// Stands for a text, and is short: the beginning of its SHA-256.
#[must_use]
pub fn mark(text: &[u8]) -> [u8; ID] {
    let hash: [u8; 32] = Sha256::digest(text).into();
    let mut mark = [0; ID];
    mark.copy_from_slice(&hash[..ID]);
    mark
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] =
        b"Subject: a\r\nReferences: <root@x>\r\n <parent@x>\r\nMessage-ID: <own@x>\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Disposition: attachment; filename=x\r\n\r\none\r\n--b\r\n\
        Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ntwo\r\n--b--\r\n";

    fn summary(message: &[u8]) -> Summary<'static> {
        let size = message.len() as u64;
        Summary::of(&Message::walk(message), Extent::Whole, size)
    }

    #[test]
    fn a_summary_survives_the_round_trip_and_shows_what_the_message_does() {
        let entry = summary(MESSAGE).encode().unwrap();
        let decoded = Summary::decode(&entry, MESSAGE.len() as u64).unwrap();
        assert_eq!(decoded, summary(MESSAGE));
        let walked = Message::walk(MESSAGE);
        for form in [body::Form::Body, body::Form::BodyStructure] {
            let (mut kept, mut fresh) = (Vec::new(), Vec::new());
            decoded.write_structure(form, &mut kept);
            body::write_structure(&walked, form, &mut fresh);
            assert_eq!(kept, fresh);
        }
        let (mut kept, mut fresh) = (Vec::new(), Vec::new());
        decoded.write_envelope(&mut kept);
        envelope::write(walked.header(&walked.parts()[0]), &mut fresh);
        assert_eq!(kept, fresh);
    }

    #[test]
    fn bytes_that_are_no_entry_are_refused_and_never_read_beyond() {
        let size = MESSAGE.len() as u64;
        let entry = summary(MESSAGE).encode().unwrap();
        for end in 0..entry.len() {
            assert_eq!(Summary::decode(&entry[..end], size), None, "{end}");
        }
        assert_eq!(Summary::decode(&[&entry[..], b"x"].concat(), size), None);
        assert_eq!(Summary::decode(&entry, size + 1), None);
        for at in 0..entry.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = entry.clone();
                damaged[at] = value;
                if let Some(summary) = Summary::decode(&damaged, size) {
                    summary.write_structure(body::Form::Body, &mut Vec::new());
                }
            }
        }
    }

    #[test]
    fn a_summary_of_a_header_has_no_structure_and_one_too_long_is_not_kept() {
        let header = Summary::of(&Message::walk(b"Subject: a\r\n\r\n"), Extent::Header, 99);
        let entry = header.encode().unwrap();
        assert!(!Summary::decode(&entry, 99).unwrap().has_structure());
        assert!(summary(MESSAGE).has_structure());
        let long = format!("Subject: {}\r\n\r\n", "x".repeat(17 << 10));
        assert_eq!(summary(long.as_bytes()).encode(), None);
    }

    #[test]
    fn answers_are_in_the_conversation_of_what_they_answer() {
        let thread = |header: &str| summary(format!("{header}\r\n\r\n").as_bytes()).thread;
        let root = thread("Message-ID: <a@x>");
        assert_ne!(root, Thread::default());
        assert_eq!(thread("Message-ID: <b@x>\r\nIn-Reply-To: your <a@x>"), root);
        let answer = "Message-ID: <c@x>\r\nReferences: <a@x> <b@x>\r\nIn-Reply-To: <b@x>";
        assert_eq!(thread(answer), root);
        assert_ne!(thread("Message-ID: <b@x>"), root);
        for none in [
            "Subject: x",
            "Message-ID: <>",
            "Message-ID: a@x",
            "Message-ID: <a",
        ] {
            assert_eq!(thread(none), Thread::default());
        }
        assert_eq!(thread("References: broken\r\nMessage-ID: <a@x>"), root);
    }

    #[test]
    fn the_closest_ancestors_are_told_and_no_others() {
        let ids = |header: &str| {
            let summary = summary(format!("{header}\r\n\r\n").as_bytes());
            let entry = summary.encode().unwrap();
            let size = header.len() as u64 + 4;
            let kept = Summary::decode(&entry, size).unwrap();
            (kept.id(), kept.ancestors().collect::<Vec<_>>())
        };
        let id = |text: &str| u128::from_be_bytes(mark(text.as_bytes()));
        assert_eq!(ids("Subject: none"), (0, vec![]));
        assert_eq!(
            ids("Message-ID: <\"c\"@x>\r\nReferences: <a@x>\r\n <b@x>\r\nIn-Reply-To: <d@x>"),
            (id("c@x"), vec![id("a@x"), id("b@x")])
        );
        assert_eq!(
            ids("References: none\r\nIn-Reply-To: <d@x> <e@x>"),
            (0, vec![id("d@x")])
        );
        // A field of more is not looked for beyond the limit of headers.
        let many: Vec<String> = (0..100_000).map(|n| format!("<{n}>")).collect();
        let (_, ancestors) = ids(&format!("References: {}", many.join(" ")));
        assert_eq!(ancestors.len(), MAX_ANCESTORS);
        assert_eq!(ancestors.last(), Some(&id("99999")));
    }
}
