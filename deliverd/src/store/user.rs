//! One user's mail: which mailboxes there are, and making, renaming and removing them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipc::Refusal;
use ipc::delivery::Destination;
use ipc::session::{MAILBOXES_PER_FRAME, MailboxInfo, SpecialUse};
use tracing::warn;

use super::acl;
use super::chores::Shared;
use super::disk::{Dir, is_not_found};
use super::index::DIRECTORY as CACHES;
use super::mailbox::{Mailbox, Totals};
use super::message_file;
use super::name::MailboxName;
use super::quota::{Member, Tally};
use super::registry::Registry;
use super::status::Status;
use super::watch::{Note, Watchers};
use crate::clock;
use crate::fault::OrFault;

/// Directory of the mailboxes in a user's directory.
pub(super) const MAILBOXES: &str = "mailboxes";
/// How many mailboxes a user can have.
pub(crate) const MAX_MAILBOXES: usize = 10_000;
/// How many names a user can subscribe to.
const MAX_SUBSCRIPTIONS: usize = 10_000;

/// What a new user gets, all subscribed (RFC 6154).
const FIRST_MAILBOXES: [(&str, Option<SpecialUse>); 6] = [
    ("INBOX", None),
    ("Archive", Some(SpecialUse::Archive)),
    ("Drafts", Some(SpecialUse::Drafts)),
    ("Junk", Some(SpecialUse::Junk)),
    ("Sent", Some(SpecialUse::Sent)),
    ("Trash", Some(SpecialUse::Trash)),
];

/// A user's mail, bound to one directory.
pub(crate) struct User {
    shared: Arc<Shared>,
    path: String,
    member: Arc<Member>,
    pub(super) watchers: Arc<Watchers>,
    tree: Mutex<Tree>,
    /// Held while it is changed who may do what; taken before `tree`.
    pub(super) sharing: Mutex<()>,
    /// Set once and for all when the account was removed: whoever still holds this may do nothing with it.
    removed: AtomicBool,
}

pub(super) struct Tree {
    pub(super) mailboxes: BTreeMap<MailboxName, Arc<Mailbox>>,
    pub(super) registry: Registry,
}

impl User {
    /// Makes the directory of a new user, complete or not at all.
    pub(super) fn create(users: &Dir, name: &str) -> Result<(), Refusal> {
        let temporary = format!(".new-{name}");
        if users.dir(&temporary).is_ok() {
            users
                .remove_tree(&temporary)
                .or_fault("remove a half-made user")?;
        }
        users
            .make_dir(&temporary)
            .or_fault("make a user's directory")?;
        let user = users.dir(&temporary).or_fault("open a user's directory")?;
        let mailboxes = user
            .make_path(MAILBOXES)
            .or_fault("make a user's directory")?;
        let mut registry = Registry::default();
        for (name, special_use) in FIRST_MAILBOXES {
            let name = MailboxName::parse(name)?;
            mailboxes
                .make_dir(&name.file_name())
                .or_fault("make a mailbox")?;
            let mailbox = mailboxes
                .dir(&name.file_name())
                .or_fault("make a mailbox")?;
            mailbox
                .make_dir(&message_file::shard_name(0))
                .or_fault("make a mailbox")?;
            Status::new(registry.next_uid_validity(), special_use)
                .write(&mailbox)
                .or_fault("make a mailbox")?;
            registry.subscribed.insert(name.as_str().to_owned());
        }
        registry
            .write(&user)
            .and_then(|()| mailboxes.sync())
            .or_fault("make a user's directory")?;
        users
            .rename(&temporary, users, name)
            .and_then(|()| users.sync())
            .or_fault("make a user's directory")
    }

