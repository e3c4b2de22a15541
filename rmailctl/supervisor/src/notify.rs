//! Readiness, by the protocol of `sd_notify(3)`: heard from the daemons, told to whoever started us.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use crate::listeners::clear_stale;

/// What a daemon tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// `READY=1`.
    pub(crate) ready: bool,
    /// `STOPPING=1`.
    pub(crate) stopping: bool,
}

/// The socket on which one daemon is heard.
#[derive(Debug)]
pub(crate) struct NotifySocket(UnixDatagram);

impl NotifySocket {
    /// Binds the file at `path`; only `uid` (and root) may write to it.
    pub(crate) fn bind(path: &Path, uid: u32) -> io::Result<Self> {
        clear_stale(path)?;
        let socket = UnixDatagram::bind(path)?;
        socket.set_nonblocking(true)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        if sys::user::is_root() {
            chown(path, Some(uid), None)?;
        }
        Ok(Self(socket))
    }

    /// All that was told since last time.
    pub(crate) fn hear(&self) -> io::Result<News> {
        let mut news = News::default();
        let mut buffer = [0; 4096];
        // A daemon that floods is heard again in the next round.
        for _ in 0..64 {
            match self.0.recv(&mut buffer) {
                Ok(count) => news.read(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(news)
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl News {
    fn read(&mut self, message: &[u8]) {
        for line in message.split(|byte| *byte == b'\n') {
            self.ready |= line == b"READY=1";
            self.stopping |= line == b"STOPPING=1";
        }
    }
}

/// Tells whoever started the supervisor, if they want to know.
pub(crate) fn tell(message: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match path.to_str().and_then(|path| path.strip_prefix('@')) {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_found_among_other_lines() {
        let mut news = News::default();
        news.read(b"STATUS=up\nREADY=1\n");
        assert_eq!(
            news,
            News {
                ready: true,
                stopping: false
            }
        );
        news.read(b"XREADY=1\nSTOPPING=1");
        assert!(news.stopping);
    }
}
