//! The server machine does the same however the bytes are split.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use proptest::prelude::*;
use smtp::server::Role;
use world::{World, config};

const SESSION: &[u8] = b"EHLO client.example\r\nVRFY x\r\nMAIL FROM:<a@example.com> SIZE=100\r\n\
RCPT TO:<nobody@example.org>\r\nRCPT TO:<\"b c\"@example.org>\r\nDATA\r\n\
Subject: x\r\nReceived: y\r\n\r\n..dot\r\n\r\nend\r\n.\r\nRSET\r\nFOO\r\n\
MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n.\r\n\
MAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\na\nb\r\n.\r\nQUIT\r\nNOOP\r\n";

fn outcome(role: Role, pieces: &[&[u8]]) -> (String, Vec<Vec<u8>>, bool) {
    let mut world = World::with_tls(config(role));
    pieces.iter().for_each(|piece| world.say(piece));
    (world.heard(), world.messages, world.closed)
}

#[test]
fn every_single_cut_gives_the_same_session() {
    let whole = outcome(Role::Exchange, &[SESSION]);
    assert_eq!(whole.1.len(), 2, "{}", whole.0);
    for cut in 0..SESSION.len() {
        assert_eq!(
            outcome(Role::Exchange, &[&SESSION[..cut], &SESSION[cut..]]),
            whole,
            "at {cut}"
        );
    }
}

#[test]
fn single_octets_give_the_same_session() {
    let octets: Vec<&[u8]> = SESSION.chunks(1).collect();
    assert_eq!(
        outcome(Role::Exchange, &octets),
        outcome(Role::Exchange, &[SESSION])
    );
}

// Lines that mean something, ends that do not, and noise.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&[u8]] = &[
        b"EHLO x\r\n",
        b"MAIL FROM:<alice@example.org>\r\n",
        b"MAIL FROM:<> SIZE=99999\r\n",
        b"RCPT TO:<b@example.org>\r\n",
        b"RCPT TO:<c@example.com>\r\n",
        b"DATA\r\n",
        b".\r\n",
        b"Subject: x\r\n",
        b"\r\n",
        b".\n",
        b"\r",
        b"\n",
        b"\0",
        b"RSET\r\n",
        b"BDAT 5\r\n",
        b"AUTH LOGIN\r\n",
        b"AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHdvbmRlcmxhbmQ=\r\n",
        b"*\r\n",
        b"STARTTLS\r\n",
        b"NOOP\r\n",
        b"Received: y\r\n",
    ];
    prop_oneof![
        20 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => Just([b"x".repeat(3000), b"\r\n".to_vec()].concat()),
        1 => Just(b"Received: a\r\n".repeat(110)),
        1 => Just(b"text with 20 octets\r\n".repeat(600)),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ]
}

proptest! {
    #[test]
    fn any_session_is_the_same_when_split(
        pieces in proptest::collection::vec(piece(), 0..30),
        cuts in proptest::collection::vec(1usize..40, 1..20),
        submission: bool,
    ) {
        let role = if submission { Role::Submission } else { Role::Exchange };
        let bytes = pieces.concat();
        let whole = outcome(role, &[&bytes]);
        let mut parts = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, tail) = rest.split_at((*cut).min(rest.len()));
            parts.push(part);
            rest = tail;
        }
        prop_assert_eq!(outcome(role, &parts), whole);
    }
}
