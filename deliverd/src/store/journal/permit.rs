//! Writing records into the next batch.

use std::io;
use std::time::Instant;

use ipc::Refusal;

use super::{Event, FEW, Permit, record};
use crate::fault::OrFault;

impl Permit {
    /// Puts a record into the next batch and gives its sequence number.
    pub(super) fn write(&self, record: Vec<u8>) -> u64 {
        let mut state = self.journal.lock();
        let is_first = state.since.is_none();
        if is_first {
            state.since = Some(Instant::now());
        }
        let sequence = state.give(record);
        let is_enough = state.join(self.number);
        drop(state);
        if is_enough {
            self.journal.gathered.notify_one();
        }
        if is_first {
            (self.journal.wish)();
        }
        sequence
    }

    /// Puts a body into the next batch and gives the number events name it by.
    pub(in crate::store) fn body(&self, date: i64, bytes: &[u8]) -> u64 {
        let (number, is_quiet) = {
            let mut state = self.journal.lock();
            state.next_body += 1;
            (state.next_body, state.permits.len() <= FEW)
        };
        let packed = if is_quiet {
            record::packed(number, date, bytes)
        } else {
            None
        };
        self.write(packed.unwrap_or_else(|| record::body(number, date, bytes)));
        number
    }

    /// [`super::Journal::commit`].
    pub(in crate::store) fn commit(&self, sequence: u64) -> Result<(), Refusal> {
        self.journal.commit(sequence)
    }

    /// [`Permit::write`] of an event.
    pub(in crate::store) fn tell(&self, event: &Event) -> Result<u64, Refusal> {
        let record = record::event(event).map_err(io::Error::other);
        Ok(self.write(record.or_fault("write a record of the journal")?))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.journal.lock();
        state.permits.remove(&self.number);
        state.admitted -= self.cost;
        self.journal.free(&state);
    }
}
