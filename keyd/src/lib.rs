//! keyd holds the private keys of domains and signs mail with them (DKIM).
//!
//! - **Runs as** `_rmail-keyd`, started by rmaild or systemd with two listening sockets: `relayd` and `ctl`.
//! - **Owns** the directory of the keys (docs/dkim.md) and nothing else.
//! - **Trusts** nobody. relayd says which header is to be signed for which domain; keyd makes the DKIM-Signature field itself, so
//!   that nothing it ever signs could be anything but mail, and only for a domain that an author in From has. Whether the sender may
//!   speak for that domain is relayd's to find out: keyd knows no accounts.
//! - **Never** gives a private key away, has a network, asks anybody, or opens a file outside its directory.
//!
//! [`cabinet`] keeps the keys, [`rotation`] says what becomes of them with time, [`answer`] is what may be asked.

pub mod answer;
pub mod cabinet;
mod clock;
mod house;
pub mod key;
pub mod rotation;

pub use house::run;
