//! The connection to a client, in clear text or under TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use daemon::{certificate, tls};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tracing::error;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// In clear text.
    Clear(TcpStream),
    /// Under TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether it is under TLS.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// What both sides derive from TLS (RFC 9266); `None` where they cannot.
    #[must_use]
    pub fn channel_binding(&self) -> Option<Vec<u8>> {
        let Self::Tls(stream) = self else {
            return None;
        };
        let derived = tls::channel_binding(stream.get_ref().1);
        derived.unwrap_or_else(|error| {
            error!(%error, "TLS cannot derive what a login is bound to");
            None
        })
    }

    /// The certificates that the client has shown, if they are a login.
    #[must_use]
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Tls(stream) => certificate::shown(stream.get_ref().1),
            Self::Clear(_) => Vec::new(),
        }
    }

    /// Has the kernel acknowledge at once what comes next. A client that sends a message and then its line end waits for
    /// that (Nagle's algorithm), and would wait for 40 ms.
    pub fn hurry(&self) {
        let stream = match self {
            Self::Clear(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        // Only the pace depends on it.
        let _ = stream.set_quickack(true);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
