//! What the operator may ask: to see the queue, to hurry or remove a message, to know how relayd is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use daemon::channel::{Answered, Events, Service};
use ipc::control::{
    ENTRIES_PER_FRAME, QueueControlAnswer, QueueControlEdge, QueueControlRequest, QueuedMessage,
    QueuedRecipient,
};
use ipc::{Call, Refusal};
use tracing::info;

use super::demands;
use super::reports::Reports;
use super::till::Till;
use super::{history, orders, walk};
use crate::attempt::Carrier;
use crate::clock;
use crate::desk::{self, Desk};
use crate::queue::journal::Record;
use crate::queue::{Message, QueueId, Recipient, State};
use crate::turns::Rank;

/// Messages on a page; three of the longest fit into a frame.
const PAGE: usize = 3;
/// Recipients shown of a message.
const RECIPIENTS: usize = 8;
/// Messages looked at in one go when an account's are released.
const RELEASED_AT_ONCE: usize = 256;
/// Octets shown of an error, or of why a message is held.
const MAX_ERROR: usize = 200;

/// Answers the operator.
#[derive(Debug)]
pub struct Operator {
    /// What there is to see.
    pub desk: Arc<Desk>,
    /// What is to be reported to domains.
    pub reports: Reports,
    /// Knows what domains demand.
    pub carrier: Arc<Carrier>,
    /// Where accounts pay.
    pub till: Arc<Till>,
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
        if call.request != QueueControlRequest::ShowStatus {
            self.desk.until_read().await?;
        }
        let answer = match call.request {
            QueueControlRequest::ListQueue { after } => self.list(after.as_deref()).await?,
            QueueControlRequest::WalkQueue {
                filter,
                view,
                after,
            } => {
                let after = after.as_deref().map(parse).transpose()?;
                return walk::walk(&self.desk, filter, view, after).await;
            }
            QueueControlRequest::ShowMessage { queue_id, headers } => {
                return walk::show(&self.desk, parse(&queue_id)?, headers).await;
            }
            QueueControlRequest::BounceMessage { queue_id } => {
                orders::bounce(&self.desk, parse(&queue_id)?).await?;
                QueueControlAnswer::Bounced
            }
            QueueControlRequest::RerouteMessage { queue_id, server } => {
                orders::reroute(&self.desk, parse(&queue_id)?, server.as_deref()).await?;
                QueueControlAnswer::Rerouted
            }
            QueueControlRequest::ReadHistory { from, about } => {
                return history::read(&self.desk, from, about).await;
            }
            QueueControlRequest::RetryMessage { queue_id } => self.retry(queue_id.as_deref())?,
            QueueControlRequest::RemoveMessage { queue_id } => self.remove(&queue_id).await?,
            QueueControlRequest::HoldMessage { queue_id } => self.hold(&queue_id).await?,
            QueueControlRequest::ReleaseMessage { queue_id } => {
                let messages = u64::from(self.release(parse(&queue_id)?, None).await?);
                QueueControlAnswer::Released { messages }
            }
            QueueControlRequest::ReleaseAccount { account } => {
                let messages = self.release_all(&account.to_lowercase()).await?;
                QueueControlAnswer::Released { messages }
            }
            QueueControlRequest::ShowSpent { payers } if payers.len() > ENTRIES_PER_FRAME => {
                return Err(Refusal::Invalid(format!(
                    "no more than {ENTRIES_PER_FRAME} can be asked about at once"
                )));
            }
            QueueControlRequest::ShowSpent { payers } => {
                QueueControlAnswer::Spent(self.till.spent(&payers).await)
            }
            QueueControlRequest::ForgetBudgets => {
                self.till.forget_budgets();
                QueueControlAnswer::BudgetsForgotten
            }
            QueueControlRequest::ShowStatus => self.status(),
            QueueControlRequest::ListReports { kind, after, all } => {
                self.reports.list(kind, after, all).await
            }
            QueueControlRequest::ShowReport {
                kind,
                begin,
                domain,
                skip,
            } => self.reports.show(kind, begin, &domain, skip).await?,
            QueueControlRequest::FindReportTargets { kind, domain } => {
                self.reports.find_targets(kind, &domain).await?
            }
            QueueControlRequest::ShowTls { domain } => {
                demands::answer(&self.carrier, &domain).await?
            }
            QueueControlRequest::SendReports => self.reports.send().await,
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
        self.desk.rests.end_all();
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
                self.desk.quarantine.leave(id);
                info!(%id, "removed by the operator");
                Ok(QueueControlAnswer::Removed)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Refusal::NotFound),
            Err(error) => {
                // It is still there, as far as anybody knows; whose and how urgent it is the next start reads again.
                let (now, rank) = (clock::now(), Rank::default());
                self.desk.schedule().insert(id, now, rank);
                Err(desk::fault(&error, "remove a message"))
            }
        }
    }

    async fn hold(&self, queue_id: &str) -> Result<QueueControlAnswer, Refusal> {
        let id = parse(queue_id)?;
        orders::append(&self.desk, id, Record::Held("held by the operator".into())).await?;
        self.desk.quarantine.leave(id);
        self.desk.schedule().postpone(id, i64::MAX);
        info!(%id, "held by the operator");
        Ok(QueueControlAnswer::Held)
    }

    /// Lets a message go, if it is held, and if it is of that account. Tells whether it was.
    async fn release(&self, id: QueueId, account: Option<&str>) -> Result<bool, Refusal> {
        let read = self.desk.with_queue(move |queue| queue.message(id)).await;
        let message = read
            .map_err(|error| orders::gone(&error, "read a message"))?
            .snapshot();
        let owner = message.header.account.map(|owner| owner.to_lowercase());
        let is_meant = account.is_none_or(|account| owner.as_deref() == Some(account));
        if message.hold.is_none() || !is_meant {
            return Ok(false);
        }
        orders::append(&self.desk, id, Record::Released).await?;
        self.desk.quarantine.leave(id);
        // Also what was tried before, and has its next turn later.
        self.desk.schedule().hurry(id, clock::now());
        self.desk.bell.notify_one();
        info!(%id, "released by the operator");
        Ok(true)
    }

    async fn release_all(&self, account: &str) -> Result<u64, Refusal> {
        let (mut released, mut after) = (0, None);
        loop {
            let ids = self.desk.schedule().page(after, RELEASED_AT_ONCE);
            let Some(last) = ids.last() else {
                return Ok(released);
            };
            after = Some(*last);
            for id in ids {
                match self.release(id, Some(account)).await {
                    Ok(was_held) => released += u64::from(was_held),
                    // It was delivered or removed meanwhile.
                    Err(Refusal::NotFound) => {}
                    Err(refusal) => return Err(refusal),
                }
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
        hold: cut(message.hold.as_deref().unwrap_or_default()),
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
        last_error: cut(last_error),
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_ERROR)].to_owned()
}
