//! What is kept for readers: whatever happens to the files, an entry is whole or not there, and can be given again.

use std::os::unix::fs::{FileExt, symlink};

use ipc::cache::{CacheKind, ENTRIES_START, Header, Slot};

use super::*;
use crate::store::dice::Dice;

const KIND: CacheKind = CacheKind::Summary;

/// What a reader makes of a file.
fn read(file: &File, header: &Header, uid: u32) -> Option<Vec<u8>> {
    let mut beginning = vec![0; ENTRIES_START];
    file.read_exact_at(&mut beginning, 0).ok()?;
    if !header.begins(&beginning) {
        return None;
    }
    let slot = Slot::read(&beginning, uid, header.kind)?;
    let mut entry = vec![0; slot.length as usize];
    file.read_exact_at(&mut entry, slot.offset.into()).ok()?;
    slot.fits(uid, &entry).then_some(entry)
}

fn about(uid: u32) -> Vec<u8> {
    format!("what is known about {uid}").into_bytes()
}

impl World {
    /// A mailbox with so many messages.
    fn with_messages(count: u32) -> Self {
        let world = world();
        for _ in 0..count {
            world.append("INBOX", b"x", 0, &[]);
        }
        world
    }

    fn header(&self, shard: u32) -> Header {
        let uid_validity = self.inbox().status().unwrap().uid_validity;
        Header {
            kind: KIND,
            uid_validity,
            shard,
        }
    }

    fn fill(&self, uids: impl IntoIterator<Item = u32>) {
        let entries: Vec<_> = uids.into_iter().map(|uid| (uid, about(uid))).collect();
        let entries: Vec<_> = entries
            .iter()
            .map(|(uid, e)| (*uid, e.as_slice()))
            .collect();
        self.inbox().fill_cache(KIND, &entries, || true);
    }

    fn cache(&self) -> File {
        let mut opened = self.inbox().open_caches(KIND, &[0]).unwrap();
        opened.pop().unwrap().1
    }

    fn cached(&self, uid: u32) -> Option<Vec<u8>> {
        let opened = self.inbox().open_caches(KIND, &[uid / 1000]).unwrap();
        read(&opened.first()?.1, &self.header(uid / 1000), uid)
    }

    fn cache_path(&self) -> PathBuf {
        self.path("INBOX").join(".cache/summaries/0000")
    }
}

#[test]
fn what_was_given_is_read_again_whoever_asks_and_after_a_start() {
    let mut world = World::with_messages(3);
    assert!(world.inbox().open_caches(KIND, &[0]).unwrap().is_empty());
    world.fill([1, 3]);
    world.restart();
    assert_eq!(world.cached(1), Some(about(1)));
    assert_eq!(world.cached(2), None);
    assert_eq!(world.cached(3), Some(about(3)));
    let text = world.inbox().open_caches(CacheKind::Text, &[0]).unwrap();
    assert!(text.is_empty());
}

#[test]
fn entries_about_no_message_and_those_too_long_or_empty_are_not_kept() {
    let world = World::with_messages(3);
    let long = vec![b'x'; KIND.max_entry() + 1];
    let entries: [(u32, &[u8]); 4] = [(1, &long), (2, b""), (3, &long[1..]), (4, b"nobody's")];
    world.inbox().fill_cache(KIND, &entries, || true);
    assert_eq!(world.cached(1), None);
    assert_eq!(world.cached(2), None);
    assert_eq!(world.cached(3).unwrap().len(), KIND.max_entry());
    assert_eq!(world.cached(4), None);
    world.inbox().fill_cache(
        KIND,
        &[(5_000_000, b"in a shard that is not there")],
        || true,
    );
    assert!(world.inbox().open_caches(KIND, &[5000]).unwrap().is_empty());
}

#[test]
fn a_damaged_file_has_whole_entries_only_and_is_filled_again() {
    let world = World::with_messages(20);
    let mut dice = Dice::new(7);
    for _ in 0..300 {
        world.fill(1..=20);
        let path = world.cache_path();
        let mut bytes = std::fs::read(&path).unwrap();
        for _ in 0..=dice.below(8) {
            // Half of the hits are where all is read, among header and slots in use.
            let most = if dice.below(2) == 0 { 300 } else { bytes.len() };
            bytes[dice.below(most)] ^= 1 << dice.below(8);
        }
        std::fs::write(&path, &bytes).unwrap();
        for uid in 1..=20 {
            assert!(world.cached(uid).is_none_or(|entry| entry == about(uid)));
        }
        world.fill(1..=20);
        for uid in 1..=20 {
            assert_eq!(world.cached(uid), Some(about(uid)));
        }
    }
}

