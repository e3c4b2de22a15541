//! How long a daemon that died stays down: the first time not at all, then ever longer.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A daemon that lived this long is taken for healthy again.
const GOOD_LIFE: Duration = Duration::from_secs(60);

/// The memory of one daemon's deaths.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The pause after a death at age `lived`.
    pub(crate) fn pause(&mut self, lived: Duration) -> Duration {
        if lived >= GOOD_LIFE {
            self.next = Duration::ZERO;
        }
        let pause = self.next;
        self.next = if pause.is_zero() {
            FIRST
        } else {
            (pause * 2).min(LONGEST)
        };
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> = (0..9)
            .map(|_| backoff.pause(Duration::ZERO).as_secs())
            .collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_good_life_is_rewarded() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.pause(Duration::ZERO);
        }
        assert_eq!(backoff.pause(GOOD_LIFE), Duration::ZERO);
        assert_eq!(backoff.pause(Duration::ZERO), FIRST);
    }
}
