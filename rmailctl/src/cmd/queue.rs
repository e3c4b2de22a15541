//! `rmailctl queue`

use std::path::Path;

use daemon::config::Config;
use ipc::control::{QueueControlAnswer, QueueControlRequest, QueuedMessage};
use serde_json::json;

use crate::Error;
use crate::cli::QueueCommand;
use crate::operator::{Queue, unexpected};

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub async fn run(config: &Path, command: QueueCommand) -> Result<(), Error> {
    let queue = Queue::of(&Config::read(config)?);
    match command {
        QueueCommand::List { json } => list(&queue, json).await,
        QueueCommand::Retry { queue_id } => {
            let what = "cannot retry".to_owned();
            match queue
                .ask(what, QueueControlRequest::RetryMessage { queue_id })
                .await?
            {
                QueueControlAnswer::Retried { messages } => {
                    println!("{messages} messages are tried now")
                }
                answer => return Err(unexpected(&answer)),
            }
            Ok(())
        }
        QueueCommand::Hold { queue_id } => {
            let what = format!("cannot hold {queue_id}");
            queue
                .ask(what, QueueControlRequest::HoldMessage { queue_id })
                .await
                .map(drop)
        }
        QueueCommand::Release { queue_id, account } => release(&queue, queue_id, account).await,
        QueueCommand::Remove { queue_id } => {
            let what = format!("cannot remove {queue_id}");
            queue
                .ask(what, QueueControlRequest::RemoveMessage { queue_id })
                .await
                .map(drop)
        }
    }
}

async fn release(
    queue: &Queue,
    queue_id: Option<String>,
    account: Option<String>,
) -> Result<(), Error> {
    let request = match (queue_id, account) {
        (_, Some(account)) => QueueControlRequest::ReleaseAccount { account },
        (queue_id, None) => QueueControlRequest::ReleaseMessage {
            queue_id: queue_id.unwrap_or_default(),
        },
    };
    match queue.ask("cannot release", request).await? {
        QueueControlAnswer::Released { messages } => println!("{messages} messages are released"),
        answer => return Err(unexpected(&answer)),
    }
    Ok(())
}

async fn list(queue: &Queue, json: bool) -> Result<(), Error> {
    let mut rows = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let request = QueueControlRequest::ListQueue {
            after: after.clone(),
        };
        let (messages, more) = match queue.ask("cannot list the queue", request).await? {
            QueueControlAnswer::Queue { messages, more } => (messages, more),
            answer => return Err(unexpected(&answer)),
        };
        after = messages.last().map(|message| message.queue_id.clone());
        if json {
            rows.extend(messages.iter().map(row));
        } else {
            messages.iter().for_each(show);
        }
        if !more {
            break;
        }
    }
    if json {
        println!("{}", json!(rows));
    }
    Ok(())
}

fn row(message: &QueuedMessage) -> serde_json::Value {
    let recipients: Vec<_> = message
        .recipients
        .iter()
        .map(|one| json!({"address": one.address, "attempts": one.attempts, "next_attempt": one.next_attempt, "last_error": one.last_error}))
        .collect();
    json!({
        "queue_id": message.queue_id, "reverse_path": message.reverse_path, "size": message.size, "queued": message.queued,
        "waiting": message.waiting, "hold": message.hold, "recipients": recipients,
    })
}

fn show(message: &QueuedMessage) {
    println!(
        "{}\t{} bytes\tfrom <{}>\t{} waiting",
        message.queue_id, message.size, message.reverse_path, message.waiting
    );
    if !message.hold.is_empty() {
        println!("\theld: {}", message.hold);
    }
    for one in &message.recipients {
        println!(
            "\t<{}>\t{} attempts\t{}",
            one.address, one.attempts, one.last_error
        );
    }
}
