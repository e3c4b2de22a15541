//! Mail servers of Debian packages that cannot be installed beside one another: unpacked by `tests/prepare`, and started where their
//! files seem to be installed and their users seem to exist.
//!
//! That is a mount namespace of their own, which ends with them: `/usr` and `/etc` are those of the machine with a layer on top, `/run`,
//! `/var/lib` and `/var/spool` are empty. Only root can make one.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::patience::wait_for;
use crate::program::{self, Service};

/// Arguments: the unpacked package, the directory with `etc`, what is to be done first, and the program with its own.
const ENTER: &str = r#"
set -e
mount -t overlay overlay -o "lowerdir=$1/usr:/usr" /usr
mount -t overlay overlay -o "lowerdir=$2/etc:/etc" /etc
for place in /run /var/lib /var/spool; do
    mount -t tmpfs -o mode=755 tmpfs "$place"
done
eval "$3"
shift 3
exec "$@"
"#;

/// An unpacked package, and the home of one server that is started from it.
#[derive(Debug)]
pub struct Foreign {
    package: PathBuf,
    home: tempfile::TempDir,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // A process of the server that is about to end may still write its last line.
        let remove = || std::fs::remove_dir_all(self.path()).ok();
        if let Err(error) = wait_for(Duration::from_secs(2), remove) {
            eprintln!("{}: {error}", self.path().display());
        }
    }
}

/// A user that its server wants to exist; the group has its name and number.
pub type User<'a> = (&'a str, u32, &'a str);

/// Whether a server of this package can run here.
#[must_use]
pub fn is_possible(package: &str) -> bool {
    let Some(place) = program::fetched(package).filter(|_| program::is_root()) else {
        return false;
    };
    let home = tempfile::tempdir().expect("a directory for temporary files");
    std::fs::create_dir(home.path().join("etc")).expect("our own directory");
    let mut trial = enter(&place, home.path(), "");
    let outcome = program::run(trial.arg("true"), b"", Duration::from_secs(10));
    outcome.status.success()
}

fn enter(package: &Path, home: &Path, first: &str) -> std::process::Command {
    let mut command = program::command("unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            ENTER,
            "sh",
        ])
        .args([package, home])
        .arg(first);
    command
}

impl Foreign {
    /// Makes a home for a server of this package, where these users exist.
    #[must_use]
    pub fn new(package: &str, users: &[User<'_>]) -> Self {
        let home = tempfile::Builder::new()
            .prefix("rmail-foreign-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in("/tmp")
            .expect("/tmp is writable");
        let foreign = Self {
            package: program::fetched(package).expect("tests/prepare has fetched it"),
            home,
        };
        let read = |file: &str| std::fs::read_to_string(file).expect("every system has it");
        let (mut passwd, mut group) = (read("/etc/passwd"), read("/etc/group"));
        for (name, number, home) in users {
            writeln!(passwd, "{name}:x:{number}:{number}::{home}:/bin/sh").expect("memory");
            writeln!(group, "{name}:x:{number}:").expect("memory");
        }
        foreign.write("etc/passwd", &passwd);
        foreign.write("etc/group", &group);
        foreign
    }

    /// Its home.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file in its home; what is below `etc` is seen in `/etc`.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it is below")).expect("our own directory");
        std::fs::write(path, text).expect("our own file");
    }

    /// Makes a directory in its home for one of its users.
    pub fn make_directory(&self, name: &str, owner: u32) {
        let path = self.path().join(name);
        std::fs::create_dir_all(&path).expect("our own directory");
        std::os::unix::fs::chown(path, Some(owner), Some(owner)).expect("root may");
    }

    /// Starts a program of it; `first` is done before by a shell that sees what the program will see.
    #[must_use]
    pub fn start(&self, first: &str, program: &[&str]) -> Service {
        let mut command = enter(&self.package, self.path(), first);
        Service::start(command.args(program), &self.path().join("output"))
    }

    /// What a file in its home has in it; nothing while it is not there.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The messages in the maildir of that name.
    #[must_use]
    pub fn maildir(&self, name: &str) -> Vec<Vec<u8>> {
        crate::maildir::files(&self.path().join(name).join("new"))
    }
}
