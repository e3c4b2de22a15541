//! A disk whose every write and flush is recorded: an image behind QEMU's `blklogwrites`, exported as a file by FUSE, made a block
//! device by the loop driver, with a real file system on it. All of it lies in a `tmpfs` of its own and goes when it is dropped.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::image::{BLOCK, Image};
use super::write_log::WriteLog;

/// Bytes of the file system, the least that mkfs.xfs accepts and a little more.
pub(super) const FILE_SYSTEM_SIZE: u64 = 320 << 20;
/// Bytes of the disk: behind the file system each client has a block for its acknowledgements.
pub(super) const DISK_SIZE: u64 = FILE_SYSTEM_SIZE + (1 << 20);
/// How long the daemon may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The file systems that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileSystem {
    Ext4,
    /// ext4 with a second, shorter journal. It does not survive every cut itself: seen were `JBD2: journal recovery failed` at
    /// mount and directories that cannot be read.
    Ext4FastCommit,
    Xfs,
}

/// A mounted file system whose writes are recorded. Its parts are undone in the order in which they stand here.
pub(super) struct RecordedDisk {
    mount: Mount,
    device: PathBuf,
    daemon: Daemon,
    base: Image,
    scratch: Scratch,
}

/// What was recorded.
pub(super) struct Recording {
    /// The disk when the recording began.
    pub(super) base: Image,
    pub(super) log: WriteLog,
    scratch: Scratch,
}

/// Where a client writes how many of its operations were acknowledged.
pub(super) struct Acknowledgements {
    device: File,
    offset: u64,
}

impl RecordedDisk {
    /// Makes a file system, lets `prepare` put files into it, and records from then on. An error says what this machine lacks.
    pub(super) fn new(
        file_system: FileSystem,
        prepare: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Self, String> {
        let scratch = Scratch::new()?;
        let disk = scratch.path("disk");
        file_system.make(&disk)?;
        {
            let mount = Mount::new(&disk, &scratch.path("mount"), &["-o", "loop"])?;
            prepare(mount.path()).map_err(|error| format!("cannot prepare the disk: {error}"))?;
        }
        let base = Image::read(&disk).map_err(|error| format!("cannot read the disk: {error}"))?;
        Self::record(scratch, base)
    }

    /// Records what happens to a disk with that content.
    pub(super) fn with_content(base: Image) -> Result<Self, String> {
        let scratch = Scratch::new()?;
        base.write(&scratch.path("disk"), DISK_SIZE)
            .map_err(|error| format!("cannot write the disk: {error}"))?;
        Self::record(scratch, base)
    }

    fn record(scratch: Scratch, base: Image) -> Result<Self, String> {
        let daemon = Daemon::start(&scratch)?;
        let mount = Mount::new(&daemon.export, &scratch.path("mount"), &["-o", "loop"])?;
        let device = mount.device()?;
        Ok(Self {
            mount,
            device,
            daemon,
            base,
            scratch,
        })
    }

    /// Where the file system is mounted.
    pub(super) fn path(&self) -> &Path {
        self.mount.path()
    }

    /// The place of one client's acknowledgements.
    pub(super) fn acknowledgements(&self, client: usize) -> io::Result<Acknowledgements> {
        let device = OpenOptions::new()
            .write(true)
            .custom_flags(rustix::fs::OFlags::DIRECT.bits().cast_signed())
            .open(&self.device)?;
        let offset = FILE_SYSTEM_SIZE + (client * BLOCK) as u64;
        Ok(Acknowledgements { device, offset })
    }

    /// Unmounts the disk and ends the recording.
    pub(super) fn finish(self) -> io::Result<Recording> {
        let Self {
            mount,
            daemon,
            base,
            scratch,
            ..
        } = self;
        drop(mount);
        drop(daemon);
        Ok(Recording {
            base,
            log: WriteLog::read(&scratch.path("log"))?,
            scratch,
        })
    }
}

impl Recording {
    /// Mounts a disk with that content, as after a restart.
    pub(super) fn mount(&self, image: &Image) -> Result<Mount, String> {
        let path = self.scratch.path("after");
        // A new file each time: the loop device of the last one may still be on its way out.
        let written = match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => image.write(&path, DISK_SIZE),
        };
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Mount::new(&path, &self.scratch.path("mount"), &["-o", "loop"])
    }
}

impl Acknowledgements {
    /// Writes past the page cache that the first `count` operations were acknowledged: it is in the log when this returns.
    pub(super) fn write(&self, count: usize) -> io::Result<()> {
        #[repr(align(4096))]
        struct Aligned([u8; BLOCK]);

        let mut block = Aligned([0; BLOCK]);
        block.0[..8].copy_from_slice(&(count as u64).to_le_bytes());
        self.device.write_all_at(&block.0, self.offset)
    }
}

