//! Connections that are kept open for a moment after a message, for the next one that goes to the same server under the same demands.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::dial::Target;
use crate::line::Line;

/// Connections kept at once.
const MOST: usize = 64;
/// Messages over one connection: servers share their load by connections.
const MESSAGES: u32 = 100;
/// The same in time.
const LONGEST: Duration = Duration::from_mins(5);

/// The connections nobody uses now.
#[derive(Debug)]
pub struct Pool {
    /// For how long one is kept; zero keeps none.
    patience: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// In the order in which they end.
    idle: Vec<Idle>,
    /// Somebody waits for the first one to end.
    is_watched: bool,
}

#[derive(Debug)]
struct Idle {
    target: Target,
    line: Line,
    ends: Instant,
}

impl Pool {
    /// Keeps connections for so long.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self {
            patience,
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to this server that was opened under the very same demands and with the same password. Of those to its address under
    /// other demands none is left, so that nobody has more connections than there are messages for him.
    pub(crate) fn take(&self, target: &Target) -> Option<Line> {
        let mut inner = self.lock();
        loop {
            let place = inner.idle.iter().rposition(|one| one.target == *target);
            let Some(place) = place else { break };
            let mut line = inner.idle.remove(place).line;
            // A server that has spoken, or hung up, has nothing good to say.
            if line.is_silent() {
                return Some(line);
            }
        }
        inner.close(|one| one.target.address == target.address);
        None
    }

    /// Keeps a connection, if that is of any use; else ends it.
    pub(crate) fn keep(self: &Arc<Self>, target: &Target, line: Line) {
        let now = Instant::now();
        let is_worn = line.messages >= MESSAGES || line.opened + LONGEST <= now;
        if self.patience.is_zero() || is_worn {
            return line.hang_up();
        }
        let mut inner = self.lock();
        if inner.idle.len() >= MOST {
            inner.idle.remove(0).line.hang_up();
        }
        inner.idle.push(Idle {
            target: target.clone(),
            line,
            ends: now + self.patience,
        });
        if !inner.is_watched {
            inner.is_watched = true;
            tokio::spawn(Arc::clone(self).watch());
        }
    }

    /// Ends all of them.
    pub fn clear(&self) {
        self.lock().close(|_| true);
    }

    async fn watch(self: Arc<Self>) {
        while let Some(next) = self.close_idle() {
            sleep_until(next).await;
        }
    }

    /// Ends those whose time is over. When the next one's is, if there is one left.
    fn close_idle(&self) -> Option<Instant> {
        let (mut inner, now) = (self.lock(), Instant::now());
        inner.close(|one| one.ends <= now);
        let next = inner.idle.iter().map(|one| one.ends).min();
        inner.is_watched = next.is_some();
        next
    }

    /// Whether there is one to a server of this name.
    pub(crate) fn has_host(&self, name: &str) -> bool {
        self.lock().idle.iter().any(|one| one.target.host == name)
    }

    /// How many there are to this address.
    #[must_use]
    pub fn idle_to(&self, address: SocketAddr) -> usize {
        let inner = self.lock();
        let all = inner.idle.iter();
        all.filter(|one| one.target.address == address).count()
    }
}

impl Inner {
    fn close(&mut self, is_over: impl Fn(&Idle) -> bool) {
        for one in self.idle.extract_if(.., |one| is_over(one)) {
            one.line.hang_up();
        }
    }
}
