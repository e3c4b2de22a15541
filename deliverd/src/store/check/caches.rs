//! What is kept beside the messages of a mailbox to be faster, and can be deleted at any time: all of `.cache/`.

use std::io;

use ipc::Refusal;
use ipc::cache::CacheKind;
use ipc::tools::{Kind, Remedy};
use rustix::fs::FileType;

use super::super::disk::Dir;
use super::super::reader_cache;
use super::finding::Findings;
use crate::clock;
use crate::fault::OrFault;

/// Directory of the caches in a mailbox.
const DIRECTORY: &str = ".cache";
/// What one is called that is being removed.
const DROPPED: &str = ".cache-dropped-";
/// How deep a cache's directories are looked into.
const DEPTH: u32 = 4;

/// Whether an entry of a mailbox is one of ours.
pub(super) fn is_cache(name: &str) -> bool {
    name == DIRECTORY || is_dropped(name)
}

/// Whether it was taken out of use by [`drop_all`].
pub(super) fn is_dropped(name: &str) -> bool {
    name.starts_with(DROPPED)
}

/// Looks at an entry that [`is_cache`].
pub(super) fn look(found: &mut Findings, mailbox: &str, name: &str, kind: FileType) {
    if kind != FileType::Directory {
        let detail = "stands where caches are kept, so that there can be none";
        found.add(mailbox, name, Kind::Cache, Remedy::MoveAside, detail);
    } else if name != DIRECTORY {
        let detail = "caches that were dropped";
        found.add(mailbox, name, Kind::Leftover, Remedy::Remove, detail);
    }
}

/// Bytes of a mailbox's caches.
pub(super) fn size(mailbox: &Dir) -> io::Result<u64> {
    size_of(mailbox, DIRECTORY)
}

/// The same of caches that [`drop_all`] took out of use.
pub(super) fn size_of(mailbox: &Dir, name: &str) -> io::Result<u64> {
    match mailbox.dir(name) {
        Ok(dir) => size_below(&dir, DEPTH),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn size_below(dir: &Dir, depth: u32) -> io::Result<u64> {
    let mut sum = 0;
    for entry in dir.entries()? {
        if entry.is_dir && depth > 0 {
            sum += size_below(&dir.dir(&entry.name)?, depth - 1)?;
        } else if entry.is_file {
            sum += u64::try_from(dir.stat(&entry.name)?.st_size).unwrap_or(0);
        }
    }
    Ok(sum)
}

/// Takes the caches of a mailbox out of use at once; gives the name they have until they are removed. Under the mailbox's lock.
pub(super) fn drop_all(mailbox: &Dir) -> Result<Option<String>, Refusal> {
    take_out(mailbox, DIRECTORY)
}

/// The same of the text that is kept for searching, while nobody writes any.
pub(super) fn drop_text(mailbox: &Dir) -> Result<Option<String>, Refusal> {
    take_out(mailbox, &reader_cache::path(CacheKind::Text))
}

fn take_out(mailbox: &Dir, what: &str) -> Result<Option<String>, Refusal> {
    let dropped = format!("{DROPPED}{}", clock::micros());
    match mailbox.rename(what, mailbox, &dropped) {
        Ok(()) => Ok(Some(dropped)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).or_fault("drop the caches of a mailbox"),
    }
}
