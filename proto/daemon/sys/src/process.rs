//! Children, signals and waiting, for a supervisor without threads or runtime.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal as Number, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The signals a supervisor knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Stop in order (`SIGTERM`, `SIGINT`).
    Stop,
    /// Read anew what can be (`SIGHUP`).
    Reload,
    /// A child ended (`SIGCHLD`).
    Child,
    /// End at once (`SIGKILL`); can only be sent.
    Kill,
}

/// Signals as a descriptor.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals of [`Signal`] and reads them from a descriptor from now on.
    ///
    /// # Errors
    /// What `sigprocmask(2)` and `signalfd(2)` say.
    pub fn block() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [
            Number::SIGTERM,
            Number::SIGINT,
            Number::SIGHUP,
            Number::SIGCHLD,
        ] {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(
            &set,
            SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
        )?))
    }

    /// The next signal that came, if any.
    ///
    /// # Errors
    /// What `read(2)` says.
    pub fn next(&self) -> io::Result<Option<Signal>> {
        let Some(info) = self.0.read_signal()? else {
            return Ok(None);
        };
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        Ok(match Number::try_from(number) {
            Ok(Number::SIGHUP) => Some(Signal::Reload),
            Ok(Number::SIGCHLD) => Some(Signal::Child),
            _ => Some(Signal::Stop),
        })
    }
}

impl std::os::fd::AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(out, "status={status}"),
            Self::Signal(signal) => write!(out, "signal={signal}"),
        }
    }
}

/// A child that was not reaped yet, so its number cannot mean another process.
#[derive(Debug)]
pub struct Child(Pid);

impl Child {
    pub(crate) fn new(pid: Pid) -> Self {
        Self(pid)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.0.as_raw()
    }

    /// How it ended, if it did. After `Some` the value must not be used any more.
    ///
    /// # Errors
    /// What `waitpid(2)` says.
    pub fn ended(&self) -> io::Result<Option<Exit>> {
        Ok(match waitpid(self.0, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::Exited(_, status) => Some(Exit::Status(status)),
            WaitStatus::Signaled(_, signal, _) => Some(Exit::Signal(signal as i32)),
            _ => None,
        })
    }

    /// Waits for the end.
    pub(crate) fn wait(&self) {
        while waitpid(self.0, None) == Err(Errno::EINTR) {}
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// What `kill(2)` says.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let number = match signal {
            Signal::Stop => Number::SIGTERM,
            Signal::Reload => Number::SIGHUP,
            Signal::Child => Number::SIGCHLD,
            Signal::Kill => Number::SIGKILL,
        };
        Ok(kill(self.0, number)?)
    }
}

/// Asks a child that was not reaped yet, so that its number is still its own, to end.
///
/// # Errors
/// What `kill(2)` says.
pub fn terminate(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .filter(|pid| *pid > 1)
        .ok_or(io::ErrorKind::InvalidInput)?;
    Ok(kill(Pid::from_raw(pid), Number::SIGTERM)?)
}

/// Waits until one of `fds` has something to read or `timeout` is over; tells for each whether it has.
///
/// # Errors
/// What `poll(2)` says.
pub fn wait_readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
        .collect();
    // Rounded up, or a deadline less than a millisecond away would be polled for in a circle.
    let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
        PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut polled, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(polled.iter().map(|fd| fd.any().unwrap_or(false)).collect())
}

/// Files made from now on are for their owner only.
pub fn keep_files_private() {
    nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
}

/// No program started from here, set-user-id or not, can gain rights.
///
/// # Errors
/// What `prctl(2)` says.
pub fn forbid_new_privileges() -> io::Result<()> {
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

/// The capabilities a supervisor can need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Become another user.
    SetUid,
    /// Become another group.
    SetGid,
    /// Empty the bounding set of a child.
    SetPcap,
    /// Make namespaces and mounts.
    SysAdmin,
    /// Bind ports below 1024.
    NetBindService,
    /// Signal processes of other users.
    Kill,
    /// Give files to other users.
    Chown,
}

/// Gives up every capability but `rights`, in all sets, for good.
///
/// # Errors
/// What `capset(2)` and `prctl(2)` say.
pub fn keep_only(rights: &[Right]) -> io::Result<()> {
    let keep: caps::CapsHashSet = rights
        .iter()
        .map(|right| match right {
            Right::SetUid => caps::Capability::CAP_SETUID,
            Right::SetGid => caps::Capability::CAP_SETGID,
            Right::SetPcap => caps::Capability::CAP_SETPCAP,
            Right::SysAdmin => caps::Capability::CAP_SYS_ADMIN,
            Right::NetBindService => caps::Capability::CAP_NET_BIND_SERVICE,
            Right::Kill => caps::Capability::CAP_KILL,
            Right::Chown => caps::Capability::CAP_CHOWN,
        })
        .collect();
    let other = |error: caps::errors::CapsError| io::Error::other(error.to_string());
    caps::clear(None, caps::CapSet::Ambient).map_err(other)?;
    for cap in caps::read(None, caps::CapSet::Bounding)
        .map_err(other)?
        .difference(&keep)
    {
        caps::drop(None, caps::CapSet::Bounding, *cap).map_err(other)?;
    }
    // What a container withheld cannot be kept.
    let had = caps::read(None, caps::CapSet::Permitted).map_err(other)?;
    let keep: caps::CapsHashSet = keep.intersection(&had).copied().collect();
    caps::clear(None, caps::CapSet::Inheritable).map_err(other)?;
    caps::set(None, caps::CapSet::Effective, &keep).map_err(other)?;
    caps::set(None, caps::CapSet::Permitted, &keep).map_err(other)
}
