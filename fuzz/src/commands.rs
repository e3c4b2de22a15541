//! IMAP commands: cut off the wire the same however the bytes come, and read or refused.

use imap::command::{Command, Request};
use imap::dialect::Dialect;
use imap::fragment::{Fragment, Fragmenter, LIMIT_AFTER_LOGIN, LIMIT_BEFORE_LOGIN};
use imap::parse::{self, BadCommand};

use super::pieces::Connection;

/// The first line is `L` for a client that is logged in, `A` if its messages are wanted, `U` and `R` for what it has switched on
/// (UTF8=ACCEPT, IMAP4rev2), and digits for how the rest is cut.
///
/// # Panics
/// When the property does not hold.
pub fn check(data: &[u8]) {
    let connection = Connection::new(data);
    let whole = heard(&connection, &[connection.bytes]);
    assert_eq!(heard(&connection, &connection.pieces()), whole);
}

/// What the driver of a connection sees.
#[derive(Debug, PartialEq)]
enum Heard {
    Fragment(Fragment),
    Request(Result<Request, BadCommand>),
    Line(Vec<u8>),
}

fn heard(connection: &Connection<'_>, pieces: &[&[u8]]) -> Vec<Heard> {
    let mut fragmenter = Fragmenter::new();
    let limit = if connection.says(b'L') {
        LIMIT_AFTER_LOGIN
    } else {
        LIMIT_BEFORE_LOGIN
    };
    fragmenter.allow(limit);
    let dialect = Dialect {
        utf8: connection.says(b'U'),
        rev2: connection.says(b'R'),
        ..Dialect::REV1
    };
    let mut heard = Vec::new();
    let mut awaits_line = false;
    for piece in pieces {
        fragmenter.push(piece);
        loop {
            if awaits_line {
                match fragmenter.next_line() {
                    Ok(Some(line)) => heard.push(Heard::Line(line)),
                    Ok(None) => break,
                    // The driver closes the connection.
                    Err(_) => return heard,
                }
                awaits_line = false;
            }
            let Some(fragment) = fragmenter.next() else {
                break;
            };
            awaits_line = note(fragment, limit, dialect, &mut heard);
            if let Some(Heard::Fragment(Fragment::Message { .. })) = heard.last() {
                if connection.says(b'A') {
                    fragmenter.accept();
                } else {
                    fragmenter.refuse();
                }
            }
        }
    }
    heard
}

/// Reads `head` as the beginning of an APPEND, and as what stands between two of its literals.
fn doubt_append(dialect: Dialect, head: &[u8]) {
    if let Err(bad) = parse::append::begin(dialect, head) {
        assert!(
            bad.error.at <= head.len(),
            "an error outside of the command"
        );
    }
    for (begun, literal_follows) in [
        ("a APPEND x ", true),
        ("a APPEND x UTF8 (", false),
        ("a APPEND x CATENATE (TEXT ", true),
        ("a APPEND x CATENATE (TEXT ", false),
    ] {
        if let Ok((_, _, mut reader)) = parse::append::begin(dialect, begun.as_bytes())
            && let Err(error) = reader.go_on(head, literal_follows)
        {
            assert!(error.at <= head.len(), "an error outside of the command");
        }
    }
}

/// Reads a fragment; whether a line that is no command comes next.
fn note(fragment: Fragment, limit: usize, dialect: Dialect, heard: &mut Vec<Heard>) -> bool {
    match fragment {
        Fragment::Command(bytes) => {
            assert!(bytes.len() <= limit + 2, "a command longer than the limit");
            let request = parse::request_in(dialect, &bytes);
            if let Err(bad) = &request {
                assert!(
                    bad.error.at <= bytes.len(),
                    "an error outside of the command"
                );
            }
            let awaits_line = matches!(
                &request,
                Ok(Request {
                    command: Command::Idle | Command::Authenticate { .. },
                    ..
                })
            );
            heard.push(Heard::Request(request));
            return awaits_line;
        }
        Fragment::Chunk(more) => {
            if let Some(Heard::Fragment(Fragment::Chunk(chunk))) = heard.last_mut() {
                chunk.extend(more);
            } else {
                heard.push(Heard::Fragment(Fragment::Chunk(more)));
            }
        }
        message @ Fragment::Message { .. } => {
            if let Fragment::Message { head, .. } = &message {
                doubt_append(dialect, head);
            }
            heard.push(Heard::Fragment(message));
        }
        other @ (Fragment::Continue
        | Fragment::TooLarge(_)
        | Fragment::MessageEnd { .. }
        | Fragment::Overflow) => heard.push(Heard::Fragment(other)),
    }
    false
}
