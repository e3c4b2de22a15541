//! Mail that clients removed, and that can be had back for some days.
//!
//! ```text
//! users/alice/.expunged/
//! └── 2026-11-27/                          the day of the removal, in UTC
//!     ├── INBOX/1700000000/                what was expunged of a mailbox, by its name then and its UIDVALIDITY
//!     │   ├── .keywords/0000               as in a mailbox; a line may come twice
//!     │   └── 0000/00000041_AFST.eml       as in a mailbox
//!     └── Work/1700000007.deleted/         a mailbox that was deleted, as it was but for its caches
//! ```
//! A removal is a rename into there instead of an `unlink`: it needs no room, no bytes are written and nothing is flushed. If it
//! fails, or would be too much, the file is removed. What is kept is counted ([`super::quota`]) as its bytes and [`OVERHEAD`] for
//! each message, so that a flood of small ones is bounded too.

mod day;
mod purge;
mod recovered;
mod shelf;
mod undelete;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ipc::snapshot::Record;
use tracing::warn;

use super::chores::Bell;
use super::disk::Dir;
use super::keywords::{self, Table};
use super::mailbox::Totals;
use super::message_file;
use super::quota::Member;
use super::user::MAILBOXES;

pub(super) use self::day::Day;
#[cfg(test)]
pub(super) use self::purge::Purge;
pub(super) use self::purge::Purger;
pub(super) use self::recovered::{Expunged, Recovered, deleted};
pub(super) use self::shelf::{Series, weigh};
pub(crate) use self::undelete::Wanted;

/// Directory of the kept mail in a user's directory.
pub(super) const DIRECTORY: &str = ".expunged";
/// What a kept message takes beside its bytes: an inode, a name, and the rest of its last block.
const OVERHEAD: u64 = 4096;

/// How long, and how much, is kept of what was expunged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Whole days after that of the removal; 0 keeps nothing.
    pub(crate) days: u32,
    /// Bytes of a user.
    pub(crate) bytes: u64,
    /// While less of the disk is free, in percent, nothing is kept.
    pub(crate) min_free_percent: u64,
}

/// What is kept of all users.
pub(super) struct Attic {
    retention: Retention,
    /// Users whose oldest day has to go, by their directories.
    full: Mutex<BTreeMap<String, Arc<Member>>>,
    /// Whether anything may be there to be purged when the disk is short of room.
    has_kept: AtomicBool,
    bell: Arc<Bell>,
}

/// Keeps what is removed from a mailbox now.
pub(super) struct Keeper<'a> {
    attic: &'a Attic,
    root: &'a Dir,
    member: &'a Arc<Member>,
    user: &'a str,
    /// Directory of what is removed from the mailbox today.
    path: String,
}

/// Keeps messages of one shard.
pub(super) struct Keeping<'a> {
    member: &'a Arc<Member>,
    dir: Dir,
}

impl Attic {
    pub(super) fn new(retention: Retention) -> Self {
        Self {
            retention,
            full: Mutex::default(),
            has_kept: AtomicBool::new(true),
            bell: Arc::default(),
        }
    }

    /// Whether anything is kept now: not if that is switched off, or the disk is short of room.
    pub(super) fn keeps(&self, root: &Dir) -> bool {
        if self.retention.days == 0 {
            return false;
        }
        let keeps = self.has_room(root);
        if !keeps {
            self.bell.ring();
        }
        keeps
    }

    fn has_room(&self, root: &Dir) -> bool {
        match root.free_percent() {
            Ok(free) => free >= self.retention.min_free_percent,
            Err(error) => {
                warn!(%error, "it is not known how much of the disk is free; nothing is kept of what is expunged");
                false
            }
        }
    }

    /// Has it counted what is kept of the user in the directory `user`, if that is not known yet. Called without locks: there may
    /// be much to count.
    pub(super) fn prepare(&self, root: &Dir, user: &str, member: &Member) {
        if self.retention.days == 0 || member.knows_kept() {
            return;
        }
        match weigh(root, user) {
            Ok(counted) => member.count_kept(counted.weight()),
            Err(error) => {
                warn!(user, %error, "what is kept of a user cannot be counted; no more is kept");
            }
        }
    }

    /// [`Attic::prepare`] for the user of the mailbox in the directory `mailbox`.
    pub(super) fn prepare_for(&self, root: &Dir, mailbox: &str, member: &Member) {
        if let Some((user, _)) = split(mailbox) {
            self.prepare(root, user, member);
        }
    }

