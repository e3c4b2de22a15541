//! What smtpd may ask: deliveries, logins of submission, and who may use which sender.

use std::sync::Arc;

use daemon::channel::{Answered, Events, Service};
use ipc::login::LoginRequest;
use ipc::smtp::{SmtpAnswer, SmtpEdge, SmtpRequest};
use ipc::{Call, Refusal};
use tracing::{Instrument, info_span};

use super::delivery::{self, Messages};
use super::{House, hex};
use crate::accounts::{Exchanges, Step, address};
use crate::store::Owner;

/// What is under way on a channel.
pub(super) struct Peer {
    messages: Messages,
    logins: Exchanges,
}

/// The door of smtpd.
pub(super) struct Door(pub(super) Arc<House>);

impl Service<SmtpEdge> for Door {
    type Peer = Peer;

    fn open(&self, _events: Events<SmtpEdge>) -> Peer {
        Peer {
            messages: delivery::messages(&self.0),
            logins: Exchanges::default(),
        }
    }

    async fn answer(
        &self,
        peer: Arc<Peer>,
        call: Call<SmtpRequest>,
    ) -> Result<Answered<SmtpAnswer>, Refusal> {
        let span = info_span!(
            "smtpd",
            session = hex(call.context.session),
            message = hex(call.context.message)
        );
        self.reply(&peer, call.request).instrument(span).await
    }
}

impl Door {
    async fn reply(
        &self,
        peer: &Peer,
        request: SmtpRequest,
    ) -> Result<Answered<SmtpAnswer>, Refusal> {
        match request {
            SmtpRequest::Delivery(request) => {
                let Answered { answer, fds } =
                    delivery::answer(&self.0, &peer.messages, request).await?;
                Ok(Answered::with(SmtpAnswer::Delivery(answer), fds))
            }
            SmtpRequest::Authenticate(credentials) => {
                let owner = self.0.admit(credentials).await?;
                Ok(Answered::plain(SmtpAnswer::Authenticated {
                    account: owner.address(),
                }))
            }
            SmtpRequest::Login(request) => self.log_in(&peer.logins, request).await,
            SmtpRequest::FindAccount { user, client } => {
                let owner = self
                    .0
                    .work(move |house| house.doorman.find(&user, &client))
                    .await?;
                Ok(Answered::plain(SmtpAnswer::Authenticated {
                    account: owner.address(),
                }))
            }
            SmtpRequest::CheckSender { account, sender } => {
                self.0
                    .work(move |house| check_sender(house, &account, &sender))
                    .await?;
                Ok(Answered::plain(SmtpAnswer::SenderAllowed))
            }
            SmtpRequest::RewriteSender { sender } => {
                let rewritten = self
                    .0
                    .work(move |house| rewrite_sender(house, &sender))
                    .await?;
                Ok(Answered::plain(SmtpAnswer::SenderRewritten {
                    sender: rewritten,
                }))
            }
        }
    }

    async fn log_in(
        &self,
        logins: &Exchanges,
        request: LoginRequest,
    ) -> Result<Answered<SmtpAnswer>, Refusal> {
        let step = self.0.doorman.log_in(logins, request).await?;
        Ok(Answered::plain(match step {
            Some(Step::Challenged(challenge)) => SmtpAnswer::LoginChallenged(challenge),
            Some(Step::Admitted(owner)) => SmtpAnswer::Authenticated {
                account: owner.address(),
            },
            None => SmtpAnswer::LoginAbandoned,
        }))
    }
}

fn check_sender(house: &House, account: &str, sender: &str) -> Result<(), Refusal> {
    let owner = Owner::of(&address(account)?);
    let sender = address(sender).map_err(|_| Refusal::SenderNotAllowed)?;
    if house.accounts.user(&owner)?.is_some() && house.accounts.may_send_as(&owner, &sender)? {
        Ok(())
    } else {
        Err(Refusal::SenderNotAllowed)
    }
}

fn rewrite_sender(house: &House, sender: &str) -> Result<String, Refusal> {
    let sender = address(sender)?;
    Ok(house.accounts.rewrite_sender(&sender)?.to_string())
}
