//! Each kind of damage.

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

#[test]
fn a_file_whose_name_is_no_messages_gets_a_uid() {
    mends(Kind::StrayFile, 2, &["fourth", "fifth"], |world| {
        put(world.path("INBOX/0000/hello.eml"), "fourth");
        put(world.path("INBOX/0000/4294967290_.eml"), "fifth");
    });
}

#[test]
fn a_second_file_of_a_uid_gets_another_one() {
    mends(Kind::DuplicateUid, 1, &["fourth"], |world| {
        put(world.path("INBOX/0000/00000002_S.eml"), "fourth");
    });
}

#[test]
fn a_second_name_of_a_message_is_removed() {
    mends(Kind::DuplicateUid, 1, &[], |world| {
        let shard = world.path("INBOX/0000");
        std::fs::hard_link(shard.join("00000002_.eml"), shard.join("00000002_S.eml")).unwrap();
    });
}

#[test]
fn a_file_in_the_shard_of_others_gets_a_uid() {
    mends(Kind::WrongShard, 1, &["fourth"], |world| {
        put(world.path("INBOX/0000/00005000_S.eml"), "fourth");
    });
}

#[test]
fn an_empty_file_is_moved_aside_and_whoever_has_it_selected_is_told() {
    for how in USES {
        let (world, selected) = used(how);
        put(world.path("INBOX/0000/00000004_.eml"), "");
        // Somebody may be copying it.
        let empty = |found: &[Deviation]| found.iter().any(|one| one.kind == Kind::EmptyFile);
        assert!(!empty(&deviations(world.store(), Work::Check)));
        grow_old(world.path("INBOX/0000/00000004_.eml"));
        if how == Use::Selected {
            assert_eq!(world.uids("INBOX"), [1, 2, 3, 4]);
        }
        // A message with a UID nobody knows of is in order.
        let others = |found: Vec<Deviation>| {
            let kept = found.into_iter().filter(|one| one.kind != Kind::UidNext);
            kept.collect::<Vec<_>>()
        };
        assert_eq!(
            kinds(&others(deviations(world.store(), Work::Check))),
            [Kind::EmptyFile]
        );
        let mended = others(deviations(world.store(), Work::Repair));
        assert_eq!(mended[0].outcome, Outcome::Mended);
        let kept = aside(&world);
        assert!(mended[0].detail.contains(&kept[0]), "{mended:?} {kept:?}");
        assert!(kept[0].ends_with("-00000004_.eml"), "{kept:?}");
        if let Some((_, diary)) = selected {
            let events = diary.events();
            assert!(
                events.contains(&SessionEvent::Removed(vec![(4, 4)])),
                "{events:?}"
            );
        }
        assert_eq!(letters(&world), LETTERS);
    }
}

#[test]
fn what_is_no_file_is_moved_aside_and_never_read() {
    mends(Kind::NotAFile, 3, &[], |world| {
        symlink("/etc/passwd", world.path("INBOX/0000/00000007_.eml")).unwrap();
        symlink("/etc", world.path("INBOX/0001")).unwrap();
        let fifo = world.path("INBOX/0000/00000008_.eml");
        let (kind, mode) = (FileType::Fifo, Mode::RUSR);
        mknodat(CWD, fifo, kind, mode, 0).unwrap();
    });
}

#[test]
fn what_the_store_has_no_use_for_is_moved_aside() {
    mends(Kind::UnknownEntry, 4, &[], |world| {
        put(world.path("INBOX/0000/notes.txt"), "x");
        put(world.path("INBOX/notes.txt"), "x");
        make_dir(world.path("INBOX/0000/00000009_.eml"));
        put(world.path("notes.txt"), "x");
    });
}

#[test]
fn a_hidden_name_a_later_version_may_use_is_left() {
    let (world, _) = used(Use::None);
    put(world.path("INBOX/.future"), "x");
    let mended = deviations(world.store(), Work::Repair);
    assert_eq!(kinds(&mended), [Kind::UnknownEntry]);
    assert_eq!(
        (mended[0].remedy, mended[0].outcome),
        (Remedy::ByHand, Outcome::Remains)
    );
    assert_eq!(mended[0].path, format!("{INBOX}/.future"));
    assert!(world.path("INBOX/.future").exists());
}

