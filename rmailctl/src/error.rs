//! What can go wrong for an operator, in words that say what to do.

use std::process::ExitCode;

use daemon::channel::CallError;
use daemon::config::ConfigError;
use ipc::Refusal;

/// Why a command of rmailctl did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A daemon said no.
    #[error("{what}: {refusal}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The answer.
        refusal: Refusal,
    },
    /// A daemon did not answer.
    #[error(
        "{daemon} does not answer on {socket}: is the system running (systemctl status rmail, or rmaild CONFIG), and may you open the socket?"
    )]
    Away {
        /// Which one.
        daemon: &'static str,
        /// Where it was asked.
        socket: String,
    },
    /// Something the caller gave cannot be used.
    #[error("{0}")]
    Usage(String),
    /// A step of a longer command failed.
    #[error("{0}")]
    Failed(String),
    /// All was done, and not all is well.
    #[error("{0}")]
    Findings(String),
    /// The system said no.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Error {
    /// A failure while doing something, with the something in front.
    pub fn failed(doing: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{doing}: {error}"))
    }

    /// The caller was told to stop before all was done.
    pub(crate) fn interrupted() -> Self {
        Self::Failed("interrupted".into())
    }

    pub(crate) fn of_call(
        daemon: &'static str,
        socket: &std::path::Path,
        what: String,
        error: CallError,
    ) -> Self {
        match error {
            CallError::Refused(refusal) => Self::Refused { what, refusal },
            CallError::Unavailable => Self::Away {
                daemon,
                socket: socket.display().to_string(),
            },
        }
    }

    /// sysexits(3), and 1 for findings.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Findings(_) => 1,
            Self::Config(_) => 78,
            Self::Usage(_) => 64,
            Self::Away { .. } => 69,
            Self::Refused { .. } => 65,
            Self::Failed(_) | Self::Io(_) => 70,
        })
    }
}
