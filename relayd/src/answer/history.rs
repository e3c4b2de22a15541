//! What the operator hears of what happened to messages.

use daemon::channel::Answered;
use ipc::Refusal;
use ipc::control::QueueControlAnswer;
use ipc::queue_walk::{EventRow, HistoryPlace, QueueEvent, QueueRow, TriedOutcome};

use super::walk::file_of;
use crate::desk::{self, Desk};
use crate::queue::history::{Ending, Event, Place, What};
use crate::queue::journal::Fate;

/// Octets of what is looked for: an address has no more.
const MAX_ABOUT: usize = 512;

/// A piece of it.
pub(super) async fn read(
    desk: &Desk,
    from: Option<HistoryPlace>,
    about: Option<String>,
) -> Result<Answered<QueueControlAnswer>, Refusal> {
    if about.as_ref().is_some_and(|about| about.len() > MAX_ABOUT) {
        return Err(Refusal::Invalid(format!(
            "no more than {MAX_ABOUT} octets can be looked for"
        )));
    }
    let from = from.map(|place| Place {
        file: place.file,
        offset: place.offset,
    });
    let read = desk.with_queue(move |queue| queue.history(from, about.as_deref()));
    let piece = read
        .await
        .map_err(|error| desk::fault(&error, "read the history"))?;
    let rows: Vec<_> = piece.events.into_iter().filter_map(row).collect();
    let answer = QueueControlAnswer::History {
        rows: u32::try_from(rows.len()).unwrap_or(u32::MAX),
        next: HistoryPlace {
            file: piece.next.file,
            offset: piece.next.offset,
        },
        more: piece.more,
    };
    if rows.is_empty() {
        return Ok(Answered::plain(answer));
    }
    Ok(Answered::with(answer, vec![file_of(&rows)?]))
}

fn row(event: Event) -> Option<QueueRow> {
    let what = match event.what {
        What::Queued {
            account,
            size,
            recipients,
        } => QueueEvent::Queued {
            account,
            size,
            recipients: u32::try_from(recipients).unwrap_or(u32::MAX),
        },
        What::Tried {
            to,
            fate,
            status,
            text,
            host,
        } => QueueEvent::Tried {
            recipient: to,
            outcome: match fate {
                Fate::Delivered | Fate::Relayed => TriedOutcome::Delivered,
                Fate::Deferred { .. } => TriedOutcome::Deferred,
                Fate::Failed => TriedOutcome::Failed,
            },
            status,
            reply: text,
            host,
        },
        What::Ended(Ending::Done) => QueueEvent::Done,
        What::Ended(Ending::Removed) => QueueEvent::Removed,
        What::Ended(Ending::Expired) => QueueEvent::Expired,
        What::Ended(Ending::Refused) => return None,
    };
    Some(QueueRow::Event(EventRow {
        at: event.at,
        queue_id: event.id,
        reverse_path: event.from,
        event: what,
    }))
}
