//! What the log gives back of each state that a kill or a power failure can leave.

use std::sync::atomic::Ordering;
use std::thread;

use super::super::log::PREFIX;
use super::*;

fn logs(queue: &Queue) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(queue.path()).unwrap();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(PREFIX)
        })
        .collect();
    paths.sort();
    paths
}

fn commit_bytes(queue: &Queue, body: &[u8]) -> io::Result<QueueId> {
    let id = QueueId::generate().unwrap();
    let draft = queue.draft().unwrap();
    draft.file().write_all(body).unwrap();
    queue.commit(id, &draft, &header())?;
    Ok(id)
}

fn later() -> Record {
    attempted(
        1,
        Fate::Deferred {
            next: 1_800_000_000,
        },
    )
}

/// The state of a message, and its body.
fn state_of(queue: &Queue, id: QueueId) -> (Vec<State>, String) {
    let message = queue.message(id).unwrap().snapshot();
    let states = message.recipients.iter().map(|one| one.state).collect();
    (states, io::read_to_string(queue.body(id).unwrap()).unwrap())
}

#[test]
fn whatever_a_power_failure_leaves_of_the_files_the_message_is_whole() {
    type Damage = fn(&std::path::Path, &std::path::Path);
    let damages: [Damage; 8] = [
        |_, _| {},
        |body, journal| {
            fs::remove_file(journal).unwrap();
            fs::remove_file(body).unwrap();
        },
        |_, journal| fs::remove_file(journal).unwrap(),
        |body, _| fs::remove_file(body).unwrap(),
        |body, _| fs::write(body, "").unwrap(),
        |body, _| fs::write(body, "\0\0\0\0\0").unwrap(),
        |_, journal| fs::write(journal, "").unwrap(),
        |_, journal| {
            let bytes = fs::read(journal).unwrap();
            fs::write(journal, &bytes[..bytes.len() - 3]).unwrap();
        },
    ];
    for damage in damages {
        let (home, queue) = queue();
        let id = commit(&queue);
        let opened = queue.message(id).unwrap();
        opened.append(&attempted(0, Fate::Delivered)).unwrap();
        opened.append(&later()).unwrap();
        drop(opened);
        damage(
            &queue.path().join(id.body_name()),
            &queue.path().join(id.journal_name()),
        );
        let queue = reopen(&home, queue);
        assert_eq!(recovered(&queue).len(), 1);
        let states = vec![State::Delivered, State::Waiting(1_800_000_000)];
        assert_eq!(state_of(&queue, id), (states, "hello".into()));
    }
}

#[test]
fn a_log_torn_at_any_byte_gives_whole_messages_or_none() {
    let (home, queue) = queue();
    let id = commit(&queue);
    let log = logs(&queue).pop().unwrap();
    let whole = fs::read(&log).unwrap();
    let (body, journal) = (id.body_name(), id.journal_name());
    let path = queue.path().to_owned();
    drop(queue);
    for length in 0..=whole.len() {
        for name in [&body, &journal] {
            let _ = fs::remove_file(path.join(name));
        }
        fs::write(&log, &whole[..length]).unwrap();
        let queue = Queue::open(&home.path().join("queue"), KEPT).unwrap();
        let expected = match length == whole.len() {
            true => vec![body.clone(), journal.clone()],
            false => Vec::new(),
        };
        assert_eq!(names(&queue), expected, "torn at {length}");
    }
}

#[test]
fn a_record_torn_in_the_log_leaves_those_before_it() {
    let (home, queue) = queue();
    let id = commit(&queue);
    let log = logs(&queue).pop().unwrap();
    queue.message(id).unwrap().append(&later()).unwrap();
    let whole = fs::read(&log).unwrap();
    let journal = queue.path().join(id.journal_name());
    drop(queue);
    for length in [4096, 4097, whole.len() - 1] {
        // The power failed before the record came into the journal.
        fs::write(&log, &whole[..length]).unwrap();
        fs::write(&journal, "").unwrap();
        let queue = Queue::open(&home.path().join("queue"), KEPT).unwrap();
        let (states, _) = state_of(&queue, id);
        assert_eq!(
            states,
            [State::Waiting(1_700_000_000); 2],
            "torn at {length}"
        );
    }
}

