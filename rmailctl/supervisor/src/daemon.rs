//! One daemon under supervision: what it is started with, and whether it lives.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sys::jail::Jail;
use sys::plan::{Bind, Daemon as Plan};
use sys::process::{Child, Exit, Signal};
use sys::spawn::{Launch, spawn};
use sys::user::Identity;

use crate::backoff::Backoff;
use crate::credentials;
use crate::directory::RunDirectory;
use crate::failure::{Failure, SYSTEM, log};
use crate::listeners::Listeners;
use crate::notify::NotifySocket;

/// How long a daemon may take to say that it is ready before this is logged.
const PATIENCE: Duration = Duration::from_secs(30);
/// Variables that pass through to the daemons; nothing else of the environment does.
const PASSED: [&str; 5] = [
    "RMAIL_LOG",
    "RMAIL_LOG_FORMAT",
    "RUST_BACKTRACE",
    "TZ",
    "JOURNAL_STREAM",
];

/// A daemon and its present state.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) plan: Plan,
    pub(crate) notify: NotifySocket,
    pub(crate) was_ready: bool,
    jail_binds: Vec<Bind>,
    state: State,
    backoff: Backoff,
    /// How often it died.
    pub(crate) deaths: u32,
}

#[derive(Debug)]
enum State {
    Down {
        until: Instant,
    },
    Up {
        child: Child,
        since: Instant,
        late: Option<Instant>,
    },
}

impl Daemon {
    /// A daemon to be started at once. `private` are the writable directories of all daemons.
    pub(crate) fn new(
        plan: Plan,
        directory: &RunDirectory,
        run_dir: &Path,
        private: &[PathBuf],
    ) -> Result<Self, Failure> {
        let path = directory.notify(&plan.name);
        let notify = NotifySocket::bind(&path, plan.uid)
            .map_err(|error| Failure::system(format!("cannot bind {}", path.display()), &error))?;
        let jail_binds = binds(&plan, run_dir, private);
        let state = State::Down {
            until: Instant::now(),
        };
        Ok(Self {
            plan,
            notify,
            was_ready: false,
            jail_binds,
            state,
            backoff: Backoff::default(),
            deaths: 0,
        })
    }

