//! The run directory: claimed by one supervisor at a time, writable for nobody else.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use sys::plan::Plan;

use crate::failure::{CONFIG, Failure, PERMISSION, SYSTEM, log};

/// The claimed directory; the lock holds as long as the value lives.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    path: PathBuf,
    _lock: File,
}

impl RunDirectory {
    /// Makes the directory if it is missing, checks it, and locks out a second supervisor.
    pub(crate) fn claim(plan: &Plan) -> Result<Self, Failure> {
        let path = plan.run_dir.clone();
        let root = sys::user::is_root();
        // Daemons of other users pass through to their sockets; nobody lists or writes.
        make(&path, if root { 0o711 } else { 0o700 }).map_err(|error| explain(&path, &error))?;
        check(&path)?;
        let lock = lock(&path)?;
        for (name, mode) in [("notify", 0o711), ("credentials", 0o711), ("pids", 0o755)] {
            let part = path.join(name);
            make(&part, mode).map_err(|error| explain(&part, &error))?;
            check(&part)?;
        }
        let directory = Self { path, _lock: lock };
        directory.write("rmaild.pid", std::process::id());
        Ok(directory)
    }

    /// Where the daemon called `name` tells that it is ready.
    pub(crate) fn notify(&self, name: &str) -> PathBuf {
        self.path.join("notify").join(name)
    }

    /// Tells the pid of a daemon to whoever wants to know.
    pub(crate) fn note_pid(&self, name: &str, pid: i32) {
        self.write(&format!("pids/{name}"), pid);
    }

    /// Takes back a pid that is no more.
    pub(crate) fn forget_pid(&self, name: &str) {
        remove(&self.path.join("pids").join(name));
    }

    /// A pid file; only information for others, so a failure is told and survived.
    fn write(&self, name: &str, pid: impl std::fmt::Display) {
        let path = self.path.join(name);
        let temporary = path.with_extension("new");
        let written = File::create(&temporary)
            .and_then(|mut file| {
                file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
                writeln!(file, "{pid}")
            })
            .and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = written {
            log(&format!("cannot write {}: {error}", path.display()));
        }
    }

    /// Removes what a running supervisor has in it.
    pub(crate) fn clear(&self) {
        remove(&self.path.join("rmaild.pid"));
        for part in ["notify", "pids"] {
            for entry in fs::read_dir(self.path.join(part))
                .into_iter()
                .flatten()
                .flatten()
            {
                remove(&entry.path());
            }
        }
        crate::credentials::remove(&self.path);
    }
}

/// Removes a file; one that is not there is removed already.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        log(&format!("cannot remove {}: {error}", path.display()));
    }
}

/// Makes a directory of this mode; one that is there keeps its mode.
pub(crate) fn make(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        make(parent, 0o755)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        // The mask of the process took bits away.
        Ok(()) => fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)),
    }
}

fn explain(path: &Path, error: &io::Error) -> Failure {
    let status = if error.kind() == io::ErrorKind::PermissionDenied {
        PERMISSION
    } else {
        SYSTEM
    };
    let text = format!(
        "cannot make {}: {error}; make it for uid {}, or name another directory in the configuration",
        path.display(),
        sys::user::myself().uid
    );
    Failure { status, text }
}

/// Ours alone, and really a directory.
fn check(path: &Path) -> Result<(), Failure> {
    let refuse = |reason: String| Failure {
        status: PERMISSION,
        text: format!(
            "{} {reason}; remove it, or set another run_dir in the configuration",
            path.display()
        ),
    };
    let found = fs::symlink_metadata(path).map_err(|error| explain(path, &error))?;
    let uid = sys::user::myself().uid;
    if !found.is_dir() {
        return Err(refuse("is not a directory".into()));
    }
    if found.uid() != uid {
        return Err(refuse(format!(
            "belongs to uid {}, not to {uid}",
            found.uid()
        )));
    }
    if found.mode() & 0o022 != 0 {
        return Err(refuse(format!(
            "can be written by others (mode {:o}), who could put false sockets there",
            found.mode() & 0o7777
        )));
    }
    Ok(())
}

fn lock(directory: &Path) -> Result<File, Failure> {
    let path = directory.join("rmaild.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| explain(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(directory.join("rmaild.pid")).unwrap_or_default();
            let text = format!(
                "another rmaild (pid {}) uses {}; stop it first, or set another run_dir",
                pid.trim(),
                directory.display()
            );
            Err(Failure {
                status: SYSTEM,
                text,
            })
        }
        Err(TryLockError::Error(error)) => Err(Failure::system(
            format!("cannot lock {}", path.display()),
            &error,
        )),
    }
}

/// Makes the directories the daemons own, and refuses one that belongs to somebody else.
pub(crate) fn make_state(plan: &Plan) -> Result<(), Failure> {
    for daemon in &plan.daemons {
        for bind in daemon.binds.iter().filter(|bind| bind.writable) {
            let path = &bind.path;
            let fresh = !path.exists();
            make(path, 0o700).map_err(|error| explain(path, &error))?;
            let (uid, gid) = if sys::user::is_root() {
                (daemon.uid, daemon.gid)
            } else {
                continue;
            };
            if fresh {
                chown(path, Some(uid), Some(gid)).map_err(|error| {
                    Failure::system(
                        format!("cannot give {} to uid {uid}", path.display()),
                        &error,
                    )
                })?;
            }
            let owner = fs::metadata(path)
                .map_err(|error| explain(path, &error))?
                .uid();
            if owner != uid {
                let text = format!(
                    "{} belongs to uid {owner}, but {} runs as uid {uid}; run: chown -R {uid}:{gid} {}",
                    path.display(),
                    daemon.name,
                    path.display()
                );
                return Err(Failure {
                    status: CONFIG,
                    text,
                });
            }
        }
    }
    Ok(())
}
