//! Filters: programs that look at mail and may change or refuse it, asked over connections that relayd makes.
//!
//! Each transaction has a connection of its own to each filter, made at MAIL: a client that brings no mail costs a filter
//! nothing, and a filter that was restarted fails no mail. The text is held in memory until every filter has judged it, each
//! seeing what those before it changed.

mod hold;
mod panel;
mod talk;
mod words;

use std::sync::Arc;

use daemon::config::{Filter, FilterListener, Smtp};
use smtp::server::Role;
use tokio::sync::Semaphore;

pub(crate) use hold::{Full, Held};
pub(crate) use panel::{Outcome, Panel, Visitor};

/// Connections to filters that are being made at once. relayd answers so many calls of ours and no more, and filters that
/// cannot be reached must not keep it from answering others.
const MAX_CONNECTING: usize = 64;

/// What the filters of all ports share.
#[derive(Debug, Clone)]
pub struct Means {
    /// Memory for messages, in KiB.
    memory: Arc<Semaphore>,
    connecting: Arc<Semaphore>,
}

impl Means {
    /// Means with so many bytes for messages.
    #[must_use]
    pub fn new(memory: u64) -> Self {
        let kib = usize::try_from(memory / 1024).unwrap_or(usize::MAX);
        Self {
            memory: Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS))),
            connecting: Arc::new(Semaphore::new(MAX_CONNECTING)),
        }
    }
}

/// The filters of one port.
#[derive(Debug)]
pub struct Filters {
    list: Vec<Arc<Filter>>,
    listener: &'static str,
    hostname: String,
    means: Means,
}

impl Filters {
    /// What they are called, in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|filter| filter.name.as_str())
    }

    /// Those that the configuration lists for ports of this role.
    #[must_use]
    pub fn of(smtp: &Smtp, role: Role, hostname: String, means: Means) -> Self {
        let (listener, name) = match role {
            Role::Exchange => (FilterListener::Mx, "mx"),
            Role::Submission => (FilterListener::Submission, "submission"),
            Role::Delivery => (FilterListener::Lmtp, "lmtp"),
        };
        let applies = |filter: &&Filter| filter.listeners.contains(&listener);
        let list = smtp.filters.iter().filter(applies);
        Self {
            list: list.cloned().map(Arc::new).collect(),
            listener: name,
            hostname,
            means,
        }
    }
}
