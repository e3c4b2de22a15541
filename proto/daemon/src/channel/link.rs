//! One connection as the asking side sees it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipc::frame;
use ipc::{Call, Context, Edge, Return};
use sys::packet::PacketSocket;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tracing::warn;

use super::wire::{Frame, Packets, ReadError};
use super::{Answered, CallError};

/// Events that wait for the asker before they are replaced by [`Edge::lost`].
const MAX_EVENTS: usize = 256;

type Answer<E> = Result<Answered<<E as Edge>::Answer>, CallError>;

/// One connection to an answering daemon. Dropping it closes it.
#[derive(Debug)]
pub struct Link<E: Edge> {
    shared: Arc<Shared<E>>,
    reader: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared<E: Edge> {
    packets: Packets,
    next_id: AtomicU64,
    state: Mutex<State<E>>,
    happened: Notify,
}

#[derive(Debug)]
struct State<E: Edge> {
    open: bool,
    waiting: HashMap<u64, Waiting<E>>,
    events: VecDeque<E::Event>,
}

#[derive(Debug)]
struct Waiting<E: Edge> {
    sender: oneshot::Sender<Answer<E>>,
    /// Events before the answer are nobody's concern any more.
    forgets: bool,
}

impl<E: Edge> Link<E> {
    /// Takes over a descriptor that an answering daemon minted (a mail session). There is no handshake: the version was
    /// agreed on the channel that brought it.
    ///
    /// # Errors
    /// When the runtime cannot watch the descriptor.
    pub fn over(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self::start(Packets::new(PacketSocket::from(fd))?))
    }

    /// Connects and greets.
    pub(super) async fn open(socket: PacketSocket) -> Result<Self, ReadError> {
        let packets = Packets::new(socket)?;
        packets.greet(E::NAME).await?;
        Ok(Self::start(packets))
    }

    fn start(packets: Packets) -> Self {
        let shared = Arc::new(Shared {
            packets,
            next_id: AtomicU64::new(1),
            state: Mutex::new(State {
                open: true,
                waiting: HashMap::new(),
                events: VecDeque::new(),
            }),
            happened: Notify::new(),
        });
        let reader = tokio::spawn(Arc::clone(&shared).read());
        Self { shared, reader }
    }

    /// Whether the other side was there when last heard of.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared.lock().open
    }

    /// Asks once and waits at most `within`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, context: Context, within: Duration, request: E::Request) -> Answer<E> {
        self.exchange(context, within, request, false).await
    }

    /// The same; the events that came before the answer and were not taken are forgotten, and those behind it are not.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call_anew(
        &self,
        context: Context,
        within: Duration,
        request: E::Request,
    ) -> Answer<E> {
        self.exchange(context, within, request, true).await
    }

    async fn exchange(
        &self,
        context: Context,
        within: Duration,
        request: E::Request,
        forgets: bool,
    ) -> Answer<E> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let deadline_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        let bytes = frame::encode(&Call {
            id,
            deadline_ms,
            context,
            request,
        })
        .map_err(|_| ipc::Refusal::Invalid("the request does not fit into a frame".into()))?;
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            if !state.open {
                return Err(CallError::Unavailable);
            }
            state.waiting.insert(id, Waiting { sender, forgets });
        }
        // A call given up (its future dropped) must not stay in the table.
        let _forget = Forget {
            shared: &self.shared,
            id,
        };
        let exchange = async {
            self.shared
                .packets
                .write(&bytes, &[])
                .await
                .map_err(|_| CallError::Unavailable)?;
            receiver.await.unwrap_or(Err(CallError::Unavailable))
        };
        tokio::time::timeout(within, exchange)
            .await
            .unwrap_or(Err(CallError::Unavailable))
    }

    /// The next event; `None` when the channel is closed and all events were taken.
    pub async fn event(&self) -> Option<E::Event> {
        loop {
            let happened = self.shared.happened.notified();
            {
                let mut state = self.shared.lock();
                if let Some(event) = state.events.pop_front() {
                    return Some(event);
                }
                if !state.open {
                    return None;
                }
            }
            happened.await;
        }
    }

    /// The next event if one is there. All events sent before an answer are there once the answer is.
    #[must_use]
    pub fn try_event(&self) -> Option<E::Event> {
        self.shared.lock().events.pop_front()
    }
}

impl<E: Edge> Drop for Link<E> {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

struct Forget<'a, E: Edge> {
    shared: &'a Shared<E>,
    id: u64,
}

impl<E: Edge> Drop for Forget<'_, E> {
    fn drop(&mut self) {
        self.shared.lock().waiting.remove(&self.id);
    }
}

impl<E: Edge> Shared<E> {
    fn lock(&self) -> std::sync::MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(self: Arc<Self>) {
        loop {
            match self.packets.read::<Return<E::Answer, E::Event>>().await {
                Ok(frame) => self.take(frame),
                Err(error) => {
                    if !matches!(error, ReadError::Closed) {
                        warn!(edge = E::NAME, %error, "channel closed");
                    }
                    break;
                }
            }
        }
        let mut state = self.lock();
        state.open = false;
        state.waiting.clear();
        drop(state);
        self.happened.notify_waiters();
    }

    fn take(&self, Frame { value, fds }: Frame<Return<E::Answer, E::Event>>) {
        let mut state = self.lock();
        match value {
            Return::Answer { id, result } => {
                // A late answer (its asker gave up) is dropped with its descriptors.
                if let Some(waiting) = state.waiting.remove(&id) {
                    if waiting.forgets {
                        state.events.clear();
                    }
                    let _ = waiting.sender.send(
                        result
                            .map(|answer| Answered { answer, fds })
                            .map_err(CallError::Refused),
                    );
                }
            }
            Return::Event(event) => {
                if state.events.len() < MAX_EVENTS {
                    state.events.push_back(event);
                } else if let Some(lost) = E::lost() {
                    state.events.clear();
                    state.events.push_back(lost);
                }
                drop(state);
                self.happened.notify_waiters();
            }
        }
    }
}
