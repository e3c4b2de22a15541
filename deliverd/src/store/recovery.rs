//! What the start after a crash does: everything the journal has and the files may not have is brought into the files.
//!
//! The journal is read once and gives, for each message it names, the last word about it. Then the files are made to say the
//! same. A message that is there already and whole is left alone, so doing this twice, or after a part of it was done, is harmless.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use ipc::snapshot::flag;
use tracing::{info, warn};

use super::apart;
use super::chores::Bell;
use super::disk::{Dir, Likeness};
use super::expunged::{self, Attic, Expunged, Recovered};
use super::ids::{self, Brought};
use super::incoming::Nursery;
use super::journal::{BodyPlace, Change, Event, Journal, Place, Record};
use super::keywords::{self, Table};
use super::message_file;
use super::recovery_report::{Deed, Report};
use super::status::Status;
use crate::clock;

/// Directory of the journal in the store.
pub(super) const DIRECTORY: &str = ".journal";

/// A file in it that says that the last process came to an orderly end.
const STOPPED: &str = "stopped";

/// Opens the journal of the store in `root`, brings what it has into the files, and leaves it with nothing to do. Tells too
/// whether the process before this one came to an orderly end.
///
/// # Errors
/// When it cannot be read or the files cannot be written. It is as before then.
pub(super) fn open_journal(
    root: &Dir,
    nursery: &Arc<Nursery>,
    bell: &Arc<Bell>,
    attic: &Attic,
) -> io::Result<(Journal, bool)> {
    let dir = root.make_path(DIRECTORY)?;
    // Gone before anything changes, so that it is never believed twice.
    let was_stopped = dir.remove_if_there(STOPPED)?;
    if was_stopped {
        dir.sync()?;
    }
    let bell = Arc::clone(bell);
    let (journal, past) = Journal::open(dir, move || bell.ring())?;
    let mut tale = Tale::default();
    let dir = root.dir(DIRECTORY)?;
    for event in apart::read(&dir, journal.floor_on_disk())? {
        tale.learn(event);
    }
    let last = journal.replay(&past, |record, place| tale.hear(record, place))?;
    let reserve = Reserve(dir);
    let mut report = None;
    if !tale.mailboxes.is_empty() {
        let restore = || tale.restore(root, nursery, &journal, attic);
        let restored = restore().or_else(|error| {
            if is_full(&error) && reserve.give_up()? {
                warn!("the disk is full: giving up the reserve to bring the journal into the mailboxes");
                restore()
            } else {
                Err(error)
            }
        });
        report = Some(restored?);
    }
    // Names a killed predecessor may have made without flushing them: before anyone sees or relies on them.
    root.sync_file_system()?;
    if let Some(mut report) = report {
        journal
            .raise_floor(last)
            .map_err(|refusal| io::Error::other(refusal.to_string()))?;
        apart::remove(&reserve.0)?;
        if let Err(error) = report.write(&reserve.0) {
            warn!(%error, "what the recovery did cannot be kept for the operator");
        }
    }
    reserve.fill();
    Ok((journal, was_stopped && tale.mailboxes.is_empty()))
}

/// Notes that this process comes to an orderly end: the journal is empty, and all indexes are written.
pub(super) fn note_stop(root: &Dir) -> io::Result<()> {
    root.dir(DIRECTORY)?.write_small(STOPPED, b"")
}

/// Room on the disk for a recovery: files that are removed when it finds none.
struct Reserve(Dir);

impl Reserve {
    /// Many rather than large: where there are no inodes, each is one.
    const FILES: u32 = 32;
    const SIZE: u64 = 32 * 1024;

    /// Makes what is missing. If there is no room for it, the mail that comes will say so.
    fn fill(&self) {
        for number in 0..Self::FILES {
            let name = format!("reserve.{number}");
            let made = match self.0.open_to_write(&name) {
                Ok(None) => self.0.create_zeros(&name, Self::SIZE).map(|_| ()),
                opened => opened.map(|_| ()),
            };
            if let Err(error) = made {
                warn!(%error, "there is no room to keep in reserve for the next start");
                return;
            }
        }
    }