#[test]
fn hidden_directories_among_the_mailboxes_are_saved_before_they_would_be_deleted() {
    mends_while(Use::None, Kind::UnknownEntry, 1, &[], |world| {
        make_dir(world.path(".backup"));
        put(world.path(".backup/00000001_.eml"), "kept");
    });
    let (world, _) = used(Use::Listed);
    make_dir(world.path(".backup"));
    put(world.path(".backup/00000001_.eml"), "kept");
    deviations(world.store(), Work::Repair);
    let kept = aside(&world);
    let kept = world
        .root()
        .join(".aside")
        .join(&kept[0])
        .join("00000001_.eml");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "kept");
}

#[test]
fn permissions_are_set() {
    mends(Kind::Mode, 4, &[], |world| {
        set_mode(world.path("INBOX/0000/00000001_.eml"), 0o644);
        set_mode(world.path("INBOX/0000"), 0o755);
        set_mode(world.path("INBOX/status.json"), 0o666);
        set_mode(world.path("INBOX/.keywords/0000"), 0o644);
    });
}

#[test]
fn what_belongs_to_somebody_else_is_told() {
    let (world, _) = used(Use::None);
    let path = world.path("INBOX/0000/00000001_.eml");
    if std::os::unix::fs::chown(&path, Some(12345), None).is_err() {
        eprintln!("skipped: only root gives files away");
        return;
    }
    let mended = deviations(world.store(), Work::Repair);
    assert_eq!(kinds(&mended), [Kind::Owner]);
    assert_eq!(mended[0].outcome, Outcome::Remains);
}

#[test]
fn a_lost_or_damaged_status_is_written_anew_and_is_as_before_where_memory_knows_it() {
    for how in USES {
        for damage in ["", "{"] {
            let (world, _selected) = used(how);
            let before = std::fs::read_to_string(world.path("INBOX/status.json")).unwrap();
            let kind = if damage.is_empty() {
                std::fs::remove_file(world.path("INBOX/status.json")).unwrap();
                Kind::StatusMissing
            } else {
                std::fs::write(world.path("INBOX/status.json"), damage).unwrap();
                Kind::StatusDamaged
            };
            let found = deviations(world.store(), Work::Check);
            assert_eq!(kinds(&found), [kind], "{how:?}");
            let mended = deviations(world.store(), Work::Repair);
            assert_eq!(mended[0].outcome, Outcome::Mended, "{how:?} {mended:?}");
            let number = |text: &str| {
                let json: serde_json::Value = serde_json::from_str(text).unwrap();
                json["uid_validity"].as_u64().unwrap()
            };
            let now = std::fs::read_to_string(world.path("INBOX/status.json")).unwrap();
            let is_same = number(&before) == number(&now);
            assert_eq!(is_same, how == Use::Selected, "{how:?}");
            assert_eq!(letters(&world), LETTERS);
            // UIDNEXT of the new one may be behind until the mailbox is used.
            assert_eq!(deviations(world.store(), Work::Check), [], "{how:?}");
        }
    }
}

#[test]
fn a_uid_validity_that_is_none_or_anothers_is_replaced() {
    for how in USES {
        let (world, _selected) = used(how);
        std::fs::copy(
            world.path("INBOX/status.json"),
            world.path("Archive/status.json"),
        )
        .unwrap();
        std::fs::write(
            world.path("Junk/status.json"),
            r#"{"uid_validity":0,"uid_next":1}"#,
        )
        .unwrap();
        set_mode(world.path("Junk/status.json"), 0o600);
        let found = deviations(world.store(), Work::Check);
        assert_eq!(found[0].kind, Kind::UidValidity, "{how:?} {found:?}");
        assert!(
            found.iter().all(|one| !one.path.contains("INBOX")),
            "INBOX keeps its own"
        );
        let mended = deviations(world.store(), Work::Repair);
        assert!(
            mended.iter().all(|one| one.outcome == Outcome::Mended),
            "{how:?} {mended:?}"
        );
        assert_eq!(deviations(world.store(), Work::Check), [], "{how:?}");
    }
}

#[test]
fn status_that_is_behind_is_a_note_and_brought_up() {
    for how in [Use::None, Use::Listed] {
        mends_while(how, Kind::UidNext, 1, &["fourth"], |world| {
            put(world.path("INBOX/0000/00000500_.eml"), "fourth");
        });
    }
    assert!(Kind::UidNext.is_note());
}

