//! What the operator may do with a message besides hurrying, holding and removing it: give it up, and send it another way.

use ipc::Refusal;
use tracing::info;

use crate::clock;
use crate::desk::{self, Desk};
use crate::detour::Detour;
use crate::queue::journal::{Attempted, Fate, Outcome, Record};
use crate::queue::{Message, QueueId};

/// RFC 3463 §3.8: not by fault of anybody, but because somebody here does not want it to go on.
const STATUS: &str = "5.7.1";

/// Gives up all recipients that wait. Their sender is told.
pub(super) async fn bounce(desk: &Desk, id: QueueId) -> Result<(), Refusal> {
    let message = read(desk, id).await?;
    if message.in_quarantine {
        return Err(Refusal::Invalid(
            "it is in quarantine, and its sender may be anybody: release it first if he is to hear of it, or remove it".into(),
        ));
    }
    // What is said to the server at this moment would be true as well.
    if desk.schedule().is_in_work(id) {
        return Err(Refusal::Busy);
    }
    let results: Vec<_> = message
        .waiting()
        .filter_map(|(place, _)| {
            Some(Outcome {
                recipient: u32::try_from(place).ok()?,
                fate: Fate::Failed,
                status: STATUS.into(),
                text: "given up by the operator of this server".into(),
                remote: false,
                host: None,
            })
        })
        .collect();
    let failed = results.len() as u64;
    if !results.is_empty() {
        let at = clock::now();
        append(desk, id, Record::Attempted(Attempted { at, results })).await?;
        desk.count(0, failed);
    }
    // Only now: what is held and has nobody who waits goes nowhere.
    if message.hold.is_some() {
        append(desk, id, Record::Released).await?;
    }
    desk.schedule().postpone(id, clock::now());
    desk.bell.notify_one();
    info!(%id, recipients = failed, "given up by the operator");
    Ok(())
}

/// Has a message go to that server, or again where its recipients' domains say; now, unless it is held.
pub(super) async fn reroute(desk: &Desk, id: QueueId, server: Option<&str>) -> Result<(), Refusal> {
    let route = server
        .map(|server| {
            Detour::parse(server)
                .ok_or_else(|| Refusal::Invalid(format!("\"{server}\" is no HOST or HOST:PORT")))
        })
        .transpose()?;
    read(desk, id).await?;
    let text = route.as_ref().map(ToString::to_string);
    append(desk, id, Record::Rerouted(text)).await?;
    desk.schedule().hurry(id, clock::now());
    desk.bell.notify_one();
    info!(%id, server, "rerouted by the operator");
    Ok(())
}

async fn read(desk: &Desk, id: QueueId) -> Result<Message, Refusal> {
    if !desk.schedule().contains(id) {
        return Err(Refusal::NotFound);
    }
    let read = desk.with_queue(move |queue| queue.peek(id)).await;
    read.map_err(|error| gone(&error, "read a message"))
}

/// Writes down what the operator wants.
pub(super) async fn append(desk: &Desk, id: QueueId, record: Record) -> Result<(), Refusal> {
    let append = move |queue: &crate::queue::Queue| queue.message(id)?.append(&record);
    let appended = desk.with_queue(append).await;
    appended.map_err(|error| gone(&error, "change a message"))
}

pub(super) fn gone(error: &std::io::Error, what: &'static str) -> Refusal {
    match error.kind() {
        std::io::ErrorKind::NotFound => Refusal::NotFound,
        _ => desk::fault(error, what),
    }
}
