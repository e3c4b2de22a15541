//! How messages come into a mailbox.
//!
//! A message the journal carries:
//! 1. [`Mailbox::promise`], under the mailbox's lock: it gets a UID and a record in the journal.
//! 2. The journal is committed, with no lock held: one flush for everyone who waits.
//! 3. [`Mailbox::publish`]: under the lock, all messages whose records are on disk by now get their names and are shown, in the
//!    order of their UIDs. Whoever comes first does it for the others.
//!
//! A message whose bytes are on disk already ([`Mailbox::link_all`]; large ones, and copies): the names are linked and their
//! directories flushed under the lock, then it is shown.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use ipc::Refusal;
use ipc::snapshot::Record;
use tracing::{error, warn};

use super::disk::Dir;
use super::incoming::Sealed;
use super::journal::{Event, Permit};
use super::mailbox::{Mailbox, State, Totals};
use super::message_file::{self, MAX_UID};
use super::quota::Hold;
use crate::clock;
use crate::fault::OrFault;

/// Names tried when a file somebody made by hand stands where a new message should go.
pub(super) const ATTEMPTS: u32 = 100;

/// A message that is about to get a name in a mailbox.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewMessage {
    pub(crate) flags: u8,
    pub(crate) keywords: Vec<String>,
    pub(crate) size: u64,
    pub(crate) internal_date: i64,
}

/// A finished file and what it shall be in the mailbox.
pub(super) struct Placing<'a> {
    pub(super) from: &'a Dir,
    pub(super) name: String,
    pub(super) message: NewMessage,
}

/// A message that has a UID and no file yet.
pub(super) struct Pending {
    pub(super) record: Record,
    /// Its record in the journal.
    sequence: u64,
    file: Arc<Sealed>,
}

/// What [`Mailbox::promise`] has given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promise {
    pub(super) uid: u32,
    /// The record in the journal that has to be committed.
    pub(super) sequence: u64,
    reading: u64,
}

impl Mailbox {
    /// Gives the message in `file`, which is number `body` in the journal, a UID and the `room` set aside for it. Shown by
    /// [`Mailbox::publish`].
    pub(super) fn promise(
        self: &Arc<Self>,
        permit: &Permit,
        body: u64,
        file: &Arc<Sealed>,
        message: &NewMessage,
        room: &mut Hold,
    ) -> Result<Promise, Refusal> {
        self.with(|state| {
            let keywords = state.keyword_bits(&message.keywords)?;
            let Some(record) = state.next_record(message, keywords) else {
                error!(mailbox = self.path(), "the mailbox has no UID left");
                return Err(Refusal::StorageFault);
            };
            let sequence = permit.tell(&Event::Added {
                place: self.place(state),
                uid: record.uid,
                body,
                flags: message.flags,
                keywords: message.keywords.clone(),
            })?;
            state.granted = state.granted.plus(room.give(Totals::message(record.size)));
            state.promised += 1;
            state.pending.push_back(Pending {
                record,
                sequence,
                file: Arc::clone(file),
            });
            Ok(Promise {
                uid: record.uid,
                sequence,
                reading: state.reading,
            })
        })
    }

    /// Gives everything the journal has on disk its name and shows it, and tells what became of one of the messages.
    pub(super) fn publish(
        self: &Arc<Self>,
        permit: &Permit,
        promise: Promise,
    ) -> Result<(), Refusal> {
        self.with(|state| {
            self.publish_all(state);
            if state.reading != promise.reading {
                // Somebody's panic made us read the mailbox anew in between.
                return Err(Refusal::StorageFault);
            }
            state.promised -= 1;
            match state.failed.remove(&promise.uid) {
                None => Ok(()),
                Some(refusal) => self.cancel(state, permit, promise.uid).and(Err(refusal)),
            }
        })
    }

    /// Takes back a promise whose bringer will be refused.
    pub(super) fn withdraw(self: &Arc<Self>, permit: &Permit, promise: Promise) {
        let withdrawn = self.with(|state| {
            let is_ours = |pending: &Pending| pending.record.uid == promise.uid;
            if state.reading != promise.reading {
                return Ok(());
            }
            state.promised -= 1;
            state.failed.remove(&promise.uid);
            // If others have made it public, it is a message its sender will bring again.
            let Some(at) = state.pending.iter().position(is_ours) else {
                return Ok(());
            };
            self.cancel(state, permit, promise.uid)?;
            state.pending.remove(at);
            Ok(())
        });
        if let Err(refusal) = withdrawn {
            error!(%refusal, "a message that was not acknowledged could not be taken back");
        }
    }

