//! Bytes of one connection: commands come off it whole, answers go onto it together.

use std::io;
use std::pin::pin;
use std::time::Duration;

use imap::fragment::Fragmenter;
use imap::response::{self, Code, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::compress::Compressed;
use crate::stream::Stream;

/// Read at once while the client says commands: idle connections are many and should be small.
const COMMAND_READ: usize = 512;
/// Read at once while a message arrives.
const MESSAGE_READ: usize = 64 * 1024;
/// Answers kept back for one write at most.
pub const FULL: usize = 64 * 1024;
/// A client that does not read our answers for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_mins(5);
/// How often a client that waits hears that its command is being worked at; many give up after a minute of silence.
pub(crate) const NEWS_EVERY: Duration = Duration::from_secs(15);

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum Close {
    /// The client closed it.
    #[error("the client hung up")]
    HungUp,
    /// It broke.
    #[error("{0}")]
    Broken(#[from] io::Error),
    /// We end it, and say why.
    #[error("{text}")]
    Bye {
        /// For programs.
        code: Option<Code<'static>>,
        /// For people.
        text: &'static str,
    },
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    compressed: Option<Box<Compressed>>,
    /// What came in.
    pub fragmenter: Fragmenter,
    /// What is to go out.
    pub out: Vec<u8>,
    buffer: Vec<u8>,
}

impl Wire {
    /// Nothing was said yet.
    #[must_use]
    pub const fn new(stream: Stream) -> Self {
        Self {
            stream,
            compressed: None,
            fragmenter: Fragmenter::new(),
            out: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// Whether it is under TLS.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.stream.is_secure()
    }

    /// Whether it is compressed.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.compressed.is_some()
    }

    /// From now on both sides compress what they say (RFC 4978).
    pub fn compress(&mut self) {
        self.compressed = Some(Box::new(Compressed::new()));
    }

    /// What a login on it can be bound to (RFC 9266).
    #[must_use]
    pub fn channel_binding(&self) -> Option<Vec<u8>> {
        self.stream.channel_binding()
    }

    /// The certificates that the client has shown, if they are a login.
    #[must_use]
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        self.stream.certificates()
    }

    /// The bare connection. What was read and not executed is forgotten.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// Waits for bytes. May be dropped while waiting; nothing is lost.
    ///
    /// # Errors
    /// [`Close`] at the end of the connection.
    pub async fn read(&mut self) -> Result<(), Close> {
        self.read_up_to(COMMAND_READ).await
    }

    /// The same, for the bytes of a message.
    ///
    /// # Errors
    /// [`Close`] at the end of the connection.
    pub async fn read_message(&mut self) -> Result<(), Close> {
        self.stream.hurry();
        self.read_up_to(MESSAGE_READ).await
    }

    async fn read_up_to(&mut self, size: usize) -> Result<(), Close> {
        if self.buffer.len() != size {
            self.buffer = vec![0; size];
        }
        loop {
            let inflated = match &mut self.compressed {
                Some(compressed) => compressed.inflate(&mut self.buffer)?,
                None => 0,
            };
            if inflated > 0 {
                self.fragmenter
                    .push(self.buffer.get(..inflated).unwrap_or_default());
                return Ok(());
            }
            let read = self.stream.read(&mut self.buffer).await?;
            let bytes = self.buffer.get(..read).unwrap_or_default();
            match &mut self.compressed {
                _ if read == 0 => return Err(Close::HungUp),
                None => {
                    self.fragmenter.push(bytes);
                    return Ok(());
                }
                Some(compressed) => compressed.feed(bytes),
            }
        }
    }

    /// Waits for a line that is no command. What is to go out goes out first.
    ///
    /// # Errors
    /// [`Close`] at the end of the connection, after `patience`, or when the line is too long.
    pub async fn line(&mut self, patience: Duration) -> Result<Vec<u8>, Close> {
        self.flush().await?;
        let lines = async {
            loop {
                match self.fragmenter.next_line() {
                    Ok(Some(line)) => return Ok(line),
                    Ok(None) => self.read().await?,
                    Err(_) => return Err(TOO_LONG),
                }
            }
        };
        timeout(patience, lines).await.unwrap_or(Err(TOO_SLOW))
    }

    /// Sends what is to go out.
    ///
    /// # Errors
    /// [`Close`] when the client is gone or does not read.
    pub async fn flush(&mut self) -> Result<(), Close> {
        if self.out.is_empty() {
            return Ok(());
        }
        let deflated;
        let out = match &mut self.compressed {
            Some(compressed) => {
                deflated = compressed.deflate(&self.out)?;
                &deflated
            }
            None => &self.out,
        };
        let stream = &mut self.stream;
        let sent = timeout(WRITE_TIMEOUT, async {
            stream.write_all(out).await?;
            stream.flush().await
        });
        sent.await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        self.out.clear();
        Ok(())
    }

    /// Sends what is to go out if it is much.
    ///
    /// # Errors
    /// As [`Wire::flush`].
    pub async fn flush_if_full(&mut self) -> Result<(), Close> {
        if self.out.len() >= FULL {
            self.flush().await?;
        }
        Ok(())
    }

    /// Waits for what a command needs. A client that has to wait long is told that it is being worked at (RFC 9585 §3).
    ///
    /// # Errors
    /// As [`Wire::flush`]; the work is dropped.
    pub async fn wait_for<F: Future>(&mut self, tag: &str, work: F) -> Result<F::Output, Close> {
        self.wait_with_news(tag, work, NEWS_EVERY).await
    }

    async fn wait_with_news<F: Future>(
        &mut self,
        tag: &str,
        work: F,
        every: Duration,
    ) -> Result<F::Output, Close> {
        let mut work = pin!(work);
        loop {
            if let Ok(done) = timeout(every, &mut work).await {
                return Ok(done);
            }
            self.say(Kind::Ok, Some(&Code::InProgress(tag)), "still at it");
            self.flush().await?;
        }
    }

    /// Lets memory go that a waiting connection does not need.
    pub fn settle(&mut self) {
        self.fragmenter.shrink();
        if let Some(compressed) = &mut self.compressed {
            compressed.settle();
        }
        if self.out.is_empty() {
            self.out = Vec::new();
        }
        if self.buffer.len() > COMMAND_READ {
            self.buffer = Vec::new();
        }
    }

    /// Says an untagged OK, NO, BAD or BYE.
    pub fn say(&mut self, kind: Kind, code: Option<&Code<'_>>, text: &str) {
        response::untagged(kind, code, text, &mut self.out);
    }

    /// Says why, if there is a reason to say, and ends the connection.
    pub async fn close(&mut self, why: &Close) {
        if let Close::Bye { code, text } = why {
            self.say(Kind::Bye, code.as_ref(), text);
        }
        if !matches!(why, Close::Broken(_)) {
            // The client may be gone already; nothing depends on it any more.
            let _ = self.flush().await;
            let _ = timeout(Duration::from_secs(1), self.stream.shutdown()).await;
        }
    }
}

pub(crate) const TOO_LONG: Close = Close::Bye {
    code: None,
    text: "that was longer than a command may be",
};
pub(crate) const TOO_SLOW: Close = Close::Bye {
    code: None,
    text: "nothing heard for too long, goodbye",
};

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_connection_that_waits_keeps_no_compressor() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (_client, (server, _)) = tokio::try_join!(client, listener.accept()).unwrap();
        let mut wire = Wire::new(Stream::Clear(server));
        wire.compress();
        wire.say(Kind::Ok, None, "compressed");
        wire.flush().await.unwrap();
        let is_settled = |wire: &Wire| wire.compressed.as_ref().unwrap().is_settled();
        assert!(!is_settled(&wire));
        wire.settle();
        assert!(is_settled(&wire));
    }

    #[tokio::test]
    async fn who_waits_long_hears_that_the_command_is_worked_at() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, (server, _)) = tokio::try_join!(client, listener.accept()).unwrap();
        let mut wire = Wire::new(Stream::Clear(server));
        let (done, work) = oneshot::channel();
        let waiting = wire.wait_with_news("a1", work, Duration::from_millis(1));
        let reading = async {
            let mut lines = BufReader::new(client).lines();
            for _ in 0..2 {
                let line = lines.next_line().await.unwrap().unwrap();
                assert_eq!(line, "* OK [INPROGRESS (\"a1\" NIL NIL)] still at it");
            }
            done.send(7).unwrap();
        };
        let (waited, ()) = tokio::join!(waiting, reading);
        assert_eq!(waited.unwrap(), Ok(7));
    }
}
