//! Brings reports to their senders: into an INBOX here, or back into the queue for one elsewhere.

use std::io::{self, Read, Write};
use std::sync::Arc;

use daemon::channel::CallError;
use mail::address::{Address, Domain};
use tracing::{error, info, warn};

use crate::ask::{Ask, Route};
use crate::clock;
use crate::desk::Desk;
use crate::queue::journal::{Header, Record, VERSION};
use crate::queue::{Message, Opened, QueueId};
use crate::report::{self, Report};

/// Builds and brings reports.
#[derive(Debug)]
pub struct Reporter {
    /// The queue.
    pub desk: Arc<Desk>,
    /// deliverd.
    pub ask: Ask,
    /// Our name.
    pub hostname: Domain,
}

/// The report is not durable anywhere yet; the message stays in the queue until it is.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error("{0}")]
    Disk(#[from] io::Error),
    #[error("{0}")]
    Delivery(CallError),
    #[error("the report cannot be queued: {0}")]
    Queue(ipc::Refusal),
}

impl Reporter {
    /// Tells the sender about all recipients that failed and were not reported, in one report. `true` when nothing is left to
    /// tell.
    pub async fn report(&self, opened: &Arc<Opened>) -> bool {
        let message = opened.snapshot();
        let recipients: Vec<u32> = message
            .unreported()
            .filter_map(|(index, _)| u32::try_from(index).ok())
            .collect();
        if recipients.is_empty() {
            return true;
        }
        let told = match report::addressee(&message) {
            // RFC 5321 §6.1: what has no sender gets no report, least of all a report.
            None => {
                warn!(id = %opened.id, recipients = recipients.len(), "undeliverable and without a sender: dropped");
                Ok(())
            }
            Some(addressee) => self.tell(opened.id, &message, addressee).await,
        };
        if let Err(error) = told {
            warn!(id = %opened.id, %error, "the report waits");
            return false;
        }
        self.desk.record(opened, Record::Reported(recipients)).await;
        true
    }

    async fn tell(
        &self,
        about: QueueId,
        message: &Message,
        addressee: &Address,
    ) -> Result<(), NotYet> {
        let original = self.desk.with_queue(move |queue| {
            let mut original = Vec::new();
            queue
                .body(about)?
                .take(report::MAX_HEADER as u64)
                .read_to_end(&mut original)?;
            Ok(original)
        });
        let original = original.await.unwrap_or_else(|error| {
            error!(id = %about, %error, "the report goes without the header of its message");
            Vec::new()
        });
        let id = QueueId::generate()?;
        let failures = report::failures(message);
        let text = Report {
            id,
            about,
            hostname: &self.hostname,
            addressee,
            now: clock::now(),
            queued: message.header.queued,
            failures: &failures,
            original: &original,
        }
        .build();
        self.bring(id, about, addressee, text).await
    }

    async fn bring(
        &self,
        id: QueueId,
        about: QueueId,
        addressee: &Address,
        text: Vec<u8>,
    ) -> Result<(), NotYet> {
        match self
            .ask
            .resolve(&addressee.to_string(), text.len() as u64)
            .await
        {
            Ok(Route::Ours { local, remote }) => {
                if !local.is_empty() {
                    let with_path = [b"Return-Path: <>\r\n".as_slice(), &text].concat();
                    match self.ask.deliver(&local, &with_path).await {
                        Ok(()) => {
                            info!(id = %about, to = %addressee, "reported to the sender's INBOX")
                        }
                        Err(error) => give_up_or_wait(about, addressee, error)?,
                    }
                }
                if !remote.is_empty() {
                    self.queue(id, about, remote, text).await?;
                }
                Ok(())
            }
            Ok(Route::Foreign) => {
                self.queue(id, about, vec![addressee.to_string()], text)
                    .await
            }
            Err(error) => give_up_or_wait(about, addressee, error),
        }
    }

    /// RFC 3464 §2: a report travels with the null reverse-path.
    async fn queue(
        &self,
        id: QueueId,
        about: QueueId,
        recipients: Vec<String>,
        text: Vec<u8>,
    ) -> Result<(), NotYet> {
        let header = Header {
            version: VERSION,
            queued: clock::now(),
            size: text.len() as u64,
            reverse_path: String::new(),
            account: None,
            smtp_utf8: !text.is_ascii(),
            eight_bit: !text.is_ascii(),
            recipients,
        };
        let draft = self.desk.with_queue(move |queue| {
            let draft = queue.draft()?;
            draft.file().write_all(&text)?;
            Ok(draft)
        });
        self.desk
            .enqueue(id, draft.await?, header)
            .await
            .map_err(NotYet::Queue)?;
        info!(id = %about, report = %id, "report queued");
        Ok(())
    }
}

fn give_up_or_wait(about: QueueId, addressee: &Address, error: CallError) -> Result<(), NotYet> {
    if error.is_temporary() {
        return Err(NotYet::Delivery(error));
    }
    warn!(id = %about, to = %addressee, %error, "the sender cannot be told: the report is dropped");
    Ok(())
}
