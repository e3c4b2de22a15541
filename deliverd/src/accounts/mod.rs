//! Accounts: domains, users, aliases, tokens, and who may log in. Kept in an embedded database that only this process opens.

mod alias;
mod ban;
mod budget;
mod directory;
mod exchange;
mod failures;
mod former;
mod imap;
mod known;
mod login;
mod password;
mod policy;
mod resolve;
mod role;
mod rules;
mod schema;
mod scram;
mod sender;
mod shares;
mod srs;
mod tenant;
mod token;
mod usage;
mod walk;

#[cfg(test)]
mod world;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipc::Refusal;
use mail::address::{Address, Domain};
use rusqlite::Connection;

use crate::store::Owner;

use self::known::{Database, Known};

pub(crate) use self::directory::{Account, DomainEntry};
pub(crate) use self::exchange::{Exchanges, Step};
pub(crate) use self::failures::{Ban, Key, Network, Patience};
pub(crate) use self::login::Doorman;
pub(crate) use self::policy::Policy;
pub(crate) use self::resolve::Resolved;
pub(crate) use self::shares::Sharer;
pub(crate) use self::tenant::Tenant;
pub(crate) use self::token::LIFETIME as TOKEN_LIFETIME;

/// The account database. All of it blocks for microseconds, changes for one flush.
pub(crate) struct Accounts {
    database: Mutex<Connection>,
    /// Compiled regular expressions per domain; dropped when its aliases change.
    patterns: Mutex<HashMap<String, Arc<Vec<alias::Pattern>>>>,
    known: Known,
    policy: Policy,
    srs_key: srs::Key,
    /// Iterations for new passwords; fewer in tests.
    iterations: u32,
}

impl Accounts {
    /// Opens the database in `directory`.
    ///
    /// # Errors
    /// A text for the admin.
    pub(crate) fn open(directory: &Path, policy: Policy) -> Result<Self, String> {
        Self::with_iterations(directory, policy, password::ITERATIONS)
    }

    fn with_iterations(directory: &Path, policy: Policy, iterations: u32) -> Result<Self, String> {
        let database = schema::open(&directory.join("accounts.db"))?;
        Ok(Self {
            policy,
            srs_key: srs::Key::of(&database)?,
            database: Mutex::new(database),
            patterns: Mutex::new(HashMap::new()),
            known: Known::default(),
            iterations,
        })
    }

    /// For tests: as [`Accounts::open`], with passwords that cost nothing.
    #[cfg(test)]
    pub(crate) fn cheap(directory: &Path) -> Self {
        Self::cheap_with(directory, Policy::default())
    }

    #[cfg(test)]
    pub(crate) fn cheap_with(directory: &Path, policy: Policy) -> Self {
        Self::with_iterations(directory, policy, 16).unwrap()
    }

    fn database(&self) -> Database<'_> {
        // A transaction that was open when a call panicked was rolled back when it was dropped.
        let connection = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        Database::new(connection, &self.known)
    }

    /// The database, to change what has nothing to do with where mail goes: all that is known stays known.
    fn database_of_senders(&self) -> MutexGuard<'_, Connection> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads an address as it comes over IPC: quoted as on the wire, or with the bare local part.
pub(crate) fn address(text: &str) -> Result<Address, Refusal> {
    let bare = || {
        let (local, domain) = text
            .rsplit_once('@')
            .filter(|(local, _)| !local.starts_with('"'))?;
        Address::new(local, Domain::parse(domain).ok()?).ok()
    };
    match Address::parse(text) {
        Ok(address) => Ok(address),
        Err(error) => bare().ok_or_else(|| {
            Refusal::Invalid(format!(
                "\"{}\" is no address: {error}",
                text.escape_debug()
            ))
        }),
    }
}

/// Reads a domain name of ours; address literals cannot be that.
pub(crate) fn domain(text: &str) -> Result<Domain, Refusal> {
    match Domain::parse(text) {
        Ok(domain) if !domain.is_literal() => Ok(domain),
        _ => Err(Refusal::Invalid(format!(
            "\"{}\" is no domain name",
            text.escape_debug()
        ))),
    }
}

impl Owner {
    /// Whose mail an address is, if there is such a user.
    pub(crate) fn of(address: &Address) -> Self {
        Self {
            local: address.local().to_lowercase(),
            domain: address.domain().as_str().to_owned(),
        }
    }

    /// The canonical address.
    pub(crate) fn address(&self) -> String {
        let address =
            Domain::parse(&self.domain).and_then(|domain| Address::new(&self.local, domain));
        address.map_or_else(
            |_| format!("{}@{}", self.local, self.domain),
            |address| address.to_string(),
        )
    }
}
