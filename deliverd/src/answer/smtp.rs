//! What smtpd may ask: deliveries, logins of submission, and who may use which sender.

use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::channel::{Answered, Events, Prompt, Reply, Service};
use ipc::login::LoginRequest;
use ipc::smtp::{SmtpAnswer, SmtpEdge, SmtpRequest};
use ipc::{Call, Context, Refusal};
use tracing::{Instrument, Span, info_span};

use super::delivery::{self, Begun, Messages};
use super::lane::{Done, Parcel, Shift};
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
        let span = span_of(call.context);
        self.reply(&peer, call.request).instrument(span).await
    }
}

impl Prompt<SmtpEdge> for Door {
    type Shift = Shift;

    fn answer_here(
        &self,
        shift: &mut Shift,
        peer: &Peer,
        call: Call<SmtpRequest>,
        reply: Reply<SmtpEdge>,
    ) -> Option<(Call<SmtpRequest>, Reply<SmtpEdge>)> {
        let SmtpRequest::Delivery(request) = call.request else {
            return Some((call, reply));
        };
        let span = span_of(call.context);
        let begun = span.in_scope(|| delivery::begin(&self.0, &peer.messages, request));
        match begun {
            Begun::Answered(result) => {
                reply.send(result.map(|Answered { answer, fds }| {
                    Answered::with(SmtpAnswer::Delivery(answer), fds)
                }));
                None
            }
            Begun::Small(message, owners) => {
                let within = Duration::from_millis(u64::from(call.deadline_ms));
                let parcel = Parcel {
                    message,
                    owners,
                    span,
                    done: Done::Asker(reply, Instant::now() + within),
                };
                self.0.begin_here(shift, parcel);
                None
            }
            Begun::Not(request) => {
                let request = SmtpRequest::Delivery(request);
                Some((Call { request, ..call }, reply))
            }
        }
    }

    fn settle(&self, shift: Shift) {
        self.0.settle(shift);
    }
}

fn span_of(context: Context) -> Span {
    info_span!(
        "smtpd",
        session = hex(context.session),
        message = hex(context.message)
    )
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
