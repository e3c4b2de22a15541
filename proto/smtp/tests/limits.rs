//! Each limit of the server machine, from both sides.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use std::time::Duration;

use smtp::line::MAX_AUTH;
use smtp::server::{Config, Role};
use world::{World, config};

/// A line of so many octets with its CRLF.
fn line(start: &str, length: usize) -> Vec<u8> {
    let mut line = start.as_bytes().to_vec();
    line.resize(length - 2, b'x');
    line.extend(b"\r\n");
    line
}

fn last(world: &mut World) -> String {
    let heard = world.heard();
    heard.lines().last().unwrap_or_default().to_string()
}

fn envelope(role: Role) -> String {
    let hello = if role == Role::Delivery {
        "LHLO"
    } else {
        "EHLO"
    };
    format!("{hello} x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n")
}

/// The reply to a message, sent in each way there is.
fn replies(message: &[u8]) -> Vec<String> {
    let mut replies = Vec::new();
    for role in [Role::Exchange, Role::Delivery] {
        let data = [&b"DATA\r\n"[..], message, b".\r\n"].concat();
        let chunk = [
            format!("BDAT {} LAST\r\n", message.len()).as_bytes(),
            message,
        ]
        .concat();
        let (head, tail) = message.split_at(message.len() / 2);
        let chunks = [
            format!("BDAT {}\r\n", head.len()).as_bytes(),
            head,
            format!("BDAT {} LAST\r\n", tail.len()).as_bytes(),
            tail,
        ]
        .concat();
        for text in [data, chunk, chunks] {
            let mut world = World::new(config(role));
            world.say(envelope(role).as_bytes());
            world.say(&text);
            let heard = world.heard();
            let refusal = heard.lines().find(|line| line.starts_with("55"));
            let reply = refusal.or(heard.lines().last()).unwrap();
            replies.push(reply.to_string());
            assert_eq!(
                world.messages.len(),
                usize::from(refusal.is_none()),
                "{heard}"
            );
        }
    }
    replies
}

fn is_taken(message: &[u8]) -> bool {
    let replies = replies(message);
    let taken = replies
        .iter()
        .filter(|reply| reply.starts_with("250 2."))
        .count();
    assert!(taken == 0 || taken == replies.len(), "{replies:?}");
    taken > 0
}

fn assert_refused(message: &[u8], start: &str) {
    for reply in replies(message) {
        assert!(reply.starts_with(start), "{reply}");
    }
}

#[test]
fn a_command_line_has_2048_octets() {
    for role in [Role::Exchange, Role::Submission, Role::Delivery] {
        let mut world = World::with_tls(config(role));
        world.say(&line("NOOP ", 2048));
        assert_eq!(last(&mut world), "250 2.0.0 ok");
        world.say(&line("NOOP ", 2049));
        assert_eq!(last(&mut world), "500 5.5.6 line too long, closing");
        assert!(world.closed);
    }
}

#[test]
fn a_line_of_auth_has_12288_octets_while_a_login_is_possible() {
    for length in [MAX_AUTH, MAX_AUTH + 1] {
        for start in ["EHLO x\r\nAUTH PLAIN ", "EHLO x\r\nAUTH PLAIN\r\n"] {
            let mut world = World::with_tls(config(Role::Submission));
            let (before, start) = start.split_at(8);
            let (command, start) = match start.strip_suffix("\r\n") {
                Some(_) => (start, ""),
                None => ("", start),
            };
            world.say(before.as_bytes());
            world.say(command.as_bytes());
            world.say(&line(start, length));
            assert_eq!(world.closed, length > MAX_AUTH, "{start:?} {length}");
        }
    }
    // Without TLS there is no login, and none after one.
    let mut world = World::new(config(Role::Submission));
    world.say(b"EHLO x\r\n");
    world.say(&line("AUTH PLAIN ", 2049));
    assert!(world.closed);
    let mut world = World::with_tls(config(Role::Submission));
    world.say(b"EHLO x\r\nAUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHdvbmRlcmxhbmQ=\r\n");
    assert!(last(&mut world).starts_with("235"));
    world.say(&line("AUTH PLAIN ", 2049));
    assert!(world.closed);
}

#[test]
fn a_line_of_text_has_as_many_octets_as_the_limit_says() {
    assert!(is_taken(
        &[b"A: b\r\n\r\n".to_vec(), line("", 5000)].concat()
    ));
    let longer = [b"A: b\r\n\r\n".to_vec(), line("", 5001)].concat();
    assert_refused(
        &longer,
        "554 5.6.0 the message holds a line that is too long",
    );
}

#[test]
fn a_header_has_as_many_octets_as_the_limit_says() {
    let header = |length: usize| [line("A: ", 4000), line("B: ", length - 4000)].concat();
    assert!(is_taken(&header(8000)));
    assert_refused(
        &header(8001),
        "552 5.3.4 the header of the message is larger than 8000 octets",
    );
}

#[test]
fn a_header_has_as_many_fields_as_the_limit_says() {
    assert!(is_taken(&b"A: b\r\n".repeat(120)));
    assert_refused(
        &b"A: b\r\n".repeat(121),
        "552 5.3.4 the header of the message has more than 120 fields",
    );
}

