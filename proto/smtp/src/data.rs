//! Where a message ends, in both directions: dots stuffed and unstuffed, line ends strict.
//!
//! [`Receiver`] takes a message off the wire and gives it out as it arrives; [`Sender`] puts one
//! on the wire. Neither holds more of the message than one octet run.

use alloc::vec::Vec;
use core::fmt;

use memchr::memchr3;

/// What makes a message unacceptable although it was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFault {
    /// A CR that no LF follows.
    BareCr,
    /// An LF that no CR precedes.
    BareLf,
    /// A NUL octet.
    Nul,
    /// A line longer than the limit.
    LineTooLong,
}

impl fmt::Display for DataFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BareCr => "a CR without LF",
            Self::BareLf => "an LF without CR",
            Self::Nul => "a NUL octet",
            Self::LineTooLong => "a line that is too long",
        })
    }
}

/// What becomes of a CR, LF or NUL that stands where none may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stray {
    /// It makes the message unacceptable.
    Reject,
    /// A CR or LF becomes a line end, a NUL is left out. None of them ends the message.
    Normalize,
}

/// How the end of a message is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// By a dot on a line of its own.
    Dots,
    /// By counting: the caller feeds the message and nothing else.
    Chunks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Nothing of the line was seen.
    LineStart,
    /// A dot at the start of the line; it is dropped whatever follows.
    Dot,
    /// A dot and a CR: an LF now ends the message.
    DotCr,
    /// Inside a line.
    Text,
    /// A CR that is not given out yet.
    Cr,
    /// Behind the header of a binary message, where every octet is as good as another.
    Binary,
}

/// Takes a message off the wire: finds its end and removes the stuffed dots.
///
/// Only CRLF `.` CRLF ends a message. After a fault nothing more is given out, but the end is
/// still looked for by the same rule, so what a lenient peer would take for the end stays data.
#[derive(Debug)]
pub struct Receiver {
    framing: Framing,
    stray: Stray,
    at: At,
    fault: Option<DataFault>,
    /// Octets of the line so far; 0 also behind a stray line end.
    line_len: usize,
    max_line: usize,
    is_binary: bool,
    eight_bit: bool,
}

impl Receiver {
    /// A receiver at the start of a message that a dot ends. `max_line` counts the octets of a line with its CRLF.
    #[must_use]
    pub fn new(max_line: usize, stray: Stray) -> Self {
        Self {
            framing: Framing::Dots,
            stray,
            at: At::LineStart,
            fault: None,
            line_len: 0,
            max_line,
            is_binary: false,
            eight_bit: false,
        }
    }

    /// A receiver of a message that comes in counted chunks. Of a binary message only the header has lines.
    #[must_use]
    pub fn of_chunks(max_line: usize, stray: Stray, is_binary: bool) -> Self {
        Self {
            framing: Framing::Chunks,
            is_binary,
            ..Self::new(max_line, stray)
        }
    }

    /// The first fault seen.
    #[must_use]
    pub fn fault(&self) -> Option<DataFault> {
        self.fault
    }

    /// Whether any octet above 127 was seen.
    #[must_use]
    pub fn is_eight_bit(&self) -> bool {
        self.eight_bit
    }

