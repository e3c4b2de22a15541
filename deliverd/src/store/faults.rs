//! What faults of the disk, and crowds, do to the store: whatever goes wrong, an operation is refused or done, within bounded
//! time, and nothing that was acknowledged is lost.
//!
//! Clients ([`client`]) use a store on a disk that is full ([`little_disk`]) or fails at one call ([`injected`]), and note what
//! they were told ([`book`]). Without faults, before and after another start, the store must have just that. [`crowd`] is about
//! many clients at once.
//!
//! Small disks need root and loop devices, failing calls need strace: without them the tests say that they skip, as those of
//! [`super::power_cut`] do, and `RMAIL_REQUIRE_POWER_CUTS` makes them fail then.

mod book;
mod client;
mod crowd;
mod injected;
mod little_disk;

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// What takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does `work` in a thread of its own, and fails if that takes too long.
fn within_patience<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _ = send.send(work());
    });
    match receive.recv_timeout(PATIENCE) {
        Ok(done) => {
            thread.join().unwrap();
            done
        }
        Err(RecvTimeoutError::Timeout) => panic!("hangs: {what}"),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => panic!("no result: {what}"),
        },
    }
}
