//! Reading a mailbox that is not in memory: from the index as far as that fits, from the files otherwise.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use ipc::Refusal;
use ipc::snapshot::Record;
use tracing::{info, warn};

use super::disk::{Dir, Look};
use super::ids;
use super::index::{Pages, Table};
use super::mailbox::{LongReading, Mailbox, State, Totals};
use super::message_file::{self, shard_of};
use super::records::Records;
use super::refresh::Stray;
use super::status::Status;
use crate::clock;
use crate::fault::OrFault;

/// How often a name is looked for that somebody changes all the time.
const RENAMES: usize = 100;
/// With more shards than this, those that nobody needs at once are compared with their directories later: each costs a read of the
/// disk.
pub(super) const SHARDS_AT_ONCE: usize = 64;

impl Mailbox {
    /// Reads the mailbox, and gives files made by hand a UID. `modseq`: the highest one it had in this life of the process. If it may
    /// not take long and would, it is [`Refusal::Busy`].
    pub(super) fn read(
        self: &Arc<Self>,
        modseq: Option<u64>,
        may_take_long: bool,
    ) -> Result<State, Refusal> {
        let given = self.shared.journal.given();
        let dir = self.dir().or_fault("open a mailbox")?;
        let status = read_status(&dir)?;
        let table = Table::read(&dir, status.uid_validity);
        let is_indexed = table.is_some();
        let indexed_modseq = table.as_ref().map_or(0, |table| table.modseq);
        let mut state = from_table(status, table, given);
        state.modseq = state.modseq.max(modseq.unwrap_or(0));
        // The index knows everything, the last modification sequence too, if nothing happened behind its back.
        state.is_current = is_indexed && (self.shared.was_stopped || modseq.is_some());
        self.find_shards(&mut state, &dir)?;
        // A line without a message must not stick to another one.
        match ids::above(&dir, state.status.id(), state.uid_next) {
            Ok(above) => state.uid_next = above,
            Err(error) => {
                warn!(mailbox = self.path(), %error, "ids cannot be read; the messages can");
            }
        }
        let newest = shard_of(state.uid_next.max(2) - 1);
        let shards: Vec<u32> = state.records.shards().map(|(shard, _)| shard).collect();
        let has_few = shards.len() <= SHARDS_AT_ONCE;
        let unknown = state.records.shards();
        let unknown = unknown.filter(|(_, known)| known.kept.is_none()).count();
        let takes_long = unknown > SHARDS_AT_ONCE;
        if takes_long && !may_take_long {
            return Err(Refusal::Busy);
        }
        let _long = takes_long.then(|| {
            info!(
                mailbox = self.path(),
                shards = unknown,
                "reading a large mailbox that has no index"
            );
            LongReading::begin(self)
        });
        let mut strays = Vec::<Stray>::new();
        for shard in &shards {
            // The newest have to be in memory, so that messages can be added.
            let is_newest = *shard >= newest || shards.last() == Some(shard);
            if is_newest {
                self.bring(&mut state, &dir, *shard);
            }
            let known = state.records.shard(*shard);
            let can_wait =
                !has_few && !is_newest && known.is_some_and(|known| known.kept.is_some());
            if can_wait {
                continue;
            }
            self.compare(&mut state, &dir, *shard, &mut strays)?;
        }
        self.adopt(&mut state, &dir, strays)?;
        state.is_reading = false;
        if !state.is_current {
            state.modseq = state.modseq.max(clock::micros());
        }
        if state.modseq != indexed_modseq {
            // It will be told, so it must not be forgotten.
            state.unindexed += 1;
        }
        if state.records.shards().any(|(_, known)| !known.is_verified) {
            self.shared.compare_soon(Arc::clone(self));
        }
        Ok(state)
    }

    /// Message count and bytes as the index has them; `None` if that cannot be relied on.
    pub(super) fn indexed_totals(&self) -> Option<Totals> {
        let dir = self.dir().ok().filter(|_| self.shared.was_stopped)?;
        let status = Status::read(&dir).ok()??;
        Table::read(&dir, status.uid_validity).map(|table| table.totals())
    }
}

fn from_table(status: Status, table: Option<Table>, given: u64) -> State {
    let floor = status.modseq_floor;
    let mut state = State::new(status, given);
    state.modseq = floor;
    let Some(mut table) = table else {
        state.gone_since(clock::micros().max(floor));
        return state;
    };
    let (records, pages): (Records, Pages) = table.records();
    state.records = records;
    state.pages = pages;
    state.indexed_below = table.uid_next;
    state.indexed_at = table.written;
    state.uid_next = state.uid_next.max(table.uid_next);
    state.modseq = state.modseq.max(table.modseq);
    state.keywords = table.keywords.into_iter().collect();
    state.seen = table.seen;
    state.gone = table.gone;
    state
}

fn read_status(mailbox: &Dir) -> Result<Status, Refusal> {
    let known = Status::read(mailbox).or_fault("read status.json")?;
    if let Some(mut status) = known {
        if status.give_id() {
            status.write(mailbox).or_fault("write status.json")?;
        }
        return Ok(status);
    }
    // Unix time is above every UIDVALIDITY given before, so clients forget what they knew.
    let status = Status::new(u32::try_from(clock::seconds()).unwrap_or(u32::MAX), None);
    warn!(
        uid_validity = status.uid_validity,
        "a mailbox had no readable status.json and got a new UIDVALIDITY"
    );
    status.write(mailbox).or_fault("write status.json")?;
    Ok(status)
}

/// Looks at a message that was listed with these flags and that name. It may have got another name since: what is skipped then would
/// be found again under a UID that was given, and get another one. `None` if it is gone.
pub(super) fn look(
    shard: &Dir,
    uid: u32,
    (mut flags, name): (u8, &str),
) -> io::Result<Option<(u8, Look)>> {
    let mut name = name.to_owned();
    for _ in 0..RENAMES {
        match shard.look(&name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            look => return look.map(|look| Some((flags, look))),
        }
        let entries = shard.entries()?.into_iter();
        let mut others = entries.filter(|entry| entry.is_file).filter_map(|entry| {
            let (found, flags) = message_file::parse(&entry.name)?;
            (found == uid).then_some((flags, entry.name))
        });
        let Some(other) = others.next() else {
            return Ok(None);
        };
        (flags, name) = other;
    }
    Err(rustix::io::Errno::BUSY.into())
}

/// A message as its file tells, which does not know its modification sequence: what changed there and back is not in its name, nor
/// a keyword that was taken away again in any file.
pub(super) fn record(uid: u32, flags: u8, look: &Look, modseq: u64) -> Record {
    Record {
        uid,
        flags,
        keywords: 0,
        size: look.size,
        internal_date: look.modified.0,
        modseq,
    }
}
