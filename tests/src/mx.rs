//! Exim, OpenSMTPD and Postfix as the mail servers of `outside.test` and of all domains below: carol and käthe have a mailbox in each.
//! What they have to say to anybody at `example.test` they bring to rmail.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::certificate::Certificate;
use crate::foreign::{self, Foreign};
use crate::patience::wait_for;
use crate::postfix::Postfix;
use crate::program::{self, Service};
use loopback::Port;

/// Owners of what they write; no account of these numbers needs to exist.
const EXIM_UID: u32 = 64_210;
const OPENSMTPD_UID: u32 = 64_211;
const QUEUE_UID: u32 = 64_212;
const CAROL_UID: u32 = 64_213;
const EXIM: &str = "exim4-daemon-light";
const OPENSMTPD: &str = "opensmtpd";

/// Where a server listens, and what it shows with STARTTLS; without a certificate it offers none.
#[derive(Debug, Clone)]
pub struct Door {
    /// A loopback address.
    pub address: Ipv4Addr,
    /// It and its key.
    pub certificate: Option<Certificate>,
}

/// A mail server that we did not write, until it is dropped.
pub trait Mx {
    /// Whether it can run here.
    fn is_possible() -> bool
    where
        Self: Sized;
    /// Starts it. All doors have the same port.
    fn open(doors: &[Door], inside: SocketAddr) -> Self
    where
        Self: Sized;
    /// Where it takes mail.
    fn port(&self) -> u16;
    /// The messages in all its mailboxes.
    fn delivered(&self) -> Vec<Vec<u8>>;
    /// What it logged.
    fn log(&self) -> String;

    /// Waits until there is a message that has this text in it.
    #[track_caller]
    fn wait_for_text(&self, text: &str) -> Vec<u8> {
        let find = || {
            let mut delivered = self.delivered().into_iter();
            delivered.find(|one| memchr::memmem::find(one, text.as_bytes()).is_some())
        };
        wait_for(Duration::from_secs(60), find).unwrap_or_else(|error| {
            panic!(
                "{text:?} does not arrive: {error}\n{}",
                program::end_of(&self.log())
            )
        })
    }
}

/// Waits until the server listens at all doors.
fn wait_for_doors(service: &Service, doors: &[Door], port: u16) {
    for door in doors {
        let listens = || TcpStream::connect((door.address, port)).ok();
        let listens = wait_for(Duration::from_secs(30), listens);
        listens.unwrap_or_else(|error| panic!("{}: {error}\n{}", door.address, service.log()));
    }
}

/// Exim.
#[derive(Debug)]
pub struct Exim {
    _service: Service,
    port: Port,
    home: Foreign,
}

impl Exim {
    /// Starts it with these further lines in front of its checks of RCPT.
    #[must_use]
    pub fn with(doors: &[Door], inside: SocketAddr, checks: &str) -> Self {
        let home = Foreign::new(EXIM, &[("Debian-exim", EXIM_UID, "/nonexistent")]);
        let port = Port::reserve();
        for name in ["spool", "log", "mail", "tls"] {
            home.make_directory(name, EXIM_UID);
        }
        for door in doors {
            if let Some(Certificate { cert, key }) = &door.certificate {
                for (from, end) in [(cert, "crt"), (key, "key")] {
                    let to = home.path().join(format!("tls/{}.{end}", door.address));
                    std::fs::copy(from, &to).expect("our own files");
                    std::os::unix::fs::chown(&to, Some(EXIM_UID), None).expect("root may");
                }
            }
        }
        let text = exim_configuration(&home, doors, port.number(), inside, checks);
        home.write("etc/exim4/exim4.conf", &text);
        let service = home.start("", &["/usr/sbin/exim4", "-bdf"]);
        wait_for_doors(&service, doors, port.number());
        Self {
            _service: service,
            port,
            home,
        }
    }
}

