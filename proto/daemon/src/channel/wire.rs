//! One frame in, one frame out, on a packet socket under the runtime.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ipc::frame::{self, Encode, MAX_FRAME, Wire};
use ipc::hello::Hello;
use sys::packet::{PacketSocket, Received};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A packet socket registered with the runtime.
#[derive(Debug)]
pub(super) struct Packets(AsyncFd<Arc<PacketSocket>>);

/// The way out of a packet socket.
#[derive(Debug, Clone)]
pub(super) struct Exit(Arc<PacketSocket>);

/// A decoded frame with its descriptors.
pub(super) struct Frame<T> {
    pub(super) value: T,
    pub(super) fds: Vec<OwnedFd>,
}

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the other side closed the channel")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a packet was cut off")]
    Truncated,
    #[error("{0}")]
    Frame(#[from] frame::FrameError),
    #[error("a frame carried descriptors where none belong")]
    StrayDescriptors,
    #[error(
        "it speaks version {version} of \"{edge}\" (build {build}); restart both daemons after an upgrade"
    )]
    Incompatible {
        version: u16,
        edge: String,
        build: String,
    },
}

impl ReadError {
    /// The other side is simply gone.
    pub(super) fn is_departure(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ),
            _ => false,
        }
    }
}

impl Packets {
    /// Must be called inside the runtime.
    ///
    /// It is not watched for room to write: that would wake the runtime for each packet the other side takes.
    #[expect(
        deprecated,
        reason = "deprecated for types that may change or close their descriptor; a PacketSocket owns one for life"
    )]
    pub(super) fn new(socket: PacketSocket) -> io::Result<Self> {
        AsyncFd::with_interest(Arc::new(socket), Interest::READABLE).map(Self)
    }

    /// The socket, which is not watched any more.
    pub(super) fn into_socket(self) -> Arc<PacketSocket> {
        self.0.into_inner()
    }

    pub(super) fn exit(&self) -> Exit {
        Exit(Arc::clone(self.0.get_ref()))
    }

    pub(super) async fn read<T: Wire>(&self) -> Result<Frame<T>, ReadError> {
        let read = |socket: &Arc<PacketSocket>| receive(PacketSocket::recv, socket);
        self.0.async_io(Interest::READABLE, read).await?
    }

    pub(super) async fn write(&self, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        self.exit().write(bytes, fds).await
    }

    /// Says and hears the first frame.
    pub(super) async fn greet(&self, edge: &str) -> Result<(), ReadError> {
        self.write(&encode_small(&Hello::ours(edge)), &[]).await?;
        let Frame { value: hello, fds } = self.read::<Hello>().await?;
        if !fds.is_empty() {
            return Err(ReadError::StrayDescriptors);
        }
        if hello.is_compatible(edge) {
            Ok(())
        } else {
            Err(ReadError::Incompatible {
                version: hello.version,
                edge: hello.edge,
                build: hello.build,
            })
        }
    }
}

impl Exit {
    /// Sends a packet if there is room for it: `WouldBlock` otherwise.
    pub(super) fn write_now(&self, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.0.send(bytes, &borrowed)
    }

    #[expect(
        deprecated,
        reason = "deprecated for types that may change or close their descriptor; an OwnedFd owns one for life"
    )]
    pub(super) async fn write(&self, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        match self.write_now(bytes, fds) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return written,
        }
        let socket = self.0.as_fd().try_clone_to_owned()?;
        AsyncFd::with_interest(socket, Interest::WRITABLE)?
            .async_io(Interest::WRITABLE, |_| self.write_now(bytes, fds))
            .await
    }
}

/// A frame, received by `receive`. An error of its own is only what happens to the socket.
pub(super) fn receive<T: Wire>(
    receive: impl FnOnce(&PacketSocket, &mut [u8]) -> io::Result<Received>,
    socket: &PacketSocket,
) -> io::Result<Result<Frame<T>, ReadError>> {
    // The buffer lives on this stack, so that a channel that waits for the runtime does not carry it.
    let mut buffer = [0; MAX_FRAME];
    let Received {
        len,
        fds,
        truncated,
    } = receive(socket, &mut buffer)?;
    Ok(decode(&buffer[..len], truncated).map(|value| Frame { value, fds }))
}

fn decode<T: Wire>(bytes: &[u8], truncated: bool) -> Result<T, ReadError> {
    if bytes.is_empty() {
        return Err(ReadError::Closed);
    }
    if truncated {
        return Err(ReadError::Truncated);
    }
    Ok(frame::decode(bytes)?)
}

fn encode_small(hello: &impl Encode) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "a Hello is a few dozen bytes, far below MAX_FRAME"
    )]
    frame::encode(hello).expect("a Hello fits into a frame")
}
