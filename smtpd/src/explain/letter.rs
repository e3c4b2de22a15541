//! The message as a client sends it: with dots doubled, and measured on the way.

use smtp::server::Config;

/// Where in the header an octet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    LineStart,
    Name(usize),
    Value,
    Body,
}

/// Sends a message.
#[derive(Debug)]
pub(super) struct Letter {
    /// Its octets are counted by others (BDAT), so they stay as they are.
    is_counted: bool,
    /// The last two octets.
    last: [u8; 2],
    octets: u64,
    line: usize,
    longest: usize,
    at: At,
    header: u64,
    fields: usize,
    /// So much of the field's name is that of a hop.
    hop: bool,
    hops: usize,
}

const HOP: &[u8] = b"received";

impl Letter {
    /// Nothing has been sent.
    pub(super) const fn new(is_counted: bool) -> Self {
        Self {
            is_counted,
            last: *b"\r\n",
            octets: 0,
            line: 0,
            longest: 0,
            at: At::LineStart,
            header: 0,
            fields: 0,
            hop: false,
            hops: 0,
        }
    }

    /// A piece as it goes over the wire (RFC 5321 §4.5.2).
    pub(super) fn piece(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut wire = Vec::with_capacity(bytes.len() + bytes.len() / 64);
        for byte in bytes {
            if *byte == b'.' && self.last == *b"\r\n" && !self.is_counted {
                wire.push(b'.');
            }
            wire.push(*byte);
            self.measure(*byte);
            self.last = [self.last[1], *byte];
        }
        wire
    }

    /// What ends it.
    pub(super) const fn end(&self) -> &'static [u8] {
        match self.last {
            _ if self.is_counted => b"",
            [b'\r', b'\n'] => b".\r\n",
            _ => b"\r\n.\r\n",
        }
    }

    fn measure(&mut self, byte: u8) {
        self.octets += 1;
        self.line += 1;
        self.longest = self.longest.max(self.line);
        if byte == b'\n' {
            self.line = 0;
        }
        if self.at != At::Body {
            self.header += 1;
        }
        self.at = match (self.at, byte) {
            (At::Body, _) | (At::LineStart, b'\r' | b'\n') | (At::Name(_), b'\n') => At::Body,
            (At::LineStart, b' ' | b'\t') => At::Value,
            (At::LineStart, byte) => {
                self.hop = HOP.first() == Some(&byte.to_ascii_lowercase());
                At::Name(1)
            }
            (At::Name(length), b':') => {
                self.fields += 1;
                self.hops += usize::from(self.hop && length == HOP.len());
                At::Value
            }
            (At::Name(length), byte) => {
                self.hop &= HOP.get(length) == Some(&byte.to_ascii_lowercase());
                At::Name(length + 1)
            }
            (At::Value, b'\n') => At::LineStart,
            (At::Value, _) => At::Value,
        };
    }

    /// What it has of what there are limits for, with their keys.
    pub(super) fn figures(&self, config: &Config) -> [(String, &'static str); 5] {
        let of = |count: u64, limit: u64, what| format!("{what}: {count} of {limit}");
        let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let (lines, header) = (config.max_text_line, config.header);
        [
            (
                of(self.octets, config.max_message_size, "octets"),
                "smtp.max_message_size",
            ),
            (
                of(
                    wide(self.longest),
                    wide(lines),
                    "octets of the longest line",
                ),
                "smtp.max_text_line",
            ),
            (
                of(self.header, header.octets, "octets of the header"),
                "smtp.max_header_size",
            ),
            (
                of(
                    wide(self.fields),
                    wide(header.fields),
                    "fields of the header",
                ),
                "smtp.max_header_fields",
            ),
            (
                of(wide(self.hops), wide(header.hops), "Received fields"),
                "smtp.max_hops",
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(message: &[u8], size: usize) -> (Letter, Vec<u8>) {
        let mut letter = Letter::new(false);
        let mut wire: Vec<u8> = message
            .chunks(size)
            .flat_map(|piece| letter.piece(piece))
            .collect();
        wire.extend_from_slice(letter.end());
        (letter, wire)
    }

    #[test]
    fn a_message_ends_once_however_it_is_split() {
        for (message, wire) in [
            (&b"a\r\n.b\r\n..\r\n"[..], &b"a\r\n..b\r\n...\r\n.\r\n"[..]),
            (b".\r\nQUIT\r\n", b"..\r\nQUIT\r\n.\r\n"),
            (b"a\n.\r\nb", b"a\n.\r\nb\r\n.\r\n"),
            (b"a\r", b"a\r\r\n.\r\n"),
            (b"", b".\r\n"),
        ] {
            for size in 1..=message.len().max(1) {
                assert_eq!(sent(message, size).1, wire, "{size}");
            }
        }
    }

    #[test]
    fn octets_that_are_counted_stay_as_they_are() {
        let mut letter = Letter::new(true);
        assert_eq!(letter.piece(b".\r\n.x\0"), b".\r\n.x\0");
        assert_eq!(letter.end(), b"");
    }

    #[test]
    fn a_message_is_measured() {
        let message = b"Received: x\r\n y\r\nRECEIVED: x\r\nReceived-SPF: x\r\nFrom: a@b\r\n\r\nReceived: no\r\n";
        let (letter, _) = sent(message, 3);
        assert_eq!((letter.fields, letter.hops), (4, 2));
        assert_eq!((letter.octets, letter.longest), (74, 17));
        assert_eq!(letter.header, 59);
    }
}
