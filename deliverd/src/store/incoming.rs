//! A message on its way in: at most 128 KiB of it in memory, the rest in a temporary file of the store.
//!
//! A message that fits in memory is made durable by the journal, so its file is not flushed. A larger one is flushed here.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ipc::Refusal;
use tracing::error;

use super::Owner;
use super::append::NewMessage;
use super::disk::{self, Dir};
use super::quota::Hold;
use crate::fault::OrFault;

/// Bytes of a message that are held in memory before they go to its file.
pub(crate) const BUFFER: usize = 128 * 1024;

/// Where messages are written before they get a name in a mailbox. Emptied at start.
#[derive(Debug)]
pub(crate) struct Nursery {
    dir: Dir,
    next: AtomicU64,
}

/// Bytes received so far.
#[derive(Debug)]
pub(crate) struct Incoming {
    nursery: Arc<Nursery>,
    buffer: Vec<u8>,
    file: Option<Temporary>,
    written: u64,
    /// Room that was set aside for it.
    pub(crate) room: Vec<Hold>,
    /// Those of its recipients who find it in their mailbox for junk.
    pub(crate) junk: BTreeSet<Owner>,
}

/// A temporary file.
#[derive(Debug)]
struct Temporary {
    name: TemporaryName,
    file: File,
}

/// The name of a temporary file; it is removed when this is dropped (the names the file got in mailboxes stay).
#[derive(Debug)]
struct TemporaryName {
    nursery: Arc<Nursery>,
    name: String,
    /// The name is gone already.
    is_moved: AtomicBool,
}

/// A message that is a complete file; it can be linked into mailboxes.
#[derive(Debug)]
pub(crate) struct Sealed {
    file: Temporary,
    pub(crate) size: u64,
    pub(crate) internal_date: i64,
    /// Its bytes, if the file is not flushed and the journal must carry them.
    pub(crate) body: Option<Arc<[u8]>>,
    /// Whether it gets one name only.
    pub(super) is_single: bool,
}

/// A message whose bytes are on disk and that waits for others, with no descriptor open.
#[derive(Debug)]
pub(crate) struct Parked {
    name: TemporaryName,
    pub(super) message: NewMessage,
    /// Room that was set aside for it.
    pub(super) room: Vec<Hold>,
}

impl Nursery {
    /// Takes over the directory and removes what a crash left in it: none of that was ever acknowledged.
    pub(super) fn new(dir: Dir) -> Result<Self, Refusal> {
        for entry in dir.entries().or_fault("list unfinished messages")? {
            if entry.is_dir {
                dir.remove_tree(&entry.name)
            } else {
                dir.unlink(&entry.name)
            }
            .or_fault("remove an unfinished message")?;
        }
        Ok(Self {
            dir,
            next: AtomicU64::new(1),
        })
    }

    /// Whether every change of a directory shows in its time, however soon it follows another.
    pub(super) fn has_fine_times(&self) -> io::Result<bool> {
        self.dir.has_fine_times()
    }

    fn create(self: &Arc<Self>) -> io::Result<Temporary> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{number}.eml");
        let file = self.dir.create_message(&name)?;
        let name = TemporaryName {
            nursery: Arc::clone(self),
            name,
            is_moved: AtomicBool::new(false),
        };
        Ok(Temporary { name, file })
    }

    /// A temporary file with these bytes and date, not flushed.
    fn fill(self: &Arc<Self>, mut source: impl io::Read, date: i64) -> io::Result<Temporary> {
        let mut made = self.create()?;
        io::copy(&mut source, &mut made.file)?;
        disk::date(&made.file, date)?;
        Ok(made)
    }

    /// Gives `to` a file `new` with these bytes and date, not flushed.
    pub(super) fn write_to(
        self: &Arc<Self>,
        bytes: &[u8],
        date: i64,
        to: &Dir,
        new: &str,
    ) -> io::Result<()> {
        let made = self.fill(bytes, date)?;
        self.dir.link(&made.name.name, to, new)
    }

    /// Gives `to` a file `new` with the bytes of `name` in `from`, which are on disk before it has that name.
    pub(super) fn copy_to(
        self: &Arc<Self>,
        from: &Dir,
        name: &str,
        date: i64,
        to: &Dir,
        new: &str,
    ) -> io::Result<()> {
        let copy = self.fill(from.open_file(name)?, date)?;
        copy.file.sync_all()?;
        self.dir.link(&copy.name.name, to, new)
    }

    /// Begins a message with these bytes.
    pub(crate) fn begin(self: &Arc<Self>, bytes: Vec<u8>) -> Incoming {
        Incoming {
            nursery: Arc::clone(self),
            buffer: bytes,
            file: None,
            written: 0,
            room: Vec::new(),
            junk: BTreeSet::new(),
        }
    }
}

