//! `POST /auth/login`: a bearer token for a user name and a password.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use axum::{Extension, Json};
use daemon::channel::CallError;
use ipc::{Refusal, Secret};
use mail::address::Address;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::trouble::Trouble;
use super::{Desk, Visitor};
use crate::ask::Token;

/// Longest body in bytes; a longer one is answered 413.
const MAX_BODY: usize = 16 * 1024;
/// Longest password in bytes (see [`ipc::smtp::Credentials`]).
const MAX_PASSWORD: usize = 1024;
/// Seconds after which asking a busy or restarted deliverd again makes sense.
const SOON: u32 = 5;

const SHAPE: &str = "the body must be a JSON object with the strings \"username\" and \"password\", \
                     and \"domain\" unless the user name is a full address; nothing else";

/// What the client sends. Not `Debug`: it holds a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    username: String,
    password: String,
    domain: Option<String>,
}

/// What the client gets. Not `Debug`: it holds a token.
#[derive(Serialize)]
pub(super) struct Welcome {
    token: String,
    username: String,
    domain: String,
    expires_in: u32,
}

pub(super) async fn log_in(
    State(desk): State<Desk>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
) -> Result<Json<Welcome>, Trouble> {
    check_type(request.headers())?;
    let body = receive(request, &desk).await?;
    let (user, password) = read(&body)?;
    drop(body);
    let context = visitor.context();
    let name = user.to_string();
    match desk
        .ask
        .issue_token(context, name, password, visitor.address)
        .await
    {
        Ok(token) => welcome(token, visitor),
        Err(problem) => {
            warn!(client = %visitor.address, %user, reason = %problem, "login refused");
            if let CallError::Refused(Refusal::BadCredentials { wait }) = problem {
                sleep(Duration::from_secs(wait.into())).await;
            }
            Err(refuse(&problem, &desk))
        }
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Trouble> {
    let value = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let media = value(CONTENT_TYPE).and_then(|value| value.split(';').next());
    // RFC 9110 §8.3.1: type and subtype are case-insensitive.
    if !media.is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json")) {
        let text = "send the login as Content-Type: application/json";
        return Err(Trouble::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    if value(CONTENT_ENCODING).is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        let text = "send the login without Content-Encoding";
        return Err(Trouble::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    Ok(())
}

async fn receive(mut request: Request, desk: &Desk) -> Result<Bytes, Trouble> {
    DefaultBodyLimit::max(MAX_BODY).apply(&mut request);
    match timeout(desk.body, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let text = format!("the body is longer than {MAX_BODY} bytes");
            Err(Trouble::new(StatusCode::PAYLOAD_TOO_LARGE, text))
        }
        Ok(Err(_)) => Err(bad("the body could not be read to its end")),
        Err(_) => {
            let text = "the body took too long to arrive";
            Err(Trouble::new(StatusCode::REQUEST_TIMEOUT, text))
        }
    }
}

fn read(body: &[u8]) -> Result<(Address, Secret), Trouble> {
    // serde would take an array for a struct, too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(bad(SHAPE));
    }
    // The words of serde_json may quote a value, so only the place is passed on.
    let login: Login = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        if error.is_data() {
            bad(format!("{SHAPE} (see line {line}, column {column})"))
        } else {
            bad(format!("not valid JSON at line {line}, column {column}"))
        }
    })?;
    let password = Secret::new(login.password);
    if password.reveal().len() > MAX_PASSWORD {
        let text = format!("the password is longer than {MAX_PASSWORD} bytes");
        return Err(bad(text));
    }
    Ok((user(&login.username, login.domain.as_deref())?, password))
}

fn user(username: &str, domain: Option<&str>) -> Result<Address, Trouble> {
    let full = match domain {
        None => Address::parse(username),
        // Both are given: fine as long as they say the same.
        Some(domain) if username.contains('@') => {
            let address = Address::parse(username);
            if let Ok(address) = &address
                && !mail::address::Domain::parse(domain).is_ok_and(|d| d == *address.domain())
            {
                return Err(bad("\"username\" and \"domain\" name different domains"));
            }
            address
        }
        Some(domain) => Address::parse(&format!("{username}@{domain}")),
    };
    full.map_err(|error| bad(format!("\"username\": {error}")))
}

fn bad(text: impl Into<std::borrow::Cow<'static, str>>) -> Trouble {
    Trouble::new(StatusCode::BAD_REQUEST, text)
}

fn welcome(token: Token, visitor: Visitor) -> Result<Json<Welcome>, Trouble> {
    let Token {
        token,
        account,
        expires_in,
    } = token;
    let (Ok(token), Some((username, domain))) = (
        String::from_utf8(token.reveal().to_vec()),
        account.rsplit_once('@'),
    ) else {
        error!("bug: deliverd issued a token that is no text, or for no address");
        return Err(unavailable("internal error, see the log of apid"));
    };
    info!(client = %visitor.address, account, expires_in, "logged in");
    Ok(Json(Welcome {
        token,
        username: username.to_owned(),
        domain: domain.to_owned(),
        expires_in,
    }))
}

fn refuse(problem: &CallError, desk: &Desk) -> Trouble {
    match problem {
        // Whoever fails does not learn whether the user exists.
        CallError::Refused(Refusal::BadCredentials { .. }) => {
            Trouble::new(StatusCode::UNAUTHORIZED, "wrong user name or password")
        }
        CallError::Refused(Refusal::TooManyFailures) => Trouble::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many failed logins, try again later",
        )
        .retry_after(desk.lockout.max(1)),
        CallError::Refused(refusal) if !refusal.is_temporary() => {
            error!(%refusal, "bug: deliverd refused a login for a reason that is none");
            unavailable("the login cannot be checked at the moment")
        }
        CallError::Refused(_) => unavailable("the login cannot be checked at the moment"),
        CallError::Unavailable => {
            unavailable("the login cannot be checked: deliverd does not answer")
        }
    }
}

fn unavailable(text: &'static str) -> Trouble {
    Trouble::new(StatusCode::SERVICE_UNAVAILABLE, text).retry_after(SOON)
}
