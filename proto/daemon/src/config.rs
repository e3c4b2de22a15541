//! `config.json`: read strictly, so that nothing starts on a configuration that does not mean what it says.
//!
//! Every daemon reads the file itself at start, before its jail closes. An unknown key, a wrong type or an impossible
//! value is an error that names the path of the key, the line, and what is allowed.

mod aggregate_reports;
mod authentication;
mod budgets;
mod dkim;
mod dns_lists;
mod dnssec;
mod filter;
mod greylisting;
mod history;
mod imap_limits;
mod measures;
mod mechanisms;
mod mta_sts;
mod quarantine;
mod relay_domains;
mod routing;
mod server_metadata;
mod smtp;
mod smtp_limits;
mod submission;
mod value;
mod xclient;

use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use aggregate_reports::AggregateReports;
pub use authentication::{Authentication, Measure, Unanswered};
pub use budgets::{Budget, Budgets};
pub use dkim::Dkim;
pub use dns_lists::{DnsList, DnsLists, Listed, ReplyPattern, ReplyScore};
pub use dnssec::{Dnssec, DnssecMode};
pub use filter::{Filter, FilterAddress, FilterListener, OnFailure, Oversize};
pub use greylisting::Greylisting;
pub use history::History;
pub use imap_limits::ImapLimits;
pub use measures::{DomainMeasures, Measures};
pub use mechanisms::{Mechanisms, SaslMechanism};
pub use mta_sts::MtaSts;
pub use quarantine::Quarantine;
pub use relay_domains::{RelayDomain, TlsDemand};
pub use routing::{MailAddress, Routing};
pub use server_metadata::{ServerMetadata, ServerText};
pub use smtp::{Smtp, StrayLineEnds, TRACE_SIZE};
pub use smtp_limits::SmtpLimits;
pub use submission::Submission;
pub use value::{AtLeast, AtMost, HostName, LogLevel, Network, RetrySchedule, Socket, UserName};
pub use xclient::Xclient;

/// The only version of the format there is.
pub const VERSION: u32 = 1;

/// Where the configuration is looked for when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/rmail/config.json";

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name and version of the JSON Schema, for editors; not used.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Version of this format, 1.
    pub version: FormatVersion,
    /// The name this server greets with and writes into `Received`.
    pub hostname: HostName,
    /// Domains made at start if they do not exist; more are added with `rmailctl domain add`.
    #[serde(default)]
    pub domains: Vec<HostName>,
    /// Parent of the store (`store/`), of the queue (`queue/`) and of the keys (`keys/`).
    #[serde(default = "default::mail_root")]
    pub mail_root: PathBuf,
    /// Sockets between the daemons, pid files.
    #[serde(default = "default::run_dir")]
    pub run_dir: PathBuf,
    /// How much is logged.
    #[serde(default)]
    pub log_level: LogLevel,
    /// Users and groups the daemons run as; only used when the supervisor is root.
    #[serde(default)]
    pub users: Users,
    /// Certificate and key.
    pub tls: Tls,
    /// smtpd.
    #[serde(default)]
    pub smtp: Smtp,
    /// Whether mail from other servers is from whom it says.
    #[serde(default)]
    pub authentication: Authentication,
    /// imapd.
    #[serde(default)]
    pub imap: Imap,
    /// apid.
    #[serde(default)]
    pub exchange_api: ExchangeApi,
    /// relayd.
    #[serde(default)]
    pub relay: Relay,
    /// keyd's keys.
    #[serde(default)]
    pub dkim: Dkim,
    /// Limits against floods and guessing.
    #[serde(default)]
    pub limits: Limits,
    /// deliverd's store.
    #[serde(default)]
    pub store: Store,
    /// Where mail goes that nobody here is named for, and how mail is passed on.
    #[serde(default)]
    pub routing: Routing,
    /// Mail that our own users send.
    #[serde(default)]
    pub submission: Submission,
}

/// The number 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct FormatVersion;

/// Who each daemon runs as.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Users {
    /// User (name or number) of smtpd; its group is the user's primary group, or the same number.
    pub smtpd: UserName,
    /// User of imapd.
    pub imapd: UserName,
    /// User of apid.
    pub apid: UserName,
    /// User of relayd.
    pub relayd: UserName,
    /// User of deliverd.
    pub deliverd: UserName,
    /// User of keyd.
    pub keyd: UserName,
}

/// Where the certificate is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the certificate and its chain.
    pub cert_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
    /// PEM file with the authorities whose client certificates are logins on the submission ports and in IMAP (EXTERNAL), as the accounts
    /// whose addresses they name. Nobody can log in so without it.
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,
}

