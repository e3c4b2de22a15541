//! PLAIN (RFC 4616) and LOGIN: the client says its password.

use alloc::string::String;
use alloc::vec::Vec;

use zeroize::Zeroizing;

/// What LOGIN asks, in base64: `Username:`, then `Password:`.
// draft-murchison-sasl-login §2.2.
pub const ASK_USER: &str = "VXNlcm5hbWU6";
/// What it asks next.
pub const ASK_PASSWORD: &str = "UGFzc3dvcmQ6";

/// A user name, and the password that goes with it.
pub type Claim = (String, Zeroizing<String>);

/// Why an answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// It is not what the mechanism prescribes.
    Malformed,
    /// The user asks to act as somebody else, which is granted to nobody.
    OtherIdentity,
}

/// Reads the message of PLAIN.
///
/// # Errors
/// [`Unusable`].
// RFC 4616 §2: message = [authzid] NUL authcid NUL passwd, each in UTF-8 without NUL.
pub fn plain(message: Vec<u8>) -> Result<Claim, Unusable> {
    let message = text(message)?;
    let mut pieces = message.split('\0');
    let (Some(identity), Some(user), Some(password), None) =
        (pieces.next(), pieces.next(), pieces.next(), pieces.next())
    else {
        return Err(Unusable::Malformed);
    };
    if user.is_empty() || password.is_empty() {
        return Err(Unusable::Malformed);
    }
    if !identity.is_empty() && identity != user {
        return Err(Unusable::OtherIdentity);
    }
    Ok((user.into(), Zeroizing::new(password.into())))
}

/// Reads one of the two messages of LOGIN.
///
/// # Errors
/// [`Unusable::Malformed`].
pub fn login(message: Vec<u8>) -> Result<Zeroizing<String>, Unusable> {
    let message = text(message)?;
    match message.is_empty() || message.contains('\0') {
        true => Err(Unusable::Malformed),
        false => Ok(message),
    }
}

fn text(message: Vec<u8>) -> Result<Zeroizing<String>, Unusable> {
    let text = String::from_utf8(message).map(Zeroizing::new);
    text.map_err(|_| Unusable::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &[u8]) -> Result<(String, String), Unusable> {
        plain(message.to_vec()).map(|(user, password)| (user, String::from(password.as_str())))
    }

    #[test]
    fn user_and_password_are_found() {
        let expected = ("alice@example.org".into(), "s3 cret".into());
        assert_eq!(read(b"\0alice@example.org\0s3 cret"), Ok(expected));
    }

    #[test]
    fn nobody_acts_for_others() {
        assert_eq!(read(b"bob\0alice\0pw"), Err(Unusable::OtherIdentity));
        assert_eq!(read(b"alice\0alice\0pw"), Ok(("alice".into(), "pw".into())));
    }

    #[test]
    fn what_is_not_plain_is_malformed() {
        for message in [
            &b""[..],
            b"\0",
            b"a",
            b"\0a",
            b"\0\0pw",
            b"\0a\0",
            b"\0a\0b\0c",
            b"\0\xff\0b",
            b"\0a\0\xff",
        ] {
            assert_eq!(read(message), Err(Unusable::Malformed), "{message:?}");
        }
    }

    #[test]
    fn a_message_of_login_is_text() {
        assert_eq!(login(b"alice".to_vec()).unwrap().as_str(), "alice");
        for message in [&b""[..], b"a\0b", b"\xff"] {
            assert_eq!(login(message.to_vec()), Err(Unusable::Malformed));
        }
    }
}
