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
async fn what_happened_while_a_mailbox_was_selected_is_not_forgotten() {
    let world = World::new().await;
    let mut alice = world.alice().await;
    let mut other = world.alice().await;
    alice.ok("c NOTIFY SET (personal (MailboxName))").await;
    // Heard of only behind the answer to SELECT, which forgets events of the mailbox before.
    other.ok("d CREATE one").await;
    other.ok("e CREATE two").await;
    other.ok("f CREATE three").await;
    let mut lines = alice.ok("d SELECT INBOX").await;
    lines.extend(alice.ok("e NOOP").await);
    let told = lines.iter().filter(|line| line.starts_with("* LIST"));
    assert_eq!(told.count(), 3);
}

#[tokio::test]
async fn changes_that_were_lost_in_the_selected_mailbox_make_it_look_for_others() {
    let world = World::new().await;
    let mut alice = world.alice().await;
    let set = "c NOTIFY SET (selected (MessageNew MessageExpunge)) (personal (MailboxName))";
    alice.ok(set).await;
    world.store.in_silence(|store| {
        store.deliver(b"A: x\r\n\r\n");
    });
    world.store.resync();
    assert_eq!(alice.line().await.unwrap(), "* 1 EXISTS");
    assert_eq!(alice.line().await.unwrap(), "* 0 RECENT");
    let mut other = world.alice().await;
    other.ok("d CREATE one").await;
    let line = alice.line().await.unwrap();
    assert_eq!(line, "* LIST (\\HasNoChildren) \"/\" one");
}
