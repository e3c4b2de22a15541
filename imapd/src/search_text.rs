//! Looks for words in a message as its reader sees it: decoded, and whatever the case.
//!
//! Work is linear in the size of the message and bounded by [`MAX_TEXT`]; nothing is parsed beyond
//! what `mail` has found already.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use memchr::memmem::Finder;

use imap::casemap::fold;
use imap::search::Within;
use mail::decode;
use mail::header::Field;
use mail::mime::{Message, Part, Structure};

use super::fuzzy::Look;

/// At most this many bytes of encoded body text are looked at in one message.
pub const MAX_TEXT: usize = 64 << 20;

/// What is looked for, prepared once for many messages.
#[derive(Debug, Clone)]
pub struct Needle {
    finder: Finder<'static>,
}

impl Needle {
    /// Prepares `text` for looking it up in whatever case.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = fold(text);
        Self {
            finder: Finder::new(text.as_bytes()).into_owned(),
        }
    }

    /// Whether there is nothing to look for; everything contains that.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.finder.needle().is_empty()
    }

    /// Whether `text` contains it.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        self.is_empty() || self.is_in_folded(fold(text).as_bytes())
    }

    /// What is looked for, folded.
    #[must_use]
    pub fn folded(&self) -> &[u8] {
        self.finder.needle()
    }

    /// Whether `text`, which is folded already, contains it.
    #[must_use]
    pub fn is_in_folded(&self, text: &[u8]) -> bool {
        self.finder.find(text).is_some()
    }
}

/// Whether a field called `name` contains `needle`; the empty needle asks whether there is one.
// RFC 3501 §6.4.4: HEADER, and with their field names FROM, TO, CC, BCC and SUBJECT.
#[must_use]
pub fn header_contains(message: &Message<'_>, name: &str, needle: &Needle) -> bool {
    let Some(root) = message.parts().first() else {
        return false;
    };
    let mut fields = message.fields(root).filter(|field| field.is(name));
    fields.any(|field| needle.is_in(&field_text(&field)))
}

/// Whether the body contains `needle`: in a text part, or in the header of a message inside.
// RFC 3501 §6.4.4: BODY.
#[must_use]
pub fn body_contains(message: &Message<'_>, needle: &Needle) -> bool {
    needle.is_empty() || any_body_text(message, |text| needle.is_in(text))
}

/// Whether `holds` is true of a text that is searched in the body. None is shown after the first of which it is.
pub fn any_body_text(message: &Message<'_>, mut holds: impl FnMut(&str) -> bool) -> bool {
    let mut left = MAX_TEXT;
    message.parts().iter().any(|part| {
        is_inner_message(message, part)
            && message.fields(part).any(|field| holds(&field_line(&field)))
            || is_text(part) && holds(&part_text(message, part, &mut left))
    })
}

/// Whether the header or the body contains `needle`.
// RFC 3501 §6.4.4: TEXT.
#[must_use]
pub fn text_contains(message: &Message<'_>, needle: &Needle) -> bool {
    let root = message.parts().first();
    let in_header = |root| {
        let mut fields = message.fields(root);
        fields.any(|field| needle.is_in(&field_line(&field)))
    };
    root.is_some_and(in_header) || body_contains(message, needle)
}

/// Looks for a text that need not be there as it is.
pub fn look(message: &Message<'_>, within: Within<'_>, look: &mut Look<'_>) {
    if let Some(root) = message.parts().first() {
        let mut fields = message.fields(root);
        let is_whole = match within {
            Within::Field(name) => fields
                .filter(|field| field.is(name))
                .any(|field| look.at(&fold(&field_text(&field)))),
            Within::Text => fields.any(|field| look.at(&fold(&field_line(&field)))),
            Within::Body => false,
        };
        if is_whole {
            return;
        }
    }
    if !matches!(within, Within::Field(_)) {
        any_body_text(message, |text| look.at(&fold(text)));
    }
}

/// The value of `field`, its encoded words decoded.
#[must_use]
pub fn field_text(field: &Field<'_>) -> String {
    encoded_words(&field.unfolded())
}

