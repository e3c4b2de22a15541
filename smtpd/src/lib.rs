//! smtpd takes mail: from other servers on port 25, from our own users on 587 and 465.
//!
//! * Runs as: `_rmail-smtpd`, with the listening sockets it was given and nothing else.
//! * Owns: the SMTP sessions, while they last. No file, no message.
//! * Trusts: what deliverd says about users, passwords and addresses; what deliverd and relayd say
//!   about a message being safe. No client, not even one that logged in.
//! * Never: opens a file but its certificate's, makes a network connection, looks up a name, keeps
//!   a message in memory that is larger than a frame and goes through no [`mod@filter`], or says 250
//!   before the message is on disk.
//!
//! [`house`] opens the ports. [`daemon::port`] counts each connection and gives it a task, which
//! begins at [`port`], where the [`guard`] says whether its client has not done too much. The task drives the machine of the crate `smtp` ([`session`]); the questions
//! of the machine are answered at its [`desk`], which asks ([`ask`]) and carries the body to those
//! who keep it ([`letter`], [`outlet`]). The operator can have all that told without mail ([`mod@explain`]). Whether mail from other servers is from whom it says is looked into beside that
//! ([`judge`]); what has to be known for it is asked of relayd ([`dns`]).

pub mod ask;
mod custody;
pub mod desk;
pub mod dns;
pub mod explain;
mod farewell;
pub mod filter;
pub mod guard;
pub mod house;
pub mod judge;
mod letter;
pub mod lists;
pub mod login;
mod measure;
mod observations;
pub mod outlet;
mod passage;
pub mod port;
mod reservation;
mod results;
pub mod session;
mod wishes;
mod words;
mod writers;
