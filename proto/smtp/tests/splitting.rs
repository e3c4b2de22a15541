//! The server machine does the same however the bytes are split.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use proptest::prelude::*;
use smtp::data::Stray;
use smtp::hold::HoldLimit;
use smtp::server::{Offer, Proxying, Role, Summary};
use world::{World, config};

const SESSION: &[u8] = b"EHLO client.example\r\nVRFY x\r\nMAIL FROM:<a@example.com> SIZE=100\r\n\
RCPT TO:<nobody@example.org>\r\nRCPT TO:<\"b c\"@example.org> NOTIFY=SUCCESS ORCPT=rfc822;b+20c@d\r\nDATA\r\n\
Subject: x\r\nReceived: y\r\n\r\n..dot\r\n\r\nend\r\n.\r\nRSET\r\nFOO\r\n\
MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nBDAT 7\r\nA: b\r\n\rBDAT 4 LAST\r\n\n.\r\n\
MAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\na\nb\r\n.\r\n\
BDAT 6\r\nQUIT\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<b@example.org>\r\nBDAT 12 LAST\r\n\
A: b\r\n\r\n\0\n\r.QUIT\r\nNOOP\r\n";

const LOCAL: &[u8] = b"EHLO x\r\nLHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<late@example.org>\r\n\
RCPT TO:<nobody@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nx\r\n.\r\n\
MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<a@example.org>\r\nBDAT 2 LAST\r\n\n.\
MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nBDAT 3 LAST\r\nhi\rQUIT\r\n";

const SUBMITTED: &[u8] = b"EHLO x\r\nAUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHdvbmRlcmxhbmQ=\r\n\
MAIL FROM:<alice@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n\
bcc : b@example.org,\r\n\tc@example.org\r\nFrom: A\r\n <alice@example.org>\r\nB: c\r\nResent-Bcc: d\r\nResent-To: e\r\n\
Sender: alice@example.org\r\nBcc\t:\r\n\r\nBcc: stays\r\n.\r\n\
MAIL FROM:<alice@example.org>\r\nRCPT TO:<b@example.org>\r\nBDAT 42\r\nFrom: alice@example.org\r\nBcc: b\r\nResent-BcBDAT 10 LAST\r\nc: c\r\n d\r\n\
MAIL FROM:<alice@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nFrom: alice@example.org\r\nFrom: alice@example.org\r\n\r\n.\r\n\
QUIT\r\n";

/// How a port is set up.
#[derive(Debug, Clone, Copy)]
struct Setting {
    role: Role,
    stray: Stray,
    binary: bool,
}

const EXCHANGE: Setting = Setting {
    role: Role::Exchange,
    stray: Stray::Reject,
    binary: true,
};

fn outcome(setting: Setting, pieces: &[&[u8]]) -> (String, Vec<Vec<u8>>, Vec<Summary>, bool) {
    let mut config = config(setting.role);
    config.stray_line_ends = setting.stray;
    config.binary_mime = setting.binary;
    if setting.binary {
        config.proxying = Proxying::Login;
    }
    config.offer = Offer {
        dsn: setting.binary,
        require_tls: setting.binary,
        priority: setting.binary,
        deliver_by: setting.binary,
        hold: setting.binary.then_some(HoldLimit {
            seconds: 60,
            until: 60,
        }),
    };
    let mut world = World::with_tls(config);
    pieces.iter().for_each(|piece| world.say(piece));
    (world.heard(), world.messages, world.summaries, world.closed)
}

