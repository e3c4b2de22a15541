//! Bearer tokens of the API: 256 random bits, of which only the SHA-256 is kept.

use ipc::{Refusal, Secret};
use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::Accounts;
use crate::clock;
use crate::fault::OrFault;
use crate::store::Owner;

/// Seconds a token lives.
pub(crate) const LIFETIME: u32 = 3600;
/// Tokens one user may have at once; the oldest end first.
const MAX_TOKENS: i64 = 100;

impl Accounts {
    /// Issues a token for a user whose password was verified.
    pub(crate) fn issue_token(&self, owner: &Owner) -> Result<Secret, Refusal> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| {
            tracing::error!(%error, "cannot get random bytes");
            Refusal::StorageFault
        })?;
        let token = base64url(&bytes);
        let now = clock::seconds();
        let database = self.database();
        database
            .execute("DELETE FROM tokens WHERE expires <= ?1", [now])
            .or_fault("end tokens")?;
        database
            .execute(
                "DELETE FROM tokens WHERE hash IN (
                     SELECT hash FROM tokens JOIN users ON users.id = tokens.user JOIN domains ON domains.id = users.domain
                     WHERE name = ?1 AND local = ?2 ORDER BY expires DESC LIMIT -1 OFFSET ?3)",
                params![owner.domain, owner.local, MAX_TOKENS - 1],
            )
            .or_fault("end tokens")?;
        let issued = database.execute(
            "INSERT INTO tokens (hash, user, expires)
             SELECT ?3, users.id, ?4 FROM users JOIN domains ON domains.id = users.domain WHERE name = ?1 AND local = ?2",
            params![owner.domain, owner.local, hash(token.as_bytes()), now + i64::from(LIFETIME)],
        );
        match issued.or_fault("issue a token")? {
            0 => Err(Refusal::BadCredentials { wait: 0 }),
            _ => Ok(Secret::new(token)),
        }
    }

    /// Whose token this is, if it is one that has not ended.
    pub(super) fn token_owner(&self, token: &[u8]) -> Result<Option<Owner>, Refusal> {
        let owner = self
            .database()
            .query_row(
                "SELECT local, name FROM tokens JOIN users ON users.id = tokens.user JOIN domains ON domains.id = users.domain
                 WHERE hash = ?1 AND expires > ?2",
                params![hash(token), clock::seconds()],
                |row| Ok(Owner { local: row.get(0)?, domain: row.get(1)? }),
            )
            .optional();
        owner.or_fault("read a token")
    }
}

fn hash(token: &[u8]) -> Vec<u8> {
    Sha256::digest(token).to_vec()
}

// RFC 4648 §5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            let index = word >> (18 - 6 * at) & 63;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_that_of_rfc_4648() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"]
            .map(|text| base64url(text.as_bytes()));
        assert_eq!(
            texts,
            ["", "Zg", "Zm8", "Zm9v", "Zm9vYg", "Zm9vYmE", "Zm9vYmFy"]
        );
        assert_eq!(base64url(&[0xfb, 0xff, 0xfe]), "-__-");
        assert_eq!(base64url(&[0; 32]).len(), 43);
    }

    #[test]
    fn a_token_belongs_to_its_user_until_the_password_changes() {
        let temp = tempfile::tempdir().unwrap();
        let accounts = Accounts::cheap(temp.path());
        accounts.add_domain("a.example", None).unwrap();
        let alice = Owner {
            local: "alice".into(),
            domain: "a.example".into(),
        };
        accounts
            .add_user(
                &alice,
                &Secret::new("password"),
                ipc::quota::Limits::default(),
            )
            .unwrap();
        let token = accounts.issue_token(&alice).unwrap();
        assert_eq!(
            accounts.token_owner(token.reveal()),
            Ok(Some(alice.clone()))
        );
        assert_eq!(accounts.token_owner(b"x"), Ok(None));
        accounts
            .set_password(&alice, &Secret::new("another1"))
            .unwrap();
        assert_eq!(accounts.token_owner(token.reveal()), Ok(None));
    }

    #[test]
    fn a_token_ends_in_time_and_the_oldest_of_too_many_before() {
        let temp = tempfile::tempdir().unwrap();
        let accounts = Accounts::cheap(temp.path());
        accounts.add_domain("a.example", None).unwrap();
        let alice = Owner {
            local: "alice".into(),
            domain: "a.example".into(),
        };
        let limits = ipc::quota::Limits::default();
        let password = Secret::new("password");
        accounts.add_user(&alice, &password, limits).unwrap();
        let issue = || accounts.issue_token(&alice).unwrap();
        let end = |at: i64| {
            let ended = accounts
                .database()
                .execute("UPDATE tokens SET expires = ?1", [at]);
            ended.unwrap();
        };
        let count = || -> i64 {
            let database = accounts.database();
            let count = database.query_row("SELECT count(*) FROM tokens", [], |row| row.get(0));
            count.unwrap()
        };
        let first = issue();
        end(clock::seconds() + 60);
        assert_eq!(
            accounts.token_owner(first.reveal()),
            Ok(Some(alice.clone()))
        );
        end(clock::seconds());
        assert_eq!(accounts.token_owner(first.reveal()), Ok(None));
        let second = issue();
        assert_eq!(count(), 1, "what has ended is not kept");
        end(clock::seconds() + 60);
        let others: Vec<Secret> = (0..MAX_TOKENS).map(|_| issue()).collect();
        assert_eq!(count(), MAX_TOKENS);
        assert_eq!(accounts.token_owner(second.reveal()), Ok(None));
        for other in others {
            assert_eq!(
                accounts.token_owner(other.reveal()),
                Ok(Some(alice.clone()))
            );
        }
    }

    #[test]
    fn the_token_itself_is_not_in_the_database() {
        let temp = tempfile::tempdir().unwrap();
        let accounts = Accounts::cheap(temp.path());
        accounts.add_domain("a.example", None).unwrap();
        let alice = Owner {
            local: "alice".into(),
            domain: "a.example".into(),
        };
        accounts
            .add_user(
                &alice,
                &Secret::new("password"),
                ipc::quota::Limits::default(),
            )
            .unwrap();
        let token = accounts.issue_token(&alice).unwrap();
        drop(accounts);
        let file = std::fs::read(temp.path().join("accounts.db")).unwrap();
        assert!(!file.windows(43).any(|window| window == token.reveal()));
    }
}
