//! What is kept of a password: the SCRAM-SHA-256 form, which is PBKDF2-HMAC-SHA256 and serves PLAIN and SCRAM alike.
//!
//! A password is prepared before it is hashed, as the clients of SCRAM do, so that it is the same whoever hashes it and however
//! a keyboard composes its letters.

use hmac::{Hmac, KeyInit, Mac};
use ipc::{Refusal, Secret};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Iterations of new passwords. Records with fewer are made anew at the next login.
pub(crate) const ITERATIONS: u32 = 600_000;
/// RFC 4616 has no limit; nobody's password is longer.
const MAX_LEN: usize = 1024;
const MIN_LEN: usize = 8;
/// A record that asks for more would be a way to keep a core busy.
const MAX_ITERATIONS: u32 = 10_000_000;

/// A stored password (RFC 5802 §3: salt, i, StoredKey, ServerKey).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: u32,
    pub(crate) stored_key: Vec<u8>,
    pub(crate) server_key: Vec<u8>,
}

/// Whether a password is that of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    No,
    /// It is, but the record was made before passwords were prepared, so it does not serve SCRAM.
    Unprepared,
    Yes,
}

impl Stored {
    /// Makes the record of a password, with a fresh salt.
    pub(crate) fn new(password: &[u8], iterations: u32) -> Result<Self, Refusal> {
        let mut salt = vec![0; 16];
        getrandom::fill(&mut salt).map_err(|error| {
            tracing::error!(%error, "cannot get random bytes");
            Refusal::StorageFault
        })?;
        Ok(Self::with_salt(&prepared(password), salt, iterations))
    }

    /// The record that follows that of another password. It keeps the salt, which is the only one that clients of SCRAM are told:
    /// so it shows whether a wrong proof was made with the password before. The salt is there to differ from other users', and does.
    pub(crate) fn following(
        before: &Self,
        password: &[u8],
        iterations: u32,
    ) -> Result<Self, Refusal> {
        if before.iterations != iterations {
            return Self::new(password, iterations);
        }
        let salt = before.salt.clone();
        Ok(Self::with_salt(&prepared(password), salt, iterations))
    }

    pub(super) fn with_salt(password: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        // RFC 5802 §3: SaltedPassword := Hi(password, salt, i); ClientKey := HMAC(SaltedPassword, "Client Key");
        // StoredKey := H(ClientKey); ServerKey := HMAC(SaltedPassword, "Server Key").
        let salted = Zeroizing::new(pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(
            password,
            &salt,
            iterations.clamp(1, MAX_ITERATIONS),
        ));
        let client_key = Zeroizing::new(mac(&*salted, b"Client Key"));
        let stored_key = Sha256::digest(&*client_key).to_vec();
        Self {
            salt,
            iterations,
            stored_key,
            server_key: mac(&*salted, b"Server Key"),
        }
    }

    /// Whether this is the password. For a wrong one it takes as long as for any other that is written the same way.
    pub(crate) fn verify(&self, password: &[u8]) -> Match {
        let prepared = prepared(password);
        if self.is_made_of(&prepared) {
            return Match::Yes;
        }
        match *prepared != password && self.is_made_of(password) {
            true => Match::Unprepared,
            false => Match::No,
        }
    }

    fn is_made_of(&self, password: &[u8]) -> bool {
        let given = Self::with_salt(password, self.salt.clone(), self.iterations);
        given.stored_key.ct_eq(&self.stored_key).into()
    }

    /// Whether a client's proof over `message` shows that it knows the password. Returns the proof that we know it too.
    // RFC 5802 §3: ClientSignature := HMAC(StoredKey, AuthMessage); ClientProof := ClientKey XOR ClientSignature;
    // ServerSignature := HMAC(ServerKey, AuthMessage).
    pub(crate) fn check_proof(&self, message: &[u8], proof: &[u8]) -> Option<Vec<u8>> {
        let signature = mac(&self.stored_key, message);
        let pairs = proof.iter().zip(&signature);
        let client_key = Zeroizing::new(pairs.map(|(a, b)| a ^ b).collect::<Vec<u8>>());
        let is_right: bool = Sha256::digest(&*client_key).ct_eq(&self.stored_key).into();
        (is_right && proof.len() == signature.len()).then(|| mac(&self.server_key, message))
    }
}

