//! A queue with very many messages: how long it is read, and how much memory a message takes.
//!
//! `CROWD=1000000 cargo nextest run -p relayd --run-ignored only --no-capture -E 'binary(crowded)'`; it takes four kilobytes of the disk for each.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use daemon::config::{History, Quarantine};
use relayd::desk::Desk;
use relayd::quarantine::Ward;
use relayd::queue::history::Ending;
use relayd::queue::journal::{self, Attempted, Fate, Header, Outcome, Record, VERSION};
use relayd::queue::{Queue, QueueId};
use relayd::turns::Party;

/// What the design allows.
const OCTETS_PER_MESSAGE: usize = 256;

/// Octets of memory that this process has.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<usize>().unwrap() * 1024
}

fn header(number: usize) -> Header {
    Header {
        version: VERSION,
        queued: 1_700_000_000,
        size: 0,
        reverse_path: format!("sender{number}@example.test"),
        account: Some(format!("sender{number}@example.test")),
        party: Party::Tenant(format!("tenant{}", number % 100)),
        smtp_utf8: false,
        eight_bit: false,
        hold: Some("held for a measurement".into()),
        quarantine: None,
        recipients: vec![format!("r{number}@d{}.example", number % 5000)],
        parameters: String::new(),
        tls_waived: false,
        sign: Vec::new(),
        particulars: Vec::new(),
    }
}

fn fill(queue: &Path, count: usize) {
    for number in 0..count {
        let id = QueueId::generate().unwrap();
        let header = header(number);
        let mut line = Vec::new();
        journal::encode(&Record::Message(Box::new(header)), &mut line).unwrap();
        fs::write(queue.join(id.body_name()), "").unwrap();
        fs::write(queue.join(id.journal_name()), line).unwrap();
    }
}

/// Messages of one session after the other: queued, delivered, done.
fn pass_through(queue: &Queue, count: usize) {
    for number in 0..count {
        let id = QueueId::generate().unwrap();
        let draft = queue.draft().unwrap();
        draft.file().write_all(&[b'x'; 4096]).unwrap();
        queue.commit(id, &draft, &header(number)).unwrap();
        let outcome = Outcome {
            recipient: 0,
            fate: Fate::Delivered,
            status: "2.0.0".into(),
            text: "250 2.0.0 queued".into(),
            remote: true,
            host: Some("mx.example".into()),
        };
        let attempted = Attempted {
            at: 1_700_000_000,
            results: vec![outcome],
        };
        let opened = queue.message(id).unwrap();
        opened.append(&Record::Attempted(attempted)).unwrap();
        queue.finish(id, Ending::Done).unwrap();
    }
}

#[test]
#[ignore = "measures the disk"]
fn a_flush_serves_many_sessions() {
    for sessions in [20, 1] {
        let home = tempfile::tempdir().unwrap();
        let queue = Queue::open(&home.path().join("queue"), (&History::default()).into()).unwrap();
        let count = 200 / sessions;
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..sessions {
                scope.spawn(|| pass_through(&queue, count));
            }
        });
        eprintln!(
            "{sessions} sessions: 200 messages in {:?}, {} flushes",
            begun.elapsed(),
            queue.flushes()
        );
        // One for the message and one for its result, had each its own.
        assert!(queue.flushes() <= 400);
    }
}

#[test]
#[ignore = "makes as many files as there are to be messages"]
fn a_queue_of_very_many_messages_is_read_soon_and_takes_little_memory() {
    let count = std::env::var("CROWD").map_or(100_000, |count| count.parse().unwrap());
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("queue");
    for first in "0123456789abcdefghjkmnpqrstvwxyz".chars() {
        for second in "0123456789abcdefghjkmnpqrstvwxyz".chars() {
            fs::create_dir_all(path.join(format!("{first}{second}"))).unwrap();
        }
    }
    let begun = Instant::now();
    fill(&path, count);
    eprintln!("{count} messages made in {:?}", begun.elapsed());
    let before = resident();
    let begun = Instant::now();
    let queue = Queue::open(&path, (&History::default()).into()).unwrap();
    let desk = Desk::new(queue, None, Ward::new(&Quarantine::default()));
    let ready = begun.elapsed();
    desk.read().unwrap();
    let taken = resident().saturating_sub(before) / count;
    eprintln!(
        "mail is taken after {ready:?}, all {count} are read after {:?}; {taken} octets of memory for each",
        begun.elapsed()
    );
    assert_eq!(desk.schedule().len(), count);
    assert!(taken < OCTETS_PER_MESSAGE, "{taken}");
}
