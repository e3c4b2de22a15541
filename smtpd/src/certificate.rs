//! Whom a client's certificate names. It was verified before: this reads what one of our authorities has signed.

use tokio_rustls::rustls::pki_types::CertificateDer;
use tracing::warn;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// Addresses of one certificate that are looked at; they go into one frame.
const MAX_ADDRESSES: usize = 16;
/// Octets of one of them, as RFC 5321 §4.5.3.1.3 bounds a path.
const MAX_ADDRESS: usize = 256;

/// The mail addresses in the subjectAltName; empty where there are none, or anything in it cannot be read.
// RFC 5280 §4.2.1.6: rfc822Name. An address in the subject itself is of old and not looked at.
pub(crate) fn addresses(certificate: &CertificateDer<'_>) -> Vec<String> {
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
    use rcgen::{CertificateParams, KeyPair, SanType};

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
}
