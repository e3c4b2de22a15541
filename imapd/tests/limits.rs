//! How many messages a command is about (RFC 9738), and ranges with so many messages each (RFC 10022), in mailboxes of some pages.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use std::time::{Duration, Instant};

use imap::capability::Limits;
use world::{Client, World};

/// 1,203 messages with gaps between their UIDs.
fn fill(world: &World) {
    for number in 0..1203 {
        if number % 401 == 400 {
            world.store.skip_uids(700);
        }
        world.store.deliver(b"Subject: x\r\n\r\nx\r\n");
    }
}

async fn batches(client: &mut Client, command: &str) -> Vec<(u32, u32)> {
    let lines = client.ok(command).await;
    let Some((_, told)) = lines[0].split_once(") ") else {
        return Vec::new();
    };
    let ends = told.split(',').map(|range| {
        let (high, low) = range.split_once(':').unwrap();
        (high.parse().unwrap(), low.parse().unwrap())
    });
    ends.collect()
}

async fn count(client: &mut Client, (high, low): (u32, u32)) -> usize {
    let lines = client.ok(&format!("n UID SEARCH UID {high}:{low}")).await;
    lines[0].split(' ').count() - 2
}

#[tokio::test]
async fn batches_hold_so_many_messages_and_leave_no_uid_out() {
    let world = World::new().await;
    fill(&world);
    let mut alice = world.alice().await;
    let all = batches(&mut alice, "c UIDBATCHES 500").await;
    let last = *all.last().unwrap();
    assert_eq!((all.len(), all[0].0, last.1), (3, 3303, 1));
    assert!(all.windows(2).all(|pair| pair[0].1 == pair[1].0 + 1));
    let mut counts = Vec::new();
    for batch in &all {
        counts.push(count(&mut alice, *batch).await);
    }
    assert_eq!(counts, [500, 500, 203]);
    for (command, some) in [("1:1", 0..1), ("2:2", 1..2), ("2:9", 1..3), ("4:9", 3..3)] {
        let found = batches(&mut alice, &format!("d UIDBATCHES 500 {command}")).await;
        assert_eq!(found, all[some], "{command}");
    }
    let exactly = batches(&mut alice, "e UIDBATCHES 1203").await;
    assert_eq!(exactly, [(3303, 1)]);
}

#[tokio::test]
async fn a_batch_is_never_larger_than_one_command_may_be_about() {
    let world = World::limited(Limits {
        any: Some(600),
        saving: None,
    })
    .await;
    fill(&world);
    let mut alice = world.alice().await;
    let all = batches(&mut alice, "c UIDBATCHES 100000").await;
    assert_eq!(all.len(), 3);
    for batch in all {
        assert!(count(&mut alice, batch).await <= 600);
        let ends = format!("{}:{}", batch.0, batch.1);
        let fetched = alice.ok(&format!("d UID FETCH {ends} UID")).await;
        assert_eq!(fetched.last().unwrap(), "d OK fetched", "{ends}");
    }
    // Below what was told a client goes on, until nothing more is said.
    let (mut seen, mut below) = (0, u32::MAX);
    loop {
        let lines = alice.ok(&format!("e UID FETCH 1:{below} UID")).await;
        seen += lines.len() - 1;
        let Some(code) = lines
            .last()
            .unwrap()
            .strip_prefix("e OK [MESSAGELIMIT 600 ")
        else {
            break;
        };
        below = code.split_once(']').unwrap().0.parse::<u32>().unwrap() - 1;
    }
    assert_eq!(seen, 1203);
}

#[tokio::test]
async fn a_search_looks_only_at_messages_its_sets_name() {
    let world = World::new().await;
    fill(&world);
    for (command, found) in [
        ("UID SEARCH UID 2", "2"),
        ("UID SEARCH 2 ALL", "2"),
        ("UID SEARCH (UIDBEFORE 3 (UIDAFTER 1))", "2"),
        ("UID SEARCH UID 2 NOT UID 3", "2"),
    ] {
        let mut alice = world.alice().await;
        let before = world.store.pages();
        let lines = alice.ok(&format!("c {command}")).await;
        assert_eq!(lines[0], format!("* SEARCH {found}"), "{command}");
        // Of four; that of the last message says what * would mean.
        assert_eq!(world.store.pages() - before, 2, "{command}");
    }
}

