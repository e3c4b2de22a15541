//! Writes the ENVELOPE of a message: its main header fields, cut up for the client.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use mail::header::{self, Field};
use mail::mailbox_list::{self, Entry};

/// Writes the envelope of the message with this header.
// RFC 3501 §7.4.2: date, subject, from, sender, reply-to, to, cc, bcc, in-reply-to, message-id.
pub fn write(header: &[u8], out: &mut Vec<u8>) {
    let fields = EnvelopeFields::collect(header);
    out.push(b'(');
    write_text(fields.date, out);
    out.push(b' ');
    write_text(fields.subject, out);
    let from = entries(fields.from);
    let sender = entries(fields.sender);
    let reply_to = entries(fields.reply_to);
    // RFC 3501 §7.4.2: an absent or empty Sender or Reply-To is shown as From.
    let or_from = |list: &Vec<Entry>| {
        if list.is_empty() {
            from.clone()
        } else {
            list.clone()
        }
    };
    let (sender, reply_to) = (or_from(&sender), or_from(&reply_to));
    for list in [&from, &sender, &reply_to] {
        out.push(b' ');
        write_addresses(list, out);
    }
    for field in [fields.to, fields.cc, fields.bcc] {
        out.push(b' ');
        write_addresses(&entries(field), out);
    }
    for field in [fields.in_reply_to, fields.message_id] {
        out.push(b' ');
        write_text(field, out);
    }
    out.push(b')');
}

/// Writes `text` as a string: quoted where that is safe, else as a literal.
// RFC 3501 §4.3: quoted strings hold 7-bit text without CR and LF; §9: no string holds NUL.
pub fn write_string(text: &[u8], out: &mut Vec<u8>) {
    let text = without_nul(text);
    let quotable = |&byte: &u8| byte.is_ascii() && byte != b'\r' && byte != b'\n';
    if text.len() > 1024 || !text.iter().all(quotable) {
        write_literal(&text, out);
        return;
    }
    out.push(b'"');
    for &byte in text.iter() {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Writes `text` as a string, or `NIL` if there is none.
pub fn write_nstring(text: Option<&[u8]>, out: &mut Vec<u8>) {
    match text {
        Some(text) => write_string(text, out),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// Writes a decimal number.
pub(crate) fn write_number(number: usize, out: &mut Vec<u8>) {
    crate::write::number(number as u64, out);
}

fn write_literal(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'{');
    write_number(text.len(), out);
    out.extend_from_slice(b"}\r\n");
    out.extend_from_slice(text);
}

fn without_nul(text: &[u8]) -> Cow<'_, [u8]> {
    if text.contains(&0) {
        Cow::Owned(text.iter().copied().filter(|&byte| byte != 0).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// The first field of each name that an envelope shows.
#[derive(Default)]
struct EnvelopeFields<'a> {
    date: Option<Field<'a>>,
    subject: Option<Field<'a>>,
    from: Option<Field<'a>>,
    sender: Option<Field<'a>>,
    reply_to: Option<Field<'a>>,
    to: Option<Field<'a>>,
    cc: Option<Field<'a>>,
    bcc: Option<Field<'a>>,
    in_reply_to: Option<Field<'a>>,
    message_id: Option<Field<'a>>,
}

impl<'a> EnvelopeFields<'a> {
    fn collect(header: &'a [u8]) -> Self {
        let mut found = Self::default();
        for field in header::fields(header) {
            if let Some(place) = found.place(field.name) {
                place.get_or_insert(field);
            }
        }
        found
    }

    fn place(&mut self, name: &[u8]) -> Option<&mut Option<Field<'a>>> {
        let place = match name.to_ascii_lowercase().as_slice() {
            b"date" => &mut self.date,
            b"subject" => &mut self.subject,
            b"from" => &mut self.from,
            b"sender" => &mut self.sender,
            b"reply-to" => &mut self.reply_to,
            b"to" => &mut self.to,
            b"cc" => &mut self.cc,
            b"bcc" => &mut self.bcc,
            b"in-reply-to" => &mut self.in_reply_to,
            b"message-id" => &mut self.message_id,
            _ => return None,
        };
        Some(place)
    }
}

fn write_text(field: Option<Field<'_>>, out: &mut Vec<u8>) {
    write_nstring(field.map(|field| field.unfolded()).as_deref(), out);
}

fn entries(field: Option<Field<'_>>) -> Vec<Entry> {
    field.map_or_else(Vec::new, |field| mailbox_list::parse(field.value))
}

fn write_addresses(entries: &[Entry], out: &mut Vec<u8>) {
    if entries.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for entry in entries {
        write_address(entry, out);
    }
    out.push(b')');
}

// RFC 3501 §7.4.2: name, source route, mailbox, host. A NIL host marks a group: the mailbox is its
// name at the start and NIL at the end. So an address without a domain gets an empty host.
fn write_address(entry: &Entry, out: &mut Vec<u8>) {
    let [name, route, local, host] = match entry {
        Entry::Mailbox(mailbox) => [
            mailbox.name.as_deref(),
            mailbox.route.as_deref(),
            Some(mailbox.local.as_slice()),
            Some(mailbox.domain.as_slice()),
        ],
        Entry::GroupStart(name) => [None, None, Some(name.as_slice()), None],
        Entry::GroupEnd => [None; 4],
    };
    out.push(b'(');
    write_nstring(name, out);
    for text in [route, local, host] {
        out.push(b' ');
        write_nstring(text, out);
    }
    out.push(b')');
}
