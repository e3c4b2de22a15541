//! What smtpd may ask of DNS: anything, but only so much at once.

use std::time::Duration;

use ipc::Refusal;
use ipc::dns::{Found, MAX_NAME, Question};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use crate::dns::Dns;

/// Questions open at once; half of what a channel takes, so that mail always comes through.
const MAX_OPEN: usize = 256;
/// How long DNS is asked. RFC 7208 §4.6.4 wants a whole SPF check to be over in twenty seconds.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks DNS for smtpd. The resolver sends the same question only once while it is open, and keeps what it heard as long as it is
/// good.
#[derive(Debug)]
pub struct LookUps {
    dns: Dns,
    slots: Semaphore,
}

impl LookUps {
    /// Will ask `dns`.
    #[must_use]
    pub const fn new(dns: Dns) -> Self {
        let slots = Semaphore::const_new(MAX_OPEN);
        Self { dns, slots }
    }

    /// What DNS says.
    ///
    /// # Errors
    /// [`Refusal::Busy`].
    pub async fn look_up(&self, question: &Question) -> Result<Found, Refusal> {
        let _slot = self.slots.try_acquire().map_err(|_| Refusal::Busy)?;
        if question.name.len() > MAX_NAME {
            return Ok(Found::NoSuchName);
        }
        let asked = self.dns.find(&question.name, question.kind);
        let found = timeout(PATIENCE, asked).await;
        Ok(found.unwrap_or_else(|_| {
            debug!(?question, "no answer from DNS in time");
            Found::Fault
        }))
    }
}
