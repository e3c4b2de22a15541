//! A queued message as it goes out: what is put on top of it, and its file.

use std::io::{self, Cursor};
use std::sync::Arc;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, Chain};

/// Octets that come before the file's.
pub type Head = Arc<[u8]>;

/// Both, to be read once.
#[derive(Debug)]
pub struct Letter(Chain<Cursor<Head>, File>);

impl Letter {
    /// A file under a head.
    #[must_use]
    pub fn new(head: Head, file: std::fs::File) -> Self {
        Self(Cursor::new(head).chain(File::from_std(file)))
    }

    /// Reads a piece; 0 at the end. Nothing is lost if this is dropped before it is done.
    ///
    /// # Errors
    /// What the system says.
    pub async fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        self.0.read(piece).await
    }
}

impl From<std::fs::File> for Letter {
    fn from(file: std::fs::File) -> Self {
        Self::new(Head::default(), file)
    }
}

impl From<File> for Letter {
    fn from(file: File) -> Self {
        Self(Cursor::new(Head::default()).chain(file))
    }
}
