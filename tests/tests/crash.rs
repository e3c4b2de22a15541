//! Daemons are killed while mail flows: what was acknowledged is there at the end, whole.
//!
//! `smtp-source` (Postfix) gives up its whole run at the first lost connection, so it runs in batches of ten: a batch that
//! ended with status 0 has ten acknowledged messages, of any other batch nothing is known. Beside it a client of our own
//! sends messages that all differ, and keeps account of every single 250.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use loopback::Port;
use serde_json::json;
use system_tests::dns::NameServer;
use system_tests::load::{Load, recognize};
use system_tests::maildir::body;
use system_tests::options::PASSWORD;
use system_tests::patience::wait_for;
use system_tests::program;
use system_tests::smtp::Client;
use system_tests::system::{DAEMONS, Home};
use system_tests::{Options, System, imap, sink, skip_without};

const BATCH: u32 = 10;
/// Messages that `smtp-source` must get acknowledged.
const MANY: u32 = 2000;
/// Messages of our own client.
const OURS: u32 = 300;
const LIMIT: Duration = Duration::from_secs(200);

/// One run of `smtp-source`; true if all its messages were acknowledged.
fn batch(system: &System, subject: &str) -> bool {
    let mut command = program::command("smtp-source");
    command
        .args([
            "-m",
            &BATCH.to_string(),
            "-s",
            "5",
            "-l",
            "3000",
            "-M",
            "source.test",
            "-S",
            subject,
        ])
        .args([
            "-f",
            "source@outside.test",
            "-t",
            "alice@example.test",
            &format!("127.0.0.1:{}", system.port("smtp")),
        ]);
    program::run(&mut command, b"", Duration::from_secs(120))
        .status
        .success()
}

/// Kills each daemon in turn, three times each.
fn kill_in_turn(system: &System) {
    for daemon in DAEMONS.iter().cycle().take(3 * DAEMONS.len()) {
        std::thread::sleep(Duration::from_millis(400));
        let before = system.kill(daemon);
        system.wait_for_restart(daemon, before);
    }
}

#[test]
fn no_acknowledged_mail_is_lost_when_each_daemon_is_killed_in_turn() {
    skip_without!("smtp-source");
    let system = System::start(Options::default());
    assert!(
        batch(&system, "undisturbed"),
        "{}",
        program::end_of(&system.log())
    );
    let killing = AtomicBool::new(true);
    let (acknowledged, next) = (AtomicU32::new(0), AtomicU32::new(0));
    let good = Mutex::new(BTreeSet::new());
    let start = Instant::now();
    let more = |count: u32, enough: u32| {
        (count < enough || killing.load(Ordering::Relaxed)) && start.elapsed() < LIMIT
    };
    let ours = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while more(acknowledged.load(Ordering::Relaxed), MANY) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if batch(&system, &format!("batch-{number}")) {
                        acknowledged.fetch_add(BATCH, Ordering::Relaxed);
                        good.lock().unwrap().insert(number);
                    } else {
                        std::thread::sleep(Duration::from_millis(200));
                    }
                }
            });
        }
        let client = scope.spawn(|| {
            let load = Load {
                server: system.address("smtp"),
                login: None,
                from: "load@outside.test".into(),
                to: "bob@example.test".into(),
            };
            let mut numbers = Vec::new();
            while more(u32::try_from(numbers.len()).unwrap(), OURS) {
                let first = numbers.last().map_or(0, |last| last + 10);
                numbers.extend(load.run(first, 50, 2, Duration::from_secs(60)));
            }
            numbers
        });
        kill_in_turn(&system);
        killing.store(false, Ordering::Relaxed);
        client.join().unwrap()
    });
    let (acknowledged, good) = (acknowledged.into_inner(), good.into_inner().unwrap());
    eprintln!(
        "{acknowledged} of smtp-source's and {} of our messages acknowledged in {:?}; {} batches, {} good",
        ours.len(),
        start.elapsed(),
        next.into_inner(),
        good.len()
    );
    assert!(
        acknowledged >= MANY && ours.len() >= OURS as usize,
        "too slow"
    );
    check_alice(&system, &good);
    check_bob(&system, &ours);
}

/// Every message of every good batch is there, and every body is what `smtp-source` sends.
fn check_alice(system: &System, good: &BTreeSet<u32>) {
    let files = system.account("alice@example.test").messages("INBOX");
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut pattern: Option<Vec<u8>> = None;
    for file in &files {
        let bytes = file.bytes();
        let text = String::from_utf8_lossy(&bytes);
        let subject = text
            .lines()
            .find_map(|line| line.strip_prefix("Subject: "))
            .unwrap_or_else(|| panic!("{file:?}: {text}"));
        *counts.entry(subject.to_owned()).or_default() += 1;
        let body = body(&bytes);
        assert!(body.len() >= 2900, "{file:?} is cut: {} bytes", bytes.len());
        let pattern = pattern.get_or_insert_with(|| body.to_vec());
        assert!(body == pattern, "{file:?} is damaged");
    }
    for number in good {
        let count = counts.get(&format!("batch-{number}")).copied().unwrap_or(0);
        assert!(
            count >= BATCH,
            "of batch {number} only {count} of {BATCH} acknowledged messages are there"
        );
    }
    let mut client =
        imap::Client::login(system.address("imap"), "alice@example.test", PASSWORD).unwrap();
    let answer = client.command("EXAMINE INBOX").unwrap().ok();
    let exists = format!("* {} EXISTS", files.len());
    assert!(answer.untagged.contains(&exists), "{answer:?} but {exists}");
    let sizes = client.command("FETCH 1:* (UID RFC822.SIZE)").unwrap().ok();
    assert_eq!(sizes.untagged.len(), files.len());
}

