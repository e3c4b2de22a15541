//! What dialogs cannot show: large messages, limits, neighbours that die, and the end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use std::time::Duration;

use daemon::limits::Limits;
use world::World;

fn large_message() -> Vec<u8> {
    let mut message = b"Subject: large\r\n\r\n".to_vec();
    for line in 0..60_000 {
        message.extend_from_slice(format!("this is line {line}\r\n").as_bytes());
    }
    message
}

#[tokio::test]
async fn a_large_message_comes_back_byte_by_byte() {
    let world = World::new().await;
    let mut alice = world.alice().await;
    let message = large_message();
    alice
        .send(format!("c APPEND INBOX {{{}}}\r\n", message.len()).as_bytes())
        .await;
    assert_eq!(alice.line().await.unwrap(), "+ send the message");
    alice.send(&message).await;
    alice.send(b"\r\n").await;
    assert_eq!(alice.line().await.unwrap(), "* 1 EXISTS");
    assert_eq!(alice.line().await.unwrap(), "* 0 RECENT");
    assert_eq!(alice.line().await.unwrap(), "c OK [APPENDUID 7 1] appended");
    assert_eq!(
        world.store.messages("INBOX"),
        std::slice::from_ref(&message)
    );
    alice.send(b"d FETCH 1 BODY[]\r\n").await;
    let begin = format!("* 1 FETCH (BODY[] {{{}}}", message.len());
    assert_eq!(alice.line().await.unwrap(), begin);
    assert!(alice.bytes(message.len()).await == message);
    assert_eq!(alice.line().await.unwrap(), " FLAGS (\\Seen))");
    assert_eq!(alice.line().await.unwrap(), "d OK fetched");
}

#[tokio::test]
async fn a_message_that_breaks_off_is_not_kept() {
    let world = World::new().await;
    let mut alice = world.alice().await;
    alice
        .send(b"c APPEND INBOX {1000+}\r\nSubject: x\r\n")
        .await;
    drop(alice);
    let mut alice = world.alice().await;
    assert!(world.store.messages("INBOX").is_empty());
    alice.ok("c NOOP").await;
}

#[tokio::test]
async fn messages_that_come_unasked_are_kept_whatever_their_size_and_whatever_is_done_with_them() {
    let world = World::new().await;
    let mut alice = world.alice().await;
    let letter = |size: usize| format!("A: 1\r\n\r\n{}", "x".repeat(size - 8));
    let literal = |size: usize| format!("{{{size}+}}\r\n{}", letter(size));
    let mut expected = Vec::new();
    let edge = usize::try_from(imapd::ask::HELD).unwrap();
    for size in [9, 4096, edge, edge + 1, 100_000] {
        let flags = r"(\Seen work)";
        alice
            .ok(&format!("c APPEND INBOX {flags} {}", literal(size)))
            .await;
        expected.push(letter(size));
    }
    // With keywords that do not fit beside it.
    let keywords: Vec<String> = (0..60).map(|number| format!("k{number:089}")).collect();
    let append = format!("c APPEND INBOX ({}) {}", keywords.join(" "), literal(edge));
    alice.ok(&append).await;
    expected.push(letter(edge));
    // Two together, one put together of two, and one that takes the place of another.
    alice
        .ok(&format!("d APPEND INBOX {} {}", literal(100), literal(200)))
        .await;
    expected.extend([letter(100), letter(200)]);
    let parts = format!("TEXT {} TEXT {}", literal(300), literal(edge));
    alice
        .ok(&format!("e APPEND INBOX CATENATE ({parts})"))
        .await;
    expected.push(letter(300) + &letter(edge));
    alice
        .ok(&format!("f REPLACE 1 INBOX {}", literal(400)))
        .await;
    expected.push(letter(400));
    expected.remove(0);
    let found = world.store.messages("INBOX");
    let found: Vec<_> = found
        .iter()
        .map(|one| String::from_utf8_lossy(one))
        .collect();
    assert!(found.iter().eq(&expected));
    // Nothing comes of these, and what follows is heard.
    let nul = "g APPEND INBOX {3+}\r\na\0b";
    assert!(alice.ask(nul).await[0].starts_with("g BAD "));
    let missing = alice
        .ask(&format!("h APPEND nothing {}", literal(50)))
        .await;
    assert!(missing[0].starts_with("h NO [TRYCREATE] "), "{missing:?}");
    alice.ok("j NOOP").await;
    assert_eq!(world.store.messages("INBOX").len(), expected.len());
}

