//! Debian's Dovecot with a configuration of its own, once with maildir and once with mdbox, on high ports.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use loopback::Port;
use system_tests::patience::wait_for;
use system_tests::program::{self, Service};

use crate::rmail::write_letter;
use crate::server::{Filled, MailServer, READER, remove_below};

/// Owner of the mail; no account of this number needs to exist.
const MAIL_UID: u32 = 64_300;
const PATIENCE: Duration = Duration::from_secs(300);
const FIRST_DATE: u64 = 1_700_000_000;

/// How the mail lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Maildir,
    Mdbox,
}

/// A Dovecot that runs until it is dropped.
pub(crate) struct Dovecot {
    format: Format,
    directory: PathBuf,
    imap: Port,
    lmtp: Port,
    service: Option<Service>,
}

impl Dovecot {
    /// Whether it can run here: it must be installed, and only root can start it.
    pub(crate) fn is_possible() -> bool {
        program::is_root()
            && program::find("dovecot").is_some()
            && Path::new("/usr/lib/dovecot/lmtp").exists()
    }

    /// Its version.
    pub(crate) fn version() -> String {
        let printed = program::run(program::command("dovecot").arg("--version"), b"", PATIENCE);
        printed.stdout.trim().to_owned()
    }

    /// Starts one below `directory` that does not flush yet.
    pub(crate) fn start(directory: &Path, format: Format) -> Self {
        let directory = directory.join(format.name());
        for part in ["", "run", "state", "home"] {
            std::fs::create_dir(directory.join(part)).expect("our own directory");
        }
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))
            .expect("our own directory");
        chown(directory.join("home"), Some(MAIL_UID), Some(MAIL_UID)).expect("root may");
        let mut dovecot = Self {
            format,
            directory,
            imap: Port::reserve(),
            lmtp: Port::reserve(),
            service: None,
        };
        // Until it is filled: flushing what is only put in place would take minutes.
        dovecot.configure("never");
        dovecot.start();
        dovecot
    }

    /// From now on everything it acknowledges is durable, flags too.
    pub(crate) fn flush_always(&mut self) {
        self.stop();
        self.configure("always");
        self.start();
    }

    fn configure(&self, fsync: &str) {
        let text = configuration(self, fsync);
        std::fs::write(self.directory.join("conf"), text).expect("our own directory");
    }

    /// Where it takes mail.
    pub(crate) fn lmtp(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.lmtp.number()).into()
    }

    fn home(&self, address: &str) -> PathBuf {
        let local = address.split('@').next().unwrap_or(address);
        self.directory.join("home").join(local)
    }

    /// Puts mailboxes of the reader in place: files of a maildir, which for mdbox Dovecot itself imports.
    pub(crate) fn fill(&self, mailboxes: &[Filled]) {
        let maildir = match self.format {
            Format::Maildir => self.home(READER).join("Maildir"),
            Format::Mdbox => self.directory.join("imported"),
        };
        make_directory(maildir.parent().expect("it has one"));
        make_directory(&maildir);
        for part in ["cur", "new", "tmp"] {
            make_directory(&maildir.join(part));
        }
        for mailbox in mailboxes {
            fill(&maildir.join(format!(".{}", mailbox.name)), mailbox);
        }
        if self.format == Format::Mdbox {
            let mut import = program::command("doveadm");
            import
                .arg("-c")
                .arg(self.directory.join("conf"))
                .args(["import", "-u", READER])
                .arg(format!("maildir:{}", maildir.display()))
                .args(["", "all"]);
            program::run(&mut import, b"", PATIENCE).succeeded();
            std::fs::remove_dir_all(&maildir).expect("our own directory");
        }
    }
}

impl MailServer for Dovecot {
    fn name(&self) -> &'static str {
        match self.format {
            Format::Maildir => "Dovecot maildir",
            Format::Mdbox => "Dovecot mdbox",
        }
    }

    fn imap(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.imap.number()).into()
    }

    fn pid(&self) -> u32 {
        self.service.as_ref().expect("it runs").pid()
    }

    fn stop(&mut self) {
        if let Some(mut service) = self.service.take() {
            service.stop(Duration::from_secs(20));
        }
    }

    fn start(&mut self) {
        let mut command = program::command("dovecot");
        command.arg("-F").arg("-c").arg(self.directory.join("conf"));
        let service = Service::start(&mut command, &self.directory.join("output"));
        wait_for(Duration::from_secs(20), || {
            TcpStream::connect(self.imap()).ok()
        })
        .unwrap_or_else(|error| panic!("dovecot: {error}\n{}", service.log()));
        self.service = Some(service);
    }

    fn forget_indexes(&self) -> bool {
        let home = self.home(READER);
        match self.format {
            Format::Maildir => {
                remove_below(&home, &|name| name.starts_with("dovecot.index"));
                true
            }
            // The other indexes are the only place that knows which message is in which mailbox.
            Format::Mdbox => {
                remove_below(&home, &|name| name == "dovecot.index.cache");
                false
            }
        }
    }
}

impl Format {
    const fn name(self) -> &'static str {
        match self {
            Self::Maildir => "maildir",
            Self::Mdbox => "mdbox",
        }
    }

    const fn location(self) -> &'static str {
        match self {
            Self::Maildir => "maildir:~/Maildir",
            Self::Mdbox => "mdbox:~/mdbox",
        }
    }
}

fn make_directory(path: &Path) {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            panic!("{}: {error}", path.display())
        }
        _ => chown(path, Some(MAIL_UID), Some(MAIL_UID)).expect("root may"),
    }
}

fn fill(directory: &Path, mailbox: &Filled) {
    make_directory(directory);
    for part in ["cur", "new", "tmp"] {
        make_directory(&directory.join(part));
    }
    for number in 1..=mailbox.messages {
        let seconds = FIRST_DATE + u64::from(number);
        let path = directory.join(format!("cur/{seconds}.M{number}P1.bench:2,"));
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        write_letter(&path, number, mailbox.size, 0o600, date);
        chown(&path, Some(MAIL_UID), Some(MAIL_UID)).expect("root may");
    }
}

fn configuration(dovecot: &Dovecot, fsync: &str) -> String {
    let (directory, location) = (dovecot.directory.display(), dovecot.format.location());
    let (imap, lmtp) = (dovecot.imap.number(), dovecot.lmtp.number());
    format!(
        "base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_fsync = {fsync}
mail_location = {location}
first_valid_uid = 1
mail_max_userip_connections = 1000
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid={MAIL_UID} gid={MAIL_UID} home={directory}/home/%n allow_all_users=yes
}}
namespace inbox {{
  inbox = yes
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
"
    )
}
