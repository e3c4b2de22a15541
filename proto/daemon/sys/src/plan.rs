//! The launch plan: all the supervisor knows of the configuration, as text that needs no parser worth attacking.
//!
//! `rmailctl config plan` writes it, `rmaild` reads it. One fact a line, fields separated by one space, odd bytes
//! percent-escaped:
//!
//! ```text
//! rmail-plan 1
//! run_dir /run/rmail
//! daemon smtpd /usr/lib/rmail/smtpd /etc/rmail/config.json 990 990 jail offline 65536
//! bind deliverd rw /var/lib/rmail/store
//! credential smtpd tls.key /etc/rmail/tls/key.pem
//! socket smtp smtpd tcp 0.0.0.0:25
//! socket smtpd deliverd packet /run/rmail/deliverd-smtpd.sock 990 990 600
//! socket lmtp-local smtpd stream /run/rmail/lmtp.sock 102 0 600
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// A longer plan is refused.
pub const MAX_BYTES: usize = 64 * 1024;
const HEADER: &str = "rmail-plan 1";
const MAX_LINES: usize = 512;
const MAX_NAME: usize = 32;
/// Linux limits a Unix socket's path to 107 bytes.
const MAX_SOCKET_PATH: usize = 107;

/// What to bind and what to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Directory of the sockets between the daemons, of pid files and credentials.
    pub run_dir: PathBuf,
    /// The processes.
    pub daemons: Vec<Daemon>,
    /// The listening sockets; a name may occur several times (one per address).
    pub sockets: Vec<Socket>,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// `smtpd`, `imapd`, ….
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its only argument.
    pub config: PathBuf,
    /// User it runs as; only used when the supervisor is root.
    pub uid: u32,
    /// Its only group.
    pub gid: u32,
    /// Whether it gets namespaces and an empty root; only used when the supervisor is root.
    pub jail: bool,
    /// Whether it keeps the network.
    pub network: bool,
    /// `RLIMIT_NOFILE`.
    pub nofile: u64,
    /// What else of the file system it sees.
    pub binds: Vec<Bind>,
    /// Files copied to its credentials directory.
    pub credentials: Vec<Credential>,
}

/// A file or directory a jailed daemon sees, at the same path as outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Absolute path.
    pub path: PathBuf,
    /// A directory of its own, owned by its user; otherwise read-only and left out if it does not exist.
    pub writable: bool,
}

/// A file that only the supervisor can read, copied for one daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// File name in `CREDENTIALS_DIRECTORY`.
    pub name: String,
    /// Where it is copied from.
    pub source: PathBuf,
}

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Name in `LISTEN_FDNAMES`.
    pub name: String,
    /// The daemon that accepts on it.
    pub owner: String,
    /// Where it listens.
    pub address: Address,
}

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A network port. `[::]` takes IPv6 only: name `0.0.0.0` on a line of its own.
    Tcp(SocketAddr),
    /// A Unix packet socket in the run directory, for our own daemons.
    Packet(SocketFile),
    /// A Unix stream socket in the run directory, for other programs of this machine.
    Stream(SocketFile),
}

/// A Unix socket's file, and who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFile {
    /// The file, directly in the run directory.
    pub path: PathBuf,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its mode, for example `0o600`.
    pub mode: u32,
}

impl Address {
    /// Its file, unless it is a network port.
    #[must_use]
    pub fn file(&self) -> Option<&SocketFile> {
        match self {
            Self::Tcp(_) => None,
            Self::Packet(file) | Self::Stream(file) => Some(file),
        }
    }
}

