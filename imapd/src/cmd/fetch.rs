//! FETCH: in batches, so that memory stays the same however much is asked for.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::vec::IntoIter;

use daemon::channel::CallError;
use imap::command::{FetchItem, Numbering};
use imap::response::Code;
use imap::sequence::SequenceSet;
use ipc::cache::CacheKind;
use ipc::session::FlagChange;
use ipc::snapshot::flag;
use tracing::{error, warn};

use super::{Desk, Session, desk, no_such_number, out_of_place};
use crate::budget::Budget;
use crate::cache::summary::Summary;
use crate::cache::{self, shard};
use crate::message::{Message, without_nul};
use crate::render::{self, Job, Need, Piece, Shown};
use crate::view::number_of;
use crate::wire::{Close, Wire};
use crate::words::Tagged;

/// Messages opened together.
const BATCH: usize = 32;
/// Messages looked up in the cache together.
const LOOK_UP: usize = 256;
/// No more messages are shown before those are sent whose answers take up so much memory.
const GROUP: usize = 4 << 20;
/// Bytes of a large message copied at once.
const COPY: u64 = 128 * 1024;

/// What went wrong with single messages.
#[derive(Debug, Default)]
struct Mishaps {
    gone: bool,
    unreadable: bool,
}

impl Mishaps {
    fn note_unreadable(&mut self, uid: u32, error: &io::Error) {
        error!(uid, %error, "a message cannot be shown");
        self.unreadable = true;
    }

    /// The last line of the answer.
    fn conclude(&self, tag: &str) -> Tagged {
        if self.unreadable {
            let code = Code::ServerBug;
            return Tagged::no(tag, Some(&code), "some messages could not be read");
        }
        if self.gone {
            return Tagged::ok_with(tag, &Code::ExpungeIssued, "some messages are gone");
        }
        Tagged::ok(tag, "fetched")
    }
}

pub(super) async fn fetch(
    session: &mut Session,
    tag: &str,
    by: Numbering,
    set: &SequenceSet,
    mut items: Vec<FetchItem>,
) -> Result<Tagged, Close> {
    // RFC 3501 §6.4.8: UID FETCH answers with UIDs, asked or not.
    if by == Numbering::Uid && !items.contains(&FetchItem::Uid) {
        items.insert(0, FetchItem::Uid);
    }
    let house = Arc::clone(&session.house);
    let Some(mut desk) = desk(session) else {
        return Ok(out_of_place(tag));
    };
    let Ok(places) = desk.view.pick(by, set) else {
        return Ok(no_such_number(tag));
    };
    let mut mishaps = Mishaps::default();
    let mut places = places.into_iter().flatten();
    if render::need(&items) == Need::Nothing {
        for index in places {
            show_known(&mut desk, index, &items, &mut mishaps);
            desk.wire.flush_if_full().await?;
        }
        return Ok(mishaps.conclude(tag));
    }
    let items: Arc<[FetchItem]> = items.into();
    loop {
        let some: Vec<usize> = places.by_ref().take(LOOK_UP).collect();
        if some.is_empty() {
            break;
        }
        let mut known = look_up(&desk, &some, &items, &house.budget).await;
        for batch in batches(&desk, &some, &known) {
            let shown = show_batch(
                &mut desk,
                batch,
                &mut known,
                &items,
                &house.budget,
                &mut mishaps,
            );
            if let Err(error) = shown.await? {
                return Ok(Tagged::refused(tag, &error));
            }
            desk.give_many().await?;
        }
    }
    Ok(mishaps.conclude(tag))
}

/// What is known from earlier readings, by UID.
type Known = HashMap<u32, Summary>;

/// Looks up the messages at `some` places, where that can stand in for reading them.
async fn look_up(
    desk: &Desk<'_>,
    some: &[usize],
    items: &Arc<[FetchItem]>,
    budget: &Budget,
) -> Known {
    if !render::is_summary(items) {
        return Known::new();
    }
    let message = |index: &usize| desk.view.message(*index);
    let messages: Vec<(u32, u64)> = some
        .iter()
        .filter_map(message)
        .map(|message| (message.uid, message.size))
        .collect();
    let uids: Vec<u32> = messages.iter().map(|(uid, _)| *uid).collect();
    let validity = desk.view.uid_validity();
    let kind = CacheKind::Summary;
    let borrowed = cache::borrow(&desk.user.mail, kind, validity, uids.iter().copied()).await;
    let shards = borrowed.shards;
    if shards.is_empty() {
        return Known::new();
    }
    let items = Arc::clone(items);
    let reserved = budget.reserve(shard::MEMORY).await;
    let read = tokio::task::spawn_blocking(move || {
        let mut known = Known::with_capacity(uids.len());
        for shard in shards {
            shard.visit(&uids, |uid, entry| {
                let found = messages.binary_search_by_key(&uid, |(uid, _)| *uid).ok();
                let size = found.and_then(|at| messages.get(at)).map(|(_, size)| *size);
                let summary = size.and_then(|size| Summary::decode(entry, size));
                let summary = summary.filter(|summary| render::suffices(summary, &items));
                known.extend(summary.map(|summary| (uid, summary)));
            });
        }
        known
    });
    let known = read.await;
    drop(reserved);
    known.unwrap_or_else(|error| {
        error!(%error, "bug: reading a cache panicked");
        Known::new()
    })
}

