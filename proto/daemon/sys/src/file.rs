//! Files beneath a directory descriptor: no symlink, no `..`, no way out; new files appear whole or not at all.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    self as sys, AtFlags, CWD, FileType, Mode, RawDir, RenameFlags, ResolveFlags, SeekFrom,
};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

pub use rustix::fs::OFlags;

/// Room for all names of a full shard (1,000) in one `getdents64`, so that it is read as one snapshot.
const LISTING: usize = 128 * 1024;
/// What temporary names start with; whoever opens a directory after a crash removes them.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// Opens a directory for use with the other functions.
///
/// # Errors
/// What `openat(2)` says.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(sys::openat(
        CWD,
        path,
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Opens `path`, relative to and never leaving `directory`, following no symlink. `O_CLOEXEC` is added.
///
/// # Errors
/// What `openat2(2)` says; `EXDEV` or `ELOOP` for a path that tries to leave.
pub fn open_beneath(
    directory: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: u32,
) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match sys::openat2(
            directory,
            path,
            flags | OFlags::CLOEXEC,
            Mode::from_raw_mode(mode),
            resolve,
        ) {
            // The kernel asks for another try when something was renamed meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Opens the directory `path` beneath `directory`.
///
/// # Errors
/// As [`open_beneath`].
pub fn directory_beneath(directory: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    open_beneath(directory, path, OFlags::DIRECTORY | OFlags::RDONLY, 0)
}

/// Makes the directory `path` beneath `directory`, whose parent must exist.
///
/// # Errors
/// `AlreadyExists`, or what `openat2(2)` and `mkdirat(2)` say.
pub fn mkdir_beneath(directory: BorrowedFd<'_>, path: &Path, mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mode = Mode::from_raw_mode(mode);
    match path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        Some(parent) => sys::mkdirat(directory_beneath(directory, parent)?, name, mode)?,
        None => sys::mkdirat(directory, name, mode)?,
    }
    Ok(())
}

/// Makes a nameless file (`O_TMPFILE`, mode 0600) on the file system of `directory`, readable and writable.
///
/// # Errors
/// What `openat(2)` says; `Unsupported` on file systems without such files.
pub fn temporary_file(directory: BorrowedFd<'_>) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(sys::openat(directory, ".", flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Gives a file of [`temporary_file`] the name `name` in `directory`; never replaces one that exists.
///
/// `AT_EMPTY_PATH` does it since Linux 6.10 without any capability, `/proc/self/fd` before, where `/proc` is mounted.
/// With neither (an old kernel and a jail), the bytes are copied to a named temporary file, flushed and renamed: slower,
/// as safe. The caller flushes `file` before and `directory` after.
///
/// # Errors
/// `AlreadyExists`, or what the system calls say.
pub fn link_temporary(file: &File, directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match sys::linkat(file, "", directory, name, AtFlags::EMPTY_PATH) {
        Err(Errno::NOENT | Errno::PERM) => {}
        other => return Ok(other?),
    }
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    match sys::linkat(CWD, link, directory, name, AtFlags::SYMLINK_FOLLOW) {
        Err(Errno::NOENT | Errno::ACCESS | Errno::XDEV) => copy_into_place(file, directory, name),
        other => Ok(other?),
    }
}

/// The last resort of [`link_temporary`].
fn copy_into_place(file: &File, directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let temporary = temporary_name();
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let copy = File::from(sys::openat(
        directory,
        &temporary,
        flags,
        Mode::RUSR | Mode::WUSR,
    )?);
    let placed = copy_bytes(file, &copy)
        .and_then(|()| copy.sync_all())
        .and_then(|()| rename_noreplace(directory, &temporary, directory, name));
    if placed.is_err() {
        // What went wrong is told to the caller; a temporary name left behind is removed at the next start.
        let _ = sys::unlinkat(directory, &temporary, AtFlags::empty());
    }
    placed
}

fn copy_bytes(from: &File, to: &File) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut offset = 0;
    loop {
        let count = from.read_at(&mut buffer, offset)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all_at(&buffer[..count], offset)?;
        offset += count as u64;
    }
}

/// A name nobody else in this process or another living one uses.
fn temporary_name() -> OsString {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{TEMPORARY_PREFIX}{}-{count}", std::process::id()).into()
}

