//! Who is known and who is put off: answers smtpd, and writes down who came back.

use std::io;
use std::sync::Arc;

use daemon::config::Greylisting;
use ipc::greylist::{Acquaintance, Triple};
use tokio::sync::Mutex;
use tracing::{error, info};

use crate::budget::{decode, encode};
use crate::clock;
use crate::desk::Desk;
use crate::greylist::{Greylist, Passed};
use crate::queue::{Book, Queue};

/// Lines in the file before it is written anew, twice as many as can be known.
const MAX_LINES: usize = 200_000;

/// The list and the queue whose file it is in.
#[derive(Debug)]
pub struct Welcome {
    desk: Arc<Desk>,
    /// Held while a line is written; nothing if all are welcome.
    inner: Option<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    list: Greylist,
    lines: usize,
}

impl Welcome {
    /// With what was written down before.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub async fn open(desk: Arc<Desk>, rules: &Greylisting) -> io::Result<Self> {
        if !rules.enabled {
            return Ok(Self { desk, inner: None });
        }
        let read = desk.with_queue(|queue| queue.read_book(Book::Known));
        let bytes = read.await?;
        let (mut list, now) = (Greylist::new(rules), clock::now());
        let mut lines = 0;
        for passed in decode(&bytes) {
            list.note(passed, now);
            lines += 1;
        }
        list.forget(now);
        info!(lines, "read whose mail is known");
        let inner = Some(Mutex::new(Inner { list, lines }));
        Ok(Self { desk, inner })
    }

    /// Whether mail that comes now is known.
    pub async fn greet(&self, triple: &Triple) -> Acquaintance {
        let Some(inner) = &self.inner else {
            return Acquaintance::Known;
        };
        let mut inner = inner.lock().await;
        let (acquaintance, passed) = inner.list.greet(triple, clock::now());
        if let Some(passed) = passed
            && let Err(error) = self.write(&mut inner, passed).await
        {
            error!(%error, "whose mail is known cannot be written down: after a restart they are put off again");
        }
        acquaintance
    }

    /// The same, only to know.
    pub async fn recall(&self, triple: &Triple) -> Acquaintance {
        let Some(inner) = &self.inner else {
            return Acquaintance::Known;
        };
        inner.lock().await.list.recall(triple, clock::now())
    }

    async fn write(&self, inner: &mut Inner, passed: Passed) -> io::Result<()> {
        inner.lines += 1;
        if inner.lines < MAX_LINES {
            let line = encode(&[passed])?;
            let append = move |queue: &Queue| queue.append_to_book(Book::Known, &line);
            return self.desk.with_queue(append).await;
        }
        let known = inner.list.summary();
        // Whatever comes of it: not each mail is to try it again.
        inner.lines = known.len();
        let lines = encode(&known)?;
        let replace = move |queue: &Queue| queue.replace_book(Book::Known, &lines);
        self.desk.with_queue(replace).await
    }
}
