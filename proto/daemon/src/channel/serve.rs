//! The answering side of an edge.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ipc::frame::{self, FrameError};
use ipc::{Call, Edge, Refusal, Return};
use sys::packet::{PacketListener, PacketSocket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tracing::{debug, error, warn};

use super::Answered;
use super::wire::{Packets, ReadError};
use crate::stop::Stop;

/// Calls of one channel that are worked on at once; more are answered `Busy`.
const MAX_CALLS: usize = 512;
/// Packets that wait for a slow asker before events are dropped.
const MAX_OUTGOING: usize = 256;
/// How long a new peer may take to greet.
const GREETING: Duration = Duration::from_secs(10);

/// Answers the calls of one edge.
pub trait Service<E: Edge>: Send + Sync + 'static {
    /// What is kept per channel: opened messages, the selected mailbox. Dropped when the channel closes.
    type Peer: Send + Sync + 'static;

    /// A channel was opened; `events` tells its asker things unasked.
    fn open(&self, events: Events<E>) -> Self::Peer;

    /// Answers one call. On an ordered edge the next one is not read before this future is done.
    fn answer(
        &self,
        peer: Arc<Self::Peer>,
        call: Call<E::Request>,
    ) -> impl Future<Output = Result<Answered<E::Answer>, Refusal>> + Send;

    /// The answer of a call was queued: events sent from now on are received behind it.
    fn answered(&self, peer: &Self::Peer) {
        let _ = peer;
    }
}

type Packet = (Vec<u8>, Vec<OwnedFd>);

/// The way to tell an asker something unasked.
#[derive(Debug)]
pub struct Events<E: Edge> {
    outgoing: mpsc::Sender<Packet>,
    edge: std::marker::PhantomData<fn() -> E>,
}

impl<E: Edge> Clone for Events<E> {
    fn clone(&self) -> Self {
        Self {
            outgoing: self.outgoing.clone(),
            edge: std::marker::PhantomData,
        }
    }
}

/// An event could not be queued: the asker reads too slowly, or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event could not be queued")]
pub struct NotQueued;

impl<E: Edge> Events<E> {
    /// Queues an event; never waits. What is queued before an answer is received before it.
    ///
    /// # Errors
    /// [`NotQueued`]: the asker missed this event and must be told so (`Resync`) when there is room again.
    pub fn send(&self, event: E::Event) -> Result<(), NotQueued> {
        let bytes =
            frame::encode(&Return::<E::Answer, E::Event>::Event(event)).map_err(|_| NotQueued)?;
        self.outgoing
            .try_send((bytes, Vec::new()))
            .map_err(|_| NotQueued)
    }
}

