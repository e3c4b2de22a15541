//! The real rmail, all daemons, with accounts and mailboxes put in place by hand.

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;
use system_tests::{Options, System};

use crate::disk::Disk;
use crate::letter::letter;
use crate::server::{Filled, MailServer, READER, account, remove_below};
use crate::store::Store;

/// INTERNALDATE of the first message; the others follow in seconds.
pub(crate) const FIRST_DATE: u64 = 1_700_000_000;

/// A system that runs until it is dropped.
pub(crate) struct Rmail {
    system: System,
}

impl Rmail {
    /// Starts one in `directory`, with `accounts` accounts besides the reader's.
    pub(crate) fn start(directory: &Path, accounts: usize) -> Self {
        let options = Options::without_users()
            .user(READER)
            .below(directory)
            // The default; the harness logs everything.
            .config(&json!({"log_level": "info"}))
            // A session of the bench sends more than one of the world may.
            .config(&json!({"smtp": {"max_messages_per_connection": 1_000_000}}));
        let mut rmail = Self {
            system: System::start(options),
        };
        rmail.stop();
        rmail.copy_accounts(0..accounts);
        rmail.start();
        rmail
    }

    /// Hashing as many passwords would take minutes, so the others have the record of the first.
    pub(crate) fn copy_accounts(&self, numbers: std::ops::Range<usize>) {
        let database = self.system.home().mail_root().join("store/accounts.db");
        let database = rusqlite::Connection::open(database).expect("deliverd made it");
        database
            .execute_batch("BEGIN; CREATE TEMP TABLE copy AS SELECT * FROM main.users LIMIT 1; UPDATE copy SET id = NULL")
            .expect("one account is there");
        for number in numbers {
            let address = account(number);
            let (local, _) = address.split_once('@').expect("an address");
            let copied = database
                .execute("UPDATE copy SET local = ?1", [local])
                .and_then(|_| database.execute("INSERT INTO main.users SELECT * FROM copy", []));
            copied.expect("the names differ");
        }
        database.execute_batch("COMMIT").expect("there is room");
    }

    /// Puts mailboxes of the reader in place, as docs/store.md says that they lie on disk.
    pub(crate) fn fill(&mut self, mailboxes: &[Filled]) {
        self.stop();
        let owner = self.store_owner();
        for mailbox in mailboxes {
            fill(&self.mailbox(&mailbox.name), mailbox, owner);
        }
        self.start();
    }

    pub(crate) fn mailbox(&self, name: &str) -> PathBuf {
        self.system.account(READER).mailbox(name)
    }

    /// The directory of a user's mail, whether or not it is there.
    pub(crate) fn user_directory(&self, user: &str) -> PathBuf {
        let inbox = self.system.account(user).mailbox("INBOX");
        let directory = inbox.ancestors().nth(2);
        directory.expect("a mailbox is below its user").to_owned()
    }

    /// User and group of all files of the store.
    pub(crate) fn store_owner(&self) -> (u32, u32) {
        let store = std::fs::metadata(self.mailbox("INBOX")).expect("every account has one");
        (store.uid(), store.gid())
    }

    /// Stops it and leaves its files to whoever takes the file system away: removing millions of names takes minutes.
    pub(crate) fn abandon(mut self, disk: &Disk) {
        if disk.is_ours() {
            self.stop();
            std::mem::forget(self);
        }
    }

    /// Kills deliverd and waits until the next one takes mail.
    pub(crate) fn kill_deliverd(&self) {
        let before = self.system.kill("deliverd");
        self.system.wait_for_restart("deliverd", before);
        self.store().link_up();
    }

    /// rmailctl with the configuration of this system.
    pub(crate) fn rmailctl(&self, arguments: &[&str]) -> std::process::Command {
        let home = self.system.home();
        let mut command = home.command("rmailctl");
        command
            .arg("--config")
            .arg(home.config_file())
            .args(arguments);
        command
    }

    /// How many names of a mailbox's messages hold that letter of a flag.
    pub(crate) fn names_with(&self, mailbox: &str, flag: char) -> usize {
        let messages = self.system.account(READER).messages(mailbox);
        let with = messages
            .iter()
            .filter(|message| message.flags.contains(flag));
        with.count()
    }

    /// Bytes of the files in a directory of a mailbox, once they do not change any more.
    pub(crate) fn kept(&self, mailbox: &str, directory: &str) -> u64 {
        let path = self.mailbox(mailbox).join(directory);
        let count = || -> u64 {
            let files = std::fs::read_dir(&path).into_iter().flatten().flatten();
            files
                .filter_map(|file| Some(file.metadata().ok()?.len()))
                .sum()
        };
        let mut before = count();
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = count();
            if now == before {
                return now;
            }
            before = now;
        }
    }

    /// Where mail from elsewhere is taken.
    pub(crate) fn smtp(&self) -> SocketAddr {
        self.system.address("smtp")
    }

    /// The process of the store.
    pub(crate) fn deliverd(&self) -> u32 {
        self.system.pid("deliverd").expect("it runs")
    }

    /// The process that speaks IMAP.
    pub(crate) fn imapd(&self) -> u32 {
        self.system.pid("imapd").expect("it runs")
    }

    /// The store without what is in front of it.
    pub(crate) fn store(&self) -> Store {
        Store::new(&self.system.home().run_dir())
    }
}

impl MailServer for Rmail {
    fn name(&self) -> &'static str {
        "rmail"
    }

    fn imap(&self) -> SocketAddr {
        self.system.address("imap")
    }

    fn pid(&self) -> u32 {
        self.system.supervisor_pid()
    }

    fn stop(&mut self) {
        let status = self.system.stop();
        assert!(status.success(), "{}", self.system.log());
    }

    fn start(&mut self) {
        self.system.start_again();
    }

    fn forget_indexes(&self) -> bool {
        let mailboxes = self.mailbox("INBOX");
        let mailboxes = mailboxes.parent().expect("a mailbox is in a directory");
        remove_below(mailboxes, &|name| name == ".cache");
        true
    }
}

fn fill(directory: &Path, mailbox: &Filled, (uid, gid): (u32, u32)) {
    let own = |path: &Path| chown(path, Some(uid), Some(gid)).expect("root may, others own it");
    let make = |path: &Path| {
        use std::os::unix::fs::DirBuilderExt;
        let made = std::fs::DirBuilder::new().mode(0o700).create(path);
        made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        own(path);
    };
    make(directory);
    for number in 1..=mailbox.messages {
        let shard = directory.join(format!("{:04}", number / 1000));
        if number == 1 || number.is_multiple_of(1000) {
            make(&shard);
        }
        let path = shard.join(format!("{number:08}_.eml"));
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(FIRST_DATE + u64::from(number));
        write_letter(&path, number, mailbox.size, 0o440, date);
        own(&path);
    }
}

/// A file with the letter of that number.
pub(crate) fn write_letter(path: &Path, number: u32, size: usize, mode: u32, date: SystemTime) {
    use std::io::Write;
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(&letter(number, size))?;
            file.set_modified(date)
        });
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