    /// Removes the files, durably. False if there were none.
    fn give_up(&self) -> io::Result<bool> {
        let mut found = false;
        for entry in self.0.entries()? {
            if entry.name.starts_with("reserve.") {
                self.0.unlink(&entry.name)?;
                found = true;
            }
        }
        self.0.sync()?;
        Ok(found)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// The last word about everything the journal names.
#[derive(Default)]
struct Tale {
    bodies: HashMap<u64, Body>,
    /// By the directory of their user and their UIDVALIDITY: a mailbox that was renamed is still the same.
    mailboxes: HashMap<(String, u32), Mailbox>,
}

#[derive(Default)]
struct Mailbox {
    /// Where it was last.
    path: String,
    messages: BTreeMap<u32, Fate>,
}

#[derive(Clone, Copy)]
struct Body {
    place: BodyPlace,
    date: i64,
}

/// What is to become of a message.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Fate {
    is_removed: bool,
    /// Whether its file is kept all the same.
    is_kept: bool,
    /// The number of its bytes, if the journal has them.
    body: Option<u64>,
    /// Its flags and keywords, if they are known.
    marks: Option<(u8, Vec<String>)>,
    /// What it brought along from elsewhere.
    brought: Option<Brought>,
}

impl Tale {
    /// Makes the files say what the journal says.
    fn restore(
        &self,
        root: &Dir,
        nursery: &Arc<Nursery>,
        journal: &Journal,
        attic: &Attic,
    ) -> io::Result<Report> {
        let mut recovery = Recovery {
            root,
            attic,
            nursery,
            journal,
            bodies: &self.bodies,
            report: Report::default(),
        };
        for ((_, uid_validity), mailbox) in &self.mailboxes {
            let restored = recovery.restore(*uid_validity, mailbox);
            restored.map_err(|error| {
                let path = &mailbox.path;
                io::Error::new(
                    error.kind(),
                    format!("the mailbox mailstore/{path}: {error}"),
                )
            })?;
        }
        info!(
            mailboxes = self.mailboxes.len(),
            messages = recovery.report.written(),
            "brought the journal into the mailboxes; so many messages were written again"
        );
        Ok(recovery.report)
    }

    fn hear(&mut self, record: Record<'_>, place: Option<BodyPlace>) {
        match record {
            Record::Body { number, date, .. } => {
                if let Some(place) = place {
                    self.bodies.insert(number, Body { place, date });
                }
            }
            Record::Event(event) => self.learn(event),
        }
    }

    /// What is known about the messages of a mailbox.
    fn messages(&mut self, place: Place) -> &mut BTreeMap<u32, Fate> {
        let user = place.path.rsplit_once('/').map_or("", |(all, _)| all);
        let key = (user.to_owned(), place.uid_validity);
        let mailbox = self.mailboxes.entry(key).or_default();
        mailbox.path = place.path;
        &mut mailbox.messages
    }

    fn learn(&mut self, event: Event) {
        match event {
            Event::Added {
                place,
                uid,
                body,
                flags,
                keywords,
            } => {
                let fate = Fate {
                    is_removed: false,
                    is_kept: false,
                    body: Some(body),
                    marks: Some((flags & flag::ALL, keywords)),
                    brought: None,
                };
                self.messages(place).insert(uid, fate);
            }
            Event::Changed {
                place,
                keywords,
                changes,
            } => {
                let messages = self.messages(place);
                for Change {
                    uids,
                    flags,
                    keywords: bits,
                } in changes
                {
                    let names = keywords.iter().take(64).enumerate();
                    let names = names.filter(|(at, _)| bits & 1 << at != 0);
                    let names: Vec<String> = names.map(|(_, name)| name.clone()).collect();
                    for uid in uids.into_iter().flat_map(|(first, last)| first..=last) {
                        let fate = messages.entry(uid).or_default();
                        fate.marks = Some((flags & flag::ALL, names.clone()));
                    }
                }
            }
            Event::Removed { place, uids } => {
                let messages = self.messages(place);
                for uid in uids.into_iter().flat_map(|(first, last)| first..=last) {
                    messages.entry(uid).or_default().is_removed = true;
                }
            }
            Event::Transferred {
                place,
                brought,
                gone,
            } => {
                let messages = self.messages(place);
                for (uid, brought) in brought {
                    messages.entry(uid).or_default().brought = Some(brought);
                }
                if let Some((place, uids)) = gone {
                    self.learn(Event::Removed { place, uids });
                }
            }
            Event::Placed { place, uids } => {
                let messages = self.messages(place);
                for uid in uids.into_iter().flat_map(|(first, last)| first..=last) {
                    messages.entry(uid).or_default().is_removed = false;
                }
            }
            Event::Expunged { place, uids } => {
                let messages = self.messages(place);
                for uid in uids.into_iter().flat_map(|(first, last)| first..=last) {
                    let fate = messages.entry(uid).or_default();
                    (fate.is_removed, fate.is_kept) = (true, true);
                }
            }
        }
    }
}

struct Recovery<'a> {
    root: &'a Dir,
    attic: &'a Attic,
    nursery: &'a Arc<Nursery>,
    journal: &'a Journal,
    bodies: &'a HashMap<u64, Body>,
    report: Report,
}

