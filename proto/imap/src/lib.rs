//! The IMAP grammar: commands in, responses out, without sockets.
//!
//! Bytes of the client go into a [`fragment::Fragmenter`], which cuts them into whole commands and enforces the limits; [`parse`]
//! turns a command into a [`command::Request`]; [`state`] says whether it may be given now. Answers are written by [`response`]
//! (OK, NO, BAD and codes) and [`mod@write`] (data); what a message looks like by [`envelope`] and [`body`].
#![no_std]

extern crate alloc;

pub mod acl;
pub mod append;
pub mod body;
pub mod capability;
pub mod casemap;
pub mod command;
pub mod context;
pub mod dialect;
pub mod envelope;
pub mod esearch;
pub mod flag;
pub mod fragment;
pub mod headline;
pub mod mailbox;
pub mod metadata;
pub mod multisearch;
pub mod notify;
pub mod parse;
pub mod quota;
pub mod relevancy;
pub mod response;
pub mod sasl;
pub mod search;
pub mod sequence;
pub mod sort;
pub mod state;
pub mod subject;
pub mod switch;
pub mod sync;
pub mod thread;
pub mod uid_only;
pub mod url;
pub mod write;
