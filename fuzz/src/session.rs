//! The SMTP server machine: a session is the same however its bytes are cut on the way.

use smtp::server::Role;

use super::pieces::Connection;
use super::world::{World, config};

/// The first line is `S` for a submission port and digits for how the rest, a session, is cut.
///
/// # Panics
/// When the property does not hold.
pub fn check(data: &[u8]) {
    let connection = Connection::new(data);
    let role = if connection.says(b'S') {
        Role::Submission
    } else {
        Role::Exchange
    };
    let whole = outcome(role, &[connection.bytes]);
    assert_eq!(outcome(role, &connection.pieces()), whole);
    for message in &whole.1 {
        assert!(is_canonical(message), "line ends");
    }
}

/// What the client hears, what was delivered, and whether the connection is closed.
fn outcome(role: Role, pieces: &[&[u8]]) -> (String, Vec<Vec<u8>>, bool) {
    let mut world = World::with_tls(config(role));
    pieces.iter().for_each(|piece| world.say(piece));
    (world.heard(), world.messages, world.closed)
}

/// Whether CR and LF come in pairs only, so that nothing behind can be made to see another line, and no NUL is there.
fn is_canonical(message: &[u8]) -> bool {
    let mut previous = b' ';
    for &byte in message {
        if byte == 0 || (previous == b'\r') != (byte == b'\n') {
            return false;
        }
        previous = byte;
    }
    message.is_empty() || message.ends_with(b"\r\n")
}
