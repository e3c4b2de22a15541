//! COPY and MOVE while others change the same messages.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicU64;

use super::*;

/// Messages whose size is odd may be deleted, the others only move; the size tells who a message is.
const MESSAGES: usize = 100;
const STEPS: u64 = 60;

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// What memory says, without looking at the files again.
fn remembered(mailbox: &Arc<Mailbox>) -> Vec<Record> {
    mailbox
        .with(|state| {
            mailbox.need(state, &feed::all())?;
            Ok(state.records.iter().collect())
        })
        .unwrap()
}

fn known(records: &[Record]) -> Vec<(u32, u8, u32, u64, i64)> {
    records
        .iter()
        .map(|r| {
            (
                r.uid,
                r.flags,
                r.keywords.count_ones(),
                r.size,
                r.internal_date,
            )
        })
        .collect()
}

/// Does one of the things a client may do, between two mailboxes in either direction.
fn step(world: &World, dice: &mut Dice, moved: &AtomicU64) {
    let (from, to) = if dice.roll(2) == 0 {
        ("INBOX", "Archive")
    } else {
        ("Archive", "INBOX")
    };
    let (source, target) = (world.mailbox(from), world.mailbox(to));
    let records = remembered(&source);
    if records.is_empty() {
        return;
    }
    let picked: Vec<Record> = (0..8).map(|_| records[dice.roll(records.len())]).collect();
    let uids = |all: bool| {
        picked
            .iter()
            .filter(|record| all || record.size % 2 == 1)
            .map(|r| (r.uid, r.uid))
            .collect()
    };
    match dice.roll(8) {
        0 | 1 => source
            .store_flags(
                &uids(true),
                &order(FlagChange::Add, flag::FLAGGED, &["work"]),
            )
            .map(drop)
            .unwrap(),
        2 => source
            .store_flags(
                &uids(true),
                &order(FlagChange::Add, flag::SEEN | flag::ANSWERED, &[]),
            )
            .map(drop)
            .unwrap(),
        3 if dice.roll(4) == 0 => {
            source
                .store_flags(&uids(false), &order(FlagChange::Add, flag::DELETED, &[]))
                .unwrap();
            source.expunge(None).unwrap();
        }
        4 => {
            let transfer = source.copy(&uids(true), &world.mailbox("Junk")).unwrap();
            assert_eq!(transfer.source.len(), transfer.target.len());
        }
        _ => {
            let transfer = source.move_to(&uids(true), &target).unwrap();
            assert_eq!(transfer.source.len(), transfer.target.len());
            moved.fetch_add(transfer.source.len() as u64, Ordering::Relaxed);
        }
    }
}

#[test]
fn changes_moves_copies_and_removals_at_once_neither_fail_nor_lose_nor_double_anything() {
    let mut world = world();
    let odd = |size: usize| size % 2 == 1;
    for size in 1..=MESSAGES {
        world.append(
            if size % 3 == 0 { "Archive" } else { "INBOX" },
            &vec![b'x'; size],
            0,
            &[],
        );
    }
    let diary = Arc::new(Diary::default());
    for mailbox in ["INBOX", "Archive"] {
        world
            .mailbox(mailbox)
            .select(Arc::clone(&diary) as Arc<dyn Listener>)
            .unwrap();
    }
    let moved = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (world, moved) = (&world, &moved);
            scope.spawn(move || {
                let mut dice = Dice(thread);
                for _ in 0..STEPS {
                    step(world, &mut dice, moved);
                }
            });
        }
        let world = &world;
        scope.spawn(move || {
            for size in 0..20 {
                world.append("INBOX", &vec![b'x'; 1000 + 2 * size], 0, &[]);
            }
        });
    });
    assert!(moved.into_inner() > 200);

    let mut told: BTreeMap<u64, (u8, u64)> = BTreeMap::new();
    for event in diary.events() {
        if let SessionEvent::Changed(records) = event {
            for record in records {
                let all = told.entry(record.size).or_default();
                *all = (
                    all.0 | record.flags,
                    all.1 | u64::from(record.keywords != 0),
                );
            }
        }
    }
    let mut places = BTreeSet::new();
    for record in remembered(&world.inbox())
        .into_iter()
        .chain(remembered(&world.mailbox("Archive")))
    {
        assert!(
            places.insert(record.size),
            "a moved message is there twice: {record:?}"
        );
        let (flags, keywords) = told.get(&record.size).copied().unwrap_or_default();
        assert_eq!(
            record.flags & flags,
            flags,
            "a flag that was told was lost: {record:?}"
        );
        assert!(
            record.keywords != 0 || keywords == 0,
            "a keyword that was told was lost: {record:?}"
        );
    }
    let stay = (1..=MESSAGES)
        .filter(|size| !odd(*size))
        .chain((0..20).map(|size| 1000 + 2 * size));
    for size in stay {
        assert!(places.contains(&(size as u64)), "message {size} was lost");
    }

    let before: Vec<_> = ["INBOX", "Archive", "Junk"]
        .map(|text| remembered(&world.mailbox(text)))
        .into();
    world.crash();
    for (text, before) in ["INBOX", "Archive", "Junk"].into_iter().zip(before) {
        assert_eq!(
            known(&world.records(text)),
            known(&before),
            "{text}: memory and disk differ"
        );
    }
}