/// Why a plan is refused, and at which line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the launch plan: {reason}")]
pub struct PlanError {
    /// Counted from 1; 0 for the whole.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

impl Plan {
    /// Reads a plan strictly.
    ///
    /// # Errors
    /// [`PlanError`] names the first line that is not as it should be.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let whole = |reason: &str| PlanError {
            line: 0,
            reason: reason.into(),
        };
        if text.len() > MAX_BYTES || text.lines().count() > MAX_LINES {
            return Err(whole("too long"));
        }
        let mut lines = text.lines().zip(1..);
        if lines.next().map(|(line, _)| line) != Some(HEADER) {
            return Err(PlanError {
                line: 1,
                reason: format!(
                    "must be {HEADER:?}; rmailctl and rmaild are of different versions"
                ),
            });
        }
        let mut plan = Self {
            run_dir: PathBuf::new(),
            daemons: Vec::new(),
            sockets: Vec::new(),
        };
        for (text, line) in lines {
            plan.take(text)
                .map_err(|reason| PlanError { line, reason })?;
        }
        if plan.run_dir.as_os_str().is_empty() {
            return Err(whole("no run_dir"));
        }
        if plan.daemons.is_empty() {
            return Err(whole("no daemon"));
        }
        plan.check()
            .map_err(|reason| PlanError { line: 0, reason })?;
        Ok(plan)
    }

    /// Takes one line.
    fn take(&mut self, line: &str) -> Result<(), String> {
        let fields: Vec<&str> = line.split(' ').collect();
        match fields.as_slice() {
            ["run_dir", path] if self.run_dir.as_os_str().is_empty() => {
                self.run_dir = absolute(path)?
            }
            [
                "daemon",
                name,
                program,
                config,
                uid,
                gid,
                jail,
                network,
                nofile,
            ] => {
                if self.daemons.iter().any(|daemon| daemon.name == *name) {
                    return Err(format!("daemon {name} twice"));
                }
                self.daemons.push(Daemon {
                    name: identifier(name)?,
                    program: absolute(program)?,
                    config: absolute(config)?,
                    uid: id(uid)?,
                    gid: id(gid)?,
                    jail: either(jail, "jail", "open")?,
                    network: either(network, "network", "offline")?,
                    nofile: number(nofile)?,
                    binds: Vec::new(),
                    credentials: Vec::new(),
                });
            }
            ["bind", name, access, path] => {
                let bind = Bind {
                    path: absolute(path)?,
                    writable: either(access, "rw", "ro")?,
                };
                self.daemon(name)?.binds.push(bind);
            }
            ["credential", name, credential, source] => {
                let credential = Credential {
                    name: identifier(credential)?,
                    source: absolute(source)?,
                };
                self.daemon(name)?.credentials.push(credential);
            }
            ["socket", name, owner, "tcp", address] => {
                let address = address
                    .parse()
                    .map_err(|_| format!("{address} is not ADDRESS:PORT"))?;
                self.add_socket(name, owner, Address::Tcp(address))?;
            }
            ["socket", name, owner, "packet", path, uid, gid, mode] => {
                let file = socket_file(path, uid, gid, mode)?;
                self.add_socket(name, owner, Address::Packet(file))?;
            }
            ["socket", name, owner, "stream", path, uid, gid, mode] => {
                let file = socket_file(path, uid, gid, mode)?;
                self.add_socket(name, owner, Address::Stream(file))?;
            }
            _ => return Err(format!("not understood: {line:.80}")),
        }
        Ok(())
    }

    /// The daemon of that name, which must stand above.
    fn daemon(&mut self, name: &str) -> Result<&mut Daemon, String> {
        self.daemons
            .iter_mut()
            .find(|daemon| daemon.name == name)
            .ok_or_else(|| format!("no daemon {name} above"))
    }

    fn add_socket(&mut self, name: &str, owner: &str, address: Address) -> Result<(), String> {
        let owner = self.daemon(owner)?.name.clone();
        self.sockets.push(Socket {
            name: identifier(name)?,
            owner,
            address,
        });
        Ok(())
    }

    /// What no single line shows.
    fn check(&self) -> Result<(), String> {
        for socket in &self.sockets {
            if let Some(SocketFile { path, .. }) = socket.address.file()
                && path.parent() != Some(&self.run_dir)
            {
                return Err(format!(
                    "socket {} is not directly in {}",
                    path.display(),
                    self.run_dir.display()
                ));
            }
        }
        Ok(())
    }
}

