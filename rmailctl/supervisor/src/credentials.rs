//! Secrets only root can read, copied for the daemon that needs them, as systemd's `LoadCredential=` does.
//!
//! `credentials/NAME` belongs to the supervisor and can only be passed through; the files in it belong to the daemon and are
//! for it alone. So the daemon cannot put anything there, and the supervisor can replace files without overriding permissions.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use sys::plan::{Credential, Daemon, Plan};

use crate::directory::make;
use crate::failure::{CONFIG, Failure, log};

/// A certificate chain is a few KiB; whatever is longer is a mistake.
const MAX_BYTES: u64 = 1024 * 1024;

/// `CREDENTIALS_DIRECTORY` of a daemon.
pub(crate) fn directory(run_dir: &Path, daemon: &str) -> PathBuf {
    run_dir.join("credentials").join(daemon)
}

/// Copies all credentials, each appearing whole. First all are read: a key that cannot be read leaves the old certificate in
/// place too, or the next daemon to start would find a pair that does not fit.
pub(crate) fn copy(plan: &Plan) -> Result<(), Failure> {
    let refused = |daemon: &Daemon, credential: &Credential, error: &std::io::Error| Failure {
        status: CONFIG,
        text: format!(
            "cannot copy {} for {}: {error}; check the path in the configuration and that uid {} can read it",
            credential.source.display(),
            daemon.name,
            sys::user::myself().uid
        ),
    };
    let mut all = Vec::new();
    for daemon in &plan.daemons {
        for credential in &daemon.credentials {
            let bytes =
                read(&credential.source).map_err(|error| refused(daemon, credential, &error))?;
            all.push((daemon, credential, bytes));
        }
    }
    for daemon in &plan.daemons {
        let to = directory(&plan.run_dir, &daemon.name);
        make(&to, 0o711)
            .map_err(|error| Failure::system(format!("cannot make {}", to.display()), &error))?;
    }
    for (daemon, credential, bytes) in all {
        let to = directory(&plan.run_dir, &daemon.name);
        write(daemon, credential, &bytes, &to)
            .map_err(|error| refused(daemon, credential, &error))?;
    }
    Ok(())
}

fn read(source: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let source = File::open(source)?;
    if !source.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    source.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other("longer than 1 MiB"));
    }
    Ok(bytes)
}

fn write(daemon: &Daemon, credential: &Credential, bytes: &[u8], to: &Path) -> std::io::Result<()> {
    let temporary = to.join(".new");
    crate::directory::remove(&temporary);
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(0o400))?;
    if sys::user::is_root() {
        fchown(&file, Some(daemon.uid), Some(daemon.gid))?;
    }
    fs::rename(&temporary, to.join(&credential.name))
}

/// Removes all copies below the run directory.
pub(crate) fn remove(run_dir: &Path) {
    let all = run_dir.join("credentials");
    for daemon in fs::read_dir(&all).into_iter().flatten().flatten() {
        if let Err(error) = fs::remove_dir_all(daemon.path()) {
            log(&format!(
                "cannot remove {}: {error}",
                daemon.path().display()
            ));
        }
    }
}
