//! Reading a mailbox from its files: what is there, whatever a crash or a person left behind.

use std::collections::{BTreeSet, HashMap};

use ipc::Refusal;
use ipc::snapshot::Record;
use rustix::fs::Stat;
use tracing::{info, warn};

use super::disk::Dir;
use super::keywords::{self, Table};
use super::message_file::{self, MAX_UID};
use super::refresh::{Time, time_of};
use super::status::Status;
use crate::clock;
use crate::fault::OrFault;

/// A change gets its modification sequence when it is flushed, a little later than the file got its time. Taken from the file's
/// time again, it must not be lower than that: a change that took longer than this is not expected.
const LATE_MICROS: u64 = 60_000_000;

/// A mailbox as read from disk.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) status: Status,
    pub(crate) uid_next: u32,
    pub(crate) records: Vec<Record>,
    pub(crate) keywords: Table,
    pub(crate) shards: BTreeSet<u32>,
    pub(crate) modseq: u64,
    /// Times the directories had before they were read.
    pub(super) seen: HashMap<Option<u32>, Time>,
}

/// A file in a shard.
struct Found {
    shard: u32,
    name: String,
    stat: Stat,
}

impl Scan {
    /// Reads the mailbox in `mailbox`, and gives files made by hand a UID.
    pub(crate) fn read(mailbox: &Dir) -> Result<Self, Refusal> {
        let status = read_status(mailbox)?;
        let (uid_next, modseq) = (status.uid_next.max(1), status.modseq_floor);
        let mut scan = Self {
            status,
            uid_next,
            records: Vec::new(),
            keywords: Table::default(),
            shards: BTreeSet::new(),
            modseq,
            seen: HashMap::new(),
        };
        for entry in mailbox.entries().or_fault("list a mailbox")? {
            if let (true, Some(shard)) = (entry.is_dir, message_file::parse_shard(&entry.name)) {
                scan.shards.insert(shard);
            }
        }
        let mut strays = Vec::new();
        for shard in scan.shards.clone() {
            strays.append(&mut scan.read_shard(mailbox, shard)?);
        }
        scan.read_keywords(mailbox)?;
        for stray in strays {
            scan.adopt(mailbox, &stray)?;
        }
        scan.settle(mailbox)?;
        // Changes before a restart are at most as new as now.
        scan.modseq = scan.modseq.max(clock::micros());
        Ok(scan)
    }

    /// Flushes the names a killed predecessor may have made without flushing them, before anyone sees or relies on them: the
    /// last shard itself, and the newest messages. Costs next to nothing when there is nothing to flush.
    fn settle(&self, mailbox: &Dir) -> Result<(), Refusal> {
        let newest = self
            .records
            .last()
            .map(|record| message_file::shard_of(record.uid));
        for shard in newest.into_iter().chain(self.shards.last().copied()) {
            let flushed = mailbox
                .dir(&message_file::shard_name(shard))
                .and_then(|dir| dir.sync());
            flushed.or_fault("flush a shard")?;
        }
        mailbox.sync().or_fault("flush a mailbox")
    }

    /// Takes the messages of a shard over and returns the files that have no UID of their own.
    fn read_shard(&mut self, mailbox: &Dir, shard: u32) -> Result<Vec<Found>, Refusal> {
        let dir = mailbox
            .dir(&message_file::shard_name(shard))
            .or_fault("open a shard")?;
        let (mut messages, mut strays) = (Vec::new(), Vec::new());
        let time = time_of(&dir.stat(".").or_fault("look at a shard")?);
        // One that changed a moment ago may change again without its time showing it: it is looked at again.
        if time.0 + 1 < clock::seconds() {
            self.seen.insert(Some(shard), time);
        }
        for entry in dir.entries().or_fault("list a shard")? {
            // Dot files, links, and what has another ending are none of ours.
            if !entry.is_file || entry.name.starts_with('.') || !entry.name.ends_with(".eml") {
                continue;
            }
            let stat = match dir.stat(&entry.name) {
                // Somebody removed it since it was listed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                stat => stat.or_fault("look at a message")?,
            };
            let found = Found {
                shard,
                name: entry.name,
                stat,
            };
            match message_file::parse(&found.name)
                .filter(|(uid, _)| message_file::shard_of(*uid) == shard)
            {
                Some((uid, flags)) => messages.push((uid, flags, found)),
                None => strays.push(found),
            }
        }
        messages.sort_by(|(a, _, x), (b, _, y)| {
            a.cmp(b)
                .then_with(|| y.name.len().cmp(&x.name.len()))
                .then_with(|| x.name.cmp(&y.name))
        });
        let mut last: Option<(u32, u64)> = None;
        for (uid, flags, found) in messages {
            match last {
                // Two names of one file: the first in our order has more flags, the other is only a name too many.
                Some((known, inode)) if known == uid && inode == found.stat.st_ino => {
                    dir.unlink(&found.name)
                        .or_fault("remove a second name of a message")?;
                }
                Some((known, _)) if known == uid => strays.push(found),
                _ => {
                    last = Some((uid, found.stat.st_ino));
                    self.uid_next = self.uid_next.max(uid + 1);
                    self.records.push(record(uid, flags, &found.stat));
                }
            }
        }
        Ok(strays)
    }