/// The `imap` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Imap {
    /// Address to listen on; `::` takes IPv4 too.
    pub host: std::net::IpAddr,
    /// IMAP with STARTTLS; 0 switches the listener off.
    pub port: u16,
    /// IMAP over TLS from the start (RFC 8314); 0 switches it off.
    pub imaps_port: u16,
    /// Connections at once.
    pub max_connections: value::AtLeast<1>,
    /// Allow LOGIN without TLS to clients on a loopback address.
    pub cleartext_login_on_loopback: bool,
    /// What clients can learn about the server.
    pub metadata: ServerMetadata,
    /// How many messages one command is about.
    pub limits: ImapLimits,
}

/// The `exchange_api` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExchangeApi {
    /// Address to listen on; `::` takes IPv4 too.
    pub host: std::net::IpAddr,
    /// Plain HTTP, for a reverse proxy on the same machine: answers only clients on a loopback address. 0 switches it off.
    pub port: u16,
    /// HTTPS; 0 switches it off.
    pub secure_port: u16,
    /// Connections at once.
    pub max_connections: value::AtLeast<1>,
}

/// The `relay` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relay {
    /// Whether mail for foreign domains is taken at all.
    pub enabled: bool,
    /// Send all foreign mail here instead of to the domains' own servers.
    pub smarthost: Option<HostName>,
    /// Port of the smarthost.
    pub smarthost_port: u16,
    /// Log in at the smarthost as this user.
    pub smarthost_username: Option<String>,
    /// File with the password, one line; handed to relayd as the credential `smarthost.password`.
    pub smarthost_password_file: Option<PathBuf>,
    /// Port of other domains' servers. 25, except in tests.
    pub port: u16,
    /// DNS servers as `address:port`; those of `/etc/resolv.conf` if empty.
    pub dns: Vec<Socket>,
    /// Whether their answers are checked.
    pub dnssec: Dnssec,
    /// Whether the policies of other domains are kept.
    pub mta_sts: MtaSts,
    /// What differs for mail to some domains.
    pub domains: Vec<RelayDomain>,
    /// Seconds between attempts; after the last one a message is returned.
    pub retry_seconds: RetrySchedule,
    /// Hours after which the sender is told, once, that a message has to wait; 0 switches that off.
    pub delay_warning_hours: value::AtMost<168>,
    /// Outgoing connections at once. The mail of one tenant, or of a domain that belongs to none, has at most three quarters of them.
    pub max_connections: value::AtLeast<1>,
    /// Outgoing connections at once to one domain.
    pub max_connections_per_domain: value::AtLeast<1>,
    /// Seconds for which a connection is kept after a message, for the next one that goes to the same server under the same demands; 0 ends
    /// it at once. Up to 64 are kept besides those of [`Relay::max_connections`].
    pub connection_reuse_seconds: value::AtMost<60>,
    /// How much mail accounts may send in a day.
    pub budgets: Budgets,
    /// For how long it is known what became of mail.
    pub history: History,
}

/// The `limits` section. 0 means no limit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once from one address, per daemon; `smtp.limits` says whom smtpd exempts from it.
    pub connections_per_address: u32,
    /// Failed logins for one account from one network (a /24 or /64) within the window before more are refused unheard. The
    /// same wrong password counts once; over SCRAM, which hides what was guessed, if it was the account's before.
    pub auth_failures: u32,
    /// The same from one network, whatever the account.
    pub auth_failures_per_network: u32,
    /// Length of that sliding window in seconds.
    pub auth_window_seconds: u32,
    /// Seconds for which they are refused. If it happens again within a day, twice as long each time, up to a day.
    pub auth_lockout_seconds: u32,
    /// Quota in bytes for users made without one.
    pub default_quota: u64,
}

/// The `store` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Days for which what clients expunged can be had back; 0 keeps nothing.
    pub expunged_days: value::AtMost<3650>,
    /// Bytes of it that are kept of a user at most.
    pub expunged_bytes: u64,
    /// While less of the disk is free, in percent, nothing of it is kept.
    pub expunged_min_free_percent: value::AtMost<100>,
}

mod default {
    use std::path::PathBuf;

    pub(super) fn mail_root() -> PathBuf {
        PathBuf::from("/var/lib/rmail")
    }

    pub(super) fn run_dir() -> PathBuf {
        PathBuf::from("/run/rmail")
    }
}

impl Default for Users {
    fn default() -> Self {
        Self {
            smtpd: UserName::known("_rmail-smtpd"),
            imapd: UserName::known("_rmail-imapd"),
            apid: UserName::known("_rmail-apid"),
            relayd: UserName::known("_rmail-relayd"),
            deliverd: UserName::known("_rmail-deliverd"),
            keyd: UserName::known("_rmail-keyd"),
        }
    }
}

const ANY: std::net::IpAddr = std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

