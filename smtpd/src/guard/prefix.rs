//! Networks that clients are counted by.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How wide a network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// An IPv4 address or an IPv6 /64, which one customer commonly has whole.
    Address,
    /// A /24 or an IPv6 /48.
    Network,
    /// A /16 or an IPv6 /32.
    Block,
}

impl Reach {
    /// All of them, narrow ones first.
    pub(super) const ALL: [Self; 3] = [Self::Address, Self::Network, Self::Block];
}

/// The leading bits of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Prefix {
    /// Left-aligned, zeros behind the prefix.
    bits: u64,
    width: u8,
    is_v6: bool,
}

impl Prefix {
    /// The network of `address`. An IPv4 address mapped into IPv6 is that IPv4 address.
    #[must_use]
    pub(super) fn of(address: IpAddr, reach: Reach) -> Self {
        let (all, width, is_v6) = match (address.to_canonical(), reach) {
            (IpAddr::V4(v4), Reach::Address) => (left(v4), 32, false),
            (IpAddr::V4(v4), Reach::Network) => (left(v4), 24, false),
            (IpAddr::V4(v4), Reach::Block) => (left(v4), 16, false),
            (IpAddr::V6(v6), Reach::Address) => (upper(v6), 64, true),
            (IpAddr::V6(v6), Reach::Network) => (upper(v6), 48, true),
            (IpAddr::V6(v6), Reach::Block) => (upper(v6), 32, true),
        };
        let bits = all & (u64::MAX << (64 - u32::from(width)));
        Self { bits, width, is_v6 }
    }

    /// How wide it is.
    #[must_use]
    pub(super) fn reach(&self) -> Reach {
        match (self.is_v6, self.width) {
            (false, 32) | (true, 64) => Reach::Address,
            (false, 24) | (true, 48) => Reach::Network,
            _ => Reach::Block,
        }
    }
}

fn left(address: Ipv4Addr) -> u64 {
    u64::from(address.to_bits()) << 32
}

fn upper(address: Ipv6Addr) -> u64 {
    let [a, b, c, d, ..] = address.segments();
    [a, b, c, d]
        .into_iter()
        .fold(0, |bits, segment| bits << 16 | u64::from(segment))
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address: IpAddr = match self.is_v6 {
            true => Ipv6Addr::from_bits(u128::from(self.bits) << 64).into(),
            false => Ipv4Addr::from_bits(u32::try_from(self.bits >> 32).unwrap_or_default()).into(),
        };
        write!(f, "{address}/{}", self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_three_networks() {
        for (address, networks) in [
            (
                "192.0.2.77",
                ["192.0.2.77/32", "192.0.2.0/24", "192.0.0.0/16"],
            ),
            (
                "::ffff:192.0.2.77",
                ["192.0.2.77/32", "192.0.2.0/24", "192.0.0.0/16"],
            ),
            (
                "2001:db8:a:b:c::1",
                ["2001:db8:a:b::/64", "2001:db8:a::/48", "2001:db8::/32"],
            ),
        ] {
            let address = address.parse().unwrap();
            let seen = Reach::ALL.map(|reach| Prefix::of(address, reach));
            assert_eq!(seen.map(|prefix| prefix.to_string()), networks);
            assert_eq!(seen.map(|prefix| prefix.reach()), Reach::ALL);
        }
        // The same bits in both families are two networks.
        let [v4, v6] =
            ["32.1.0.0", "2001::"].map(|text| Prefix::of(text.parse().unwrap(), Reach::Block));
        assert_ne!(v4, v6);
    }
}
