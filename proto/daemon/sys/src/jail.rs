//! The empty root of a daemon: a read-only tmpfs that holds only what the daemon was promised.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};

use crate::plan::Bind;
use crate::spawn::{Failed, Step, at};

/// What the dynamic loader reads. Entries that are symlinks outside are the same symlinks inside.
const LOADER: [&str; 5] = [
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
];

/// Where the new root is mounted for a moment, in the namespace of the one process. It hides what is there, so it must be a
/// place from which nothing is bound; nothing of `/proc` ever is.
const ANCHOR: &str = "/proc";

/// What a jailed process keeps.
#[derive(Debug, Clone)]
pub struct Jail {
    /// The executable, bound alone.
    pub program: PathBuf,
    /// Whether it keeps the network; otherwise it gets a network namespace with nothing in it.
    pub network: bool,
    /// Whether `/proc/self/exe`, a symlink and all there is of `/proc`, tells it where its program is.
    pub knows_its_path: bool,
    /// Everything else it sees, at the same path as outside. Read-only ones are left out if they do not exist.
    pub binds: Vec<Bind>,
}

/// Moves the calling process, which must be root, into its jail.
pub(crate) fn enter(jail: &Jail) -> Result<(), Failed> {
    let mut spaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if !jail.network {
        spaces |= CloneFlags::CLONE_NEWNET;
    }
    at(Step::Namespaces, unshare(spaces))?;
    at(
        Step::Namespaces,
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        ),
    )?;
    let hard = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = Some("mode=755,size=256k,nr_inodes=512");
    let anchor = Path::new(ANCHOR);
    mount(Some("rmail"), anchor, Some("tmpfs"), hard, options)
        .map_err(|errno| failed(anchor, errno))?;
    for part in parts(jail) {
        part.place(anchor)
            .map_err(|errno| failed(&part.path, errno))?;
    }
    if jail.knows_its_path {
        let own = anchor.join("proc/self");
        at(
            Step::Root,
            std::fs::create_dir_all(&own)
                .and_then(|()| symlink(&jail.program, own.join("exe")))
                .map_err(errno),
        )?;
    }
    at(Step::Root, switch(anchor))?;
    let frozen = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | hard;
    at(
        Step::Root,
        mount(None::<&str>, "/", None::<&str>, frozen, None::<&str>),
    )
}

fn failed(path: &Path, errno: Errno) -> Failed {
    Failed {
        step: Step::Root,
        errno,
        path: Some(path.to_owned()),
    }
}

/// Makes `root` the root and lets go of the old one, which is stacked under it for a moment (`pivot_root(2)`, NOTES).
fn switch(root: &Path) -> nix::Result<()> {
    chdir(root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}

/// One thing in the new root.
struct Part {
    path: PathBuf,
    writable: bool,
    executable: bool,
    /// Leave it out if it does not exist outside.
    optional: bool,
}

/// All parts, parents before children, so that a bind never hides one made before it.
fn parts(jail: &Jail) -> Vec<Part> {
    let loader = LOADER.iter().map(|path| Part {
        path: path.into(),
        writable: false,
        executable: true,
        optional: true,
    });
    let program = Part {
        path: jail.program.clone(),
        writable: false,
        executable: true,
        optional: false,
    };
    let binds = jail.binds.iter().map(|bind| Part {
        path: bind.path.clone(),
        writable: bind.writable,
        executable: false,
        optional: !bind.writable,
    });
    let mut parts: Vec<Part> = loader.chain([program]).chain(binds).collect();
    parts.sort_by(|a, b| a.path.cmp(&b.path));
    // Of two wishes for one path the writable one counts.
    parts.dedup_by(|later, earlier| {
        let same = later.path == earlier.path;
        earlier.writable |= same && later.writable;
        same
    });
    parts
}

impl Part {
    /// Shows this part below `root`.
    fn place(&self, root: &Path) -> nix::Result<()> {
        let target = root.join(self.path.strip_prefix("/").map_err(|_| Errno::EINVAL)?);
        let is_loader = LOADER.iter().any(|path| self.path == Path::new(path));
        let outside = if is_loader {
            std::fs::symlink_metadata(&self.path)
        } else {
            std::fs::metadata(&self.path)
        };
        let outside = match outside.map_err(errno) {
            Err(Errno::ENOENT) if self.optional => return Ok(()),
            other => other?,
        };
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(errno)?;
        }
        if outside.is_symlink() {
            return symlink(std::fs::read_link(&self.path).map_err(errno)?, &target).map_err(errno);
        }
        // Under a part already placed the target is there; only in the empty root it has to be made.
        if !target.exists() {
            if outside.is_dir() {
                std::fs::create_dir(&target).map_err(errno)?;
            } else {
                std::fs::File::create(&target).map_err(errno)?;
            }
        }
        mount(
            Some(&self.path),
            &target,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?;
        let mut flags =
            MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        if !self.writable {
            flags |= MsFlags::MS_RDONLY;
        }
        if !self.executable {
            flags |= MsFlags::MS_NOEXEC;
        }
        mount(None::<&str>, &target, None::<&str>, flags, None::<&str>)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_children_and_writable_wins() {
        let bind = |path: &str, writable| Bind {
            path: path.into(),
            writable,
        };
        let jail = Jail {
            program: "/usr/lib/rmail/deliverd".into(),
            network: false,
            knows_its_path: false,
            binds: vec![
                bind("/var/a/b", false),
                bind("/var/a", false),
                bind("/var/a", true),
            ],
        };
        let parts = parts(&jail);
        let at = |path: &str| {
            parts
                .iter()
                .position(|part| part.path == Path::new(path))
                .unwrap()
        };
        assert!(at("/usr/lib") < at("/usr/lib/rmail/deliverd"));
        assert!(at("/var/a") < at("/var/a/b"));
        assert!(parts[at("/var/a")].writable);
    }
}
