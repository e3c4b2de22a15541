//! What the operator sees of the queue: walks in pieces, and one message in all its detail. What is shown was read from the messages' own files, so
//! that nothing of it is kept in memory.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use daemon::channel::Answered;
use ipc::Refusal;
use ipc::control::QueueControlAnswer;
use ipc::queue_walk::{
    MessageRow, QueueFilter, QueueParty, QueueRow, QueueState, QueueView, RecipientRow,
    RecipientState, SumRow,
};
use ipc::tools::pack;
use tracing::error;

use crate::clock;
use crate::desk::{self, Desk};
use crate::queue::journal::Standing;
use crate::queue::{Message, Queue, QueueId, Recipient, State, release};
use crate::tls_required;
use crate::turns::Party;

/// Messages looked at in a piece, and how long.
const LOOKED_AT: usize = 1000;
const PIECE: Duration = Duration::from_millis(100);
/// Messages shown in a piece.
const SHOWN: usize = 200;
/// Recipients shown of a message in a walk.
const RECIPIENTS: usize = 8;
/// Octets shown of a reply, a reason, or parameters.
const MAX_TEXT: usize = 500;
/// The same where there are many.
const SHORT: usize = 200;
/// Octets of a header in a row.
const HEADER_PIECE: usize = 8192;

/// A piece of a walk.
pub(super) async fn walk(
    desk: &Desk,
    filter: QueueFilter,
    view: QueueView,
    after: Option<QueueId>,
) -> Result<Answered<QueueControlAnswer>, Refusal> {
    let page: Vec<(QueueId, bool)> = {
        let schedule = desk.schedule();
        let ids = schedule.page(after, LOOKED_AT).into_iter();
        ids.map(|id| (id, schedule.is_in_work(id))).collect()
    };
    let is_last = page.len() < LOOKED_AT;
    let looked = desk.with_queue(move |queue| look(queue, &filter, view, &page));
    let looked = looked
        .await
        .map_err(|error| desk::fault(&error, "go through the queue"))?;
    let after = match looked.cut {
        Some(last) => Some(last),
        None if is_last => None,
        None => looked.last,
    };
    answer(&looked.rows, looked.seen, after.map(|id| id.to_string()))
}

/// One message, with all its recipients, and its header if that is wanted.
pub(super) async fn show(
    desk: &Desk,
    id: QueueId,
    with_header: bool,
) -> Result<Answered<QueueControlAnswer>, Refusal> {
    let is_in_work = desk.schedule().is_in_work(id);
    let read = desk.with_queue(move |queue| {
        let message = queue.peek(id)?;
        let mut rows = vec![QueueRow::Message(message_row(id, &message, is_in_work))];
        let recipients = message.recipients.iter();
        rows.extend(recipients.map(|one| QueueRow::Recipient(recipient_row(one))));
        if with_header {
            let header = tls_required::read_header(queue.body(id)?)?;
            let pieces = header.chunks(HEADER_PIECE);
            rows.extend(pieces.map(|piece| QueueRow::Header(piece.to_vec())));
        }
        Ok(rows)
    });
    let rows = read.await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Refusal::NotFound,
        _ => desk::fault(&error, "read a message"),
    })?;
    answer(&rows, 1, None)
}

/// Rows in a file of their own.
pub(super) fn answer(
    rows: &[QueueRow],
    seen: usize,
    after: Option<String>,
) -> Result<Answered<QueueControlAnswer>, Refusal> {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let answer = QueueControlAnswer::QueueWalked {
        seen: count(seen),
        rows: count(rows.len()),
        after,
    };
    if rows.is_empty() {
        return Ok(Answered::plain(answer));
    }
    Ok(Answered::with(answer, vec![file_of(rows)?]))
}

pub(super) fn file_of(rows: &[QueueRow]) -> Result<std::os::fd::OwnedFd, Refusal> {
    let packed = pack(rows).map_err(|error| {
        error!(%error, "bug: a row about the queue does not fit into a frame");
        Refusal::StorageFault
    })?;
    sys::memfd::sealed("queue", &packed).map_err(|error| desk::fault(&error, "make a memory file"))
}