/// Renames, but never onto a name that exists.
///
/// # Errors
/// `AlreadyExists`, or what `renameat2(2)` says.
pub fn rename_noreplace(
    from: BorrowedFd<'_>,
    old: &OsStr,
    to: BorrowedFd<'_>,
    new: &OsStr,
) -> io::Result<()> {
    Ok(sys::renameat_with(
        from,
        old,
        to,
        new,
        RenameFlags::NOREPLACE,
    )?)
}

/// Renames, replacing what has the new name.
///
/// # Errors
/// What `renameat(2)` says.
pub fn rename(
    from: BorrowedFd<'_>,
    old: &OsStr,
    to: BorrowedFd<'_>,
    new: &OsStr,
) -> io::Result<()> {
    Ok(sys::renameat(from, old, to, new)?)
}

/// Removes the file `name` of `directory`.
///
/// # Errors
/// What `unlinkat(2)` says.
pub fn unlink(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    Ok(sys::unlinkat(directory, name, AtFlags::empty())?)
}

/// Removes the empty directory `name` of `directory`.
///
/// # Errors
/// What `unlinkat(2)` says.
pub fn rmdir(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    Ok(sys::unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}

/// Makes the names of a directory durable.
///
/// # Errors
/// What `fsync(2)` says. Never try again after a failure: the kernel may have forgotten what it could not write.
pub fn sync_directory(directory: impl AsFd) -> io::Result<()> {
    Ok(sys::fsync(directory)?)
}

/// Makes all that was written to the file system of `directory` durable.
///
/// # Errors
/// What `syncfs(2)` says. Never try again after a failure: the kernel may have forgotten what it could not write.
pub fn sync_file_system(directory: impl AsFd) -> io::Result<()> {
    Ok(sys::syncfs(directory)?)
}

/// What a name in a directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else, or the file system does not say.
    Other,
}

/// One name of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// What it stands for.
    pub kind: Kind,
}

/// All names of a directory but `.` and `..`, in no order; up to 128 KiB of them (a full shard needs half) as of one moment.
///
/// # Errors
/// What `lseek(2)` and `getdents64(2)` say.
pub fn list(directory: BorrowedFd<'_>) -> io::Result<Vec<Entry>> {
    sys::seek(directory, SeekFrom::Start(0))?;
    let mut buffer: Vec<MaybeUninit<u8>> = vec![MaybeUninit::uninit(); LISTING];
    let mut names = RawDir::new(directory, &mut buffer);
    let mut entries = Vec::new();
    while let Some(entry) = names.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            _ => Kind::Other,
        };
        entries.push(Entry {
            name: OsString::from_vec(name.to_vec()),
            kind,
        });
    }
    Ok(entries)
}

/// [`list`] by a descriptor of its own: others may list the directory by `directory` at the same time, and where a listing has come to belongs
/// to the descriptor.
///
/// # Errors
/// What `openat2(2)` and [`list`] say.
pub fn list_anew(directory: BorrowedFd<'_>) -> io::Result<Vec<Entry>> {
    list(directory_beneath(directory, Path::new("."))?.as_fd())
}

/// Reads what of a file is in memory already, from `offset` on, without waiting for the disk. Returns how many bytes that were: fewer
/// than `buffer` holds where the disk must be waited for, where the file ends, or where its file system cannot say.
///
/// # Errors
/// What `preadv2(2)` says.
pub fn read_in_memory(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut buffers = [IoSliceMut::new(buffer)];
    loop {
        match preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN | Errno::OPNOTSUPP) => return Ok(0),
            read => return Ok(read?),
        }
    }
}

