//! Sealed memory files: bytes handed to another process that neither side can change any more.

use std::io;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// A memory file holding `bytes`, sealed against every change. `name` shows up in `/proc` only.
///
/// # Errors
/// What `memfd_create(2)` and the writes say.
pub fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    let fd = OwnedFd::from(file);
    fcntl_add_seals(&fd, SEALS)?;
    Ok(fd)
}

/// Whether `fd` is a memory file that nobody can change.
#[must_use]
pub fn is_sealed(fd: impl AsFd) -> bool {
    fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SEALS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_sealed_file_can_be_read_but_not_written() {
        let fd = sealed("test", b"abc").unwrap();
        assert!(is_sealed(&fd));
        let file = std::fs::File::from(fd);
        let mut bytes = [0; 3];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"abc");
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.set_len(9).is_err());
    }

    #[test]
    fn an_ordinary_file_is_not_sealed() {
        assert!(!is_sealed(
            std::fs::File::open("/proc/self/status").unwrap()
        ));
    }
}
