//! Large stores put in place by hand, as docs/store.md says that they lie on disk.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::letter::letter;
use crate::rmail::{FIRST_DATE, write_letter};

/// Mailboxes of each account.
pub(crate) const MAILBOXES: usize = 10;
/// A file has no more names than this; ext4 allows 65,000.
const LINKS: u32 = 60_000;
const THREADS: u32 = 2;
/// Bytes of a letter: the shortest there is.
const LETTER: usize = 1_600;
const FIRST: [&str; 6] = ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"];

/// Makes files for deliverd.
pub(crate) struct Filler {
    /// Directory of the files messages are links of.
    pool: PathBuf,
    /// Links made so far.
    links: AtomicU32,
    /// Whose they are.
    owner: (u32, u32),
}

impl Filler {
    /// With its pool in a new directory `pool`; everything will belong to `owner`.
    pub(crate) fn new(pool: PathBuf, owner: (u32, u32)) -> Self {
        std::fs::create_dir(&pool).expect("our own file system");
        Self {
            pool,
            links: AtomicU32::new(0),
            owner,
        }
    }

    /// Makes users with mailboxes of one message each, with all that deliverd would have made. `place` has the directory of each.
    pub(crate) fn users(
        &self,
        numbers: std::ops::Range<usize>,
        place: impl Fn(usize) -> PathBuf + Sync,
    ) {
        let half = numbers.start + numbers.len() / 2;
        std::thread::scope(|scope| {
            for some in [numbers.start..half, half..numbers.end] {
                let place = &place;
                scope.spawn(move || some.for_each(|number| self.user(&place(number), MAILBOXES)));
            }
        });
    }

    /// Makes one user with so many mailboxes.
    pub(crate) fn user(&self, directory: &Path, mailboxes: usize) {
        self.directory(directory);
        let validity = |number: usize| 1_700_000_000 + number;
        let account = json!({"uid_validity": validity(mailboxes), "subscribed": FIRST});
        self.file(
            &directory.join("account.json"),
            account.to_string().as_bytes(),
        );
        let all = directory.join("mailboxes");
        self.directory(&all);
        for number in 0..mailboxes {
            let name = FIRST
                .get(number)
                .map_or_else(|| format!("m{number:05}"), ToString::to_string);
            let path = all.join(name);
            self.directory(&path);
            let status = json!({
                "uid_validity": validity(number),
                "uid_next": 2,
                "mailbox_id": format!("{:016x}{number:016x}", self.links.load(Ordering::Relaxed)),
            });
            self.file(&path.join("status.json"), status.to_string().as_bytes());
            self.directory(&path.join("0000"));
            self.link(&path.join("0000/00000001_.eml"));
        }
    }

    /// Makes a mailbox of so many messages, as links or as files of their own.
    pub(crate) fn mailbox(&self, directory: &Path, messages: u32, own_files: bool) {
        self.directory(directory);
        let shards = messages / 1000 + 1;
        std::thread::scope(|scope| {
            for part in 0..THREADS {
                scope.spawn(move || {
                    for shard in (part..shards).step_by(THREADS as usize) {
                        self.shard(directory, shard, messages, own_files);
                    }
                });
            }
        });
    }

    fn shard(&self, directory: &Path, shard: u32, messages: u32, own_files: bool) {
        let path = directory.join(format!("{shard:04}"));
        self.directory(&path);
        for number in (shard * 1000).max(1)..=(shard * 1000 + 999).min(messages) {
            let path = path.join(format!("{number:08}_.eml"));
            if own_files {
                self.letter(&path, number);
            } else {
                self.link(&path);
            }
        }
    }

    /// A name for one of the files in the pool.
    fn link(&self, path: &Path) {
        let number = self.links.fetch_add(1, Ordering::Relaxed);
        let source = self.pool.join((number / LINKS).to_string());
        // Whoever takes the first link of a file makes it; others may come while it is not there yet.
        if number.is_multiple_of(LINKS) {
            self.letter(&source, number / LINKS);
        }
        while let Err(error) = std::fs::hard_link(&source, path) {
            assert_eq!(
                error.kind(),
                std::io::ErrorKind::NotFound,
                "{error}: {}",
                path.display()
            );
            std::thread::yield_now();
        }
    }

    fn letter(&self, path: &Path, number: u32) {
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(FIRST_DATE + u64::from(number));
        // It gets its name when it is complete.
        let unfinished = path.with_extension("new");
        write_letter(&unfinished, number, LETTER, 0o440, date);
        self.own(&unfinished);
        std::fs::rename(&unfinished, path).expect("our own file");
    }

    fn directory(&self, path: &Path) {
        let made = DirBuilder::new().mode(0o700).create(path);
        made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.own(path);
    }

    fn file(&self, path: &Path, content: &[u8]) {
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        made.and_then(|mut file| file.write_all(content))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.own(path);
    }

    fn own(&self, path: &Path) {
        chown(path, Some(self.owner.0), Some(self.owner.1)).expect("root may, others own it");
    }
}

/// A letter like those in the mailboxes.
pub(crate) fn sample() -> Vec<u8> {
    letter(0, LETTER)
}
