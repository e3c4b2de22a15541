//! What is compared with: a maildir writer without a server, and what the disk can do at best. Each runs as a process of its own,
//! so that its CPU time and system calls are counted like those of a server.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use system_tests::program;

use crate::letter::letter;
use crate::meter::{Calls, own_cpu_seconds, read_calls};
use crate::writers::{Limit, Tally, race};

/// The first argument of a process that is to do [`Work`].
pub(crate) const ARGUMENT: &str = "--plain-work";
/// Mailboxes the messages are spread over, as for the servers.
pub(crate) const MAILBOXES: usize = 64;
const PATIENCE: Duration = Duration::from_secs(120);
const OVERWRITTEN: usize = 16 << 20;

/// What the process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A maildir delivery as durable as it can be: a file in `tmp`, fsync, rename to `new`, fsync of `new`.
    Maildir,
    /// The same into one mailbox after the other, for one message to many recipients.
    Copies,
    /// fdatasync after each overwrite in a file that was filled with zeros.
    Overwrite,
    /// Files that nobody flushes.
    Create,
}

const KINDS: [(Kind, &str); 4] = [
    (Kind::Maildir, "maildir"),
    (Kind::Copies, "copies"),
    (Kind::Overwrite, "overwrite"),
    (Kind::Create, "create"),
];

/// A task for such a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) kind: Kind,
    pub(crate) writers: usize,
    /// Bytes of each message.
    pub(crate) size: usize,
    pub(crate) limit: Limit,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    pub(crate) tally: Tally,
    /// CPU seconds of the process.
    pub(crate) cpu: f64,
    /// Where they were counted.
    pub(crate) calls: Option<Calls>,
}

impl Work {
    /// Runs it as a process in a new directory in `parent`, which is removed afterwards; under strace if `traced`.
    pub(crate) fn run(self, parent: &Path, traced: bool) -> Report {
        let directory = tempfile::Builder::new()
            .prefix("plain-")
            .tempdir_in(parent)
            .expect("our own directory");
        let summary = parent.join("strace-plain.out");
        let program = std::env::current_exe().expect("Linux knows");
        let mut command = if traced {
            let mut command = program::command("strace");
            command
                .args(["-f", "-c", "-q", "-o"])
                .arg(&summary)
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        let kind = KINDS.iter().find(|(kind, _)| *kind == self.kind);
        command
            .args([ARGUMENT, kind.expect("each has a name").1])
            .arg(directory.path())
            .args([
                self.writers.to_string(),
                self.size.to_string(),
                self.limit.time.as_micros().to_string(),
                self.limit.messages.to_string(),
            ]);
        let printed = program::run(&mut command, b"", PATIENCE).succeeded().stdout;
        let number: Vec<f64> = printed
            .split_whitespace()
            .map(|word| word.parse().expect("a number"))
            .collect();
        Report {
            tally: Tally {
                messages: number[0],
                seconds: number[1],
                p50: number[2],
            },
            cpu: number[3],
            calls: traced.then(|| read_calls(&summary)),
        }
    }
}

/// `main` of such a process: does the work the arguments name and prints what came of it.
pub(crate) fn main(arguments: &[String]) {
    let [kind, directory, writers, size, time, messages] = arguments else {
        panic!("{ARGUMENT} is for this program itself");
    };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let kind = KINDS.iter().find(|(_, name)| name == kind);
    let (kind, _) = *kind.expect("a kind of work");
    let limit = Limit {
        time: Duration::from_micros(number(time) as u64),
        messages: number(messages),
    };
    let letter = letter(1, number(size));
    let mut writers: Vec<usize> = (0..number(writers)).collect();
    let site = Site::prepare(Path::new(directory), kind, limit, letter.len());
    let before = own_cpu_seconds(std::process::id());
    let tally = race(&mut writers, limit, |writer, message| {
        site.put(kind, *writer, message, &letter)
    });
    let cpu = own_cpu_seconds(std::process::id()) - before;
    println!("{} {} {} {cpu}", tally.messages, tally.seconds, tally.p50);
}

/// The directories, and the file that is overwritten.
struct Site {
    mailboxes: Vec<PathBuf>,
    zeros: File,
    next: AtomicUsize,
}

impl Site {
    fn prepare(directory: &Path, kind: Kind, limit: Limit, size: usize) -> Self {
        let count = if kind == Kind::Copies {
            limit.messages
        } else {
            MAILBOXES
        };
        let mailboxes: Vec<PathBuf> = (0..count)
            .map(|at| directory.join(at.to_string()))
            .collect();
        for mailbox in &mailboxes {
            for part in ["tmp", "new"] {
                std::fs::create_dir_all(mailbox.join(part)).expect("our own directory");
            }
        }
        let zeros = File::create(directory.join("zeros")).expect("our own directory");
        if kind == Kind::Overwrite {
            let length = OVERWRITTEN.max(4 * size);
            zeros
                .write_all_at(&vec![0; length], 0)
                .expect("there is room");
        }
        // What was made so far is no part of the work.
        zeros.sync_all().expect("a disk that works");
        Self {
            mailboxes,
            zeros,
            next: AtomicUsize::new(0),
        }
    }

    fn put(&self, kind: Kind, writer: usize, message: usize, letter: &[u8]) -> io::Result<()> {
        let mailbox = &self.mailboxes[message % self.mailboxes.len()];
        let name = format!("{message}.{writer}.bench");
        match kind {
            Kind::Maildir | Kind::Copies => deliver(mailbox, &name, letter),
            Kind::Create => File::create(mailbox.join("new").join(name))?.write_all(letter),
            Kind::Overwrite => {
                let places = OVERWRITTEN.max(4 * letter.len()) / letter.len();
                let place = self.next.fetch_add(1, Ordering::Relaxed) % places;
                self.zeros
                    .write_all_at(letter, (place * letter.len()) as u64)?;
                self.zeros.sync_data()
            }
        }
    }
}

fn deliver(mailbox: &Path, name: &str, letter: &[u8]) -> io::Result<()> {
    let (temporary, new) = (mailbox.join("tmp").join(name), mailbox.join("new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)?;
    file.write_all(letter)?;
    file.sync_all()?;
    std::fs::rename(&temporary, new.join(name))?;
    File::open(&new)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maildir_writer_leaves_whole_messages_in_new() {
        let directory = tempfile::tempdir().unwrap();
        let limit = Limit {
            time: Duration::ZERO,
            messages: 1,
        };
        let site = Site::prepare(directory.path(), Kind::Maildir, limit, 4);
        site.put(Kind::Maildir, 3, 65, b"mail").unwrap();
        let file = directory.path().join("1/new/65.3.bench");
        assert_eq!(std::fs::read(file).unwrap(), b"mail");
        assert!(
            std::fs::read_dir(directory.path().join("1/tmp"))
                .unwrap()
                .next()
                .is_none()
        );
    }
}