    /// Says in the journal that a UID is no message. Nothing is lost if that does not get to disk.
    fn cancel(&self, state: &State, permit: &Permit, uid: u32) -> Result<(), Refusal> {
        let place = self.place(state);
        let uids = vec![(uid, uid)];
        permit.tell(&Event::Removed { place, uids }).map(|_| ())
    }

    fn publish_all(self: &Arc<Self>, state: &mut State) {
        let outcomes = self.shared.journal.outcomes();
        let mut shown = Vec::new();
        while let Some(front) = state.pending.front() {
            let Some(outcome) = outcomes.of(front.sequence) else {
                break;
            };
            let Some(pending) = state.pending.pop_front() else {
                break;
            };
            let Pending { record, file, .. } = pending;
            match outcome.and_then(|()| self.name(state, &record, &file)) {
                Ok(()) => {
                    if record.keywords != 0 {
                        state
                            .stale_keywords
                            .insert(message_file::shard_of(record.uid));
                        self.list(state);
                    }
                    shown.push(record);
                }
                Err(refusal) => {
                    state.failed.insert(record.uid, refusal);
                }
            }
        }
        state.show(&shown);
        self.note_growth(state);
    }

    /// Gives a message the journal has on disk its name.
    fn name(&self, state: &mut State, record: &Record, file: &Sealed) -> Result<(), Refusal> {
        let (from, source) = file.place();
        let placing = Placing {
            from,
            name: source.to_owned(),
            message: NewMessage {
                internal_date: record.internal_date,
                ..NewMessage::default()
            },
        };
        let dir = self.make_shard(state, message_file::shard_of(record.uid))?;
        let name = message_file::file_name(record.uid, record.flags);
        let give = || {
            if file.is_single {
                file.move_to(&dir, &name)
            } else {
                self.link_one(&placing, &dir, &name)
            }
        };
        let mut linked = give();
        if fails_with(&linked, ErrorKind::AlreadyExists) {
            // Somebody made a file of that name by hand. It keeps its bytes and gets a UID of its own at the next look.
            let aside = message_file::aside(&name);
            warn!(
                mailbox = self.path(),
                file = name,
                "a file made by hand has the name of a new message and is renamed"
            );
            linked = dir.rename(&name, &dir, &aside).and_then(|()| give());
        }
        linked.or_fault("link a message")
    }

    /// Waits until nothing is pending, and shows it. Under the lock, which no one who commits needs.
    pub(super) fn drain(self: &Arc<Self>, state: &mut State) {
        if let Some(last) = state.pending.back() {
            // What became of each record, its bringer is told.
            let _ = self.shared.journal.commit(last.sequence);
            self.publish_all(state);
        }
    }

