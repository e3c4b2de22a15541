//! What a filter answers.

use alloc::string::String;
use alloc::vec::Vec;

use crate::fault::Fault;
use crate::frame::{self, Packet};
use crate::terms::action;

/// What becomes of the message, or of what the filter was told last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against it.
    Continue,
    /// Nothing speaks against the message, and the filter need hear no more of it.
    Accept,
    /// The message is to be taken and thrown away.
    Discard,
    /// Refused for good.
    Reject,
    /// Refused for now.
    TempFail,
    /// Refused with these words.
    Refuse(Refusal),
}

/// A filter's own words: a reply of 4yz or 5yz.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Three digits.
    pub code: u16,
    /// The enhanced status code (RFC 3463), if it gave one of the same class.
    pub enhanced: Option<(u8, u16, u16)>,
    /// Text, one for each line; printable ASCII only.
    pub lines: Vec<String>,
}

/// A change to the message or its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A field at the end of the header.
    AddHeader(Field),
    /// A field at this place among those of the header; 0 is above all.
    InsertHeader(u32, Field),
    /// Another value for that one, counted from 1, of the fields of this name; without a value it goes.
    ChangeHeader(u32, Field),
    /// Another envelope sender, without angle brackets.
    Sender(String),
    /// One more recipient.
    AddRecipient(String),
    /// One recipient less.
    DeleteRecipient(String),
    /// The next piece of a body that stands for the whole old one.
    Body(Vec<u8>),
}

/// A header field as a filter writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name: printable ASCII without a colon.
    pub name: Vec<u8>,
    /// Its value with CRLF where it goes on on another line, which begins with white space.
    pub value: Vec<u8>,
}

/// One packet.
#[derive(Debug)]
pub(crate) enum Reply {
    Verdict(Verdict),
    Change(Change),
    /// The rest of the body is of no interest.
    Skip,
    /// The filter is at work.
    Progress,
}

impl Change {
    /// The actions of which one must have been agreed on.
    pub(crate) const fn action(&self) -> u32 {
        match self {
            Self::AddHeader(_) | Self::InsertHeader(..) => action::ADD_HEADERS,
            Self::ChangeHeader(..) => action::CHANGE_HEADERS,
            Self::Sender(_) => action::CHANGE_SENDER,
            Self::AddRecipient(_) => action::ADD_RECIPIENT | action::ADD_RECIPIENT_WITH_PARAMETERS,
            Self::DeleteRecipient(_) => action::DELETE_RECIPIENT,
            Self::Body(_) => action::CHANGE_BODY,
        }
    }
}

impl Reply {
    pub(crate) fn parse(packet: &Packet) -> Result<Self, Fault> {
        let Packet { kind, data } = packet;
        let malformed = || Fault::Malformed(*kind);
        let verdict = |verdict| match data.as_slice() {
            [] => Ok(Self::Verdict(verdict)),
            _ => Err(malformed()),
        };
        let change = |change: Option<Change>| change.map(Self::Change).ok_or_else(malformed);
        match kind {
            b'a' => verdict(Verdict::Accept),
            b'c' => verdict(Verdict::Continue),
            b'd' => verdict(Verdict::Discard),
            b'r' => verdict(Verdict::Reject),
            // SMFIR_CONN_FAIL and SMFIR_SHUTDOWN: the client shall come again.
            b't' | b'f' | b'4' => verdict(Verdict::TempFail),
            b'y' => {
                let refusal = refusal(data).ok_or_else(malformed)?;
                Ok(Self::Verdict(Verdict::Refuse(refusal)))
            }
            b's' => Ok(Self::Skip),
            b'p' => Ok(Self::Progress),
            b'h' => change(field(data).map(Change::AddHeader)),
            b'i' => change(placed(data).map(|(place, field)| Change::InsertHeader(place, field))),
            b'm' => change(placed(data).map(|(place, field)| Change::ChangeHeader(place, field))),
            // Behind the address there may be parameters; there are none that could be obeyed.
            b'e' => change(address(data).map(Change::Sender)),
            b'+' | b'2' => change(address(data).map(Change::AddRecipient)),
            b'-' => change(address(data).map(Change::DeleteRecipient)),
            b'b' => Ok(Self::Change(Change::Body(data.clone()))),
            b'q' => Err(Fault::Quarantine),
            _ => Err(Fault::Unexpected(*kind)),
        }
    }
}

fn address(data: &[u8]) -> Option<String> {
    let strings = frame::strings(data)?;
    let text = core::str::from_utf8(strings.first()?).ok()?.trim();
    let inner = text
        .strip_prefix('<')
        .and_then(|text| text.strip_suffix('>'));
    Some(String::from(inner.unwrap_or(text)))
}

fn placed(data: &[u8]) -> Option<(u32, Field)> {
    let (place, rest) = data.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*place), field(rest)?))
}

fn field(data: &[u8]) -> Option<Field> {
    let strings = frame::strings(data)?;
    let [name, value] = strings.as_slice() else {
        return None;
    };
    // RFC 5322 §2.2.
    let is_name = !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic() && *b != b':');
    is_name.then_some(())?;
    let mut folded = Vec::with_capacity(value.len());
    let mut octets = value.iter().peekable();
    while let Some(octet) = octets.next() {
        match octet {
            b'\r' if octets.peek() == Some(&&b'\n') => {}
            b'\r' => return None,
            // A line that does not go on would be another field, or the end of the header.
            b'\n' if matches!(octets.peek(), Some(b' ' | b'\t')) => {
                folded.extend_from_slice(b"\r\n");
            }
            b'\n' if octets.peek().is_none() => {}
            b'\n' => return None,
            octet => folded.push(*octet),
        }
    }
    Some(Field {
        name: name.to_vec(),
        value: folded,
    })
}

// "550 5.7.1 text", with CRLF and the code again where there are more lines.
fn refusal(data: &[u8]) -> Option<Refusal> {
    let [text] = frame::strings(data)?.try_into().ok()?;
    let text = core::str::from_utf8(text).ok()?;
    let mut code = None;
    let mut enhanced = None;
    let mut lines = Vec::new();
    for line in text.trim_end().split('\n') {
        let line = line.trim_end_matches('\r');
        let (digits, rest) = line.split_at_checked(3)?;
        let number: u16 = digits.parse().ok()?;
        if !(400..600).contains(&number) || code.is_some_and(|code| code != number) {
            return None;
        }
        code = Some(number);
        let rest = match rest.as_bytes().first() {
            None => "",
            Some(b' ' | b'-') => rest.get(1..).unwrap_or_default(),
            Some(_) => return None,
        };
        let (found, words) = enhanced_code(rest, number);
        enhanced = enhanced.or(found);
        let words = words.trim().chars().map(|c| match c {
            ' '..='~' => c,
            _ => '?',
        });
        lines.push(words.collect());
    }
    Some(Refusal {
        code: code?,
        enhanced,
        lines,
    })
}

/// Takes the enhanced code off the front of a text, if it is one of the class of `code`.
fn enhanced_code(text: &str, code: u16) -> (Option<(u8, u16, u16)>, &str) {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut parts = first.split('.').map(|part| {
        let is_number = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| part.parse::<u16>().ok()).flatten()
    });
    let (Some(Some(class)), Some(Some(subject)), Some(Some(detail)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return (None, text);
    };
    match u8::try_from(class) {
        Ok(small) if class == code / 100 => (Some((small, subject, detail)), rest),
        _ => (None, rest),
    }
}
