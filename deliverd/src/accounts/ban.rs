//! Locks that outlive the process: written down when they begin, because who is locked out must not wait for our next start.

use ipc::Refusal;
use rusqlite::{Row, params};

use super::Accounts;
use super::failures::{Ban, Key, MEMORY, Network};
use crate::fault::OrFault;

impl Accounts {
    /// Writes a lock down, and forgets those of long ago.
    pub(super) fn keep_ban(&self, ban: &Ban) -> Result<(), Refusal> {
        let database = self.database();
        database
            .execute("DELETE FROM bans WHERE until <= ?1", [ban.since - MEMORY])
            .or_fault("forget locks")?;
        let kept = database.execute(
            "INSERT OR REPLACE INTO bans (network, account, failures, times, since, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                ban.key.network.to_string(),
                ban.key.account.as_deref().unwrap_or_default(),
                ban.failures,
                ban.times,
                ban.since,
                ban.until
            ],
        );
        kept.map(|_| ()).or_fault("write a lock down")
    }

    /// Forgets a lock.
    pub(super) fn drop_ban(&self, key: &Key) -> Result<(), Refusal> {
        let dropped = self.database().execute(
            "DELETE FROM bans WHERE network = ?1 AND account = ?2",
            params![
                key.network.to_string(),
                key.account.as_deref().unwrap_or_default()
            ],
        );
        dropped.map(|_| ()).or_fault("lift a lock")
    }

    /// The locks that were written down, at most `most` of those that end last.
    pub(super) fn kept_bans(&self, most: usize) -> Result<Vec<Ban>, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare(
                "SELECT network, account, failures, times, since, until FROM bans ORDER BY until DESC LIMIT ?1",
            )
            .or_fault("read locks")?;
        let rows = select
            .query_map([i64::try_from(most).unwrap_or(i64::MAX)], read)
            .or_fault("read locks")?;
        let all: rusqlite::Result<Vec<Option<Ban>>> = rows.collect();
        Ok(all.or_fault("read locks")?.into_iter().flatten().collect())
    }
}

/// `None` for a network that somebody else has written.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<Ban>> {
    let (network, account): (String, String) = (row.get(0)?, row.get(1)?);
    let Some(network) = Network::parse(&network) else {
        return Ok(None);
    };
    let account = Some(account).filter(|account| !account.is_empty());
    Ok(Some(Ban {
        key: Key { network, account },
        failures: row.get(2)?,
        times: row.get(3)?,
        since: row.get(4)?,
        until: row.get(5)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_there_again_after_a_restart() {
        let temp = tempfile::tempdir().unwrap();
        let key = |account: Option<&str>| Key {
            network: Network::parse("192.0.2.0/24").unwrap(),
            account: account.map(str::to_owned),
        };
        let ban = |account, since| Ban {
            key: key(account),
            failures: 10,
            times: 2,
            since,
            until: since + 900,
        };
        let (network, alice) = (ban(None, MEMORY), ban(Some("alice@a.example"), MEMORY + 1));
        let accounts = Accounts::cheap(temp.path());
        accounts.keep_ban(&network).unwrap();
        accounts.keep_ban(&alice).unwrap();
        drop(accounts);
        let accounts = Accounts::cheap(temp.path());
        assert_eq!(
            accounts.kept_bans(9).unwrap(),
            [alice.clone(), network.clone()]
        );
        assert_eq!(accounts.kept_bans(1).unwrap(), std::slice::from_ref(&alice));
        accounts.drop_ban(&network.key).unwrap();
        assert_eq!(accounts.kept_bans(9).unwrap(), [alice]);
        accounts.keep_ban(&ban(None, 3 * MEMORY)).unwrap();
        assert_eq!(accounts.kept_bans(9).unwrap(), [ban(None, 3 * MEMORY)]);
    }
}
