//! Asking deliverd, relayd, keyd and smtpd over the operator's sockets.

use std::path::PathBuf;
use std::time::Duration;

use daemon::channel::{Answered, CallError, Client};
use daemon::config::Config;
use ipc::control::{QueueControlEdge, StoreControlEdge};
use ipc::explain::ExplainEdge;
use ipc::keys::KeyControlEdge;
use ipc::{Context, Edge, Refusal};
use sys::packet::PacketSocket;
use tokio::time::{Instant, sleep};

use crate::Error;

/// Hashing a new password takes a moment; a machine under load takes longer.
const WITHIN: Duration = Duration::from_secs(15);
/// A piece of a walk takes a fifth of a second, but one place in it may be large, and the disk slow.
const WALK_WITHIN: Duration = Duration::from_secs(300);
/// Before a daemon that is busy is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// The operator's line to one daemon.
#[derive(Debug)]
pub struct Line<E: Edge> {
    client: Client<E>,
    daemon: &'static str,
    socket: PathBuf,
}

/// The operator's line to deliverd.
pub type Store = Line<StoreControlEdge>;

/// The operator's line to relayd.
pub type Queue = Line<QueueControlEdge>;

/// The operator's line to keyd.
pub type Keys = Line<KeyControlEdge>;

/// The operator's line to smtpd.
pub type Receiver = Line<ExplainEdge>;

impl Receiver {
    /// To the smtpd of this configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self::to("smtpd", config)
    }
}

impl Keys {
    /// To the keyd of this configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self::to("keyd", config)
    }
}

impl Store {
    /// To the deliverd of this configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self::to("deliverd", config)
    }
}

impl Queue {
    /// To the relayd of this configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self::to("relayd", config)
    }
}

impl<E: Edge> Line<E> {
    /// Another line to the same daemon.
    #[must_use]
    pub fn another(&self) -> Self {
        Self {
            client: Client::new(self.socket.clone()),
            daemon: self.daemon,
            socket: self.socket.clone(),
        }
    }

    /// Gives one of many orders to a daemon that was asked before.
    ///
    /// # Errors
    /// [`CallError`]; [`Self::explain`] has words for it.
    pub async fn order(&self, request: E::Request) -> Result<E::Answer, CallError> {
        let answered = self
            .client
            .call(Context::default(), WITHIN, request)
            .await?;
        Ok(answered.answer)
    }

    fn to(daemon: &'static str, config: &Config) -> Self {
        let socket = config.ipc_socket(daemon, "ctl");
        Self {
            client: Client::new(socket.clone()),
            daemon,
            socket,
        }
    }

    /// Gives one order; `what` describes it for the error.
    ///
    /// # Errors
    /// [`Error::Refused`] or [`Error::Away`].
    pub async fn ask(
        &self,
        what: impl Into<String>,
        request: E::Request,
    ) -> Result<E::Answer, Error> {
        let answered = self.call(WITHIN, request).await?;
        answered
            .map(|answered| answered.answer)
            .map_err(|error| self.explain(what, error))
    }

    /// Gives an order whose answer comes with files. As long as the daemon is busy it is asked again.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_for_files(
        &self,
        what: impl Into<String>,
        request: E::Request,
    ) -> Result<Answered<E::Answer>, Error>
    where
        E::Request: Clone,
    {
        let end = Instant::now() + WALK_WITHIN;
        loop {
            match self.call(WALK_WITHIN, request.clone()).await? {
                Err(CallError::Refused(Refusal::Busy)) if Instant::now() < end => {
                    sleep(PAUSE).await;
                }
                answered => return answered.map_err(|error| self.explain(what, error)),
            }
        }
    }

    async fn call(
        &self,
        within: Duration,
        request: E::Request,
    ) -> Result<Result<Answered<E::Answer>, CallError>, Error> {
        // That a system is not running, or not ours, is said at once instead of after the deadline.
        PacketSocket::connect(&self.socket).map_err(|_| Error::Away {
            daemon: self.daemon,
            socket: self.socket.display().to_string(),
        })?;
        let context = Context::default();
        Ok(self.client.call(context, within, request).await)
    }

    /// An error in words.
    pub fn explain(&self, what: impl Into<String>, error: CallError) -> Error {
        Error::of_call(self.daemon, &self.socket, what.into(), error)
    }
}

/// An answer of another kind than the question wants: the daemons are of another version.
#[must_use]
pub fn unexpected(answer: &dyn std::fmt::Debug) -> Error {
    Error::Failed(format!(
        "unexpected answer {answer:?}; are rmailctl and the daemons of the same version?"
    ))
}
