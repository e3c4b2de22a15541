//! Brings reports to their senders: into an INBOX here, or back into the queue for one elsewhere.

use std::io::{self, Read, Write};
use std::sync::Arc;

use daemon::channel::CallError;
use mail::address::{Address, Domain};
use smtp::parameter::Return;
use tracing::{error, info, warn};

use crate::ask::{Ask, Route};
use crate::clock;
use crate::desk::Desk;
use crate::news::{self, Action};
use crate::queue::journal::{Header, Record, VERSION};
use crate::queue::{Message, Opened, QueueId, Recipient};
use crate::report::{self, Original, Report};
use crate::turns::Party;

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
    /// Tells the sender what there is to tell, in one report. `true` when nothing is left to tell.
    pub async fn report(&self, opened: &Arc<Opened>) -> bool {
        let message = opened.snapshot();
        let warning = message.warning_due(self.desk.warning);
        let is_late = warning.is_some_and(|due| due <= clock::now());
        let over = places(message.unreported());
        let late = places(message.unwarned().filter(|_| is_late));
        if over.is_empty() && late.is_empty() {
            return true;
        }
        let told = match report::addressee(&message) {
            // RFC 5321 §6.1: what has no sender gets no report, least of all a report.
            None => {
                warn!(id = %opened.id, recipients = over.len(), "over and without a sender to be told: dropped");
                Ok(())
            }
            Some(addressee) => self.tell(opened.id, &message, addressee, is_late).await,
        };
        if let Err(error) = told {
            warn!(id = %opened.id, %error, "the report waits");
            return false;
        }
        if !over.is_empty() {
            self.desk.record(opened, Record::Reported(over)).await;
        }
        if !late.is_empty() {
            self.desk.record(opened, Record::Warned(late)).await;
        }
        true
    }

    async fn tell(
        &self,
        about: QueueId,
        message: &Message,
        addressee: &Address,
        is_late: bool,
    ) -> Result<(), NotYet> {
        let news = news::of(message, is_late);
        // RFC 3461 §4.3: of what was delivered nothing need be returned. RFC 8689 §5: what is to stay secret may not be.
        let is_full = message.parameters.ret == Some(Return::Full)
            && !message.parameters.require_tls
            && message.header.size <= report::MAX_FULL
            && news.iter().any(|news| news.action == Action::Failed);
        let most = if is_full {
            report::MAX_FULL
        } else {
            report::MAX_HEADER as u64
        };
        let original = self.desk.with_queue(move |queue| {
            let mut original = Vec::new();
            queue.body(about)?.take(most).read_to_end(&mut original)?;
            Ok(original)
        });
        let original = original.await.unwrap_or_else(|error| {
            error!(id = %about, %error, "the report goes without the header of its message");
            Vec::new()
        });
        let id = QueueId::generate()?;
        let utf8 = message.header.smtp_utf8;
        let text = Report {
            id,
            about,
            hostname: &self.hostname,
            addressee,
            now: clock::now(),
            queued: message.header.queued,
            envelope_id: message.parameters.envelope_id.as_deref(),
            news: &news,
            original: match is_full {
                true => Original::Full {
                    bytes: &original,
                    utf8,
                },
                false => Original::Header(&original),
            },
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
                    match self
                        .ask
                        .deliver(&local, &*with_path, with_path.len() as u64)
                        .await
                    {
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
        let is_ascii = recipients.iter().all(|recipient| recipient.is_ascii());
        let header = Header {
            version: VERSION,
            queued: clock::now(),
            size: text.len() as u64,
            reverse_path: String::new(),
            account: None,
            party: Party::Nobody,
            smtp_utf8: !is_ascii,
            eight_bit: !text.is_ascii(),
            hold: None,
            quarantine: None,
            recipients,
            parameters: String::new(),
            tls_waived: false,
            sign: vec![self.hostname.to_string()],
            particulars: Vec::new(),
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

fn places<'a>(recipients: impl Iterator<Item = (usize, &'a Recipient)>) -> Vec<u32> {
    recipients
        .filter_map(|(place, _)| u32::try_from(place).ok())
        .collect()
}

fn give_up_or_wait(about: QueueId, addressee: &Address, error: CallError) -> Result<(), NotYet> {
    if error.is_temporary() {
        return Err(NotYet::Delivery(error));
    }
    warn!(id = %about, to = %addressee, %error, "the sender cannot be told: the report is dropped");
    Ok(())
}