/// Serves every channel that is opened on `listener`, until `stop`.
///
/// # Errors
/// When the runtime cannot watch the listener.
pub async fn serve<E: Edge, S: Service<E>>(
    listener: PacketListener,
    service: Arc<S>,
    stop: Stop,
) -> io::Result<()> {
    #[expect(
        deprecated,
        reason = "deprecated for types that may change or close their descriptor; a PacketListener owns one for life"
    )]
    let listener = AsyncFd::with_interest(listener, Interest::READABLE)?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.async_io(Interest::READABLE, PacketListener::accept) => accepted,
            () = stop.requested() => return Ok(()),
        };
        match accepted {
            Ok(socket) => {
                tokio::spawn(greet_and_serve(socket, Arc::clone(&service), stop.clone()));
            }
            Err(error) => {
                warn!(edge = E::NAME, %error, "cannot accept a channel");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn greet_and_serve<E: Edge, S: Service<E>>(
    socket: PacketSocket,
    service: Arc<S>,
    stop: Stop,
) {
    let packets = match Packets::new(socket) {
        Ok(packets) => packets,
        Err(error) => return warn!(edge = E::NAME, %error, "cannot watch a channel"),
    };
    match timeout(GREETING, packets.greet(E::NAME)).await {
        Ok(Ok(())) => run(packets, service, stop).await,
        // Whoever only looked whether someone listens is no cause for alarm.
        Ok(Err(error)) if error.is_departure() => {
            debug!(edge = E::NAME, "left before the greeting")
        }
        Ok(Err(error)) => warn!(edge = E::NAME, %error, "channel refused"),
        Err(_) => warn!(edge = E::NAME, "channel refused: no greeting"),
    }
}

/// Serves one connected socket without a handshake: the other end of a descriptor given out in an answer. Ends when the
/// asker closes it, sends a frame that is none, or `stop` is requested.
///
/// # Errors
/// When the runtime cannot watch the socket.
pub async fn serve_link<E: Edge, S: Service<E>>(
    socket: PacketSocket,
    service: Arc<S>,
    stop: Stop,
) -> io::Result<()> {
    run(Packets::new(socket)?, service, stop).await;
    Ok(())
}

async fn run<E: Edge, S: Service<E>>(packets: Packets, service: Arc<S>, stop: Stop) {
    let packets = Arc::new(packets);
    let (outgoing, queue) = mpsc::channel(MAX_OUTGOING);
    let writer = tokio::spawn(write::<E>(Arc::clone(&packets), queue));
    let peer = Arc::new(service.open(Events {
        outgoing: outgoing.clone(),
        edge: std::marker::PhantomData,
    }));
    let slots = Arc::new(Semaphore::new(MAX_CALLS));
    loop {
        let read = tokio::select! {
            read = packets.read::<Call<E::Request>>() => read,
            // Whoever gets no answers must learn it, and ask over a new channel.
            () = outgoing.closed() => break,
            () = stop.requested() => break,
        };
        let call = match read {
            Ok(frame) if frame.fds.is_empty() => frame.value,
            Ok(_) => {
                error!(edge = E::NAME, error = %ReadError::StrayDescriptors, "channel closed");
                break;
            }
            Err(ReadError::Closed) => {
                debug!(edge = E::NAME, "channel closed by the asker");
                break;
            }
            // A malformed frame closes this channel and nothing else.
            Err(error) => {
                error!(edge = E::NAME, %error, "channel closed");
                break;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            reply::<E>(&outgoing, call.id, Err(Refusal::Busy)).await;
            continue;
        };
        let (service, peer, outgoing) = (Arc::clone(&service), Arc::clone(&peer), outgoing.clone());
        let answering = async move {
            let _slot = slot;
            answer_one(service, peer, outgoing, call).await;
        };
        if E::ORDERED {
            // Boxed, so that a channel that waits does not carry it.
            Box::pin(answering).await;
        } else {
            tokio::spawn(answering);
        }
    }
    // Calls in flight keep their own senders: they finish, then the writer ends.
    let _ = slots
        .acquire_many(u32::try_from(MAX_CALLS).unwrap_or(u32::MAX))
        .await;
    drop((peer, outgoing));
    if timeout(Duration::from_secs(5), writer).await.is_err() {
        debug!(edge = E::NAME, "answers of a closed channel were dropped");
    }
}

async fn answer_one<E: Edge, S: Service<E>>(
    service: Arc<S>,
    peer: Arc<S::Peer>,
    outgoing: mpsc::Sender<Packet>,
    call: Call<E::Request>,
) {
    let (id, context) = (call.id, call.context);
    let within = Duration::from_millis(u64::from(call.deadline_ms));
    let work = timeout(within, service.answer(Arc::clone(&peer), call));
    let result = match unwound(work).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Refusal::DeadlinePassed),
        Err(Panicked) => {
            error!(
                edge = E::NAME,
                session = format!("{:016x}", context.session),
                message = format!("{:016x}", context.message),
                "bug: a call panicked"
            );
            Err(Refusal::StorageFault)
        }
    };
    reply::<E>(&outgoing, id, result).await;
    service.answered(&peer);
}

/// A future panicked; what it said is on stderr.
struct Panicked;

/// Does work whose panic ends this work and nothing else.
async fn unwound<F: Future>(work: F) -> Result<F::Output, Panicked> {
    let mut work = pin!(work);
    let end = poll_fn(|context| {
        // Work that panicked is not polled again.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    });
    end.await
}

async fn reply<E: Edge>(
    outgoing: &mpsc::Sender<Packet>,
    id: u64,
    result: Result<Answered<E::Answer>, Refusal>,
) {
    let (result, fds) = match result {
        Ok(Answered { answer, fds }) => (Ok(answer), fds),
        Err(refusal) => (Err(refusal), Vec::new()),
    };
    let packet = match frame::encode(&Return::<E::Answer, E::Event>::Answer { id, result }) {
        Ok(bytes) => (bytes, fds),
        Err(FrameError::TooLong | FrameError::Malformed | FrameError::TrailingBytes) => {
            error!(edge = E::NAME, "bug: an answer does not fit into a frame");
            let refusal = Return::<E::Answer, E::Event>::Answer {
                id,
                result: Err(Refusal::StorageFault),
            };
            let Ok(bytes) = frame::encode(&refusal) else {
                return;
            };
            (bytes, Vec::new())
        }
    };
    // An asker that is gone needs no answer.
    let _ = outgoing.send(packet).await;
}

async fn write<E: Edge>(packets: Arc<Packets>, mut queue: mpsc::Receiver<Packet>) {
    while let Some((bytes, fds)) = queue.recv().await {
        if let Err(error) = packets.write(&bytes, &fds).await {
            let error = ReadError::Io(error);
            if !error.is_departure() {
                error!(edge = E::NAME, %error, "channel closed: an answer could not be sent");
            }
            break;
        }
    }
}
