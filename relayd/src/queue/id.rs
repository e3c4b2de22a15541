//! Names of queued messages: ordered by time, hard to guess, safe as file names.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Digits in the order of their ASCII codes, so that ids sort as their numbers do; no letters that look like digits.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 50 bits of milliseconds since the epoch: enough for 35,000 years.
const TIME_DIGITS: usize = 10;
/// 40 random bits.
const RANDOM_DIGITS: usize = 8;
pub(super) const LENGTH: usize = TIME_DIGITS + RANDOM_DIGITS;
/// The last digits, which are random, name the directory.
const SHARD_DIGITS: usize = 2;

/// The id of a queued message, 18 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId([u8; LENGTH]);

impl QueueId {
    /// A new id.
    ///
    /// # Errors
    /// When the kernel has no randomness to give.
    pub fn generate() -> std::io::Result<Self> {
        let age = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let time = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let random = getrandom::u64().map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self::from_parts(time, random))
    }

    fn from_parts(time: u64, random: u64) -> Self {
        let mut id = [0; LENGTH];
        write_digits(&mut id[..TIME_DIGITS], time);
        write_digits(&mut id[TIME_DIGITS..], random);
        Self(id)
    }

    /// Reads an id back from its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id: [u8; LENGTH] = text.as_bytes().try_into().ok()?;
        id.iter()
            .all(|digit| DIGITS.contains(digit))
            .then_some(Self(id))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Every byte is one of DIGITS, so this never falls back.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// When it was made, Unix seconds by the clock of then.
    #[must_use]
    pub fn made(&self) -> i64 {
        let digit = |letter: &u8| DIGITS.iter().position(|digit| digit == letter);
        let digits = self.0[..TIME_DIGITS].iter().filter_map(digit);
        let millis = digits.fold(0_u64, |number, digit| number * 32 + digit as u64);
        i64::try_from(millis / 1000).unwrap_or(i64::MAX)
    }

    /// The directory of its files, one of 1,024.
    #[must_use]
    pub fn shard(&self) -> &str {
        &self.as_str()[LENGTH - SHARD_DIGITS..]
    }

    /// Whether a directory of the queue has that name.
    #[must_use]
    pub fn is_shard(name: &str) -> bool {
        name.len() == SHARD_DIGITS && name.bytes().all(|digit| DIGITS.contains(&digit))
    }

    /// The body's path in the queue.
    #[must_use]
    pub fn body_name(&self) -> String {
        format!("{}/{self}.eml", self.shard())
    }

    /// The journal's path in the queue.
    #[must_use]
    pub fn journal_name(&self) -> String {
        format!("{}/{self}.env", self.shard())
    }
}

fn write_digits(out: &mut [u8], mut number: u64) {
    for place in out.iter_mut().rev() {
        *place = DIGITS[(number % 32) as usize];
        number /= 32;
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time() {
        let earlier = QueueId::from_parts(1_700_000_000_000, u64::MAX);
        let later = QueueId::from_parts(1_700_000_000_001, 0);
        assert!(earlier < later);
        assert!(earlier.as_str() < later.as_str());
    }

    #[test]
    fn an_id_tells_when_it_was_made() {
        assert_eq!(
            QueueId::from_parts(1_700_000_000_999, 7).made(),
            1_700_000_000
        );
    }

    #[test]
    fn an_id_is_read_back_and_fits_into_twenty_characters() {
        let id = QueueId::generate().unwrap();
        assert_eq!(QueueId::parse(id.as_str()), Some(id));
        assert!(id.as_str().len() <= 20);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "../../../etc/passwd",
            "0000000000000000000",
            "00000000000000000/",
            "0000000000000000..",
        ] {
            assert_eq!(QueueId::parse(text), None, "{text}");
        }
    }
}