#[test]
fn a_message_has_made_a_hundred_hops() {
    assert!(is_taken(&b"Received: x\r\n".repeat(100)));
    assert_refused(
        &b"Received: x\r\n".repeat(101),
        "554 5.4.6 routing loop: more than 100 Received fields",
    );
}

#[test]
fn a_message_has_as_many_octets_as_the_limit_says() {
    let message = |length: usize| {
        let rest = length - 8 - 4000 - 4000;
        [
            b"A: b\r\n\r\n".to_vec(),
            line("", 4000),
            line("", 4000),
            line("", rest),
        ]
        .concat()
    };
    assert_eq!(message(10_000).len(), 10_000);
    assert!(is_taken(&message(10_000)));
    assert_refused(
        &message(10_001),
        "552 5.3.4 message larger than 10000 octets",
    );
    // What is added to end the last line counts, too.
    let mut world = World::new(config(Role::Exchange));
    world.say(envelope(Role::Exchange).as_bytes());
    let mut text = message(10_001);
    text.truncate(9_999);
    world.say(&[&b"BDAT 9999 LAST\r\n"[..], &text].concat());
    assert!(last(&mut world).starts_with("552 5.3.4"));
}

#[test]
fn a_chunk_of_far_too_many_octets_is_not_even_read() {
    const GRACE: usize = 1024 * 1024;
    for (size, closed) in [(10_000 + GRACE, false), (10_001 + GRACE, true)] {
        let mut world = World::new(config(Role::Exchange));
        world.say(format!("EHLO x\r\nBDAT {size} LAST\r\n").as_bytes());
        assert_eq!(world.closed, closed, "{size}");
    }
    // All chunks of a message count together.
    for (size, closed) in [(10_000 + GRACE - 3, false), (10_001 + GRACE - 3, true)] {
        let mut world = World::new(config(Role::Exchange));
        world.say(envelope(Role::Exchange).as_bytes());
        world.say(format!("BDAT 3\r\nabcBDAT {size} LAST\r\n").as_bytes());
        assert_eq!(world.closed, closed, "{size}");
    }
}

#[test]
fn recipients_are_refused_so_often_that_a_pipelining_client_is_not_sent_away() {
    let Config {
        max_idle_commands,
        max_recipients,
        ..
    } = config(Role::Exchange);
    let most = max_idle_commands + max_recipients;
    let mut world = World::new(config(Role::Exchange));
    world.say(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\n");
    world.say("RCPT TO:<nobody@example.org>\r\n".repeat(most).as_bytes());
    assert!(last(&mut world).starts_with("550 5.1.1"));
    world.say(b"RCPT TO:<nobody@example.org>\r\n");
    assert!(last(&mut world).starts_with("421 4.7.0") && world.closed);
}

#[test]
fn replies_to_a_client_of_no_use_are_held_back_longer_and_longer() {
    let ms = Duration::from_millis;
    let mut world = World::new(Config {
        undelayed_errors: 4,
        error_delay: ms(100),
        max_idle_commands: 100,
        ..config(Role::Exchange)
    });
    world.say(
        b"EHLO x\r\nFOO\r\nRSET\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<nobody@example.org>\r\n",
    );
    assert_eq!(world.pauses, []);
    world.say(b"RCPT TO:<nobody@example.org>\r\nFOO\r\nNOOP\r\n");
    assert_eq!(world.pauses, [ms(100), ms(200), ms(300)]);
    world.say(&b"NOOP\r\n".repeat(20));
    assert_eq!(world.pauses.last(), Some(&ms(1000)));
    // What brings a message is never held back, and a message that was taken shows that the client is of use.
    world.pauses.clear();
    world.say(b"RCPT TO:<b@example.org>\r\nDATA\r\nx\r\n.\r\n");
    assert!(last(&mut world).starts_with("250 2.0.0"));
    world.say(&b"NOOP\r\n".repeat(4));
    assert_eq!(world.pauses, []);
    world.say(b"NOOP\r\n");
    assert_eq!(world.pauses, [ms(100)]);
}

#[test]
fn who_sends_as_fast_as_demanded_gets_more_time_and_nobody_else() {
    // 10 octets a second of three minutes.
    const DUE: usize = 1800;
    let window = Duration::from_secs(180);
    for start in ["DATA\r\n", "BDAT 9000\r\n"] {
        let mut world = World::new(config(Role::Exchange));
        world.say(envelope(Role::Exchange).as_bytes());
        world.say(start.as_bytes());
        assert_eq!(world.deadlines.pop(), Some(window));
        world.deadlines.clear();
        world.say(&vec![b'x'; DUE - 1]);
        assert_eq!(world.deadlines, [], "{start}");
        world.say(b"x");
        assert_eq!(world.deadlines, [window], "{start}");
        for octet in "x".repeat(DUE - 1).chars() {
            world.say(octet.to_string().as_bytes());
        }
        assert_eq!(world.deadlines.len(), 1, "{start}");
        world.say(b"x");
        assert_eq!(world.deadlines.len(), 2, "{start}");
    }
}

#[test]
fn a_command_that_arrives_in_drops_gets_no_more_time() {
    let mut world = World::new(config(Role::Exchange));
    world.deadlines.clear();
    for octet in b"NOOP with a long tail\r" {
        world.say(&[*octet]);
    }
    assert_eq!(world.deadlines, []);
    world.say(b"\n");
    assert_eq!(world.deadlines, [Duration::from_secs(300)]);
}
