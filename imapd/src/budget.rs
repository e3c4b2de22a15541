//! How much memory messages, and what is known of many, may take in all sessions together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Memory that all sessions share.
#[derive(Debug)]
pub struct Budget {
    kibibytes: Semaphore,
    total: u32,
}

impl Budget {
    /// So many KiB in all.
    #[must_use]
    pub fn new(kibibytes: u32) -> Self {
        Self {
            kibibytes: Semaphore::new(kibibytes as usize),
            total: kibibytes,
        }
    }

    /// Waits until there is room for a message of `size` bytes. A message larger than all there is waits until it is alone.
    pub async fn reserve(&self, size: u64) -> Option<SemaphorePermit<'_>> {
        let wanted = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        self.kibibytes
            .acquire_many(wanted.min(self.total))
            .await
            .ok()
    }
}

/// Memory that sessions keep for as long as they like, if there is some.
#[derive(Debug)]
pub struct Room(Arc<Semaphore>);

/// A piece of it.
#[derive(Debug)]
pub struct Taken(OwnedSemaphorePermit);

impl Room {
    /// So many KiB in all.
    #[must_use]
    pub fn new(kibibytes: u32) -> Self {
        Self(Arc::new(Semaphore::new(kibibytes as usize)))
    }

    /// Takes as much as `size` bytes need; `None` where there is not so much left.
    #[must_use]
    pub fn take(&self, size: usize) -> Option<Taken> {
        let taken = Arc::clone(&self.0).try_acquire_many_owned(kibibytes(size));
        taken.ok().map(Taken)
    }

    /// Makes what was taken as large as `size` bytes need. Returns whether it is; it never gets smaller.
    #[must_use]
    pub fn enlarge(&self, taken: &mut Taken, size: usize) -> bool {
        let has = u32::try_from(taken.0.num_permits()).unwrap_or(u32::MAX);
        let lacks = kibibytes(size).saturating_sub(has);
        match Arc::clone(&self.0).try_acquire_many_owned(lacks) {
            Ok(more) => {
                taken.0.merge(more);
                true
            }
            Err(_) => false,
        }
    }
}

fn kibibytes(size: usize) -> u32 {
    u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_larger_than_the_budget_gets_all_of_it() {
        let budget = Budget::new(10);
        let all = budget.reserve(1 << 40).await.unwrap();
        assert_eq!(budget.kibibytes.available_permits(), 0);
        drop(all);
        assert!(budget.reserve(2048).await.is_some());
    }

    #[test]
    fn what_is_kept_is_never_more_than_there_is() {
        let room = Room::new(10);
        let mut one = room.take(4000).unwrap();
        let two = room.take(4000).unwrap();
        assert!(room.take(4000).is_none());
        assert!(room.enlarge(&mut one, 3000) && !room.enlarge(&mut one, 8000));
        drop(two);
        assert!(room.enlarge(&mut one, 8000));
        assert_eq!(room.0.available_permits(), 2);
        drop(one);
        assert_eq!(room.0.available_permits(), 10);
    }
}
