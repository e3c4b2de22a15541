//! The zone `test` and the root above it, signed (Debian package `ldnsutils`).

use std::path::Path;
use std::time::Duration;

use crate::dns::{self, NameServer};
use crate::program;

/// The root zone: what is said of it is soon asked again.
const ROOT: &str = "$ORIGIN .\n$TTL 1\n@ IN SOA ns.test. admin.test. 1 3600 600 86400 60\n@ IN NS ns.test.\ntest. IN NS ns.test.\nns.test. IN A 127.0.0.1\n";

/// A name server whose answers can be checked, until it is dropped.
#[derive(Debug)]
pub struct SignedZones {
    /// The server.
    pub server: NameServer,
    /// The key of the root zone, as it stands in `relay.dnssec.trust_anchors`.
    pub anchor: String,
}

impl SignedZones {
    /// Starts one that has these records in `test.`, too.
    #[must_use]
    pub fn serve(records: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory for temporary files");
        let (test, marks, _) = sign(home.path(), "test.", &dns::zone(records));
        let (root, _, key) = sign(home.path(), ".", &format!("{ROOT}{marks}"));
        // Behind the record a comment says what kind of key it is.
        let anchor = key
            .split(';')
            .next()
            .unwrap_or(&key)
            .trim()
            .replace('\t', " ");
        let server = NameServer::serve(&[("test", &test), (".", &root)]);
        Self { server, anchor }
    }
}

/// The signed zone, the record that its parent has about it, and its key.
fn sign(home: &Path, origin: &str, text: &str) -> (String, String, String) {
    let run = |name: &str, arguments: &[&str]| {
        let mut command = program::command(name);
        command.args(arguments).current_dir(home);
        program::run(&mut command, b"", Duration::from_secs(30))
            .succeeded()
            .stdout
    };
    let read = |name: &str| std::fs::read_to_string(home.join(name)).expect("ldns wrote it");
    let file = format!("zone-{origin}");
    std::fs::write(home.join(&file), text).expect("our own directory");
    let algorithm = ["-a", "ECDSAP256SHA256", "-k", "-r", "/dev/urandom", origin];
    let key = run("ldns-keygen", &algorithm);
    let key = key.trim();
    run("ldns-signzone", &["-o", origin, "-f", "signed", &file, key]);
    (
        read("signed"),
        read(&format!("{key}.ds")),
        read(&format!("{key}.key")),
    )
}
