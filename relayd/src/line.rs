//! A connection that is up: what there is of it whether or not a message is on its way.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use smtp::client::{Action, Client, Extensions, Input, Order};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout};

/// How long we wait to be polite once all is said.
const FAREWELL: Duration = Duration::from_secs(5);

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
pub(crate) type Boxed = Box<dyn Stream>;

/// A connection.
pub(crate) struct Line {
    pub(crate) client: Client,
    pub(crate) reader: ReadHalf<Boxed>,
    pub(crate) writer: WriteHalf<Boxed>,
    /// Bytes to be written. Bounded: the next piece of the body is only read when this is empty.
    pub(crate) outgoing: Vec<u8>,
    /// Bytes were given to TLS that it may still hold.
    pub(crate) unflushed: bool,
    pub(crate) secured: bool,
    pub(crate) tls_refused: bool,
    pub(crate) logged_in: bool,
    /// What the server said that it can, once it awaits the next message.
    pub(crate) extensions: Option<Extensions>,
    /// Messages that went over it.
    pub(crate) messages: u32,
    pub(crate) opened: Instant,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("secured", &self.secured)
            .field("messages", &self.messages)
            .finish_non_exhaustive()
    }
}

impl Line {
    pub(crate) fn new(stream: Boxed, client: Client, secured: bool) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            client,
            reader,
            writer,
            outgoing: Vec::new(),
            unflushed: false,
            secured,
            tls_refused: false,
            logged_in: false,
            extensions: None,
            messages: 0,
            opened: Instant::now(),
        }
    }

    /// Whether the other side has neither said anything nor hung up, as far as is known without waiting.
    pub(crate) fn is_silent(&mut self) -> bool {
        let mut octet = [0; 1];
        let mut context = Context::from_waker(Waker::noop());
        let read =
            Pin::new(&mut self.reader).poll_read(&mut context, &mut ReadBuf::new(&mut octet));
        read.is_pending()
    }

    /// Says good-bye beside whatever else is to be done.
    pub(crate) fn hang_up(self) {
        let (mut client, mut reader, mut writer) = (self.client, self.reader, self.writer);
        let mut bytes = self.outgoing;
        // Heeded only where an order is awaited.
        client.feed(Input::Order(Order::Quit));
        while let Some(action) = client.next() {
            match action {
                Action::Send(more) => bytes.extend_from_slice(&more),
                // A connection that is of no use any more is dropped, lest what is left be taken for commands.
                Action::Close => return,
                _ => {}
            }
        }
        tokio::spawn(timeout(FAREWELL, async move {
            writer.write_all(&bytes).await?;
            writer.flush().await?;
            let mut last = [0; 512];
            let _ = reader.read(&mut last).await?;
            writer.shutdown().await
        }));
    }
}
