//! `rmailctl init`: from nothing to a system that can be started.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use daemon::config::Config;
use ipc::Secret;
use serde_json::json;

use crate::cli::InitOptions;
use crate::cmd::{alias, user};
use crate::operator::Store;
use crate::supervisor::System;
use crate::{Error, certificate, plan, secret};

/// The JSON Schema of the configuration, for editors: every key explained.
const SCHEMA: &str = include_str!("../../docs/config.schema.json");

/// Runs the command.
///
/// # Errors
/// [`Error`]. The configuration gets its name last, so that an init that failed can be run again; the next one keeps what
/// is there.
pub async fn run(config_file: &Path, options: InitOptions) -> Result<(), Error> {
    let config_file = std::path::absolute(config_file)?;
    let directory = config_file.parent().unwrap_or(Path::new("/")).to_owned();
    if config_file.exists() {
        return Err(Error::Usage(format!(
            "{} exists; init writes only a first configuration: move it away, or edit it",
            config_file.display()
        )));
    }
    let hostname = options.hostname.clone().map_or_else(full_host_name, Ok)?;
    let domain = options
        .domain
        .clone()
        .unwrap_or_else(|| parent_domain(&hostname));
    let address = format!("{}@{domain}", options.user);
    let (password, shown) = if options.password_stdin {
        (secret::from_stdin()?, None)
    } else {
        let made_up = secret::made_up()?;
        (Secret::new(made_up.clone()), Some(made_up))
    };

    let (cert, key) = (
        directory.join("tls/cert.pem"),
        directory.join("tls/key.pem"),
    );
    let draft = first_config(&hostname, &domain, &options, &cert, &key)?;
    // What cannot work is found before anything is written.
    require_users(&draft)?;

    make_directory(&directory, 0o755)?;
    if cert.exists() && key.exists() {
        println!("keeping the certificate {}", cert.display());
    } else {
        certificate::write_self_signed(&[hostname.clone(), "localhost".into()], &cert, &key)?;
        println!(
            "wrote a self-signed certificate for {hostname}, for development only: {}",
            cert.display()
        );
    }
    let text =
        serde_json::to_string_pretty(&draft).map_err(|error| Error::Failed(error.to_string()))?;
    let draft_file = config_file.with_extension("json.new");
    let config = write_checked(&draft_file, &(text + "\n"))?;
    let schema = directory.join("config.schema.json");
    std::fs::write(&schema, SCHEMA).map_err(|error| Error::failed(schema.display(), error))?;
    make_state(&config, &config_file)?;
    first_user(&config, &config_file, &domain, &address, &password).await?;
    std::fs::rename(&draft_file, &config_file)
        .map_err(|error| Error::failed(config_file.display(), error))?;
    println!("wrote {}", config_file.display());
    println!("made the domain {domain} and the user {address}");
    if let Some(password) = shown {
        println!("password of {address}: {password}");
    }
    println!("start the system with: rmaild {}", config_file.display());
    Ok(())
}

/// As root each daemon needs its user.
fn require_users(config: &Config) -> Result<(), Error> {
    if !sys::user::is_root() {
        return Ok(());
    }
    let users = &config.users;
    let names = [
        &users.deliverd,
        &users.relayd,
        &users.smtpd,
        &users.imapd,
        &users.apid,
    ]
    .map(|name| name.as_str());
    let missing: Vec<_> = names
        .into_iter()
        .filter(|name| sys::user::find(name).is_err())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "these users are missing: {0}; make them first: for u in {0}; do \
         useradd --system --user-group --no-create-home --shell /usr/sbin/nologin $u; done",
        missing.join(" ")
    )))
}

fn full_host_name() -> Result<String, Error> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_err(|error| Error::failed("cannot read the host name", error))?;
    let name = name.trim().to_ascii_lowercase();
    if name.contains('.') {
        Ok(name)
    } else {
        Err(Error::Usage(format!(
            "this machine's name \"{name}\" has no domain; say --hostname mail.example.com"
        )))
    }
}

/// `mail.example.com` → `example.com`; a name of two labels is a domain itself.
fn parent_domain(hostname: &str) -> String {
    match hostname.split_once('.') {
        Some((_, rest)) if rest.contains('.') => rest.to_owned(),
        _ => hostname.to_owned(),
    }
}

