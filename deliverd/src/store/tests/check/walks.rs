//! Walks: rebuilding, counting, hashing, going on, and all of it while mail comes in.

use super::*;

#[test]
fn caches_are_dropped_and_whoever_has_the_mailbox_selected_compares() {
    for how in USES {
        let (world, selected) = used(how);
        make_dir(world.path("INBOX/.cache/text"));
        put(world.path("INBOX/.cache/text/0000"), "12345");
        let (seen, rows) = walk(world.store(), Work::Rebuild, &Scope::Everything);
        assert_eq!(seen.mailboxes, 6, "{how:?}");
        // The index may be there too.
        assert!(seen.bytes >= 5, "{how:?}");
        assert_eq!(rows, [], "{how:?}");
        assert_eq!(
            files(&world.path("INBOX")),
            [".keywords", "0000", "status.json"]
        );
        if let Some((inbox, diary)) = selected {
            assert_eq!(diary.events(), [SessionEvent::Resync]);
            assert!(inbox.is_loaded(), "it is read again at once");
        }
        let records = world.records("INBOX");
        assert_eq!(records.iter().map(|record| record.keywords).sum::<u64>(), 3);
        assert_eq!(letters(&world), LETTERS);
        assert_eq!(world.append("INBOX", b"x", 0, &[]), 4);
    }
}

#[test]
fn flags_that_are_only_in_memory_survive_a_rebuild() {
    let world = world();
    for _ in 0..200 {
        world.append("INBOX", b"x", 0, &[]);
    }
    // More than are renamed at once.
    let seen = order(FlagChange::Add, flag::SEEN, &["work"]);
    world.inbox().store_flags(&vec![(1, 200)], &seen).unwrap();
    walk(world.store(), Work::Rebuild, &Scope::Everything);
    let records = world.records("INBOX");
    assert_eq!(records.len(), 200);
    assert!(
        records
            .iter()
            .all(|record| (record.flags, record.keywords) == (flag::SEEN, 1))
    );
}

#[test]
fn deliveries_and_readers_go_on_while_a_store_is_repaired_and_rebuilt() {
    let (world, _) = used(Use::Listed);
    let is_over = AtomicBool::new(false);
    let delivered = std::thread::scope(|threads| {
        let delivering = threads.spawn(|| {
            let mut delivered = 0;
            while !is_over.load(Ordering::Relaxed) && delivered < 500 {
                let done = world
                    .store()
                    .deliver(world.incoming(b"fourth"), &[owner("alice")]);
                done.unwrap();
                delivered += 1;
            }
            delivered
        });
        threads.spawn(|| {
            let order = order(FlagChange::Add, flag::SEEN, &["seen"]);
            while !is_over.load(Ordering::Relaxed) {
                records(&world.inbox());
                world.inbox().store_flags(&vec![(1, 100)], &order).unwrap();
            }
        });
        let end = End(&is_over);
        for number in 0..8 {
            put(world.path(&format!("INBOX/0000/s{number}.eml")), "stray");
            for work in [
                Work::Check,
                Work::Repair,
                Work::Rebuild,
                Work::Measure,
                Work::Hash,
            ] {
                let (_, rows) = walk(world.store(), work, &Scope::Everything);
                let wrong = rows.iter().find(|row| match row {
                    Row::Deviation(one) => !matches!(one.kind, Kind::StrayFile | Kind::Crowded),
                    Row::Hash(hash) => hash.hash.is_err(),
                    Row::Size(_) | Row::Recovered(_) | Row::Expunged(_) => false,
                });
                assert_eq!(wrong, None, "what is only under way was told");
            }
        }
        drop(end);
        delivering.join().unwrap()
    });
    let letters = letters(&world);
    let count = |text: &str| letters.iter().filter(|letter| *letter == text).count();
    assert_eq!((count("stray"), count("fourth")), (8, delivered));
    assert_eq!(letters.len(), 3 + 8 + delivered);
    assert_eq!(
        deviations(world.store(), Work::Repair)
            .iter()
            .filter(|one| !one.kind.is_note())
            .count(),
        0
    );
}

#[test]
fn what_can_be_had_back_is_counted_and_no_deviation() {
    let (world, _) = used(Use::Listed);
    world.append("Junk", b"12345", 0, &[]);
    world.user().delete_mailbox(&name("Junk")).unwrap();
    expunged::expunge(&world, "INBOX", &[1, 3]);
    let damage = |world: &World| {
        let mut damage = deviations(world.store(), Work::Repair);
        damage.retain(|one| !one.kind.is_note());
        damage
    };
    assert_eq!(damage(&world), []);
    let (seen, _) = walk(world.store(), Work::Measure, &Scope::Everything);
    assert_eq!((seen.messages, seen.expunged_messages), (1, 3));
    assert_eq!(seen.expunged_bytes, 5 + 5 + 5);
    make_dir(world.path("../.expunged/mine"));
    assert_eq!(kinds(&damage(&world)), [Kind::UnknownEntry]);
    assert!(world.path("../.expunged/mine").exists());
}

