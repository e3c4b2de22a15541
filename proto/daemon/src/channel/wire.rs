//! One frame in, one frame out, on a packet socket under the runtime.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ipc::frame::{self, Encode, MAX_FRAME, Wire};
use ipc::hello::Hello;
use sys::packet::PacketSocket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A packet socket registered with the runtime.
#[derive(Debug)]
pub(super) struct Packets(AsyncFd<PacketSocket>);

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
    #[expect(
        deprecated,
        reason = "deprecated for types that may change or close their descriptor; a PacketSocket owns one for life"
    )]
    pub(super) fn new(socket: PacketSocket) -> io::Result<Self> {
        AsyncFd::with_interest(socket, Interest::READABLE | Interest::WRITABLE).map(Self)
    }

    pub(super) async fn read<T: Wire>(&self) -> Result<Frame<T>, ReadError> {
        // The buffer lives on the stack of the closure, so that a channel that waits does not carry it.
        let read = |socket: &PacketSocket| {
            let mut buffer = [0; MAX_FRAME];
            let received = socket.recv(&mut buffer)?;
            Ok((
                decode(&buffer[..received.len], received.truncated),
                received.fds,
            ))
        };
        let (value, fds) = self.0.async_io(Interest::READABLE, read).await?;
        Ok(Frame { value: value?, fds })
    }

    pub(super) async fn write(&self, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.0
            .async_io(Interest::WRITABLE, |socket| socket.send(bytes, &borrowed))
            .await
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
