//! The PROXY protocol: the header is the same however it is cut, and who reads only what is wanted reads nothing behind it.

use proxy::{Fault, Header, MAX_V2, Parser};

use super::pieces::Connection;

/// The octets that belonged to the header, and the header if it was complete.
type Outcome = Result<(usize, Option<Header>), Fault>;

/// The first line is digits for how the rest, a connection's first octets, is cut.
///
/// # Panics
/// When a property does not hold.
pub fn check(data: &[u8]) {
    let connection = Connection::new(data);
    let whole = Parser::new().feed(connection.bytes);
    assert_eq!(in_pieces(&connection.pieces()), whole);
    if let Ok((used, header)) = whole {
        assert!(used <= connection.bytes.len() && used <= MAX_V2, "octets");
        if header.is_some() {
            assert_eq!(as_wanted(connection.bytes), whole);
        } else {
            assert_eq!(used, connection.bytes.len(), "not all was read");
        }
    }
}

fn in_pieces(pieces: &[&[u8]]) -> Outcome {
    let mut parser = Parser::new();
    let mut all = 0;
    for piece in pieces {
        let (used, header) = parser.feed(piece)?;
        all += used;
        if header.is_some() {
            return Ok((all, header));
        }
    }
    Ok((all, None))
}

/// Reads like a server that must leave alone what follows the header.
fn as_wanted(bytes: &[u8]) -> Outcome {
    let mut parser = Parser::new();
    let mut read = 0;
    loop {
        let wanted = parser.wants();
        assert!(wanted > 0, "nothing is wanted of an unfinished header");
        let piece = bytes.get(read..read + wanted).unwrap_or_default();
        let (used, header) = parser.feed(piece)?;
        assert_eq!(used, wanted, "what was wanted was not used");
        read += used;
        if header.is_some() {
            return Ok((read, header));
        }
    }
}
