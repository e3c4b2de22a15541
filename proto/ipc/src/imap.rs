//! imapd → deliverd: logins. Everything after a login goes over the mail session descriptor ([`crate::session`]).

use crate::edge::{Edge, Silence};
use crate::frame::{Decode, Encode};
use crate::login::{Challenge, LoginRequest};
use crate::smtp::Credentials;

/// How many extensions can be switched off for an account.
pub const MAX_WITHOUT: usize = 128;
/// Longest name of an extension in bytes.
pub const MAX_EXTENSION: usize = 40;

/// Orders of imapd to deliverd.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ImapRequest {
    /// Verify a login and open a mail session.
    Authenticate(Credentials),
    /// The same with a login in several messages.
    Login(LoginRequest),
}

/// What deliverd answers to an [`ImapRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ImapAnswer {
    /// Comes with one descriptor: a connected packet socket speaking [`crate::session::SessionEdge`], bound to this account.
    SessionOpened {
        /// Canonical address of the account.
        account: String,
        /// Extensions its clients are not offered, as CAPABILITY names them; at most [`MAX_WITHOUT`].
        without: Vec<String>,
    },
    /// To [`ImapRequest::Login`]: it goes on.
    LoginChallenged(Challenge),
    /// To [`LoginRequest::Abandon`].
    LoginAbandoned,
}

/// imapd asks deliverd.
#[derive(Debug)]
pub struct ImapEdge;

impl Edge for ImapEdge {
    type Request = ImapRequest;
    type Answer = ImapAnswer;
    type Event = Silence;
    const NAME: &'static str = "imapd-deliverd";
}
