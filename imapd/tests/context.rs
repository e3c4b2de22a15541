//! Contexts (RFC 5267) where much is asked for, where time passes, and where changes were lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use std::time::{SystemTime, UNIX_EPOCH};

use world::{Client, World};

/// When messages come in this world.
const CAME: u64 = 1_000_000_000;

async fn expect(client: &mut Client, lines: &[&str]) {
    for line in lines {
        assert_eq!(client.line().await.unwrap(), *line);
    }
}

#[tokio::test]
async fn one_search_too_many_is_answered_and_not_kept() {
    let world = World::new().await;
    world.store.deliver(b"A: x\r\n\r\n");
    let mut alice = world.alice().await;
    for tag in 0..10 {
        let lines = alice
            .ok(&format!("c{tag} UID SEARCH RETURN (UPDATE COUNT) SEEN"))
            .await;
        assert_eq!(lines.len(), 2, "{lines:?}");
    }
    let lines = alice.ok("d UID SEARCH RETURN (UPDATE COUNT) UNSEEN").await;
    assert!(lines[0].starts_with("* NO [NOUPDATE \"d\"] "), "{lines:?}");
    assert_eq!(lines[1], "* ESEARCH (TAG \"d\") UID COUNT 1");
    alice.ok("e CANCELUPDATE \"c3\"").await;
    assert_eq!(
        alice
            .ok("f UID SORT RETURN (UPDATE COUNT) (DATE) UTF-8 SEEN")
            .await,
        ["* ESEARCH (TAG \"f\") UID COUNT 0", "f OK searched"]
    );
    let lines = alice.ok("g STORE 1 +FLAGS.SILENT (\\Seen)").await;
    assert_eq!(lines.len(), 11, "{lines:?}");
    assert_eq!(lines[0], "* ESEARCH (TAG \"c0\") UID ADDTO (0 1)");
    assert_eq!(lines[9], "* ESEARCH (TAG \"f\") UID ADDTO (1 1)");
}

#[tokio::test]
async fn a_message_that_gets_older_comes_and_goes_by_itself() {
    let world = World::new().await;
    world.store.deliver(b"A: x\r\n\r\n");
    let mut alice = world.alice().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let age = now.as_secs() - CAME + 3;
    alice
        .ok(&format!("c UID SEARCH RETURN (UPDATE COUNT) YOUNGER {age}"))
        .await;
    alice
        .ok(&format!(
            "d UID SEARCH RETURN (UPDATE COUNT) OLDER {}",
            age + 1
        ))
        .await;
    // With IDLE or without.
    expect(
        &mut alice,
        &[
            "* ESEARCH (TAG \"c\") UID REMOVEFROM (0 1)",
            "* ESEARCH (TAG \"d\") UID ADDTO (0 1)",
        ],
    )
    .await;
    alice
        .ok(&format!(
            "e UID SEARCH RETURN (UPDATE COUNT) OLDER {}",
            age + 4
        ))
        .await;
    alice.send(b"f IDLE\r\n").await;
    expect(
        &mut alice,
        &["+ idling", "* ESEARCH (TAG \"e\") UID ADDTO (0 1)"],
    )
    .await;
}

#[tokio::test]
async fn what_happened_while_changes_were_lost_is_told() {
    let world = World::new().await;
    for _ in 0..3 {
        world.store.deliver(b"Subject: a\r\n\r\n");
    }
    let mut alice = world.alice().await;
    let mut other = world.alice().await;
    alice
        .ok("c SORT RETURN (UPDATE COUNT) (SUBJECT) UTF-8 UNDELETED UNSEEN")
        .await;
    alice.ok("d UID SEARCH RETURN (UPDATE) DELETED").await;
    other.ok("c STORE 3 +FLAGS.SILENT (\\Deleted)").await;
    expect(
        &mut alice,
        &[
            "* 3 FETCH (UID 3 FLAGS (\\Deleted))",
            "* ESEARCH (TAG \"c\") REMOVEFROM (3 3)",
            "* ESEARCH (TAG \"d\") UID ADDTO (0 3)",
        ],
    )
    .await;
    world.store.in_silence(|store| {
        store.remove(vec![(3, 3)]);
        store.deliver(b"Subject: b\r\n\r\n");
    });
    world.store.resync();
    expect(
        &mut alice,
        &[
            "* ESEARCH (TAG \"d\") UID REMOVEFROM (0 3)",
            "* 4 EXISTS",
            "* 0 RECENT",
            "* ESEARCH (TAG \"c\") ADDTO (3 4)",
        ],
    )
    .await;
    assert_eq!(alice.ok("g NOOP").await[0], "* 3 EXPUNGE");
}

