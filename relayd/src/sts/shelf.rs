//! The policies that were fetched, in memory and in a book of the queue, a line of JSON each: the last line about a domain counts.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tracing::error;

use super::policy::Policy;
use crate::desk::Desk;
use crate::queue::{Book, Queue};

/// Octets of all lines that count; whose was fetched longest ago goes first.
const MAX_OCTETS: usize = 16 << 20;
/// Lines that do not count any more are left until there are so many, and as many as those that do.
const SPARE: usize = 1000;

/// A policy that was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) domain: String,
    /// The name of its version.
    pub(super) id: String,
    /// Unix seconds.
    pub(super) fetched: i64,
    pub(super) policy: Policy,
}

impl Kept {
    fn holds(&self, now: i64) -> bool {
        let age = i64::try_from(self.policy.max_age).unwrap_or(i64::MAX);
        now < self.fetched.saturating_add(age)
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Shelf {
    desk: Arc<Desk>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// With the length of its line.
    kept: HashMap<String, (Kept, usize)>,
    octets: usize,
    /// Lines of the file.
    lines: usize,
}

impl Shelf {
    /// With what was written down before.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(super) async fn open(desk: Arc<Desk>) -> io::Result<Self> {
        let bytes = desk
            .with_queue(|queue| queue.read_book(Book::Policies))
            .await?;
        let mut inner = Inner::default();
        for line in bytes.split(|byte| *byte == b'\n') {
            inner.lines += 1;
            // What a crash tore, or somebody else wrote, is fetched again.
            if let Ok(kept) = serde_json::from_slice::<Kept>(line) {
                inner.put(kept, line.len());
            }
        }
        let inner = Mutex::new(inner);
        Ok(Self { desk, inner })
    }

    /// The policy of a domain, if it still holds.
    pub(super) async fn find(&self, domain: &str, now: i64) -> Option<Kept> {
        let inner = self.inner.lock().await;
        let (kept, _) = inner.kept.get(domain)?;
        kept.holds(now).then(|| kept.clone())
    }

    /// Keeps a policy in place of the one before.
    pub(super) async fn keep(&self, kept: Kept, now: i64) {
        let mut inner = self.inner.lock().await;
        if let Err(error) = self.write(&mut inner, kept, now).await {
            error!(%error, "an MTA-STS policy cannot be written down: after a restart it is fetched again");
        }
    }

    async fn write(&self, inner: &mut Inner, kept: Kept, now: i64) -> io::Result<()> {
        let mut line = serde_json::to_vec(&kept)?;
        inner.put(kept, line.len());
        line.push(b'\n');
        inner.lines += 1;
        if inner.lines <= 2 * inner.kept.len() + SPARE {
            let append = move |queue: &Queue| queue.append_to_book(Book::Policies, &line);
            return self.desk.with_queue(append).await;
        }
        inner.forget(now);
        let mut lines = Vec::new();
        for (kept, _) in inner.kept.values() {
            serde_json::to_writer(&mut lines, kept)?;
            lines.push(b'\n');
        }
        inner.lines = inner.kept.len();
        let replace = move |queue: &Queue| queue.replace_book(Book::Policies, &lines);
        self.desk.with_queue(replace).await
    }
}

impl Inner {
    fn put(&mut self, kept: Kept, length: usize) {
        self.octets += length;
        if let Some((_, before)) = self.kept.insert(kept.domain.clone(), (kept, length)) {
            self.octets -= before;
        }
        while self.octets > MAX_OCTETS {
            let oldest = self.kept.values().min_by_key(|(kept, _)| kept.fetched);
            let Some(domain) = oldest.map(|(kept, _)| kept.domain.clone()) else {
                return;
            };
            self.remove(&domain);
        }
    }

    fn remove(&mut self, domain: &str) {
        if let Some((_, length)) = self.kept.remove(domain) {
            self.octets -= length;
        }
    }

    fn forget(&mut self, now: i64) {
        let over = self.kept.values().filter(|(kept, _)| !kept.holds(now));
        let over: Vec<_> = over.map(|(kept, _)| kept.domain.clone()).collect();
        over.iter().for_each(|domain| self.remove(domain));
    }
}
