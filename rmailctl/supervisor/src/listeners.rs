//! All listening sockets, network and Unix: bound once, open as long as the supervisor lives, so that clients wait in the
//! backlog while a daemon is away.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;

use sys::packet::PacketListener;
use sys::plan::{Address, Plan, Socket, SocketFile};

use crate::directory::remove;
use crate::failure::{Failure, PERMISSION, SYSTEM};

/// The bound sockets.
#[derive(Debug)]
pub(crate) struct Listeners {
    bound: Vec<(Socket, OwnedFd)>,
}

impl Listeners {
    /// Binds all, or none: what was bound before a failure is closed and removed again.
    pub(crate) fn bind(plan: &Plan) -> Result<Self, Failure> {
        let mut listeners = Self { bound: Vec::new() };
        for socket in &plan.sockets {
            match bind(socket) {
                Ok(fd) => listeners.bound.push((socket.clone(), fd)),
                Err(failure) => {
                    listeners.remove();
                    return Err(failure);
                }
            }
        }
        Ok(listeners)
    }

    /// The descriptors of one daemon with their names.
    pub(crate) fn of<'a>(&'a self, daemon: &str) -> Vec<(&'a str, BorrowedFd<'a>)> {
        self.bound
            .iter()
            .filter(|(socket, _)| socket.owner == daemon)
            .map(|(socket, fd)| (socket.name.as_str(), fd.as_fd()))
            .collect()
    }

    /// Removes the socket files.
    pub(crate) fn remove(&self) {
        for (socket, _) in &self.bound {
            if let Some(file) = socket.address.file() {
                remove(&file.path);
            }
        }
    }
}

fn bind(socket: &Socket) -> Result<OwnedFd, Failure> {
    match &socket.address {
        Address::Tcp(address) => sys::socket::listen_tcp(*address).map_err(|error| {
            let what = format!("cannot listen on {address} for {} ({})", socket.owner, socket.name);
            let (status, advice) = match error.kind() {
                ErrorKind::AddrInUse => (
                    SYSTEM,
                    format!("another program listens there; find it with 'ss -ltnp sport = :{}' and stop it, or set another port", address.port()),
                ),
                ErrorKind::PermissionDenied => {
                    (PERMISSION, "ports below 1024 need root: start rmaild as root, or set a port above 1023".into())
                }
                ErrorKind::AddrNotAvailable => (SYSTEM, "this machine has no such address; set one it has".into()),
                _ => (SYSTEM, "set another address or port in the configuration".into()),
            };
            Failure { status, text: format!("{what}: {error}; {advice}") }
        }),
        Address::Packet(file) => bind_file(file, socket, |path| PacketListener::bind(path).map(Into::into)),
        Address::Stream(file) => bind_file(file, socket, |path| UnixListener::bind(path).map(Into::into)),
    }
}

/// Binds a socket file that only those may connect to whom its owner, group and mode name. What a dead supervisor left is
/// replaced: a living one would hold the lock of the directory.
fn bind_file(
    file: &SocketFile,
    socket: &Socket,
    bind: impl FnOnce(&Path) -> io::Result<OwnedFd>,
) -> Result<OwnedFd, Failure> {
    let SocketFile {
        path,
        uid,
        gid,
        mode,
    } = file;
    let bound = || {
        clear_stale(path)?;
        let listener = bind(path)?;
        // The mask of the process has left 0600 at most until here, and the mode is set before the file is given away.
        fs::set_permissions(path, fs::Permissions::from_mode(*mode))?;
        if sys::user::is_root() {
            chown(path, Some(*uid), Some(*gid))?;
        }
        Ok(listener)
    };
    bound().map_err(|error: io::Error| {
        Failure::system(
            format!("cannot bind {} for {}", path.display(), socket.owner),
            &error,
        )
    })
}

/// Removes a socket file nobody serves; anything else at its place stays.
pub(crate) fn clear_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            ErrorKind::AlreadyExists,
            "something that is not a socket is in the way",
        )),
    }
}
