//! Asking deliverd and relayd over the operator's sockets.

use std::path::PathBuf;
use std::time::Duration;

use daemon::channel::Client;
use daemon::config::Config;
use ipc::control::{QueueControlEdge, StoreControlEdge};
use ipc::{Context, Edge};
use sys::packet::PacketSocket;

use crate::Error;

/// Hashing a new password takes a moment; a machine under load takes longer.
const WITHIN: Duration = Duration::from_secs(15);

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
        // That a system is not running, or not ours, is said at once instead of after the deadline.
        PacketSocket::connect(&self.socket).map_err(|_| Error::Away {
            daemon: self.daemon,
            socket: self.socket.display().to_string(),
        })?;
        match self.client.call(Context::default(), WITHIN, request).await {
            Ok(answered) => Ok(answered.answer),
            Err(error) => Err(Error::of_call(
                self.daemon,
                &self.socket,
                what.into(),
                error,
            )),
        }
    }
}

/// An answer of another kind than the question wants: the daemons are of another version.
#[must_use]
pub fn unexpected(answer: &dyn std::fmt::Debug) -> Error {
    Error::Failed(format!(
        "unexpected answer {answer:?}; are rmailctl and the daemons of the same version?"
    ))
}
