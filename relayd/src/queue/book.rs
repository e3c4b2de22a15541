//! Files of lines beside the messages: what accounts have sent ([`crate::budget`]) and whose mail is known ([`crate::greylist`]). They are not
//! flushed: a kill costs nothing, and a power failure the last seconds.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use sys::file::{self, OFlags};

use super::Queue;

/// Which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Book {
    /// What accounts have sent.
    Sent,
    /// Whose mail is known.
    Known,
}

impl Book {
    const fn name(self) -> &'static str {
        match self {
            Self::Sent => ".sent",
            Self::Known => ".known",
        }
    }

    /// While it is written anew.
    const fn new_name(self) -> &'static str {
        match self {
            Self::Sent => ".sent.new",
            Self::Known => ".known.new",
        }
    }
}

impl Queue {
    /// What was written down; empty if nothing was. A line that a crash tore is ended, so that the next one is whole.
    ///
    /// # Errors
    /// What the system says.
    pub fn read_book(&self, book: Book) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.open_file(book.name(), OFlags::RDONLY) {
            Ok(mut file) => file.read_to_end(&mut bytes).map(drop)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if bytes.last().is_some_and(|last| *last != b'\n') {
            self.append_to_book(book, b"\n")?;
        }
        Ok(bytes)
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// What the system says; then a line may be torn.
    pub fn append_to_book(&self, book: Book, lines: &[u8]) -> io::Result<()> {
        self.book_file(book.name(), OFlags::APPEND)?
            .write_all(lines)
    }

    /// Puts these lines in place of all others.
    ///
    /// # Errors
    /// What the system says; then the others are still there.
    pub fn replace_book(&self, book: Book, lines: &[u8]) -> io::Result<()> {
        let mut file = self.book_file(book.new_name(), OFlags::TRUNC)?;
        file.write_all(lines)?;
        file.sync_all()?;
        let directory = self.directory.as_fd();
        let (new, name) = (OsStr::new(book.new_name()), OsStr::new(book.name()));
        file::rename(directory, new, directory, name)
    }

    fn book_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CREATE | OFlags::WRONLY;
        let opened = file::open_beneath(self.directory.as_fd(), Path::new(name), flags, 0o600);
        opened.map(File::from)
    }
}
