//! The answering side of an edge.

use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ipc::frame;
use ipc::{Call, Edge, Refusal, Return};
use sys::packet::{PacketListener, PacketSocket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{debug, error, warn};

use super::Answered;
use super::outgoing::Outgoing;
use super::reply::Reply;
use super::wire::{Frame, Packets, ReadError};
use crate::stop::Stop;

/// Calls of one channel that are worked on at once; more are answered `Busy`.
pub(super) const MAX_CALLS: usize = 512;
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

/// The way to tell an asker something unasked.
#[derive(Debug)]
pub struct Events<E: Edge> {
    outgoing: Outgoing,
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
    pub(super) fn over(outgoing: &Outgoing) -> Self {
        Self {
            outgoing: outgoing.clone(),
            edge: std::marker::PhantomData,
        }
    }

    /// Queues an event; never waits. What is queued before an answer is received before it.
    ///
    /// # Errors
    /// [`NotQueued`]: the asker missed this event and must be told so (`Resync`) when there is room again.
    pub fn send(&self, event: E::Event) -> Result<(), NotQueued> {
        let bytes =
            frame::encode(&Return::<E::Answer, E::Event>::Event(event)).map_err(|_| NotQueued)?;
        self.outgoing
            .send_now((bytes, Vec::new()))
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
    let each = |socket| {
        let (service, stop) = (Arc::clone(&service), stop.clone());
        tokio::spawn(async move {
            if let Some(packets) = greet::<E>(socket).await {
                run(packets, service, stop).await;
            }
        });
    };
    accept::<E>(listener, &stop, each).await
}

/// Accepts channels until `stop`.
pub(super) async fn accept<E: Edge>(
    listener: PacketListener,
    stop: &Stop,
    each: impl Fn(PacketSocket),
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
            Ok(socket) => each(socket),
            Err(error) => {
                warn!(edge = E::NAME, %error, "cannot accept a channel");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A channel whose other side has greeted.
pub(super) async fn greet<E: Edge>(socket: PacketSocket) -> Option<Packets> {
    let packets = Packets::new(socket)
        .inspect_err(|error| warn!(edge = E::NAME, %error, "cannot watch a channel"))
        .ok()?;
    match timeout(GREETING, packets.greet(E::NAME)).await {
        Ok(Ok(())) => return Some(packets),
        // Whoever only looked whether someone listens is no cause for alarm.
        Ok(Err(error)) if error.is_departure() => {
            debug!(edge = E::NAME, "left before the greeting")
        }
        Ok(Err(error)) => warn!(edge = E::NAME, %error, "channel refused"),
        Err(_) => warn!(edge = E::NAME, "channel refused: no greeting"),
    }
    None
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

pub(super) async fn run<E: Edge, S: Service<E>>(packets: Packets, service: Arc<S>, stop: Stop) {
    let (outgoing, writer) = Outgoing::start(E::NAME, packets.exit());
    let peer = Arc::new(service.open(Events::over(&outgoing)));
    let slots = Arc::new(Semaphore::new(MAX_CALLS));
    loop {
        let read = tokio::select! {
            read = packets.read::<Call<E::Request>>() => read,
            // Whoever gets no answers must learn it, and ask over a new channel.
            () = outgoing.closed() => break,
            () = stop.requested() => break,
        };
        let Some(call) = call_of::<E>(read) else {
            break;
        };
        let reply = match Reply::new(&slots, &outgoing, call.id) {
            Ok(reply) => reply,
            Err(busy) => {
                busy.answer(Err(Refusal::Busy)).await;
                continue;
            }
        };
        let answering = answer_one(Arc::clone(&service), Arc::clone(&peer), call, reply);
        if E::ORDERED {
            // Boxed, so that a channel that waits does not carry it.
            Box::pin(answering).await;
        } else {
            tokio::spawn(answering);
        }
    }
    drop(peer);
    end(outgoing, writer, &slots, E::NAME).await;
}

/// What was read, if the channel goes on.
pub(super) fn call_of<E: Edge>(
    read: Result<Frame<Call<E::Request>>, ReadError>,
) -> Option<Call<E::Request>> {
    match read {
        Ok(frame) if frame.fds.is_empty() => return Some(frame.value),
        Ok(_) => error!(edge = E::NAME, error = %ReadError::StrayDescriptors, "channel closed"),
        Err(ReadError::Closed) => debug!(edge = E::NAME, "channel closed by the asker"),
        // A malformed frame closes this channel and nothing else.
        Err(error) => error!(edge = E::NAME, %error, "channel closed"),
    }
    None
}

/// Waits for the calls in flight, which have their own ways out, and then for the writer.
pub(super) async fn end(
    outgoing: Outgoing,
    writer: JoinHandle<()>,
    slots: &Semaphore,
    edge: &'static str,
) {
    let _ = slots
        .acquire_many(u32::try_from(MAX_CALLS).unwrap_or(u32::MAX))
        .await;
    drop(outgoing);
    if timeout(Duration::from_secs(5), writer).await.is_err() {
        debug!(edge, "answers of a closed channel were dropped");
    }
}

pub(super) async fn answer_one<E: Edge, S: Service<E>>(
    service: Arc<S>,
    peer: Arc<S::Peer>,
    call: Call<E::Request>,
    reply: Reply<E>,
) {
    let context = call.context;
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
    reply.answer(result).await;
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
