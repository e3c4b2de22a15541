//! What is done at start with what the last process left: docs/queue.md has the table.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use sys::file::{self, Kind, OFlags};
use tracing::{error, info, warn};

use super::history::{self, Ending, Event, Known};
use super::journal::{self, Record};
use super::log::{Entry, PREFIX, Past};
use super::{Book, Message, Queue, QueueId};
use crate::clock;
use crate::turns::Rank;

/// Name of the lock file.
pub(super) const LOCK: &str = ".lock";

/// A message found at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Its id.
    pub id: QueueId,
    /// Unix seconds of its next attempt; in the past when only a report or its removal is left to do.
    pub due: i64,
    /// Unix seconds it was queued, if its sender is to be told when it has to wait.
    pub unwarned: Option<i64>,
    /// Whose it is, and how urgent.
    pub rank: Rank,
    /// What is to be known if it is in quarantine.
    pub quarantine: Option<InQuarantine>,
}

/// A message that is in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InQuarantine {
    /// Since when, Unix seconds.
    pub since: i64,
    /// Octets.
    pub size: u64,
    /// Whose room it takes.
    pub tenant: Option<String>,
}

#[derive(Default)]
struct Found {
    journals: BTreeSet<QueueId>,
    bodies: BTreeSet<QueueId>,
}

impl Queue {
    /// Puts the directory in order: what the log says is in the files of the messages afterwards, and the log is empty.
    pub(super) fn tidy(&self, past: &Past) -> io::Result<()> {
        self.replay(past)?;
        let is_changed = self.take_over()? | !past.is_empty();
        if is_changed {
            file::sync_file_system(&self.directory)?;
            self.log.annul_all()?;
        }
        Ok(())
    }

    /// Does once more what is in the log. Where it was done before, nothing changes.
    fn replay(&self, past: &Past) -> io::Result<()> {
        let mut gone = HashMap::new();
        past.for_each(|id, entry| {
            if let Entry::Gone(ending) = entry {
                gone.insert(id, ending);
            }
            Ok(())
        })?;
        let known = match past.is_empty() {
            true => Known::default(),
            false => self.history.known()?,
        };
        let mut lost = Vec::new();
        past.for_each(|id, entry| match entry {
            Entry::Queued { journal, body } => {
                let is_refused = gone.get(&id) == Some(&Ending::Refused);
                if !is_refused && !known.queued.contains(&id) {
                    lost.extend(first_line(id, journal));
                }
                match gone.contains_key(&id) {
                    true => Ok(()),
                    false => self.restore(id, journal, body),
                }
            }
            Entry::Appended { offset, line } if !gone.contains_key(&id) => {
                self.restore_record(id, offset, line)
            }
            Entry::Appended { .. } | Entry::Gone(_) => Ok(()),
        })?;
        for (id, ending) in gone {
            if ending != Ending::Refused && !known.ended.contains(&id) {
                lost.push(Event::ended(id, String::new(), ending, clock::now()));
            }
            self.unlink_if_there(&id.journal_name())?;
            self.unlink_if_there(&id.body_name())?;
        }
        if !lost.is_empty() {
            self.history.note(lost, clock::now());
        }
        Ok(())
    }

    fn restore(&self, id: QueueId, journal: &[u8], body: Option<&[u8]>) -> io::Result<()> {
        let is_whole = match (self.body(id), body) {
            (Ok(file), Some(bytes)) => holds(file, bytes)?,
            (Ok(_), None) => true,
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => false,
            (Err(error), _) => return Err(error),
        };
        match body {
            // It was flushed before the log said that it is there; so it was removed since.
            None if !is_whole => return Ok(()),
            Some(bytes) if !is_whole => {
                self.unlink_if_there(&id.body_name())?;
                let file = file::temporary_file(self.directory.as_fd())?;
                file.write_all_at(bytes, 0)?;
                self.link(id, &file, &id.body_name())?;
            }
            None | Some(_) => {}
        }
        let file = self.journal_file(id)?;
        file.write_all_at(journal, 0)?;
        file.set_len(journal.len() as u64)
    }

    fn restore_record(&self, id: QueueId, offset: u64, line: &[u8]) -> io::Result<()> {
        let file = match self.open_plain(&id.journal_name(), OFlags::RDWR) {
            Ok(file) => file,
            // It was removed, and that is all that the disk knows of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() < offset {
            error!(%id, offset, "a journal is shorter than the log says, and loses what was to be appended");
            return Ok(());
        }
        file.write_all_at(line, offset)?;
        file.set_len(offset + line.len() as u64)
    }

    /// Removes what a crash left, and gives messages of an older relayd, which knew no directories, a place in them. Tells whether there were any.
    fn take_over(&self) -> io::Result<bool> {
        let mut older = BTreeSet::new();
        for entry in file::list_anew(self.directory.as_fd())? {
            let name = entry.name.to_string_lossy();
            let id = name
                .strip_suffix(".env")
                .or(name.strip_suffix(".eml"))
                .and_then(QueueId::parse);
            if file::is_temporary(&entry.name) {
                self.discard_os(&entry.name);
            } else if let Some(id) = id {
                older.insert(id);
            } else if !is_ours(&name, entry.kind) {
                warn!(name = %name.escape_debug(), "a file in the queue directory that is not ours is left alone");
            }
        }
        for id in &older {
            self.make_shard(*id)?;
            // The body first, as ever.
            self.move_into_shard(&format!("{id}.eml"), &id.body_name())?;
            self.move_into_shard(&format!("{id}.env"), &id.journal_name())?;
        }
        Ok(!older.is_empty())
    }

