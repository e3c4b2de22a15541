//! Watches the header of a message go by: how long it is, how many hops it tells, what it lacks.

use super::writers::{Field, WriterWatch};
use super::{Agents, Author};

// Long enough for every name we look for.
const NAME: usize = 16;

/// What a header may have; one that has more is no honest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderLimits {
    /// Octets; large headers in real mail have some 50 KiB.
    pub octets: u64,
    /// Fields.
    pub fields: usize,
    /// `Received` fields. RFC 5321 §6.3: a server that counts them allows at least 100.
    pub hops: usize,
}

/// Why a header is not acceptable: the limit it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Octets(u64),
    Fields(usize),
    /// The message goes in circles.
    Hops(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    LineStart,
    Name,
    Value,
    /// The header is over, at an empty line or at a line that is no field.
    Body,
}

#[derive(Debug)]
pub(super) struct HeaderWatch {
    limits: HeaderLimits,
    at: At,
    name: [u8; NAME],
    name_len: usize,
    octets: u64,
    fields: usize,
    hops: usize,
    has_date: bool,
    has_message_id: bool,
    fault: Option<HeaderFault>,
    writers: WriterWatch,
}

impl HeaderWatch {
    pub(super) fn new(limits: HeaderLimits) -> Self {
        Self {
            limits,
            at: At::LineStart,
            name: [0; NAME],
            name_len: 0,
            octets: 0,
            fields: 0,
            hops: 0,
            has_date: false,
            has_message_id: false,
            fault: None,
            writers: WriterWatch::default(),
        }
    }

    /// Reads on; returns where in `bytes` the empty line stands that ends the header.
    ///
    /// CR and LF come in pairs, as [`crate::data::Receiver`] guarantees of every header.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.at == At::Body {
            return None;
        }
        for (n, b) in bytes.iter().enumerate() {
            self.octets += 1;
            if self.octets > self.limits.octets {
                let fault = HeaderFault::Octets(self.limits.octets);
                self.fault.get_or_insert(fault);
                return None;
            }
            match (self.at, b) {
                (At::LineStart, b'\r') => {
                    self.at = At::Body;
                    return Some(n);
                }
                (At::LineStart, b' ' | b'\t') => {
                    self.writers.note(b' ');
                    self.at = At::Value;
                }
                (At::LineStart, b) => {
                    self.writers.end();
                    self.name_len = 0;
                    self.at = At::Name;
                    self.note(*b);
                }
                (At::Name, b':') => {
                    self.end_name();
                    self.at = At::Value;
                }
                (At::Name, b'\n') => {
                    self.writers.cut();
                    self.at = At::Body;
                    return None;
                }
                (At::Name, b) => self.note(*b),
                (At::Value, b'\n') => self.at = At::LineStart,
                (At::Value, b'\r') => {}
                (At::Value, b) => self.writers.note(*b),
                (At::Body, _) => return None,
            }
        }
        None
    }

    fn note(&mut self, b: u8) {
        // RFC 5322 §4.5: white space may precede the colon in old mail.
        if matches!(b, b' ' | b'\t') {
            return;
        }
        if let Some(place) = self.name.get_mut(self.name_len) {
            *place = b;
        }
        self.name_len = self.name_len.saturating_add(1);
    }

    fn end_name(&mut self) {
        self.fields += 1;
        if self.fields > self.limits.fields {
            let fault = HeaderFault::Fields(self.limits.fields);
            self.fault.get_or_insert(fault);
        }
        let name = self.name.get(..self.name_len).unwrap_or_default();
        if name.eq_ignore_ascii_case(b"Received") {
            self.hops += 1;
            if self.hops > self.limits.hops {
                let fault = HeaderFault::Hops(self.limits.hops);
                self.fault.get_or_insert(fault);
            }
        } else if name.eq_ignore_ascii_case(b"Date") {
            self.has_date = true;
        } else if name.eq_ignore_ascii_case(b"Message-ID") {
            self.has_message_id = true;
        } else if let Some(field) = Field::named(name) {
            self.writers.begin(field);
        }
    }

    /// Whom the header names as authors and senders.
    pub(super) fn writers(self) -> (Author, Agents) {
        self.writers.judge()
    }

    /// The first thing wrong with the header.
    pub(super) fn fault(&self) -> Option<HeaderFault> {
        self.fault
    }

    /// Whether the message so far is all header, well-formed and at the start of a line.
    pub(super) fn is_open(&self) -> bool {
        self.at == At::LineStart
    }

    pub(super) fn has_date(&self) -> bool {
        self.has_date
    }

    pub(super) fn has_message_id(&self) -> bool {
        self.has_message_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeaderLimits = HeaderLimits {
        octets: 500_000,
        fields: 5000,
        hops: 100,
    };

    fn watch(bytes: &[u8]) -> (HeaderWatch, Option<usize>) {
        let mut header = HeaderWatch::new(LIMITS);
        let end = header.feed(bytes);
        (header, end)
    }

    #[test]
    fn the_header_ends_at_the_empty_line() {
        let (header, end) = watch(b"Date: x\r\nmessage-id : <y>\r\n z\r\n\r\nReceived: body\r\n");
        assert_eq!(end, Some(31));
        assert!(header.has_date() && header.has_message_id());
        assert_eq!(header.hops, 0);
    }

    #[test]
    fn hops_are_counted_in_any_case_but_not_in_continuations() {
        let (header, _) = watch(b"Received: a\r\n received: b\r\nRECEIVED: c\r\nX-Received: d\r\n");
        assert_eq!(header.hops, 2);
        assert_eq!(header.fields, 3);
    }

    #[test]
    fn a_line_that_is_no_field_ends_the_header_without_a_place_to_add_to() {
        let (header, end) = watch(b"hello\r\nDate: x\r\n\r\n");
        assert_eq!(end, None);
        assert!(!header.has_date() && !header.is_open());
    }

    #[test]
    fn each_limit_is_kept_to_the_last() {
        let fault = |bytes: &[u8]| watch(bytes).0.fault();
        assert_eq!(fault(&b"Received: x\r\n".repeat(100)), None);
        assert_eq!(
            fault(&b"Received: x\r\n".repeat(101)),
            Some(HeaderFault::Hops(100))
        );
        assert_eq!(fault(&b"A:\r\n".repeat(5000)), None);
        assert_eq!(
            fault(&b"A:\r\n".repeat(5001)),
            Some(HeaderFault::Fields(5000))
        );
        assert_eq!(fault(&b"x".repeat(500_000)), None);
        assert_eq!(
            fault(&b"x".repeat(500_001)),
            Some(HeaderFault::Octets(500_000))
        );
        let body = [b"A: b\r\n\r\n".to_vec(), b"x".repeat(600_000)].concat();
        assert_eq!(fault(&body), None);
    }
}
