//! Listening network sockets, bound by the supervisor for others.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

/// Connections that may wait while a daemon is being restarted.
const BACKLOG: i32 = 1024;

/// Binds a TCP port and listens, non-blocking and close-on-exec. An IPv6 address takes IPv6 only.
///
/// # Errors
/// What `bind(2)` and `listen(2)` say.
pub fn listen_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let fd = socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    bind(&fd, &address)?;
    listen(&fd, BACKLOG)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_cannot_be_bound_twice() {
        let first =
            std::net::TcpListener::from(listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap());
        let again = listen_tcp(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }
}
