//! Waiting that ends: every loop in these tests has a time after which it fails.

use std::time::{Duration, Instant};

/// Asks `question` every few milliseconds until it answers, at most `limit` long.
///
/// # Errors
/// The time is up.
pub fn wait_for<T>(limit: Duration, mut question: impl FnMut() -> Option<T>) -> Result<T, TimeUp> {
    let start = Instant::now();
    loop {
        if let Some(answer) = question() {
            return Ok(answer);
        }
        if start.elapsed() > limit {
            return Err(TimeUp(limit));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Nothing happened within this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeUp(pub Duration);

impl std::fmt::Display for TimeUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "nothing within {:?}", self.0)
    }
}

impl std::error::Error for TimeUp {}
