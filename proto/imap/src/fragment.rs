//! Cuts what a client sends into whole commands, and enforces every limit before anything is parsed.
//!
//! ```text
//! fragmenter.push(bytes read);
//! while let Some(fragment) = fragmenter.next() {
//!     Command(bytes)    => parse and execute; not pulling the next one meanwhile is all it takes to keep order
//!     Continue          => send "+": the client waits before it sends a literal
//!     TooLarge(bytes)   => answer BAD; the client does not send the literal
//!     Message{..}       => the literal of APPEND begins: accept() or refuse() it
//!     Chunk(bytes)      => a piece of an accepted message
//!     MessageEnd{..}    => the message and the rest of its command are over
//!     Overflow          => say BYE and close; nothing of what follows can be trusted
//! }
//! ```
//! Literals stay where they were announced (`LOGIN {5}\r\nalice {2+}\r\npw`), so the parser sees them as the client sent them.

use alloc::vec::Vec;
use core::mem;

/// Longest command before login, literals included.
pub const LIMIT_BEFORE_LOGIN: usize = 8 * 1024;
/// Longest command after login, literals included (but not the message of APPEND).
pub const LIMIT_AFTER_LOGIN: usize = 64 * 1024;

/// A piece of what the client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fragment {
    /// A whole command, without its last CRLF.
    Command(Vec<u8>),
    /// The client announced a literal and waits for the continuation request.
    Continue,
    /// The client announced a literal that is too large and waits; this is its command so far. It is over.
    TooLarge(Vec<u8>),
    /// The message literal of an APPEND begins. Must be answered with [`Fragmenter::accept`] or [`Fragmenter::refuse`].
    Message {
        /// The command up to the literal, `a1 APPEND INBOX (\Seen) `.
        head: Vec<u8>,
        /// Bytes of the message.
        size: u64,
        /// Whether the client waits for the continuation request.
        waits: bool,
        /// Whether NUL may be in it: it was announced with `~{…}` (RFC 3516 §4.4).
        binary: bool,
    },
    /// A piece of an accepted message.
    Chunk(Vec<u8>),
    /// An accepted message is complete, and so is its command.
    MessageEnd {
        /// Whether nothing but the line end followed, and `)` behind `UTF8 (~{…}`. If not, the command is malformed.
        clean: bool,
    },
    /// More than the limits allow, in a way that leaves no sure place to go on from.
    Overflow,
}

/// Cuts a stream of bytes into [`Fragment`]s.
#[derive(Debug)]
pub struct Fragmenter {
    input: Vec<u8>,
    /// How much of `input` was used already.
    used: usize,
    /// How far behind `used` there is no line end.
    scanned: usize,
    /// The command so far.
    command: Vec<u8>,
    /// Whether the command so far begins like an APPEND.
    is_append: bool,
    state: State,
    /// What ends the command behind an accepted message.
    tail: &'static [u8],
    limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Reading the text of a command.
    Text,
    /// Reading a literal into the command.
    Literal(usize),
    /// A message literal was shown to the driver.
    Offered { size: u64, waits: bool },
    /// Handing a message over.
    Message(u64),
    /// Behind an accepted message; nothing should be here but a line end.
    Tail,
    /// Inside a literal that nobody wants; so many bytes are left.
    Discard(u64),
    /// Behind a literal that nobody wanted.
    RefusedTail,
    /// After an overflow.
    Dead,
}

/// What the end of a line announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Announcement {
    /// Where in the line the announcement begins.
    at: usize,
    /// `None` if no number is that large.
    size: Option<u64>,
    /// Whether the client waits before it sends the literal.
    waits: bool,
    /// Whether NUL may be in it.
    binary: bool,
}

impl Default for Fragmenter {
    fn default() -> Self {
        Self::new()
    }
}