/// A password as it is hashed: prepared (RFC 4013), or as it came where that is not possible. Nobody can log in with SCRAM and
/// such a password, everybody can with PLAIN.
fn prepared(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = str::from_utf8(password)
        .ok()
        .and_then(|text| stringprep::saslprep(text).ok())
        .filter(|text| !text.is_empty());
    Zeroizing::new(match prepared {
        Some(text) => text.into_owned().into_bytes(),
        None => password.to_vec(),
    })
}

/// Checks a password somebody wants to set.
pub(crate) fn check(password: &Secret) -> Result<(), Refusal> {
    let len = password.reveal().len();
    if len < MIN_LEN {
        return Err(Refusal::Invalid(format!(
            "the password is too short: at least {MIN_LEN} bytes"
        )));
    }
    if len > MAX_LEN {
        return Err(Refusal::Invalid(format!(
            "the password is too long: at most {MAX_LEN} bytes"
        )));
    }
    // RFC 4616 §2: NUL ends a field of PLAIN, so such a password could never be given.
    if password.reveal().contains(&0) {
        return Err(Refusal::Invalid(
            "the password must not contain a NUL byte".into(),
        ));
    }
    Ok(())
}

/// Whether a password is worth hashing at all.
pub(crate) fn is_plausible(password: &Secret) -> bool {
    (1..=MAX_LEN).contains(&password.reveal().len())
}

/// HMAC-SHA-256.
pub(crate) fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "HMAC takes a key of any length (RFC 2104 §3)"
    )]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    // RFC 7677 §3: the example exchange of user "user" with password "pencil".
    #[test]
    fn the_record_is_that_of_rfc_7677() {
        let salt = vec![
            0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36,
            0xfa, 0x81,
        ];
        let stored = Stored::with_salt(b"pencil", salt, 4096);
        // ServerSignature of the example is HMAC(ServerKey, AuthMessage).
        let message = b"n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = mac(&stored.server_key, message);
        assert_eq!(
            hex(&signature),
            "eabae24d1062db75a9451ff0b6ea7e98c8546549ff741e672d3251b2397de46e"
        );
    }

    #[test]
    fn only_the_password_verifies() {
        let stored = Stored::new(b"correct horse", 1000).unwrap();
        assert_eq!(stored.verify(b"correct horse"), Match::Yes);
        assert_eq!(stored.verify(b"correct horsf"), Match::No);
        assert_eq!(stored.verify(b""), Match::No);
    }

    // RFC 4013 §3 has the first two.
    #[test]
    fn a_password_is_the_same_however_it_is_composed() {
        for (one, other) in [
            ("I\u{ad}X", "IX"),
            ("\u{aa}", "a"),
            ("cafe\u{301}", "caf\u{e9}"),
            ("a\u{a0}b", "a b"),
        ] {
            let stored = Stored::new(one.as_bytes(), 1).unwrap();
            assert_eq!(stored.verify(other.as_bytes()), Match::Yes, "{other}");
        }
    }

    #[test]
    fn what_cannot_be_prepared_is_taken_as_it_came() {
        for password in [&b"\xff\xfe"[..], b"a\x07b", "\u{ad}".as_bytes()] {
            let stored = Stored::new(password, 1).unwrap();
            assert_eq!(stored.verify(password), Match::Yes);
        }
    }

    #[test]
    fn a_record_of_an_unprepared_password_is_recognised() {
        let password = "cafe\u{301}".as_bytes();
        let stored = Stored::with_salt(password, vec![1; 16], 1);
        assert_eq!(stored.verify(password), Match::Unprepared);
        assert_eq!(stored.verify("caf\u{e9}".as_bytes()), Match::No);
    }

    #[test]
    fn two_records_of_one_password_differ() {
        assert!(
            Stored::new(b"correct horse", 1).unwrap().salt
                != Stored::new(b"correct horse", 1).unwrap().salt
        );
    }

    #[test]
    fn short_long_and_nul_passwords_are_refused() {
        for password in [&b"1234567"[..], &[b'x'; 1025], b"12345\x00678"] {
            assert!(matches!(
                check(&Secret::new(password)),
                Err(Refusal::Invalid(_))
            ));
        }
        assert_eq!(check(&Secret::new("12345678")), Ok(()));
    }
}