/// The configuration with every key set, so that the file shows what there is.
fn first_config(
    hostname: &str,
    domain: &str,
    options: &InitOptions,
    cert: &Path,
    key: &Path,
) -> Result<Config, Error> {
    let small = json!({
        "version": 1, "hostname": hostname, "domains": [domain],
        "mail_root": options.mail_root, "run_dir": options.run_dir,
        "tls": {"cert_file": cert, "key_file": key},
    });
    let mut config: Config =
        serde_json::from_value(small).map_err(|error| Error::Usage(error.to_string()))?;
    if let Some(base) = options.base_port {
        if base == 0 || base > u16::MAX - 7 {
            return Err(Error::Usage(
                "--base-port must leave room for seven ports: 1 to 65528".into(),
            ));
        }
        let ports = Ports::from(base);
        ports.put_into(&mut config);
    }
    config.schema = Some("./config.schema.json".into());
    Ok(config)
}

/// The seven ports of a system.
#[derive(Debug, Clone, Copy)]
pub struct Ports(pub [u16; 7]);

impl Ports {
    /// Names, in the order of the numbers.
    pub const NAMES: [&'static str; 7] = [
        "smtp",
        "submission",
        "submissions",
        "imap",
        "imaps",
        "api",
        "apis",
    ];

    /// Writes them into a configuration.
    pub fn put_into(self, config: &mut Config) {
        let [smtp, submission, submissions, imap, imaps, api, apis] = self.0;
        (
            config.smtp.port,
            config.smtp.submission_port,
            config.smtp.smtps_port,
        ) = (smtp, submission, submissions);
        (config.imap.port, config.imap.imaps_port) = (imap, imaps);
        (config.exchange_api.port, config.exchange_api.secure_port) = (api, apis);
    }
}

impl From<u16> for Ports {
    /// Seven consecutive ports from `base`, which is at most 65528.
    fn from(base: u16) -> Self {
        Self(std::array::from_fn(|offset| {
            base + u16::try_from(offset).unwrap_or(0)
        }))
    }
}

/// Writes the configuration and reads it back; what cannot be read does not stay.
fn write_checked(path: &Path, text: &str) -> Result<Config, Error> {
    // One that an interrupted init left.
    let _ = std::fs::remove_file(path);
    certificate::write_new(path, 0o644, text)?;
    let checked = Config::read(path);
    if checked.is_err() {
        let _ = std::fs::remove_file(path);
    }
    Ok(checked?)
}

/// Makes the directories of the state, each owned by the one daemon that may enter it.
///
/// # Errors
/// When one cannot be made.
pub fn make_state(config: &Config, config_file: &Path) -> Result<(), Error> {
    make_directory(&config.mail_root, 0o755)?;
    let plan = plan::make(config, config_file, sys::user::is_root())?;
    for daemon in &plan.daemons {
        for own in daemon.binds.iter().filter(|bind| bind.writable) {
            make_directory(&own.path, 0o700)?;
            if sys::user::is_root() {
                chown(&own.path, Some(daemon.uid), Some(daemon.gid))
                    .map_err(|error| Error::failed(own.path.display(), error))?;
            }
        }
    }
    Ok(())
}

fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| {
            Error::failed(
                format_args!("cannot make the directory {}", path.display()),
                error,
            )
        })
}

/// Runs the system for a moment without its network ports, and has deliverd make the first domain and user.
async fn first_user(
    config: &Config,
    config_file: &Path,
    domain: &str,
    address: &str,
    password: &Secret,
) -> Result<(), Error> {
    let home = tempfile::Builder::new().prefix("rmail-init-").tempdir()?;
    // Other users of the system must reach their sockets in it.
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755))?;
    let mut quiet = config.clone();
    Ports([0; 7]).put_into(&mut quiet);
    quiet.run_dir = home.path().join("run");
    let quiet_file = home
        .path()
        .join(config_file.file_name().unwrap_or("config.json".as_ref()));
    let text =
        serde_json::to_string_pretty(&quiet).map_err(|error| Error::Failed(error.to_string()))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&quiet_file)?;
    file.write_all(text.as_bytes())?;
    let log: PathBuf = home.path().join("log");
    let mut system = System::start(&quiet_file, home.path(), &log).await?;
    let store = Store::of(&quiet);
    let made = tokio::select! {
        made = make_first(&store, domain, address, password) => made,
        over = system.interrupted() => over.and(Err(Error::interrupted())),
    };
    let stopped = system.stop().await;
    made.and(stopped)
}

async fn make_first(
    store: &Store,
    domain: &str,
    address: &str,
    password: &Secret,
) -> Result<(), Error> {
    user::make(store, address, password).await?;
    // RFC 5321 §4.5.1: mail for postmaster must be taken.
    if !address.eq_ignore_ascii_case(&format!("postmaster@{domain}")) {
        alias::add_postmaster(store, domain, address).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_is_the_host_name_without_its_first_label() {
        assert_eq!(parent_domain("mail.example.com"), "example.com");
        assert_eq!(parent_domain("example.com"), "example.com");
    }
}
