//! The demo's home: configuration, certificate, state and log in one directory.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use daemon::config::Config;
use serde_json::json;
use tempfile::TempDir;

use super::outside::Outside;
use crate::cli::DemoOptions;
use crate::init::{Ports, make_state};
use crate::{Error, certificate};

/// Where everything listens.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Users of the daemons when the demo is run as root: numbers that need no entry in the user database.
const FIRST_UID: u32 = 64_101;

/// Where the demo lives.
pub(super) struct Home {
    pub(super) directory: PathBuf,
    pub(super) config: Config,
    pub(super) config_file: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) log: PathBuf,
    pub(super) ports: Ports,
    /// Removed at the end, unless the home is to be kept.
    temporary: Option<TempDir>,
}

impl Home {
    pub(super) fn make(options: &DemoOptions, outside: &Outside) -> Result<Self, Error> {
        let (directory, temporary) = match &options.root {
            Some(root) => {
                std::fs::create_dir_all(root)
                    .map_err(|error| Error::failed(root.display(), error))?;
                (std::fs::canonicalize(root)?, None)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("rmail-demo-").tempdir()?;
                // As root the daemons have users of their own, who must reach their sockets in it.
                std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o755))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let ports = ports(options.base_port)?;
        let config_file = directory.join("config.json");
        let config = config(options, &directory, ports, outside)?;
        let text = serde_json::to_string_pretty(&config)
            .map_err(|error| Error::Failed(error.to_string()))?;
        std::fs::write(&config_file, text + "\n")
            .map_err(|error| Error::failed(config_file.display(), error))?;
        let config = Config::read(&config_file)?;
        let (cert, key) = (config.tls.cert_file.clone(), config.tls.key_file.clone());
        if !(cert.exists() && key.exists()) {
            certificate::write_self_signed(
                &[
                    "localhost".into(),
                    HOST.to_string(),
                    config.hostname.as_str().into(),
                ],
                &cert,
                &key,
            )?;
        }
        make_state(&config, &config_file)?;
        let log = directory.join("log");
        Ok(Self {
            directory,
            config,
            config_file,
            certificate: cert,
            log,
            ports,
            temporary,
        })
    }

    /// Removes a temporary home.
    pub(super) fn leave(self) -> Result<(), Error> {
        match self.temporary {
            Some(temporary) => temporary
                .close()
                .map_err(|error| Error::failed("cannot remove the temporary home", error)),
            None => Ok(()),
        }
    }
}

/// Seven ports: consecutive from `base`, or free ones.
fn ports(base: Option<u16>) -> Result<Ports, Error> {
    match base {
        Some(base) if base > 0 && base <= u16::MAX - 7 => Ok(Ports::from(base)),
        Some(_) => Err(Error::Usage(
            "--base-port must leave room for seven ports: 1 to 65528".into(),
        )),
        None => {
            // All are held until the last is found, so that they differ.
            let held: Vec<TcpListener> = (0..7)
                .map(|_| TcpListener::bind((HOST, 0)))
                .collect::<Result<_, _>>()?;
            let mut ports = [0; 7];
            for (port, listener) in ports.iter_mut().zip(&held) {
                *port = listener.local_addr()?.port();
            }
            Ok(Ports(ports))
        }
    }
}

fn config(
    options: &DemoOptions,
    directory: &Path,
    ports: Ports,
    outside: &Outside,
) -> Result<Config, Error> {
    let host = IpAddr::V4(HOST);
    let uid = |offset: u32| FIRST_UID + offset;
    let value = json!({
        "version": 1,
        "hostname": format!("mail.{}", options.domain),
        "domains": [options.domain],
        "mail_root": directory.join("mail"),
        "run_dir": directory.join("run"),
        "users": {"deliverd": uid(0), "relayd": uid(1), "smtpd": uid(2), "imapd": uid(3), "apid": uid(4), "keyd": uid(5)},
        "tls": {"cert_file": directory.join("tls/cert.pem"), "key_file": directory.join("tls/key.pem")},
        "smtp": {"host": host, "cleartext_auth_on_loopback": true},
        "imap": {"host": host, "cleartext_login_on_loopback": true},
        "exchange_api": {"host": host},
        "relay": {"port": outside.smtp.port(), "dns": [outside.dns.to_string()]},
    });
    let mut config: Config =
        serde_json::from_value(value).map_err(|error| Error::Usage(error.to_string()))?;
    ports.put_into(&mut config);
    if options.no_limits {
        config.limits.connections_per_address = 0;
        config.limits.auth_failures = 0;
        config.limits.auth_failures_per_network = 0;
    }
    if let Some(smarthost) = &options.smarthost {
        let wrong = || Error::Usage(format!("\"{smarthost}\" is not HOST:PORT"));
        let (host, port) = smarthost.rsplit_once(':').ok_or_else(wrong)?;
        config.relay.smarthost = Some(host.to_owned().try_into().map_err(Error::Usage)?);
        config.relay.smarthost_port = port.parse().map_err(|_| wrong())?;
    }
    Ok(config)
}
