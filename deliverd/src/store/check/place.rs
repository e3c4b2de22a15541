//! Places of the store in the order in which a walk comes to them, and how they are written.
//!
//! A place stands before all that is below it; what is in one directory comes in the order of its names, shards in the order of
//! their numbers. So one place says how far a walk is, and what was made or removed meanwhile disturbs nothing.

use std::collections::BinaryHeap;
use std::io;
use std::time::{Duration, Instant};

use ipc::Refusal;
use ipc::tools::Scope;
use rustix::fs::FileType;

use super::super::disk::Dir;
use super::super::message_file;
use super::super::name::{self, MailboxName};
use super::super::{Owner, user};
use crate::accounts;

/// How many names of a directory are kept at a time: what a directory of a million costs is reading it a few hundred times.
const NAMES: usize = 4096;
/// How long they are believed.
const FRESH: Duration = Duration::from_secs(10);
/// How deep the store is: domain, user, mailbox, shard.
pub(super) const DEPTH: usize = 4;

/// A directory of the store, as the names of its domain, user, mailbox and shard on disk; none of them is the store itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place(Vec<String>);

/// What a place is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Level {
    Store,
    Domain,
    User(Owner),
    Mailbox(Owner, MailboxName),
    Shard(Owner, MailboxName, u32),
}

/// How far a walk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cursor {
    /// All of a place that is not below it was seen.
    Behind(Place),
    /// In a shard, the messages up to this UID were seen.
    Within(Place, u32),
    /// The tree was seen, and accounts up to this one, by domain and local part; an empty one comes before all of a domain.
    Accounts(Owner),
}

/// Finds the next place. Keeps some names of the directories it is in; without them it only takes longer.
#[derive(Debug, Default)]
pub(super) struct Guide {
    listings: [Option<Listing>; DEPTH],
}

#[derive(Debug)]
struct Listing {
    path: String,
    /// Of the names behind this one …
    behind: Option<Key>,
    /// … the first, ascending.
    names: Vec<Key>,
    is_all: bool,
    read: Instant,
}

/// A name with what it is sorted by first.
type Key = (usize, String);

impl Place {
    /// The place that holds all of a scope.
    pub(super) fn of(scope: &Scope) -> Result<Self, Refusal> {
        let encode = |text: &str| name::encode(text).ok_or(Refusal::NotFound);
        let user = |address: &str| {
            let owner = Owner::of(&accounts::address(address)?);
            Ok::<_, Refusal>(vec![encode(&owner.domain)?, encode(&owner.local)?])
        };
        Ok(Self(match scope {
            Scope::Everything => Vec::new(),
            Scope::Domain(domain) => vec![encode(accounts::domain(domain)?.as_str())?],
            Scope::User(address) => user(address)?,
            Scope::Mailbox {
                user: address,
                name,
            } => {
                let mut parts = user(address)?;
                parts.push(MailboxName::parse(name)?.file_name());
                parts
            }
        }))
    }

    /// Reads what [`Place::text`] gives.
    fn parse(text: &str) -> Option<Self> {
        if text == "." {
            return Some(Self::default());
        }
        let parts: Vec<String> = text.split('/').map(str::to_owned).collect();
        let fits = parts.len() <= DEPTH
            && parts
                .iter()
                .enumerate()
                .all(|(depth, part)| key(depth, part).is_some());
        fits.then_some(Self(parts))
    }

    /// As an operator sees it, `example.com/alice/INBOX/0000`.
    pub(super) fn text(&self) -> String {
        if self.0.is_empty() {
            ".".to_owned()
        } else {
            self.0.join("/")
        }
    }

    /// Domain, user and mailbox of it.
    pub(super) fn mailbox_text(&self) -> String {
        self.0[..self.0.len().min(3)].join("/")
    }

    /// Its directory beneath the root.
    pub(super) fn path(&self) -> String {
        const ABOVE: [&str; DEPTH] = ["domains", "users", user::MAILBOXES, ""];
        let mut path = Vec::new();
        for (part, above) in self.0.iter().zip(ABOVE) {
            path.extend([above, part.as_str()]);
        }
        path.retain(|part| !part.is_empty());
        if path.is_empty() {
            ".".to_owned()
        } else {
            path.join("/")
        }
    }

    /// Where the directories one level below it are.
    fn path_below(&self) -> String {
        match self.0.len() {
            0 => "domains".to_owned(),
            1 => format!("{}/users", self.path()),
            2 => format!("{}/{}", self.path(), user::MAILBOXES),
            _ => self.path(),
        }
    }

    /// What it is. The names are canonical, as [`Guide`] and [`Place::parse`] let no others in.
    pub(super) fn level(&self) -> Level {
        let text = |at: usize| self.0.get(at).and_then(|part| name::original(part));
        let owner = text(0)
            .zip(text(1))
            .map(|(domain, local)| Owner { local, domain });
        let mailbox = self
            .0
            .get(2)
            .and_then(|part| MailboxName::from_file_name(part));
        let shard = self
            .0
            .get(3)
            .and_then(|part| message_file::parse_shard(part));
        match (owner, mailbox, shard) {
            (Some(owner), Some(mailbox), Some(shard)) => Level::Shard(owner, mailbox, shard),
            (Some(owner), Some(mailbox), None) => Level::Mailbox(owner, mailbox),
            (Some(owner), None, _) => Level::User(owner),
            (None, ..) if self.0.is_empty() => Level::Store,
            (None, ..) => Level::Domain,
        }
    }

