//! A server the operator chose for some messages, instead of those of their recipients' domains.

use std::fmt;
use std::net::IpAddr;

use mail::address::Domain;

/// Where they go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Detour {
    /// Name or address.
    pub host: String,
    /// Port; that of other domains' servers if there is none.
    pub port: Option<u16>,
}

impl Detour {
    /// Reads `host`, `host:port`, `address` or `[address]:port`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self {
                host: address.to_string(),
                port: None,
            });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port != 0)?)),
            None => (text, None),
        };
        let inner = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match inner.unwrap_or(host).parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) if inner.is_some() => return None,
            Err(_) => Domain::parse(host).ok()?.to_string(),
        };
        Some(Self { host, port })
    }
}

impl fmt::Display for Detour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_v6 = self.host.contains(':');
        match self.port {
            Some(port) if is_v6 => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_and_written() {
        for (text, host, port) in [
            ("MX.Example.org", "mx.example.org", None),
            ("mx.example.org:2525", "mx.example.org", Some(2525)),
            ("127.0.0.1", "127.0.0.1", None),
            ("127.0.0.1:25", "127.0.0.1", Some(25)),
            ("::1", "::1", None),
            ("[::1]:25", "::1", Some(25)),
        ] {
            let detour = Detour::parse(text).unwrap();
            assert_eq!((detour.host.as_str(), detour.port), (host, port), "{text}");
            assert_eq!(Detour::parse(&detour.to_string()), Some(detour));
        }
        for wrong in [
            "",
            "a b",
            "mx:0",
            "mx:x",
            "[mx]:25",
            ":25",
            "mx.example.org:99999",
        ] {
            assert_eq!(Detour::parse(wrong), None, "{wrong}");
        }
    }
}