#[tokio::test]
async fn messages_that_go_are_named_by_numbers_on_whatever_pages_they_are() {
    let world = World::new().await;
    // More shards than pages are kept of.
    for _ in 0..40 {
        world.store.deliver(b"A: x\r\n\r\n");
        world.store.skip_uids(1000);
    }
    let mut alice = world.alice().await;
    let mut other = world.alice().await;
    alice.ok("c SEARCH RETURN (UPDATE COUNT) ALL").await;
    other.ok("c STORE 1:* +FLAGS.SILENT (\\Deleted)").await;
    other.ok("d EXPUNGE").await;
    let lines = alice.ok("d NOOP").await;
    let mut gone = Vec::new();
    for line in &lines {
        if let Some(rest) = line.strip_prefix("* ESEARCH (TAG \"c\") REMOVEFROM (0 ") {
            gone.push(rest.trim_end_matches(')').parse::<u32>().unwrap());
        } else if let Some(number) = line.strip_suffix(" EXPUNGE") {
            let number = number.trim_start_matches("* ").parse().unwrap();
            assert!(gone.contains(&number), "{number} in {lines:?}");
        }
    }
    let expected: Vec<u32> = (1..=40).rev().collect();
    assert_eq!(gone, expected);
}

#[tokio::test]
async fn who_wants_to_hear_nothing_hears_of_searches_that_are_kept() {
    let world = World::new().await;
    world.store.deliver(b"A: x\r\n\r\n");
    let mut alice = world.alice().await;
    let mut other = world.alice().await;
    alice.ok("c NOTIFY NONE").await;
    alice.ok("d UID SEARCH RETURN (UPDATE COUNT) SEEN").await;
    other.ok("c STORE 1 +FLAGS.SILENT (\\Seen)").await;
    expect(&mut alice, &["* ESEARCH (TAG \"d\") UID ADDTO (0 1)"]).await;
    // Of messages it is not told of it has no numbers.
    world.store.deliver(b"A: y\r\n\r\n");
    assert_eq!(alice.ok("e NOOP").await, ["e OK nothing done"]);
}

#[tokio::test]
async fn what_outgrows_its_room_is_not_kept_any_more() {
    let world = World::cramped(3).await;
    world.store.deliver(b"Subject: 0\r\n\r\n");
    let mut alice = world.alice().await;
    alice
        .ok("c UID SORT RETURN (UPDATE COUNT) (SUBJECT) UTF-8 ALL")
        .await;
    for number in 1..100 {
        let message = format!("Subject: {number}\r\n\r\n");
        world.store.deliver(message.as_bytes());
    }
    let lines = alice.ok("d NOOP").await;
    let end = |line: &&String| line.starts_with("* NO [NOUPDATE \"c\"] ");
    let mut lines: Vec<String> = lines;
    while !lines.iter().any(|line| end(&line)) {
        lines.push(alice.line().await.unwrap());
    }
    world.store.deliver(b"Subject: x\r\n\r\n");
    let lines = alice.ok("e NOOP").await;
    let is_told = |line: &String| line.contains("ESEARCH");
    assert!(!lines.iter().any(is_told), "{lines:?}");
    // There is room again.
    let lines = alice.ok("f UID SEARCH RETURN (UPDATE COUNT) SEEN").await;
    assert_eq!(lines[0], "* ESEARCH (TAG \"f\") UID COUNT 0");
}

#[tokio::test]
async fn what_comes_later_is_found_when_it_is_old_enough() {
    let world = World::new().await;
    let mut alice = world.alice().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let age = now.as_secs() - CAME + 4;
    alice
        .ok(&format!("c UID SEARCH RETURN (UPDATE COUNT) OLDER {age}"))
        .await;
    world.store.deliver(b"A: x\r\n\r\n");
    expect(
        &mut alice,
        &[
            "* 1 EXISTS",
            "* 0 RECENT",
            "* ESEARCH (TAG \"c\") UID ADDTO (0 1)",
        ],
    )
    .await;
}

#[tokio::test]
async fn what_could_not_be_looked_at_is_looked_at_again() {
    let world = World::new().await;
    for _ in 0..40 {
        world.store.deliver(b"A: x\r\n\r\n");
        world.store.skip_uids(1000);
    }
    let mut alice = world.alice().await;
    let mut other = world.alice().await;
    alice.ok("c NOTIFY NONE").await;
    alice.ok("d UID SEARCH RETURN (UPDATE COUNT) SEEN").await;
    other.ok("b FETCH 1 FLAGS").await;
    // The first page is not there any more, and cannot be had for now.
    world.store.lie_once_after(0);
    other.ok("c STORE 1 +FLAGS.SILENT (\\Seen)").await;
    let mut lines = alice.ask("e NOOP").await;
    while !lines.iter().any(|line| line.contains("ADDTO (0 1)")) {
        lines.extend(alice.ask("f NOOP").await);
        assert!(lines.len() < 100, "{lines:?}");
    }
}
