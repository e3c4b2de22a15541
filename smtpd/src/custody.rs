//! A copy of a message that may have to go into quarantine for some of its recipients: which, shows when all of it is there. relayd keeps it
//! as it would have been delivered, and has deliverd deliver it when the operator releases it.

use std::sync::Arc;

use ipc::Context;
use ipc::queue::{Envelope, Quarantine, Recipient};

use mail::address::Address;

use crate::ask::{Ask, NONSENSE, Problem};
use crate::measure::{Cause, Disposition};
use crate::outlet::Outlet;

/// So much of it is kept here before relayd is troubled.
const MAX_KEPT: usize = 16 * 1024;

/// The copy in the making. Dropped without a commit, it was never there.
#[derive(Debug)]
pub(crate) struct Custody {
    ask: Arc<Ask>,
    context: Context,
    envelope: Envelope,
    /// Under which reverse-path it goes to recipients elsewhere, if not its own.
    onward: Option<String>,
    /// All for whom it may be.
    recipients: Vec<Recipient>,
    /// Whom the client named.
    named: Vec<Address>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// All that came so far.
    Small(Vec<u8>),
    Large(Outlet),
    /// It could not be begun; that matters if there is a quarantine at the end.
    Lost(Problem),
}

impl Custody {
    pub(crate) fn new(
        ask: Arc<Ask>,
        context: Context,
        envelope: Envelope,
        onward: Option<String>,
        recipients: Vec<Recipient>,
        named: Vec<Address>,
    ) -> Self {
        Self {
            ask,
            context,
            envelope,
            onward,
            recipients,
            named,
            way: Way::Small(Vec::new()),
        }
    }

    /// Carries a piece on. A failure shows at the commit.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        match &mut self.way {
            Way::Small(kept) if kept.len() + bytes.len() <= MAX_KEPT => {
                kept.extend_from_slice(bytes);
            }
            Way::Small(kept) => {
                let kept = std::mem::take(kept);
                self.way = match self.open(&kept).await {
                    Ok(mut outlet) => {
                        outlet.write(bytes).await;
                        Way::Large(outlet)
                    }
                    Err(problem) => Way::Lost(problem),
                };
            }
            Way::Large(outlet) => outlet.write(bytes).await,
            Way::Lost(_) => {}
        }
    }

    /// Keeps only those recipients for whom it is to be held, and tells why it is for the first of them, if there are any.
    pub(crate) fn cause(&mut self, disposition: impl Fn(&str) -> Disposition) -> Option<Cause> {
        self.recipients
            .retain(|one| disposition(&one.address).is_held());
        // Each message takes the room of one tenant: that of the first who was named and does not get it.
        let held = |one: &Address| disposition(&one.to_string()).is_held();
        let first = self.named.iter().position(held).unwrap_or(0);
        self.named.drain(..first);
        let first = self.recipients.first()?;
        Some(disposition(&first.address).cause)
    }

    /// Returns when it is in quarantine, durably, with `head` in front of it.
    ///
    /// # Errors
    /// A [`Problem`], also when there is no room: then nothing of the message is to be accepted, so that its sender tries again.
    pub(crate) async fn commit(mut self, head: Vec<u8>, reason: String) -> Result<(), Problem> {
        let outlet = match std::mem::replace(&mut self.way, Way::Small(Vec::new())) {
            Way::Small(kept) => self.open(&kept).await?,
            Way::Large(outlet) => outlet,
            Way::Lost(problem) => return Err(problem),
        };
        outlet.add_queue_recipients(&self.recipients).await?;
        let domain = self.named.first().ok_or(NONSENSE)?.domain();
        let quarantine = Quarantine {
            reason,
            onward: self.onward,
            domain: domain.as_str().to_owned(),
        };
        outlet.commit_to(head, Some(quarantine)).await
    }

    async fn open(&self, kept: &[u8]) -> Result<Outlet, Problem> {
        let envelope = self.envelope.clone();
        let mut outlet = self.ask.open_queue(self.context, envelope).await?;
        outlet.write(kept).await;
        Ok(outlet)
    }
}
