//! The machine fails relayd: no room, flushes that fail (strace), a clock that jumps (libfaketime). Nothing is lost, and when it is over
//! everything goes on by itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::channel::CallError;
use ipc::Refusal;
use ipc::control::QueueControlRequest;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use world::deliverd::Deliverd;
use world::house::House;
use world::https::{Authority, Https};
use world::zones::{Signing, Zone, Zones};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@[127.0.0.1]";

/// A server that takes mail while it is open, and puts it off while it is not.
#[derive(Default)]
struct Mx {
    is_open: AtomicBool,
    taken: Mutex<Vec<String>>,
}

impl Mx {
    async fn start(is_open: bool) -> (Arc<Self>, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mx = Arc::new(Self::default());
        mx.open(is_open);
        let server = Arc::clone(&mx);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = Arc::clone(&server);
                tokio::spawn(async move {
                    // Whoever hangs up has what is written down until then.
                    let _ = server.serve(stream).await;
                });
            }
        });
        (mx, port)
    }

    fn open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::SeqCst);
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufStream::new(stream);
        stream.write_all(b"220 mx\r\n").await?;
        loop {
            stream.flush().await?;
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let answer = match line.get(..4).unwrap_or_default() {
                "RCPT" if !self.is_open.load(Ordering::SeqCst) => "450 4.2.1 later",
                "DATA" => {
                    stream.write_all(b"354 go\r\n").await?;
                    stream.flush().await?;
                    let mut body = String::new();
                    while !body.ends_with("\r\n.\r\n") {
                        if stream.read_line(&mut body).await? == 0 {
                            return Ok(());
                        }
                    }
                    self.taken.lock().unwrap().push(subject(&body));
                    "250 2.0.0 taken"
                }
                "QUIT" => "221 bye",
                _ => "250 ok",
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        }
    }

    /// How often each was taken.
    fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for subject in self.taken.lock().unwrap().iter() {
            *counts.entry(subject.clone()).or_default() += 1;
        }
        counts
    }
}

fn subject(text: &str) -> String {
    let (_, rest) = text.split_once("Subject: ").unwrap();
    rest.lines().next().unwrap().to_owned()
}

fn relay(port: u16, waits: &str) -> String {
    format!(
        "\"port\": {port}, \"dns\": [\"127.0.0.1:9\"], \"delay_warning_hours\": 0, \"retry_seconds\": [{waits}]"
    )
}

async fn submit(house: &House, subject: &str, size: usize) -> Result<String, CallError> {
    let body = format!("Subject: {subject}\r\n\r\n{}\r\n", "x".repeat(size));
    house.submit(ALICE, &[BOB], body.as_bytes()).await
}

/// Everything that was acknowledged arrived, once.
#[track_caller]
fn expect_each_once(mx: &Mx, acknowledged: &BTreeSet<String>) {
    let counts = mx.counts();
    let odd: Vec<_> = acknowledged
        .iter()
        .filter(|subject| counts.get(*subject) != Some(&1))
        .collect();
    assert!(odd.is_empty(), "{odd:?} of {counts:?}");
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

#[tokio::test]
async fn a_full_disk_refuses_mail_and_what_is_queued_makes_room_again() {
    if !is_root() {
        eprintln!("SKIPPED: only root can mount a small file system");
        return;
    }
    let (mx, port) = Mx::start(false).await;
    let mut house = House::build(&relay(port, &["1"; 60].join(", ")));
    house.kill();
    let queue = house.socket("queue");
    let first = format!(
        "mkdir -p '{0}'; mount -t tmpfs -o size=200k,mode=700 tmpfs '{0}' || exit; ",
        queue.display()
    );
    house.start_by(&["unshare", "--mount", "--propagation", "private"], &first);
    let mut acknowledged = BTreeSet::new();
    let refusal = loop {
        let subject = format!("before {}", acknowledged.len());
        match submit(&house, &subject, 9000).await {
            Ok(_) => _ = acknowledged.insert(subject),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refusal, CallError::Refused(Refusal::DiskFull)),
        "{refusal:?}"
    );
    assert!(acknowledged.len() > 5, "{acknowledged:?}");
    // Every octet that is left goes, so that not even a result can be written down.
    let seen = PathBuf::from(format!("/proc/{}/root", house.pid()));
    let ballast = seen.join(queue.strip_prefix("/").unwrap()).join("ballast");
    let error = fill(&ballast).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    let queued = house.queue().await.len();
    assert_eq!(queued, acknowledged.len());
    let refusal = submit(&house, "while it is full", 9000).await.unwrap_err();
    assert!(
        matches!(refusal, CallError::Refused(Refusal::DiskFull)),
        "{refusal:?}"
    );
    mx.open(true);
    // Whatever leaves makes room for the results of the others. What could not be written down for so long that it was due again by then
    // comes back after a minute, or with this.
    let all = QueueControlRequest::RetryMessage { queue_id: None };
    let hurry = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            house.order(all.clone()).await.unwrap();
        }
    };
    tokio::select! {
        _ = house.queue_until(|queue| queue.is_empty()) => {}
        () = hurry => {}
    }
    expect_each_once(&mx, &acknowledged);
    std::fs::remove_file(&ballast).unwrap();
    submit(&house, "after", 9000).await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    acknowledged.insert("after".into());
    expect_each_once(&mx, &acknowledged);
    assert_eq!(mx.counts().len(), acknowledged.len());
}

