//! The SMTP server machine: a session is the same however its bytes are cut on the way.

use smtp::data::Stray;
use smtp::hold::HoldLimit;
use smtp::server::{Offer, Proxying, Role};

use super::pieces::Connection;
use super::world::{World, config};

/// The first line is digits for how the rest, a session, is cut, and letters for its port: `S` for submission, `L` for LMTP,
/// `N` where stray line ends are normalized, `B` where messages may be binary, `E` where every extension is offered and the client is
/// a proxy.
///
/// # Panics
/// When the property does not hold.
pub fn check(data: &[u8]) {
    let connection = Connection::new(data);
    let whole = outcome(&connection, &[connection.bytes]);
    assert_eq!(outcome(&connection, &connection.pieces()), whole);
    for message in &whole.1 {
        assert!(connection.says(b'B') || is_canonical(message), "line ends");
    }
}

/// What the client hears, what was delivered, and whether the connection is closed.
fn outcome(connection: &Connection<'_>, pieces: &[&[u8]]) -> (String, Vec<Vec<u8>>, bool) {
    let role = match (connection.says(b'S'), connection.says(b'L')) {
        (true, _) => Role::Submission,
        (false, true) => Role::Delivery,
        (false, false) => Role::Exchange,
    };
    let mut config = config(role);
    if connection.says(b'N') {
        config.stray_line_ends = Stray::Normalize;
    }
    config.binary_mime = connection.says(b'B');
    if connection.says(b'E') {
        config.proxying = Proxying::Login;
        config.offer = Offer {
            dsn: true,
            require_tls: true,
            priority: true,
            deliver_by: true,
            hold: Some(HoldLimit {
                seconds: 3600,
                until: 3600,
            }),
        };
    }
    let mut world = World::with_tls(config);
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
