//! Asking `rmailctl config plan`, an unprivileged child, what the configuration wants; and doubting the answer.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sys::jail::Jail;
use sys::plan::{Bind, MAX_BYTES, Plan};
use sys::process::{Child, Exit, Signal};
use sys::spawn::{Launch, SpawnError, Step, spawn};
use sys::user::Identity;

use crate::failure::{CONFIG, Failure};

/// User and group `nobody` on every Linux.
const NOBODY: Identity = Identity {
    uid: 65534,
    gid: 65534,
};
/// Where `rmailctl` is if not beside this program.
const INSTALLED: [&str; 3] = [
    "/usr/sbin/rmailctl",
    "/usr/local/sbin/rmailctl",
    "/usr/bin/rmailctl",
];
/// What finding users by name reads.
const USERS: [&str; 3] = ["/etc/passwd", "/etc/group", "/etc/nsswitch.conf"];
const PATIENCE: Duration = Duration::from_secs(20);

/// The plan for the configuration at `config`.
pub(crate) fn plan(config: &Path) -> Result<Plan, Failure> {
    let program = rmailctl()?;
    let (text, exit) = output(&program, config)?;
    match exit {
        Exit::Status(0) => {}
        // It has told why on standard error, which it shares with us.
        _ => {
            let text = format!(
                "{} is not a good configuration ({exit} of rmailctl); nothing was started",
                config.display()
            );
            return Err(Failure {
                status: CONFIG,
                text,
            });
        }
    }
    let text = String::from_utf8(text).map_err(|_| bad("the launch plan is not UTF-8"))?;
    Plan::parse(&text).map_err(|error| bad(&error.to_string()))
}

fn bad(text: &str) -> Failure {
    Failure {
        status: CONFIG,
        text: format!("{text}; are rmaild and rmailctl of the same version?"),
    }
}

fn rmailctl() -> Result<PathBuf, Failure> {
    let beside = std::env::current_exe()
        .ok()
        .map(|program| program.with_file_name("rmailctl"));
    let places = beside.into_iter().chain(INSTALLED.map(PathBuf::from));
    places.into_iter().find(|place| place.is_file()).ok_or_else(|| Failure {
        status: crate::failure::SYSTEM,
        text: "cannot find rmailctl beside rmaild nor in /usr/sbin; it reads the configuration for me: install it".into(),
    })
}

/// Runs the child to its end; gives its standard output and how it ended.
fn output(program: &Path, config: &Path) -> Result<(Vec<u8>, Exit), Failure> {
    let system = |error: std::io::Error| Failure::system("cannot run rmailctl", &error);
    let (from_child, to_us) = std::io::pipe().map_err(system)?;
    let child = start(program, config, to_us.as_fd()).map_err(|error| Failure {
        status: crate::failure::SYSTEM,
        text: format!("rmailctl: {error}"),
    })?;
    drop(to_us);
    let deadline = Instant::now() + PATIENCE;
    let text = read(
        &File::from(std::os::fd::OwnedFd::from(from_child)),
        deadline,
    );
    let exit = end(&child, deadline).map_err(system)?;
    Ok((text.map_err(system)?, exit))
}

/// Starts the child: as root it is made nobody, in a root that holds only the configuration and the list of users (so the
/// program may lie where nobody could not go), and told that each daemon gets its own user.
fn start(program: &Path, config: &Path, stdout: BorrowedFd<'_>) -> Result<Child, SpawnError> {
    let root = sys::user::is_root();
    let mut arguments: Vec<&OsStr> = vec!["config".as_ref(), "plan".as_ref()];
    if root {
        arguments.push("--separate".as_ref());
    }
    arguments.push(config.as_os_str());
    let mut binds: Vec<Bind> = USERS
        .iter()
        .map(|path| Bind {
            path: path.into(),
            writable: false,
        })
        .collect();
    binds.push(Bind {
        path: crate::daemon::config_part(config, &[]),
        writable: false,
    });
    let mut launch = Launch {
        program,
        arguments,
        stdout: Some(stdout),
        descriptors: Vec::new(),
        environment: Vec::new(),
        identity: root.then_some(NOBODY),
        // It tells where the daemons are from where itself is.
        jail: root.then(|| Jail {
            program: program.to_owned(),
            network: false,
            knows_its_path: true,
            binds,
        }),
        nofile: 256,
    };
    match spawn(&launch) {
        // A container that forbids namespaces: the child is still nobody.
        Err(error) if error.step == Step::Namespaces => {
            launch.jail = None;
            spawn(&launch)
        }
        other => other,
    }
}

/// Reads until the end, the limit or the deadline.
fn read(file: &File, deadline: Instant) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        if sys::process::wait_readable(&[file.as_fd()], Some(left))? != [true] {
            continue;
        }
        let count = (&*file).read(&mut chunk)?;
        if count == 0 {
            return Ok(text);
        }
        text.extend(chunk.iter().take(count));
        if text.len() > MAX_BYTES {
            return Err(std::io::Error::other("the launch plan is too long"));
        }
    }
}

/// Reaps the child; one that has not ended by the deadline is killed.
fn end(child: &Child, deadline: Instant) -> std::io::Result<Exit> {
    let mut killed = false;
    loop {
        if let Some(exit) = child.ended()? {
            return Ok(exit);
        }
        if !killed && Instant::now() > deadline {
            child.signal(Signal::Kill)?;
            killed = true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The plan was made by a process that read untrusted text: what would give a daemon root is refused.
pub(crate) fn doubt(plan: &Plan) -> Result<(), Failure> {
    if !sys::user::is_root() {
        return Ok(());
    }
    for daemon in &plan.daemons {
        if daemon.uid == 0 || daemon.gid == 0 {
            let text = format!(
                "{} would run as root; name another user for it under 'users' in the configuration",
                daemon.name
            );
            return Err(Failure {
                status: CONFIG,
                text,
            });
        }
    }
    Ok(())
}
