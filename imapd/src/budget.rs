//! How much memory messages, and what is known of many, may take in all sessions together.

use tokio::sync::{Semaphore, SemaphorePermit};

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
}
