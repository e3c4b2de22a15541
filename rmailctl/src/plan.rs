//! From the configuration to the launch plan that the supervisor reads.
//!
//! The supervisor is root and parses nothing a person wrote: it runs `rmailctl config plan` as an unprivileged child.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use daemon::config::{Config, FilterAddress, UserName};
use sys::plan::{Address, Bind, Credential, Daemon, Plan, Socket, SocketFile};
use sys::user::{self, Identity};

use crate::Error;
use crate::program;

/// A daemon of the system: what the plan needs to know of it beside its user.
struct Role {
    name: &'static str,
    /// Whether it keeps the network of the host (only relayd connects out).
    network: bool,
    nofile: u64,
    /// Whether it is needed even if it has no port of its own: others ask it.
    needed: bool,
    /// Whom it hears over a socket of its own: the names in `LISTEN_FDNAMES`.
    askers: &'static [&'static str],
    tls: bool,
}

const ROLES: [Role; 6] = [
    Role {
        name: "keyd",
        network: false,
        nofile: 1024,
        needed: true,
        askers: &["relayd", "ctl"],
        tls: false,
    },
    Role {
        name: "deliverd",
        network: false,
        nofile: 65_536,
        needed: true,
        askers: &["smtpd", "imapd", "apid", "relayd", "ctl"],
        tls: false,
    },
    Role {
        name: "relayd",
        network: true,
        nofile: 65_536,
        needed: true,
        askers: &["smtpd", "ctl"],
        tls: false,
    },
    Role {
        name: "smtpd",
        network: false,
        nofile: 65_536,
        needed: false,
        askers: &["ctl"],
        tls: true,
    },
    Role {
        name: "imapd",
        network: false,
        nofile: 262_144,
        needed: false,
        askers: &[],
        tls: true,
    },
    Role {
        name: "apid",
        network: false,
        nofile: 65_536,
        needed: false,
        askers: &[],
        tls: true,
    },
];

/// Prints the plan of the configuration at `path`.
///
/// # Errors
/// When the configuration or a user in it cannot be used.
pub fn print(path: &Path, separate: bool) -> Result<(), Error> {
    let path = std::path::absolute(path)?;
    let config = Config::read(&path)?;
    print!("{}", make(&config, &path, separate)?);
    Ok(())
}

/// Says whether the configuration at `path` can be used.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path) -> Result<(), Error> {
    let path = std::path::absolute(path)?;
    make(&Config::read(&path)?, &path, user::is_root())?;
    println!("{}: good", path.display());
    Ok(())
}

/// The plan of a configuration that was read from `path`. With `separate` each daemon gets its own user (the supervisor is
/// root), without it all are the caller.
///
/// # Errors
/// When a user does not exist.
pub fn make(config: &Config, path: &Path, separate: bool) -> Result<Plan, Error> {
    let mut plan = Plan {
        run_dir: config.run_dir.clone(),
        daemons: Vec::new(),
        sockets: Vec::new(),
    };
    for role in &ROLES {
        let network = network_sockets(config, role.name);
        // A protocol whose every port is switched off needs no process.
        let local = local_socket(config, role.name, separate)?;
        if !role.needed && network.is_empty() && local.is_none() {
            continue;
        }
        let who = identity(config, role.name, separate)?;
        plan.daemons.push(Daemon {
            name: role.name.into(),
            program: program::path(role.name)?,
            config: path.to_owned(),
            uid: who.uid,
            gid: who.gid,
            jail: true,
            network: role.network,
            nofile: role.nofile,
            binds: binds(config, role.name),
            credentials: credentials(config, role),
        });
        plan.sockets
            .extend(network.into_iter().map(|(name, address)| Socket {
                name: name.into(),
                owner: role.name.into(),
                address: Address::Tcp(address),
            }));
        plan.sockets.extend(local);
        for asker in role.askers {
            let (Identity { uid, gid }, mode) = asker_identity(config, asker, separate)?;
            plan.sockets.push(Socket {
                name: (*asker).into(),
                owner: role.name.into(),
                address: Address::Packet(SocketFile {
                    path: config.ipc_socket(role.name, asker),
                    uid,
                    gid,
                    mode,
                }),
            });
        }
    }
    if separate {
        refuse_shared_users(&plan)?;
    }
    Ok(plan)
}

/// Two daemons with one user or one group could use each other's sockets and files.
fn refuse_shared_users(plan: &Plan) -> Result<(), Error> {
    for (index, one) in plan.daemons.iter().enumerate() {
        let twin = plan.daemons[..index]
            .iter()
            .find(|other| other.uid == one.uid || other.gid == one.gid);
        if let Some(other) = twin {
            return Err(Error::Failed(format!(
                "users.{} and users.{} share a user or group (uid {}, gid {}): give each daemon its own",
                other.name, one.name, one.uid, one.gid
            )));
        }
    }
    Ok(())
}

fn identity(config: &Config, daemon: &str, separate: bool) -> Result<Identity, Error> {
    if !separate {
        return Ok(user::myself());
    }
    let (key, name): (_, &UserName) = match daemon {
        "smtpd" => ("users.smtpd", &config.users.smtpd),
        "imapd" => ("users.imapd", &config.users.imapd),
        "apid" => ("users.apid", &config.users.apid),
        "relayd" => ("users.relayd", &config.users.relayd),
        "keyd" => ("users.keyd", &config.users.keyd),
        _ => ("users.deliverd", &config.users.deliverd),
    };
    user::find(name.as_str()).map_err(|error| {
        Error::Failed(format!(
            "{key}: user \"{0}\" cannot be used: {error}; make it with: useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {0}",
            name.as_str()
        ))
    })
}