impl Recovery<'_> {
    fn restore(&mut self, uid_validity: u32, known: &Mailbox) -> io::Result<()> {
        let Mailbox { path, messages } = known;
        self.report.enter(path, messages.len());
        let Some(mailbox) = self.find(path, uid_validity)? else {
            self.report.note(0, Deed::NoMailbox);
            info!(mailbox = path, "a mailbox of the journal was deleted since");
            return Ok(());
        };
        let shards: BTreeSet<u32> = messages
            .keys()
            .map(|uid| message_file::shard_of(*uid))
            .collect();
        for shard in shards {
            let in_shard: BTreeMap<u32, &Fate> = messages
                .iter()
                .filter(|(uid, _)| message_file::shard_of(**uid) == shard)
                .map(|(uid, fate)| (*uid, fate))
                .collect();
            self.restore_shard(&mailbox, (path, uid_validity), shard, &in_shard)?;
        }
        // Invariant: no UID of a message that was removed is given again.
        let removed = messages.iter().rfind(|(_, fate)| fate.is_removed);
        if let (Some((highest, _)), Some(mut status)) = (removed, Status::read(&mailbox)?)
            && status.uid_next <= *highest
        {
            status.uid_next = highest + 1;
            status.modseq_floor = status.modseq_floor.max(clock::micros());
            status.write(&mailbox)?;
        }
        Ok(())
    }

    /// The directory the mailbox has now.
    fn find(&self, path: &str, uid_validity: u32) -> io::Result<Option<Dir>> {
        let Some((mailboxes, _)) = path.rsplit_once('/') else {
            return Ok(None);
        };
        let there = opened(self.root.dir(path))?;
        if let Some(dir) = there {
            match Status::read(&dir)? {
                Some(status) if status.uid_validity == uid_validity => return Ok(Some(dir)),
                // Its status is lost, and with it the number: the name is all there is to go by.
                None => return Ok(Some(dir)),
                Some(_) => {}
            }
        }
        let Some(all) = opened(self.root.dir(mailboxes))? else {
            return Ok(None);
        };
        for entry in all.entries()? {
            if !entry.is_dir || entry.name.starts_with('.') {
                continue;
            }
            let dir = all.dir(&entry.name)?;
            if Status::read(&dir)?.is_some_and(|status| status.uid_validity == uid_validity) {
                return Ok(Some(dir));
            }
        }
        // What is kept of a mailbox that was deleted has to be whole, too.
        expunged::deleted(self.root, path, uid_validity)
    }

    fn restore_shard(
        &mut self,
        mailbox: &Dir,
        was: (&str, u32),
        shard: u32,
        messages: &BTreeMap<u32, &Fate>,
    ) -> io::Result<()> {
        let shard_name = message_file::shard_name(shard);
        let dir = mailbox.make_path(&shard_name)?;
        let mut names: BTreeMap<u32, Vec<(u8, String)>> = BTreeMap::new();
        for entry in dir.entries()? {
            if let (true, Some((uid, flags))) = (entry.is_file, message_file::parse(&entry.name)) {
                names.entry(uid).or_default().push((flags, entry.name));
            }
        }
        let kept: Vec<_> = messages.iter().filter(|(_, fate)| fate.is_kept).collect();
        if !kept.is_empty() {
            let recovered = Recovered::of(self.attic, self.root, self.nursery, was, shard)?;
            let (words, table) = known_keywords(mailbox, &shard_name)?;
            for (uid, fate) in kept {
                let bits = words.get(uid).copied().unwrap_or(0);
                let message = self.expunged(*uid, fate, || table.named(bits))?;
                if let Some(recovered) = &recovered {
                    let names = names.remove(uid).unwrap_or_default();
                    recovered.keep(&dir, &names, &message)?;
                }
            }
        }
        for (uid, fate) in messages {
            self.restore_message(&dir, *uid, fate, names.remove(uid).unwrap_or_default())?;
        }
        // The index has to look at the files again.
        dir.touch(".")?;
        restore_keywords(mailbox, &shard_name, messages)?;
        restore_ids(mailbox, shard, messages)
    }

    /// A message that was expunged, as the journal knows it.
    fn expunged(
        &self,
        uid: u32,
        fate: &Fate,
        keywords: impl FnOnce() -> Vec<String>,
    ) -> io::Result<Expunged> {
        let body = fate.body.and_then(|number| self.bodies.get(&number));
        let body = body.map(|body| Ok::<_, io::Error>((self.journal.body(body.place)?, body.date)));
        let marks = fate.marks.clone();
        let (flags, keywords) = match marks {
            Some((flags, keywords)) => (Some(flags), keywords),
            None => (None, keywords()),
        };
        Ok(Expunged {
            uid,
            flags,
            keywords,
            body: body.transpose()?,
        })
    }

    fn restore_message(
        &mut self,
        dir: &Dir,
        uid: u32,
        fate: &Fate,
        names: Vec<(u8, String)>,
    ) -> io::Result<()> {
        if fate.is_removed {
            return names.iter().try_for_each(|(_, name)| dir.unlink(name));
        }
        let body = fate
            .body
            .and_then(|number| self.bodies.get(&number))
            .copied();
        let mut whole = None;
        let mut deed = Deed::Restored;
        if let Some(body) = body {
            let bytes = self.journal.body(body.place)?;
            for (flags, name) in names {
                match dir.likeness(&name, &bytes)? {
                    Likeness::Whole if whole.is_none() => whole = Some((flags, name)),
                    Likeness::Whole => dir.unlink(&name)?,
                    Likeness::Remnant => {
                        warn!(
                            uid,
                            file = name,
                            "a power cut left a message incomplete; it is written again"
                        );
                        dir.unlink(&name)?;
                        deed = Deed::Replaced;
                    }
                    // Made by hand: it gets a UID of its own when the mailbox is read.
                    Likeness::Other => self.set_aside(dir, uid, &name)?,
                }
            }
            if whole.is_none() {
                let flags = fate.marks.as_ref().map_or(0, |(flags, _)| *flags);
                let name = message_file::file_name(uid, flags);
                if dir.stat(&name).is_ok() {
                    // A link or a directory: none of ours.
                    self.set_aside(dir, uid, &name)?;
                }
                self.nursery.write_to(&bytes, body.date, dir, &name)?;
                self.report.note(uid, deed);
                return Ok(());
            }
        } else {
            whole = names.into_iter().next();
        }
        if let (Some((flags, name)), Some((wanted, _))) = (whole, &fate.marks) {
            if flags == *wanted {
                // It may have changed there and back: its time says so.
                return dir.touch_inode(&name);
            }
            let renamed = dir.rename(&name, dir, &message_file::file_name(uid, *wanted));
            if renamed
                .as_ref()
                .is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
            {
                // Both names are there: one of them is left from a rename.
                return dir.unlink(&name);
            }
            return renamed;
        }
        Ok(())
    }

    /// Renames what has the name of a message.
    fn set_aside(&mut self, dir: &Dir, uid: u32, name: &str) -> io::Result<()> {
        self.report.note(uid, Deed::SetAside);
        dir.rename(name, dir, &message_file::aside(name))
    }
}

