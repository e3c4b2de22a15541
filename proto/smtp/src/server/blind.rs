//! Takes the blind copies out of a header on its way through: what stands in `Bcc` is for the eyes of the one who wrote it.

use alloc::vec::Vec;

// Bcc: RFC 5322 §3.6.3; Resent-Bcc: §3.6.6.
const NAMES: [&[u8]; 2] = [b"Bcc", b"Resent-Bcc"];
// Most blanks between a name and its colon that are kept back (RFC 5322 §4.5 allows any number).
const MAX_BLANKS: usize = 64;

/// Where in the header it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    LineStart,
    /// In a name that may be one of ours; it is kept back.
    Name,
    /// In a field that stays; whether there was a colon yet.
    Kept {
        colon: bool,
    },
    /// In a field that goes.
    Dropped,
    /// At the start of a line behind that.
    DroppedLineStart,
    /// The header is over.
    Body,
}

/// Watches one message.
#[derive(Debug)]
pub(super) struct BlindCopies {
    at: At,
    /// The beginning of a line of which it is not known yet what it is.
    held: Vec<u8>,
}

impl BlindCopies {
    pub(super) const fn new() -> Self {
        Self {
            at: At::LineStart,
            held: Vec::new(),
        }
    }

    /// Gives what stays of a piece. CR and LF come in pairs.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + self.held.len());
        for (at, b) in bytes.iter().enumerate() {
            if self.at == At::Body {
                out.extend_from_slice(bytes.get(at..).unwrap_or_default());
                break;
            }
            self.step(*b, &mut out);
        }
        out
    }

    /// Gives what was kept back, at the end of the message.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        self.at = At::Body;
    }

    fn step(&mut self, b: u8, out: &mut Vec<u8>) {
        match (self.at, b) {
            (At::DroppedLineStart, b' ' | b'\t') => self.at = At::Dropped,
            (At::LineStart | At::DroppedLineStart, b'\r') => {
                self.at = At::Body;
                out.push(b);
            }
            // The continuation of a field that stays, or of none.
            (At::LineStart, b' ' | b'\t') => {
                self.at = At::Kept { colon: true };
                out.push(b);
            }
            (At::LineStart | At::DroppedLineStart | At::Name, b) => self.read_name(b, out),
            (At::Dropped, b'\n') => self.at = At::DroppedLineStart,
            (At::Dropped, _) => {}
            (At::Kept { colon }, b) => {
                out.push(b);
                self.at = match b {
                    // As for whoever reads it later: a line that is no field ends the header.
                    b'\n' if !colon => At::Body,
                    b'\n' => At::LineStart,
                    _ => At::Kept {
                        colon: colon || b == b':',
                    },
                };
            }
            (At::Body, b) => out.push(b),
        }
    }

    fn read_name(&mut self, b: u8, out: &mut Vec<u8>) {
        let name = self.held.trim_ascii_end();
        let is_whole = |name: &[u8]| NAMES.iter().any(|one| one.eq_ignore_ascii_case(name));
        let is_blank = matches!(b, b' ' | b'\t');
        let blanks = self.held.len() - name.len();
        if is_whole(name) && (b == b':' || (is_blank && blanks >= MAX_BLANKS)) {
            self.held.clear();
            self.at = At::Dropped;
            return;
        }
        let goes_on = |one: &&[u8]| {
            one.get(..name.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(name))
                && one
                    .get(name.len())
                    .is_some_and(|next| next.eq_ignore_ascii_case(&b))
        };
        if (is_blank && is_whole(name)) || (blanks == 0 && NAMES.iter().any(goes_on)) {
            self.held.push(b);
            self.at = At::Name;
            return;
        }
        out.append(&mut self.held);
        self.at = At::Kept { colon: false };
        self.step(b, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(pieces: &[&[u8]]) -> Vec<u8> {
        let mut filter = BlindCopies::new();
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(filter.feed(piece));
        }
        filter.finish(&mut out);
        out
    }

    /// What goes in, and what comes out.
    const CASES: [(&str, &str); 15] = [
        ("Bcc: a@b\r\n\r\nx\r\n", "\r\nx\r\n"),
        (
            "A: b\r\nBCC: a@b,\r\n c@d,\r\n\te@f\r\nC: d\r\n\r\n",
            "A: b\r\nC: d\r\n\r\n",
        ),
        (
            "resent-bcc \t : a@b\r\nResent-To: x\r\n\r\n",
            "Resent-To: x\r\n\r\n",
        ),
        ("Bcc:\r\nBcc: a\r\nbcc:b\r\nTo: c\r\n", "To: c\r\n"),
        ("To: a\r\nBcc: b\r\n", "To: a\r\n"),
        ("To: a\r\nBcc: b", "To: a\r\n"),
        // Of other names nothing goes.
        (
            "Bccc: a\r\nB: b\r\nBc: c\r\nX-Bcc: d\r\nResent-Bc: e\r\nRe: f\r\n\r\n",
            "Bccc: a\r\nB: b\r\nBc: c\r\nX-Bcc: d\r\nResent-Bc: e\r\nRe: f\r\n\r\n",
        ),
        (
            "Subject: x\r\n Bcc: a\r\n\r\n",
            "Subject: x\r\n Bcc: a\r\n\r\n",
        ),
        ("B cc: a\r\nBcc x: b\r\n\r\n", "B cc: a\r\nBcc x: b\r\n\r\n"),
        // Nor of the body, wherever that begins.
        ("A: b\r\n\r\nBcc: c\r\n", "A: b\r\n\r\nBcc: c\r\n"),
        ("\r\nBcc: c\r\n", "\r\nBcc: c\r\n"),
        ("no field\r\nBcc: c\r\n", "no field\r\nBcc: c\r\n"),
        ("Bcc\r\nBcc: c\r\n", "Bcc\r\nBcc: c\r\n"),
        ("Bcc: a\r\nno field\r\nBcc: c\r\n", "no field\r\nBcc: c\r\n"),
        ("Resent-B", "Resent-B"),
    ];

    #[test]
    fn blind_copies_go_and_nothing_else() {
        for (input, output) in CASES {
            assert_eq!(filtered(&[input.as_bytes()]), output.as_bytes(), "{input}");
        }
    }

    #[test]
    fn however_the_octets_are_split_the_same_stays() {
        for (input, output) in CASES {
            let octets: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
            assert_eq!(filtered(&octets), output.as_bytes(), "{input}");
            for cut in 0..input.len() {
                let (one, two) = input.as_bytes().split_at(cut);
                assert_eq!(filtered(&[one, two]), output.as_bytes(), "{input} {cut}");
            }
        }
    }

    #[test]
    fn no_more_is_kept_back_than_a_name_and_some_blanks() {
        let mut filter = BlindCopies::new();
        for piece in [
            &b"Resent-Bcc"[..],
            &b" ".repeat(10_000),
            b": secret\r\nA: b",
        ] {
            let out = filter.feed(piece);
            assert!(!out.windows(6).any(|text| text == b"secret"));
            assert!(filter.held.len() <= 10 + MAX_BLANKS);
        }
    }
}
