//! A private Postfix: own configuration, spool and port, the mail server of `outside.test`.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::certificate::Certificate;
use crate::mx::Door;
use crate::patience::wait_for;
use crate::program::{self, Service};
use loopback::Port;

/// Postfix, until it is dropped.
#[derive(Debug)]
pub struct Postfix {
    // Stopped before its directory goes.
    service: Service,
    port: Port,
    home: tempfile::TempDir,
}

/// Owner of the virtual mailboxes; no account of this number needs to exist.
const MAIL_UID: u32 = 64_200;

impl Postfix {
    /// Whether it can run here: it must be installed, and only root can start it.
    #[must_use]
    pub fn is_possible() -> bool {
        program::is_root() && program::find("/usr/lib/postfix/sbin/master").is_some()
    }

    /// Starts it. Mail for `example.test` goes to `inside`, over TLS or not at all.
    #[must_use]
    pub fn start(inside: SocketAddr) -> Self {
        let transport = format!("smtp:[{}]:{}", inside.ip(), inside.port());
        Self::with_transport(&transport)
    }

    /// Starts it. Mail for `example.test` goes that way, as transport(5) has it: `lmtp:unix:/run/rmail/lmtp.sock`.
    #[must_use]
    pub fn with_transport(transport: &str) -> Self {
        Self::with(transport, "", &[])
    }

    /// Starts it with these doors, which show what they have to, and with mailboxes in all domains below `outside.test`. What it hears
    /// stands in its log.
    #[must_use]
    pub fn with_doors(doors: &[Door], inside: SocketAddr) -> Self {
        let transport = format!("smtp:[{}]:{}", inside.ip(), inside.port());
        let more = "virtual_mailbox_domains = regexp:{ { /^([^@]+\\.)?outside\\.test$$/ here } }
virtual_mailbox_maps = regexp:{ { /^(carol|käthe)@/ carol/ } }
smtp_tls_security_level = may
debug_peer_list = 127.0.0.0/8
debug_peer_level = 1
";
        Self::with(&transport, more, doors)
    }

    /// Starts one in a directory that others may search, which hands mail for `outside.test` over to the server at that port.
    #[must_use]
    pub fn relaying(below: &Path, port: u16) -> Self {
        let more = format!(
            "virtual_mailbox_domains =
virtual_mailbox_maps =
transport_maps = inline:{{ {{ outside.test = smtp:[127.0.0.1]:{port} }} }}
smtp_tls_security_level = none
"
        );
        Self::below(below, "", &more, &[])
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    fn with(transport: &str, more: &str, doors: &[Door]) -> Self {
        Self::below(Path::new("/tmp"), transport, more, doors)
    }

    fn below(below: &Path, transport: &str, more: &str, doors: &[Door]) -> Self {
        let home = tempfile::Builder::new()
            .prefix("rmail-postfix-")
            .tempdir_in(below)
            .expect("a directory to make ours in is writable");
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755))
            .expect("our own directory");
        let dir = home.path();
        let port = Port::reserve();
        write_files(dir, port.number(), transport, more, doors);
        program::run(
            program::command("postfix")
                .arg("-c")
                .arg(dir.join("etc"))
                .arg("check"),
            b"",
            Duration::from_secs(30),
        )
        .succeeded();
        // `-d`: stay in the foreground, so that it ends with the test.
        let mut master = program::command("/usr/lib/postfix/sbin/master");
        master
            .arg("-d")
            .arg("-c")
            .arg(dir.join("etc"))
            .env("MAIL_CONFIG", dir.join("etc"));
        let service = Service::start(&mut master, &dir.join("master.log"));
        let postfix = Self {
            service,
            port,
            home,
        };
        wait_for(Duration::from_secs(20), || {
            TcpStream::connect(postfix.address()).ok()
        })
        .unwrap_or_else(|error| {
            panic!(
                "postfix: {error}\n{}\n{}",
                postfix.service.log(),
                postfix.log()
            )
        });
        postfix
    }

    /// Where it takes mail.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.home.path().join("log")).unwrap_or_default())
            .into_owned()
    }

    /// The messages it put into the Maildir of `carol@outside.test`.
    #[must_use]
    pub fn delivered(&self) -> Vec<Vec<u8>> {
        let Ok(listing) = std::fs::read_dir(self.home.path().join("mail/carol/new")) else {
            return Vec::new();
        };
        listing
            .filter_map(|entry| std::fs::read(entry.ok()?.path()).ok())
            .collect()
    }

    /// Waits until carol has a message, and gives the first.
    #[must_use]
    #[track_caller]
    pub fn wait_for_delivery(&self, limit: Duration) -> Vec<u8> {
        wait_for(limit, || self.delivered().into_iter().next())
            .unwrap_or_else(|error| panic!("nothing in carol's mailbox: {error}\n{}", self.log()))
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.service.stop(Duration::from_secs(10));
        if std::thread::panicking() {
            eprintln!("--- postfix\n{}", program::end_of(&self.log()));
        }
    }
}

fn write_files(dir: &Path, port: u16, transport: &str, more: &str, doors: &[Door]) {
    let (etc, mail) = (dir.join("etc"), dir.join("mail"));
    for path in [&etc, &mail, &dir.join("spool"), &dir.join("data")] {
        std::fs::create_dir_all(path).expect("the test's own directory");
    }
    let certificate = Certificate::make(&dir.join("tls"), "mx.outside.test");
    std::os::unix::fs::chown(&mail, Some(MAIL_UID), Some(MAIL_UID)).expect("root may");
    let (owner, _) = owner_of_postfix();
    std::os::unix::fs::chown(dir.join("data"), Some(owner), None).expect("root may");
    std::fs::set_permissions(&mail, std::fs::Permissions::from_mode(0o700))
        .expect("our own directory");
    let main = main_cf(dir, &certificate, transport);
    std::fs::write(etc.join("main.cf"), overlaid(&main, more)).expect("our own file");
    let master = master_cf(port)
        + &doors
            .iter()
            .map(|door| listener(door, port))
            .collect::<String>();
    std::fs::write(etc.join("master.cf"), master).expect("our own file");
}