    /// Opens the user's directory `path` beneath the root.
    pub(super) fn open(
        shared: &Arc<Shared>,
        path: String,
        member: Arc<Member>,
    ) -> Result<Self, Refusal> {
        let dir = shared.root.dir(&path).or_fault("open a user's directory")?;
        let watchers = Arc::<Watchers>::default();
        let registry = Registry::read(&dir).or_fault("read account.json")?;
        let mut registry = registry.unwrap_or_default();
        let mut mailboxes = BTreeMap::new();
        let all = dir.make_path(MAILBOXES).or_fault("open the mailboxes")?;
        for entry in all.entries().or_fault("list the mailboxes")? {
            if entry.name.starts_with('.') {
                // Half made, or half removed: nobody was told that it exists.
                all.remove_tree(&entry.name)
                    .or_fault("remove what a crash left behind")?;
                continue;
            }
            let Some(name) = MailboxName::from_file_name(&entry.name).filter(|_| entry.is_dir)
            else {
                warn!(
                    user = path,
                    file = entry.name,
                    "this is no mailbox and is left alone"
                );
                continue;
            };
            let place = format!("{path}/{MAILBOXES}/{}", entry.name);
            let tally = Tally::new(Arc::clone(&member));
            let watchers = Arc::clone(&watchers);
            let mailbox = Mailbox::new(Arc::clone(shared), place, tally, watchers);
            mailboxes.insert(name, mailbox);
        }
        distinguish(&dir, &mailboxes, &mut registry)?;
        let user = Self {
            shared: Arc::clone(shared),
            path,
            member,
            watchers,
            tree: Mutex::new(Tree {
                mailboxes,
                registry,
            }),
            sharing: Mutex::default(),
            removed: AtomicBool::new(false),
        };
        let inbox = MailboxName::inbox();
        let mut tree = user.tree();
        if !tree.mailboxes.contains_key(&inbox) {
            user.add(&mut tree, &inbox, None, false)?;
        }
        drop(tree);
        Ok(user)
    }

