//! The messages of SASL mechanisms (RFC 4422), read as a server reads them: the same for SMTP and IMAP.
//!
//! Who speaks to the client only carries them; who knows the secrets reads them and answers. PLAIN and LOGIN, which need no
//! answer, are read where they come in. Nothing here computes or compares a secret.

#![no_std]

extern crate alloc;

pub mod bearer;
pub mod password;
pub mod scram;

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

/// A mechanism in which the server has something to say, or to look at beside a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256 bound to the TLS channel (RFC 7677, 9266).
    ScramSha256Plus,
    /// The same without (RFC 7677).
    ScramSha256,
    /// A token (RFC 7628).
    OAuthBearer,
    /// A token, as clients sent it before there was an RFC.
    XOAuth2,
    /// The client's certificate (RFC 4422 appendix A).
    External,
}

/// What a connection has beside the words of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proofs {
    /// Both sides can derive the same value from its TLS session (RFC 9266).
    pub binding: bool,
    /// The client has shown a certificate that was verified.
    pub certificate: bool,
}

impl Mechanism {
    /// All, the strongest first, as they are offered.
    pub const ALL: [Self; 5] = [
        Self::External,
        Self::ScramSha256Plus,
        Self::ScramSha256,
        Self::OAuthBearer,
        Self::XOAuth2,
    ];

    /// The registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::OAuthBearer => "OAUTHBEARER",
            Self::XOAuth2 => "XOAUTH2",
            Self::External => "EXTERNAL",
        }
    }

    /// Finds a mechanism by its name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    /// Whether it can be used on a connection that has these.
    #[must_use]
    pub const fn is_offered(self, proofs: Proofs) -> bool {
        match self {
            Self::ScramSha256Plus => proofs.binding,
            Self::External => proofs.certificate,
            Self::ScramSha256 | Self::OAuthBearer | Self::XOAuth2 => true,
        }
    }
}

/// A message of an exchange: it may hold a token, so it prints as `***` and is wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(Zeroizing<Vec<u8>>);

impl Message {
    /// Takes the octets over.
    #[must_use]
    pub fn new(octets: Vec<u8>) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// The octets.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The message is not what the mechanism prescribes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mechanisms_are_known_in_any_case() {
        assert_eq!(
            Mechanism::parse("scram-sha-256-plus"),
            Some(Mechanism::ScramSha256Plus)
        );
        assert_eq!(Mechanism::parse("SCRAM-SHA-1"), None);
        assert_eq!(Mechanism::parse(""), None);
    }

    #[test]
    fn what_needs_a_proof_is_offered_only_with_it() {
        let offered = |proofs| {
            let all = Mechanism::ALL.into_iter();
            all.filter(|mechanism| mechanism.is_offered(proofs))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            offered(Proofs::default()),
            [
                Mechanism::ScramSha256,
                Mechanism::OAuthBearer,
                Mechanism::XOAuth2
            ]
        );
        let all = Proofs {
            binding: true,
            certificate: true,
        };
        assert_eq!(offered(all), Mechanism::ALL);
    }

    #[test]
    fn a_message_does_not_print() {
        assert_eq!(alloc::format!("{:?}", Message::new(b"x".to_vec())), "***");
    }
}
