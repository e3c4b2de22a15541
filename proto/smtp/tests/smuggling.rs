//! Whatever a client puts where the end of data might be, it is one message or none, never two.
//!
//! CVE-2023-51764, CVE-2023-51765, CVE-2023-51766 and their kin: a receiver that takes anything
//! but CRLF `.` CRLF for the end obeys the commands hidden behind it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use smtp::data::Stray;
use smtp::server::Role;
use world::{World, config};

const ENDS: &[&[u8]] = &[
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r.\n",
    b"\r\r.\r\r",
    b"\r\n\r.\r\n",
    b"\r\n.\r\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\0\n.\r\n",
    b"\r\n.\r\0\n",
    b"\0.\0",
    b"\n\n.\n\n",
    b"\r\n. \r\n",
    b"\r\n .\r\n",
    b"\r\n..\r\n",
    b"\r\r\n.\r\n",
    b"\r\n.\r\r\n.\r\n",
];

const HELLO: &[u8] =
    b"EHLO client.example\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n";
const LOCAL_HELLO: &[u8] =
    b"LHLO client.example\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n";
const HIDDEN: &[u8] =
    b"MAIL FROM:<forged@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\nSubject: forged\r\n\r\nhidden\r\n.\r\n";

fn input(end: &[u8]) -> Vec<u8> {
    [b"Subject: x\r\n\r\nbody", end, HIDDEN, b"QUIT\r\n"].concat()
}

fn is_forged(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(message);
    text.starts_with("Received:")
        && text.contains("\r\nSubject: forged\r\n")
        && !text.contains("Subject: x")
}

// Whether CRLF . CRLF really stands in there: then what follows is commands by right.
fn ends_by_right(end: &[u8]) -> bool {
    [b"y", end].concat().windows(5).any(|w| w == b"\r\n.\r\n")
}

fn check(world: &mut World, end: &[u8]) {
    let heard = world.heard();
    let forged = world.messages.iter().filter(|m| is_forged(m)).count();
    if ends_by_right(end) {
        // A bare CR made the first message void; the second is an honest one.
        assert!(heard.contains("554 5.6.0"), "{end:?}: {heard}");
        assert!(world.messages.len() <= 1, "{end:?}");
        return;
    }
    assert_eq!(forged, 0, "{end:?}: {heard}");
    assert!(world.messages.len() <= 1, "{end:?}: {heard}");
    assert!(
        world.messages.len() == 1 || heard.starts_with('5'),
        "{end:?}: {heard}"
    );
}

