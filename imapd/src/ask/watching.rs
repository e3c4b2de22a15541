//! What happens to mailboxes that are not selected.

use std::sync::atomic::Ordering;

use daemon::channel::CallError;
use ipc::session::{Happening, SessionAnswer, SessionRequest};

use super::{MailSession, PATIENCE, nonsense};

/// What happened to mailboxes that are watched.
#[derive(Debug)]
pub struct Happenings {
    /// In this order.
    pub happenings: Vec<Happening>,
    /// There is more.
    pub more: bool,
    /// Too much had happened; nothing is known of it.
    pub lost: bool,
}

impl MailSession {
    /// Whether something may have happened to mailboxes that are watched, since this was asked last.
    #[must_use]
    pub fn take_rung(&self) -> bool {
        self.rung.swap(false, Ordering::Relaxed)
    }

    /// Watches all mailboxes of the account, or does so no more.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn watch(&self, wanted: bool) -> Result<(), CallError> {
        self.order(SessionRequest::Watch { wanted }).await
    }

    /// The next of what happened to mailboxes that are watched.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn happenings(&self) -> Result<Happenings, CallError> {
        match self
            .call(PATIENCE, SessionRequest::ListHappenings)
            .await?
            .answer
        {
            SessionAnswer::HappeningsListed {
                more: true,
                ref happenings,
                lost: false,
            } if happenings.is_empty() => Err(nonsense()),
            SessionAnswer::HappeningsListed {
                happenings,
                more,
                lost,
            } => Ok(Happenings {
                happenings,
                more,
                lost,
            }),
            _ => Err(nonsense()),
        }
    }
}