#[test]
fn a_file_that_was_cut_off_is_filled_again() {
    let world = World::with_messages(5);
    world.fill(1..=5);
    let whole = std::fs::read(world.cache_path()).unwrap();
    let ends = (0..ENTRIES_START)
        .step_by(997)
        .chain(ENTRIES_START..whole.len());
    for end in ends {
        std::fs::write(world.cache_path(), &whole[..end]).unwrap();
        for uid in 1..=5 {
            assert!(world.cached(uid).is_none_or(|entry| entry == about(uid)));
        }
        world.fill(1..=5);
        for uid in 1..=5 {
            assert_eq!(world.cached(uid), Some(about(uid)), "{end}");
        }
    }
}

#[test]
fn an_entry_without_its_slot_and_a_slot_without_its_entry_are_not_there() {
    let world = World::with_messages(3);
    world.fill([1]);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(world.cache_path())
        .unwrap();
    // A crash between the two, and what a power cut makes of it when only the slot got to disk.
    let end = file.metadata().unwrap().len();
    file.write_all_at(&about(2), end).unwrap();
    assert_eq!(world.cached(2), None);
    let offset = u32::try_from(end + 5000).unwrap();
    let slot = Slot::new(3, offset, &about(3)).to_bytes();
    file.write_all_at(&slot, Slot::place(3) as u64).unwrap();
    assert_eq!(world.cached(3), None);
    file.set_len(end + 9000).unwrap();
    assert_eq!(world.cached(3), None);
    world.fill([2, 3]);
    for uid in 1..=3 {
        assert_eq!(world.cached(uid), Some(about(uid)));
    }
}

#[test]
fn a_file_of_another_uidvalidity_is_not_believed_and_replaced() {
    let mut world = World::with_messages(2);
    world.fill([1, 2]);
    let before = world.header(0);
    world.restart();
    world.store = None;
    std::fs::remove_file(world.path("INBOX").join("status.json")).unwrap();
    world.store = Some(Store::open(world.temp.path()).unwrap());
    assert_ne!(world.header(0).uid_validity, before.uid_validity);
    assert_eq!(world.cached(1), None);
    world.fill([1]);
    assert_eq!(world.cached(1), Some(about(1)));
    assert_eq!(world.cached(2), None);
}

#[test]
fn who_holds_a_file_goes_on_reading_while_it_grows_and_when_it_is_replaced() {
    let world = World::with_messages(3);
    world.fill([1]);
    let held = world.cache();
    world.fill([2]);
    let header = world.header(0);
    assert_eq!(read(&held, &header, 2), Some(about(2)));
    std::fs::remove_file(world.cache_path()).unwrap();
    world.fill([3]);
    assert_eq!(read(&held, &header, 1), Some(about(1)));
    assert_eq!(world.cached(1), None);
    assert_eq!(world.cached(3), Some(about(3)));
}

#[test]
fn a_file_is_written_anew_when_more_than_half_of_it_is_about_messages_that_are_gone() {
    let world = World::with_messages(20);
    let entry = vec![b'e'; KIND.max_entry()];
    let all: Vec<_> = (1..=20).map(|uid| (uid, entry.as_slice())).collect();
    world.inbox().fill_cache(KIND, &all, || true);
    let held = world.cache();
    let size = |world: &World| world.cache().metadata().unwrap().len();
    let full = size(&world);
    let order = FlagOrder {
        change: FlagChange::Add,
        flags: flag::DELETED,
        keywords: vec![],
        unchanged_since: None,
        heard: u64::MAX,
    };
    let uids = vec![(5, 20)];
    world.inbox().store_flags(&uids, &order).unwrap();
    world.inbox().expunge(None).unwrap();
    assert_eq!(size(&world), full);
    world.append("INBOX", b"x", 0, &[]);
    world.fill([21]);
    assert!(size(&world) < full / 3, "{} of {full}", size(&world));
    for uid in 1..=4 {
        assert_eq!(world.cached(uid).as_ref(), Some(&entry));
    }
    assert_eq!(world.cached(21), Some(about(21)));
    assert_eq!(world.cached(5), None);
    assert_eq!(read(&held, &world.header(0), 5), Some(entry));
}

#[test]
fn the_same_entry_again_takes_no_room_and_a_new_one_takes_its_place() {
    let world = World::with_messages(1);
    world.fill([1]);
    let size = world.cache().metadata().unwrap().len();
    world.fill([1, 1]);
    assert_eq!(world.cache().metadata().unwrap().len(), size);
    world
        .inbox()
        .fill_cache(KIND, &[(1, b"known better")], || true);
    assert_eq!(world.cached(1), Some(b"known better".to_vec()));
}

