//! Hostile inputs of any size, and what a daemon does with each.

use std::hint::black_box;

use imap::body::{self, Form, Section, SectionText};
use imap::fragment::{Fragmenter, LIMIT_AFTER_LOGIN};
use mail::content::{ContentType, Disposition, Encoding, languages};
use mail::mime::Message;
use mail::{date, decode, encode, header, mailbox_list};
use smtp::data::{Receiver, Stray};
use smtp::line::LineBuffer;
use smtp::server::Role;

use crate::search_text;
use crate::signatures;
use crate::world::{self, World};

/// One kind of hostile input.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// Makes one of about so many bytes.
    pub(crate) make: fn(usize) -> Vec<u8>,
    /// What is done with it.
    pub(crate) work: fn(&[u8]),
}

const fn shape(name: &'static str, make: fn(usize) -> Vec<u8>, work: fn(&[u8])) -> Shape {
    Shape { name, make, work }
}

pub(crate) const SHAPES: [Shape; 59] = [
    shape("nested message/rfc822", nested_messages, show),
    shape("nested multiparts", nested_multiparts, show),
    shape("one boundary at all levels", same_boundary, show),
    shape(
        "unterminated multiparts, false boundaries",
        false_boundaries,
        show,
    ),
    shape("boundaries that begin like others", prefix_boundaries, show),
    shape("parts of one multipart", many_parts, show),
    shape("multiparts that end at once", ended_multiparts, show),
    shape("a line of dashes and blanks", dashes_and_blanks, show),
    shape("digest, each with many authors", digest_of_groups, show),
    shape("parts with many parameters", parts_with_parameters, show),
    shape("header fields", |n| b"A:\r\n".repeat(n / 4), show),
    shape(
        "fields that are none",
        |n| b"no colon\n".repeat(n / 9),
        show,
    ),
    shape("content fields", content_fields, show),
    shape("one long field", |n| filled(b"X: ", b"y", n), show),
    shape("folded lines", |n| filled(b"X: y", b"\r\n y", n), show),
    shape(
        "From of commas and groups",
        |n| filled(b"From: ", b":;,", n),
        show,
    ),
    shape(
        "addresses",
        |n| b"\"N\" <a@example.org>, ".repeat(n / 20),
        addresses,
    ),
    shape(
        "words without address",
        |n| b"a \"b\" ".repeat(n / 6),
        addresses,
    ),
    shape("angle brackets", |n| b"<".repeat(n), addresses),
    shape("routes", |n| filled(b"<", b"@a,:", n), addresses),
    shape("domain literals", |n| b"@[".repeat(n / 2), addresses),
    shape("open quotes", |n| b"\"\\".repeat(n / 2), addresses),
    shape("nested comments", |n| b"(".repeat(n), field_values),
    shape("closed comments", |n| b"(\\))".repeat(n / 4), field_values),
    shape(
        "comments in a date",
        |n| filled(b"Fri (a), 21 ", b"(b)", n),
        field_values,
    ),
    shape("parameters", |n| filled(b"a/b", b";c=d", n), field_values),
    shape(
        "quoted parameters",
        |n| filled(b"a/b", b";c=\"\\d\"", n),
        field_values,
    ),
    shape("RFC 2231 pieces", pieces_of_parameters, field_values),
    shape(
        "one RFC 2231 value",
        |n| filled(b"a/b; c*=utf-8'en'", b"%41%", n),
        field_values,
    ),
    shape(
        "quotes that do not end",
        |n| filled(b"a/b", b"\"", n),
        field_values,
    ),
    shape("a type without end", |n| b"a".repeat(n), field_values),
    shape("language tags", |n| b"a,".repeat(n / 2), field_values),
    shape("base64", |n| b"QUJD".repeat(n / 4), decoded),
    shape(
        "base64, padding everywhere",
        |n| b"A=B==".repeat(n / 5),
        decoded,
    ),
    shape(
        "quoted-printable escapes",
        |n| b"=41=4".repeat(n / 5),
        decoded,
    ),
    shape(
        "quoted-printable line ends",
        |n| b"= \n".repeat(n / 3),
        decoded,
    ),
    shape("blanks before no line end", |n| b" ".repeat(n), decoded),
    shape("encoded words", |n| b"=?utf-8?q?a?= ".repeat(n / 14), words),
    shape(
        "encoded words that do not end",
        |n| b"=?".repeat(n / 2),
        words,
    ),
    shape(
        "encoded words cut short",
        |n| b"=?a?q?".repeat(n / 6),
        words,
    ),
    shape(
        "text to be encoded",
        |n| "\u{e9} =".as_bytes().repeat(n / 4),
        encoded,
    ),
    shape("IMAP literals", |n| b"{0+}\r\n".repeat(n / 6), commands),
    shape("IMAP commands", |n| b"a NOOP\r\n".repeat(n / 8), commands),
    shape(
        "IMAP sequence set",
        |n| filled(b"a FETCH 1", b",9:5", n),
        request,
    ),
    shape(
        "IMAP keywords",
        |n| filled(b"a STORE 1 FLAGS ($x", b" $y", n),
        request,
    ),
    shape(
        "IMAP search keys",
        |n| filled(b"a SEARCH ALL", b" NOT (SEEN)", n),
        request,
    ),
    shape(
        "IMAP sections",
        |n| filled(b"a FETCH 1 (UID", b" BODY[1.2.HEADER.FIELDS (A)]<1.2>", n),
        request,
    ),
    shape(
        "a mailbox in modified UTF-7",
        |n| filled(b"a SELECT &AOQ-", b"&AOQ-x", n),
        request,
    ),
    shape("SMTP commands", |n| b"VRFY x\r\n".repeat(n / 8), session),
    shape(
        "SMTP recipients",
        |n| filled(TRANSACTION, b"RCPT TO:<@a,@b:\"c d\"@example.org>\r\n", n),
        session,
    ),
    shape(
        "SMTP header",
        |n| filled(MESSAGE, b"From: a\r\n b,\r\n", n),
        session,
    ),
    shape(
        "SMTP chunks",
        |n| filled(TRANSACTION_SERVED, b"BDAT 3\r\na\r\n", n),
        session,
    ),
    shape(
        "SMTP dots and line ends",
        |n| b"..\r\n.\r".repeat(n / 6),
        smtp_data,
    ),
    shape("signatures", signatures::signatures, signatures::judge),
    shape("names in a signature", signatures::names, signatures::judge),
    shape("tags of a signature", signatures::tags, signatures::judge),
    shape("sets of a chain", signatures::seals, signatures::judge),
    shape(
        "signed blank lines",
        signatures::blank_lines,
        signatures::judge,
    ),
    shape("tags of a key", |n| filled(b"", b"p=;", n), signatures::key),
];

