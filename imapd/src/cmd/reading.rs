//! Looking at many messages: at what is kept about them, and at their files where nothing is.

use std::collections::HashMap;
use std::io;

use daemon::channel::CallError;
use ipc::Refusal;
use ipc::cache::CacheKind;
use ipc::snapshot::Record;
use mail::mime;
use tracing::error;

use super::Desk;
use crate::budget::Budget;
use crate::cache::notes::Entry;
use crate::cache::shard;
use crate::cache::summary::{Extent, Summary};
use crate::cache::{self, Borrowed, READ_WHOLE};
use crate::message::Message;
use crate::render::{self, Need};
use crate::wire::Close;

/// Messages opened together.
pub(super) const BATCH: usize = 32;
/// Messages looked up in the cache together.
pub(super) const LOOK_UP: usize = 1000;

/// Does blocking work on a thread for it.
pub(super) async fn work<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CallError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        error!(%error, "bug: looking at messages panicked");
        CallError::Refused(Refusal::StorageFault)
    })
}

impl Desk<'_> {
    /// Looks at what is kept about the messages `uids`, which ascend.
    pub(super) async fn look_up<T: Send + 'static>(
        &self,
        budget: &Budget,
        kind: CacheKind,
        uids: impl Iterator<Item = u32>,
        look: impl FnOnce(&Borrowed) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let validity = self.view.uid_validity();
        let borrowed = cache::borrow(&self.user.mail, kind, validity, uids).await;
        let reserved = budget.reserve(shard::MEMORY).await;
        let seen = work(move || look(&borrowed)).await;
        drop(reserved);
        seen
    }

    /// Looks at the files of messages, of which so much is needed. Those that are gone are missing.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        budget: &Budget,
        need: Need,
        records: impl Iterator<Item = Record>,
        mut look: impl FnMut(u32, &Message) -> io::Result<T> + Send + 'static,
    ) -> Result<Vec<(u32, io::Result<T>)>, CallError> {
        let (uids, sizes): (Vec<u32>, Vec<u64>) =
            records.map(|record| (record.uid, record.size)).unzip();
        let opened = self.user.mail.open(uids).await?;
        let memory = render::memory(need, sizes.into_iter());
        let reserved = budget.reserve(memory).await;
        let read = work(move || {
            let look = |(uid, file)| {
                let message = Message::new(file);
                (uid, message.and_then(|message| look(uid, &message)))
            };
            opened.into_iter().map(look).collect()
        });
        let read = read.await;
        drop(reserved);
        read
    }
}

/// Gathers something about messages from their summaries.
pub(super) struct Survey<'a, F> {
    pub(super) budget: &'a Budget,
    pub(super) look: F,
    /// A message could not be read.
    pub(super) unreadable: bool,
}

impl<T, F> Survey<'_, F>
where
    T: Send + 'static,
    F: Fn(&Record, &Summary<'_>) -> T + Clone + Send + 'static,
{
    /// What there is to be said of these messages, which ascend, by UID. Those that are gone or unreadable are missing.
    pub(super) async fn of(
        &mut self,
        desk: &mut Desk<'_>,
        some: &[Record],
    ) -> Result<Result<HashMap<u32, T>, CallError>, Close> {
        let (records, look) = (some.to_vec(), self.look.clone());
        let uids = some.iter().map(|record| record.uid);
        let see = move |borrowed: &Borrowed| (see(borrowed, &records, look), borrowed.is_kept);
        let seen = desk.look_up(self.budget, CacheKind::Summary, uids, see);
        let (mut seen, is_kept) = match seen.await {
            Ok(seen) => seen,
            Err(error) => return Ok(Err(error)),
        };
        let unseen = some.iter().filter(|record| !seen.contains_key(&record.uid));
        let unseen: Vec<Record> = unseen.copied().collect();
        for batch in unseen.chunks(BATCH) {
            match self.read(desk, batch, is_kept).await {
                Ok(read) => seen.extend(read),
                Err(error) => return Ok(Err(error)),
            }
            desk.give_many().await?;
        }
        Ok(Ok(seen))
    }

    async fn read(
        &mut self,
        desk: &mut Desk<'_>,
        batch: &[Record],
        is_kept: bool,
    ) -> Result<Vec<(u32, T)>, CallError> {
        let (records, look) = (batch.to_vec(), self.look.clone());
        let read = move |uid, message: &Message| {
            let place = records.binary_search_by_key(&uid, |record| record.uid);
            let record = place.ok().and_then(|place| records.get(place));
            let record = record.ok_or(io::ErrorKind::NotFound)?;
            let (summary, note) = summary(record, message, is_kept)?;
            Ok((look(record, &summary), note))
        };
        let records = batch.iter().copied();
        let read = desk.read(self.budget, Need::Header, records, read).await?;
        let mut seen = Vec::with_capacity(read.len());
        for (uid, outcome) in read {
            match outcome {
                Ok((what, note)) => {
                    seen.push((uid, what));
                    desk.view.notes.add(CacheKind::Summary, note);
                }
                Err(error) => {
                    error!(uid, %error, "a message cannot be looked at");
                    self.unreadable = true;
                }
            }
        }
        Ok(seen)
    }
}

/// What there is to be said of those messages of which something is kept.
fn see<T>(
    borrowed: &Borrowed,
    records: &[Record],
    look: impl Fn(&Record, &Summary<'_>) -> T,
) -> HashMap<u32, T> {
    let uids: Vec<u32> = records.iter().map(|record| record.uid).collect();
    let mut seen = HashMap::with_capacity(uids.len());
    for shard in &borrowed.shards {
        shard.visit(&uids, |uid, entry| {
            let place = uids.binary_search(&uid).ok();
            let record = place.and_then(|place| records.get(place));
            if let Some(record) = record
                && let Some(summary) = Summary::decode(entry, record.size)
            {
                seen.insert(uid, look(record, &summary));
            }
        });
    }
    seen
}

/// Works out the summary of a message, and what of it can be kept.
fn summary(
    record: &Record,
    message: &Message,
    is_kept: bool,
) -> io::Result<(Summary<'static>, Option<Entry>)> {
    let (bytes, extent) = match is_kept && message.size() <= READ_WHOLE {
        true => (message.read_whole()?, Extent::Whole),
        false => (message.read_header()?, Extent::Header),
    };
    let summary = Summary::of(&mime::Message::walk(&bytes), extent, record.size);
    let note = summary.encode().filter(|_| is_kept);
    Ok((summary, note.map(|note| (record.uid, note))))
}
