//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most connections at a time; 0 sets no limit.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From everywhere.
    pub total: usize,
    /// From one IPv4 address or one IPv6 /64.
    pub per_address: usize,
}

/// Why a connection is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowded {
    /// There are as many connections as the daemon takes.
    Total,
    /// There are as many connections from this address as one may have.
    Address,
}

/// The connections that there are.
#[derive(Debug)]
pub struct Door {
    limits: Limits,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One admitted connection; it counts until it is dropped.
#[derive(Debug)]
pub struct Permit {
    door: Arc<Door>,
    address: IpAddr,
}

impl Door {
    /// A door with nobody inside.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            inside: Mutex::default(),
        })
    }

    /// Lets a connection from `address` in.
    ///
    /// # Errors
    /// [`Crowded`] says which limit is reached.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Crowded> {
        let address = network(address);
        let mut inside = self.lock();
        if is_reached(self.limits.total, inside.total) {
            return Err(Crowded::Total);
        }
        let here = inside.by_address.entry(address).or_default();
        if is_reached(self.limits.per_address, *here) {
            return Err(Crowded::Address);
        }
        *here += 1;
        inside.total += 1;
        drop(inside);
        Ok(Permit {
            door: Arc::clone(self),
            address,
        })
    }

    /// How many connections there are, and how many there may be; 0 for any number.
    #[must_use]
    pub fn filled(&self) -> (usize, usize) {
        (self.lock().total, self.limits.total)
    }

    fn leave(&self, address: IpAddr) {
        let mut inside = self.lock();
        inside.total = inside.total.saturating_sub(1);
        if let Some(here) = inside.by_address.get_mut(&address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                inside.by_address.remove(&address);
            }
        }
    }

    // The counters are whole after each statement, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.door.leave(self.address);
    }
}

fn is_reached(limit: usize, count: usize) -> bool {
    limit != 0 && count >= limit
}

// One customer commonly has a whole /64, so that is what counts as one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let network = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_may_have_as_many_connections_as_the_limit_says() {
        let door = Door::new(Limits {
            total: 0,
            per_address: 2,
        });
        let first = door.admit(address("192.0.2.1")).unwrap();
        let _second = door.admit(address("::ffff:192.0.2.1")).unwrap();
        assert_eq!(
            door.admit(address("192.0.2.1")).unwrap_err(),
            Crowded::Address
        );
        assert!(door.admit(address("192.0.2.2")).is_ok());
        drop(first);
        assert!(door.admit(address("192.0.2.1")).is_ok());
    }

    #[test]
    fn all_together_may_have_as_many_as_the_total_says() {
        let door = Door::new(Limits {
            total: 2,
            per_address: 0,
        });
        let _first = door.admit(address("192.0.2.1")).unwrap();
        let second = door.admit(address("192.0.2.1")).unwrap();
        assert_eq!(
            door.admit(address("192.0.2.9")).unwrap_err(),
            Crowded::Total
        );
        drop(second);
        assert!(door.admit(address("192.0.2.9")).is_ok());
    }

    #[test]
    fn a_slash_64_counts_as_one_address() {
        let door = Door::new(Limits {
            total: 0,
            per_address: 1,
        });
        let _first = door.admit(address("2001:db8::1")).unwrap();
        assert!(door.admit(address("2001:db8::2")).is_err());
        assert!(door.admit(address("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn addresses_that_left_are_forgotten() {
        let door = Door::new(Limits {
            total: 0,
            per_address: 0,
        });
        drop(door.admit(address("192.0.2.1")));
        assert!(door.lock().by_address.is_empty());
        assert_eq!(door.lock().total, 0);
    }
}
