//! What is in quarantine: how much may be, and until when.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use daemon::config::Quarantine;
use ipc::Refusal;
use tracing::warn;

use crate::queue::{Message, QueueId};

/// Seconds of a day.
const DAY: i64 = 86_400;

/// All messages in quarantine, with their sizes.
#[derive(Debug)]
pub struct Ward {
    bounds: Quarantine,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    sizes: HashMap<QueueId, u64>,
    octets: u64,
}

impl Ward {
    /// Nothing is in it yet.
    #[must_use]
    pub fn new(bounds: &Quarantine) -> Self {
        Self {
            bounds: bounds.clone(),
            kept: Mutex::default(),
        }
    }

    /// When a message that came into quarantine then is gone, Unix seconds.
    #[must_use]
    pub fn end(&self, queued: i64) -> i64 {
        let days = i64::try_from(self.bounds.days.value()).unwrap_or(i64::MAX);
        queued.saturating_add(days.saturating_mul(DAY))
    }

    /// The same of a message that is in quarantine.
    #[must_use]
    pub fn end_of(&self, message: &Message) -> Option<i64> {
        message
            .in_quarantine
            .then(|| self.end(message.header.queued))
    }

    /// Counts a message that was there before, whether there is room or not.
    pub fn note(&self, id: QueueId, size: u64) {
        self.lock().add(id, size);
    }

    /// Counts a message that is to come, if there is room for it.
    ///
    /// # Errors
    /// [`Refusal::QuarantineFull`].
    pub fn admit(&self, id: QueueId, size: u64) -> Result<(), Refusal> {
        let mut kept = self.lock();
        let octets = kept.octets.saturating_add(size);
        let messages = kept.sizes.len() as u64;
        if messages >= self.bounds.max_messages.value() || octets > self.bounds.max_bytes.value() {
            drop(kept);
            warn!(
                messages,
                octets,
                "authentication.quarantine is full, so mail for it is put off: remove or release some (rmailctl queue list), or raise its bounds"
            );
            return Err(Refusal::QuarantineFull);
        }
        kept.add(id, size);
        Ok(())
    }

    /// Forgets a message that is not in quarantine any more, or never was.
    pub fn leave(&self, id: QueueId) {
        let mut kept = self.lock();
        if let Some(size) = kept.sizes.remove(&id) {
            kept.octets = kept.octets.saturating_sub(size);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn add(&mut self, id: QueueId, size: u64) {
        if self.sizes.insert(id, size).is_none() {
            self.octets = self.octets.saturating_add(size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ward(messages: u64, octets: u64) -> Ward {
        Ward::new(&Quarantine {
            max_messages: messages.try_into().unwrap(),
            max_bytes: octets.try_into().unwrap(),
            ..Quarantine::default()
        })
    }

    fn id() -> QueueId {
        QueueId::generate().unwrap()
    }

    #[test]
    fn it_takes_so_many_messages_and_so_many_octets() {
        let ward = ward(3, 100);
        let ids = [id(), id(), id()];
        assert_eq!(ward.admit(ids[0], 101), Err(Refusal::QuarantineFull));
        assert_eq!(ward.admit(ids[0], 60), Ok(()));
        assert_eq!(ward.admit(ids[1], 41), Err(Refusal::QuarantineFull));
        assert_eq!(ward.admit(ids[1], 40), Ok(()));
        assert_eq!(ward.admit(ids[2], 0), Ok(()));
        assert_eq!(ward.admit(id(), 0), Err(Refusal::QuarantineFull));
        // Who leaves twice leaves once.
        ward.leave(ids[0]);
        ward.leave(ids[0]);
        assert_eq!(ward.admit(ids[0], 61), Err(Refusal::QuarantineFull));
        assert_eq!(ward.admit(ids[0], 60), Ok(()));
    }

    #[test]
    fn what_was_there_counts_also_beyond_the_bounds() {
        let ward = ward(1, 10);
        let (first, second) = (id(), id());
        ward.note(first, 20);
        ward.note(second, 20);
        ward.leave(first);
        assert_eq!(ward.admit(id(), 1), Err(Refusal::QuarantineFull));
        ward.leave(second);
        assert_eq!(ward.admit(id(), 10), Ok(()));
    }

    #[test]
    fn no_number_of_days_overflows() {
        let days = |days: u64| {
            Ward::new(&Quarantine {
                days: days.try_into().unwrap(),
                ..Quarantine::default()
            })
        };
        assert_eq!(days(2).end(1000), 1000 + 2 * DAY);
        assert!(days(1 << 40).end(i64::MAX - 1) > 0);
    }
}
