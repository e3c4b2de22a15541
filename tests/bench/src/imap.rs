//! A lean IMAP client: it takes a whole reply as it comes, and looks at it only when the clock has stopped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long one command may take; the longest, a first SEARCH of everything, takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than any tagged line.
const TAIL: usize = 4096;

/// A connection that is logged in.
#[derive(Debug)]
pub(crate) struct Imap {
    stream: TcpStream,
    tag: u32,
    /// The last reply.
    reply: Vec<u8>,
    buffer: Vec<u8>,
}

impl Imap {
    /// Connects and logs in.
    pub(crate) fn log_in(server: SocketAddr, user: &str, password: &str) -> Self {
        let stream = TcpStream::connect(server).expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time that is not zero");
        let mut imap = Self {
            stream,
            tag: 0,
            reply: Vec::new(),
            buffer: vec![0; 256 << 10],
        };
        imap.read_until(|reply| reply.ends_with(b"\r\n"));
        imap.command(&format!("LOGIN \"{user}\" \"{password}\""));
        imap
    }

    /// Sends a command, waits for its OK, and says how long that took.
    pub(crate) fn command(&mut self, command: &str) -> Duration {
        self.send(command, b"")
    }

    /// Puts a message into a mailbox.
    pub(crate) fn append(&mut self, mailbox: &str, letter: &[u8]) -> Duration {
        // RFC 7888 §4: LITERAL+ needs no round trip.
        let mut literal = letter.to_vec();
        literal.extend_from_slice(b"\r\n");
        self.send(&format!("APPEND {mailbox} {{{}+}}", letter.len()), &literal)
    }

    fn send(&mut self, command: &str, rest: &[u8]) -> Duration {
        self.tag += 1;
        let tag = format!("t{} ", self.tag);
        let mut bytes = format!("{tag}{command}\r\n").into_bytes();
        bytes.extend_from_slice(rest);
        let begun = Instant::now();
        self.stream.write_all(&bytes).expect("the server is there");
        self.read_until(|reply| {
            last_line(reply).is_some_and(|line| line.starts_with(tag.as_bytes()))
        });
        let taken = begun.elapsed();
        let line = last_line(&self.reply).unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        assert!(line[tag.len()..].starts_with("OK"), "{command}: {line}");
        taken
    }

    /// Nothing follows a tagged line before the next command, so the end is looked for at the end only.
    fn read_until(&mut self, is_end: impl Fn(&[u8]) -> bool) {
        self.reply.clear();
        while !is_end(&self.reply) {
            let length = self
                .stream
                .read(&mut self.buffer)
                .expect("the server answers");
            assert!(length > 0, "the server closed the connection");
            self.reply.extend_from_slice(&self.buffer[..length]);
        }
    }

    /// Bytes of the last reply.
    pub(crate) const fn reply_length(&self) -> usize {
        self.reply.len()
    }

    /// How often `words` stand in the last reply.
    pub(crate) fn count(&self, words: &str) -> usize {
        let windows = self.reply.windows(words.len());
        windows.filter(|window| *window == words.as_bytes()).count()
    }

    /// The messages the last SEARCH found.
    pub(crate) fn found(&self) -> usize {
        let text = String::from_utf8_lossy(&self.reply);
        let line = text.lines().find_map(|line| line.strip_prefix("* SEARCH"));
        line.map_or(0, |line| line.split_whitespace().count())
    }
}

/// The last line, if it is whole.
fn last_line(reply: &[u8]) -> Option<&[u8]> {
    let tail = &reply[reply.len().saturating_sub(TAIL)..];
    let line = tail.strip_suffix(b"\r\n")?;
    let start = line.iter().rposition(|byte| *byte == b'\n');
    Some(&line[start.map_or(0, |at| at + 1)..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_when_it_is_whole() {
        assert_eq!(
            last_line(b"* 1 EXISTS\r\nt1 OK done\r\n"),
            Some(&b"t1 OK done"[..])
        );
        assert_eq!(last_line(b"* 1 EXISTS\r\nt1 OK do"), None);
    }
}
