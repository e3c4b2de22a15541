//! The operator's tools: walks over the store, in pieces that are small enough to keep no mail waiting.
//!
//! A piece goes on behind the place where the last one ended ([`place`]) and stops after a fifth of a second. What is looked at
//! ([`look`], [`look_mailbox`]) is read without any lock; only what seems wrong is looked at again under the lock of whoever could
//! be at work there, so that nothing that is just being made is told as a deviation. A repair ([`mend`]) goes the ways that mail
//! goes: a file made by hand is taken in as at a SELECT. No message is ever deleted: what is doubtful is moved to `.aside/`.

mod caches;
mod finding;
mod look;
mod look_mailbox;
mod measure;
mod mend;
mod place;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc::Refusal;
use ipc::tools::{Kind, Outcome, Remedy, Row, Scope, Seen, Work};
use rustix::process::setpriority_process;
use tracing::warn;

use self::finding::Findings;
use self::look::Eye;
use self::look_mailbox::Shard;
use self::place::{Cursor, DEPTH, Guide, Level, Place};
use super::mailbox::Mailbox;
use super::{Owner, Store, recovery, recovery_report};
use crate::fault::OrFault;

/// How long a piece goes on to the next place.
const PIECE: Duration = Duration::from_millis(200);
/// Rows after which a piece ends.
const ROWS: usize = 5_000;
/// How much the work gives way to mail, as of nice(1).
const NICE: i32 = 10;

/// Whether there is an account; asked about every user.
pub(crate) type IsAccount<'a> = &'a dyn Fn(&Owner) -> Result<bool, Refusal>;

/// What a walk is about.
pub(crate) struct Order<'a> {
    pub(crate) work: Work,
    pub(crate) scope: &'a Scope,
    pub(crate) after: Option<&'a str>,
    pub(crate) is_account: IsAccount<'a>,
}

/// What a piece of a walk found.
#[derive(Default)]
pub(crate) struct Piece {
    pub(crate) seen: Seen,
    /// The scope as a place.
    pub(crate) within: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) after: After,
}

/// Where a piece ended.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) enum After {
    /// Ask again with this.
    Place(String),
    /// In the tree there is no more; accounts up to this one were compared with it.
    Tree(Option<Owner>),
    #[default]
    Nothing,
}

impl After {
    /// Where to go on behind an account.
    pub(crate) fn accounts(owner: Owner) -> Self {
        Self::Place(Cursor::Accounts(owner).text())
    }
}

/// One walk at a time: what makes the next piece quicker.
#[derive(Debug, Default)]
pub(crate) struct Walker {
    guide: Guide,
}

impl Walker {
    /// Does the next piece. Blocks, at least [`PIECE`] if there is so much to do.
    pub(crate) fn walk(&mut self, store: &Store, order: &Order<'_>) -> Result<Piece, Refusal> {
        let began = Instant::now();
        let scope = Place::of(order.scope)?;
        let cursor = order
            .after
            .map(|after| Cursor::parse(after, &scope))
            .transpose()?;
        let mut piece = Piece {
            within: scope.mailbox_text(),
            ..Piece::default()
        };
        let mut cursor = match cursor {
            Some(Cursor::Accounts(owner)) => {
                piece.after = After::Tree(Some(owner));
                return Ok(piece);
            }
            cursor => cursor,
        };
        let eye = Eye::new(&store.shared.root).or_fault("look at the store")?;
        let task = Task { store, eye, order };
        loop {
            let (place, from) = match cursor.take() {
                Some(Cursor::Within(place, uid)) => (Some(place), uid),
                Some(Cursor::Behind(at)) => (self.next(&task, &scope, Some(&at), &mut piece), 0),
                Some(Cursor::Accounts(_)) | None => (self.next(&task, &scope, None, &mut piece), 0),
            };
            let Some(place) = place else {
                piece.after = After::Tree(None);
                return Ok(piece);
            };
            let is_over = |piece: &Piece| began.elapsed() >= PIECE || piece.rows.len() >= ROWS;
            let next = task.visit(place, from, &mut piece, &is_over)?;
            if is_over(&piece) {
                piece.after = After::Place(next.text());
                return Ok(piece);
            }
            cursor = Some(next);
        }
    }

