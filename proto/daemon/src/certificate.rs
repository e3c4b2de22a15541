//! Certificates with which clients log in (EXTERNAL): what a client has shown, whether one of our authorities vouches for it, and whom it
//! names.
//!
//! Who speaks to the client has TLS see that the client has the key, and hands on what it has shown. Who opens mail verifies that anew: a
//! daemon that faces the network opens with it nobody's mail but that of clients who have shown it theirs.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConnection};
use rustls_pki_types::{CertificateDer, UnixTime};
use tracing::{debug, warn};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::tls::{TlsError, read_certificates};

/// Addresses of one certificate that are looked at; they go into one frame.
const MAX_ADDRESSES: usize = 16;
/// Octets of one of them, as RFC 5321 §4.5.3.1.3 bounds a path.
const MAX_ADDRESS: usize = 256;

/// Certificates of one client that are looked at, …
const MAX_CHAIN: usize = 4;
/// … and octets of them all: they go into one frame, beside what the client says.
const MAX_CHAIN_BYTES: usize = 6 * 1024;

/// The certificates that a client has shown and TLS has verified, its own first, in DER; nothing where they are no login.
#[must_use]
pub fn shown(connection: &ServerConnection) -> Vec<Vec<u8>> {
    let chain = connection.peer_certificates().unwrap_or_default();
    if chain.first().is_none_or(|own| addresses(own).is_empty()) {
        return Vec::new();
    }
    let chain: Vec<Vec<u8>> = chain.iter().map(|one| one.to_vec()).collect();
    if !is_short(&chain) {
        warn!("a client's certificates are too large, so they are no login");
        return Vec::new();
    }
    chain
}

fn is_short(chain: &[Vec<u8>]) -> bool {
    let bytes: usize = chain.iter().map(Vec::len).sum();
    chain.len() <= MAX_CHAIN && bytes <= MAX_CHAIN_BYTES
}

/// The addresses of the accounts that these certificates open now, by the authorities in `directory` (`client-ca.crt`); `None` where there
/// are none of them, or none of them vouches for it.
///
/// # Errors
/// [`TlsError`] when the authorities cannot be read.
pub fn verified(directory: &Path, chain: &[Vec<u8>]) -> Result<Option<Vec<String>>, TlsError> {
    let Some(verifier) = authorities(directory)? else {
        return Ok(None);
    };
    if !is_short(chain) {
        return Ok(None);
    }
    let mut chain = chain.iter().map(|one| CertificateDer::from(one.as_slice()));
    let Some(own) = chain.next() else {
        return Ok(None);
    };
    let others: Vec<CertificateDer<'_>> = chain.collect();
    match verifier.verify_client_cert(&own, &others, UnixTime::now()) {
        Ok(_) => Ok(Some(addresses(&own))),
        Err(error) => {
            debug!(%error, "a client's certificate opens nothing");
            Ok(None)
        }
    }
}

