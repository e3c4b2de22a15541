//! What each network did within a sliding window, in a table that never grows beyond its size.
//!
//! A counter of the window that runs and one of the window before are enough: what was done in the last one counts with the
//! part of it that the sliding window still covers. So an entry is small, however much it counts.
//!
//! The table is made of sets of eight. Which set a network is in depends on a key drawn at the start, so nobody can aim at one. When
//! its set is full, a newcomer takes the place of the network that is farthest from its limits. To have a flood of addresses
//! forgotten, an attacker needs eight others in its very set that are nearer to *their* limits, so in all sets as many
//! abusers as there is room for; and he cannot even make entries cheaply, because a connection that a wider network is refused
//! makes none.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::prefix::{Prefix, Reach};

/// Entries per set.
const WAYS: usize = 8;
/// What is counted.
pub(super) const KINDS: usize = 4;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Connections.
    Connection,
    /// Commands.
    Command,
    /// Recipients.
    Recipient,
    /// Recipients that were refused for good.
    RefusedRecipient,
}

impl Kind {
    const ALL: [Self; KINDS] = [
        Self::Connection,
        Self::Command,
        Self::Recipient,
        Self::RefusedRecipient,
    ];
}

/// How much each kind of network may do within a window; `u32::MAX` where there is no limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quotas {
    /// Length of the window.
    pub(super) window: Duration,
    /// Of an address.
    pub(super) address: [u32; KINDS],
    /// Of a /24 or /48.
    pub(super) network: [u32; KINDS],
    /// Of a /16 or /32.
    pub(super) block: [u32; KINDS],
}

impl Quotas {
    /// How much a network of this reach may do.
    #[must_use]
    pub(super) fn of(&self, reach: Reach, kind: Kind) -> u32 {
        let quotas = match reach {
            Reach::Address => self.address,
            Reach::Network => self.network,
            Reach::Block => self.block,
        };
        let [connection, command, recipient, refused] = quotas;
        match kind {
            Kind::Connection => connection,
            Kind::Command => command,
            Kind::Recipient => recipient,
            Kind::RefusedRecipient => refused,
        }
    }
}

/// The counters of all networks.
#[derive(Debug)]
pub(super) struct Rates {
    quotas: Quotas,
    /// Made when they are first needed.
    sets: Vec<Option<Box<[Entry; WAYS]>>>,
    hasher: RandomState,
}

/// One network's counters.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    of: Option<Prefix>,
    /// The window that runs, counted from the start.
    window: u32,
    running: [u32; KINDS],
    /// What was counted in the window before.
    before: [u32; KINDS],
    /// The window in which it was last said that a limit is reached, plus one.
    said: u32,
}

/// A moment, seen from the windows.
#[derive(Debug, Clone, Copy)]
struct Moment {
    window: u32,
    /// How many thousandths of the window before are still covered.
    covered: u64,
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    /// By which network.
    pub(super) of: Prefix,
    /// How much it may do.
    pub(super) limit: u32,
    /// Not said before within this window.
    pub(super) is_news: bool,
}

impl Rates {
    /// `sets` times eight networks are remembered at most.
    #[must_use]
    pub(super) fn new(quotas: Quotas, sets: usize) -> Self {
        Self {
            quotas,
            sets: vec![None; sets.max(1)],
            hasher: RandomState::new(),
        }
    }

    /// Whether the network may do one more of that kind; `now` is the time since the start.
    ///
    /// # Errors
    /// [`Reached`] if not.
    pub(super) fn check(&mut self, of: Prefix, kind: Kind, now: Duration) -> Result<(), Reached> {
        let mut reached = match self.look(of, kind, 0, now) {
            Ok(()) => return Ok(()),
            Err(reached) => reached,
        };
        let said = self.moment(now).window.wrapping_add(1);
        if let Some(entry) = self.find(of) {
            reached.is_news = std::mem::replace(&mut entry.said, said) != said;
        }
        Err(reached)
    }

