//! The durable queue: two files a message, and nothing else knows them. docs/queue.md has the table of states.
//!
//! `<id>.eml` is the body, written once. `<id>.env` is the [`journal`]: envelope and what became of each recipient. A message
//! exists if and only if its `.env` has a valid first record. What is to be durable is in the [`log`] first; the files of the messages are flushed
//! later, if they live so long. All calls block on the disk and belong on a blocking thread.

mod book;
mod draft;
pub mod history;
mod id;
pub mod journal;
mod log;
mod message;
mod recover;

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sys::file::{self, OFlags};

pub use book::Book;
pub use draft::Draft;
pub use id::QueueId;
pub(crate) use message::release;
pub use message::{Message, Recipient, State};
pub use recover::{InQuarantine, Recovered};

use history::{Bounds, Ending, Event, History, Piece, Place};
use journal::{Header, Record};
use log::{Entry, Log};

use crate::clock;

/// Octets of a body up to which it is written into the log, too; a larger one is flushed by itself.
const INLINE: u64 = if cfg!(test) { 4096 } else { 128 << 10 };

/// The queue directory.
#[derive(Debug)]
pub struct Queue {
    directory: OwnedFd,
    path: PathBuf,
    /// Held for life: one relayd per queue.
    _lock: File,
    log: Arc<Log>,
    history: Arc<History>,
    /// What was queued since the start, until all that was there before is read: nobody takes it for something that was there before.
    born: Mutex<Option<HashSet<QueueId>>>,
    /// Messages somebody works on, so that all who work on one share its journal.
    open: Mutex<HashMap<QueueId, Weak<Opened>>>,
}

/// A message somebody works on.
#[derive(Debug)]
pub struct Opened {
    /// Its id.
    pub id: QueueId,
    log: Arc<Log>,
    history: Arc<History>,
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
    /// Opens the queue directory, making it if its parent exists, with a history of which so much is `kept`, and writes what is in the log into the files of the messages.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` when another relayd has it.
    pub fn open(path: &Path, kept: Bounds) -> io::Result<Self> {
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
        let (log, past) = Log::open(directory.try_clone()?)?;
        let history = History::new(directory.try_clone()?, kept);
        let queue = Self {
            history: Arc::new(history),
            directory,
            path: path.to_owned(),
            _lock: lock,
            log: Arc::new(log),
            born: Mutex::new(Some(HashSet::new())),
            open: Mutex::default(),
        };
        queue.tidy(&past)?;
        Ok(queue)
    }

    /// Has everything flushed into the files of the messages, so that the log is empty. What is done afterwards is in the log again.
    ///
    /// # Errors
    /// What the system says; the next start reads the log then.
    pub fn close(&self) -> io::Result<()> {
        self.log.close()
    }

