//! TLS towards other servers: opportunistic to anybody, verified to a smarthost that gets a password.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use crate::dane::Dane;

/// Servers whose TLS sessions are remembered, so that the next handshake is short: of those whose certificate was verified, and as many of
/// the others. Neither are of use to the other.
const SESSIONS: usize = 256;

/// How much is asked of the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// No TLS, though it may be offered. Only the configuration says so.
    Never,
    /// TLS if offered, with any certificate; clear text otherwise (RFC 7435). Keeps listeners out, not impostors.
    Opportunistic,
    /// No TLS, no mail; any certificate. For a smarthost on a loopback address, where no impostor can stand between, and for a server that
    /// says by DANE that it has TLS, and nothing else that is of use.
    Required,
    /// No TLS, no mail; the certificate must be good for the host's name.
    Verified,
    /// The same, but where it cannot be had that is only told: MTA-STS in testing.
    Tested,
    /// No TLS, no mail; the certificate must be the one that TLSA records mean.
    Dane(Arc<Dane>),
}

/// What the sender of a message wants of TLS (RFC 8689).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nothing: what the recipient's domain demands counts.
    AsDemanded,
    /// REQUIRETLS: verified, or not at all.
    Required,
    /// `TLS-Required: No`: what the recipient's domain demands does not count.
    Waived,
}

impl Wish {
    /// How much is asked of a recipient's server whose domain demands this. The demands of the configuration are not the sender's to change.
    #[must_use]
    pub fn of_recipient(self, demanded: Policy) -> Policy {
        match (self, demanded) {
            (Self::AsDemanded, demanded) | (Self::Required, demanded @ Policy::Dane(_)) => demanded,
            (Self::Required, _) => Policy::Verified,
            (Self::Waived, _) => Policy::Opportunistic,
        }
    }

    /// The same of the smarthost, of which the configuration demands this.
    #[must_use]
    pub fn of_smarthost(self, demanded: Policy) -> Policy {
        match self {
            Self::AsDemanded | Self::Waived => demanded,
            Self::Required => Policy::Verified,
        }
    }
}

/// All ways of doing TLS.
#[derive(Clone)]
pub struct Tls {
    provider: Arc<CryptoProvider>,
    unverified: TlsConnector,
    verified: TlsConnector,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Verifies, where that is asked for, against `roots`.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = || {
            ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
        };
        let any = Arc::new(Judge {
            provider: Arc::clone(&provider),
            dane: None,
        });
        let unverified = builder()?
            .dangerous()
            .with_custom_certificate_verifier(any)
            .with_no_client_auth();
        // An empty store is refused by the verifier's builder; then nothing can be verified, which is what no roots mean.
        let verified = if roots.is_empty() {
            builder()?
                .with_root_certificates(roots)
                .with_no_client_auth()
        } else {
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
                    .build()
                    .map_err(|error| rustls::Error::General(error.to_string()))?;
            builder()?
                .with_webpki_verifier(verifier)
                .with_no_client_auth()
        };
        let connector = |mut config: ClientConfig| {
            config.resumption = Resumption::in_memory_sessions(SESSIONS);
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self {
            provider: Arc::clone(&provider),
            unverified: connector(unverified),
            verified: connector(verified),
        })
    }

    /// What to connect with.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn connector(&self, policy: &Policy) -> Result<TlsConnector, rustls::Error> {
        match policy {
            Policy::Never | Policy::Opportunistic | Policy::Required => Ok(self.unverified.clone()),
            Policy::Verified | Policy::Tested => Ok(self.verified.clone()),
            // Sessions are not taken up again: another server's may have been judged by other records.
            Policy::Dane(dane) => {
                let judge = Judge {
                    provider: Arc::clone(&self.provider),
                    dane: Some(Arc::clone(dane)),
                };
                let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
                    .with_safe_default_protocol_versions()?
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(judge))
                    .with_no_client_auth();
                Ok(TlsConnector::from(Arc::new(config)))
            }
        }
    }
}

/// The name to ask for and to verify.
#[must_use]
pub fn server_name(host: &str, address: IpAddr) -> ServerName<'static> {
    ServerName::try_from(host.to_owned()).unwrap_or_else(|_| ServerName::IpAddress(address.into()))
}

/// The certificates this machine trusts.
#[must_use]
pub fn native_roots() -> RootCertStore {
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        tracing::warn!(%error, "a root certificate cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        tracing::warn!(
            "no root certificates are installed (package ca-certificates): no smarthost can be verified, and mail with REQUIRETLS comes back"
        );
    }
    roots
}

/// Takes a certificate whose key the other side really has: the one that TLSA records mean, or any if there are none.
#[derive(Debug)]
struct Judge {
    provider: Arc<CryptoProvider>,
    dane: Option<Arc<Dane>>,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(dane) = &self.dane {
            let algorithms = &self.provider.signature_verification_algorithms;
            dane.judge(end_entity, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_can_lift_what_recipients_demand_but_not_what_the_configuration_does() {
        for demanded in [
            Policy::Opportunistic,
            Policy::Required,
            Policy::Verified,
            Policy::Tested,
        ] {
            let demand = || demanded.clone();
            assert_eq!(Wish::AsDemanded.of_recipient(demand()), demanded);
            assert_eq!(Wish::Waived.of_recipient(demand()), Policy::Opportunistic);
            assert_eq!(Wish::Required.of_recipient(demand()), Policy::Verified);
            assert_eq!(Wish::AsDemanded.of_smarthost(demand()), demanded);
            assert_eq!(Wish::Waived.of_smarthost(demand()), demanded);
            assert_eq!(Wish::Required.of_smarthost(demand()), Policy::Verified);
        }
    }
}
