//! Logins: what AUTHENTICATE PLAIN carries, and a password that is never printed.

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

/// Why a SASL answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslError {
    /// `*`: the client changed its mind.
    Cancelled,
    /// Not base64, or not what PLAIN says.
    Malformed,
    /// It wants to act for someone else.
    OtherIdentity,
}

/// Reads the client's answer of PLAIN, in base64.
///
/// # Errors
/// [`SaslError`].
// RFC 4616 §2: message = [authzid] NUL authcid NUL passwd.
pub fn plain(answer: &[u8]) -> Result<Credentials, SaslError> {
    // RFC 3501 §6.2.2: a client that wishes to cancel sends a line with a single "*".
    if answer == b"*" {
        return Err(SaslError::Cancelled);
    }
    let message = mail::decode::base64_strict(answer).ok_or(SaslError::Malformed)?;
    let mut pieces = message.split(|byte| *byte == 0);
    let (Some(identity), Some(user), Some(password), None) =
        (pieces.next(), pieces.next(), pieces.next(), pieces.next())
    else {
        return Err(SaslError::Malformed);
    };
    let fits = |text: &[u8]| !text.is_empty() && text.len() <= MAX_CREDENTIAL;
    if !fits(user) || !fits(password) {
        return Err(SaslError::Malformed);
    }
    // Nobody acts for others here: an identity must be the user's own.
    if !identity.is_empty() && identity != user {
        return Err(SaslError::OtherIdentity);
    }
    let user = core::str::from_utf8(user).map_err(|_| SaslError::Malformed)?;
    Ok(Credentials {
        user: user.into(),
        password: Password(password.to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(message: &[u8]) -> Result<Credentials, SaslError> {
        plain(mail::encode::base64(message).as_bytes())
    }

    #[test]
    fn user_and_password_are_found() {
        let found = answer(b"\0alice@example.org\0s3cret").unwrap();
        assert_eq!(found.user, "alice@example.org");
        assert_eq!(found.password.reveal(), b"s3cret");
        assert!(!alloc::format!("{found:?}").contains("s3cret"));
    }

    #[test]
    fn nobody_acts_for_others() {
        assert_eq!(answer(b"bob\0alice\0pw"), Err(SaslError::OtherIdentity));
        assert!(answer(b"alice\0alice\0pw").is_ok());
    }

    #[test]
    fn what_is_not_plain_is_malformed() {
        for message in [
            &b""[..],
            b"a",
            b"\0a",
            b"\0\0pw",
            b"\0a\0",
            b"\0a\0b\0c",
            b"\0\xff\0b",
        ] {
            assert_eq!(answer(message), Err(SaslError::Malformed), "{message:?}");
        }
        for text in [
            &b"AGEAYg"[..],
            b"AGEAYg=",
            b"!!!!",
            b"AGEAYg==x",
            b"AGEAYh==",
        ] {
            assert_eq!(plain(text), Err(SaslError::Malformed), "{text:?}");
        }
        assert_eq!(plain(b"*"), Err(SaslError::Cancelled));
    }
}
