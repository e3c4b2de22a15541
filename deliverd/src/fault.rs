//! Faults: what went wrong inside this process, told to the log in full and to the asker as a [`Refusal`].

use std::io;

use ipc::Refusal;
use tracing::error;

/// Turns a fault into the refusal the asker may see; the details go to the log.
pub(crate) trait OrFault<T> {
    /// `doing` completes "cannot …".
    fn or_fault(self, doing: &'static str) -> Result<T, Refusal>;
}

impl<T> OrFault<T> for io::Result<T> {
    fn or_fault(self, doing: &'static str) -> Result<T, Refusal> {
        self.map_err(|error| {
            error!(%error, "cannot {doing}");
            match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Refusal::DiskFull,
                _ => Refusal::StorageFault,
            }
        })
    }
}

impl<T> OrFault<T> for rusqlite::Result<T> {
    fn or_fault(self, doing: &'static str) -> Result<T, Refusal> {
        self.map_err(|error| {
            error!(%error, "cannot {doing}");
            match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DiskFull) => Refusal::DiskFull,
                _ => Refusal::StorageFault,
            }
        })
    }
}
