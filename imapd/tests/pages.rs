//! Pages of messages are read when they are needed, and what a client is told is the same as if all had been there at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use ipc::snapshot::flag;
use world::{Lie, World};

/// Messages 1 to 3, 1004, 2005: three pages.
async fn spread() -> World {
    let world = World::new().await;
    for skip in [0, 0, 0, 1000, 1000] {
        if skip > 0 {
            world.store.skip_uids(skip);
        }
        world.store.deliver(b"Subject: x\r\n\r\nx\r\n");
    }
    world
}

fn all_but_last(lines: &[String]) -> &[String] {
    lines.split_last().unwrap().1
}

#[tokio::test]
async fn select_reads_nothing_and_one_message_one_page() {
    let world = spread().await;
    let mut alice = world.alice().await;
    assert_eq!(world.store.pages(), 0);
    let lines = alice.ok("c UID FETCH 1004 FLAGS").await;
    assert_eq!(world.store.pages(), 1, "{lines:?}");
    let lines = alice.ok("d UID FETCH 2,1004 (FLAGS)").await;
    assert_eq!(world.store.pages(), 2, "{lines:?}");
    let lines = alice.ok("e UID FETCH 500:* (UID)").await;
    assert_eq!(
        all_but_last(&lines),
        ["* 4 FETCH (UID 1004)", "* 5 FETCH (UID 2005)"]
    );
}

#[tokio::test]
async fn a_message_that_went_before_its_page_was_read_keeps_its_number() {
    let world = spread().await;
    let mut alice = world.alice().await;
    world.store.remove(vec![(2, 2)]);
    let lines = alice.ok("c FETCH 1:3 (UID)").await;
    assert_eq!(
        lines,
        [
            "* 1 FETCH (UID 1)",
            "* 3 FETCH (UID 3)",
            "c OK [EXPUNGEISSUED] some messages are gone"
        ]
    );
    let lines = alice.ok("d SEARCH ALL").await;
    assert_eq!(lines[0], "* SEARCH 1 3 4 5");
    let lines = alice.ok("e STORE 2:3 +FLAGS (\\Flagged)").await;
    assert_eq!(
        lines,
        [
            "* 3 FETCH (FLAGS (\\Flagged))",
            "e OK [EXPUNGEISSUED] some messages are gone"
        ]
    );
    assert_eq!(alice.ok("f NOOP").await[0], "* 2 EXPUNGE");
}

#[tokio::test]
async fn what_was_lost_is_told_though_no_page_was_read() {
    let world = spread().await;
    let mut alice = world.alice().await;
    world.store.in_silence(|store| {
        store.remove(vec![(1, 1), (1004, 1004)]);
        store.deliver(b"Subject: y\r\n\r\ny\r\n");
    });
    world.store.resync();
    let lines = alice.ok("c NOOP").await;
    assert_eq!(
        all_but_last(&lines),
        ["* 4 EXPUNGE", "* 1 EXPUNGE", "* 4 EXISTS", "* 0 RECENT"]
    );
    let lines = alice.ok("d UID SEARCH ALL").await;
    assert_eq!(lines[0], "* SEARCH 2 3 2005 2006");
}

#[tokio::test]
async fn a_comparison_that_fails_is_made_again() {
    let world = spread().await;
    let mut alice = world.alice().await;
    world
        .store
        .in_silence(|store| store.remove(vec![(2, 2), (1004, 1004)]));
    world.store.resync();
    // Time to hear of it: then the first pages are read to be compared.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    world.store.lie_once_after(0);
    let lines = alice.ask("c UID FETCH 1 (FLAGS)").await;
    let (last, told) = lines.split_last().unwrap();
    assert!(last.starts_with("c NO "), "{lines:?}");
    assert_eq!(told, ["* 4 EXPUNGE", "* 2 EXPUNGE"]);
    let lines = alice.ok("d FETCH 1:* (UID)").await;
    assert_eq!(all_but_last(&lines).len(), 3);
}