/// Who may connect to the socket of an asker, and its mode: the file belongs to root and to the asker's group.
fn asker_identity(config: &Config, asker: &str, separate: bool) -> Result<(Identity, u32), Error> {
    if !separate {
        return Ok((user::myself(), 0o600));
    }
    if asker == "ctl" {
        return Ok((Identity { uid: 0, gid: 0 }, 0o600));
    }
    let gid = identity(config, asker, separate)?.gid;
    Ok((Identity { uid: 0, gid }, 0o660))
}

/// The socket for LMTP from programs of this machine.
fn local_socket(config: &Config, daemon: &str, separate: bool) -> Result<Option<Socket>, Error> {
    let (Some(name), "smtpd") = (&config.smtp.lmtp_socket_user, daemon) else {
        return Ok(None);
    };
    let owner = match separate {
        true => user::find(name.as_str()).map_err(|error| {
            Error::Failed(format!(
                "smtp.lmtp_socket_user: user \"{}\" cannot be used: {error}; name the user of the program that brings mail",
                name.as_str()
            ))
        })?,
        false => user::myself(),
    };
    Ok(Some(Socket {
        name: "lmtp-local".into(),
        owner: daemon.into(),
        address: Address::Stream(SocketFile {
            path: config.lmtp_socket(),
            uid: owner.uid,
            gid: owner.gid,
            mode: 0o600,
        }),
    }))
}

fn network_sockets(config: &Config, daemon: &str) -> Vec<(&'static str, SocketAddr)> {
    let (host, ports): (IpAddr, Vec<(&'static str, u16)>) = match daemon {
        "smtpd" => {
            let smtp = &config.smtp;
            (
                smtp.host,
                vec![
                    ("smtp", smtp.port),
                    ("submission", smtp.submission_port),
                    ("submissions", smtp.smtps_port),
                ],
            )
        }
        "imapd" => (
            config.imap.host,
            vec![
                ("imap", config.imap.port),
                ("imaps", config.imap.imaps_port),
            ],
        ),
        "apid" => {
            let api = &config.exchange_api;
            (api.host, vec![("api", api.port), ("apis", api.secure_port)])
        }
        _ => return Vec::new(),
    };
    let mut all: Vec<_> = ports
        .into_iter()
        .map(|(name, port)| (name, host, port))
        .collect();
    if daemon == "smtpd" {
        all.push(("lmtp", config.smtp.lmtp_host, config.smtp.lmtp_port));
    }
    let open = all.into_iter().filter(|(_, _, port)| *port != 0);
    open.flat_map(|(name, host, port)| {
        let hosts = addresses(host).into_iter();
        hosts.map(move |host| (name, SocketAddr::new(host, port)))
    })
    .collect()
}

/// `::` means every address there is: IPv6 on machines that have it, and IPv4.
fn addresses(host: IpAddr) -> Vec<IpAddr> {
    if host != IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        return vec![host];
    }
    let v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    if Path::new("/proc/net/if_inet6").exists() {
        vec![host, v4]
    } else {
        vec![v4]
    }
}

fn binds(config: &Config, daemon: &str) -> Vec<Bind> {
    let own = |path: PathBuf| Bind {
        path,
        writable: true,
    };
    let seen = |path: &str| Bind {
        path: path.into(),
        writable: false,
    };
    match daemon {
        "deliverd" => vec![own(config.store_dir())],
        "keyd" => vec![own(config.keys_dir())],
        "relayd" => {
            let mut binds = vec![
                own(config.queue_dir()),
                seen("/etc/resolv.conf"),
                seen("/etc/hosts"),
                seen("/etc/ssl/certs"),
                seen("/etc/pki/tls/certs"),
                seen("/usr/share/ca-certificates"),
                seen("/usr/local/share/ca-certificates"),
            ];
            binds.extend(filter_directories(config));
            binds
        }
        _ => Vec::new(),
    }
}

/// Where the sockets of filters are: the directories, because a filter makes its socket anew each time it starts.
fn filter_directories(config: &Config) -> Vec<Bind> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for filter in &config.smtp.filters {
        let FilterAddress::Unix(socket) = &filter.address else {
            continue;
        };
        let directory = socket.parent().unwrap_or(socket);
        if !paths.iter().any(|path| path == directory) {
            paths.push(directory.to_owned());
        }
    }
    let bind = |path| Bind {
        path,
        writable: false,
    };
    paths.into_iter().map(bind).collect()
}

fn credentials(config: &Config, role: &Role) -> Vec<Credential> {
    let one = |name: &str, source: &Path| Credential {
        name: name.into(),
        source: source.to_owned(),
    };
    let mut all = Vec::new();
    if role.tls {
        all.push(one("tls.crt", &config.tls.cert_file));
        all.push(one("tls.key", &config.tls.key_file));
    }
    // Who speaks to clients asks for certificates, who opens mail verifies them.
    let takes_certificates = matches!(role.name, "smtpd" | "imapd" | "deliverd");
    if let (true, Some(file)) = (takes_certificates, &config.tls.client_ca_file) {
        all.push(one("client-ca.crt", file));
    }
    if let (true, Some(file)) = (role.network, &config.relay.smarthost_password_file) {
        all.push(one("smarthost.password", file));
    }
    all
}
