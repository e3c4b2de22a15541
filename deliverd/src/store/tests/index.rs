//! The index: with it, without it, and with whatever may have become of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::store::dice::Dice;
use crate::store::mailbox::LongReading;
use crate::store::refresh::Time;

/// A message as clients see it.
type Seen = (u32, u8, Vec<String>, u64, i64);

/// What clients see of a mailbox.
fn seen(world: &World, mailbox: &str) -> Vec<Seen> {
    let mailbox = world.mailbox(mailbox);
    let selected = mailbox.select(Arc::new(Silent)).unwrap();
    mailbox.unselect(selected.selection);
    let named = |bits: u64| {
        let names = selected.keywords.iter().enumerate();
        let names = names.filter(|(at, _)| bits & 1 << at != 0);
        let mut names: Vec<String> = names.map(|(_, name)| name.clone()).collect();
        names.sort();
        names
    };
    let records = mailbox.records().unwrap().into_iter();
    records
        .map(|r| (r.uid, r.flags, named(r.keywords), r.size, r.internal_date))
        .collect()
}

fn filled(messages: usize) -> World {
    let world = world();
    for at in 0..messages {
        let keywords: &[&str] = if at % 3 == 0 { &["work"] } else { &[] };
        let flags = if at % 2 == 0 { flag::SEEN } else { 0 };
        world.append("INBOX", &vec![b'x'; at + 1], flags, keywords);
    }
    world
}

/// Files of a mailbox made by hand: one message in each of so many shards.
pub(super) fn wide(shards: u32) -> World {
    let mut world = world();
    world.user();
    world.store = None;
    for shard in 0..shards {
        let shard_path = world.path("INBOX").join(format!("{shard:04}"));
        std::fs::create_dir_all(&shard_path).unwrap();
        std::fs::write(
            shard_path.join(format!("{:08}_.eml", shard * 1000 + 1)),
            "x",
        )
        .unwrap();
    }
    world.store = Some(Store::open(world.temp.path()).unwrap());
    world.uids("INBOX");
    world
}

