//! What is in a mailbox and its shards that should not be, and what should be and is not. Only looks.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;

use ipc::tools::{Kind, Remedy};
use rustix::fs::{FileType, Stat};

use super::super::acl;
use super::super::disk::Dir;
use super::super::ids;
use super::super::keywords::{self, Table};
use super::super::mailbox::State;
use super::super::message_file::{self, MAX_UID};
use super::super::metadata;
use super::super::status::{self, Status};
use super::caches;
use super::finding::{Findings, Sort};
use super::look::{Eye, add_temporary, aside_unless_hidden, is_forgotten};
use super::place::Place;
use crate::clock;

/// A mailbox with fewer UIDs left than this should be replaced by a new one.
const SCARCE: u32 = 1_000_000;

/// How long nothing has come into a file that somebody is copying, in seconds, at most.
const COPYING: i64 = 60;

/// What was found in a shard, and how much mail is there.
#[derive(Default)]
pub(super) struct Shard {
    pub(super) findings: Findings,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// The first name of each UID, and the file it is.
    pub(super) names: BTreeMap<u32, (String, u64)>,
}

impl Eye<'_> {
    /// What stands beside the shards, and what `status.json` says about them. `state` is what memory knows, under the lock.
    pub(super) fn mailbox(&self, place: &Place, state: Option<&State>) -> io::Result<Findings> {
        let mut found = Findings::default();
        let path = place.path();
        let dir = self.root.dir(&path)?;
        self.directory(&mut found, &path);
        let (mut shards, mut beside) = (Vec::new(), Vec::new());
        dir.each_name(|entry, kind| {
            let name = entry.to_str().unwrap_or_default();
            match (name, kind) {
                (status::FILE | metadata::FILE | acl::FILE, FileType::RegularFile) => {
                    found.add_rights(&path, name, &dir.stat(name)?, Sort::Small, self.owner);
                }
                (
                    ".status.json.new" | metadata::TEMPORARY | acl::TEMPORARY,
                    FileType::RegularFile,
                ) => add_temporary(&mut found, &path, name),
                (keywords::DIRECTORY, FileType::Directory) => {
                    beside.push((keywords::DIRECTORY, "keywords"))
                }
                (ids::DIRECTORY, FileType::Directory) => beside.push((ids::DIRECTORY, "ids")),
                (name, FileType::Directory) if message_file::parse_shard(name).is_some() => {
                    shards.extend(message_file::parse_shard(name));
                }
                (name, kind) if caches::is_cache(name) => {
                    caches::look(&mut found, &path, name, kind);
                }
                _ => found.add_unknown(&path, entry, kind, aside_unless_hidden(entry.to_bytes())),
            }
            Ok(())
        })?;
        for (directory, what) in beside {
            self.shard_files(&mut found, &format!("{path}/{directory}"), what, &shards)?;
        }
        let highest = highest_uid(&dir, &shards)?;
        match Status::read(&dir) {
            Ok(Some(status)) => compare(&mut found, &path, &status, highest, state),
            Ok(None) => {
                let is_there = dir.stat(status::FILE).is_ok();
                let kind = if is_there {
                    Kind::StatusDamaged
                } else {
                    Kind::StatusMissing
                };
                let (remedy, detail) = if state.is_some() {
                    (
                        Remedy::Rewrite,
                        "what it said is known, as the mailbox is in use",
                    )
                } else {
                    (
                        Remedy::NewUidValidity,
                        "clients will download the mailbox again",
                    )
                };
                found.add(&path, status::FILE, kind, remedy, detail);
            }
            Err(error) => found.add_fault(&path, status::FILE, &error),
        }
        Ok(found)
    }

    /// A directory with a file for each shard.
    fn shard_files(
        &self,
        found: &mut Findings,
        path: &str,
        what: &str,
        shards: &[u32],
    ) -> io::Result<()> {
        let dir = self.root.dir(path)?;
        self.directory(found, path);
        dir.each_name(|entry, kind| {
            let name = entry.to_str().unwrap_or_default();
            let shard = message_file::parse_shard(name).filter(|_| kind == FileType::RegularFile);
            let unfinished = name
                .strip_prefix('.')
                .and_then(|name| name.strip_suffix(".new"));
            if shard.is_some_and(|shard| shards.contains(&shard)) {
                found.add_rights(path, name, &dir.stat(name)?, Sort::Small, self.owner);
            } else if shard.is_some() {
                let detail = format!("{what} of a shard that is not there");
                found.add(path, name, Kind::UnknownEntry, Remedy::MoveAside, detail);
            } else if unfinished.is_some_and(|name| message_file::parse_shard(name).is_some()) {
                add_temporary(found, path, name);
            } else {
                found.add_unknown(path, entry, kind, aside_unless_hidden(entry.to_bytes()));
            }
            Ok(())
        })
    }

    /// What is in a shard. `state` is what memory knows, under the lock.
    pub(super) fn shard(
        &self,
        place: &Place,
        shard: u32,
        state: Option<&State>,
    ) -> io::Result<Shard> {
        let mut seen = Shard::default();
        let path = place.path();
        let dir = self.root.dir(&path)?;
        self.directory(&mut seen.findings, &path);
        let mut names = 0_u64;
        dir.each_name(|entry, kind| {
            names += u64::from(!entry.to_bytes().starts_with(b"."));
            match dir.stat(entry.to_str().unwrap_or(".")) {
                // Renamed or removed since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                stat => self.entry(&mut seen, (&path, shard, &dir), entry, kind, &stat?),
            }
        })?;
        if names > u64::from(message_file::SHARD) {
            let detail = format!("{names} names, {} are enough", message_file::SHARD);
            seen.findings
                .add(&path, ".", Kind::Crowded, Remedy::ByHand, detail);
        }
        // Memory knows better and writes them before the journal is emptied.
        if !state.is_some_and(|state| state.stale_keywords.contains(&shard)) {
            self.keyword_lines(&mut seen, &place.parent().path(), shard);
        }
        let is_ours = |uid: &u32| message_file::shard_of(*uid) == shard;
        if !state.is_some_and(|state| state.brought.keys().any(is_ours)) {
            self.ids_lines(&mut seen, &place.parent().path(), shard);
        }
        Ok(seen)
    }

    fn entry(
        &self,
        seen: &mut Shard,
        (path, shard, dir): (&str, u32, &Dir),
        entry: &CStr,
        kind: FileType,
        stat: &Stat,
    ) -> io::Result<()> {
        let found = &mut seen.findings;
        let Some(name) = entry
            .to_str()
            .ok()
            .filter(|_| kind == FileType::RegularFile)
        else {
            found.add_unknown(path, entry, kind, aside_unless_hidden(entry.to_bytes()));
            return Ok(());
        };
        if name.starts_with('.') {
            if is_forgotten(dir, name) {
                let detail = "nobody gave it its name within a day";
                found.add(path, name, Kind::Leftover, Remedy::ByHand, detail);
            }
            return Ok(());
        }
        if !name.ends_with(".eml") {
            found.add_unknown(path, entry, kind, Remedy::MoveAside);
            return Ok(());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        seen.messages += 1;
        seen.bytes += size;
        // One that is just being copied here by hand is not empty for long.
        if size == 0 && stat.st_mtime + COPYING < clock::seconds() {
            found.add(path, name, Kind::EmptyFile, Remedy::MoveAside, "");
        }
        found.add_rights(path, name, stat, Sort::Message, self.owner);
        match message_file::parse(name) {
            None => found.add(
                path,
                name,
                Kind::StrayFile,
                Remedy::NewUid,
                "its name is no message's",
            ),
            Some((uid, _)) if message_file::shard_of(uid) != shard => {
                let detail = format!(
                    "it belongs in {}",
                    message_file::shard_name(message_file::shard_of(uid))
                );
                found.add(path, name, Kind::WrongShard, Remedy::NewUid, detail);
            }
            Some((uid, _)) => seen.take(path, uid, name, stat.st_ino),
        }
        Ok(())
    }

    fn keyword_lines(&self, seen: &mut Shard, mailbox: &str, shard: u32) {
        let path = format!("{mailbox}/{}", keywords::DIRECTORY);
        let name = message_file::shard_name(shard);
        let text = match self.root.read_small(&format!("{path}/{name}")) {
            Ok(None) => return,
            Ok(Some(text)) => text,
            Err(error) => return seen.findings.add_fault(&path, &name, &error),
        };
        let (mut orphaned, mut damaged) = (0, 0);
        for line in String::from_utf8_lossy(&text).lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next().and_then(|uid| uid.parse::<u32>().ok()) {
                Some(uid) if words.all(is_keyword) => {
                    orphaned += u32::from(!seen.names.contains_key(&uid));
                }
                _ => damaged += 1,
            }
        }
        let found = &mut seen.findings;
        if damaged > 0 {
            let detail = format!("{damaged} lines cannot be read");
            found.add(&path, &name, Kind::KeywordsDamaged, Remedy::Rewrite, detail);
        } else if orphaned > 0 {
            let detail = format!("{orphaned} lines of messages that are gone");
            found.add(&path, &name, Kind::KeywordLine, Remedy::Rewrite, detail);
        }
    }

    fn ids_lines(&self, seen: &mut Shard, mailbox: &str, shard: u32) {
        let path = format!("{mailbox}/{}", ids::DIRECTORY);
        let name = message_file::shard_name(shard);
        let read = || {
            let dir = self.root.dir(mailbox)?;
            let text = dir.read_small(&ids::path(shard))?;
            Ok::<_, io::Error>(text.zip(Status::read(&dir)?))
        };
        let (text, status) = match read() {
            // Without a status, that is told of the mailbox.
            Ok(None) => return,
            Ok(Some(read)) => read,
            Err(error) => return seen.findings.add_fault(&path, &name, &error),
        };
        let text = ids::Text::parse(&text, status.id(), shard);
        let orphaned = text.lines.keys();
        let orphaned = orphaned.filter(|uid| !seen.names.contains_key(uid)).count();
        let (kind, detail) = if text.damaged > 0 {
            (
                Kind::IdsDamaged,
                format!("{} lines cannot be read", text.damaged),
            )
        } else if text.is_foreign {
            (Kind::IdsLine, "all of them of another mailbox".to_owned())
        } else if orphaned > 0 {
            let detail = format!("{orphaned} lines of messages that are gone");
            (Kind::IdsLine, detail)
        } else {
            return;
        };
        let found = &mut seen.findings;
        found.add(&path, &name, kind, Remedy::Rewrite, detail);
    }
}

