//! Replays the dialogs in `tests/dialogs/smtp/` against the bare server machine.
//!
//! A dialog file is read line by line:
//!
//! ```text
//! # a comment
//! port smtp                  or submission, submissions, lmtp; the first statement; behind it
//!                            "normalize", "binary", "dsn", "requiretls", "priority", "hold", "deliverby", "proxy", "login",
//!                            "clear" or "redact" changes what the port does
//! C: EHLO client.example     the client says this line; \r \n \0 \\ and \xNN are octets
//! C> MAIL FR                 the same, but no CRLF is added
//! S: 250 ok                  the server says this line; * stands for any text
//! TLS                        the handshake that STARTTLS asked for is done
//! TIMEOUT, SHUTDOWN, END     time runs out, the daemon stops, the client hangs up
//! CLOSED                     the server has hung up
//! MESSAGES 1                 so many messages were accepted since the beginning
//! B: Subject: x              the last accepted message has this line
//! N: Bcc:*                   the last accepted message has no such line
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

#[path = "dialogs/script.rs"]
mod script;
mod world;

use std::fs;
use std::path::{Path, PathBuf};

use script::{matches, octets};
use smtp::hold::HoldLimit;
use smtp::server::{Config, Input, Offer, Proxying, Role};
use world::{World, config};

fn dialog_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/dialogs/smtp");
    let entries = fs::read_dir(&folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .filter(|p| p.extension().is_some_and(|e| e == "dialog"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no dialogs in {}", folder.display());
    files
}

/// How the client's bytes reach the machine.
#[derive(Clone, Copy, PartialEq)]
enum Delivery {
    Lines,
    Octets,
}

struct Player {
    world: World,
    delivery: Delivery,
    /// What the server said and the dialog has not yet mentioned.
    heard: String,
}

impl Player {
    fn say(&mut self, bytes: &[u8]) {
        match self.delivery {
            Delivery::Lines => self.world.say(bytes),
            Delivery::Octets => bytes.iter().for_each(|b| self.world.say(&[*b])),
        }
    }

    fn listen(&mut self) -> Option<String> {
        self.heard.push_str(&self.world.heard());
        let (line, rest) = self.heard.split_once("\r\n")?;
        let (line, rest) = (line.to_string(), rest.to_string());
        self.heard = rest;
        Some(line)
    }

    fn perform(&mut self, statement: &str) {
        let (word, rest) = statement.split_once(' ').unwrap_or((statement, ""));
        match word {
            "C:" => self.say(&[octets(rest), b"\r\n".to_vec()].concat()),
            "C>" => self.say(&octets(rest)),
            "S:" => {
                let line = self.listen();
                let line = line.unwrap_or_else(|| panic!("silence where {rest:?} was due"));
                assert!(matches(rest, &line), "expected {rest:?}\n     got {line:?}");
            }
            "TLS" => self.world.secure(),
            "TIMEOUT" => self.world.feed(Input::Timeout),
            "SHUTDOWN" => self.world.feed(Input::Shutdown),
            "END" => self.world.feed(Input::End),
            "CLOSED" => assert!(self.world.closed, "the server has not hung up"),
            "MESSAGES" => assert_eq!(self.world.messages.len().to_string(), rest),
            "B:" | "N:" => {
                let message = String::from_utf8_lossy(self.world.messages.last().unwrap());
                let pattern = String::from_utf8(octets(rest)).unwrap();
                let is_there = message.split("\r\n").any(|line| matches(&pattern, line));
                assert_eq!(is_there, word == "B:", "{message}");
            }
            other => panic!("no such statement: {other}"),
        }
    }
}

fn open_port(port: &str) -> World {
    let mut words = port.split(' ');
    let name = words.next().unwrap();
    let mut config = config(match name {
        "smtp" => Role::Exchange,
        "submission" | "submissions" => Role::Submission,
        "lmtp" => Role::Delivery,
        other => panic!("no such port: {other}"),
    });
    words.for_each(|word| script::change(&mut config, word));
    match name {
        "submissions" => World::with_tls(config),
        _ => World::new(config),
    }
}

fn replay(path: &Path, delivery: Delivery) {
    let text = fs::read_to_string(path).unwrap();
    let mut player: Option<Player> = None;
    for (n, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        // Shown only if the dialog fails.
        println!("{}:{}: {line}", path.display(), n + 1);
        match &mut player {
            Some(player) => player.perform(line),
            None => {
                let port = line
                    .strip_prefix("port ")
                    .expect("a dialog begins with its port");
                player = Some(Player {
                    world: open_port(port),
                    delivery,
                    heard: String::new(),
                });
            }
        }
    }
    let mut player = player.expect("an empty dialog");
    assert_eq!(player.listen(), None, "the dialog ends too early");
}

#[test]
fn dialogs_go_as_written() {
    dialog_files()
        .iter()
        .for_each(|path| replay(path, Delivery::Lines));
}

#[test]
fn dialogs_go_as_written_octet_by_octet() {
    dialog_files()
        .iter()
        .for_each(|path| replay(path, Delivery::Octets));
}

/// What a server says to these commands.
fn said(mut world: World, commands: &str) -> String {
    world.say(commands.as_bytes());
    world.heard()
}

#[test]
fn each_command_extension_and_mechanism_has_a_dialog() {
    let mut all = String::from("\n");
    for path in dialog_files() {
        all.push_str(&fs::read_to_string(path).unwrap());
    }
    let is_said = |words: &str| {
        let lines = all.lines().filter(|line| line.starts_with('C'));
        let mut lines = lines.map(|line| line.replace("\\r\\n", " ").to_uppercase() + " ");
        lines.any(|line| line.contains(&format!(" {words} ")))
    };
    let help = said(World::new(config(Role::Exchange)), "HELP\r\n");
    let help = help.lines().find(|line| line.starts_with("214-")).unwrap();
    let verbs: Vec<&str> = help.split(' ').skip(2).collect();
    assert!(verbs.contains(&"BDAT"), "{verbs:?}");
    for verb in verbs {
        assert!(is_said(verb), "no dialog has {verb}");
    }
    let everything = Config {
        binary_mime: true,
        proxying: Proxying::Login,
        offer: Offer {
            dsn: true,
            require_tls: true,
            priority: true,
            deliver_by: true,
            hold: Some(HoldLimit {
                seconds: 60,
                until: 60,
            }),
        },
        ..config(Role::Submission)
    };
    let clear = said(World::new(config(Role::Exchange)), "EHLO x\r\n");
    let secure = said(World::with_tls(everything), "EHLO x\r\n");
    let keywords = [clear, secure].concat();
    let keywords = keywords.lines().filter_map(|line| line.get(4..));
    let keywords = keywords.filter(|line| !line.starts_with("mx.example.org"));
    let mut count = 0;
    for line in keywords {
        let keyword = line.split(' ').next().unwrap();
        let is_told = ["S: 250-", "S: 250 "].iter().any(|start| {
            let told = format!("\n{start}{keyword}");
            all.contains(&(told.clone() + "\n")) || all.contains(&(told + " "))
        });
        assert!(is_told, "no dialog has {keyword}");
        count += 1;
    }
    assert!(count > 20, "{count} keywords");
    for mechanism in sasl::Mechanism::ALL {
        let words = format!("AUTH {}", mechanism.name());
        assert!(is_said(&words), "no dialog has {words}");
    }
}