impl FileSystem {
    fn make(self, disk: &Path) -> Result<(), String> {
        let made = |error: io::Error| format!("cannot make {}: {error}", disk.display());
        File::create(disk)
            .and_then(|file| file.set_len(DISK_SIZE))
            .map_err(made)?;
        let path = disk.display();
        // A small journal is used up and begun again several times during the workload.
        let ext4 = |features: &str| {
            let extended = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
            let blocks = FILE_SYSTEM_SIZE / BLOCK as u64;
            run(&format!(
                "mkfs.ext4 -q -F -b {BLOCK} -J size=4 -E {extended} -O {features} {path} {blocks}"
            ))
        };
        match self {
            Self::Ext4 => ext4("^fast_commit"),
            Self::Ext4FastCommit => ext4("fast_commit"),
            Self::Xfs => run(&format!(
                "mkfs.xfs -q -f -K -d file,name={path},size={FILE_SYSTEM_SIZE}"
            )),
        }?;
        OpenOptions::new()
            .write(true)
            .open(disk)
            .and_then(|file| file.set_len(DISK_SIZE))
            .map_err(made)
    }
}

/// A `tmpfs` for the images: flushing them costs nothing.
pub(in crate::store) struct Scratch {
    mount: Mount,
    _directory: tempfile::TempDir,
}

impl Scratch {
    pub(in crate::store) fn new() -> Result<Self, String> {
        let directory = tempfile::Builder::new()
            .prefix("rmail-power-cut.")
            .tempdir()
            .map_err(|error| format!("cannot make a directory: {error}"))?;
        let mount = Mount::new(
            Path::new("tmpfs"),
            directory.path(),
            &["-t", "tmpfs", "-o", "mode=700"],
        )?;
        Ok(Self {
            mount,
            _directory: directory,
        })
    }

    pub(in crate::store) fn path(&self, name: &str) -> PathBuf {
        self.mount.path().join(name)
    }
}

/// A mounted file system.
pub(in crate::store) struct Mount(PathBuf);

impl Mount {
    pub(in crate::store) fn new(what: &Path, at: &Path, options: &[&str]) -> Result<Self, String> {
        std::fs::create_dir_all(at)
            .map_err(|error| format!("cannot make {}: {error}", at.display()))?;
        output(Command::new("mount").args(options).arg(what).arg(at))?;
        Ok(Self(at.to_owned()))
    }

    /// Where it is mounted.
    pub(in crate::store) fn path(&self) -> &Path {
        &self.0
    }

    /// The device it is on.
    fn device(&self) -> Result<PathBuf, String> {
        let name = output(
            Command::new("findmnt")
                .args(["--noheadings", "--output", "SOURCE", "--mountpoint"])
                .arg(&self.0),
        )?;
        Ok(PathBuf::from(name.trim()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = output(Command::new("umount").arg(&self.0)) {
            complain(&error);
            // Somebody still has a file open; at least the name goes, and the rest with the last descriptor.
            or_complain(output(Command::new("umount").arg("--lazy").arg(&self.0)));
        }
    }
}

/// The process that records.
struct Daemon {
    process: Child,
    /// The file it exports.
    export: PathBuf,
}

impl Daemon {
    /// Records in `log` what is done to `disk`.
    fn start(scratch: &Scratch) -> Result<Self, String> {
        let [disk, log, export, pid] =
            ["disk", "log", "export", "pid"].map(|name| scratch.path(name));
        let made = [&log, &export].map(File::create);
        made.into_iter()
            .collect::<io::Result<Vec<File>>>()
            .map_err(|error| format!("cannot make the log: {error}"))?;
        let (disk, log) = (disk.display(), log.display());
        let process = Command::new("qemu-storage-daemon")
            .arg(format!("--blockdev=driver=file,node-name=disk,filename={disk}"))
            .arg(format!("--blockdev=driver=file,node-name=log,filename={log}"))
            .arg("--blockdev=driver=blklogwrites,node-name=recorder,file=disk,log=log,log-sector-size=512")
            .arg(format!(
                "--export=type=fuse,id=export,node-name=recorder,mountpoint={},writable=on,growable=off",
                export.display()
            ))
            .arg(format!("--pidfile={}", pid.display()))
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start qemu-storage-daemon: {error}"))?;
        let mut daemon = Self { process, export };
        // It writes its number when the export is there.
        if daemon.wait(|daemon| pid.exists() || daemon.has_ended()) && !daemon.has_ended() {
            Ok(daemon)
        } else {
            Err("qemu-storage-daemon does not export the disk by FUSE".into())
        }
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    fn wait(&mut self, is_done: impl Fn(&mut Self) -> bool) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if is_done(self) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        // Asked to end it also takes the export away.
        or_complain(run(&format!("kill {}", self.process.id())));
        if !self.wait(Self::has_ended) {
            complain("qemu-storage-daemon does not end and is killed");
            let _ = self.process.kill().and_then(|()| self.process.wait());
            or_complain(output(
                Command::new("umount").arg("--lazy").arg(&self.export),
            ));
        }
    }
}

/// Runs a command whose words hold no blanks.
pub(in crate::store) fn run(command: &str) -> Result<String, String> {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    output(Command::new(program).args(words))
}

/// Runs a command and gives what it printed.
fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {command:?}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let error = String::from_utf8_lossy(&output.stderr);
        Err(format!("{command:?} failed: {}", error.trim()))
    }
}

/// Says what went wrong where nothing can be done about it.
fn complain(error: &str) {
    eprintln!("power cut test: {error}");
}

fn or_complain<T>(done: Result<T, String>) {
    if let Err(error) = done {
        complain(&error);
    }
}
