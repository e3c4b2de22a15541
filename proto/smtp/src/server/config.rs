//! What a port offers, and how much it bears.

use alloc::vec::Vec;
use core::time::Duration;

use mail::address::Domain;

use super::{HeaderLimits, Offer, Proxying};
use crate::auth::Mechanism;
use crate::data::Stray;

/// What the server offers; shared by all connections of one port.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our name.
    pub hostname: Domain,
    /// Whom the port is for.
    pub role: Role,
    /// Largest message taken, in octets.
    pub max_message_size: u64,
    /// Most recipients of one message; RFC 5321 §4.5.3.1.8 wants at least 100.
    pub max_recipients: usize,
    /// Most messages of one connection.
    pub max_messages: usize,
    /// Longest command line, CRLF included; RFC 5321 §4.5.3.1.4 wants at least 512 octets, and each
    /// extension adds to it. Lines of `AUTH` may be longer ([`MAX_AUTH`](crate::line::MAX_AUTH)).
    pub max_command_line: usize,
    /// Longest line of a message, CRLF included; RFC 5321 §4.5.3.1.6 wants at least 1000 octets,
    /// and much real mail has longer lines.
    pub max_text_line: usize,
    /// What a message's header may have.
    pub header: HeaderLimits,
    /// Commands borne that are none, or malformed.
    pub max_bad_commands: usize,
    /// Commands borne that bring no message nearer, between two messages.
    pub max_idle_commands: usize,
    /// Of both, and of recipients that are refused, so many are borne between two messages before replies to more of them are held
    /// back …
    pub undelayed_errors: usize,
    /// … each by so much longer than the one before, up to ten times as long.
    pub error_delay: Duration,
    /// What becomes of a bare CR or LF or a NUL in a message. In a command it always ends the connection.
    pub stray_line_ends: Stray,
    /// A certificate is there, so TLS can be started.
    pub starttls: bool,
    /// Passwords are taken on connections without TLS.
    pub cleartext_auth: bool,
    /// How users may log in, where each is possible.
    pub mechanisms: Vec<Mechanism>,
    /// What the peer may say about a client of its own.
    pub proxying: Proxying,
    /// Messages may be binary (RFC 3030 §3): whoever keeps and reads them can cope.
    pub binary_mime: bool,
    /// What travels with an envelope, and is offered.
    pub offer: Offer,
    /// The `Received:` field of a message that was submitted does not tell where its author is.
    pub redact_received: bool,
    /// Time for a command to arrive. RFC 5321 §4.5.3.2.7 wants at least five minutes.
    pub command_timeout: Duration,
    /// Octets a second a message has to come with on average …
    pub min_data_rate: u64,
    /// … of so much time.
    pub data_window: Duration,
    /// Time for a whole transaction, and for a login.
    pub transaction_timeout: Duration,
}

/// Whom a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Other mail servers: no logins, mail for our users only.
    Exchange,
    /// Our users (RFC 6409): nothing without a login.
    Submission,
    /// Mail servers that have taken responsibility already (LMTP, RFC 2033): like `Exchange`, with a reply for each
    /// recipient. Who may connect is decided before.
    Delivery,
}

impl Config {
    /// A port that takes what real mail needs and no more, strictly, without TLS.
    #[must_use]
    pub fn new(hostname: Domain, role: Role) -> Self {
        Self {
            hostname,
            role,
            max_message_size: 50 * 1024 * 1024,
            max_recipients: 1000,
            max_messages: 1000,
            max_command_line: 2048,
            max_text_line: 1024 * 1024,
            header: HeaderLimits {
                octets: 512 * 1024,
                fields: 5000,
                hops: 100,
            },
            max_bad_commands: 10,
            max_idle_commands: 100,
            undelayed_errors: 20,
            error_delay: Duration::from_millis(100),
            stray_line_ends: Stray::Reject,
            starttls: false,
            cleartext_auth: false,
            mechanisms: Mechanism::ALL.to_vec(),
            proxying: Proxying::Nothing,
            binary_mime: false,
            offer: Offer::default(),
            redact_received: false,
            command_timeout: Duration::from_mins(5),
            min_data_rate: 256,
            data_window: Duration::from_mins(5),
            transaction_timeout: Duration::from_hours(2),
        }
    }
}