impl Fragmenter {
    /// Nothing was read yet, and nobody is logged in.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            input: Vec::new(),
            used: 0,
            scanned: 0,
            command: Vec::new(),
            is_append: false,
            state: State::Text,
            tail: b"",
            limit: LIMIT_BEFORE_LOGIN,
        }
    }

    /// From now on commands may be this long.
    pub const fn allow(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes over what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.used == self.input.len() {
            self.input.clear();
        } else if self.used > 0 {
            self.input.drain(..self.used);
        }
        self.used = 0;
        self.input.extend_from_slice(bytes);
    }

    /// Whether the client is between two commands and has sent nothing of the next.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state == State::Text && self.command.is_empty() && self.used == self.input.len()
    }

    /// Lets the memory of a large command go; for a connection that is about to wait.
    pub fn shrink(&mut self) {
        if self.is_idle() {
            self.input = Vec::new();
            self.used = 0;
            self.command = Vec::new();
        }
    }

    /// The message just offered is wanted.
    pub fn accept(&mut self) {
        if let State::Offered { size, .. } = self.state {
            self.state = State::Message(size);
        }
    }

    /// The message just offered is not wanted: if it comes all the same, it is thrown away, never taken for commands.
    pub fn refuse(&mut self) {
        if let State::Offered { size, waits } = self.state {
            // RFC 3501 §7.5: a client that waits and gets a tagged answer does not send the literal.
            self.state = if waits {
                State::Text
            } else {
                State::Discard(size)
            };
        }
    }

    /// The next fragment, `None` until more was read.
    // Not an iterator: after `None` more may come.
    #[expect(
        clippy::should_implement_trait,
        reason = "the end of an iterator is final, None is not"
    )]
    pub fn next(&mut self) -> Option<Fragment> {
        loop {
            match self.state {
                State::Text => {
                    let fragment = self.text();
                    // A literal the client sends unasked is read at once: in this loop, for there may be thousands.
                    if fragment.is_some() || self.state == State::Text {
                        return fragment;
                    }
                }
                State::Literal(left) => self.literal(left)?,
                State::Message(0) => self.state = State::Tail,
                State::Message(left) => return self.chunk(left),
                State::Discard(0) => self.state = State::RefusedTail,
                State::Discard(left) => self.skip(left)?,
                State::Tail => return self.tail(),
                State::RefusedTail => match self.line() {
                    Ok(Some(line)) => self.after_refused(&line),
                    Ok(None) => return None,
                    Err(Overflow) => return Some(self.die()),
                },
                State::Offered { .. } | State::Dead => return None,
            }
        }
    }

    /// The next line as it is, for what is no command: the answer to a SASL challenge, `DONE`.
    ///
    /// # Errors
    /// [`Overflow`] when the line is longer than a command may be.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, Overflow> {
        match self.state {
            State::Text if self.command.is_empty() => self.line(),
            _ => Ok(None),
        }
    }

    /// Reads a line of a command. Without a fragment, more must be read or the state says what is next.
    fn text(&mut self) -> Option<Fragment> {
        let line = match self.line() {
            Ok(line) => line?,
            Err(Overflow) => return Some(self.die()),
        };
        let Some(announcement) = announcement(&line) else {
            self.command.extend_from_slice(&line);
            return Some(Fragment::Command(mem::take(&mut self.command)));
        };
        if self.is_message(&line[..announcement.at]) {
            return Some(self.offer(&line, announcement));
        }
        let room = self.limit.saturating_sub(self.command.len() + line.len());
        let size = announcement
            .size
            .and_then(|size| usize::try_from(size).ok())
            .filter(|size| *size <= room);
        self.command.extend_from_slice(&line);
        let Some(size) = size else {
            return Some(self.too_large(announcement.waits));
        };
        self.command.extend_from_slice(b"\r\n");
        self.state = State::Literal(size);
        announcement.waits.then_some(Fragment::Continue)
    }

    /// Whether the literal behind `line` is the message of an APPEND, and not the name of the mailbox.
    // Only the first line of a command is looked at, for thousands of literals may follow.
    fn is_message(&mut self, line: &[u8]) -> bool {
        if !self.command.is_empty() {
            return self.is_append;
        }
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let (_tag, name, rest) = (words.next(), words.next(), words.next());
        let named = name.is_some_and(|name| name.eq_ignore_ascii_case(b"APPEND"));
        self.is_append = named && rest.is_some();
        self.is_append && rest != Some(b"")
    }

    fn offer(&mut self, line: &[u8], announcement: Announcement) -> Fragment {
        self.command.extend_from_slice(&line[..announcement.at]);
        let waits = announcement.waits;
        let Some(size) = announcement.size else {
            return self.too_large(waits);
        };
        self.state = State::Offered { size, waits };
        let head = mem::take(&mut self.command);
        let binary = announcement.binary;
        // RFC 6855 §4: "UTF8" SP "(" literal8 ")".
        let is_utf8 = binary && head.to_ascii_uppercase().ends_with(b" UTF8 (");
        self.tail = if is_utf8 { b")" } else { b"" };
        Fragment::Message {
            head,
            size,
            waits,
            binary,
        }
    }

    // RFC 7888 §4: a server that does not want a non-synchronizing literal eats it or closes the connection.
    fn too_large(&mut self, waits: bool) -> Fragment {
        if waits {
            Fragment::TooLarge(mem::take(&mut self.command))
        } else {
            self.die()
        }
    }

    fn literal(&mut self, left: usize) -> Option<()> {
        let piece = self.take(left);
        self.command.extend_from_slice(&piece);
        if piece.len() == left {
            self.state = State::Text;
            return Some(());
        }
        self.state = State::Literal(left - piece.len());
        None
    }

    fn chunk(&mut self, left: u64) -> Option<Fragment> {
        let piece = self.take(usize::try_from(left).unwrap_or(usize::MAX));
        if piece.is_empty() {
            return None;
        }
        self.state = State::Message(left - piece.len() as u64);
        Some(Fragment::Chunk(piece))
    }

    fn skip(&mut self, left: u64) -> Option<()> {
        let there = (self.input.len() - self.used) as u64;
        if there == 0 {
            return None;
        }
        let skipped = there.min(left);
        self.used += usize::try_from(skipped).unwrap_or_default();
        self.state = State::Discard(left - skipped);
        Some(())
    }

    fn tail(&mut self) -> Option<Fragment> {
        let line = match self.line() {
            Ok(line) => line?,
            Err(Overflow) => return Some(self.die()),
        };
        self.after_refused(&line);
        Some(Fragment::MessageEnd {
            clean: line == self.tail,
        })
    }

    // Whatever else was announced to come is thrown away with its command, never taken for commands.
    fn after_refused(&mut self, line: &[u8]) {
        self.state = match announcement(line) {
            Some(Announcement {
                size, waits: false, ..
            }) => State::Discard(size.unwrap_or(u64::MAX)),
            Some(_) | None => State::Text,
        };
    }

    /// Up to `most` bytes of the input.
    fn take(&mut self, most: usize) -> Vec<u8> {
        if self.used == 0 && self.input.len() <= most {
            return mem::take(&mut self.input);
        }
        let end = self.input.len().min(self.used.saturating_add(most));
        let piece = self.input[self.used..end].to_vec();
        self.used = end;
        piece
    }

    /// A line without its end. A bare LF ends a line too: nothing hangs on the difference here, and people type.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Overflow> {
        let room = self.limit.saturating_sub(self.command.len());
        let rest = &self.input[self.used..];
        let end = rest[self.scanned..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| end + self.scanned) else {
            self.scanned = rest.len();
            return if rest.len() > room {
                Err(Overflow)
            } else {
                Ok(None)
            };
        };
        self.scanned = 0;
        if end > room {
            return Err(Overflow);
        }
        let line = &rest[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        self.used += end + 1;
        Ok(Some(line))
    }

    fn die(&mut self) -> Fragment {
        *self = Self {
            state: State::Dead,
            ..Self::new()
        };
        Fragment::Overflow
    }
}