#[tokio::test]
async fn who_cannot_be_kept_up_to_date_has_to_come_back() {
    let world = spread().await;
    let mut alice = world.alice().await;
    world.store.forget_removals();
    world.store.resync();
    alice.ok("c NOOP").await;
    world.store.in_silence(|store| store.remove(vec![(1, 1)]));
    world.store.resync();
    let lines = alice.ask("d NOOP").await;
    assert_eq!(lines, ["d OK nothing done"]);
    let bye = alice.line().await.unwrap();
    assert!(bye.starts_with("* BYE [UNAVAILABLE] changes"), "{bye}");
    assert!(alice.is_closed().await);
}

#[tokio::test]
async fn a_table_may_come_in_a_descriptor() {
    let world = spread().await;
    world.store.lend_tables();
    let mut alice = world.alice().await;
    let lines = alice.ok("c FETCH 5 (UID)").await;
    assert_eq!(lines[0], "* 5 FETCH (UID 2005)");
}

#[tokio::test]
async fn lies_about_a_mailbox_are_refused() {
    for lie in [Lie::WrongSum, Lie::Descending, Lie::Impossible] {
        let world = spread().await;
        let mut alice = world.alice().await;
        world.store.lie(Some(lie));
        let lines = alice.ask("c SELECT INBOX").await;
        assert!(lines.last().unwrap().starts_with("c NO "), "{lie:?}");
        world.store.lie(None);
        alice.ok("d SELECT INBOX").await;
    }
    for lie in [
        Lie::ForeignPage,
        Lie::ShortPage,
        Lie::NotAsked,
        Lie::NoDescriptor,
    ] {
        let world = spread().await;
        let mut alice = world.alice().await;
        world.store.lie(Some(lie));
        let lines = alice.ask("c FETCH 1 (UID)").await;
        assert!(lines.last().unwrap().starts_with("c NO "), "{lie:?}");
        world.store.lie(None);
        assert_eq!(alice.ok("d FETCH 1 (UID)").await[0], "* 1 FETCH (UID 1)");
    }
}

#[tokio::test]
async fn pages_that_do_not_fit_the_table_end_in_a_goodbye() {
    let world = spread().await;
    let mut alice = world.alice().await;
    world.store.lie(Some(Lie::Fewer));
    let lines = alice.ask("c FETCH 1 (UID)").await;
    assert!(lines.last().unwrap().starts_with("c NO "), "{lines:?}");
    let bye = alice.line().await.unwrap();
    assert!(bye.starts_with("* BYE [UNAVAILABLE] changes"), "{bye}");
}

#[tokio::test]
async fn more_pages_than_are_kept_are_fetched_searched_changed_and_copied_in_order() {
    let world = World::new().await;
    for _ in 0..40 {
        world.store.deliver(b"Subject: x\r\n\r\nx\r\n");
        world.store.skip_uids(999);
    }
    let mut alice = world.alice().await;
    let uids: Vec<u32> = (0..40).map(|n| n * 1000 + 1).collect();
    let lines = alice.ok("c FETCH 1:* (UID FLAGS)").await;
    let expected = uids.iter().zip(1..);
    let expected: Vec<String> = expected
        .map(|(uid, n)| format!("* {n} FETCH (UID {uid} FLAGS ())"))
        .collect();
    assert_eq!(all_but_last(&lines), expected);
    let lines = alice.ok("d FETCH 1:* (BODY.PEEK[TEXT])").await;
    assert_eq!(
        lines.iter().filter(|line| line.contains("FETCH")).count(),
        40
    );
    let lines = alice.ok("e STORE 1:* +FLAGS (\\Flagged)").await;
    assert_eq!(all_but_last(&lines).len(), 40);
    let numbers: Vec<String> = uids.iter().map(ToString::to_string).collect();
    for key in ["FLAGGED", "TEXT x"] {
        let lines = alice.ok(&format!("f UID SEARCH {key}")).await;
        assert_eq!(lines[0], format!("* SEARCH {}", numbers.join(" ")));
    }
    alice.ok("g CREATE Other").await;
    let lines = alice.ok("h UID COPY 1:40000 Other").await;
    let last = lines.last().unwrap();
    assert!(last.contains(&numbers.join(",")), "{last}");
    alice.ok("i STORE 3:40 +FLAGS.SILENT (\\Deleted)").await;
    let lines = alice.ok("j EXPUNGE").await;
    let expected: Vec<String> = (3..=40).rev().map(|n| format!("* {n} EXPUNGE")).collect();
    assert_eq!(all_but_last(&lines), expected);
}

