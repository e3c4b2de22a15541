//! Packet sockets between processes: one packet is one frame with its descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// The kernel passes at most this many descriptors with one packet (`SCM_MAX_FD`).
pub const MAX_DESCRIPTORS: usize = 253;

/// A connected, non-blocking, close-on-exec `SOCK_SEQPACKET` Unix socket.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

/// One packet as received.
#[derive(Debug)]
pub struct Received {
    /// Bytes written into the caller's buffer; 0 means the peer closed its end.
    pub len: usize,
    /// Descriptors that came with the packet, close-on-exec, owned.
    pub fds: Vec<OwnedFd>,
    /// The packet was longer than the buffer, or descriptors were lost: the frame cannot be trusted.
    pub truncated: bool,
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

impl PacketSocket {
    /// Two connected sockets.
    ///
    /// # Errors
    /// What `socketpair(2)` says.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
        Ok((Self(a), Self(b)))
    }

    /// Connects to the socket file at `path`.
    ///
    /// # Errors
    /// What `connect(2)` says; `NotFound` or `ConnectionRefused` while the answering daemon has not bound it.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let fd = net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
        net::connect(&fd, &SocketAddrUnix::new(path)?)?;
        Ok(Self(fd))
    }

    /// Sends one packet with descriptors. Either all of it is taken or none.
    ///
    /// # Errors
    /// `WouldBlock` when the socket's buffer is full; `BrokenPipe` when the peer is gone; `InvalidInput` for more than
    /// [`MAX_DESCRIPTORS`] descriptors.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "too many descriptors for one packet",
            ));
        }
        net::sendmsg(
            &self.0,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        )?;
        Ok(())
    }

    /// Receives one packet into `buffer`.
    ///
    /// There is room for every descriptor the kernel can pass, so none is installed and lost.
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits; what `recvmsg(2)` says otherwise.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.recv_with(buffer, RecvFlags::DONTWAIT)
    }

    /// The same, but waits for a packet: after [`PacketSocket::let_wait`]. Of several threads that wait, one gets it.
    ///
    /// # Errors
    /// What `recvmsg(2)` says.
    pub fn recv_waiting(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.recv_with(buffer, RecvFlags::empty())
    }

    /// Lets [`PacketSocket::recv_waiting`] wait. The other functions do not wait.
    ///
    /// # Errors
    /// What `ioctl(2)` says.
    pub fn let_wait(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.0, false)?)
    }

    /// Takes no more packets: whoever waits for one, or asks for one that has not come yet, is told that the peer is gone. Packets can
    /// still be sent.
    ///
    /// # Errors
    /// What `shutdown(2)` says.
    pub fn end_receiving(&self) -> io::Result<()> {
        Ok(net::shutdown(&self.0, net::Shutdown::Read)?)
    }

    fn recv_with(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<Received> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = net::recvmsg(
            &self.0,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC | flags,
        )?;
        let fds = control
            .drain()
            .filter_map(|item| match item {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        let truncated = message
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
        Ok(Received {
            len: message.bytes,
            fds,
            truncated,
        })
    }
}

impl From<OwnedFd> for PacketSocket {
    /// Takes a descriptor that is a connected packet socket; it is made non-blocking (a failure shows at first use).
    fn from(fd: OwnedFd) -> Self {
        let _ = rustix::io::ioctl_fionbio(&fd, true);
        Self(fd)
    }
}

impl From<PacketSocket> for OwnedFd {
    fn from(socket: PacketSocket) -> Self {
        socket.0
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A listening `SOCK_SEQPACKET` Unix socket, non-blocking and close-on-exec.
#[derive(Debug)]
pub struct PacketListener(OwnedFd);

impl PacketListener {
    /// Binds a new socket file at `path` and listens. The file must not exist.
    ///
    /// # Errors
    /// What `bind(2)` and `listen(2)` say.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let fd = net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
        net::bind(&fd, &SocketAddrUnix::new(path)?)?;
        net::listen(&fd, 1024)?;
        Ok(Self(fd))
    }

    /// Takes the next connection.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; what `accept4(2)` says otherwise.
    pub fn accept(&self) -> io::Result<PacketSocket> {
        Ok(PacketSocket(net::accept_with(&self.0, FLAGS)?))
    }
}

impl From<OwnedFd> for PacketListener {
    /// Takes a listening packet socket that was inherited; it is made non-blocking (a failure shows at first use).
    fn from(fd: OwnedFd) -> Self {
        let _ = rustix::io::ioctl_fionbio(&fd, true);
        Self(fd)
    }
}

impl From<PacketListener> for OwnedFd {
    fn from(listener: PacketListener) -> Self {
        listener.0
    }
}

impl AsFd for PacketListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PacketListener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Two connected, non-blocking stream sockets, for message bodies.
///
/// # Errors
/// What `socketpair(2)` says.
pub fn stream_pair() -> io::Result<(UnixStream, UnixStream)> {
    let (a, b) = net::socketpair(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    Ok((a.into(), b.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_arrives_whole_with_its_descriptors() {
        let (a, b) = PacketSocket::pair().unwrap();
        let (file, _other) = stream_pair().unwrap();
        a.send(b"hello", &[file.as_fd(), file.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        let received = b.recv(&mut buffer).unwrap();
        assert_eq!(
            (
                &buffer[..received.len],
                received.fds.len(),
                received.truncated
            ),
            (&b"hello"[..], 2, false)
        );
    }

    #[test]
    fn a_packet_longer_than_the_buffer_is_marked() {
        let (a, b) = PacketSocket::pair().unwrap();
        a.send(&[0; 32], &[]).unwrap();
        assert!(b.recv(&mut [0; 16]).unwrap().truncated);
    }

    #[test]
    fn the_most_descriptors_a_packet_can_carry_arrive_and_none_leaks() {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let (a, b) = PacketSocket::pair().unwrap();
        let (file, _other) = stream_pair().unwrap();
        let before = open();
        let many = vec![file.as_fd(); MAX_DESCRIPTORS];
        a.send(b"x", &many).unwrap();
        let received = b.recv(&mut [0; 16]).unwrap();
        assert_eq!(received.fds.len(), MAX_DESCRIPTORS);
        drop(received);
        assert_eq!(open(), before);
    }

    #[test]
    fn one_descriptor_too_many_is_refused_by_the_sender() {
        let (a, _b) = PacketSocket::pair().unwrap();
        let many = vec![a.as_fd(); MAX_DESCRIPTORS + 1];
        assert_eq!(
            a.send(b"x", &many).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn a_closed_peer_reads_as_zero_bytes() {
        let (a, b) = PacketSocket::pair().unwrap();
        drop(a);
        assert_eq!(b.recv(&mut [0; 16]).unwrap().len, 0);
    }

    #[test]
    fn who_waits_for_a_packet_hears_that_none_is_taken_any_more() {
        let (a, b) = PacketSocket::pair().unwrap();
        b.let_wait().unwrap();
        std::thread::scope(|scope| {
            let waits = [(); 2].map(|()| scope.spawn(|| b.recv_waiting(&mut [0; 16]).unwrap().len));
            a.send(b"hello", &[]).unwrap();
            // One of them has it; the other one still waits, and nobody else would.
            while !waits.iter().any(std::thread::ScopedJoinHandle::is_finished) {
                std::thread::yield_now();
            }
            assert_eq!(
                b.recv(&mut [0; 16]).unwrap_err().kind(),
                io::ErrorKind::WouldBlock
            );
            b.end_receiving().unwrap();
            let mut heard = waits.map(|wait| wait.join().unwrap());
            heard.sort_unstable();
            assert_eq!(heard, [0, 5]);
        });
        b.send(b"bye", &[]).unwrap();
        assert_eq!(a.recv(&mut [0; 16]).unwrap().len, 3);
    }

    #[test]
    fn an_empty_socket_would_block() {
        let (_a, b) = PacketSocket::pair().unwrap();
        assert_eq!(
            b.recv(&mut [0; 16]).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }
}
