//! The account database: its tables, and how an older file becomes a newer one.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// One step per version; `user_version` says how many were taken. Steps are only ever added.
const MIGRATIONS: [&str; 10] = [
    "
    CREATE TABLE domains (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE users (
        id INTEGER PRIMARY KEY,
        domain INTEGER NOT NULL REFERENCES domains(id) ON DELETE RESTRICT,
        local TEXT NOT NULL,
        quota INTEGER NOT NULL,
        salt BLOB NOT NULL,
        iterations INTEGER NOT NULL,
        stored_key BLOB NOT NULL,
        server_key BLOB NOT NULL,
        created INTEGER NOT NULL,
        UNIQUE (domain, local)
    ) STRICT;
    CREATE TABLE aliases (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        domain INTEGER NOT NULL REFERENCES domains(id) ON DELETE CASCADE,
        kind INTEGER NOT NULL,
        pattern TEXT NOT NULL,
        targets TEXT NOT NULL,
        UNIQUE (domain, kind, pattern)
    ) STRICT;
    CREATE TABLE tokens (
        hash BLOB PRIMARY KEY,
        user INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,
        expires INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tokens_by_expiry ON tokens (expires);
",
    // Limits are 0 where there is none. What users store is a copy of what memory knows: `is_exact` only from a clean stop to
    // the next start.
    "
    CREATE TABLE tenants (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        max_messages INTEGER NOT NULL,
        max_bytes INTEGER NOT NULL
    ) STRICT;
    ALTER TABLE domains ADD COLUMN tenant INTEGER REFERENCES tenants(id) ON DELETE RESTRICT;
    ALTER TABLE domains ADD COLUMN max_messages INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE domains ADD COLUMN max_bytes INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX domains_by_tenant ON domains (tenant);
    ALTER TABLE users RENAME COLUMN quota TO max_bytes;
    ALTER TABLE users ADD COLUMN max_messages INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE usage (
        user INTEGER PRIMARY KEY REFERENCES users(id) ON DELETE CASCADE,
        messages INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE usage_state (is_exact INTEGER NOT NULL) STRICT;
    INSERT INTO usage_state VALUES (0);
",
    "ALTER TABLE tenants ADD COLUMN search_text INTEGER NOT NULL DEFAULT 1;",
    // Who is not heard for a while; no account means all. What the salts of users that do not exist are made with.
    "
    CREATE TABLE bans (
        network TEXT NOT NULL,
        account TEXT NOT NULL,
        failures INTEGER NOT NULL,
        times INTEGER NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (network, account)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE salt_key (value BLOB NOT NULL) STRICT;
    INSERT INTO salt_key VALUES (randomblob(32));
",
    // How addresses are read, who may send as whom, and senders that were rewritten.
    "
    ALTER TABLE domains ADD COLUMN separator TEXT NOT NULL DEFAULT '+';
    ALTER TABLE domains ADD COLUMN dots_matter INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE domains ADD COLUMN duty INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX users_without_dots ON users (domain, replace(local, '.', ''));
    CREATE INDEX aliases_without_dots ON aliases (domain, replace(pattern, '.', '')) WHERE kind = 0;
    CREATE TABLE grants (
        user INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,
        domain TEXT NOT NULL,
        local TEXT NOT NULL,
        PRIMARY KEY (user, domain, local)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX grants_by_address ON grants (domain, local);
    CREATE TABLE srs_key (secret BLOB NOT NULL) STRICT;
    CREATE TABLE srs_senders (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        address TEXT NOT NULL UNIQUE,
        day INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX srs_senders_by_day ON srs_senders (day);
",
    // What may be sent in a day, where that is not what the configuration says.
    "
    ALTER TABLE users ADD COLUMN budget_messages INTEGER;
    ALTER TABLE users ADD COLUMN budget_recipients INTEGER;
    ALTER TABLE users ADD COLUMN budget_first_time INTEGER;
    ALTER TABLE domains ADD COLUMN budget_messages INTEGER;
    ALTER TABLE domains ADD COLUMN budget_recipients INTEGER;
    ALTER TABLE domains ADD COLUMN budget_first_time INTEGER;
    ALTER TABLE tenants ADD COLUMN budget_messages INTEGER;
    ALTER TABLE tenants ADD COLUMN budget_recipients INTEGER;
    ALTER TABLE tenants ADD COLUMN budget_first_time INTEGER;
",
    // What proofs with passwords of before are known by, as long as the salt is the same.
    "
    CREATE TABLE former_passwords (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        user INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,
        salt BLOB NOT NULL,
        iterations INTEGER NOT NULL,
        stored_key BLOB NOT NULL
    ) STRICT;
    CREATE INDEX former_passwords_by_user ON former_passwords (user);
",
    // Whether addresses that differ in letter case only are different ones.
    "ALTER TABLE domains ADD COLUMN case_matters INTEGER NOT NULL DEFAULT 0;",
    // Extensions of IMAP that clients of a user are not offered, with blanks between.
    "ALTER TABLE users ADD COLUMN imap_without TEXT NOT NULL DEFAULT '';",
    // What distinguishes an account from others that had or will have its address; and who is given rights by which user. The latter
    // follows from the files of the store, and may know too much, but never too little.
    "
    ALTER TABLE users ADD COLUMN stamp INTEGER NOT NULL DEFAULT 0;
    UPDATE users SET stamp = random();
    CREATE TABLE shares (
        grantee TEXT NOT NULL,
        domain TEXT NOT NULL,
        local TEXT NOT NULL,
        PRIMARY KEY (grantee, domain, local)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX shares_by_owner ON shares (domain, local);
",
];

/// Opens the database at `path`, makes it if need be, and brings it up to date.
///
/// # Errors
/// A text for the admin.
pub(super) fn open(path: &Path) -> Result<Connection, String> {
    let explain = |error: rusqlite::Error| {
        format!(
            "cannot open the account database {}: {error}; it must belong to the user deliverd runs as",
            path.display()
        )
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    make_private(path).map_err(|error| {
        format!("cannot make the account database {}: {error}; its directory must belong to the user deliverd runs as", path.display())
    })?;
    let mut database = Connection::open_with_flags(path, flags).map_err(explain)?;
    prepare(&database).map_err(explain)?;
    let version: u32 = database
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(explain)?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > MIGRATIONS.len() {
        return Err(format!(
            "the account database {} was written by a newer version of rmail (format {version})",
            path.display()
        ));
    }
    for (step, sql) in (1_u32..).zip(MIGRATIONS).skip(version) {
        let migrate = |database: &mut Connection| {
            let transaction = database.transaction()?;
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "user_version", step)?;
            transaction.commit()
        };
        migrate(&mut database).map_err(explain)?;
    }
    Ok(database)
}

/// Makes the file, if it is not there, for nobody else to read: it holds password records. SQLite gives its other files the
/// same mode.
fn make_private(path: &Path) -> std::io::Result<()> {
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map(|_| ())
}

fn prepare(database: &Connection) -> rusqlite::Result<()> {
    // A committed change is on disk: FULL flushes the log at each commit.
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.pragma_update(None, "foreign_keys", true)?;
    database.pragma_update(None, "trusted_schema", false)?;
    // There may be no directory for temporary files in the jail.
    database.pragma_update(None, "temp_store", "MEMORY")?;
    database.busy_timeout(std::time::Duration::from_secs(5))?;
    database.set_prepared_statement_cache_capacity(64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_can_be_opened_again() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("accounts.db");
        open(&path)
            .unwrap()
            .execute("INSERT INTO domains (name) VALUES ('a.example')", [])
            .unwrap();
        let count: i64 = open(&path)
            .unwrap()
            .query_row("SELECT count(*) FROM domains", [], |row| row.get(0))
            .unwrap();
        assert_eq!(count, 1);
    }

    #[test]
    fn nobody_else_can_read_the_database() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let database = open(&temp.path().join("accounts.db")).unwrap();
        database
            .execute("INSERT INTO domains (name) VALUES ('a.example')", [])
            .unwrap();
        for entry in std::fs::read_dir(temp.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0);
        }
    }

    #[test]
    fn a_newer_database_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("accounts.db");
        open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        assert!(open(&path).unwrap_err().contains("newer version"));
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error_with_its_name() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("accounts.db");
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        assert!(open(&path).unwrap_err().contains("accounts.db"));
    }
}
