//! A private name server: NSD (Debian package `nsd`), serving the zone `test` and what else a test wants, on a loopback port.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use crate::patience::wait_for;
use crate::program::{self, Service};
use loopback::Port;

/// The name server, until it is dropped.
#[derive(Debug)]
pub struct NameServer {
    port: Port,
    service: Service,
    dir: tempfile::TempDir,
}

/// All names of the outside world of these tests. Names that are not here do not exist (NXDOMAIN).
const ZONE: &str = "\
$ORIGIN test.
$TTL 5
@           SOA ns.test. admin.test. 1 3600 600 86400 5
            NS  ns
ns          A   127.0.0.1
outside     MX  10 mx.outside
mx.outside  A   127.0.0.1
; No MX: the address record is meant (RFC 5321 §5.1).
bare        A   127.0.0.1
; Takes no mail (RFC 7505).
null        MX  0 .
; The better server does not answer, the second does.
two         MX  5 dead.two
            MX  10 mx.outside
dead.two    A   127.0.0.2
example     MX  10 mail.example
mail.example A  127.0.0.1
; A list of addresses (RFC 5782), and one that was given up.
2.0.0.127.bl A  127.0.0.2
9.2.0.192.bl A  127.0.0.4
9.2.0.192.bl TXT wrote-to-traps
*.gone      A   127.0.0.2
; Its mail comes from here only.
honest      TXT \"v=spf1 ip4:127.0.0.1 -all\"
_dmarc.honest TXT \"v=DMARC1; p=reject\"
; Wants spoofs put aside.
_dmarc.careful TXT \"v=DMARC1; p=quarantine\"
; Want reports: at home, at one who has agreed to take them, and at one who has not.
reported    TXT \"v=spf1 ip4:127.0.0.1 -all\"
reported    MX  10 mx.outside
_dmarc.reported TXT \"v=DMARC1; p=reject; rua=mailto:in@reported.test!1m,mailto:reports@outside.test,mailto:spy@bare.test\"
_dmarc.watched TXT \"v=DMARC1; p=none; rua=mailto:reports@outside.test\"
*._report._dmarc.outside TXT \"v=DMARC1\"
";

/// The text of the zone `test` with these further records.
pub(crate) fn zone(records: &str) -> String {
    format!("{ZONE}{records}")
}

impl NameServer {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        Self::with("", &[])
    }

    /// Starts one that has these records in `test.`, too, and these zones: name and text of each.
    #[must_use]
    pub fn with(records: &str, zones: &[(&str, &str)]) -> Self {
        let test = zone(records);
        let all = [&[("test", test.as_str())], zones].concat();
        Self::serve(&all)
    }

    /// Starts one that has these zones, of which one is `test`.
    #[must_use]
    pub(crate) fn serve(zones: &[(&str, &str)]) -> Self {
        let home = tempfile::Builder::new()
            .prefix("rmail-nsd-")
            .tempdir_in("/tmp")
            .expect("/tmp is writable");
        let dir = home.path();
        let port = Port::reserve();
        let mut listed = String::new();
        for (name, text) in zones {
            std::fs::write(dir.join(format!("{name}.zone")), text).expect("our own file");
            listed += &format!("zone:\n name: {name}\n zonefile: {name}.zone\n");
        }
        let config = format!(
            "server:\n ip-address: 127.0.0.1\n port: {}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{dir}\"\n pidfile: \"\"\n \
             xfrdfile: \"\"\n zonelistfile: \"{dir}/zones\"\n xfrdir: \"{dir}\"\n server-count: 1\n do-ip6: no\n database: \"\"\n verbosity: 1\n\
             remote-control:\n control-enable: no\n\
             {listed}",
            port.number(),
            dir = dir.display(),
        );
        std::fs::write(dir.join("nsd.conf"), config).expect("our own file");
        let server = Self {
            port,
            service: launch(dir),
            dir: home,
        };
        server.wait();
        server
    }

    /// Starts it again with these records in `test.` besides.
    pub fn publish(&mut self, records: &str) {
        let file = self.dir.path().join("test.zone");
        let zone = std::fs::read_to_string(&file).expect("our own file");
        std::fs::write(&file, format!("{zone}{records}")).expect("our own file");
        self.service.stop(Duration::from_secs(10));
        self.service = launch(self.dir.path());
        self.wait();
    }

    fn wait(&self) {
        wait_for(Duration::from_secs(10), || {
            answers(self.address()).then_some(())
        })
        .unwrap_or_else(|error| panic!("nsd: {error}\n{}", self.service.log()));
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }
}

fn launch(dir: &Path) -> Service {
    let mut command = program::command("nsd");
    let command = command.arg("-d").arg("-c").arg(dir.join("nsd.conf"));
    Service::start(command, &dir.join("log"))
}

/// Asks for the SOA of `test.`
fn answers(server: SocketAddr) -> bool {
    const QUERY: &[u8] =
        b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04test\x00\x00\x06\x00\x01";
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        socket.send_to(QUERY, server)?;
        let mut answer = [0; 512];
        socket
            .recv(&mut answer)
            .map(|length| length > 12 && answer[..2] == QUERY[..2])
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_name_server_starts_and_answers() {
        crate::skip_without!("nsd");
        let server = NameServer::start();
        assert!(answers(server.address()));
    }
}
