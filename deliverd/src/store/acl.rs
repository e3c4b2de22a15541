//! `acl.json`: what others may do with a mailbox (RFC 4314). Who is in no entry may do nothing.
//!
//! A file of its own in the mailbox's directory, so it goes where that goes; it names the owner, so a directory that is copied to
//! somebody else gives nobody anything. An entry of a user names the account too: it means nobody else who gets the same address
//! later. It is read anew for each question, and only for those who are not the owner.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use ipc::Refusal;
use ipc::acl::{
    ANYONE, AclEntry, MAX_BYTES, MAX_ENTRIES, MAX_IDENTIFIER, OTHER_USERS, Rights, RightsChange,
};
use ipc::session::MAX_MAILBOX_NAME;
use ipc::snapshot::flag;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::disk::{Dir, is_not_found};
use super::mailbox::Mailbox;
use super::name::MailboxName;
use crate::fault::OrFault;

/// File name in a mailbox's directory.
pub(super) const FILE: &str = "acl.json";
/// Where it is written before it has its name.
pub(super) const TEMPORARY: &str = ".acl.json.new";

/// Somebody who comes to a mailbox of another user of the same tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visitor {
    pub(crate) address: String,
    /// What distinguishes the account from others that had the address before.
    pub(crate) stamp: u64,
}

/// Whom an entry is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identifier {
    /// The rights are taken away.
    pub(crate) negative: bool,
    /// `None` for everyone.
    pub(crate) user: Option<Visitor>,
}

impl Identifier {
    /// As it is in the file, and told.
    pub(crate) fn name(&self) -> String {
        let dash = if self.negative { "-" } else { "" };
        format!("{dash}{}", self.grantee())
    }

    /// Without the dash.
    pub(crate) fn grantee(&self) -> &str {
        self.user.as_ref().map_or(ANYONE, |user| &user.address)
    }
}

/// Which flags somebody may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    /// System flags.
    pub(crate) flags: u8,
    /// Keywords.
    pub(crate) keywords: bool,
}

impl Marks {
    pub(crate) const ALL: Self = Self {
        flags: flag::ALL,
        keywords: true,
    };

    /// RFC 4314 §4.
    pub(crate) fn of(rights: Rights) -> Self {
        let write = flag::ALL & !flag::SEEN & !flag::DELETED;
        let of = |right, flags| if rights.has(right) { flags } else { 0 };
        Self {
            flags: of(Rights::SEEN, flag::SEEN)
                | of(Rights::TRASH, flag::DELETED)
                | of(Rights::WRITE, write),
            keywords: rights.has(Rights::WRITE),
        }
    }
}

/// The name under which others see a mailbox; none if they cannot.
pub(crate) fn shared_name(owner: &str, mailbox: &MailboxName) -> Option<String> {
    let name = format!("{OTHER_USERS}{owner}/{}", mailbox.as_str());
    (!owner.contains('/') && name.len() <= MAX_MAILBOX_NAME).then_some(name)
}

/// The owner's address and the owner's name for it, of a name that is no name of the user's own.
pub(crate) fn parse_shared(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(OTHER_USERS)?.split_once('/')
}

/// Whether it is a name that only mailboxes of others can have.
pub(super) fn is_reserved(name: &MailboxName) -> bool {
    let name = name.as_str();
    name.starts_with(OTHER_USERS) || OTHER_USERS.strip_suffix('/') == Some(name)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    rights: String,
    /// Of which account, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Acl {
    owner: String,
    rights: BTreeMap<String, Entry>,
}

impl Entry {
    // What cannot be read gives nothing, and takes everything.
    fn rights(&self, negative: bool) -> Rights {
        let unreadable = if negative { Rights::ALL } else { Rights::NONE };
        Rights::parse(&self.rights).unwrap_or(unreadable)
    }

    /// Whether it is about somebody.
    fn counts(&self, name: &str, is_present: impl Fn(&str, u64) -> bool) -> bool {
        let stamp = self.account.as_deref();
        let stamp = stamp.and_then(|stamp| u64::from_str_radix(stamp, 16).ok());
        name.starts_with('-')
            || name == ANYONE
            || stamp.is_some_and(|stamp| is_present(name, stamp))
    }

    fn is_of(&self, stamp: u64) -> bool {
        self.account.as_deref() == Some(written(stamp).as_str())
    }
}

fn written(stamp: u64) -> String {
    format!("{stamp:016x}")
}