    /// When something is to be done even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Down { until } => Some(*until),
            State::Up { late, .. } => *late,
        }
    }

    /// Whether a process of it lives.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Does what is due: starts a daemon whose pause is over, complains of one that is not ready.
    pub(crate) fn attend(
        &mut self,
        directory: &RunDirectory,
        run_dir: &Path,
        listeners: &Listeners,
    ) -> Result<(), Failure> {
        let name = &self.plan.name;
        let now = Instant::now();
        match &mut self.state {
            State::Down { until } if *until <= now => {
                match start(&self.plan, &self.jail_binds, directory, run_dir, listeners) {
                    Ok(child) => {
                        log(&format!("{name} started pid={}", child.pid()));
                        directory.note_pid(name, child.pid());
                        self.state = State::Up {
                            child,
                            since: now,
                            late: Some(now + PATIENCE),
                        };
                    }
                    Err(failure) if !self.was_ready => return Err(failure),
                    Err(failure) => {
                        let pause = self.backoff.pause(Duration::ZERO);
                        log(&format!(
                            "{}; next try in {}s",
                            failure.text,
                            pause.as_secs()
                        ));
                        self.state = State::Down { until: now + pause };
                    }
                }
            }
            State::Up { late, .. } if late.is_some_and(|late| late <= now) => {
                log(&format!(
                    "{name} is not ready after {}s; see its log",
                    PATIENCE.as_secs()
                ));
                *late = None;
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes what the daemon told.
    pub(crate) fn hear(&mut self) {
        let name = &self.plan.name;
        match self.notify.hear() {
            Ok(news) => {
                if news.ready
                    && let State::Up { late, .. } = &mut self.state
                {
                    *late = None;
                    self.was_ready = true;
                }
                if news.stopping {
                    log(&format!("{name} stops"));
                }
            }
            Err(error) => log(&format!("cannot hear {name}: {error}")),
        }
    }

    /// Notices its death, if it died.
    pub(crate) fn reap(&mut self, directory: &RunDirectory) -> Option<Exit> {
        let State::Up { child, since, .. } = &self.state else {
            return None;
        };
        let exit = match child.ended() {
            Ok(exit) => exit?,
            Err(error) => {
                log(&format!("cannot wait for {}: {error}", self.plan.name));
                return None;
            }
        };
        let pause = self.backoff.pause(since.elapsed());
        self.deaths = self.deaths.saturating_add(1);
        self.state = State::Down {
            until: Instant::now() + pause,
        };
        directory.forget_pid(&self.plan.name);
        Some(exit)
    }

    /// How long the present pause still lasts.
    pub(crate) fn pause(&self) -> Duration {
        match &self.state {
            // Rounded: the pause has run for some microseconds when it is logged.
            State::Down { until } => {
                until.saturating_duration_since(Instant::now()) + Duration::from_millis(500)
            }
            State::Up { .. } => Duration::ZERO,
        }
    }

    /// Sends a signal if it lives.
    pub(crate) fn signal(&self, signal: Signal) {
        if let State::Up { child, .. } = &self.state
            && let Err(error) = child.signal(signal)
        {
            log(&format!("cannot signal {}: {error}", self.plan.name));
        }
    }
}

/// All that a jailed daemon sees beside its program and its libraries.
fn binds(plan: &Plan, run_dir: &Path, private: &[PathBuf]) -> Vec<Bind> {
    let seen = |path: PathBuf| Bind {
        path,
        writable: false,
    };
    let mut binds = plan.binds.clone();
    binds.push(seen(run_dir.to_owned()));
    binds.push(seen(config_part(&plan.config, private)));
    binds
}

/// The directory of the configuration, so that an edited file is seen at reload; but the file alone where the directory holds
/// the state of a daemon too, or lets nobody else in.
pub(crate) fn config_part(config: &Path, private: &[PathBuf]) -> PathBuf {
    let open = |directory: &Path| {
        directory
            .metadata()
            .is_ok_and(|found| found.mode() & 0o001 != 0)
    };
    match config.parent() {
        Some(parent)
            if parent != Path::new("/")
                && open(parent)
                && !private.iter().any(|path| path.starts_with(parent)) =>
        {
            parent.to_owned()
        }
        _ => config.to_owned(),
    }
}

fn start(
    plan: &Plan,
    binds: &[Bind],
    directory: &RunDirectory,
    run_dir: &Path,
    listeners: &Listeners,
) -> Result<Child, Failure> {
    let root = sys::user::is_root();
    let mut environment: Vec<(String, String)> = PASSED
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect();
    environment.push((
        "NOTIFY_SOCKET".into(),
        directory.notify(&plan.name).display().to_string(),
    ));
    environment.push((
        "CREDENTIALS_DIRECTORY".into(),
        credentials::directory(run_dir, &plan.name)
            .display()
            .to_string(),
    ));
    let jail = Jail {
        program: plan.program.clone(),
        network: plan.network,
        knows_its_path: false,
        binds: binds.to_vec(),
    };
    spawn(&Launch {
        program: &plan.program,
        arguments: vec![plan.config.as_os_str()],
        stdout: None,
        descriptors: listeners.of(&plan.name),
        environment,
        identity: root.then_some(Identity {
            uid: plan.uid,
            gid: plan.gid,
        }),
        jail: (root && plan.jail).then_some(jail),
        nofile: plan.nofile,
    })
    .map_err(|error| Failure {
        status: SYSTEM,
        text: format!("cannot start {}: {error}", plan.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_directory_is_seen_unless_it_holds_state_or_is_closed() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config.json");
        let mode = |mode| {
            std::fs::set_permissions(
                home.path(),
                std::os::unix::fs::PermissionsExt::from_mode(mode),
            )
            .unwrap()
        };
        mode(0o755);
        assert_eq!(
            config_part(&config, &["/var/lib/rmail".into()]),
            home.path()
        );
        assert_eq!(config_part(&config, &[home.path().join("store")]), config);
        mode(0o700);
        assert_eq!(config_part(&config, &[]), config);
        assert_eq!(
            config_part(Path::new("/config.json"), &[]),
            Path::new("/config.json")
        );
    }
}