/// Every acknowledged number is there, and no file is anything but a whole message.
fn check_bob(system: &System, acknowledged: &[u32]) {
    let files = system.account("bob@example.test").messages("INBOX");
    let found: BTreeSet<u32> = files
        .iter()
        .map(|file| recognize(&file.bytes()).unwrap_or_else(|| panic!("{file:?} is damaged")))
        .collect();
    let lost: Vec<u32> = acknowledged
        .iter()
        .copied()
        .filter(|number| !found.contains(number))
        .collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

#[test]
fn no_acknowledged_mail_is_lost_from_the_outbound_queue() {
    skip_without!("smtp-sink", "nsd");
    let options = Options::alice().config(&json!({
        "smtp": {"cleartext_auth_on_loopback": true},
        "relay": {"retry_seconds": [1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 5, 5, 5, 5, 10, 10, 10]},
    }));
    let home = Home::prepare(&options);
    let names = NameServer::start();
    let port = Port::reserve();
    home.configure(&json!({"relay": {"dns": [names.address()], "port": port.number()}}));
    let system = System::launch(home, &options);
    let dir = system.dir().join("sink");
    let _sink = sink::start(&port, &dir, &[]);
    let load = Load {
        server: system.address("submission"),
        login: Some(("alice@example.test".into(), PASSWORD.into())),
        from: "alice@example.test".into(),
        to: "carol@outside.test".into(),
    };
    let killing = AtomicBool::new(true);
    let start = Instant::now();
    let acknowledged = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut numbers: Vec<u32> = Vec::new();
            while (numbers.len() < 400 || killing.load(Ordering::Relaxed))
                && start.elapsed() < Duration::from_secs(90)
            {
                let first = numbers.last().map_or(0, |last| last + 10);
                numbers.extend(load.run(first, 50, 2, Duration::from_secs(30)));
            }
            numbers
        });
        for daemon in ["relayd", "relayd", "deliverd", "relayd", "smtpd", "relayd"] {
            std::thread::sleep(Duration::from_millis(700));
            let before = system.kill(daemon);
            system.wait_for_restart(daemon, before);
        }
        killing.store(false, Ordering::Relaxed);
        client.join().unwrap()
    });
    eprintln!(
        "{} messages for outside acknowledged in {:?}",
        acknowledged.len(),
        start.elapsed()
    );
    assert!(acknowledged.len() >= 400, "too slow");
    // Once more while the queue is being emptied.
    let before = system.kill("relayd");
    system.wait_for_restart("relayd", before);
    let lost = || {
        let found = recognized(&dir);
        acknowledged
            .iter()
            .copied()
            .filter(|number| !found.contains(number))
            .collect::<Vec<u32>>()
    };
    let all = wait_for(Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_millis(300));
        lost().is_empty().then_some(())
    });
    assert!(
        all.is_ok(),
        "acknowledged and not arrived: {:?}\nqueue: {}",
        lost(),
        system.rmailctl(&["queue", "list"]).text()
    );
}

/// The numbers of the whole messages among what `smtp-sink` wrote (with LF line ends, and an empty line at the end).
fn recognized(dir: &std::path::Path) -> BTreeSet<u32> {
    let listing = std::fs::read_dir(dir).unwrap();
    listing
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
        .filter_map(|text| recognize(text.strip_suffix('\n')?.replace('\n', "\r\n").as_bytes()))
        .collect()
}

#[test]
fn nobody_is_refused_while_smtpd_is_killed_and_started_again() {
    let system = System::start(Options::without_users());
    let going = AtomicBool::new(true);
    let address = system.address("smtp");
    let visit = || -> std::io::Result<()> {
        let (mut client, greeting) = Client::connect(address)?;
        if greeting.code != 220 {
            return Err(std::io::Error::other(greeting.text()));
        }
        client.command("QUIT").map(|_| ())
    };
    let outcomes: Vec<(u32, Vec<std::io::Error>)> = std::thread::scope(|scope| {
        let visitors: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (mut served, mut errors) = (0, Vec::new());
                    while going.load(Ordering::Relaxed) {
                        match visit() {
                            Ok(()) => served += 1,
                            Err(error) => errors.push(error),
                        }
                        // Ports of the client side are not endless.
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    (served, errors)
                })
            })
            .collect();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(500));
            let before = system.kill("smtpd");
            system.wait_for_restart("smtpd", before);
        }
        std::thread::sleep(Duration::from_secs(1));
        going.store(false, Ordering::Relaxed);
        visitors
            .into_iter()
            .map(|visitor| visitor.join().unwrap())
            .collect()
    });
    let served: u32 = outcomes.iter().map(|(served, _)| served).sum();
    let errors: Vec<_> = outcomes
        .into_iter()
        .flat_map(|(_, errors)| errors)
        .collect();
    eprintln!("{served} served, cut with their process: {errors:?}");
    assert!(served > 100, "only {served} were served");
    let refused = errors
        .iter()
        .filter(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
        .count();
    assert_eq!(refused, 0, "{errors:?}");
    // A session the killed process had taken ends with it: at most one for each visitor and kill.
    assert!(errors.len() <= 9, "{errors:?}");
}
