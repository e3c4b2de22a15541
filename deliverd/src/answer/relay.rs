//! What relayd may ask: to deliver reports, and what accounts may send.

use std::sync::Arc;

use daemon::channel::{Answered, Events, Service};
use ipc::relay::{DeliveryEdge, RelayAnswer, RelayRequest};
use ipc::{Call, Refusal};
use tracing::{Instrument, info_span};

use super::delivery::{self, Messages};
use super::{House, hex};
use crate::accounts::address;
use crate::store::Owner;

/// The door of relayd.
pub(super) struct Door(pub(super) Arc<House>);

impl Service<DeliveryEdge> for Door {
    type Peer = Messages;

    fn open(&self, _events: Events<DeliveryEdge>) -> Messages {
        delivery::messages(&self.0)
    }

    async fn answer(
        &self,
        messages: Arc<Messages>,
        call: Call<RelayRequest>,
    ) -> Result<Answered<RelayAnswer>, Refusal> {
        let span = info_span!(
            "relayd",
            session = hex(call.context.session),
            message = hex(call.context.message)
        );
        match call.request {
            RelayRequest::Delivery(request) => {
                let answered = delivery::answer(&self.0, &messages, request).instrument(span);
                let Answered { answer, fds } = answered.await?;
                Ok(Answered::with(RelayAnswer::Delivery(answer), fds))
            }
            RelayRequest::ShowBudgets { account } => {
                let owner = Owner::of(&address(&account)?);
                let read = self.0.work(move |house| house.accounts.budgets(&owner));
                Ok(Answered::plain(RelayAnswer::Budgets(read.await?)))
            }
            RelayRequest::ShowTenant { domain } => {
                let read = self.0.work(move |house| house.accounts.tenant_of(&domain));
                Ok(Answered::plain(RelayAnswer::Tenant(read.await?)))
            }
        }
    }
}