impl Default for Imap {
    fn default() -> Self {
        Self {
            host: ANY,
            port: 143,
            imaps_port: 993,
            metadata: ServerMetadata::default(),
            limits: ImapLimits::default(),
            max_connections: value::AtLeast::known(10_000),
            cleartext_login_on_loopback: false,
        }
    }
}

impl Default for ExchangeApi {
    fn default() -> Self {
        Self {
            host: ANY,
            port: 9002,
            secure_port: 9003,
            max_connections: value::AtLeast::known(1000),
        }
    }
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            enabled: true,
            smarthost: None,
            smarthost_port: 25,
            smarthost_username: None,
            smarthost_password_file: None,
            port: 25,
            dns: Vec::new(),
            dnssec: Dnssec::default(),
            mta_sts: MtaSts::default(),
            domains: Vec::new(),
            retry_seconds: RetrySchedule::default(),
            delay_warning_hours: value::AtMost::known(4),
            max_connections: value::AtLeast::known(50),
            max_connections_per_domain: value::AtLeast::known(5),
            connection_reuse_seconds: value::AtMost::known(2),
            budgets: Budgets::default(),
            history: History::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_address: 50,
            auth_failures: 10,
            auth_failures_per_network: 100,
            auth_window_seconds: 600,
            auth_lockout_seconds: 900,
            default_quota: 0,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            expunged_days: value::AtMost::known(7),
            expunged_bytes: 1 << 30,
            expunged_min_free_percent: value::AtMost::known(5),
        }
    }
}

impl TryFrom<u32> for FormatVersion {
    type Error = String;

    fn try_from(version: u32) -> Result<Self, String> {
        if version == VERSION {
            Ok(Self)
        } else {
            Err(format!(
                "version {version} is not known to this build; it reads version {VERSION}"
            ))
        }
    }
}