    /// The same, if the network had done so many `more`; nothing is noted.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn look(
        &self,
        of: Prefix,
        kind: Kind,
        more: u32,
        now: Duration,
    ) -> Result<(), Reached> {
        let limit = self.limit(of, kind);
        let done = self.done(of, kind, now).saturating_add(more.into());
        if done < u64::from(limit) {
            return Ok(());
        }
        let is_news = false;
        Err(Reached { of, limit, is_news })
    }

    /// What the network did within the window that ends now.
    pub(super) fn done(&self, of: Prefix, kind: Kind, now: Duration) -> u64 {
        let moment = self.moment(now);
        let set = self.sets.get(self.place(of)).and_then(Option::as_ref);
        let entry = set.and_then(|set| set.iter().find(|entry| entry.of == Some(of)));
        entry.copied().map_or(0, |mut entry| {
            entry.roll(moment);
            entry.estimate(kind, moment)
        })
    }

    /// How much it may do.
    pub(super) fn limit(&self, of: Prefix, kind: Kind) -> u32 {
        self.quotas.of(of.reach(), kind)
    }

    /// Length of the window.
    pub(super) const fn window(&self) -> Duration {
        self.quotas.window
    }

    /// Counts what the network did.
    pub(super) fn count(&mut self, of: Prefix, kind: Kind, number: u32, now: Duration) {
        let moment = self.moment(now);
        let entry = self.entry(of, moment);
        if let Some(counter) = entry.running.get_mut(kind as usize) {
            *counter = counter.saturating_add(number);
        }
    }

    fn moment(&self, now: Duration) -> Moment {
        let window = self.quotas.window.as_millis().max(1);
        let (number, into) = (now.as_millis() / window, now.as_millis() % window);
        Moment {
            window: u32::try_from(number).unwrap_or(u32::MAX),
            covered: u64::try_from((window - into) * 1000 / window).unwrap_or(1000),
        }
    }

    fn place(&self, of: Prefix) -> usize {
        let sets = u64::try_from(self.sets.len()).unwrap_or(u64::MAX);
        usize::try_from(self.hasher.hash_one(of) % sets).unwrap_or(0)
    }

    fn find(&mut self, of: Prefix) -> Option<&mut Entry> {
        let place = self.place(of);
        let set = self.sets.get_mut(place)?.as_mut()?;
        set.iter_mut().find(|entry| entry.of == Some(of))
    }

    // The network's entry as it is at this moment; if there is none, the one that can best be done without becomes it.
    fn entry(&mut self, of: Prefix, moment: Moment) -> &mut Entry {
        let (place, quotas) = (self.place(of), self.quotas);
        // There is a set for every place, and there are eight entries in each.
        let set = self.sets[place].get_or_insert_default();
        let known = set.iter().position(|entry| entry.of == Some(of));
        let at = known.unwrap_or_else(|| lightest(set, &quotas, moment));
        let entry = &mut set[at];
        if known.is_none() {
            *entry = Entry {
                of: Some(of),
                window: moment.window,
                ..Entry::default()
            };
        }
        entry.roll(moment);
        entry
    }
}

fn lightest(set: &[Entry; WAYS], quotas: &Quotas, moment: Moment) -> usize {
    let weights = set.iter().map(|entry| entry.weight(quotas, moment));
    let lightest = weights.enumerate().min_by_key(|(_, weight)| *weight);
    lightest.map_or(0, |(at, _)| at)
}

impl Entry {
    fn roll(&mut self, moment: Moment) {
        match moment.window.saturating_sub(self.window) {
            0 => return,
            1 => self.before = self.running,
            _ => self.before = [0; KINDS],
        }
        self.running = [0; KINDS];
        self.window = moment.window;
    }

    /// What was done within the window that ends now.
    fn estimate(&self, kind: Kind, moment: Moment) -> u64 {
        let of =
            |counters: &[u32; KINDS]| counters.get(kind as usize).copied().map_or(0, u64::from);
        of(&self.running) + of(&self.before) * moment.covered / 1000
    }

