//! apid → deliverd: API logins.

use crate::edge::{Edge, Silence};
use crate::frame::{Decode, Encode};
use crate::secret::Secret;
use crate::smtp::Credentials;

/// Orders of apid to deliverd.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ApiRequest {
    /// Verify a login and issue a token.
    IssueToken(Credentials),
    /// Is deliverd alive and its store usable?
    CheckHealth,
}

/// What deliverd answers to an [`ApiRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ApiAnswer {
    /// A bearer token; deliverd keeps only its hash.
    TokenIssued {
        /// 256 random bits, base64url.
        token: Secret,
        /// Canonical address of the account.
        account: String,
        /// Seconds until it ends.
        expires_in: u32,
    },
    /// The store answers.
    Healthy,
}

/// apid asks deliverd.
#[derive(Debug)]
pub struct ApiEdge;

impl Edge for ApiEdge {
    type Request = ApiRequest;
    type Answer = ApiAnswer;
    type Event = Silence;
    const NAME: &'static str = "apid-deliverd";
}
