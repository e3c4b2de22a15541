//! Replays the dialogs in `tests/dialogs/smtp/` against the running server: sockets, TLS, and the daemons behind it.
//! `proto/smtp/tests/dialogs.rs` explains their form and replays them against the bare machine.
//!
//! Of a refusal the codes count, because its words may come from the daemons behind. Ids, times and the client's
//! address are those of the dialog after they are read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

#[path = "../../proto/smtp/tests/dialogs/script.rs"]
mod script;
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::port::Begins;
use script::{matches, octets};
use smtp::server::{Config, HeaderLimits, Role};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use world::World;

/// Dialogs that need more than can happen to a running server at will.
const MACHINE_ONLY: [(&str, &str); 3] = [
    (
        "opening_refused",
        "a small message is only opened when it is whole, so its opening cannot fail alone",
    ),
    (
        "xclient_crowded",
        "the client that is refused is so by its number; `xclient.rs` has it refused by limits",
    ),
    (
        "lmtp_each",
        "deliverd delivers to all recipients of a message or to none; `lmtp.rs` has it refuse one",
    ),
];

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

enum Wire {
    Clear(TcpStream),
    Secure(BufReader<Box<dyn Stream>>),
    Gone,
}

struct Player {
    world: World,
    wire: Wire,
    /// Ids of messages, in the order in which they were accepted.
    ids: Vec<String>,
}

impl Wire {
    async fn write(&mut self, bytes: &[u8]) {
        // A server that has hung up need not hear it; what it should have said is missed below.
        let _ = match self {
            Self::Clear(stream) => stream.write_all(bytes).await,
            Self::Secure(stream) => stream.write_all(bytes).await,
            Self::Gone => Ok(()),
        };
        if let Self::Secure(stream) = self {
            let _ = stream.flush().await;
        }
    }

    /// The next line without its end, `None` at the end of the connection.
    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self {
            // Octet by octet: behind the last line in clear text there may be a handshake.
            Self::Clear(stream) => {
                let mut octet = [0];
                while !line.ends_with(b"\r\n") {
                    match tokio::io::AsyncReadExt::read(stream, &mut octet).await {
                        Ok(1) => line.push(octet[0]),
                        _ => break,
                    }
                }
            }
            Self::Secure(stream) => {
                stream.read_until(b'\n', &mut line).await.unwrap_or(0);
            }
            Self::Gone => {}
        }
        let line = String::from_utf8(line).unwrap();
        line.strip_suffix("\r\n").map(str::to_owned)
    }
}

impl Player {
    async fn begin(port: &str, has_timeout: bool) -> Self {
        let mut world = World::new();
        *world.store.is_full_of_life.lock().unwrap() = true;
        let (offer, begins) = offer(port, &world, has_timeout);
        let role = offer.role;
        world.offer = Some(offer);
        let address = world.listen(role, begins).await;
        let stream = TcpStream::connect(address).await.unwrap();
        let mut player = Self {
            world,
            wire: Wire::Clear(stream),
            ids: Vec::new(),
        };
        if begins == Begins::Tls {
            player.secure().await;
        }
        player
    }

    async fn secure(&mut self) {
        let Wire::Clear(stream) = std::mem::replace(&mut self.wire, Wire::Gone) else {
            panic!("TLS twice");
        };
        let stream = self.world.secure(stream).await.into_inner();
        self.wire = Wire::Secure(BufReader::new(Box::new(stream)));
    }

    async fn perform(&mut self, statement: &str) {
        let (word, rest) = statement.split_once(' ').unwrap_or((statement, ""));
        match word {
            "C:" => {
                self.wire
                    .write(&[octets(rest), b"\r\n".to_vec()].concat())
                    .await
            }
            "C>" => self.wire.write(&octets(rest)).await,
            "S:" => self.expect(rest).await,
            "TLS" => self.secure().await,
            // It comes by itself.
            "TIMEOUT" => {}
            "SHUTDOWN" => {
                // Bytes that are there are read before.
                sleep(Duration::from_millis(200)).await;
                self.world.stop_smtpd();
                sleep(Duration::from_millis(200)).await;
            }
            "END" => self.wire = Wire::Gone,
            "CLOSED" => {
                let end = timeout(Duration::from_secs(10), self.wire.line()).await;
                assert_eq!(end.expect("the server has not hung up"), None);
            }
            "MESSAGES" => {
                let count: usize = rest.parse().unwrap();
                if count == 0 {
                    // What must not come needs time to come.
                    sleep(Duration::from_millis(200)).await;
                }
                assert_eq!(self.messages().len(), count);
            }
            "B:" | "N:" => {
                let message = self.messages().pop().unwrap();
                let message = self.like_the_dialog(&message);
                let pattern = String::from_utf8(octets(rest)).unwrap();
                let pattern = pattern.replace("Thu, 1 Jan 1970 00:00:00 +0000", "*");
                let is_there = message.split("\r\n").any(|line| matches(&pattern, line));
                assert_eq!(is_there, word == "B:", "{pattern} in {message}");
            }
            other => panic!("no such statement: {other}"),
        }
    }