    /// The place one level above.
    pub(super) fn parent(&self) -> Self {
        Self(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    fn is_within(&self, scope: &Self) -> bool {
        self.0.starts_with(&scope.0)
    }
}

impl Cursor {
    /// Reads what [`Cursor::text`] gives; it must be in the scope.
    pub(super) fn parse(text: &str, scope: &Place) -> Result<Self, Refusal> {
        let wrong = || {
            Refusal::Invalid(format!(
                "\"{}\" is no place of this scope to go on from",
                text.escape_debug()
            ))
        };
        if let Some(account) = text.strip_prefix('@') {
            let parts = account.split_once('/');
            let (domain, local) = parts.ok_or_else(wrong)?;
            let original = |part: &str| match part {
                "" => Some(String::new()),
                part => name::original(part),
            };
            let owner = original(domain).zip(original(local));
            let owner = owner.map(|(domain, local)| Owner { local, domain });
            return owner.map(Self::Accounts).ok_or_else(wrong);
        }
        let cursor = match text.rsplit_once('#') {
            Some((shard, uid)) => {
                let place = Place::parse(shard).filter(|place| place.0.len() == DEPTH);
                place
                    .zip(uid.parse().ok())
                    .map(|(place, uid)| Self::Within(place, uid))
            }
            None => Place::parse(text).map(Self::Behind),
        };
        let is_within = |cursor: &Self| match cursor {
            Self::Behind(place) | Self::Within(place, _) => place.is_within(scope),
            Self::Accounts(_) => true,
        };
        cursor.filter(is_within).ok_or_else(wrong)
    }

    /// As an operator sees it and gives it back.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Behind(place) => place.text(),
            // No name on disk has this character.
            Self::Within(place, uid) => format!("{}#{uid}", place.text()),
            Self::Accounts(owner) => {
                let encode = |part: &str| name::encode(part).unwrap_or_default();
                format!("@{}/{}", encode(&owner.domain), encode(&owner.local))
            }
        }
    }
}

impl Guide {
    /// The place behind `at` within `scope`; `None` at the end. Nothing below `depth` is looked for. Directories that cannot be
    /// read are given to `unreadable`, and are as if they were empty.
    pub(super) fn next(
        &mut self,
        root: &Dir,
        scope: &Place,
        at: Option<&Place>,
        depth: usize,
        unreadable: &mut dyn FnMut(String, io::Error),
    ) -> Option<Place> {
        let Some(at) = at else {
            self.listings = Default::default();
            return Some(scope.clone());
        };
        let mut after = |place: &Place, name: Option<&str>| {
            self.after(root, place, name).unwrap_or_else(|error| {
                unreadable(place.path_below(), error);
                None
            })
        };
        let mut place = at.clone();
        if place.0.len() < depth
            && let Some(first) = after(&place, None)
        {
            place.0.push(first);
            return Some(place);
        }
        while place.0.len() > scope.0.len() {
            let name = place.0.pop();
            if let Some(next) = after(&place, name.as_deref()) {
                place.0.push(next);
                return Some(place);
            }
        }
        None
    }

    /// The first name in a place's directory behind `name`.
    fn after(
        &mut self,
        root: &Dir,
        place: &Place,
        name: Option<&str>,
    ) -> io::Result<Option<String>> {
        let depth = place.0.len();
        let name = name.and_then(|name| key(depth, name));
        let path = place.path_below();
        let Some(slot) = self.listings.get_mut(depth) else {
            return Ok(None);
        };
        if let Some(listing) = slot
            .as_ref()
            .filter(|listing| listing.knows(&path, name.as_ref()))
        {
            let at = listing
                .names
                .partition_point(|known| name.as_ref().is_some_and(|name| known <= name));
            match listing.names.get(at) {
                Some((_, next)) => return Ok(Some(next.clone())),
                None if listing.is_all => return Ok(None),
                None => {}
            }
        }
        let listing = Listing::read(root, path, depth, name)?;
        let first = listing.names.first().map(|(_, name)| name.clone());
        *slot = Some(listing);
        Ok(first)
    }
}

impl Listing {
    fn knows(&self, path: &str, name: Option<&Key>) -> bool {
        self.path == path && self.read.elapsed() < FRESH && self.behind.as_ref() <= name
    }

    fn read(root: &Dir, path: String, depth: usize, behind: Option<Key>) -> io::Result<Self> {
        let mut first = BinaryHeap::new();
        let mut is_all = true;
        let listed = root.dir(&path).and_then(|dir| {
            dir.each_name(|name, kind| {
                let name = name.to_str().ok().filter(|_| kind == FileType::Directory);
                let key = name.and_then(|name| key(depth, name));
                first.extend(key.filter(|key| behind.as_ref().is_none_or(|behind| key > behind)));
                if first.len() > NAMES {
                    first.pop();
                    is_all = false;
                }
                Ok(())
            })
        });
        match listed {
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            listed => listed?,
        }
        Ok(Self {
            path,
            behind,
            names: first.into_sorted_vec(),
            is_all,
            read: Instant::now(),
        })
    }
}

