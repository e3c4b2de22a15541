//! A second mail session of the same account: who holds one can look into other mailboxes while one is selected.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use daemon::Stop;
use daemon::channel::{Answered, serve_link};
use ipc::Refusal;
use ipc::session::SessionAnswer;
use sys::packet::PacketSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Instrument, Span, error};

use super::session::Door;

/// Opens it, if `lane` has room.
pub(super) fn open(
    door: Door,
    stop: Stop,
    lane: &Arc<Semaphore>,
) -> Result<Answered<SessionAnswer>, Refusal> {
    let permit = Arc::clone(lane).try_acquire_owned();
    let permit = permit.map_err(|_| Refusal::Busy)?;
    let (ours, theirs) = PacketSocket::pair().map_err(|error| {
        error!(%error, "cannot open a second mail session");
        Refusal::Busy
    })?;
    tokio::spawn(serve(ours, door, stop, permit).instrument(Span::current()));
    let fds = vec![OwnedFd::from(theirs)];
    Ok(Answered::with(SessionAnswer::BesideOpened, fds))
}

// Boxed: a session that may serve another is made of itself.
fn serve(
    ours: PacketSocket,
    door: Door,
    stop: Stop,
    permit: OwnedSemaphorePermit,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if let Err(error) = serve_link(ours, Arc::new(door), stop).await {
            error!(%error, "cannot serve a second mail session");
        }
        drop(permit);
    })
}