    async fn expect(&mut self, pattern: &str) {
        let line = timeout(Duration::from_secs(10), self.wire.line()).await;
        let line = line.expect("silence").expect("the end of the connection");
        let line = self.like_the_dialog(&line);
        let codes = |text: &str| text.get(..9).map(str::to_owned);
        let is_refusal = line.starts_with(['4', '5']) && line.contains('.');
        let same = matches(pattern, &line) || is_refusal && codes(pattern) == codes(&line);
        assert!(same, "expected {pattern:?}\n     got {line:?}");
    }

    fn messages(&self) -> Vec<String> {
        let (store, queue) = (self.world.store.kept(), self.world.queue.kept());
        let all = store.into_iter().chain(queue);
        all.map(|message| String::from_utf8_lossy(&message.bytes).into_owned())
            .collect()
    }

    /// With the ids and the client of the dialog.
    fn like_the_dialog(&mut self, text: &str) -> String {
        let mut like = text.replace("127.0.0.1", "192.0.2.7");
        let is_id = |word: &&str| word.len() == 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        for id in words.filter(is_id) {
            if !self.ids.iter().any(|known| known == id) {
                self.ids.push(id.to_owned());
            }
        }
        for (number, id) in self.ids.iter().enumerate() {
            like = like.replace(id, &format!("m{}", number + 1));
        }
        // The TLS of the machine's tests is no TLS, so logins cannot be bound to it.
        like = like.replace("AUTH SCRAM-SHA-256-PLUS ", "AUTH ");
        match like.split_once("(TLSv1.3 ") {
            Some((head, tail)) => {
                let (_, tail) = tail.split_once(')').unwrap();
                format!("{head}(TLSv1.3){tail}")
            }
            None => like,
        }
    }
}

/// What the machine's own tests offer, and how the port begins.
fn offer(port: &str, world: &World, has_timeout: bool) -> (Config, Begins) {
    let mut words = port.split(' ');
    let (role, begins) = match words.next().unwrap() {
        "smtp" => (Role::Exchange, Begins::Clear),
        "submission" => (Role::Submission, Begins::Clear),
        "submissions" => (Role::Submission, Begins::Tls),
        "lmtp" => (Role::Delivery, Begins::Clear),
        other => panic!("no such port: {other}"),
    };
    let patience = Duration::from_secs(if has_timeout { 2 } else { 60 });
    let mut config = Config {
        max_message_size: 10_000,
        max_recipients: 3,
        max_messages: 3,
        max_text_line: 5_000,
        header: HeaderLimits {
            octets: 8_000,
            fields: 120,
            hops: 100,
        },
        max_idle_commands: 12,
        starttls: true,
        command_timeout: patience,
        data_window: patience,
        ..Config::new(world.house.hostname.clone(), role)
    };
    words.for_each(|word| script::change(&mut config, word));
    (config, begins)
}

async fn replay(path: PathBuf) {
    let text = std::fs::read_to_string(&path).unwrap();
    let statements = text.lines().enumerate();
    let mut statements =
        statements.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let (_, port) = statements.next().expect("an empty dialog");
    let port = port
        .strip_prefix("port ")
        .expect("a dialog begins with its port");
    let mut player = Player::begin(port, text.contains("\nTIMEOUT")).await;
    for (n, line) in statements {
        // Shown only if the dialog fails.
        println!("{}:{}: {line}", path.display(), n + 1);
        player.perform(line).await;
    }
}

#[tokio::test]
async fn dialogs_go_as_written_with_the_running_server() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/dialogs/smtp");
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut failed = Vec::new();
    for path in paths {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if MACHINE_ONLY.iter().any(|(only, _)| *only == name) {
            continue;
        }
        if let Err(error) = tokio::spawn(replay(path)).await {
            failed.push(format!("{name}: {error}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