#[tokio::test]
async fn sets_name_messages_that_are_there_and_numbers_must() {
    let world = spread().await;
    let mut alice = world.alice().await;
    let numbers = |lines: Vec<String>| -> Vec<String> {
        let number = |line: &String| line.split(' ').nth(1).unwrap().to_owned();
        all_but_last(&lines).iter().map(number).collect()
    };
    assert_eq!(
        numbers(alice.ok("c FETCH 2:5 (UID)").await),
        ["2", "3", "4", "5"]
    );
    assert_eq!(numbers(alice.ok("d FETCH 9:* (UID)").await), ["5"]);
    assert_eq!(numbers(alice.ok("e UID FETCH 9:1003 (UID)").await), [""; 0]);
    assert_eq!(
        numbers(alice.ok("f UID FETCH 3:1004 (UID)").await),
        ["3", "4"]
    );
    assert_eq!(numbers(alice.ok("g UID FETCH 9000:* (UID)").await), ["5"]);
    assert_eq!(
        numbers(alice.ok("h UID FETCH 4294967295 (UID)").await),
        [""; 0]
    );
    let lines = alice.ask("i FETCH 6 (UID)").await;
    assert_eq!(lines, ["i BAD there are not so many messages"]);
    alice.ok("j CREATE Empty").await;
    alice.ok("k SELECT Empty").await;
    assert_eq!(numbers(alice.ok("l UID FETCH 1:* (UID)").await), [""; 0]);
    let lines = alice.ask("m FETCH 1 (UID)").await;
    assert_eq!(lines, ["m BAD there are not so many messages"]);
}

/// 100,000 messages, of which a client knows all; then one is removed, one changed, and one comes.
async fn large_and_known() -> (World, u64) {
    let world = World::new().await;
    for _ in 0..100_000 {
        world.store.deliver(b"A: x\r\n\r\n");
    }
    let mut alice = world.alice().await;
    let status = alice.ok("c STATUS INBOX (HIGHESTMODSEQ)").await;
    let modseq = status[0].rsplit(' ').next().unwrap().trim_end_matches(')');
    let modseq = modseq.parse().unwrap();
    alice
        .ok("d UID STORE 40500 +FLAGS.SILENT (\\Flagged)")
        .await;
    world.store.remove(vec![(70_700, 70_700)]);
    world.store.deliver(b"A: y\r\n\r\n");
    (world, modseq)
}

#[tokio::test]
async fn who_comes_back_to_a_large_mailbox_has_only_those_pages_read_that_changed() {
    let (world, modseq) = large_and_known().await;
    let told = |lines: Vec<String>| -> Vec<String> {
        let is_told = |line: &String| line.contains("FETCH") || line.contains("VANISHED");
        lines.into_iter().filter(is_told).collect()
    };
    let mut bob = world.connect().await;
    bob.ok("a LOGIN alice@example.org secret-alice").await;
    bob.ok("b ENABLE QRESYNC").await;
    let before = world.store.pages();
    let lines = bob
        .ok(&format!("c SELECT INBOX (QRESYNC (7 {modseq}))"))
        .await;
    let lines = told(lines);
    assert_eq!(lines[0], "* VANISHED (EARLIER) 70700");
    assert!(lines[1].starts_with("* 40500 FETCH (UID 40500 FLAGS (\\Flagged) "));
    assert!(lines[2].starts_with("* 100000 FETCH (UID 100001 FLAGS () "));
    assert_eq!(lines.len(), 3);
    assert_eq!(world.store.pages() - before, 2);
    // Of many ranges, too, whose ends are on other pages.
    let known: Vec<String> = (0..90)
        .map(|n| format!("{}:{}", n * 1000 + 9, n * 1000 + 900))
        .collect();
    let known = known.join(",");
    let before = world.store.pages();
    let lines = bob
        .ok(&format!("d SELECT INBOX (QRESYNC (7 {modseq} {known}))"))
        .await;
    assert_eq!(told(lines).len(), 2);
    assert_eq!(world.store.pages() - before, 1);
    // The same by FETCH; one more page, to know which is the last message.
    bob.ok("e SELECT INBOX").await;
    let before = world.store.pages();
    let lines = bob
        .ok(&format!(
            "f UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)"
        ))
        .await;
    assert_eq!(told(lines).len(), 3);
    assert_eq!(world.store.pages() - before, 2);
    // What changes from now on is found as well.
    world.store.deliver(b"A: z\r\n\r\n");
    bob.ok("g UID STORE 300 +FLAGS.SILENT (\\Seen)").await;
    let lines = bob
        .ok(&format!("h UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq})"))
        .await;
    assert_eq!(told(lines).len(), 4);
}