#[test]
fn a_walk_goes_on_from_any_place() {
    let (world, _) = used(Use::None);
    let sizes = |from| {
        let (_, rows) = walk_from(
            world.store(),
            Work::Measure,
            &Scope::Everything,
            from,
            &|_| true,
        );
        let sizes = rows.into_iter().map(|row| match row {
            Row::Size(size) => (size.mailbox, size.messages, size.bytes),
            row => panic!("{row:?}"),
        });
        sizes.collect::<Vec<_>>()
    };
    let all = sizes(None);
    assert_eq!(all.len(), 6);
    assert!(
        all.contains(&("example.test/alice/INBOX".into(), 3, 16)),
        "{all:?}"
    );
    assert_eq!(sizes(Some("example.test/alice/INBOX/0000")), all[3..]);
}

#[test]
fn every_message_is_hashed_by_what_its_file_holds() {
    use sha2::{Digest, Sha256};
    let (world, _) = used(Use::None);
    let hashes = || {
        let scope = Scope::User("alice@example.test".into());
        let (seen, rows) = walk(world.store(), Work::Hash, &scope);
        let hashes = rows.into_iter().map(|row| match row {
            Row::Hash(hash) => (hash.uid, hash.size, hash.hash),
            row => panic!("{row:?}"),
        });
        (seen.messages, hashes.collect::<Vec<_>>())
    };
    let expected: Vec<_> = (1..)
        .zip(LETTERS)
        .map(|(uid, text)| (uid, text.len() as u64, Ok(Sha256::digest(text).into())))
        .collect();
    assert_eq!(hashes(), (3, expected.clone()));
    std::fs::rename(
        world.path("INBOX/0000/00000002_.eml"),
        world.path("INBOX/0000/00000002_S.eml"),
    )
    .unwrap();
    assert_eq!(hashes().1, expected, "flags are no part of a message");
    std::fs::remove_file(world.path("INBOX/0000/00000001_.eml")).unwrap();
    put(world.path("INBOX/0000/00000001_.eml"), "fiRst");
    assert_ne!(hashes().1[0], expected[0]);
}

#[test]
fn scopes_keep_a_walk_to_what_they_name() {
    let (world, _) = used(Use::None);
    let other = Owner {
        local: "alice".into(),
        domain: "other.test".into(),
    };
    world.store().user(&other).unwrap();
    let seen = |scope| {
        let seen = walk(world.store(), Work::Check, &scope).0;
        (seen.users, seen.mailboxes, seen.messages)
    };
    assert_eq!(seen(Scope::Everything), (2, 12, 3));
    assert_eq!(seen(Scope::Domain("other.test".into())), (1, 6, 0));
    assert_eq!(seen(Scope::User("alice@example.test".into())), (1, 6, 3));
    let mailbox = Scope::Mailbox {
        user: "alice@example.test".into(),
        name: "inbox".into(),
    };
    assert_eq!(seen(mailbox), (0, 1, 3));
}

#[test]
fn what_a_recovery_did_is_kept() {
    let mut world = world();
    assert!(world.store().last_recovery().unwrap().is_none());
    world.append("INBOX", b"first", 0, &[]);
    world.append("INBOX", b"second", 0, &[]);
    world.append("INBOX", b"third", 0, &[]);
    // As a power cut leaves it: one name is not there, one file is empty, one is somebody else's.
    world.store = None;
    let shard = world.path("INBOX/0000");
    std::fs::remove_file(shard.join("00000001_.eml")).unwrap();
    std::fs::remove_file(shard.join("00000002_.eml")).unwrap();
    put(shard.join("00000002_.eml"), "");
    std::fs::remove_file(shard.join("00000003_.eml")).unwrap();
    put(shard.join("00000003_.eml"), "somebody else's");
    world.store = Some(Store::open(world.temp.path()).unwrap());
    let (summary, rows) = world.store().last_recovery().unwrap().unwrap();
    assert_eq!((summary.mailboxes, summary.messages), (1, 3));
    assert_eq!(
        (summary.restored, summary.replaced, summary.set_aside),
        (2, 1, 1)
    );
    let told: Vec<_> = rows
        .iter()
        .map(|row| match row {
            Row::Recovered(one) => (one.path.as_str(), one.uid, one.what.as_str()),
            row => panic!("{row:?}"),
        })
        .collect();
    let expected = [
        (INBOX, 1, "restored"),
        (INBOX, 2, "replaced"),
        (INBOX, 3, "set-aside"),
        (INBOX, 3, "restored"),
    ];
    assert_eq!(told, expected);
    // A clean start leaves it.
    world.restart();
    assert!(world.store().last_recovery().unwrap().is_some());
}

#[test]
fn annotations_are_in_order_and_half_written_ones_are_not() {
    let world = world();
    world.inbox();
    let user = world.root().join("domains/example.test/users/alice");
    for directory in [user, world.path("INBOX")] {
        put(directory.join("metadata.json"), "{}");
        set_mode(directory.join("metadata.json"), 0o600);
        assert_eq!(deviations(world.store(), Work::Check), []);
        put(directory.join(".metadata.json.new"), "{");
        let found = deviations(world.store(), Work::Repair);
        assert_eq!(kinds(&found), [Kind::Leftover]);
        assert!(directory.join("metadata.json").exists());
        assert!(!directory.join(".metadata.json.new").exists());
    }
}
