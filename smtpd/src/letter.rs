//! A message for users here. A small one is said to deliverd in one piece when it is whole; a larger one is carried over as it
//! arrives.

use std::sync::Arc;

use ipc::Context;
use ipc::delivery::{Destination, fits_in_frame};

use crate::ask::{Ask, Problem};
use crate::outlet::Outlet;
use crate::reservation::Reservation;

/// An open message. Dropped without a commit, it was never there.
#[derive(Debug)]
pub(crate) struct Letter {
    ask: Arc<Ask>,
    context: Context,
    recipients: Vec<String>,
    /// What is set aside for it, until deliverd has heard of it.
    reservation: Option<Reservation>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// All that came so far.
    Small(Vec<u8>),
    Large(Outlet),
    /// It could not be begun; told at the commit.
    Lost(Problem),
}

impl Letter {
    /// Begins a message that may have `size` octets (0 if unknown).
    ///
    /// # Errors
    /// A [`Problem`].
    pub(crate) async fn begin(
        ask: Arc<Ask>,
        context: Context,
        recipients: Vec<String>,
        reservation: Option<Reservation>,
        size: u64,
    ) -> Result<Self, Problem> {
        let is_small = usize::try_from(size).is_ok_and(|size| fits_in_frame(&recipients, size));
        let mut letter = Self {
            ask,
            context,
            recipients,
            reservation,
            way: Way::Small(Vec::new()),
        };
        if !is_small {
            letter.way = Way::Large(letter.open().await?);
        }
        Ok(letter)
    }

    /// Carries a piece on. A failure shows at the commit.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        match &mut self.way {
            Way::Small(kept) if fits_in_frame(&self.recipients, kept.len() + bytes.len()) => {
                kept.extend_from_slice(bytes);
            }
            Way::Small(kept) => {
                let kept = std::mem::take(kept);
                self.way = match self.open().await {
                    Ok(mut outlet) => {
                        outlet.write(&kept).await;
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

    /// Keeps only those recipients, and tells whether there are any.
    pub(crate) fn is_for(&mut self, recipient: impl Fn(&str) -> bool) -> bool {
        self.recipients.retain(|one| recipient(one));
        !self.recipients.is_empty()
    }

    /// Returns when the message is durable, with `head` in front of it, where `destination` says for each recipient.
    ///
    /// # Errors
    /// A [`Problem`]; the message is not there then, unless deliverd died while it answered.
    pub(crate) async fn commit(
        mut self,
        head: Vec<u8>,
        destination: impl Fn(&str) -> Destination,
    ) -> Result<(), Problem> {
        let addresses = std::mem::take(&mut self.recipients);
        let fits = |bytes: &Vec<u8>| fits_in_frame(&addresses, head.len() + bytes.len());
        let is_small = matches!(&self.way, Way::Small(bytes) if fits(bytes));
        let is_junk = |address: &String| destination(address) == Destination::Junk;
        let (junk, inbox): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_junk);
        let (outlet, head) = match std::mem::replace(&mut self.way, Way::Small(Vec::new())) {
            Way::Small(bytes) if is_small => {
                let bytes = [head, bytes].concat();
                let transaction = Reservation::hand_over(&mut self.reservation);
                let (ask, context) = (self.ask, self.context);
                return ask.deliver(context, transaction, inbox, junk, bytes).await;
            }
            // The head may be what is too much for a frame.
            Way::Small(bytes) => {
                let mut outlet = self.open().await?;
                outlet.write(&bytes).await;
                (outlet, head)
            }
            Way::Large(outlet) => (outlet, head),
            Way::Lost(problem) => return Err(problem),
        };
        outlet.add_recipients(&inbox, Destination::Inbox).await?;
        outlet.add_recipients(&junk, Destination::Junk).await?;
        outlet.commit(head).await
    }

    async fn open(&mut self) -> Result<Outlet, Problem> {
        let transaction = self.reservation.as_ref().map_or(0, Reservation::number);
        let outlet = self.ask.open_local(self.context, transaction).await?;
        Reservation::hand_over(&mut self.reservation);
        Ok(outlet)
    }
}