    /// How often the log was flushed.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.log.flushes()
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
        if let Some(born) = &mut *self.lock_born() {
            born.insert(id);
        }
        let committed = self.commit_line(id, body, &line);
        if committed.is_ok() {
            self.history
                .note([Event::queued(id, header)], header.queued);
        } else {
            self.log.note(id, Entry::Gone(Ending::Refused));
            self.forget(id);
        }
        committed
    }

    fn commit_line(&self, id: QueueId, body: &Draft, line: &[u8]) -> io::Result<()> {
        let body = body.file();
        let size = body.metadata()?.len();
        let (mut bytes, is_large) = (Vec::new(), size > INLINE);
        let _ticket = if is_large {
            // Its bytes and its name are on disk before anything says that it is there.
            body.sync_all()?;
            self.link(id, body, &id.body_name())?;
            file::sync_directory(self.shard(id)?)?;
            file::sync_directory(&self.directory)?;
            let entry = Entry::Queued {
                journal: line,
                body: None,
            };
            self.log.commit(id, entry)?
        } else {
            bytes.resize(usize::try_from(size).unwrap_or(usize::MAX), 0);
            body.read_exact_at(&mut bytes, 0)?;
            let entry = Entry::Queued {
                journal: line,
                body: Some(&bytes),
            };
            self.log.commit(id, entry)?
        };
        // The body's name first, so that there is never a journal without a body.
        if !is_large {
            self.link(id, body, &id.body_name())?;
        }
        self.journal_file(id)?.write_all_at(line, 0)
    }

    /// Gives a nameless file a name in the directory of a message.
    fn link(&self, id: QueueId, from: &File, name: &str) -> io::Result<()> {
        let link = || file::link_temporary(from, self.directory.as_fd(), OsStr::new(name));
        match link() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_shard(id)?;
                link()
            }
            other => other,
        }
    }

    fn make_shard(&self, id: QueueId) -> io::Result<()> {
        match file::mkdir_beneath(self.directory.as_fd(), Path::new(id.shard()), 0o700) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// The journal of a message, made if it is not there.
    fn journal_file(&self, id: QueueId) -> io::Result<File> {
        self.open_plain(
            &id.journal_name(),
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW,
        )
    }

    /// After a commit that failed: what has a name loses it. What stays in spite of that is a message nobody was told about,
    /// which may come twice (its sender tries again) but not be lost.
    fn forget(&self, id: QueueId) {
        for name in [id.journal_name(), id.body_name()] {
            if let Err(error) = self.unlink_if_there(&name) {
                tracing::error!(%id, name, %error, "cannot remove what is left of a failed commit");
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

    /// A message as it stands now, for somebody who only looks: who works on the others is not kept waiting for the disk.
    ///
    /// # Errors
    /// As [`Queue::message`].
    pub fn peek(&self, id: QueueId) -> io::Result<Message> {
        let opened = self.lock_open().get(&id).and_then(Weak::upgrade);
        if let Some(opened) = opened {
            return Ok(opened.snapshot());
        }
        let mut bytes = Vec::new();
        self.open_plain(&id.journal_name(), OFlags::RDONLY)?
            .read_to_end(&mut bytes)?;
        replay(&journal::decode(&bytes))
    }

    fn lock_born(&self) -> MutexGuard<'_, Option<HashSet<QueueId>>> {
        self.born.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_open(&self) -> MutexGuard<'_, HashMap<QueueId, Weak<Opened>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a journal and cuts off what a crash tore.
    fn read_message(&self, id: QueueId) -> io::Result<Opened> {
        let mut journal = self.open_plain(&id.journal_name(), OFlags::RDWR)?;
        let mut bytes = Vec::new();
        // As long as its recipients and the attempts at them make it: a limit here would cut valid records off.
        journal.read_to_end(&mut bytes)?;
        let decoded = journal::decode(&bytes);
        let message = replay(&decoded)?;
        if decoded.valid < bytes.len() {
            tracing::warn!(%id, octets = bytes.len() - decoded.valid, "a torn end of a journal is cut off");
            journal.set_len(decoded.valid as u64)?;
        }
        Ok(Opened {
            id,
            log: Arc::clone(&self.log),
            history: Arc::clone(&self.history),
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
        self.open_plain(&id.body_name(), OFlags::RDONLY)
    }

    /// Opens a regular file of the queue; a link or a device somebody planted is refused.
    fn open_plain(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let fd = file::open_beneath(
            self.directory.as_fd(),
            Path::new(name),
            flags | OFlags::NONBLOCK,
            if flags.contains(OFlags::CREATE) {
                0o600
            } else {
                0
            },
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

    /// Takes a message out for which nothing is left to do. Nobody waits for the disk: what comes back after a power failure is taken out again.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    pub fn finish(&self, id: QueueId, ending: Ending) -> io::Result<()> {
        // Before its files go: after a kill it would be in neither.
        self.history.note([self.end(id, ending)], clock::now());
        self.log.note(id, Entry::Gone(ending));
        self.unlink_all(id)
    }

    fn end(&self, id: QueueId, ending: Ending) -> Event {
        // Of what is damaged the sender is not known.
        let from = self.peek(id).map(|message| message.header.reverse_path);
        Event::ended(id, from.unwrap_or_default(), ending, clock::now())
    }

    /// What happened, from a place on: a piece of it, of lines with that text in them if one is given.
    ///
    /// # Errors
    /// What the system says.
    pub fn history(&self, from: Option<Place>, about: Option<&str>) -> io::Result<Piece> {
        self.history.read(from, about)
    }

    /// Takes any message out, durably. Where the log does not take that, as on a full disk, its names go all the same: it may be there again after
    /// a crash, but who makes room must be able to.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    pub fn remove(&self, id: QueueId) -> io::Result<()> {
        let (ended, gone) = (self.end(id, Ending::Removed), Entry::Gone(Ending::Removed));
        match self.log.commit(id, gone) {
            Ok(_ticket) => {
                self.history.note([ended], clock::now());
                self.unlink_all(id)
            }
            Err(error) => {
                tracing::warn!(%id, %error, "a message is removed, and that is not in the log: after a crash it may be there again");
                self.history.note([ended], clock::now());
                self.unlink_all(id)?;
                self.log.note(id, gone);
                file::sync_directory(self.shard(id)?)
            }
        }
    }

    fn shard(&self, id: QueueId) -> io::Result<OwnedFd> {
        file::directory_beneath(self.directory.as_fd(), Path::new(id.shard()))
    }

    /// The journal first: a body that stays without it is removed at the next start.
    fn unlink_all(&self, id: QueueId) -> io::Result<()> {
        self.unlink(&id.journal_name())?;
        self.unlink_if_there(&id.body_name())
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        file::unlink(self.directory.as_fd(), OsStr::new(name))
    }

    fn unlink_if_there(&self, name: &str) -> io::Result<()> {
        match self.unlink(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

fn replay(decoded: &journal::Decoded) -> io::Result<Message> {
    Message::replay(&decoded.records).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the journal does not begin with a valid message record",
        )
    })
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
        let entry = Entry::Appended {
            offset: *durable,
            line: &line,
        };
        let ticket = self.log.commit(self.id, entry)?;
        journal.write_all_at(&line, *durable)?;
        drop(ticket);
        *torn = false;
        *durable += line.len() as u64;
        if let Record::Attempted(attempted) = record {
            let tried = Event::tried(self.id, message, attempted);
            self.history.note(tried, attempted.at);
        }
        message.apply(record);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
