//! Files made, renamed and planted by hand.

use super::*;

#[test]
fn files_made_by_hand_are_taken_in() {
    let mut world = world();
    for _ in 0..3 {
        world.append("INBOX", b"x", 0, &[]);
    }
    world.restart();
    let shard = world.path("INBOX").join("0000");
    std::fs::write(shard.join("hello.eml"), "by hand").unwrap();
    std::fs::write(shard.join("00000002_S.eml"), "another file").unwrap();
    std::fs::hard_link(shard.join("00000003_.eml"), shard.join("00000003_FS.eml")).unwrap();
    std::fs::write(shard.join("notes.txt"), "not mail").unwrap();
    std::fs::write(shard.join("00000500_F.eml"), "higher").unwrap();
    world.crash();
    let records = world.records("INBOX");
    let seen: Vec<_> = records
        .iter()
        .map(|record| (record.uid, record.flags))
        .collect();
    assert_eq!(
        seen[..4],
        [
            (1, 0),
            (2, 0),
            (3, flag::FLAGGED | flag::SEEN),
            (500, flag::FLAGGED)
        ]
    );
    assert_eq!(
        seen.iter().map(|(uid, _)| *uid).collect::<Vec<_>>(),
        [1, 2, 3, 500, 501, 502]
    );
    assert!(shard.join("notes.txt").exists());
    let names = files(&shard);
    assert!(
        names.contains(&"00000502_.eml".to_owned()) && !names.contains(&"hello.eml".to_owned()),
        "{names:?}"
    );
    assert_eq!(world.append("INBOX", b"x", 0, &[]), 503);
}

#[test]
fn a_file_renamed_by_hand_while_running_is_found_again() {
    let world = world();
    world.append("INBOX", b"x", 0, &[]);
    world.append("INBOX", b"y", 0, &[]);
    let diary = Arc::new(Diary::default());
    world
        .inbox()
        .select(Arc::clone(&diary) as Arc<dyn Listener>)
        .unwrap();
    let shard = world.path("INBOX").join("0000");
    std::fs::rename(shard.join("00000001_.eml"), shard.join("00000001_F.eml")).unwrap();
    std::fs::remove_file(shard.join("00000002_.eml")).unwrap();
    assert_eq!(world.inbox().open(&[1, 2, 3]).unwrap().len(), 1);
    world
        .inbox()
        .store_flags(&vec![(1, 2)], &order(FlagChange::Add, flag::SEEN, &[]))
        .unwrap();
    assert_eq!(files(&shard), ["00000001_FS.eml"]);
    let events = diary.events();
    assert!(
        matches!(&events[0], SessionEvent::Changed(records) if records[0].flags == flag::FLAGGED),
        "{events:?}"
    );
    assert_eq!(events[1], SessionEvent::Removed(vec![(2, 2)]));
}

#[test]
fn what_is_done_by_hand_while_running_is_seen_at_the_next_select() {
    let world = world();
    for _ in 0..3 {
        world.append("INBOX", b"x", 0, &[]);
    }
    assert_eq!(world.uids("INBOX"), [1, 2, 3]);
    let diary = Arc::new(Diary::default());
    let selected = world
        .inbox()
        .select(Arc::clone(&diary) as Arc<dyn Listener>)
        .unwrap();
    let shard = world.path("INBOX").join("0000");
    std::fs::rename(shard.join("00000001_.eml"), shard.join("00000001_S.eml")).unwrap();
    std::fs::remove_file(shard.join("00000003_.eml")).unwrap();
    std::fs::write(shard.join("hello.eml"), "by hand").unwrap();
    std::fs::write(shard.join("00000002_F.eml"), "another file").unwrap();
    std::fs::write(shard.join("00000010_D.eml"), "with a uid").unwrap();
    let records = world.records("INBOX");
    let seen: Vec<_> = records
        .iter()
        .map(|record| (record.uid, record.flags))
        .collect();
    assert_eq!(seen[..3], [(1, flag::SEEN), (2, 0), (10, flag::DRAFT)]);
    assert_eq!(
        seen.iter().map(|(uid, _)| *uid).collect::<Vec<_>>(),
        [1, 2, 10, 11, 12]
    );
    let events = diary.events();
    assert_eq!(events[0], SessionEvent::Removed(vec![(3, 3)]));
    assert!(
        matches!(&events[1], SessionEvent::Changed(records) if records.len() == 1),
        "{events:?}"
    );
    assert!(
        matches!(&events[2..], [SessionEvent::Added(a), SessionEvent::Added(b)] if (a.len(), b.len()) == (1, 2)),
        "{events:?}"
    );
    assert_eq!(
        world.user().totals().unwrap(),
        super::mailbox::Totals {
            messages: 5,
            bytes: 31
        }
    );
    world.inbox().unselect(selected.selection);
    std::fs::create_dir(world.path("INBOX/0002")).unwrap();
    std::fs::write(world.path("INBOX/0002/00002000_.eml"), "in a new shard").unwrap();
    assert_eq!(world.uids("INBOX").last(), Some(&2000));
    std::fs::remove_dir_all(world.path("INBOX/0002")).unwrap();
    assert_eq!(world.uids("INBOX"), [1, 2, 10, 11, 12]);
    assert_eq!(world.append("INBOX", b"x", 0, &[]), 2001);
}

#[test]
fn a_planted_link_is_no_message_and_no_mailbox() {
    use std::os::unix::fs::symlink;
    let mut world = world();
    world.append("INBOX", b"x", 0, &[]);
    let secret = world.temp.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    symlink(&secret, world.path("INBOX/0000/00000002_.eml")).unwrap();
    symlink(world.temp.path(), world.path("INBOX/0001")).unwrap();
    symlink(world.temp.path(), world.path("Evil")).unwrap();
    world.crash();
    assert_eq!(world.uids("INBOX"), [1]);
    assert!(world.user().mailbox(&name("Evil")).is_err());
    // A link put in place of a message that is known.
    std::fs::remove_file(world.path("INBOX/0000/00000001_.eml")).unwrap();
    symlink(&secret, world.path("INBOX/0000/00000001_.eml")).unwrap();
    world.append("INBOX", b"y", 0, &[]);
    // The link that had the name of UID 2 has another one now.
    let opened = world.inbox().open(&[1, 2, 3]).unwrap();
    assert_eq!(
        opened.into_iter().map(|(uid, _)| uid).collect::<Vec<_>>(),
        [2]
    );
}

#[test]
fn hostile_owners_stay_inside_the_tree() {
    let world = world();
    for local in [
        "../../../../evil",
        ".",
        "..",
        ".removed-1-bob",
        "a/b",
        "%2e",
    ] {
        let owner = Owner {
            local: local.into(),
            domain: "example.test".into(),
        };
        world
            .store()
            .deliver(world.incoming(b"x"), &[owner])
            .unwrap();
    }
    let users = files(&world.root().join("domains/example.test/users"));
    assert_eq!(
        users,
        [
            "%252e",
            "%2E",
            "%2E.",
            "%2E.%2F..%2F..%2F..%2Fevil",
            "%2Eremoved-1-bob",
            "a%2Fb"
        ]
    );
    assert_eq!(files(world.temp.path()), ["mailstore"]);
}
