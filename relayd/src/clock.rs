//! The time of day, in the unit the queue counts in.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a clock may be set back by without anybody having to care, seconds.
pub const BEARABLE: i64 = 60;

/// Unix seconds now.
#[must_use]
pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
}

/// Notices that the clock is set back, as when it was wrong at the start of the machine: what waits for a time of day would wait for as
/// much longer.
#[derive(Debug)]
pub struct Watch {
    begun: Instant,
    /// Unix seconds when it was begun, as far as is known now.
    at: i64,
}

impl Watch {
    /// Begins at `now`, Unix seconds.
    #[must_use]
    pub fn begin(begun: Instant, now: i64) -> Self {
        Self { begun, at: now }
    }

    /// How many seconds the clock was set back by since the last look, if that matters. `passed` has passed since the watch was begun.
    pub fn set_back(&mut self, passed: Duration, now: i64) -> Option<i64> {
        let passed = i64::try_from(passed.as_secs()).unwrap_or(i64::MAX);
        let at = now.saturating_sub(passed);
        let back = self.at.saturating_sub(at);
        if !(0..=BEARABLE).contains(&back) {
            self.at = at;
        }
        (back > BEARABLE).then_some(back)
    }

    /// The same, with the clocks of this machine.
    pub fn look(&mut self) -> Option<i64> {
        self.set_back(self.begun.elapsed(), now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_is_set_back_is_told_of_and_once() {
        let mut watch = Watch::begin(Instant::now(), 1_000_000);
        let mut look = |passed, now| watch.set_back(Duration::from_secs(passed), now);
        assert_eq!(look(10, 1_000_010), None);
        // Set forward by a day, then back to where it was.
        assert_eq!(look(20, 1_086_420), None);
        assert_eq!(look(30, 1_000_030), Some(86_400));
        assert_eq!(look(40, 1_000_040), None);
        // What ntpd corrects.
        assert_eq!(look(50, 1_000_045), None);
        // Little by little it is as much.
        assert_eq!(look(100, 1_000_060), None);
        assert_eq!(look(200, 1_000_100), Some(100));
    }
}
