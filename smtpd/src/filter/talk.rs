//! One transaction with one filter: bytes over the connection, with a deadline for each answer.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use daemon::config::Filter;
use ipc::Context;
use milter::reply::{Change, Verdict};
use milter::session::Session;
use milter::{Event, Fault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use super::Means;
use crate::ask::{Ask, Problem};

/// How much longer than the connection itself relayd's answer may take.
const ANSWER: Duration = Duration::from_secs(5);
const READ: usize = 4 * 1024;
/// Octets that a filter's changes may have beyond the largest message it is shown.
const SPARE: u64 = 1024 * 1024;

/// Why a filter is of no use for the rest of a transaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{0}")]
    Unreachable(#[from] Problem),
    #[error("{0}")]
    Fault(#[from] Fault),
    #[error("the connection to it broke: {0}")]
    Io(#[from] io::Error),
    #[error("it hung up")]
    HungUp,
    #[error("it did not answer in time")]
    Silent,
}

/// A conversation with a filter. Dropped, it says goodbye.
#[derive(Debug)]
pub(super) struct Talk {
    stream: UnixStream,
    session: Session,
    patience: Duration,
}

impl Talk {
    /// Connects and agrees on terms.
    pub(super) async fn begin(
        ask: &Ask,
        context: Context,
        filter: &Filter,
        means: &Means,
        deadline: Instant,
    ) -> Result<Self, Trouble> {
        let patience = Duration::from_secs(filter.timeout_seconds.value());
        let connecting = Duration::from_secs(filter.connect_timeout_seconds.value()) + ANSWER;
        let until = deadline.min(Instant::now() + connecting);
        let turn = Arc::clone(&means.connecting).acquire_owned();
        let turn = timeout_at(until, turn).await.map_err(|_| Trouble::Silent)?;
        let within = until.saturating_duration_since(Instant::now());
        let fd = ask.connect_filter(context, within, &filter.name).await?;
        drop(turn);
        let limit = filter.max_message_size.value().saturating_add(SPARE);
        let (session, offer) = Session::begin(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut talk = Self {
            stream: watch(fd)?,
            session,
            patience,
        };
        talk.exchange(&offer, deadline).await?;
        Ok(talk)
    }

    /// Tells the filter something, and gives what it says to it.
    pub(super) async fn tell(
        &mut self,
        event: Event<'_>,
        macros: &[(&'static str, String)],
        deadline: Instant,
    ) -> Result<Verdict, Trouble> {
        if let Some(bytes) = self.session.tell(event, macros)? {
            self.exchange(&bytes, deadline).await?;
        }
        Ok(self.session.take_verdict())
    }

    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        self.session.take_changes()
    }

    pub(super) fn keeps_leading_space(&self) -> bool {
        self.session.keeps_leading_space()
    }

    async fn exchange(&mut self, bytes: &[u8], deadline: Instant) -> Result<(), Trouble> {
        let until = |patience| deadline.min(Instant::now() + patience);
        let written = timeout_at(until(self.patience), self.stream.write_all(bytes)).await;
        written.map_err(|_| Trouble::Silent)??;
        // Whatever comes is a sign of life, but the deadline stays.
        while self.session.is_waiting() {
            let mut buffer = [0; READ];
            let read = timeout_at(until(self.patience), self.stream.read(&mut buffer)).await;
            match read.map_err(|_| Trouble::Silent)?? {
                0 => return Err(Trouble::HungUp),
                n => self.session.feed(buffer.get(..n).unwrap_or_default())?,
            }
        }
        Ok(())
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // The end of the connection says the same; a filter that does not read need not hear it.
        let _ = self.stream.try_write(&self.session.leave());
    }
}

// A connected TCP socket is read and written like a Unix one, and nothing else is done with it.
fn watch(fd: OwnedFd) -> io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(fd);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
