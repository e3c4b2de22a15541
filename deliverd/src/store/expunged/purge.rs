//! The thread that removes kept mail: what is older than it has to be, the oldest day of users who keep too much, and, when the disk
//! is short of room, the oldest days of all.
//!
//! Once a day it goes through all users. Who keeps nothing costs one look for a directory that is not there.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::FileType;
use tracing::{error, info, warn};

use super::super::chores::Shared;
use super::super::disk::Dir;
use super::super::message_file;
use super::super::quota::Member;
use super::super::{Owner, keywords, name};
use super::shelf::{days, opened};
use super::{Attic, Contents, DIRECTORY, Day, weigh};

/// How often it is looked whether there is something to do.
const ROUND: Duration = Duration::from_secs(30);
/// Files that are removed, or users that are looked at, between two pauses.
const TOGETHER: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// The thread; it ends when this is dropped.
pub(in crate::store) struct Purger {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Purger {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(in crate::store) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let working = Arc::clone(shared);
        let thread = std::thread::Builder::new()
            .name("purge".into())
            .spawn(move || Purge::new(&working).run())?;
        Ok(Self {
            shared: Arc::clone(shared),
            thread: Some(thread),
        })
    }
}

impl Drop for Purger {
    fn drop(&mut self) {
        self.shared.attic.bell.end();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            error!("bug: the thread that removes what was expunged long ago panicked");
        }
    }
}

/// The end came; what is left is for the next start.
#[derive(Debug)]
pub(in crate::store) struct Over;

/// The thread at work.
pub(in crate::store) struct Purge<'a> {
    shared: &'a Shared,
    attic: &'a Attic,
    /// Steps since the last pause.
    steps: u32,
}

