//! Throw-away certificates, made with the `openssl` command.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::program;

/// A self-signed certificate and its key, in PEM files.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate; clients trust it as their CA file.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Certificate {
    /// Makes one for `name`, `localhost` and 127.0.0.1 in the directory `dir`.
    #[must_use]
    pub fn make(dir: &Path, name: &str) -> Self {
        std::fs::create_dir_all(dir).expect("the test's own directory");
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        let names = format!("subjectAltName=DNS:{name},DNS:localhost,IP:127.0.0.1");
        program::run(
            program::command("openssl")
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:prime256v1",
                ])
                .args([
                    "-nodes",
                    "-days",
                    "2",
                    "-subj",
                    &format!("/CN={name}"),
                    "-addext",
                    &names,
                ])
                .arg("-keyout")
                .arg(&key)
                .arg("-out")
                .arg(&cert),
            b"",
            Duration::from_secs(20),
        )
        .succeeded();
        Self { cert, key }
    }
}
