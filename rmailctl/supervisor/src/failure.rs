//! Why the supervisor ends, in words and as a status of sysexits(3).

use std::fmt::Display;

/// Called wrongly.
pub(crate) const USAGE: u8 = 64;
/// The system refuses.
pub(crate) const SYSTEM: u8 = 71;
/// A permission is missing.
pub(crate) const PERMISSION: u8 = 77;
/// The configuration is bad: starting again does not help.
pub(crate) const CONFIG: u8 = 78;

/// The end, told to whoever started us.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: u8,
    pub(crate) text: String,
}

impl Failure {
    /// A system call failed that has no advice of its own.
    pub(crate) fn system(what: impl Display, error: &std::io::Error) -> Self {
        let status = if error.kind() == std::io::ErrorKind::PermissionDenied {
            PERMISSION
        } else {
            SYSTEM
        };
        Self {
            status,
            text: format!("{what}: {error}"),
        }
    }
}

/// One line for the log. If nobody reads standard error any more, that is no reason to stop.
pub(crate) fn log(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "rmaild: {line}");
}