impl Acl {
    /// Reads the file of a mailbox of `owner`. One that is damaged, is somebody else's or has too many entries gives nobody anything.
    fn read(dir: &Dir, owner: &str) -> io::Result<Self> {
        let nothing = Self {
            owner: owner.to_owned(),
            rights: BTreeMap::new(),
        };
        let Some(bytes) = dir.read_small(FILE)? else {
            return Ok(nothing);
        };
        let read: Self = match serde_json::from_slice(&bytes) {
            Ok(read) => read,
            Err(error) => {
                warn!(%error, owner, "acl.json is damaged, the mailbox is not shared any more");
                return Ok(nothing);
            }
        };
        if read.owner != owner || !read.fits() {
            warn!(
                owner,
                "acl.json is of another user or too large, the mailbox is not shared"
            );
            return Ok(nothing);
        }
        Ok(read)
    }

    fn fits(&self) -> bool {
        let bytes: usize = self.rights.keys().map(String::len).sum();
        let is_short = |name: &String| name.len() <= MAX_IDENTIFIER;
        self.rights.len() <= MAX_ENTRIES && bytes <= MAX_BYTES && self.rights.keys().all(is_short)
    }

    /// Writes the file, durably; there is none where nothing is in it.
    fn write(&self, dir: &Dir) -> io::Result<()> {
        if self.rights.is_empty() {
            return match dir.remove_if_there(FILE)? {
                true => dir.sync(),
                false => Ok(()),
            };
        }
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        dir.write_small(FILE, &bytes)
    }

    /// What somebody may do who is not the owner.
    // RFC 4314 §2: how entries are combined is up to the implementation. What is taken away is taken from all.
    fn rights_of(&self, visitor: &Visitor) -> Rights {
        let given = self.rights.get(&visitor.address);
        let given = given.filter(|entry| entry.is_of(visitor.stamp));
        let all = self.rights.get(ANYONE);
        let given = [given, all]
            .into_iter()
            .flatten()
            .fold(Rights::NONE, |sum, entry| sum.and(entry.rights(false)));
        let taken = [format!("-{}", visitor.address), format!("-{ANYONE}")];
        let taken = taken.iter().filter_map(|name| self.rights.get(name));
        taken.fold(given, |left, entry| left.without(entry.rights(true)))
    }

    fn entries(&self, is_present: impl Fn(&str, u64) -> bool) -> Vec<AclEntry> {
        let entries = self.rights.iter();
        let entries = entries.filter(|(name, entry)| entry.counts(name, &is_present));
        let entries = entries.map(|(name, entry)| AclEntry {
            identifier: name.clone(),
            rights: entry.rights(name.starts_with('-')),
        });
        entries.collect()
    }

    /// Changes an entry. Refused with [`Refusal::OverQuota`] if there are too many afterwards, those of accounts that are gone left out.
    fn change(
        &mut self,
        whom: &Identifier,
        change: RightsChange,
        is_present: impl Fn(&str, u64) -> bool,
    ) -> Result<(), Refusal> {
        let name = whom.name();
        let stamp = whom.user.as_ref().map(|user| user.stamp);
        let known = self.rights.get(&name);
        let known =
            known.filter(|entry| whom.negative || stamp.is_none_or(|stamp| entry.is_of(stamp)));
        let known = known.map_or(Rights::NONE, |entry| entry.rights(whom.negative));
        let rights = match change {
            RightsChange::Set(rights) => rights.and(Rights::NONE),
            RightsChange::Add(rights) => known.and(rights),
            RightsChange::Remove(rights) => known.without(rights),
        };
        if rights == Rights::NONE {
            self.rights.remove(&name);
            return Ok(());
        }
        let account = stamp.map(written);
        let rights = rights.letters();
        self.rights.insert(name, Entry { rights, account });
        if !self.fits() {
            self.rights
                .retain(|name, entry| entry.counts(name, &is_present));
        }
        if self.fits() {
            Ok(())
        } else {
            Err(Refusal::OverQuota)
        }
    }

    /// Who is given something.
    fn grantees(self) -> impl Iterator<Item = String> {
        let names = self.rights.into_keys();
        names.filter(|name| !name.starts_with('-'))
    }
}

/// Whether a mailbox has the file, as far as that is known.
#[derive(Debug, Default)]
pub(super) struct HasAcl(AtomicU8);

impl HasAcl {
    const UNKNOWN: u8 = 0;
    const YES: u8 = 1;
    const NO: u8 = 2;

    fn set(&self, has: bool) {
        let value = if has { Self::YES } else { Self::NO };
        self.0.store(value, Ordering::Release);
    }

