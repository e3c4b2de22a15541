//! deliverd: the only owner of the mail store and of accounts.
//!
//! - **Runs as** `_rmail-deliverd`.
//! - **Owns** the directory `store/` below `mail_root`: mailboxes as `.eml` files, and the account database.
//! - **Trusts** nobody who asks. Which listening socket a channel came in on says who asks and what may be asked; a mail session
//!   descriptor is bound to one account and cannot name another.
//! - **Never** touches the network, asks another process, or parses a message.
//!
//! A newcomer reads [`answer`] (who may ask what), then `store` (how mail lies on disk), then `accounts` (who is who).
//! `docs/store.md` has the crash argument.

pub mod answer;

mod accounts;
mod clock;
mod fault;
mod store;

pub use answer::run;