/// What a canonical name at that depth is sorted by; `None` for any other name.
fn key(depth: usize, name: &str) -> Option<Key> {
    let is_canonical = match depth {
        0 | 1 => name::original(name).is_some(),
        2 => MailboxName::from_file_name(name).is_some(),
        _ => message_file::parse_shard(name).is_some(),
    };
    // Longer numbers are higher ones.
    let rank = if depth == 3 { name.len() } else { 0 };
    is_canonical.then(|| (rank, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(root: &Dir, scope: &Place, depth: usize) -> Vec<String> {
        let mut found = Vec::new();
        let mut at: Option<Place> = None;
        loop {
            // A guide of its own each time: what it keeps must not matter.
            let mut guide = Guide::default();
            let next = guide.next(root, scope, at.as_ref(), depth, &mut |path, error| {
                panic!("{path}: {error}")
            });
            let Some(next) = next else { return found };
            let again = Cursor::parse(&next.text(), scope);
            assert_eq!(again, Ok(Cursor::Behind(next.clone())));
            found.push(next.text());
            at = Some(next);
        }
    }

    fn tree() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        for path in [
            "a.test/users/alice/mailboxes/INBOX/9999",
            "a.test/users/alice/mailboxes/INBOX/10000",
            "a.test/users/alice/mailboxes/INBOX/.keywords",
            "a.test/users/alice/mailboxes/A%2FB/0000",
            "a.test/users/alice/mailboxes/no name",
            "a.test/users/bob/mailboxes",
            "a.test/users/.removed-1-carol/mailboxes/INBOX/0000",
            "b.test",
        ] {
            std::fs::create_dir_all(temp.path().join("domains").join(path)).unwrap();
        }
        let root = Dir::root(temp.path()).unwrap();
        (temp, root)
    }

    #[test]
    fn a_walk_comes_to_every_place_once_and_in_order() {
        let (_temp, root) = tree();
        let all = [
            ".",
            "a.test",
            "a.test/alice",
            "a.test/alice/A%2FB",
            "a.test/alice/A%2FB/0000",
            "a.test/alice/INBOX",
            "a.test/alice/INBOX/9999",
            "a.test/alice/INBOX/10000",
            "a.test/bob",
            "b.test",
        ];
        assert_eq!(walk(&root, &Place::default(), DEPTH), all);
        let users = Place::of(&Scope::User("alice@a.test".into())).unwrap();
        assert_eq!(walk(&root, &users, 3), [all[2], all[3], all[5]]);
        let domain = Place::of(&Scope::Domain("b.test".into())).unwrap();
        assert_eq!(walk(&root, &domain, DEPTH), ["b.test"]);
    }

    #[test]
    fn a_place_that_went_away_is_passed() {
        let (temp, root) = tree();
        let gone = Place::parse("a.test/alice/A%2FB/0000").unwrap();
        std::fs::remove_dir_all(temp.path().join("domains").join("a.test/users/alice")).unwrap();
        let mut guide = Guide::default();
        let next = guide.next(&root, &Place::default(), Some(&gone), DEPTH, &mut |_, _| {});
        assert_eq!(next.unwrap().text(), "a.test/bob");
    }

    #[test]
    fn a_directory_larger_than_what_is_kept_is_walked_whole() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::root(temp.path()).unwrap();
        let users = root.make_path("domains/a.test/users").unwrap();
        for number in 0..NAMES + 10 {
            users.make_dir(&format!("u{number}")).unwrap();
        }
        let mut guide = Guide::default();
        let scope = Place::default();
        let (mut at, mut found) = (Some(Place::parse("a.test").unwrap()), 0);
        while let Some(next) = guide.next(&root, &scope, at.as_ref(), DEPTH, &mut |_, _| {}) {
            found += 1;
            at = Some(next);
        }
        assert_eq!(found, NAMES + 10);
    }

    #[test]
    fn only_places_of_the_scope_are_gone_on_from() {
        let scope = Place::of(&Scope::User("alice@a.test".into())).unwrap();
        let cursor = Cursor::parse("a.test/alice/INBOX/0001#1234", &scope).unwrap();
        assert_eq!(cursor.text(), "a.test/alice/INBOX/0001#1234");
        for text in [
            "a.test",
            "a.test/bob",
            "a.test/alice/../x",
            "a.test/alice/INBOX/1",
            "a.test/alice/INBOX#7",
            "a.test/alice/INBOX/0000/x",
            "",
        ] {
            assert!(Cursor::parse(text, &scope).is_err(), "{text}");
        }
        for local in ["", "bob", "bob/@#1"] {
            let accounts = Cursor::Accounts(Owner {
                local: local.into(),
                domain: "a.test".into(),
            });
            assert_eq!(Cursor::parse(&accounts.text(), &scope), Ok(accounts));
        }
    }
}