#[tokio::test]
async fn where_removals_are_forgotten_all_that_is_not_there_is_said_to_be_gone() {
    let world = spread().await;
    world.store.remove(vec![(2, 2)]);
    world.store.forget_removals();
    let mut alice = world.connect().await;
    alice.ok("a LOGIN alice@example.org secret-alice").await;
    alice.ok("b ENABLE QRESYNC").await;
    let lines = alice.ok("c SELECT INBOX (QRESYNC (7 3 1:4,1004))").await;
    let vanished = lines.iter().find(|line| line.contains("VANISHED"));
    assert_eq!(vanished.unwrap(), "* VANISHED (EARLIER) 2,4");
    let lines = alice.ok("d UID FETCH 1:2006 (FLAGS) (CHANGEDSINCE 9 VANISHED)");
    assert_eq!(lines.await[0], "* VANISHED (EARLIER) 2,4:1003,1005:2004");
}

#[tokio::test]
async fn a_conditional_change_of_many_messages_is_asked_for_in_pieces() {
    let world = World::new().await;
    for _ in 0..2500 {
        world.store.deliver(b"A: x\r\n\r\n");
    }
    let mut alice = world.alice().await;
    let mut other = world.alice().await;
    other.ok("c STORE 2300 +FLAGS.SILENT (\\Seen)").await;
    alice.ok("c NOOP").await;
    // deliverd takes no more than 1000 messages with a condition at once.
    let lines = alice.ok("d STORE 1:* (UNCHANGEDSINCE 2500) +FLAGS.SILENT (\\Flagged)");
    let last = lines.await.pop().unwrap();
    assert!(last.starts_with("d OK [MODIFIED 2300] "), "{last}");
    let lines = alice.ok("e SEARCH RETURN (COUNT) FLAGGED").await;
    assert_eq!(lines[0], "* ESEARCH (TAG \"e\") COUNT 2499");
}

#[tokio::test]
async fn a_silent_store_is_not_silent_about_what_others_changed_right_before() {
    let world = spread().await;
    let mut alice = world.alice().await;
    alice.ok("c ENABLE CONDSTORE").await;
    alice.ok("d FETCH 1:3 (FLAGS)").await;
    let lines = alice.ok("e STORE 1:3 +FLAGS.SILENT (\\Seen)").await;
    assert_eq!(lines.len(), 4);
    assert!(!lines.concat().contains("FLAGS"), "{lines:?}");
    // Whether the order itself changes anything or not.
    for (silent, number, flag, told) in [
        ("\\Draft", 2, flag::ANSWERED, "\\Answered \\Seen \\Draft"),
        ("\\Seen", 3, flag::DELETED, "\\Deleted \\Seen \\Draft"),
    ] {
        world.store.overtake(number, flag);
        let order = format!("f STORE 1:3 +FLAGS.SILENT ({silent})");
        let lines = alice.ok(&order).await;
        let flags: Vec<_> = lines.iter().filter(|line| line.contains("FLAGS")).collect();
        assert_eq!(flags.len(), 1, "{lines:?}");
        let expected = format!("* {number} FETCH (UID {number} FLAGS ({told}) MODSEQ");
        assert!(flags[0].starts_with(&expected), "{lines:?}");
    }
}