#[test]
fn what_is_done_and_comes_back_has_nothing_left_to_do() {
    let (home, queue) = queue();
    let id = commit(&queue);
    let opened = queue.message(id).unwrap();
    opened.append(&attempted(0, Fate::Delivered)).unwrap();
    opened.append(&attempted(1, Fate::Delivered)).unwrap();
    drop(opened);
    queue.finish(id, Ending::Done).unwrap();
    assert!(names(&queue).is_empty());
    // That it is gone was not written yet.
    let queue = reopen(&home, queue);
    assert_eq!(recovered(&queue).len(), 1);
    let message = queue.message(id).unwrap().snapshot();
    assert_eq!(message.waiting().count() + message.unreported().count(), 0);
    queue.finish(id, Ending::Done).unwrap();
    // It is with the next message.
    let other = commit(&queue);
    let queue = reopen(&home, queue);
    assert_eq!(names(&queue), [other.body_name(), other.journal_name()]);
}

#[test]
fn what_the_operator_removed_stays_removed() {
    let (home, queue) = queue();
    let id = commit(&queue);
    let (body, journal) = (id.body_name(), id.journal_name());
    let files = [&body, &journal].map(|name| queue.path().join(name));
    let bytes = files.clone().map(|file| fs::read(file).unwrap());
    queue.remove(id).unwrap();
    // The power failed, and the disk still has its names.
    for (file, bytes) in files.iter().zip(bytes) {
        fs::write(file, bytes).unwrap();
    }
    let queue = reopen(&home, queue);
    assert!(names(&queue).is_empty());
}

#[test]
fn a_refused_flush_leaves_no_half_message_and_the_next_one_is_taken() {
    let (home, queue) = queue();
    let (before, other) = (commit(&queue), commit(&queue));
    queue.log.is_broken.store(true, Ordering::Relaxed);
    queue.remove(other).unwrap();
    for size in [5, INLINE as usize + 1] {
        let error = commit_bytes(&queue, &vec![b'x'; size]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5));
    }
    let error = queue.message(before).unwrap().append(&later());
    assert_eq!(error.unwrap_err().raw_os_error(), Some(5));
    let of_first = [before.body_name(), before.journal_name()];
    assert_eq!(names(&queue), of_first);
    // Who makes room on a disk that takes nothing can do so.
    let removed = home.path().join("queue").join(other.journal_name());
    assert!(!removed.exists());
    queue.log.is_broken.store(false, Ordering::Relaxed);
    queue.message(before).unwrap().append(&later()).unwrap();
    let after = commit(&queue);
    let queue = reopen(&home, queue);
    let ids: Vec<_> = recovered(&queue).iter().map(|one| one.id).collect();
    assert_eq!(ids, [before, after]);
    let states = [State::Waiting(1_700_000_000), State::Waiting(1_800_000_000)];
    assert_eq!(state_of(&queue, before).0, states);
}

#[test]
fn one_flush_serves_all_who_wait() {
    let (_home, queue) = queue();
    commit(&queue);
    let flushes = queue.flushes();
    thread::scope(|scope| {
        let gate = queue.log.gate.lock().unwrap();
        let first = scope.spawn(|| commit(&queue));
        // It writes, and cannot.
        while !queue.log.is_writing() {
            thread::yield_now();
        }
        let others: Vec<_> = (0..9).map(|_| scope.spawn(|| commit(&queue))).collect();
        while queue.log.tickets() < 10 {
            thread::yield_now();
        }
        drop(gate);
        first.join().unwrap();
        for other in others {
            other.join().unwrap();
        }
    });
    assert_eq!(queue.flushes() - flushes, 2);
    assert_eq!(names(&queue).len(), 22);
}

#[test]
fn a_large_body_is_not_written_into_the_log_and_is_there_all_the_same() {
    let (home, queue) = queue();
    let large = vec![b'x'; INLINE as usize + 1];
    let id = commit_bytes(&queue, &large).unwrap();
    let log = logs(&queue).pop().unwrap();
    assert!(fs::metadata(&log).unwrap().len() < INLINE);
    fs::write(queue.path().join(id.journal_name()), "").unwrap();
    let queue = reopen(&home, queue);
    assert_eq!(state_of(&queue, id).1.as_bytes(), large);
    // Without its body it was removed, and that is all that the disk knows of it.
    let gone = commit_bytes(&queue, &large).unwrap();
    queue.finish(gone, Ending::Done).unwrap();
    let queue = reopen(&home, queue);
    assert_eq!(names(&queue), [id.body_name(), id.journal_name()]);
}

