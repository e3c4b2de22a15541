//! LOGIN and AUTHENTICATE.

use std::time::Duration;

use daemon::channel::CallError;
use imap::fragment::LIMIT_AFTER_LOGIN;
use imap::response::{self, Code};
use imap::sasl::{self, Credentials, SaslError};
use ipc::{Context, Refusal};
use tracing::{info, warn};

use crate::session::{Session, User};
use crate::wire::Close;
use crate::words::Tagged;

/// How long a client may take to answer a challenge.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long the answer to a wrong password takes, so that guessing is slow.
const PENALTY: Duration = Duration::from_secs(1);

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
    if mechanism != "PLAIN" {
        session.count_mistake()?;
        return Ok(Tagged::no(
            tag,
            Some(&Code::Cannot),
            "the only mechanism is PLAIN",
        ));
    }
    if !session.may_log_in() {
        return refuse_in_clear(session, tag);
    }
    let answer = match initial {
        Some(answer) => answer,
        None => {
            response::continuation("", &mut session.wire.out);
            session.wire.line(PATIENCE).await?
        }
    };
    match sasl::plain(&answer) {
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
        Ok((account, mail)) => {
            info!(account, tls = session.wire.is_secure(), "logged in");
            session.user = Some(User { account, mail });
            session.wire.fragmenter.allow(LIMIT_AFTER_LOGIN);
            let code = Code::Capability(session.capabilities());
            Ok(Tagged::ok_with(tag, &code, "logged in"))
        }
        Err(error) => {
            warn!(user = credentials.user, %error, "login refused");
            if matches!(error, CallError::Refused(Refusal::BadCredentials)) {
                tokio::time::sleep(PENALTY).await;
            }
            session.count_mistake()?;
            Ok(Tagged::refused(tag, &error))
        }
    }
}
