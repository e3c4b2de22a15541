//! The asking side of an edge: one connection to a socket file, made when needed and again after the other daemon died.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipc::{Context, Edge};
use sys::packet::PacketSocket;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, warn};

use super::{Answered, CallError, Link};

/// Waits between attempts to connect.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Asks one daemon, for any number of tasks at once. Cheap to clone.
#[derive(Debug)]
pub struct Client<E: Edge> {
    inner: Arc<Inner<E>>,
}

#[derive(Debug)]
struct Inner<E: Edge> {
    path: PathBuf,
    link: Mutex<Option<Arc<Link<E>>>>,
}

impl<E: Edge> Clone for Client<E> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<E: Edge> Client<E> {
    /// Will ask over the socket file at `path`; connects with the first call.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            inner: Arc::new(Inner {
                path,
                link: Mutex::new(None),
            }),
        }
    }

    /// Asks once. Waits for the other daemon to come back if it is away, at most `within` in all; a call that was sent and
    /// lost is not sent again, so this is the form for requests that change something.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(
        &self,
        context: Context,
        within: Duration,
        request: E::Request,
    ) -> Result<Answered<E::Answer>, CallError> {
        let end = Instant::now() + within;
        let link = self.link(end).await?;
        link.call(
            context,
            end.saturating_duration_since(Instant::now()),
            request,
        )
        .await
    }

    /// Like [`Client::call`], but asks again when the other daemon died over the question: for requests without effect.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ask(
        &self,
        context: Context,
        within: Duration,
        request: E::Request,
    ) -> Result<Answered<E::Answer>, CallError>
    where
        E::Request: Clone,
    {
        let end = Instant::now() + within;
        loop {
            let answer = self
                .call(
                    context,
                    end.saturating_duration_since(Instant::now()),
                    request.clone(),
                )
                .await;
            match answer {
                Err(CallError::Unavailable) if Instant::now() + FIRST_WAIT < end => {
                    sleep(FIRST_WAIT).await
                }
                answer => return answer,
            }
        }
    }

    /// The link on which a handle (an opened message) lives: calls about it must go over the same connection.
    ///
    /// # Errors
    /// [`CallError::Unavailable`] when no connection can be made within the time.
    pub async fn pinned(&self, within: Duration) -> Result<Arc<Link<E>>, CallError> {
        self.link(Instant::now() + within).await
    }

    async fn link(&self, end: Instant) -> Result<Arc<Link<E>>, CallError> {
        let Ok(mut slot) = timeout_at(end, self.inner.link.lock()).await else {
            return Err(CallError::Unavailable);
        };
        if let Some(link) = slot.as_ref().filter(|link| link.is_open()) {
            return Ok(Arc::clone(link));
        }
        *slot = None;
        let mut wait = FIRST_WAIT;
        loop {
            match timeout_at(end, self.connect()).await {
                Ok(Some(link)) => {
                    debug!(edge = E::NAME, "connected");
                    let link = Arc::new(link);
                    *slot = Some(Arc::clone(&link));
                    return Ok(link);
                }
                Ok(None) if Instant::now() + wait < end => sleep(wait).await,
                Ok(None) | Err(_) => return Err(CallError::Unavailable),
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn connect(&self) -> Option<Link<E>> {
        let path = &self.inner.path;
        let socket = PacketSocket::connect(path)
            .inspect_err(
                |error| warn!(edge = E::NAME, path = %path.display(), %error, "cannot connect"),
            )
            .ok()?;
        Link::open(socket)
            .await
            .inspect_err(
                |error| warn!(edge = E::NAME, path = %path.display(), %error, "handshake failed"),
            )
            .ok()
    }
}