#[test]
fn the_log_is_written_over_and_loses_nothing() {
    let (home, queue) = queue();
    let mut kept = Vec::new();
    for number in 0..600 {
        let id = commit_bytes(&queue, &[b'x'; 2000]).unwrap();
        let opened = queue.message(id).unwrap();
        opened.append(&later()).unwrap();
        if number % 7 == 0 {
            kept.push(id);
        } else {
            queue.finish(id, Ending::Done).unwrap();
        }
    }
    kept.sort();
    let size: u64 = logs(&queue)
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    assert!(size <= 16 * (64 << 10), "{size}");
    let queue = reopen(&home, queue);
    let ids: Vec<_> = recovered(&queue).iter().map(|one| one.id).collect();
    assert!(kept.iter().all(|id| ids.contains(id)));
    // Some of the last ones may have come back.
    assert!(ids.len() < kept.len() + 40, "{}", ids.len());
    for id in &kept {
        let states = [State::Waiting(1_700_000_000), State::Waiting(1_800_000_000)];
        assert_eq!(state_of(&queue, *id).0, states);
    }
}

#[test]
fn the_log_keeps_what_is_not_in_the_files_yet() {
    let (_home, queue) = queue();
    let id = QueueId::generate().unwrap();
    let entry = Entry::Queued {
        journal: b"x",
        body: Some(b"y"),
    };
    let ticket = queue.log.commit(id, entry).unwrap();
    let fill = || (0..200).try_for_each(|_| commit_bytes(&queue, &[b'x'; 4000]).map(drop));
    // Sixteen files are full, and none of them may be written over.
    assert!(fill().is_err());
    drop(ticket);
    while fill().is_err() {
        thread::yield_now();
    }
}

#[test]
fn a_log_that_was_closed_changes_nothing_at_the_next_start() {
    let (home, queue) = queue();
    let id = commit(&queue);
    queue.close().unwrap();
    fs::remove_file(queue.path().join(id.journal_name())).unwrap();
    fs::remove_file(queue.path().join(id.body_name())).unwrap();
    let queue = reopen(&home, queue);
    assert!(recovered(&queue).is_empty());
    commit(&queue);
    let queue = reopen(&home, queue);
    assert_eq!(recovered(&queue).len(), 1);
}

#[test]
fn messages_of_an_older_relayd_get_a_place_in_the_directories() {
    let (home, queue) = queue();
    let ids = [commit(&queue), commit(&queue)];
    queue.close().unwrap();
    let flat = |id: QueueId, suffix: &str| queue.path().join(format!("{id}.{suffix}"));
    for id in ids {
        fs::rename(queue.path().join(id.journal_name()), flat(id, "env")).unwrap();
    }
    // A crash came between the two names of the second one.
    let body = ids[0].body_name();
    fs::rename(queue.path().join(body), flat(ids[0], "eml")).unwrap();
    let queue = reopen(&home, queue);
    let mut found: Vec<_> = recovered(&queue).iter().map(|one| one.id).collect();
    found.sort();
    let mut ids = ids;
    ids.sort();
    assert_eq!(found, ids);
    assert_eq!(state_of(&queue, ids[0]).1, "hello");
}

#[test]
fn what_comes_while_the_queue_is_read_is_not_taken_for_something_old() {
    let (home, queue) = queue();
    let old = commit(&queue);
    let queue = reopen(&home, queue);
    let new = commit(&queue);
    // Its journal has no name yet.
    let half = QueueId::generate().unwrap();
    queue.lock_born().as_mut().unwrap().insert(half);
    queue.make_shard(half).unwrap();
    fs::write(queue.path().join(half.body_name()), "x").unwrap();
    let found: Vec<_> = recovered(&queue).iter().map(|one| one.id).collect();
    assert_eq!(found, [old]);
    assert!(names(&queue).contains(&half.body_name()));
    queue.all_recovered();
    assert!(recovered(&queue).iter().any(|one| one.id == new));
    assert!(!names(&queue).contains(&half.body_name()));
}

#[test]
fn what_is_left_of_an_earlier_use_of_the_log_does_not_count() {
    let (home, queue) = queue();
    let ids = [commit(&queue), commit(&queue)];
    queue.close().unwrap();
    for id in ids {
        fs::remove_file(queue.path().join(id.journal_name())).unwrap();
        fs::remove_file(queue.path().join(id.body_name())).unwrap();
    }
    // It stands where the first one stood, and behind it still stands the second.
    let new = commit(&queue);
    let queue = reopen(&home, queue);
    assert_eq!(names(&queue), [new.body_name(), new.journal_name()]);
}
