//! Each state a crash can leave is built on disk and recovered.

mod write_ahead;

use std::fs;
use std::io::Write;

use crate::turns::{Party, Rank};

use super::journal::{Attempted, Fate, Outcome, Particular, Standing, VERSION};
use super::*;

const KEPT: Bounds = Bounds {
    days: 7,
    bytes: 1 << 20,
};

fn queue() -> (tempfile::TempDir, Queue) {
    let home = tempfile::tempdir().unwrap();
    let queue = Queue::open(&home.path().join("queue"), KEPT).unwrap();
    (home, queue)
}

fn header() -> Header {
    Header {
        version: VERSION,
        queued: 1_700_000_000,
        size: 5,
        reverse_path: "alice@example.test".into(),
        account: None,
        party: Party::Nobody,
        smtp_utf8: false,
        eight_bit: false,
        hold: None,
        quarantine: None,
        recipients: vec!["bob@example.org".into(), "carol@example.net".into()],
        parameters: String::new(),
        tls_waived: false,
        sign: Vec::new(),
        particulars: Vec::new(),
    }
}

fn commit(queue: &Queue) -> QueueId {
    let id = QueueId::generate().unwrap();
    let draft = queue.draft().unwrap();
    draft.file().write_all(b"hello").unwrap();
    queue.commit(id, &draft, &header()).unwrap();
    id
}

fn attempted(recipient: u32, fate: Fate) -> Record {
    let (status, text) = ("4.0.0".into(), "later".into());
    let outcome = Outcome {
        recipient,
        fate,
        status,
        text,
        remote: true,
        host: None,
    };
    Record::Attempted(Attempted {
        at: 1,
        results: vec![outcome],
    })
}

/// The files of messages, and what is not ours.
fn names(queue: &Queue) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(queue.path()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let files = fs::read_dir(entry.path()).unwrap();
            let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            names.extend(files.map(|file| format!("{name}/{file}")));
        } else if name != ".lock"
            && !name.starts_with(log::PREFIX)
            && !name.starts_with(history::PREFIX)
        {
            names.push(name);
        }
    }
    names.sort();
    names
}

/// What is in the queue at the start.
fn recovered(queue: &Queue) -> Vec<Recovered> {
    let shards = queue.shards().unwrap();
    let mut all: Vec<_> = shards
        .iter()
        .flat_map(|shard| queue.recover(shard).unwrap())
        .collect();
    all.sort_by_key(|message| message.id);
    all
}

/// As after `kill -9`.
fn reopen(home: &tempfile::TempDir, queue: Queue) -> Queue {
    drop(queue);
    Queue::open(&home.path().join("queue"), KEPT).unwrap()
}

#[test]
fn a_committed_message_is_there_after_a_restart() {
    let (home, queue) = queue();
    let id = commit(&queue);
    let queue = reopen(&home, queue);
    assert_eq!(
        recovered(&queue),
        [Recovered {
            id,
            due: 1_700_000_000,
            unwarned: Some(1_700_000_000),
            rank: Rank::default(),
            quarantine: None,
        }]
    );
    assert_eq!(
        io::read_to_string(queue.body(id).unwrap()).unwrap(),
        "hello"
    );
    assert_eq!(queue.message(id).unwrap().snapshot().header, header());
}

#[test]
fn the_schedule_and_the_results_survive_a_restart() {
    let (home, queue) = queue();
    let id = commit(&queue);
    let opened = queue.message(id).unwrap();
    opened.append(&attempted(0, Fate::Delivered)).unwrap();
    opened
        .append(&attempted(
            1,
            Fate::Deferred {
                next: 1_800_000_000,
            },
        ))
        .unwrap();
    let queue = reopen(&home, queue);
    assert_eq!(
        recovered(&queue),
        [Recovered {
            id,
            due: 1_800_000_000,
            unwarned: Some(1_700_000_000),
            rank: Rank::default(),
            quarantine: None,
        }]
    );
    let message = queue.message(id).unwrap().snapshot();
    assert_eq!(message.recipients[0].state, State::Delivered);
    assert_eq!(message.recipients[1].state, State::Waiting(1_800_000_000));
    assert_eq!(message.recipients[1].attempts, 1);
}

#[test]
fn a_draft_that_is_dropped_leaves_nothing() {
    let (_home, queue) = queue();
    let draft = queue.draft().unwrap();
    draft.file().write_all(b"half a mess").unwrap();
    drop(draft);
    assert!(names(&queue).is_empty());
}

