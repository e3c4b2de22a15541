//! Mailboxes of others, and who may do what with a mailbox.

use std::collections::BTreeMap;

use daemon::channel::CallError;
use ipc::acl::{AclEntry, Rights, RightsChange};
use ipc::session::{MailboxInfo, SessionAnswer, SessionRequest};

use super::{MailSession, PATIENCE, nonsense};

impl MailSession {
    /// All mailboxes, ordered by name, names only subscribed to, and the mailboxes of others that may be seen.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list(&self) -> Result<Vec<MailboxInfo>, CallError> {
        let own = self.list_own().await?;
        if self.off.has("ACL") {
            return Ok(own);
        }
        let shared = self.list_shared(false).await?;
        if shared.is_empty() {
            return Ok(own);
        }
        let named = own.into_iter().map(|one| (one.name.clone(), one));
        let mut all: BTreeMap<String, MailboxInfo> = named.collect();
        for one in shared {
            // Among the own ones it is a name that is subscribed to.
            all.insert(one.name.clone(), one);
        }
        Ok(all.into_values().collect())
    }

    /// The mailboxes of others that may be seen, ordered by name; or the first of them.
    async fn list_shared(&self, is_one_enough: bool) -> Result<Vec<MailboxInfo>, CallError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let request = SessionRequest::ListShared {
                after: after.clone(),
            };
            let SessionAnswer::SharedMailboxes { mailboxes, next } =
                self.call(PATIENCE, request).await?.answer
            else {
                return Err(nonsense());
            };
            all.extend(mailboxes);
            if next.is_none() || is_one_enough && !all.is_empty() {
                return Ok(all);
            }
            if next == after {
                return Err(nonsense());
            }
            after = next;
        }
    }

    /// Whether others share anything with this account.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn has_shared(&self) -> Result<bool, CallError> {
        Ok(!self.list_shared(true).await?.is_empty())
    }

    /// The owner of a mailbox, and what others may do with it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn acl(&self, mailbox: String) -> Result<(String, Vec<AclEntry>), CallError> {
        let asked = self.call(PATIENCE, SessionRequest::ReadAcl { mailbox });
        match asked.await?.answer {
            SessionAnswer::Acl { owner, entries } => Ok((owner, entries)),
            _ => Err(nonsense()),
        }
    }

    /// Changes what somebody may do with a mailbox.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn change_acl(
        &self,
        mailbox: String,
        identifier: String,
        change: RightsChange,
    ) -> Result<(), CallError> {
        self.order(SessionRequest::ChangeAcl {
            mailbox,
            identifier,
            change,
        })
        .await
    }

    /// What somebody may do always, and what could be allowed.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn possible_rights(
        &self,
        mailbox: String,
        identifier: String,
    ) -> Result<(Rights, Rights), CallError> {
        self.rights(SessionRequest::ListRights {
            mailbox,
            identifier,
        })
        .await
    }

    /// What this account may do.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn my_rights(&self, mailbox: String) -> Result<Rights, CallError> {
        let (given, _) = self.rights(SessionRequest::MyRights { mailbox }).await?;
        Ok(given)
    }

    async fn rights(&self, request: SessionRequest) -> Result<(Rights, Rights), CallError> {
        match self.call(PATIENCE, request).await?.answer {
            SessionAnswer::Rights { given, possible } => Ok((given, possible)),
            _ => Err(nonsense()),
        }
    }
}
