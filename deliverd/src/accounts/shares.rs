//! Who can share mailboxes with whom, and who is given rights by whom.

use std::collections::BTreeSet;

use ipc::Refusal;
use ipc::acl::ANYONE;
use rusqlite::{OptionalExtension, params};

use super::{Accounts, address};
use crate::fault::OrFault;
use crate::store::{Identifier, Owner, Register, Visitor};

/// Users that one user can give rights to.
const MAX_GRANTEES: i64 = 1000;
/// Users whose mailboxes a user is told of.
pub(crate) const MAX_SHARERS: u32 = 1000;

/// A user who gives rights, and where that is noted.
pub(crate) struct Sharer<'a> {
    pub(crate) accounts: &'a Accounts,
    pub(crate) owner: &'a Owner,
}

impl Register for Sharer<'_> {
    fn add(&self, grantee: &str) -> Result<(), Refusal> {
        self.accounts.note_share(self.owner, grantee)
    }

    fn remove(&self, grantee: &str) -> Result<(), Refusal> {
        let removed = self.accounts.database_of_senders().execute(
            "DELETE FROM shares WHERE grantee = ?1 AND domain = ?2 AND local = ?3",
            params![grantee, self.owner.domain, self.owner.local],
        );
        removed.or_fault("forget who is given rights").map(|_| ())
    }

    fn is_present(&self, address: &str, stamp: u64) -> bool {
        self.accounts.is_present(self.owner, address, stamp)
    }

    fn replace(&self, grantees: &BTreeSet<String>) -> Result<(), Refusal> {
        self.accounts.note_shares(self.owner, grantees)
    }
}

impl Accounts {
    /// An account as a visitor of others.
    pub(crate) fn visitor(&self, owner: &Owner) -> Result<Option<Visitor>, Refusal> {
        let database = self.database_of_senders();
        let mut select = database
            .prepare_cached(
                "SELECT stamp FROM users JOIN domains ON domains.id = users.domain WHERE name = ?1 AND local = ?2",
            )
            .or_fault("read users")?;
        let found = select.query_row(params![owner.domain, owner.local], |row| row.get(0));
        let stamp: Option<i64> = found.optional().or_fault("read users")?;
        Ok(stamp.map(|stamp| Visitor {
            address: owner.address(),
            stamp: stamp.cast_unsigned(),
        }))
    }

    /// Whether users of two domains can share mailboxes: the domains are one, or of one tenant.
    pub(crate) fn are_together(&self, one: &str, other: &str) -> Result<bool, Refusal> {
        if one == other {
            return Ok(true);
        }
        let database = self.database_of_senders();
        let mut select = database
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM domains a JOIN domains b ON a.tenant = b.tenant WHERE a.name = ?1 AND b.name = ?2)",
            )
            .or_fault("read domains")?;
        select
            .query_row([one, other], |row| row.get(0))
            .or_fault("read domains")
    }

    /// Whom an identifier of a list is about. One who is not there, or of another tenant, can only lose what it has.
    pub(crate) fn identify(
        &self,
        owner: &Owner,
        text: &str,
        gives: bool,
    ) -> Result<Identifier, Refusal> {
        let (negative, name) = match text.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, text),
        };
        if name == ANYONE {
            let user = None;
            return Ok(Identifier { negative, user });
        }
        let full = match name.contains('@') {
            true => name.to_owned(),
            false => format!("{name}@{}", owner.domain),
        };
        let whom = Owner::of(&address(&full)?);
        let found = match self.are_together(&owner.domain, &whom.domain)? {
            true => self.visitor(&whom)?,
            false => None,
        };
        if gives && found.is_none() {
            return Err(Refusal::NoSuchUser);
        }
        if whom == *owner {
            return Err(Refusal::NotPermitted);
        }
        let gone = || Visitor {
            address: whom.address(),
            stamp: 0,
        };
        Ok(Identifier {
            negative,
            user: Some(found.unwrap_or_else(gone)),
        })
    }

    /// Whether there is this very account, and it can be shared with.
    pub(crate) fn is_present(&self, owner: &Owner, text: &str, stamp: u64) -> bool {
        let found = address(text).and_then(|address| {
            let whom = Owner::of(&address);
            Ok(self
                .visitor(&whom)?
                .filter(|known| known.stamp == stamp)
                .is_some()
                && self.are_together(&owner.domain, &whom.domain)?)
        });
        found.unwrap_or(false)
    }

    fn note_share(&self, owner: &Owner, grantee: &str) -> Result<(), Refusal> {
        let mut database = self.database_of_senders();
        let change = database
            .transaction()
            .or_fault("note who is given rights")?;
        let added = change
            .execute(
                "INSERT OR IGNORE INTO shares (grantee, domain, local) VALUES (?1, ?2, ?3)",
                params![grantee, owner.domain, owner.local],
            )
            .or_fault("note who is given rights")?;
        let all: i64 = change
            .query_row(
                "SELECT count(*) FROM shares WHERE domain = ?1 AND local = ?2",
                params![owner.domain, owner.local],
                |row| row.get(0),
            )
            .or_fault("note who is given rights")?;
        if added > 0 && all > MAX_GRANTEES {
            return Err(Refusal::OverQuota);
        }
        change.commit().or_fault("note who is given rights")
    }

    /// Notes that a user gives rights to exactly these.
    fn note_shares(&self, owner: &Owner, grantees: &BTreeSet<String>) -> Result<(), Refusal> {
        let mut database = self.database_of_senders();
        let change = database
            .transaction()
            .or_fault("note who is given rights")?;
        change
            .execute(
                "DELETE FROM shares WHERE domain = ?1 AND local = ?2",
                params![owner.domain, owner.local],
            )
            .or_fault("note who is given rights")?;
        for grantee in grantees {
            change
                .execute(
                    "INSERT OR IGNORE INTO shares (grantee, domain, local) VALUES (?1, ?2, ?3)",
                    params![grantee, owner.domain, owner.local],
                )
                .or_fault("note who is given rights")?;
        }
        change.commit().or_fault("note who is given rights")
    }

    /// Users who may share something with this one, by address, at most [`MAX_SHARERS`]: of its own domain, or its tenant's.
    pub(crate) fn sharers(&self, visitor: &Owner) -> Result<Vec<Owner>, Refusal> {
        let database = self.database_of_senders();
        let mut select = database
            .prepare_cached(
                "SELECT DISTINCT local, domain FROM shares
                 WHERE grantee IN (?1, ?2)
                   AND domain IN (SELECT ?3 UNION SELECT name FROM domains WHERE tenant = (SELECT tenant FROM domains WHERE name = ?3))
                   AND NOT (domain = ?3 AND local = ?4)
                 ORDER BY local || '@' || domain LIMIT ?5",
            )
            .or_fault("read who shares something")?;
        let rows = select.query_map(
            params![
                visitor.address(),
                ANYONE,
                visitor.domain,
                visitor.local,
                MAX_SHARERS
            ],
            |row| {
                Ok(Owner {
                    local: row.get(0)?,
                    domain: row.get(1)?,
                })
            },
        );
        let rows = rows.or_fault("read who shares something")?;
        let found: rusqlite::Result<Vec<Owner>> = rows.collect();
        let mut found = found.or_fault("read who shares something")?;
        found.sort_by_key(Owner::address);
        Ok(found)
    }
}
