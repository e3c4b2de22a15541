//! The PROXY protocol, versions 1 and 2: what a proxy says before the client's first octet.
//!
//! Source: <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>. Only for connections of proxies that the
//! configuration lists: from anybody else the header is a lie. [`Parser`] holds no socket and no more than the
//! [`MAX_V1`] octets that matter; how the octets are split on the way makes no difference.
#![no_std]

mod v1;
mod v2;

use core::fmt;
use core::net::SocketAddr;

/// Longest header of version 1, CRLF included (section 2.1).
pub const MAX_V1: usize = 107;
/// Longest header of version 2 that is taken. The largest extension there is, a client's certificate, fits.
pub const MAX_V2: usize = 16 * 1024;

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The proxy speaks for itself (`LOCAL`), or does not know for whom (`UNKNOWN`): who connected is the client.
    Direct,
    /// The proxy speaks for the client at this address.
    For(SocketAddr),
}

/// Why what came is no header. The connection is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It begins like neither version.
    NoHeader,
    /// Too long.
    TooLong,
    /// Of version 1, and not written as it must be.
    BadLine,
    /// Of version 2, with a command, a protocol or a length that there is not.
    BadBlock,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHeader => "no PROXY header",
            Self::TooLong => "a PROXY header that is too long",
            Self::BadLine => "a malformed PROXY line",
            Self::BadBlock => "a malformed PROXY block",
        })
    }
}

impl core::error::Error for Fault {}

/// Reads one header.
#[derive(Debug)]
pub struct Parser {
    /// The beginning of the header. What follows the addresses in version 2 is not kept.
    head: [u8; MAX_V1],
    /// Octets that came.
    came: usize,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

/// How far a header is known.
enum Progress {
    /// The whole of it has at least so many octets.
    AtLeast(usize),
    /// It is exactly so long, and says this.
    Known(usize, Header),
}

impl Parser {
    /// A parser at the first octet of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self {
            head: [0; MAX_V1],
            came: 0,
        }
    }

    /// How many more octets belong to the header for sure: who reads no more than that reads nothing of the client's.
    #[must_use]
    pub fn wants(&self) -> usize {
        match self.look() {
            Ok(Progress::AtLeast(length) | Progress::Known(length, _)) => {
                length.saturating_sub(self.came)
            }
            Err(_) => 0,
        }
    }

    /// Takes what came; returns how many octets of `input` belonged to the header, and the header when it is complete.
    ///
    /// # Errors
    /// A [`Fault`] as soon as the octet that causes it is seen; the parser is of no use after it.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, Option<Header>), Fault> {
        let mut used = 0;
        loop {
            let (length, header) = match self.look()? {
                Progress::AtLeast(length) => (length, None),
                Progress::Known(length, header) => (length, Some(header)),
            };
            let missing = length.saturating_sub(self.came);
            if missing == 0 {
                return Ok((used, header));
            }
            let rest = input.get(used..).unwrap_or_default();
            let taken = rest.get(..missing).unwrap_or(rest);
            if taken.is_empty() {
                return Ok((used, None));
            }
            self.take(taken);
            used += taken.len();
        }
    }

    fn take(&mut self, octets: &[u8]) {
        let room = self.head.get_mut(self.came..).unwrap_or_default();
        for (place, octet) in room.iter_mut().zip(octets) {
            *place = *octet;
        }
        self.came += octets.len();
    }

    fn look(&self) -> Result<Progress, Fault> {
        let head = self.head.get(..self.came).unwrap_or(&self.head);
        match head.first() {
            None => Ok(Progress::AtLeast(v1::SHORTEST)),
            Some(&first) if first == v2::SIGNATURE[0] => v2::look(head),
            Some(_) => v1::look(head),
        }
    }
}
