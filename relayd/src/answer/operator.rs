//! What the operator may ask: to see the queue, to hurry or remove a message, to know how relayd is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use daemon::channel::{Answered, Events, Service};
use ipc::control::{
    QueueControlAnswer, QueueControlEdge, QueueControlRequest, QueuedMessage, QueuedRecipient,
};
use ipc::{Call, Refusal};
use smtp::parameter::Priority;
use tracing::info;

use crate::clock;
use crate::desk::{self, Desk};
use crate::queue::{Message, QueueId, Recipient, State};

/// Messages on a page; three of the longest fit into a frame.
const PAGE: usize = 3;
/// Recipients shown of a message.
const RECIPIENTS: usize = 8;
/// Octets shown of an error.
const MAX_ERROR: usize = 200;

/// Answers the operator.
#[derive(Debug)]
pub struct Operator {
    /// What there is to see.
    pub desk: Arc<Desk>,
    /// When relayd started.
    pub started: Instant,
}

impl Service<QueueControlEdge> for Operator {
    type Peer = ();

    fn open(&self, _events: Events<QueueControlEdge>) {}

    async fn answer(
        &self,
        _peer: Arc<()>,
        call: Call<QueueControlRequest>,
    ) -> Result<Answered<QueueControlAnswer>, Refusal> {
        let answer = match call.request {
            QueueControlRequest::ListQueue { after } => self.list(after.as_deref()).await?,
            QueueControlRequest::RetryMessage { queue_id } => self.retry(queue_id.as_deref())?,
            QueueControlRequest::RemoveMessage { queue_id } => self.remove(&queue_id).await?,
            QueueControlRequest::ShowStatus => self.status(),
        };
        Ok(Answered::plain(answer))
    }
}

impl Operator {
    async fn list(&self, after: Option<&str>) -> Result<QueueControlAnswer, Refusal> {
        let after = after.map(parse).transpose()?;
        let mut ids = self.desk.schedule().page(after, PAGE + 1);
        let more = ids.len() > PAGE;
        ids.truncate(PAGE);
        let read = move |queue: &crate::queue::Queue| {
            let mut messages = Vec::new();
            for id in ids {
                match queue.message(id) {
                    Ok(opened) => messages.push(show(id, &opened.snapshot())),
                    // It was delivered meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(messages)
        };
        let messages = self
            .desk
            .with_queue(read)
            .await
            .map_err(|error| desk::fault(&error, "list the queue"))?;
        Ok(QueueControlAnswer::Queue { messages, more })
    }

    fn retry(&self, queue_id: Option<&str>) -> Result<QueueControlAnswer, Refusal> {
        let now = clock::now();
        let messages = match queue_id {
            None => self.desk.schedule().hurry_all(now),
            Some(text) => {
                let id = parse(text)?;
                u64::from(
                    self.desk
                        .schedule()
                        .hurry(id, now)
                        .ok_or(Refusal::NotFound)?,
                )
            }
        };
        self.desk.bell.notify_one();
        info!(messages, "made due by the operator");
        Ok(QueueControlAnswer::Retried { messages })
    }

    async fn remove(&self, queue_id: &str) -> Result<QueueControlAnswer, Refusal> {
        let id = parse(queue_id)?;
        if !self.desk.schedule().remove(id) {
            return Err(Refusal::NotFound);
        }
        match self.desk.with_queue(move |queue| queue.remove(id)).await {
            Ok(()) => {
                info!(%id, "removed by the operator");
                Ok(QueueControlAnswer::Removed)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Refusal::NotFound),
            Err(error) => {
                // It is still there, as far as anybody knows; how urgent it is the next start reads again.
                let (now, priority) = (clock::now(), Priority::default());
                self.desk.schedule().insert(id, now, priority);
                Err(desk::fault(&error, "remove a message"))
            }
        }
    }

    fn status(&self) -> QueueControlAnswer {
        QueueControlAnswer::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.started.elapsed().as_secs(),
            queued: self.desk.schedule().len() as u64,
            delivered: self.desk.delivered.load(Ordering::Relaxed),
            failed: self.desk.failed.load(Ordering::Relaxed),
        }
    }
}

fn parse(text: &str) -> Result<QueueId, Refusal> {
    QueueId::parse(text).ok_or(Refusal::NotFound)
}

fn show(id: QueueId, message: &Message) -> QueuedMessage {
    QueuedMessage {
        queue_id: id.to_string(),
        reverse_path: message.header.reverse_path.clone(),
        size: message.header.size,
        queued: message.header.queued,
        recipients: message
            .waiting()
            .take(RECIPIENTS)
            .map(|(_, recipient)| show_recipient(recipient))
            .collect(),
        waiting: u32::try_from(message.waiting().count()).unwrap_or(u32::MAX),
    }
}

fn show_recipient(recipient: &Recipient) -> QueuedRecipient {
    let last_error = recipient
        .last
        .as_ref()
        .map_or("", |last| last.text.as_str());
    QueuedRecipient {
        address: recipient.address.to_string(),
        attempts: recipient.attempts,
        next_attempt: match recipient.state {
            State::Waiting(next) => next,
            State::Delivered | State::Succeeded | State::Failed | State::Reported => 0,
        },
        last_error: last_error[..last_error.floor_char_boundary(MAX_ERROR)].to_owned(),
    }
}
