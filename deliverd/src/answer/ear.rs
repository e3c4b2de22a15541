//! How a session hears of its selected mailbox.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use daemon::channel::Events;
use ipc::session::{RECORDS_PER_FRAME, SessionEdge, SessionEvent};
use tracing::debug;

use crate::store::Listener;

/// How long until a slow reader is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// Events held back at most.
const MAX_HELD: usize = 64;

/// How a session hears of changes: events go out on its channel in order, and never make anyone wait.
pub(super) struct Ear {
    events: Events<SessionEdge>,
    /// Events held back until the answer to SELECT is on its way; `None` afterwards.
    held: Mutex<Option<Vec<SessionEvent>>>,
    lost: AtomicBool,
    me: Weak<Self>,
}

impl Ear {
    pub(super) fn new(events: Events<SessionEdge>) -> Arc<Self> {
        let held = Mutex::new(Some(Vec::new()));
        Arc::new_cyclic(|me| Self {
            events,
            held,
            lost: AtomicBool::new(false),
            me: me.clone(),
        })
    }

    /// Lets events through from now on.
    pub(super) fn release(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that no later event overtakes the held ones.
        for event in held.take().into_iter().flatten() {
            if !self.send(event) {
                break;
            }
        }
    }

    fn send(&self, event: SessionEvent) -> bool {
        if self.lost.load(Ordering::Acquire) {
            return false;
        }
        if self.events.send(event).is_ok() {
            return true;
        }
        self.lose();
        false
    }

    /// An event was lost: as soon as there is room again the session is told to select anew.
    fn lose(&self) {
        if self.lost.swap(true, Ordering::AcqRel) {
            return;
        }
        debug!("a session reads too slowly; it will be told to select again");
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let me = self.me.clone();
        runtime.spawn(async move {
            // Ends with the selection, or the session.
            while let Some(ear) = me.upgrade() {
                if ear.events.send(SessionEvent::Resync).is_ok() {
                    return;
                }
                drop(ear);
                tokio::time::sleep(RETRY).await;
            }
        });
    }
}

/// Puts an event behind those held back; new messages are joined with new messages, so that a busy mailbox fits.
fn hold(waiting: &mut Vec<SessionEvent>, event: SessionEvent) {
    match (waiting.last_mut(), event) {
        (Some(SessionEvent::Added(known)), SessionEvent::Added(more))
            if known.len() + more.len() <= RECORDS_PER_FRAME =>
        {
            known.extend(more);
        }
        (_, event) => waiting.push(event),
    }
}

impl Listener for Ear {
    fn tell(&self, event: SessionEvent) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_mut() {
            Some(waiting) if waiting.len() < MAX_HELD => {
                hold(waiting, event);
                true
            }
            Some(_) => {
                *held = None;
                self.lose();
                false
            }
            None => self.send(event),
        }
    }
}