impl Shard {
    /// Notes a name of a UID. Of two the one with more flags counts, as when a mailbox is read.
    fn take(&mut self, path: &str, uid: u32, name: &str, file: u64) {
        let Some((known, first)) = self.names.remove(&uid) else {
            self.names.insert(uid, (name.to_owned(), file));
            return;
        };
        let is_better = name.len() > known.len() || name.len() == known.len() && *name < *known;
        let (kept, other) = if is_better {
            (name, &*known)
        } else {
            (&*known, name)
        };
        let (remedy, detail) = if first == file {
            (Remedy::DropName, format!("another name of {kept}"))
        } else {
            (Remedy::NewUid, format!("{kept} has that UID"))
        };
        self.findings
            .add(path, other, Kind::DuplicateUid, remedy, detail);
        let file = if is_better { file } else { first };
        let kept = kept.to_owned();
        self.names.insert(uid, (kept, file));
    }
}

/// What `status.json` says against what is there.
fn compare(found: &mut Findings, path: &str, status: &Status, highest: u32, state: Option<&State>) {
    // Memory knows better and writes it when the mailbox leaves it.
    if state.is_none() && highest >= status.uid_next {
        let detail = format!("says {}, and UID {highest} is there", status.uid_next);
        found.add(path, status::FILE, Kind::UidNext, Remedy::Rewrite, detail);
    }
    let next = status.uid_next.max(highest);
    let next = state.map_or(next, |state| state.uid_next);
    if next > MAX_UID - SCARCE {
        let left = MAX_UID.saturating_sub(next);
        let detail = format!("{left} UIDs are left; make a new mailbox and move the messages");
        found.add(path, status::FILE, Kind::UidLimit, Remedy::ByHand, detail);
    }
}

/// The highest UID that a message here has; 0 if there is none.
fn highest_uid(mailbox: &Dir, shards: &[u32]) -> io::Result<u32> {
    let mut shards = shards.to_vec();
    shards.sort_unstable();
    for shard in shards.into_iter().rev() {
        let mut highest = 0;
        let dir = match mailbox.dir(&message_file::shard_name(shard)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            dir => dir?,
        };
        dir.each_name(|name, kind| {
            let name = name.to_str().ok().filter(|_| kind == FileType::RegularFile);
            let uid = name.and_then(message_file::parse);
            let uid = uid.filter(|(uid, _)| message_file::shard_of(*uid) == shard);
            highest = highest.max(uid.map_or(0, |(uid, _)| uid));
            Ok(())
        })?;
        if highest > 0 {
            return Ok(highest);
        }
    }
    Ok(0)
}

fn is_keyword(word: &str) -> bool {
    Table::default().bits(&[word.to_owned()]).is_ok()
}