#[test]
fn a_mailbox_whose_uids_are_nearly_used_up_is_told() {
    let (world, _) = used(Use::None);
    make_dir(world.path("INBOX/4294900"));
    put(world.path("INBOX/4294900/4294900000_.eml"), "fourth");
    let mended = deviations(world.store(), Work::Repair);
    let left: Vec<_> = mended
        .iter()
        .filter(|one| one.outcome == Outcome::Remains)
        .collect();
    assert_eq!(left.len(), 1, "{mended:?}");
    assert_eq!(left[0].kind, Kind::UidLimit);
}

#[test]
fn an_account_file_is_written_anew_with_what_memory_knows() {
    for how in USES {
        let (world, _selected) = used(how);
        let path = world.path("../account.json");
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            kinds(&deviations(world.store(), Work::Check)),
            [Kind::AccountFileMissing]
        );
        let mended = deviations(world.store(), Work::Repair);
        assert_eq!(mended[0].outcome, Outcome::Mended, "{how:?}");
        std::fs::write(&path, "[").unwrap();
        assert_eq!(
            kinds(&deviations(world.store(), Work::Check)),
            [Kind::AccountFileDamaged]
        );
        deviations(world.store(), Work::Repair);
        assert_eq!(deviations(world.store(), Work::Check), []);
        if how != Use::None {
            assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        }
    }
}

#[test]
fn keywords_of_messages_that_are_gone_are_a_note_and_cleared() {
    mends(Kind::KeywordLine, 1, &[], |world| {
        let path = world.path("INBOX/.keywords/0000");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}00000900 gone\n")).unwrap();
    });
    assert!(Kind::KeywordLine.is_note());
}

#[test]
fn a_uid_that_only_a_keyword_line_knows_is_not_given_again() {
    let (mut world, _) = used(Use::None);
    let path = world.path("INBOX/.keywords/0000");
    std::fs::write(&path, "00000900 gone\n").unwrap();
    deviations(world.store(), Work::Repair);
    assert!(!std::fs::read_to_string(&path).unwrap().contains("900"));
    world.crash();
    assert_eq!(world.append("INBOX", b"x", 0, &[]), 901);
}

#[test]
fn keywords_that_cannot_be_read_are_written_anew() {
    mends(Kind::KeywordsDamaged, 1, &[], |world| {
        let path = world.path("INBOX/.keywords/0000");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}\u{fffd}\n00000001 wo(rk\n")).unwrap();
    });
    let (world, _) = used(Use::None);
    let path = world.path("INBOX/.keywords/0000");
    std::fs::write(&path, "00000001 work\nxx\n").unwrap();
    deviations(world.store(), Work::Repair);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "00000001 work\n");
}

/// Somebody moved the three letters of INBOX away and back, so that they have lines.
fn with_ids(world: &World) -> PathBuf {
    let (inbox, archive) = (world.inbox(), world.mailbox("Archive"));
    let bare = order(FlagChange::Replace, 0, &[]);
    inbox.store_flags(&feed::all(), &bare).unwrap();
    inbox.move_to(&feed::all(), &archive).unwrap();
    archive.move_to(&feed::all(), &inbox).unwrap();
    assert!(world.store().shared.empty_journal());
    world.path("INBOX/.ids/0000")
}

#[test]
fn ids_of_messages_that_are_gone_or_of_another_mailbox_are_a_note_and_cleared() {
    for damage in ["00000900", "mailbox_id"] {
        let (mut world, _) = used(Use::None);
        let path = with_ids(&world);
        let before = world.inbox().ids(&feed::all()).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        let bad = match damage {
            "mailbox_id" => good.replace("mailbox_id ", "mailbox_id x"),
            damage => format!("{good}{damage} - {:032x}\n", 7),
        };
        std::fs::write(&path, bad).unwrap();
        let found = deviations(world.store(), Work::Check);
        assert_eq!(kinds(&found), [Kind::IdsLine], "{found:?}");
        deviations(world.store(), Work::Repair);
        assert_eq!(deviations(world.store(), Work::Check), []);
        let after = std::fs::read_to_string(&path).unwrap();
        if damage == "mailbox_id" {
            assert_eq!(after.lines().count(), 1);
        } else {
            assert_eq!(after, good);
            assert_eq!(world.inbox().ids(&feed::all()).unwrap(), before);
            world.crash();
            assert!(world.append("INBOX", b"x", 0, &[]) > 6);
        }
    }
    assert!(Kind::IdsLine.is_note());
}