fn exim_configuration(
    home: &Foreign,
    doors: &[Door],
    port: u16,
    inside: SocketAddr,
    checks: &str,
) -> String {
    let addresses: Vec<_> = doors.iter().map(|door| door.address.to_string()).collect();
    let (home, addresses) = (home.path().display(), addresses.join(" : "));
    let (to, to_port) = (inside.ip(), inside.port());
    format!(
        "primary_hostname = mx.outside.test
spool_directory = {home}/spool
log_file_path = {home}/log/%slog
pid_file_path = {home}/spool/pid
keep_environment =
local_interfaces = {addresses}
daemon_smtp_ports = {port}
never_users =
deliver_drop_privilege = true
tls_advertise_hosts = ${{if exists{{{home}/tls/$received_ip_address.crt}}{{*}}{{}}}}
tls_certificate = {home}/tls/$received_ip_address.crt
tls_privatekey = {home}/tls/$received_ip_address.key
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
log_selector = +8bitmime +smtp_protocol_error +smtp_syntax_error
acl_smtp_rcpt = rcpt
acl_smtp_data = data
begin acl
rcpt:
{checks}
  accept domains = outside.test : *.outside.test
         local_parts = carol : käthe
  deny message = no such user here
data:
  accept
begin routers
mailboxes:
  driver = accept
  domains = outside.test : *.outside.test
  transport = mailboxes
inside:
  driver = manualroute
  domains = example.test
  route_list = * {to} byname
  self = send
  transport = inside
begin transports
mailboxes:
  driver = appendfile
  maildir_format
  directory = {home}/mail/carol
  create_directory
  user = Debian-exim
  group = Debian-exim
inside:
  driver = smtp
  port = {to_port}
  allow_localhost
begin retry
* * F,1h,1m
"
    )
}

impl Mx for Exim {
    fn is_possible() -> bool {
        foreign::is_possible(EXIM)
    }

    fn open(doors: &[Door], inside: SocketAddr) -> Self {
        Self::with(doors, inside, "")
    }

    fn port(&self) -> u16 {
        self.port.number()
    }

    fn delivered(&self) -> Vec<Vec<u8>> {
        self.home.maildir("mail/carol")
    }

    fn log(&self) -> String {
        self.home.read("log/mainlog") + &self.home.read("log/paniclog")
    }
}

/// OpenSMTPD. Debian 12's offers STARTTLS and breaks off each handshake: its keys are held in a way that OpenSSL 3 does not know.
#[derive(Debug)]
pub struct OpenSmtpd {
    service: Service,
    port: Port,
    home: Foreign,
}

impl Mx for OpenSmtpd {
    fn is_possible() -> bool {
        foreign::is_possible(OPENSMTPD)
    }

    fn open(doors: &[Door], inside: SocketAddr) -> Self {
        let users = [
            ("opensmtpd", OPENSMTPD_UID, "/nonexistent"),
            ("opensmtpq", QUEUE_UID, "/nonexistent"),
            ("carol", CAROL_UID, "/nonexistent"),
        ];
        let home = Foreign::new(OPENSMTPD, &users);
        let port = Port::reserve();
        home.make_directory("mail", CAROL_UID);
        let place = home.path().display();
        let mut text = String::new();
        for (number, door) in doors.iter().enumerate() {
            let (address, port) = (door.address, port.number());
            let tls = match &door.certificate {
                None => String::new(),
                Some(Certificate { cert, key }) => {
                    let (cert, key) = (cert.display(), key.display());
                    text += &format!(
                        "pki door{number} cert \"{cert}\"\npki door{number} key \"{key}\"\n"
                    );
                    format!(" tls pki door{number}")
                }
            };
            text += &format!("listen on {address} port {port} hostname mx.outside.test{tls}\n");
        }
        text += &format!(
            "table users {{ \"carol\" = carol }}
action \"mailboxes\" maildir \"{place}/mail\" virtual <users>
action \"inside\" relay host smtp://{inside}
match from any for domain {{ \"outside.test\", \"*.outside.test\" }} action \"mailboxes\"
match from any for domain \"example.test\" action \"inside\"
"
        );
        home.write("smtpd.conf", &text);
        let file = format!("{place}/smtpd.conf");
        let first = "mkdir -p /var/lib/opensmtpd/empty; mkdir -m 711 /var/spool/smtpd";
        let service = home.start(first, &["/usr/sbin/smtpd", "-d", "-T", "smtp", "-f", &file]);
        wait_for_doors(&service, doors, port.number());
        Self {
            service,
            port,
            home,
        }
    }

    fn port(&self) -> u16 {
        self.port.number()
    }

    fn delivered(&self) -> Vec<Vec<u8>> {
        self.home.maildir("mail")
    }

    fn log(&self) -> String {
        self.service.log()
    }
}

impl Mx for Postfix {
    fn is_possible() -> bool {
        Self::is_possible()
    }

    fn open(doors: &[Door], inside: SocketAddr) -> Self {
        Self::with_doors(doors, inside)
    }

    fn port(&self) -> u16 {
        self.address().port()
    }

    fn delivered(&self) -> Vec<Vec<u8>> {
        Self::delivered(self)
    }

    fn log(&self) -> String {
        Self::log(self)
    }
}
