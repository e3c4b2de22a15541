//! The envelope of a call and of what comes back.

use crate::frame::{Decode, Encode};
use crate::refusal::Refusal;

/// What every call carries beside its request, so that one id finds the whole way of a message in the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Context {
    /// The client's session at the asking daemon; 0 for the daemon's own work.
    pub session: u64,
    /// The message being worked on; 0 for none.
    pub message: u64,
}

/// One question, asker → answerer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Call<R> {
    /// Chosen by the asker, unique on this channel while the call is open.
    pub id: u64,
    /// Milliseconds the asker will wait from now; the answerer drops work it cannot finish in time.
    pub deadline_ms: u32,
    /// Ids for tracing.
    pub context: Context,
    /// The question itself.
    pub request: R,
}

/// One packet, answerer → asker.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Return<A, E> {
    /// The answer to call `id`; descriptors that came with the packet belong to it.
    Answer {
        /// [`Call::id`].
        id: u64,
        /// What came of it.
        result: Result<A, Refusal>,
    },
    /// Told unasked.
    Event(E),
}
