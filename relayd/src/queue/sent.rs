//! The file of what accounts have sent ([`crate::budget`]). It is not flushed: a kill costs nothing, and the last seconds before a power
//! failure cost a few counts.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use sys::file::{self, OFlags};

use super::Queue;
use super::recover::SENT;

impl Queue {
    /// What was written down; empty if nothing was.
    ///
    /// # Errors
    /// What the system says.
    pub fn read_sent(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.open_file(SENT[0], OFlags::RDONLY) {
            Ok(mut file) => file.read_to_end(&mut bytes).map(drop)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(bytes)
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// What the system says; then a line may be torn.
    pub fn append_sent(&self, lines: &[u8]) -> io::Result<()> {
        self.sent_file(SENT[0], OFlags::APPEND)?.write_all(lines)
    }

    /// Puts these lines in place of all others.
    ///
    /// # Errors
    /// What the system says; then the others are still there.
    pub fn replace_sent(&self, lines: &[u8]) -> io::Result<()> {
        let mut file = self.sent_file(SENT[1], OFlags::TRUNC)?;
        file.write_all(lines)?;
        file.sync_all()?;
        let directory = self.directory.as_fd();
        let [name, new] = SENT.map(OsStr::new);
        file::rename(directory, new, directory, name)
    }

    fn sent_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CREATE | OFlags::WRONLY;
        let opened = file::open_beneath(self.directory.as_fd(), Path::new(name), flags, 0o600);
        opened.map(File::from)
    }
}
