//! Drives one connection: bytes in, actions out; one select, one match.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use daemon::Stop;
use smtp::server::{Action, Answer, Input, Question, Server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::desk::Desk;
use crate::farewell;

/// Read at once while the client says commands: idle connections are many and should be small.
const COMMAND_READ: usize = 1024;
/// Read at once in a transaction, before its message.
const ENVELOPE_READ: usize = 8 * 1024;
/// Read at once while a message arrives.
const BODY_READ: usize = 32 * 1024;
/// Replies kept back for one write at most.
const FULL: usize = 8 * 1024;
/// Replies kept back for one write at longest.
const SOON: Duration = Duration::from_millis(100);
/// A client that does not read our replies for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_mins(5);
/// How long the client may take to hear our last reply.
const LINGER: Duration = Duration::from_secs(2);

/// How a conversation ended.
#[derive(Debug)]
pub enum End {
    /// The connection is of no more use.
    Closed,
    /// The client was promised TLS; this machine goes on behind it.
    StartTls(Box<Server>),
}

/// Talks until the connection ends or TLS is to be started.
///
/// # Errors
/// The connection broke. What was not committed by then is aborted.
pub async fn converse<S>(
    stream: &mut S,
    server: Server,
    desk: &mut Desk,
    stop: &Stop,
) -> io::Result<End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut conversation = Conversation {
        stream,
        server,
        desk,
        out: Vec::new(),
        timer: Box::pin(sleep(WRITE_TIMEOUT)),
        end: None,
    };
    let flow = conversation.run(stop).await;
    conversation.desk.abort();
    Ok(match flow? {
        Flow::StartTls => End::StartTls(Box::new(conversation.server)),
        Flow::Close | Flow::On => End::Closed,
    })
}

struct Conversation<'a, S> {
    stream: &'a mut S,
    server: Server,
    desk: &'a mut Desk,
    out: Vec<u8>,
    timer: Pin<Box<Sleep>>,
    /// When a transaction or a login that has begun must be over.
    end: Option<Instant>,
}

/// Whether a conversation goes on after its actions.
enum Flow {
    On,
    Close,
    StartTls,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<'_, S> {
    async fn run(&mut self, stop: &Stop) -> io::Result<Flow> {
        let mut buffer = Vec::new();
        let mut told = false;
        loop {
            let acted = self.act(stop).await;
            self.desk.count_commands(self.server.take_line_count());
            match acted? {
                Flow::On => {}
                Flow::Close => {
                    drop(buffer);
                    farewell::linger(self.stream, LINGER).await;
                    return Ok(Flow::Close);
                }
                Flow::StartTls => return Ok(Flow::StartTls),
            }
            self.hurry();
            fit(&mut buffer, &self.server);
            tokio::select! {
                read = self.stream.read(&mut buffer) => match read? {
                    0 => self.server.feed(Input::End),
                    n => self.take(buffer.get(..n).unwrap_or_default()),
                },
                () = &mut self.timer => self.server.feed(Input::Timeout),
                () = stop.requested(), if !told => {
                    told = true;
                    self.server.feed(Input::Shutdown);
                }
            }
        }
    }

    // Who has sent too many commands gets no answer to the next one.
    fn take(&mut self, bytes: &[u8]) {
        let is_command = !self.server.is_receiving();
        match self.desk.check_commands() {
            Err(reply) if is_command => self.server.feed(Input::Dismissal(reply)),
            _ => self.server.feed(Input::Bytes(bytes)),
        }
    }

    // However often the client gets more time for the next command or piece, all of them together have an end.
    fn hurry(&mut self) {
        if self.server.is_idle() {
            self.end = None;
            return;
        }
        let limit = self.server.transaction_timeout();
        let end = *self.end.get_or_insert_with(|| Instant::now() + limit);
        if end < self.timer.deadline() {
            self.timer.as_mut().reset(end);
        }
    }

    // Does all that the machine wants, and writes what is to be said before it listens again.
    async fn act(&mut self, stop: &Stop) -> io::Result<Flow> {
        let mut flow = Flow::On;
        while let Some(action) = self.server.next() {
            match action {
                Action::Send(bytes) => self.out.extend(bytes),
                Action::Pause(time) => self.pause(time, stop).await?,
                Action::Deadline(time) => self.timer.as_mut().reset(Instant::now() + time),
                Action::Ask(question) => {
                    let answer = self.answer(question).await?;
                    self.server.feed(Input::Answer(answer));
                }
                // Boxed for the same reason as answers are.
                Action::Body(bytes) => Box::pin(self.desk.write(&bytes)).await,
                Action::Abort => self.desk.abort(),
                Action::StartTls => flow = Flow::StartTls,
                Action::Close => flow = Flow::Close,
            }
            if self.out.len() > FULL {
                flush(self.stream, &mut self.out).await?;
            }
        }
        flush(self.stream, &mut self.out).await?;
        Ok(flow)
    }

    // Replies to a group of commands go out together, unless an answer is long in coming.
    async fn answer(&mut self, question: Question) -> io::Result<Answer> {
        if matches!(question, Question::Sender(_)) {
            let (hello, tls) = (self.server.hello(), self.server.tls());
            self.desk
                .introduce(hello.to_owned(), tls.map(str::to_owned));
        }
        // Boxed, because a session spends its life waiting for the client, and a future takes the
        // room of its largest part all the time.
        let mut answer = Box::pin(self.desk.answer(question));
        if self.out.is_empty() {
            return Ok(answer.await);
        }
        if let Ok(answer) = timeout(SOON, &mut answer).await {
            return Ok(answer);
        }
        // Side by side: a client that does not read must not hold up a commit, which is never cut
        // off, even if its reply can no longer be sent.
        let (flushed, answer) = tokio::join!(flush(self.stream, &mut self.out), answer);
        flushed.map(|()| answer)
    }

    // Nothing is read meanwhile, so a client that goes on sending is held up itself.
    async fn pause(&mut self, time: Duration, stop: &Stop) -> io::Result<()> {
        if self.desk.is_exempt() {
            return Ok(());
        }
        flush(self.stream, &mut self.out).await?;
        tokio::select! {
            () = sleep(time) => Ok(()),
            () = stop.requested() => Ok(()),
        }
    }
}

async fn flush<S: AsyncWrite + Unpin>(stream: &mut S, out: &mut Vec<u8>) -> io::Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let written = timeout(WRITE_TIMEOUT, async {
        stream.write_all(out).await?;
        stream.flush().await
    });
    written
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    *out = Vec::new();
    Ok(())
}

// A connection keeps no large buffer that brings no message.
fn fit(buffer: &mut Vec<u8>, server: &Server) {
    let size = match (server.is_receiving(), server.is_idle()) {
        (true, _) => BODY_READ,
        (false, false) => ENVELOPE_READ,
        (false, true) => COMMAND_READ,
    };
    if buffer.len() != size {
        *buffer = vec![0; size];
    }
}
