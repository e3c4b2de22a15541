//! The states of docs/store.md, each made by hand as the crash would leave it.

use super::*;
use crate::store::journal::Needs;

#[test]
fn a1_a_temporary_file_is_removed_at_start() {
    let mut world = world();
    std::fs::write(world.root().join(".incoming/7.eml"), "half a mess").unwrap();
    world.crash();
    assert_eq!(files(&world.root().join(".incoming")), [""; 0]);
    assert_eq!(world.uids("INBOX"), [0; 0]);
}

#[test]
fn a2_a_message_linked_but_not_acknowledged_is_kept() {
    let mut world = world();
    world.user();
    std::fs::write(world.root().join(".incoming/7.eml"), "whole message").unwrap();
    std::fs::hard_link(
        world.root().join(".incoming/7.eml"),
        world.path("INBOX/0000/00000001_.eml"),
    )
    .unwrap();
    world.crash();
    assert_eq!(world.uids("INBOX"), [1]);
    assert_eq!(world.append("INBOX", b"x", 0, &[]), 2);
}

#[test]
fn a3_keywords_without_their_message_do_not_stick_to_the_next_one() {
    let mut world = world();
    world.user();
    std::fs::create_dir(world.path("INBOX/.keywords")).unwrap();
    std::fs::write(world.path("INBOX/.keywords/0000"), "00000001 work\n").unwrap();
    world.crash();
    assert_eq!(world.append("INBOX", b"x", 0, &[]), 2);
    assert_eq!(world.records("INBOX")[0].keywords, 0);
}

#[test]
fn a4_an_empty_new_shard_is_harmless() {
    let mut world = world();
    world.user();
    std::fs::create_dir(world.path("INBOX/0007")).unwrap();
    world.crash();
    assert_eq!(world.append("INBOX", b"x", 0, &[]), 1);
}

#[test]
fn f1_a_half_done_flag_change_is_a_valid_state() {
    let mut world = world();
    for _ in 0..2 {
        world.append("INBOX", b"x", 0, &[]);
    }
    world.restart();
    std::fs::rename(
        world.path("INBOX/0000/00000001_.eml"),
        world.path("INBOX/0000/00000001_S.eml"),
    )
    .unwrap();
    world.crash();
    let flags: Vec<u8> = world
        .records("INBOX")
        .iter()
        .map(|record| record.flags)
        .collect();
    assert_eq!(flags, [flag::SEEN, 0]);
}

#[test]
fn f2_a_half_written_small_file_is_passed_over() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &["work"]);
    world.restart();
    world.append("INBOX", b"y", flag::DELETED, &["work"]);
    std::fs::write(world.path("INBOX/.status.json.new"), "{\"uid_va").unwrap();
    std::fs::write(world.path("INBOX/.keywords/.0000.new"), "0000").unwrap();
    world.crash();
    assert_eq!(world.records("INBOX")[0].keywords, 1);
    world
        .inbox()
        .store_flags(
            &vec![(1, 1)],
            &order(FlagChange::Add, flag::DELETED, &["home"]),
        )
        .unwrap();
    world.inbox().expunge(None).unwrap();
    world.store().save();
    assert_eq!(
        files(&world.path("INBOX")),
        [".cache", ".keywords", "0000", "status.json"]
    );
}

#[test]
fn e1_a_status_written_before_the_removal_only_skips_uids() {
    let mut world = world();
    world.append("INBOX", b"x", flag::DELETED, &[]);
    let text = std::fs::read_to_string(world.path("INBOX/status.json")).unwrap();
    std::fs::write(
        world.path("INBOX/status.json"),
        text.replace("\"uid_next\":1", "\"uid_next\":2"),
    )
    .unwrap();
    world.crash();
    assert_eq!(world.uids("INBOX"), [1]);
    assert_eq!(world.append("INBOX", b"x", 0, &[]), 2);
}

#[test]
fn m1_a_message_in_both_mailboxes_stays_in_both() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    std::fs::hard_link(
        world.path("INBOX/0000/00000001_.eml"),
        world.path("Trash/0000/00000001_.eml"),
    )
    .unwrap();
    world.crash();
    assert_eq!(
        (world.uids("INBOX"), world.uids("Trash")),
        (vec![1], vec![1])
    );
}

#[test]
fn b1_half_made_and_half_removed_mailboxes_and_users_are_cleaned_up() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    std::fs::create_dir_all(world.path(".new-1700000000/0000")).unwrap();
    std::fs::rename(world.path("Junk"), world.path(".deleted-1")).unwrap();
    std::fs::create_dir_all(
        world
            .root()
            .join("domains/example.test/users/.new-bob/mailboxes/INBOX"),
    )
    .unwrap();
    world.crash();
    assert_eq!(world.uids("INBOX"), [1]);
    assert_eq!(
        files(&world.path("")),
        ["Archive", "Drafts", "INBOX", "Sent", "Trash"]
    );
    world
        .store()
        .deliver(world.incoming(b"x"), &[owner("bob")])
        .unwrap();
    assert_eq!(
        files(&world.root().join("domains/example.test/users")),
        ["alice", "bob"]
    );
}

