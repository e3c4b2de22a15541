//! smtpd → deliverd: deliveries, logins of submission, and who may use which sender.

use crate::delivery::{DeliveryAnswer, DeliveryRequest};
use crate::edge::{Edge, Silence};
use crate::frame::{Decode, Encode};
use crate::login::{Challenge, LoginRequest};
use crate::secret::Secret;

/// A login attempt with a password, from any protocol.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Credentials {
    /// What the client gave as user name: the full address.
    pub user: String,
    /// The password as it came (RFC 4616), at most 1 KiB.
    pub password: Secret,
    /// The client's IP address, for counting failures and for the log.
    pub client: String,
}

/// Orders of smtpd to deliverd.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SmtpRequest {
    /// Local delivery.
    Delivery(DeliveryRequest),
    /// Verify a submission login.
    Authenticate(Credentials),
    /// A submission login in several messages.
    Login(LoginRequest),
    /// Would this user be heard who logs in with the right password? Nothing is counted, and nobody is logged in.
    FindAccount {
        /// What the client gives as user name.
        user: String,
        /// The client's IP address.
        client: String,
    },
    /// May `account` send as `sender`?
    CheckSender {
        /// From [`SmtpAnswer::Authenticated`].
        account: String,
        /// Address of MAIL FROM, or one that the header names as author or sender.
        sender: String,
    },
    /// An alias passes on a message of this sender: under which address does it go out? One of ours, unless the sender is: for
    /// others we are no server that may send (SPF).
    RewriteSender {
        /// Address of MAIL FROM.
        sender: String,
    },
}

/// What deliverd answers to a [`SmtpRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SmtpAnswer {
    /// To [`SmtpRequest::Delivery`].
    Delivery(DeliveryAnswer),
    /// The login was right, or would be.
    Authenticated {
        /// Canonical address of the account.
        account: String,
    },
    /// To [`SmtpRequest::Login`]: it goes on.
    LoginChallenged(Challenge),
    /// To [`LoginRequest::Abandon`].
    LoginAbandoned,
    /// The sender is the account's own address, one of its aliases, or granted to it.
    SenderAllowed,
    /// To [`SmtpRequest::RewriteSender`].
    SenderRewritten {
        /// The address for MAIL FROM.
        sender: String,
    },
}

/// smtpd asks deliverd.
#[derive(Debug)]
pub struct SmtpEdge;

impl Edge for SmtpEdge {
    type Request = SmtpRequest;
    type Answer = SmtpAnswer;
    type Event = Silence;
    const NAME: &'static str = "smtpd-deliverd";
}