#[tokio::test]
async fn many_messages_are_fetched_in_batches_and_in_order() {
    let world = World::new().await;
    for n in 1..=100 {
        world
            .store
            .deliver(format!("Subject: {n}\r\n\r\nbody {n}\r\n").as_bytes());
    }
    let mut alice = world.alice().await;
    let lines = alice
        .ok("c FETCH 1:* BODY.PEEK[HEADER.FIELDS (Subject)]")
        .await;
    let subjects: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("Subject"))
        .collect();
    let expected: Vec<_> = (1..=100).map(|n| format!("Subject: {n}")).collect();
    assert!(subjects.into_iter().eq(&expected));
    let found = alice.ok("d UID SEARCH BODY \"body 9\"").await;
    assert_eq!(found[0], "* SEARCH 9 90 91 92 93 94 95 96 97 98 99");
}

#[tokio::test]
async fn messages_of_all_sizes_come_back_byte_by_byte() {
    let world = World::new().await;
    let mut expected = Vec::new();
    // Around what is sent together, and more of them than are opened together.
    let sizes = [
        1,
        32 << 10,
        (32 << 10) + 1,
        64 << 10,
        100_000,
        256 << 10,
        700_001,
        4096,
        300_000,
    ];
    for (index, size) in sizes.into_iter().cycle().take(100).enumerate() {
        let mut message: Vec<u8> = format!("Subject: {index}\r\n\r\n").into_bytes();
        message.extend((0..size).map(|at| b'a' + (at % 23) as u8));
        if index % 7 == 3 {
            message[size / 2 + 15] = 0;
        }
        let uid = world.store.deliver(&message);
        for byte in message.iter_mut().filter(|byte| **byte == 0) {
            *byte = 0x80;
        }
        let begin = format!("* {uid} FETCH (UID {uid} BODY[] {{{}}}\r\n", message.len());
        expected.extend(begin.into_bytes());
        expected.extend(message);
        expected.extend(b" FLAGS (\\Seen))\r\n");
    }
    let mut alice = world.alice().await;
    alice.send(b"c UID FETCH 1:* BODY[]\r\n").await;
    assert!(alice.bytes(expected.len()).await == expected);
    assert_eq!(alice.line().await.unwrap(), "c OK fetched");
}

