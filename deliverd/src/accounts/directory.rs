//! Domains and users: adding, listing, removing.

use ipc::control::ENTRIES_PER_FRAME;
use ipc::quota::Limits;
use ipc::routing::{AddressRules, Duty};
use ipc::{Refusal, Secret};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::password::{self, Stored};
use super::rules::{number, rules};
use super::{Accounts, domain, former};
use crate::clock;
use crate::fault::OrFault;
use crate::store::Owner;

/// A user as the database knows it.
pub(crate) struct Account {
    pub(crate) owner: Owner,
    pub(crate) limits: Limits,
}

/// A domain as the database knows it.
pub(crate) struct DomainEntry {
    pub(crate) name: String,
    /// The tenant it belongs to.
    pub(crate) tenant: Option<String>,
    pub(crate) limits: Limits,
    pub(crate) rules: AddressRules,
}

/// A page of a listing.
pub(crate) struct Page<T> {
    pub(crate) entries: Vec<T>,
    pub(crate) more: bool,
}

impl<T> Page<T> {
    pub(super) fn cut(mut entries: Vec<T>) -> Self {
        let more = entries.len() > ENTRIES_PER_FRAME;
        entries.truncate(ENTRIES_PER_FRAME);
        Self { entries, more }
    }
}

/// One more than a page, to know whether there is more.
pub(super) const PAGE: i64 = ENTRIES_PER_FRAME as i64 + 1;

impl Accounts {
    /// Takes mail for a domain, which belongs to a tenant if one is named.
    pub(crate) fn add_domain(&self, name: &str, tenant: Option<&str>) -> Result<(), Refusal> {
        self.add_domain_for(name, tenant, Duty::Final)
    }

    /// The same, for mail that stays here or is passed on.
    pub(crate) fn add_domain_for(
        &self,
        name: &str,
        tenant: Option<&str>,
        duty: Duty,
    ) -> Result<(), Refusal> {
        let name = domain(name)?;
        let tenant = self.tenant_id(tenant)?;
        let added = self.database().execute(
            "INSERT INTO domains (name, tenant, duty) VALUES (?1, ?2, ?3)",
            params![name.as_str(), tenant, number(duty)],
        );
        unique(added)
    }

    /// Whether a domain is ours.
    pub(crate) fn is_local(&self, domain: &str) -> Result<bool, Refusal> {
        Ok(self.domain_id(domain)?.is_some())
    }

