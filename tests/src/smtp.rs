//! A small SMTP client that says exactly what a test wants, byte for byte.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

/// A connection to an SMTP server.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

/// A whole reply: its code, and its lines without codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// The text of each line.
    pub lines: Vec<String>,
}

impl Reply {
    /// All text on one line.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{} {}", self.code, self.lines.join(" | "))
    }
}

impl Client {
    /// Connects, and reads the greeting.
    ///
    /// # Errors
    /// The connection fails, or the server closes it.
    pub fn connect(address: SocketAddr) -> io::Result<(Self, Reply)> {
        Self::over(Self::open(address)?)
    }

    /// The same over a connection from this address of ours.
    ///
    /// # Errors
    /// As above.
    pub fn connect_from(from: Ipv4Addr, address: SocketAddr) -> io::Result<(Self, Reply)> {
        Self::over(open_from(from, address)?)
    }

    /// Connects as a proxy that speaks for `client`, and reads the greeting.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_for(address: SocketAddr, client: Ipv4Addr) -> io::Result<(Self, Reply)> {
        let mut stream = Self::open(address)?;
        let header = format!("PROXY TCP4 {client} 127.0.0.1 50000 25\r\n");
        stream.write_all(header.as_bytes())?;
        Self::over(stream)
    }

    fn open(address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect_timeout(&address, Duration::from_secs(5))
    }

    fn over(stream: TcpStream) -> io::Result<(Self, Reply)> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        let stream = BufReader::new(stream);
        let mut client = Self { stream };
        let greeting = client.reply()?;
        Ok((client, greeting))
    }

    /// Connects and says EHLO.
    ///
    /// # Errors
    /// The connection fails, or the server refuses.
    pub fn hello(address: SocketAddr) -> io::Result<Self> {
        Self::hello_as(address, "client.example.net")
    }

    /// The same under this name.
    ///
    /// # Errors
    /// As above.
    pub fn hello_as(address: SocketAddr, name: &str) -> io::Result<Self> {
        let (mut client, greeting) = Self::connect(address)?;
        expect(&greeting, 220)?;
        let reply = client.command(&format!("EHLO {name}"))?;
        expect(&reply, 250)?;
        Ok(client)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a line and reads the reply.
    ///
    /// # Errors
    /// The connection is gone, or the reply is none.
    pub fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.send(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Reads one reply, all its lines.
    ///
    /// # Errors
    /// The connection is gone, or the reply is none.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let wrong = || io::Error::new(ErrorKind::InvalidData, line.clone());
            let code: u16 = line
                .get(..3)
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(wrong)?;
            let last = match line.as_bytes().get(3) {
                Some(b' ') => true,
                Some(b'-') => false,
                _ => return Err(wrong()),
            };
            lines.push(line[4..].trim_end().to_owned());
            if last {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// What still comes until the server closes, at most `limit` long.
    ///
    /// # Errors
    /// Anything but the end or the time.
    pub fn rest(&mut self, limit: Duration) -> io::Result<String> {
        self.stream.get_mut().set_read_timeout(Some(limit))?;
        let mut all = String::new();
        loop {
            match self.stream.read_line(&mut all) {
                Ok(0) => return Ok(all),
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionReset
                    ) =>
                {
                    return Ok(all);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// AUTH PLAIN on a connection where that is allowed.
    ///
    /// # Errors
    /// The server refuses.
    pub fn login(&mut self, user: &str, password: &str) -> io::Result<()> {
        let token = base64(format!("\0{user}\0{password}").as_bytes());
        let reply = self.command(&format!("AUTH PLAIN {token}"))?;
        expect(&reply, 235)
    }

    /// One transaction: returns when the server has taken the message with 250.
    ///
    /// # Errors
    /// It has not; the reply is in the error.
    pub fn deliver(&mut self, from: &str, to: &str, message: &[u8]) -> io::Result<()> {
        let reply = self.command(&format!("MAIL FROM:<{from}>"))?;
        expect(&reply, 250)?;
        let reply = self.command(&format!("RCPT TO:<{to}>"))?;
        expect(&reply, 250)?;
        let reply = self.command("DATA")?;
        expect(&reply, 354)?;
        self.send(&stuffed(message))?;
        let reply = self.reply()?;
        expect(&reply, 250)
    }
}

fn expect(reply: &Reply, code: u16) -> io::Result<()> {
    if reply.code == code {
        Ok(())
    } else {
        Err(io::Error::other(reply.text()))
    }
}

/// Connects from this address of ours: all of 127.0.0.0/8 is.
///
/// # Errors
/// The connection fails.
pub fn open_from(from: Ipv4Addr, server: SocketAddr) -> io::Result<TcpStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddrV4::new(from, 0))?;
    connect(&socket, &server)?;
    Ok(TcpStream::from(socket))
}

/// A message with CRLF line ends as it goes over the wire, the end included (RFC 5321 §4.5.2).
#[must_use]
pub fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + 8);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.first() == Some(&b'.') {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    assert!(wire.ends_with(b"\r\n"), "a message ends with a line end");
    wire.extend_from_slice(b".\r\n");
    wire
}

/// RFC 4648 §4.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let group = three
            .iter()
            .chain(&[0, 0])
            .take(3)
            .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        for place in 0..4 {
            let letter = char::from(LETTERS[group >> (18 - 6 * place) & 63]);
            text.push(if place <= three.len() { letter } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn leading_dots_are_doubled() {
        assert_eq!(stuffed(b"a\r\n.b\r\n..\r\n"), b"a\r\n..b\r\n...\r\n.\r\n");
    }
}