const TRANSACTION: &[u8] = b"EHLO x\r\nMAIL FROM:<>\r\n";
const TRANSACTION_SERVED: &[u8] = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\n";
const MESSAGE: &[u8] = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n";

/// `begin`, then `again` until there are about `size` bytes.
fn filled(begin: &[u8], again: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = begin.to_vec();
    bytes.extend(again.repeat(size / again.len()));
    bytes
}

fn nested_messages(size: usize) -> Vec<u8> {
    b"Content-Type: message/rfc822\r\n\r\n".repeat(size / 32)
}

fn multipart(boundary: &str) -> String {
    format!("Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n--{boundary}\r\n")
}

/// Pieces, one for each number, until there are about `size` bytes.
fn numbered(size: usize, piece: impl Fn(usize) -> String) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut number = 0;
    while bytes.len() < size {
        bytes.extend(piece(number).bytes());
        number += 1;
    }
    bytes
}

fn nested_multiparts(size: usize) -> Vec<u8> {
    numbered(size, |number| multipart(&format!("b{number}")))
}

fn same_boundary(size: usize) -> Vec<u8> {
    numbered(size, |_| multipart("x"))
}

fn false_boundaries(size: usize) -> Vec<u8> {
    let open: String = (0..90).map(|n| multipart(&format!("b{n}"))).collect();
    filled(format!("{open}\r\n").as_bytes(), b"--bb\n", size)
}

fn prefix_boundaries(size: usize) -> Vec<u8> {
    let text = |length: usize| "b".repeat(length + 1);
    let mut bytes: Vec<u8> = (0..90)
        .flat_map(|n| multipart(&text(n)).into_bytes())
        .collect();
    bytes.extend(b"\r\n");
    bytes.extend(numbered(size, |n| format!("--{}c\r\n", text(n % 90))));
    bytes
}

fn many_parts(size: usize) -> Vec<u8> {
    filled(multipart("x").as_bytes(), b"\r\n\r\n--x\r\n", size)
}

fn ended_multiparts(size: usize) -> Vec<u8> {
    let inner = format!("{}\r\n--y--\r\n--x\r\n", multipart("y"));
    filled(multipart("x").as_bytes(), inner.as_bytes(), size)
}

fn dashes_and_blanks(size: usize) -> Vec<u8> {
    let line = format!("--{}{}", "-".repeat(size / 2), " ".repeat(size / 2));
    format!("{}\r\n{line}", multipart("x")).into_bytes()
}