/// Debian's user of the queue.
fn owner_of_postfix() -> (u32, u32) {
    let accounts = std::fs::read_to_string("/etc/passwd").expect("every system has it");
    let line = accounts
        .lines()
        .find(|line| line.starts_with("postfix:"))
        .expect("Postfix is installed, so is its user");
    let mut fields = line
        .split(':')
        .skip(2)
        .map(|field| field.parse().expect("a number"));
    (fields.next().expect("a uid"), fields.next().expect("a gid"))
}

/// `main` with what `more` says in place of what it says of the same. Each process would complain about what is said twice, and postlogd waits
/// for ever for itself to take note of the complaint when many do.
fn overlaid(main: &str, more: &str) -> String {
    let key = |line: &str| line.split_once(" = ").map(|(key, _)| key.to_owned());
    let said: Vec<_> = more.lines().filter_map(key).collect();
    let kept = |line: &&str| key(line).is_none_or(|key| !said.contains(&key));
    let kept: String = main
        .lines()
        .filter(kept)
        .map(|line| format!("{line}\n"))
        .collect();
    kept + more
}

fn main_cf(dir: &Path, certificate: &Certificate, transport: &str) -> String {
    let dir = dir.display();
    let (cert, key) = (certificate.cert.display(), certificate.key.display());
    format!(
        "compatibility_level = 3.6
myhostname = mx.outside.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
queue_directory = {dir}/spool
data_directory = {dir}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {dir}/log
maillog_file_prefixes = {dir}
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = outside.test
virtual_mailbox_base = {dir}/mail
virtual_mailbox_maps = inline:{{ carol@outside.test=carol/ }}
virtual_uid_maps = static:{MAIL_UID}
virtual_gid_maps = static:{MAIL_UID}
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_tls_security_level = may
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
smtpd_tls_received_header = yes
smtpd_tls_loglevel = 1
smtp_tls_security_level = encrypt
smtp_tls_loglevel = 1
transport_maps = inline:{{ {{ example.test = {transport} }} }}
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
"
    )
}

/// A line of master.cf; the first address is in it already.
fn listener(door: &Door, port: u16) -> String {
    let address = door.address;
    let options = match &door.certificate {
        None => " -o smtpd_tls_security_level=none".to_owned(),
        Some(Certificate { cert, key }) => format!(
            " -o smtpd_tls_cert_file={} -o smtpd_tls_key_file={}",
            cert.display(),
            key.display()
        ),
    };
    format!("{address}:{port} inet n - n - - smtpd{options}\n")
}

fn master_cf(port: u16) -> String {
    let unix = |name: &str, private: &str, wakeup: &str, limit: &str, program: &str| {
        format!("{name} unix {private} - n {wakeup} {limit} {program}\n")
    };
    let mut text =
        format!("127.0.0.1:{port} inet n - n - - smtpd\npostlog unix-dgram n - n - 1 postlogd\n");
    text += &unix("pickup", "n", "60", "1", "pickup");
    text += &unix("cleanup", "n", "-", "0", "cleanup");
    text += &unix("qmgr", "n", "300", "1", "qmgr");
    for (name, limit) in [
        ("tlsmgr", "1"),
        ("anvil", "1"),
        ("scache", "1"),
        ("rewrite", "-"),
        ("verify", "1"),
    ] {
        let wakeup = if name == "tlsmgr" { "1000?" } else { "-" };
        let program = if name == "rewrite" {
            "trivial-rewrite"
        } else {
            name
        };
        text += &unix(name, "-", wakeup, limit, program);
    }
    for (name, limit) in [
        ("bounce", "0"),
        ("defer", "0"),
        ("trace", "0"),
        ("smtp", "-"),
        ("lmtp", "-"),
        ("error", "-"),
        ("retry", "-"),
    ] {
        let program = match name {
            "defer" | "trace" => "bounce",
            "retry" => "error",
            other => other,
        };
        text += &unix(name, "-", "-", limit, program);
    }
    text += "virtual unix - n n - - virtual\nproxymap unix - - n - - proxymap\nshowq unix n - n - - showq\nflush unix n - n 1000? 0 flush\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::Client;

    #[test]
    fn the_private_postfix_delivers_to_carol_and_knows_nobody_else() {
        crate::skip_unless!(
            Postfix::is_possible(),
            "Postfix must be installed, and only root can start it"
        );
        let postfix = Postfix::start("127.0.0.1:9".parse().unwrap());
        let mut client = Client::hello(postfix.address()).unwrap();
        let message = b"Subject: hi\r\n\r\n.dot\r\n";
        client
            .deliver("alice@example.test", "carol@outside.test", message)
            .unwrap();
        let refused = client
            .deliver("alice@example.test", "nobody@outside.test", message)
            .unwrap_err()
            .to_string();
        assert!(refused.starts_with("550"), "{refused}");
        let delivered = postfix.wait_for_delivery(Duration::from_secs(10));
        assert!(
            delivered.ends_with(b"\n\n.dot\n"),
            "{}",
            String::from_utf8_lossy(&delivered)
        );
    }
}
