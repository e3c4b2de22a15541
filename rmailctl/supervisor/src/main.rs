//! `rmaild CONFIG`: binds sockets, starts the daemons, and does nothing else.
//!
//! Runs as root with few capabilities, or as anybody with reduced separation. It reads no byte from the network and parses
//! neither configuration nor mail: `rmailctl config plan`, an unprivileged child, tells it what to bind and start.

mod backoff;
mod credentials;
mod daemon;
mod directory;
mod failure;
mod listeners;
mod notify;
mod planning;
mod supervise;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sys::process::{Right, Signals};

use crate::failure::{Failure, log};

/// What root keeps while it binds.
///
/// `SetUid`, `SetGid`, `SetPcap`: children become their users and empty their bounding sets. `SysAdmin`: their namespaces and
/// mounts. `NetBindService`: ports below 1024, dropped once they are bound. `Kill`: signals to children of other users.
/// `Chown`: sockets, credentials and state directories are given to their users. Nothing to override file permissions: what
/// root does not own and may not read by its mode, it is not meant to touch.
const WHILE_BINDING: [Right; 7] = [
    Right::SetUid,
    Right::SetGid,
    Right::SetPcap,
    Right::SysAdmin,
    Right::NetBindService,
    Right::Kill,
    Right::Chown,
];

/// What root keeps for good.
const FOR_GOOD: [Right; 6] = [
    Right::SetUid,
    Right::SetGid,
    Right::SetPcap,
    Right::SysAdmin,
    Right::Kill,
    Right::Chown,
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [config] = arguments.as_slice() else {
        log("usage: rmaild CONFIG   (for example: rmaild /etc/rmail/config.json)");
        return ExitCode::from(failure::USAGE);
    };
    match run(Path::new(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log(&failure.text);
            ExitCode::from(failure.status)
        }
    }
}

/// From start to stop.
fn run(config: &Path) -> Result<(), Failure> {
    sys::process::keep_files_private();
    sys::process::forbid_new_privileges()
        .map_err(|error| Failure::system("cannot set no_new_privs", &error))?;
    let signals =
        Signals::block().map_err(|error| Failure::system("cannot block signals", &error))?;
    let config = absolute(config)?;
    keep_only(&WHILE_BINDING)?;
    let plan = planning::plan(&config)?;
    if !sys::user::is_root() {
        let uid = sys::user::myself().uid;
        log(&format!(
            "not started as root: all daemons run as uid {uid}; separation is reduced to processes and descriptors"
        ));
    }
    planning::doubt(&plan)?;
    let directory = directory::RunDirectory::claim(&plan)?;
    directory::make_state(&plan)?;
    let listeners = listeners::Listeners::bind(&plan)?;
    keep_only(&FOR_GOOD)?;
    credentials::copy(&plan)?;
    let result = supervise::Supervisor::new(&config, plan, &directory, &listeners, signals)?.run();
    listeners.remove();
    directory.clear();
    result
}

fn keep_only(rights: &[Right]) -> Result<(), Failure> {
    if sys::user::is_root() {
        sys::process::keep_only(rights)
            .map_err(|error| Failure::system("cannot drop capabilities", &error))?;
    }
    Ok(())
}

/// Children have the root directory as working directory, so the path must not be relative.
fn absolute(config: &Path) -> Result<PathBuf, Failure> {
    config.canonicalize().map_err(|error| Failure {
        status: failure::CONFIG,
        text: format!(
            "cannot find the configuration {}: {error}; 'rmailctl init' writes one",
            config.display()
        ),
    })
}
