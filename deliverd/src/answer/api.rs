//! What apid may ask: tokens for a password, and whether all is well.

use std::sync::Arc;

use daemon::channel::{Answered, Events, Service};
use ipc::api::{ApiAnswer, ApiEdge, ApiRequest};
use ipc::{Call, Refusal};
use tracing::{Instrument, info_span};

use super::{House, hex};
use crate::accounts::TOKEN_LIFETIME;

/// The door of apid.
pub(super) struct Door(pub(super) Arc<House>);

impl Service<ApiEdge> for Door {
    type Peer = ();

    fn open(&self, _events: Events<ApiEdge>) {}

    async fn answer(
        &self,
        _peer: Arc<()>,
        call: Call<ApiRequest>,
    ) -> Result<Answered<ApiAnswer>, Refusal> {
        let span = info_span!("apid", session = hex(call.context.session));
        self.reply(call.request)
            .instrument(span)
            .await
            .map(Answered::plain)
    }
}

impl Door {
    async fn reply(&self, request: ApiRequest) -> Result<ApiAnswer, Refusal> {
        match request {
            ApiRequest::IssueToken(credentials) => {
                let owner = self.0.admit(credentials).await?;
                let account = owner.address();
                let token = self
                    .0
                    .work(move |house| house.accounts.issue_token(&owner))
                    .await?;
                Ok(ApiAnswer::TokenIssued {
                    token,
                    account,
                    expires_in: TOKEN_LIFETIME,
                })
            }
            ApiRequest::CheckHealth => {
                self.0
                    .work(|house| {
                        house.accounts.counts()?;
                        house.store.check()
                    })
                    .await?;
                Ok(ApiAnswer::Healthy)
            }
        }
    }
}
