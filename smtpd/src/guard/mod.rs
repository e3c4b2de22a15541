//! How much one client may do: connections at once, and rates within a sliding window; of an address, of the networks around it,
//! and of an account.
//!
//! What is counted is bounded: connections by how many there are, rates by a table of fixed size ([`rates`], at most 4 MiB).

mod onlooker;
mod prefix;
mod rates;

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use daemon::config::{Config, Network};
use tracing::{debug, warn};

pub use self::onlooker::Count;
use self::onlooker::Own;
use self::prefix::{Prefix, Reach};
pub use self::rates::Kind;
use self::rates::{Quotas, Rates, Reached};

/// Eight networks of at most 64 octets are in each.
const SETS: usize = 8192;

/// How much a client may do.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Whom nothing here applies to.
    pub exempt: Vec<Network>,
    /// Connections at once of an address, a network and a block; `usize::MAX` for any number.
    at_once: [usize; 3],
    /// Connections at once of an account.
    per_account: usize,
    rates: Quotas,
}

impl Limits {
    /// Those of the configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let limits = &config.smtp.limits;
        let factors = [1, limits.network_factor, limits.block_factor];
        let rates = [
            limits.connections,
            limits.commands,
            limits.recipients,
            limits.refused_recipients,
        ];
        let [address, network, block] = factors.map(|factor| rates.map(|rate| times(rate, factor)));
        let at_once = config.limits.connections_per_address;
        Self {
            exempt: limits.exempt.clone(),
            at_once: factors.map(|factor| count(times(at_once, factor))),
            per_account: count(times(limits.connections_per_account, 1)),
            rates: Quotas {
                window: Duration::from_secs(limits.window_seconds.value()),
                address,
                network,
                block,
            },
        }
    }
}

/// `u32::MAX` for no limit, which 0 stands for in the configuration.
fn times(limit: u32, factor: u32) -> u32 {
    match limit.saturating_mul(factor) {
        0 => u32::MAX,
        limit => limit,
    }
}

fn count(limit: u32) -> usize {
    match limit {
        u32::MAX => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    }
}

/// A limit that a client has reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// The key of the configuration that sets it.
    key: &'static str,
    /// The network or account that has done so much.
    by: String,
    limit: u64,
    is_news: bool,
}

impl Exceeded {
    /// The key of the configuration that sets the limit.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// Writes it into the log: who goes on and on does not fill the disk by it.
    pub fn tell(&self) {
        let Self { key, by, limit, .. } = self;
        match self.is_news {
            true => warn!(key, by, limit, "a limit is reached, refused"),
            false => debug!(key, by, limit, "a limit is reached, refused"),
        }
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} allows {} no more than {}",
            self.key, self.by, self.limit
        )
    }
}

/// Counts what all clients do.
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    began: Instant,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    rates: Rates,
    by_network: Tally<Prefix>,
    by_account: Tally<String>,
}

/// One client's connection; it counts until it is dropped.
#[derive(Debug)]
pub struct Pass {
    guard: Arc<Guard>,
    address: IpAddr,
    is_exempt: bool,
    account: Option<String>,
    /// What it did, if it is there only to see how far it would get.
    onlooker: Option<Own>,
}