/// Whether `name` is one a crash may have left of [`link_temporary`].
#[must_use]
pub fn is_temporary(name: &OsStr) -> bool {
    name.as_bytes().starts_with(TEMPORARY_PREFIX.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn directory() -> (tempfile::TempDir, OwnedFd) {
        let home = tempfile::tempdir().unwrap();
        let fd = open_directory(home.path()).unwrap();
        (home, fd)
    }

    fn os(name: &str) -> &OsStr {
        OsStr::new(name)
    }

    #[test]
    fn a_path_cannot_leave_its_directory() {
        let (home, fd) = directory();
        std::os::unix::fs::symlink("/etc", home.path().join("link")).unwrap();
        for path in ["../x", "/etc/passwd", "link/passwd", "link"] {
            assert!(
                open_beneath(fd.as_fd(), Path::new(path), OFlags::RDONLY, 0).is_err(),
                "{path}"
            );
        }
    }

    #[test]
    fn who_lists_a_directory_anew_sees_all_of_it_whoever_else_does() {
        let (home, fd) = directory();
        for number in 0..2000 {
            std::fs::write(home.path().join(format!("{number:040}")), "").unwrap();
        }
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        assert_eq!(list_anew(fd.as_fd()).unwrap().len(), 2000);
                    }
                });
            }
        });
    }

    #[test]
    fn a_temporary_file_appears_whole_under_its_name_and_replaces_nothing() {
        let (home, fd) = directory();
        let mut file = temporary_file(fd.as_fd()).unwrap();
        file.write_all(b"whole").unwrap();
        assert!(list(fd.as_fd()).unwrap().is_empty());
        link_temporary(&file, fd.as_fd(), os("name")).unwrap();
        sync_directory(&fd).unwrap();
        assert_eq!(std::fs::read(home.path().join("name")).unwrap(), b"whole");
        let second = temporary_file(fd.as_fd()).unwrap();
        assert_eq!(
            link_temporary(&second, fd.as_fd(), os("name"))
                .unwrap_err()
                .kind(),
            io::ErrorKind::AlreadyExists
        );
    }

    #[test]
    fn the_last_resort_copies_whole_and_cleans_up_after_a_refusal() {
        let (home, fd) = directory();
        let mut file = temporary_file(fd.as_fd()).unwrap();
        file.write_all(&[7; 200_000]).unwrap();
        copy_into_place(&file, fd.as_fd(), os("name")).unwrap();
        assert_eq!(
            std::fs::read(home.path().join("name")).unwrap(),
            [7; 200_000]
        );
        assert_eq!(
            copy_into_place(&file, fd.as_fd(), os("name"))
                .unwrap_err()
                .kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(
            list(fd.as_fd()).unwrap(),
            [Entry {
                name: "name".into(),
                kind: Kind::File
            }]
        );
    }

    #[test]
    fn a_full_shard_is_listed() {
        let (home, fd) = directory();
        for uid in 0..1000 {
            File::create(home.path().join(format!("{uid:08}_AFS.eml"))).unwrap();
        }
        assert_eq!(list(fd.as_fd()).unwrap().len(), 1000);
        assert_eq!(
            list(fd.as_fd()).unwrap().len(),
            1000,
            "a second listing starts over"
        );
    }

    #[test]
    fn directories_are_made_beneath_existing_ones() {
        let (_home, fd) = directory();
        mkdir_beneath(fd.as_fd(), Path::new("a"), 0o700).unwrap();
        mkdir_beneath(fd.as_fd(), Path::new("a/b"), 0o700).unwrap();
        assert!(mkdir_beneath(fd.as_fd(), Path::new("c/d"), 0o700).is_err());
        assert!(directory_beneath(fd.as_fd(), Path::new("a/b")).is_ok());
    }

    #[test]
    fn what_is_in_memory_is_read_up_to_the_end_of_the_file() {
        let (_home, fd) = directory();
        let mut file = temporary_file(fd.as_fd()).unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut buffer = [0; 8];
        let read = read_in_memory(&file, &mut buffer, 4).unwrap();
        // A file system that cannot say reads nothing.
        assert!(matches!(read, 0 | 6), "{read}");
        assert_eq!(&buffer[..read], &b"456789"[..read]);
        assert_eq!(read_in_memory(&file, &mut buffer, 10).unwrap(), 0);
    }

    #[test]
    fn a_rename_that_must_not_replace_does_not() {
        let (home, fd) = directory();
        std::fs::write(home.path().join("a"), "a").unwrap();
        std::fs::write(home.path().join("b"), "b").unwrap();
        let refused = rename_noreplace(fd.as_fd(), os("a"), fd.as_fd(), os("b")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        rename(fd.as_fd(), os("a"), fd.as_fd(), os("b")).unwrap();
        assert_eq!(std::fs::read(home.path().join("b")).unwrap(), b"a");
    }
}
