//! relayd keeps mail for other servers in a durable queue and takes it there.
//!
//! - **Runs as** `_rmail-relayd`, started by rmaild or systemd with two listening sockets: `smtpd` and `ctl`.
//! - **Owns** the queue directory (docs/queue.md), the DNS resolver and every connection out.
//! - **Trusts** nobody: what smtpd brings is parsed again, what DNS and other servers say is bounded and sanitised. It asks
//!   deliverd, over its own socket, to put delivery reports into the sender's INBOX, and keyd to sign what goes out.
//! - **Never** sees the store or a private key, never answers a network client, never opens a file outside the queue.
//!
//! The way of a message: [`answer`] streams it in → [`queue`] makes it durable → [`schedule`] knows when it is due →
//! [`dispatch`] gives it a turn among its sender's and its destination's mail ([`lanes`]) → [`dns`] finds the hosts → [`demand`] says how
//! much TLS is asked of them, by [`dane`] or [`sts`] → [`signer`] has it signed → [`attempt`] talks to them, and [`tlsrpt`] counts how TLS
//! went →
//! the result is recorded → [`report`] tells the sender its [`news`]: what failed for good, what has to wait.

pub mod aggregate;
pub mod answer;
pub mod ask;
pub mod attempt;
pub mod budget;
pub mod clock;
pub mod dane;
mod demand;
pub mod desk;
pub mod detour;
pub mod dial;
pub mod dispatch;
pub mod dns;
pub mod greylist;
pub mod home;
pub mod house;
pub mod lanes;
pub mod letter;
mod line;
pub mod lookout;
pub mod news;
pub mod pool;
pub mod quarantine;
pub mod queue;
pub mod report;
pub mod reporter;
pub mod rests;
pub mod schedule;
pub mod signer;
pub mod sts;
pub mod tls;
pub mod tls_required;
pub mod tlsrpt;
pub mod turns;
