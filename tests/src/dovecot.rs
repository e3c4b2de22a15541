//! A private Dovecot: own configuration, mail and port, with one account.

use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::patience::wait_for;
use crate::program::{self, Service};
use loopback::Port;

/// Password of every user: there is no other account.
pub const PASSWORD: &str = "secret";

/// Owner of the mail; no account of this number needs to exist.
const MAIL_UID: u32 = 64_210;

/// Dovecot, until it is dropped.
#[derive(Debug)]
pub struct Dovecot {
    // Stopped before its directory goes.
    service: Service,
    port: Port,
    home: tempfile::TempDir,
}

impl Dovecot {
    /// Whether it can run here: it must be installed, and only root can start it.
    #[must_use]
    pub fn is_possible() -> bool {
        program::is_root() && program::find("/usr/lib/dovecot/imap").is_some()
    }

    /// Starts it, and waits until it answers. `more` is added to its configuration.
    #[must_use]
    pub fn start(more: &str) -> Self {
        Self::start_with_owners(&MAIL_UID.to_string(), more)
    }

    /// The same, where mail belongs to `owner`, a number in which Dovecot's variables may stand.
    #[must_use]
    pub fn start_with_owners(owner: &str, more: &str) -> Self {
        let home = tempfile::Builder::new()
            .prefix("rmail-dovecot-")
            .tempdir_in("/tmp")
            .expect("/tmp is writable");
        let dir = home.path();
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
            .expect("our own directory");
        let mail = dir.join("mail");
        std::fs::create_dir(&mail).expect("our own directory");
        // Each owner makes directories of its own.
        std::fs::set_permissions(&mail, std::fs::Permissions::from_mode(0o1777))
            .expect("our own directory");
        let port = Port::reserve();
        let file = dir.join("dovecot.conf");
        let text = configuration(&dir.display().to_string(), port.number(), owner);
        std::fs::write(&file, text + more).expect("our own file");
        // `-F`: stay in the foreground, so that it ends with the test.
        let mut command = program::command("dovecot");
        command.arg("-F").arg("-c").arg(&file);
        let service = Service::start(&mut command, &dir.join("out"));
        let dovecot = Self {
            service,
            port,
            home,
        };
        wait_for(Duration::from_secs(20), || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, dovecot.port())).ok()
        })
        .unwrap_or_else(|error| panic!("dovecot: {error}\n{}", dovecot.log()));
        dovecot
    }

    /// Where it listens for IMAP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its first process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

fn configuration(dir: &str, port: u16, owner: &str) -> String {
    format!(
        "protocols = imap
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/log
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = sdbox:{dir}/mail/%u
mail_save_crlf = yes
first_valid_uid = {MAIL_UID}
mail_max_userip_connections = 20000
passdb {{
  driver = static
  args = password={PASSWORD} userdb_uid={owner} userdb_gid={owner} userdb_home={dir}/mail/%u
}}
userdb {{
  driver = prefetch
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"
    )
}
