//! Whose mail is known: who was put off and came back (RFC 6647).
//!
//! Who waits is in memory only: after a restart they wait once more. Who came back is written down as [`Passed`], a line of JSON each; reading
//! those lines again makes the same list. Both are bounded, in number and in octets: of addresses only a hash is kept, which says nothing to
//! who reads the file. Where there is no room for one more who waits, mail is taken: a flood must not stop the others' mail.

use std::collections::HashMap;

use daemon::config::Greylisting;
use ipc::greylist::{Acquaintance, Triple};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::warn;

/// Mails that wait, at most, and that are known, at most: some 20 MiB in all.
const MAX_MAILS: usize = 100_000;
/// Seconds between two times at which what is long past is forgotten.
const SWEEP: u64 = 60;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// A mail that came back, or was seen again, or a whole network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Mark of network, sender and recipient; of the network alone once it is trusted.
    what: u128,
    /// Mark of the network.
    network: u128,
    /// Unix seconds.
    at: i64,
}

/// All that is known.
#[derive(Debug)]
pub struct Greylist {
    rules: Greylisting,
    /// Since when each waits.
    waiting: HashMap<u128, i64>,
    /// What was written down last of each.
    known: HashMap<u128, Passed>,
    /// How many of each network are known.
    networks: HashMap<u128, u32>,
    /// When it was last looked for what is long past.
    swept: i64,
    max: usize,
}

/// What is kept of a triple.
#[derive(Debug, Clone, Copy)]
struct Marks {
    network: u128,
    mail: u128,
}

impl Marks {
    fn of(triple: &Triple) -> Self {
        Self {
            network: mark(&[&triple.network]),
            mail: mark(&[&triple.network, &triple.sender, &triple.recipient]),
        }
    }
}

/// How mail that comes now stands.
#[derive(Debug)]
enum Sight {
    Known(Passed),
    /// It has waited and has come back.
    Back,
    /// For so many seconds more.
    Waits(i64),
    /// There is no room for one more who waits.
    Flooded,
    /// It is to wait for so many seconds.
    New(i64),
}

impl Greylist {
    /// Nobody is known yet.
    #[must_use]
    pub fn new(rules: &Greylisting) -> Self {
        Self {
            rules: rules.clone(),
            waiting: HashMap::new(),
            known: HashMap::new(),
            networks: HashMap::new(),
            swept: 0,
            max: MAX_MAILS,
        }
    }

    /// Whether mail that comes now is known, and what is to be written down about it.
    pub fn greet(&mut self, triple: &Triple, now: i64) -> (Acquaintance, Option<Passed>) {
        if now.abs_diff(self.swept) >= SWEEP {
            self.forget(now);
        }
        let marks = Marks::of(triple);
        match self.look(marks, now) {
            Sight::Known(last) => {
                // Once a day is enough to know that it is still in use.
                let is_worth_it = now.saturating_sub(last.at) >= DAY;
                let again = is_worth_it.then_some(Passed { at: now, ..last });
                again.iter().for_each(|again| self.remember(*again));
                (Acquaintance::Known, again)
            }
            Sight::Back => {
                let Marks { network, mail } = marks;
                self.waiting.remove(&mail);
                let count = self.networks.get(&network).copied().unwrap_or(0);
                let is_trusted = self.networks_count() && count + 1 >= self.rules.trusted_after;
                let what = if is_trusted { network } else { mail };
                let at = now;
                let passed = Passed { what, network, at };
                self.remember(passed);
                (Acquaintance::Known, Some(passed))
            }
            Sight::Waits(left) => (wait(left), None),
            Sight::Flooded => (Acquaintance::Known, None),
            Sight::New(delay) => {
                self.waiting.insert(marks.mail, now);
                (wait(delay), None)
            }
        }
    }

    /// The same, only to know: nothing is remembered.
    #[must_use]
    pub fn recall(&self, triple: &Triple, now: i64) -> Acquaintance {
        match self.look(Marks::of(triple), now) {
            Sight::Known(_) | Sight::Back | Sight::Flooded => Acquaintance::Known,
            Sight::Waits(left) | Sight::New(left) => wait(left),
        }
    }

    fn look(&self, Marks { network, mail }: Marks, now: i64) -> Sight {
        let trusted = self.known.get(&network);
        let trusted = trusted.filter(|_| self.networks_count());
        let known = trusted.or_else(|| self.known.get(&mail)).copied();
        if let Some(last) = known.filter(|last| self.is_fresh(last, now)) {
            return Sight::Known(last);
        }
        let delay = seconds(self.rules.delay_seconds.value());
        let began = self.waiting.get(&mail).copied();
        match began.filter(|began| self.is_awaited(*began, now)) {
            Some(began) if now - began >= delay => Sight::Back,
            Some(began) => Sight::Waits(delay - (now - began)),
            None if self.waiting.len() >= self.max => Sight::Flooded,
            None => Sight::New(delay),
        }
    }

    const fn networks_count(&self) -> bool {
        self.rules.trusted_after != 0
    }

