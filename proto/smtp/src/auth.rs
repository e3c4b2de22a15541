//! Who somebody claims to be: the SASL mechanisms PLAIN and LOGIN, which are read here, and those that are carried on.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use mail::{decode, encode};
use sasl::Message;
use sasl::password::{self, Unusable};

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
    /// All, in the order in which they are offered.
    pub const ALL: [Self; 7] = [
        Self::Exchange(sasl::Mechanism::External),
        Self::Exchange(sasl::Mechanism::ScramSha256Plus),
        Self::Exchange(sasl::Mechanism::ScramSha256),
        Self::Exchange(sasl::Mechanism::OAuthBearer),
        Self::Exchange(sasl::Mechanism::XOAuth2),
        Self::Plain,
        Self::Login,
    ];

    /// The registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::Exchange(mechanism) => mechanism.name(),
        }
    }

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

/// Reads the response of PLAIN.
pub(crate) fn parse_plain(text: &str) -> Result<Credentials, Unusable> {
    let (user, password) = password::plain(octets(text)?)?;
    Ok(Credentials {
        user,
        password: Secret(password),
    })
}

/// Reads one of the responses of LOGIN.
pub(crate) fn parse_login(text: &str) -> Result<Zeroizing<String>, Unusable> {
    password::login(octets(text)?)
}

/// Decodes a response that is carried on.
pub(crate) fn parse_message(text: &str) -> Result<Message, Unusable> {
    octets(text).map(Message::new)
}

fn octets(text: &str) -> Result<Vec<u8>, Unusable> {
    decode::base64_strict(text.as_bytes()).ok_or(Unusable::Malformed)
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

    #[test]
    fn what_is_not_base64_is_malformed() {
        assert_eq!(parse_plain("!!!"), Err(Unusable::Malformed));
        assert_eq!(parse_plain("AP8A/w=="), Err(Unusable::Malformed));
        assert_eq!(parse_login("!!!"), Err(Unusable::Malformed));
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