    /// What was found, unless somebody has changed it since it was looked for.
    fn learn(&self, has: bool) {
        let value = if has { Self::YES } else { Self::NO };
        let known = &self.0;
        // It failed because more is known.
        let _ = known.compare_exchange(Self::UNKNOWN, value, Ordering::AcqRel, Ordering::Acquire);
    }

    /// It is looked for again.
    pub(super) fn forget(&self) {
        self.0.store(Self::UNKNOWN, Ordering::Release);
    }
}

impl Mailbox {
    /// Whether it may be shared with somebody. A file that was made by hand is noticed after the next start, when somebody asks for the
    /// mailbox by its name, or by [`super::User::register`].
    pub(super) fn has_acl(self: &Arc<Self>) -> Result<bool, Refusal> {
        match self.has_acl.0.load(Ordering::Acquire) {
            HasAcl::YES => Ok(true),
            HasAcl::NO => Ok(false),
            _ => {
                let found = self.directory_of_acl()?.stat(FILE);
                let has = !is_not_found(&found);
                if has {
                    found.or_fault("look for acl.json")?;
                }
                self.has_acl.learn(has);
                Ok(has)
            }
        }
    }

    /// Its directory; asked without its lock, so that nobody waits for it. A mailbox that was renamed or deleted, and another one made
    /// under its name: what is read is of the other one, and whoever has this one can do nothing with it.
    fn directory_of_acl(&self) -> Result<Dir, Refusal> {
        let dir = self.dir();
        if is_not_found(&dir) {
            return Err(Refusal::NoSuchMailbox);
        }
        dir.or_fault("open a mailbox")
    }

    fn acl(self: &Arc<Self>, owner: &str) -> Result<Acl, Refusal> {
        let read = Acl::read(&self.directory_of_acl()?, owner).or_fault("read acl.json")?;
        if !read.rights.is_empty() {
            self.has_acl.set(true);
        }
        Ok(read)
    }

    /// What a visitor may do with this mailbox of `owner` now.
    pub(crate) fn rights_of(
        self: &Arc<Self>,
        owner: &str,
        visitor: &Visitor,
    ) -> Result<Rights, Refusal> {
        Ok(self.acl(owner)?.rights_of(visitor))
    }

    /// The entries; those of accounts that are gone are left out.
    pub(crate) fn acl_entries(
        self: &Arc<Self>,
        owner: &str,
        is_present: impl Fn(&str, u64) -> bool,
    ) -> Result<Vec<AclEntry>, Refusal> {
        Ok(self.acl(owner)?.entries(is_present))
    }

    /// Changes an entry, durably.
    pub(super) fn change_acl(
        self: &Arc<Self>,
        owner: &str,
        whom: &Identifier,
        change: RightsChange,
        is_present: impl Fn(&str, u64) -> bool,
    ) -> Result<(), Refusal> {
        self.hold(|_| {
            let dir = self.dir().or_fault("open a mailbox")?;
            let mut acl = Acl::read(&dir, owner).or_fault("read acl.json")?;
            acl.change(whom, change, is_present)?;
            acl.write(&dir).or_fault("write acl.json")?;
            self.has_acl.set(!acl.rights.is_empty());
            Ok(())
        })?
    }

    /// Who is given something.
    pub(super) fn grantees(self: &Arc<Self>, owner: &str) -> Result<Vec<String>, Refusal> {
        if !self.has_acl()? {
            return Ok(Vec::new());
        }
        Ok(self.acl(owner)?.grantees().collect())
    }
}

