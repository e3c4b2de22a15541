//! `rmailctl queue list` and `queue show`

use std::io::{BufWriter, Write};

use ipc::control::{QueueControlAnswer, QueueControlRequest};
use ipc::queue_walk::{MessageRow, QueueParty, QueueRow, QueueView, RecipientRow, RecipientState};
use serde_json::{Value, json};

use super::walk::{Walk, read_rows};
use crate::Error;
use crate::cli::QueueRange;
use crate::operator::{Queue, unexpected};

/// A message with those of its recipients that came with it.
struct Whole {
    message: MessageRow,
    recipients: Vec<RecipientRow>,
    header: Vec<u8>,
}

fn gather(rows: Vec<QueueRow>) -> Result<Vec<Whole>, Error> {
    let mut all: Vec<Whole> = Vec::new();
    for row in rows {
        match (row, all.last_mut()) {
            (QueueRow::Message(message), _) => all.push(Whole {
                message,
                recipients: Vec::new(),
                header: Vec::new(),
            }),
            (QueueRow::Recipient(recipient), Some(whole)) => whole.recipients.push(recipient),
            (QueueRow::Header(piece), Some(whole)) => whole.header.extend(piece),
            (other, _) => return Err(unexpected(&other)),
        }
    }
    Ok(all)
}

pub(super) async fn list(
    queue: &Queue,
    range: QueueRange,
    limit: Option<u64>,
    after: Option<String>,
    as_json: bool,
) -> Result<(), Error> {
    let mut out = BufWriter::new(std::io::stdout());
    let mut left = limit.unwrap_or(u64::MAX);
    let mut walk = Walk::new(queue, range.into(), QueueView::Messages, after);
    let (mut separator, mut last) = ("[", None);
    'walk: while let Some(rows) = walk.next().await? {
        for whole in gather(rows)? {
            if left == 0 {
                break 'walk;
            }
            left -= 1;
            if as_json {
                write!(out, "{separator}{}", object(&whole))?;
                separator = ",\n";
            } else {
                brief(&mut out, &whole)?;
            }
            last = Some(whole.message.queue_id);
        }
        out.flush()?;
    }
    if as_json {
        writeln!(out, "{}]", if separator == "[" { "[" } else { "" })?;
    }
    out.flush()?;
    if let (0, Some(last)) = (left, last) {
        // Who reads the list does not want it there.
        let _ = writeln!(std::io::stderr(), "go on with: --after {last}");
    }
    Ok(())
}

pub(super) async fn show(
    queue: &Queue,
    queue_id: String,
    headers: bool,
    as_json: bool,
) -> Result<(), Error> {
    let what = format!("cannot show {queue_id}");
    let request = QueueControlRequest::ShowMessage { queue_id, headers };
    let answered = queue.ask_for_files(what, request).await?;
    let QueueControlAnswer::QueueWalked { rows, .. } = answered.answer else {
        return Err(unexpected(&answered.answer));
    };
    let mut all = gather(read_rows(answered.fds, rows)?)?;
    let whole = all.pop().ok_or_else(|| unexpected(&"no message"))?;
    let mut out = BufWriter::new(std::io::stdout());
    if as_json {
        let mut object = object(&whole);
        if headers {
            object["header"] = json!(String::from_utf8_lossy(&whole.header));
        }
        writeln!(out, "{object}")?;
    } else {
        in_full(&mut out, &whole)?;
    }
    out.flush()?;
    Ok(())
}

fn object(whole: &Whole) -> Value {
    let Whole {
        message,
        recipients,
        ..
    } = whole;
    let recipients: Vec<_> = recipients
        .iter()
        .map(|one| {
            let next = match one.state {
                RecipientState::Waiting(next) => next,
                RecipientState::Delivered | RecipientState::Failed | RecipientState::Over => 0,
            };
            json!({
                "address": one.address, "state": word(one.state), "attempts": one.attempts, "next_attempt": next, "last_error": one.reply,
                "status": one.status, "host": one.host, "parameters": one.parameters,
            })
        })
        .collect();
    json!({
        "queue_id": message.queue_id, "reverse_path": message.reverse_path, "size": message.size, "queued": message.queued,
        "state": message.state.as_str(), "in_work": message.is_in_work, "account": message.account, "party": party(&message.party),
        "next": message.next, "hold": message.hold.as_deref().unwrap_or_default(), "route": message.route, "parameters": message.parameters,
        "waiting": message.waiting, "recipient_count": message.recipients, "recipients": recipients,
    })
}

