//! FETCH: in batches, so that memory stays the same however much is asked for.

use std::sync::Arc;

use imap::command::{FetchItem, Numbering};
use imap::response::Code;
use imap::sequence::SequenceSet;
use ipc::session::FlagChange;
use ipc::snapshot::flag;
use tracing::{error, warn};

use super::{Desk, Session, desk, no_such_number, out_of_place};
use crate::budget::Budget;
use crate::message::{Message, without_nul};
use crate::render::{self, Job, Need, Piece};
use crate::view::number_of;
use crate::wire::{Close, Wire};
use crate::words::Tagged;

/// Messages opened together.
const BATCH: usize = 32;
/// Messages shown together are not larger than this in sum, unless one alone is.
const GROUP: u64 = 4 << 20;
/// Bytes of a large message copied at once.
const COPY: u64 = 128 * 1024;

/// What went wrong with single messages.
#[derive(Debug, Default)]
struct Mishaps {
    gone: bool,
    unreadable: bool,
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
            show_known(&mut desk, index, &items);
            desk.wire.flush_if_full().await?;
        }
        return Ok(Tagged::ok(tag, "fetched"));
    }
    let items: Arc<[FetchItem]> = items.into();
    loop {
        let batch: Vec<usize> = places.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        if let Err(error) =
            show_batch(&mut desk, &batch, &items, &house.budget, &mut mishaps).await?
        {
            return Ok(Tagged::refused(tag, &error));
        }
    }
    Ok(match mishaps {
        Mishaps {
            unreadable: true, ..
        } => Tagged::no(
            tag,
            Some(&Code::ServerBug),
            "some messages could not be read",
        ),
        Mishaps { gone: true, .. } => {
            Tagged::ok_with(tag, &Code::ExpungeIssued, "some messages are gone")
        }
        Mishaps { .. } => Tagged::ok(tag, "fetched"),
    })
}

/// Shows what is known without the message itself.
fn show_known(desk: &mut Desk<'_>, index: usize, items: &[FetchItem]) {
    let Some(job) = job(desk, index, false, None) else {
        return;
    };
    if items.contains(&FetchItem::Flags) {
        desk.view.regard_as_told(job.uid);
    }
    // Nothing is read, so nothing can fail.
    for piece in render::render(&job, items).unwrap_or_default() {
        if let Piece::Bytes(bytes) = piece {
            desk.wire.out.extend(bytes);
        }
    }
}

fn job(desk: &Desk<'_>, index: usize, tell_flags: bool, message: Option<Message>) -> Option<Job> {
    let record = desk.view.message(index)?;
    Some(Job {
        sequence: number_of(index),
        uid: record.uid,
        internal_date: record.internal_date,
        size: record.size,
        flags: desk.view.flags_of(record),
        tell_flags,
        message,
    })
}

async fn show_batch(
    desk: &mut Desk<'_>,
    batch: &[usize],
    items: &Arc<[FetchItem]>,
    budget: &Budget,
    mishaps: &mut Mishaps,
) -> Result<Result<(), daemon::channel::CallError>, Close> {
    let seen = mark_seen(desk, batch, items).await;
    let uid = |index: &usize| desk.view.message(*index).map(|message| message.uid);
    let uids: Vec<u32> = batch.iter().filter_map(uid).collect();
    let opened = match desk.user.mail.open(uids).await {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(error)),
    };
    let mut opened = opened.into_iter().peekable();
    let mut jobs = Vec::with_capacity(batch.len());
    for &index in batch {
        let Some(uid) = desk.view.message(index).map(|message| message.uid) else {
            continue;
        };
        let Some((_, file)) = opened.next_if(|(found, _)| *found == uid) else {
            mishaps.gone = true;
            continue;
        };
        match Message::new(file) {
            Ok(message) => jobs.extend(job(desk, index, seen.contains(&uid), Some(message))),
            Err(error) => {
                error!(uid, %error, "a message cannot be looked at");
                mishaps.unreadable = true;
            }
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
    let mut jobs = jobs.into_iter().peekable();
    while let Some(first) = jobs.next() {
        let mut size = first.size;
        let mut group = vec![first];
        while let Some(job) = jobs.next_if(|job| size + job.size <= GROUP) {
            size += job.size;
            group.push(job);
        }
        for job in &group {
            if tells_flags || job.tell_flags {
                desk.view.regard_as_told(job.uid);
            }
        }
        show_group(desk.wire, group, items, budget, mishaps).await?;
    }
    Ok(())
}

async fn show_group(
    wire: &mut Wire,
    group: Vec<Job>,
    items: &Arc<[FetchItem]>,
    budget: &Budget,
    mishaps: &mut Mishaps,
) -> Result<(), Close> {
    let sizes = group.iter().map(|job| job.size);
    let memory = render::memory(render::need(items), sizes);
    let reserved = budget.reserve(memory).await;
    let items = Arc::clone(items);
    let work = move || -> Vec<_> {
        let show = |job: Job| (job.uid, render::render(&job, &items));
        group.into_iter().map(show).collect()
    };
    let shown = match tokio::task::spawn_blocking(work).await {
        Ok(shown) => shown,
        Err(error) => {
            error!(%error, "bug: showing messages panicked");
            mishaps.unreadable = true;
            return Ok(());
        }
    };
    drop(reserved);
    for (uid, pieces) in shown {
        match pieces {
            Ok(pieces) => send(wire, pieces).await?,
            Err(error) => {
                error!(uid, %error, "a message cannot be shown");
                mishaps.unreadable = true;
            }
        }
    }
    Ok(())
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