/// Waits until the mailbox was compared with its files.
pub(super) fn compared(mailbox: &Arc<Mailbox>) {
    while mailbox
        .with(|state| {
            let mut shards = state.records.shards();
            Ok(!state.to_compare.is_empty() || shards.any(|(_, known)| !known.is_verified))
        })
        .unwrap()
    {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_clean_stop_loses_nothing_that_only_the_index_knows() {
    let mut world = filled(5);
    world
        .inbox()
        .store_flags(&vec![(2, 2)], &order(FlagChange::Add, flag::DELETED, &[]))
        .unwrap();
    let before = world.inbox().status().unwrap().highest_modseq;
    world.inbox().expunge(None).unwrap();
    let (records, status) = (world.records("INBOX"), world.inbox().status().unwrap());
    let dates = world.inbox().save_dates(&feed::all()).unwrap();
    world.restart();
    assert_eq!(world.records("INBOX"), records);
    assert_eq!(world.inbox().status().unwrap(), status);
    assert_eq!(world.inbox().save_dates(&feed::all()).unwrap(), dates);
    assert_eq!(
        world.inbox().removed_since(before).unwrap(),
        Some(vec![(2, 2)])
    );
    assert_eq!(dates.len(), 4);
}

#[test]
fn without_the_index_everything_is_as_the_files_say_and_newer_than_before() {
    let mut world = filled(5);
    let (messages, status) = (seen(&world, "INBOX"), world.inbox().status().unwrap());
    world.store().save();
    world.store = None;
    std::fs::remove_dir_all(world.path("INBOX/.cache")).unwrap();
    world.store = Some(Store::open(world.temp.path()).unwrap());
    assert_eq!(seen(&world, "INBOX"), messages);
    let now = world.inbox().status().unwrap();
    assert!(now.highest_modseq > status.highest_modseq);
    assert_eq!(
        (now.uid_validity, now.uid_next, now.mailbox_id),
        (status.uid_validity, status.uid_next, status.mailbox_id)
    );
    // Nobody can say what was removed before.
    assert_eq!(world.inbox().removed_since(1).unwrap(), None);
}

#[test]
fn no_damage_to_the_index_changes_what_clients_see() {
    let mut dice = Dice::new(7);
    let mut world = filled(6);
    let expected = seen(&world, "INBOX");
    for round in 0..60 {
        world.store().save();
        world.store = None;
        let name = if round % 2 == 0 { "table" } else { "pages" };
        let path = world.path("INBOX/.cache").join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        match dice.below(4) {
            0 => bytes.truncate(dice.below(bytes.len())),
            1 => bytes.fill(0),
            _ => {
                // Near the end, where the messages are.
                let at = bytes.len() - 1 - dice.below(bytes.len().min(140));
                bytes[at] ^= 1 << dice.below(8);
            }
        }
        std::fs::write(&path, bytes).unwrap();
        world.store = Some(Store::open(world.temp.path()).unwrap());
        assert_eq!(seen(&world, "INBOX"), expected, "round {round}");
        // Something to write the index for.
        let (add, remove) = (FlagChange::Add, FlagChange::Remove);
        for change in [add, remove] {
            world
                .inbox()
                .store_flags(&vec![(2, 2)], &order(change, flag::FLAGGED, &[]))
                .unwrap();
        }
    }
}

#[test]
fn an_old_index_is_corrected_by_the_files() {
    let mut world = filled(4);
    world.store().save();
    let old = world.temp.path().join("old");
    let cache = world.path("INBOX/.cache");
    copy(&cache, &old);
    world.append("INBOX", b"new", flag::FLAGGED, &["home"]);
    world
        .inbox()
        .store_flags(
            &vec![(1, 2)],
            &order(FlagChange::Replace, flag::DELETED, &[]),
        )
        .unwrap();
    world.inbox().expunge(Some(&vec![(1, 1)])).unwrap();
    world
        .inbox()
        .store_flags(&vec![(3, 3)], &order(FlagChange::Add, 0, &["later"]))
        .unwrap();
    let (expected, status) = (seen(&world, "INBOX"), world.inbox().status().unwrap());
    let modseqs =
        |world: &World| -> Vec<u64> { world.records("INBOX").iter().map(|r| r.modseq).collect() };
    let before = modseqs(&world);
    world.store().save();
    world.store = None;
    std::fs::remove_dir_all(&cache).unwrap();
    copy(&old, &cache);
    // A process that was killed leaves an old index, and no word of an orderly end.
    std::fs::remove_file(world.root().join(".journal/stopped")).unwrap();
    world.store = Some(Store::open(world.temp.path()).unwrap());
    assert_eq!(seen(&world, "INBOX"), expected);
    let after = modseqs(&world);
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before <= after),
        "{before:?} {after:?}"
    );
    let now = world.inbox().status().unwrap();
    assert!(now.highest_modseq >= status.highest_modseq);
    assert_eq!(now.uid_next, status.uid_next);
    let since = before[0] - 1;
    assert_eq!(
        world.inbox().removed_since(since).unwrap(),
        Some(vec![(1, 1)])
    );
}

#[test]
fn a_message_that_changed_there_and_back_is_newer_than_an_old_index_says() {
    let mut world = filled(2);
    world.store().save();
    let old = world.temp.path().join("old");
    copy(&world.path("INBOX/.cache"), &old);
    for change in [FlagChange::Add, FlagChange::Remove] {
        world
            .inbox()
            .store_flags(&vec![(2, 2)], &order(change, flag::FLAGGED, &[]))
            .unwrap();
    }
    let before = modseqs(&world);
    killed_with(&mut world, &old);
    let after = modseqs(&world);
    assert!(after[1] >= before[1], "{before:?} {after:?}");
}