    /// Keeps what is removed from the mailbox in the directory `mailbox` now, if anything is to be kept.
    pub(super) fn keeper<'a>(
        &'a self,
        root: &'a Dir,
        mailbox: &'a str,
        uid_validity: u32,
        member: &'a Arc<Member>,
    ) -> Option<Keeper<'a>> {
        let (user, name) = split(mailbox)?;
        let series = Series {
            uid_validity,
            is_deleted: false,
        };
        self.keeps(root).then(|| Keeper {
            attic: self,
            root,
            member,
            user,
            path: format!("{user}/{DIRECTORY}/{}/{name}/{series}", Day::today()),
        })
    }

    /// Keeps a whole mailbox that is deleted: renames its directory, durably, as far as the new name goes. False, and nothing was
    /// changed, if it is not to be kept or that failed.
    pub(super) fn keep_mailbox(
        &self,
        root: &Dir,
        mailbox: &str,
        (uid_validity, totals): (u32, Option<Totals>),
        member: &Arc<Member>,
    ) -> bool {
        let Some((user, name)) = split(mailbox) else {
            return false;
        };
        let is_empty =
            totals.is_some_and(|totals| totals.messages == 0) && has_no_files(root, mailbox);
        // What nobody can count now is counted when it is next.
        let weight = Contents::from(totals.unwrap_or_default()).weight();
        if is_empty || !self.keeps(root) || !self.take_room(user, member, weight) {
            return false;
        }
        let series = Series {
            uid_validity,
            is_deleted: true,
        };
        let today = format!("{user}/{DIRECTORY}/{}/{name}", Day::today());
        let moved = root.make_path(&today).and_then(|today| {
            let all = root.dir(&format!("{user}/{MAILBOXES}"))?;
            all.rename(name, &today, &series.to_string())?;
            Ok(today)
        });
        match moved {
            Ok(today) => {
                if let Err(error) = today.sync() {
                    warn!(mailbox, %error, "a deleted mailbox may not be there to be had back after a power cut");
                }
                true
            }
            Err(error) => {
                warn!(mailbox, %error, "a deleted mailbox cannot be kept");
                member.release(weight);
                false
            }
        }
    }

    /// Takes room for what is to be kept. If there is not enough, the oldest day goes soon.
    fn take_room(&self, user: &str, member: &Arc<Member>, weight: u64) -> bool {
        let has_room = member.keep(weight, self.retention.bytes);
        if has_room {
            self.has_kept.store(true, Ordering::Relaxed);
        } else {
            let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
            full.insert(user.to_owned(), Arc::clone(member));
            drop(full);
            self.bell.ring();
        }
        has_room
    }
}

impl<'a> Keeper<'a> {
    /// Makes ready to keep messages of a shard, with their keywords. `None` if they are not to be kept, or cannot be.
    pub(super) fn keep(
        &self,
        shard: u32,
        messages: &[Record],
        table: &Table,
    ) -> Option<Keeping<'a>> {
        let words = messages.iter().map(|record| (record.uid, record.keywords));
        let lines = keywords::format(words, table);
        let bytes = messages.iter().map(|record| record.size).sum::<u64>();
        let contents = Contents {
            messages: messages.len() as u64,
            bytes,
            keyword_bytes: lines.len() as u64,
        };
        let weight = contents.weight();
        if !self.attic.take_room(self.user, self.member, weight) {
            return None;
        }
        match open(self.root, &self.path, shard, &lines) {
            Ok(dir) => Some(Keeping {
                member: self.member,
                dir,
            }),
            Err(error) => {
                warn!(directory = self.path, %error, "expunged messages cannot be kept");
                self.member.release(weight);
                None
            }
        }
    }
}

impl Keeping<'_> {
    /// Takes a message's file out of its mailbox. After an error it is still there.
    pub(super) fn take(&self, from: &Dir, name: &str, record: &Record) -> io::Result<()> {
        let kept = message_file::file_name(record.uid, record.flags);
        from.rename(name, &self.dir, &kept)
    }

    /// A message is not kept after all.
    pub(super) fn give_back(&self, record: &Record) {
        self.member.release(record.size + OVERHEAD);
    }
}

/// Opens the directory for messages of a shard in the series `path`, and notes their keywords. Nothing is flushed.
fn open(root: &Dir, path: &str, shard: u32, lines: &str) -> io::Result<Dir> {
    let name = message_file::shard_name(shard);
    if !lines.is_empty() {
        // Keywords first: a line without a message is harmless.
        root.make_path_unflushed(&format!("{path}/{}", keywords::DIRECTORY))?
            .append_small(&name, lines.as_bytes())?;
    }
    root.make_path_unflushed(&format!("{path}/{name}"))
}

/// Whether the shards of a mailbox are empty. What somebody put there by hand may not be known yet.
fn has_no_files(root: &Dir, mailbox: &str) -> bool {
    let look = || -> io::Result<bool> {
        let dir = root.dir(mailbox)?;
        for shard in dir.entries()? {
            let is_shard = message_file::parse_shard(&shard.name).is_some();
            if shard.is_dir && is_shard && !dir.dir(&shard.name)?.entries()?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    };
    look().unwrap_or(false)
}

/// The directory of the user a mailbox's directory belongs to, and the name the mailbox has there.
fn split(mailbox: &str) -> Option<(&str, &str)> {
    let (all, name) = mailbox.rsplit_once('/')?;
    let user = all.strip_suffix(MAILBOXES)?.strip_suffix('/')?;
    Some((user, name))
}

/// What is in a part of the kept mail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    keyword_bytes: u64,
}

impl Contents {
    /// What it counts.
    fn weight(self) -> u64 {
        let overhead = self.messages.saturating_mul(OVERHEAD);
        self.bytes
            .saturating_add(self.keyword_bytes)
            .saturating_add(overhead)
    }
}

impl From<Totals> for Contents {
    fn from(Totals { messages, bytes }: Totals) -> Self {
        Self {
            messages,
            bytes,
            keyword_bytes: 0,
        }
    }
}
