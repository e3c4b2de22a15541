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

/// An authority of a test's own.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    /// Its certificate.
    pub cert: PathBuf,
}

impl Authority {
    /// Makes one in the directory `dir`.
    #[must_use]
    pub fn make(dir: &Path) -> Self {
        let Certificate { cert, .. } = Certificate::make(dir, "authority.test");
        let dir = dir.to_owned();
        Self { dir, cert }
    }

    /// Signs a certificate for these names; with `days` = -1 it has expired. Its files get the name of the first.
    #[must_use]
    pub fn sign(&self, names: &[String], days: i32) -> Certificate {
        let first = names.first().expect("a certificate is for somebody");
        let file = |end: &str| self.dir.join(format!("{first}.{end}"));
        let (cert, key, request, extensions) = (file("crt"), file("key"), file("csr"), file("ext"));
        let names: Vec<_> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let text = format!(
            "subjectAltName={}\nbasicConstraints=CA:FALSE\n",
            names.join(",")
        );
        std::fs::write(&extensions, text).expect("the test's own directory");
        let curve = "ec_paramgen_curve:prime256v1";
        let mut ask = program::command("openssl");
        ask.args([
            "req", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-subj", "/CN=mx", "-keyout",
        ]);
        ask.arg(&key).arg("-out").arg(&request);
        let mut sign = program::command("openssl");
        sign.args([
            "x509",
            "-req",
            "-CAcreateserial",
            "-days",
            &days.to_string(),
            "-CA",
        ]);
        sign.arg(&self.cert)
            .arg("-CAkey")
            .arg(self.dir.join("key.pem"));
        sign.arg("-in")
            .arg(&request)
            .arg("-extfile")
            .arg(&extensions)
            .arg("-out")
            .arg(&cert);
        for mut command in [ask, sign] {
            program::run(&mut command, b"", Duration::from_secs(20)).succeeded();
        }
        Certificate { cert, key }
    }
}

impl Certificate {
    /// The SHA-256 of all of it, in hexadecimal digits: what a TLSA record `3 0 1` has.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut show = program::command("openssl");
        show.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]);
        let shown = program::run(show.arg(&self.cert), b"", Duration::from_secs(20)).succeeded();
        let (_, digits) = shown.stdout.trim().split_once('=').expect("NAME=DIGITS");
        digits.replace(':', "")
    }
}
