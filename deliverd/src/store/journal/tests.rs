//! What the journal keeps, and what it does not believe.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::segment::BLOCK;
use super::*;

struct World {
    temp: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            temp: tempfile::tempdir().unwrap(),
        }
    }

    fn open(&self) -> io::Result<(Arc<Journal>, Past)> {
        let dir = Dir::root(self.temp.path())?;
        Journal::open(dir, || {}).map(|(journal, past)| (Arc::new(journal), past))
    }

    /// Opens it and gives the bodies that were not done.
    fn bodies(&self) -> Vec<Vec<u8>> {
        let (journal, past) = self.open().unwrap();
        let mut places = Vec::new();
        journal
            .replay(&past, |_, place| places.extend(place))
            .unwrap();
        places
            .into_iter()
            .map(|place| journal.body(place).unwrap())
            .collect()
    }

    fn file(&self, number: usize) -> PathBuf {
        self.temp.path().join(number.to_string())
    }

    fn overwrite(&self, number: usize, at: u64, bytes: &[u8]) {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(self.file(number))
            .unwrap();
        file.write_all_at(bytes, at).unwrap();
    }
}

/// Writes a body in a batch of its own.
fn write(journal: &Arc<Journal>, bytes: &[u8]) {
    let permit = journal.admit(1, bytes.len() + 64).unwrap();
    permit.body(0, bytes);
    journal.commit(journal.given()).unwrap();
}

#[test]
fn what_was_committed_is_found_again_in_order() {
    let world = World::new();
    let (journal, _) = world.open().unwrap();
    for text in [&b"one"[..], b"two", b"three"] {
        write(&journal, text);
    }
    drop(journal);
    assert_eq!(world.bodies(), [&b"one"[..], b"two", b"three"]);
    // Reading is not doing: a crash during the recovery changes nothing.
    assert_eq!(world.bodies().len(), 3);
}

#[test]
fn a_body_that_was_packed_is_found_as_it_was() {
    let world = World::new();
    let (journal, _) = world.open().unwrap();
    let text = b"as mail has it, again and again\r\n".repeat(128);
    let mut noise = vec![0; 4096];
    getrandom::fill(&mut noise).unwrap();
    for body in [&text, &noise] {
        write(&journal, body);
    }
    // One block for the first one, two for the other one.
    let used = journal.lock().at;
    drop(journal);
    assert_eq!((used, world.bodies()), (4 * BLOCK, vec![text, noise]));
}

#[test]
fn what_is_done_is_not_read_again() {
    let world = World::new();
    let (journal, _) = world.open().unwrap();
    write(&journal, b"one");
    let done = journal.wait_for_done();
    write(&journal, b"two");
    journal.raise_floor(done).unwrap();
    drop(journal);
    assert_eq!(world.bodies(), [b"two"]);
}

#[test]
fn records_after_a_recovery_follow_those_before() {
    let world = World::new();
    for text in [b"one", b"two"] {
        let (journal, _) = world.open().unwrap();
        write(&journal, text);
    }
    assert_eq!(world.bodies(), [b"one", b"two"]);
}

#[test]
fn a_batch_that_was_cut_off_ends_the_journal() {
    let world = World::new();
    let (journal, _) = world.open().unwrap();
    write(&journal, &[b'a'; 100]);
    write(&journal, &[b'b'; 20_000]);
    drop(journal);
    world.overwrite(0, 4 * BLOCK, &[0; BLOCK as usize]);
    assert_eq!(world.bodies(), [vec![b'a'; 100]]);
    let (journal, _) = world.open().unwrap();
    write(&journal, b"next");
    drop(journal);
    assert_eq!(world.bodies(), [vec![b'a'; 100], b"next".to_vec()]);
}

#[test]
fn a_damaged_batch_before_a_whole_one_is_an_error() {
    let world = World::new();
    let (journal, _) = world.open().unwrap();
    for _ in 0..3 {
        write(&journal, b"text");
    }
    drop(journal);
    world.overwrite(0, 2 * BLOCK + 60, b"x");
    assert!(world.open().err().unwrap().to_string().contains("damaged"));
}

