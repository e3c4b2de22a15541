//! SELECT: what a mailbox adds up to at one moment, and from then on what happens to it. Its messages are read later, a few pages at
//! a time, as they are then; who selected it knows from the events what they were.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ipc::Refusal;
use ipc::session::MailboxStatus;
use ipc::snapshot::{RECORD_LEN, ShardCount, flag};

use super::feed::{Listener, Selection};
use super::mailbox::{Mailbox, Slot, State};
use super::message_file;
use super::records::Shard;

/// A large mailbox that is selected again and again is compared with its files no more often than this.
const LOOK_PAUSE: Duration = Duration::from_secs(10);

/// A mailbox as SELECT hands it out.
pub(crate) struct Selected {
    pub(crate) selection: Selection,
    pub(crate) status: MailboxStatus,
    /// The number of the first message without `\Seen`; 0 if there is none.
    pub(crate) first_unseen: u32,
    pub(crate) keywords: Vec<String>,
    /// The shards that have messages, ascending.
    pub(crate) shards: Vec<ShardCount>,
}

impl Mailbox {
    /// Counters and change feed: `listener` hears exactly what happens after these.
    pub(crate) fn select(
        self: &Arc<Self>,
        listener: Arc<dyn Listener>,
    ) -> Result<Selected, Refusal> {
        self.with(|state| {
            self.refresh(state)?;
            self.need_sums(state)?;
            let first_unseen = self.first_unseen(state)?;
            let shards = state.records.shards();
            let shards = shards.map(|(shard, known)| count(shard, Some(known)));
            Ok(Selected {
                first_unseen,
                shards: shards.filter(|line| line.messages != 0).collect(),
                status: state.counters(),
                keywords: state.keywords.names().to_vec(),
                selection: state.feed.add(listener),
            })
        })
    }

    /// All messages.
    #[cfg(test)]
    pub(crate) fn records(self: &Arc<Self>) -> Result<Vec<ipc::snapshot::Record>, Refusal> {
        self.with(|state| {
            self.need_pages(state, &super::feed::all())?;
            Ok(state.records.iter().collect())
        })
    }

    /// Ends a selection.
    pub(crate) fn unselect(self: &Arc<Self>, selection: Selection) {
        if let Slot::Loaded(state) = &mut *self.lock() {
            state.feed.remove(selection);
            self.shared
                .cache
                .loosen(self.weight.load(Ordering::Relaxed));
        }
    }

    /// The messages of some shards as they are now: how many each has, and their records one behind the other.
    pub(crate) fn read_pages(
        self: &Arc<Self>,
        shards: &[u32],
    ) -> Result<(Vec<ShardCount>, Vec<u8>), Refusal> {
        self.with(|state| {
            let uids = shards.iter().copied().flat_map(message_file::uids_of);
            self.need_pages(state, &uids.collect())?;
            let known = |shard: &u32| count(*shard, state.records.shard(*shard));
            let counts: Vec<ShardCount> = shards.iter().map(known).collect();
            let messages: usize = counts.iter().map(|line| usize::from(line.messages)).sum();
            let mut bytes = Vec::with_capacity(messages * RECORD_LEN);
            for record in shards
                .iter()
                .flat_map(|shard| state.records.in_shard(*shard))
            {
                bytes.extend_from_slice(&record.to_bytes());
            }
            Ok((counts, bytes))
        })
    }

    /// Whether it is time to compare a large mailbox with its files; notes that it is done.
    pub(super) fn is_due(state: &mut State) -> bool {
        let is_due = state
            .looked_at
            .is_none_or(|looked_at| looked_at.elapsed() >= LOOK_PAUSE);
        if is_due {
            state.looked_at = Some(Instant::now());
        }
        is_due
    }

    /// Reads the shards of which neither memory nor the index knows what they add up to.
    fn need_sums(self: &Arc<Self>, state: &mut State) -> Result<(), Refusal> {
        let is_unknown = |known: &Shard| known.page().is_none() && known.kept.is_none();
        let unknown = state.records.shards();
        let unknown = unknown.filter(|(_, known)| is_unknown(known));
        let uids = unknown.flat_map(|(shard, _)| message_file::uids_of(shard));
        let uids = uids.collect();
        self.need_pages(state, &uids)
    }

    fn first_unseen(self: &Arc<Self>, state: &mut State) -> Result<u32, Refusal> {
        while let Some((shard, before)) = state.records.first_unseen() {
            let is_here = state.records.shard(shard);
            if is_here.is_some_and(|known| known.page().is_some()) {
                let mut messages = state.records.in_shard(shard);
                let place = messages.position(|record| record.flags & flag::SEEN == 0);
                let place = place.and_then(|place| u32::try_from(place).ok());
                return Ok(place.map_or(0, |place| before + place + 1));
            }
            // It may turn out to have none: then the next one is looked at.
            self.need_pages(state, &message_file::uids_of(shard))?;
        }
        Ok(0)
    }
}

fn count(shard: u32, known: Option<&Shard>) -> ShardCount {
    let messages = known.map_or(0, |known| known.sums().messages);
    ShardCount {
        shard,
        messages: u16::try_from(messages).unwrap_or(u16::MAX),
        modseq: known.map_or(0, Shard::modseq),
    }
}
