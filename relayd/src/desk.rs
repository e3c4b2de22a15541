//! What everybody in relayd shares: the queue, its schedule, and the counts for the operator.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipc::Refusal;
use smtp::parameter::MailParameters;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use crate::clock;
use crate::quarantine::Ward;
use crate::queue::journal::{Header, Record};
use crate::queue::{Draft, Opened, Queue, QueueId, Recovered, release};
use crate::rests::Rests;
use crate::schedule::Schedule;

/// Waits between the tries to write down what happened.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// Threads that read the queue at the start, at most.
const MOST_READERS: usize = 4;
/// How long the operator is kept waiting for that.
const READING: Duration = Duration::from_secs(5);

/// The shared state.
#[derive(Debug)]
pub struct Desk {
    queue: Arc<Queue>,
    schedule: Mutex<Schedule>,
    /// All that was in the queue when relayd was started is in the schedule.
    is_read: watch::Sender<bool>,
    /// After so many seconds the sender of a message is told that it has to wait, if ever.
    pub warning: Option<i64>,
    /// What is in quarantine.
    pub quarantine: Ward,
    /// Where nobody answers.
    pub rests: Rests,
    /// Rung when something may be due earlier than thought.
    pub bell: Notify,
    /// Recipients delivered since the start.
    pub delivered: AtomicU64,
    /// Recipients that failed for good since the start.
    pub failed: AtomicU64,
}

impl Desk {
    /// Takes the queue over. Senders are told after `warning` seconds that their mail has to wait, if at all; of what is in quarantine they hear
    /// nothing. What is in the queue already is known after [`Desk::read`].
    #[must_use]
    pub fn new(queue: Queue, warning: Option<i64>, quarantine: Ward) -> Self {
        Self {
            queue: Arc::new(queue),
            schedule: Mutex::default(),
            is_read: watch::Sender::new(false),
            warning,
            quarantine,
            rests: Rests::default(),
            bell: Notify::new(),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Reads all the messages that are in the queue, while others come and go. Blocks.
    ///
    /// # Errors
    /// When the queue directory cannot be read.
    pub fn read(&self) -> io::Result<()> {
        let shards = Mutex::new(self.queue.shards()?.into_iter());
        let next = || {
            let mut shards = shards.lock().unwrap_or_else(PoisonError::into_inner);
            shards.next()
        };
        let work = || {
            while let Some(shard) = next() {
                match self.queue.recover(&shard) {
                    Ok(messages) => messages.into_iter().for_each(|message| self.take(message)),
                    Err(error) => {
                        error!(shard, %error, "a directory of the queue cannot be read: its messages wait for the next start");
                    }
                }
                self.bell.notify_one();
            }
        };
        // Mail goes on meanwhile, and has the other processors.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 1..(processors / 2).clamp(1, MOST_READERS) {
                scope.spawn(work);
            }
            work();
        });
        self.queue.all_recovered();
        self.quarantine.open();
        self.is_read.send_replace(true);
        info!(messages = self.schedule().len(), "queue read");
        Ok(())
    }

    /// Takes in a message that was there before.
    fn take(&self, message: Recovered) {
        let warned = self.warning.zip(message.unwarned);
        let warned = warned.map_or(i64::MAX, |(after, queued)| queued.saturating_add(after));
        let due = match message.quarantine {
            Some(kept) => {
                self.quarantine.note(message.id, kept.size, kept.tenant);
                self.quarantine.end(kept.since)
            }
            None => message.due.min(warned),
        };
        let (mut schedule, now) = (self.schedule(), clock::now());
        schedule.insert(message.id, due, message.rank);
        // The clock was wrong when it came, and so is the time when it is due.
        if message.id.made() > now.saturating_add(clock::BEARABLE) {
            schedule.hurry(message.id, now);
        }
    }

    /// Waits, for a moment, until [`Desk::read`] is done.
    ///
    /// # Errors
    /// [`Refusal::Busy`] if it is not.
    pub async fn until_read(&self) -> Result<(), Refusal> {
        let mut is_read = self.is_read.subscribe();
        let waited = timeout(READING, is_read.wait_for(|is_read| *is_read)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Refusal::Busy),
        }
    }

    /// At the end: leaves nothing in the log that the next start would have to do. Blocks.
    pub fn close(&self) {
        if let Err(error) = self.queue.close() {
            warn!(%error, "the log of the queue is read at the next start");
        }
    }

    /// The schedule. Held for moments only.
    pub fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works with the queue on a thread that may block.
    ///
    /// # Errors
    /// What `work` says; `Other` for a bug in it.
    pub async fn with_queue<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Queue) -> io::Result<T> + Send + 'static,
    {
        let queue = Arc::clone(&self.queue);
        let done = tokio::task::spawn_blocking(move || work(&queue)).await;
        done.unwrap_or_else(|panic| Err(io::Error::other(format!("bug: {panic}"))))
    }

    /// Opens the body of a message; a few microseconds on a local disk.
    ///
    /// # Errors
    /// What the system says; `InvalidData` when it has not the size it was queued with.
    pub fn body(&self, id: QueueId, size: u64) -> io::Result<std::fs::File> {
        let file = self.queue.body(id)?;
        if file.metadata()?.len() == size {
            Ok(file)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{id}.eml has not the size it was queued with"),
            ))
        }
    }

    /// Makes a message durable and due at once. Goes on to its end even if nobody waits for it any more, so that no message
    /// is on disk and not in the schedule.
    ///
    /// # Errors
    /// [`Refusal::DiskFull`], [`Refusal::StorageFault`] or [`Refusal::QuarantineFull`]; then nothing is left of it.
    pub async fn enqueue(
        self: &Arc<Self>,
        id: QueueId,
        draft: Draft,
        header: Header,
    ) -> Result<(), Refusal> {
        let desk = Arc::clone(self);
        // What is not valid is refused before and set aside at the next start; here it is not urgent.
        let parameters = MailParameters::parse(&header.parameters).unwrap_or_default();
        let rank = header.rank(&parameters);
        let due = release(&parameters, header.queued);
        let in_quarantine = header.quarantine.is_some();
        if let Some(kept) = &header.quarantine {
            self.quarantine
                .admit(id, header.size, kept.tenant.clone())?;
        }
        let work = tokio::spawn(async move {
            let due = match &header.hold {
                Some(_) if in_quarantine => desk.quarantine.end(header.queued),
                Some(_) => i64::MAX,
                None => due,
            };
            let (size, recipients, from) = (
                header.size,
                header.recipients.len(),
                header.reverse_path.clone(),
            );
            let commit = desk.with_queue(move |queue| queue.commit(id, &draft, &header));
            commit.await.inspect_err(|_| desk.quarantine.leave(id))?;
            info!(%id, from, size, recipients, "queued");
            desk.schedule().insert(id, due, rank);
            desk.bell.notify_one();
            Ok(())
        });
        match work.await {
            Ok(queued) => queued.map_err(|error| fault(&error, "queue a message")),
            Err(panic) => Err(fault(&io::Error::other(panic), "queue a message")),
        }
    }

    /// Writes down what has happened to a message, and comes back when that is durable. While the disk fails it tries again
    /// and again, for what is not written down would happen once more: the message would go out, or the report in, a second
    /// time. Ends without a record when the message is removed meanwhile.
    pub async fn record(&self, opened: &Arc<Opened>, record: Record) {
        let (id, record) = (opened.id, Arc::new(record));
        let mut wait = FIRST_WAIT;
        loop {
            let (opened, record) = (Arc::clone(opened), Arc::clone(&record));
            let append = self.with_queue(move |_| opened.append(&record));
            let Err(error) = append.await else { return };
            if !self.schedule().contains(id) {
                return;
            }
            error!(%id, %error, "what happened to a message cannot be written into its journal: make room on the disk or repair \
                it; relayd waits, and a restart before that makes it happen twice");
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Counts recipients that are done.
    pub fn count(&self, delivered: u64, failed: u64) {
        self.delivered.fetch_add(delivered, Ordering::Relaxed);
        self.failed.fetch_add(failed, Ordering::Relaxed);
    }
}

/// What an asker is told about a failing disk; the log has the details.
#[must_use]
pub fn fault(error: &io::Error, what: &'static str) -> Refusal {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            error!(%error, "the disk is full: cannot {what}");
            Refusal::DiskFull
        }
        _ => {
            error!(%error, "cannot {what}");
            Refusal::StorageFault
        }
    }
}

