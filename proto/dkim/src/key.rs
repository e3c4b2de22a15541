//! Public keys: the records they come in (RFC 6376 §3.6.1), and what is done with them.

use aws_lc_rs::digest::Digest;
use aws_lc_rs::signature::{
    ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY as RSA, RsaSubjectPublicKey,
    VerificationAlgorithm,
};

use crate::claim::Mark;
use crate::tag::{self, Tags};
use crate::verdict::{Algorithm, Flaw};
use crate::verify::{Answer, Answers};

/// Octets of an Ed25519 key (RFC 8463 §4.2).
const ED25519_OCTETS: usize = 32;
/// Bits of the RSA keys that are taken. RFC 8301 §3.2: less than 1024 must not be; 8192 is what aws-lc verifies.
const RSA_BITS: std::ops::RangeInclusive<usize> = 1024..=8192;

/// A key that may have made a signature.
#[derive(Debug)]
pub(crate) struct Key {
    algorithm: Algorithm,
    octets: Vec<u8>,
    /// `t=y`.
    pub(crate) testing: bool,
    /// `t=s`.
    pub(crate) strict: bool,
}

impl Key {
    /// The key of a signature, if there is one that fits.
    pub(crate) fn find(mark: &Mark, answers: &Answers) -> Result<Self, Flaw> {
        let records = match answers.get(&mark.question()) {
            None | Some(Answer::Failed) => return Err(Flaw::NoAnswer),
            Some(Answer::Missing) => return Err(Flaw::NoKey),
            Some(Answer::Records(records)) => records,
        };
        let mut keys = records
            .iter()
            .filter_map(|record| Tags::parse(record))
            .filter(is_key);
        // RFC 6376 §3.6.2.2: with several records the result is undefined. Other kinds of records, of a wildcard for
        // instance, may stand beside it.
        match (keys.next(), keys.next()) {
            (Some(tags), None) => Self::read(&tags, mark.algorithm),
            (Some(_), Some(_)) => Err(Flaw::SeveralKeys),
            (None, _) if records.is_empty() => Err(Flaw::NoKey),
            (None, _) => Err(Flaw::BadKeyRecord),
        }
    }

    // RFC 6376 §3.6.1.
    fn read(tags: &Tags<'_>, algorithm: Algorithm) -> Result<Self, Flaw> {
        let has = |tag, wanted: &[&str]| {
            tags.value(tag).is_none_or(|value| {
                tag::parts(value).any(|part| {
                    let is = |word: &&str| part.eq_ignore_ascii_case(word.as_bytes());
                    wanted.iter().any(is)
                })
            })
        };
        let kind = match algorithm {
            Algorithm::RsaSha256 => "rsa",
            Algorithm::Ed25519Sha256 => "ed25519",
        };
        // Without k= it is an RSA key.
        let is_kind = has("k", &[kind]) && (kind == "rsa" || tags.value("k").is_some());
        if !is_kind || !has("h", &["sha256"]) || !has("s", &["*", "email"]) {
            return Err(Flaw::WrongKey);
        }
        let text = tags.compact("p").ok_or(Flaw::BadKeyRecord)?;
        if text.is_empty() {
            return Err(Flaw::Revoked);
        }
        let flagged = |flag| tags.value("t").is_some() && has("t", &[flag]);
        Ok(Self {
            algorithm,
            octets: mail::decode::base64(&text),
            testing: flagged("y"),
            strict: flagged("s"),
        })
    }

    /// Whether this key signed the hash.
    pub(crate) fn verify(&self, digest: &Digest, signature: &[u8]) -> Result<(), Flaw> {
        let verified = match self.algorithm {
            Algorithm::RsaSha256 => {
                self.check_size()?;
                RSA.verify_digest_sig(&self.octets, digest, signature)
            }
            // RFC 8463 §3: what Ed25519 signs is the hash.
            Algorithm::Ed25519Sha256 if self.octets.len() == ED25519_OCTETS => {
                ED25519.verify_sig(&self.octets, digest.as_ref(), signature)
            }
            Algorithm::Ed25519Sha256 => return Err(Flaw::BadKeyRecord),
        };
        verified.map_err(|_| Flaw::HeaderChanged)
    }

    fn check_size(&self) -> Result<(), Flaw> {
        let key = RsaSubjectPublicKey::from_der(&self.octets).map_err(|_| Flaw::BadKeyRecord)?;
        let modulus = key.modulus();
        let octets = modulus.big_endian_without_leading_zero();
        let unused = octets.first().map_or(0, |first| first.leading_zeros());
        let bits = octets.len() * 8 - unused as usize;
        if bits < *RSA_BITS.start() {
            Err(Flaw::ShortKey(bits))
        } else if bits > *RSA_BITS.end() {
            Err(Flaw::LongKey(bits))
        } else {
            Ok(())
        }
    }
}

/// Whether of the TXT records of a name exactly one is a key record, and has the key that `record` has.
#[must_use]
pub fn is_published(records: &[Vec<u8>], record: &str) -> bool {
    let read = |text: &[u8]| {
        let tags = Tags::parse(text).filter(is_key)?;
        let algorithm = match tags.value("k") {
            Some(b"ed25519") => Algorithm::Ed25519Sha256,
            Some(_) | None => Algorithm::RsaSha256,
        };
        let key = Key::read(&tags, algorithm).ok();
        Some(key.map(|key| (key.algorithm, key.octets)))
    };
    let mut found = records.iter().filter_map(|record| read(record));
    let wanted = read(record.as_bytes()).flatten();
    match (found.next(), found.next()) {
        (Some(Some(only)), None) => Some(only) == wanted,
        (Some(_) | None, _) => false,
    }
}

/// Whether this is a key record at all.
// RFC 6376 §3.6.1: v= is optional, but stands first and says DKIM1; p= is required.
fn is_key(tags: &Tags<'_>) -> bool {
    let version = tags.value("v");
    let is_version = version.is_none_or(|version| version == b"DKIM1" && tags.first() == b"v");
    is_version && tags.value("p").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_published_if_its_key_is_found_there_alone() {
        let ours = "v=DKIM1; k=ed25519; p=QUJD";
        let is = |records: &[&str]| {
            let records: Vec<_> = records
                .iter()
                .map(|text| text.as_bytes().to_vec())
                .collect();
            is_published(&records, ours)
        };
        assert!(is(&[ours]));
        assert!(is(&[
            "other text",
            "v=DKIM1;t=s; n=note; k=ed25519 ;p=QU JD;"
        ]));
        for records in [
            &[][..],
            &["other text"],
            &["v=DKIM1; k=ed25519; p="],
            &["v=DKIM1; k=ed25519; p=QUJE"],
            &["v=DKIM1; k=rsa; p=QUJD"],
            &["v=DKIM1; p=QUJD"],
            &["v=DKIM1; k=ed25519; h=sha1; p=QUJD"],
            &["v=DKIM1; k=ed25519; s=other; p=QUJD"],
            &[ours, "v=DKIM1; k=ed25519; p="],
            &[ours, ours],
        ] {
            assert!(!is(records), "{records:?}");
        }
    }
}