/// The whole field on one line, its encoded words decoded.
#[must_use]
pub fn field_line(field: &Field<'_>) -> String {
    let name = String::from_utf8_lossy(field.name);
    format!("{name}: {}", field_text(field))
}

fn is_inner_message(message: &Message<'_>, part: &Part) -> bool {
    let parent = part.parent.and_then(|parent| message.parts().get(parent));
    parent.is_some_and(|parent| parent.structure == Structure::Message)
}

/// Whether people would read `part` as text; reports such as message/delivery-status count.
fn is_text(part: &Part) -> bool {
    let kind = part.content_type.kind.as_str();
    part.structure == Structure::Leaf && (kind == "text" || kind == "message")
}

/// A text part decoded, of which at most `left` bytes are looked at.
pub(crate) fn part_text(message: &Message<'_>, part: &Part, left: &mut usize) -> String {
    let body = message.body(part);
    let body = &body[..body.len().min(*left)];
    *left -= body.len();
    let content = decode::decode(&part.encoding, body);
    let charset = part.content_type.parameters.value("charset");
    text(&content, charset.as_deref()).into_owned()
}

/// `bytes` as text. Without a charset we know, they are UTF-8 if they can be, else windows-1252.
fn text<'a>(bytes: &'a [u8], charset: Option<&[u8]>) -> Cow<'a, str> {
    let ascii = |label: &[u8]| label.trim_ascii().eq_ignore_ascii_case(b"us-ascii");
    let named = charset
        .filter(|label| !ascii(label))
        .and_then(Encoding::for_label);
    if let Some(encoding) = named {
        return encoding.decode_without_bom_handling(bytes).0;
    }
    match UTF_8.decode_without_bom_handling_and_without_replacement(bytes) {
        Some(text) => text,
        None => WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
}

/// Decodes the encoded words of an unfolded value; the rest is taken as UTF-8 or windows-1252.
// RFC 2047 §6.
#[must_use]
pub fn encoded_words(value: &[u8]) -> String {
    let mut out = String::new();
    let mut pending = Pending::default();
    let mut rest = value;
    while let Some(start) = find(rest, b"=?") {
        let (before, candidate) = rest.split_at(start);
        let Some(word) = Word::parse(candidate) else {
            pending.flush(&mut out);
            out.push_str(&text(&rest[..start + 2], None));
            rest = &rest[start + 2..];
            continue;
        };
        // RFC 2047 §6.2: blanks between adjacent encoded words are not shown.
        if !before.trim_ascii().is_empty() || pending.charset.is_none() {
            pending.flush(&mut out);
            out.push_str(&text(before, None));
        }
        pending.append(&word, &mut out);
        rest = &candidate[word.length..];
    }
    pending.flush(&mut out);
    out.push_str(&text(rest, None));
    out
}

/// Bytes of adjacent encoded words in one charset: some senders split a letter between words.
#[derive(Default)]
struct Pending<'a> {
    charset: Option<&'a [u8]>,
    bytes: Vec<u8>,
}

impl<'a> Pending<'a> {
    fn append(&mut self, word: &Word<'a>, out: &mut String) {
        let same = |charset: &[u8]| charset.eq_ignore_ascii_case(word.charset);
        if !self.charset.is_some_and(same) {
            self.flush(out);
        }
        self.charset = Some(word.charset);
        self.bytes.extend_from_slice(&word.bytes);
    }

    fn flush(&mut self, out: &mut String) {
        if let Some(charset) = self.charset.take() {
            out.push_str(&text(&self.bytes, Some(charset)));
            self.bytes.clear();
        }
    }
}

struct Word<'a> {
    charset: &'a [u8],
    bytes: Vec<u8>,
    length: usize,
}

