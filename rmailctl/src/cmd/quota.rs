//! Limits and usage, as the admin writes and reads them.

use ipc::quota::{LimitChange, Limits, Usage};
use serde_json::{Map, Value, json};

use crate::Error;
use crate::cli::LimitOptions;

impl LimitOptions {
    /// What is to change; something must be.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn new_limits(&self) -> Result<LimitChange, Error> {
        match self.change()? {
            change if change == LimitChange::default() => Err(Error::Usage(
                "nothing to change: give --quota or --max-messages".into(),
            )),
            change => Ok(change),
        }
    }

    /// What is to change, or nothing.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn change(&self) -> Result<LimitChange, Error> {
        Ok(LimitChange {
            messages: self.max_messages,
            bytes: self.bytes.as_deref().map(bytes).transpose()?,
        })
    }
}

/// The columns of a listing.
#[must_use]
pub fn text(usage: Usage, limits: Limits) -> String {
    let messages = match limits.messages {
        0 => String::new(),
        limit => format!(" of {limit}"),
    };
    let bytes = match limits.bytes {
        0 => "no limit".into(),
        limit => limit.to_string(),
    };
    let Usage {
        messages: count,
        bytes: used,
    } = usage;
    format!("{count} messages{messages}\t{used} bytes of {bytes}")
}

/// The same for programs; 0 is no limit.
#[must_use]
pub fn row(usage: Usage, limits: Limits) -> Map<String, Value> {
    [
        ("quota", limits.bytes),
        ("used", usage.bytes),
        ("max_messages", limits.messages),
        ("messages", usage.messages),
    ]
    .map(|(key, number)| (key.to_owned(), json!(number)))
    .into_iter()
    .collect()
}

/// `500M` → 524288000.
fn bytes(text: &str) -> Result<u64, Error> {
    let wrong = || {
        Error::Usage(format!(
            "\"{text}\" is not a number of bytes, like 500M, 2G or 0"
        ))
    };
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_read_with_their_unit() {
        assert_eq!(bytes("0").unwrap(), 0);
        assert_eq!(bytes("2G").unwrap(), 2 << 30);
        assert!(bytes("G").is_err());
        assert!(bytes("-1").is_err());
        assert!(bytes("99999999999G").is_err());
    }
}
