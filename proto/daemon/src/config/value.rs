//! Values of the configuration that are checked while they are read, so that the error has its line.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A host or domain name in lower case: letters, digits, hyphens and dots (RFC 5321 §2.3.5), or an IP address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an IP address: enough to connect to, but no name.
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.0.parse::<std::net::IpAddr>().is_ok()
    }
}

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let name = name.to_ascii_lowercase();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.parse::<std::net::IpAddr>().is_ok()
            || (name.len() <= 253 && name.split('.').all(label))
        {
            Ok(Self(name))
        } else {
            Err(format!(
                "\"{name}\" is not a host name: letters, digits and hyphens in labels of 1 to 63, separated by dots; \
                 international names in their xn-- form"
            ))
        }
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

/// A user name or a number of one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "UserForm", into = "String")]
pub struct UserName(String);

#[derive(Deserialize)]
#[serde(untagged)]
enum UserForm {
    Number(u32),
    Name(String),
}

impl UserName {
    pub(super) fn known(name: &str) -> Self {
        Self(name.into())
    }

    /// The name, or the number in digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<UserForm> for UserName {
    type Error = String;

    fn try_from(form: UserForm) -> Result<Self, String> {
        match form {
            UserForm::Number(0) => Err("0 is root, and no daemon of rmail runs as root".into()),
            // To setresuid(2) it means "leave it as it is".
            UserForm::Number(u32::MAX) => Err(format!("{} is no user", u32::MAX)),
            UserForm::Number(number) => Ok(Self(number.to_string())),
            UserForm::Name(name) if name == "root" || name == "0" => {
                Err("no daemon of rmail runs as root".into())
            }
            UserForm::Name(name) => {
                let good = (1..=32).contains(&name.len())
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
                if good {
                    Ok(Self(name))
                } else {
                    Err(format!("\"{name}\" is not a user name or number"))
                }
            }
        }
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> Self {
        name.0
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Someone must act.
    Error,
    /// Refused or degraded.
    Warn,
    /// One line per change of a message or session.
    #[default]
    Info,
    /// The dialog, without secrets.
    Debug,
    /// Everything, without secrets and bodies.
    Trace,
}

impl LogLevel {
    /// The word as in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// A number that is at least `MIN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct AtLeast<const MIN: u64>(u64);

impl<const MIN: u64> AtLeast<MIN> {
    pub(super) const fn known(number: u64) -> Self {
        assert!(number >= MIN, "a default below its own minimum");
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl<const MIN: u64> TryFrom<u64> for AtLeast<MIN> {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        // Nothing here counts beyond this, and sums of such numbers stay within 64 bits.
        const MOST: u64 = 1 << 40;
        if number < MIN {
            Err(format!("{number} is too small: at least {MIN}"))
        } else if number > MOST {
            Err(format!("{number} is too large: at most {MOST}"))
        } else {
            Ok(Self(number))
        }
    }
}

impl<const MIN: u64> From<AtLeast<MIN>> for u64 {
    fn from(number: AtLeast<MIN>) -> Self {
        number.0
    }
}

/// A number that is at most `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct AtMost<const MAX: u32>(u32);

impl<const MAX: u32> AtMost<MAX> {
    pub(super) const fn known(number: u32) -> Self {
        assert!(number <= MAX, "a default above its own maximum");
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl<const MAX: u32> TryFrom<u64> for AtMost<MAX> {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        u32::try_from(number)
            .ok()
            .filter(|number| *number <= MAX)
            .map(Self)
            .ok_or_else(|| format!("{number} is too large: at most {MAX}"))
    }
}

impl<const MAX: u32> From<AtMost<MAX>> for u64 {
    fn from(number: AtMost<MAX>) -> Self {
        number.0.into()
    }
}

/// An address with a port, `192.0.2.1:53` or `[2001:db8::1]:53`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Socket(pub SocketAddr);

impl TryFrom<String> for Socket {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            format!(
                "\"{text}\" is not an address with a port, like \"127.0.0.1:53\" or \"[::1]:53\""
            )
        })
    }
}

impl From<Socket> for String {
    fn from(socket: Socket) -> Self {
        socket.0.to_string()
    }
}

/// The addresses of a network, `192.0.2.0/24` or `2001:db8::/32`; an address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    /// How many leading bits count.
    bits: u8,
}

impl Network {
    pub(super) const fn known(address: IpAddr, bits: u8) -> Self {
        Self { address, bits }
    }