fn fill(path: &std::path::Path) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path)?;
    loop {
        file.write_all(&[0; 4096])?;
    }
}

#[tokio::test]
async fn a_flush_that_fails_is_no_success_and_loses_nothing() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("SKIPPED: strace is not installed");
        return;
    }
    let (mx, port) = Mx::start(true).await;
    let mut house = House::build(&relay(port, &["1"; 60].join(", ")));
    house.kill();
    // In each thread the fourth flush fails, and every seventh after it.
    let strace = [
        "strace",
        "-D",
        "-f",
        "-qq",
        // It ends when it is told to.
        "-I2",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        "inject=fsync,fdatasync:error=EIO:when=4+7",
    ];
    house.start_by(&strace, "");
    let (mut acknowledged, mut refused) = (BTreeSet::new(), 0);
    for number in 0..60 {
        let subject = format!("number {number}");
        match submit(&house, &subject, 100).await {
            Ok(_) => _ = acknowledged.insert(subject),
            Err(CallError::Refused(Refusal::StorageFault)) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(refused > 5 && acknowledged.len() > 5, "{refused} refused");
    end_tracer(house.pid()).await;
    house.queue_until(|queue| queue.is_empty()).await;
    submit(&house, "after", 100).await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    acknowledged.insert("after".into());
    expect_each_once(&mx, &acknowledged);
    // What was refused is not sent, either: its sender comes again.
    assert_eq!(mx.counts().len(), acknowledged.len());
    assert!(house.files().is_empty(), "{:?}", house.files());
}

/// Ends the strace on a process; that goes on without it.
async fn end_tracer(pid: u32) {
    let tracer = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"));
        line.unwrap().trim().parse::<u32>().unwrap()
    };
    sys::process::terminate(tracer()).unwrap();
    while tracer() != 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A clock that the test sets.
struct Clock {
    faketime: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// `None`, and a word why, where libfaketime is not installed.
    fn of(house: &House) -> Option<Self> {
        let places = std::fs::read_dir("/usr/lib").unwrap();
        let mut libraries =
            places.map(|place| place.unwrap().path().join("faketime/libfaketimeMT.so.1"));
        let faketime = libraries.find(|faketime| faketime.exists());
        if faketime.is_none() {
            eprintln!("SKIPPED: libfaketime is not installed");
        }
        Some(Self {
            faketime: faketime?,
            file: house.socket("clock"),
        })
    }

    /// From now on it is so much later, or earlier, than it is.
    fn set(&self, offset: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, offset).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    /// Starts relayd by it.
    fn start(&self, house: &mut House) {
        self.set("+0");
        let first = format!(
            "export LD_PRELOAD='{}' FAKETIME_TIMESTAMP_FILE='{}' FAKETIME_NO_CACHE=1 DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_FAKE_MONOTONIC=1; ",
            self.faketime.display(),
            self.file.display()
        );
        house.kill();
        house.start_by(&["env"], &first);
    }
}

/// Waits until so many attempts were made for every message.
async fn tried(house: &House, attempts: u32) {
    house
        .queue_until(|queue| {
            let mut recipients = queue.iter().flat_map(|one| &one.recipients);
            !queue.is_empty() && recipients.all(|one| one.attempts == attempts)
        })
        .await;
}

#[tokio::test]
async fn what_is_due_in_an_hour_goes_when_the_clock_is_set_to_then() {
    let (mx, port) = Mx::start(false).await;
    let mut house = House::build(&relay(port, "3600, 3600"));
    let Some(clock) = Clock::of(&house) else {
        return;
    };
    clock.start(&mut house);
    submit(&house, "early", 100).await.unwrap();
    tried(&house, 1).await;
    mx.open(true);
    clock.set("+2h");
    // Whoever comes wakes it; else it would look at the clock within a minute.
    submit(&house, "late", 100).await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    expect_each_once(&mx, &["early", "late"].map(str::to_owned).into());
}

#[tokio::test]
async fn what_is_due_in_an_hour_waits_no_longer_when_the_clock_is_set_back() {
    let (mx, port) = Mx::start(false).await;
    let mut house = House::build(&relay(port, "3600, 3600"));
    let Some(clock) = Clock::of(&house) else {
        return;
    };
    clock.start(&mut house);
    clock.set("+3650d");
    submit(&house, "early", 100).await.unwrap();
    tried(&house, 1).await;
    mx.open(true);
    clock.set("+0");
    submit(&house, "late", 100).await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    expect_each_once(&mx, &["early", "late"].map(str::to_owned).into());
}

#[tokio::test]
async fn a_clock_that_runs_away_gives_nothing_up_unheard() {
    let (mx, port) = Mx::start(false).await;
    let mut house = House::build(&relay(port, "3600, 3600"));
    let Some(clock) = Clock::of(&house) else {
        return;
    };
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    clock.start(&mut house);
    submit(&house, "early", 100).await.unwrap();
    tried(&house, 1).await;
    // Years in which it could have been tried a hundred times: that is one attempt, and no more.
    clock.set("+1000d");
    submit(&house, "other", 100).await.unwrap();
    house
        .queue_until(|queue| {
            let mut attempts = queue.iter().map(|one| one.recipients[0].attempts);
            attempts.next() == Some(2) && attempts.next() == Some(1)
        })
        .await;
    mx.open(true);
    clock.set("+2000d");
    submit(&house, "third", 100).await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    expect_each_once(&mx, &["early", "other", "third"].map(str::to_owned).into());
    assert!(deliverd.inbox.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_came_by_a_clock_that_was_ahead_goes_after_a_restart() {
    let (mx, port) = Mx::start(false).await;
    let mut house = House::build(&relay(port, "3600, 3600"));
    let Some(clock) = Clock::of(&house) else {
        return;
    };
    clock.start(&mut house);
    clock.set("+3650d");
    submit(&house, "early", 100).await.unwrap();
    tried(&house, 1).await;
    mx.open(true);
    // The machine starts again, and knows what time it is.
    clock.start(&mut house);
    house.queue_until(|queue| queue.is_empty()).await;
    expect_each_once(&mx, &["early".to_owned()].into());
}

#[tokio::test]
async fn a_policy_counts_as_long_as_it_said_by_the_clock_of_the_day() {
    let records = "far IN MX 10 mx.far\nmx.far IN A 127.0.0.1\nmta-sts.far IN A 127.0.0.1\n_mta-sts.far IN TXT \"v=STSv1; id=1;\"\n";
    let zone = Zone {
        name: "test",
        records,
        signing: Signing::None,
    };
    let Some(zones) = Zones::serve(&[zone]).await else {
        return;
    };
    let authority = Authority::new();
    let Some(https) = Https::start(&authority, &["mta-sts.far.test"]).await else {
        return;
    };
    let policy = "200\nContent-Type: text/plain\n\nversion: STSv1\nmode: enforce\nmx: mx.far.test\nmax_age: 86400\n";
    https.say("mta-sts.far.test", policy);
    let (mx, port) = Mx::start(true).await;
    let mut house = House::build(&format!(
        "\"port\": {port}, \"dns\": [\"{}\"], \"dnssec\": {{\"mode\": \"off\"}}, \"delay_warning_hours\": 0, \"mta_sts\": {{\"port\": {}}}, \"retry_seconds\": [3600, 3600, 3600]",
        zones.address, https.port
    ));
    house.trust(&authority.pem);
    let Some(clock) = Clock::of(&house) else {
        return;
    };
    clock.start(&mut house);
    let body = b"Subject: far\r\n\r\nsecret\r\n";
    house.submit(ALICE, &["bob@far.test"], body).await.unwrap();
    tried(&house, 1).await;
    https.say("mta-sts.far.test", "404\n\n");
    // It holds for a day, whatever is served now.
    clock.set("+23h");
    submit(&house, "one", 100).await.unwrap();
    house
        .queue_until(|queue| queue.len() == 1 && queue[0].recipients[0].attempts == 2)
        .await;
    assert_eq!(mx.counts().get("far"), None);
    clock.set("+50h");
    submit(&house, "two", 100).await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    expect_each_once(&mx, &["far", "one", "two"].map(str::to_owned).into());
}
