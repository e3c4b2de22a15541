//! LOGIN and AUTHENTICATE.

use std::time::Duration;

use daemon::channel::CallError;
use imap::fragment::LIMIT_AFTER_LOGIN;
use imap::response::{self, Code};
use imap::sasl::{Credentials, MAX_CREDENTIAL, Password};
use ipc::{Context, Refusal};
use sasl::Mechanism;
use sasl::password::{self, ASK_PASSWORD, ASK_USER, Claim, Unusable};
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

/// A mechanism in which the client says its password.
#[derive(Clone, Copy)]
enum Spoken {
    /// RFC 4616.
    Plain,
    /// draft-murchison-sasl-login: user name and password in an answer each.
    Login,
}

impl Spoken {
    // LOGIN is for clients that know nothing else, and none of them needs it in clear text.
    fn parse(name: &str, is_secure: bool) -> Option<Self> {
        match name {
            "PLAIN" => Some(Self::Plain),
            "LOGIN" if is_secure => Some(Self::Login),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }
}

/// Why an answer of the client is of no use.
enum Unheard {
    /// `*`: the client changed its mind.
    Cancelled,
    Unusable(Unusable),
}

impl From<Unusable> for Unheard {
    fn from(unusable: Unusable) -> Self {
        Self::Unusable(unusable)
    }
}

/// How somebody logs in with a mechanism.
enum Way {
    Spoken(Spoken),
    /// deliverd and the client talk.
    Carried(Mechanism),
}

fn way(session: &Session, mechanism: &str) -> Option<Way> {
    if let Some(spoken) = Spoken::parse(mechanism, session.wire.is_secure()) {
        return Some(Way::Spoken(spoken));
    }
    let carried = Mechanism::parse(mechanism)?;
    let is_offered = carried.is_offered(session.proofs());
    is_offered.then_some(Way::Carried(carried))
}

// RFC 3501 §6.2.2; RFC 4959 for the initial response.
pub(super) async fn authenticate(
    session: &mut Session,
    tag: &str,
    mechanism: &str,
    initial: Option<Vec<u8>>,
) -> Result<Tagged, Close> {
    let Some(way) = way(session, mechanism) else {
        session.count_mistake()?;
        return Ok(Tagged::no(
            tag,
            Some(&Code::Cannot),
            "this mechanism is not offered, see CAPABILITY",
        ));
    };
    if !session.may_log_in() {
        return refuse_in_clear(session, tag);
    }
    match way {
        Way::Spoken(spoken) => log_in_saying(session, tag, spoken, initial).await,
        Way::Carried(mechanism) => log_in_with(session, tag, mechanism, initial).await,
    }
}

async fn log_in_saying(
    session: &mut Session,
    tag: &str,
    spoken: Spoken,
    initial: Option<Vec<u8>>,
) -> Result<Tagged, Close> {
    let said = match spoken {
        Spoken::Plain => hear_plain(session, initial).await?,
        Spoken::Login => hear_login(session, initial).await?,
    };
    let fits = |text: &str| text.len() <= MAX_CREDENTIAL;
    match said {
        Ok((user, password)) if fits(&user) && fits(&password) => {
            let password = Password::new(password.as_bytes().to_vec());
            log_in(session, tag, &Credentials { user, password }).await
        }
        Err(Unheard::Cancelled) => {
            session.count_mistake()?;
            Ok(Tagged::bad(tag, "cancelled"))
        }
        Ok(_) | Err(Unheard::Unusable(Unusable::Malformed)) => {
            session.count_mistake()?;
            let text = format!("that is not what {} expects", spoken.name());
            Ok(Tagged::bad(tag, &text))
        }
        Err(Unheard::Unusable(Unusable::OtherIdentity)) => {
            session.count_mistake()?;
            let code = Code::AuthenticationFailed;
            Ok(Tagged::no(tag, Some(&code), "nobody acts for others here"))
        }
    }
}

async fn hear_plain(
    session: &mut Session,
    initial: Option<Vec<u8>>,
) -> Result<Result<Claim, Unheard>, Close> {
    let heard = hear(session, "", initial).await?;
    Ok(heard.and_then(|message| Ok(password::plain(message)?)))
}

// An initial response is the user name: many clients send one.
async fn hear_login(
    session: &mut Session,
    initial: Option<Vec<u8>>,
) -> Result<Result<Claim, Unheard>, Close> {
    let heard = hear(session, ASK_USER, initial).await?;
    let user = match heard.and_then(|message| Ok(password::login(message)?)) {
        Ok(user) => user.as_str().to_owned(),
        Err(unheard) => return Ok(Err(unheard)),
    };
    let heard = hear(session, ASK_PASSWORD, None).await?;
    let password = heard.and_then(|message| Ok(password::login(message)?));
    Ok(password.map(|password| (user, password)))
}

/// The client's answer to a challenge, unless it has given that already.
async fn hear(
    session: &mut Session,
    challenge: &str,
    initial: Option<Vec<u8>>,
) -> Result<Result<Vec<u8>, Unheard>, Close> {
    let answer = match initial {
        Some(answer) => answer,
        None => {
            response::continuation(challenge, &mut session.wire.out);
            session.wire.line(PATIENCE).await?
        }
    };
    // RFC 3501 §6.2.2: a client that wishes to cancel sends a line with a single "*".
    if answer == b"*" {
        return Ok(Err(Unheard::Cancelled));
    }
    let message = mail::decode::base64_strict(&answer);
    Ok(message.ok_or(Unheard::Unusable(Unusable::Malformed)))
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
    let limits = session.house.limits.without(mail.off);
    session.user = Some(User {
        account,
        mail,
        limits,
    });
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
