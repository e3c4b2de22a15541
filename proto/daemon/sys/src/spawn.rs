//! Starting a process with nothing but what it is given: descriptors, user, root directory, environment.
//!
//! Only for a process without threads. The steps happen in the child in the order of [`Step`]; the first that fails is
//! told to the parent, and the program does not run.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask,
};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, dup2_raw, dup2_stdin, dup2_stdout, execve, execveat, fork, getppid,
    pipe2,
};
use nix::unistd::{setgroups, setresgid, setresuid, setsid};

use crate::jail::{self, Jail};
use crate::process::Child;
use crate::user::Identity;

/// First descriptor handed over (`sd_listen_fds(3)`).
const FIRST: RawFd = 3;

/// What to start and with what.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The executable; becomes argument 0 too.
    pub program: &'a Path,
    /// The arguments after the program's name.
    pub arguments: Vec<&'a OsStr>,
    /// Standard output; the supervisor's own if `None`. Standard input is always `/dev/null`, standard error is shared.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Descriptors 3, 4, … with their names for `LISTEN_FDNAMES`.
    pub descriptors: Vec<(&'a str, BorrowedFd<'a>)>,
    /// The whole environment, but for the `LISTEN_…` variables.
    pub environment: Vec<(String, String)>,
    /// User and group to become; stays what it is if `None`. Needs root.
    pub identity: Option<Identity>,
    /// Namespaces and an empty root. Needs root.
    pub jail: Option<Jail>,
    /// `RLIMIT_NOFILE`, cut to the hard limit.
    pub nofile: u64,
}

/// What a child was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Making the child.
    Fork,
    /// Signal mask and session.
    Signals,
    /// Placing the descriptors.
    Descriptors,
    /// Own namespaces.
    Namespaces,
    /// The empty root with its binds.
    Root,
    /// Resource limits.
    Limits,
    /// User, group, capabilities.
    Privileges,
    /// The program itself.
    Exec,
}

const STEPS: [Step; 8] = [
    Step::Fork,
    Step::Signals,
    Step::Descriptors,
    Step::Namespaces,
    Step::Root,
    Step::Limits,
    Step::Privileges,
    Step::Exec,
];

impl Step {
    /// The step and, where there is something to do about it, what.
    fn advice(self) -> &'static str {
        match self {
            Self::Fork => "cannot make a process; too many processes, or too little memory?",
            Self::Signals => "cannot reset signals",
            Self::Descriptors => {
                "cannot hand over the sockets; raise the limit of open files (ulimit -n)"
            }
            Self::Namespaces => "cannot make namespaces; this container or kernel forbids them",
            Self::Root => {
                "cannot build the empty root; can root itself read all directories above?"
            }
            Self::Limits => "cannot set resource limits",
            Self::Privileges => {
                "cannot change user or drop capabilities; rmaild needs SETUID, SETGID and SETPCAP"
            }
            Self::Exec => {
                "cannot execute the program; is it installed, executable, and for this machine?"
            }
        }
    }
}

/// Why a process was not started.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {}", .step.advice(), .path.as_ref().map(|path| format!(" ({})", path.display())).unwrap_or_default(), .reason)]
pub struct SpawnError {
    /// What failed.
    pub step: Step,
    /// At which file.
    pub path: Option<PathBuf>,
    /// The system's words.
    pub reason: io::Error,
}

/// A failure inside the child.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) step: Step,
    pub(crate) errno: Errno,
    pub(crate) path: Option<PathBuf>,
}

/// Marks an error with the step it belongs to.
pub(crate) fn at<T>(step: Step, result: nix::Result<T>) -> Result<T, Failed> {
    result.map_err(|errno| Failed {
        step,
        errno,
        path: None,
    })
}

/// Starts a process; returns once its program runs, or with the step that failed.
///
/// # Errors
/// [`SpawnError`].
pub fn spawn(launch: &Launch<'_>) -> Result<Child, SpawnError> {
    let own = |reason: io::Error| SpawnError {
        step: Step::Fork,
        path: None,
        reason,
    };
    if threads().map_err(own)? != 1 {
        return Err(own(io::Error::other("called in a process with threads")));
    }
    let (report, to_parent) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| own(errno.into()))?;
    let parent = Pid::this();
    // SAFETY: the process has one thread (checked above), so no lock is held by a thread that the child will not have, and
    // the child may allocate like any other code.
    match unsafe { fork() }.map_err(|errno| own(errno.into()))? {
        ForkResult::Child => {
            drop(report);
            // An unwinding child would run the parent's destructors a second time.
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                become_program(launch, &to_parent, parent)
            }));
            if let Ok(Err(failed)) = ended {
                tell(&to_parent, &failed);
            }
            // SAFETY: `_exit` ends the process without running anything of the parent's copy.
            unsafe { libc::_exit(71) }
        }
        ForkResult::Parent { child } => {
            drop(to_parent);
            let child = Child::new(child);
            hear(report)
                .map_or(Ok(()), Err)
                .inspect_err(|_| child.wait())
                .map(|()| child)
        }
    }
}