    fn read_keywords(&mut self, mailbox: &Dir) -> Result<(), Refusal> {
        for shard in self.shards.clone() {
            let path = format!(
                "{}/{}",
                keywords::DIRECTORY,
                message_file::shard_name(shard)
            );
            let Some(text) = mailbox.read_small(&path).or_fault("read keywords")? else {
                continue;
            };
            let changed = mailbox
                .stat(&path)
                .map_or(0, |stat| modseq_of(stat.st_mtime, stat.st_mtime_nsec));
            for (uid, bits) in keywords::parse(&text, &mut self.keywords) {
                // A line may have been written for a message that never came to be: its UID stays unused.
                if uid <= MAX_UID {
                    self.uid_next = self.uid_next.max(uid + 1);
                }
                if let Ok(at) = self.records.binary_search_by_key(&uid, |record| record.uid) {
                    self.records[at].keywords = bits;
                    self.records[at].modseq = self.records[at].modseq.max(changed);
                }
            }
        }
        Ok(())
    }

    /// Gives a file made by hand the next UID and its proper name.
    fn adopt(&mut self, mailbox: &Dir, stray: &Found) -> Result<(), Refusal> {
        let uid = self.uid_next;
        if uid > MAX_UID {
            warn!(
                file = stray.name,
                "a file is left alone: the mailbox has no UID left"
            );
            return Ok(());
        }
        let flags = message_file::parse(&stray.name).map_or(0, |(_, flags)| flags);
        let shard = message_file::shard_of(uid);
        let from = mailbox
            .dir(&message_file::shard_name(stray.shard))
            .or_fault("open a shard")?;
        let to = mailbox
            .make_path(&message_file::shard_name(shard))
            .or_fault("make a shard")?;
        let name = message_file::file_name(uid, flags);
        if let Err(error) = from.rename(&stray.name, &to, &name) {
            warn!(file = stray.name, %error, "a file made by hand could not be taken in");
            return Ok(());
        }
        to.sync()
            .and_then(|()| from.sync())
            .or_fault("flush a shard")?;
        info!(file = stray.name, uid, "took a file made by hand in");
        self.shards.insert(shard);
        self.uid_next = uid + 1;
        self.records.push(Record {
            modseq: clock::micros(),
            ..record(uid, flags, &stray.stat)
        });
        Ok(())
    }
}

fn read_status(mailbox: &Dir) -> Result<Status, Refusal> {
    if let Some(status) = Status::read(mailbox).or_fault("read status.json")? {
        return Ok(status);
    }
    // Unix time is above every UIDVALIDITY given before, so clients forget what they knew.
    let status = Status::new(u32::try_from(clock::seconds()).unwrap_or(u32::MAX), None);
    warn!(
        uid_validity = status.uid_validity,
        "a mailbox had no readable status.json and got a new UIDVALIDITY"
    );
    status.write(mailbox).or_fault("write status.json")?;
    Ok(status)
}

pub(super) fn record(uid: u32, flags: u8, stat: &Stat) -> Record {
    Record {
        uid,
        flags,
        keywords: 0,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        internal_date: stat.st_mtime,
        // Every rename advances the file's ctime, so this is never below the sequence the last change had.
        modseq: modseq_of(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// The modification sequence of what changed at a file's time: too high rather than too low, but never in the future.
fn modseq_of(seconds: i64, nanos: impl TryInto<u64>) -> u64 {
    let nanos: u64 = nanos.try_into().unwrap_or(0);
    let changed = u64::try_from(seconds)
        .unwrap_or(0)
        .saturating_mul(1_000_000)
        .saturating_add(nanos / 1000);
    changed.saturating_add(LATE_MICROS).min(clock::micros())
}