#[test]
fn b2_a_lost_account_file_costs_subscriptions_only() {
    let mut world = world();
    world.user().create_mailbox(&name("work"), None).unwrap();
    let validity = world.mailbox("work").status().unwrap().uid_validity;
    world.user().delete_mailbox(&name("Junk")).unwrap();
    std::fs::remove_file(
        world
            .root()
            .join("domains/example.test/users/alice/account.json"),
    )
    .unwrap();
    world.crash();
    world.user().create_mailbox(&name("Junk"), None).unwrap();
    assert!(world.mailbox("Junk").status().unwrap().uid_validity > validity);
}

#[test]
fn e2_a_file_that_cannot_be_removed_at_once_is_removed_later_and_never_shown() {
    let world = world();
    world.append("INBOX", b"x", flag::DELETED, &[]);
    world.append("INBOX", b"y", 0, &[]);
    let (shard, away) = (world.path("INBOX/0000"), world.path("INBOX/away"));
    std::fs::rename(&shard, &away).unwrap();
    world.inbox().expunge(None).unwrap();
    std::fs::rename(&away, &shard).unwrap();
    assert_eq!(world.uids("INBOX"), [2]);
    assert_eq!(files(&shard).len(), 2);
    world.store().save();
    assert_eq!((world.uids("INBOX"), files(&shard).len()), (vec![2], 1));
}

/// A mailbox whose keywords cannot be written, with changes that wait for it.
fn broken() -> World {
    let world = world();
    for _ in 0..3 {
        world.append("Archive", b"x", 0, &[]);
    }
    std::fs::write(world.path("Archive/.keywords"), "in the way").unwrap();
    let archive = world.mailbox("Archive");
    let add = |uid, flags, keyword: &str| {
        let order = order(FlagChange::Add, flags, &[keyword]);
        archive.store_flags(&vec![(uid, uid)], &order).unwrap();
    };
    add(1, flag::SEEN, "work");
    add(2, 0, "home");
    add(3, flag::DELETED, "gone");
    archive.expunge(None).unwrap();
    world
}

#[test]
fn g1_a_mailbox_that_cannot_be_written_does_not_keep_the_journal_full() {
    let mut world = broken();
    let shared = &world.store().shared;
    assert!(shared.empty_journal());
    assert_eq!(shared.journal.needs(), Needs::Nothing);
    assert!(shared.is_apart("domains/example.test/users/alice/"));
    assert!(!shared.is_apart("domains/example.test/users/bob/"));
    // The journal has nothing of it any more.
    world.store = None;
    std::fs::remove_file(world.path("Archive/.keywords")).unwrap();
    world.store = Some(Store::open(world.temp.path()).unwrap());
    let messages = |world: &World| -> Vec<(u32, u8, u64)> {
        let records = world.records("Archive");
        records
            .iter()
            .map(|r| (r.uid, r.flags, r.keywords))
            .collect()
    };
    assert_eq!(messages(&world), [(1, flag::SEEN, 1), (2, 0, 2)]);
    assert_eq!(world.append("Archive", b"y", 0, &[]), 4);
    assert!(!world.root().join(".journal/apart").exists());
}

#[test]
fn g2_what_was_set_apart_is_not_believed_when_the_mailbox_was_written_since() {
    let mut world = broken();
    assert!(world.store().shared.empty_journal());
    std::fs::remove_file(world.path("Archive/.keywords")).unwrap();
    let remove = order(FlagChange::Replace, 0, &[]);
    world
        .mailbox("Archive")
        .store_flags(&vec![(1, 2)], &remove)
        .unwrap();
    assert!(world.store().shared.empty_journal());
    assert!(!world.store().shared.is_apart(""));
    world.crash();
    let records = world.records("Archive");
    assert!(
        records.iter().all(|r| (r.flags, r.keywords) == (0, 0)),
        "{records:?}"
    );
}

#[test]
fn g3_a_mailbox_that_still_cannot_be_written_stops_the_start_by_name() {
    let mut world = broken();
    world.store = None;
    let refused = Store::open(world.temp.path()).err().unwrap();
    assert!(
        refused.contains("users/alice/mailboxes/Archive"),
        "{refused}"
    );
    std::fs::remove_file(world.path("Archive/.keywords")).unwrap();
    world.store = Some(Store::open(world.temp.path()).unwrap());
    assert_eq!(world.uids("Archive"), [1, 2]);
}

