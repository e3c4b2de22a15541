//! What imapd may ask: logins. A right one is answered with a descriptor that is the user's mail session.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use daemon::channel::{Answered, Events, Service, serve_link};
use ipc::imap::{ImapAnswer, ImapEdge, ImapRequest};
use ipc::smtp::Credentials;
use ipc::{Call, Refusal};
use sys::packet::PacketSocket;
use tracing::{Instrument, error, info_span};

use super::{House, hex, session};

/// The door of imapd.
pub(super) struct Door(pub(super) Arc<House>);

impl Service<ImapEdge> for Door {
    type Peer = ();

    fn open(&self, _events: Events<ImapEdge>) {}

    async fn answer(
        &self,
        _peer: Arc<()>,
        call: Call<ImapRequest>,
    ) -> Result<Answered<ImapAnswer>, Refusal> {
        let span = info_span!("imapd", session = hex(call.context.session));
        match call.request {
            ImapRequest::Authenticate(credentials) => {
                open_session(&self.0, credentials, call.context.session)
                    .instrument(span)
                    .await
            }
        }
    }
}

/// Mints the descriptor: whoever holds its other end is this account and no other.
async fn open_session(
    house: &Arc<House>,
    credentials: Credentials,
    id: u64,
) -> Result<Answered<ImapAnswer>, Refusal> {
    let owner = house.admit(credentials).await?;
    let account = owner.address();
    let user = house
        .work(move |house| Ok((house.store.user(&owner)?, owner)))
        .await?;
    let (ours, theirs) = PacketSocket::pair().map_err(|error| {
        error!(%error, "cannot open a mail session");
        Refusal::Busy
    })?;
    let session = session::Door::new(Arc::clone(house), user.0, user.1);
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
        ImapAnswer::SessionOpened { account },
        vec![OwnedFd::from(theirs)],
    ))
}