    pub(super) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the account was removed.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Its directory.
    pub(super) fn dir(&self) -> std::io::Result<Dir> {
        self.shared.root.dir(&self.path)
    }

    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.is_removed() {
            Err(Refusal::NoSuchUser)
        } else {
            Ok(())
        }
    }

    /// Whether its INBOX is in memory, and nobody works on it or on the list of mailboxes at this moment.
    pub(super) fn is_inbox_at_hand(&self) -> bool {
        let inbox = MailboxName::inbox();
        let tree = self.tree.try_lock();
        tree.is_ok_and(|tree| {
            let inbox = tree.mailboxes.get(&inbox);
            inbox.is_some_and(|inbox| inbox.is_at_hand())
        })
    }

    /// The mailbox of that name.
    pub(crate) fn mailbox(&self, name: &MailboxName) -> Result<Arc<Mailbox>, Refusal> {
        self.check()?;
        self.tree()
            .mailboxes
            .get(name)
            .cloned()
            .ok_or(Refusal::NoSuchMailbox)
    }

    /// The mailbox that mail for there comes into.
    pub(crate) fn mailbox_for(&self, destination: Destination) -> Result<Arc<Mailbox>, Refusal> {
        let junk = match destination {
            Destination::Inbox => None,
            Destination::Junk => self.special(SpecialUse::Junk)?,
        };
        match junk {
            Some(mailbox) => Ok(mailbox),
            None => self.mailbox(&MailboxName::inbox()),
        }
    }

    /// The first mailbox for that use. What a mailbox is for is read once, as a rule when its user is opened.
    fn special(&self, usage: SpecialUse) -> Result<Option<Arc<Mailbox>>, Refusal> {
        self.check()?;
        let tree = self.tree();
        for mailbox in tree.mailboxes.values() {
            if mailbox.special_use()? == Some(usage) {
                return Ok(Some(Arc::clone(mailbox)));
            }
        }
        Ok(None)
    }

    /// The directories of the mailboxes in use.
    pub(super) fn file_names(&self) -> BTreeSet<String> {
        let tree = self.tree();
        tree.mailboxes.keys().map(MailboxName::file_name).collect()
    }

    /// Works while no mailbox of this user is made, renamed or deleted. `work` learns which directories are mailboxes in use.
    pub(super) fn undisturbed<T>(&self, work: impl FnOnce(&dyn Fn(&str) -> bool) -> T) -> T {
        let tree = self.tree();
        work(&|file_name| {
            MailboxName::from_file_name(file_name)
                .is_some_and(|name| tree.mailboxes.contains_key(&name))
        })
    }

    /// Writes `account.json` anew.
    pub(super) fn rewrite_registry(&self) -> Result<(), Refusal> {
        self.check()?;
        self.save(&self.tree())
    }

    /// Shows a mailbox whose directory somebody made, with a UIDVALIDITY of its own. Not an error if it is shown already.
    pub(super) fn show(&self, name: &MailboxName) -> Result<(), Refusal> {
        self.check()?;
        let mut tree = self.tree();
        if tree.mailboxes.contains_key(name) {
            return Ok(());
        }
        if tree.mailboxes.len() >= MAX_MAILBOXES {
            return Err(Refusal::OverQuota);
        }
        let uid_validity = tree.registry.next_uid_validity();
        self.save(&tree)?;
        let mailbox = self.object(name);
        mailbox.renew(uid_validity)?;
        tree.mailboxes.insert(name.clone(), mailbox);
        self.watchers.tell(|| Note::Created(name.as_str().into()));
        Ok(())
    }

    /// Writes the `status.json` of a mailbox anew: as memory knows it, or, if the mailbox is not in memory, with a new UIDVALIDITY.
    pub(super) fn rewrite_status(&self, name: &MailboxName) -> Result<(), Refusal> {
        self.check()?;
        let mut tree = self.tree();
        let mailbox = tree
            .mailboxes
            .get(name)
            .cloned()
            .ok_or(Refusal::NoSuchMailbox)?;
        mailbox.hold(|state| {
            if let Some(state) = state {
                return mailbox.write_status(state);
            }
            let uid_validity = tree.registry.next_uid_validity();
            self.save(&tree)?;
            mailbox.renew(uid_validity)
        })?
    }

    /// Messages and bytes of all mailboxes.
    pub(crate) fn totals(&self) -> Result<Totals, Refusal> {
        self.count()?;
        Ok(self.member.figures().0)
    }

    /// The user's entry in the ledger.
    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Has all mailboxes counted. Reads those that were never read before.
    pub(crate) fn count(&self) -> Result<(), Refusal> {
        while !self.member.is_exact() {
            let tree = self.tree();
            let uncounted = |mailbox: &&Arc<Mailbox>| !mailbox.tally.is_counted();
            let missing: Vec<_> = tree.mailboxes.values().filter(uncounted).cloned().collect();
            if missing.is_empty() {
                // Under the lock, so that none is under way to another name.
                self.member.set_exact();
                return Ok(());
            }
            drop(tree);
            for mailbox in missing {
                match mailbox.totals() {
                    // Deleted or renamed since the names were listed.
                    Ok(_) | Err(Refusal::NoSuchMailbox) => {}
                    Err(refusal) => return Err(refusal),
                }
                // Nobody has used it, so it is the first to leave memory.
                mailbox.used.store(0, Ordering::Relaxed);
                self.shared.cache.trim();
            }
        }
        Ok(())
    }

    /// How many mailboxes there are.
    pub(crate) fn mailboxes_listed(&self) -> usize {
        self.tree().mailboxes.len()
    }

    /// Takes those mailboxes out of memory that nobody uses.
    pub(super) fn unload(&self) {
        for mailbox in self.tree().mailboxes.values() {
            if Arc::strong_count(mailbox) == 1 {
                mailbox.unload();
            }
        }
    }

    /// Takes all mailboxes out of memory, if nobody uses one. Called when nobody can get one.
    pub(super) fn is_unused(&self) -> bool {
        let tree = self.tree();
        let mut mailboxes = tree.mailboxes.values();
        mailboxes.all(|mailbox| Arc::strong_count(mailbox) == 1 && mailbox.unload())
    }

    /// A page of the listing, and whether there is more.
    pub(crate) fn list(&self, after: Option<&str>) -> Result<(Vec<MailboxInfo>, bool), Refusal> {
        self.check()?;
        let tree = self.tree();
        let from = (
            after.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        );
        // One more of each than a page has: the page is among them, and so is a sign that there is more.
        let most = MAILBOXES_PER_FRAME + 1;
        let existing = tree.mailboxes.range::<str, _>(from).take(most);
        let subscribed = tree.registry.subscribed.range::<str, _>(from).take(most);
        let names: BTreeSet<&str> = existing
            .map(|(name, _)| name.as_str())
            .chain(subscribed.map(String::as_str))
            .collect();
        let mut names = names.into_iter();
        let mut page = Vec::new();
        for name in names.by_ref().take(MAILBOXES_PER_FRAME) {
            page.push(tree.describe(name)?);
        }
        Ok((page, names.next().is_some()))
    }

    /// One mailbox as the listing has it.
    pub(crate) fn describe(&self, name: &MailboxName) -> Result<MailboxInfo, Refusal> {
        self.check()?;
        self.tree().describe(name.as_str())
    }

    /// Makes a mailbox and its missing parents.
    pub(crate) fn create_mailbox(
        &self,
        name: &MailboxName,
        special_use: Option<SpecialUse>,
    ) -> Result<(), Refusal> {
        self.check()?;
        if acl::is_reserved(name) {
            return Err(Refusal::InvalidMailboxName);
        }
        let mut tree = self.tree();
        if tree.mailboxes.contains_key(name) {
            return Err(Refusal::MailboxExists);
        }
        self.add_parents(&mut tree, name)?;
        self.add(&mut tree, name, special_use, true)
    }

    fn add_parents(&self, tree: &mut Tree, name: &MailboxName) -> Result<(), Refusal> {
        let missing: Vec<_> = name
            .parents()
            .filter(|parent| !tree.mailboxes.contains_key(parent))
            .collect();
        missing
            .iter()
            .try_for_each(|parent| self.add(tree, parent, None, true))
    }

    /// Makes one mailbox: a directory that is complete before it gets its name. It is shared as the one above it if it `inherits`.
    fn add(
        &self,
        tree: &mut Tree,
        name: &MailboxName,
        special_use: Option<SpecialUse>,
        inherits: bool,
    ) -> Result<(), Refusal> {
        if tree.mailboxes.len() >= MAX_MAILBOXES {
            return Err(Refusal::OverQuota);
        }
        let uid_validity = tree.registry.next_uid_validity();
        self.save(tree)?;
        let all = self.mailboxes()?;
        let temporary = format!(".new-{uid_validity}");
        let parent = name.parents().last().filter(|_| inherits);
        let parent = parent.and_then(|parent| tree.mailboxes.get(&parent).cloned());
        let make = || {
            all.make_dir(&temporary)?;
            let mailbox = all.dir(&temporary)?;
            mailbox.make_dir(&message_file::shard_name(0))?;
            Status::new(uid_validity, special_use).write(&mailbox)?;
            if let Some(parent) = &parent {
                acl::inherit(parent, &mailbox)?;
            }
            all.rename(&temporary, &all, &name.file_name())?;
            all.sync()
        };
        make().or_fault("make a mailbox")?;
        let mailbox = self.object(name);
        mailbox.tally.begin_empty();
        tree.mailboxes.insert(name.clone(), mailbox);
        self.watchers.tell(|| Note::Created(name.as_str().into()));
        Ok(())
    }

    fn object(&self, name: &MailboxName) -> Arc<Mailbox> {
        let path = format!("{}/{MAILBOXES}/{}", self.path, name.file_name());
        let tally = Tally::new(Arc::clone(&self.member));
        let watchers = Arc::clone(&self.watchers);
        Mailbox::new(Arc::clone(&self.shared), path, tally, watchers)
    }

    fn mailboxes(&self) -> Result<Dir, Refusal> {
        self.shared
            .root
            .dir(&format!("{}/{MAILBOXES}", self.path))
            .or_fault("open the mailboxes")
    }

    fn save(&self, tree: &Tree) -> Result<(), Refusal> {
        self.shared
            .root
            .dir(&self.path)
            .and_then(|dir| tree.registry.write(&dir))
            .or_fault("write account.json")
    }

    /// Removes a mailbox with its messages; what is below it stays.
    pub(crate) fn delete_mailbox(&self, name: &MailboxName) -> Result<(), Refusal> {
        self.check()?;
        // RFC 9051 §6.3.5: it is an error to delete INBOX.
        if name.is_inbox() {
            return Err(Refusal::NotPermitted);
        }
        let Shared { attic, root, .. } = &*self.shared;
        attic.prepare(root, &self.path, &self.member);
        let mut tree = self.tree();
        let mailbox = tree
            .mailboxes
            .get(name)
            .cloned()
            .ok_or(Refusal::NoSuchMailbox)?;
        let all = self.mailboxes()?;
        // How much goes with it, what somebody put there by hand included. One that cannot be read can be deleted all the same; the
        // fault is logged.
        let counted = mailbox.totals_by_files().ok();
        // The name goes at once and for good; the files behind it follow, after a crash at the next start. Messages that are kept
        // stay, without what is known about them.
        let began = clock::micros();
        let [caches, grave] = [began, began + 1].map(|number| format!(".deleted-{number}"));
        mailbox.retire(|| {
            let uid_validity = mailbox.uid_validity().unwrap_or(0);
            let gone = mailbox
                .dir()
                .and_then(|dir| dir.rename(CACHES, &all, &caches));
            if !is_not_found(&gone) {
                gone.or_fault("remove the caches of a mailbox")?;
            }
            let about = (uid_validity, counted);
            if !attic.keep_mailbox(root, mailbox.path(), about, &self.member) {
                all.rename(&name.file_name(), &all, &grave)
                    .or_fault("remove a mailbox")?;
            }
            all.sync().or_fault("remove a mailbox")
        })?;
        tree.mailboxes.remove(name);
        mailbox.tally.leave();
        self.watchers.tell(|| Note::Deleted(name.as_str().into()));
        drop(tree);
        [caches, grave].iter().try_for_each(|name| {
            let removed = all.remove_tree(name);
            if is_not_found(&removed) {
                return Ok(());
            }
            removed.or_fault("remove the files of a deleted mailbox")
        })
    }

    /// The mailbox that gets back what was removed from one of that name: that with this UIDVALIDITY, if one can have it, whatever
    /// its name is now, or the one that has the name now. It is made again if there is none.
    pub(super) fn home_of(
        &self,
        name: &MailboxName,
        uid_validity: Option<u32>,
        special_use: Option<SpecialUse>,
    ) -> Result<Arc<Mailbox>, Refusal> {
        self.check()?;
        let mut tree = self.tree();
        let is_it = |mailbox: &&Arc<Mailbox>| {
            let is_it = |wanted| mailbox.uid_validity().is_ok_and(|known| known == wanted);
            uid_validity.is_some_and(is_it)
        };
        let named = tree.mailboxes.get(name).cloned();
        let first = named.as_ref().filter(is_it);
        let same = || tree.mailboxes.values().find(is_it);
        if let Some(home) = first.or_else(same).cloned().or(named) {
            return Ok(home);
        }
        let mut first = FIRST_MAILBOXES.into_iter();
        let usual = first.find(|(first, _)| *first == name.as_str());
        let special_use = special_use.or(usual.and_then(|(_, usage)| usage));
        self.add_parents(&mut tree, name)?;
        // Who could not read it before must not be able to now.
        self.add(&mut tree, name, special_use, false)?;
        tree.mailboxes
            .get(name)
            .cloned()
            .ok_or(Refusal::NoSuchMailbox)
    }

    /// Renames a mailbox and what is below it; renaming INBOX moves its messages instead.
    pub(crate) fn rename_mailbox(
        &self,
        from: &MailboxName,
        to: &MailboxName,
    ) -> Result<(), Refusal> {
        self.check()?;
        if from.is_inbox() {
            return self.rename_inbox(to);
        }
        let mut tree = self.tree();
        if !tree.mailboxes.contains_key(from) {
            return Err(Refusal::NoSuchMailbox);
        }
        // A mailbox cannot become its own child, nor one of others.
        if to.is_below(from) || acl::is_reserved(to) {
            return Err(Refusal::InvalidMailboxName);
        }
        let moving = tree
            .mailboxes
            .keys()
            .filter(|name| *name == from || name.is_below(from));
        let pairs = moving
            .map(|name| Ok((name.clone(), name.moved(from, to)?)))
            .collect::<Result<Vec<_>, Refusal>>()?;
        if pairs
            .iter()
            .any(|(_, new)| tree.mailboxes.contains_key(new))
        {
            return Err(Refusal::MailboxExists);
        }
        self.add_parents(&mut tree, to)?;
        let all = self.mailboxes()?;
        for (old, new) in pairs {
            let Some(mailbox) = tree.mailboxes.get(&old).cloned() else {
                continue;
            };
            mailbox.retire(|| {
                all.rename(&old.file_name(), &all, &new.file_name())
                    .and_then(|()| all.sync())
                    .or_fault("rename a mailbox")
            })?;
            tree.mailboxes.remove(&old);
            let renamed = self.object(&new);
            mailbox.tally.pass_on(&renamed.tally);
            tree.mailboxes.insert(new.clone(), renamed);
            self.watchers.tell(|| Note::Renamed {
                from: old.as_str().into(),
                to: new.as_str().into(),
            });
        }
        Ok(())
    }

    // RFC 9051 §6.3.6: renaming INBOX moves its messages to a new mailbox and leaves INBOX empty; its children stay.
    fn rename_inbox(&self, to: &MailboxName) -> Result<(), Refusal> {
        self.create_mailbox(to, None)?;
        let (inbox, target) = (self.mailbox(&MailboxName::inbox())?, self.mailbox(to)?);
        inbox.move_to(&vec![(1, u32::MAX)], &target).map(|_| ())
    }

    /// Subscribes to a name or ends that.
    pub(crate) fn subscribe(&self, name: &MailboxName, subscribed: bool) -> Result<(), Refusal> {
        self.check()?;
        let mut tree = self.tree();
        let name = name.as_str().to_owned();
        if subscribed && tree.registry.subscribed.len() >= MAX_SUBSCRIPTIONS {
            return Err(Refusal::NotPermitted);
        }
        let changed = if subscribed {
            tree.registry.subscribed.insert(name.clone())
        } else {
            tree.registry.subscribed.remove(&name)
        };
        if changed {
            self.save(&tree)?;
            self.watchers.tell(|| Note::Subscribed(name.clone()));
        }
        Ok(())
    }

    /// Ends the use of this account for everyone who holds it; `last` moves the files away.
    pub(super) fn retire(&self, last: impl FnOnce() -> Result<(), Refusal>) -> Result<(), Refusal> {
        let mut tree = self.tree();
        self.removed.store(true, Ordering::Release);
        for mailbox in tree.mailboxes.values() {
            mailbox.retire(|| Ok(()))?;
        }
        tree.mailboxes.clear();
        last()
    }
}

