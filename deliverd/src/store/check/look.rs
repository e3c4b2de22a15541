//! What is at the store, a domain or a user that should not be, and what should be and is not. Only looks.

use std::collections::BTreeSet;
use std::io;

use ipc::tools::{Kind, Remedy};
use rustix::fs::FileType;

use super::super::disk::Dir;
use super::super::expunged::{self, Day};
use super::super::metadata;
use super::super::name::{self, MailboxName};
use super::super::registry::Registry;
use super::super::status::Status;
use super::super::{recovery, registry, user};
use super::finding::{Findings, Sort, is_hollow};
use super::place::Place;
use crate::clock;

/// Something that is taken away in pieces is under way if that began less than so many microseconds ago.
const REMOVAL: u64 = 3_600_000_000;
/// What nobody finished after so many seconds nobody will finish.
const FORGOTTEN: i64 = 86_400;

/// Looks beneath the root.
pub(super) struct Eye<'a> {
    pub(super) root: &'a Dir,
    /// Whom the store belongs to.
    pub(super) owner: u32,
}

impl<'a> Eye<'a> {
    pub(super) fn new(root: &'a Dir) -> io::Result<Self> {
        let owner = root.stat(".")?.st_uid;
        Ok(Self { root, owner })
    }

    /// What stands beside the domains.
    pub(super) fn store(&self) -> io::Result<Findings> {
        let mut found = Findings::default();
        self.root.each_name(|entry, kind| {
            match (entry.to_bytes(), kind) {
                (
                    b".incoming" | b".journal" | b".aside" | b"domains" | b"lost+found",
                    FileType::Directory,
                )
                | (b".lock", FileType::RegularFile) => {}
                _ => found.add_unknown(".", entry, kind, Remedy::ByHand),
            }
            Ok(())
        })?;
        self.incoming(&mut found)?;
        let journal = recovery::DIRECTORY;
        self.root.dir(journal)?.each_name(|entry, kind| {
            let name = entry.to_str().unwrap_or_default();
            let is_known = name.parse::<u8>().is_ok()
                || name.starts_with("reserve.")
                || matches!(name, "last-recovery.json" | "apart" | "stopped")
                || name.starts_with('.') && name.ends_with(".new");
            if !is_known || kind != FileType::RegularFile {
                found.add_unknown(journal, entry, kind, Remedy::ByHand);
            }
            Ok(())
        })?;
        let domains = self.root.dir("domains")?;
        self.directory(&mut found, "domains");
        domains.each_name(|entry, kind| {
            let text = entry.to_str().ok().and_then(name::original);
            match (text, kind) {
                (Some(_), FileType::Directory) => {}
                (None, FileType::Directory) => found.add(
                    "domains",
                    &entry.to_string_lossy(),
                    Kind::BadName,
                    Remedy::ByHand,
                    "no domain is written so",
                ),
                _ => found.add_unknown("domains", entry, kind, Remedy::ByHand),
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn incoming(&self, found: &mut Findings) -> io::Result<()> {
        const INCOMING: &str = ".incoming";
        let dir = self.root.dir(INCOMING)?;
        dir.each_name(|entry, kind| {
            let name = entry.to_str().unwrap_or_default();
            let number = name
                .strip_suffix(".eml")
                .and_then(|n| n.parse::<u64>().ok());
            if number.is_none() || kind != FileType::RegularFile {
                found.add_unknown(INCOMING, entry, kind, Remedy::ByHand);
            } else if is_forgotten(&dir, name) {
                let detail = "an unfinished message; the next start removes it";
                found.add(INCOMING, name, Kind::Leftover, Remedy::ByHand, detail);
            }
            Ok(())
        })
    }

    /// What stands beside the users of a domain.
    pub(super) fn domain(&self, place: &Place) -> io::Result<Findings> {
        let mut found = Findings::default();
        let path = place.path();
        self.directory(&mut found, &path);
        self.root.dir(&path)?.each_name(|entry, kind| {
            if entry.to_bytes() != b"users" || kind != FileType::Directory {
                found.add_unknown(&path, entry, kind, Remedy::ByHand);
            }
            Ok(())
        })?;
        let path = format!("{path}/users");
        let users = self.root.dir(&path)?;
        self.directory(&mut found, &path);
        users.each_name(|entry, kind| {
            let name = entry.to_str().unwrap_or_default();
            if kind != FileType::Directory {
                found.add_unknown(&path, entry, kind, Remedy::ByHand);
            } else if name.starts_with(".removed-") {
                let detail = "mail of a removed user, kept until somebody deletes it";
                found.add(&path, name, Kind::RemovedUser, Remedy::ByHand, detail);
            } else if name.starts_with(".new-") {
                add_half_made(&mut found, &path, &users, name);
            } else if name::original(name).is_none() {
                let shown = entry.to_string_lossy();
                let detail = "no user is written so";
                found.add(&path, &shown, Kind::BadName, Remedy::ByHand, detail);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// What a user has beside mailboxes, and how the mailboxes go together. `is_listed` says of a directory whether it is a
    /// mailbox in use, if the user is in use.
    pub(super) fn user(
        &self,
        place: &Place,
        is_listed: Option<&dyn Fn(&str) -> bool>,
    ) -> io::Result<Findings> {
        let mut found = Findings::default();
        let path = place.path();
        let dir = self.root.dir(&path)?;
        self.directory(&mut found, &path);
        dir.each_name(|entry, kind| {
            match (entry.to_bytes(), kind) {
                (b"account.json", FileType::RegularFile) => {
                    let stat = dir.stat(registry::FILE)?;
                    found.add_rights(&path, registry::FILE, &stat, Sort::Small, self.owner);
                }
                (b"metadata.json", FileType::RegularFile) => {
                    let stat = dir.stat(metadata::FILE)?;
                    found.add_rights(&path, metadata::FILE, &stat, Sort::Small, self.owner);
                }
                (b".metadata.json.new", FileType::RegularFile) => {
                    add_temporary(&mut found, &path, metadata::TEMPORARY)
                }
                (b"mailboxes", FileType::Directory) => {}
                (b".expunged", FileType::Directory) => self.expunged(&mut found, &path)?,
                (b".notes", FileType::Directory) => {
                    self.directory(&mut found, &format!("{path}/{}", metadata::NOTES));
                }
                (b".account.json.new", FileType::RegularFile) => {
                    add_temporary(&mut found, &path, ".account.json.new")
                }
                _ => found.add_unknown(&path, entry, kind, aside_unless_hidden(entry.to_bytes())),
            }
            Ok(())
        })?;
        match Registry::read(&dir) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let is_there = dir.stat(registry::FILE).is_ok();
                let kind = if is_there {
                    Kind::AccountFileDamaged
                } else {
                    Kind::AccountFileMissing
                };
                let detail = "subscriptions are lost, unless the user is in use";
                found.add(&path, registry::FILE, kind, Remedy::Rewrite, detail);
            }
            Err(error) => found.add_fault(&path, registry::FILE, &error),
        }
        match self.mailboxes(&mut found, &path, is_listed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                found.add(&path, user::MAILBOXES, Kind::NoDirectory, Remedy::Make, "");
            }
            looked => looked?,
        }
        Ok(found)
    }

    /// What stands beside the days of which something is kept.
    fn expunged(&self, found: &mut Findings, user: &str) -> io::Result<()> {
        let path = format!("{user}/{}", expunged::DIRECTORY);
        self.directory(found, &path);
        self.root.dir(&path)?.each_name(|entry, kind| {
            let day = entry.to_str().ok().and_then(Day::parse);
            if day.is_none() || kind != FileType::Directory {
                found.add_unknown(&path, entry, kind, Remedy::ByHand);
            }
            Ok(())
        })
    }

    fn mailboxes(
        &self,
        found: &mut Findings,
        user: &str,
        is_listed: Option<&dyn Fn(&str) -> bool>,
    ) -> io::Result<()> {
        let path = format!("{user}/{}", user::MAILBOXES);
        let dir = self.root.dir(&path)?;
        self.directory(found, &path);
        let mut mailboxes = BTreeSet::new();
        dir.each_name(|entry, kind| {
            let name = entry.to_str().unwrap_or_default();
            let hidden = |prefix| {
                name.strip_prefix(prefix)
                    .filter(|_| kind == FileType::Directory)
            };
            if hidden(".new-").is_some() {
                add_half_made(found, &path, &dir, name);
            } else if let Some(number) = hidden(".deleted-") {
                let began: u64 = number.parse().unwrap_or(0);
                if began.saturating_add(REMOVAL) < clock::micros() {
                    let detail = "a mailbox that was deleted";
                    found.add(&path, name, Kind::Leftover, Remedy::Remove, detail);
                }
            } else if name.starts_with('.') || kind != FileType::Directory {
                found.add_unknown(&path, entry, kind, Remedy::MoveAside);
            } else if MailboxName::from_file_name(name).is_some() {
                if is_listed.is_some_and(|is_listed| !is_listed(name)) {
                    let detail = "made while its user was in use; seen from the next start on";
                    found.add(&path, name, Kind::NotListed, Remedy::Show, detail);
                } else {
                    mailboxes.insert(name.to_owned());
                }
            } else if entry.to_str().is_err() {
                found.add_unknown(&path, entry, kind, Remedy::ByHand);
            } else {
                add_badly_named(found, &path, &dir, name);
            }
            Ok(())
        })?;
        let mut known = BTreeSet::new();
        // The copy of an INBOX is not the INBOX.
        let inbox = mailboxes.take("INBOX");
        for name in inbox.iter().chain(&mailboxes) {
            let status = dir.dir(name).and_then(|dir| Status::read(&dir));
            match status {
                Ok(Some(status))
                    if status.uid_validity == 0 || !known.insert(status.uid_validity) =>
                {
                    let detail = match status.uid_validity {
                        0 => "there is none".to_owned(),
                        number => format!("{number} is that of another mailbox, too"),
                    };
                    found.add(
                        &path,
                        name,
                        Kind::UidValidity,
                        Remedy::NewUidValidity,
                        detail,
                    );
                }
                // Without one, it is found when the mailbox is looked at.
                Ok(_) => {}
                Err(error) => found.add_fault(&path, name, &error),
            }
        }
        Ok(())
    }

    /// Owner and permissions of a directory.
    pub(super) fn directory(&self, found: &mut Findings, path: &str) {
        match self.root.dir(path).and_then(|dir| dir.stat(".")) {
            Ok(stat) => found.add_rights(path, ".", &stat, Sort::Directory, self.owner),
            Err(error) => found.add_fault(path, ".", &error),
        }
    }
}

/// Something that was being written in front of its final name.
pub(super) fn add_temporary(found: &mut Findings, dir: &str, name: &str) {
    let detail = "a file that was not written to its end";
    found.add(dir, name, Kind::Leftover, Remedy::Remove, detail);
}

/// Names with a dot in front may be those of a later version.
pub(super) fn aside_unless_hidden(name: &[u8]) -> Remedy {
    if name.starts_with(b".") {
        Remedy::ByHand
    } else {
        Remedy::MoveAside
    }
}

/// Whether nobody has touched a file for long.
pub(super) fn is_forgotten(dir: &Dir, name: &str) -> bool {
    dir.stat(name)
        .is_ok_and(|stat| stat.st_ctime + FORGOTTEN < clock::seconds())
}

fn add_half_made(found: &mut Findings, path: &str, dir: &Dir, name: &str) {
    let (remedy, detail) = if is_hollow(dir, name).unwrap_or(false) {
        (Remedy::Remove, "was not made to its end")
    } else {
        (
            Remedy::MoveAside,
            "was not made to its end, and something is in it",
        )
    };
    found.add(path, name, Kind::Leftover, remedy, detail);
}

fn add_badly_named(found: &mut Findings, path: &str, dir: &Dir, name: &str) {
    let proper = name::proper(name).map(|name| name.file_name());
    let free = proper.filter(|proper| dir.stat(proper).is_err());
    let (remedy, detail) = match &free {
        Some(proper) => (
            Remedy::Rename,
            format!("as a mailbox it is written {proper}"),
        ),
        None => (Remedy::ByHand, "no mailbox is written so".to_owned()),
    };
    found.add(path, name, Kind::BadName, remedy, detail);
}
