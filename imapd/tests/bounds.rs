//! What is refused because it is too much: the answer says what, and the next command is heard.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use ipc::metadata::{MAX_BYTES, MAX_ENTRIES, MAX_VALUE};
use ipc::session::APPENDS_TOGETHER;
use world::World;

#[tokio::test]
async fn annotations_that_are_too_much_are_refused_by_what_is_too_much() {
    let world = World::new().await;
    let mut alice = world.alice().await;
    let entry = |number: usize, size: usize| {
        format!("/private/{number} {{{size}+}}\r\n{}", "x".repeat(size))
    };
    let longest = entry(1, MAX_VALUE + 1);
    let answer = alice.ask(&format!("c SETMETADATA INBOX ({longest})")).await;
    let expected = format!("c NO [METADATA MAXSIZE {MAX_VALUE}] ");
    assert!(answer[0].starts_with(&expected), "{answer:?}");
    let many = MAX_BYTES / MAX_VALUE + 1;
    for (count, size) in [(many, MAX_VALUE), (MAX_ENTRIES + 1, 1)] {
        let all: Vec<String> = (0..count).map(|number| entry(number, size)).collect();
        let command = format!("d SETMETADATA INBOX ({})", all.join(" "));
        let answer = alice.ask(&command).await;
        assert!(
            answer[0].starts_with("d NO [METADATA TOOMANY] "),
            "{answer:?}"
        );
    }
    alice.ok("e NOOP").await;
}

#[tokio::test]
async fn of_more_messages_than_may_come_together_none_is_kept() {
    let world = World::new().await;
    let mut alice = world.alice().await;
    let messages = " {6+}\r\nA: 1\r\n".repeat(APPENDS_TOGETHER + 1);
    let answer = alice.ask(&format!("c APPEND INBOX{messages}")).await;
    assert!(answer[0].starts_with("c NO [LIMIT] "), "{answer:?}");
    assert!(world.store.messages("INBOX").is_empty());
    alice.ok("d NOOP").await;
}