#[tokio::test]
async fn a_client_that_does_not_read_has_few_messages_opened() {
    let world = World::new().await;
    // More than fits into the buffers of a connection.
    let message = vec![b'x'; 256 << 10];
    for _ in 0..400 {
        world.store.deliver(&message);
    }
    let mut alice = world.alice().await;
    alice.send(b"c FETCH 1:* BODY.PEEK[]\r\n").await;
    let mut before = usize::MAX;
    while before == 0 || before != world.store.opened() {
        before = world.store.opened();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!((1..=300).contains(&before), "{before}");
}

#[tokio::test]
async fn lost_changes_are_found_by_comparing() {
    let world = World::new().await;
    world.store.deliver(b"A: 1\r\n\r\n");
    let mut alice = world.alice().await;
    world.store.resync();
    world.store.deliver(b"A: 2\r\n\r\n");
    world.store.remove(vec![(1, 1)]);
    let lines = alice.ok("c NOOP").await;
    assert_eq!(lines[..3], ["* 1 EXPUNGE", "* 1 EXISTS", "* 0 RECENT"]);
}

#[tokio::test]
async fn commands_sent_together_are_answered_in_order() {
    let world = World::new().await;
    let mut alice = world.alice().await;
    alice
        .send(b"c NOOP\r\nd STATUS INBOX (MESSAGES)\r\ne CHECK\r\nf CLOSE\r\n")
        .await;
    for expected in ["c OK", "* STATUS", "d OK", "e OK", "f OK"] {
        assert!(
            alice.line().await.unwrap().starts_with(expected),
            "{expected}"
        );
    }
}

#[tokio::test]
async fn a_mailbox_full_of_holes_is_copied_and_moved_whole() {
    let world = World::new().await;
    for _ in 0..2100 {
        world.store.deliver(b"A: 1\r\n\r\n");
    }
    world
        .store
        .remove((1..=1050).map(|n| (2 * n, 2 * n)).collect());
    let mut alice = world.alice().await;
    alice.ok("c CREATE Archive").await;
    alice.ok("d COPY 1:* Archive").await;
    assert_eq!(world.store.messages("Archive").len(), 1050);
    alice.ok("e MOVE 1:* Archive").await;
    assert_eq!(world.store.messages("Archive").len(), 2100);
    assert!(world.store.messages("INBOX").is_empty());
}

#[tokio::test]
async fn what_is_pipelined_behind_starttls_is_never_executed() {
    let world = World::new().await;
    let mut client = world.connect_far().await;
    client.line().await;
    client
        .send(b"a STARTTLS\r\nb LOGIN alice@example.org secret-alice\r\n")
        .await;
    assert_eq!(client.line().await.unwrap(), "a OK begin TLS now");
    let mut client = world.secure(client).await;
    let lines = client.ask("c SELECT INBOX").await;
    assert_eq!(lines, ["c BAD log in first"]);
}

#[tokio::test]
async fn an_address_that_has_its_connections_is_told_so() {
    let limits = Limits {
        total: 0,
        per_address: 1,
    };
    let world = World::with_limits(limits).await;
    let mut first = world.connect().await;
    first.line().await;
    let mut second = world.connect().await;
    let line = second.line().await.unwrap();
    assert!(line.starts_with("* BYE [LIMIT] too many connections from your address"));
    assert!(second.is_closed().await);
    first.ok("a LOGOUT").await;
}

#[tokio::test]
async fn sessions_end_with_deliverd_and_new_ones_wait_for_it() {
    let mut world = World::new().await;
    let mut alice = world.alice().await;
    world.deliverd.take().unwrap().stop();
    let line = alice.line().await.unwrap();
    assert!(line.starts_with("* BYE [UNAVAILABLE]"), "{line}");
    assert!(alice.is_closed().await);
    let mut early = world.connect().await;
    early.line().await;
    early
        .send(b"a LOGIN alice@example.org secret-alice\r\n")
        .await;
    world.start_deliverd();
    assert!(early.line().await.unwrap().starts_with("a OK"));
}

#[tokio::test]
async fn a_login_without_deliverd_is_refused_as_unavailable() {
    let world = World::new().await;
    world.deliverd.as_ref().unwrap().stop();
    let mut client = world.connect().await;
    client.line().await;
    client.ask("x NOOP").await;
    let lines = client.ask("a LOGIN alice@example.org secret-alice").await;
    assert!(lines[0].starts_with("a NO [UNAVAILABLE]"), "{lines:?}");
}

#[tokio::test]
async fn everybody_hears_that_the_daemon_stops() {
    let world = World::new().await;
    let mut idle = world.alice().await;
    idle.send(b"c IDLE\r\n").await;
    idle.line().await;
    let mut fresh = world.connect().await;
    fresh.line().await;
    world.imapd.stop();
    for client in [&mut idle, &mut fresh] {
        let line = client.line().await.unwrap();
        assert!(line.starts_with("* BYE [UNAVAILABLE]"), "{line}");
        assert!(client.is_closed().await);
    }
}