    /// Takes in what was written down. A clock that was wrong then does not make anybody known forever.
    pub fn note(&mut self, passed: Passed, now: i64) {
        let at = passed.at.min(now);
        self.remember(Passed { at, ..passed });
    }

    /// Forgets what is long past.
    pub fn forget(&mut self, now: i64) {
        self.swept = now;
        let (mut known, mut waiting) = (
            std::mem::take(&mut self.known),
            std::mem::take(&mut self.waiting),
        );
        known.retain(|_, last| self.is_fresh(last, now));
        waiting.retain(|_, began| self.is_awaited(*began, now));
        (self.known, self.waiting) = (known, waiting);
        self.count_networks();
        if self.waiting.len() >= self.max {
            let waiting = self.waiting.len();
            warn!(
                key = "smtp.greylisting",
                waiting, "no room for more who wait: their mail is taken at once"
            );
        }
    }

    /// All that is known, as it is to be written down.
    #[must_use]
    pub fn summary(&self) -> Vec<Passed> {
        self.known.values().copied().collect()
    }

    fn remember(&mut self, passed: Passed) {
        if let Some(last) = self.known.get_mut(&passed.what) {
            last.at = last.at.max(passed.at);
            return;
        }
        if self.known.len() >= self.max {
            self.forget_oldest();
        }
        self.known.insert(passed.what, passed);
        *self.networks.entry(passed.network).or_default() += 1;
    }

    // A tenth of them, so that it is seldom done.
    fn forget_oldest(&mut self) {
        let mut times: Vec<i64> = self.known.values().map(|last| last.at).collect();
        times.sort_unstable();
        if let Some(oldest) = times.get(times.len() / 10).copied() {
            self.known.retain(|_, last| last.at > oldest);
        }
        self.count_networks();
    }

    fn count_networks(&mut self) {
        self.networks.clear();
        for last in self.known.values() {
            *self.networks.entry(last.network).or_default() += 1;
        }
    }

    fn is_fresh(&self, last: &Passed, now: i64) -> bool {
        let days = seconds(self.rules.known_days.value());
        now.saturating_sub(last.at) <= days.saturating_mul(DAY)
    }

    // Not since a time that is yet to come: a clock was wrong, and the wait would not end.
    fn is_awaited(&self, began: i64, now: i64) -> bool {
        let delay = seconds(self.rules.delay_seconds.value());
        let until = delay.saturating_add(seconds(self.rules.return_seconds.value()));
        (0..=until).contains(&now.saturating_sub(began))
    }
}

/// Half a SHA-256 of these, each with its length in front.
fn mark(parts: &[&str]) -> u128 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let half = digest.iter().take(16);
    half.fold(0, |mark, byte| mark << 8 | u128::from(*byte))
}

fn wait(seconds: i64) -> Acquaintance {
    let wait = u64::try_from(seconds).unwrap_or(0).max(1);
    Acquaintance::Stranger { wait }
}

