//! What imapd may ask: logins. A right one is answered with a descriptor that is the user's mail session.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use daemon::channel::{Answered, Events, Service, serve_link};
use ipc::imap::{ImapAnswer, ImapEdge, ImapRequest};
use ipc::{Call, Refusal};
use sys::packet::PacketSocket;
use tracing::{Instrument, error, info_span};

use super::jobs::Party;
use super::sharing::Identity;
use super::{House, hex, session};
use crate::accounts::{Exchanges, Step};
use crate::store::Owner;

/// The door of imapd.
pub(super) struct Door(pub(super) Arc<House>);

impl Service<ImapEdge> for Door {
    type Peer = Exchanges;

    fn open(&self, _events: Events<ImapEdge>) -> Exchanges {
        Exchanges::default()
    }

    async fn answer(
        &self,
        logins: Arc<Exchanges>,
        call: Call<ImapRequest>,
    ) -> Result<Answered<ImapAnswer>, Refusal> {
        let span = info_span!("imapd", session = hex(call.context.session));
        let id = call.context.session;
        self.reply(&logins, call.request, id).instrument(span).await
    }
}

impl Door {
    async fn reply(
        &self,
        logins: &Exchanges,
        request: ImapRequest,
        id: u64,
    ) -> Result<Answered<ImapAnswer>, Refusal> {
        let step = match request {
            ImapRequest::Authenticate(credentials) => {
                Some(Step::Admitted(self.0.admit(credentials).await?))
            }
            ImapRequest::Login(request) => self.0.doorman.log_in(logins, request).await?,
        };
        match step {
            Some(Step::Admitted(owner)) => open_session(&self.0, owner, id).await,
            Some(Step::Challenged(challenge)) => {
                Ok(Answered::plain(ImapAnswer::LoginChallenged(challenge)))
            }
            None => Ok(Answered::plain(ImapAnswer::LoginAbandoned)),
        }
    }
}

/// Mints the descriptor: whoever holds its other end is this account and no other.
async fn open_session(
    house: &Arc<House>,
    owner: Owner,
    id: u64,
) -> Result<Answered<ImapAnswer>, Refusal> {
    let account = owner.address();
    let (me, party, without) = house
        .work(move |house| {
            let without = house.accounts.imap_without(&owner)?;
            let visitor = house.accounts.visitor(&owner)?.ok_or(Refusal::NoSuchUser)?;
            let party = match house.accounts.tenant_of(&owner.domain)? {
                Some(tenant) => Party::Tenant(tenant),
                None => Party::Domain(owner.domain.clone()),
            };
            let me = Identity {
                user: house.store.user(&owner)?,
                owner,
                visitor,
            };
            Ok((me, party, without))
        })
        .await?;
    let (ours, theirs) = PacketSocket::pair().map_err(|error| {
        error!(%error, "cannot open a mail session");
        Refusal::Busy
    })?;
    let session = session::Door::new(house.for_party(party), me);
    let (stop, span) = (
        house.stop.clone(),
        info_span!("session", session = hex(id), account),
    );
    let serving = async move {
        if let Err(error) = serve_link(ours, Arc::new(session), stop).await {
            error!(%error, "cannot serve a mail session");
        }
    };
    tokio::spawn(serving.instrument(span));
    Ok(Answered::with(
        ImapAnswer::SessionOpened { account, without },
        vec![OwnedFd::from(theirs)],
    ))
}