    fn next(
        &mut self,
        task: &Task<'_>,
        scope: &Place,
        at: Option<&Place>,
        piece: &mut Piece,
    ) -> Option<Place> {
        let depth = match task.order.work {
            Work::Rebuild | Work::DropText => DEPTH - 1,
            Work::Check | Work::Repair | Work::Measure | Work::Hash => DEPTH,
        };
        let mut found = Findings::default();
        let next = self
            .guide
            .next(task.eye.root, scope, at, depth, &mut |path, error| {
                found.add_fault(&path, ".", &error);
            });
        piece.take(found);
        next
    }
}

impl Piece {
    fn take(&mut self, found: Findings) {
        let rows: Vec<Row> = found.all.iter().map(finding::Finding::row).collect();
        // A directory that cannot be read is told by who looks at it and by who looks for what is below it.
        let new = rows.into_iter().filter(|row| self.rows.last() != Some(row));
        let new: Vec<Row> = new.collect();
        self.rows.extend(new);
    }

    fn fault(&mut self, place: &Place, error: &io::Error) {
        let mut found = Findings::default();
        found.add_fault(&place.path(), ".", error);
        self.take(found);
    }
}

/// One piece of work.
struct Task<'a> {
    store: &'a Store,
    eye: Eye<'a>,
    order: &'a Order<'a>,
}

impl Task<'_> {
    /// Works at a place, in a shard behind the UID `from`. Gives how far it came.
    fn visit(
        &self,
        place: Place,
        from: u32,
        piece: &mut Piece,
        is_over: &dyn Fn(&Piece) -> bool,
    ) -> Result<Cursor, Refusal> {
        let level = place.level();
        match level {
            Level::User(_) => piece.seen.users += 1,
            Level::Mailbox(..) => piece.seen.mailboxes += 1,
            Level::Store | Level::Domain | Level::Shard(..) => {}
        }
        match (self.order.work, &level) {
            (Work::Check, _) => self.look(&place, &level, piece)?,
            (Work::Repair, _) => self.repair(&place, &level, piece)?,
            (Work::Rebuild, Level::Mailbox(owner, name)) => {
                self.rebuild(&place, owner, name, piece)?
            }
            (Work::DropText, Level::Mailbox(owner, name)) => {
                self.drop_text(&place, owner, name, piece)?;
            }
            (Work::Measure, Level::Mailbox(..) | Level::Shard(..)) => {
                self.measure(&place, &level, piece)
            }
            (Work::Measure, Level::User(_)) => self.measure_expunged(&place, piece),
            (Work::Hash, Level::Shard(_, _, shard)) => {
                let reached = self.hash(&place, (*shard, from), piece, is_over);
                return Ok(reached.map_or(Cursor::Behind(place.clone()), |uid| {
                    Cursor::Within(place, uid)
                }));
            }
            (Work::Rebuild | Work::DropText | Work::Measure | Work::Hash, _) => {}
        }
        Ok(Cursor::Behind(place))
    }

    fn look(&self, place: &Place, level: &Level, piece: &mut Piece) -> Result<(), Refusal> {
        match self.findings(place, level)? {
            Ok(shard) => {
                piece.seen.messages += shard.messages;
                piece.seen.bytes += shard.bytes;
                piece.take(shard.findings);
            }
            Err(error) => piece.fault(place, &error),
        }
        Ok(())
    }

    /// What is wrong at a place and cannot be somebody's work that is under way.
    fn findings(&self, place: &Place, level: &Level) -> Result<io::Result<Shard>, Refusal> {
        let plain = |found: io::Result<Findings>| {
            found.map(|findings| Shard {
                findings,
                ..Shard::default()
            })
        };
        Ok(match level {
            Level::Store => plain(self.eye.store()),
            Level::Domain => plain(self.confirmed_domain(place)),
            Level::User(owner) => plain(self.confirmed_user(place, owner)?),
            Level::Mailbox(owner, name) => plain(confirmed(
                || self.eye.mailbox(place, None),
                |found| !found.all.is_empty(),
                || self.opened(owner, name),
                |state| self.eye.mailbox(place, state),
            )),
            Level::Shard(owner, name, shard) => confirmed(
                || self.eye.shard(place, *shard, None),
                |found| !found.findings.all.is_empty(),
                || self.opened(owner, name),
                |state| self.eye.shard(place, *shard, state),
            ),
        })
    }

    /// A user is made under the lock of the list of users: what is half made while that is held was left behind.
    fn confirmed_domain(&self, place: &Place) -> io::Result<Findings> {
        let mut found = self.eye.domain(place)?;
        found.all.retain(|finding| {
            let is_there = || self.eye.root.dir(&finding.dir)?.stat(&finding.name);
            finding.kind != Kind::Leftover || self.store.undisturbed(is_there).is_ok()
        });
        Ok(found)
    }

    fn confirmed_user(
        &self,
        place: &Place,
        owner: &Owner,
    ) -> Result<io::Result<Findings>, Refusal> {
        let listed = self.store.opened(owner).map(|user| user.file_names());
        let found = match &listed {
            None => self.eye.user(place, None),
            Some(listed) => self.eye.user(place, Some(&|name| listed.contains(name))),
        };
        let found = match (found, self.store.opened(owner)) {
            (Ok(found), Some(user)) if !found.all.is_empty() => {
                user.undisturbed(|is_listed| self.eye.user(place, Some(is_listed)))
            }
            (found, _) => found,
        };
        let mut found = match found {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        if !(self.order.is_account)(owner)? {
            let detail = "there is no such account: add the user (its old mail is put aside then) or delete the directory";
            let path = place.path();
            found.add(&path, ".", Kind::NoAccount, Remedy::ByHand, detail);
        }
        Ok(Ok(found))
    }

    /// The mailbox, if its user was used since the start.
    fn opened(&self, owner: &Owner, name: &super::MailboxName) -> Option<Arc<Mailbox>> {
        self.store.opened(owner)?.mailbox(name).ok()
    }
}

