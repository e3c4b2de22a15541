//! Annotations of mailboxes and of the account.

use daemon::channel::CallError;
use ipc::metadata::{Annotation, AnnotationChange};
use ipc::session::{SessionAnswer, SessionRequest};

use super::{MailSession, PATIENCE, nonsense};

impl MailSession {
    /// The annotations of a mailbox, or of the account.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn annotations(&self, mailbox: Option<String>) -> Result<Vec<Annotation>, CallError> {
        let asked = self.call(PATIENCE, SessionRequest::ReadAnnotations { mailbox });
        match asked.await?.answer {
            SessionAnswer::Annotations(all) => Ok(all),
            _ => Err(nonsense()),
        }
    }

    /// Changes annotations, all or none.
    ///
    /// # Errors
    /// [`ipc::Refusal::OverQuota`] if there would be too many; otherwise a [`CallError`].
    pub async fn annotate(
        &self,
        mailbox: Option<String>,
        changes: Vec<AnnotationChange>,
    ) -> Result<(), CallError> {
        self.order(SessionRequest::ChangeAnnotations { mailbox, changes })
            .await
    }
}
