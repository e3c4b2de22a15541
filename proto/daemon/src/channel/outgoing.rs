//! The way out of a channel: a packet is sent by whoever has it, unless others wait because the asker is slow.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::error;

use super::wire::{Exit, ReadError};

/// Packets that wait for a slow asker before events are dropped.
const MAX_OUTGOING: usize = 256;

/// The bytes of a frame, and its descriptors.
pub(super) type Packet = (Vec<u8>, Vec<OwnedFd>);

/// Sends packets in the order in which they come. Cheap to clone; the channel's writer ends with the last one.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Packet>,
}

#[derive(Debug)]
struct Shared {
    exit: Exit,
    /// Packets in the queue, and the one that its reader is about to send.
    queued: Mutex<usize>,
}

impl Shared {
    fn queued(&self) -> MutexGuard<'_, usize> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outgoing {
    /// For a channel of that edge, with the task that sends what has to wait.
    pub(super) fn start(edge: &'static str, exit: Exit) -> (Self, JoinHandle<()>) {
        let (queue, waiting) = mpsc::channel(MAX_OUTGOING);
        let shared = Arc::new(Shared {
            exit,
            queued: Mutex::new(0),
        });
        let writer = tokio::spawn(write(edge, Arc::clone(&shared), waiting));
        (Self { shared, queue }, writer)
    }

    /// Sends a packet, or puts it behind those that wait. Given back if there are too many of them, or the asker is gone.
    pub(super) fn send_now(&self, packet: Packet) -> Result<(), Packet> {
        let mut queued = self.shared.queued();
        // What goes wrong here goes wrong again in the writer, which knows what to do.
        if *queued == 0 && self.shared.exit.write_now(&packet.0, &packet.1).is_ok() {
            return Ok(());
        }
        let put = self.queue.try_send(packet);
        *queued += usize::from(put.is_ok());
        put.map_err(mpsc::error::TrySendError::into_inner)
    }

    /// The same, and waits for room. An asker that is gone needs no packet.
    pub(super) async fn send(&self, packet: Packet) {
        let Err(packet) = self.send_now(packet) else {
            return;
        };
        if let Ok(room) = self.queue.reserve().await {
            *self.shared.queued() += 1;
            room.send(packet);
        }
    }

    /// Waits until nothing can be sent any more.
    pub(super) async fn closed(&self) {
        self.queue.closed().await;
    }
}

async fn write(edge: &'static str, shared: Arc<Shared>, mut waiting: mpsc::Receiver<Packet>) {
    while let Some((bytes, fds)) = waiting.recv().await {
        if let Err(error) = shared.exit.write(&bytes, &fds).await {
            let error = ReadError::Io(error);
            if !error.is_departure() {
                error!(edge, %error, "channel closed: an answer could not be sent");
            }
            break;
        }
        *shared.queued() -= 1;
    }
}
