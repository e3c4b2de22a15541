//! AUTHENTICATE with a mechanism whose messages are carried to deliverd and back.

use std::sync::Arc;
use std::time::Duration;

use daemon::channel::CallError;
use imap::response;
use ipc::login::{LoginRequest, LoginStart};
use ipc::{Context, Refusal, Secret};
use sasl::Mechanism;

use super::login::PATIENCE;
use crate::ask::{MailSession, Step};
use crate::house::House;
use crate::session::Session;
use crate::wire::Close;

/// Why nobody is logged in.
pub(super) enum Failure {
    /// `*`: the client changed its mind.
    Cancelled,
    /// Not base64.
    Malformed,
    /// deliverd says no.
    Refused(CallError),
}

/// Carries messages until the login is granted or fails. Returns the account's address and its mail session.
pub(super) async fn carry(
    session: &mut Session,
    mechanism: Mechanism,
    initial: Option<Vec<u8>>,
) -> Result<Result<(String, MailSession), Failure>, Close> {
    let context = Context {
        session: session.client.session,
        message: 0,
    };
    let client = session.client.address.to_canonical().to_string();
    let mut answer = match initial {
        Some(answer) => answer,
        None => challenge(session, b"").await?,
    };
    let mut open: Option<Exchange> = None;
    loop {
        // RFC 3501 §6.2.2: a client that wishes to cancel sends a line with a single "*".
        if answer == b"*" {
            return Ok(Err(Failure::Cancelled));
        }
        let Some(message) = mail::decode::base64_strict(&answer) else {
            return Ok(Err(Failure::Malformed));
        };
        let message = Secret::new(message);
        let request = match open.take() {
            None => LoginRequest::Begin(LoginStart {
                mechanism: mechanism.name().to_owned(),
                message,
                client: client.clone(),
                binding: session.wire.channel_binding(),
                certificates: match mechanism {
                    Mechanism::External => session.wire.certificates(),
                    _ => Vec::new(),
                },
            }),
            Some(exchange) => LoginRequest::Continue {
                exchange: exchange.hand_over(),
                message,
            },
        };
        match session.house.ask.carry(context, request).await {
            Ok(Step::Challenged(challenged)) => {
                open = Some(Exchange {
                    house: Arc::clone(&session.house),
                    context,
                    id: Some(challenged.exchange),
                });
                answer = challenge(session, challenged.message.reveal()).await?;
            }
            Ok(Step::Admitted(account, mail)) => return Ok(Ok((account, mail))),
            Err(error) => {
                if let CallError::Refused(Refusal::BadCredentials { wait }) = error {
                    tokio::time::sleep(Duration::from_secs(wait.into())).await;
                }
                return Ok(Err(Failure::Refused(error)));
            }
        }
    }
}

async fn challenge(session: &mut Session, message: &[u8]) -> Result<Vec<u8>, Close> {
    let text = mail::encode::base64(message);
    response::continuation(&text, &mut session.wire.out);
    session.wire.line(PATIENCE).await
}

/// A login that deliverd keeps; it is told when nobody goes on with it.
struct Exchange {
    house: Arc<House>,
    context: Context,
    id: Option<u64>,
}

impl Exchange {
    /// Its number, for the message that ends it.
    fn hand_over(mut self) -> u64 {
        self.id.take().unwrap_or_default()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // Without a runtime the process ends, which ends it too.
        if let (Some(id), Ok(runtime)) = (self.id, tokio::runtime::Handle::try_current()) {
            let (house, context) = (Arc::clone(&self.house), self.context);
            runtime.spawn(async move { house.ask.abandon(context, id).await });
        }
    }
}
