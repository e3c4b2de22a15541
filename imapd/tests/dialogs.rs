//! Replays the dialogs in `tests/dialogs/imap/` against imapd.
//!
//! A dialog file is read line by line:
//!
//! ```text
//! # a comment
//! C: a1 NOOP                 the client says this line; \r \n \0 \\ and \xNN are octets
//! C> a1 NO                   the same, but no CRLF is added
//! S: a1 OK …                 the server says this line; … stands for any text, \0 for NUL
//! C2: … S2: …                a second client
//! LIMIT MESSAGELIMIT 3       a command is about so many messages (stands before all else); SAVELIMIT 3 likewise
//! FAR                        the first client may not log in without TLS (stands before all else)
//! TLS                        the first client does the handshake that STARTTLS asked for
//! DELIVER text               a message arrives from elsewhere; \r\n as above
//! WITHOUT MOVE IDLE          the account is not offered these extensions from the next login on
//! SHARE letters name         somebody else shares a mailbox with one message
//! RIGHTS letters name        and changes what may be done with it
//! CLOSED                     the server hangs up on the first client
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use std::fs;
use std::path::{Path, PathBuf};

use imap::capability::Limits;
use world::{Client, World};

fn dialog_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/dialogs/imap");
    let entries = fs::read_dir(&folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_dialog = |path: &PathBuf| path.extension().is_some_and(|e| e == "dialog");
    let mut files: Vec<_> = paths.filter(is_dialog).collect();
    files.sort();
    assert!(!files.is_empty(), "no dialogs in {}", folder.display());
    files
}

/// How the clients' bytes reach the server.
#[derive(Clone, Copy, PartialEq)]
enum Pace {
    Lines,
    Octets,
}

struct Player {
    world: World,
    pace: Pace,
    clients: [Option<Client>; 2],
}

impl Player {
    async fn client(&mut self, index: usize) -> &mut Client {
        if self.clients[index].is_none() {
            self.clients[index] = Some(self.world.connect().await);
        }
        self.clients[index].as_mut().unwrap()
    }

    async fn say(&mut self, index: usize, bytes: &[u8]) {
        let pace = self.pace;
        let client = self.client(index).await;
        match pace {
            Pace::Lines => client.send(bytes).await,
            Pace::Octets => {
                for byte in bytes {
                    client.send(&[*byte]).await;
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    async fn hear(&mut self, index: usize, expected: &str) {
        let expected = &expected.replace("\\0", "\0");
        let line = self.client(index).await.line().await;
        let line = line.unwrap_or_else(|| panic!("hung up where {expected:?} was due"));
        assert!(
            matches(expected, &line),
            "expected {expected:?}\n     got {line:?}"
        );
    }

    async fn perform(&mut self, statement: &str) {
        let (word, rest) = statement.split_once(' ').unwrap_or((statement, ""));
        let line = || [octets(rest), b"\r\n".to_vec()].concat();
        match word {
            "C:" => self.say(0, &line()).await,
            "C2:" => self.say(1, &line()).await,
            "C>" => self.say(0, &octets(rest)).await,
            "S:" => self.hear(0, rest).await,
            "S2:" => self.hear(1, rest).await,
            "LIMIT" => {
                let (name, number) = rest.split_once(' ').unwrap();
                let most = Some(number.parse().unwrap());
                let limits = Limits {
                    any: most.filter(|_| name == "MESSAGELIMIT"),
                    saving: most.filter(|_| name == "SAVELIMIT"),
                };
                self.world = World::limited(limits).await;
            }
            "FAR" => self.clients[0] = Some(self.world.connect_far().await),
            "TLS" => {
                let client = self.clients[0].take().unwrap();
                self.clients[0] = Some(self.world.secure(client).await);
            }
            "DELIVER" => {
                self.world.store.deliver(&octets(rest));
            }
            "SHARE" | "RIGHTS" => {
                let (letters, name) = rest.split_once(' ').unwrap();
                match word {
                    "SHARE" => self.world.store.share(name, letters),
                    _ => self.world.store.change_rights(name, letters),
                }
            }
            "WITHOUT" => self.world.store.switch_off(rest),
            "CLOSED" => assert!(self.client(0).await.is_closed().await, "the server goes on"),
            other => panic!("no such statement: {other}"),
        }
    }
}

fn octets(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'r') => out.push(b'\r'),
            Some(b'n') => out.push(b'\n'),
            Some(b'0') => out.push(0),
            Some(b'\\') => out.push(b'\\'),
            Some(b'x') => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                let digits = str::from_utf8(&digits).unwrap();
                out.push(u8::from_str_radix(digits, 16).unwrap());
            }
            // The flags of IMAP begin with a backslash.
            Some(other) => out.extend([b'\\', other]),
            None => panic!("a backslash at the end"),
        }
    }
    out
}

fn matches(pattern: &str, line: &str) -> bool {
    // IMAP has stars of its own, so a dialog has dots for any text.
    let Some((head, tail)) = pattern.split_once('…') else {
        return pattern == line;
    };
    let Some(rest) = line.strip_prefix(head) else {
        return false;
    };
    let mut ends = (0..=rest.len()).filter(|n| rest.is_char_boundary(*n));
    ends.any(|n| matches(tail, &rest[n..]))
}

async fn replay(path: &Path, pace: Pace) {
    let text = fs::read_to_string(path).unwrap();
    let mut player = Player {
        world: World::new().await,
        pace,
        clients: [None, None],
    };
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        // Shown only if the dialog fails.
        println!("{}:{}: {line}", path.display(), number + 1);
        player.perform(line).await;
    }
}

#[tokio::test]
async fn dialogs_go_as_written() {
    for path in dialog_files() {
        replay(&path, Pace::Lines).await;
    }
}

#[tokio::test]
async fn dialogs_go_as_written_octet_by_octet() {
    for path in dialog_files() {
        replay(&path, Pace::Octets).await;
    }
}