#[tokio::test]
async fn a_password_in_an_answer_is_no_longer_than_one_of_login() {
    let world = World::new().await;
    let long = |length| "x".repeat(length);
    for (user, password, end) in [
        (
            "alice@example.org".into(),
            long(1024),
            "NO [AUTHENTICATIONFAILED] ",
        ),
        ("alice@example.org".into(), long(1025), "BAD "),
        (long(1024), "x".into(), "NO [AUTHENTICATIONFAILED] "),
        (long(1025), "x".into(), "BAD "),
    ] {
        let message = format!("\0{user}\0{password}").into_bytes();
        let answer = mail::encode::base64(&message);
        let mut client = world.connect().await;
        let lines = client.ask(&format!("a AUTHENTICATE PLAIN {answer}")).await;
        let last = lines.last().unwrap();
        assert!(
            last.starts_with(&format!("a {end}")),
            "{user} {password}: {last}"
        );
    }
}

/// Says the same again and again, and how often until the server has enough.
async fn until_bye(client: &mut Client, said: &str) -> usize {
    for count in 1..=200 {
        client.send(said.as_bytes()).await;
        loop {
            let line = client.line().await.expect("a goodbye before the end");
            if line.starts_with("* BYE") {
                return count;
            }
            if line.starts_with("c ") {
                break;
            }
        }
    }
    panic!("{said:?} can be said for ever");
}

#[tokio::test]
async fn mistakes_of_each_kind_are_counted() {
    let world = World::new().await;
    world.store.deliver(b"A: x\r\n\r\n");
    let other = mail::encode::base64(b"bob@example.org\0alice@example.org\0secret-alice");
    let other = format!("c AUTHENTICATE PLAIN {other}\r\n");
    for said in [
        "c AUTHENTICATE NONE\r\n",
        "c AUTHENTICATE EXTERNAL\r\n",
        "c AUTHENTICATE PLAIN\r\n*\r\n",
        "c AUTHENTICATE PLAIN\r\n!\r\n",
        other.as_str(),
        "c AUTHENTICATE SCRAM-SHA-256\r\n*\r\n",
        "c AUTHENTICATE SCRAM-SHA-256\r\n!\r\n",
        "c AUTHENTICATE SCRAM-SHA-256 eA==\r\n!\r\n",
        "c AUTHENTICATE SCRAM-SHA-256 eA==\r\neA==\r\n",
        "c LOGIN alice@example.org wrong\r\n",
    ] {
        assert_eq!(
            until_bye(&mut world.connect().await, said).await,
            10,
            "{said}"
        );
    }
    for said in [
        "c AUTHENTICATE PLAIN eA==\r\n",
        "c LOGIN alice@example.org secret-alice\r\n",
    ] {
        let mut client = world.connect_far().await;
        assert_eq!(until_bye(&mut client, said).await, 10, "{said}");
    }
    for said in [
        "c NONSENSE\r\n",
        "c ESEARCH IN (personal) RETURN (SAVE) ALL\r\n",
        "c UIDBATCHES 500 2:1\r\n",
        "c UID SEARCH RETURN (UPDATE) ALL\r\n",
        "c FETCH 1 FLAGS\r\n",
        "c REPLACE 1 INBOX {1+}\r\nx\r\n",
    ] {
        let mut client = world.alice().await;
        client.ok("d ENABLE UIDONLY").await;
        client.ok("c UID SEARCH RETURN (UPDATE) ALL").await;
        // Some are answered before they are counted.
        let count = until_bye(&mut client, said).await;
        assert!((100..=101).contains(&count), "{said} {count}");
    }
}

#[tokio::test]
async fn a_login_that_has_to_wait_waits() {
    let world = World::new().await;
    for said in [
        "c LOGIN slow@example.org x",
        "c AUTHENTICATE SCRAM-SHA-256 c2xvdw==",
    ] {
        let begun = Instant::now();
        let mut client = world.connect().await;
        let lines = client.ask(said).await;
        assert!(
            lines[1].starts_with("c NO [AUTHENTICATIONFAILED]"),
            "{lines:?}"
        );
        assert!(begun.elapsed() >= Duration::from_secs(1), "{said}");
    }
}

#[tokio::test]
async fn a_login_that_is_broken_off_is_given_up() {
    let world = World::new().await;
    for (count, end) in ["*\r\n", "no/base64!\r\n", ""].iter().enumerate() {
        let mut client = world.connect().await;
        client.line().await;
        client.send(b"c AUTHENTICATE SCRAM-SHA-256 eA==\r\n").await;
        assert_eq!(client.line().await.unwrap(), "+ eA==");
        assert_eq!(world.store.abandoned(), count);
        client.send(end.as_bytes()).await;
        drop(client);
        while world.store.abandoned() == count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
