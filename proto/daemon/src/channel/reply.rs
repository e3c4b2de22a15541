//! The answer that one call is owed.

use std::marker::PhantomData;
use std::sync::Arc;

use ipc::frame::{self, FrameError};
use ipc::{Edge, Refusal, Return};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::error;

use super::Answered;
use super::outgoing::{Outgoing, Packet};

/// The duty to answer a call. If it is dropped, what should have answered panicked, and the asker is told so.
#[derive(Debug)]
pub struct Reply<E: Edge> {
    outgoing: Outgoing,
    id: u64,
    is_due: bool,
    /// Of the calls that are worked on at once.
    _slot: Option<OwnedSemaphorePermit>,
    edge: PhantomData<fn() -> E>,
}

impl<E: Edge> Reply<E> {
    /// To the call `id`, which takes one of the slots; an error if there is none.
    pub(super) fn new(slots: &Arc<Semaphore>, outgoing: &Outgoing, id: u64) -> Result<Self, Self> {
        let slot = Arc::clone(slots).try_acquire_owned().ok();
        let has_slot = slot.is_some();
        let reply = Self {
            outgoing: outgoing.clone(),
            id,
            is_due: true,
            _slot: slot,
            edge: PhantomData,
        };
        if has_slot { Ok(reply) } else { Err(reply) }
    }

    /// Answers; waits where the asker is slow.
    pub(super) async fn answer(mut self, result: Result<Answered<E::Answer>, Refusal>) {
        self.is_due = false;
        if let Some(packet) = packet::<E>(self.id, result) {
            self.outgoing.send(packet).await;
        }
    }

    /// Answers without waiting. Must be called inside the runtime.
    pub fn send(mut self, result: Result<Answered<E::Answer>, Refusal>) {
        self.give(result);
    }

    fn give(&mut self, result: Result<Answered<E::Answer>, Refusal>) {
        self.is_due = false;
        let Some(packet) = packet::<E>(self.id, result) else {
            return;
        };
        if let Err(packet) = self.outgoing.send_now(packet) {
            let outgoing = self.outgoing.clone();
            tokio::spawn(async move { outgoing.send(packet).await });
        }
    }
}

impl<E: Edge> Drop for Reply<E> {
    fn drop(&mut self) {
        if self.is_due {
            error!(edge = E::NAME, "bug: a call was not answered");
            self.give(Err(Refusal::StorageFault));
        }
    }
}

fn packet<E: Edge>(id: u64, result: Result<Answered<E::Answer>, Refusal>) -> Option<Packet> {
    let (result, fds) = match result {
        Ok(Answered { answer, fds }) => (Ok(answer), fds),
        Err(refusal) => (Err(refusal), Vec::new()),
    };
    match frame::encode(&Return::<E::Answer, E::Event>::Answer { id, result }) {
        Ok(bytes) => Some((bytes, fds)),
        Err(FrameError::TooLong | FrameError::Malformed | FrameError::TrailingBytes) => {
            error!(edge = E::NAME, "bug: an answer does not fit into a frame");
            let refusal = Return::<E::Answer, E::Event>::Answer {
                id,
                result: Err(Refusal::StorageFault),
            };
            let bytes = frame::encode(&refusal).ok()?;
            Some((bytes, Vec::new()))
        }
    }
}