/// The text that [`Plan::parse`] reads.
impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{HEADER}\nrun_dir {}", Escaped(&self.run_dir))?;
        for daemon in &self.daemons {
            let Daemon {
                name,
                program,
                config,
                uid,
                gid,
                jail,
                network,
                nofile,
                binds,
                credentials,
            } = daemon;
            let jail = if *jail { "jail" } else { "open" };
            let network = if *network { "network" } else { "offline" };
            writeln!(
                out,
                "daemon {name} {} {} {uid} {gid} {jail} {network} {nofile}",
                Escaped(program),
                Escaped(config)
            )?;
            for bind in binds {
                writeln!(
                    out,
                    "bind {name} {} {}",
                    if bind.writable { "rw" } else { "ro" },
                    Escaped(&bind.path)
                )?;
            }
            for credential in credentials {
                writeln!(
                    out,
                    "credential {name} {} {}",
                    credential.name,
                    Escaped(&credential.source)
                )?;
            }
        }
        for Socket {
            name,
            owner,
            address,
        } in &self.sockets
        {
            let (kind, file) = match address {
                Address::Tcp(address) => {
                    writeln!(out, "socket {name} {owner} tcp {address}")?;
                    continue;
                }
                Address::Packet(file) => ("packet", file),
                Address::Stream(file) => ("stream", file),
            };
            let SocketFile {
                path,
                uid,
                gid,
                mode,
            } = file;
            let path = Escaped(path);
            writeln!(
                out,
                "socket {name} {owner} {kind} {path} {uid} {gid} {mode:o}"
            )?;
        }
        Ok(())
    }
}

/// A path with every byte that could be mistaken for something else written as `%XX`.
struct Escaped<'a>(&'a Path);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0.as_os_str().as_bytes() {
            match byte {
                b'a'..=b'z'
                | b'A'..=b'Z'
                | b'0'..=b'9'
                | b'/'
                | b'.'
                | b'_'
                | b'-'
                | b'+'
                | b','
                | b'@' => {
                    write!(out, "{}", char::from(byte))?;
                }
                _ => write!(out, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

fn socket_file(path: &str, uid: &str, gid: &str, mode: &str) -> Result<SocketFile, String> {
    let mode = u32::from_str_radix(mode, 8)
        .ok()
        .filter(|mode| *mode <= 0o777);
    let mode = mode.ok_or("the mode is not octal, or more than 777")?;
    let path = absolute(path)?;
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(format!(
            "{} is longer than the {MAX_SOCKET_PATH} bytes of a socket's path",
            path.display()
        ));
    }
    Ok(SocketFile {
        path,
        uid: id(uid)?,
        gid: id(gid)?,
        mode,
    })
}

/// An absolute path without `.` or `..` or NUL, its escapes undone.
fn absolute(field: &str) -> Result<PathBuf, String> {
    let wrong = || format!("{field:.80} is not an absolute, escaped path");
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else {
            return Err(wrong());
        };
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
                .ok_or_else(wrong)
        };
        bytes.push(digit(*high)? << 4 | digit(*low)?);
        rest = after;
    }
    let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || path.as_os_str().as_bytes().contains(&0) {
        return Err(wrong());
    }
    Ok(path)
}

/// A name that may become a file name and a word in `LISTEN_FDNAMES`.
fn identifier(field: &str) -> Result<String, String> {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
    };
    if field.is_empty()
        || field.len() > MAX_NAME
        || field.starts_with('.')
        || !field.bytes().all(allowed)
    {
        return Err(format!(
            "{field:.80} is not a name (a-z, 0-9, '.', '_', '-', at most {MAX_NAME})"
        ));
    }
    Ok(field.into())
}

fn number<N: std::str::FromStr>(field: &str) -> Result<N, String> {
    field
        .parse()
        .map_err(|_| format!("{field:.80} is not a number in range"))
}

