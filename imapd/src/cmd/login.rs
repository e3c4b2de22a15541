//! LOGIN and AUTHENTICATE.

use std::time::Duration;

use daemon::channel::CallError;
use imap::fragment::LIMIT_AFTER_LOGIN;
use imap::response::{self, Code};
use imap::sasl::{Credentials, SaslError, plain};
use ipc::{Context, Refusal};
use sasl::Mechanism;
use tracing::{info, warn};

use super::exchange::{self, Failure};
use crate::ask::MailSession;
use crate::session::{Session, User};
use crate::wire::Close;
use crate::words::Tagged;

/// How long a client may take to answer a challenge.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn login(
    session: &mut Session,
    tag: &str,
    credentials: &Credentials,
) -> Result<Tagged, Close> {
    if !session.may_log_in() {
        return refuse_in_clear(session, tag);
    }
    log_in(session, tag, credentials).await
}

// RFC 3501 §6.2.2; RFC 4616 for PLAIN; RFC 4959 for the initial response.
pub(super) async fn authenticate(
    session: &mut Session,
    tag: &str,
    mechanism: &str,
    initial: Option<Vec<u8>>,
) -> Result<Tagged, Close> {
    let exchange = Mechanism::parse(mechanism);
    let exchange = exchange.filter(|mechanism| mechanism.is_offered(session.proofs()));
    if mechanism != "PLAIN" && exchange.is_none() {
        session.count_mistake()?;
        return Ok(Tagged::no(
            tag,
            Some(&Code::Cannot),
            "this mechanism is not offered, see CAPABILITY",
        ));
    }
    if !session.may_log_in() {
        return refuse_in_clear(session, tag);
    }
    if let Some(mechanism) = exchange {
        return log_in_with(session, tag, mechanism, initial).await;
    }
    let answer = match initial {
        Some(answer) => answer,
        None => {
            response::continuation("", &mut session.wire.out);
            session.wire.line(PATIENCE).await?
        }
    };
    match plain(&answer) {
        Ok(credentials) => log_in(session, tag, &credentials).await,
        Err(SaslError::Cancelled) => {
            session.count_mistake()?;
            Ok(Tagged::bad(tag, "cancelled"))
        }
        Err(SaslError::Malformed) => {
            session.count_mistake()?;
            Ok(Tagged::bad(tag, "that is not what PLAIN expects"))
        }
        Err(SaslError::OtherIdentity) => {
            session.count_mistake()?;
            let code = Code::AuthenticationFailed;
            Ok(Tagged::no(tag, Some(&code), "nobody acts for others here"))
        }
    }
}

async fn log_in_with(
    session: &mut Session,
    tag: &str,
    mechanism: Mechanism,
    initial: Option<Vec<u8>>,
) -> Result<Tagged, Close> {
    let name = mechanism.name();
    match exchange::carry(session, mechanism, initial).await? {
        Ok((account, mail)) => Ok(welcome(session, tag, account, mail)),
        Err(Failure::Cancelled) => {
            session.count_mistake()?;
            Ok(Tagged::bad(tag, "cancelled"))
        }
        Err(Failure::Malformed) => {
            session.count_mistake()?;
            Ok(Tagged::bad(tag, "that is not base64"))
        }
        Err(Failure::Refused(error)) => {
            warn!(mechanism = name, %error, "login refused");
            session.count_mistake()?;
            // RFC 5530 §3: what the mechanism does not allow is a failed login, too.
            if let CallError::Refused(Refusal::Invalid(text)) = &error {
                return Ok(Tagged::no(tag, Some(&Code::AuthenticationFailed), text));
            }
            Ok(Tagged::refused(tag, &error))
        }
    }
}

fn welcome(session: &mut Session, tag: &str, account: String, mail: MailSession) -> Tagged {
    info!(account, tls = session.wire.is_secure(), "logged in");
    session.user = Some(User { account, mail });
    session.wire.fragmenter.allow(LIMIT_AFTER_LOGIN);
    let capabilities = session.capabilities();
    let code = Code::Capability(&capabilities);
    Tagged::ok_with(tag, &code, "logged in")
}

// RFC 5530 §3, PRIVACYREQUIRED. The password was sent all the same; it is not looked at.
fn refuse_in_clear(session: &mut Session, tag: &str) -> Result<Tagged, Close> {
    warn!("a password was sent in clear text");
    session.count_mistake()?;
    let code = Code::PrivacyRequired;
    Ok(Tagged::no(
        tag,
        Some(&code),
        "use STARTTLS first, or port 993",
    ))
}

async fn log_in(
    session: &mut Session,
    tag: &str,
    credentials: &Credentials,
) -> Result<Tagged, Close> {
    let context = Context {
        session: session.client.session,
        message: 0,
    };
    let address = session.client.address;
    match session
        .house
        .ask
        .log_in(context, credentials, address)
        .await
    {
        Ok((account, mail)) => Ok(welcome(session, tag, account, mail)),
        Err(error) => {
            warn!(user = credentials.user, %error, "login refused");
            if let CallError::Refused(Refusal::BadCredentials { wait }) = error {
                tokio::time::sleep(Duration::from_secs(wait.into())).await;
            }
            session.count_mistake()?;
            Ok(Tagged::refused(tag, &error))
        }
    }
}