    /// Reads `input`, appends the message octets in it to `out`, and returns how many octets of
    /// `input` were used and whether the message ended there, which chunks never do.
    ///
    /// Invariant: `out` never ends between a CR and its LF, but behind the header of a binary message.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, bool) {
        let mut used = 0;
        while let Some(&octet) = input.get(used) {
            let rest = input.get(used..).unwrap_or_default();
            if self.at == At::Text {
                used += self.copy_run(rest, out);
                continue;
            }
            if self.at == At::Binary {
                self.copy(rest, out);
                return (input.len(), false);
            }
            used += 1;
            if self.step(octet, out) {
                return (used, true);
            }
        }
        (used, false)
    }

    /// The last chunk was fed: ends the last line.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.at == At::Binary {
            return;
        }
        if self.at == At::Cr {
            self.meet_stray(DataFault::BareCr, out);
        }
        if self.line_len > 0 {
            self.give(b"\r\n", out);
        }
    }

    // Copies text up to the next octet that matters and steps over that one.
    fn copy_run(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let end = memchr3(b'\r', b'\n', 0, input).unwrap_or(input.len());
        let run = input.get(..end).unwrap_or_default();
        self.give(run, out);
        match input.get(end) {
            None => return end,
            Some(b'\r') => self.at = At::Cr,
            Some(b'\n') => self.meet_stray(DataFault::BareLf, out),
            Some(_) => self.meet_stray(DataFault::Nul, out),
        }
        end + 1
    }

    // One octet where the state is not `Text`; true when it ends the message.
    fn step(&mut self, octet: u8, out: &mut Vec<u8>) -> bool {
        match (self.at, octet) {
            // RFC 5321 §4.5.2: a line of a dot alone ends the message.
            (At::DotCr, b'\n') => return true,
            (At::Cr, b'\n') => {
                let ends_header = self.line_len == 0;
                self.give(b"\r\n", out);
                self.line_len = 0;
                self.at = match self.is_binary && ends_header {
                    true => At::Binary,
                    false => At::LineStart,
                };
            }
            (At::Cr | At::DotCr, _) => {
                self.meet_stray(DataFault::BareCr, out);
                self.at = At::Text;
                // The octet after a bare CR may itself matter, e.g. CR CR LF.
                self.copy_run(&[octet], out);
            }
            (At::Dot, b'\r') => self.at = At::DotCr,
            // RFC 5321 §4.5.2: a leading dot followed by other text is deleted.
            (At::LineStart, b'.') if self.framing == Framing::Dots => self.at = At::Dot,
            (At::LineStart | At::Dot | At::Text | At::Binary, _) => {
                self.at = At::Text;
                self.copy_run(&[octet], out);
            }
        }
        false
    }

    // Invariant: what is made of a stray octet is text. The next line of the wire, where a dot would matter, begins behind
    // a CRLF of the wire.
    fn meet_stray(&mut self, fault: DataFault, out: &mut Vec<u8>) {
        match (self.stray, fault) {
            (Stray::Normalize, DataFault::BareCr | DataFault::BareLf) => {
                self.give(b"\r\n", out);
                self.line_len = 0;
            }
            (Stray::Normalize, DataFault::Nul) => {}
            (Stray::Reject, _) | (Stray::Normalize, DataFault::LineTooLong) => self.fail(fault),
        }
    }

    fn give(&mut self, run: &[u8], out: &mut Vec<u8>) {
        let room = self.max_line.saturating_sub(self.line_len);
        self.line_len = self.line_len.saturating_add(run.len());
        match run.get(..room).filter(|_| room < run.len()) {
            None => self.copy(run, out),
            // As much of the line as fits is given out however it was cut, but no half of a line end.
            Some(start) => {
                if !start.contains(&b'\r') {
                    self.copy(start, out);
                }
                self.fail(DataFault::LineTooLong);
            }
        }
    }

    fn copy(&mut self, run: &[u8], out: &mut Vec<u8>) {
        if self.fault.is_none() {
            self.eight_bit = self.eight_bit || !run.is_ascii();
            out.extend_from_slice(run);
        }
    }

    fn fail(&mut self, fault: DataFault) {
        self.fault.get_or_insert(fault);
    }
}

/// Puts a message on the wire: dots stuffed, every line ended by CRLF, whatever it held before.
#[derive(Debug)]
pub struct Sender {
    line_start: bool,
    after_cr: bool,
}

impl Default for Sender {
    fn default() -> Self {
        Self::new()
    }
}

impl Sender {
    /// A sender at the start of a message.
    #[must_use]
    pub fn new() -> Self {
        Self {
            line_start: true,
            after_cr: false,
        }
    }

    /// Appends the next piece of the message to `out` as it goes over the wire.
    ///
    /// Invariant: no CR and no LF is appended but as CRLF. A bare one becomes a line end, so no
    /// receiver, strict or lenient, can see the end of data before [`Sender::finish`].
    pub fn feed(&mut self, mut message: &[u8], out: &mut Vec<u8>) {
        while let Some((&first, _)) = message.split_first() {
            let end = memchr3(b'\r', b'\n', 0, message);
            let run = message
                .get(..end.unwrap_or(message.len()))
                .unwrap_or_default();
            if !run.is_empty() {
                self.end_bare_cr(out);
                // RFC 5321 §4.5.2: a leading dot is doubled.
                if self.line_start && first == b'.' {
                    out.push(b'.');
                }
                out.extend_from_slice(run);
                self.line_start = false;
            }
            match end.and_then(|n| message.get(n)) {
                Some(b'\r') => {
                    self.end_bare_cr(out);
                    self.after_cr = true;
                }
                Some(b'\n') => self.end_line(out),
                // A NUL is left out: some receivers drop it and would see what follows as a new
                // start of line.
                Some(_) | None => {}
            }
            message = end.and_then(|n| message.get(n + 1..)).unwrap_or_default();
        }
    }

