//! Directories and files of the store, opened so that no name can lead out of it.
//!
//! Every path is resolved beneath the store's own directory descriptor and refuses symbolic links, so a link somebody planted is
//! an error and never a way out. Changes of a directory are made with one plain name in an open directory.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{
    self, Advice, AtFlags, FileType, FlockOperation, Mode, OFlags, RawDir, RenameFlags,
    ResolveFlags, Stat, StatxFlags, StatxTimestamp, Timespec, Timestamps,
};
use rustix::io::Errno;

/// A shard of 1,000 names is about 40 KiB: one `getdents64` with this buffer reads it whole, under the directory's lock.
const LISTING: usize = 128 * 1024;
/// Unit in which a file that was not flushed comes to disk.
const PAGE: usize = 4096;
/// Small text files of the store (status, keywords, account) are not read beyond this.
pub(super) const MAX_SMALL_FILE: u64 = 16 * 1024 * 1024;
const DIRECTORY: Mode = Mode::RWXU;
const SMALL_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Messages are never changed once written.
const MESSAGE_FILE: Mode = Mode::RUSR.union(Mode::RGRP);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// An open directory of the store.
#[derive(Debug)]
pub(crate) struct Dir(OwnedFd);

/// One name in a directory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) is_dir: bool,
    pub(crate) is_file: bool,
}

/// What `statx(2)` says about a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) size: u64,
    /// Seconds and nanoseconds of the last modification, and of the last change of name or rights.
    pub(crate) modified: (i64, u64),
    pub(crate) changed: (i64, u64),
    pub(crate) inode: u64,
    /// Unix seconds when it was made; 0 if the file system does not say.
    born: i64,
}

impl Look {
    /// Unix seconds when it was made; 0 if that is not known.
    pub(crate) fn born(&self) -> u32 {
        u32::try_from(self.born).unwrap_or(0)
    }
}

/// What a file has of the bytes it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Likeness {
    Whole,
    /// What a power cut leaves of a file that was not flushed: some pages are missing, at the end or in between.
    Remnant,
    /// Something else.
    Other,
}