/// Gives mailboxes that were made by hand, or copied, a UIDVALIDITY of their own, before they are used.
///
/// Invariant: no two mailboxes of a user have the same UIDVALIDITY. The journal knows them by it.
fn distinguish(
    user: &Dir,
    mailboxes: &BTreeMap<MailboxName, Arc<Mailbox>>,
    registry: &mut Registry,
) -> Result<(), Refusal> {
    let (mut known, mut by_hand) = (BTreeSet::new(), Vec::new());
    // The copy of an INBOX is not the INBOX.
    let (inbox, others): (Vec<_>, Vec<_>) = mailboxes.iter().partition(|(name, _)| name.is_inbox());
    for (_, mailbox) in inbox.into_iter().chain(others) {
        let uid_validity = mailbox.uid_validity().or_fault("read status.json")?;
        registry.saw_uid_validity(uid_validity);
        if uid_validity == 0 || !known.insert(uid_validity) {
            by_hand.push(mailbox);
        }
    }
    if by_hand.is_empty() {
        return Ok(());
    }
    let given: Vec<_> = by_hand
        .into_iter()
        .map(|mailbox| (mailbox, registry.next_uid_validity()))
        .collect();
    registry.write(user).or_fault("write account.json")?;
    given
        .into_iter()
        .try_for_each(|(mailbox, uid_validity)| mailbox.renew(uid_validity))
}
