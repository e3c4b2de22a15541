//! An HTTPS server: Python's, with a certificate of our own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;

use loopback::free_port;

use super::{Program, listening};

/// Answers with what stands in the file named like the host it is asked for: a status, further fields, an empty line, the body. A body of
/// `ENDLESS` has no end, and one of `SILENCE` never comes.
const SCRIPT: &str = r#"
import http.server, os, ssl, sys, time
port, home = int(sys.argv[1]), sys.argv[2]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        host = self.headers["Host"]
        with open(os.path.join(home, "asked"), "a") as log:
            log.write(f"{host} {self.path}\n")
        try:
            text = open(os.path.join(home, host), newline="").read()
        except OSError:
            return self.send_error(404)
        head, body = text.split("\n\n", 1)
        status, *fields = head.split("\n")
        if body == "SILENCE":
            time.sleep(600)
        self.send_response(int(status))
        for field in fields:
            self.send_header(*field.split(": ", 1))
        if body != "ENDLESS":
            self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        while body == "ENDLESS":
            self.wfile.write(b"mx: a.test\n" * 1000)
        self.wfile.write(body.encode())
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(home, "cert"), os.path.join(home, "key"))
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"#;

/// An authority that signs certificates.
pub(crate) struct Authority {
    pub(crate) pem: String,
    pub(crate) roots: RootCertStore,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let signed = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(signed.der().clone()).unwrap();
        Self {
            pem: signed.pem(),
            roots,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for these names and its key.
    pub(crate) fn sign(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// The server.
pub(crate) struct Https {
    _python: Program,
    home: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Https {
    /// Known by `authority` under these names; `None`, and a word why, where there is no Python.
    pub(crate) async fn start(authority: &Authority, names: &[&str]) -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let (certificate, key) = authority.sign(names);
        fs::write(home.path().join("cert"), certificate.pem()).unwrap();
        fs::write(home.path().join("key"), key.serialize_pem()).unwrap();
        let (port, path) = (free_port(), home.path().display().to_string());
        let arguments = ["-c", SCRIPT, &port.to_string(), &path];
        let python = Program::start("/usr/bin/python3", &arguments)?;
        listening(port).await;
        Some(Self {
            _python: python,
            home,
            port,
        })
    }

    /// What it says from now on where it is asked for `host`.
    pub(crate) fn say(&self, host: &str, text: &str) {
        fs::write(self.home.path().join(host), text).unwrap();
    }

    /// How often it was asked for `host`.
    pub(crate) fn asked(&self, host: &str) -> usize {
        let log = fs::read_to_string(self.home.path().join("asked")).unwrap_or_default();
        let line = format!("{host} /.well-known/mta-sts.txt");
        log.lines().filter(|one| *one == line).count()
    }
}