impl From<FormatVersion> for u32 {
    fn from(_: FormatVersion) -> Self {
        VERSION
    }
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`] says where and what is allowed.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            file: path.to_owned(),
            place: Place::File,
            reason: unreadable(&error),
        })?;
        Self::parse(&text).map_err(|(place, reason)| ConfigError {
            file: path.to_owned(),
            place,
            reason,
        })
    }

    /// Checks a configuration text.
    fn parse(text: &str) -> Result<Self, (Place, String)> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let config: Self = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let key = error.path().to_string();
            let inner = error.into_inner();
            (
                Place::Key {
                    key,
                    line: inner.line(),
                    column: inner.column(),
                },
                reason(&inner),
            )
        })?;
        reader.end().map_err(|error| {
            let place = Place::Key {
                key: ".".into(),
                line: error.line(),
                column: error.column(),
            };
            (place, "text after the end of the configuration".into())
        })?;
        config.check().map_err(|(key, reason)| {
            let (line, column) = line_of(text, key);
            (
                Place::Key {
                    key: key.into(),
                    line,
                    column,
                },
                reason,
            )
        })?;
        Ok(config)
    }

    /// What no single value can show: keys that need or exclude one another.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let names = [("hostname", &self.hostname)];
        let domains = self.domains.iter().map(|domain| ("domains", domain));
        for (key, name) in names.into_iter().chain(domains) {
            if name.is_address() {
                return Err((
                    key,
                    format!("\"{}\" is an address, not a name", name.as_str()),
                ));
            }
        }
        let relay = &self.relay;
        if relay.smarthost.is_none() && relay.smarthost_username.is_some() {
            return Err((
                "relay.smarthost_username",
                "needs relay.smarthost, the server to log in at".into(),
            ));
        }
        if relay.smarthost_username.is_some() != relay.smarthost_password_file.is_some() {
            let key = if relay.smarthost_username.is_some() {
                "relay.smarthost_username"
            } else {
                "relay.smarthost_password_file"
            };
            return Err((key, "smarthost_username and smarthost_password_file are only of use together: give both or neither".into()));
        }
        if let Some(reason) = relay_domains::flaw(&relay.domains) {
            return Err(("relay.domains", reason));
        }
        let reports = &self.authentication.aggregate_reports;
        if let Some((key, reason)) = aggregate_reports::flaw(reports, relay.enabled) {
            return Err((key, reason.into()));
        }
        if let Some(name) = filter::nameless(&self.smtp.filters) {
            return Err((
                "smtp.filters",
                format!(
                    "a filter is named \"{name}\": give each its own name of up to 64 letters, digits, \".\", \"_\" and \"-\""
                ),
            ));
        }
        let domains = self.authentication.check_domains();
        domains.map_err(|reason| ("authentication.domains", reason))?;
        if self.authentication.has_quarantine() && !relay.enabled {
            let reason =
                "quarantine is in relayd's queue: set relay.enabled, or choose another measure";
            return Err(("authentication", reason.into()));
        }
        for (key, port) in [
            ("relay.smarthost_port", relay.smarthost_port),
            ("relay.port", relay.port),
            ("relay.mta_sts.port", relay.mta_sts.port),
        ] {
            if port == 0 {
                return Err((key, "0 is no port of a server: 1 to 65535".into()));
            }
        }
        let mut paths = vec![
            ("mail_root", &self.mail_root),
            ("run_dir", &self.run_dir),
            ("tls.cert_file", &self.tls.cert_file),
            ("tls.key_file", &self.tls.key_file),
        ];
        let client_ca_file = self.tls.client_ca_file.as_ref();
        paths.extend(client_ca_file.map(|file| ("tls.client_ca_file", file)));
        paths.extend(
            relay
                .smarthost_password_file
                .as_ref()
                .map(|file| ("relay.smarthost_password_file", file)),
        );
        for (key, path) in paths {
            if !is_plain(path) {
                return Err((
                    key,
                    format!(
                        "must be an absolute path (it begins with /) without \"..\", not \"{}\"",
                        path.display()
                    ),
                ));
            }
        }
        // A Unix socket's path has 108 bytes (unix(7)); the longest name below run_dir needs 32 of them.
        if self.run_dir.as_os_str().len() > 75 {
            return Err((
                "run_dir",
                "is too long for the sockets in it: at most 75 bytes".into(),
            ));
        }
        let ports = [
            ("smtp.port", self.smtp.host, self.smtp.port),
            (
                "smtp.submission_port",
                self.smtp.host,
                self.smtp.submission_port,
            ),
            ("smtp.smtps_port", self.smtp.host, self.smtp.smtps_port),
            ("smtp.lmtp_port", self.smtp.lmtp_host, self.smtp.lmtp_port),
            ("imap.port", self.imap.host, self.imap.port),
            ("imap.imaps_port", self.imap.host, self.imap.imaps_port),
            (
                "exchange_api.port",
                self.exchange_api.host,
                self.exchange_api.port,
            ),
            (
                "exchange_api.secure_port",
                self.exchange_api.host,
                self.exchange_api.secure_port,
            ),
        ];
        for (index, (key, host, port)) in ports.iter().enumerate() {
            let twin = ports[..index]
                .iter()
                .find(|(_, h, p)| p == port && h == host);
            if let (true, Some((other, ..))) = (*port != 0, twin) {
                return Err((
                    key,
                    format!(
                        "port {port} is used by {other} already: give each listener its own port, or 0 for none"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Directory of the store, deliverd's alone.
    #[must_use]
    pub fn store_dir(&self) -> PathBuf {
        self.mail_root.join("store")
    }

    /// Directory of the queue, relayd's alone.
    #[must_use]
    pub fn queue_dir(&self) -> PathBuf {
        self.mail_root.join("queue")
    }

    /// Directory of the keys, keyd's alone.
    #[must_use]
    pub fn keys_dir(&self) -> PathBuf {
        self.mail_root.join("keys")
    }

    /// Path of the socket for LMTP on this machine.
    #[must_use]
    pub fn lmtp_socket(&self) -> PathBuf {
        self.run_dir.join("lmtp.sock")
    }

    /// Path of the socket on which `answerer` hears `asker`.
    #[must_use]
    pub fn ipc_socket(&self, answerer: &str, asker: &str) -> PathBuf {
        self.run_dir.join(format!("{answerer}-{asker}.sock"))
    }
}

/// A configuration that cannot be used, in words for the admin who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    place: Place,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    File,
    Key {
        key: String,
        line: usize,
        column: usize,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.place {
            Place::File => write!(f, "{file}: {}", self.reason),
            Place::Key { key, line, column } => {
                write!(f, "{file}:{line}:{column}: {key}: {}", self.reason)
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// What the launch plan takes for a path ([`sys::plan`]).
fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && !path.as_os_str().as_encoded_bytes().contains(&0)
}

fn unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file; `rmailctl init` writes one".into(),
        std::io::ErrorKind::PermissionDenied => {
            "not readable for this user; the file holds no secrets: chmod 644 it, and make its directory searchable".into()
        }
        _ => error.to_string(),
    }
}

/// serde's words without the position, which is printed in front.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// The line and column of a dotted key, found by looking for its last word inside the object its first word opens.
fn line_of(text: &str, key: &str) -> (usize, usize) {
    let mut at = 0;
    for word in key.split('.') {
        at += text[at..].find(&format!("\"{word}\"")).unwrap_or(0);
    }
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = at - before.rfind('\n').map_or(0, |newline| newline + 1) + 1;
    (line, column)
}

#[cfg(test)]
mod tests;
