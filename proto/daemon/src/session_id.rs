//! Ids that make one client's way visible in the logs of all daemons.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A new id, unique among all daemons of a machine for all practical purposes: microseconds since the epoch, made
/// strictly increasing within this process, with the process id mixed in below.
#[must_use]
pub fn next() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| u64::try_from(age.as_micros()).unwrap_or(0));
    let previous = LAST.fetch_max(now, Ordering::Relaxed);
    let unique = if now > previous {
        now
    } else {
        LAST.fetch_add(1, Ordering::Relaxed) + 1
    };
    (unique << 8) | u64::from(process() & 0xff)
}

/// The id of this process, without asking the kernel each time.
pub(crate) fn process() -> u32 {
    static ID: LazyLock<u32> = LazyLock::new(std::process::id);
    *ID
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_never_repeat() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| super::next()).collect();
        assert_eq!(ids.len(), 1000);
    }
}