/// The keywords of a shard as its file has them.
fn known_keywords(mailbox: &Dir, shard: &str) -> io::Result<(BTreeMap<u32, u64>, Table)> {
    let mut table = Table::default();
    let known = match mailbox.read_small(&format!("{}/{shard}", keywords::DIRECTORY))? {
        Some(text) => keywords::parse(&text, &mut table),
        None => BTreeMap::new(),
    };
    Ok((known, table))
}

fn restore_keywords(mailbox: &Dir, shard: &str, messages: &BTreeMap<u32, &Fate>) -> io::Result<()> {
    let (mut known, mut table) = known_keywords(mailbox, shard)?;
    let before = known.clone();
    for (uid, fate) in messages {
        if fate.is_removed {
            known.remove(uid);
        } else if let Some((_, names)) = &fate.marks {
            // More keywords than a table holds were never acknowledged.
            let bits = table.bits(names).unwrap_or_default();
            if bits == 0 {
                known.remove(uid);
            } else {
                known.insert(*uid, bits);
            }
        }
    }
    if known == before {
        return Ok(());
    }
    let text = keywords::format(known.into_iter(), &table);
    let dir = mailbox.make_path(keywords::DIRECTORY)?;
    dir.write_small(shard, text.as_bytes())
}

fn restore_ids(mailbox: &Dir, shard: u32, messages: &BTreeMap<u32, &Fate>) -> io::Result<()> {
    if messages.values().all(|fate| fate.brought.is_none()) {
        return Ok(());
    }
    let mailbox_id = Status::read(mailbox)?.map_or(0, |status| status.id());
    let mut lines = ids::read(mailbox, mailbox_id, shard)?;
    for (uid, fate) in messages {
        if let Some(brought) = fate.brought.filter(|_| !fate.is_removed) {
            lines.insert(*uid, brought);
        }
    }
    ids::write(mailbox, mailbox_id, shard, &lines)
}

/// What was opened, `None` if it is not there.
fn opened(dir: io::Result<Dir>) -> io::Result<Option<Dir>> {
    match dir {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