fn digest_of_groups(size: usize) -> Vec<u8> {
    let begin = "Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n";
    let message = format!("\r\nFrom: {}\r\n\r\n--x\r\n", ":;".repeat(500));
    filled(begin.as_bytes(), message.as_bytes(), size)
}

fn parts_with_parameters(size: usize) -> Vec<u8> {
    let part = format!("Content-Type: a/b{}\r\n\r\n--x\r\n", ";c=d".repeat(200));
    filled(multipart("x").as_bytes(), part.as_bytes(), size)
}

fn content_fields(size: usize) -> Vec<u8> {
    let fields = "Content-Type: a/b; c=d\r\nContent-ID: e\r\nContent-Language: f, g\r\n\
        Content-Disposition: inline; h=i\r\nContent-Transfer-Encoding: j\r\n";
    filled(b"", fields.as_bytes(), size)
}

fn pieces_of_parameters(size: usize) -> Vec<u8> {
    let pieces = numbered(size, |number| format!("; name*{number}*=%41"));
    [b"a/b".to_vec(), pieces].concat()
}

/// What imapd does to show a message.
fn show(bytes: &[u8]) {
    let message = Message::walk(bytes);
    let mut out = Vec::new();
    body::write_structure(&message, Form::Body, &mut out);
    body::write_structure(&message, Form::BodyStructure, &mut out);
    imap::envelope::write(message.header(&message.parts()[0]), &mut out);
    let section = Section {
        part: Vec::new(),
        text: Some(SectionText::HeaderFieldsNot(vec!["B".into()])),
    };
    black_box((section.extract(&message), header::body_start(bytes), out));
}

fn addresses(bytes: &[u8]) {
    black_box(mailbox_list::parse(bytes));
}

fn field_values(bytes: &[u8]) {
    let content_type = ContentType::parse(bytes);
    let parameters = content_type.as_ref().map(|found| &found.parameters);
    black_box(parameters.map(|parameters| (parameters.value("name"), parameters.decoded("c"))));
    black_box((Disposition::parse(bytes), Encoding::parse(bytes)));
    black_box((languages(bytes), date::parse_rfc5322(bytes)));
    black_box((mailbox_list::parse(bytes), header::unfold(bytes)));
}

fn decoded(bytes: &[u8]) {
    black_box((decode::base64(bytes), decode::quoted_printable(bytes)));
}

fn words(bytes: &[u8]) {
    let message = [b"Subject: ", bytes].concat();
    if let Some(field) = header::find(&message, "subject") {
        black_box(search_text::field_text(&field));
    }
}

fn encoded(bytes: &[u8]) {
    black_box((encode::base64_body(bytes), encode::quoted_printable(bytes)));
    black_box(encode::header_text(&String::from_utf8_lossy(bytes)));
}

/// Commands as they come in, in packets.
fn commands(bytes: &[u8]) {
    let mut fragmenter = Fragmenter::new();
    fragmenter.allow(LIMIT_AFTER_LOGIN);
    for packet in bytes.chunks(1400) {
        fragmenter.push(packet);
        while let Some(fragment) = fragmenter.next() {
            black_box(fragment);
        }
    }
}

fn request(bytes: &[u8]) {
    let _ = black_box(imap::parse::request(bytes));
    let ended = [bytes, b")"].concat();
    let _ = black_box(imap::parse::request(&ended));
}

fn session(bytes: &[u8]) {
    let hostname = world::config(Role::Exchange).hostname;
    let config = smtp::server::Config {
        max_message_size: u64::MAX,
        max_recipients: usize::MAX,
        max_text_line: usize::MAX,
        max_idle_commands: usize::MAX,
        undelayed_errors: usize::MAX,
        ..smtp::server::Config::new(hostname, Role::Exchange)
    };
    let mut world = World::new(config);
    for packet in bytes.chunks(1400) {
        world.say(packet);
        world.sent.clear();
    }
    black_box(world.closed);
}

fn smtp_data(bytes: &[u8]) {
    let mut out = Vec::new();
    let mut lines = LineBuffer::new(2048);
    let mut receiver = Receiver::new(usize::MAX, Stray::Reject);
    for packet in bytes.chunks(1400) {
        let mut rest = packet;
        while !rest.is_empty() {
            rest = &rest[receiver.feed(rest, &mut out).0..];
        }
        lines.push(b"NOOP\r\nNO");
        while let Ok(Some(line)) = lines.take_line() {
            black_box(line);
        }
        lines.clear();
    }
    black_box(out);
}
