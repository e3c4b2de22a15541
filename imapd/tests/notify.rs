//! NOTIFY (RFC 5465) where something goes wrong, or much happens at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use world::World;

#[tokio::test]
async fn who_lost_what_happened_hears_so_and_then_nothing() {
    let world = World::new().await;
    let mut alice = world.alice().await;
    let all = "(MessageNew MessageExpunge FlagChange MailboxName)";
    alice
        .ok(&format!(
            "c NOTIFY SET (selected (MessageNew MessageExpunge)) (personal {all})"
        ))
        .await;
    assert_eq!(world.store.watching(), 1);
    world.store.lose_happenings();
    let line = alice.line().await.unwrap();
    assert!(line.starts_with("* OK [NOTIFICATIONOVERFLOW] "), "{line}");
    world.store.deliver(b"A: x\r\n\r\n");
    assert_eq!(alice.ok("d NOOP").await, ["d OK nothing done"]);
    assert_eq!(world.store.watching(), 0);
    // It can ask again.
    alice
        .ok("e NOTIFY SET (selected (MessageNew MessageExpunge))")
        .await;
    assert_eq!(alice.ok("f NOOP").await[0], "f OK nothing done");
}

#[tokio::test]
async fn what_happens_while_a_mailbox_is_selected_is_not_forgotten() {
    let world = World::new().await;
    let mut alice = world.alice().await;
    alice.ok("c NOTIFY SET (personal (MailboxName))").await;
    // The answer to SELECT has events before it forgotten.
    world.store.create_at_select("one");
    let lines = alice.ok("d SELECT INBOX").await;
    let told = lines.iter().find(|line| line.starts_with("* LIST"));
    assert_eq!(told.unwrap(), "* LIST (\\HasNoChildren) \"/\" one");
}

#[tokio::test]
async fn where_events_were_lost_what_happened_to_others_is_asked_for() {
    let world = World::new().await;
    let mut alice = world.alice().await;
    let set = "c NOTIFY SET (selected (MessageNew MessageExpunge)) (personal (MailboxName))";
    alice.ok(set).await;
    world.store.in_silence(|store| {
        store.deliver(b"A: x\r\n\r\n");
    });
    world.store.create_unheard("one");
    world.store.resync();
    for expected in [
        "* 1 EXISTS",
        "* 0 RECENT",
        "* LIST (\\HasNoChildren) \"/\" one",
    ] {
        assert_eq!(alice.line().await.unwrap(), expected);
    }
}
