//! What makes two processes' conversation typed: one `Edge` per pair.

use core::fmt::Debug;

use crate::frame::{Decode, Encode, Wire};

/// A pair of processes and the words they may use.
pub trait Edge: Send + Sync + 'static {
    /// Orders, in the imperative (`CreateMailbox`).
    type Request: Wire + Debug;
    /// Answers, in the past (`MailboxCreated`).
    type Answer: Wire + Debug;
    /// What the answering side tells unasked (`Added`), [`Silence`] where nothing.
    type Event: Wire + Debug;
    /// Name in the handshake and in logs, `asker-answerer`.
    const NAME: &'static str;
    /// Whether calls are answered strictly one after the other, in the order they were made.
    const ORDERED: bool = false;

    /// The event that stands for others that had to be dropped because the asker read too slowly; `None` where events do
    /// not exist.
    fn lost() -> Option<Self::Event> {
        None
    }
}

/// The event type of an edge without events: no value of it can exist on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Silence {}
