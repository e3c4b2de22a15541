//! What users store, written down from time to time, so that a start knows the sums of domains and tenants without reading all
//! mail. The mailboxes know better: they correct it.

use rusqlite::{Row, params};

use ipc::Refusal;

use super::Accounts;
use super::directory::{limits, signed, unsigned};
use crate::fault::OrFault;
use crate::store::{Ledger, Owner, Totals};

impl Accounts {
    /// Enters all tenants, domains and users with what was written down. From now on the database is not exact; true if it was.
    pub(crate) fn open_ledger(&self, ledger: &Ledger) -> Result<bool, Refusal> {
        let database = self.database();
        let entered = database
            .prepare("SELECT name, max_messages, max_bytes FROM tenants")
            .and_then(|mut select| {
                let mut rows = select.query([])?;
                while let Some(row) = rows.next()? {
                    ledger.set_tenant(&row.get::<_, String>(0)?, limits(row, 1)?);
                }
                Ok(())
            });
        entered.or_fault("read tenants")?;
        let entered = database
            .prepare(
                "SELECT domains.name, domains.max_messages, domains.max_bytes, tenants.name
                 FROM domains LEFT JOIN tenants ON tenants.id = domains.tenant",
            )
            .and_then(|mut select| {
                let mut rows = select.query([])?;
                while let Some(row) = rows.next()? {
                    let name: String = row.get(0)?;
                    ledger.set_domain(&name, limits(row, 1)?);
                    ledger.assign_domain(&name, row.get::<_, Option<String>>(3)?.as_deref());
                }
                Ok(())
            });
        entered.or_fault("read domains")?;
        let entered = database
            .prepare(
                "SELECT local, name, users.max_messages, users.max_bytes, coalesce(messages, 0), coalesce(bytes, 0)
                 FROM users JOIN domains ON domains.id = users.domain LEFT JOIN usage ON usage.user = users.id",
            )
            .and_then(|mut select| {
                let mut rows = select.query([])?;
                while let Some(row) = rows.next()? {
                    let owner = Owner {
                        local: row.get(0)?,
                        domain: row.get(1)?,
                    };
                    ledger.set_user(&owner, limits(row, 2)?, totals(row, 4)?);
                }
                Ok(())
            });
        entered.or_fault("read users")?;
        let was_exact: i64 = database
            .query_row("SELECT is_exact FROM usage_state", [], |row| row.get(0))
            .or_fault("read the state of the usage")?;
        if was_exact != 0 {
            database
                .execute("UPDATE usage_state SET is_exact = 0", [])
                .or_fault("write the state of the usage")?;
        }
        Ok(was_exact != 0)
    }

    /// Writes down what users store; those that are not there any more are passed over.
    pub(crate) fn write_usage(&self, users: &[(Owner, Totals)]) -> Result<(), Refusal> {
        let mut database = self.database();
        let written = database.transaction().and_then(|change| {
            {
                let mut insert = change.prepare_cached(
                    "INSERT INTO usage (user, messages, bytes)
                     SELECT users.id, ?3, ?4 FROM users JOIN domains ON domains.id = users.domain WHERE name = ?1 AND local = ?2
                     ON CONFLICT (user) DO UPDATE SET messages = excluded.messages, bytes = excluded.bytes",
                )?;
                for (Owner { local, domain }, Totals { messages, bytes }) in users {
                    insert.execute(params![domain, local, signed(*messages), signed(*bytes)])?;
                }
            }
            change.commit()
        });
        written.or_fault("write down what users store")
    }

    /// Says that what is written down is what the mailboxes have; for the last moment of a clean stop.
    pub(crate) fn close_ledger(&self) -> Result<(), Refusal> {
        self.database()
            .execute("UPDATE usage_state SET is_exact = 1", [])
            .map(|_| ())
            .or_fault("write the state of the usage")
    }
}

fn totals(row: &Row<'_>, at: usize) -> rusqlite::Result<Totals> {
    Ok(Totals {
        messages: unsigned(row.get(at)?),
        bytes: unsigned(row.get(at + 1)?),
    })
}
