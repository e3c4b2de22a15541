//! What is asked of DNS, and what it says.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

/// Asks for the records of a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// Without the final dot. Labels have 1 to 63 bytes, which may be any.
    pub name: String,
    /// Which of its records.
    pub kind: Kind,
}

/// A type of record (RFC 1035 §3.2.2, RFC 3596).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Mail exchangers.
    Mx,
    /// Text.
    Txt,
    /// Names of an address.
    Ptr,
}

/// A record; aliases (CNAME) were followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Of A or AAAA.
    Address(IpAddr),
    /// Of MX, whose preference nobody here wants to know, or PTR.
    Name(String),
    /// The strings of a TXT record put together without anything between them (RFC 7208 §3.3).
    Text(Vec<u8>),
}

/// What DNS says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Those there are, perhaps none: the name may not have such a record.
    Records(Vec<Record>),
    /// The name does not exist.
    NoSuchName,
    /// There is an answer, but it cannot be used, now or later.
    Unusable,
    /// There is no answer now.
    Fault,
}

/// Where the DMARC record of a domain is (RFC 9989 §4.10).
pub(crate) fn record_name(domain: &str) -> String {
    format!("_dmarc.{domain}")
}

impl Question {
    pub(crate) fn new(name: &str, kind: Kind) -> Self {
        let name = name.into();
        Self { name, kind }
    }

    /// For the DMARC record of a domain (RFC 9989 §4.7).
    pub(crate) fn record_of(domain: &str) -> Self {
        Self::new(&record_name(domain), Kind::Txt)
    }

    /// For the addresses of `name` of the family of `address`.
    pub(crate) fn addresses(name: &str, address: IpAddr) -> Self {
        let kind = match address {
            IpAddr::V4(_) => Kind::A,
            IpAddr::V6(_) => Kind::Aaaa,
        };
        Self::new(name, kind)
    }

    /// For the names of `address`.
    pub(crate) fn names(address: IpAddr) -> Self {
        let zone = match address {
            IpAddr::V4(_) => "in-addr.arpa",
            IpAddr::V6(_) => "ip6.arpa",
        };
        let labels = labels(address);
        let labels: Vec<&str> = labels.rsplit('.').collect();
        Self::new(&format!("{}.{zone}", labels.join(".")), Kind::Ptr)
    }
}

/// The parts of an address with dots between them: four numbers, or 32 digits (RFC 7208 §7.3).
pub(crate) fn labels(address: IpAddr) -> String {
    let parts: Vec<String> = match address {
        IpAddr::V4(v4) => v4.octets().iter().map(|part| format!("{part}")).collect(),
        IpAddr::V6(v6) => {
            let digits = v6.octets().into_iter();
            let digits = digits.flat_map(|octet| [octet >> 4, octet & 15]);
            digits.map(|digit| format!("{digit:X}")).collect()
        }
    };
    parts.join(".")
}

/// Whether a name can be asked for (RFC 1035 §2.3.4).
pub(crate) fn is_name(name: &str) -> bool {
    let good = |label: &str| (1..=63).contains(&label.len());
    name.len() <= 253 && name.split('.').all(good)
}

/// Whether `name` is `domain` or below it.
pub(crate) fn is_within(name: &str, domain: &str) -> bool {
    let Some(start) = name.len().checked_sub(domain.len()) else {
        return false;
    };
    let (left, right) = (name.as_bytes().get(..start), name.as_bytes().get(start..));
    right.is_some_and(|right| right.eq_ignore_ascii_case(domain.as_bytes()))
        && left.is_some_and(|left| left.is_empty() || left.ends_with(b"."))
}
