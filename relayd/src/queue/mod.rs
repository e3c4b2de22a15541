//! The durable queue: two files a message, and nothing else knows them. docs/queue.md has the table of states.
//!
//! `<id>.eml` is the body, written once. `<id>.env` is the [`journal`]: envelope and what became of each recipient. A message
//! exists if and only if its `.env` has a valid first record. All calls block on the disk and belong on a blocking thread.

mod book;
mod draft;
mod id;
pub mod journal;
mod message;
mod recover;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sys::file::{self, OFlags};

pub use book::Book;
pub use draft::Draft;
pub use id::QueueId;
pub(crate) use message::release;
pub use message::{Message, Recipient, State};
pub use recover::{InQuarantine, Recovered};

use journal::{Header, Record};

/// The queue directory.
#[derive(Debug)]
pub struct Queue {
    directory: OwnedFd,
    path: PathBuf,
    /// Held for life: one relayd per queue.
    _lock: File,
    /// Messages somebody works on, so that all who work on one share its journal.
    open: Mutex<HashMap<QueueId, Weak<Opened>>>,
}

/// A message somebody works on.
#[derive(Debug)]
pub struct Opened {
    /// Its id.
    pub id: QueueId,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    journal: File,
    message: Message,
    /// Octets of the file up to the end of the last durable record.
    durable: u64,
    /// An append failed: what is behind the durable records is unknown, and cut off before the next append.
    torn: bool,
}

