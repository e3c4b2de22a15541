//! Descriptors handed over at start, by the protocol of `sd_listen_fds(3)`: chosen by name, never by order.

use std::collections::HashMap;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// First descriptor of the protocol.
const FIRST: RawFd = 3;
/// More than any daemon of ours is ever given.
const MOST: usize = 64;

/// Why the sockets that should have been handed over are not there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// The environment does not say that sockets were passed to this process.
    #[error(
        "no sockets were handed over (LISTEN_FDS is not set for this process); start me through rmaild or a .socket unit"
    )]
    NotActivated,
    /// `LISTEN_FDS` or `LISTEN_FDNAMES` is not what the protocol says.
    #[error("LISTEN_FDS or LISTEN_FDNAMES is malformed; start me through rmaild or a .socket unit")]
    Malformed,
    /// The descriptors were taken before.
    #[error("the handed-over sockets were taken before")]
    TakenBefore,
}

/// The descriptors this process was started with.
#[derive(Debug, Default)]
pub struct Inherited {
    by_name: HashMap<String, Vec<OwnedFd>>,
}

impl Inherited {
    /// Takes ownership of what `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` describe. Works once per process.
    ///
    /// # Errors
    /// [`ListenError`] when nothing was passed to this process or the variables do not make sense.
    pub fn from_environment() -> Result<Self, ListenError> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let variable = |name: &str| std::env::var(name).ok();
        let pid = variable("LISTEN_PID").and_then(|pid| pid.parse::<u32>().ok());
        if pid != Some(std::process::id()) {
            return Err(ListenError::NotActivated);
        }
        let names = parse(
            &variable("LISTEN_FDS").unwrap_or_default(),
            &variable("LISTEN_FDNAMES").unwrap_or_default(),
        )?;
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Err(ListenError::TakenBefore);
        }
        let mut inherited = Self::default();
        for (fd, name) in (FIRST..).zip(names) {
            // SAFETY: by the protocol this descriptor was opened by whoever started the process, for this process; TAKEN
            // makes sure that nobody else here wraps it a second time.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)
                .map_err(|_| ListenError::Malformed)?;
            inherited.by_name.entry(name).or_default().push(fd);
        }
        Ok(inherited)
    }

    /// All descriptors of that name; empty if there are none (that listener is switched off).
    pub fn take(&mut self, name: &str) -> Vec<OwnedFd> {
        self.by_name.remove(name).unwrap_or_default()
    }

    /// Names that nobody took, for a warning: a socket is open that no code serves.
    #[must_use]
    pub fn rest(&self) -> Vec<&str> {
        self.by_name.keys().map(String::as_str).collect()
    }
}

/// The names of descriptors 3, 4, ….
fn parse(count: &str, names: &str) -> Result<Vec<String>, ListenError> {
    let count: usize = count.parse().map_err(|_| ListenError::NotActivated)?;
    let names: Vec<String> = names.split(':').map(str::to_owned).collect();
    // A daemon may be started without any socket; it has its own word on that.
    if count == 0 && names == [""] {
        return Ok(Vec::new());
    }
    if count == 0 || count > MOST || names.len() != count || names.iter().any(String::is_empty) {
        return Err(ListenError::Malformed);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_descriptor_order() {
        assert_eq!(
            parse("2", "smtp:submission"),
            Ok(vec!["smtp".into(), "submission".into()])
        );
    }

    #[test]
    fn a_count_that_differs_from_the_names_is_malformed() {
        assert_eq!(parse("3", "smtp:submission"), Err(ListenError::Malformed));
        assert_eq!(
            parse("65", &["x"; 65].join(":")),
            Err(ListenError::Malformed)
        );
        assert_eq!(parse("1", ""), Err(ListenError::Malformed));
    }

    #[test]
    fn no_sockets_are_no_error() {
        assert_eq!(parse("0", ""), Ok(Vec::new()));
        assert_eq!(parse("0", "smtp"), Err(ListenError::Malformed));
    }

    #[test]
    fn without_the_variables_nothing_was_activated() {
        assert_eq!(parse("", ""), Err(ListenError::NotActivated));
        assert_eq!(
            Inherited::from_environment().unwrap_err(),
            ListenError::NotActivated
        );
    }
}