fn sessions() -> [(Setting, &'static [u8], usize); 5] {
    let normalizing = Setting {
        stray: Stray::Normalize,
        ..EXCHANGE
    };
    let delivery = Setting {
        role: Role::Delivery,
        ..EXCHANGE
    };
    let submission = Setting {
        role: Role::Submission,
        ..EXCHANGE
    };
    [
        (submission, SUBMITTED, 2),
        (EXCHANGE, SESSION, 3),
        (normalizing, SESSION, 3),
        (delivery, LOCAL, 1),
        (
            Setting {
                stray: Stray::Normalize,
                ..delivery
            },
            LOCAL,
            3,
        ),
    ]
}

#[test]
fn every_single_cut_gives_the_same_session() {
    for (setting, session, messages) in sessions() {
        let whole = outcome(setting, &[session]);
        assert_eq!(whole.1.len(), messages, "{setting:?}: {}", whole.0);
        for cut in 0..session.len() {
            assert_eq!(
                outcome(setting, &[&session[..cut], &session[cut..]]),
                whole,
                "{setting:?} at {cut}"
            );
        }
    }
}

#[test]
fn single_octets_give_the_same_session() {
    for (setting, session, _) in sessions() {
        let octets: Vec<&[u8]> = session.chunks(1).collect();
        assert_eq!(outcome(setting, &octets), outcome(setting, &[session]));
    }
}

#[test]
fn of_two_faults_the_same_is_told_wherever_the_text_is_cut() {
    // The header is too large in the middle of a line that is too long; the limits are 8,000 and 5,000 octets.
    let lines = [&b"A: "[..], &[b'x'; 4000], b"\r\nB: ", &[b'x'; 6000]].concat();
    let start = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\n";
    let data = [start, &b"DATA\r\n"[..], &lines, b"\r\n.\r\n"].concat();
    let chunk = format!("BDAT {} LAST\r\n", lines.len());
    let chunk = [start, chunk.as_bytes(), &lines].concat();
    for session in [data, chunk] {
        let whole = outcome(EXCHANGE, &[&session]);
        assert!(
            whole.0.contains("552 5.3.4 the header of the message"),
            "{}",
            whole.0
        );
        let octets: Vec<&[u8]> = session.chunks(1).collect();
        assert_eq!(outcome(EXCHANGE, &octets), whole);
        let (head, tail) = session.split_at(session.len() - 1500);
        assert_eq!(outcome(EXCHANGE, &[head, tail]), whole);
    }
}

// Lines that mean something, ends that do not, and noise.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&[u8]] = &[
        b"EHLO x\r\n",
        b"MAIL FROM:<alice@example.org>\r\n",
        b"MAIL FROM:<> SIZE=99999\r\n",
        b"MAIL FROM:<> RET=HDRS ENVID=x+2B\r\n",
        b"MAIL FROM:<> ENVID=x+2\r\n",
        b"MAIL FROM:<> REQUIRETLS\r\n",
        b"MAIL FROM:<> MT-PRIORITY=-3\r\n",
        b"MAIL FROM:<> HOLDFOR=10\r\n",
        b"MAIL FROM:<> BY=-3;N\r\n",
        b"MAIL FROM:<> HOLDUNTIL=1970-01-01T00:00:61Z\r\n",
        b"RCPT TO:<b@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@c\r\n",
        b"RCPT TO:<b@example.org> NOTIFY=NEVER,DELAY\r\n",
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
        b"BDAT 2\r\n\r\n",
        b"BDAT 5\r\nA: b\r",
        b"BDAT 12 LAST\r\n",
        b"BDAT 0 LAST\r\n",
        b"BDAT 9999\r\n",
        b"BDAT x\r\n",
        b"MAIL FROM:<> BODY=BINARYMIME\r\n",
        b"LHLO x\r\n",
        b"RCPT TO:<late@example.org>\r\n",
        b"AUTH LOGIN\r\n",
        b"AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHdvbmRlcmxhbmQ=\r\n",
        b"*\r\n",
        b"AUTH SCRAM-SHA-256 bW9yZQ==\r\n",
        b"AUTH OAUTHBEARER\r\n",
        b"bW9yZQ==\r\n",
        b"eWVz\r\n",
        b"XCLIENT ADDR=198.51.100.9 HELO=client.example\r\n",
        b"XCLIENT LOGIN=alice@example.org\r\n",
        b"XCLIENT ADDR=192.0.2.66\r\n",
        b"VRFY x\r\n",
        b"STARTTLS\r\n",
        b"NOOP\r\n",
        b"Received: y\r\n",
        b"From: alice@example.org\r\n",
        b"Bcc: b\r\n",
        b"resent-bcc\t: b,\r\n c\r\n",
        b"Sender: x: y;\r\n",
    ];
    prop_oneof![
        20 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => Just([b"x".repeat(3000), b"\r\n".to_vec()].concat()),
        1 => Just([b"A: ".to_vec(), b"x".repeat(6000), b"\r\n".to_vec()].concat()),
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
        role in prop::sample::select(&[Role::Exchange, Role::Submission, Role::Delivery][..]),
        stray in prop::sample::select(&[Stray::Reject, Stray::Normalize][..]),
        binary: bool,
    ) {
        let setting = Setting { role, stray, binary };
        let bytes = pieces.concat();
        let whole = outcome(setting, &[&bytes]);
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
        prop_assert_eq!(outcome(setting, &parts), whole);
    }
}
