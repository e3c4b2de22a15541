//! The answering side of an edge on threads of the channel's own: who reads a call answers it, so that no other thread has to be woken.
//!
//! While one of the threads waits for the disk, the other one reads on. If both do, calls wait in the socket for one of them. What may wait for
//! anything else is left to the runtime, and so is every channel beyond the first few.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use ipc::{Call, Edge, Refusal};
use sys::packet::{PacketListener, PacketSocket};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tracing::error;

use super::outgoing::Outgoing;
use super::reply::Reply;
use super::serve::{self, Events, MAX_CALLS, Service, accept, answer_one, call_of, end, greet};
use super::wire::{Packets, ReadError, receive};
use crate::stop::Stop;

/// Threads of a channel: one reads while the other one waits for the disk.
const THREADS: usize = 2;
/// Channels of a listener that have threads. An asker has one, and a second one for a moment when it was restarted.
const CHANNELS: usize = 4;
/// Calls that are read before those that wait for [`Prompt::settle`] are done.
const HANDFUL: usize = 16;

/// A service that can do some calls on the thread that read them.
pub trait Prompt<E: Edge>: Service<E> {
    /// What a thread has begun.
    type Shift: Default;

    /// Answers a call, or begins with it, or gives it back: then [`Service::answer`] has it. Must not wait for anything but the disk: there are
    /// few of these threads.
    fn answer_here(
        &self,
        shift: &mut Self::Shift,
        peer: &Self::Peer,
        call: Call<E::Request>,
        reply: Reply<E>,
    ) -> Option<(Call<E::Request>, Reply<E>)>;

    /// No more calls are there: what was begun is done.
    fn settle(&self, shift: Self::Shift);
}

/// What the threads of a channel share.
struct Channel<E: Edge, S: Prompt<E>> {
    /// Given back before the peer is gone.
    _room: Arc<OwnedSemaphorePermit>,
    socket: Arc<PacketSocket>,
    service: Arc<S>,
    peer: Arc<S::Peer>,
    outgoing: Outgoing,
    slots: Arc<Semaphore>,
    runtime: Handle,
    ended: Arc<Notify>,
    edge: std::marker::PhantomData<fn() -> E>,
}

/// Serves every channel that is opened on `listener`, until `stop`, on threads of its own. [`Service::answered`] is not called.
///
/// # Errors
/// When the runtime cannot watch the listener.
pub async fn serve_promptly<E: Edge, S: Prompt<E>>(
    listener: PacketListener,
    service: Arc<S>,
    stop: Stop,
) -> io::Result<()> {
    const { assert!(!E::ORDERED, "two threads answer at once") }
    let rooms = Arc::new(Semaphore::new(CHANNELS));
    let each = |socket| {
        let (service, stop) = (Arc::clone(&service), stop.clone());
        let rooms = Arc::clone(&rooms);
        tokio::spawn(async move {
            let Some(packets) = greet::<E>(socket).await else {
                return;
            };
            match rooms.try_acquire_owned() {
                Ok(room) => run(packets, service, stop, Arc::new(room)).await,
                Err(_) => serve::run(packets, service, stop).await,
            }
        });
    };
    accept::<E>(listener, &stop, each).await
}

async fn run<E: Edge, S: Prompt<E>>(
    packets: Packets,
    service: Arc<S>,
    stop: Stop,
    room: Arc<OwnedSemaphorePermit>,
) {
    let (outgoing, writer) = Outgoing::start(E::NAME, packets.exit());
    let socket = packets.into_socket();
    let peer = Arc::new(service.open(Events::over(&outgoing)));
    let slots = Arc::new(Semaphore::new(MAX_CALLS));
    let ended = Arc::new(Notify::new());
    let started = socket.let_wait().and_then(|()| {
        (0..THREADS).try_for_each(|_| {
            let channel = Channel::<E, S> {
                _room: Arc::clone(&room),
                socket: Arc::clone(&socket),
                service: Arc::clone(&service),
                peer: Arc::clone(&peer),
                outgoing: outgoing.clone(),
                slots: Arc::clone(&slots),
                runtime: Handle::current(),
                ended: Arc::clone(&ended),
                edge: std::marker::PhantomData,
            };
            let thread = thread::Builder::new().name(format!("from {}", E::NAME));
            thread.spawn(move || channel.work()).map(drop)
        })
    });
    match started {
        Ok(()) => tokio::select! {
            () = ended.notified() => {}
            // Whoever gets no answers must learn it, and ask over a new channel.
            () = outgoing.closed() => {}
            () = stop.requested() => {}
        },
        Err(error) => error!(edge = E::NAME, %error, "channel closed: no threads for it"),
    }
    if let Err(error) = socket.end_receiving() {
        error!(edge = E::NAME, %error, "a channel that ended may still take calls");
    }
    drop((room, peer, socket));
    end(outgoing, writer, &slots, E::NAME).await;
}

impl<E: Edge, S: Prompt<E>> Channel<E, S> {
    fn work(self) {
        let _runtime = self.runtime.enter();
        while self.do_some() {}
        self.ended.notify_one();
    }

    /// Waits for a call and does it with those that are there by then. False if the channel has ended.
    fn do_some(&self) -> bool {
        let mut shift = S::Shift::default();
        let mut goes_on = self.take(&mut shift, PacketSocket::recv_waiting) == Some(true);
        for _ in 1..HANDFUL {
            // Who is alone sends nothing before it has its answer.
            if !goes_on || self.slots.available_permits() + 1 >= MAX_CALLS {
                break;
            }
            match self.take(&mut shift, PacketSocket::recv) {
                Some(more) => goes_on = more,
                None => break,
            }
        }
        self.guarded(|| self.service.settle(shift));
        goes_on
    }

    /// Reads a call and does it, or has it done. False if the channel has ended, `None` if nothing is there.
    fn take(
        &self,
        shift: &mut S::Shift,
        how: impl Fn(&PacketSocket, &mut [u8]) -> io::Result<sys::packet::Received>,
    ) -> Option<bool> {
        let read = loop {
            match receive(&how, &self.socket) {
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(ReadError::Io(error)),
            }
        };
        let Some(call) = call_of::<E>(read) else {
            return Some(false);
        };
        match Reply::new(&self.slots, &self.outgoing, call.id) {
            Ok(reply) => self.guarded(|| {
                let left = self.service.answer_here(shift, &self.peer, call, reply);
                if let Some((call, reply)) = left {
                    let (service, peer) = (Arc::clone(&self.service), Arc::clone(&self.peer));
                    tokio::spawn(answer_one(service, peer, call, reply));
                }
            }),
            Err(busy) => busy.send(Err(Refusal::Busy)),
        }
        Some(true)
    }

    /// Does work whose panic ends this work and nothing else. What it owed an answer says so itself.
    fn guarded(&self, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            error!(edge = E::NAME, "bug: a call panicked");
        }
    }
}
