//! Failed logins, counted for each account and network together, and who is locked out because of them.
//!
//! All daemons' logins come by here. Somebody who guesses from one network is heard there no more, and everybody else, the
//! account's owner elsewhere too, logs in as ever. The same wrong password counts once: a device that was not told of a new
//! one must not lock its owner out. SCRAM hides what was guessed; there it holds for the passwords that the account had before
//! (`former.rs`), and each other wrong proof counts.
//!
//! What that leaves a guesser, with the limits of the default configuration (10 failures of an account from a network and 100 of the
//! network in 10 minutes, locks of 15 minutes that double up to a day). The figures are those of one network, and the same for all
//! mechanisms:
//!
//! * Passwords of one account: 9 in 10 minutes without a lock, 1296 a day. Who does not mind locks has fewer: 70 on the first day, 10
//!   on each further one.
//! * Passwords of many accounts: 99 in 10 minutes, 14256 a day.
//! * Whether a guess *was* the account's password shows over SCRAM only by a lock that does not come: what is told, and how late, is the
//!   same. At most 5 guesses go into one lock, each tried twice: 40 on the first day, 5 on each further one. Who guesses the
//!   password of now has more from the same tries.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Accounts and networks remembered at once; beyond, those that failed longest ago are forgotten.
const MAX_KEYS: usize = 100_000;
/// Locks remembered at once; beyond, those that end first are forgotten.
pub(super) const MAX_BANS: usize = 10_000;
/// No lock lasts longer, in seconds.
const LONGEST: i64 = 86_400;
/// For so many seconds after its end a lock makes the next one longer.
pub(super) const MEMORY: i64 = 86_400;
/// A client is never told later than this that its password was wrong, in seconds.
const LONGEST_WAIT: u8 = 8;

/// When is it too much?
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Failures for one account from one network; 0 for no limit.
    pub(crate) account: u32,
    /// Failures from one network, whatever the account; 0 for no limit.
    pub(crate) network: u32,
    /// In so many seconds.
    pub(crate) window: u32,
    /// How long the first lock lasts, in seconds; each further one twice as long.
    pub(crate) lockout: u32,
}

/// What one customer of a provider has at most: a /24 of IPv4, a /64 of IPv6. A loopback address is like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Network(IpAddr);

impl Network {
    /// The network of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) >> 8 << 8).into()),
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        })
    }

    /// Reads an address, or a network as it is shown.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let network = Self::of(address.parse().ok()?);
        let is_whole = length.is_none_or(|length| length == network.length().to_string());
        is_whole.then_some(network)
    }

    const fn length(self) -> u8 {
        match self.0 {
            IpAddr::V4(_) => 24,
            IpAddr::V6(_) => 64,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.length())
    }
}

/// What failures are counted for: an account in a network, or a network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) network: Network,
    /// The canonical address, whether there is such an account or not.
    pub(crate) account: Option<String>,
}

/// Somebody who is not heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ban {
    pub(crate) key: Key,
    /// Failures that led to it.
    pub(crate) failures: u32,
    /// The how manieth it is.
    pub(crate) times: u32,
    /// Unix seconds of its beginning.
    pub(crate) since: i64,
    /// Unix seconds of its end.
    pub(crate) until: i64,
}

/// An attempt that is being judged.
#[derive(Debug)]
pub(super) struct Attempt {
    keys: Vec<Key>,
    tag: u64,
}

/// What a failed attempt has led to.
#[derive(Debug)]
pub(super) struct Failed {
    /// Seconds after which the client is told.
    pub(super) wait: u8,
    /// Who is not heard any more.
    pub(super) bans: Vec<Ban>,
}

/// The counts. Time is Unix seconds, because locks outlive the process.
#[derive(Debug)]
pub(super) struct Failures {
    patience: Patience,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: HashMap<Key, VecDeque<Try>>,
    /// Also those that ended not long ago.
    bans: HashMap<Key, Ban>,
}

#[derive(Debug)]
struct Try {
    /// Of the password; the same for the same one.
    tag: u64,
    at: i64,
    /// How often it was judged, and wrong.
    failed: u32,
}

