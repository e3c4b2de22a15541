//! Filters: programs that look at mail and may change or refuse it (milter protocol).

use std::net::IpAddr;
use std::path::{Component, PathBuf};

use serde::{Deserialize, Serialize};

use super::value::{AtLeast, HostName};

/// One filter of `smtp.filters`. One that is to have another place in the order, or other policies, on another listener is listed
/// once for each, under different names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// What it is called in logs; each filter has its own name.
    pub name: String,
    /// Where it listens: `unix:/run/opendkim/opendkim.sock` or `inet:127.0.0.1:8891`.
    pub address: FilterAddress,
    /// On which listeners mail goes through it.
    #[serde(default = "everywhere")]
    pub listeners: Vec<FilterListener>,
    /// What becomes of mail while it does not work.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Seconds a connection to it may take to be made.
    #[serde(default = "connect_timeout")]
    pub connect_timeout_seconds: AtLeast<1>,
    /// Seconds it may take for an answer, or a sign that it is at work.
    #[serde(default = "timeout")]
    pub timeout_seconds: AtLeast<1>,
    /// Bytes of the largest message it is shown, our own `Received` not counted. Those for which `filter_memory` does not suffice
    /// pass it by when `on_failure` is `accept`.
    #[serde(default = "max_message_size")]
    pub max_message_size: AtLeast<1024>,
    /// What becomes of larger messages.
    #[serde(default)]
    pub oversize: Oversize,
}

/// A listener of smtpd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FilterListener {
    /// Mail from other servers.
    Mx,
    /// Mail from our own users, on both ports.
    Submission,
    /// Mail over LMTP, on TCP and Unix sockets.
    Lmtp,
}

/// What becomes of mail while a filter does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It passes by.
    Accept,
    /// The client is told to come again.
    #[default]
    TempFail,
    /// It is refused for good.
    Reject,
}

/// What becomes of messages that are too large for a filter.
///
/// They pass by unless the admin says otherwise. Most filters look for spam, and spam is small; who sends a large file is expected,
/// and would not understand why it is refused. A filter that must have seen everything, as a virus scanner, wants `reject`, or a
/// `max_message_size` well above `smtp.max_message_size`: otherwise what is to be hidden from it only has to be large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Oversize {
    /// They pass by.
    #[default]
    Accept,
    /// The client is told to come again: for as long as it takes to raise the limit.
    TempFail,
    /// They are refused for good.
    Reject,
}

/// Where a filter listens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum FilterAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// A host and a port.
    Inet(HostName, u16),
}

fn everywhere() -> Vec<FilterListener> {
    vec![
        FilterListener::Mx,
        FilterListener::Submission,
        FilterListener::Lmtp,
    ]
}

fn connect_timeout() -> AtLeast<1> {
    AtLeast::known(10)
}

fn timeout() -> AtLeast<1> {
    AtLeast::known(60)
}

fn max_message_size() -> AtLeast<1024> {
    AtLeast::known(10_485_760)
}

impl FilterAddress {
    fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            // relayd is shown the directory, which must not be the root of everything.
            let is_plain = path.is_absolute()
                && path.components().count() > 2
                && path
                    .components()
                    .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
            // A Unix socket's path has 108 bytes (unix(7)).
            let fits = path.as_os_str().len() < 108 && !text.contains('\0');
            return (is_plain && fits).then_some(Self::Unix(path));
        }
        let (host, port) = text.strip_prefix("inet:")?.rsplit_once(':')?;
        let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        // Without brackets nobody can say where an IPv6 address ends.
        let is_v6 = |host: &str| matches!(host.parse(), Ok(IpAddr::V6(_)));
        let host = match bare {
            Some(v6) if is_v6(v6) => v6,
            None if !is_v6(host) => host,
            _ => return None,
        };
        Some(Self::Inet(HostName::try_from(host.to_owned()).ok()?, port))
    }
}

impl TryFrom<String> for FilterAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| {
            format!(
                "\"{text}\" is not where a filter can listen: \"unix:\" and an absolute path of at most 107 bytes in a directory, or \"inet:\" \
                 with a host and a port, like \"inet:127.0.0.1:8891\" or \"inet:[::1]:8891\""
            )
        })
    }
}

impl From<FilterAddress> for String {
    fn from(address: FilterAddress) -> Self {
        match address {
            FilterAddress::Unix(path) => format!("unix:{}", path.display()),
            FilterAddress::Inet(host, port) if host.as_str().contains(':') => {
                format!("inet:[{}]:{port}", host.as_str())
            }
            FilterAddress::Inet(host, port) => format!("inet:{}:{port}", host.as_str()),
        }
    }
}

/// The name of the first filter that has none of its own.
pub(super) fn nameless(filters: &[Filter]) -> Option<&str> {
    let is_fault = |(index, filter): &(usize, &Filter)| {
        let is_plain = (1..=64).contains(&filter.name.len())
            && filter
                .name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        let others = filters.iter().take(*index);
        !is_plain || others.into_iter().any(|other| other.name == filter.name)
    };
    let found = filters.iter().enumerate().find(is_fault);
    found.map(|(_, filter)| filter.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_themselves() {
        for text in [
            "unix:/run/opendkim/opendkim.sock",
            "inet:127.0.0.1:8891",
            "inet:[::1]:8891",
            "inet:milter.example.org:11332",
        ] {
            let address = FilterAddress::try_from(text.to_owned()).unwrap();
            assert_eq!(String::from(address), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "unix:",
            "unix:/",
            "unix:/x",
            "unix:run/x",
            "unix:/run/../x",
            "inet:8891@localhost",
            "inet:localhost",
            "inet:localhost:0",
            "inet:localhost:70000",
            "inet:::1:8891",
            "inet:[127.0.0.1]:1",
            "/run/x",
            "127.0.0.1:8891",
        ] {
            assert!(FilterAddress::try_from(text.to_owned()).is_err(), "{text}");
        }
        let long = format!("unix:/x/{}", "x".repeat(105));
        assert!(FilterAddress::try_from(long).is_err());
    }
}
