//! Who is likely to have something for the next batch, and how long to wait for them.
//!
//! Writers come again when they were answered. Where a flush takes longer than that, each second batch has half of them and the other half waits
//! for a flush it could have had a part in. So who is about to flush waits until as many have come as were at work when the last batch was done,
//! for a part of the time that a flush takes. A single writer never waits; where nobody came, the next ones are not waited for.

use std::time::Duration;

/// What part of a flush is waited.
const PATIENCE: u32 = 2;
/// Who was answered is back by then, however long a flush takes.
const LONGEST: Duration = Duration::from_millis(1);
/// A thread does not sleep for less.
const SHORTEST: Duration = Duration::from_micros(20);
/// Batches that are not waited for, at most, after nobody came.
const MOST_SKIPPED: u32 = 31;

#[derive(Debug)]
pub(super) struct Crowd {
    /// Number of the next batch; from 1 on.
    batch: u64,
    /// How many have something in it.
    gathered: usize,
    /// How many were at work when the last batch was done.
    usual: usize,
    /// How many are waited for; 0 if nobody waits.
    awaited: usize,
    /// How many had gathered when the wait began.
    before: usize,
    /// How long a flush takes, about.
    flush: Duration,
    /// Batches that are not waited for, and how many it were the last time.
    skipped: u32,
    to_skip: u32,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            batch: 1,
            gathered: 0,
            usual: 0,
            awaited: 0,
            before: 0,
            flush: Duration::ZERO,
            skipped: 0,
            to_skip: 0,
        }
    }
}

impl Crowd {
    /// Number of the next batch.
    pub(super) const fn batch(&self) -> u64 {
        self.batch
    }

    /// One more has something in the next batch. True if somebody waits for no more than that.
    pub(super) const fn join(&mut self) -> bool {
        self.gathered += 1;
        self.awaited != 0 && self.gathered == self.awaited
    }

    /// How long to wait for others, if at all.
    pub(super) fn begin_wait(&mut self) -> Option<Duration> {
        let limit = (self.flush / PATIENCE).min(LONGEST);
        if self.gathered >= self.usual || limit < SHORTEST {
            return None;
        }
        if self.to_skip > 0 {
            self.to_skip -= 1;
            return None;
        }
        self.before = self.gathered;
        self.awaited = self.usual;
        Some(limit)
    }

    /// Whether not all of them have come.
    pub(super) const fn is_awaited(&self) -> bool {
        self.gathered < self.awaited
    }

    /// Notes what came of the wait.
    pub(super) fn end_wait(&mut self) {
        self.awaited = 0;
        self.skipped = if self.gathered > self.before {
            0
        } else {
            (self.skipped * 2 + 1).min(MOST_SKIPPED)
        };
        self.to_skip = self.skipped;
    }

    /// The next batch was taken.
    pub(super) const fn next_batch(&mut self) {
        self.batch += 1;
        self.gathered = 0;
    }

    /// A batch was flushed, which took so long, and so many are at work.
    pub(super) fn flushed(&mut self, taken: Duration, at_work: usize) {
        self.flush = (self.flush * 3 + taken) / 4;
        self.usual = at_work;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLUSH: Duration = Duration::from_micros(400);

    /// After batches in which so many had a part and were at work.
    fn crowd(writers: usize) -> Crowd {
        let mut crowd = Crowd::default();
        for _ in 0..20 {
            for _ in 0..writers {
                crowd.join();
            }
            crowd.next_batch();
            crowd.flushed(FLUSH, writers);
        }
        crowd
    }

    #[test]
    fn a_single_writer_never_waits() {
        let mut crowd = crowd(1);
        crowd.join();
        assert_eq!(crowd.begin_wait(), None);
    }

    #[test]
    fn the_first_of_many_waits_until_all_have_come_and_never_longer_than_a_part_of_a_flush() {
        let mut crowd = crowd(3);
        crowd.join();
        let limit = crowd.begin_wait().unwrap();
        assert!(limit > SHORTEST && limit <= FLUSH / 2, "{limit:?}");
        assert_eq!((crowd.join(), crowd.is_awaited()), (false, true));
        assert_eq!((crowd.join(), crowd.is_awaited()), (true, false));
        // More than that ring for nobody.
        crowd.end_wait();
        assert!(!crowd.join());
    }

    #[test]
    fn where_a_flush_takes_long_nobody_waits_that_long() {
        let mut crowd = crowd(3);
        for _ in 0..50 {
            crowd.flushed(Duration::from_secs(1), 3);
        }
        crowd.join();
        assert_eq!(crowd.begin_wait(), Some(LONGEST));
    }

    #[test]
    fn who_waited_in_vain_does_not_wait_again_soon() {
        let mut crowd = crowd(2);
        let waits = (0..200).filter(|_| {
            crowd.join();
            let waits = crowd.begin_wait().is_some();
            if waits {
                crowd.end_wait();
            }
            crowd.next_batch();
            crowd.flushed(FLUSH, 2);
            waits
        });
        assert!((4..12).contains(&waits.count()));
        // Once it was worth it, it is tried again.
        while crowd.begin_wait().is_none() {}
        crowd.join();
        crowd.end_wait();
        crowd.next_batch();
        assert!(crowd.begin_wait().is_some());
    }
}