#[test]
fn a_body_without_a_journal_is_removed_at_start() {
    let (home, queue) = queue();
    let id = commit(&queue);
    queue.close().unwrap();
    fs::remove_file(queue.path().join(id.journal_name())).unwrap();
    let queue = reopen(&home, queue);
    assert!(recovered(&queue).is_empty());
    assert!(names(&queue).is_empty());
}

#[test]
fn a_journal_without_a_body_is_removed_at_start() {
    let (home, queue) = queue();
    let id = commit(&queue);
    queue.close().unwrap();
    fs::remove_file(queue.path().join(id.body_name())).unwrap();
    let queue = reopen(&home, queue);
    assert!(recovered(&queue).is_empty());
    assert!(names(&queue).is_empty());
}

#[test]
fn temporary_names_are_removed_and_foreign_ones_stay() {
    let (home, queue) = queue();
    fs::write(queue.path().join(".tmp-1-1"), "x").unwrap();
    fs::write(queue.path().join("notes.txt"), "x").unwrap();
    let queue = reopen(&home, queue);
    assert!(recovered(&queue).is_empty());
    assert_eq!(names(&queue), ["notes.txt"]);
}

#[test]
fn a_journal_torn_at_any_byte_keeps_the_message_and_takes_new_records() {
    let (home, queue) = queue();
    let id = commit(&queue);
    let path = queue.path().join(id.journal_name());
    let first = fs::read(&path).unwrap().len();
    queue
        .message(id)
        .unwrap()
        .append(&attempted(0, Fate::Delivered))
        .unwrap();
    let whole = fs::read(&path).unwrap();
    queue.close().unwrap();
    drop(queue);
    for length in first..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let queue = Queue::open(&home.path().join("queue"), KEPT).unwrap();
        assert_eq!(recovered(&queue).len(), 1, "torn at {length}");
        assert_eq!(fs::read(&path).unwrap().len(), first);
        let opened = queue.message(id).unwrap();
        assert_eq!(opened.snapshot().waiting().count(), 2);
        opened.append(&attempted(1, Fate::Failed)).unwrap();
        drop(opened);
        let message = queue.message(id).unwrap().snapshot();
        assert_eq!(message.recipients[1].state, State::Failed);
        assert_eq!(message.unreported().count(), 1);
        queue.close().unwrap();
    }
}

#[test]
fn a_journal_whose_first_record_is_damaged_is_set_aside_and_nothing_is_destroyed() {
    let (home, queue) = queue();
    let id = commit(&queue);
    let path = queue.path().join(id.journal_name());
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    queue.close().unwrap();
    fs::write(&path, bytes).unwrap();
    let queue = reopen(&home, queue);
    assert!(recovered(&queue).is_empty());
    assert_eq!(
        names(&queue),
        [id.body_name() + ".bad", id.journal_name() + ".bad"]
    );
    assert!(recovered(&queue).is_empty());
}

#[test]
fn a_damaged_message_that_cannot_be_set_aside_keeps_its_body() {
    let (home, queue) = queue();
    let id = commit(&queue);
    queue.close().unwrap();
    fs::write(queue.path().join(id.journal_name()), "damaged").unwrap();
    let taken = format!("{}.bad", id.body_name());
    fs::write(queue.path().join(&taken), "x").unwrap();
    let queue = reopen(&home, queue);
    for _ in 0..2 {
        assert!(recovered(&queue).is_empty());
        assert_eq!(
            names(&queue),
            [id.body_name(), taken.clone(), id.journal_name()]
        );
    }
}

#[test]
fn a_journal_that_grew_very_long_loses_no_record() {
    let (_home, queue) = queue();
    let id = commit(&queue);
    let path = queue.path().join(id.journal_name());
    let mut bytes = fs::read(&path).unwrap();
    // Beyond 64 MiB: ten thousand recipients, a long reply for each at each of their attempts.
    let mut long = attempted(0, Fate::Delivered);
    if let Record::Attempted(attempted) = &mut long {
        attempted.results[0].text = "x".repeat(65 << 20);
    }
    journal::encode(&long, &mut bytes).unwrap();
    journal::encode(&attempted(1, Fate::Failed), &mut bytes).unwrap();
    fs::write(&path, &bytes).unwrap();
    let message = queue.message(id).unwrap().snapshot();
    assert_eq!(message.recipients[1].state, State::Failed);
    assert_eq!(fs::metadata(&path).unwrap().len(), bytes.len() as u64);
}

