//! What is done at start with what the last process left: docs/queue.md has the table.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;

use sys::file;
use tracing::{error, info, warn};

use super::{Book, Message, Queue, QueueId};
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
    /// Reads the whole directory, removes what a crash left of unfinished work, and lists the messages.
    ///
    /// # Errors
    /// When the directory cannot be read. What is wrong with single files is logged and does not stop the others.
    pub fn recover(&self) -> io::Result<Vec<Recovered>> {
        let found = self.scan()?;
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

    fn scan(&self) -> io::Result<Found> {
        let mut found = Found::default();
        for entry in file::list(self.directory.as_fd())? {
            if file::is_temporary(&entry.name) {
                self.discard_os(&entry.name);
                continue;
            }
            let name = entry.name.to_string_lossy();
            let id = |suffix| name.strip_suffix(suffix).and_then(QueueId::parse);
            if let Some(id) = id(".env") {
                found.journals.insert(id);
            } else if let Some(id) = id(".eml") {
                found.bodies.insert(id);
            } else if name != LOCK && Book::of(&name).is_none() && !name.ends_with(".bad") {
                warn!(name = %name.escape_debug(), "a file in the queue directory that is not ours is left alone");
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

fn due(message: &Message) -> i64 {
    let next = message.next_due().unwrap_or(message.header.queued);
    next.min(message.late_at().unwrap_or(i64::MAX))
}
