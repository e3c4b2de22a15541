//! Everything that is measured, side by side on one file system.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use system_tests::program;
use system_tests::smtp::{Client, stuffed};

use crate::disk::Disk;
use crate::dovecot::{Dovecot, Format};
use crate::letter::letter;
use crate::rmail::Rmail;
use crate::server::{Filled, MailServer, account};
use crate::store::Store;

/// Accounts of Dovecot that get mail; each new one costs it many files.
pub(crate) const DOVECOT_ACCOUNTS: usize = 100;

/// How much is done.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    /// How often everything is measured; the systems take turns.
    pub(crate) rounds: usize,
    /// How long a measurement takes about.
    pub(crate) time: Duration,
    /// Parts of that time in which deliveries take turns.
    pub(crate) slices: u32,
    /// Sizes of mailboxes that are selected, ascending.
    pub(crate) mailboxes: Vec<u32>,
    /// Which of them is read and searched.
    pub(crate) middle: u32,
    /// Users one message is sent to, and all there are.
    pub(crate) recipients: usize,
    /// rmail has a mailbox with so many messages, too.
    pub(crate) huge: Option<u32>,
    /// Messages of 64 KiB and of 10 MiB that are read.
    pub(crate) large: (u32, u32),
    /// Whether Dovecot is measured and strace counts.
    pub(crate) with_others: bool,
}

impl Scale {
    /// What the tables in docs/performance.md are made with.
    pub(crate) fn full() -> Self {
        Self {
            rounds: 3,
            time: Duration::from_millis(800),
            slices: 4,
            mailboxes: vec![1000, 10_000, 100_000],
            middle: 10_000,
            recipients: 1000,
            huge: None,
            large: (500, 3),
            with_others: true,
        }
    }

    /// Enough to see that it runs.
    pub(crate) fn smoke() -> Self {
        Self {
            rounds: 1,
            time: Duration::from_millis(20),
            slices: 1,
            mailboxes: vec![10, 50],
            middle: 50,
            recipients: 10,
            huge: None,
            large: (2, 1),
            with_others: false,
        }
    }

    /// MiB of the file system.
    pub(crate) fn mebibytes(&self) -> u64 {
        // A message of 4 KiB takes two blocks and an inode.
        5120 + self.huge.map_or(0, |messages| u64::from(messages) / 110)
    }

    /// The mailboxes that every server has.
    fn filled(&self) -> Vec<Filled> {
        let mailbox = |name: String, messages, size| Filled {
            name,
            messages,
            size,
        };
        let mut filled: Vec<Filled> = self
            .mailboxes
            .iter()
            .map(|messages| mailbox(mailbox_of(*messages), *messages, 4096))
            .collect();
        filled.push(mailbox("large".to_owned(), self.large.0, 64 << 10));
        filled.push(mailbox("largest".to_owned(), self.large.1, 10 << 20));
        filled
    }
}

/// The name of the mailbox with so many messages.
pub(crate) fn mailbox_of(messages: u32) -> String {
    format!("m{messages}")
}

/// A count as it stands in the tables, `10k`.
pub(crate) fn short(count: u32) -> String {
    match count {
        1_000_000.. => format!("{}M", count / 1_000_000),
        1000.. => format!("{}k", count / 1000),
        _ => count.to_string(),
    }
}

/// The systems, and what is below them.
pub(crate) struct World {
    pub(crate) scale: Scale,
    pub(crate) store: Store,
    pub(crate) rmail: Rmail,
    pub(crate) dovecots: Vec<Dovecot>,
    /// Whether strace can count.
    pub(crate) traces: bool,
    // Unmounted when nobody uses it any more.
    pub(crate) disk: Disk,
}

impl World {
    /// Starts everything and fills the mailboxes.
    pub(crate) fn prepare(scale: Scale, disk: Disk) -> Self {
        say("starting rmail");
        let rmail = Rmail::start(disk.path(), scale.recipients);
        let mut dovecots = Vec::new();
        if scale.with_others && Dovecot::is_possible() {
            say("starting Dovecot");
            for format in [Format::Maildir, Format::Mdbox] {
                dovecots.push(Dovecot::start(disk.path(), format));
            }
        } else {
            say("Dovecot is left out: it must be wanted and installed, and only root can start it");
        }
        let traces = scale.with_others && program::is_root() && program::find("strace").is_some();
        let mut world = Self {
            store: rmail.store(),
            scale,
            rmail,
            dovecots,
            traces,
            disk,
        };
        world.fill();
        world
    }

    fn fill(&mut self) {
        let mut filled = self.scale.filled();
        for dovecot in &self.dovecots {
            say(&format!("filling mailboxes: {}", dovecot.name()));
            dovecot.fill(&filled);
        }
        say("filling mailboxes: rmail");
        filled.extend(self.scale.huge.map(|messages| Filled {
            name: mailbox_of(messages),
            messages,
            size: 4096,
        }));
        self.rmail.fill(&filled);
        say("making accounts");
        // The first message makes the user's directories, which is no part of the others.
        let (users, letter) = (self.users(self.scale.recipients), letter(0, 4096));
        self.store.deliver(&users, &letter);
        for dovecot in &mut self.dovecots {
            let mut client = lmtp(dovecot);
            // It answers when all have it, which takes long for many at once.
            for some in users[..users.len().min(DOVECOT_ACCOUNTS)].chunks(50) {
                send_to_all(&mut client, some, &letter, some.len());
            }
            dovecot.flush_always();
        }
    }

    /// The first accounts.
    pub(crate) fn users(&self, count: usize) -> Vec<String> {
        (0..count.min(self.scale.recipients)).map(account).collect()
    }

    /// What speaks IMAP.
    pub(crate) fn server(&mut self, number: usize) -> &mut dyn MailServer {
        match number.checked_sub(1) {
            None => &mut self.rmail,
            Some(number) => &mut self.dovecots[number],
        }
    }

    /// How many do.
    pub(crate) fn servers(&self) -> usize {
        1 + self.dovecots.len()
    }
}

/// A session of LMTP.
pub(crate) fn lmtp(dovecot: &Dovecot) -> Client {
    let connected = Client::connect(dovecot.lmtp()).and_then(|(mut client, _)| {
        client.command("LHLO client.example.net")?;
        Ok(client)
    });
    connected.expect("Dovecot listens")
}

/// One transaction with many recipients; `replies` come to its end.
pub(crate) fn send_to_all(client: &mut Client, users: &[String], letter: &[u8], replies: usize) {
    let mut say = |line: &str, code| {
        let reply = client.command(line).expect("the server is there");
        assert_eq!(reply.code, code, "{line}: {}", reply.text());
    };
    say("MAIL FROM:<sender@example.org>", 250);
    for user in users {
        say(&format!("RCPT TO:<{user}>"), 250);
    }
    say("DATA", 354);
    client.send(&stuffed(letter)).expect("the server is there");
    for _ in 0..replies {
        let reply = client.reply().expect("the server is there");
        assert_eq!(reply.code, 250, "{}", reply.text());
    }
}

/// Tells whoever waits what is done now.
pub(crate) fn say(what: &str) {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let seconds = BEGUN.get_or_init(Instant::now).elapsed().as_secs();
    eprintln!("bench: {seconds:4} s  {what}");
}
