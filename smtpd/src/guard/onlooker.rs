//! Onlookers: it is found out how far a client would get, and nothing of it counts for anybody.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::rates::{KINDS, Kind, Reached};
use super::{Exceeded, Guard, Inside, Pass, Prefix, Reach, at_once_key, wide};

/// What an onlooker did itself: a session of its own would have counted that.
#[derive(Debug, Default)]
pub(super) struct Own([AtomicU32; KINDS]);

impl Own {
    pub(super) fn of(&self, kind: Kind) -> u32 {
        let counter = self.0.get(kind as usize);
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    pub(super) fn add(&self, kind: Kind, number: u32) {
        if let Some(counter) = self.0.get(kind as usize) {
            counter.fetch_add(number, Ordering::Relaxed);
        }
    }
}

/// How far somebody is from a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The key of the configuration that sets it.
    pub key: &'static str,
    /// The network.
    pub by: String,
    /// What it did.
    pub done: u64,
    /// What it may do.
    pub limit: u64,
    /// Within which time; `None` for what goes on now.
    pub window: Option<Duration>,
}

impl Guard {
    /// A connection of `address` would begin.
    ///
    /// # Errors
    /// [`Exceeded`] when that would be one too many.
    pub fn look(self: &Arc<Self>, address: IpAddr) -> Result<Pass, Exceeded> {
        let mut pass = self.look_trusting(address);
        let exempt = &self.limits.exempt;
        if exempt.iter().any(|network| network.contains(address)) {
            return Ok(pass);
        }
        pass.is_exempt = false;
        let now = self.began.elapsed();
        let inside = self.lock();
        inside.has_room(&self.limits, address)?;
        inside.look(address, Kind::Connection, 0, now)?;
        drop(inside);
        Ok(pass)
    }

    /// The same where no limit on addresses applies.
    #[must_use]
    pub fn look_trusting(self: &Arc<Self>, address: IpAddr) -> Pass {
        let mut pass = self.trust(address);
        pass.onlooker = Some(Own::default());
        pass
    }

    /// Connections that the networks around `address` have now and began lately, where they are limited.
    #[must_use]
    pub fn connections(&self, address: IpAddr) -> Vec<Count> {
        let inside = self.lock();
        let networks = Reach::ALL.map(|reach| Prefix::of(address, reach));
        let at_once = networks.into_iter().zip(self.limits.at_once);
        let at_once = at_once.filter(|(_, limit)| *limit != usize::MAX);
        let at_once = at_once.map(|(network, limit)| Count {
            key: at_once_key(network.reach()),
            by: network.to_string(),
            done: wide(inside.by_network.of(&network)),
            limit: wide(limit),
            window: None,
        });
        let now = self.began.elapsed();
        at_once
            .chain(inside.counts(address, Kind::Connection, 0, now))
            .collect()
    }
}

impl Pass {
    /// What the networks around the client did of that kind, where it is limited; nothing for a client that no limit applies to.
    #[must_use]
    pub fn counts(&self, kind: Kind) -> Vec<Count> {
        if self.is_exempt {
            return Vec::new();
        }
        let own = self.onlooker.as_ref().map_or(0, |own| own.of(kind));
        let now = self.guard.began.elapsed();
        self.guard.lock().counts(self.address, kind, own, now)
    }
}

impl Inside {
    /// [`Self::check`], if the client had done so many `more`; nothing is noted.
    pub(super) fn look(
        &self,
        address: IpAddr,
        kind: Kind,
        more: u32,
        now: Duration,
    ) -> Result<(), Exceeded> {
        for reach in Reach::ALL.into_iter().rev() {
            let looked = self.rates.look(Prefix::of(address, reach), kind, more, now);
            looked.map_err(|reached| reached.of_kind(kind))?;
        }
        Ok(())
    }

    fn counts(&self, address: IpAddr, kind: Kind, more: u32, now: Duration) -> Vec<Count> {
        let count = |reach| {
            let of = Prefix::of(address, reach);
            let limit = self.rates.limit(of, kind);
            let is_news = false;
            let Exceeded { key, by, limit, .. } = Reached { of, limit, is_news }.of_kind(kind);
            Count {
                key,
                by,
                done: self.rates.done(of, kind, now).saturating_add(more.into()),
                limit,
                window: Some(self.rates.window()),
            }
        };
        let counts = Reach::ALL.into_iter().map(count);
        counts
            .filter(|count| count.limit != u64::from(u32::MAX))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::guard;
    use super::*;

    const WHO: &str = "192.0.2.1";

    #[test]
    fn an_onlooker_is_stopped_where_a_client_is_and_leaves_no_trace() {
        let guard =
            guard(r#"{"recipients": 3, "connections": 4, "network_factor": 0, "block_factor": 0}"#);
        let who: IpAddr = WHO.parse().unwrap();
        let client = guard.admit(who).unwrap();
        client.count(Kind::Recipient, 1);
        for _ in 0..10 {
            let onlooker = guard.look(who).unwrap();
            for _ in 0..2 {
                assert_eq!(onlooker.check(Kind::Recipient), Ok(()));
                onlooker.count(Kind::Recipient, 1);
            }
            let stopped = onlooker.check(Kind::Recipient).unwrap_err();
            assert_eq!(
                stopped.to_string(),
                "smtp.limits.recipients allows 192.0.2.1/32 no more than 3"
            );
            let seen = onlooker.counts(Kind::Recipient);
            assert_eq!((seen[0].done, seen[0].limit), (3, 3));
        }
        let [at_once, rate] = <[Count; 2]>::try_from(guard.connections(who)).unwrap();
        assert_eq!((at_once.done, at_once.limit, at_once.window), (1, 2, None));
        assert_eq!((rate.done, rate.limit), (1, 4));
        assert_eq!(client.check(Kind::Recipient), Ok(()));
        // That the limit is reached is still news when a client reaches it.
        client.count(Kind::Recipient, 2);
        assert!(guard.look(who).unwrap().check(Kind::Recipient).is_err());
        assert!(client.check(Kind::Recipient).unwrap_err().is_news);
        let _second = guard.admit(who).unwrap();
        assert!(guard.look(who).is_err(), "a third connection at once");
    }

    #[test]
    fn an_account_of_an_onlooker_has_no_connection_more() {
        let guard = guard(r#"{"connections_per_account": 1}"#);
        let who: IpAddr = WHO.parse().unwrap();
        let mut onlooker = guard.look(who).unwrap();
        assert_eq!(onlooker.log_in("alice@example.org"), Ok(()));
        let mut client = guard.admit(who).unwrap();
        assert_eq!(client.log_in("alice@example.org"), Ok(()));
        assert!(onlooker.log_in("alice@example.org").is_err());
        drop(onlooker);
        assert!(
            guard
                .look(who)
                .unwrap()
                .log_in("alice@example.org")
                .is_err()
        );
    }
}
