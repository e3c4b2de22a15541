//! Files of lines beside the messages: what accounts have sent ([`crate::budget`]), whose mail is known ([`crate::greylist`]), what domains
//! demand of TLS ([`crate::sts`]) and what is to be reported ([`crate::aggregate`], [`crate::tlsrpt`]), a file for each period. They are not
//! flushed: a kill costs nothing, and a power failure the last seconds.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use sys::file::{self, OFlags};

use super::Queue;

const OBSERVED: &str = ".observed-";
const SESSIONS: &str = ".sessions-";
const NEW: &str = ".new";

/// Which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Book {
    /// What accounts have sent.
    Sent,
    /// Whose mail is known.
    Known,
    /// What domains demand of TLS.
    Policies,
    /// What is to be reported of mail that came in the period that begins then (Unix seconds).
    Observed(i64),
    /// What is to be reported of TLS with other servers in the period that begins then.
    Sessions(i64),
}

impl Book {
    fn name(self) -> Cow<'static, str> {
        match self {
            Self::Sent => ".sent".into(),
            Self::Known => ".known".into(),
            Self::Policies => ".policies".into(),
            Self::Observed(begin) => format!("{OBSERVED}{begin}").into(),
            Self::Sessions(begin) => format!("{SESSIONS}{begin}").into(),
        }
    }

    /// While it is written anew.
    fn new_name(self) -> String {
        format!("{}{NEW}", self.name())
    }

    /// The book that is, or is being, written under a name.
    pub(super) fn of(name: &str) -> Option<Self> {
        let name = name.strip_suffix(NEW).unwrap_or(name);
        let begin = |prefix| name.strip_prefix(prefix)?.parse().ok();
        let observed = begin(OBSERVED).map(Self::Observed);
        let sessions = begin(SESSIONS).map(Self::Sessions);
        let mut all = [Self::Sent, Self::Known, Self::Policies]
            .into_iter()
            .chain(observed)
            .chain(sessions);
        all.find(|book| book.name() == name)
    }
}

impl Queue {
    /// What was written down; empty if nothing was. A line that a crash tore is ended, so that the next one is whole.
    ///
    /// # Errors
    /// What the system says.
    pub fn read_book(&self, book: Book) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.open_plain(&book.name(), OFlags::RDONLY) {
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
        self.book_file(&book.name(), OFlags::APPEND)?
            .write_all(lines)
    }

    /// Puts these lines in place of all others.
    ///
    /// # Errors
    /// What the system says; then the others are still there.
    pub fn replace_book(&self, book: Book, lines: &[u8]) -> io::Result<()> {
        let (new, name) = (book.new_name(), book.name());
        let mut file = self.book_file(&new, OFlags::TRUNC)?;
        file.write_all(lines)?;
        file.sync_all()?;
        let directory = self.directory.as_fd();
        let (new, name) = (OsStr::new(&new), OsStr::new(&*name));
        file::rename(directory, new, directory, name)
    }

    /// The beginnings of the periods of which there are books of this kind, in order.
    ///
    /// # Errors
    /// What the system says.
    pub fn periods(&self, kind: fn(i64) -> Book) -> io::Result<Vec<i64>> {
        let mut begins = Vec::new();
        for entry in file::list_anew(self.directory.as_fd())? {
            let book = Book::of(&entry.name.to_string_lossy());
            if let Some(Book::Observed(begin) | Book::Sessions(begin)) = book
                && book == Some(kind(begin))
            {
                begins.push(begin);
            }
        }
        begins.sort_unstable();
        begins.dedup();
        Ok(begins)
    }

    /// Removes a book that is not needed any more, and what is left of writing it anew.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_book(&self, book: Book) -> io::Result<()> {
        self.unlink_if_there(&book.name())?;
        self.unlink_if_there(&book.new_name())
    }

    fn book_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CREATE | OFlags::WRONLY;
        let opened = file::open_beneath(self.directory.as_fd(), Path::new(name), flags, 0o600);
        opened.map(File::from)
    }
}