    /// Gives files whose bytes are on disk a UID and a name in this mailbox, all or nothing, durably; gives their UIDs in the same
    /// order. `before_shown` is done with the UIDs before anyone sees a message; if it fails, there is none.
    pub(super) fn link_all(
        self: &Arc<Self>,
        state: &mut State,
        files: &[Placing<'_>],
        before_shown: impl FnOnce(&[u32]) -> Result<(), Refusal>,
    ) -> Result<Vec<u32>, Refusal> {
        if self.shared.journal.is_closed() {
            // The disk does not keep what is written to it.
            return Err(Refusal::StorageFault);
        }
        self.drain(state);
        let mut records = Vec::with_capacity(files.len());
        for file in files {
            let keywords = state.keyword_bits(&file.message.keywords)?;
            records.extend(state.next_record(&file.message, keywords));
        }
        if records.len() != files.len() {
            error!(mailbox = self.path(), "the mailbox has no UID left");
            return Err(Refusal::StorageFault);
        }
        let mut linked = Vec::with_capacity(files.len());
        let done = self
            .link_records(state, &mut records, files, &mut linked)
            .and_then(|()| self.sync_shards(&linked));
        let uids: Vec<u32> = linked.iter().map(|record| record.uid).collect();
        let done = done.and_then(|()| before_shown(&uids));
        if let Err(refusal) = done {
            self.unlink_all(&linked);
            return Err(refusal);
        }
        state.show(&linked);
        self.note_growth(state);
        Ok(uids)
    }

    fn link_records(
        self: &Arc<Self>,
        state: &mut State,
        records: &mut [Record],
        files: &[Placing<'_>],
        linked: &mut Vec<Record>,
    ) -> Result<(), Refusal> {
        // Keywords first: a line without a message is harmless, a message without its keywords is not what was asked for.
        self.write_new_keywords(state, records)?;
        let mut open: Option<(u32, Dir)> = None;
        let mut attempts = 0;
        for (at, file) in files.iter().enumerate() {
            loop {
                let record = records[at];
                let shard = message_file::shard_of(record.uid);
                let dir = match open.take() {
                    Some((known, dir)) if known == shard => dir,
                    _ => self.make_shard(state, shard)?,
                };
                let name = message_file::file_name(record.uid, record.flags);
                let result = self.link_one(file, &dir, &name);
                open = Some((shard, dir));
                if fails_with(&result, ErrorKind::AlreadyExists) && attempts < ATTEMPTS {
                    // Somebody made a file of that name by hand: this one and all behind it get UIDs one higher.
                    attempts += 1;
                    state.uid_next += 1;
                    for record in &mut records[at..] {
                        record.uid += 1;
                    }
                    self.write_new_keywords(state, records)?;
                    continue;
                }
                result.or_fault("link a message")?;
                linked.push(record);
                break;
            }
        }
        Ok(())
    }

    fn write_new_keywords(
        self: &Arc<Self>,
        state: &mut State,
        records: &[Record],
    ) -> Result<(), Refusal> {
        let shards: BTreeSet<u32> = records
            .iter()
            .filter(|record| record.keywords != 0)
            .map(|record| message_file::shard_of(record.uid))
            .collect();
        shards
            .into_iter()
            .try_for_each(|shard| self.write_keywords(state, shard, records))
    }

    /// Gives a file one more name, or a copy of it where the file system allows it no more names (65,000 on ext4).
    fn link_one(&self, file: &Placing<'_>, to: &Dir, name: &str) -> io::Result<()> {
        let linked = file.from.link(&file.name, to, name);
        if !fails_with(&linked, ErrorKind::TooManyLinks) {
            return linked;
        }
        self.shared
            .nursery
            .copy_to(file.from, &file.name, file.message.internal_date, to, name)
    }

    fn sync_shards(&self, records: &[Record]) -> Result<(), Refusal> {
        let shards: BTreeSet<u32> = records
            .iter()
            .map(|record| message_file::shard_of(record.uid))
            .collect();
        shards
            .iter()
            .try_for_each(|shard| self.shard(*shard)?.sync())
            .or_fault("flush a shard")
    }

    fn unlink_all(&self, records: &[Record]) {
        for record in records {
            let name = message_file::file_name(record.uid, record.flags);
            let unlinked = self
                .shard(message_file::shard_of(record.uid))
                .and_then(|dir| dir.unlink(&name));
            if let Err(error) = unlinked {
                error!(%error, uid = record.uid, "a message that was not acknowledged could not be removed");
            }
        }
    }
}

impl State {
    /// A record with the next UID; `None` when there is none.
    fn next_record(&mut self, message: &NewMessage, keywords: u64) -> Option<Record> {
        let uid = self.uid_next;
        // Room is left for names that turn out to be taken.
        if uid > MAX_UID - ATTEMPTS {
            return None;
        }
        self.uid_next += 1;
        let NewMessage {
            flags,
            size,
            internal_date,
            ..
        } = *message;
        Some(Record {
            uid,
            flags,
            keywords,
            size,
            internal_date,
            modseq: self.modseq,
        })
    }

    /// Adds new messages and tells everyone.
    fn show(&mut self, batch: &[Record]) {
        if batch.is_empty() {
            return;
        }
        let modseq = self.next_modseq();
        let saved = u32::try_from(clock::seconds()).unwrap_or(0);
        let mut shown = Vec::with_capacity(batch.len());
        for record in batch {
            let record = Record { modseq, ..*record };
            // The newest shards always are in memory.
            if self.records.insert(&record, saved).is_ok() {
                shown.push(record);
            }
        }
        self.unindexed += shown.len();
        self.feed.added(&shown);
    }
}

fn fails_with(result: &io::Result<()>, kind: ErrorKind) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == kind)
}
