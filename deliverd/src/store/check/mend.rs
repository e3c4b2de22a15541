//! Mending what was found, and dropping caches. Each step is durable and made under the lock of whoever else could make it.
//!
//! Files that need a UID are taken in by the mailbox itself, as at a SELECT, so that everyone who has it selected is told.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use ipc::Refusal;
use ipc::tools::{Kind, Outcome, Remedy};
use tracing::{info, warn};

use super::super::disk::Dir;
use super::super::mailbox::{Mailbox, State};
use super::super::name::{self, MailboxName};
use super::super::{Owner, User, message_file, user};
use super::finding::{Finding, Findings, Sort, is_hollow};
use super::place::{Level, Place};
use super::{Piece, Task, caches};
use crate::clock;
use crate::fault::OrFault;

/// Where things are moved to that are not deleted.
const ASIDE: &str = ".aside";
/// Bytes of a name that are kept there.
const KEPT: usize = 200;
/// How often it is tried to find a mailbox into which no mail is just coming.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

impl Task<'_> {
    /// Looks, mends, and looks again: what is still there then was not mended.
    pub(super) fn repair(
        &self,
        place: &Place,
        level: &Level,
        piece: &mut Piece,
    ) -> Result<(), Refusal> {
        let shard = match self.findings(place, level)? {
            Ok(shard) => shard,
            Err(error) => {
                piece.fault(place, &error);
                return Ok(());
            }
        };
        piece.seen.messages += shard.messages;
        piece.seen.bytes += shard.bytes;
        let mut found = shard.findings;
        if found
            .all
            .iter()
            .any(|finding| finding.remedy != Remedy::ByHand)
        {
            self.mend(place, level, &mut found)?;
            self.store.trim();
            match self.findings(place, level)? {
                Ok(now) => settle(&mut found, now.findings),
                Err(error) => piece.fault(place, &error),
            }
        }
        for finding in &mut found.all {
            if finding.outcome == Outcome::Found {
                finding.outcome = Outcome::Remains;
            }
        }
        piece.take(found);
        Ok(())
    }

    /// Refused if something cannot be flushed; what else fails is told by the next look.
    fn mend(&self, place: &Place, level: &Level, found: &mut Findings) -> Result<(), Refusal> {
        // What opening the user would delete is moved away before.
        let mut changed = BTreeSet::new();
        for finding in &mut found.all {
            let done = match finding.remedy {
                Remedy::MoveAside => {
                    self.quietly(level, &|| self.move_aside(finding))
                        .map(|moved| {
                            finding.detail = join(&finding.detail, &format!("now {ASIDE}/{moved}"));
                        })
                }
                // Nobody else uses these any more, and there may be much in them.
                Remedy::Remove if is_discarded(&finding.name) => self.remove(finding),
                Remedy::Remove => self.quietly(level, &|| self.remove(finding)),
                Remedy::SetMode => self.set_mode(finding),
                _ => continue,
            };
            match done {
                Ok(()) => tell(finding),
                Err(refusal) => complain(finding, &refusal),
            }
            changed.insert(finding.dir.clone());
        }
        self.flush(&changed)?;
        for finding in &found.all {
            let done = match (level, finding.remedy) {
                (Level::User(owner), remedy) => self.mend_user(owner, finding, remedy),
                (Level::Mailbox(owner, name), remedy) => {
                    self.mend_mailbox(owner, name, finding, remedy)
                }
                (Level::Store | Level::Domain | Level::Shard(..), _) => Ok(false),
            };
            match done {
                Ok(true) => tell(finding),
                Ok(false) => {}
                Err(refusal) => complain(finding, &refusal),
            }
        }
        if let Level::Shard(owner, name, shard) = level
            && let Err(refusal) = self.mend_shard(owner, name, *shard, found)
        {
            warn!(shard = place.text(), %refusal, "a shard could not be mended");
        }
        Ok(())
    }

    /// Flushes directories from which something was taken, and where it is now.
    fn flush(&self, changed: &BTreeSet<String>) -> Result<(), Refusal> {
        for path in changed.iter().map(String::as_str).chain([ASIDE]) {
            match self.eye.root.dir(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                dir => dir
                    .and_then(|dir| dir.sync())
                    .or_fault("flush what was mended")?,
            }
        }
        Ok(())
    }

    /// Whether it did something.
    fn mend_user(&self, owner: &Owner, finding: &Finding, remedy: Remedy) -> Result<bool, Refusal> {
        let mailbox =
            || MailboxName::from_file_name(&finding.name).ok_or(Refusal::InvalidMailboxName);
        match remedy {
            Remedy::Rename => {
                let proper = name::proper(&finding.name).ok_or(Refusal::InvalidMailboxName)?;
                let all = self
                    .eye
                    .root
                    .dir(&finding.dir)
                    .or_fault("open the mailboxes")?;
                let rename = || all.rename(&finding.name, &all, &proper.file_name());
                self.quietly(&Level::User(owner.clone()), &|| {
                    rename().or_fault("rename a mailbox")
                })?;
                all.sync().or_fault("flush the mailboxes")?;
                self.store
                    .opened(owner)
                    .map_or(Ok(()), |user| user.show(&proper))?;
            }
            Remedy::Show => {
                let user = self.store.opened(owner).ok_or(Refusal::NoSuchUser)?;
                user.show(&mailbox()?)?;
            }
            Remedy::Make => {
                let user = self
                    .eye
                    .root
                    .dir(&finding.dir)
                    .or_fault("open a user's directory")?;
                user.make_path(user::MAILBOXES)
                    .or_fault("make the mailboxes")?;
            }
            Remedy::Rewrite => self.open(owner)?.rewrite_registry()?,
            Remedy::NewUidValidity => match self.store.opened(owner) {
                Some(user) => user.rewrite_status(&mailbox()?)?,
                // Opening it does that.
                None => drop(self.open(owner)?),
            },
            Remedy::ByHand
            | Remedy::NewUid
            | Remedy::DropName
            | Remedy::SetMode
            | Remedy::MoveAside
            | Remedy::Remove => {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether it did something.
    fn mend_mailbox(
        &self,
        owner: &Owner,
        name: &MailboxName,
        finding: &Finding,
        remedy: Remedy,
    ) -> Result<bool, Refusal> {
        match (finding.kind, remedy) {
            (Kind::StatusMissing | Kind::StatusDamaged, _) => match self.store.opened(owner) {
                Some(user) => user.rewrite_status(name)?,
                // Opening it does that.
                None => drop(self.open(owner)?),
            },
            (_, Remedy::Rewrite) => {
                let mailbox = self.open(owner)?.mailbox(name)?;
                mailbox.with(|state| mailbox.write_status(state))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn mend_shard(
        &self,
        owner: &Owner,
        name: &MailboxName,
        shard: u32,
        found: &Findings,
    ) -> Result<(), Refusal> {
        let has = |wanted: &[Remedy]| {
            found
                .all
                .iter()
                .any(|finding| wanted.contains(&finding.remedy))
        };
        let is_moved = has(&[Remedy::MoveAside]);
        if is_moved && let Some(mailbox) = self.opened(owner, name) {
            // Whoever has it selected is told of messages that are not there any more.
            let is_loaded = mailbox.hold(|state| state.is_some())?;
            if is_loaded {
                mailbox.with(|state| mailbox.reread(state, shard))?;
            }
        }
        let is_there = |kinds: &[Kind]| found.all.iter().any(|one| kinds.contains(&one.kind));
        let reads = has(&[Remedy::NewUid, Remedy::DropName]);
        let keywords = is_there(&[Kind::KeywordLine, Kind::KeywordsDamaged]);
        let ids = is_there(&[Kind::IdsLine, Kind::IdsDamaged]);
        if !reads && !keywords && !ids {
            return Ok(());
        }
        let mailbox = self.open(owner)?.mailbox(name)?;
        mailbox.with(|state| {
            if reads {
                mailbox.drop_second_names(state, shard)?;
                mailbox.reread(state, shard)?;
            }
            if keywords {
                mailbox.rewrite_keywords(state, shard)?;
            }
            if ids {
                // The lines that go may be all that says that their UIDs were given.
                mailbox.write_status(state)?;
                mailbox.write_ids(state, shard)?;
            }
            Ok(())
        })?;
        let told = found.all.iter().filter(|finding| {
            matches!(
                finding.remedy,
                Remedy::NewUid | Remedy::DropName | Remedy::Rewrite
            )
        });
        told.for_each(tell);
        Ok(())
    }

    /// The user, if there is such an account: nothing else may make one out of a directory.
    fn open(&self, owner: &Owner) -> Result<Arc<User>, Refusal> {
        if !(self.order.is_account)(owner)? {
            return Err(Refusal::NoSuchUser);
        }
        self.store.user(owner)
    }

    /// Works where nobody else does: under the lock of whoever could. Must be short, so nothing is flushed here.
    fn quietly<T>(
        &self,
        level: &Level,
        work: &dyn Fn() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let owner = match level {
            Level::Store | Level::Domain => return self.store.undisturbed(work),
            Level::User(owner) | Level::Mailbox(owner, _) | Level::Shard(owner, ..) => owner,
        };
        if let Some(done) = self.store.unless_opened(owner, work) {
            return done;
        }
        let user = self.store.opened(owner).ok_or(Refusal::NoSuchUser)?;
        match level {
            Level::Mailbox(_, name) | Level::Shard(_, name, _) => {
                user.mailbox(name)?.hold(|_| work())?
            }
            Level::Store | Level::Domain | Level::User(_) => user.undisturbed(|_| work()),
        }
    }

    /// Gives the name it has there.
    fn move_aside(&self, finding: &Finding) -> Result<String, Refusal> {
        let mut kept = finding.name.clone();
        while kept.len() > KEPT {
            kept.pop();
        }
        let new = format!("{}-{kept}", clock::micros());
        let moved = || {
            let aside = self.eye.root.make_path(ASIDE)?;
            let from = self.eye.root.dir(&finding.dir)?;
            from.rename(&finding.name, &aside, &new)
        };
        moved().or_fault("move something aside")?;
        Ok(new)
    }

    fn remove(&self, finding: &Finding) -> Result<(), Refusal> {
        let removed = || {
            let dir = self.eye.root.dir(&finding.dir)?;
            if dir.dir(&finding.name).is_err() {
                dir.unlink(&finding.name)?;
            } else if finding.name.starts_with(".new-") && !is_hollow(&dir, &finding.name)? {
                return Err(io::Error::other("something is in it now"));
            } else {
                dir.remove_tree(&finding.name)?;
            }
            Ok(())
        };
        removed().or_fault("remove what was left behind")
    }

    fn set_mode(&self, finding: &Finding) -> Result<(), Refusal> {
        let sort = match finding.name.as_str() {
            "." => Sort::Directory,
            name if name.ends_with(".eml") => Sort::Message,
            _ => Sort::Small,
        };
        let set = self.eye.root.dir(&finding.dir);
        let set = set.and_then(|dir| dir.set_mode(&finding.name, sort.mode()));
        set.or_fault("set permissions")
    }

    /// Drops the caches of a mailbox. If it is in memory, it is read anew from its files; otherwise that happens at its next use.
    pub(super) fn rebuild(
        &self,
        place: &Place,
        owner: &Owner,
        name: &MailboxName,
        piece: &mut Piece,
    ) -> Result<(), Refusal> {
        let drop_all = || caches::drop_all(&self.mailbox_dir(place)?);
        let dropped = match self.store.unless_opened(owner, drop_all) {
            Some(dropped) => dropped,
            None => match self.opened(owner, name) {
                Some(mailbox) => mailbox.start_over(&drop_all),
                None => return Ok(()),
            },
        };
        self.store.trim();
        self.remove_dropped(place, dropped, piece)
    }

    /// Drops the text of a mailbox's messages that was kept for searching.
    pub(super) fn drop_text(
        &self,
        place: &Place,
        owner: &Owner,
        name: &MailboxName,
        piece: &mut Piece,
    ) -> Result<(), Refusal> {
        let drop_text = || caches::drop_text(&self.mailbox_dir(place)?);
        let dropped = match self.store.unless_opened(owner, drop_text) {
            Some(dropped) => dropped,
            None => match self.opened(owner, name) {
                Some(mailbox) => {
                    // Nobody writes caches meanwhile, and the mailbox can neither be renamed nor deleted.
                    let _writing = mailbox.lock_caches();
                    mailbox.hold(|_| drop_text()).and_then(|dropped| dropped)
                }
                None => return Ok(()),
            },
        };
        self.remove_dropped(place, dropped, piece)
    }

    fn mailbox_dir(&self, place: &Place) -> Result<Dir, Refusal> {
        let dir = self.eye.root.dir(&place.path());
        dir.or_fault("open a mailbox")
    }

    /// Removes caches that were taken out of use, or tells why they could not be.
    fn remove_dropped(
        &self,
        place: &Place,
        dropped: Result<Option<String>, Refusal>,
        piece: &mut Piece,
    ) -> Result<(), Refusal> {
        let dropped = match dropped {
            Ok(dropped) => dropped,
            // Deleted or renamed meanwhile.
            Err(Refusal::NoSuchMailbox) => return Ok(()),
            Err(refusal) => {
                let mut found = Findings::default();
                let detail = format!("not dropped: {refusal}");
                found.add(&place.path(), ".", Kind::Cache, Remedy::ByHand, detail);
                found
                    .all
                    .iter_mut()
                    .for_each(|finding| finding.outcome = Outcome::Remains);
                piece.take(found);
                return Ok(());
            }
        };
        let removed = dropped.map_or(Ok(0), |dropped| {
            let dir = self.eye.root.dir(&place.path())?;
            let bytes = caches::size_of(&dir, &dropped)?;
            dir.remove_tree(&dropped)?;
            Ok(bytes)
        });
        match removed {
            Ok(bytes) => piece.seen.bytes += bytes,
            Err(error) => piece.fault(place, &error),
        }
        Ok(())
    }
}

impl Mailbox {
    /// Takes in what somebody did to the files of a shard, whether or not its time shows it.
    fn reread(self: &Arc<Self>, state: &mut State, shard: u32) -> Result<(), Refusal> {
        state.seen = None;
        if let Some(known) = state.records.shard_mut(shard) {
            known.seen = None;
        }
        self.refresh_shards(state, &[shard])
    }

    /// Removes names of a message that memory does not know it by, if that one is there.
    fn drop_second_names(self: &Arc<Self>, state: &mut State, shard: u32) -> Result<(), Refusal> {
        self.need(state, &message_file::uids_of(shard))?;
        let dir = self.shard(shard).or_fault("open a shard")?;
        for entry in dir.entries().or_fault("list a shard")? {
            let uid = message_file::parse(&entry.name).map_or(0, |(uid, _)| uid);
            let Some(kept) = state.file_name(uid).filter(|kept| *kept != entry.name) else {
                continue;
            };
            let (Ok(kept), Ok(other)) = (dir.stat(&kept), dir.stat(&entry.name)) else {
                continue;
            };
            if (kept.st_dev, kept.st_ino) == (other.st_dev, other.st_ino) {
                dir.unlink(&entry.name)
                    .or_fault("remove a second name of a message")?;
            }
        }
        dir.sync().or_fault("flush a shard")
    }

    /// Writes the keywords of a shard as memory knows them. What a full table had no place for is not touched.
    fn rewrite_keywords(self: &Arc<Self>, state: &mut State, shard: u32) -> Result<(), Refusal> {
        if state.keywords.names().len() >= ipc::session::MAX_KEYWORDS {
            return Ok(());
        }
        // The lines that go may be all that says that their UIDs were given.
        self.write_status(state)?;
        self.write_keywords(state, shard, &[])?;
        state.stale_keywords.remove(&shard);
        Ok(())
    }

    /// Drops what memory knows, and the caches with `drop_all`; if somebody uses the mailbox, it is read again at once.
    fn start_over<T>(
        self: &Arc<Self>,
        drop_all: &dyn Fn() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let is_loaded = self.hold(|state| state.is_some())?;
        for _ in 0..ATTEMPTS {
            if let Some(dropped) = self.forget(drop_all)? {
                if is_loaded {
                    self.with(|_| Ok(()))?;
                }
                return Ok(dropped);
            }
            sleep(PAUSE);
        }
        Err(Refusal::Busy)
    }
}

/// Whether something was taken out of use already.
fn is_discarded(name: &str) -> bool {
    name.starts_with(".deleted-") || caches::is_dropped(name)
}

/// Says of each finding whether it is still there, and adds what shows only now.
fn settle(found: &mut Findings, now: Findings) {
    for finding in &mut found.all {
        let remains = now.all.iter().any(|other| other.is_same(finding));
        finding.outcome = if remains {
            Outcome::Remains
        } else {
            Outcome::Mended
        };
    }
    let new = now.all.into_iter();
    let new: Vec<Finding> = new
        .filter(|new| !found.all.iter().any(|old| old.is_same(new)))
        .collect();
    found.all.extend(new);
}

fn join(detail: &str, more: &str) -> String {
    if detail.is_empty() {
        more.to_owned()
    } else {
        format!("{detail}; {more}")
    }
}

fn tell(finding: &Finding) {
    if finding.remedy != Remedy::ByHand {
        info!(
            path = finding.dir,
            name = finding.name,
            kind = finding.kind.word(),
            detail = finding.detail,
            "mended: {}",
            finding.remedy.words()
        );
    }
}

fn complain(finding: &Finding, refusal: &Refusal) {
    warn!(
        path = finding.dir,
        name = finding.name,
        kind = finding.kind.word(),
        %refusal,
        "could not be mended"
    );
}
