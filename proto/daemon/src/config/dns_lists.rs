//! The `smtp.dns_lists` section: lists in DNS of whose mail is wanted and whose is not (RFC 5782).

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::value::{AtLeast, HostName};

/// The `smtp.dns_lists` section, for clients of port 25 that `smtp.limits.exempt` does not name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsLists {
    /// Recipients are refused when the scores of all lists together reach this; postmaster is not.
    pub reject_score: AtLeast<1>,
    /// The lists.
    pub lists: Vec<DnsList>,
}

/// One list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DnsList {
    /// The zone with its entries.
    pub zone: HostName,
    /// What the entries are about.
    #[serde(default)]
    pub of: Listed,
    /// What an entry adds to the score, whatever it says; less than 0 for a list of good senders.
    #[serde(default = "whole")]
    pub score: i16,
    /// What it adds instead, by what it says. With these, what none of them is about adds nothing.
    #[serde(default)]
    pub replies: Vec<ReplyScore>,
}

/// What the entries of a list are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Listed {
    /// The address of the client.
    #[default]
    Address,
    /// The domain of MAIL FROM.
    SenderDomain,
}

/// What one of a list's replies adds to the score.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReplyScore {
    /// Which replies.
    pub reply: ReplyPattern,
    /// What they add.
    pub score: i16,
}

const fn whole() -> i16 {
    10
}

impl Default for DnsLists {
    fn default() -> Self {
        Self {
            reject_score: AtLeast::known(10),
            lists: Vec::new(),
        }
    }
}

/// Addresses as lists reply with them: four numbers, ranges `4-7`, or `*`, like `127.0.*.3`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReplyPattern {
    text: String,
    /// From and to of each octet.
    octets: [(u8, u8); 4],
}

impl ReplyPattern {
    /// Whether `reply` is one of them.
    #[must_use]
    pub fn contains(&self, reply: Ipv4Addr) -> bool {
        let pairs = self.octets.iter().zip(reply.octets());
        pairs
            .into_iter()
            .all(|((from, to), octet)| (*from..=*to).contains(&octet))
    }
}

impl TryFrom<String> for ReplyPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let octets: Option<Vec<_>> = text.split('.').map(parse_octet).collect();
        let octets: Option<[_; 4]> = octets.and_then(|octets| octets.try_into().ok());
        match octets {
            // RFC 5782 §2.3: replies are within 127.0.0.0/8, and whatever else comes is none.
            Some(octets @ [(127, 127), ..]) => Ok(Self { text, octets }),
            _ => Err(format!(
                "\"{text}\" is no reply of a list: 127 and three more numbers, ranges or *, like \"127.0.0.4-7\" or \"127.0.*.3\""
            )),
        }
    }
}

fn parse_octet(text: &str) -> Option<(u8, u8)> {
    if text == "*" {
        return Some((0, u8::MAX));
    }
    let number = |text: &str| {
        let is_number = text.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| text.parse::<u8>().ok()).flatten()
    };
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (number(from)?, number(to)?);
    (from <= to).then_some((from, to))
}

impl From<ReplyPattern> for String {
    fn from(pattern: ReplyPattern) -> Self {
        pattern.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_the_replies_it_names() {
        let contains = |pattern: &str, reply: &str| {
            let pattern = ReplyPattern::try_from(pattern.to_owned()).unwrap();
            pattern.contains(reply.parse().unwrap())
        };
        assert!(contains("127.0.0.2", "127.0.0.2") && !contains("127.0.0.2", "127.0.0.3"));
        assert!(contains("127.0.0.4-7", "127.0.0.4") && contains("127.0.0.4-7", "127.0.0.7"));
        assert!(!contains("127.0.0.4-7", "127.0.0.3") && !contains("127.0.0.4-7", "127.0.0.8"));
        assert!(contains("127.0.*.3", "127.0.255.3") && !contains("127.0.*.3", "127.0.9.2"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "127.0.0",
            "127.0.0.2.3",
            "10.0.0.2",
            "*.0.0.2",
            "127.0.0.7-4",
            "127.0.0.256",
            "127.0.0.+2",
            "127.0.0.",
            "127.0.0.-",
        ] {
            assert!(ReplyPattern::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
