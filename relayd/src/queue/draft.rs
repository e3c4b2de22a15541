//! A body on its way in.

use std::fs::File;

/// A file without a name: a crash, or dropping it, leaves nothing.
#[derive(Debug)]
pub struct Draft(File);

impl Draft {
    pub(super) const fn new(file: File) -> Self {
        Self(file)
    }

    /// The file, to write the body into.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.0
    }
}