fn seconds(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greylist() -> Greylist {
        Greylist::new(&Greylisting::default())
    }

    fn triple(network: &str, sender: &str) -> Triple {
        Triple {
            network: network.into(),
            sender: sender.into(),
            recipient: "bob@example.test".into(),
        }
    }

    fn is_known(list: &mut Greylist, network: &str, sender: &str, now: i64) -> bool {
        list.greet(&triple(network, sender), now).0 == Acquaintance::Known
    }

    const HERE: &str = "192.0.2.0/24";
    const THERE: &str = "192.0.3.0/24";

    #[test]
    fn who_is_only_asked_about_stays_as_he_is() {
        let mut list = greylist();
        let stranger = triple(HERE, "a@far.test");
        let recall = |list: &Greylist, now| list.recall(&stranger, now);
        let first = recall(&list, 0);
        assert_eq!(recall(&list, 200), first);
        assert!(list.waiting.is_empty());
        assert_eq!(list.greet(&stranger, 200).0, first);
        for now in [250, 2000] {
            let seen = recall(&list, now);
            assert_eq!(recall(&list, now), seen);
            assert_eq!(list.waiting.len(), 1);
            assert_eq!(list.greet(&stranger, now).0, seen);
        }
        assert_eq!(recall(&list, 2000), Acquaintance::Known);
        assert_eq!(recall(&list, 400 * DAY), first);
    }

    #[test]
    fn who_comes_back_in_time_is_known_from_then_on() {
        let mut list = greylist();
        let one = triple(HERE, "a@far.test");
        let waits = |list: &mut Greylist, now| list.greet(&one, now).0;
        assert_eq!(waits(&mut list, 0), Acquaintance::Stranger { wait: 240 });
        assert_eq!(waits(&mut list, 239), Acquaintance::Stranger { wait: 1 });
        assert!(!is_known(&mut list, THERE, "a@far.test", 240));
        assert!(!is_known(&mut list, HERE, "", 240));
        let mut other = one.clone();
        other.recipient = "carol@example.test".into();
        assert_ne!(list.greet(&other, 240).0, Acquaintance::Known);
        assert_eq!(waits(&mut list, 240), Acquaintance::Known);
        assert_eq!(waits(&mut list, 36 * DAY), Acquaintance::Known);
        assert_eq!(waits(&mut list, 72 * DAY), Acquaintance::Known);
        assert_ne!(waits(&mut list, 109 * DAY), Acquaintance::Known);
    }

    #[test]
    fn who_comes_back_too_late_begins_anew() {
        let mut list = greylist();
        let last = 240 + DAY;
        assert!(!is_known(&mut list, HERE, "a@far.test", 0));
        assert!(!is_known(&mut list, HERE, "b@far.test", 0));
        assert!(is_known(&mut list, HERE, "a@far.test", last));
        assert!(!is_known(&mut list, HERE, "b@far.test", last + 1));
        assert!(is_known(&mut list, HERE, "b@far.test", last + 241));
    }

    #[test]
    fn a_long_delay_leaves_time_to_come_back() {
        let rules = r#"{"delay_seconds": 90000, "return_seconds": 3600}"#;
        let mut list = Greylist::new(&serde_json::from_str(rules).unwrap());
        assert!(!is_known(&mut list, HERE, "a@far.test", 0));
        assert!(is_known(&mut list, HERE, "a@far.test", 90_000));
    }

    #[test]
    fn a_network_that_always_comes_back_is_trusted_while_it_sends() {
        let mut list = greylist();
        let senders: Vec<String> = (0..5).map(|n| format!("{n}@far.test")).collect();
        for sender in &senders {
            assert!(!is_known(&mut list, HERE, sender, 0), "{sender}");
        }
        for sender in &senders {
            assert!(!is_known(&mut list, HERE, "x@far.test", 239));
            assert!(is_known(&mut list, HERE, sender, 240));
        }
        assert!(is_known(&mut list, HERE, "y@far.test", 241));
        assert!(!is_known(&mut list, THERE, "y@far.test", 241));
        // Others than those who came back keep it known.
        assert!(is_known(&mut list, HERE, "z@far.test", 30 * DAY));
        assert!(is_known(&mut list, HERE, "w@far.test", 60 * DAY));
        assert!(!is_known(&mut list, HERE, "w@far.test", 97 * DAY));
    }

    #[test]
    fn no_network_is_trusted_where_that_is_not_wanted() {
        let rules = r#"{"trusted_after": 0}"#;
        let mut list = Greylist::new(&serde_json::from_str(rules).unwrap());
        for n in 0..20 {
            let sender = format!("{n}@far.test");
            assert!(!is_known(&mut list, HERE, &sender, n * 300));
            assert!(is_known(&mut list, HERE, &sender, n * 300 + 240));
        }
    }

    #[test]
    fn what_was_written_down_makes_the_same_list() {
        let mut first = greylist();
        let one = triple(HERE, "a@far.test");
        first.greet(&one, 0);
        let (_, passed) = first.greet(&one, 300);
        let line = serde_json::to_vec(&passed.unwrap()).unwrap();
        let mut second = greylist();
        second.note(serde_json::from_slice(&line).unwrap(), 301);
        assert!(is_known(&mut second, HERE, "a@far.test", 301));
        let mut third = greylist();
        for passed in second.summary() {
            third.note(passed, 301);
        }
        // Not a line for each message.
        assert_eq!(third.greet(&one, DAY), (Acquaintance::Known, None));
        assert!(third.greet(&one, 2 * DAY).1.is_some());
    }

    #[test]
    fn a_clock_that_was_wrong_stops_no_mail_and_makes_nobody_known_for_ever() {
        let mut list = greylist();
        assert!(!is_known(&mut list, HERE, "a@far.test", 1_000 * DAY));
        assert!(!is_known(&mut list, HERE, "a@far.test", DAY));
        assert!(is_known(&mut list, HERE, "a@far.test", DAY + 240));
        let mut list = greylist();
        for (n, at) in [(1, i64::MAX), (2, i64::MIN)] {
            let (what, network) = (n, 0);
            list.note(Passed { what, network, at }, DAY);
        }
        list.forget(38 * DAY);
        assert_eq!(list.summary(), []);
    }

    #[test]
    fn no_more_wait_than_there_is_room_for_and_the_others_mail_is_taken() {
        let mut list = greylist();
        list.max = 2;
        for sender in ["a@far.test", "b@far.test"] {
            assert!(!is_known(&mut list, HERE, sender, 0));
        }
        assert!(is_known(&mut list, THERE, "c@far.test", DAY));
        assert_eq!(list.waiting.len(), 2);
        // Who did not come back makes room.
        assert!(!is_known(&mut list, THERE, "c@far.test", DAY + 300));
    }

    #[test]
    fn no_more_are_known_than_there_is_room_for() {
        let mut list = greylist();
        list.max = 2;
        for (n, sender) in [(1, "a@far.test"), (2, "b@far.test"), (3, "c@far.test")] {
            assert!(!is_known(&mut list, HERE, sender, n * 300));
            assert!(is_known(&mut list, HERE, sender, n * 300 + 240));
        }
        assert_eq!((list.known.len(), list.networks.len()), (2, 1));
        assert!(is_known(&mut list, HERE, "b@far.test", 1_200));
        assert!(!is_known(&mut list, HERE, "a@far.test", 1_200));
    }
}
