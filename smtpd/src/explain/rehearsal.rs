//! A message that nobody keeps: it takes the way of all others up to where somebody would have to keep it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipc::Context;
use ipc::delivery::Destination;
use ipc::queue::{Envelope, FORESEEN, Quarantine, Recipient, Standing};

use super::notes::{Notes, Queued};
use crate::ask::{Ask, Problem};

/// What stands in for those who keep a message.
#[derive(Debug)]
pub(crate) struct Rehearsal {
    notes: Arc<Notes>,
    /// Stands in for relayd.
    queue: Option<Queue>,
}

#[derive(Debug)]
struct Queue {
    ask: Ask,
    envelope: Envelope,
    recipients: Mutex<Vec<Recipient>>,
}

impl Rehearsal {
    /// Stands in for deliverd.
    pub(crate) fn local(notes: Arc<Notes>) -> Self {
        Self { notes, queue: None }
    }

    /// Stands in for relayd.
    pub(crate) fn queued(ask: Ask, notes: Arc<Notes>, envelope: Envelope) -> Self {
        let queue = Some(Queue {
            ask,
            envelope,
            recipients: Mutex::default(),
        });
        Self { notes, queue }
    }

    /// These shall have it.
    pub(crate) fn add(&self, recipients: &[Recipient]) {
        if let Some(queue) = &self.queue {
            queue.lock().extend_from_slice(recipients);
        }
    }

    /// These users here would find it in that mailbox.
    pub(crate) fn keep(&self, recipients: &[String], destination: Destination) {
        self.notes.keep(recipients, destination);
    }

    /// Notes what would become of it.
    ///
    /// # Errors
    /// As it would be refused.
    pub(crate) async fn commit(
        &self,
        context: Context,
        quarantine: Option<Quarantine>,
    ) -> Result<(), Problem> {
        let Some(queue) = &self.queue else {
            return Ok(());
        };
        let all = queue.lock().clone();
        let addresses = |all: &[Recipient]| -> Vec<String> {
            all.iter().map(|one| one.address.clone()).collect()
        };
        if let Some(quarantine) = quarantine {
            self.notes.hold(&addresses(&all), &quarantine.reason);
            return Ok(());
        }
        let mut recipients = all.clone();
        recipients.retain(|one| one.standing == Standing::Waiting);
        let mut recipients = addresses(&recipients);
        let waiting = recipients.len();
        recipients.truncate(FORESEEN);
        if queue.envelope.account.is_some() {
            queue.ask.note("relay.budgets", || {
                format!("asked for {} of {waiting} recipients", recipients.len())
            });
        }
        let envelope = queue.envelope.clone();
        let hold = queue.ask.foresee(context, envelope, recipients).await?;
        let queued = Queued {
            reverse_path: queue.envelope.reverse_path.clone(),
            hold,
            parameters: queue.envelope.parameters.clone(),
        };
        self.notes.queue(queued, &all);
        Ok(())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Vec<Recipient>> {
        self.recipients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