#[test]
fn a_missing_file_in_the_middle_is_an_error() {
    let world = World::new();
    let (journal, _) = world.open().unwrap();
    while !world.file(2).exists() {
        write(&journal, &vec![1; 100_000]);
    }
    // It is made before it is needed.
    for _ in 0..BATCH / 100_000 + 1 {
        write(&journal, &vec![1; 100_000]);
    }
    drop(journal);
    let middle = std::fs::read(world.file(1)).unwrap();
    std::fs::write(world.file(1), vec![0; middle.len()]).unwrap();
    assert!(world.open().err().unwrap().to_string().contains("missing"));
    std::fs::remove_file(world.file(1)).unwrap();
    assert!(world.open().err().unwrap().to_string().contains("missing"));
}

#[test]
fn a_message_that_looks_like_a_batch_is_none() {
    let world = World::new();
    let (journal, _) = world.open().unwrap();
    // What an attacker can know is everything but the nonce: a batch of another journal of the same age.
    let other = World::new();
    let (copied, _) = other.open().unwrap();
    write(&copied, b"one");
    write(&copied, b"forged");
    let forged =
        std::fs::read(other.file(0)).unwrap()[2 * BLOCK as usize..3 * BLOCK as usize].to_vec();
    write(&journal, b"one");
    drop(journal);
    world.overwrite(0, 2 * BLOCK, &forged);
    assert_eq!(world.bodies(), [b"one"]);
}

#[test]
fn what_an_earlier_use_left_in_a_file_is_not_read() {
    let world = World::new();
    let (journal, _) = world.open().unwrap();
    let mut number = 0_u32;
    // Several times around, so that every file was written over at differing places.
    for _ in 0..60 {
        for _ in 0..3 {
            number += 1;
            let mut bytes = vec![7; 1000 + number as usize * 97 % 90_000];
            bytes[..4].copy_from_slice(&number.to_le_bytes());
            write(&journal, &bytes);
        }
        let done = journal.wait_for_done();
        journal.raise_floor(done).unwrap();
    }
    write(&journal, b"last");
    drop(journal);
    assert_eq!(world.bodies(), [b"last"]);
    assert!(std::fs::read_dir(world.temp.path()).unwrap().count() <= SEGMENTS);
}

#[test]
fn who_finds_no_room_waits_until_there_is_some() {
    let world = World::new();
    let (journal, _) = world.open().unwrap();
    let body = vec![1; 200_000];
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..200 {
                write(&journal, &body);
            }
        });
        while !writer.is_finished() {
            if journal.needs() == Needs::Room {
                let done = journal.wait_for_done();
                journal.raise_floor(done).unwrap();
            }
            std::thread::yield_now();
        }
    });
    assert_eq!(world.bodies().last(), Some(&body));
}

#[test]
fn who_waits_for_room_is_told_when_there_will_be_none() {
    let world = World::new();
    let (journal, _) = world.open().unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            loop {
                let Ok(permit) = journal.admit(1, 200_000) else {
                    break;
                };
                permit.body(0, &[0; 200_000]);
                journal.commit(journal.given()).unwrap();
            }
        });
        while !writer.is_finished() {
            if journal.lock().is_pressed {
                journal.deny();
            }
            std::thread::yield_now();
        }
    });
}

#[test]
fn writers_at_the_same_time_share_flushes_and_all_are_found() {
    let world = World::new();
    let (journal, _) = world.open().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let journal = &journal;
            scope.spawn(move || {
                for number in 0..50 {
                    write(journal, &[thread, number]);
                }
            });
        }
    });
    drop(journal);
    let mut bodies = world.bodies();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 400);
}

#[test]
fn more_than_the_journal_can_ever_take_is_refused_at_once() {
    let world = World::new();
    let (journal, _) = world.open().unwrap();
    assert!(journal.admit(1, 1 << 30).is_err());
}
