//! The time a message came, as it stands in the header fields this crate writes.

use core::fmt;

use mail::date::{DateTime, format_rfc5322};

/// Seconds since 1970-01-01 00:00:00 UTC; shows as `Tue, 24 Nov 2026 18:28:12 +0000` (RFC 5322 §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unix = i64::try_from(self.0).unwrap_or(i64::MAX);
        f.write_str(&format_rfc5322(DateTime {
            unix,
            offset_minutes: 0,
        }))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_timestamp_shows_as_a_date_in_utc() {
        assert_eq!(
            Timestamp(1_795_544_892).to_string(),
            "Tue, 24 Nov 2026 18:28:12 +0000"
        );
    }
}
