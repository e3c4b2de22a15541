//! What a user shares with others: which mailboxes, and with whom.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError};

use ipc::Refusal;
use ipc::acl::{Rights, RightsChange};
use ipc::session::MailboxInfo;

use super::acl::{Identifier, Visitor, shared_name};
use super::mailbox::Mailbox;
use super::name::MailboxName;
use super::user::User;

/// Mailboxes that a user can share.
const MAX_SHARED: usize = 1000;

/// Where it is noted who is given something by whom; asked before and after a list is changed. It may know too much, never too
/// little.
pub(crate) trait Register {
    /// Notes it, durably.
    fn add(&self, grantee: &str) -> Result<(), Refusal>;
    /// Forgets it.
    fn remove(&self, grantee: &str) -> Result<(), Refusal>;
    /// Whether there is this very account.
    fn is_present(&self, address: &str, stamp: u64) -> bool;
    /// Notes exactly these.
    fn replace(&self, grantees: &BTreeSet<String>) -> Result<(), Refusal>;
}

impl User {
    /// Changes what others may do with a mailbox of this user, whose address is `owner`.
    pub(crate) fn change_rights(
        &self,
        owner: &str,
        mailbox: (&MailboxName, &Arc<Mailbox>),
        whom: &Identifier,
        change: RightsChange,
        register: &dyn Register,
    ) -> Result<(), Refusal> {
        self.check()?;
        // One change at a time, so that nobody takes out of the register what another is about to give.
        let _alone = self.sharing.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, mailbox) = mailbox;
        if shared_name(owner, name).is_none() {
            return Err(Refusal::Invalid(
                "the name under which others would see this mailbox is too long, or its owner's address has a slash".into(),
            ));
        }
        if !mailbox.has_acl()? && self.shared_mailboxes()?.len() >= MAX_SHARED {
            return Err(Refusal::OverQuota);
        }
        if !whom.negative {
            match register.add(whom.grantee()) {
                // Some of those it knows may be given nothing any more.
                Err(Refusal::OverQuota) => {
                    register.replace(&self.grantees_now(owner)?)?;
                    register.add(whom.grantee())?;
                }
                added => added?,
            }
        }
        let is_present = |address: &str, stamp| register.is_present(address, stamp);
        mailbox.change_acl(owner, whom, change, is_present)?;
        if self.grantees_now(owner)?.contains(whom.grantee()) {
            return Ok(());
        }
        register.remove(whom.grantee())
    }

    /// Notes anew who is given something by this user.
    pub(crate) fn register(&self, owner: &str, register: &dyn Register) -> Result<(), Refusal> {
        let _alone = self.sharing.lock().unwrap_or_else(PoisonError::into_inner);
        // Files may have been made by hand.
        for (_, mailbox) in self.mailboxes_after(None) {
            mailbox.has_acl.forget();
        }
        register.replace(&self.grantees_now(owner)?)
    }

    fn grantees_now(&self, owner: &str) -> Result<BTreeSet<String>, Refusal> {
        let mut all = BTreeSet::new();
        for (_, mailbox) in self.shared_mailboxes()? {
            match mailbox.grantees(owner) {
                Ok(grantees) => all.extend(grantees),
                // Deleted or renamed since the names were listed.
                Err(Refusal::NoSuchMailbox) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(all)
    }

    /// The mailboxes that have a list.
    pub(crate) fn shared_mailboxes(&self) -> Result<Vec<(MailboxName, Arc<Mailbox>)>, Refusal> {
        self.check()?;
        let all = self.mailboxes_after(None);
        let mut shared = Vec::new();
        for (name, mailbox) in all {
            match mailbox.has_acl() {
                Ok(true) => shared.push((name, mailbox)),
                Ok(false) | Err(Refusal::NoSuchMailbox) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(shared)
    }

    fn mailboxes_after(&self, after: Option<&str>) -> Vec<(MailboxName, Arc<Mailbox>)> {
        let tree = self.tree();
        let from = (
            after.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        );
        let known = tree.mailboxes.range::<str, _>(from);
        known
            .map(|(name, mailbox)| (name.clone(), Arc::clone(mailbox)))
            .collect()
    }

    /// Mailboxes that a visitor may see, behind `after`, at most `limit`, under the names the visitor knows them by; and whether
    /// there may be more.
    pub(crate) fn list_for(
        &self,
        owner: &str,
        visitor: &Visitor,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<MailboxInfo>, bool), Refusal> {
        self.check()?;
        let known = self.mailboxes_after(after);
        let mut seen: HashMap<usize, Rights> = HashMap::new();
        let mut rights_at = |place: usize| match seen.get(&place) {
            Some(rights) => Ok(*rights),
            None => {
                let rights = known.get(place).map_or(Ok(Rights::NONE), |(_, mailbox)| {
                    visible_rights(owner, mailbox, visitor)
                })?;
                seen.insert(place, rights);
                Ok::<Rights, Refusal>(rights)
            }
        };
        let mut infos = Vec::new();
        for (place, (name, _)) in known.iter().enumerate() {
            let rights = rights_at(place)?;
            let shown = shared_name(owner, name).filter(|_| rights != Rights::NONE);
            let Some(shown) = shown else { continue };
            if infos.len() == limit {
                return Ok((infos, true));
            }
            // Only what the visitor may see counts.
            let below = name.children();
            let from = known.partition_point(|(known, _)| *known < below.start);
            let to = known.partition_point(|(known, _)| *known < below.end);
            let mut has_children = false;
            for child in from..to {
                has_children = rights_at(child)? != Rights::NONE;
                if has_children {
                    break;
                }
            }
            infos.push(MailboxInfo {
                name: shown,
                exists: true,
                subscribed: false,
                // What it is to its owner it is not to others.
                special_use: None,
                has_children,
                rights,
            });
        }
        Ok((infos, false))
    }

    /// The mailboxes below a name.
    pub(crate) fn names_below(&self, name: &MailboxName) -> Vec<MailboxName> {
        let tree = self.tree();
        let below = tree.mailboxes.range(name.children());
        below.map(|(name, _)| name.clone()).collect()
    }

    /// Whether the user subscribed to a name.
    pub(crate) fn is_subscribed(&self, name: &str) -> bool {
        self.tree().registry.subscribed.contains(name)
    }
}

/// What a visitor may do with a mailbox that it may see; nothing with another one.
fn visible_rights(
    owner: &str,
    mailbox: &Arc<Mailbox>,
    visitor: &Visitor,
) -> Result<Rights, Refusal> {
    let rights = mailbox.has_acl().and_then(|has_acl| match has_acl {
        true => mailbox.rights_of(owner, visitor),
        false => Ok(Rights::NONE),
    });
    match rights {
        Ok(rights) if rights.has(Rights::LOOKUP) => Ok(rights),
        // The latter was deleted or renamed since the names were listed.
        Ok(_) | Err(Refusal::NoSuchMailbox) => Ok(Rights::NONE),
        Err(refusal) => Err(refusal),
    }
}