impl Failures {
    /// `bans` are those that were written down.
    pub(super) fn new(patience: Patience, bans: Vec<Ban>) -> Self {
        let bans = bans.into_iter().map(|ban| (ban.key.clone(), ban)).collect();
        Self {
            patience,
            inner: Mutex::new(Inner {
                bans,
                ..Inner::default()
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this account is heard from this network.
    pub(super) fn hears(&self, account: &Key, now: i64) -> bool {
        let inner = self.lock();
        let keys = self.keys(account);
        keys.iter().all(|key| !inner.is_banned(key, now))
    }

    /// Counts an attempt with a password of this tag, so that many guesses at once count too. `None` if there were too many
    /// already; such an attempt is not to be judged.
    pub(super) fn attempt(&self, account: &Key, tag: u64, now: i64) -> Option<Attempt> {
        let keys = self.keys(account);
        let mut inner = self.lock();
        for key in &keys {
            let limit = self.limit(key);
            if inner.is_banned(key, now) || !inner.has_room(key, tag, limit, now, self.patience) {
                return None;
            }
        }
        for key in &keys {
            inner.count(key, tag, now, self.patience);
        }
        Some(Attempt { keys, tag })
    }

    /// Takes an attempt back: it was none, or it succeeded.
    pub(super) fn forgive(&self, attempt: &Attempt) {
        let mut inner = self.lock();
        for key in &attempt.keys {
            if let Some(tries) = inner.counts.get_mut(key) {
                tries.retain(|one| one.tag != attempt.tag);
                if tries.is_empty() {
                    inner.counts.remove(key);
                }
            }
        }
    }

    /// An attempt was wrong.
    pub(super) fn fail(&self, attempt: &Attempt, now: i64) -> Failed {
        let mut failed = Failed {
            wait: 1,
            bans: Vec::new(),
        };
        let mut inner = self.lock();
        // The account's comes last, and says how long its client waits.
        for key in &attempt.keys {
            let (failures, tries) = inner.note_failure(key, attempt.tag);
            failed.wait = delay(tries);
            if failures >= self.limit(key) {
                let lockout = self.patience.lockout;
                failed.bans.push(inner.ban(key, failures, now, lockout));
            }
        }
        failed
    }

    /// Who is not heard, ordered.
    pub(super) fn bans(&self, now: i64) -> Vec<Ban> {
        let inner = self.lock();
        let current = inner.bans.values().filter(|ban| now < ban.until);
        let mut all: Vec<Ban> = current.cloned().collect();
        all.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        all
    }

    /// Hears those again that `is_meant`, as if they had never failed. Returns whose locks ended.
    pub(super) fn lift(&self, is_meant: impl Fn(&Key) -> bool) -> Vec<Key> {
        let mut inner = self.lock();
        inner.counts.retain(|key, _| !is_meant(key));
        let ended = inner.bans.extract_if(|key, _| is_meant(key));
        ended.map(|(key, _)| key).collect()
    }

    // The network, then the account in it, as far as they are counted.
    fn keys(&self, account: &Key) -> Vec<Key> {
        let network = Key {
            network: account.network,
            account: None,
        };
        let mut keys = vec![network];
        if account.account.is_some() {
            keys.push(account.clone());
        }
        keys.retain(|key| self.limit(key) > 0 && self.patience.window > 0);
        keys
    }

    const fn limit(&self, key: &Key) -> u32 {
        match key.account {
            Some(_) => self.patience.account,
            None => self.patience.network,
        }
    }
}

/// Seconds after which somebody who failed so often is told: 1, 2, 4, 8 and no longer. The same wrong password counts each time
/// here, or it would show that it was the same.
const fn delay(tries: u32) -> u8 {
    match tries {
        0 | 1 => 1,
        2 => 2,
        3 => 4,
        _ => LONGEST_WAIT,
    }
}

impl Inner {
    fn is_banned(&self, key: &Key, now: i64) -> bool {
        self.bans.get(key).is_some_and(|ban| now < ban.until)
    }

    fn has_room(
        &mut self,
        key: &Key,
        tag: u64,
        limit: u32,
        now: i64,
        Patience { window, .. }: Patience,
    ) -> bool {
        let Some(tries) = self.counts.get_mut(key) else {
            return true;
        };
        while tries
            .front()
            .is_some_and(|one| now - one.at >= i64::from(window))
        {
            tries.pop_front();
        }
        tries.len() < usize::try_from(limit).unwrap_or(usize::MAX)
            || tries.iter().any(|one| one.tag == tag)
    }

    fn count(&mut self, key: &Key, tag: u64, now: i64, patience: Patience) {
        if self.counts.len() >= MAX_KEYS && !self.counts.contains_key(key) {
            self.make_room(now, patience);
        }
        let tries = self.counts.entry(key.clone()).or_default();
        if !tries.iter().any(|one| one.tag == tag) {
            tries.push_back(Try {
                tag,
                at: now,
                failed: 0,
            });
        }
    }

    /// Returns how many passwords have failed, and how often in all.
    fn note_failure(&mut self, key: &Key, tag: u64) -> (u32, u32) {
        let Some(tries) = self.counts.get_mut(key) else {
            return (0, 0);
        };
        for one in tries.iter_mut().filter(|one| one.tag == tag) {
            one.failed = one.failed.saturating_add(1);
        }
        let failed = tries.iter().filter(|one| one.failed > 0);
        failed.fold((0, 0), |(passwords, all), one| {
            (passwords + 1, one.failed.saturating_add(all))
        })
    }

    fn ban(&mut self, key: &Key, failures: u32, now: i64, lockout: u32) -> Ban {
        self.counts.remove(key);
        self.bans.retain(|_, ban| now - ban.until < MEMORY);
        let before = self.bans.get(key).map_or(0, |ban| ban.times);
        if self.bans.len() >= MAX_BANS && before == 0 {
            let first = self.bans.values().min_by_key(|ban| ban.until);
            if let Some(first) = first.map(|ban| ban.key.clone()) {
                self.bans.remove(&first);
            }
        }
        let length = i64::from(lockout) << before.min(20);
        let ban = Ban {
            key: key.clone(),
            failures,
            times: before.saturating_add(1),
            since: now,
            until: now + length.min(LONGEST.max(i64::from(lockout))),
        };
        self.bans.insert(key.clone(), ban.clone());
        ban
    }

    fn make_room(&mut self, now: i64, Patience { window, .. }: Patience) {
        let last = |tries: &VecDeque<Try>| tries.back().map_or(i64::MIN, |one| one.at);
        self.counts
            .retain(|_, tries| now - last(tries) < i64::from(window));
        if self.counts.len() >= MAX_KEYS {
            let mut all: Vec<i64> = self.counts.values().map(last).collect();
            let middle = all.len() / 2;
            let (_, median, _) = all.select_nth_unstable(middle);
            let median = *median;
            self.counts.retain(|_, tries| last(tries) > median);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        account: 3,
        network: 5,
        window: 60,
        lockout: 100,
    };

    fn failures() -> Failures {
        Failures::new(PATIENCE, Vec::new())
    }

    fn key(address: &str, account: &str) -> Key {
        Key {
            network: Network::of(address.parse().unwrap()),
            account: Some(account.to_owned()),
        }
    }

    /// Whether the attempt was heard.
    fn guess(failures: &Failures, key: &Key, tag: u64, now: i64) -> bool {
        let attempt = failures.attempt(key, tag, now);
        attempt.is_some_and(|attempt| {
            failures.fail(&attempt, now);
            true
        })
    }

    #[test]
    fn a_lock_comes_ends_and_comes_back_longer() {
        let (failures, alice) = (failures(), key("192.0.2.1", "alice"));
        assert!((0..3).all(|tag| guess(&failures, &alice, tag, 0)));
        assert!(!guess(&failures, &alice, 9, 99));
        assert!(!failures.hears(&alice, 99));
        assert!((0..3).all(|tag| guess(&failures, &alice, tag, 100)));
        assert!(!guess(&failures, &alice, 9, 299));
        assert!(failures.hears(&alice, 300));
    }

    #[test]
    fn the_window_slides() {
        let (failures, alice) = (failures(), key("192.0.2.1", "alice"));
        assert!(guess(&failures, &alice, 1, 0));
        assert!(guess(&failures, &alice, 2, 30));
        assert!(guess(&failures, &alice, 3, 60));
        assert!(failures.hears(&alice, 60));
        assert!(guess(&failures, &alice, 4, 61));
        assert!(!failures.hears(&alice, 61));
    }

    #[test]
    fn the_same_wrong_password_counts_once() {
        let (failures, alice) = (failures(), key("192.0.2.1", "alice"));
        assert!((0..50).all(|now| guess(&failures, &alice, 7, now)));
    }

    #[test]
    fn the_owner_elsewhere_and_others_in_the_network_are_heard() {
        let failures = failures();
        for tag in 0..3 {
            guess(&failures, &key("192.0.2.1", "alice"), tag, 0);
        }
        assert!(!failures.hears(&key("192.0.2.200", "alice"), 1));
        assert!(failures.hears(&key("192.0.3.1", "alice"), 1));
        assert!(failures.hears(&key("192.0.2.1", "bob"), 1));
    }

    #[test]
    fn guesses_at_many_accounts_lock_the_network() {
        let failures = failures();
        for tag in 0..5 {
            let account = format!("user{tag}");
            assert!(guess(&failures, &key("2001:db8::1", &account), tag, 0));
        }
        assert!(!failures.hears(&key("2001:db8::ffff", "alice"), 1));
        assert!(failures.hears(&key("2001:db8:0:1::1", "alice"), 1));
    }

    #[test]
    fn guesses_at_the_same_time_count_before_they_are_judged() {
        let (failures, alice) = (failures(), key("192.0.2.1", "alice"));
        let open = (0..10).filter(|tag| failures.attempt(&alice, *tag, 0).is_some());
        assert_eq!(open.count(), 3);
        // Only those that turn out to be wrong lock anybody out.
        assert!(failures.hears(&alice, 0));
    }

    #[test]
    fn a_success_does_not_count() {
        let (failures, alice) = (failures(), key("192.0.2.1", "alice"));
        for tag in 0..9 {
            let attempt = failures.attempt(&alice, tag, 0).unwrap();
            failures.forgive(&attempt);
        }
        assert!(failures.lock().counts.is_empty());
    }

    #[test]
    fn who_fails_waits_longer_and_longer() {
        let (failures, alice) = (failures(), key("192.0.2.1", "alice"));
        let waits = (0..3).map(|tag| {
            let attempt = failures.attempt(&alice, tag, 0).unwrap();
            failures.fail(&attempt, 0).wait
        });
        assert_eq!(waits.collect::<Vec<_>>(), [1, 2, 4]);
    }

    #[test]
    fn the_same_wrong_password_does_not_show_by_how_late_it_is_told() {
        let (failures, alice) = (failures(), key("192.0.2.1", "alice"));
        let waits = [7, 7, 8, 8].map(|tag| {
            let attempt = failures.attempt(&alice, tag, 0).unwrap();
            failures.fail(&attempt, 0).wait
        });
        assert_eq!(waits, [1, 2, 4, 8]);
    }

    #[test]
    fn what_a_guesser_has_in_a_day_is_what_the_figures_say() {
        let patience = Patience {
            account: 10,
            network: 100,
            window: 600,
            lockout: 900,
        };
        let (failures, alice) = (
            Failures::new(patience, Vec::new()),
            key("192.0.2.1", "alice"),
        );
        // As fast as possible, whatever comes; a new guess each second.
        let heard = |days: std::ops::Range<i64>| {
            let seconds = days.start * 86_400..days.end * 86_400;
            let guesses = seconds.map(|now| guess(&failures, &alice, now.unsigned_abs(), now));
            guesses.filter(|heard| *heard).count()
        };
        assert_eq!((heard(0..1), heard(1..2), heard(2..3)), (70, 10, 10));
        // Just below the limit.
        let bob = key("192.0.3.1", "bob");
        let slow = (0..86_400_i64)
            .step_by(600)
            .flat_map(|now| (0..9).map(move |n| now + n));
        let slow = slow.map(|now| guess(&failures, &bob, now.unsigned_abs(), now));
        assert_eq!(slow.filter(|heard| *heard).count(), 1296);
        assert!(failures.hears(&bob, 86_400));
    }

    #[test]
    fn a_lift_ends_the_lock_and_the_count() {
        let (failures, alice) = (failures(), key("192.0.2.1", "alice"));
        for tag in 0..3 {
            guess(&failures, &alice, tag, 0);
        }
        assert_eq!(failures.bans(1)[0].key, alice);
        let lifted = failures.lift(|key| key.account.as_deref() == Some("alice"));
        assert_eq!(lifted, std::slice::from_ref(&alice));
        assert!(failures.hears(&alice, 1) && failures.bans(1).is_empty());
        // Those who are not locked out yet begin anew, too.
        let bob = key("198.51.100.1", "bob");
        for _ in 0..2 {
            assert!((0..2).all(|tag| guess(&failures, &bob, tag, 1)));
            assert!(failures.lift(|_| true).is_empty());
        }
        assert!(failures.lock().counts.is_empty());
    }

    #[test]
    fn zero_means_no_limit() {
        let patience = Patience {
            account: 0,
            network: 0,
            ..PATIENCE
        };
        let (failures, alice) = (Failures::new(patience, Vec::new()), key("::1", "alice"));
        assert!((0..1000).all(|tag| guess(&failures, &alice, tag, 0)));
    }

    #[test]
    fn networks_are_read_as_they_are_shown() {
        for (text, shown) in [
            ("192.0.2.7", "192.0.2.0/24"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.0/24"),
            ("2001:db8::7", "2001:db8::/64"),
            ("2001:db8::/64", "2001:db8::/64"),
        ] {
            assert_eq!(Network::parse(text).unwrap().to_string(), shown);
        }
        for text in ["", "192.0.2.0/16", "192.0.2.0/", "2001:db8::/24", "x"] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let failures = failures();
        // The first are locked out, which takes them from the counts.
        for number in 0..=u32::try_from(MAX_KEYS).unwrap() + 11_000 {
            let network = Network::of(IpAddr::V4((number << 8).into()));
            let key = Key {
                network,
                account: None,
            };
            for tag in 0..if number < 11_000 { 5 } else { 1 } {
                guess(&failures, &key, tag, i64::from(number));
            }
        }
        let inner = failures.lock();
        assert!(inner.counts.len() <= MAX_KEYS && inner.bans.len() <= MAX_BANS);
    }
}