impl<'a> Purge<'a> {
    pub(in crate::store) fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            attic: &shared.attic,
            steps: 0,
        }
    }

    fn run(mut self) {
        let mut swept = None;
        // A moment after the start all users are known.
        while !self.attic.bell.wait(ROUND) && self.round(&mut swept).is_ok() {}
    }

    fn round(&mut self, swept: &mut Option<Day>) -> Result<(), Over> {
        let today = Day::today();
        if *swept != Some(today) {
            self.sweep(today)?;
            *swept = Some(today);
        }
        self.empty_full(today)?;
        self.relieve()
    }

    /// Removes what is older than it has to be, and counts what is left.
    pub(in crate::store) fn sweep(&mut self, today: Day) -> Result<(), Over> {
        let first = today.before(self.attic.retention.days);
        self.each_user(|purge, user, member| {
            for day in purge.days(user) {
                if day < first {
                    purge.remove_day(user, member, day)?;
                }
            }
            purge.attic.prepare(&purge.shared.root, user, member);
            Ok(())
        })
    }

    /// Removes the oldest day of each user who keeps too much. What was expunged today stays: who expunges more than is kept on one
    /// day has its first messages kept.
    pub(in crate::store) fn empty_full(&mut self, today: Day) -> Result<(), Over> {
        let mut full = self
            .attic
            .full
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let users = std::mem::take(&mut *full);
        drop(full);
        for (user, member) in users {
            match self.days(&user).first() {
                Some(oldest) if *oldest < today => self.remove_day(&user, &member, *oldest)?,
                // Somebody may have removed files by hand.
                _ => match weigh(&self.shared.root, &user) {
                    Ok(counted) => member.correct_kept(counted.weight()),
                    Err(error) => warn!(user, %error, "what is kept of a user cannot be counted"),
                },
            }
        }
        Ok(())
    }

    /// As long as the disk is short of room, removes the oldest days of all users.
    pub(in crate::store) fn relieve(&mut self) -> Result<(), Over> {
        let has_room = |purge: &Self| purge.attic.has_room(&purge.shared.root);
        let mut done: Option<Day> = None;
        while !has_room(self) && self.attic.has_kept.swap(false, Ordering::Relaxed) {
            let mut oldest: Option<Day> = None;
            self.each_user(|purge, user, _| {
                // What could not be removed is not tried again now.
                let left = purge.days(user).into_iter().find(|day| Some(*day) > done);
                oldest = [oldest, left].into_iter().flatten().min();
                Ok(())
            })?;
            let Some(oldest) = oldest else { return Ok(()) };
            warn!(day = %oldest, "the disk is short of room: what was expunged on the oldest day is removed");
            self.each_user(|purge, user, member| {
                if purge.days(user).contains(&oldest) && !has_room(purge) {
                    purge.remove_day(user, member, oldest)?;
                }
                Ok(())
            })?;
            // There may be later days.
            self.attic.has_kept.store(true, Ordering::Relaxed);
            done = Some(oldest);
        }
        Ok(())
    }

    /// Goes through all users that have an account and something kept.
    fn each_user(
        &mut self,
        mut each: impl FnMut(&mut Self, &str, &Arc<Member>) -> Result<(), Over>,
    ) -> Result<(), Over> {
        let domains = self.names("domains");
        for domain in domains {
            let users = format!("domains/{domain}/users");
            for local in self.names(&users) {
                self.step()?;
                let user = format!("{users}/{local}");
                if self
                    .shared
                    .root
                    .stat(&format!("{user}/{DIRECTORY}"))
                    .is_err()
                {
                    continue;
                }
                let (Some(local), Some(domain)) = (name::original(&local), name::original(&domain))
                else {
                    continue;
                };
                // Without an account it is left alone: accounts may only be away.
                if let Some(member) = self.shared.ledger.member(&Owner { local, domain }) {
                    each(self, &user, &member)?;
                }
            }
        }
        Ok(())
    }

    /// The directories of domains or users in a directory.
    fn names(&self, path: &str) -> Vec<String> {
        let mut names = Vec::new();
        let listed = self.shared.root.dir(path).and_then(|dir| {
            dir.each_name(|name, kind| {
                let name = name.to_str().ok().filter(|_| kind == FileType::Directory);
                names.extend(
                    name.filter(|name| !name.starts_with('.'))
                        .map(str::to_owned),
                );
                Ok(())
            })
        });
        if let Err(error) = listed
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(directory = path, %error, "what was expunged long ago cannot be looked for");
        }
        names
    }

    /// The days of which a user has something, the oldest first.
    fn days(&self, user: &str) -> Vec<Day> {
        let kept = opened(self.shared.root.dir(&format!("{user}/{DIRECTORY}")));
        let found = kept.and_then(|kept| kept.map_or(Ok(Vec::new()), |kept| days(&kept)));
        found.unwrap_or_else(|error| {
            warn!(user, %error, "what is kept of a user cannot be listed");
            Vec::new()
        })
    }

    /// Removes what a user expunged on a day.
    fn remove_day(&mut self, user: &str, member: &Member, day: Day) -> Result<(), Over> {
        // It has to be counted before it changes.
        self.attic.prepare(&self.shared.root, user, member);
        let kept = self.shared.root.dir(&format!("{user}/{DIRECTORY}"));
        let removed = kept.map(|kept| self.remove(&kept, &day.to_string(), member));
        match removed {
            Ok(Ok(())) => info!(user, %day, "what was expunged on a day is removed"),
            Ok(Err(Fault::Over)) => return Err(Over),
            Ok(Err(Fault::Disk(error))) | Err(error) => {
                warn!(user, %day, %error, "what was expunged long ago cannot be removed");
            }
        }
        Ok(())
    }

    /// Removes a directory with all that is in it.
    fn remove(&mut self, dir: &Dir, name: &str, member: &Member) -> Result<(), Fault> {
        let Some(inner) = opened(dir.dir(name))? else {
            return Ok(());
        };
        let is_shard = message_file::parse_shard(name).is_some();
        let is_counted = is_shard || name == keywords::DIRECTORY;
        for entry in inner.entries()? {
            if entry.is_dir {
                self.remove(&inner, &entry.name, member)?;
                continue;
            }
            self.step()?;
            let size = inner.look(&entry.name).map_or(0, |look| look.size);
            if inner.remove_if_there(&entry.name)? && is_counted {
                let gone = Contents {
                    messages: u64::from(is_shard),
                    bytes: size,
                    keyword_bytes: 0,
                };
                member.release(gone.weight());
            }
        }
        Ok(dir.remove_dir(name)?)
    }

    /// Makes a pause now and then.
    fn step(&mut self) -> Result<(), Over> {
        self.steps += 1;
        if self.steps < TOGETHER {
            return Ok(());
        }
        self.steps = 0;
        if self.attic.bell.wait(PAUSE) {
            Err(Over)
        } else {
            Ok(())
        }
    }
}

/// Why something is still there.
enum Fault {
    Over,
    Disk(io::Error),
}

impl From<Over> for Fault {
    fn from(_: Over) -> Self {
        Self::Over
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}