/// Where what was expunged from INBOX today is.
fn kept_inbox(world: &World) -> PathBuf {
    let uid_validity = world.inbox().status().unwrap().uid_validity;
    let today = crate::store::expunged::Day::today();
    world.root().join(format!(
        "domains/example.test/users/alice/.expunged/{today}/INBOX/{uid_validity}/0000"
    ))
}

#[test]
fn x1_a_message_that_is_still_in_its_mailbox_is_kept_by_the_recovery_with_its_keywords() {
    let mut world = world();
    world.append("INBOX", b"x", flag::SEEN, &["work"]);
    world.restart();
    expunged::expunge(&world, "INBOX", &[1]);
    let kept = kept_inbox(&world);
    // As if neither the name nor the line had got to disk.
    std::fs::rename(
        kept.join("00000001_ST.eml"),
        world.path("INBOX/0000/00000001_S.eml"),
    )
    .unwrap();
    std::fs::remove_dir_all(kept.join("..")).unwrap();
    world.crash();
    assert_eq!(world.uids("INBOX"), [0; 0]);
    let all = ["INBOX/.keywords/0000", "INBOX/0000/00000001_ST.eml"];
    assert_eq!(expunged::all_kept(&world), all);
    assert_eq!(expunged::undelete_all(&world), 1);
    let records = world.records("INBOX");
    assert_eq!(
        (records[0].uid, records[0].flags, records[0].keywords),
        (2, flag::SEEN, 1)
    );
}

#[test]
fn x2_a_kept_message_that_a_power_cut_left_incomplete_is_written_again() {
    for is_moved in [true, false] {
        let mut world = world();
        let text = b"whole message".repeat(1000);
        world.append("INBOX", &text, 0, &[]);
        world.append("INBOX", &text, 0, &[]);
        expunged::expunge(&world, "INBOX", &[1, 2]);
        let kept = kept_inbox(&world);
        let there = if is_moved {
            kept.clone()
        } else {
            world.path("INBOX/0000")
        };
        for (name, left) in [("00000001_T.eml", 5000), ("00000002_T.eml", 0)] {
            std::fs::remove_file(kept.join(name)).unwrap();
            std::fs::write(there.join(name), &text[..left]).unwrap();
        }
        world.crash();
        assert_eq!(world.uids("INBOX"), [0; 0]);
        assert_eq!(expunged::undelete_all(&world), 2, "moved: {is_moved}");
        for uid in [3, 4] {
            assert_eq!(read(&world.inbox(), uid), text);
        }
    }
}

#[test]
fn x3_a_message_that_was_given_back_and_is_still_kept_can_come_twice() {
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    expunged::expunge(&world, "INBOX", &[1]);
    let kept = kept_inbox(&world).join("00000001_T.eml");
    std::fs::hard_link(&kept, world.path("INBOX/0000/00000002_.eml")).unwrap();
    world.crash();
    assert_eq!(world.uids("INBOX"), [2]);
    assert_eq!(expunged::undelete_all(&world), 1);
    assert_eq!(world.uids("INBOX"), [2, 3]);
    // After the next crash the journal does not take the second one away.
    world.crash();
    assert_eq!(world.uids("INBOX"), [2, 3]);
    assert_eq!(read(&world.inbox(), 3), b"x");
}

#[test]
fn x4_a_mailbox_deleted_without_its_caches_only_is_as_it_was() {
    let mut world = world();
    world.append("Junk", b"x", flag::SEEN, &["work"]);
    world.restart();
    std::fs::rename(world.path("Junk/.cache"), world.path(".deleted-1")).unwrap();
    world.crash();
    assert_eq!(world.uids("Junk"), [1]);
    assert!(!world.path(".deleted-1").exists());
}

#[test]
fn x5_a_deleted_mailbox_that_a_power_cut_left_incomplete_is_whole_again() {
    let mut world = world();
    let text = b"whole message".repeat(1000);
    for _ in 0..3 {
        world.append("Junk", &text, 0, &["work"]);
    }
    expunged::expunge(&world, "Junk", &[3]);
    world.user().delete_mailbox(&name("Junk")).unwrap();
    let users = world
        .root()
        .join("domains/example.test/users/alice/.expunged");
    let torn = expunged::tree(&users);
    let torn = torn.iter().filter(|path| path.ends_with(".eml"));
    for path in torn {
        std::fs::remove_file(users.join(path)).unwrap();
        std::fs::write(users.join(path), &text[..4096]).unwrap();
    }
    world.crash();
    assert_eq!(expunged::undelete_all(&world), 3);
    for uid in 1..=3 {
        assert_eq!(read(&world.mailbox("Junk"), uid), text, "{uid}");
    }
    assert!(
        world
            .records("Junk")
            .iter()
            .all(|record| record.keywords == 1)
    );
}