#[test]
fn what_is_known_about_a_removed_message_is_wiped_out_and_the_rest_is_not() {
    let world = World::with_messages(3);
    world.fill([1, 2]);
    world
        .inbox()
        .fill_cache(KIND, &[(2, b"known better")], || true);
    world.fill([3]);
    let order = FlagOrder {
        change: FlagChange::Add,
        flags: flag::DELETED,
        keywords: vec![],
        unchanged_since: None,
        heard: u64::MAX,
    };
    world.inbox().store_flags(&vec![(2, 2)], &order).unwrap();
    world.inbox().expunge(None).unwrap();
    let has = |text: &[u8]| {
        let bytes = std::fs::read(world.cache_path()).unwrap();
        bytes.windows(text.len()).any(|window| window == text)
    };
    assert!(has(b"known better") && !has(&about(2)));
    let held = world.cache();
    world.inbox().forget_removed();
    assert!(!has(b"known better"));
    let header = world.header(0);
    assert_eq!(read(&held, &header, 2), None);
    for uid in [1, 3] {
        assert_eq!(read(&held, &header, uid), Some(about(uid)));
    }
}

#[test]
fn a_slot_that_points_at_another_entry_wipes_nothing_out() {
    let world = World::with_messages(2);
    world.fill([1]);
    let bytes = std::fs::read(world.cache_path()).unwrap();
    let slot = bytes[Slot::place(1)..][..12].to_vec();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(world.cache_path())
        .unwrap();
    file.write_all_at(&slot, Slot::place(2) as u64).unwrap();
    world.fill([2]);
    assert_eq!(world.cached(1), Some(about(1)));
    assert_eq!(world.cached(2), Some(about(2)));
}

#[test]
fn no_file_grows_beyond_its_bound() {
    let world = World::with_messages(1);
    world.fill([1]);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(world.cache_path())
        .unwrap();
    file.set_len(KIND.max_file() + 1).unwrap();
    world.fill([1]);
    assert!(world.cache().metadata().unwrap().len() < 20_000);
}

#[test]
fn files_of_shards_without_messages_and_leftovers_go_at_the_first_fill() {
    let mut world = World::with_messages(1);
    world.fill([1]);
    let directory = world.path("INBOX").join(".cache/summaries");
    for name in ["0007", ".0000.new", "strange"] {
        std::fs::write(directory.join(name), "x").unwrap();
    }
    world.restart();
    world.fill([1]);
    let names = std::fs::read_dir(directory).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["0000"]);
}

#[test]
fn caches_go_with_their_mailbox_and_nothing_is_written_behind_its_back() {
    let world = World::with_messages(1);
    let user = world.user();
    user.create_mailbox(&name("A"), None).unwrap();
    world.append("A", b"x", 0, &[]);
    let old = world.mailbox("A");
    old.fill_cache(KIND, &[(1, b"kept")], || true);
    user.rename_mailbox(&name("A"), &name("B")).unwrap();
    old.fill_cache(KIND, &[(1, b"too late")], || true);
    let validity = world.mailbox("B").status().unwrap().uid_validity;
    let opened = world.mailbox("B").open_caches(KIND, &[0]).unwrap();
    let header = Header {
        uid_validity: validity,
        ..world.header(0)
    };
    assert_eq!(read(&opened[0].1, &header, 1), Some(b"kept".to_vec()));
    let old = world.mailbox("B");
    user.delete_mailbox(&name("B")).unwrap();
    old.fill_cache(KIND, &[(1, b"too late")], || true);
    assert_eq!(
        old.open_caches(KIND, &[0]).unwrap_err(),
        Refusal::NoSuchMailbox
    );
    assert!(!world.path("B").exists());
}

#[test]
fn a_mailbox_is_not_deleted_while_a_cache_of_it_is_written() {
    let world = world();
    world.user().create_mailbox(&name("A"), None).unwrap();
    let (mailbox, user) = (world.mailbox("A"), world.user());
    let writing = mailbox.lock_caches();
    let deleting = std::thread::spawn(move || user.delete_mailbox(&name("A")));
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(world.path("A").exists());
    drop(writing);
    deleting.join().unwrap().unwrap();
    assert!(!world.path("A").exists());
}

#[test]
fn what_somebody_planted_is_not_followed_and_stops_nobody() {
    let world = World::with_messages(1);
    let secret = world.temp.path().join("secret");
    std::fs::write(&secret, world.header(0).begin()).unwrap();
    let directory = world.path("INBOX").join(".cache");
    std::fs::create_dir_all(directory.join("summaries")).unwrap();
    symlink(&secret, world.cache_path()).unwrap();
    assert_eq!(world.cached(1), None);
    world.fill([1]);
    assert_eq!(world.cached(1), Some(about(1)));
    assert_eq!(std::fs::read(&secret).unwrap(), world.header(0).begin());
    // A file where a directory should be, a directory where a file should be, a link out.
    std::fs::remove_file(world.cache_path()).unwrap();
    std::fs::create_dir(world.cache_path()).unwrap();
    world.fill([1]);
    assert_eq!(world.cached(1), None);
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::write(&directory, "x").unwrap();
    world.fill([1]);
    assert_eq!(world.cached(1), None);
    std::fs::remove_file(&directory).unwrap();
    symlink(world.temp.path(), &directory).unwrap();
    world.fill([1]);
    assert!(!world.temp.path().join("summaries").exists());
    assert_eq!(world.inbox().open(&[1]).unwrap().len(), 1);
}
