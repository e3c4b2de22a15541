//! How every daemon starts: configuration, logs, descriptors, runtime, signals — in this order, the same under rmaild and systemd.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sys::listen::Inherited;
use sys::packet::PacketListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::config::Config;
use crate::log::Level;
use crate::stop::{self, Stop, StopSender};

/// sysexits(3): the configuration is wrong; whoever started the daemon must not restart it.
pub const EX_CONFIG: u8 = 78;
/// sysexits(3): something failed that may be gone at the next start.
pub const EX_SOFTWARE: u8 = 70;
/// sysexits(3): wrong arguments.
pub const EX_USAGE: u8 = 64;

/// What a daemon is born with.
#[derive(Debug)]
pub struct Birth {
    /// Name of the daemon, `smtpd`.
    pub name: &'static str,
    /// The whole configuration; a daemon uses its slice.
    pub config: Config,
    /// Sockets that were handed over.
    pub inherited: Inherited,
    /// Where `tls.crt`, `tls.key` and `smarthost.password` are, if anything was given.
    pub credentials: Option<PathBuf>,
    /// Signals.
    pub stop: Stop,
}

/// A start that failed, in words for the admin, and whether starting again makes sense.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Someone must change something first; exit status 78.
    #[error("{0}")]
    Config(String),
    /// May work later; exit status 70.
    #[error("{0}")]
    Fault(String),
}

impl StartError {
    /// A configuration error from anything that explains itself.
    pub fn config(error: impl std::fmt::Display) -> Self {
        Self::Config(error.to_string())
    }

    /// A fault from anything that explains itself.
    pub fn fault(error: impl std::fmt::Display) -> Self {
        Self::Fault(error.to_string())
    }
}

impl Birth {
    /// Says that the daemon serves (`READY=1`), and keeps the watchdog fed if there is one.
    pub fn ready(&self) {
        info!(version = env!("CARGO_PKG_VERSION"), "ready");
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
            warn!(%error, "cannot tell the supervisor that this daemon is ready");
        }
        if let Some(period) = sd_notify::watchdog_enabled() {
            tokio::spawn(async move {
                let mut beat = tokio::time::interval(period / 3);
                loop {
                    beat.tick().await;
                    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]) {
                        warn!(%error, "cannot feed the watchdog");
                    }
                }
            });
        }
    }

    /// The TCP listeners of that name, for the runtime.
    ///
    /// # Errors
    /// [`StartError::Fault`] when a descriptor is no listening TCP socket.
    pub fn tcp_listeners(
        &mut self,
        name: &str,
    ) -> Result<Vec<tokio::net::TcpListener>, StartError> {
        let adopt = |fd| {
            let listener = std::net::TcpListener::from(fd);
            listener.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(listener)
        };
        let listeners = self.inherited.take(name).into_iter().map(adopt).collect();
        usable(name, listeners)
    }

    /// The Unix stream listeners of that name, for the runtime.
    ///
    /// # Errors
    /// [`StartError::Fault`] when a descriptor is no listening Unix socket.
    pub fn local_listeners(
        &mut self,
        name: &str,
    ) -> Result<Vec<tokio::net::UnixListener>, StartError> {
        let adopt = |fd| {
            let listener = std::os::unix::net::UnixListener::from(fd);
            listener.set_nonblocking(true)?;
            tokio::net::UnixListener::from_std(listener)
        };
        let listeners = self.inherited.take(name).into_iter().map(adopt).collect();
        usable(name, listeners)
    }

    /// The one listener on which `asker` asks this daemon.
    ///
    /// # Errors
    /// [`StartError::Config`] when it was not handed over.
    pub fn packet_listener(&mut self, asker: &str) -> Result<PacketListener, StartError> {
        self.inherited.take(asker).pop().map(PacketListener::from).ok_or_else(|| {
            StartError::Config(format!("no socket named \"{asker}\" was handed over; start me through rmaild or a .socket unit"))
        })
    }

    /// The credentials directory.
    ///
    /// # Errors
    /// [`StartError::Config`] when none was given.
    pub fn credentials(&self) -> Result<&Path, StartError> {
        self.credentials.as_deref().ok_or_else(|| {
            StartError::Config("CREDENTIALS_DIRECTORY is not set; start me through rmaild, or give the unit LoadCredential=".into())
        })
    }
}

