//! The time of day, as the store and the accounts count it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix seconds.
pub(crate) fn seconds() -> i64 {
    i64::try_from(micros() / 1_000_000).unwrap_or(i64::MAX)
}

/// Unix microseconds; 0 for a clock before 1970.
pub(crate) fn micros() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX))
}
