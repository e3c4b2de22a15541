//! The client machine: says `EHLO`, starts TLS, authenticates and hands over messages.
//!
//! How a driver uses it:
//!
//! ```text
//! let mut client = Client::connected(config);        // TCP is up, the greeting is awaited
//! loop {
//!     while let Some(action) = client.next() {
//!         Send(bytes)        => write them
//!         Deadline(duration) => restart the one timer; when it runs out feed Input::Timeout
//!         Ready(extensions)  => feed one Order: StartTls, Authenticate, Deliver or Quit
//!         StartTls           => run the handshake, then client = client.secured()
//!         Refused(verdict)   => the peer said no to StartTls or Authenticate; Ready follows
//!         WantBody           => feed Input::Body(chunk)…, then Input::BodyEnd
//!         Finished(results)  => one verdict for each recipient of the last Deliver;
//!                               Ready follows if the connection can be used again
//!         Failed(verdict)    => no Deliver was under way and none is possible; Close follows
//!         Close              => close the connection; nothing follows
//!     }
//!     feed Input::Bytes(read) or Input::End
//! }
//! ```
//!
//! While it feeds a body the driver may go on reading: a server that answers early is heard.

mod extensions;
mod machine;
mod transaction;
mod verdict;

use alloc::vec::Vec;
use core::time::Duration;

use mail::address::{Address, Domain, ReversePath};

pub use self::extensions::{Extensions, Mechanisms};
pub use self::machine::Client;
pub use self::verdict::{Origin, Outcome, Verdict};
use crate::auth::Credentials;
use crate::parameter::{MailParameters, RcptParameters};

/// How the client introduces itself and how patient it is.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name said in `EHLO`.
    pub hostname: Domain,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

/// How long to wait for what, RFC 5321 §4.5.3.2 unless changed.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// The greeting.
    pub greeting: Duration,
    /// The reply to a command.
    pub command: Duration,
    /// The reply to `DATA`.
    pub data: Duration,
    /// The driver's next piece of the body, written and acknowledged by the network.
    pub block: Duration,
    /// The reply to the end of data.
    pub end_of_data: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            greeting: Duration::from_mins(5),
            command: Duration::from_mins(5),
            data: Duration::from_mins(2),
            block: Duration::from_mins(3),
            end_of_data: Duration::from_mins(10),
        }
    }
}

/// One message to hand over: everything but its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Who is told if it cannot be delivered.
    pub sender: ReversePath,
    /// To whom; the results come in the same order.
    pub recipients: Vec<Address>,
    /// What the sender wants; said to servers that know it.
    pub parameters: MailParameters,
    /// The same for each of the recipients, in order; nothing for those that are missing.
    pub recipient_parameters: Vec<RcptParameters>,
    /// Octets of the message as stored, for `SIZE=`.
    pub size: u64,
    /// The body or header holds octets above 127.
    pub eight_bit: bool,
    /// The header holds UTF-8, so the peer must know SMTPUTF8. An address that is not ASCII asks
    /// for it by itself.
    pub smtputf8: bool,
}

/// What the driver wants next; only after [`Action::Ready`].
#[derive(Debug, Clone)]
pub enum Order {
    /// Ask for TLS; only if [`Extensions::starttls`].
    StartTls,
    /// Authenticate; only if [`Extensions::auth`] has a mechanism.
    Authenticate(Credentials),
    /// Hand over a message.
    Deliver(Envelope),
    /// Say good-bye.
    Quit,
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes came from the server.
    Bytes(&'a [u8]),
    /// The driver wants something.
    Order(Order),
    /// The next piece of the body, after [`Action::WantBody`].
    Body(&'a [u8]),
    /// The body is complete.
    BodyEnd,
    /// The time of the last [`Action::Deadline`] has passed.
    Timeout,
    /// The connection ended.
    End,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write these bytes.
    Send(Vec<u8>),
    /// Restart the timer.
    Deadline(Duration),
    /// The next order is awaited. The extensions are what the last `EHLO` told.
    Ready(Extensions),
    /// Start TLS now; nothing was read beyond the server's consent.
    StartTls,
    /// The server refused the last `StartTls` or `Authenticate`.
    Refused(Verdict),
    /// The body is awaited.
    WantBody,
    /// The last `Deliver` is over: each recipient with what became of it.
    Finished(Vec<(Address, Verdict)>),
    /// The connection is of no use, and no `Deliver` was under way.
    Failed(Verdict),
    /// Close the connection.
    Close,
}