    /// How near to one of its limits it is, in thousandths; 0 for an entry that tells nothing any more.
    fn weight(mut self, quotas: &Quotas, moment: Moment) -> u64 {
        let Some(of) = self.of else {
            return 0;
        };
        self.roll(moment);
        let weight = |kind| {
            let limit = u64::from(quotas.of(of.reach(), kind)).max(1);
            // One more than nothing, so that an entry in use weighs more than one that is not.
            (self.estimate(kind, moment) * 1000).div_ceil(limit)
        };
        Kind::ALL.into_iter().map(weight).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(600);

    fn rates(connections: u32, sets: usize) -> Rates {
        let all = |factor| [connections * factor, 1000 * factor, u32::MAX, 10 * factor];
        let quotas = Quotas {
            window: WINDOW,
            address: all(1),
            network: all(4),
            block: all(16),
        };
        Rates::new(quotas, sets)
    }

    fn prefix(text: &str, reach: Reach) -> Prefix {
        Prefix::of(text.parse().unwrap(), reach)
    }

    fn numbered(number: u32) -> Prefix {
        Prefix::of(std::net::Ipv4Addr::from_bits(number).into(), Reach::Address)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn connect(rates: &mut Rates, of: Prefix, now: Duration) -> bool {
        let is_free = rates.check(of, Kind::Connection, now).is_ok();
        if is_free {
            rates.count(of, Kind::Connection, 1, now);
        }
        is_free
    }

    #[test]
    fn as_much_as_the_limit_says_and_no_more() {
        let mut rates = rates(3, 16);
        let of = prefix("192.0.2.1", Reach::Address);
        for _ in 0..3 {
            assert!(connect(&mut rates, of, at(0)));
        }
        let reached = rates.check(of, Kind::Connection, at(599)).unwrap_err();
        assert_eq!((reached.of, reached.limit), (of, 3));
        // Another kind, another network.
        assert!(rates.check(of, Kind::Command, at(0)).is_ok());
        assert!(connect(
            &mut rates,
            prefix("192.0.2.2", Reach::Address),
            at(0)
        ));
        for _ in 0..12 {
            assert!(connect(
                &mut rates,
                prefix("192.0.2.1", Reach::Network),
                at(0)
            ));
        }
        assert!(!connect(
            &mut rates,
            prefix("192.0.2.1", Reach::Network),
            at(0)
        ));
    }

    #[test]
    fn the_window_slides() {
        let mut rates = rates(100, 16);
        let of = prefix("2001:db8::1", Reach::Address);
        let connections =
            |rates: &mut Rates, now| (0..1000).filter(|_| connect(rates, of, at(now))).count();
        assert_eq!(connections(&mut rates, 599), 100);
        // No second hundred at once behind the end of a window.
        assert_eq!(connections(&mut rates, 600), 0);
        assert_eq!(connections(&mut rates, 900), 50);
        assert_eq!(connections(&mut rates, 1199), 50);
        assert_eq!(connections(&mut rates, 1200 + 1800), 100);
    }

    #[test]
    fn that_a_limit_is_reached_is_news_once_in_a_window() {
        let mut rates = rates(1, 16);
        let of = prefix("192.0.2.1", Reach::Address);
        connect(&mut rates, of, at(0));
        let mut is_news = |now| {
            rates
                .check(of, Kind::Connection, at(now))
                .map_err(|r| r.is_news)
        };
        assert_eq!(is_news(1), Err(true));
        assert_eq!(is_news(2), Err(false));
        assert_eq!(is_news(600), Err(true));
        assert_eq!(is_news(1200), Ok(()));
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_memory_and_pushes_out_no_abuser() {
        let mut rates = rates(3, 64);
        let abusers: Vec<Prefix> = (0..64).map(numbered).collect();
        for abuser in &abusers {
            while connect(&mut rates, *abuser, at(0)) {}
        }
        let is_held = |rates: &mut Rates, now| {
            let free = |of: &&Prefix| rates.check(**of, Kind::Connection, at(now)).is_ok();
            abusers.iter().filter(free).count() == 0
        };
        assert!(is_held(&mut rates, 0));
        for number in 1000..101_000 {
            connect(&mut rates, numbered(number), at(1));
        }
        assert!(is_held(&mut rates, 1));
        let entries = rates.sets.iter().flatten().flat_map(|set| set.iter());
        assert!(entries.count() <= 64 * WAYS);
        // What is over is the first to make room.
        for number in 1000..11_000 {
            connect(&mut rates, numbered(number), at(1800));
        }
        let left = abusers.iter().filter(|of| rates.find(**of).is_some());
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn an_entry_is_as_small_as_the_memory_is_stated_by() {
        assert!(size_of::<Entry>() <= 64, "{}", size_of::<Entry>());
    }
}
