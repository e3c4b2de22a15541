//! New private keys.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, RsaKeyPair};

use crate::sign::BadKey;

/// A kind of key that can be made. Shorter RSA keys than these are of no use any more (RFC 8301 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RFC 8463.
    Ed25519,
    /// RSA, 2048 bits.
    Rsa2048,
    /// RSA, 3072 bits.
    Rsa3072,
    /// RSA, 4096 bits.
    Rsa4096,
}

impl KeyKind {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Ed25519, Self::Rsa2048, Self::Rsa3072, Self::Rsa4096];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::Rsa2048 => "rsa2048",
            Self::Rsa3072 => "rsa3072",
            Self::Rsa4096 => "rsa4096",
        }
    }

    /// A new key, as PKCS#8 in DER.
    ///
    /// # Errors
    /// [`BadKey`] when the library makes none.
    pub fn generate(self) -> Result<Vec<u8>, BadKey> {
        let rsa = |size| RsaKeyPair::generate(size).and_then(|pair| pair.as_der());
        let der: Result<Pkcs8V1Der<'_>, _> = match self {
            Self::Ed25519 => Ed25519KeyPair::generate().and_then(|pair| pair.as_der()),
            Self::Rsa2048 => rsa(KeySize::Rsa2048),
            Self::Rsa3072 => rsa(KeySize::Rsa3072),
            Self::Rsa4096 => rsa(KeySize::Rsa4096),
        };
        der.map(|der| der.as_ref().to_vec()).map_err(|_| BadKey)
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyKind {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == text).ok_or(BadKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, SigningKey};

    #[test]
    fn a_key_of_each_kind_is_read_back_and_signs_as_it_should() {
        for kind in KeyKind::ALL {
            let key = SigningKey::from_pkcs8(&kind.generate().unwrap()).unwrap();
            let wanted = match kind {
                KeyKind::Ed25519 => Algorithm::Ed25519Sha256,
                KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => Algorithm::RsaSha256,
            };
            assert_eq!(key.algorithm(), wanted);
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert_eq!("rsa1024".parse::<KeyKind>(), Err(BadKey));
    }
}
