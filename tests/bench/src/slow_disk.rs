//! A disk in memory whose flush takes as long as one wants: an image behind qemu-storage-daemon, exported as a file by FUSE and made
//! a block device. strace holds up the daemon's fdatasync, and nothing of what is measured.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use system_tests::patience::wait_for;
use system_tests::program::{self, Service};

const PATIENCE: Duration = Duration::from_secs(20);

/// The file of the disk, until this is dropped.
#[derive(Debug)]
pub(crate) struct SlowDisk {
    // It follows the daemon to its end.
    strace: Option<Service>,
    daemon: Service,
    /// The image, and what serves it.
    directory: tempfile::TempDir,
    delay: u32,
}

impl SlowDisk {
    /// Makes one of so many MiB, with what `prepare` puts into its image; a flush takes `delay` milliseconds longer once that is
    /// switched on.
    pub(crate) fn start(mebibytes: u64, delay: u32, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").expect("memory");
        let path = |name: &str| directory.path().join(name);
        let image = File::create(path("image")).expect("our own directory");
        image.set_len(mebibytes << 20).expect("memory");
        prepare(&path("image"));
        File::create(path("export")).expect("our own directory");
        let mut command = program::command("qemu-storage-daemon");
        command
            .arg(format!("--blockdev=driver=file,node-name=disk,filename={}", path("image").display()))
            .arg(format!(
                "--export=type=fuse,id=export,node-name=disk,mountpoint={},writable=on,growable=off",
                path("export").display()
            ))
            .arg(format!("--pidfile={}", path("pid").display()));
        let mut daemon = Service::start(&mut command, &path("log"));
        // It writes its number when the export is there.
        let is_there = wait_for(PATIENCE, || {
            let ended = daemon.ended();
            (ended.is_some() || path("pid").exists()).then_some(ended)
        });
        assert!(
            matches!(is_there, Ok(None)),
            "qemu-storage-daemon: {}",
            daemon.log()
        );
        Self {
            strace: None,
            daemon,
            directory,
            delay,
        }
    }

    /// What to make a block device of.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("export")
    }

    /// From now on flushes are slow.
    pub(crate) fn slow_down(&mut self) {
        let mut command = program::command("strace");
        command
            .args([
                "-f",
                "-q",
                "-o",
                "/dev/null",
                "-e",
                "trace=fdatasync,fsync",
                "-e",
            ])
            .arg(format!(
                "inject=fdatasync,fsync:delay_exit={}",
                self.delay * 1000
            ))
            .arg("-p")
            .arg(self.daemon.pid().to_string());
        let strace = Service::start(&mut command, &self.directory.path().join("strace.log"));
        let traced = wait_for(PATIENCE, || is_traced(self.daemon.pid()).then_some(()));
        assert!(traced.is_ok(), "strace: {}", strace.log());
        self.strace = Some(strace);
    }
}

fn is_traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    status.is_ok_and(|status| !status.contains("TracerPid:\t0"))
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        if let Some(mut strace) = self.strace.take() {
            strace.stop(PATIENCE);
        }
        // Asked to end it also takes the export away.
        self.daemon.stop(PATIENCE);
    }
}
