//! What a person did to the files of a mailbox in use: looked for at each SELECT, in the shards whose directory changed.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use ipc::Refusal;
use ipc::snapshot::Record;
use rustix::fs::Stat;
use rustix::io::Errno;
use tracing::{info, warn};

use super::disk::Dir;
use super::mailbox::{Mailbox, State};
use super::message_file::{self, MAX_UID};
use super::scan;
use crate::clock;
use crate::fault::OrFault;

/// Modification time of a directory.
pub(super) type Time = (i64, u64);

/// A directory changed less than a second ago may change again without its time showing it.
const FRESH_SECONDS: i64 = 1;

/// The names of a shard, as they relate to what is known.
#[derive(Default)]
struct Names {
    /// Known messages with their flags now.
    known: BTreeMap<u32, (u8, String)>,
    /// Messages with a UID nobody has used yet.
    new: BTreeMap<u32, (u8, String)>,
    /// Everything else that ends in `.eml`: it needs a UID.
    strays: Vec<String>,
}

impl Mailbox {
    /// Takes in what was changed by hand.
    pub(super) fn refresh(self: &Arc<Self>, state: &mut State) -> Result<(), Refusal> {
        // New messages get UIDs above all that were given.
        self.drain(state);
        let dir = self.dir().or_fault("open a mailbox")?;
        let time = time_of(&dir.stat(".").or_fault("look at a mailbox")?);
        if state.seen.get(&None) != Some(&time) {
            for entry in dir.entries().or_fault("list a mailbox")? {
                state
                    .shards
                    .extend(message_file::parse_shard(&entry.name).filter(|_| entry.is_dir));
            }
            state.remember(None, time);
        }
        for shard in state.shards.clone() {
            let name = message_file::shard_name(shard);
            let time = dir
                .stat(&name)
                .map(|stat| time_of(&stat))
                .unwrap_or_default();
            if state.seen.get(&Some(shard)) == Some(&time) {
                continue;
            }
            match dir.dir(&name) {
                Ok(open) => self.refresh_shard(state, shard, &open)?,
                Err(error) if !is_replaced(&error) => return Err(error).or_fault("open a shard"),
                Err(error) => {
                    warn!(mailbox = self.path(), shard, %error, "a shard was removed by someone else");
                    self.lose(state, shard, &Names::default())?;
                    state.shards.remove(&shard);
                    continue;
                }
            }
            state.remember(Some(shard), time);
        }
        Ok(())
    }

    fn refresh_shard(&self, state: &mut State, shard: u32, dir: &Dir) -> Result<(), Refusal> {
        let names = names(state, shard, dir)?;
        self.lose(state, shard, &names)?;
        let modseq = state.next_modseq();
        let mut changed = Vec::new();
        for (uid, (flags, _)) in &names.known {
            if let Some(at) = state.position(*uid)
                && state.name_flags(&state.records[at]) != *flags
            {
                state.late.remove(uid);
                state.records[at].flags = *flags;
                state.records[at].modseq = modseq;
                changed.push(state.records[at]);
            }
        }
        state.feed.changed(&changed);
        let mut added = Vec::new();
        for (uid, (flags, name)) in &names.new {
            let stat = dir.stat(name).or_fault("look at a message")?;
            state.uid_next = uid + 1;
            added.push(Record {
                modseq,
                ..scan::record(*uid, *flags, &stat)
            });
        }
        for name in &names.strays {
            added.extend(
                self.adopt(state, dir, name)?
                    .map(|record| Record { modseq, ..record }),
            );
        }
        if !added.is_empty() {
            dir.sync().or_fault("flush a shard")?;
            info!(
                mailbox = self.path(),
                messages = added.len(),
                "took files made by hand in"
            );
            state.bytes += added.iter().map(|record| record.size).sum::<u64>();
            state.records.extend_from_slice(&added);
            state.feed.added(&added);
        }
        Ok(())
    }

    /// Forgets the messages of a shard that have no name any more.
    fn lose(&self, state: &mut State, shard: u32, names: &Names) -> Result<(), Refusal> {
        let from = state
            .records
            .partition_point(|record| message_file::shard_of(record.uid) < shard);
        let to = state
            .records
            .partition_point(|record| message_file::shard_of(record.uid) <= shard);
        let lost: Vec<usize> = (from..to)
            .filter(|at| !names.known.contains_key(&state.records[*at].uid))
            .collect();
        let Some(highest) = lost.last().map(|at| state.records[*at].uid) else {
            return Ok(());
        };
        warn!(
            mailbox = self.path(),
            messages = lost.len(),
            "files of messages were removed by someone else"
        );
        // As with our own removals: no UID anyone saw may return.
        if highest >= state.status.uid_next {
            self.write_status(state)?;
        }
        state.forget(&lost);
        Ok(())
    }

    /// Gives a file made by hand the next UID and its proper name.
    fn adopt(&self, state: &mut State, from: &Dir, name: &str) -> Result<Option<Record>, Refusal> {
        let uid = state.uid_next;
        if uid > MAX_UID {
            return Ok(None);
        }
        let flags = message_file::parse(name).map_or(0, |(_, flags)| flags);
        let to = self.make_shard(state, message_file::shard_of(uid))?;
        state.uid_next += 1;
        let new = message_file::file_name(uid, flags);
        if let Err(error) = from.rename(name, &to, &new) {
            warn!(mailbox = self.path(), file = name, %error, "a file made by hand could not be taken in");
            return Ok(None);
        }
        to.sync().or_fault("flush a shard")?;
        let stat = to.stat(&new).or_fault("look at a message")?;
        Ok(Some(scan::record(uid, flags, &stat)))
    }
}

impl State {
    /// Notes that a directory was read when it had this time, unless that is too young to tell.
    fn remember(&mut self, shard: Option<u32>, time: Time) {
        if time.0 + FRESH_SECONDS < clock::seconds() {
            self.seen.insert(shard, time);
        } else {
            self.seen.remove(&shard);
        }
    }
}

fn names(state: &State, shard: u32, dir: &Dir) -> Result<Names, Refusal> {
    let mut names = Names::default();
    for entry in dir.entries().or_fault("list a shard")? {
        if !entry.is_file || entry.name.starts_with('.') || !entry.name.ends_with(".eml") {
            continue;
        }
        let parsed = message_file::parse(&entry.name)
            .filter(|(uid, _)| message_file::shard_of(*uid) == shard);
        let Some((uid, flags)) = parsed else {
            names.strays.push(entry.name);
            continue;
        };
        let twin = match state.record(uid) {
            // The name we gave stays; of names given by hand the first one found.
            Some(record) if flags == state.name_flags(&record) => {
                names.known.insert(uid, (flags, entry.name))
            }
            Some(_) if names.known.contains_key(&uid) => Some((flags, entry.name)),
            Some(_) => names.known.insert(uid, (flags, entry.name)),
            None if uid < state.uid_next => Some((flags, entry.name)),
            None => names.new.insert(uid, (flags, entry.name)),
        };
        names.strays.extend(twin.map(|(_, name)| name));
    }
    Ok(names)
}

/// Nothing, or no directory, stands where a shard should be. Any other fault says nothing about the messages in it.
fn is_replaced(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// Modification time, from what `stat(2)` says.
pub(super) fn time_of(stat: &Stat) -> Time {
    (stat.st_mtime, stat.st_mtime_nsec)
}
