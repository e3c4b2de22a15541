//! All listening sockets, network and Unix: bound once, open as long as the supervisor lives, so that clients wait in the
//! backlog while a daemon is away.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use sys::packet::PacketListener;
use sys::plan::{Address, Plan, Socket};

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
            if let Address::Packet { path, .. } = &socket.address {
                remove(path);
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
        Address::Packet { path, uid, gid, mode } => bind_packet(path, *uid, *gid, *mode)
            .map_err(|error| Failure::system(format!("cannot bind {} for {}", path.display(), socket.owner), &error)),
    }
}

/// Binds a socket file that only its owner (and `mode`) may connect to. What a dead supervisor left is replaced: a living one
/// would hold the lock of the directory.
fn bind_packet(path: &PathBuf, uid: u32, gid: u32, mode: u32) -> io::Result<OwnedFd> {
    clear_stale(path)?;
    let listener = PacketListener::bind(path)?;
    // The mask of the process has left 0600 at most until here, and the mode is set before the file is given away.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if sys::user::is_root() {
        chown(path, Some(uid), Some(gid))?;
    }
    Ok(listener.into())
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
