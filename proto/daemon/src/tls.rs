//! Server certificates: read from the credentials directory, replaced on SIGHUP without dropping a session.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The certificate chain and key this daemon serves with.
#[derive(Debug)]
pub struct Certificates {
    directory: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
}

/// Why certificates cannot be used, in words for the admin.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, unreadable or not PEM.
    #[error("{file}: {reason}; check tls.cert_file and tls.key_file in the configuration")]
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
}

impl Certificates {
    /// Reads `tls.crt` and `tls.key` in `directory` (`$CREDENTIALS_DIRECTORY`).
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

    /// Reads both files again. Sessions that run keep what they have; on an error everything stays as it was.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.directory)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// What new sessions use.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
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

fn read(directory: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let (cert_file, key_file) = (directory.join("tls.crt"), directory.join("tls.key"));
    let broken = |file: &Path| {
        let file = file.to_owned();
        move |error: rustls_pki_types::pem::Error| TlsError::File {
            file,
            reason: error.to_string(),
        }
    };
    let chain = CertificateDer::pem_file_iter(&cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(broken(&cert_file))?;
    if chain.is_empty() {
        return Err(TlsError::File {
            file: cert_file,
            reason: "holds no certificate".into(),
        });
    }
    let key = PrivateKeyDer::from_pem_file(&key_file).map_err(broken(&key_file))?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}