    fn move_into_shard(&self, from: &str, to: &str) -> io::Result<()> {
        let directory = self.directory.as_fd();
        match file::rename_noreplace(directory, OsStr::new(from), directory, OsStr::new(to)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The names of the directories in which there may be messages.
    ///
    /// # Errors
    /// When the queue directory cannot be read.
    pub fn shards(&self) -> io::Result<Vec<String>> {
        let entries = file::list_anew(self.directory.as_fd())?;
        let names = entries
            .into_iter()
            .filter_map(|entry| entry.name.into_string().ok());
        Ok(names.filter(|name| QueueId::is_shard(name)).collect())
    }

    /// Reads one of them, removes what a crash left of unfinished work, and lists the messages that were there when relayd was started.
    ///
    /// # Errors
    /// When the directory cannot be read. What is wrong with single files is logged and does not stop the others.
    pub fn recover(&self, shard: &str) -> io::Result<Vec<Recovered>> {
        let mut found = self.scan(shard)?;
        if let Some(born) = &*self.lock_born() {
            found.journals.retain(|id| !born.contains(id));
            found.bodies.retain(|id| !born.contains(id));
        }
        let messages: Vec<_> = found
            .journals
            .iter()
            .filter_map(|id| self.recover_message(*id, &found))
            .collect();
        for id in found.bodies.difference(&found.journals) {
            // Either never acknowledged, or done: its journal's name is gone.
            info!(%id, "a body without a journal is removed");
            self.discard(&id.body_name());
        }
        Ok(messages)
    }

    /// Every shard was read.
    pub fn all_recovered(&self) {
        *self.lock_born() = None;
    }

    fn scan(&self, shard: &str) -> io::Result<Found> {
        let mut found = Found::default();
        let directory = file::directory_beneath(self.directory.as_fd(), Path::new(shard))?;
        for entry in file::list(directory.as_fd())? {
            let name = entry.name.to_string_lossy();
            let id = |suffix| {
                let id = name.strip_suffix(suffix).and_then(QueueId::parse);
                id.filter(|id| id.shard() == shard)
            };
            if let Some(id) = id(".env") {
                found.journals.insert(id);
            } else if let Some(id) = id(".eml") {
                found.bodies.insert(id);
            } else if !name.ends_with(".bad") {
                warn!(shard, name = %name.escape_debug(), "a file in the queue directory that is not ours is left alone");
            }
        }
        Ok(found)
    }

    fn recover_message(&self, id: QueueId, found: &Found) -> Option<Recovered> {
        if !found.bodies.contains(&id) {
            warn!(%id, "a journal without a body was never acknowledged and is removed");
            self.discard(&id.journal_name());
            return None;
        }
        match self.read_message(id) {
            Ok(opened) => {
                let message = opened.snapshot();
                let kept = message.header.quarantine.as_ref();
                let kept = kept.filter(|_| message.in_quarantine);
                Some(Recovered {
                    id,
                    due: due(&message),
                    unwarned: message.released_unwarned(),
                    rank: message.rank(),
                    quarantine: kept.map(|kept| InQuarantine {
                        since: message.header.queued,
                        size: message.header.size,
                        tenant: kept.tenant.clone(),
                    }),
                })
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.set_aside(id, &error);
                None
            }
            Err(error) => {
                error!(%id, %error, "a message cannot be read and stays where it is; the next start tries again");
                None
            }
        }
    }

    /// No crash leaves a journal with a name and without a first record; the disk or a hand did. Nothing is destroyed: the
    /// body goes first, for a body that stays without its journal is removed at the next start.
    fn set_aside(&self, id: QueueId, reason: &io::Error) {
        error!(%id, %reason, "a damaged message is set aside as .bad; look at it and remove or repair it");
        for name in [id.body_name(), id.journal_name()] {
            let directory = self.directory.as_fd();
            let bad = format!("{name}.bad");
            if let Err(error) =
                file::rename_noreplace(directory, OsStr::new(&name), directory, OsStr::new(&bad))
            {
                error!(name, %error, "cannot set it aside; it stays until the next start");
                return;
            }
        }
    }

    fn discard(&self, name: &str) {
        self.discard_os(OsStr::new(name));
    }

    fn discard_os(&self, name: &OsStr) {
        if let Err(error) = file::unlink(self.directory.as_fd(), name) {
            error!(name = %name.display(), %error, "cannot remove a left-over");
        }
    }
}

fn is_ours(name: &str, kind: Kind) -> bool {
    match kind {
        Kind::Directory => QueueId::is_shard(name),
        Kind::File | Kind::Other => {
            name == LOCK
                || name.starts_with(PREFIX)
                || name.starts_with(history::PREFIX)
                || name.ends_with(".bad")
                || Book::of(name).is_some()
        }
    }
}

/// That a message came, by the first line of its journal.
fn first_line(id: QueueId, line: &[u8]) -> Option<Event> {
    match journal::decode(line).records.first()? {
        Record::Message(header) => Some(Event::queued(id, header)),
        Record::Attempted(_)
        | Record::Held(_)
        | Record::Released
        | Record::Rerouted(_)
        | Record::Reported(_)
        | Record::Warned(_) => None,
    }
}

/// Whether a file holds just these octets.
fn holds(file: File, bytes: &[u8]) -> io::Result<bool> {
    if file.metadata()?.len() != bytes.len() as u64 {
        return Ok(false);
    }
    let mut there = Vec::with_capacity(bytes.len());
    file.take(bytes.len() as u64).read_to_end(&mut there)?;
    Ok(there == bytes)
}

fn due(message: &Message) -> i64 {
    let next = message.next_due().unwrap_or(message.header.queued);
    next.min(message.late_at().unwrap_or(i64::MAX))
}
