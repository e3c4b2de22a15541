//! Which extensions of IMAP the clients of a user are not offered. What they are is imapd's business; here they are words.

use ipc::Refusal;
use ipc::imap::{MAX_EXTENSION, MAX_WITHOUT};
use rusqlite::{OptionalExtension, params};

use super::Accounts;
use crate::fault::OrFault;
use crate::store::Owner;

impl Accounts {
    /// Those of a user.
    pub(crate) fn imap_without(&self, owner: &Owner) -> Result<Vec<String>, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT imap_without FROM users JOIN domains ON domains.id = users.domain
                 WHERE name = ?1 AND local = ?2",
            )
            .or_fault("read what a user is not offered")?;
        let found = select.query_row([&owner.domain, &owner.local], |row| row.get(0));
        let found: Option<String> = found
            .optional()
            .or_fault("read what a user is not offered")?;
        let names = found.ok_or(Refusal::NoSuchUser)?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }

    /// Sets those of a user.
    pub(crate) fn set_imap_without(&self, owner: &Owner, names: &[String]) -> Result<(), Refusal> {
        let is_word = |name: &String| {
            (1..=MAX_EXTENSION).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if names.len() > MAX_WITHOUT || !names.iter().all(is_word) {
            return Err(Refusal::Invalid(format!(
                "expected at most {MAX_WITHOUT} names of extensions, of at most {MAX_EXTENSION} printable characters each"
            )));
        }
        let changed = self
            .database()
            .execute(
                "UPDATE users SET imap_without = ?3
                 WHERE local = ?2 AND domain = (SELECT id FROM domains WHERE name = ?1)",
                params![owner.domain, owner.local, names.join(" ")],
            )
            .or_fault("write what a user is not offered")?;
        if changed == 0 {
            return Err(Refusal::NoSuchUser);
        }
        Ok(())
    }
}