#[test]
fn of_many_moves_of_the_same_messages_each_message_obeys_exactly_one() {
    let world = world();
    for _ in 0..20 {
        world.append("INBOX", b"x", 0, &[]);
    }
    let targets = ["Archive", "Trash", "Junk", "Sent"];
    let start = std::sync::Barrier::new(targets.len());
    std::thread::scope(|scope| {
        for target in targets {
            let (world, start) = (&world, &start);
            scope.spawn(move || {
                start.wait();
                for uid in 1..=20 {
                    world
                        .inbox()
                        .move_to(&vec![(uid, uid)], &world.mailbox(target))
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(world.uids("INBOX"), [0; 0]);
    assert_eq!(
        targets
            .iter()
            .map(|target| world.uids(target).len())
            .sum::<usize>(),
        20
    );
}

#[test]
fn a_move_within_one_mailbox_gives_new_uids() {
    let world = world();
    for _ in 0..3 {
        world.append("INBOX", b"x", flag::SEEN, &["work"]);
    }
    let transfer = world
        .inbox()
        .move_to(&vec![(1, 2)], &world.inbox())
        .unwrap();
    assert_eq!((transfer.source, transfer.target), (vec![1, 2], vec![4, 5]));
    let records = world.records("INBOX");
    let seen: Vec<_> = records
        .iter()
        .map(|record| (record.uid, record.flags, record.keywords))
        .collect();
    assert_eq!(seen, [3, 4, 5].map(|uid| (uid, flag::SEEN, 1)));
}

#[test]
fn a_file_renamed_by_hand_is_copied_with_its_flags_now_and_one_that_is_gone_is_skipped() {
    let world = world();
    for _ in 0..3 {
        world.append("INBOX", b"x", 0, &[]);
    }
    let shard = world.path("INBOX").join("0000");
    std::fs::rename(shard.join("00000001_.eml"), shard.join("00000001_F.eml")).unwrap();
    std::fs::remove_file(shard.join("00000002_.eml")).unwrap();
    let transfer = world
        .inbox()
        .copy(&vec![(1, 3)], &world.mailbox("Archive"))
        .unwrap();
    assert_eq!((transfer.source, transfer.target), (vec![1, 3], vec![1, 2]));
    assert_eq!(
        files(&world.path("Archive/0000")),
        ["00000001_F.eml", "00000002_.eml"]
    );
}

#[test]
fn a_move_whose_target_cannot_be_written_leaves_the_source_as_it_was() {
    let world = world();
    world.append("INBOX", b"x", 0, &[]);
    let archive = world.mailbox("Archive");
    archive.status().unwrap();
    let (shard, away) = (world.path("Archive/0000"), world.path("Archive/away"));
    std::fs::rename(&shard, &away).unwrap();
    assert_eq!(
        world.inbox().move_to(&vec![(1, 1)], &archive),
        Err(Refusal::StorageFault)
    );
    std::fs::rename(&away, &shard).unwrap();
    assert_eq!((files(&shard), world.uids("INBOX")), (vec![], vec![1]));
    let transfer = world.inbox().move_to(&vec![(1, 1)], &archive).unwrap();
    assert_eq!((transfer.target, world.uids("INBOX")), (vec![2], vec![]));
}

#[test]
fn a_file_with_as_many_names_as_the_file_system_allows_is_copied_byte_by_byte() {
    let world = world();
    world.append("INBOX", b"hello", flag::SEEN, &["work"]);
    let file = world.path("INBOX/0000/00000001_S.eml");
    let names = world.temp.path().join("names");
    std::fs::create_dir(&names).unwrap();
    let full = (0..70_000)
        .any(|number| std::fs::hard_link(&file, names.join(number.to_string())).is_err());
    if !full {
        println!("SKIPPED: this file system allows more than 70,000 names of a file");
        return;
    }
    let transfer = world
        .inbox()
        .copy(&vec![(1, 1)], &world.mailbox("Archive"))
        .unwrap();
    assert_eq!(transfer.target, [1]);
    let copy = world
        .path("Archive/0000/00000001_S.eml")
        .metadata()
        .unwrap();
    let source = file.metadata().unwrap();
    assert_ne!(copy.ino(), source.ino());
    assert_eq!(
        (copy.len(), copy.mtime(), copy.mode(), copy.nlink()),
        (5, source.mtime(), source.mode(), 1)
    );
    assert_eq!(read(&world.mailbox("Archive"), 1), b"hello");
    assert_eq!(
        known(&world.records("Archive")),
        known(&world.records("INBOX"))
    );
    assert_eq!(files(&world.root().join(".incoming")), [""; 0]);
}

#[test]
fn a_name_taken_by_hand_costs_no_other_copy_its_keywords() {
    let world = world();
    for _ in 0..2 {
        world.append("INBOX", b"x", 0, &["work"]);
    }
    assert!(world.uids("Archive").is_empty());
    let by_hand = world.path("Archive/0000/00000002_.eml");
    std::fs::write(by_hand, "by hand").unwrap();
    let copied = world
        .inbox()
        .copy(&vec![(1, 2)], &world.mailbox("Archive"))
        .unwrap();
    assert_eq!(copied.target, [1, 3]);
    let keywords = |world: &World| -> Vec<(u32, u64)> {
        let records = world.records("Archive");
        records.iter().map(|r| (r.uid, r.keywords)).collect()
    };
    assert_eq!(keywords(&world), [(1, 1), (3, 1), (4, 0)]);
}
