//! Mail that is to wait before it is released (RFC 4865).

use core::fmt;

use mail::date::{format_rfc3339, parse_rfc3339};

/// How long a message is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// So many seconds from when it comes.
    For(u32),
    /// Until this Unix second.
    Until(i64),
}

/// How long a message may be held at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldLimit {
    /// So many seconds.
    pub seconds: u32,
    /// The same as a moment, a Unix second: the machine has no clock.
    pub until: i64,
}

impl Hold {
    // RFC 4865 §4.1: one to nine digits that do not begin with 0.
    pub(crate) fn parse_for(text: &str) -> Option<Self> {
        let is_number = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
        let text = Some(text).filter(|text| is_number && (1..=9).contains(&text.len()))?;
        text.parse().ok().map(Self::For)
    }

    // RFC 4865 §4.1: a date and time of RFC 3339 in UTC.
    pub(crate) fn parse_until(text: &str) -> Option<Self> {
        parse_rfc3339(text.as_bytes()).map(Self::Until)
    }

    /// When a message is released that came at the Unix second `queued`.
    #[must_use]
    pub fn release(self, queued: i64) -> i64 {
        match self {
            Self::For(seconds) => queued.saturating_add(seconds.into()),
            Self::Until(moment) => moment.max(queued),
        }
    }

    pub(crate) fn is_within(self, limit: HoldLimit) -> bool {
        match self {
            Self::For(seconds) => seconds <= limit.seconds,
            Self::Until(moment) => moment <= limit.until,
        }
    }
}

/// As a parameter of `MAIL`.
impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(seconds) => write!(f, "HOLDFOR={seconds}"),
            Self::Until(moment) => write!(f, "HOLDUNTIL={}", format_rfc3339(*moment)),
        }
    }
}

/// As behind `FUTURERELEASE` in the reply to `EHLO`.
impl fmt::Display for HoldLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.seconds, format_rfc3339(self.until))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_hold_is_a_number_of_seconds_or_a_moment() {
        for text in ["0", "", "01", "+1", "-1", "1000000000", "1s"] {
            assert_eq!(Hold::parse_for(text), None, "{text}");
        }
        let hold = Hold::parse_for("999999999").unwrap();
        assert_eq!(hold.to_string(), "HOLDFOR=999999999");
        assert_eq!(hold.release(1), 1_000_000_000);
        let hold = Hold::parse_until("2026-11-27T23:15:07Z").unwrap();
        assert_eq!(hold.to_string(), "HOLDUNTIL=2026-11-27T23:15:07Z");
        assert_eq!(hold.release(0), 1_795_821_307);
        assert_eq!(hold.release(1_795_821_308), 1_795_821_308);
    }

    #[test]
    fn a_limit_holds_for_both_forms() {
        let limit = HoldLimit {
            seconds: 60,
            until: 1060,
        };
        assert!(Hold::For(60).is_within(limit) && !Hold::For(61).is_within(limit));
        assert!(Hold::Until(1060).is_within(limit) && !Hold::Until(1061).is_within(limit));
        assert_eq!(limit.to_string(), "60 1970-01-01T00:17:40Z");
    }
}