#[test]
fn a_keyword_that_changed_there_and_back_makes_a_message_newer_too() {
    let mut world = filled(1);
    // So that the time of its file says nothing.
    std::thread::sleep(Duration::from_millis(2100));
    world.store().save();
    let old = world.temp.path().join("old");
    copy(&world.path("INBOX/.cache"), &old);
    for change in [FlagChange::Add, FlagChange::Remove] {
        world
            .inbox()
            .store_flags(&vec![(1, 1)], &order(change, 0, &["later"]))
            .unwrap();
    }
    let before = modseqs(&world);
    killed_with(&mut world, &old);
    let after = modseqs(&world);
    assert!(after[0] >= before[0], "{before:?} {after:?}");
}

#[test]
fn what_changed_there_and_back_is_not_older_without_an_index() {
    let mut world = filled(2);
    std::thread::sleep(Duration::from_millis(20));
    for change in [FlagChange::Add, FlagChange::Remove] {
        world
            .inbox()
            .store_flags(&vec![(1, 1)], &order(change, 0, &["later"]))
            .unwrap();
        // Of many changes names and keyword files show the last one: nothing, after these two.
        world
            .inbox()
            .store_flags(&vec![(1, 2)], &order(change, flag::FLAGGED, &[]))
            .unwrap();
    }
    let before = modseqs(&world);
    world.store().save();
    world.store = None;
    std::fs::remove_dir_all(world.path("INBOX/.cache")).unwrap();
    world.store = Some(Store::open(world.temp.path()).unwrap());
    let after = modseqs(&world);
    let is_older = before.iter().zip(&after).any(|(old, new)| new < old);
    assert!(!is_older, "{before:?} {after:?}");
}

fn modseqs(world: &World) -> Vec<u64> {
    let records = world.records("INBOX");
    records.iter().map(|record| record.modseq).collect()
}

