//! What users write down about mailboxes: annotations (RFC 5464). Names are in lower case.

use crate::frame::{Decode, Encode};

/// How many annotations a mailbox has at most, or an account beside its mailboxes.
pub const MAX_ENTRIES: usize = 64;
/// Bytes of their names and values together at most; so they always fit into a frame.
// RFC 5464 §4.3 asks for room for ten values of 1,024 bytes at least.
pub const MAX_BYTES: usize = 12 * 1024;
/// Longest value in bytes.
pub const MAX_VALUE: usize = 4 * 1024;
/// Longest name in bytes.
pub const MAX_NAME: usize = 255;
/// What the mailbox is for, as text; can be read only (RFC 6154 §4).
pub const SPECIAL_USE: &str = "/private/specialuse";

/// An annotation.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Annotation {
    /// Like `/private/comment`.
    pub name: String,
    /// Any bytes.
    pub value: Vec<u8>,
}

/// A change of an annotation.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AnnotationChange {
    /// Like `/private/comment`.
    pub name: String,
    /// The new value; `None` to remove it.
    pub value: Option<Vec<u8>>,
}

/// Whether an annotation can have that name.
// RFC 5464 §3.2: below /private or /shared, printable ASCII without wildcards, no empty level.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let Some(levels) = name
        .strip_prefix("/private/")
        .or_else(|| name.strip_prefix("/shared/"))
    else {
        return false;
    };
    let is_fine = |byte: u8| (b' '..=b'~').contains(&byte) && !byte.is_ascii_uppercase();
    name.len() <= MAX_NAME
        && name
            .bytes()
            .all(|byte| is_fine(byte) && !b"*%".contains(&byte))
        && levels.split('/').all(|level| !level.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_below_private_or_shared() {
        for right in ["/private/comment", "/shared/vendor/a b/c", "/shared/~"] {
            assert!(is_name(right), "{right}");
        }
        let long = format!("/private/{}", "x".repeat(MAX_NAME));
        for wrong in [
            "",
            "/",
            "/private",
            "/private/",
            "/shared//a",
            "/shared/a/",
            "/public/a",
            "private/a",
            "/privat/a",
            "/shared/*",
            "/shared/a%",
            "/shared/A",
            "/shared/\u{e9}",
            "/shared/a\n",
            &long,
        ] {
            assert!(!is_name(wrong), "{wrong}");
        }
    }
}