    /// Whether `address` is in it. An IPv4 address mapped into IPv6 is that IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ours, all) = number(self.address);
        let (theirs, width) = number(address.to_canonical());
        let rest = u32::from(all - self.bits);
        // A shift by the whole width leaves nothing to compare.
        all == width && (ours ^ theirs).checked_shr(rest).unwrap_or(0) == 0
    }
}

/// The address as a number, and how many bits it has.
fn number(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (v4.to_bits().into(), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parse = || {
            let (address, bits) = match text.split_once('/') {
                Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
                None => (text.as_str(), None),
            };
            let address: IpAddr = address.parse().ok()?;
            let (number, all) = number(address);
            let bits = bits.unwrap_or(all);
            // Bits behind the prefix are a slip of the pen; nobody can say which half of it is meant.
            let spare = number
                .checked_shl(128 - u32::from(all) + u32::from(bits))
                .unwrap_or(0);
            (bits <= all && spare == 0).then_some(Self { address, bits })
        };
        parse().ok_or_else(|| {
            format!(
                "\"{text}\" is not a network, like \"192.0.2.0/24\" or \"2001:db8::/32\" with zeros behind the prefix, nor an address"
            )
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

/// Waits between attempts in seconds: one or more, each at least one second, at most a week.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Vec<u32>", into = "Vec<u32>")]
pub struct RetrySchedule(Vec<u32>);

impl RetrySchedule {
    /// The waits in order.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }
}

impl Default for RetrySchedule {
    /// 1m 5m 15m 30m 1h 4h 8h 24h.
    fn default() -> Self {
        Self(vec![60, 300, 900, 1800, 3600, 14400, 28800, 86400])
    }
}

impl TryFrom<Vec<u32>> for RetrySchedule {
    type Error = String;

    fn try_from(waits: Vec<u32>) -> Result<Self, String> {
        if waits.is_empty() || waits.len() > 100 {
            return Err("must hold 1 to 100 waits in seconds".into());
        }
        match waits.iter().find(|wait| !(1..=604_800).contains(*wait)) {
            Some(wait) => Err(format!(
                "{wait} is not a possible wait: 1 to 604800 seconds"
            )),
            None => Ok(Self(waits)),
        }
    }
}

impl From<RetrySchedule> for Vec<u32> {
    fn from(schedule: RetrySchedule) -> Self {
        schedule.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::try_from(text.to_owned()).unwrap()
    }

    fn contains(text: &str, address: &str) -> bool {
        network(text).contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_has_the_addresses_of_its_prefix() {
        assert!(contains("192.0.2.0/24", "192.0.2.255"));
        assert!(!contains("192.0.2.0/24", "192.0.3.0"));
        assert!(contains("192.0.2.0/24", "::ffff:192.0.2.1"));
        assert!(contains("192.0.2.1", "192.0.2.1") && !contains("192.0.2.1", "192.0.2.0"));
        assert!(contains("0.0.0.0/0", "255.255.255.255") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!contains("2001:db8::/33", "2001:db8:8000::1"));
        assert!(contains("::/0", "2001:db8::1") && !contains("::/0", "192.0.2.1"));
        assert!(contains("::1", "::1") && !contains("::1", "::2"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/",
            "::/129",
            "10.0.0.1/8",
            "2001:db8::1/64",
            "10.0.0/8",
            "localhost",
            "10.0.0.0/8/8",
            "128.0.0.0/0",
        ] {
            assert!(Network::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert_eq!(String::from(network("10.0.0.0/8")), "10.0.0.0/8");
        assert_eq!(String::from(network("::1")), "::1/128");
    }
}