impl Queue {
    /// Opens the queue directory, making it if its parent exists.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` when another relayd has it.
    pub fn open(path: &Path) -> io::Result<Self> {
        match std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(path)
        {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let directory = file::open_directory(path)?;
        let flags = OFlags::CREATE | OFlags::RDWR;
        let lock = File::from(file::open_beneath(
            directory.as_fd(),
            Path::new(recover::LOCK),
            flags,
            0o600,
        )?);
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::WouldBlock,
                "another relayd works on this queue; stop it first",
            ),
            std::fs::TryLockError::Error(error) => error,
        })?;
        Ok(Self {
            directory,
            path: path.to_owned(),
            _lock: lock,
            open: Mutex::default(),
        })
    }

    /// Where it is, for messages to the admin.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A nameless file for a body on its way in; it vanishes if it is dropped.
    ///
    /// # Errors
    /// What the system says.
    pub fn draft(&self) -> io::Result<Draft> {
        file::temporary_file(self.directory.as_fd()).map(Draft::new)
    }

    /// A body with `head` before that of `draft`, which the file system copies alone where it can (copy_file_range(2)).
    ///
    /// # Errors
    /// What the system says.
    pub fn put_in_front(&self, draft: &Draft, head: &[u8]) -> io::Result<Draft> {
        let made = self.draft()?;
        let (mut from, mut to) = (draft.file(), made.file());
        to.write_all(head)?;
        from.rewind()?;
        io::copy(&mut from, &mut to)?;
        Ok(made)
    }

    /// Makes a message durable: when this returns `Ok`, relayd owns its delivery.
    ///
    /// # Errors
    /// What the system says; then nothing is left of the message.
    pub fn commit(&self, id: QueueId, body: &Draft, header: &Header) -> io::Result<()> {
        let mut line = Vec::new();
        journal::encode(&Record::Message(Box::new(header.clone())), &mut line)?;
        // 1. The bytes of the body.
        body.file().sync_all()?;
        // 2. The bytes of the journal.
        let mut journal = file::temporary_file(self.directory.as_fd())?;
        journal.write_all(&line)?;
        journal.sync_all()?;
        // 3. The names: the body's first, so that a journal without a body was never acknowledged.
        let linked = self
            .link(body.file(), &id.body_name())
            .and_then(|()| self.link(&journal, &id.journal_name()))
            // 4. Both names on disk. A failed flush is final: it is not tried again.
            .and_then(|()| file::sync_directory(&self.directory));
        if linked.is_err() {
            self.forget(id);
        }
        linked
    }

    fn link(&self, from: &File, name: &str) -> io::Result<()> {
        file::link_temporary(from, self.directory.as_fd(), OsStr::new(name))
    }

    /// After a commit that failed: what has a name loses it. What stays in spite of that is a message nobody was told about,
    /// which may come twice (its sender tries again) but not be lost.
    fn forget(&self, id: QueueId) {
        for name in [id.journal_name(), id.body_name()] {
            match self.unlink(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::error!(%id, name, %error, "cannot remove what is left of a failed commit");
                }
                _ => {}
            }
        }
    }

    /// The message, shared with everybody who has it open.
    ///
    /// # Errors
    /// `NotFound`, `InvalidData` for a journal without a message, or what the system says.
    pub fn message(&self, id: QueueId) -> io::Result<Arc<Opened>> {
        let mut open = self.lock_open();
        if let Some(opened) = open.get(&id).and_then(Weak::upgrade) {
            return Ok(opened);
        }
        open.retain(|_, opened| opened.strong_count() > 0);
        let opened = Arc::new(self.read_message(id)?);
        open.insert(id, Arc::downgrade(&opened));
        Ok(opened)
    }

    fn lock_open(&self) -> MutexGuard<'_, HashMap<QueueId, Weak<Opened>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a journal and cuts off what a crash tore.
    fn read_message(&self, id: QueueId) -> io::Result<Opened> {
        let mut journal = self.open_file(&id.journal_name(), OFlags::RDWR | OFlags::APPEND)?;
        let mut bytes = Vec::new();
        // As long as its recipients and the attempts at them make it: a limit here would cut valid records off.
        journal.read_to_end(&mut bytes)?;
        let decoded = journal::decode(&bytes);
        let message = Message::replay(&decoded.records).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the journal does not begin with a valid message record",
            )
        })?;
        if decoded.valid < bytes.len() {
            tracing::warn!(%id, octets = bytes.len() - decoded.valid, "a torn end of a journal is cut off");
            journal.set_len(decoded.valid as u64)?;
            journal.sync_all()?;
        }
        Ok(Opened {
            id,
            inner: Mutex::new(Inner {
                journal,
                message,
                durable: decoded.valid as u64,
                torn: false,
            }),
        })
    }

    /// The body, for reading.
    ///
    /// # Errors
    /// What the system says.
    pub fn body(&self, id: QueueId) -> io::Result<File> {
        self.open_file(&id.body_name(), OFlags::RDONLY)
    }

    /// Opens a regular file of the queue; a link or a device somebody planted is refused.
    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let fd = file::open_beneath(
            self.directory.as_fd(),
            Path::new(name),
            flags | OFlags::NONBLOCK,
            0,
        )?;
        let file = File::from(fd);
        let metadata = file.metadata()?;
        if !metadata.is_file() || std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{name} is no plain file of one name"),
            ));
        }
        Ok(file)
    }

    /// Takes a message out. It does not exist any more once its journal's name is gone from the disk; only then the body goes.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    pub fn remove(&self, id: QueueId) -> io::Result<()> {
        self.unlink(&id.journal_name())?;
        file::sync_directory(&self.directory)?;
        match self.unlink(&id.body_name()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // An orphan body is removed at the next start.
            other => other,
        }
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        file::unlink(self.directory.as_fd(), OsStr::new(name))
    }
}

impl Opened {
    /// The state as of now.
    #[must_use]
    pub fn snapshot(&self) -> Message {
        self.lock().message.clone()
    }

    /// Appends a record and makes it durable before it counts.
    ///
    /// # Errors
    /// What the system says; the record may or may not be there after the next start, and may be appended again.
    pub fn append(&self, record: &Record) -> io::Result<()> {
        let mut line = Vec::new();
        journal::encode(record, &mut line)?;
        let mut inner = self.lock();
        let Inner {
            journal,
            message,
            durable,
            torn,
        } = &mut *inner;
        // A failed flush is not repeated: the bytes it was about are cut off and written anew.
        if *torn {
            journal.set_len(*durable)?;
        }
        *torn = true;
        journal.write_all(&line)?;
        journal.sync_data()?;
        *torn = false;
        *durable += line.len() as u64;
        message.apply(record);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
