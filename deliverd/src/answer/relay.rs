//! What relayd may ask: to deliver reports.

use std::sync::Arc;

use daemon::channel::{Answered, Events, Service};
use ipc::delivery::{DeliveryAnswer, DeliveryRequest};
use ipc::relay::DeliveryEdge;
use ipc::{Call, Refusal};
use tracing::{Instrument, info_span};

use super::delivery::{self, Messages};
use super::{House, hex};

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
        call: Call<DeliveryRequest>,
    ) -> Result<Answered<DeliveryAnswer>, Refusal> {
        let span = info_span!(
            "relayd",
            session = hex(call.context.session),
            message = hex(call.context.message)
        );
        delivery::answer(&self.0, &messages, call.request)
            .instrument(span)
            .await
    }
}