/// A user or group. The highest number is none: to setresuid(2) and chown(2) it means "leave it as it is".
fn id(field: &str) -> Result<u32, String> {
    match number(field)? {
        u32::MAX => Err(format!("{field} is no user or group")),
        id => Ok(id),
    }
}

fn either(field: &str, yes: &str, no: &str) -> Result<bool, String> {
    match field {
        _ if field == yes => Ok(true),
        _ if field == no => Ok(false),
        _ => Err(format!("{field:.80} is neither {yes} nor {no}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Plan {
        let daemon = |name: &str| Daemon {
            name: name.into(),
            program: format!("/usr/lib/rmail/{name}").into(),
            config: "/etc/rmail/über config.json".into(),
            uid: 990,
            gid: 991,
            jail: true,
            network: false,
            nofile: 65536,
            binds: vec![Bind {
                path: "/var/lib/rmail/100%\n".into(),
                writable: true,
            }],
            credentials: vec![Credential {
                name: "tls.key".into(),
                source: "/etc/rmail/key.pem".into(),
            }],
        };
        Plan {
            run_dir: "/run/rmail".into(),
            daemons: vec![daemon("deliverd"), daemon("smtpd")],
            sockets: vec![
                Socket {
                    name: "smtp".into(),
                    owner: "smtpd".into(),
                    address: Address::Tcp("[::]:25".parse().unwrap()),
                },
                Socket {
                    name: "smtpd".into(),
                    owner: "deliverd".into(),
                    address: Address::Packet(SocketFile {
                        path: "/run/rmail/d.sock".into(),
                        uid: 990,
                        gid: 0,
                        mode: 0o660,
                    }),
                },
                Socket {
                    name: "lmtp-local".into(),
                    owner: "smtpd".into(),
                    address: Address::Stream(SocketFile {
                        path: "/run/rmail/l.sock".into(),
                        uid: 102,
                        gid: 0,
                        mode: 0o600,
                    }),
                },
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(Plan::parse(&sample().to_string()), Ok(sample()));
    }

    #[test]
    fn every_error_names_its_line() {
        for (line, wrong) in [
            "bind nobody rw /x",
            "bind smtpd rx /x",
            "bind smtpd rw x",
            "bind smtpd rw /x/../y",
            "bind smtpd rw /x%0",
            "bind smtpd rw /x%00",
            "daemon smtpd /x /y 1 1 jail offline 1",
            "daemon other /x /y -1 1 jail offline 1",
            "daemon other /x /y 4294967295 1 jail offline 1",
            "daemon other /x /y 1 4294967295 jail offline 1",
            "socket x smtpd packet /run/rmail/x 4294967295 0 600",
            "socket smtp smtpd tcp localhost:25",
            "socket smtp smtpd packet /run/rmail/x 0 0 1777",
            "socket sm:tp smtpd tcp 0.0.0.0:25",
            "credential smtpd ../x /y",
            "run_dir /second",
            "surprise",
            "",
        ]
        .iter()
        .enumerate()
        {
            let text = format!("{}{wrong}\n", sample());
            let at = text.lines().count();
            assert_eq!(
                Plan::parse(&text).unwrap_err().line,
                at,
                "case {line}: {wrong}"
            );
        }
    }

    #[test]
    fn another_version_is_refused() {
        assert_eq!(Plan::parse("rmail-plan 2\n").unwrap_err().line, 1);
    }

    #[test]
    fn a_socket_outside_the_run_directory_is_refused() {
        for kind in ["packet", "stream"] {
            let text = format!("{}socket x smtpd {kind} /etc/x 0 0 600\n", sample());
            let reason = Plan::parse(&text).unwrap_err().reason;
            assert!(reason.contains("not directly in"), "{kind}: {reason}");
        }
    }

    #[test]
    fn a_flood_is_refused() {
        assert!(Plan::parse(&"x".repeat(MAX_BYTES + 1)).is_err());
    }
}
