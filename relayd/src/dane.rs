//! Servers whose certificates are known by TLSA records (RFC 6698, RFC 7671), as mail uses them (RFC 7672 §3).

use std::collections::HashSet;
use std::sync::Arc;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{OtherError, RootCertStore};
use sha2::{Digest, Sha256, Sha512};

/// DANE-TA: who signed the certificate, or who signed that.
const AUTHORITY: u8 = 2;
/// DANE-EE: the certificate itself.
const END: u8 = 3;
/// All of the certificate.
const WHOLE: u8 = 0;
/// Its key.
const KEY: u8 = 1;
/// What is selected, as it is.
const EXACT: u8 = 0;
const SHA_256: u8 = 1;
const SHA_512: u8 = 2;

/// A TLSA record (RFC 6698 §2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tlsa {
    /// What the record is about.
    pub usage: u8,
    /// Which part of a certificate counts.
    pub selector: u8,
    /// How it is compared.
    pub matching: u8,
    /// With what.
    pub data: Vec<u8>,
}

/// What the certificate of a server has to be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dane {
    base: String,
    names: Vec<String>,
    records: Vec<Tlsa>,
}

/// No record fits.
#[derive(Debug, thiserror::Error)]
#[error("its certificate fits none of the TLSA records of {0}")]
pub(crate) struct NoneFits(String);

impl Tlsa {
    /// RFC 7672 §3.1.3: PKIX-TA(0) and PKIX-EE(1) are of no use to mail.
    fn is_usable(&self) -> bool {
        matches!(self.usage, AUTHORITY | END)
            && matches!(self.selector, WHOLE | KEY)
            && match self.matching {
                EXACT => !self.data.is_empty(),
                SHA_256 => self.data.len() == 32,
                SHA_512 => self.data.len() == 64,
                _ => false,
            }
    }

    /// As in a zone (RFC 6698 §2.2).
    #[must_use]
    pub fn text(&self) -> String {
        let Self {
            usage,
            selector,
            matching,
            data,
        } = self;
        let mut text = format!("{usage} {selector} {matching} ");
        text.extend(data.iter().map(|byte| format!("{byte:02x}")));
        text
    }

    fn fits(&self, certificate: &CertificateDer<'_>) -> bool {
        let key = || {
            let parsed = ParsedCertificate::try_from(certificate).ok()?;
            Some(parsed.subject_public_key_info().to_vec())
        };
        let selected = match self.selector {
            WHOLE => certificate.to_vec(),
            _ => match key() {
                Some(key) => key,
                None => return false,
            },
        };
        match self.matching {
            EXACT => selected == self.data,
            SHA_256 => Sha256::digest(&selected)[..] == self.data[..],
            _ => Sha512::digest(&selected)[..] == self.data[..],
        }
    }
}

impl Dane {
    /// Of the records found at `base`, one of the names under which the server is known. Whoever is certified by an authority must be
    /// certified as `base` or as one of `names`: the domain the mail is for, and what that is an alias of (RFC 7672 §3.2.2). `None` if no
    /// record is usable.
    #[must_use]
    pub fn new(base: &str, names: &[String], records: Vec<Tlsa>) -> Option<Self> {
        let mut records = records;
        records.retain(Tlsa::is_usable);
        // RFC 7671 §9: what is also said by the stronger hash is not taken from the weaker.
        let kind = |record: &Tlsa| (record.usage, record.selector);
        let is_strong = |record: &&Tlsa| record.matching == SHA_512;
        let strong: HashSet<_> = records.iter().filter(is_strong).map(kind).collect();
        records.retain(|record| record.matching != SHA_256 || !strong.contains(&kind(record)));
        (!records.is_empty()).then(|| Self {
            base: base.to_owned(),
            names: [base.to_owned()]
                .into_iter()
                .chain(names.iter().cloned())
                .collect(),
            records,
        })
    }

    /// The name to ask the server for (RFC 7672 §8.1).
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Judges the certificate that a server shows, with those it shows beside it.
    ///
    /// # Errors
    /// When it is not the one that the records mean.
    pub fn judge(
        &self,
        end: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), rustls::Error> {
        // RFC 7672 §3.1.1: neither its names nor its dates count.
        if self.about(END).any(|record| record.fits(end)) {
            return Ok(());
        }
        let none_fits = || NoneFits(self.base.clone());
        let authorities = self.authorities(others);
        if authorities.is_empty() {
            return Err(rustls::Error::Other(OtherError(Arc::new(none_fits()))));
        }
        // RFC 7672 §3.1.2: from there on it is as with any other authority.
        let parsed = ParsedCertificate::try_from(end)?;
        let all = algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &authorities, others, now, all)?;
        let mut result = Err(rustls::Error::Other(OtherError(Arc::new(none_fits()))));
        for name in &self.names {
            let Ok(name) = ServerName::try_from(name.as_str()) else {
                continue;
            };
            result = verify_server_name(&parsed, &name);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn about(&self, usage: u8) -> impl Iterator<Item = &Tlsa> {
        self.records
            .iter()
            .filter(move |record| record.usage == usage)
    }

    /// The authorities that the records mean: those the server shows, and those that stand in a record.
    fn authorities(&self, shown: &[CertificateDer<'_>]) -> RootCertStore {
        let meant =
            |one: &&CertificateDer<'_>| self.about(AUTHORITY).any(|record| record.fits(one));
        let in_full = |record: &&Tlsa| record.selector == WHOLE && record.matching == EXACT;
        let told = self.about(AUTHORITY).filter(in_full);
        let told = told.map(|record| CertificateDer::from(record.data.as_slice()));
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(shown.iter().filter(meant).cloned().chain(told));
        roots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(usage: u8, selector: u8, matching: u8, length: usize) -> Tlsa {
        Tlsa {
            usage,
            selector,
            matching,
            data: vec![0; length],
        }
    }

    #[test]
    fn what_mail_cannot_use_is_passed_over() {
        let is_usable = |usage, selector, matching, length| {
            Dane::new(
                "a.test",
                &[],
                vec![record(usage, selector, matching, length)],
            )
            .is_some()
        };
        for usage in [2, 3] {
            for selector in [0, 1] {
                assert!(is_usable(usage, selector, 0, 1));
                assert!(is_usable(usage, selector, 1, 32));
                assert!(is_usable(usage, selector, 2, 64));
            }
        }
        for (usage, selector, matching, length) in [
            (0, 1, 1, 32),
            (1, 1, 1, 32),
            (4, 1, 1, 32),
            (255, 1, 1, 32),
            (3, 2, 1, 32),
            (3, 255, 1, 32),
            (3, 1, 3, 64),
            (3, 1, 1, 31),
            (3, 1, 1, 33),
            (3, 1, 2, 32),
            (3, 1, 0, 0),
        ] {
            assert!(!is_usable(usage, selector, matching, length));
        }
    }

    #[test]
    fn the_stronger_hash_counts_where_both_are_given() {
        let records = vec![
            record(3, 1, 1, 32),
            record(3, 1, 2, 64),
            record(3, 0, 1, 32),
            record(2, 1, 1, 32),
        ];
        let dane = Dane::new("a.test", &[], records).unwrap();
        let left: Vec<_> = dane
            .records
            .iter()
            .map(|one| (one.usage, one.selector, one.matching))
            .collect();
        assert_eq!(left, [(3, 1, 2), (3, 0, 1), (2, 1, 1)]);
    }
}
