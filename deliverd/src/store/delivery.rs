//! One message into the INBOX of many users: written once per domain, linked for each user, flushed before anyone is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipc::Refusal;

use super::append::NewMessage;
use super::incoming::{Incoming, Sealed};
use super::mailbox::Mailbox;
use super::name::MailboxName;
use super::{Owner, Store};
use crate::clock;

/// A name a message got, not flushed yet.
struct Linked {
    mailbox: Arc<Mailbox>,
    uid: u32,
}

impl Store {
    /// Makes a message durable and visible in the INBOX of every owner. On an error nobody may count on it; those who got it
    /// already may get it again.
    pub(crate) fn deliver(&self, message: Incoming, owners: &[Owner]) -> Result<(), Refusal> {
        let mut inboxes: BTreeMap<&str, Vec<Arc<Mailbox>>> = BTreeMap::new();
        for owner in owners {
            let inbox = self.user(owner)?.mailbox(&MailboxName::inbox())?;
            inboxes.entry(&owner.domain).or_default().push(inbox);
        }
        let sealed = message.seal(clock::seconds())?;
        let mut linked = Vec::with_capacity(owners.len());
        let mut flushed = link_all(&sealed, inboxes.into_values(), &mut linked);
        if flushed.is_err() {
            for Linked { mailbox, uid } in &linked {
                mailbox.unlink_pending(&[*uid]);
            }
        } else {
            // Each one is tried: an error at one recipient must not leave the others half done.
            for Linked { mailbox, uid } in &linked {
                flushed = flushed.and(mailbox.flush(&[*uid]));
            }
        }
        self.trim();
        flushed?;
        self.count_stored(linked.len() as u64);
        Ok(())
    }

    /// APPEND: one message into one mailbox. Gives its UIDVALIDITY and UID.
    pub(crate) fn append(
        &self,
        incoming: Incoming,
        mailbox: &Arc<Mailbox>,
        mut message: NewMessage,
    ) -> Result<(u32, u32), Refusal> {
        let sealed = incoming.seal(message.internal_date)?;
        message.size = sealed.size;
        let (dir, name) = sealed.place();
        let uid = mailbox.link(dir, name, &message)?;
        mailbox.flush(&[uid])?;
        let status = mailbox.status()?;
        self.trim();
        self.count_stored(1);
        Ok((status.uid_validity, uid))
    }
}

fn link_all(
    sealed: &Sealed,
    domains: impl Iterator<Item = Vec<Arc<Mailbox>>>,
    linked: &mut Vec<Linked>,
) -> Result<(), Refusal> {
    for (at, inboxes) in domains.enumerate() {
        // A file is never shared between domains: a descriptor of it would show the neighbour's bytes.
        let copy = if at == 0 {
            None
        } else {
            Some(sealed.duplicate()?)
        };
        let source = copy.as_ref().unwrap_or(sealed);
        let (dir, name) = source.place();
        let message = NewMessage {
            size: source.size,
            internal_date: source.internal_date,
            ..NewMessage::default()
        };
        for mailbox in inboxes {
            let uid = mailbox.link(dir, name, &message)?;
            linked.push(Linked { mailbox, uid });
        }
    }
    Ok(())
}