/// A process that was killed leaves an old index, and no word of an orderly end.
fn killed_with(world: &mut World, old: &Path) {
    world.store().save();
    world.store = None;
    let cache = world.path("INBOX/.cache");
    std::fs::remove_dir_all(&cache).unwrap();
    copy(old, &cache);
    std::fs::remove_file(world.root().join(".journal/stopped")).unwrap();
    world.store = Some(Store::open(world.temp.path()).unwrap());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for name in files(from) {
        std::fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

#[test]
fn edits_by_hand_while_nobody_looked_are_noticed_with_an_index() {
    let mut world = filled(4);
    world.store().save();
    world.store = None;
    let shard = world.path("INBOX/0000");
    std::fs::rename(shard.join("00000002_.eml"), shard.join("00000002_F.eml")).unwrap();
    std::fs::remove_file(shard.join("00000003_S.eml")).unwrap();
    std::fs::write(shard.join("hello.eml"), "by hand").unwrap();
    std::fs::write(shard.join("00000009_.eml"), "ninth").unwrap();
    std::fs::write(world.path("INBOX/.keywords/0000"), "00000001 play\n").unwrap();
    world.store = Some(Store::open(world.temp.path()).unwrap());
    let messages: Vec<_> = seen(&world, "INBOX").iter().map(|m| (m.0, m.1)).collect();
    let expected = [(1, flag::SEEN), (2, flag::FLAGGED), (4, 0), (9, 0), (10, 0)];
    assert_eq!(messages, expected);
    let selected = world.inbox().select(Arc::new(Silent)).unwrap();
    let first = world.records("INBOX")[0];
    let at = selected
        .keywords
        .iter()
        .position(|name| name == "play")
        .unwrap();
    assert_eq!(first.keywords, 1 << at);
    assert_eq!(world.records("INBOX")[2].keywords, 0);
}

#[test]
fn keywords_edited_by_hand_while_running_are_seen_at_the_next_select() {
    let world = filled(4);
    let diary = Arc::new(Diary::default());
    world
        .inbox()
        .select(Arc::clone(&diary) as Arc<dyn Listener>)
        .unwrap();
    world.store().save();
    std::fs::write(world.path("INBOX/.keywords/0000"), "00000002 play work\n").unwrap();
    let keywords = |uid: usize| world.records("INBOX")[uid - 1].keywords;
    assert_eq!((keywords(1), keywords(2), keywords(4)), (0, 3, 0));
    let told = diary.events();
    assert!(matches!(&told[0], SessionEvent::Keywords(names) if names[..] == ["work", "play"]));
    assert!(
        matches!(&told[1], SessionEvent::Changed(records) if records.len() == 3),
        "{told:?}"
    );
}

#[test]
fn a_large_mailbox_takes_mail_without_being_read() {
    let mut world = wide(200);
    world.restart();
    world.append("INBOX", b"y", 0, &[]);
    let in_memory = world
        .inbox()
        .with(|state| Ok(state.records.in_memory()))
        .unwrap();
    assert_eq!(in_memory, 2);
    assert_eq!(world.inbox().status().unwrap().messages, 201);
    assert_eq!(world.uids("INBOX").len(), 201);
}

#[test]
fn what_was_done_by_hand_in_a_large_mailbox_is_told_after_select() {
    let mut world = wide(200);
    world.restart();
    world.store = None;
    let (first, last) = (world.path("INBOX/0003"), world.path("INBOX/0199"));
    std::fs::rename(first.join("00003001_.eml"), first.join("00003001_F.eml")).unwrap();
    std::fs::write(first.join("hello.eml"), "by hand").unwrap();
    std::fs::remove_file(last.join("00199001_.eml")).unwrap();
    std::fs::remove_dir_all(world.path("INBOX/0100")).unwrap();
    world.store = Some(Store::open(world.temp.path()).unwrap());
    let diary = Arc::new(Diary::default());
    let selected = world
        .inbox()
        .select(Arc::clone(&diary) as Arc<dyn Listener>)
        .unwrap();
    compared(&world.inbox());
    let lines = selected.shards.iter();
    let mut counts: BTreeMap<u32, u16> = lines.map(|line| (line.shard, line.messages)).collect();
    let mut changed = Vec::new();
    for event in diary.events() {
        match event {
            SessionEvent::Added(records) => {
                for record in records {
                    *counts.entry(record.uid / 1000).or_default() += 1;
                }
            }
            SessionEvent::Changed(records) => {
                changed.extend(records.iter().map(|record| (record.uid, record.flags)));
            }
            SessionEvent::Removed(uids) => {
                for uid in uids.into_iter().flat_map(|(first, last)| first..=last) {
                    *counts.get_mut(&(uid / 1000)).unwrap() -= 1;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    counts.retain(|_, messages| *messages != 0);
    let now: Vec<(u32, u8)> = seen(&world, "INBOX").iter().map(|m| (m.0, m.1)).collect();
    let mut there = BTreeMap::new();
    for (uid, _) in &now {
        *there.entry(uid / 1000).or_default() += 1;
    }
    assert_eq!(counts, there, "what was told at SELECT and since");
    assert!(changed.contains(&(3001, flag::FLAGGED)), "{changed:?}");
    assert_eq!(now.len(), 199);
    assert!(
        now.contains(&(3001, flag::FLAGGED)) && now.contains(&(199_002, 0)),
        "{now:?}"
    );
}

#[test]
fn nobody_waits_for_a_large_mailbox_of_somebody_else_to_be_read() {
    let mut world = wide(100);
    world.restart();
    world.store = None;
    std::fs::remove_dir_all(world.path("INBOX/.cache")).unwrap();
    world.store = Some(Store::open(world.temp.path()).unwrap());
    let deliver = |to: &[Owner]| world.store().deliver(world.incoming(b"new"), to);
    let (alice, bob) = (owner("alice"), owner("bob"));
    // It is begun, and not waited for.
    assert_eq!(deliver(std::slice::from_ref(&alice)), Err(Refusal::Busy));
    deliver(std::slice::from_ref(&bob)).unwrap();
    let is_read = || match deliver(std::slice::from_ref(&alice)) {
        Err(Refusal::Busy) => false,
        other => other.is_ok(),
    };
    while !is_read() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(world.uids("INBOX").len(), 101);
    // Somebody else has it read.
    let inbox = world.inbox();
    let _reading = LongReading::begin(&inbox);
    let _slot = inbox.lock();
    assert_eq!(deliver(&[bob, alice]), Err(Refusal::Busy));
}

#[test]
fn what_is_done_by_hand_is_told_to_who_waits() {
    let world = filled(2);
    let diary = Arc::new(Diary::default());
    let selected = world
        .inbox()
        .select(Arc::clone(&diary) as Arc<dyn Listener>)
        .unwrap();
    let shard = world.path("INBOX/0000");
    std::fs::write(shard.join("hello.eml"), "by hand").unwrap();
    std::fs::create_dir(world.path("INBOX/0001")).unwrap();
    std::fs::write(world.path("INBOX/0001/00001000_S.eml"), "a shard").unwrap();
    world.store().shared.look_around();
    compared(&world.inbox());
    let added: Vec<u32> = diary
        .events()
        .into_iter()
        .flat_map(|event| match event {
            SessionEvent::Added(records) => records,
            other => panic!("{other:?}"),
        })
        .map(|record| record.uid)
        .collect();
    assert_eq!(added, [1000, 1001]);
    world.inbox().unselect(selected.selection);
}

#[test]
fn totals_of_a_mailbox_nobody_uses_come_from_its_index() {
    let mut world = wide(3);
    world.restart();
    assert_eq!(world.user().totals().unwrap().messages, 3);
    assert!(!world.inbox().is_loaded());
    world.crash();
    assert_eq!(world.user().totals().unwrap().messages, 3);
    assert!(world.inbox().is_loaded(), "after a crash it has to look");
}

#[test]
fn a_time_that_may_not_show_the_next_change_is_not_trusted() {
    let world = world();
    let inbox = world.inbox();
    let (now, old): (Time, Time) = ((crate::clock::seconds(), 5), (1_000_000_000, 5));
    assert_eq!(inbox.trusted(old), Some(old));
    assert_eq!(
        inbox.trusted(now).is_some(),
        world.store().shared.has_fine_times
    );
}

#[test]
fn shards_nobody_has_read_stay_in_an_index_whose_pages_are_gone() {
    let mut world = wide(3);
    world.store().save();
    world.store = None;
    std::fs::remove_file(world.path("INBOX/.cache/pages")).unwrap();
    world.store = Some(Store::open(world.temp.path()).unwrap());
    // Only the newest shard is needed for this.
    world.append("INBOX", b"y", 0, &[]);
    world.restart();
    assert_eq!(world.user().totals().unwrap().messages, 4);
    assert_eq!(world.uids("INBOX"), [1, 1001, 2001, 2002]);
}

#[test]
fn a_keyword_file_as_young_as_the_one_before_is_read() {
    let mut world = filled(1);
    world.store().save();
    world.store = None;
    let path = world.path("INBOX/.keywords/0000");
    let time = path.metadata().unwrap().modified().unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "00000001 later\n").unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(time).unwrap();
    world.store = Some(Store::open(world.temp.path()).unwrap());
    assert_eq!(seen(&world, "INBOX")[0].2, ["later"]);
}

#[test]
fn a_message_that_is_renamed_while_its_mailbox_is_first_read_keeps_its_uid() {
    const MESSAGES: u32 = 400;
    let mut world = world();
    for _ in 0..MESSAGES {
        world.append("INBOX", b"x", 0, &[]);
    }
    let shard = world.path("INBOX/0000");
    let path = |uid: u32, flags: &str| shard.join(format!("{uid:08}_{flags}.eml"));
    for with_index in [false, true].repeat(8) {
        world.store().save();
        if !with_index {
            std::fs::remove_dir_all(world.path("INBOX/.cache")).unwrap();
        }
        world.crash();
        let is_read = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..1000 {
                    if is_read.load(Ordering::Relaxed) {
                        break;
                    }
                    for (from, to) in [("", "S"), ("S", "")] {
                        for uid in 1..=MESSAGES {
                            std::fs::rename(path(uid, from), path(uid, to)).unwrap();
                        }
                    }
                }
            });
            // The second reading finds what the first one passed over.
            let readings = [(); 3].map(|()| world.uids("INBOX"));
            is_read.store(true, Ordering::Relaxed);
            for uids in readings {
                assert!(uids.into_iter().eq(1..=MESSAGES));
            }
        });
    }
}