/// Looks without a lock, and if that is not clean and somebody may be at work, again under the mailbox's lock.
fn confirmed<T: Default>(
    look: impl FnOnce() -> io::Result<T>,
    is_suspect: impl FnOnce(&T) -> bool,
    opened: impl FnOnce() -> Option<Arc<Mailbox>>,
    look_again: impl FnOnce(Option<&super::mailbox::State>) -> io::Result<T>,
) -> io::Result<T> {
    let found = look()?;
    if !is_suspect(&found) {
        return Ok(found);
    }
    // Whoever opened the user while we looked is done with that by now: the list of users was locked meanwhile.
    let Some(mailbox) = opened() else {
        return Ok(found);
    };
    match mailbox.hold(|state| look_again(state.as_deref())) {
        Ok(found) => found,
        // Deleted or renamed: what is there now has another place.
        Err(_) => Ok(T::default()),
    }
}

impl Store {
    /// Whether there is a directory for that scope.
    pub(crate) fn has_directory(&self, scope: &Scope) -> Result<bool, Refusal> {
        Ok(self.shared.root.dir(&Place::of(scope)?.path()).is_ok())
    }

    /// Compares an account with the tree: gives what is wrong, mended if that is asked for.
    pub(crate) fn compare_account(
        &self,
        owner: &Owner,
        repair: bool,
    ) -> Result<Option<Row>, Refusal> {
        let (parent, name) = owner.place()?;
        let is_there = self.shared.root.dir(&format!("{parent}/{name}")).is_ok();
        if is_there {
            return Ok(None);
        }
        let mut found = Findings::default();
        let detail = "the account has no mail; its first use makes it";
        found.add(&parent, &name, Kind::NoDirectory, Remedy::Make, detail);
        if repair {
            let made = self.user(owner);
            for finding in &mut found.all {
                finding.outcome = if made.is_ok() {
                    Outcome::Mended
                } else {
                    Outcome::Remains
                };
            }
        }
        Ok(found.all.first().map(finding::Finding::row))
    }

    /// What the last recovery did.
    pub(crate) fn last_recovery(
        &self,
    ) -> Result<Option<(ipc::tools::Recovery, Vec<Row>)>, Refusal> {
        let report = self
            .shared
            .root
            .dir(recovery::DIRECTORY)
            .and_then(|dir| recovery_report::Report::read(&dir))
            .or_fault("read what the last recovery did")?;
        Ok(report.map(|report| {
            let summary = report.summary();
            (summary, report.told().map(Row::Recovered).collect())
        }))
    }
}

/// Has this thread give way to all others, for the rest of its life.
pub(crate) fn give_way() {
    if let Err(error) = setpriority_process(None, NICE) {
        warn!(%error, "the store's tools cannot give way to mail");
    }
}
