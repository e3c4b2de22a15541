//! relayd is killed at random moments under load, again and again: whatever it took arrives or comes back, and what arrives twice is no
//! more than what was on its way when it was killed.
//!
//! `RMAIL_RELAY_KILLS` says how often (40), `RMAIL_RELAY_SEED` which moments (1).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::channel::Client;
use ipc::queue::QueueEdge;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use world::deliverd::Deliverd;
use world::house::{House, bring, envelope, waiting};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@[127.0.0.1]";
/// Clients that bring mail at the same time, and connections out.
const WRITERS: u32 = 8;
const CONNECTIONS: usize = 5;

/// A generator of numbers that are the same for the same seed (xorshift).
struct Random(u32);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % end
    }
}

/// A message that no other is like, of up to 20 KB.
fn letter(number: u32) -> String {
    let mut text = format!("From: {ALICE}\r\nSubject: number {number} of them\r\n\r\n");
    for line in 0..number % 400 {
        text.push_str(&format!(
            ".{number:08} {line:04} lorem ipsum dolor sit amet\r\n"
        ));
    }
    text
}

fn number_of(text: &str) -> u32 {
    let (_, rest) = text.split_once("Subject: number ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

/// A server that keeps account of what it took: which number, and during which life of relayd.
#[derive(Default)]
struct Mx {
    life: AtomicUsize,
    connections: AtomicUsize,
    taken: Mutex<Vec<(u32, usize)>>,
    random: Mutex<Random>,
}

impl Default for Random {
    fn default() -> Self {
        Self(1)
    }
}

impl Mx {
    async fn start() -> (Arc<Self>, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mx = Arc::new(Self::default());
        let server = Arc::clone(&mx);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                server.connections.fetch_add(1, Ordering::SeqCst);
                let server = Arc::clone(&server);
                tokio::spawn(async move {
                    // Whoever is cut off is killed.
                    let _ = server.serve(stream).await;
                    server.connections.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        (mx, port)
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufStream::new(stream);
        stream.write_all(b"220 mx\r\n").await?;
        let mut is_refused = false;
        loop {
            stream.flush().await?;
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let answer = match line.get(..4).unwrap_or_default() {
                // Some have to come again.
                "RCPT" if self.random.lock().unwrap().below(8) == 0 => "450 4.2.1 later",
                // Nobody knows the recipients of some.
                "RCPT" if is_refused => "550 5.1.1 no such user",
                "DATA" => {
                    stream.write_all(b"354 go\r\n").await?;
                    stream.flush().await?;
                    let mut body = String::new();
                    while !body.ends_with("\r\n.\r\n") {
                        if stream.read_line(&mut body).await? == 0 {
                            return Ok(());
                        }
                    }
                    let number = number_of(&body);
                    let whole = letter(number).replace("\r\n.", "\r\n..") + ".\r\n";
                    assert_eq!(body, whole);
                    let life = self.life.load(Ordering::SeqCst);
                    self.taken.lock().unwrap().push((number, life));
                    "250 2.0.0 taken"
                }
                "MAIL" => {
                    is_refused = line.contains("refused@");
                    "250 ok"
                }
                "QUIT" => "221 bye",
                _ => "250 ok",
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        }
    }

    /// Waits until all that a process sent that is no more is read.
    async fn settle(&self, port: u16) {
        // Who knocked before has been let in by then.
        let mut last = BufStream::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        let mut greeting = String::new();
        last.read_line(&mut greeting).await.unwrap();
        drop(last);
        while self.connections.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Every tenth message is for nobody, and comes back.
fn sender(number: u32) -> &'static str {
    match number % 10 {
        0 => "refused@example.test",
        _ => ALICE,
    }
}

/// Brings one message after the other, and keeps account of those that relayd took.
async fn write(
    smtpd: Client<QueueEdge>,
    next: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeSet<u32>>>,
) {
    while !stop.load(Ordering::SeqCst) {
        let number = next.fetch_add(1, Ordering::SeqCst);
        let (from, body) = (envelope(sender(number), ""), letter(number));
        match bring(&smtpd, from, vec![waiting(BOB)], body.as_bytes(), None).await {
            Ok(_) => _ = acknowledged.lock().unwrap().insert(number),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

fn setting(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_took_arrives_or_comes_back_however_often_it_is_killed() {
    let kills = setting("RMAIL_RELAY_KILLS", 40);
    let mut random = Random(setting("RMAIL_RELAY_SEED", 1).max(1));
    let (mx, port) = Mx::start().await;
    let waits = vec!["1"; 40].join(", ");
    let mut house = House::build(&format!(
        "\"port\": {port}, \"dns\": [\"127.0.0.1:9\"], \"retry_seconds\": [{waits}], \"max_connections_per_domain\": {CONNECTIONS}"
    ));
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    let (next, stop) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
    let acknowledged = Arc::<Mutex<BTreeSet<u32>>>::default();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let smtpd = Client::new(house.socket("relayd-smtpd.sock"));
            let (next, stop) = (Arc::clone(&next), Arc::clone(&stop));
            tokio::spawn(write(smtpd, next, stop, Arc::clone(&acknowledged)))
        })
        .collect();
    for _ in 0..kills {
        let moment = Duration::from_millis(random.below(400).into());
        tokio::time::sleep(moment).await;
        house.kill();
        mx.settle(port).await;
        mx.life.fetch_add(1, Ordering::SeqCst);
        house.start();
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    house.queue_until(|queue| queue.is_empty()).await;
    assert!(house.files().is_empty(), "{:?}", house.files());
    let acknowledged = acknowledged.lock().unwrap().clone();
    let reports = deliverd.inbox.lock().unwrap().clone();
    account(&mx.taken.lock().unwrap(), &reports, &acknowledged, kills);
}

/// Nothing that was acknowledged is missing, and what came twice did so because of a kill.
fn account(
    taken: &[(u32, usize)],
    reports: &[(String, String)],
    acknowledged: &BTreeSet<u32>,
    kills: u32,
) {
    let mut lives: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (number, life) in taken {
        lives.entry(*number).or_default().push(*life);
    }
    let returned: Vec<u32> = reports.iter().map(|(_, text)| number_of(text)).collect();
    let back: BTreeSet<u32> = returned.iter().copied().collect();
    let is_there = |number: &u32| lives.contains_key(number) || back.contains(number);
    let lost: Vec<_> = acknowledged.iter().filter(|one| !is_there(one)).collect();
    let (mut twice, mut by_kill) = (0, BTreeMap::<usize, usize>::new());
    for (number, lives) in &lives {
        for pair in lives.windows(2) {
            twice += 1;
            assert!(
                pair[0] < pair[1],
                "{number} came twice in one life of relayd"
            );
            *by_kill.entry(pair[0]).or_default() += 1;
        }
    }
    eprintln!(
        "{kills} kills: {} acknowledged, {} arrived, {} came back, {twice} arrived twice, {} were reported twice",
        acknowledged.len(),
        lives.len(),
        back.len(),
        returned.len() - back.len(),
    );
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    // A result that is not on disk yet keeps its connection's place.
    let most = by_kill.values().max().copied().unwrap_or(0);
    assert!(
        most <= CONNECTIONS,
        "one kill made {most} mails arrive twice"
    );
    let both: Vec<_> = back.iter().filter(|one| lives.contains_key(one)).collect();
    assert!(both.is_empty(), "arrived and came back: {both:?}");
    assert!(acknowledged.len() > kills as usize, "hardly any load");
}