/// `main` of every daemon: `NAME CONFIG`. Returns the exit status.
pub fn start<F, R>(name: &'static str, run: F) -> ExitCode
where
    F: FnOnce(Birth) -> R,
    R: Future<Output = Result<(), StartError>>,
{
    start_with(name, None, run)
}

/// [`start`] for a daemon that works on blocking threads: its tasks only pass on, so few threads are enough for them, and each
/// more is woken for nothing.
pub fn start_passing_on<F, R>(name: &'static str, run: F) -> ExitCode
where
    F: FnOnce(Birth) -> R,
    R: Future<Output = Result<(), StartError>>,
{
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    start_with(name, Some(processors.div_ceil(4)), run)
}

fn start_with<F, R>(name: &'static str, threads: Option<usize>, run: F) -> ExitCode
where
    F: FnOnce(Birth) -> R,
    R: Future<Output = Result<(), StartError>>,
{
    let path = match argument(name) {
        Ok(path) => path,
        Err(status) => return status,
    };
    let config = match Config::read(&path) {
        Ok(config) => config,
        Err(error) => {
            complain(name, &error);
            return ExitCode::from(EX_CONFIG);
        }
    };
    let level = crate::log::start(name, config.log_level);
    let inherited = match Inherited::from_environment() {
        Ok(inherited) => inherited,
        Err(error) => {
            error!("{error}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        warn!("a TLS provider was installed before");
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start the runtime; are there limits on threads or descriptors?");
            return ExitCode::from(EX_SOFTWARE);
        }
    };
    let outcome = runtime.block_on(async {
        let (sender, stop) = stop::channel();
        watch_signals(sender, path, level)?;
        run(Birth {
            name,
            config,
            inherited,
            credentials,
            stop,
        })
        .await
    });
    // Blocking work that is still running (a flush) gets a moment to end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    match outcome {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!("{error}");
            ExitCode::from(match error {
                StartError::Config(_) => EX_CONFIG,
                StartError::Fault(_) => EX_SOFTWARE,
            })
        }
    }
}

fn usable<L>(name: &str, listeners: std::io::Result<Vec<L>>) -> Result<Vec<L>, StartError> {
    listeners.map_err(|error| {
        StartError::Fault(format!(
            "the socket handed over as \"{name}\" cannot be used: {error}"
        ))
    })
}

fn argument(name: &str) -> Result<PathBuf, ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(argument), None) if argument == "--version" => {
            complain(name, &env!("CARGO_PKG_VERSION"));
            Err(ExitCode::SUCCESS)
        }
        (Some(path), None) => Ok(path.into()),
        _ => {
            complain(
                name,
                &format!("usage: {name} CONFIG (started by rmaild or systemd, with its sockets)"),
            );
            Err(ExitCode::from(EX_USAGE))
        }
    }
}

/// Before there is a log, stderr is all there is.
fn complain(name: &str, what: &dyn std::fmt::Display) {
    eprintln!("{name}: {what}");
}

fn watch_signals(sender: StopSender, config: PathBuf, level: Level) -> Result<(), StartError> {
    let watch = |kind| {
        signal(kind).map_err(|error| StartError::Fault(format!("cannot watch signals: {error}")))
    };
    let mut terminate = watch(SignalKind::terminate())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut hangup = watch(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => sender.stop(),
                _ = interrupt.recv() => sender.stop(),
                _ = hangup.recv() => {
                    info!("reload requested");
                    reload_level(&config, &level);
                    sender.reload();
                }
            }
        }
    });
    Ok(())
}

/// Of the configuration only the log level can change under a running daemon; the rest counts from the next start.
fn reload_level(path: &Path, level: &Level) {
    match Config::read(path) {
        Ok(config) => level.change(config.log_level),
        Err(error) => error!("not reloaded: {error}"),
    }
}
