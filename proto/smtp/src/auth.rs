//! Who somebody claims to be: the SASL mechanisms PLAIN and LOGIN, which are read here, and those that are carried on.

use alloc::string::String;
use core::fmt;

use zeroize::Zeroizing;

use mail::{decode, encode};
use sasl::Message;

/// A password. It prints as `***` and is wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a password.
    #[must_use]
    pub fn new(password: String) -> Self {
        Self(Zeroizing::new(password))
    }

    /// The password itself; call it only where it is checked or sent.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A user name and its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Who.
    pub user: String,
    /// The proof.
    pub password: Secret,
}

/// The SASL mechanisms spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// draft-murchison-sasl-login: user name and password on a line each.
    Login,
    /// One whose messages are carried to those who can answer them.
    Exchange(sasl::Mechanism),
}

impl Mechanism {
    /// Finds a mechanism by its name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("PLAIN") {
            Some(Self::Plain)
        } else if name.eq_ignore_ascii_case("LOGIN") {
            Some(Self::Login)
        } else {
            sasl::Mechanism::parse(name).map(Self::Exchange)
        }
    }
}

/// What is wrong with a SASL response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResponseError {
    /// Not base64, or not what the mechanism prescribes.
    Malformed,
    /// The user asks to act as somebody else.
    OtherIdentity,
}

// RFC 4616 §2: message = [authzid] NUL authcid NUL passwd, each without NUL.
pub(crate) fn parse_plain(text: &str) -> Result<Credentials, ResponseError> {
    let response = decode_text(text)?;
    let mut parts = response.split('\0');
    let (Some(authzid), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(ResponseError::Malformed);
    };
    if user.is_empty() || password.is_empty() {
        return Err(ResponseError::Malformed);
    }
    // Acting as somebody else is granted to nobody.
    if !authzid.is_empty() && authzid != user {
        return Err(ResponseError::OtherIdentity);
    }
    Ok(Credentials {
        user: user.into(),
        password: Secret::new(password.into()),
    })
}

/// Decodes a SASL response that is text without control characters, as LOGIN sends it.
pub(crate) fn parse_login(text: &str) -> Result<Zeroizing<String>, ResponseError> {
    let response = decode_text(text)?;
    if response.is_empty() || response.contains('\0') {
        return Err(ResponseError::Malformed);
    }
    Ok(response)
}

/// Decodes a response that is carried on.
pub(crate) fn parse_message(text: &str) -> Result<Message, ResponseError> {
    let octets = decode::base64_strict(text.as_bytes()).ok_or(ResponseError::Malformed)?;
    Ok(Message::new(octets))
}

fn decode_text(text: &str) -> Result<Zeroizing<String>, ResponseError> {
    let bytes = decode::base64_strict(text.as_bytes()).ok_or(ResponseError::Malformed)?;
    String::from_utf8(bytes)
        .map(Zeroizing::new)
        .map_err(|_| ResponseError::Malformed)
}

/// The initial response of PLAIN.
pub(crate) fn encode_plain(credentials: &Credentials) -> String {
    let mut response = Zeroizing::new(String::from("\0"));
    response.push_str(&credentials.user);
    response.push('\0');
    response.push_str(credentials.password.expose());
    encode::base64(response.as_bytes())
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    fn plain(text: &str) -> Result<Credentials, ResponseError> {
        parse_plain(&encode::base64(text.as_bytes()))
    }

    #[test]
    fn plain_names_user_and_password() {
        let credentials = plain("\0alice\0wonder land").unwrap();
        assert_eq!(credentials.user, "alice");
        assert_eq!(credentials.password.expose(), "wonder land");
        assert_eq!(plain("alice\0alice\0x").unwrap().user, "alice");
    }

    #[test]
    fn acting_as_somebody_else_is_refused() {
        assert_eq!(plain("bob\0alice\0x"), Err(ResponseError::OtherIdentity));
    }

    #[test]
    fn malformed_responses_are_refused() {
        for text in ["", "\0", "\0alice", "\0\0x", "\0alice\0", "\0a\0b\0c"] {
            assert_eq!(plain(text), Err(ResponseError::Malformed), "{text:?}");
        }
        assert_eq!(parse_plain("!!!"), Err(ResponseError::Malformed));
        assert_eq!(parse_plain("AP8A/w=="), Err(ResponseError::Malformed));
    }

    #[test]
    fn what_the_client_encodes_the_server_reads() {
        let credentials = Credentials {
            user: "alice".into(),
            password: Secret::new("x".into()),
        };
        assert_eq!(parse_plain(&encode_plain(&credentials)), Ok(credentials));
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "***");
    }
}