impl Incoming {
    /// Bytes received so far.
    pub(crate) fn size(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Where the next bytes go; bounded by [`BUFFER`].
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= BUFFER
    }

    /// Writes the buffer to the file. Blocks.
    pub(crate) fn spill(&mut self) -> Result<(), Refusal> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self
                .file
                .insert(self.nursery.create().or_fault("create a message file")?),
        };
        file.file
            .write_all(&self.buffer)
            .or_fault("write a message")?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Puts bytes in front of it. What is in a file already is copied behind them, by the file system alone where it can do that
    /// (copy_file_range(2)). Blocks.
    pub(crate) fn put_in_front(&mut self, head: &[u8]) -> Result<(), Refusal> {
        if self.file.is_none() && head.len() + self.buffer.len() < BUFFER {
            self.buffer.splice(..0, head.iter().copied());
            return Ok(());
        }
        let old = self.file.take();
        let copied = || -> io::Result<Temporary> {
            let mut made = self.nursery.create()?;
            made.file.write_all(head)?;
            if let Some(old) = &old {
                let mut source = &old.file;
                source.rewind()?;
                io::copy(&mut source, &mut made.file)?;
            }
            Ok(made)
        };
        self.file = Some(copied().or_fault("copy a message")?);
        self.written += head.len() as u64;
        Ok(())
    }

    /// Whether it is larger than what the journal carries.
    pub(crate) fn is_large(&self) -> bool {
        self.file.is_some()
    }

    /// Makes it a file with its date. A large one is flushed; that failing is final. Blocks.
    pub(crate) fn seal(mut self, internal_date: i64) -> Result<Sealed, Refusal> {
        let body = (!self.is_large()).then(|| Arc::from(&self.buffer[..]));
        self.spill()?;
        let Some(file) = self.file else {
            return Err(Refusal::StorageFault);
        };
        disk::date(&file.file, internal_date).or_fault("date a message")?;
        if body.is_none() {
            file.file.sync_all().or_fault("flush a message")?;
        }
        Ok(Sealed {
            file,
            size: self.written,
            internal_date,
            body,
            is_single: false,
        })
    }
}

impl Incoming {
    /// Flushes it, to wait for others: it is to be such a message. Blocks.
    pub(crate) fn park(mut self, message: NewMessage) -> Result<Parked, Refusal> {
        let room = std::mem::take(&mut self.room);
        let size = self.size();
        let sealed = self.seal(message.internal_date)?;
        if sealed.body.is_some() {
            sealed.file.file.sync_all().or_fault("flush a message")?;
        }
        Ok(Parked {
            name: sealed.file.name,
            message: NewMessage { size, ..message },
            room,
        })
    }
}

impl Parked {
    /// Where to link from.
    pub(super) fn place(&self) -> (&Dir, &str) {
        (&self.name.nursery.dir, &self.name.name)
    }

    /// Bytes of its keywords.
    pub(crate) fn keyword_bytes(&self) -> usize {
        self.message.keywords.iter().map(String::len).sum()
    }
}

impl Sealed {
    /// Where to link from.
    pub(crate) fn place(&self) -> (&Dir, &str) {
        let TemporaryName { nursery, name, .. } = &self.file.name;
        (&nursery.dir, name)
    }

    /// Gives it the only name it will ever have, in the place of the temporary one.
    pub(super) fn move_to(&self, to: &Dir, new: &str) -> io::Result<()> {
        let TemporaryName { nursery, name, .. } = &self.file.name;
        nursery.dir.rename(name, to, new)?;
        self.file.name.is_moved.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// A second file with the same bytes: files are never shared between domains.
    pub(crate) fn duplicate(&self) -> Result<Self, Refusal> {
        let nursery = &self.file.name.nursery;
        let copied = if let Some(body) = &self.body {
            nursery.fill(&body[..], self.internal_date)
        } else {
            let mut source = &self.file.file;
            source
                .rewind()
                .and_then(|()| nursery.fill(source, self.internal_date))
                .and_then(|copy| copy.file.sync_all().map(|()| copy))
        };
        Ok(Self {
            file: copied.or_fault("copy a message")?,
            body: self.body.clone(),
            ..*self
        })
    }
}

impl Drop for TemporaryName {
    fn drop(&mut self) {
        if *self.is_moved.get_mut() {
            return;
        }
        if let Err(error) = self.nursery.dir.unlink(&self.name) {
            error!(%error, "cannot remove a temporary file");
        }
    }
}