impl<'a> Word<'a> {
    /// Reads the encoded word at the beginning of `candidate`.
    // RFC 2047 §2: "=?" charset "?" encoding "?" encoded-text "?=". A word has at most 75
    // characters; longer ones exist and are read, but never further than this.
    fn parse(candidate: &'a [u8]) -> Option<Self> {
        const LONGEST: usize = 2_000;
        let window = &candidate[..candidate.len().min(LONGEST)];
        let mut pieces = window.get(2..)?.splitn(4, |&byte| byte == b'?');
        let (charset, encoding, content) = (pieces.next()?, pieces.next()?, pieces.next()?);
        if charset.is_empty() || pieces.next()?.first() != Some(&b'=') {
            return None;
        }
        // RFC 2231 §5: a language may follow the charset after an asterisk.
        let label = charset.split(|&byte| byte == b'*').next()?;
        let bytes = match encoding {
            b"B" | b"b" => decode::base64(content),
            b"Q" | b"q" => quoted(content),
            _ => return None,
        };
        let length = 2 + charset.len() + 1 + encoding.len() + 1 + content.len() + 2;
        Some(Self {
            charset: label,
            bytes,
            length,
        })
    }
}

// RFC 2047 §4.2: like quoted-printable, and an underscore is a blank.
fn quoted(content: &[u8]) -> Vec<u8> {
    let blank = |&byte: &u8| if byte == b'_' { b' ' } else { byte };
    // A blank at the end is content here, so it is kept from looking like one of a line's end.
    let mut text: Vec<u8> = content.iter().map(blank).collect();
    text.push(b'.');
    let mut bytes = decode::quoted_printable(&text);
    bytes.pop();
    bytes
}

fn find(text: &[u8], wanted: &[u8; 2]) -> Option<usize> {
    text.windows(2).position(|pair| pair == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &[u8] = b"From: =?utf-8?Q?J=C3=BCrgen_?=\r\n =?UTF-8?B?TcO8bGxlcg==?= <j@example.org>\r\n\
        Subject: =?iso-8859-1?q?Gr=FC=DFe?= an alle\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/plain; charset=koi8-r\r\nContent-Transfer-Encoding: base64\r\n\r\n8NLJ18XU\r\n\
        --b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nein lan=\r\nges Wort =C3=84rger\r\n\
        --b\r\nContent-Type: application/octet-stream\r\n\r\nhidden\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner =?utf-8?b?w7xiZXI=?=\r\n\r\ninside\r\n--b--\r\n";

    fn check(found: impl Fn(&Message<'_>, &Needle) -> bool, text: &str) -> bool {
        found(&Message::walk(MIXED), &Needle::new(text))
    }

    #[test]
    fn encoded_header_words_are_found_in_any_case() {
        assert!(check(
            |m, n| header_contains(m, "from", n),
            "JÜRGEN MÜLLER <"
        ));
        assert!(check(|m, n| header_contains(m, "Subject", n), "grüßE AN"));
        assert!(check(|m, n| header_contains(m, "subject", n), ""));
        assert!(!check(|m, n| header_contains(m, "cc", n), ""));
    }

    #[test]
    fn encoded_bodies_are_found_and_attachments_are_not() {
        assert!(check(body_contains, "привет"));
        assert!(check(body_contains, "LANGES WORT ärger"));
        assert!(check(body_contains, "INNER Über"));
        assert!(check(body_contains, "inside"));
        assert!(!check(body_contains, "hidden"));
        assert!(!check(body_contains, "an alle"));
        assert!(check(text_contains, "an alle"));
        assert!(check(text_contains, "subject: grüße"));
    }

    #[test]
    fn broken_encoded_words_are_shown_as_written() {
        for written in [
            "=?",
            "=?utf-8?",
            "=?utf-8?B?AAAA",
            "=?utf-8?X?a?=",
            "a =?= b",
            "=??B?QQ==?=",
        ] {
            assert_eq!(encoded_words(written.as_bytes()), written);
        }
        assert_eq!(encoded_words(b"=?utf-8?q?a_?= =?utf-8?q?b?= c"), "a b c");
        assert_eq!(encoded_words(b"=?utf-8*de?q?=C3?==?utf-8?q?=A4?="), "ä");
    }

    #[test]
    fn a_megabyte_of_word_beginnings_ends() {
        let value = b"=?".repeat(500_000);
        assert_eq!(encoded_words(&value).len(), value.len());
    }
}
