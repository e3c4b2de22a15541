//! Signed zones, from the root down, on an nsd of our own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use daemon::config::{Dnssec, DnssecMode};
use hickory_resolver::proto::op::Message;
use relayd::dns::Dns;
use tokio::net::UdpSocket;

use loopback::free_port;

use super::{Program, listening};

/// A zone below the root.
pub(crate) struct Zone<'a> {
    /// Without dots.
    pub(crate) name: &'a str,
    /// Its records, besides SOA, NS and the address of that server.
    pub(crate) records: &'a str,
    pub(crate) signing: Signing<'a>,
}

/// How a zone is signed.
#[derive(Clone, Copy)]
pub(crate) enum Signing<'a> {
    /// Not at all, and its parent says so.
    None,
    /// With these further words to ldns-signzone.
    With(&'a [&'a str]),
    /// Well; then one text of the signed zone is put in place of another.
    Tampered(&'a str, &'a str),
}

/// All zones, served.
pub(crate) struct Zones {
    _nsd: Program,
    _home: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    /// The key of the root zone.
    pub(crate) anchor: String,
}

impl Zones {
    /// `None`, and a word why, where nsd or ldnsutils are not installed.
    pub(crate) async fn serve(zones: &[Zone<'_>]) -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let (port, path) = (free_port(), home.path());
        let mut root = begin(".");
        for zone in zones {
            let text = format!("{}{}\n", begin(&format!("{}.", zone.name)), zone.records);
            let ds = sign(path, zone.name, &text, zone.signing)?.unwrap_or_default();
            writeln!(root, "{0}. IN NS ns.{0}.\n{ds}", zone.name).unwrap();
            writeln!(root, "ns.{}. IN A 127.0.0.1", zone.name).unwrap();
        }
        sign(path, "", &root, Signing::With(&[]))?;
        let shown = path.display();
        let mut config = format!(
            "server:\n ip-address: 127.0.0.1@{port}\n server-count: 1\n username: \"\"\n zonesdir: \"{shown}\"\n \
             database: \"\"\n pidfile: \"{shown}/pid\"\n xfrdfile: \"{shown}/xfrd\"\n zonelistfile: \"{shown}/list\"\n \
             xfrdir: \"{shown}\"\n logfile: \"{shown}/log\"\n rrl-ratelimit: 0\n\
             remote-control:\n control-enable: no\n"
        );
        for name in zones.iter().map(|zone| zone.name).chain([""]) {
            writeln!(config, "zone:\n name: {name}.\n zonefile: {name}.zone").unwrap();
        }
        let file = path.join("nsd.conf");
        fs::write(&file, config).unwrap();
        let nsd = Program::start("/usr/sbin/nsd", &["-d", "-c", &file.display().to_string()])?;
        listening(port).await;
        let anchor = fs::read_to_string(path.join("root.key")).unwrap();
        Some(Self {
            _nsd: nsd,
            _home: home,
            address: ([127, 0, 0, 1], port).into(),
            anchor: anchor.split(';').next().unwrap().trim().replace('\t', " "),
        })
    }

    /// Asks this server.
    pub(crate) fn dns(&self, mode: DnssecMode) -> Dns {
        self.dns_by(self.address, mode)
    }

    /// Asks another one, and trusts the same key.
    pub(crate) fn dns_by(&self, address: SocketAddr, mode: DnssecMode) -> Dns {
        let rules = Dnssec {
            mode,
            trust_anchors: vec![self.anchor.clone()],
        };
        Dns::checking(&[address], "relay.example.test", &rules).unwrap()
    }

    /// A server in between that changes the answers of this one.
    pub(crate) async fn liar(&self, lie: Lie) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, truth) = (socket.local_addr().unwrap(), self.address);
        tokio::spawn(async move {
            let mut packet = [0; 4096];
            while let Ok((size, peer)) = socket.recv_from(&mut packet).await {
                let asked = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                asked.send_to(&packet[..size], truth).await.unwrap();
                let size = asked.recv(&mut packet).await.unwrap();
                let mut answer = Message::from_vec(&packet[..size]).unwrap();
                lie.tell(&mut answer);
                let answer = answer.to_vec().unwrap();
                let _ = socket.send_to(&answer, peer).await;
            }
        });
        address
    }
}

type Change = dyn Fn(&mut Message) + Send + Sync;

/// What is done to answers; nothing, at first.
#[derive(Clone, Default)]
pub(crate) struct Lie(Arc<Mutex<Option<Box<Change>>>>);

impl Lie {
    pub(crate) fn set(&self, change: impl Fn(&mut Message) + Send + Sync + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(change));
    }

    fn tell(&self, answer: &mut Message) {
        let change = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(change) = &*change {
            change(answer);
        }
    }
}

fn begin(origin: &str) -> String {
    // What is said of the root zone itself is soon asked again.
    let ttl = if origin == "." { 1 } else { 60 };
    format!(
        "$ORIGIN {origin}\n$TTL {ttl}\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n"
    )
}

/// Writes the file of a zone, and returns the mark of its key for its parent.
fn sign(home: &Path, name: &str, text: &str, signing: Signing<'_>) -> Option<Option<String>> {
    let (zone, signed) = (format!("{name}.unsigned"), format!("{name}.zone"));
    fs::write(home.join(&zone), text).unwrap();
    let more = match signing {
        Signing::None => {
            fs::write(home.join(&signed), text).unwrap();
            return Some(None);
        }
        Signing::With(more) => more,
        Signing::Tampered(..) => &[],
    };
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(home)
            .output();
        let output = output.inspect_err(|error| eprintln!("SKIPPED: {program}: {error}"));
        let output = output.ok()?;
        assert!(output.status.success(), "{program}: {output:?}");
        Some(String::from_utf8(output.stdout).unwrap())
    };
    let origin = format!("{name}.");
    let algorithm = ["-a", "ECDSAP256SHA256", "-k", "-r", "/dev/urandom", &origin];
    let key = run("ldns-keygen", &algorithm)?;
    let key = key.trim();
    let mut words = more.to_vec();
    words.extend(["-o", &origin, "-f", &signed, &zone, key]);
    run("ldns-signzone", &words)?;
    if let Signing::Tampered(old, new) = signing {
        let text = fs::read_to_string(home.join(&signed)).unwrap();
        assert!(text.contains(old), "{text}");
        fs::write(home.join(&signed), text.replace(old, new)).unwrap();
    }
    if name.is_empty() {
        fs::copy(home.join(format!("{key}.key")), home.join("root.key")).unwrap();
    }
    Some(Some(
        fs::read_to_string(home.join(format!("{key}.ds"))).unwrap(),
    ))
}
