//! Channels between processes: typed calls over packet sockets, with deadlines, descriptors and reconnection.
//!
//! [`Client`] asks over a socket file and reconnects when the other daemon was restarted. [`Link`] is one connection, and
//! what a mail session descriptor becomes. [`serve()`] and [`serve_link`] are the answering side.

mod ask;
mod link;
mod outgoing;
mod prompt;
mod reply;
mod serve;
mod wire;

use std::os::fd::OwnedFd;

use ipc::Refusal;

pub use ask::Client;
pub use link::Link;
pub use prompt::{Prompt, serve_promptly};
pub use reply::Reply;
pub use serve::{Events, NotQueued, Service, serve, serve_link};

/// An answer with the descriptors that came with it.
#[derive(Debug)]
pub struct Answered<A> {
    /// The answer.
    pub answer: A,
    /// Its descriptors, in order.
    pub fds: Vec<OwnedFd>,
}

impl<A> Answered<A> {
    /// An answer without descriptors.
    #[must_use]
    pub const fn plain(answer: A) -> Self {
        Self {
            answer,
            fds: Vec::new(),
        }
    }

    /// An answer with descriptors.
    #[must_use]
    pub const fn with(answer: A, fds: Vec<OwnedFd>) -> Self {
        Self { answer, fds }
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The other daemon heard the question and says no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The other daemon is not there, died before it answered, or did not answer in time. If the call asked for a change,
    /// it is unknown whether it happened.
    #[error("the other daemon does not answer")]
    Unavailable,
}

impl CallError {
    /// Whether the same call may well succeed later.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_temporary(),
            Self::Unavailable => true,
        }
    }
}
