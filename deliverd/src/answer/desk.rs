//! Messages on their way in over one channel: each has a handle and a stream its bytes come through.
//!
//! What is opened but not committed is forgotten with the channel, or after ten idle minutes.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ipc::Refusal;
use ipc::delivery::MessageHandle;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tracing::{debug, error};

use super::House;
use crate::store::{BUFFER, Incoming};

/// How long an opened message may lie without a byte or an order.
const IDLE: Duration = Duration::from_secs(600);
/// How often that is looked at.
const SWEEP: Duration = Duration::from_secs(30);

/// The opened messages of a channel; `T` is what is known about each beside its bytes.
pub(super) struct Desk<T> {
    house: Arc<House>,
    most: usize,
    next: AtomicU64,
    open: Mutex<HashMap<MessageHandle, Opened<T>>>,
}

struct Opened<T> {
    receiving: Receiving,
    about: T,
    touched: Instant,
}

/// A stream being read; dropping it ends the reading and forgets the bytes.
struct Receiving(JoinHandle<Result<Incoming, Refusal>>);

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T: Send + 'static> Desk<T> {
    /// A desk for at most `most` messages at once.
    pub(super) fn new(house: Arc<House>, most: usize) -> Arc<Self> {
        let desk = Arc::new(Self {
            house,
            most,
            next: AtomicU64::new(1),
            open: Mutex::new(HashMap::new()),
        });
        tokio::spawn(sweep(Arc::downgrade(&desk)));
        desk
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MessageHandle, Opened<T>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a message and gives the end of the stream the asker writes into.
    pub(super) fn open(&self, about: T) -> Result<(MessageHandle, OwnedFd), Refusal> {
        let mut open = self.lock();
        if open.len() >= self.most {
            return Err(Refusal::Busy);
        }
        let stream = || {
            let (theirs, ours) = sys::packet::stream_pair()?;
            Ok((OwnedFd::from(theirs), UnixStream::from_std(ours)?))
        };
        let (theirs, ours) = stream().map_err(|error: std::io::Error| {
            error!(%error, "cannot open a stream for a message");
            Refusal::Busy
        })?;
        let handle = MessageHandle(self.next.fetch_add(1, Ordering::Relaxed));
        let receiving = Receiving(tokio::spawn(receive(Arc::clone(&self.house), ours)));
        open.insert(
            handle,
            Opened {
                receiving,
                about,
                touched: Instant::now(),
            },
        );
        Ok((handle, theirs))
    }

    /// Works on what is known about an opened message.
    pub(super) fn with<R>(
        &self,
        handle: MessageHandle,
        work: impl FnOnce(&mut T) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        let mut open = self.lock();
        let opened = open.get_mut(&handle).ok_or(Refusal::UnknownHandle)?;
        opened.touched = Instant::now();
        work(&mut opened.about)
    }

    /// Closes a message and waits for its last byte; exactly `size` must have come.
    pub(super) async fn close(
        &self,
        handle: MessageHandle,
        size: u64,
    ) -> Result<(Incoming, T), Refusal> {
        let opened = self.lock().remove(&handle).ok_or(Refusal::UnknownHandle)?;
        let Opened {
            mut receiving,
            about,
            ..
        } = opened;
        let incoming = (&mut receiving.0).await.unwrap_or_else(|panic| {
            error!(%panic, "bug: receiving a message panicked");
            Err(Refusal::StorageFault)
        })?;
        if incoming.size() != size {
            return Err(Refusal::SizeMismatch);
        }
        Ok((incoming, about))
    }

    /// Forgets a message.
    pub(super) fn abort(&self, handle: MessageHandle) -> Result<(), Refusal> {
        self.lock()
            .remove(&handle)
            .map(|_| ())
            .ok_or(Refusal::UnknownHandle)
    }
}

async fn sweep<T: Send + 'static>(desk: Weak<Desk<T>>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(desk) = desk.upgrade() else { return };
        // While bytes come the reading task itself watches the time.
        desk.lock().retain(|_, opened| {
            !opened.receiving.0.is_finished() || opened.touched.elapsed() < IDLE
        });
    }
}

/// Reads a stream to its end, in bounded memory.
async fn receive(house: Arc<House>, mut stream: UnixStream) -> Result<Incoming, Refusal> {
    let mut incoming = house.store.begin();
    loop {
        let room = BUFFER - incoming.buffer().len();
        let buffer = incoming.buffer();
        buffer.reserve(room.min(buffer.capacity().max(4096)));
        let read =
            tokio::time::timeout(IDLE, (&mut stream).take(room as u64).read_buf(buffer)).await;
        match read {
            Ok(Ok(0)) => return Ok(incoming),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                debug!(%error, "a message stream broke");
                return Err(Refusal::SizeMismatch);
            }
            Err(_) => return Err(Refusal::UnknownHandle),
        }
        // The writer learns it from its next write, the committer from the answer.
        if incoming.size() > house.max_kept_size {
            return Err(Refusal::MessageTooLarge);
        }
        if incoming.is_full() {
            incoming = house
                .work(move |_| {
                    incoming.spill()?;
                    Ok(incoming)
                })
                .await?;
        }
    }
}
