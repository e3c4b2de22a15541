//! Version 1, a line of text: `PROXY TCP4 192.0.2.1 192.0.2.2 50000 25`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

use crate::{Fault, Header, MAX_V1, Progress};

const START: &[u8] = b"PROXY ";
/// `PROXY UNKNOWN` and CRLF. Version 2 has no shorter header.
pub(crate) const SHORTEST: usize = 15;

/// Reads what is there of a line.
pub(crate) fn look(head: &[u8]) -> Result<Progress, Fault> {
    if !head.iter().zip(START).all(|(came, due)| came == due) {
        return Err(Fault::NoHeader);
    }
    // Where it is found does not depend on how much of a line that is too long has come.
    let Some(end) = head
        .iter()
        .take(MAX_V1 - 1)
        .position(|octet| matches!(octet, b'\r' | b'\n' | 0))
    else {
        // A CRLF at least is to come.
        return at_least(head.len() + 2);
    };
    match (head.get(end), head.get(end + 1)) {
        (Some(b'\r'), None) => at_least(head.len() + 1),
        (Some(b'\r'), Some(b'\n')) => {
            let line = head.get(START.len()..end).unwrap_or_default();
            let header = parse(line).ok_or(Fault::BadLine)?;
            Ok(Progress::Known(end + 2, header))
        }
        _ => Err(Fault::BadLine),
    }
}

fn at_least(length: usize) -> Result<Progress, Fault> {
    if length > MAX_V1 {
        return Err(Fault::TooLong);
    }
    Ok(Progress::AtLeast(length.max(SHORTEST)))
}

// Section 2.1: one space between the words, no other white space, no leading zeros.
fn parse(line: &[u8]) -> Option<Header> {
    let line = core::str::from_utf8(line).ok()?;
    let (protocol, rest) = line.split_once(' ').unwrap_or((line, ""));
    // Section 2.1: behind UNKNOWN, the receiver ignores anything before the CRLF.
    if protocol == "UNKNOWN" {
        return Some(Header::Direct);
    }
    let mut words = rest.split(' ');
    let (from, to) = (words.next()?, words.next()?);
    let (from_port, to_port) = (port(words.next()?), port(words.next()?));
    // Where the client connected to must be well-formed, and is of no interest.
    let (from, to) = match protocol {
        "TCP4" => (address::<Ipv4Addr>(from), address::<Ipv4Addr>(to)),
        "TCP6" => (address::<Ipv6Addr>(from), address::<Ipv6Addr>(to)),
        _ => return None,
    };
    let is_whole = words.next().is_none() && to.is_some() && to_port.is_some();
    let source = SocketAddr::new(from?, from_port?);
    is_whole.then_some(Header::For(source))
}

fn address<A: FromStr + Into<IpAddr>>(word: &str) -> Option<IpAddr> {
    word.parse::<A>().ok().map(Into::into)
}

fn port(word: &str) -> Option<u16> {
    let digits = word.bytes().all(|octet| octet.is_ascii_digit());
    if !digits || (word.len() > 1 && word.starts_with('0')) {
        return None;
    }
    word.parse().ok()
}