/// `some` places, cut so that no more than [`BATCH`] messages of a piece have to be opened.
fn batches<'a>(desk: &Desk<'_>, some: &'a [usize], known: &Known) -> Vec<&'a [usize]> {
    let is_known = |index: &usize| {
        let message = desk.view.message(*index);
        message.is_some_and(|message| known.contains_key(&message.uid))
    };
    let (mut batches, mut rest) = (Vec::new(), some);
    while !rest.is_empty() {
        let mut unknown = rest
            .iter()
            .enumerate()
            .filter(|(_, index)| !is_known(index));
        let end = unknown.nth(BATCH).map_or(rest.len(), |(place, _)| place);
        let (batch, others) = rest.split_at(end);
        batches.push(batch);
        rest = others;
    }
    batches
}

/// Shows what is known without the message itself.
fn show_known(desk: &mut Desk<'_>, index: usize, items: &[FetchItem], mishaps: &mut Mishaps) {
    let Some(job) = job(desk, index, false) else {
        return;
    };
    if items.contains(&FetchItem::Flags) {
        desk.view.regard_as_told(job.uid);
    }
    let pieces = match render::render(&job, items) {
        Ok(shown) => shown.pieces,
        Err(error) => return mishaps.note_unreadable(job.uid, &error),
    };
    for piece in pieces {
        if let Piece::Bytes(bytes) = piece {
            desk.wire.out.extend(bytes);
        }
    }
}

fn job(desk: &Desk<'_>, index: usize, tell_flags: bool) -> Option<Job> {
    let record = desk.view.message(index)?;
    Some(Job {
        sequence: number_of(index),
        uid: record.uid,
        internal_date: record.internal_date,
        size: record.size,
        flags: desk.view.flags_of(record),
        tell_flags,
        message: None,
        summary: None,
    })
}