impl Guard {
    /// A guard who has seen nobody yet.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        let inside = Inside {
            rates: Rates::new(limits.rates, SETS),
            by_network: Tally::default(),
            by_account: Tally::default(),
        };
        Arc::new(Self {
            limits,
            began: Instant::now(),
            inside: Mutex::new(inside),
        })
    }

    /// A connection of `address` begins.
    ///
    /// # Errors
    /// [`Exceeded`] when that is one too many.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Pass, Exceeded> {
        let exempt = &self.limits.exempt;
        if exempt.iter().any(|network| network.contains(address)) {
            return Ok(self.trust(address));
        }
        let now = self.began.elapsed();
        self.lock().enter(&self.limits, address, now)?;
        let mut pass = self.trust(address);
        pass.is_exempt = false;
        Ok(pass)
    }

    /// A connection that no limit on addresses applies to begins.
    #[must_use]
    pub fn trust(self: &Arc<Self>, address: IpAddr) -> Pass {
        Pass {
            guard: Arc::clone(self),
            address,
            is_exempt: true,
            account: None,
            onlooker: None,
        }
    }

    // The counters are whole after each statement, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// A pass for the client at `address`, for whom this one's connection speaks from now on.
    ///
    /// # Errors
    /// [`Exceeded`] when that is one too many.
    pub fn change(&self, address: IpAddr) -> Result<Self, Exceeded> {
        match self.onlooker {
            None => self.guard.admit(address),
            Some(_) => self.guard.look(address),
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The network that the client is in: a /24 or an IPv6 /64.
    #[must_use]
    pub fn network(&self) -> String {
        let reach = match self.address.to_canonical() {
            IpAddr::V4(_) => Reach::Network,
            IpAddr::V6(_) => Reach::Address,
        };
        Prefix::of(self.address, reach).to_string()
    }

    /// Whether nothing is asked of it.
    #[must_use]
    pub fn is_exempt(&self) -> bool {
        self.is_exempt
    }

    /// Whether the client may do one more of that kind.
    ///
    /// # Errors
    /// [`Exceeded`] if not.
    pub fn check(&self, kind: Kind) -> Result<(), Exceeded> {
        if self.is_exempt {
            return Ok(());
        }
        let now = self.guard.began.elapsed();
        let mut inside = self.guard.lock();
        match &self.onlooker {
            None => inside.check(self.address, kind, now),
            Some(own) => inside.look(self.address, kind, own.of(kind), now),
        }
    }

    /// Counts what the client did.
    pub fn count(&self, kind: Kind, number: u32) {
        if self.is_exempt || number == 0 {
            return;
        }
        if let Some(own) = &self.onlooker {
            return own.add(kind, number);
        }
        let now = self.guard.began.elapsed();
        self.guard.lock().count(self.address, kind, number, now);
    }

    /// The client logs in.
    ///
    /// # Errors
    /// [`Exceeded`] when the account has as many connections as it may have.
    pub fn log_in(&mut self, account: &str) -> Result<(), Exceeded> {
        self.log_out();
        let limit = self.guard.limits.per_account;
        let mut inside = self.guard.lock();
        if inside.by_account.of(&account.to_owned()) >= limit {
            return Err(Exceeded {
                key: "smtp.limits.connections_per_account",
                by: account.to_owned(),
                limit: wide(limit),
                is_news: true,
            });
        }
        if self.onlooker.is_some() {
            return Ok(());
        }
        inside.by_account.add(account.to_owned());
        drop(inside);
        self.account = Some(account.to_owned());
        Ok(())
    }

    /// Whoever logged in on this connection counts no more.
    pub fn log_out(&mut self) {
        if let Some(account) = self.account.take() {
            self.guard.lock().by_account.take(&account);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.log_out();
        if !self.is_exempt && self.onlooker.is_none() {
            self.guard.lock().leave(self.address);
        }
    }
}

impl Inside {
    fn enter(&mut self, limits: &Limits, address: IpAddr, now: Duration) -> Result<(), Exceeded> {
        self.has_room(limits, address)?;
        self.check(address, Kind::Connection, now)?;
        self.count(address, Kind::Connection, 1, now);
        let networks = Reach::ALL.map(|reach| Prefix::of(address, reach));
        networks
            .into_iter()
            .for_each(|one| self.by_network.add(one));
        Ok(())
    }

    fn has_room(&self, limits: &Limits, address: IpAddr) -> Result<(), Exceeded> {
        let networks = Reach::ALL.map(|reach| Prefix::of(address, reach));
        for (network, limit) in networks.into_iter().zip(limits.at_once) {
            if self.by_network.of(&network) >= limit {
                return Err(Exceeded {
                    key: at_once_key(network.reach()),
                    by: network.to_string(),
                    limit: wide(limit),
                    is_news: true,
                });
            }
        }
        Ok(())
    }

    fn leave(&mut self, address: IpAddr) {
        for reach in Reach::ALL {
            self.by_network.take(&Prefix::of(address, reach));
        }
    }

    // Wide networks first: where one of them has done enough, nothing about the address need be known.
    fn check(&mut self, address: IpAddr, kind: Kind, now: Duration) -> Result<(), Exceeded> {
        for reach in Reach::ALL.into_iter().rev() {
            let checked = self.rates.check(Prefix::of(address, reach), kind, now);
            checked.map_err(|reached| reached.of_kind(kind))?;
        }
        Ok(())
    }

    fn count(&mut self, address: IpAddr, kind: Kind, number: u32, now: Duration) {
        for reach in Reach::ALL {
            self.rates
                .count(Prefix::of(address, reach), kind, number, now);
        }
    }
}

const fn at_once_key(reach: Reach) -> &'static str {
    match reach {
        Reach::Address => "limits.connections_per_address",
        Reach::Network => "limits.connections_per_address × smtp.limits.network_factor",
        Reach::Block => "limits.connections_per_address × smtp.limits.block_factor",
    }
}

impl Reached {
    fn of_kind(self, kind: Kind) -> Exceeded {
        use Reach::{Address, Block, Network};
        let key = match (kind, self.of.reach()) {
            (Kind::Connection, Address) => "smtp.limits.connections",
            (Kind::Connection, Network) => "smtp.limits.connections × network_factor",
            (Kind::Connection, Block) => "smtp.limits.connections × block_factor",
            (Kind::Command, Address) => "smtp.limits.commands",
            (Kind::Command, Network) => "smtp.limits.commands × network_factor",
            (Kind::Command, Block) => "smtp.limits.commands × block_factor",
            (Kind::Recipient, Address) => "smtp.limits.recipients",
            (Kind::Recipient, Network) => "smtp.limits.recipients × network_factor",
            (Kind::Recipient, Block) => "smtp.limits.recipients × block_factor",
            (Kind::RefusedRecipient, Address) => "smtp.limits.refused_recipients",
            (Kind::RefusedRecipient, Network) => "smtp.limits.refused_recipients × network_factor",
            (Kind::RefusedRecipient, Block) => "smtp.limits.refused_recipients × block_factor",
        };
        Exceeded {
            key,
            by: self.of.to_string(),
            limit: self.limit.into(),
            is_news: self.is_news,
        }
    }
}

fn wide(limit: usize) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX)
}