    pub(super) fn domain_id(&self, domain: &str) -> Result<Option<i64>, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached("SELECT id FROM domains WHERE name = ?1")
            .or_fault("read domains")?;
        select
            .query_row([domain], |row| row.get(0))
            .optional()
            .or_fault("read domains")
    }

    /// A page of the domains, by name.
    pub(crate) fn domains(&self, after: Option<&str>) -> Result<Page<DomainEntry>, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT domains.name, tenants.name, domains.max_messages, domains.max_bytes, separator, dots_matter, case_matters, duty
                 FROM domains LEFT JOIN tenants ON tenants.id = domains.tenant
                 WHERE domains.name > ?1 ORDER BY domains.name LIMIT ?2",
            )
            .or_fault("list domains")?;
        let entry = |row: &Row<'_>| {
            Ok(DomainEntry {
                name: row.get(0)?,
                tenant: row.get(1)?,
                limits: limits(row, 2)?,
                rules: rules(row, 4)?,
            })
        };
        let rows = select
            .query_map(params![after.unwrap_or(""), PAGE], entry)
            .or_fault("list domains")?;
        Ok(Page::cut(
            rows.collect::<rusqlite::Result<_>>()
                .or_fault("list domains")?,
        ))
    }

    /// Stops taking mail for a domain that has no users.
    pub(crate) fn remove_domain(&self, name: &str) -> Result<(), Refusal> {
        let name = domain(name)?;
        let Some(id) = self.domain_id(name.as_str())? else {
            return Err(Refusal::NotFound);
        };
        let removed = self
            .database()
            .execute("DELETE FROM domains WHERE id = ?1", [id]);
        if is_constraint(&removed) {
            return Err(Refusal::Invalid(format!(
                "{name} still has users; remove them first"
            )));
        }
        removed.or_fault("remove a domain")?;
        self.forget_patterns(name.as_str());
        self.database()
            .execute("DELETE FROM grants WHERE domain = ?1", [name.as_str()])
            .or_fault("take sender addresses back")?;
        Ok(())
    }

    /// Makes a user. The mail directory is the caller's business.
    pub(crate) fn add_user(
        &self,
        owner: &Owner,
        password: &Secret,
        limits: Limits,
    ) -> Result<(), Refusal> {
        password::check(password)?;
        let Some(ours) = self.ours(&owner.domain)? else {
            return Err(Refusal::NoSuchDomain);
        };
        if ours.is_backup() {
            return Err(Refusal::Invalid(format!(
                "mail for {} is only passed on; make its duty final before it has users",
                owner.domain
            )));
        }
        let domain = ours.id;
        if self.user(owner)?.is_some() || self.has_exact_alias(domain, &owner.local)? {
            return Err(Refusal::Exists);
        }
        self.check_new_name(&ours, &owner.local)?;
        let stored = Stored::new(password.reveal(), self.iterations)?;
        unique(self.database().execute(
            "INSERT INTO users (domain, local, max_messages, max_bytes, salt, iterations, stored_key, server_key, created, stamp)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, random())",
            params![
                domain,
                owner.local,
                signed(limits.messages),
                signed(limits.bytes),
                stored.salt,
                stored.iterations,
                stored.stored_key,
                stored.server_key,
                clock::seconds()
            ],
        ))
    }

    /// A user, if there is one.
    pub(crate) fn user(&self, owner: &Owner) -> Result<Option<Account>, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT local, name, users.max_messages, users.max_bytes FROM users JOIN domains ON domains.id = users.domain
                 WHERE name = ?1 AND local = ?2",
            )
            .or_fault("read users")?;
        select
            .query_row(params![owner.domain, owner.local], account)
            .optional()
            .or_fault("read users")
    }

    /// A page of the users, by local part and domain; of one domain or of all.
    pub(crate) fn users(
        &self,
        domain: Option<&str>,
        after: Option<&Owner>,
    ) -> Result<Page<Account>, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT local, name, users.max_messages, users.max_bytes FROM users JOIN domains ON domains.id = users.domain
                 WHERE (?1 IS NULL OR name = ?1) AND (local, name) > (?2, ?3)
                 ORDER BY local, name LIMIT ?4",
            )
            .or_fault("list users")?;
        let (local, name) = after.map_or(("", ""), |after| {
            (after.local.as_str(), after.domain.as_str())
        });
        let rows = select
            .query_map(params![domain, local, name, PAGE], account)
            .or_fault("list users")?;
        Ok(Page::cut(
            rows.collect::<rusqlite::Result<_>>()
                .or_fault("list users")?,
        ))
    }

    /// Local parts of the users of a domain, ascending, behind `after`, at most `limit`.
    pub(crate) fn locals(
        &self,
        domain: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT local FROM users WHERE domain = (SELECT id FROM domains WHERE name = ?1) AND local > ?2
                 ORDER BY local LIMIT ?3",
            )
            .or_fault("list users")?;
        let rows = select
            .query_map(params![domain, after, limit], |row| row.get(0))
            .or_fault("list users")?;
        rows.collect::<rusqlite::Result<_>>().or_fault("list users")
    }

    /// Removes a user with its tokens, and with what others were granted of it.
    pub(crate) fn remove_user(&self, owner: &Owner) -> Result<(), Refusal> {
        let mut database = self.database();
        let change = database.transaction().or_fault("remove a user")?;
        let whom = params![owner.domain, owner.local];
        let removed = change.execute(
            "DELETE FROM users WHERE local = ?2 AND domain = (SELECT id FROM domains WHERE name = ?1)",
            whom,
        );
        found(removed, "remove a user")?;
        change
            .execute("DELETE FROM grants WHERE domain = ?1 AND local = ?2", whom)
            .or_fault("remove a user")?;
        change
            .execute(
                "DELETE FROM shares WHERE domain = ?1 AND local = ?2 OR grantee = ?3",
                params![owner.domain, owner.local, owner.address()],
            )
            .or_fault("remove a user")?;
        change.commit().or_fault("remove a user")
    }

    /// Gives a user a new password; tokens issued before end.
    pub(crate) fn set_password(&self, owner: &Owner, password: &Secret) -> Result<(), Refusal> {
        password::check(password)?;
        let before = self.stored_password(owner)?.ok_or(Refusal::NotFound)?;
        let stored = Stored::following(&before, password.reveal(), self.iterations)?;
        let mut database = self.database();
        let change = database.transaction().or_fault("change a password")?;
        former::keep(&change, owner)?;
        write_password(&change, owner, &stored)?;
        let ended = change.execute(
            "DELETE FROM tokens WHERE user = (SELECT users.id FROM users JOIN domains ON domains.id = users.domain
             WHERE name = ?1 AND local = ?2)",
            params![owner.domain, owner.local],
        );
        ended.or_fault("end tokens")?;
        change.commit().or_fault("change a password")
    }

    #[cfg(test)]
    pub(super) fn store_password(&self, owner: &Owner, stored: &Stored) -> Result<(), Refusal> {
        write_password(&self.database(), owner, stored)
    }

    /// Replaces a record by a better one of the same password, unless the password was changed meanwhile.
    pub(super) fn renew_password(
        &self,
        owner: &Owner,
        old: &Stored,
        new: &Stored,
    ) -> Result<bool, Refusal> {
        let changed = self.database().execute(
            "UPDATE users SET salt = ?3, iterations = ?4, stored_key = ?5, server_key = ?6
             WHERE local = ?2 AND domain = (SELECT id FROM domains WHERE name = ?1) AND stored_key = ?7 AND salt = ?8",
            params![
                owner.domain,
                owner.local,
                new.salt,
                new.iterations,
                new.stored_key,
                new.server_key,
                old.stored_key,
                old.salt
            ],
        );
        Ok(changed.or_fault("renew a password")? > 0)
    }

    pub(super) fn stored_password(&self, owner: &Owner) -> Result<Option<Stored>, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT salt, iterations, stored_key, server_key FROM users JOIN domains ON domains.id = users.domain
                 WHERE name = ?1 AND local = ?2",
            )
            .or_fault("read a password")?;
        let read = |row: &Row<'_>| {
            Ok(Stored {
                salt: row.get(0)?,
                iterations: row.get(1)?,
                stored_key: row.get(2)?,
                server_key: row.get(3)?,
            })
        };
        select
            .query_row(params![owner.domain, owner.local], read)
            .optional()
            .or_fault("read a password")
    }

    /// What the salts of users that do not exist are made with.
    pub(super) fn salt_key(&self) -> Result<Vec<u8>, Refusal> {
        let key = self
            .database()
            .query_row("SELECT value FROM salt_key", [], |row| row.get(0));
        key.or_fault("read the key of salts")
    }

    /// Number of domains and of users.
    pub(crate) fn counts(&self) -> Result<(u64, u64), Refusal> {
        let count = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let counts: rusqlite::Result<(i64, i64)> = self.database().query_row(
            "SELECT (SELECT count(*) FROM domains), (SELECT count(*) FROM users)",
            [],
            count,
        );
        let (domains, users) = counts.or_fault("count accounts")?;
        Ok((domains.unsigned_abs(), users.unsigned_abs()))
    }
}