    /// Appends the end of data.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.end_bare_cr(out);
        if !self.line_start {
            self.end_line(out);
        }
        out.extend_from_slice(b".\r\n");
    }

    fn end_bare_cr(&mut self, out: &mut Vec<u8>) {
        if self.after_cr {
            self.end_line(out);
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        self.line_start = true;
        self.after_cr = false;
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn receive(input: &[u8]) -> (Vec<u8>, usize, bool, Option<DataFault>) {
        let mut receiver = Receiver::new(usize::MAX, Stray::Reject);
        let mut out = Vec::new();
        let (used, done) = receiver.feed(input, &mut out);
        (out, used, done, receiver.fault())
    }

    fn send(message: &[u8]) -> Vec<u8> {
        let mut sender = Sender::new();
        let mut out = Vec::new();
        sender.feed(message, &mut out);
        sender.finish(&mut out);
        out
    }

    #[test]
    fn a_message_ends_at_a_dot_alone() {
        assert_eq!(
            receive(b"a\r\n.\r\nQUIT"),
            (b"a\r\n".to_vec(), 6, true, None)
        );
    }

    #[test]
    fn an_empty_message_is_a_dot_alone() {
        assert_eq!(receive(b".\r\n"), (vec![], 3, true, None));
    }

    #[test]
    fn leading_dots_are_unstuffed() {
        assert_eq!(
            receive(b"..a\r\n...\r\n.b\r\n.\r\n").0,
            b".a\r\n..\r\nb\r\n"
        );
    }

    #[test]
    fn only_crlf_dot_crlf_ends_a_message() {
        for end in [
            &b"\n.\n"[..],
            b"\n.\r\n",
            b"\r\n.\n",
            b"\r.\r",
            b"\r.\r\n",
            b"\r\n.\r",
            b"\n.\r",
            b"\r.\n",
            b"\r\n\0.\r\n",
            b"\r\n.\0\r\n",
            b"\r\0\n.\r\n",
            b"\r\n.\r\0\n",
            b"\r\n. \r\n",
        ] {
            let mut input = b"a".to_vec();
            input.extend_from_slice(end);
            input.extend_from_slice(b"MAIL FROM:<x@y>");
            let (_, used, done, _) = receive(&input);
            assert!(!done, "{end:?}");
            assert_eq!(used, input.len());
        }
    }

    #[test]
    fn faults_are_told() {
        assert_eq!(receive(b"a\nb").3, Some(DataFault::BareLf));
        assert_eq!(receive(b"\n").3, Some(DataFault::BareLf));
        assert_eq!(receive(b"a\rb").3, Some(DataFault::BareCr));
        assert_eq!(receive(b"a\0b").3, Some(DataFault::Nul));
        assert_eq!(receive(b".\rb").3, Some(DataFault::BareCr));
        assert_eq!(receive(b".\nb").3, Some(DataFault::BareLf));
    }

    #[test]
    fn after_a_fault_the_end_is_still_found() {
        assert_eq!(
            receive(b"a\n.\nb\r\n.\r\nX"),
            (b"a".to_vec(), 10, true, Some(DataFault::BareLf))
        );
    }

    #[test]
    fn a_cr_before_crlf_is_bare_but_the_crlf_still_ends_the_line() {
        assert!(receive(b"a\r\r\n.\r\n").2);
        assert_eq!(receive(b"a\r\r\n.\r\n").3, Some(DataFault::BareCr));
    }

    #[test]
    fn long_lines_are_refused_where_a_limit_is_set() {
        let mut receiver = Receiver::new(6, Stray::Reject);
        let mut out = Vec::new();
        receiver.feed(b"1234\r\n", &mut out);
        assert_eq!(receiver.fault(), None);
        receiver.feed(b"12345\r\n", &mut out);
        assert_eq!(receiver.fault(), Some(DataFault::LineTooLong));
        // No half of a line end is given out.
        assert_eq!(out, b"1234\r\n12345");
        receiver.feed(b"1\r\n", &mut out);
        assert_eq!(out, b"1234\r\n12345");
        let mut receiver = Receiver::new(6, Stray::Reject);
        let mut out = Vec::new();
        receiver.feed(b"1234567\r\n", &mut out);
        assert_eq!(out, b"123456");
    }

    #[test]
    fn eight_bit_messages_are_noticed() {
        let mut receiver = Receiver::new(usize::MAX, Stray::Reject);
        receiver.feed(b"abc\r\n", &mut Vec::new());
        assert!(!receiver.is_eight_bit());
        receiver.feed("ü".as_bytes(), &mut Vec::new());
        assert!(receiver.is_eight_bit());
    }

    #[test]
    fn sent_dots_are_stuffed_and_line_ends_made_canonical() {
        assert_eq!(
            send(b".a\n.b\r.c\r\n.\r\n"),
            b"..a\r\n..b\r\n..c\r\n..\r\n.\r\n"
        );
        assert_eq!(send(b""), b".\r\n");
        assert_eq!(send(b"a"), b"a\r\n.\r\n");
        assert_eq!(send(b"a\r"), b"a\r\n.\r\n");
        assert_eq!(send(b"a\r\r\n"), b"a\r\n\r\n.\r\n");
        assert_eq!(send(b"a\r\n\r\n"), b"a\r\n\r\n.\r\n");
    }

    fn normalize(input: &[u8]) -> (Vec<u8>, usize, bool) {
        let mut receiver = Receiver::new(usize::MAX, Stray::Normalize);
        let mut out = Vec::new();
        let (used, done) = receiver.feed(input, &mut out);
        assert_eq!(receiver.fault(), None);
        (out, used, done)
    }

    #[test]
    fn normalized_stray_octets_are_line_ends_of_the_text_and_never_its_end() {
        let text = b"a\nb\rc\0d\r\re\n.\nf\n.\r\ng\r.\r\n..h\r\n";
        let input = [&text[..], b".\r\nQUIT"].concat();
        let (out, used, done) = normalize(&input);
        assert!(done && used == text.len() + 3);
        assert_eq!(
            out,
            b"a\r\nb\r\ncd\r\n\r\ne\r\n.\r\nf\r\n.\r\ng\r\n.\r\n.h\r\n"
        );
        for end in [
            &b"\n.\n"[..],
            b"\n.\r\n",
            b"\r\n.\n",
            b"\r.\r\n",
            b"\r\n\0.\r\n",
            b"\r\n.\0\r\n",
        ] {
            let input = [b"a", end, b"MAIL FROM:<x@y>\r\n"].concat();
            assert_eq!(normalize(&input).1, input.len(), "{end:?}");
            assert!(!normalize(&input).2, "{end:?}");
        }
    }

    fn chunks(pieces: &[&[u8]], stray: Stray, is_binary: bool) -> (Vec<u8>, Option<DataFault>) {
        let mut receiver = Receiver::of_chunks(1000, stray, is_binary);
        let mut out = Vec::new();
        for piece in pieces {
            assert_eq!(receiver.feed(piece, &mut out), (piece.len(), false));
        }
        receiver.finish(&mut out);
        (out, receiver.fault())
    }

    #[test]
    fn in_chunks_dots_are_text_and_the_last_line_is_ended() {
        let (out, fault) = chunks(&[b".\r", b"\n..a\r\n.\r\nb"], Stray::Reject, false);
        assert_eq!((&out[..], fault), (&b".\r\n..a\r\n.\r\nb\r\n"[..], None));
        assert_eq!(chunks(&[], Stray::Reject, false), (vec![], None));
        assert_eq!(chunks(&[b"a\r\n"], Stray::Reject, false).0, b"a\r\n");
    }

    #[test]
    fn in_chunks_lines_are_as_strict_to_the_last_octet() {
        assert_eq!(
            chunks(&[b"a\n"], Stray::Reject, false).1,
            Some(DataFault::BareLf)
        );
        assert_eq!(
            chunks(&[b"a\r"], Stray::Reject, false).1,
            Some(DataFault::BareCr)
        );
        assert_eq!(
            chunks(&[b"a\0"], Stray::Reject, false).1,
            Some(DataFault::Nul)
        );
        assert_eq!(chunks(&[b"a\r"], Stray::Normalize, false).0, b"a\r\n");
        assert_eq!(chunks(&[b"a\n"], Stray::Normalize, false).0, b"a\r\n");
        assert_eq!(
            chunks(&[&[b'x'; 999]], Stray::Reject, false).1,
            Some(DataFault::LineTooLong)
        );
    }

    #[test]
    fn a_binary_message_is_taken_as_it_is_behind_its_header() {
        let body = [
            b"A: b\r\n\r\n".to_vec(),
            b"\0\r\n\n\r.".to_vec(),
            vec![0xff; 5000],
        ]
        .concat();
        assert_eq!(chunks(&[&body], Stray::Reject, true), (body.clone(), None));
        for stray in [
            b"A: b\nFrom: c\r\n\r\n",
            b"A: b\r\n\rFrom: c\r\n",
            b"A: b\r\n\nFrom: c\r\n",
        ] {
            let (_, fault) = chunks(&[&stray[..]], Stray::Reject, true);
            assert!(fault.is_some(), "{stray:?}");
        }
    }

    // Octets that matter, so that short inputs meet all cases.
    fn octets() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop::sample::select(&b"a.\r\n\0"[..]), 0..40)
    }

    proptest! {
        #[test]
        fn a_sent_message_is_received_as_one_message(message in octets()) {
            let wire = send(&message);
            let (out, used, done, fault) = receive(&wire);
            prop_assert!(done);
            prop_assert_eq!(used, wire.len());
            prop_assert_eq!(fault, None);
            prop_assert_eq!(send(&out), wire);
        }

        #[test]
        fn a_sent_message_ends_once_for_lenient_receivers_too(message in octets()) {
            let wire = send(&message);
            let lenient: Vec<u8> = wire.iter().copied().filter(|b| *b != b'\r').collect();
            prop_assert!(!wire.contains(&0));
            let bare = wire.iter().filter(|b| matches!(b, b'\r' | b'\n')).count();
            prop_assert_eq!(wire.windows(2).filter(|w| w == b"\r\n").count() * 2, bare);
            let ends = lenient.windows(3).filter(|w| w == b"\n.\n").count();
            prop_assert!(ends <= 1);
        }

        #[test]
        fn what_is_normalized_has_no_stray_octet_and_ends_where_it_should(input in octets()) {
            let (out, used, done) = normalize(&input);
            let (_, strict_used, strict_done, _) = receive(&input);
            prop_assert_eq!((used, done), (strict_used, strict_done));
            prop_assert!(!out.contains(&0));
            let bare = out.iter().filter(|b| matches!(b, b'\r' | b'\n')).count();
            prop_assert_eq!(out.windows(2).filter(|w| w == b"\r\n").count() * 2, bare);
        }

        #[test]
        fn chunks_may_be_cut_anywhere(input in octets(), cut in 0usize..40, normalizes: bool, is_binary: bool) {
            let stray = if normalizes { Stray::Normalize } else { Stray::Reject };
            let (head, tail) = input.split_at(cut.min(input.len()));
            prop_assert_eq!(chunks(&[head, tail], stray, is_binary), chunks(&[&input], stray, is_binary));
        }

        #[test]
        fn receiving_does_not_depend_on_the_cuts(input in octets(), cut in 0usize..40) {
            let whole = receive(&input);
            let mut receiver = Receiver::new(usize::MAX, Stray::Reject);
            let mut out = Vec::new();
            let cut = cut.min(input.len());
            let (mut used, mut done) = receiver.feed(&input[..cut], &mut out);
            if !done {
                let (more, end) = receiver.feed(&input[cut..], &mut out);
                used += more;
                done = end;
            }
            prop_assert_eq!((out, used, done, receiver.fault()), whole);
        }

        #[test]
        fn sending_does_not_depend_on_the_cuts(input in octets(), cut in 0usize..40) {
            let cut = cut.min(input.len());
            let mut sender = Sender::new();
            let mut out = Vec::new();
            sender.feed(&input[..cut], &mut out);
            sender.feed(&input[cut..], &mut out);
            sender.finish(&mut out);
            prop_assert_eq!(out, send(&input));
        }
    }
}
