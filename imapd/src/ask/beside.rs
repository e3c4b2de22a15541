//! A second mail session of the same account.

use std::sync::atomic::AtomicBool;

use daemon::channel::{Answered, CallError, Link};
use ipc::session::{SessionAnswer, SessionRequest};
use tracing::error;

use super::{MailSession, PATIENCE, nonsense, single};

impl MailSession {
    /// Opens another one, in which other mailboxes can be selected. There is one at a time.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn beside(&self) -> Result<Self, CallError> {
        let Answered { answer, fds } = self.call(PATIENCE, SessionRequest::OpenBeside).await?;
        let SessionAnswer::BesideOpened = answer else {
            return Err(nonsense());
        };
        let link = Link::over(single(fds)?).map_err(|error| {
            error!(%error, "cannot use a second mail session");
            CallError::Unavailable
        })?;
        Ok(Self {
            link,
            context: self.context,
            off: self.off,
            rung: AtomicBool::new(false),
        })
    }
}
