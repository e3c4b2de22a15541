//! The file system everything lies on: an ext4 of its own on a loop device, so that what it writes and flushes can be counted.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use system_tests::program;

use crate::slow_disk::SlowDisk;

const PATIENCE: Duration = Duration::from_secs(120);

/// A directory to measure in, and the block device below it where it is known.
#[derive(Debug)]
pub(crate) struct Disk {
    // Unmounted, then removed.
    mount: Option<Mount>,
    slow: Option<SlowDisk>,
    directory: tempfile::TempDir,
}

#[derive(Debug)]
struct Mount {
    point: PathBuf,
    /// `loop0`.
    device: String,
}

/// What a block device did since it was made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    /// Flushes of its cache.
    pub(crate) flushes: f64,
    /// Bytes written to it.
    pub(crate) written: f64,
}

impl std::ops::Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            flushes: self.flushes + other.flushes,
            written: self.written + other.written,
        }
    }
}

impl Disk {
    /// Makes an ext4 with the default journal in a file of `mebibytes` in `below`, all of it allocated. Only root can.
    pub(crate) fn on_loop(below: &Path, mebibytes: u64) -> Self {
        let directory = new_directory(below);
        let image = directory.path().join("image");
        write_zeros(&image, mebibytes);
        // Nothing is left for later: neither blocks of the image nor the tables of inodes.
        run(
            "mkfs.ext4",
            &[
                "-q",
                "-F",
                "-i",
                "8192",
                "-E",
                "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
            ],
            &image,
        );
        Self::mount_image(directory, &image, "loop,noatime")
    }

    fn mount_image(directory: tempfile::TempDir, image: &Path, options: &str) -> Self {
        let disk = Self::mount(directory, image, options);
        let device = disk
            .mount
            .as_ref()
            .map(|mount| Path::new("/dev").join(&mount.device));
        run(
            "losetup",
            &["--direct-io=on"],
            &device.expect("it was mounted"),
        );
        // The loop device keeps the file until it is unmounted, however this program ends.
        std::fs::remove_file(image).expect("our own file");
        disk
    }

    fn mount(directory: tempfile::TempDir, image: &Path, options: &str) -> Self {
        let point = directory.path().join("m");
        std::fs::create_dir(&point).expect("our own directory");
        let mut mount = program::command("mount");
        mount.args(["-o", options]).arg(image).arg(&point);
        program::run(&mut mount, b"", PATIENCE).succeeded();
        let source = run("findmnt", &["-n", "-o", "SOURCE"], &point);
        let device = source.trim().trim_start_matches("/dev/").to_owned();
        Self {
            mount: Some(Mount { point, device }),
            slow: None,
            directory,
        }
    }

    /// Makes an ext4 that can grow to so many GiB and takes no more than what is written to it, for many small files: blocks of
    /// 1 KiB, an inode for each two. Only root can.
    pub(crate) fn sparse(below: &Path, gibibytes: u64) -> Self {
        let directory = new_directory(below);
        let image = directory.path().join("image");
        let file = std::fs::File::create(&image).expect("our own directory");
        file.set_len(gibibytes << 30).expect("it takes nothing");
        run(
            "mkfs.ext4",
            &["-q", "-F", "-b", "1024", "-i", "2048"],
            &image,
        );
        // Tables of inodes that nobody uses take nothing, either.
        Self::mount_image(directory, &image, "loop,noatime,noinit_itable")
    }

    /// Makes an ext4 with the default journal on a disk in memory whose flush takes so many milliseconds. Only root can.
    pub(crate) fn slow(mebibytes: u64, delay: u32) -> Self {
        let mut slow = SlowDisk::start(mebibytes, delay, |image| {
            run("mkfs.ext4", &["-q", "-F", "-i", "8192"], image);
        });
        let directory = new_directory(&std::env::temp_dir());
        let mut disk = Self::mount(directory, &slow.file(), "loop,noatime");
        slow.slow_down();
        disk.slow = Some(slow);
        disk
    }

    /// A directory on whatever file system `below` is on.
    pub(crate) fn directory(below: &Path) -> Self {
        Self {
            mount: None,
            slow: None,
            directory: new_directory(below),
        }
    }

    /// Where to put files.
    pub(crate) fn path(&self) -> &Path {
        self.mount
            .as_ref()
            .map_or(self.directory.path(), |mount| &mount.point)
    }

    /// Whether the device is ours alone, so that its counters mean something.
    pub(crate) const fn is_ours(&self) -> bool {
        self.mount.is_some()
    }

    /// The counters of the device; zero where it is not ours.
    pub(crate) fn traffic(&self) -> Traffic {
        let Some(mount) = &self.mount else {
            return Traffic::default();
        };
        let path = format!("/sys/block/{}/stat", mount.device);
        let text = std::fs::read_to_string(path).expect("a mounted device has counters");
        let field: Vec<f64> = text
            .split_whitespace()
            .map(|number| number.parse().expect("a number"))
            .collect();
        // Documentation/block/stat.rst: the seventh field counts sectors of 512 bytes, the sixteenth flushes.
        Traffic {
            flushes: field[15],
            written: field[6] * 512.0,
        }
    }

    /// Does something, and counts the flushes until it is done and the bytes until nothing of it waits in memory. No counts where
    /// the device is not ours.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> (T, Option<Traffic>) {
        self.settle();
        let before = self.traffic();
        let done = work();
        let flushes = self.traffic().flushes - before.flushes;
        self.settle();
        let written = self.traffic().written - before.written;
        let traffic = Traffic { flushes, written };
        (done, self.is_ours().then_some(traffic))
    }

    /// Writes everything that waits in memory, so that it does not count for what comes next.
    pub(crate) fn settle(&self) {
        // On a file system of others it would be their data, too.
        if self.is_ours() {
            run("sync", &["-f"], self.path());
        }
    }

    /// Makes the next read come from the device, where root can.
    pub(crate) fn forget(&self) {
        self.settle();
        if program::is_root() && self.is_ours() {
            std::fs::write("/proc/sys/vm/drop_caches", "3").expect("root may");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(mount) = &self.mount {
            let mut unmount = program::command("umount");
            unmount.arg(&mount.point);
            let outcome = program::run(&mut unmount, b"", PATIENCE);
            if !outcome.status.success() {
                eprintln!("{}", outcome.text());
            }
        }
    }
}

fn new_directory(below: &Path) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::Builder::new()
        .prefix("rmail-bench-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in(below);
    directory.unwrap_or_else(|error| panic!("{}: {error}", below.display()))
}

fn write_zeros(path: &Path, mebibytes: u64) {
    let zeros = vec![0; 4 << 20];
    let mut file = std::fs::File::create(path).expect("our own directory");
    for _ in 0..mebibytes.div_ceil(4) {
        file.write_all(&zeros)
            .unwrap_or_else(|error| panic!("no room for {mebibytes} MiB: {error}"));
    }
    file.sync_all().expect("a disk that works");
}

/// Runs a program on a path to its end and returns what it printed.
fn run(name: &str, arguments: &[&str], path: &Path) -> String {
    let mut command: Command = program::command(name);
    command.args(arguments).arg(path);
    program::run(&mut command, b"", PATIENCE).succeeded().stdout
}
