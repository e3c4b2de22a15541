//! Deviations while they are worked on, and the rules every entry is held to.

use std::ffi::CStr;
use std::io;

use ipc::tools::{Deviation, Kind, Outcome, Remedy, Row};
use rustix::fs::{FileType, Stat};

use super::super::disk::Dir;

/// Deviations of one directory that are told; the rest shows when these are mended.
const MOST: usize = 10_000;
/// Bytes of a path, or of what is said about it, that are told.
const LONGEST: usize = 2_000;

/// A user has mailboxes, mailboxes have keywords and shards: deeper it is none of ours.
const HOLLOW_DEPTH: u32 = 5;

/// A deviation, with what is needed to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// The directory beneath the root it is in.
    pub(super) dir: String,
    /// Its name there; `.` for the directory itself.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) detail: String,
    pub(super) remedy: Remedy,
    pub(super) outcome: Outcome,
}

/// What was found at one place.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) all: Vec<Finding>,
}

/// What an entry has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Directory,
    /// Status, keywords, account.
    Small,
    Message,
}

impl Finding {
    /// Whether it is about the same thing.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.kind, &self.dir, &self.name) == (other.kind, &other.dir, &other.name)
    }

    pub(super) fn row(&self) -> Row {
        let path = if self.name == "." {
            self.dir.clone()
        } else {
            format!("{}/{}", self.dir, self.name)
        };
        let path = path.strip_prefix("./").unwrap_or(&path);
        Row::Deviation(Deviation {
            path: cut(path.escape_debug().to_string()),
            kind: self.kind,
            detail: cut(self.detail.clone()),
            remedy: self.remedy,
            outcome: self.outcome,
        })
    }
}

fn cut(mut text: String) -> String {
    while text.len() > LONGEST {
        text.pop();
    }
    text
}

impl Findings {
    pub(super) fn add(
        &mut self,
        dir: &str,
        name: &str,
        kind: Kind,
        remedy: Remedy,
        detail: impl Into<String>,
    ) {
        if self.all.len() >= MOST {
            if self.all.len() == MOST {
                let detail = format!("there is more than these {MOST} to tell");
                self.all.push(Finding::new(
                    dir,
                    ".",
                    Kind::Crowded,
                    Remedy::ByHand,
                    detail,
                ));
            }
            return;
        }
        self.all
            .push(Finding::new(dir, name, kind, remedy, detail.into()));
    }

    /// A name that no text can stand for, or something the place has no use for.
    pub(super) fn add_unknown(&mut self, dir: &str, name: &CStr, kind: FileType, remedy: Remedy) {
        let what = if matches!(kind, FileType::RegularFile | FileType::Directory) {
            Kind::UnknownEntry
        } else {
            Kind::NotAFile
        };
        match name.to_str() {
            Ok(name) => self.add(dir, name, what, remedy, type_name(kind)),
            Err(_) => {
                let detail = format!("{}; its name is not UTF-8", type_name(kind));
                self.add(dir, &name.to_string_lossy(), what, Remedy::ByHand, detail);
            }
        }
    }

    /// Something that cannot be read. What is not there any more is no finding.
    pub(super) fn add_fault(&mut self, dir: &str, name: &str, error: &io::Error) {
        if error.kind() != io::ErrorKind::NotFound {
            self.add(
                dir,
                name,
                Kind::Unreadable,
                Remedy::ByHand,
                error.to_string(),
            );
        }
    }

    /// Looks at owner and permissions. `owner` is the user id the store belongs to.
    pub(super) fn add_rights(
        &mut self,
        dir: &str,
        name: &str,
        stat: &Stat,
        sort: Sort,
        owner: u32,
    ) {
        if stat.st_uid != owner {
            let detail = format!("user {} instead of {owner}", stat.st_uid);
            self.add(dir, name, Kind::Owner, Remedy::ByHand, detail);
        }
        if !sort.allows(stat.st_mode) {
            let detail = format!("{:04o}", stat.st_mode & 0o7777);
            self.add(dir, name, Kind::Mode, Remedy::SetMode, detail);
        }
    }
}

