//! Starting the whole system as a child, for `init` and `demo`.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::{Error, program};

/// A cold start on a slow machine takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The supervisor gives its daemons up to 45 s in all to finish what they do.
const FAREWELL: Duration = Duration::from_secs(60);

/// A running system. As long as there is one, Ctrl-C and SIGTERM end nothing by themselves: they are heard in
/// [`System::interrupted`], so that no system outlives its caller.
#[derive(Debug)]
pub struct System {
    child: Child,
    interrupt: Signal,
    terminate: Signal,
}

impl System {
    /// Starts `rmaild CONFIG`, with its log in `log`, and waits until every daemon serves. `home` is where the socket
    /// lives on which it says so.
    ///
    /// # Errors
    /// When it ends, is not ready in time, or the caller is told to stop; the last lines of its log are in the error.
    pub async fn start(config: &Path, home: &Path, log: &Path) -> Result<Self, Error> {
        let rmaild = program::find("rmaild")?;
        let socket = home.join("ready.sock");
        let _ = std::fs::remove_file(&socket);
        let ready =
            UnixDatagram::bind(&socket).map_err(|error| Error::failed(socket.display(), error))?;
        let output = File::create(log).map_err(|error| Error::failed(log.display(), error))?;
        let (interrupt, terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        let child = Command::new(rmaild)
            .arg(config)
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(Stdio::from(output.try_clone()?))
            .stderr(Stdio::from(output))
            // A Ctrl-C on the terminal is ours to pass on.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Error::failed("cannot start rmaild", error))?;
        let mut system = Self {
            child,
            interrupt,
            terminate,
        };
        let outcome = tokio::select! {
            heard = timeout(PATIENCE, hear_ready(&ready)) => heard.unwrap_or_else(|_| {
                Err(Error::Failed("the system was not ready in time".into()))
            }),
            over = system.interrupted() => over.and(Err(Error::interrupted())),
        };
        let _ = std::fs::remove_file(&socket);
        match outcome {
            Ok(()) => Ok(system),
            Err(error) => {
                // Why it did not start is what counts; if it does not stop either, it is killed.
                let _ = system.stop().await;
                Err(with_log(&error.to_string(), log))
            }
        }
    }

    /// The supervisor's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Waits until the caller is told to stop, by Ctrl-C or SIGTERM.
    ///
    /// # Errors
    /// When the supervisor ends by itself, which it should not.
    pub async fn interrupted(&mut self) -> Result<(), Error> {
        tokio::select! {
            status = self.child.wait() => Err(Error::Failed(format!("rmaild ended ({})", status?))),
            _ = self.interrupt.recv() => Ok(()),
            _ = self.terminate.recv() => Ok(()),
        }
    }

    /// Asks the system to stop and waits for it.
    ///
    /// # Errors
    /// When it does not end in time, or not well.
    pub async fn stop(mut self) -> Result<(), Error> {
        let Some(pid) = self.child.id() else {
            return Ok(());
        };
        sys::process::terminate(pid)?;
        match timeout(FAREWELL, self.child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(std::process::ExitStatus::success) => Ok(()),
            Ok(status) => Err(Error::Failed(format!(
                "rmaild did not stop well ({})",
                status?
            ))),
            Err(_) => Err(Error::Failed("rmaild did not stop in time".into())),
        }
    }
}

async fn hear_ready(socket: &UnixDatagram) -> Result<(), Error> {
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if buffer[..length]
            .split(|byte| *byte == b'\n')
            .any(|line| line == b"READY=1")
        {
            return Ok(());
        }
    }
}

fn with_log(what: &str, log: &Path) -> Error {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(8).collect();
    let tail: Vec<_> = lines.into_iter().rev().collect();
    Error::Failed(format!(
        "{what}; the end of {}:\n{}",
        log.display(),
        tail.join("\n")
    ))
}
