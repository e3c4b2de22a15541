//! Telling what is kept, and giving it back.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc::Refusal;
use ipc::session::UidRanges;
use ipc::snapshot::flag;
use ipc::tools::{ExpungedMessage, ExpungedRange, Row};
use tracing::{info, warn};

use super::super::append::{NewMessage, Placing};
use super::super::disk::Dir;
use super::super::keywords::{self, Table};
use super::super::mailbox::{Mailbox, Totals};
use super::super::message_file;
use super::super::name::MailboxName;
use super::super::status::Status;
use super::super::{Owner, Store, User};
use super::shelf::{self, Shelf, opened};
use super::{Contents, Day, Series};
use crate::fault::OrFault;

/// How long a piece goes on to the next shelf.
const PIECE: Duration = Duration::from_millis(200);
/// Rows after which a piece ends.
const ROWS: usize = 5_000;

/// Which of the kept messages are meant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Those that were in this mailbox.
    mailbox: Option<MailboxName>,
    /// Those removed on this day or later.
    since: Option<Day>,
    /// Those that had these UIDs.
    uids: Option<UidRanges>,
}

/// What a piece of an undelete did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Restored {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// Ask again with this.
    pub(crate) after: Option<String>,
}

/// A message that is kept.
#[derive(Debug)]
struct Kept {
    name: String,
    uid: u32,
    message: NewMessage,
}

impl Wanted {
    /// Reads what was asked for.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn read(range: &ExpungedRange) -> Result<Self, Refusal> {
        let since = range.since.as_deref().map(|text| {
            let wrong = || format!("\"{}\" is no day, like 2026-11-27", text.escape_debug());
            Day::parse(text).ok_or_else(|| Refusal::Invalid(wrong()))
        });
        let mailbox = range.mailbox.as_deref().map(MailboxName::parse);
        Ok(Self {
            mailbox: mailbox.transpose()?,
            since: since.transpose()?,
            uids: range.uids.clone(),
        })
    }

    fn has(&self, uid: u32) -> bool {
        let has = |uids: &UidRanges| {
            uids.iter()
                .any(|(a, b)| (a.min(b)..=a.max(b)).contains(&&uid))
        };
        self.uids.as_ref().is_none_or(has)
    }
}

impl Store {
    /// Tells kept messages of a user, those behind the place `after`, and where to go on.
    pub(crate) fn expunged(
        &self,
        owner: &Owner,
        wanted: &Wanted,
        after: Option<&str>,
    ) -> Result<(Vec<Row>, Option<String>), Refusal> {
        let mut rows = Vec::new();
        let after = self.each_shelf(owner, wanted, after, |shelf, series| {
            let mailbox = shelf::mailbox_name(&shelf.mailbox);
            for kept in messages(series, shelf.shard, wanted).or_fault("list what is kept")? {
                rows.push(Row::Expunged(ExpungedMessage {
                    day: shelf.day.to_string(),
                    mailbox: mailbox.clone(),
                    uid_validity: shelf.series.uid_validity,
                    uid: kept.uid,
                    with_mailbox: shelf.series.is_deleted,
                    size: kept.message.size,
                    internal_date: kept.message.internal_date,
                    flags: kept.message.flags,
                    keywords: kept.message.keywords,
                }));
            }
            Ok(rows.len() >= ROWS)
        })?;
        Ok((rows, after))
    }

    /// Gives a user kept messages back, those behind the place `after`: all of one mailbox, day and shard, or none of them.
    ///
    /// # Errors
    /// When the first of these cannot be given back; later ones end the piece.
    pub(crate) fn undelete(
        &self,
        owner: &Owner,
        wanted: &Wanted,
        after: Option<&str>,
    ) -> Result<Restored, Refusal> {
        let user = self.user(owner)?;
        let path = owner.path()?;
        let Self { shared, .. } = self;
        shared.attic.prepare(&shared.root, &path, user.member());
        let mut done = Restored::default();
        let mut last = None;
        let gone_through = self.each_shelf(owner, wanted, after, |shelf, series| {
            let restored = match self.restore(&user, wanted, shelf, series) {
                // Whoever asks for what comes next is told.
                Err(_) if done.messages > 0 => return Ok(true),
                restored => restored?,
            };
            done.messages += restored.messages;
            done.bytes += restored.bytes;
            last = Some(shelf.to_string());
            Ok(false)
        });
        self.trim();
        done.after = gone_through?.and(last);
        info!(
            account = owner.address(),
            done.messages, "what was expunged is given back"
        );
        Ok(done)
    }

