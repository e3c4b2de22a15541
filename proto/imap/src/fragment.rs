//! Cuts what a client sends into whole commands, and enforces every limit before anything is parsed.
//!
//! ```text
//! fragmenter.push(bytes read);
//! while let Some(fragment) = fragmenter.next() {
//!     Command(bytes)    => parse and execute; not pulling the next one meanwhile is all it takes to keep order
//!     Continue          => send "+": the client waits before it sends a literal
//!     TooLarge(bytes)   => answer BAD; the client does not send the literal
//!     Message{..}       => a literal of APPEND begins that is a message, or a part of one: accept() or refuse() it
//!     Chunk(bytes)      => a piece of an accepted literal; behind it come more of them, another Message, or
//!     MessageEnd{..}    => the end of the command
//!     Overflow          => say BYE and close; nothing of what follows can be trusted
//! }
//! ```
//! An APPEND may bring many messages (RFC 3502), and each may have many parts (RFC 4469): what is refused ends the command, and what
//! comes of it all the same is thrown away. Other literals stay where they were announced (`LOGIN {5}\r\nalice {2+}\r\npw`), so the parser sees them as the client sent them.

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
    /// A literal of an APPEND begins that is a message or a part of one. Must be answered with [`Fragmenter::accept`] or
    /// [`Fragmenter::refuse`].
    Message {
        /// The command up to the literal, `a1 APPEND INBOX (\Seen) `, or what stands between it and the last one.
        head: Vec<u8>,
        /// Bytes of the literal.
        size: u64,
        /// Whether the client waits for the continuation request.
        waits: bool,
        /// Whether NUL may be in it: it was announced with `~{…}` (RFC 3516 §4.4).
        binary: bool,
    },
    /// A piece of an accepted literal.
    Chunk(Vec<u8>),
    /// The last accepted literal is complete, and so is its command.
    MessageEnd {
        /// What stands behind the literal, without the line end.
        rest: Vec<u8>,
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
    /// Whether it puts messages together of parts, some of which may be URLs.
    is_catenating: bool,
    /// Whether literals of it were accepted; then `command` is what came behind the last one.
    goes_on: bool,
    state: State,
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
            is_catenating: false,
            goes_on: false,
            state: State::Text,
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
        self.is_between() && self.used == self.input.len()
    }

    /// Whether nothing was used of the next command.
    const fn is_between(&self) -> bool {
        matches!(self.state, State::Text) && self.command.is_empty() && !self.goes_on
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
            self.goes_on = true;
        }
    }

    /// The literal just offered is not wanted, and so its command is over: what comes of it all the same is thrown away, never taken
    /// for commands.
    pub fn refuse(&mut self) {
        if let State::Offered { size, waits } = self.state {
            self.goes_on = false;
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
                State::Message(0) => self.state = State::Text,
                State::Message(left) => return self.chunk(left),
                State::Discard(0) => self.state = State::RefusedTail,
                State::Discard(left) => self.skip(left)?,
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
        if self.is_between() {
            self.line()
        } else {
            Ok(None)
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
            let text = mem::take(&mut self.command);
            return Some(match mem::take(&mut self.goes_on) {
                true => Fragment::MessageEnd { rest: text },
                false => Fragment::Command(text),
            });
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

    /// Whether the literal behind `line` is a message of an APPEND or a part of one, and not the name of the mailbox or a URL.
    // Of a command only the first line is looked at for its name, for thousands of literals may follow.
    fn is_message(&mut self, line: &[u8]) -> bool {
        if self.goes_on || !self.command.is_empty() {
            self.is_catenating = self.is_catenating || has_word(line, b"CATENATE (");
            return self.is_append && !(self.is_catenating && ends_with_word(line, b"URL "));
        }
        let rest = arguments_of_append(line);
        self.is_append = rest.is_some();
        self.is_catenating = self.is_append && has_word(line, b"CATENATE (");
        let is_url = self.is_catenating && ends_with_word(line, b"URL ");
        rest.is_some_and(|rest| !rest.is_empty()) && !is_url
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
            self.goes_on = false;
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

/// What stands behind `APPEND`, `REPLACE 4` or `UID REPLACE 4`, from the mailbox on; `None` of other commands.
fn arguments_of_append(line: &[u8]) -> Option<&[u8]> {
    let cut = |line| {
        let mut words = <[u8]>::splitn(line, 2, |byte| *byte == b' ');
        Some((words.next()?, words.next()?))
    };
    let (_tag, rest) = cut(line)?;
    let (name, rest) = cut(rest)?;
    if name.eq_ignore_ascii_case(b"APPEND") {
        return Some(rest);
    }
    let (name, rest) = match name.eq_ignore_ascii_case(b"UID") {
        true => cut(rest)?,
        false => (name, rest),
    };
    let (_number, rest) = cut(rest)?;
    name.eq_ignore_ascii_case(b"REPLACE").then_some(rest)
}

/// Whether `word` is in a line, in any case.
fn has_word(line: &[u8], word: &[u8]) -> bool {
    line.windows(word.len())
        .any(|part| part.eq_ignore_ascii_case(word))
}

/// Whether a line ends with `word` in any case, and that does not go on in front.
fn ends_with_word(line: &[u8], word: &[u8]) -> bool {
    let Some((before, end)) = line.split_at_checked(line.len().saturating_sub(word.len())) else {
        return false;
    };
    end.eq_ignore_ascii_case(word) && matches!(before.last(), Some(b' ' | b'('))
}

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
mod tests;