/// Gives a mailbox that is being made what the one above it has.
// RFC 4314 §4: a new mailbox should inherit the list of its parent.
pub(super) fn inherit(parent: &Arc<Mailbox>, child: &Dir) -> io::Result<()> {
    match parent.dir()?.read_small(FILE)? {
        Some(bytes) => child.write_small(FILE, &bytes),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(address: &str, stamp: u64) -> Visitor {
        let address = address.to_owned();
        Visitor { address, stamp }
    }

    fn rights(letters: &str) -> Rights {
        Rights::parse(letters).unwrap()
    }

    fn acl(entries: &[(&str, &str)]) -> Acl {
        let mut acl = Acl::default();
        for (name, letters) in entries {
            let (negative, name) = match name.strip_prefix('-') {
                Some(name) => (true, name),
                None => (false, *name),
            };
            let user = (name != ANYONE).then(|| user(name, 7));
            let whom = Identifier { negative, user };
            acl.change(&whom, RightsChange::Set(rights(letters)), |_, _| true)
                .unwrap();
        }
        acl
    }

    #[test]
    fn rights_are_those_of_user_and_anyone_without_what_is_taken_away() {
        let acl = acl(&[
            ("anyone", "lr"),
            ("bob@a", "swt"),
            ("-bob@a", "t"),
            ("-carol@a", "lrswipkxtea"),
            ("-anyone", "w"),
        ]);
        assert_eq!(acl.rights_of(&user("bob@a", 7)), rights("lrs"));
        assert_eq!(acl.rights_of(&user("carol@a", 7)), Rights::NONE);
        assert_eq!(acl.rights_of(&user("dave@a", 7)), rights("lr"));
    }

    #[test]
    fn an_address_that_somebody_else_got_has_nothing_of_what_was_given() {
        let acl = acl(&[("bob@a", "lrs"), ("-bob@a", "s")]);
        assert_eq!(acl.rights_of(&user("bob@a", 7)), rights("lr"));
        assert_eq!(acl.rights_of(&user("bob@a", 8)), Rights::NONE);
        let told = acl.entries(|_, stamp| stamp == 8);
        // What was taken away stays so for whoever has the address.
        assert_eq!(told.len(), 1);
        let mut acl = acl;
        let whom = Identifier {
            negative: false,
            user: Some(user("bob@a", 8)),
        };
        acl.change(&whom, RightsChange::Add(rights("l")), |_, _| true)
            .unwrap();
        assert_eq!(acl.rights_of(&user("bob@a", 8)), rights("l"));
    }

    #[test]
    fn there_is_an_end_to_entries() {
        let names: Vec<String> = (0..MAX_ENTRIES).map(|n| format!("u{n}@a")).collect();
        let entries: Vec<_> = names.iter().map(|name| (name.as_str(), "l")).collect();
        let mut acl = acl(&entries);
        let one_more = Identifier {
            negative: false,
            user: None,
        };
        let set = RightsChange::Set(rights("l"));
        let full = acl.change(&one_more, set, |_, _| true);
        assert_eq!(full, Err(Refusal::OverQuota));
        // Those that are gone make room.
        acl.rights.remove(ANYONE);
        assert_eq!(acl.change(&one_more, set, |name, _| name != "u3@a"), Ok(()));
        assert_eq!(acl.rights.len(), MAX_ENTRIES);
    }

    #[test]
    fn a_file_with_more_entries_than_are_told_gives_nobody_anything() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::root(temp.path()).unwrap();
        let mut full = acl(&[("anyone", "lr")]);
        full.owner = "alice@a".into();
        for extra in 0..=MAX_ENTRIES {
            let bytes = serde_json::to_vec(&full).unwrap();
            dir.write_small(FILE, &bytes).unwrap();
            let read = Acl::read(&dir, "alice@a").unwrap();
            let given = read.rights_of(&user("bob@a", 7));
            assert_eq!(given != Rights::NONE, extra < MAX_ENTRIES, "{extra}");
            let entry = Entry {
                rights: "l".into(),
                account: None,
            };
            full.rights.insert(format!("-u{extra}@a"), entry);
        }
    }

    #[test]
    fn flags_follow_rights() {
        assert_eq!(Marks::of(Rights::ALL), Marks::ALL);
        let marks = Marks::of(rights("s"));
        assert_eq!((marks.flags, marks.keywords), (flag::SEEN, false));
        let marks = Marks::of(rights("w"));
        let others = flag::ANSWERED | flag::FLAGGED | flag::DRAFT;
        assert_eq!((marks.flags, marks.keywords), (others, true));
        assert_eq!(Marks::of(rights("t")).flags, flag::DELETED);
    }

    #[test]
    fn names_of_others_have_an_owner_and_fit() {
        let name = MailboxName::parse("Work/2026").unwrap();
        let shared = shared_name("alice@a", &name).unwrap();
        assert_eq!(shared, "Other Users/alice@a/Work/2026");
        assert_eq!(parse_shared(&shared), Some(("alice@a", "Work/2026")));
        assert_eq!(parse_shared("Other Users/alice@a"), None);
        assert_eq!(parse_shared("Work/2026"), None);
        assert_eq!(shared_name("a/b@a", &name), None);
        let long = MailboxName::parse(&"x".repeat(MAX_MAILBOX_NAME)).unwrap();
        assert_eq!(shared_name("alice@a", &long), None);
        for (name, reserved) in [
            ("Other Users", true),
            ("Other Users/x", true),
            ("Other Users2", false),
        ] {
            assert_eq!(is_reserved(&MailboxName::parse(name).unwrap()), reserved);
        }
    }
}
