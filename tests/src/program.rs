//! Running programs we did not write: found in the path, with a time limit, their output kept.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Where `name` is, looked for in PATH and in the administrators' directories.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.exists());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/bin", "/usr/sbin", "/usr/lib/postfix/sbin"].map(PathBuf::from));
    places
        .into_iter()
        .map(|place| place.join(name))
        .find(|candidate| candidate.is_file())
}

/// A command line for a program that [`find`] knows.
#[must_use]
pub fn command(name: &str) -> Command {
    Command::new(find(name).unwrap_or_else(|| panic!("{name} is not installed")))
}

/// Where `tests/prepare` put something that is no Debian package, if it could: `opensmtpd/usr/bin/smtp`, `node`, `python`.
#[must_use]
pub fn fetched(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let places = [target, root.join("target")];
    let mut found = places
        .map(|place| place.join("foreign").join(name))
        .into_iter();
    found.find(|place| place.exists())
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What a program did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Outcome {
    /// Both outputs.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The exit status, -1 if a signal ended it.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Panics with all output unless the program succeeded.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert!(self.status.success(), "{}\n{}", self.status, self.text());
        self
    }
}

/// Runs `command` to its end with `input` on stdin; kills it and panics when it takes longer than `limit`.
#[track_caller]
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> Outcome {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // A program that ends without reading all of its input is no fault of the harness.
    let writer = std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let stdout = drain(child.stdout.take().expect("piped"));
    let stderr = drain(child.stderr.take().expect("piped"));
    let status = end_within(&mut child, limit);
    let in_time = status.is_some();
    let status = status.unwrap_or_else(|| {
        child.kill().expect("our own child");
        child.wait().expect("our own child")
    });
    writer.join().expect("no panic");
    let outcome = Outcome {
        status,
        stdout: stdout.join().expect("no panic"),
        stderr: stderr.join().expect("no panic"),
    };
    assert!(
        in_time,
        "{shown} did not end within {limit:?}\n{}",
        outcome.text()
    );
    outcome
}

fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// How `child` ended, or `None` when it still runs after `limit`.
pub fn end_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            return Some(status);
        }
        if start.elapsed() > limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A program that serves until it is dropped.
#[derive(Debug)]
pub struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts it, with both its outputs in the file `log`.
    #[must_use]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = std::fs::File::create(log).expect("the test's own directory");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a descriptor"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            child,
            log: log.to_owned(),
        }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote until now.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// Waits for its end.
    pub fn end_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        end_within(&mut self.child, limit)
    }

    /// Asks it to end, and makes it end.
    pub fn stop(&mut self, patience: Duration) {
        if self.ended().is_none() {
            send(self.pid(), Signal::TERM);
            if self.end_within(patience).is_none() {
                self.child.kill().expect("our own child");
                self.child.wait().expect("our own child");
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(5));
        if std::thread::panicking() {
            eprintln!(
                "--- the end of {}\n{}",
                self.log.display(),
                end_of(&self.log())
            );
        }
    }
}

/// The last lines of a log, enough to see what happened.
#[must_use]
pub fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(80)..].join("\n")
}

/// Sends a signal; a process that is gone already is fine.
pub fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("signal {signal:?} to {pid:?}: {error}"),
    }
}

/// Stops a process and waits until none of its threads runs any more: the signal reaches one of them at once and the others
/// only when that one has got the processor, and until then they go on answering.
pub fn freeze(pid: u32) {
    send(pid, Signal::STOP);
    let stopped = crate::patience::wait_for(Duration::from_secs(10), || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        threads
            .flatten()
            .all(|thread| {
                // The state follows the name of the program, which is in parentheses (proc_pid_stat(5)).
                std::fs::read_to_string(thread.path().join("stat")).is_ok_and(|stat| {
                    stat.rsplit(')')
                        .next()
                        .is_some_and(|rest| rest.starts_with(" T"))
                })
            })
            .then_some(())
    });
    assert!(stopped.is_ok(), "process {pid} goes on running");
}
