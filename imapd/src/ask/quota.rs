//! What an account stores and may store.

use daemon::channel::CallError;
use ipc::quota::{Limits, Usage};
use ipc::session::{SessionAnswer, SessionRequest};

use super::{LONG_PATIENCE, MailSession, PATIENCE, nonsense};

/// The figures of an account.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    /// Stored now.
    pub usage: Usage,
    /// May be stored; 0 for no limit.
    pub limits: Limits,
    /// Mailboxes there are now.
    pub mailboxes: u32,
    /// Mailboxes there may be.
    pub max_mailboxes: u32,
}

impl MailSession {
    /// How much the account stores and may store. All its mailboxes may have to be counted for it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn quota(&self) -> Result<Quota, CallError> {
        let asked = self.call(LONG_PATIENCE, SessionRequest::Quota);
        match asked.await?.answer {
            SessionAnswer::Quota {
                usage,
                limits,
                mailboxes,
                max_mailboxes,
            } => Ok(Quota {
                usage,
                limits,
                mailboxes,
                max_mailboxes,
            }),
            _ => Err(nonsense()),
        }
    }

    /// Bytes of the messages of a mailbox that carry `\Deleted`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn deleted_size(&self, name: String) -> Result<u64, CallError> {
        let asked = self.call(PATIENCE, SessionRequest::DeletedSize { name });
        match asked.await?.answer {
            SessionAnswer::DeletedSize(size) => Ok(size),
            _ => Err(nonsense()),
        }
    }
}