/// How many there are of each; who has none is not remembered.
#[derive(Debug)]
struct Tally<K>(HashMap<K, usize>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Tally<K> {
    fn of(&self, key: &K) -> usize {
        self.0.get(key).copied().unwrap_or(0)
    }

    fn add(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    fn take(&mut self, key: &K) {
        if let Some(count) = self.0.get_mut(key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn guard(patch: &str) -> Arc<Guard> {
        let text = format!(
            r#"{{"version": 1, "hostname": "mx.example.org", "tls": {{"cert_file": "/c", "key_file": "/k"}},
                "limits": {{"connections_per_address": 2}},
                "smtp": {{"limits": {patch}}}}}"#
        );
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        Guard::new(Limits::new(&Config::read(&path).unwrap()))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn key(refused: Result<Pass, Exceeded>) -> String {
        refused.map(drop).unwrap_err().to_string()
    }

    #[test]
    fn networks_have_so_many_connections_at_once_in_all() {
        let guard = guard(r#"{"network_factor": 2, "block_factor": 3}"#);
        let admit = |text: &str| guard.admit(address(text));
        let first = admit("192.0.2.1").unwrap();
        let _second = admit("::ffff:192.0.2.1").unwrap();
        assert_eq!(
            key(admit("192.0.2.1")),
            "limits.connections_per_address allows 192.0.2.1/32 no more than 2"
        );
        let _third = admit("192.0.2.2").unwrap();
        let _fourth = admit("192.0.2.3").unwrap();
        assert_eq!(
            key(admit("192.0.2.4")),
            "limits.connections_per_address × smtp.limits.network_factor allows 192.0.2.0/24 no more than 4"
        );
        let _others = [admit("192.0.3.1").unwrap(), admit("192.0.4.1").unwrap()];
        assert_eq!(
            key(admit("192.0.5.1")),
            "limits.connections_per_address × smtp.limits.block_factor allows 192.0.0.0/16 no more than 6"
        );
        assert!(admit("192.1.2.1").is_ok());
        drop(first);
        assert!(admit("192.0.2.4").is_ok());
    }

    #[test]
    fn who_left_is_forgotten() {
        let guard = guard("{}");
        let mut pass = guard.admit(address("2001:db8::1")).unwrap();
        pass.log_in("alice@example.org").unwrap();
        drop(pass);
        let inside = guard.lock();
        assert!(inside.by_network.0.is_empty() && inside.by_account.0.is_empty());
    }

    #[test]
    fn the_exempt_are_not_counted() {
        let guard = guard(r#"{"exempt": ["192.0.2.0/24"], "connections": 1, "commands": 1}"#);
        for _ in 0..100 {
            let pass = guard.admit(address("192.0.2.1")).unwrap();
            pass.count(Kind::Command, 100);
            assert!(pass.check(Kind::Command).is_ok());
            std::mem::forget(pass);
        }
        // Loopback is exempt only by default.
        let _pass = guard.admit(address("127.0.0.1")).unwrap();
        assert!(guard.admit(address("127.0.0.1")).is_err());
    }

    #[test]
    fn the_refused_are_counted_by_address_and_network() {
        let guard = guard(r#"{"refused_recipients": 3, "network_factor": 2, "block_factor": 0}"#);
        let refuse = |text: &str, number| {
            let pass = guard.admit(address(text)).unwrap();
            pass.count(Kind::RefusedRecipient, number);
            let checked = pass.check(Kind::RefusedRecipient);
            checked.map_err(|exceeded| exceeded.to_string())
        };
        assert_eq!(refuse("192.0.2.1", 2), Ok(()));
        assert_eq!(
            refuse("192.0.2.1", 1).unwrap_err(),
            "smtp.limits.refused_recipients allows 192.0.2.1/32 no more than 3"
        );
        assert_eq!(refuse("192.0.2.2", 2), Ok(()));
        assert_eq!(
            refuse("192.0.2.3", 1).unwrap_err(),
            "smtp.limits.refused_recipients × network_factor allows 192.0.2.0/24 no more than 6"
        );
        assert_eq!(refuse("192.0.3.1", 2), Ok(()));
    }

    #[test]
    fn one_slash_48_cannot_use_up_what_the_table_remembers() {
        let guard = guard(r#"{"connections": 5, "network_factor": 4}"#);
        let mut admitted = 0;
        for subnet in 0..10_000_u32 {
            let flood = format!("2001:db8:1:{:x}::1", subnet % 65_536);
            admitted += usize::from(guard.admit(address(&flood)).is_ok());
        }
        assert_eq!(admitted, 20);
        assert!(guard.admit(address("2001:db8:2::1")).is_ok());
    }

    #[test]
    fn an_account_has_so_many_connections_from_everywhere() {
        let guard = guard(r#"{"connections_per_account": 2}"#);
        let admit = |text: &str| guard.admit(address(text)).unwrap();
        let mut passes = [
            admit("192.0.2.1"),
            admit("198.51.100.1"),
            admit("2001:db8::1"),
        ];
        let alice = "alice@example.org";
        let logged_in = passes.each_mut().map(|pass| pass.log_in(alice).is_ok());
        assert_eq!(logged_in, [true, true, false]);
        let [first, _, third] = &mut passes;
        assert!(third.log_in("bob@example.org").is_ok());
        first.log_out();
        assert!(third.log_in(alice).is_ok());
        // Not twice for one connection.
        assert!(third.log_in(alice).is_ok());
    }
}
