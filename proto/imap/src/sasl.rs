//! Logins: a password that is never printed.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Longest user name or password taken.
pub const MAX_CREDENTIAL: usize = 1024;

/// A user name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// As the client gave it.
    pub user: String,
    /// As the client gave it.
    pub password: Password,
}

/// A password; `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    /// Takes the bytes over.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for those who verify them.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_does_not_print() {
        assert_eq!(alloc::format!("{:?}", Password::new(b"x".to_vec())), "***");
    }
}