/// What was seen.
struct Looked {
    rows: Vec<QueueRow>,
    seen: usize,
    /// The last one that was looked at.
    last: Option<QueueId>,
    /// The same, if not all were.
    cut: Option<QueueId>,
}

fn look(
    queue: &Queue,
    filter: &QueueFilter,
    view: QueueView,
    page: &[(QueueId, bool)],
) -> io::Result<Looked> {
    let (begun, now) = (Instant::now(), clock::now());
    let mut looked = Looked {
        rows: Vec::new(),
        seen: 0,
        last: None,
        cut: None,
    };
    let mut sums = BTreeMap::new();
    let mut shown = 0;
    for (id, is_in_work) in page {
        if shown >= SHOWN || looked.seen > 0 && begun.elapsed() >= PIECE {
            looked.cut = looked.last;
            break;
        }
        looked.seen += 1;
        looked.last = Some(*id);
        if view == QueueView::Ids && *filter == QueueFilter::default() {
            looked.rows.push(QueueRow::Id(id.to_string()));
            continue;
        }
        let message = match queue.peek(*id) {
            Ok(message) => message,
            // It was delivered meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                error!(%id, %error, "a message is passed over because it cannot be read");
                continue;
            }
        };
        if !matches(filter, &message, now) {
            continue;
        }
        match view {
            QueueView::Ids => looked.rows.push(QueueRow::Id(id.to_string())),
            QueueView::Sums => add_up(&mut sums, &message, *is_in_work),
            QueueView::Messages => {
                shown += 1;
                let row = message_row(*id, &message, *is_in_work);
                looked.rows.push(QueueRow::Message(row));
                let waiting = message.waiting().take(RECIPIENTS);
                let waiting = waiting.map(|(_, one)| QueueRow::Recipient(recipient_row(one)));
                looked.rows.extend(waiting);
            }
        }
    }
    looked.rows.extend(sums.into_values().map(QueueRow::Sum));
    Ok(looked)
}

/// How a message stands.
fn state(message: &Message, now: i64) -> QueueState {
    let is_tried = |(_, recipient): (usize, &Recipient)| recipient.attempts > 0;
    if message.waiting().next().is_none() {
        QueueState::Reporting
    } else if message.in_quarantine {
        QueueState::Quarantined
    } else if message.hold.is_some() {
        QueueState::Held
    } else if release(&message.parameters, message.header.queued) > now {
        QueueState::Scheduled
    } else if message.waiting().any(is_tried) {
        QueueState::Deferred
    } else {
        QueueState::New
    }
}

fn matches(filter: &QueueFilter, message: &Message, now: i64) -> bool {
    let QueueFilter {
        sender,
        recipient,
        destination,
        tenant,
        account,
        state: wanted,
        older,
        younger,
        larger,
        smaller,
    } = filter;
    let age = u64::try_from(now.saturating_sub(message.header.queued)).unwrap_or(0);
    let size = message.header.size;
    let party = match &message.header.party {
        Party::Tenant(name) => Some(name),
        Party::Domain(_) | Party::Nobody => None,
    };
    let any =
        |is_meant: &dyn Fn(&Recipient) -> bool| message.waiting().any(|(_, one)| is_meant(one));
    wanted.is_none_or(|wanted| state(message, now) == wanted)
        && older.is_none_or(|older| age >= older)
        && younger.is_none_or(|younger| age < younger)
        && larger.is_none_or(|larger| size >= larger)
        && smaller.is_none_or(|smaller| size < smaller)
        && tenant.as_ref().is_none_or(|tenant| party == Some(tenant))
        && account.as_ref().is_none_or(|account| {
            let owner = message.header.account.as_ref();
            owner.is_some_and(|owner| owner.to_lowercase() == account.to_lowercase())
        })
        && sender
            .as_ref()
            .is_none_or(|sender| is_address(&message.header.reverse_path, sender))
        && recipient
            .as_ref()
            .is_none_or(|wanted| any(&|one| is_address(&one.address.to_string(), wanted)))
        && destination.as_ref().is_none_or(|wanted| {
            any(&|one| destination_of(message, one).eq_ignore_ascii_case(wanted))
        })
}