/// What verifies clients' certificates, by `client-ca.crt` in `directory`; `None` if that is not there.
pub(crate) fn authorities(
    directory: &Path,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let file = directory.join("client-ca.crt");
    if !file.exists() {
        return Ok(None);
    }
    let refused = |reason: String| TlsError::Authority {
        file: file.clone(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for authority in read_certificates(&file)? {
        let added = roots.add(authority);
        added.map_err(|error| refused(error.to_string()))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| refused(error.to_string()))?;
    Ok(Some(verifier))
}

/// The mail addresses in the subjectAltName; empty where there are none, or anything in it cannot be read.
// RFC 5280 §4.2.1.6: rfc822Name. An address in the subject itself is of old and not looked at.
fn addresses(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(([], parsed)) = parse_x509_certificate(certificate) else {
        warn!("a client's certificate cannot be read, so it is no login");
        return Vec::new();
    };
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    let names = names.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::RFC822Name(address) if address.len() <= MAX_ADDRESS => {
                Some((*address).to_owned())
            }
            _ => None,
        })
        .take(MAX_ADDRESSES)
        .collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa,
        KeyPair, SanType, date_time_ymd,
    };

    use super::*;

    fn certificate(names: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn only_mail_addresses_are_names_of_accounts() {
        let names = vec![
            SanType::DnsName("a.example".try_into().unwrap()),
            SanType::Rfc822Name("alice@a.example".try_into().unwrap()),
            SanType::URI("mailto:bob@a.example".try_into().unwrap()),
        ];
        assert_eq!(addresses(&certificate(names)), ["alice@a.example"]);
    }

    #[test]
    fn a_certificate_without_a_name_or_none_at_all_names_nobody() {
        assert!(addresses(&certificate(Vec::new())).is_empty());
        assert!(addresses(&CertificateDer::from(vec![0x30, 0x80])).is_empty());
        let mut longer =
            certificate(vec![SanType::Rfc822Name("a@b.c".try_into().unwrap())]).to_vec();
        longer.push(0);
        assert!(addresses(&CertificateDer::from(longer)).is_empty());
    }

    #[test]
    fn what_many_names_cost_is_bounded() {
        let name = |number| SanType::Rfc822Name(format!("a{number}@b.c").try_into().unwrap());
        let names = (0..100).map(name).collect();
        assert_eq!(addresses(&certificate(names)).len(), MAX_ADDRESSES);
    }

    /// An authority, and certificates for alice of it, of another one, of it but ended, and of it but for servers.
    struct Signed {
        directory: tempfile::TempDir,
        good: Vec<u8>,
        foreign: Vec<u8>,
        ended: Vec<u8>,
        server: Vec<u8>,
    }

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn signed() -> Signed {
        let (ours, theirs) = (authority(), authority());
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("client-ca.crt"), ours.pem()).unwrap();
        let make = |by: &CertifiedIssuer<'static, KeyPair>, usage, ends| {
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![SanType::Rfc822Name("a@b.c".try_into().unwrap())];
            params.extended_key_usages = vec![usage];
            params.not_after = ends;
            let key = KeyPair::generate().unwrap();
            params.signed_by(&key, by).unwrap().der().to_vec()
        };
        let (client, server) = (
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        );
        let (later, before) = (date_time_ymd(4000, 1, 1), date_time_ymd(2001, 1, 1));
        Signed {
            good: make(&ours, client.clone(), later),
            foreign: make(&theirs, client.clone(), later),
            ended: make(&ours, client, before),
            server: make(&ours, server, later),
            directory,
        }
    }

    #[test]
    fn what_one_of_our_authorities_vouches_for_opens_what_it_names() {
        let signed = signed();
        let open = |chain: &[Vec<u8>]| verified(signed.directory.path(), chain).unwrap();
        let good = std::slice::from_ref(&signed.good);
        assert_eq!(open(good), Some(vec!["a@b.c".into()]));
        for other in [&signed.foreign, &signed.ended, &signed.server] {
            assert_eq!(open(std::slice::from_ref(other)), None);
        }
        assert_eq!(open(&[]), None);
        assert_eq!(open(&[b"no certificate".to_vec()]), None);
        let elsewhere = tempfile::tempdir().unwrap();
        assert_eq!(verified(elsewhere.path(), good).unwrap(), None);
        std::fs::write(elsewhere.path().join("client-ca.crt"), "nothing").unwrap();
        assert!(verified(elsewhere.path(), good).is_err());
    }

    #[test]
    fn a_chain_that_does_not_fit_is_not_looked_at() {
        let signed = signed();
        let open = |chain: &[Vec<u8>]| verified(signed.directory.path(), chain).unwrap();
        let good = || signed.good.clone();
        assert!(open(&[good(), good(), good(), good()]).is_some());
        assert!(open(&[good(), good(), good(), good(), good()]).is_none());
        assert!(open(&[good(), vec![0; MAX_CHAIN_BYTES]]).is_none());
    }
}
