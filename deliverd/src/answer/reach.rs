//! Mailboxes as a session reaches them: those of its account, and those of others as far as it has rights there. Rights are looked up
//! for each request anew; what the holder of the session believes to have counts for nothing.

use std::sync::Arc;

use ipc::Refusal;
use ipc::acl::Rights;

use super::House;
use crate::accounts::address;
use crate::store::{Mailbox, MailboxName, Owner, User, Visitor, parse_shared};

/// A mailbox that a session has named.
#[derive(Clone)]
pub(super) struct Reached {
    pub(super) mailbox: Arc<Mailbox>,
    /// The name its owner has for it.
    pub(super) name: MailboxName,
    /// If it is not the session's own.
    pub(super) visit: Option<Arc<Visit>>,
}

/// Who comes to whose mailboxes.
pub(super) struct Visit {
    pub(super) owner: Owner,
    /// The owner's.
    pub(super) address: String,
    pub(super) user: Arc<User>,
    pub(super) visitor: Visitor,
    /// The visitor's.
    domain: String,
}

impl Visit {
    /// The visit of `me` to the owner of a name of [`ipc::acl::OTHER_USERS`], and the owner's name for the mailbox, which need not exist.
    /// Whoever can share nothing with `me` is as one who is not there.
    pub(super) fn begin(
        house: &House,
        (me, visitor): (&Owner, &Visitor),
        name: &str,
    ) -> Result<(Arc<Self>, MailboxName), Refusal> {
        let missing = || Refusal::NoSuchMailbox;
        let (whose, name) = parse_shared(name).ok_or_else(missing)?;
        let name = MailboxName::parse(name).map_err(|_| missing())?;
        let owner = Owner::of(&address(whose).map_err(|_| missing())?);
        // An owner has one name only.
        if owner == *me || owner.address() != whose {
            return Err(missing());
        }
        let is_near = house.accounts.are_together(&owner.domain, &me.domain)?;
        if !is_near || house.accounts.user(&owner)?.is_none() {
            return Err(missing());
        }
        let visit = Self {
            address: whose.to_owned(),
            user: house.store.user(&owner)?,
            visitor: visitor.clone(),
            domain: me.domain.clone(),
            owner,
        };
        Ok((Arc::new(visit), name))
    }

    /// A mailbox of the owner, whatever may be done with it.
    pub(super) fn to(self: &Arc<Self>, name: MailboxName) -> Result<Reached, Refusal> {
        Ok(Reached {
            mailbox: self.user.mailbox(&name)?,
            name,
            visit: Some(Arc::clone(self)),
        })
    }
}

impl Reached {
    /// What may be done with it now.
    pub(super) fn rights(&self, house: &House) -> Result<Rights, Refusal> {
        let Some(visit) = &self.visit else {
            return Ok(Rights::ALL);
        };
        let domains = (&visit.owner.domain, &visit.domain);
        if visit.user.is_removed() || !house.accounts.are_together(domains.0, domains.1)? {
            return Ok(Rights::NONE);
        }
        self.mailbox.rights_of(&visit.address, &visit.visitor)
    }

    /// The same, refused if `needed` are not among them.
    // RFC 4314 §6: what may not be seen is as if it were not there.
    pub(super) fn need(&self, house: &House, needed: Rights) -> Result<Rights, Refusal> {
        let rights = self.rights(house)?;
        if rights.has(needed) {
            return Ok(rights);
        }
        Err(if rights.has(Rights::LOOKUP) {
            Refusal::NoRight
        } else {
            Refusal::NoSuchMailbox
        })
    }

    /// Whose it is, for a session of `me`.
    pub(super) fn owner<'a>(&'a self, me: &'a Owner) -> &'a Owner {
        self.visit.as_ref().map_or(me, |visit| &visit.owner)
    }

    /// Whether two are mailboxes of one user.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        let whose = |one: &Self| one.visit.as_ref().map(|visit| visit.owner.clone());
        whose(self) == whose(other)
    }
}