/// Whether that is the address, or one of the domain (`@example.org`), that is wanted.
fn is_address(address: &str, wanted: &str) -> bool {
    let (address, wanted) = (address.to_lowercase(), wanted.to_lowercase());
    match wanted.starts_with('@') {
        true => address.ends_with(&wanted),
        false => address == wanted,
    }
}

fn destination_of(message: &Message, recipient: &Recipient) -> String {
    match (&message.route, recipient.standing) {
        (_, Standing::Here) => "here".into(),
        (Some(route), _) => route.to_string(),
        (None, _) => recipient.address.domain().to_string(),
    }
}

fn add_up(sums: &mut BTreeMap<(QueueParty, String), SumRow>, message: &Message, is_in_work: bool) {
    let mut places: Vec<(String, &Recipient)> = Vec::new();
    for (_, recipient) in message.waiting() {
        let place = destination_of(message, recipient);
        if places.iter().all(|(known, _)| *known != place) {
            places.push((place, recipient));
        }
    }
    let party = party(&message.header.party);
    for (place, recipient) in places {
        let sum = sums
            .entry((party.clone(), place.clone()))
            .or_insert_with(|| SumRow {
                party: party.clone(),
                destination: place,
                messages: 0,
                bytes: 0,
                in_work: 0,
                deferred: 0,
                held: 0,
                oldest: i64::MAX,
                reply: String::new(),
            });
        sum.messages += 1;
        sum.bytes = sum.bytes.saturating_add(message.header.size);
        sum.in_work += u64::from(is_in_work);
        sum.deferred += u64::from(recipient.attempts > 0);
        sum.held += u64::from(message.hold.is_some());
        sum.oldest = sum.oldest.min(message.header.queued);
        if let Some(last) = &recipient.last {
            sum.reply = cut(&last.text, SHORT);
        }
    }
}

fn party(party: &Party) -> QueueParty {
    match party {
        Party::Tenant(name) => QueueParty::Tenant(name.clone()),
        Party::Domain(name) => QueueParty::Domain(name.clone()),
        Party::Nobody => QueueParty::Nobody,
    }
}

fn message_row(id: QueueId, message: &Message, is_in_work: bool) -> MessageRow {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    MessageRow {
        queue_id: id.to_string(),
        reverse_path: message.header.reverse_path.clone(),
        account: message.header.account.clone(),
        party: party(&message.header.party),
        state: state(message, clock::now()),
        is_in_work,
        size: message.header.size,
        queued: message.header.queued,
        next: message.next_due().filter(|next| *next != i64::MAX),
        hold: message.hold.as_deref().map(|hold| cut(hold, SHORT)),
        route: message.route.as_ref().map(ToString::to_string),
        parameters: cut(&message.header.parameters, MAX_TEXT),
        recipients: count(message.recipients.len()),
        waiting: count(message.waiting().count()),
    }
}

fn recipient_row(recipient: &Recipient) -> RecipientRow {
    let last = recipient.last.as_ref();
    RecipientRow {
        address: recipient.address.to_string(),
        state: match recipient.state {
            State::Waiting(next) => RecipientState::Waiting(next),
            State::Delivered | State::Succeeded => RecipientState::Delivered,
            State::Failed => RecipientState::Failed,
            State::Reported => RecipientState::Over,
        },
        attempts: recipient.attempts,
        reply: last.map_or_else(String::new, |last| cut(&last.text, MAX_TEXT)),
        status: last.map_or_else(String::new, |last| last.status.clone()),
        host: last.and_then(|last| last.host.clone()),
        parameters: cut(&recipient.parameters.to_string(), MAX_TEXT),
    }
}

fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}