#[test]
fn a_record_whose_append_failed_is_appended_again_and_counts_once() {
    let (_home, queue) = queue();
    let id = commit(&queue);
    let path = queue.path().join(id.journal_name());
    let record = attempted(0, Fate::Delivered);
    let mut left = Vec::new();
    journal::encode(&record, &mut left).unwrap();
    left.extend_from_slice(b"torn");
    let first = fs::read(&path).unwrap();
    for length in 0..=left.len() {
        fs::write(&path, &first).unwrap();
        let opened = queue.read_message(id).unwrap();
        let read_only = File::open(&path).unwrap();
        let writable = std::mem::replace(&mut opened.lock().journal, read_only);
        opened.append(&record).unwrap_err();
        assert_eq!(opened.snapshot().recipients[0].attempts, 0);
        fs::write(&path, [first.as_slice(), &left[..length]].concat()).unwrap();
        opened.lock().journal = writable;
        opened.append(&record).unwrap();
        opened.append(&attempted(1, Fate::Failed)).unwrap();
        let read = queue.read_message(id).unwrap().snapshot();
        for message in [opened.snapshot(), read] {
            let attempts = message.recipients.iter().map(|one| one.attempts);
            assert_eq!(attempts.collect::<Vec<_>>(), [1, 1], "left: {length}");
        }
    }
}

#[test]
fn a_removed_message_leaves_no_file() {
    let (_home, queue) = queue();
    let id = commit(&queue);
    queue.remove(id).unwrap();
    assert!(names(&queue).is_empty());
    assert_eq!(
        queue.remove(id).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

#[test]
fn a_removal_cut_short_after_the_journal_ends_at_the_next_start() {
    let (home, queue) = queue();
    let (gone, kept) = (commit(&queue), commit(&queue));
    queue.close().unwrap();
    fs::remove_file(queue.path().join(gone.journal_name())).unwrap();
    let queue = reopen(&home, queue);
    assert_eq!(
        recovered(&queue).iter().map(|r| r.id).collect::<Vec<_>>(),
        [kept]
    );
    assert_eq!(names(&queue), [kept.body_name(), kept.journal_name()]);
}

#[test]
fn a_second_relayd_is_kept_out() {
    let (_home, queue) = queue();
    assert_eq!(
        Queue::open(queue.path(), KEPT).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
}

#[test]
fn planted_links_are_not_followed() {
    let (home, queue) = queue();
    let id = commit(&queue);
    let secret = home.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let body = queue.path().join(id.body_name());
    fs::remove_file(&body).unwrap();
    std::os::unix::fs::symlink(&secret, &body).unwrap();
    assert!(queue.body(id).is_err());
    fs::remove_file(&body).unwrap();
    fs::hard_link(&secret, &body).unwrap();
    assert!(queue.body(id).is_err());
}

#[test]
fn everybody_who_opens_a_message_shares_its_state() {
    let (_home, queue) = queue();
    let id = commit(&queue);
    let (one, other) = (queue.message(id).unwrap(), queue.message(id).unwrap());
    one.append(&attempted(0, Fate::Delivered)).unwrap();
    assert_eq!(other.snapshot().recipients[0].state, State::Delivered);
}

#[test]
fn what_the_sender_wants_survives_a_restart_and_decides_what_there_is_to_tell() {
    let (home, queue) = queue();
    let wanting = |places: &[(u32, &str)]| {
        let particular = |(recipient, parameters): &(u32, &str)| Particular {
            recipient: *recipient,
            parameters: (*parameters).into(),
            standing: Standing::Waiting,
        };
        let draft = queue.draft().unwrap();
        draft.file().write_all(b"hello").unwrap();
        let id = QueueId::generate().unwrap();
        let header = Header {
            particulars: places.iter().map(particular).collect(),
            ..header()
        };
        queue.commit(id, &draft, &header).unwrap();
        id
    };
    let silent = wanting(&[(0, "NOTIFY=NEVER"), (1, "NOTIFY=FAILURE")]);
    let opened = queue.message(silent).unwrap();
    for recipient in [0, 1] {
        let failed = attempted(recipient, Fate::Failed);
        opened.append(&failed).unwrap();
    }
    let eager = wanting(&[(1, "NOTIFY=SUCCESS,DELAY")]);
    let opened = queue.message(eager).unwrap();
    opened.append(&attempted(1, Fate::Relayed)).unwrap();
    opened.append(&Record::Warned(vec![0])).unwrap();
    drop(opened);
    let queue = reopen(&home, queue);
    let states = |id| {
        let message = queue.message(id).unwrap().snapshot();
        assert_eq!(message.warning_due(Some(60)), None);
        message
            .recipients
            .iter()
            .map(|one| one.state)
            .collect::<Vec<_>>()
    };
    assert_eq!(states(silent), [State::Reported, State::Failed]);
    assert_eq!(
        states(eager),
        [State::Waiting(1_700_000_000), State::Succeeded]
    );
}
