//! Server certificates: read from the credentials directory, replaced on SIGHUP without dropping a session.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificate;

/// The certificate chain and key this daemon serves with.
#[derive(Debug)]
pub struct Certificates {
    directory: PathBuf,
    current: RwLock<Current>,
}

#[derive(Debug, Clone)]
struct Current {
    plain: Arc<ServerConfig>,
    /// Asks clients for certificates; the same as `plain` where no authority for them is configured.
    asking: Arc<ServerConfig>,
}

/// Why certificates cannot be used, in words for the admin.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, unreadable or not PEM.
    #[error(
        "{file}: {reason}; check tls.cert_file, tls.key_file and tls.client_ca_file in the configuration"
    )]
    File {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Key and certificate do not belong together, or are of a kind rustls does not take.
    #[error(
        "certificate and key cannot be used: {0}; check that tls.key_file belongs to tls.cert_file"
    )]
    Unusable(#[from] rustls::Error),
    /// A certificate in the client CA file is none of an authority.
    #[error("{file}: {reason}; check tls.client_ca_file in the configuration")]
    Authority {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Certificates {
    /// Reads `tls.crt` and `tls.key`, and `client-ca.crt` if it is there, in `directory` (`$CREDENTIALS_DIRECTORY`).
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(directory: &Path) -> Result<Self, TlsError> {
        let current = RwLock::new(read(directory)?);
        Ok(Self {
            directory: directory.to_owned(),
            current,
        })
    }

    /// Reads the files again. Sessions that run keep what they have; on an error everything stays as it was.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn reload(&self) -> Result<(), TlsError> {
        let current = read(&self.directory)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(())
    }

    /// What new sessions use.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current().plain)
    }

    /// What new sessions use where a client may show a certificate. Whoever shows one that is not of our authorities does not
    /// get in; whoever shows none does.
    #[must_use]
    pub fn asking_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current().asking)
    }

    fn current(&self) -> Current {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What both sides derive from their TLS session, for logins bound to it. `None` before TLS 1.3, where that would need an
/// extension of which we are not told.
///
/// # Errors
/// When TLS cannot derive it.
// RFC 9266 §2: label "EXPORTER-Channel-Binding", an empty context, 32 octets; §4.2 about TLS 1.2.
pub fn channel_binding(connection: &ServerConnection) -> Result<Option<Vec<u8>>, rustls::Error> {
    if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Ok(None);
    }
    let derived =
        connection.export_keying_material(vec![0; 32], b"EXPORTER-Channel-Binding", Some(&[]));
    derived.map(Some)
}

fn read(directory: &Path) -> Result<Current, TlsError> {
    let (cert_file, key_file) = (directory.join("tls.crt"), directory.join("tls.key"));
    let chain = read_certificates(&cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&key_file).map_err(|error| broken(&key_file, &error))?;
    let plain = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain.clone(), key.clone_key())?;
    let plain = Arc::new(plain);
    let Some(verifier) = certificate::authorities(directory)? else {
        let asking = Arc::clone(&plain);
        return Ok(Current { plain, asking });
    };
    let asking = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    let asking = Arc::new(asking);
    Ok(Current { plain, asking })
}

pub(crate) fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| broken(file, &error))?;
    match all.is_empty() {
        true => Err(TlsError::File {
            file: file.to_owned(),
            reason: "holds no certificate".into(),
        }),
        false => Ok(all),
    }
}

fn broken(file: &Path, error: &rustls_pki_types::pem::Error) -> TlsError {
    TlsError::File {
        file: file.to_owned(),
        reason: error.to_string(),
    }
}