impl Finding {
    fn new(dir: &str, name: &str, kind: Kind, remedy: Remedy, detail: String) -> Self {
        Self {
            dir: dir.to_owned(),
            name: name.to_owned(),
            kind,
            detail,
            remedy,
            outcome: Outcome::Found,
        }
    }
}

impl Sort {
    /// The permissions it is made with, whatever the mask was.
    pub(super) const fn mode(self) -> u32 {
        match self {
            Self::Directory => 0o700,
            Self::Small => 0o600,
            Self::Message => 0o440,
        }
    }

    /// Whether these permissions are enough for us and nothing for others. The group of a directory may be inherited.
    const fn allows(self, mode: u32) -> bool {
        let (needed, allowed) = match self {
            Self::Directory => (0o700, 0o2700),
            Self::Small => (0o600, 0o600),
            Self::Message => (0o400, 0o440),
        };
        mode & needed == needed && mode & 0o7777 & !allowed == 0
    }
}

/// Whether a directory holds nothing but what every mailbox or user has from its beginning, or what can be made again.
pub(super) fn is_hollow(dir: &Dir, name: &str) -> io::Result<bool> {
    is_hollow_below(dir, name, HOLLOW_DEPTH)
}

fn is_hollow_below(dir: &Dir, name: &str, depth: u32) -> io::Result<bool> {
    let dir = dir.dir(name)?;
    let (mut below, mut is_hollow) = (Vec::new(), depth > 0);
    dir.each_name(|name, kind| {
        let name = name.to_string_lossy();
        match kind {
            FileType::Directory if below.len() < MOST => below.push(name.into_owned()),
            FileType::RegularFile => {
                is_hollow &= name.ends_with(".json") || name.ends_with(".json.new");
            }
            _ => is_hollow = false,
        }
        Ok(())
    })?;
    for name in below {
        is_hollow = is_hollow && is_hollow_below(&dir, &name, depth - 1)?;
    }
    Ok(is_hollow)
}

fn type_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "of no known type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_may_be_narrower_for_the_group_and_wider_for_nobody() {
        for (sort, mode, allowed) in [
            (Sort::Message, 0o440, true),
            (Sort::Message, 0o400, true),
            (Sort::Message, 0o444, false),
            (Sort::Message, 0o640, false),
            (Sort::Message, 0o040, false),
            (Sort::Directory, 0o700, true),
            (Sort::Directory, 0o2700, true),
            (Sort::Directory, 0o755, false),
            (Sort::Directory, 0o500, false),
            (Sort::Small, 0o600, true),
            (Sort::Small, 0o644, false),
        ] {
            assert_eq!(sort.allows(mode), allowed, "{sort:?} {mode:o}");
            assert!(sort.allows(sort.mode()));
        }
    }

    #[test]
    fn what_is_told_is_bounded() {
        let mut findings = Findings::default();
        for number in 0..MOST + 100 {
            findings.add(
                "d",
                &number.to_string(),
                Kind::StrayFile,
                Remedy::NewUid,
                "",
            );
        }
        assert_eq!(findings.all.len(), MOST + 1);
        findings.all[0].detail = "ж".repeat(LONGEST);
        let row = findings.all[0].row();
        assert!(ipc::frame::encode(&row).is_ok());
    }

    #[test]
    fn a_tree_with_anything_that_could_be_mail_is_not_hollow() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::root(temp.path()).unwrap();
        root.make_path("new/mailboxes/INBOX/0000").unwrap();
        let inside = temp.path().join("new/mailboxes/INBOX");
        std::fs::write(inside.join("status.json"), "{}").unwrap();
        assert!(is_hollow(&root, "new").unwrap());
        std::fs::write(inside.join("0000/x"), "").unwrap();
        assert!(!is_hollow(&root, "new").unwrap());
    }
}
