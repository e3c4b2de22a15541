//! `rmailctl queue history`

use std::io::{BufWriter, Write};

use ipc::control::{QueueControlAnswer, QueueControlRequest};
use ipc::queue_walk::{EventRow, HistoryPlace, QueueEvent, QueueRow, TriedOutcome};
use serde_json::{Value, json};

use super::list::date;
use super::walk::read_rows;
use crate::Error;
use crate::operator::{Queue, unexpected};

pub(super) async fn run(queue: &Queue, about: Option<String>, as_json: bool) -> Result<(), Error> {
    let mut out = BufWriter::new(std::io::stdout());
    let mut from = None;
    loop {
        let (events, next, more) = piece(queue, from, about.clone()).await?;
        for event in &events {
            if as_json {
                writeln!(out, "{}", object(event))?;
            } else {
                writeln!(out, "{}", line(event))?;
            }
        }
        out.flush()?;
        if !more {
            return Ok(());
        }
        from = Some(next);
    }
}

/// What is there from a place on, where the next piece begins, and whether there is one.
pub(in crate::cmd) async fn piece(
    queue: &Queue,
    from: Option<HistoryPlace>,
    about: Option<String>,
) -> Result<(Vec<EventRow>, HistoryPlace, bool), Error> {
    let request = QueueControlRequest::ReadHistory { from, about };
    let what = "cannot read the history";
    let answered = queue.ask_for_files(what, request).await?;
    let QueueControlAnswer::History { rows, next, more } = answered.answer else {
        return Err(unexpected(&answered.answer));
    };
    let rows = read_rows(answered.fds, rows)?.into_iter();
    let events = rows.map(|row| match row {
        QueueRow::Event(event) => Ok(event),
        other => Err(unexpected(&other)),
    });
    Ok((events.collect::<Result<_, _>>()?, next, more))
}

const fn outcome(outcome: TriedOutcome) -> &'static str {
    match outcome {
        TriedOutcome::Delivered => "delivered",
        TriedOutcome::Deferred => "deferred",
        TriedOutcome::Failed => "failed",
    }
}

fn line(event: &EventRow) -> String {
    let head = format!(
        "{}\t{}\t<{}>",
        mail::date::format_rfc5322(date(event.at)),
        event.queue_id,
        event.reverse_path
    );
    match &event.event {
        QueueEvent::Queued {
            account,
            size,
            recipients,
        } => {
            let account = account.as_deref().unwrap_or("-");
            format!("{head}\tqueued\taccount {account}\t{size} bytes\t{recipients} recipients")
        }
        QueueEvent::Tried {
            recipient,
            outcome: came,
            status,
            reply,
            host,
        } => {
            let host = host.as_deref().unwrap_or("-");
            let came = outcome(*came);
            format!("{head}\t{came}\t<{recipient}>\t{status}\t{host}\t{reply}")
        }
        QueueEvent::Done => format!("{head}\tdone"),
        QueueEvent::Removed => format!("{head}\tremoved by the operator"),
        QueueEvent::Expired => format!("{head}\tremoved: too long in quarantine"),
    }
}

fn object(event: &EventRow) -> Value {
    let mut object =
        json!({"at": event.at, "queue_id": event.queue_id, "reverse_path": event.reverse_path});
    let (name, more) = match &event.event {
        QueueEvent::Queued {
            account,
            size,
            recipients,
        } => (
            "queued",
            json!({"account": account, "size": size, "recipients": recipients}),
        ),
        QueueEvent::Tried {
            recipient,
            outcome: came,
            status,
            reply,
            host,
        } => (
            outcome(*came),
            json!({"recipient": recipient, "status": status, "reply": reply, "host": host}),
        ),
        QueueEvent::Done => ("done", json!({})),
        QueueEvent::Removed => ("removed", json!({})),
        QueueEvent::Expired => ("expired", json!({})),
    };
    object["event"] = json!(name);
    for (key, value) in more.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
    object
}
