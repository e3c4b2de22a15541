//! Everything apid may ask of others: deliverd, about logins and its health.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use daemon::channel::{CallError, Client};
use ipc::api::{ApiAnswer, ApiEdge, ApiRequest};
use ipc::smtp::Credentials;
use ipc::{Context, Secret};
use tracing::error;

/// A health check that takes longer is an answer of its own.
const HEALTH_PATIENCE: Duration = Duration::from_secs(2);
/// A password is worth a quarter of a second of computing, and others may be before us.
const LOGIN_PATIENCE: Duration = Duration::from_secs(30);

/// A login that succeeded.
#[derive(Debug)]
pub struct Token {
    /// What the client shows from now on.
    pub token: Secret,
    /// Canonical address of the account.
    pub account: String,
    /// Seconds until it ends.
    pub expires_in: u32,
}

/// The channel to deliverd.
#[derive(Debug, Clone)]
pub struct Ask {
    deliverd: Client<ApiEdge>,
}

impl Ask {
    /// Will ask over this socket file; connects when something is to be asked.
    #[must_use]
    pub fn new(deliverd: PathBuf) -> Self {
        Self {
            deliverd: Client::new(deliverd),
        }
    }

    /// Is deliverd there, and is its store usable?
    ///
    /// # Errors
    /// [`CallError`] if not, or not within two seconds.
    pub async fn check_health(&self, context: Context) -> Result<(), CallError> {
        let request = ApiRequest::CheckHealth;
        match self
            .deliverd
            .ask(context, HEALTH_PATIENCE, request)
            .await?
            .answer
        {
            ApiAnswer::Healthy => Ok(()),
            ApiAnswer::TokenIssued { .. } => Err(nonsense()),
        }
    }

    /// A token for `user`, if the password is right.
    ///
    /// # Errors
    /// [`ipc::Refusal::BadCredentials`] if it is wrong; otherwise a [`CallError`].
    pub async fn issue_token(
        &self,
        context: Context,
        user: String,
        password: Secret,
        client: IpAddr,
    ) -> Result<Token, CallError> {
        let request = ApiRequest::IssueToken(Credentials {
            user,
            password,
            client: client.to_canonical().to_string(),
        });
        // A login has an effect (failures are counted, a token is made), so it is asked once only.
        match self
            .deliverd
            .call(context, LOGIN_PATIENCE, request)
            .await?
            .answer
        {
            ApiAnswer::TokenIssued {
                token,
                account,
                expires_in,
            } => Ok(Token {
                token,
                account,
                expires_in,
            }),
            ApiAnswer::Healthy => Err(nonsense()),
        }
    }
}

fn nonsense() -> CallError {
    error!("bug: deliverd answered another question than was asked");
    CallError::Unavailable
}