    /// Goes through the shelves of a user behind the place `after`, until `each` says that it is enough or it took long enough.
    /// Gives the last one if there may be more.
    fn each_shelf(
        &self,
        owner: &Owner,
        wanted: &Wanted,
        after: Option<&str>,
        mut each: impl FnMut(&Shelf, &Dir) -> Result<bool, Refusal>,
    ) -> Result<Option<String>, Refusal> {
        let began = Instant::now();
        let read = |text: &str| {
            let wrong = || format!("\"{}\" is no place to go on from", text.escape_debug());
            Shelf::parse(text).ok_or_else(|| Refusal::Invalid(wrong()))
        };
        let after = after.map(read).transpose()?;
        let file_name = wanted.mailbox.as_ref().map(MailboxName::file_name);
        let is_wanted = |name: &str| file_name.as_ref().is_none_or(|wanted| wanted == name);
        let mut last = None;
        let visit = |shelf: &Shelf, series: &Dir| -> Result<_, Stop> {
            let is_enough = each(shelf, series).map_err(Stop::Refused)?;
            if is_enough || began.elapsed() >= PIECE {
                last = Some(shelf.to_string());
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        };
        let (root, user) = (&self.shared.root, owner.path()?);
        let from = (after.as_ref(), wanted.since);
        match shelf::walk(root, &user, from, is_wanted, visit) {
            Ok(()) => Ok(last),
            Err(Stop::Refused(refusal)) => Err(refusal),
            Err(Stop::Disk(error)) => Err(error).or_fault("list what is kept"),
        }
    }

    fn restore(
        &self,
        user: &Arc<User>,
        wanted: &Wanted,
        shelf: &Shelf,
        series: &Dir,
    ) -> Result<Totals, Refusal> {
        let kept = messages(series, shelf.shard, wanted).or_fault("list what is kept")?;
        if kept.is_empty() {
            return Ok(Totals::default());
        }
        // What was received and expunged a moment ago must be on disk under the name it has here: the journal knows it under
        // another one.
        if !self.shared.empty_journal() {
            return Err(Refusal::StorageFault);
        }
        let dir = series
            .dir(&message_file::shard_name(shelf.shard))
            .or_fault("open what is kept")?;
        let status = Status::read(series).or_fault("read status.json")?;
        let special_use = status.and_then(|status| status.special_use());
        let name = MailboxName::parse(&shelf::mailbox_name(&shelf.mailbox))?;
        let Series {
            uid_validity,
            is_deleted,
        } = shelf.series;
        let home = user.home_of(&name, (!is_deleted).then_some(uid_validity), special_use)?;
        let sizes = kept.iter().map(|one| Totals::message(one.message.size));
        let all = sizes.fold(Totals::default(), Totals::plus);
        self.link_kept(&home, &dir, &kept, all).map_err(|refusal| {
            if refusal != Refusal::OverQuota {
                return refusal;
            }
            let (Totals { messages, bytes }, day) = (all, shelf.day);
            Refusal::Invalid(format!(
                "over quota: the {messages} messages ({bytes} bytes) removed from {} on {day} do not fit; none of them was given \
                 back",
                name.as_str()
            ))
        })?;
        let mut gone = Contents::from(Totals::default());
        for one in &kept {
            // They have other names now. One that keeps this name can be given back once more.
            match dir.unlink(&one.name) {
                Ok(()) => {
                    gone.messages += 1;
                    gone.bytes += one.message.size;
                }
                Err(error) => warn!(%error, "a message that was given back is still kept"),
            }
        }
        user.member().release(gone.weight());
        Ok(all)
    }

    /// Gives kept messages names in a mailbox, all or none, durably.
    fn link_kept(
        &self,
        home: &Arc<Mailbox>,
        dir: &Dir,
        kept: &[Kept],
        all: Totals,
    ) -> Result<(), Refusal> {
        let mut room = self.reserve(Vec::new(), &[Arc::clone(home.tally.member())], all)?;
        home.with(|state| {
            let mut table = Table::clone(&state.keywords);
            let files: Vec<Placing<'_>> = kept
                .iter()
                .map(|one| {
                    let mut message = one.message.clone();
                    message.flags &= !flag::DELETED;
                    // A message without its keywords is better than none.
                    if table.bits(&message.keywords).is_err() {
                        message.keywords.clear();
                    }
                    Placing {
                        from: dir,
                        name: one.name.clone(),
                        message,
                    }
                })
                .collect();
            home.link_all(state, &files, |_| Ok(()))?;
            for hold in &mut room {
                state.granted = state.granted.plus(hold.give(all));
            }
            Ok(())
        })
    }
}

/// The kept messages of a shard, in the order of their UIDs.
fn messages(series: &Dir, shard: u32, wanted: &Wanted) -> io::Result<Vec<Kept>> {
    let shard_name = message_file::shard_name(shard);
    let Some(dir) = opened(series.dir(&shard_name))? else {
        return Ok(Vec::new());
    };
    let mut table = Table::default();
    let words = series.read_small(&format!("{}/{shard_name}", keywords::DIRECTORY))?;
    let words = words.map_or_else(BTreeMap::new, |text| keywords::parse(&text, &mut table));
    let mut found = Vec::new();
    for entry in dir.entries()?.into_iter().filter(|entry| entry.is_file) {
        let Some((uid, flags)) = message_file::parse(&entry.name) else {
            continue;
        };
        if !wanted.has(uid) {
            continue;
        }
        let look = match dir.look(&entry.name) {
            // Removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            look => look?,
        };
        found.push(Kept {
            name: entry.name,
            uid,
            message: NewMessage {
                flags,
                keywords: table.named(words.get(&uid).copied().unwrap_or(0)),
                size: look.size,
                internal_date: look.modified.0,
            },
        });
    }
    found.sort_unstable_by_key(|kept| kept.uid);
    Ok(found)
}

/// Why going through shelves ends.
enum Stop {
    Refused(Refusal),
    Disk(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}