#[test]
fn no_end_but_crlf_dot_crlf_lets_commands_through() {
    for role in [Role::Exchange, Role::Submission, Role::Delivery] {
        for end in ENDS {
            let mut world = World::with_tls(config(role));
            if role == Role::Submission {
                world.say(b"EHLO x\r\nAUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHdvbmRlcmxhbmQ=\r\n");
                assert!(world.heard().contains("235 "));
                world.say(b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n");
            } else if role == Role::Delivery {
                world.say(LOCAL_HELLO);
            } else {
                world.say(HELLO);
            }
            assert!(world.heard().contains("354 "));
            world.say(&input(end));
            check(&mut world, end);
        }
    }
}

#[test]
fn the_same_holds_wherever_the_segments_are_cut() {
    for end in ENDS {
        let bytes = input(end);
        for cut in 0..bytes.len() {
            let mut world = World::new(config(Role::Exchange));
            world.say(HELLO);
            world.heard();
            world.say(&bytes[..cut]);
            world.say(&bytes[cut..]);
            check(&mut world, end);
        }
    }
}

#[test]
fn normalizing_makes_no_second_message_either() {
    for end in ENDS {
        let bytes = input(end);
        for cut in 0..bytes.len() {
            let mut normalizing = config(Role::Exchange);
            normalizing.stray_line_ends = Stray::Normalize;
            let mut world = World::new(normalizing);
            world.say(HELLO);
            world.heard();
            world.say(&bytes[..cut]);
            world.say(&bytes[cut..]);
            let forged = world.messages.iter().filter(|m| is_forged(m)).count();
            assert_eq!(forged, usize::from(ends_by_right(end)), "{end:?}");
            for message in &world.messages {
                let bare = message
                    .iter()
                    .filter(|b| matches!(b, b'\r' | b'\n'))
                    .count();
                let pairs = message.windows(2).filter(|two| two == b"\r\n").count();
                assert!(bare == 2 * pairs && !message.contains(&0), "{end:?}");
            }
        }
    }
}

#[test]
fn octets_of_a_chunk_are_never_commands() {
    let octets = b"QUIT\r\n.\r\nRSET\r\nMAIL FROM:<forged@example.org>\r\nBDAT 3 LAST\r\n";
    let chunk = |mark: &str| {
        [
            format!("BDAT {}{mark}\r\n", octets.len()).as_bytes(),
            octets,
        ]
        .concat()
    };
    let envelope = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n".to_vec();
    let nobody = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<nobody@example.org>\r\n".to_vec();
    let away = b"MAIL FROM:<away@example.com>\r\nRCPT TO:<b@example.org>\r\n".to_vec();
    // What is said before the chunks, and how each of two is answered.
    for (before, answers) in [
        (b"".to_vec(), ["503 5.5.1 say MAIL first"; 2]),
        (nobody, ["503 5.5.1 no valid recipients"; 2]),
        (away, ["451 4.3.0 away", "503 5.5.1 say MAIL first"]),
        (
            [&envelope[..], b"BDAT 2\r\n\n\n"].concat(),
            ["503 5.5.1 say MAIL first"; 2],
        ),
        (
            envelope,
            ["250 2.0.0 * octets taken", "250 2.0.0 accepted as m1"],
        ),
    ] {
        let bytes = [
            &b"EHLO x\r\n"[..],
            &before,
            &chunk(""),
            &chunk(" LAST"),
            b"NOOP\r\n",
        ]
        .concat();
        for cut in 0..bytes.len() {
            let mut world = World::new(config(Role::Exchange));
            world.say(&bytes[..cut]);
            world.say(&bytes[cut..]);
            let heard = world.heard();
            let lines: Vec<_> = heard.lines().rev().collect();
            assert_eq!(lines[0], "250 2.0.0 ok", "{heard}");
            let expected = answers.map(|answer| answer.replace('*', &octets.len().to_string()));
            assert_eq!([lines[2], lines[1]], expected, "{heard}");
            assert!(!heard.contains("221 "), "{heard}");
        }
    }
}

#[test]
fn a_chunk_that_nobody_can_mean_ends_the_connection() {
    for line in [
        "BDAT 18446744073709551616 LAST",
        "BDAT 18446744073709551615",
        "BDAT 99999999999999999999",
        "BDAT -1",
        "BDAT 5 LAST now",
        "BDAT",
    ] {
        let mut world = World::new(config(Role::Exchange));
        world.say(format!("EHLO x\r\n{line}\r\nNOOP\r\n").as_bytes());
        let heard = world.heard();
        let last = heard.lines().last().unwrap();
        assert!(world.closed, "{line}: {heard}");
        assert!(
            last.starts_with("552 5.3.4") || last.starts_with("501 5.5.4"),
            "{line}: {heard}"
        );
    }
}

#[test]
fn a_bare_line_feed_in_a_command_closes_the_connection() {
    for line in [
        &b"NOOP\nMAIL FROM:<a@b>\r\n"[..],
        b"NOOP\rNOOP\r\n",
        b"NO\0OP\r\n",
        b"\n",
    ] {
        let mut world = World::new(config(Role::Exchange));
        world.heard();
        world.say(line);
        let heard = world.heard();
        assert!(heard.starts_with("521 5.5.2"), "{heard}");
        assert!(world.closed);
        assert_eq!(heard.lines().count(), 1);
    }
}
