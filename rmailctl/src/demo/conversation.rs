//! Lines over TLS, for the small SMTP and IMAP clients of the demo.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Error;

/// How long the demo waits for any line.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to one of the demo's TLS ports.
pub(super) struct Conversation {
    stream: BufReader<TlsStream<TcpStream>>,
    with: &'static str,
}

impl Conversation {
    /// Connects to `port`, trusting the certificate in `certificate` alone.
    pub(super) async fn open(
        with: &'static str,
        port: u16,
        certificate: &Path,
    ) -> Result<Self, Error> {
        let broken = |error: &dyn std::fmt::Display| {
            Error::Failed(format!("{with} on port {port}: {error}"))
        };
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(certificate).map_err(|error| broken(&error))?;
        roots.add(root).map_err(|error| broken(&error))?;
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").map_err(|error| broken(&error))?;
        let tcp = TcpStream::connect((super::home::HOST, port))
            .await
            .map_err(|error| broken(&error))?;
        let tls = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .map_err(|error| broken(&error))?;
        Ok(Self {
            stream: BufReader::new(tls),
            with,
        })
    }

    pub(super) async fn say(&mut self, line: &str) -> Result<(), Error> {
        self.stream
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
            .await?;
        self.stream.get_mut().flush().await?;
        Ok(())
    }

    /// The next line without its end.
    pub(super) async fn line(&mut self) -> Result<String, Error> {
        let mut line = Vec::new();
        let read = timeout(PATIENCE, self.stream.read_until(b'\n', &mut line));
        match read.await {
            Ok(Ok(0)) => Err(Error::Failed(format!(
                "{} closed the connection",
                self.with
            ))),
            Ok(Ok(_)) => Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
            Ok(Err(error)) => Err(Error::failed(self.with, error)),
            Err(_) => Err(Error::Failed(format!(
                "{} said nothing for {} s",
                self.with,
                PATIENCE.as_secs()
            ))),
        }
    }

    /// Reads lines until one begins with `prefix`; all of them, that one last. A line that begins with one of `refusals`
    /// is an error.
    pub(super) async fn until(
        &mut self,
        prefix: &str,
        refusals: &[&str],
    ) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            if refusals.iter().any(|refusal| line.starts_with(refusal)) {
                return Err(Error::Failed(format!("{} said: {line}", self.with)));
            }
            let done = line.starts_with(prefix);
            lines.push(line);
            if done {
                return Ok(lines);
            }
        }
    }
}