async fn show_batch(
    desk: &mut Desk<'_>,
    batch: &[usize],
    known: &mut Known,
    items: &Arc<[FetchItem]>,
    budget: &Budget,
    mishaps: &mut Mishaps,
) -> Result<Result<(), CallError>, Close> {
    let seen = mark_seen(desk, batch, items).await;
    let uid = |index: &usize| desk.view.message(*index).map(|message| message.uid);
    let uids = batch.iter().filter_map(uid);
    let uids: Vec<u32> = uids.filter(|uid| !known.contains_key(uid)).collect();
    let mut opened = Vec::new();
    if !uids.is_empty() {
        opened = match desk.user.mail.open(uids).await {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
    }
    let mut opened = opened.into_iter().peekable();
    let mut jobs = Vec::with_capacity(batch.len());
    for &index in batch {
        let Some(job) = job(desk, index, false) else {
            continue;
        };
        let uid = job.uid;
        let job = Job {
            tell_flags: seen.contains(&uid),
            summary: known.remove(&uid),
            ..job
        };
        if job.summary.is_some() {
            jobs.push(job);
            continue;
        }
        let Some((_, file)) = opened.next_if(|(found, _)| *found == uid) else {
            mishaps.gone = true;
            continue;
        };
        match Message::new(file) {
            Ok(message) => jobs.push(Job {
                message: Some(message),
                ..job
            }),
            Err(error) => mishaps.note_unreadable(uid, &error),
        }
    }
    show_jobs(desk, jobs, items, budget, mishaps).await?;
    Ok(Ok(()))
}

// RFC 3501 §6.4.5: reading a section other than with PEEK sets \Seen, and the change is told with it.
async fn mark_seen(desk: &mut Desk<'_>, batch: &[usize], items: &[FetchItem]) -> Vec<u32> {
    let marks = |item: &FetchItem| matches!(item, FetchItem::Section { peek: false, .. });
    if desk.view.read_only || !items.iter().any(marks) {
        return Vec::new();
    }
    let unseen: Vec<u32> = batch
        .iter()
        .filter_map(|index| desk.view.message(*index))
        .filter(|message| message.flags & flag::SEEN == 0)
        .map(|message| message.uid)
        .collect();
    if unseen.is_empty() {
        return unseen;
    }
    let ranges = unseen.iter().map(|uid| (*uid, *uid)).collect();
    let stored = desk
        .user
        .mail
        .store_flags(ranges, FlagChange::Add, flag::SEEN, Vec::new());
    // The message is shown all the same: not being able to note that it was read is no reason to withhold it.
    if let Err(error) = stored.await {
        warn!(%error, "messages could not be marked as seen");
    }
    desk.note_events();
    let now_seen = |uid: &u32| desk.view.has_changed(*uid);
    unseen.into_iter().filter(now_seen).collect()
}

async fn show_jobs(
    desk: &mut Desk<'_>,
    jobs: Vec<Job>,
    items: &Arc<[FetchItem]>,
    budget: &Budget,
    mishaps: &mut Mishaps,
) -> Result<(), Close> {
    let tells_flags = items.contains(&FetchItem::Flags);
    for job in &jobs {
        if tells_flags || job.tell_flags {
            desk.view.regard_as_told(job.uid);
        }
    }
    let mut jobs = jobs.into_iter();
    while !jobs.as_slice().is_empty() {
        let read = jobs.as_slice().iter().filter(|job| job.message.is_some());
        let sizes = read.map(|job| job.size);
        let memory = render::memory(render::need(items), sizes);
        let reserved = budget.reserve(memory).await;
        let items = Arc::clone(items);
        let shown = tokio::task::spawn_blocking(move || show_some(jobs, &items)).await;
        drop(reserved);
        let shown = match shown {
            Ok((shown, rest)) => {
                jobs = rest;
                shown
            }
            Err(error) => {
                error!(%error, "bug: showing messages panicked");
                mishaps.unreadable = true;
                return Ok(());
            }
        };
        for (uid, shown) in shown {
            match shown {
                Ok(Shown { pieces, note }) => {
                    send(desk.wire, pieces).await?;
                    let note = note.map(|note| (uid, note));
                    desk.view.notes.add(CacheKind::Summary, note);
                }
                Err(error) => mishaps.note_unreadable(uid, &error),
            }
        }
    }
    Ok(())
}

type Outcome = (u32, io::Result<Shown>);

/// Shows messages, until their answers fill [`GROUP`]; gives back those that are left.
fn show_some(mut jobs: IntoIter<Job>, items: &[FetchItem]) -> (Vec<Outcome>, IntoIter<Job>) {
    let (mut outcomes, mut held) = (Vec::new(), 0);
    while held < GROUP
        && let Some(job) = jobs.next()
    {
        let shown = render::render(&job, items);
        let pieces = shown.iter().flat_map(|shown| &shown.pieces);
        held += pieces.map(Piece::held).sum::<usize>();
        outcomes.push((job.uid, shown));
    }
    (outcomes, jobs)
}

async fn send(wire: &mut Wire, pieces: Vec<Piece>) -> Result<(), Close> {
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => wire.out.extend(bytes),
            Piece::Copy(message, range) => copy(wire, message, range.start, range.end).await?,
        }
        wire.flush_if_full().await?;
    }
    Ok(())
}

// The literal was announced: whatever goes wrong from here on ends the connection.
async fn copy(wire: &mut Wire, message: Message, mut start: u64, end: u64) -> Result<(), Close> {
    while start < end {
        wire.flush().await?;
        let stop = end.min(start + COPY);
        let message = message.clone();
        let mut buffer = std::mem::take(&mut wire.out);
        let read = tokio::task::spawn_blocking(move || {
            buffer.resize(usize::try_from(stop - start).unwrap_or_default(), 0);
            message.read_into(start, &mut buffer)?;
            without_nul(&mut buffer);
            Ok::<_, std::io::Error>(buffer)
        });
        wire.out = read.await.map_err(std::io::Error::other)??;
        start = stop;
    }
    wire.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use imap::command::Command;
    use std::io::Write;

    #[test]
    fn answers_wait_for_those_before_them_to_be_sent() {
        let mut file = tempfile::tempfile().unwrap();
        let field = format!("X: {}\r\n", "y".repeat(2000));
        file.write_all(field.repeat(500).as_bytes()).unwrap();
        let message = Message::new(file).unwrap();
        let job = |uid| Job {
            sequence: uid,
            uid,
            internal_date: 0,
            size: message.size(),
            flags: vec![],
            tell_flags: false,
            message: Some(message.clone()),
            summary: None,
        };
        let item = "BODY.PEEK[HEADER.FIELDS (X)]";
        let line = format!("a FETCH 1 ({})", [item; 5].join(" "));
        let Command::Fetch { items, .. } = imap::parse::request(line.as_bytes()).unwrap().command
        else {
            panic!("no fetch");
        };
        let jobs: Vec<Job> = (1..=5).map(job).collect();
        let (shown, rest) = show_some(jobs.into_iter(), &items);
        assert!(shown.iter().all(|(_, pieces)| pieces.is_ok()));
        assert_eq!((shown.len(), rest.as_slice().len()), (1, 4));
    }
}
