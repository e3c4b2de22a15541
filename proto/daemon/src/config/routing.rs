//! The `routing` section: where mail goes that nobody here is named for, and how mail is passed on.

use serde::{Deserialize, Serialize};

use super::value::{AtMost, HostName};

/// The `routing` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Routing {
    /// Who gets mail for `postmaster` and `abuse` of a domain that has no such user or alias (RFC 5321 §4.5.1). If not set, it is
    /// the postmaster of the first of `domains`, and where that has none, the user that was made first.
    pub postmaster: Option<MailAddress>,
    /// The domain of the addresses that stand for foreign senders when an alias passes their mail on (SRS); the first of `domains`
    /// if not set. Reports come back to it, so its MX must lead here.
    pub srs_domain: Option<HostName>,
    /// Days for which a report may come back to such an address; 0 passes mail on under its own sender.
    pub srs_days: AtMost<500>,
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            postmaster: None,
            srs_domain: None,
            srs_days: AtMost::known(21),
        }
    }
}

/// A mail address, `local@domain`, without quotes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct MailAddress(String);

impl MailAddress {
    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MailAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_plain = |local: &str| {
            // RFC 5321 §4.5.3.1.1: a local part has at most 64 octets.
            (1..=64).contains(&local.len())
                && local.split('.').all(|atom| !atom.is_empty())
                && local
                    .chars()
                    .all(|c| !c.is_control() && !" \"(),:;<>@[\\]".contains(c))
        };
        let parts = text.rsplit_once('@').filter(|(local, _)| is_plain(local));
        match parts.map(|(local, domain)| (local, HostName::try_from(domain.to_owned()))) {
            Some((local, Ok(domain))) if !domain.is_address() => {
                Ok(Self(format!("{local}@{}", domain.as_str())))
            }
            _ => Err(format!(
                "\"{}\" is no mail address: local@domain, international domains in their xn-- form",
                text.escape_debug()
            )),
        }
    }
}

impl From<MailAddress> for String {
    fn from(address: MailAddress) -> Self {
        address.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_is_read_as_one() {
        let read = |text: &str| MailAddress::try_from(text.to_owned()).map(String::from);
        assert_eq!(
            read("Post.Master@Example.ORG").as_deref(),
            Ok("Post.Master@example.org")
        );
        for text in [
            "",
            "admin",
            "@example.org",
            "a b@example.org",
            "a..b@example.org",
            "a@b@example.org",
            "\"a\"@example.org",
            "admin@",
            "admin@-x",
            "admin@192.0.2.1",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
