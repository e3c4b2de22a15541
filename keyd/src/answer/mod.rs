//! What may be asked: signatures by relayd, everything about keys but the keys by the operator.

pub mod operator;
pub mod signing;

use std::io;
use std::sync::Arc;

use ipc::Refusal;
use tracing::error;

use crate::cabinet::{Cabinet, Fault};

/// Works with the keys on a thread that may block.
async fn with_keys<T, F>(cabinet: &Arc<Cabinet>, work: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnOnce(&Cabinet) -> Result<T, Fault> + Send + 'static,
{
    let cabinet = Arc::clone(cabinet);
    let done = tokio::task::spawn_blocking(move || work(&cabinet)).await;
    match done {
        Ok(done) => done.map_err(refusal),
        Err(error) => {
            error!(%error, "bug: work with the keys panicked");
            Err(Refusal::StorageFault)
        }
    }
}

fn refusal(fault: Fault) -> Refusal {
    match fault {
        Fault::NotFound | Fault::Exists | Fault::WrongState(_) | Fault::TooMany => {
            Refusal::Invalid(fault.to_string())
        }
        Fault::Disk(error) if error.kind() == io::ErrorKind::InvalidInput => {
            Refusal::Invalid(error.to_string())
        }
        Fault::Disk(error)
            if matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) =>
        {
            error!(%error, "the disk is full: a key cannot be written");
            Refusal::DiskFull
        }
        Fault::Damaged | Fault::Library | Fault::Disk(_) => {
            error!(error = %fault, "a key cannot be used");
            Refusal::StorageFault
        }
    }
}