const fn word(state: RecipientState) -> &'static str {
    match state {
        RecipientState::Waiting(_) => "waiting",
        RecipientState::Delivered => "delivered",
        RecipientState::Failed => "failed",
        RecipientState::Over => "over",
    }
}

/// `tenant acme`, `domain example.org`, `-`.
pub(super) fn party(party: &QueueParty) -> String {
    match party {
        QueueParty::Tenant(name) => format!("tenant {name}"),
        QueueParty::Domain(name) => format!("domain {name}"),
        QueueParty::Nobody => "-".into(),
    }
}

fn brief(out: &mut impl Write, whole: &Whole) -> std::io::Result<()> {
    let message = &whole.message;
    let state = message.state.as_str();
    writeln!(
        out,
        "{}\t{} bytes\tfrom <{}>\t{} waiting\t{state}",
        message.queue_id, message.size, message.reverse_path, message.waiting
    )?;
    if let Some(hold) = &message.hold {
        writeln!(out, "\theld: {hold}")?;
    }
    if let Some(route) = &message.route {
        writeln!(out, "\tgoes to {route}")?;
    }
    for one in &whole.recipients {
        writeln!(
            out,
            "\t<{}>\t{} attempts\t{}",
            one.address, one.attempts, one.reply
        )?;
    }
    Ok(())
}

fn in_full(out: &mut impl Write, whole: &Whole) -> std::io::Result<()> {
    let message = &whole.message;
    let now = if message.is_in_work { ", in work" } else { "" };
    writeln!(out, "id\t{}", message.queue_id)?;
    writeln!(out, "state\t{}{now}", message.state.as_str())?;
    writeln!(out, "from\t<{}>", message.reverse_path)?;
    writeln!(
        out,
        "account\t{}",
        message.account.as_deref().unwrap_or("-")
    )?;
    writeln!(out, "of\t{}", party(&message.party))?;
    writeln!(out, "bytes\t{}", message.size)?;
    writeln!(
        out,
        "queued\t{}",
        mail::date::format_rfc5322(date(message.queued))
    )?;
    if let Some(next) = message.next {
        writeln!(out, "next\t{}", mail::date::format_rfc5322(date(next)))?;
    }
    if let Some(hold) = &message.hold {
        writeln!(out, "held\t{hold}")?;
    }
    if let Some(route) = &message.route {
        writeln!(out, "goes to\t{route}")?;
    }
    if !message.parameters.is_empty() {
        writeln!(out, "MAIL\t{}", message.parameters)?;
    }
    for one in &whole.recipients {
        writeln!(
            out,
            "to\t<{}>\t{}\t{} attempts\t{}\t{}\t{}",
            one.address,
            word(one.state),
            one.attempts,
            one.status,
            one.host.as_deref().unwrap_or("-"),
            one.reply
        )?;
        if !one.parameters.is_empty() {
            writeln!(out, "\tRCPT\t{}", one.parameters)?;
        }
    }
    if !whole.header.is_empty() {
        writeln!(out)?;
        // It is a stranger's, and the terminal is the operator's.
        let header = String::from_utf8_lossy(&whole.header);
        let plain = |c: char| {
            if c.is_control() && !matches!(c, '\n' | '\t') {
                '?'
            } else {
                c
            }
        };
        let header: String = header.replace("\r\n", "\n").chars().map(plain).collect();
        writeln!(out, "{}", header.trim_end())?;
    }
    Ok(())
}

pub(super) const fn date(unix: i64) -> mail::date::DateTime {
    mail::date::DateTime {
        unix,
        offset_minutes: 0,
    }
}