/// How many threads this process has.
fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// In the child: the steps, and the program.
fn become_program(
    launch: &Launch<'_>,
    report: &OwnedFd,
    parent: Pid,
) -> Result<Infallible, Failed> {
    at(Step::Signals, reset_signals())?;
    // From here on the old number of the pipe may mean another descriptor.
    let report = place_descriptors(launch, report)?;
    let Err(failed) = confine_and_execute(launch, parent);
    tell(&report, &failed);
    // SAFETY: as in `spawn`.
    unsafe { libc::_exit(71) }
}

fn confine_and_execute(launch: &Launch<'_>, parent: Pid) -> Result<Infallible, Failed> {
    umask(Mode::from_bits_truncate(0o022));
    if let Some(jail) = &launch.jail {
        jail::enter(jail)?;
    }
    umask(Mode::from_bits_truncate(0o077));
    // While the directories above the program can still be searched.
    let opened = nix::fcntl::open(
        launch.program,
        OFlag::O_PATH | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .ok();
    at(Step::Limits, limit(launch.nofile))?;
    at(Step::Privileges, drop_privileges(launch.identity))?;
    at(Step::Privileges, die_with(parent))?;
    execute(launch, opened.as_ref()).map_err(|errno| Failed {
        step: Step::Exec,
        errno,
        path: Some(launch.program.to_owned()),
    })
}

/// No blocked signal is inherited, nor SIGPIPE as Rust ignores it; a session of its own keeps the terminal's Ctrl-C for the supervisor, who stops
/// the daemons in order.
fn reset_signals() -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action is no handler, so nothing of ours can run inside a signal.
    unsafe { sigaction(Signal::SIGPIPE, &default) }?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    setsid()?;
    Ok(())
}

/// Moves the descriptors to 3, 4, … and marks every other one close-on-exec. Returns where the report pipe is now.
fn place_descriptors(launch: &Launch<'_>, report: &OwnedFd) -> Result<OwnedFd, Failed> {
    let place = || -> nix::Result<OwnedFd> {
        let count = RawFd::try_from(launch.descriptors.len()).map_err(|_| Errno::EMFILE)?;
        let above = FIRST + count;
        let lift = |fd: BorrowedFd<'_>| -> nix::Result<OwnedFd> {
            let lifted = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(above))?;
            // SAFETY: fcntl has just made this descriptor for us.
            Ok(unsafe { OwnedFd::from_raw_fd(lifted) })
        };
        // First all out of the way, then each to its place: no source is overwritten before it was copied.
        let report = lift(report.as_fd())?;
        let stdout = launch.stdout.map(lift).transpose()?;
        let lifted: Vec<OwnedFd> = launch
            .descriptors
            .iter()
            .map(|(_, fd)| lift(*fd))
            .collect::<nix::Result<_>>()?;
        let null = File::open("/dev/null")
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
        dup2_stdin(null)?;
        if let Some(stdout) = stdout {
            dup2_stdout(stdout)?;
        }
        for (fd, to) in lifted.iter().zip(FIRST..) {
            // SAFETY: the parent's copy of descriptor `to` may be closed by this; the values that own it are never used nor
            // dropped in this child, which ends by exec or _exit.
            let placed = unsafe { dup2_raw(fd, to) }?;
            std::mem::forget(placed);
        }
        let first = libc::c_uint::try_from(above).map_err(|_| Errno::EMFILE)?;
        // SAFETY: only sets flags of descriptors.
        Errno::result(unsafe {
            libc::syscall(
                libc::SYS_close_range,
                first,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            )
        })?;
        Ok(report)
    };
    at(Step::Descriptors, place())
}

/// No core file (it would hold mail and keys), and room for the connections.
fn limit(nofile: u64) -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let nofile = nofile.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, nofile, nofile)
}

