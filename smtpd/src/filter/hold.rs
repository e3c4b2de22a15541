//! A message in memory, within what all messages together may have.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Means;

/// Bytes that are taken from the common memory at once.
const STEP: usize = 16 * 1024;

/// A message that is held until it is judged.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    /// What no filter wants to see.
    limit: u64,
    memory: Arc<Semaphore>,
    room: Option<OwnedSemaphorePermit>,
}

/// Why a message is held no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// It is larger than any filter wants to see.
    Message,
    /// There is no memory for it.
    Memory,
}

impl Held {
    /// Nothing yet, of a message that is of interest up to `limit` octets.
    pub(crate) fn new(means: &Means, limit: u64) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
            memory: Arc::clone(&means.memory),
            room: None,
        }
    }

    /// Keeps a piece.
    ///
    /// # Errors
    /// [`Full`]; the piece is not kept then.
    pub(crate) fn add(&mut self, piece: &[u8]) -> Result<(), Full> {
        let size = self.bytes.len() + piece.len();
        if size as u64 > self.limit {
            return Err(Full::Message);
        }
        let held = self
            .room
            .as_ref()
            .map_or(0, |room| room.num_permits() * 1024);
        if size > held {
            let missing = (size - held).next_multiple_of(STEP) / 1024;
            let missing = u32::try_from(missing).map_err(|_| Full::Memory)?;
            let memory = Arc::clone(&self.memory);
            let more = memory.try_acquire_many_owned(missing);
            let more = more.map_err(|_| Full::Memory)?;
            match &mut self.room {
                Some(room) => room.merge(more),
                none => *none = Some(more),
            }
            // No more than was taken: a vector that grows by itself doubles.
            self.bytes
                .reserve_exact(held + missing as usize * 1024 - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// The message, and its room, which is to be kept as long as the message is.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Option<OwnedSemaphorePermit>) {
        (self.bytes, self.room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_messages_may_have_together_is_shared_and_given_back() {
        let means = Means::new(64 * 1024);
        let mut one = Held::new(&means, 1 << 20);
        let mut two = Held::new(&means, 1 << 20);
        assert_eq!(one.add(&[0; 40_000]), Ok(()));
        assert_eq!(two.add(&[0; 20_000]), Err(Full::Memory));
        assert_eq!(two.add(&[0; 10_000]), Ok(()));
        drop(one.into_parts());
        assert_eq!(two.add(&[0; 20_000]), Ok(()));
        assert_eq!(two.into_parts().0.len(), 30_000);
        assert_eq!(means.memory.available_permits(), 64);
    }

    #[test]
    fn a_message_no_filter_wants_is_not_held() {
        let mut held = Held::new(&Means::new(1 << 20), 100);
        assert_eq!(held.add(&[0; 100]), Ok(()));
        assert_eq!(held.add(&[0]), Err(Full::Message));
    }
}