#[cfg(test)]
mod tests {
    use daemon::config::Quarantine;

    use super::*;
    use crate::queue::journal::{Quarantined, VERSION};
    use crate::turns::Party;

    #[tokio::test]
    async fn what_comes_into_quarantine_is_looked_at_when_its_days_are_over() {
        let home = tempfile::tempdir().unwrap();
        let queue = Queue::open(
            &home.path().join("queue"),
            (&daemon::config::History::default()).into(),
        )
        .unwrap();
        let ward = Ward::new(&Quarantine::default());
        let end = ward.end(1_700_000_000);
        let desk = Arc::new(Desk::new(queue, None, ward));
        desk.read().unwrap();
        let draft = desk.with_queue(|queue| queue.draft()).await.unwrap();
        let header = Header {
            version: VERSION,
            queued: 1_700_000_000,
            size: 0,
            reverse_path: String::new(),
            account: None,
            party: Party::Nobody,
            smtp_utf8: false,
            eight_bit: false,
            hold: Some("a spoof".into()),
            quarantine: Some(Quarantined {
                onward: None,
                tenant: None,
            }),
            recipients: vec!["bob@example.org".into()],
            parameters: String::new(),
            tls_waived: false,
            sign: Vec::new(),
            particulars: Vec::new(),
        };
        let id = QueueId::generate().unwrap();
        desk.enqueue(id, draft, header).await.unwrap();
        assert_eq!(desk.schedule().next_due(), Some(end));
    }
}