/// Becomes the user for good: no other group, no capability in any set, no way to gain one by exec.
fn drop_privileges(identity: Option<Identity>) -> nix::Result<()> {
    let refused = |_| Errno::EPERM;
    if let Some(Identity { uid, gid }) = identity {
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
        setgroups(&[group])?;
        setresgid(group, group, group)?;
        caps::clear(None, caps::CapSet::Bounding).map_err(refused)?;
        caps::clear(None, caps::CapSet::Ambient).map_err(refused)?;
        // Leaving uid 0 empties the permitted and effective sets.
        setresuid(user, user, user)?;
        for set in [
            caps::CapSet::Effective,
            caps::CapSet::Permitted,
            caps::CapSet::Inheritable,
        ] {
            caps::clear(None, set).map_err(refused)?;
        }
    }
    nix::sys::prctl::set_no_new_privs()
}

/// A daemon must not outlive its supervisor, or the next one would find its ports and store in use. Set after the change of
/// user, which would clear it.
fn die_with(parent: Pid) -> nix::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
    // The supervisor may have died before the line above.
    if getppid() == parent {
        Ok(())
    } else {
        Err(Errno::ESRCH)
    }
}

/// Runs the program by its path, so that it has its name in process lists; or, where its user may not search a directory above
/// it, as it was opened before.
fn execute(launch: &Launch<'_>, opened: Option<&OwnedFd>) -> nix::Result<Infallible> {
    let text = |bytes: &OsStr| CString::new(bytes.as_bytes()).map_err(|_| Errno::EINVAL);
    let program = text(launch.program.as_os_str())?;
    let mut arguments = vec![program.clone()];
    for argument in &launch.arguments {
        arguments.push(text(argument)?);
    }
    let mut environment = Vec::new();
    for (name, value) in &launch.environment {
        environment.push(text(OsStr::new(&format!("{name}={value}")))?);
    }
    let names: Vec<&str> = launch.descriptors.iter().map(|(name, _)| *name).collect();
    for variable in [
        format!("LISTEN_PID={}", std::process::id()),
        format!("LISTEN_FDS={}", names.len()),
        format!("LISTEN_FDNAMES={}", names.join(":")),
    ] {
        environment.push(text(OsStr::new(&variable))?);
    }
    match (execve(&program, &arguments, &environment), opened) {
        (Err(Errno::EACCES), Some(opened)) => {
            let opened = execveat(
                opened,
                c"",
                &arguments,
                &environment,
                AtFlags::AT_EMPTY_PATH,
            );
            opened.map_err(|_| Errno::EACCES)
        }
        (other, _) => other,
    }
}

/// Writes a failure for the parent: step, errno, path.
fn tell(report: &OwnedFd, failed: &Failed) {
    let mut bytes = vec![failed.step as u8];
    bytes.extend((failed.errno as i32).to_ne_bytes());
    bytes.extend(
        failed
            .path
            .as_deref()
            .unwrap_or(Path::new(""))
            .as_os_str()
            .as_bytes()
            .iter()
            .take(1024),
    );
    // If even this fails the parent sees the exit status 71.
    if let Ok(report) = report.try_clone() {
        let _ = File::from(report).write_all(&bytes);
    }
}

/// Waits until the child runs its program (the pipe closes empty) or tells what failed.
fn hear(report: OwnedFd) -> Option<SpawnError> {
    let mut bytes = Vec::new();
    let read = File::from(report).take(2048).read_to_end(&mut bytes);
    if let Err(reason) = read {
        return Some(SpawnError {
            step: Step::Fork,
            path: None,
            reason,
        });
    }
    let (step, rest) = bytes.split_first()?;
    let step = STEPS.get(usize::from(*step)).copied().unwrap_or(Step::Fork);
    let (errno, path) = rest.split_first_chunk().map_or((0, rest), |(errno, path)| {
        (i32::from_ne_bytes(*errno), path)
    });
    let path = (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)));
    Some(SpawnError {
        step,
        path,
        reason: io::Error::from_raw_os_error(errno),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbered_as_listed() {
        for (number, step) in STEPS.iter().enumerate() {
            assert_eq!(*step as usize, number);
        }
    }

    #[test]
    fn a_failure_crosses_the_pipe_with_its_path() {
        let (report, to_parent) = pipe2(OFlag::O_CLOEXEC).unwrap();
        tell(
            &to_parent,
            &Failed {
                step: Step::Exec,
                errno: Errno::ENOENT,
                path: Some("/none".into()),
            },
        );
        drop(to_parent);
        let error = hear(report).unwrap();
        assert_eq!(
            (error.step, error.reason.kind()),
            (Step::Exec, io::ErrorKind::NotFound)
        );
        assert!(error.to_string().contains("(/none)"), "{error}");
    }

    #[test]
    fn a_pipe_closed_empty_is_success() {
        let (report, to_parent) = pipe2(OFlag::O_CLOEXEC).unwrap();
        drop(to_parent);
        assert!(hear(report).is_none());
    }
}
