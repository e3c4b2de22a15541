//! QUOTA (RFC 9208): what is limited, and how that is told.

use alloc::vec::Vec;

use crate::dialect::Dialect;
use crate::envelope::write_string;
use crate::write;

/// The one quota root there is: all that a user stores.
pub const ROOT: &str = "";

/// What a quota limits.
// RFC 9208 §5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// STORAGE, in units of 1,024 bytes.
    Storage,
    /// MESSAGE
    Message,
    /// MAILBOX
    Mailbox,
}

/// How much of a resource is used, and may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// What of.
    pub resource: Resource,
    /// Used now.
    pub usage: u64,
    /// May be used.
    pub limit: u64,
}

// RFC 9208 §7: number64 has 63 bits.
const MAX: u64 = i64::MAX as u64;

impl Share {
    /// A share of bytes. Both are rounded up, so that what is within the limit looks so.
    #[must_use]
    pub const fn of_bytes(usage: u64, limit: u64) -> Self {
        Self {
            resource: Resource::Storage,
            usage: usage.div_ceil(1024),
            limit: limit.div_ceil(1024),
        }
    }
}

/// Writes `* QUOTAROOT INBOX ""`.
pub fn write_root(mailbox: &str, dialect: Dialect, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* QUOTAROOT ");
    write::mailbox_name(mailbox, dialect, out);
    out.push(b' ');
    write_string(ROOT.as_bytes(), out);
    out.extend_from_slice(b"\r\n");
}

/// Writes `* QUOTAROOT INBOX`: it counts in no quota that the user may see (RFC 9208 §4.2.2).
pub fn write_no_root(mailbox: &str, dialect: Dialect, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* QUOTAROOT ");
    write::mailbox_name(mailbox, dialect, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes `* QUOTA "" (STORAGE 10 512)`. What is not limited is left out.
pub fn write_quota(shares: &[Share], out: &mut Vec<u8>) {
    out.extend_from_slice(b"* QUOTA ");
    write_string(ROOT.as_bytes(), out);
    out.extend_from_slice(b" (");
    for (index, share) in shares.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(match share.resource {
            Resource::Storage => b"STORAGE ",
            Resource::Message => b"MESSAGE ",
            Resource::Mailbox => b"MAILBOX ",
        });
        write::number(share.usage.min(MAX), out);
        out.push(b' ');
        write::number(share.limit.min(MAX), out);
    }
    out.extend_from_slice(b")\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn shares_are_a_line_and_bytes_are_rounded_up() {
        let mut out = Vec::new();
        write_root("a b", Dialect::REV1, &mut out);
        let messages = Share {
            resource: Resource::Message,
            usage: 7,
            limit: u64::MAX,
        };
        write_quota(&[Share::of_bytes(1025, 1500), messages], &mut out);
        write_quota(&[], &mut out);
        let expected = "* QUOTAROOT \"a b\" \"\"\r\n* QUOTA \"\" (STORAGE 2 2 MESSAGE 7 9223372036854775807)\r\n* QUOTA \"\" ()\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