/// A line is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;

/// Reads `{5}`, `{5+}`, `~{5}` or `~{5+}` at the end of a line.
// RFC 3501 §9, literal; RFC 7888 §3, non-synchronizing literals; RFC 3516 §7, literal8.
fn announcement(line: &[u8]) -> Option<Announcement> {
    let inner = line.strip_suffix(b"}")?;
    let (inner, waits) = match inner.strip_suffix(b"+") {
        Some(inner) => (inner, false),
        None => (inner, true),
    };
    let at = inner.iter().rposition(|byte| *byte == b'{')?;
    let digits = &inner[at + 1..];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    let size = digits.iter().try_fold(0, add);
    let binary = inner[..at].ends_with(b"~");
    Some(Announcement {
        at: at - usize::from(binary),
        size,
        waits,
        binary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    /// Feeds the pieces and accepts or refuses every message.
    fn cut(pieces: &[&[u8]], accept: bool) -> Vec<Fragment> {
        let mut fragmenter = Fragmenter::new();
        let mut found: Vec<Fragment> = Vec::new();
        for piece in pieces {
            fragmenter.push(piece);
            while let Some(fragment) = fragmenter.next() {
                match (&fragment, found.last_mut()) {
                    (Fragment::Message { .. }, _) if accept => fragmenter.accept(),
                    (Fragment::Message { .. }, _) => fragmenter.refuse(),
                    (Fragment::Chunk(more), Some(Fragment::Chunk(chunk))) => {
                        chunk.extend_from_slice(more);
                        continue;
                    }
                    _ => {}
                }
                found.push(fragment);
            }
        }
        found
    }

    fn command(text: &str) -> Fragment {
        Fragment::Command(text.as_bytes().to_vec())
    }

    #[test]
    fn commands_end_with_their_line() {
        let found = cut(&[b"a NOOP\r\nb NO", b"OP\r\n"], true);
        assert_eq!(found, [command("a NOOP"), command("b NOOP")]);
    }

    #[test]
    fn a_waiting_client_is_told_to_go_on_and_its_literal_stays_in_place() {
        let found = cut(&[b"a LOGIN {5}\r\n", b"alice {2}\r\n", b"pw\r\n"], true);
        let whole = command("a LOGIN {5}\r\nalice {2}\r\npw");
        assert_eq!(found, [Fragment::Continue, Fragment::Continue, whole]);
    }

    #[test]
    fn a_literal_may_hold_what_looks_like_commands() {
        let found = cut(&[b"a LOGIN {10+}\r\nx LOGOUT\r\n {2+}\r\npw\r\n"], true);
        assert_eq!(found, [command("a LOGIN {10+}\r\nx LOGOUT\r\n {2+}\r\npw")]);
    }

    #[test]
    fn the_message_of_append_is_streamed() {
        let found = cut(
            &[b"a APPEND {5+}\r\nINBOX (\\Seen) {6+}\r\nabc", b"def\r\n"],
            true,
        );
        let head = b"a APPEND {5+}\r\nINBOX (\\Seen) ".to_vec();
        let message = Fragment::Message {
            head,
            size: 6,
            waits: false,
            binary: false,
        };
        let chunk = Fragment::Chunk(b"abcdef".to_vec());
        assert_eq!(
            found,
            [message, chunk, Fragment::MessageEnd { clean: true }]
        );
    }

    // RFC 3516 §4.4, RFC 6855 §4.
    #[test]
    fn a_literal8_is_announced_with_a_tilde() {
        let end = |line: &[u8]| {
            let found = cut(&[line], true);
            let Some(Fragment::Message { head, binary, .. }) = found.first() else {
                panic!("{found:?}");
            };
            (head.clone(), *binary, found.last().cloned())
        };
        let ends = |clean| Some(Fragment::MessageEnd { clean });
        let plain = b"a APPEND x ".to_vec();
        let utf8 = b"a APPEND x utf8 (".to_vec();
        for (line, expected) in [
            (
                &b"a APPEND x ~{2+}\r\n\0b\r\n"[..],
                (plain.clone(), true, ends(true)),
            ),
            (b"a APPEND x ~{2}\r\n\0b)\r\n", (plain, true, ends(false))),
            (
                b"a APPEND x utf8 (~{2+}\r\nab)\r\n",
                (utf8.clone(), true, ends(true)),
            ),
            (
                b"a APPEND x utf8 (~{2+}\r\nab\r\n",
                (utf8.clone(), true, ends(false)),
            ),
            (
                b"a APPEND x utf8 ({2+}\r\nab)\r\n",
                (utf8, false, ends(false)),
            ),
        ] {
            assert_eq!(end(line), expected);
        }
    }

    #[test]
    fn an_empty_message_ends_at_once() {
        let found = cut(&[b"a APPEND INBOX {0+}\r\n\r\nb NOOP\r\n"], true);
        assert_eq!(
            found[1..],
            [Fragment::MessageEnd { clean: true }, command("b NOOP")]
        );
    }

    #[test]
    fn a_refused_message_is_never_executed() {
        let found = cut(
            &[b"a APPEND INBOX {12+}\r\nx LOGOUT\r\n\r\n {9+}\r\ny LOGOUT\n\r\nz NOOP\r\n"],
            false,
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], command("z NOOP"));
    }

    #[test]
    fn a_refused_message_of_a_waiting_client_does_not_come() {
        let found = cut(&[b"a APPEND INBOX {12}\r\n", b"z NOOP\r\n"], false);
        assert_eq!(found[1], command("z NOOP"));
    }

    #[test]
    fn a_second_message_in_one_append_is_malformed_and_thrown_away() {
        let found = cut(
            &[b"a APPEND INBOX {1+}\r\nx (\\Seen) {10+}\r\ny LOGOUT\r\n\r\nb NOOP\r\n"],
            true,
        );
        assert_eq!(
            found[2..],
            [Fragment::MessageEnd { clean: false }, command("b NOOP")]
        );
    }

    #[test]
    fn an_oversized_literal_of_a_waiting_client_is_refused() {
        let found = cut(&[b"a LOGIN {9000}\r\n", b"b NOOP\r\n"], true);
        let head = b"a LOGIN {9000}".to_vec();
        assert_eq!(found, [Fragment::TooLarge(head), command("b NOOP")]);
    }

    #[test]
    fn an_oversized_literal_that_comes_anyway_ends_the_connection() {
        for size in ["99999999", "99999999999999999999999999"] {
            let text = alloc::format!("a LOGIN {{{size}+}}\r\nb NOOP\r\n");
            assert_eq!(cut(&[text.as_bytes()], true), [Fragment::Overflow]);
        }
    }

    #[test]
    fn an_endless_line_ends_the_connection() {
        let long = vec![b'('; LIMIT_BEFORE_LOGIN + 1];
        assert_eq!(cut(&[&long, b"\r\na NOOP\r\n"], true), [Fragment::Overflow]);
    }

    #[test]
    fn many_small_literals_count_together() {
        let mut text = b"a LOGIN ".to_vec();
        for _ in 0..3000 {
            text.extend_from_slice(b"{1+}\r\nx ");
        }
        assert_eq!(cut(&[&text], true).last(), Some(&Fragment::Overflow));
    }

    #[test]
    fn thousands_of_literals_take_no_stack() {
        extern crate std;
        let literals = || {
            let mut fragmenter = Fragmenter::new();
            fragmenter.allow(LIMIT_AFTER_LOGIN);
            fragmenter.push(&b"{0+}\r\n".repeat(10_000));
            fragmenter.push(b"\r\n");
            matches!(fragmenter.next(), Some(Fragment::Command(_)))
        };
        let small = std::thread::Builder::new().stack_size(128 * 1024);
        assert!(small.spawn(literals).unwrap().join().unwrap());
    }

    #[test]
    fn an_answer_to_a_challenge_is_no_command() {
        let mut fragmenter = Fragmenter::new();
        fragmenter.push(b"abc{5}\r\nb NOOP\r\n");
        assert_eq!(fragmenter.next_line(), Ok(Some(b"abc{5}".to_vec())));
        assert_eq!(fragmenter.next(), Some(command("b NOOP")));
    }

    proptest! {
        #[test]
        fn the_result_does_not_depend_on_how_the_bytes_were_split(
            text in "(a (LOGIN|APPEND|x) ?(\\{[0-9]{1,2}\\+?\\})?(\r?\n)?){0,12}",
            cuts in proptest::collection::vec(0usize..200, 0..6),
            accept: bool,
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(cut(&pieces, accept), cut(&[bytes], accept));
        }
    }
}
