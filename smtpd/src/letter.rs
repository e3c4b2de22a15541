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

    /// Returns when the message is durable, with `head` in front of it.
    ///
    /// # Errors
    /// A [`Problem`]; the message is not there then, unless deliverd died while it answered.
    pub(crate) async fn commit(
        mut self,
        head: Vec<u8>,
        destination: Destination,
    ) -> Result<(), Problem> {
        match std::mem::replace(&mut self.way, Way::Small(Vec::new())) {
            Way::Small(bytes) => self.commit_small([head, bytes].concat(), destination).await,
            Way::Large(outlet) => outlet.bound_for(destination).commit(head).await,
            Way::Lost(problem) => Err(problem),
        }
    }

    async fn commit_small(
        mut self,
        bytes: Vec<u8>,
        destination: Destination,
    ) -> Result<(), Problem> {
        // The head may be what is too much for a frame.
        if !fits_in_frame(&self.recipients, bytes.len()) {
            let mut outlet = self.open().await?;
            outlet.write(&bytes).await;
            return outlet.bound_for(destination).commit(Vec::new()).await;
        }
        let transaction = Reservation::hand_over(&mut self.reservation);
        let recipients = self.recipients;
        self.ask
            .deliver(self.context, transaction, recipients, destination, bytes)
            .await
    }

    async fn open(&mut self) -> Result<Outlet, Problem> {
        let transaction = self.reservation.as_ref().map_or(0, Reservation::number);
        let outlet = self.ask.open_local(self.context, transaction).await?;
        Reservation::hand_over(&mut self.reservation);
        outlet.add_recipients(&self.recipients).await?;
        Ok(outlet)
    }
}