#[test]
fn ids_that_cannot_be_read_are_written_anew() {
    let (world, _) = used(Use::None);
    let path = with_ids(&world);
    let good = std::fs::read_to_string(&path).unwrap();
    for bad in ["xx", "00000900 - 7", "\u{fffd}"] {
        std::fs::write(&path, format!("{good}{bad}\n")).unwrap();
        let found = deviations(world.store(), Work::Repair);
        assert_eq!(kinds(&found), [Kind::IdsDamaged], "{found:?}");
        assert_eq!(found[0].outcome, Outcome::Mended);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), good);
    }
    assert!(!Kind::IdsDamaged.is_note());
    put(world.path("INBOX/.ids/.0000.new"), "x");
    put(world.path("INBOX/.ids/0009"), "x");
    let found = deviations(world.store(), Work::Repair);
    assert_eq!(kinds(&found), [Kind::UnknownEntry, Kind::Leftover]);
    assert_eq!(deviations(world.store(), Work::Check), []);
}

#[test]
fn keywords_a_full_table_has_no_place_for_are_not_thrown_away() {
    let (world, _) = used(Use::None);
    let path = world.path("INBOX/.keywords/0000");
    let words: Vec<String> = (0..70).map(|at| format!("k{at}")).collect();
    let text = format!("00000001 {}\n00000900 gone\n", words.join(" "));
    std::fs::write(&path, &text).unwrap();
    let mended = deviations(world.store(), Work::Repair);
    assert_eq!(mended[0].outcome, Outcome::Remains);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn what_was_left_half_made_or_half_removed_is_removed() {
    mends(Kind::Leftover, 6, &[], |world| {
        make_dir(world.path(".new-17"));
        make_dir(world.path(".new-17/0000"));
        make_dir(world.path(".deleted-17/0000"));
        put(
            world.path(".deleted-17/0000/00000001_.eml"),
            "deleted by its reader",
        );
        put(world.path("INBOX/.status.json.new"), "{");
        put(world.path("INBOX/.keywords/.0000.new"), "{");
        put(world.path("../.account.json.new"), "{");
        make_dir(world.path("INBOX/.cache-dropped-17"));
    });
}

#[test]
fn a_half_made_user_is_removed_and_one_with_mail_in_it_moved_aside() {
    let (world, _) = used(Use::None);
    let users = world.root().join("domains/example.test/users");
    make_dir(users.join(".new-bob/mailboxes/INBOX/0000"));
    make_dir(users.join(".new-carol/mailboxes/INBOX/0000"));
    put(
        users.join(".new-carol/mailboxes/INBOX/0000/00000001_.eml"),
        "x",
    );
    let mended = deviations(world.store(), Work::Repair);
    assert_eq!(kinds(&mended), [Kind::Leftover; 2]);
    assert_eq!(deviations(world.store(), Work::Check), []);
    assert_eq!(files(&users), ["alice"]);
    assert!(aside(&world)[0].ends_with("-.new-carol"));
}

#[test]
fn a_mailbox_that_is_being_deleted_is_no_deviation() {
    let (world, _) = used(Use::Listed);
    make_dir(world.path(&format!(".deleted-{}", clock::micros())));
    assert_eq!(deviations(world.store(), Work::Check), []);
}

#[test]
fn a_mailbox_named_by_hand_gets_its_proper_name_and_is_shown() {
    for how in USES {
        let (world, _selected) = used(how);
        make_dir(world.path("my mail"));
        make_dir(world.path("my mail/0000"));
        put(world.path("my mail/0000/hello.eml"), "mine");
        let found = deviations(world.store(), Work::Check);
        assert_eq!(kinds(&found), [Kind::BadName], "{how:?}");
        // What is in it is looked at when it has its name.
        deviations(world.store(), Work::Repair);
        deviations(world.store(), Work::Repair);
        assert_eq!(deviations(world.store(), Work::Check), [], "{how:?}");
        assert_eq!(read(&world.mailbox("my mail"), 1), b"mine", "{how:?}");
    }
}

#[test]
fn a_name_that_cannot_be_told_is_left() {
    let (world, _) = used(Use::None);
    make_dir(world.path("inbox"));
    make_dir(world.path("a%zz"));
    let mended = deviations(world.store(), Work::Repair);
    assert_eq!(kinds(&mended), [Kind::BadName; 2]);
    assert!(mended.iter().all(|one| one.outcome == Outcome::Remains));
    assert!(world.path("inbox").is_dir());
}

#[test]
fn a_mailbox_made_while_its_user_is_in_use_is_shown() {
    let (world, _) = used(Use::Listed);
    make_dir(world.path("Copy"));
    make_dir(world.path("Copy/0000"));
    put(world.path("Copy/0000/00000001_.eml"), "copied");
    std::fs::copy(
        world.path("INBOX/status.json"),
        world.path("Copy/status.json"),
    )
    .unwrap();
    let found = deviations(world.store(), Work::Check);
    assert_eq!(kinds(&found), [Kind::NotListed], "{found:?}");
    let mended = deviations(world.store(), Work::Repair);
    assert_eq!(mended[0].outcome, Outcome::Mended);
    assert_eq!(read(&world.mailbox("Copy"), 1), b"copied");
    let validity = |name: &str| world.mailbox(name).status().unwrap().uid_validity;
    assert_ne!(validity("Copy"), validity("INBOX"));
    assert_eq!(deviations(world.store(), Work::Check), []);
}

#[test]
fn mail_without_an_account_is_told_and_nothing_of_it_is_opened() {
    let (mut world, _) = used(Use::None);
    world.store().user(&owner("bob")).unwrap();
    world.restart();
    let stray = world
        .root()
        .join("domains/example.test/users/bob/mailboxes/INBOX/0000/x.eml");
    put(&stray, "x");
    let mended = deviations(world.store(), Work::Repair);
    assert_eq!(kinds(&mended), [Kind::StrayFile, Kind::NoAccount]);
    assert!(
        mended.iter().all(|one| one.outcome == Outcome::Remains),
        "{mended:?}"
    );
    assert!(stray.exists());
}

#[test]
fn an_account_without_mail_gets_its_mailboxes() {
    let world = world();
    let compare = |repair| {
        world
            .store()
            .compare_account(&owner("alice"), repair)
            .unwrap()
    };
    let Some(Row::Deviation(found)) = compare(false) else {
        panic!()
    };
    assert_eq!(
        (found.kind, found.outcome),
        (Kind::NoDirectory, Outcome::Found)
    );
    let Some(Row::Deviation(mended)) = compare(true) else {
        panic!()
    };
    assert_eq!(mended.outcome, Outcome::Mended);
    assert_eq!(compare(false), None);
    assert_eq!(deviations(world.store(), Work::Check), []);
}

#[test]
fn a_shard_with_more_names_than_uids_is_told() {
    let (world, _) = used(Use::None);
    for number in 0..1_000 {
        put(world.path(&format!("INBOX/0000/x{number}.eml")), "x");
    }
    let found = deviations(world.store(), Work::Check);
    assert_eq!(found.len(), 1_001);
    assert_eq!(kinds(&found)[1_000], Kind::Crowded);
    let mended = deviations(world.store(), Work::Repair);
    assert!(mended.iter().all(|one| one.outcome == Outcome::Mended));
    assert_eq!(deviations(world.store(), Work::Check), []);
    assert_eq!(letters(&world).len(), 1_003);
}

#[test]
fn names_that_are_no_text_are_told_without_harm() {
    use std::os::unix::ffi::OsStrExt;
    let (world, _) = used(Use::None);
    let name = std::ffi::OsStr::from_bytes(b"\xff\x1b[31m.eml");
    put(world.path("INBOX/0000").join(name), "x");
    let mended = deviations(world.store(), Work::Repair);
    assert_eq!(kinds(&mended), [Kind::UnknownEntry]);
    assert!(
        mended[0].path.chars().all(|c| !c.is_control()),
        "{mended:?}"
    );
    assert_eq!(mended[0].outcome, Outcome::Remains);
}

#[test]
fn a_cache_that_is_no_directory_is_moved_aside() {
    mends(Kind::Cache, 1, &[], |world| {
        let path = world.path("INBOX/.cache");
        // The index may be there already.
        let _ = std::fs::remove_dir_all(&path);
        put(path, "x")
    });
}
