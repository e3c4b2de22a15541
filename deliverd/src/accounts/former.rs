//! Passwords that users had before: not to let anybody in, but to know a device that was not told of the new one.
//!
//! A wrong proof of SCRAM does not show what was guessed: two made with one password have nothing in common. But whether it was made
//! with a password whose key is known can be checked as for the right one, if salt and iterations are the same. So a user keeps
//! the salt, and the keys of the last passwords stay here. Like those in use they open nothing by themselves, and cost as much to
//! guess.

use ipc::Refusal;
use rusqlite::{Connection, params};

use super::Accounts;
use super::password::Stored;
use crate::fault::OrFault;
use crate::store::Owner;

/// Passwords that are remembered of a user: a new one is often set twice, by the admin and then by its user.
const KEPT: u32 = 3;

/// Keeps a user's password of now as one of before.
pub(super) fn keep(database: &Connection, owner: &Owner) -> Result<(), Refusal> {
    let kept = database.execute(
        "INSERT INTO former_passwords (user, salt, iterations, stored_key)
         SELECT users.id, salt, iterations, stored_key FROM users JOIN domains ON domains.id = users.domain
         WHERE name = ?1 AND local = ?2",
        params![owner.domain, owner.local],
    );
    kept.or_fault("keep a former password")?;
    let dropped = database.execute(
        "DELETE FROM former_passwords WHERE id IN (
            SELECT former_passwords.id FROM former_passwords JOIN users ON users.id = user JOIN domains ON domains.id = users.domain
            WHERE name = ?1 AND local = ?2 ORDER BY former_passwords.id DESC LIMIT -1 OFFSET ?3)",
        params![owner.domain, owner.local, KEPT],
    );
    dropped.or_fault("drop a former password").map(|_| ())
}

impl Accounts {
    /// The key of a former password of the user that a proof over `message` was made with, if it was. `now` is the record that the
    /// client was told of.
    pub(super) fn former_key(
        &self,
        owner: &Owner,
        now: &Stored,
        message: &[u8],
        proof: &[u8],
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT former_passwords.stored_key FROM former_passwords
                 JOIN users ON users.id = user JOIN domains ON domains.id = users.domain
                 WHERE name = ?1 AND local = ?2 AND former_passwords.salt = ?3 AND former_passwords.iterations = ?4",
            )
            .or_fault("read former passwords")?;
        let keys = select
            .query_map(
                params![owner.domain, owner.local, now.salt, now.iterations],
                |row| row.get(0),
            )
            .or_fault("read former passwords")?;
        let keys: Vec<Vec<u8>> = keys
            .collect::<rusqlite::Result<_>>()
            .or_fault("read former passwords")?;
        let made_it = |stored_key: &Vec<u8>| {
            let former = Stored {
                stored_key: stored_key.clone(),
                ..now.clone()
            };
            former.check_proof(message, proof).is_some()
        };
        Ok(keys.into_iter().find(made_it))
    }
}