fn write_password(database: &Connection, owner: &Owner, stored: &Stored) -> Result<(), Refusal> {
    let changed = database.execute(
        "UPDATE users SET salt = ?3, iterations = ?4, stored_key = ?5, server_key = ?6
         WHERE local = ?2 AND domain = (SELECT id FROM domains WHERE name = ?1)",
        params![
            owner.domain,
            owner.local,
            stored.salt,
            stored.iterations,
            stored.stored_key,
            stored.server_key
        ],
    );
    found(changed, "change a password")
}

fn account(row: &Row<'_>) -> rusqlite::Result<Account> {
    let owner = Owner {
        local: row.get(0)?,
        domain: row.get(1)?,
    };
    Ok(Account {
        owner,
        limits: limits(row, 2)?,
    })
}

/// Limits from two columns, messages first.
pub(super) fn limits(row: &Row<'_>, at: usize) -> rusqlite::Result<Limits> {
    Ok(Limits {
        messages: unsigned(row.get(at)?),
        bytes: unsigned(row.get(at + 1)?),
    })
}

/// SQLite has no unsigned numbers; what does not fit is more than anybody has.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn is_constraint<T>(result: &rusqlite::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| {
        error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
    })
}

/// An insertion: a row that is there already is told as such.
pub(super) fn unique(inserted: rusqlite::Result<usize>) -> Result<(), Refusal> {
    if is_constraint(&inserted) {
        return Err(Refusal::Exists);
    }
    inserted.or_fault("write the account database").map(|_| ())
}

/// A change of one row: if it is not there, that is told.
pub(super) fn found(changed: rusqlite::Result<usize>, doing: &'static str) -> Result<(), Refusal> {
    match changed.or_fault(doing)? {
        0 => Err(Refusal::NotFound),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(local: &str) -> Owner {
        Owner {
            local: local.into(),
            domain: "a.example".into(),
        }
    }

    fn accounts(users: &[String]) -> (tempfile::TempDir, Accounts) {
        let temp = tempfile::tempdir().unwrap();
        let accounts = Accounts::cheap(temp.path());
        accounts.add_domain("a.example", None).unwrap();
        for user in users {
            accounts
                .add_user(&owner(user), &Secret::new("password"), Limits::default())
                .unwrap();
        }
        (temp, accounts)
    }

    #[test]
    fn a_page_of_users_begins_behind_the_one_before_whatever_the_name() {
        let users: Vec<String> = (10..40).map(|n| format!("user {n}")).collect();
        let (_temp, accounts) = accounts(&users);
        let mut listed: Vec<String> = Vec::new();
        loop {
            let after = listed.last().map(|last| owner(last));
            let page = accounts.users(None, after.as_ref()).unwrap();
            listed.extend(page.entries.into_iter().map(|entry| entry.owner.local));
            if !page.more {
                break;
            }
        }
        assert_eq!(listed, users);
    }

    #[test]
    fn a_password_is_not_changed_where_its_tokens_cannot_be_ended() {
        let (_temp, accounts) = accounts(&["alice".into()]);
        let alice = owner("alice");
        accounts
            .database()
            .execute_batch("DROP TABLE tokens")
            .unwrap();
        assert_eq!(
            accounts.set_password(&alice, &Secret::new("another1")),
            Err(Refusal::StorageFault)
        );
        let stored = accounts.stored_password(&alice).unwrap().unwrap();
        assert_eq!(stored.verify(b"password"), password::Match::Yes);
    }
}
