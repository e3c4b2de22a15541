//! imapd shows people their mail: IMAP on 143 and 993.
//!
//! * Runs as: `_rmail-imapd`, with the listening sockets it was given and nothing else.
//! * Owns: the IMAP sessions, while they last. No file, no message, no password.
//! * Trusts: what deliverd says about passwords and mailboxes. A mail session is one account; that it cannot name another is
//!   deliverd's doing, not ours. No client, not even one that logged in.
//! * Never: opens a file or an outgoing connection, keeps a message it streams in memory, says OK to a change before deliverd
//!   says that it is durable.
//!
//! [`house`] opens the ports. [`daemon::port`] counts each connection and gives it a task, which begins at [`port`]. The task is a
//! [`session`]: it reads commands off the [`wire`], performs them ([`cmd`], a file per command) by asking deliverd ([`ask`]), and
//! keeps what the client believes about its selected mailbox in a [`view`], a few [`pages`] of it at a time. What a message looks like is worked out in
//! [`render`] and [`content`] from the descriptors deliverd lends ([`message`]), and not worked out again if it is in the [`cache`].

pub mod ask;
pub mod budget;
pub mod cache;
pub mod cmd;
mod compress;
pub mod content;
pub mod fuzzy;
pub mod house;
pub mod message;
pub mod order;
mod pages;
pub mod port;
pub mod preview;
pub mod render;
pub mod search_text;
pub mod session;
pub mod stream;
pub mod view;
pub mod wire;
mod words;