impl Dir {
    /// Opens the directory the store lives in; the only path that is followed as the admin wrote it.
    pub(crate) fn root(path: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(fs::open(path, flags, Mode::empty())?))
    }

    fn openat(&self, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        loop {
            match fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, mode, BENEATH) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                opened => return Ok(opened?),
            }
        }
    }

    /// Opens a directory beneath this one.
    pub(crate) fn dir(&self, path: &str) -> io::Result<Self> {
        self.openat(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .map(Self)
    }

    /// Opens a directory beneath this one and makes what is missing of its path, durably.
    pub(crate) fn make_path(&self, path: &str) -> io::Result<Self> {
        self.make_missing(path, Self::sync)
    }

    /// The same, but not durably.
    pub(crate) fn make_path_unflushed(&self, path: &str) -> io::Result<Self> {
        self.make_missing(path, |_| Ok(()))
    }

    /// `made` is done with each directory in which one may have been made.
    fn make_missing(&self, path: &str, made: impl Fn(&Self) -> io::Result<()>) -> io::Result<Self> {
        match self.dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let mut dir = self.dir(".")?;
        for name in path.split('/') {
            dir.make_dir(name)?;
            made(&dir)?;
            dir = dir.dir(name)?;
        }
        Ok(dir)
    }

    /// Makes a directory; it is no error if it is there. Not durable before [`Dir::sync`].
    pub(crate) fn make_dir(&self, name: &str) -> io::Result<()> {
        match fs::mkdirat(&self.0, name, DIRECTORY) {
            Err(Errno::EXIST) => Ok(()),
            made => Ok(made?),
        }
    }

    /// Opens a regular file for reading.
    pub(crate) fn open_file(&self, path: &str) -> io::Result<File> {
        // NONBLOCK: a planted FIFO must not hold us up.
        let fd = self.openat(
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
            Mode::empty(),
        )?;
        if FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(File::from(fd))
    }

    /// Makes a file for a message; it must not exist.
    pub(crate) fn create_message(&self, name: &str) -> io::Result<File> {
        let file = self.openat(
            name,
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            MESSAGE_FILE,
        )?;
        Ok(File::from(file))
    }

    /// What the file `name` has of these bytes, on disk if it is not being written.
    pub(crate) fn likeness(&self, name: &str, bytes: &[u8]) -> io::Result<Likeness> {
        let mut file = self.open_file(name)?;
        if file.metadata()?.len() > bytes.len() as u64 {
            return Ok(Likeness::Other);
        }
        // Pages in memory may be better than the disk if a flush of them failed once: they are read again.
        fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        let mut there = Vec::with_capacity(bytes.len());
        file.read_to_end(&mut there)?;
        if there == bytes {
            return Ok(Likeness::Whole);
        }
        let mut pages = there.chunks(PAGE).zip(bytes.chunks(PAGE));
        let is_remnant = pages.all(|(page, original)| {
            original.starts_with(page) || page.iter().all(|byte| *byte == 0)
        });
        Ok(if is_remnant {
            Likeness::Remnant
        } else {
            Likeness::Other
        })
    }

    /// Makes a file that is to take the place of another one; a leftover of an earlier attempt is removed.
    pub(crate) fn create_temporary(&self, name: &str) -> io::Result<File> {
        self.remove_if_there(name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        Ok(File::from(self.openat(name, flags, SMALL_FILE)?))
    }

    /// Renames, replacing what has the new name. Not durable.
    pub(crate) fn replace(&self, name: &str, new: &str) -> io::Result<()> {
        Ok(fs::renameat(&self.0, name, &self.0, new)?)
    }

    /// Opens a file of the journal, or a cache; `None` if it is not there.
    pub(crate) fn open_to_write(&self, name: &str) -> io::Result<Option<File>> {
        match self.openat(name, OFlags::RDWR, Mode::empty()) {
            Ok(file) => Ok(Some(File::from(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a file of `size` zeros whose blocks are all written, durably: it is there whole or not at all.
    pub(crate) fn create_zeros(&self, name: &str, size: u64) -> io::Result<File> {
        static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];
        let temporary = format!(".{name}.new");
        self.remove_if_there(&temporary)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let mut file = File::from(self.openat(&temporary, flags, SMALL_FILE)?);
        let mut left = size;
        let filled = loop {
            let length = PIECE.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if length == 0 {
                break file.sync_all();
            }
            if let Err(error) = file.write_all(&PIECE[..length]) {
                break Err(error);
            }
            left -= length as u64;
        };
        if let Err(error) = filled.and_then(|()| self.rename(&temporary, self, name)) {
            // The first failure is what counts; a leftover temporary file is removed by the next attempt.
            let _ = self.unlink(&temporary);
            return Err(error);
        }
        self.sync()?;
        Ok(file)
    }

    /// Flushes everything written to this file system. A failure is final: it must not be tried again.
    pub(crate) fn sync_file_system(&self) -> io::Result<()> {
        Ok(fs::syncfs(&self.0)?)
    }

    /// Reads a small file whole; `None` if it is not there.
    pub(crate) fn read_small(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match self.open_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(file) => {
                let length = file.metadata()?.len().min(MAX_SMALL_FILE);
                let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1);
                file.take(MAX_SMALL_FILE).read_to_end(&mut bytes)?;
                Ok(Some(bytes))
            }
        }
    }

    /// Replaces a small file as a whole, durably: after a crash it has the old or the new content.
    pub(crate) fn write_small(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!(".{}.new", name.trim_start_matches('.'));
        self.remove_if_there(&temporary)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut file = File::from(self.openat(&temporary, flags, SMALL_FILE)?);
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        let renamed = written.and_then(|()| Ok(fs::renameat(&self.0, &temporary, &self.0, name)?));
        if let Err(error) = renamed {
            // The first failure is what counts; a leftover temporary file is removed by the next writer.
            let _ = self.unlink(&temporary);
            return Err(error);
        }
        self.sync()
    }

    /// Adds to the end of a small file, which is made if it is not there. Not flushed: after a crash it may have any content.
    pub(crate) fn append_small(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NONBLOCK;
        File::from(self.openat(name, flags, SMALL_FILE)?).write_all(bytes)
    }

    /// Replaces a file of a cache as a whole. Not flushed: after a crash it may have any content.
    pub(crate) fn write_cache(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace_cache(name, bytes).map(|_| ())
    }

    /// Replaces a file of a cache by a new one that begins with these bytes, and gives it to be written on. Not flushed.
    pub(crate) fn replace_cache(&self, name: &str, bytes: &[u8]) -> io::Result<File> {
        let temporary = format!(".{name}.new");
        self.remove_if_there(&temporary)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let mut file = File::from(self.openat(&temporary, flags, SMALL_FILE)?);
        file.write_all(bytes)?;
        fs::renameat(&self.0, &temporary, &self.0, name)?;
        Ok(file)
    }

    /// Gives a file one more name. Fails if that name is taken.
    pub(crate) fn link(&self, name: &str, to: &Self, new: &str) -> io::Result<()> {
        Ok(fs::linkat(&self.0, name, &to.0, new, AtFlags::empty())?)
    }

    /// Renames without ever replacing something.
    pub(crate) fn rename(&self, name: &str, to: &Self, new: &str) -> io::Result<()> {
        Ok(fs::renameat_with(
            &self.0,
            name,
            &to.0,
            new,
            RenameFlags::NOREPLACE,
        )?)
    }

    /// Removes a file's name.
    pub(crate) fn unlink(&self, name: &str) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Removes a file's name. False if there was none.
    pub(crate) fn remove_if_there(&self, name: &str) -> io::Result<bool> {
        match self.unlink(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true),
        }
    }

    /// Makes the modification time of a directory now.
    pub(crate) fn touch(&self, name: &str) -> io::Result<()> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: fs::UTIME_NOW,
        };
        self.set_times(name, now)
    }

    /// Makes the time at which a file was changed now, and leaves all it says.
    pub(crate) fn touch_inode(&self, name: &str) -> io::Result<()> {
        let (tv_sec, nanos) = self.look(name)?.modified;
        let tv_nsec = nanos.try_into().unwrap_or(0);
        self.set_times(name, Timespec { tv_sec, tv_nsec })
    }

    fn set_times(&self, name: &str, time: Timespec) -> io::Result<()> {
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        Ok(fs::utimensat(
            &self.0,
            name,
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// Whether each of two changes of this directory that follow one another shows in its time. It has to be empty of `.tick`.
    pub(crate) fn has_fine_times(&self) -> io::Result<bool> {
        const ROUNDS: u32 = 32;
        let mut before = self.look(".")?.modified;
        for _ in 0..ROUNDS {
            self.make_dir(".tick")?;
            let made = self.look(".")?.modified;
            fs::unlinkat(&self.0, ".tick", AtFlags::REMOVEDIR)?;
            let after = self.look(".")?.modified;
            if made == before || after == made {
                return Ok(false);
            }
            before = after;
        }
        Ok(true)
    }

    /// Removes a directory that is empty.
    pub(crate) fn remove_dir(&self, name: &str) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }

    /// How much of the file system may still be used, in percent: of its blocks or of its inodes, whatever is scarcer.
    pub(crate) fn free_percent(&self) -> io::Result<u64> {
        let room = fs::fstatvfs(&self.0)?;
        let percent = |free: u64, all: u64| u128::from(free) * 100 / u128::from(all.max(1));
        let blocks = percent(room.f_bavail, room.f_blocks);
        // Some file systems have as many inodes as they need, and say so with 0.
        let inodes = match room.f_files {
            0 => 100,
            all => percent(room.f_favail, all),
        };
        Ok(u64::try_from(blocks.min(inodes)).unwrap_or(100))
    }

    /// Removes a directory with all that is in it; links in it are removed, not followed.
    pub(crate) fn remove_tree(&self, name: &str) -> io::Result<()> {
        let dir = self.dir(name)?;
        for entry in dir.entries()? {
            if entry.is_dir {
                dir.remove_tree(&entry.name)?
            } else {
                dir.unlink(&entry.name)?
            }
        }
        self.remove_dir(name)
    }

    /// Flushes this directory's names to disk. A failure is final: it must not be tried again.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(fs::fsync(&self.0)?)
    }

    /// All names in this directory that are UTF-8, in no order.
    pub(crate) fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.each_name(|name, kind| {
            let (is_dir, is_file) = (kind == FileType::Directory, kind == FileType::RegularFile);
            entries.extend(name.to_str().ok().map(|name| Entry {
                name: name.to_owned(),
                is_dir,
                is_file,
            }));
            Ok(())
        })?;
        Ok(entries)
    }

    /// Tells every name in this directory and what it is, in no order, and keeps none.
    pub(crate) fn each_name(
        &self,
        mut each: impl FnMut(&CStr, FileType) -> io::Result<()>,
    ) -> io::Result<()> {
        let fd = self.dir(".")?;
        let mut buffer = Vec::<u8>::with_capacity(LISTING);
        let mut listing = RawDir::new(fd.0.as_fd(), buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                // Some file systems do not say.
                FileType::Unknown => {
                    let stat = fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode)
                }
                kind => kind,
            };
            each(name, kind)?;
        }
        Ok(())
    }

    /// Sets the permissions of a file, or of a directory, for its owner and group.
    pub(crate) fn set_mode(&self, name: &str, mode: u32) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.openat(name, flags, Mode::empty())?;
        Ok(fs::fchmod(&fd, Mode::from_bits_truncate(mode))?)
    }

    /// What `statx(2)` says about a name here; a link is not followed.
    pub(crate) fn look(&self, name: &str) -> io::Result<Look> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let found = fs::statx(&self.0, name, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
        let time = |time: StatxTimestamp| (time.tv_sec, u64::from(time.tv_nsec));
        let has_birth = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
        Ok(Look {
            size: found.stx_size,
            modified: time(found.stx_mtime),
            changed: time(found.stx_ctime),
            inode: found.stx_ino,
            born: if has_birth { found.stx_btime.tv_sec } else { 0 },
        })
    }

    /// What `stat(2)` says about a name here; a link is not followed.
    pub(crate) fn stat(&self, name: &str) -> io::Result<Stat> {
        Ok(fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Takes the lock that says who owns the store; it is held as long as the file is open.
    pub(crate) fn lock_file(&self, name: &str) -> io::Result<Option<File>> {
        let file = File::from(self.openat(name, OFlags::RDWR | OFlags::CREATE, SMALL_FILE)?);
        match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Flushes the bytes of a file whose size does not change. A failure is final: it must not be tried again.
pub(crate) fn flush_data(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// Has the next reading of a file come from the disk and not from memory, as far as nothing waits to be written.
pub(crate) fn forget_pages(file: &File) -> io::Result<()> {
    Ok(fs::fadvise(file, 0, None, Advice::DontNeed)?)
}

/// Makes a message's INTERNALDATE, which is its modification time, that date; a file just written mostly has it already.
pub(crate) fn date(file: &File, date: i64) -> io::Result<()> {
    if fs::fstat(file)?.st_mtime == date {
        return Ok(());
    }
    let time = Timespec {
        tv_sec: date,
        tv_nsec: 0,
    };
    fs::futimens(
        file,
        &Timestamps {
            last_access: time,
            last_modification: time,
        },
    )?;
    Ok(())
}

/// Whether it failed because there is nothing of that name.
pub(super) fn is_not_found<T>(result: &io::Result<T>) -> bool {
    result
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::root(&temp.path().join("store")).unwrap();
        (temp, root)
    }

    #[test]
    fn a_planted_link_is_refused_wherever_it_stands() {
        let (temp, root) = tree();
        std::fs::write(temp.path().join("secret"), "x").unwrap();
        let store = temp.path().join("store");
        symlink(temp.path(), store.join("out")).unwrap();
        symlink(temp.path().join("secret"), store.join("1.eml")).unwrap();
        assert!(root.open_file("out/secret").is_err());
        assert!(root.open_file("1.eml").is_err());
        assert!(root.dir("out").is_err());
        assert!(root.make_path("out/new").is_err());
        assert!(!temp.path().join("new").exists());
    }

    #[test]
    fn a_path_cannot_climb_out() {
        let (temp, root) = tree();
        std::fs::write(temp.path().join("secret"), "x").unwrap();
        assert!(root.open_file("../secret").is_err());
        assert!(root.dir("..").is_err());
    }

    #[test]
    fn a_planted_fifo_is_not_read() {
        let (temp, root) = tree();
        let made = std::process::Command::new("mkfifo")
            .arg(temp.path().join("store/1.eml"))
            .status()
            .unwrap();
        assert!(made.success());
        assert!(root.open_file("1.eml").is_err());
    }

    #[test]
    fn a_small_file_is_replaced_and_no_temporary_is_left() {
        let (_temp, root) = tree();
        root.write_small("status.json", b"1").unwrap();
        root.write_small("status.json", b"2").unwrap();
        assert_eq!(root.read_small("status.json").unwrap().unwrap(), b"2");
        assert_eq!(root.entries().unwrap().len(), 1);
        assert_eq!(root.read_small("absent").unwrap(), None);
    }

    #[test]
    fn removing_a_tree_removes_links_but_not_what_they_point_to() {
        let (temp, root) = tree();
        std::fs::create_dir(temp.path().join("kept")).unwrap();
        root.make_path("a/b").unwrap();
        symlink(temp.path().join("kept"), temp.path().join("store/a/b/link")).unwrap();
        root.remove_tree("a").unwrap();
        assert!(temp.path().join("kept").exists());
        assert!(root.dir("a").is_err());
    }

    #[test]
    fn renaming_never_replaces() {
        let (_temp, root) = tree();
        root.write_small("a", b"a").unwrap();
        root.write_small("b", b"b").unwrap();
        assert_eq!(
            root.rename("a", &root, "b").unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
    }
}
