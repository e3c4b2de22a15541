//! Failed logins, counted per client and per user in a sliding window.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Clients and users remembered at once; beyond, those who failed longest ago are forgotten.
const MAX_KEYS: usize = 100_000;

/// Who failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A client's address; of IPv6 the first 64 bits, which one client has all to itself.
    Client(IpAddr),
    User(String),
}

impl Key {
    /// The key of an address. A loopback address is a client like any other.
    pub(super) fn client(ip: IpAddr) -> Self {
        Self::Client(match ip.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// The windows.
#[derive(Debug)]
pub(super) struct Failures {
    /// Failures after which more attempts are refused unheard; 0 for no limit.
    limit: usize,
    window: Duration,
    seen: Mutex<HashMap<Key, VecDeque<Instant>>>,
}

impl Failures {
    pub(super) fn new(limit: u32, window: Duration) -> Self {
        Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            window,
            seen: Mutex::new(HashMap::new()),
        }
    }

    /// Counts an attempt as failed until [`Failures::forgive`] says otherwise, so that many guesses at once count too. False
    /// if there were too many already; such an attempt is not counted.
    pub(super) fn attempt(&self, key: &Key, now: Instant) -> bool {
        if self.limit == 0 || self.window.is_zero() {
            return true;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_KEYS && !seen.contains_key(key) {
            self.make_room(&mut seen, now);
        }
        let times = seen.entry(key.clone()).or_default();
        while times
            .front()
            .is_some_and(|time| now.duration_since(*time) >= self.window)
        {
            times.pop_front();
        }
        if times.len() >= self.limit {
            return false;
        }
        times.push_back(now);
        true
    }

    /// Takes the last attempt back: it was none, or it succeeded.
    pub(super) fn forgive(&self, key: &Key) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = seen.get_mut(key) {
            times.pop_back();
            if times.is_empty() {
                seen.remove(key);
            }
        }
    }

    fn make_room(&self, seen: &mut HashMap<Key, VecDeque<Instant>>, now: Instant) {
        seen.retain(|_, times| {
            times
                .back()
                .is_some_and(|time| now.duration_since(*time) < self.window)
        });
        if seen.len() >= MAX_KEYS {
            let mut last: Vec<Instant> = seen
                .values()
                .filter_map(|times| times.back().copied())
                .collect();
            let middle = last.len() / 2;
            let (_, median, _) = last.select_nth_unstable(middle);
            let median = *median;
            seen.retain(|_, times| times.back().is_some_and(|time| *time > median));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::client(text.parse().unwrap())
    }

    #[test]
    fn the_window_slides() {
        let failures = Failures::new(2, Duration::from_secs(60));
        let (start, key) = (Instant::now(), key("127.0.0.1"));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(failures.attempt(&key, at(0)));
        assert!(failures.attempt(&key, at(30)));
        assert!(!failures.attempt(&key, at(59)));
        assert!(failures.attempt(&key, at(60)));
        assert!(!failures.attempt(&key, at(61)));
    }

    #[test]
    fn a_success_does_not_count() {
        let failures = Failures::new(1, Duration::from_secs(60));
        let key = Key::User("alice@a.example".into());
        for _ in 0..5 {
            assert!(failures.attempt(&key, Instant::now()));
            failures.forgive(&key);
        }
    }

    #[test]
    fn zero_means_no_limit() {
        let failures = Failures::new(0, Duration::from_secs(60));
        assert!((0..1000).all(|_| failures.attempt(&key("::1"), Instant::now())));
    }

    #[test]
    fn one_ipv6_network_is_one_client_and_mapped_ipv4_is_ipv4() {
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }

    #[test]
    fn memory_is_bounded() {
        let failures = Failures::new(3, Duration::from_secs(60));
        for number in 0..=u32::try_from(MAX_KEYS).unwrap() {
            failures.attempt(&Key::Client(IpAddr::V4(number.into())), Instant::now());
        }
        assert!(failures.seen.lock().unwrap().len() <= MAX_KEYS);
    }
}
