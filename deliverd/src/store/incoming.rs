//! A message on its way in: at most 128 KiB of it in memory, the rest in a temporary file of the store.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::sync::Arc;

use ipc::Refusal;
use tracing::error;

use super::disk::{self, Dir};
use crate::fault::OrFault;

/// Bytes of a message that are held in memory before they go to its file.
pub(crate) const BUFFER: usize = 128 * 1024;

/// Where messages are written before they get a name in a mailbox. Emptied at start.
#[derive(Debug)]
pub(crate) struct Nursery {
    dir: Dir,
    next: std::sync::atomic::AtomicU64,
}

/// Bytes received so far.
#[derive(Debug)]
pub(crate) struct Incoming {
    nursery: Arc<Nursery>,
    buffer: Vec<u8>,
    file: Option<Temporary>,
    written: u64,
}

/// A temporary file; its name is removed when it is dropped (the names it got in mailboxes stay).
#[derive(Debug)]
struct Temporary {
    nursery: Arc<Nursery>,
    name: String,
    file: File,
}

/// A message whose bytes and date are on disk; it can be linked into mailboxes.
#[derive(Debug)]
pub(crate) struct Sealed {
    file: Temporary,
    pub(crate) size: u64,
    pub(crate) internal_date: i64,
}

impl Nursery {
    /// Takes over the directory and removes what a crash left in it: none of that was ever acknowledged.
    pub(super) fn new(dir: Dir) -> Result<Self, Refusal> {
        for entry in dir.entries().or_fault("list unfinished messages")? {
            dir.unlink(&entry.name)
                .or_fault("remove an unfinished message")?;
        }
        Ok(Self {
            dir,
            next: std::sync::atomic::AtomicU64::new(1),
        })
    }

    fn create(self: &Arc<Self>) -> io::Result<Temporary> {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("{number}.eml");
        let file = self.dir.create_message(&name)?;
        Ok(Temporary {
            nursery: Arc::clone(self),
            name,
            file,
        })
    }

    fn copy(self: &Arc<Self>, source: &mut impl io::Read, date: i64) -> io::Result<Temporary> {
        let mut copy = self.create()?;
        io::copy(source, &mut copy.file)?;
        disk::seal(&copy.file, date)?;
        Ok(copy)
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
        let copy = self.copy(&mut from.open_file(name)?, date)?;
        self.dir.link(&copy.name, to, new)
    }

    /// Begins a message.
    pub(crate) fn begin(self: &Arc<Self>) -> Incoming {
        Incoming {
            nursery: Arc::clone(self),
            buffer: Vec::new(),
            file: None,
            written: 0,
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

    /// Puts bytes and date on disk. Blocks. A failed flush is final: the file is removed.
    pub(crate) fn seal(mut self, internal_date: i64) -> Result<Sealed, Refusal> {
        self.spill()?;
        let Some(file) = self.file else {
            return Err(Refusal::StorageFault);
        };
        disk::seal(&file.file, internal_date).or_fault("flush a message")?;
        Ok(Sealed {
            file,
            size: self.written,
            internal_date,
        })
    }
}

impl Sealed {
    /// Where to link from.
    pub(crate) fn place(&self) -> (&Dir, &str) {
        (&self.file.nursery.dir, &self.file.name)
    }

    /// A second file with the same bytes, on disk: files are never shared between domains.
    pub(crate) fn duplicate(&self) -> Result<Self, Refusal> {
        let mut source = &self.file.file;
        let copied = source
            .rewind()
            .and_then(|()| self.file.nursery.copy(&mut source, self.internal_date));
        Ok(Self {
            file: copied.or_fault("copy a message")?,
            size: self.size,
            internal_date: self.internal_date,
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = self.nursery.dir.unlink(&self.name) {
            error!(%error, "cannot remove a temporary file");
        }
    }
}
