//! A small IMAP client that says exactly what a test wants, byte for byte.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection to an IMAP server.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    tag: u32,
}

/// All that was said in answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The untagged lines, literals included.
    pub untagged: Vec<String>,
    /// The tagged line without its tag: `OK …`, `NO …`, `BAD …`.
    pub result: String,
}

impl Answer {
    /// Panics unless the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.result.starts_with("OK"), "{self:?}");
        self
    }
}

impl Client {
    /// Connects, and reads the greeting.
    ///
    /// # Errors
    /// The connection fails, or the server closes it.
    pub fn connect(address: SocketAddr) -> io::Result<(Self, String)> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream: BufReader::new(stream),
            tag: 0,
        };
        let greeting = client.line()?;
        Ok((client, greeting))
    }

    /// Connects and logs in.
    ///
    /// # Panics
    /// When the login fails.
    pub fn login(address: SocketAddr, user: &str, password: &str) -> io::Result<Self> {
        let (mut client, _) = Self::connect(address)?;
        client
            .command(&format!("LOGIN \"{user}\" \"{password}\""))?
            .ok();
        Ok(client)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a command under a new tag and reads its answer.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn command(&mut self, command: &str) -> io::Result<Answer> {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.send(format!("{tag} {command}\r\n").as_bytes())?;
        self.answer(&tag)
    }

    /// Reads until the line tagged `tag`.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn answer(&mut self, tag: &str) -> io::Result<Answer> {
        let mut untagged = Vec::new();
        loop {
            let line = self.line()?;
            match line
                .strip_prefix(tag)
                .and_then(|rest| rest.strip_prefix(' '))
            {
                Some(result) => {
                    return Ok(Answer {
                        untagged,
                        result: result.to_owned(),
                    });
                }
                None => untagged.push(line),
            }
        }
    }

    /// One line with the literals in it.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn line(&mut self) -> io::Result<String> {
        let mut all = Vec::new();
        loop {
            if self.stream.read_until(b'\n', &mut all)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let Some(length) = literal(&all) else {
                return Ok(String::from_utf8_lossy(&all).trim_end().to_owned());
            };
            let start = all.len();
            all.resize(start + length, 0);
            self.stream.read_exact(&mut all[start..])?;
        }
    }

    /// Reads until the line tagged `tag`, which must be OK, and keeps nothing. Returns how long all literals were.
    ///
    /// # Errors
    /// The connection is gone, or the command failed.
    pub fn pass_over(&mut self, tag: &str) -> io::Result<u64> {
        let (ok, no) = (format!("{tag} OK"), format!("{tag} "));
        let mut passed = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.stream.read_until(b'\n', &mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if line.starts_with(ok.as_bytes()) {
                return Ok(passed);
            }
            if line.starts_with(no.as_bytes()) {
                return Err(io::Error::other(String::from_utf8_lossy(&line)));
            }
            if let Some(length) = literal(&line) {
                let mut bytes = self.stream.by_ref().take(length as u64);
                passed += io::copy(&mut bytes, &mut io::sink())?;
            }
        }
    }

    /// What still comes until the server closes, at most `limit` long.
    ///
    /// # Errors
    /// Anything but the end or the time.
    pub fn rest(&mut self, limit: Duration) -> io::Result<String> {
        self.stream.get_mut().set_read_timeout(Some(limit))?;
        let mut all = Vec::new();
        match self.stream.read_to_end(&mut all) {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionReset
                ) => {}
            Err(error) => return Err(error),
        }
        Ok(String::from_utf8_lossy(&all).into_owned())
    }
}

/// The length announced at the end of a line, `… {42}`.
fn literal(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"\r\n")?.strip_suffix(b"}")?;
    let open = line.iter().rposition(|byte| *byte == b'{')?;
    std::str::from_utf8(&line[open + 1..]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_seen_at_the_end_of_a_line_only() {
        assert_eq!(literal(b"* 1 FETCH (BODY[] {42}\r\n"), Some(42));
        assert_eq!(literal(b"* 1 FETCH {42} x\r\n"), None);
    }
}
