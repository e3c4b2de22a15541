//! Tenants, whose domains share limits, and the limits of tenants, domains and users.

use ipc::Refusal;
use ipc::quota::{LimitChange, Limits};
use rusqlite::{OptionalExtension, params};

use super::directory::{PAGE, Page, found, is_constraint, limits, signed, unique};
use super::{Accounts, domain};
use crate::fault::OrFault;
use crate::store::Owner;

/// Bytes of a tenant's name.
const MAX_NAME: usize = 64;

/// A tenant as the database knows it.
pub(crate) struct Tenant {
    pub(crate) name: String,
    pub(crate) limits: Limits,
    /// Whether the text of its messages is kept for searching.
    pub(crate) search_text: bool,
}

impl Accounts {
    /// Makes a tenant.
    pub(crate) fn add_tenant(&self, name: &str, limits: Limits) -> Result<(), Refusal> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_plain) {
            return Err(Refusal::Invalid(format!(
                "\"{}\" is no name for a tenant: 1 to {MAX_NAME} letters, digits, \"-\", \"_\" and \".\"",
                name.escape_debug()
            )));
        }
        unique(self.database().execute(
            "INSERT INTO tenants (name, max_messages, max_bytes) VALUES (?1, ?2, ?3)",
            params![name, signed(limits.messages), signed(limits.bytes)],
        ))
    }

    /// A page of the tenants, by name.
    pub(crate) fn tenants(&self, after: Option<&str>) -> Result<Page<Tenant>, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT name, max_messages, max_bytes, search_text FROM tenants WHERE name > ?1 ORDER BY name LIMIT ?2",
            )
            .or_fault("list tenants")?;
        let rows = select
            .query_map(params![after.unwrap_or(""), PAGE], |row| {
                Ok(Tenant {
                    name: row.get(0)?,
                    limits: limits(row, 1)?,
                    search_text: row.get(3)?,
                })
            })
            .or_fault("list tenants")?;
        Ok(Page::cut(
            rows.collect::<rusqlite::Result<_>>()
                .or_fault("list tenants")?,
        ))
    }

    /// Sets whether the text of a tenant's messages is kept for searching.
    pub(crate) fn keep_search_text(&self, name: &str, keep: bool) -> Result<(), Refusal> {
        let changed = self.database().execute(
            "UPDATE tenants SET search_text = ?2 WHERE name = ?1",
            params![name, keep],
        );
        found(changed, "change a tenant")
    }

    /// Whether the text of a domain's messages is kept for searching: unless its tenant does not want it.
    pub(crate) fn keeps_search_text(&self, domain: &str) -> Result<bool, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT tenants.search_text FROM domains JOIN tenants ON tenants.id = domains.tenant
                 WHERE domains.name = ?1",
            )
            .or_fault("read tenants")?;
        let keeps = select.query_row([domain], |row| row.get(0)).optional();
        Ok(keeps.or_fault("read tenants")?.unwrap_or(true))
    }

    /// The tenant a domain belongs to, if it does to one.
    pub(crate) fn tenant_of(&self, name: &str) -> Result<Option<String>, Refusal> {
        let name = domain(name)?;
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT tenants.name FROM domains JOIN tenants ON tenants.id = domains.tenant WHERE domains.name = ?1",
            )
            .or_fault("read tenants")?;
        select
            .query_row([name.as_str()], |row| row.get(0))
            .optional()
            .or_fault("read tenants")
    }

    /// Removes a tenant that has no domains.
    pub(crate) fn remove_tenant(&self, name: &str) -> Result<(), Refusal> {
        let removed = self
            .database()
            .execute("DELETE FROM tenants WHERE name = ?1", [name]);
        if is_constraint(&removed) {
            return Err(Refusal::Invalid(format!(
                "{name} still has domains; remove them or give them to another tenant first"
            )));
        }
        found(removed, "remove a tenant")
    }

    /// The number of the tenant that is named; an error if there is none of that name.
    pub(super) fn tenant_id(&self, name: Option<&str>) -> Result<Option<i64>, Refusal> {
        let Some(name) = name else { return Ok(None) };
        let database = self.database();
        let id = database
            .query_row("SELECT id FROM tenants WHERE name = ?1", [name], |row| {
                row.get(0)
            })
            .optional()
            .or_fault("read tenants")?;
        let missing = || {
            Refusal::Invalid(format!(
                "there is no tenant \"{}\"; add it first",
                name.escape_debug()
            ))
        };
        id.map(Some).ok_or_else(missing)
    }

    /// Gives a domain to a tenant, or to none.
    pub(crate) fn assign_domain(&self, name: &str, tenant: Option<&str>) -> Result<(), Refusal> {
        let name = domain(name)?;
        let tenant = self.tenant_id(tenant)?;
        let changed = self.database().execute(
            "UPDATE domains SET tenant = ?2 WHERE name = ?1",
            params![name.as_str(), tenant],
        );
        found(changed, "change a domain")
    }

    /// Changes the limits of a tenant and gives what they are now.
    pub(crate) fn limit_tenant(&self, name: &str, change: LimitChange) -> Result<Limits, Refusal> {
        let by_name = "UPDATE tenants SET max_messages = coalesce(?3, max_messages), max_bytes = coalesce(?4, max_bytes)
            WHERE name = ?1 AND ?2 IS NULL RETURNING max_messages, max_bytes";
        self.limit(by_name, (name, None), change)
    }

    /// Changes the limits of a domain and gives what they are now.
    pub(crate) fn limit_domain(&self, name: &str, change: LimitChange) -> Result<Limits, Refusal> {
        let name = domain(name)?;
        let by_name = "UPDATE domains SET max_messages = coalesce(?3, max_messages), max_bytes = coalesce(?4, max_bytes)
            WHERE name = ?1 AND ?2 IS NULL RETURNING max_messages, max_bytes";
        self.limit(by_name, (name.as_str(), None), change)
    }

    /// Changes the limits of a user and gives what they are now.
    pub(crate) fn limit_user(&self, owner: &Owner, change: LimitChange) -> Result<Limits, Refusal> {
        let by_name = "UPDATE users SET max_messages = coalesce(?3, max_messages), max_bytes = coalesce(?4, max_bytes)
            WHERE domain = (SELECT id FROM domains WHERE name = ?1) AND local = ?2 RETURNING max_messages, max_bytes";
        self.limit(by_name, (&owner.domain, Some(&owner.local)), change)
    }

    fn limit(
        &self,
        update: &'static str,
        (name, local): (&str, Option<&str>),
        change: LimitChange,
    ) -> Result<Limits, Refusal> {
        let (messages, bytes) = (change.messages.map(signed), change.bytes.map(signed));
        let changed = self
            .database()
            .query_row(update, params![name, local, messages, bytes], |row| {
                limits(row, 0)
            })
            .optional();
        changed.or_fault("change a limit")?.ok_or(Refusal::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::World;
    use super::*;

    #[test]
    fn a_domain_has_the_tenant_it_was_given_to() {
        let world = World::new();
        let of = |name: &str| world.accounts.tenant_of(name);
        assert_eq!(of("a.example"), Ok(None));
        assert_eq!(of("elsewhere.example"), Ok(None));
        assert!(matches!(of("no domain"), Err(Refusal::Invalid(_))));
        world
            .accounts
            .add_tenant("acme", Limits::default())
            .unwrap();
        world
            .accounts
            .assign_domain("a.example", Some("acme"))
            .unwrap();
        assert_eq!(of("A.Example"), Ok(Some("acme".to_owned())));
        assert_eq!(of("b.example"), Ok(None));
    }
}
