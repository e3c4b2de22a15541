//! The loop: start, hear, restart, reload, stop in order.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sys::plan::Plan;
use sys::process::{Exit, Signal, Signals, wait_readable};

use crate::daemon::Daemon;
use crate::directory::RunDirectory;
use crate::failure::{CONFIG, Failure, SYSTEM, log};
use crate::listeners::Listeners;
use crate::{credentials, notify, planning};

/// Who is started first: those who answer before those who ask. Others come last.
const START: [&str; 6] = ["keyd", "deliverd", "relayd", "smtpd", "imapd", "apid"];
/// Deaths of one daemon before the system was ever ready that are borne; whoever started rmaild then learns of the failure.
const STILLBORN: u32 = 3;
/// Who is stopped together, and how long each group has. First those who ask; what they began can still be answered.
const STOP: [(&[&str], Duration); 3] = [
    // smtpd itself gives its sessions 20 s to end.
    (&["smtpd", "imapd", "apid"], Duration::from_secs(25)),
    (&["relayd"], Duration::from_secs(12)),
    (&["deliverd", "keyd"], Duration::from_secs(8)),
];

/// All daemons of a plan.
#[derive(Debug)]
pub(crate) struct Supervisor<'a> {
    config: PathBuf,
    plan: Plan,
    directory: &'a RunDirectory,
    listeners: &'a Listeners,
    signals: Signals,
    daemons: Vec<Daemon>,
    told_ready: bool,
}

impl<'a> Supervisor<'a> {
    /// Nothing is started yet.
    pub(crate) fn new(
        config: &Path,
        plan: Plan,
        directory: &'a RunDirectory,
        listeners: &'a Listeners,
        signals: Signals,
    ) -> Result<Self, Failure> {
        let private: Vec<PathBuf> = plan
            .daemons
            .iter()
            .flat_map(|daemon| &daemon.binds)
            .filter(|bind| bind.writable)
            .map(|bind| bind.path.clone())
            .collect();
        let mut daemons = Vec::new();
        for daemon in &plan.daemons {
            daemons.push(Daemon::new(
                daemon.clone(),
                directory,
                &plan.run_dir,
                &private,
            )?);
        }
        daemons.sort_by_key(|daemon| {
            START
                .iter()
                .position(|name| daemon.plan.name == *name)
                .unwrap_or(START.len())
        });
        Ok(Self {
            config: config.to_owned(),
            plan,
            directory,
            listeners,
            signals,
            daemons,
            told_ready: false,
        })
    }

    /// Runs until told to stop, or until a daemon says that starting it again is of no use.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let result = self.watch();
        self.tell("STOPPING=1");
        self.stop()?;
        log("stopped");
        result
    }

    fn watch(&mut self) -> Result<(), Failure> {
        loop {
            for daemon in &mut self.daemons {
                daemon.attend(self.directory, &self.plan.run_dir, self.listeners)?;
            }
            let deadline = self.daemons.iter().filter_map(Daemon::deadline).min();
            self.wait(deadline)?;
            self.tell_ready();
            while let Some(signal) = self.next_signal()? {
                match signal {
                    Signal::Reload => self.reload(),
                    Signal::Child => self.reap()?,
                    Signal::Stop | Signal::Kill => return Ok(()),
                }
            }
        }
    }

    /// Sleeps until a signal, news, or the deadline; takes the news.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<(), Failure> {
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let sources: Vec<BorrowedFd<'_>> = [self.signals.as_fd()]
            .into_iter()
            .chain(self.daemons.iter().map(|daemon| daemon.notify.as_fd()))
            .collect();
        let readable = wait_readable(&sources, timeout)
            .map_err(|error| Failure::system("cannot wait", &error))?;
        for (daemon, readable) in self.daemons.iter_mut().zip(readable.into_iter().skip(1)) {
            if readable {
                daemon.hear();
            }
        }
        Ok(())
    }

    fn next_signal(&self) -> Result<Option<Signal>, Failure> {
        self.signals
            .next()
            .map_err(|error| Failure::system("cannot read signals", &error))
    }

    /// Says once that all is up.
    fn tell_ready(&mut self) {
        if !self.told_ready && self.daemons.iter().all(|daemon| daemon.was_ready) {
            self.told_ready = true;
            log("ready");
            self.tell("READY=1");
        }
    }

    fn tell(&self, message: &str) {
        if let Err(error) = notify::tell(message) {
            log(&format!("cannot tell {message} to NOTIFY_SOCKET: {error}"));
        }
    }

    /// Notices deaths; one with status 78 ends all.
    fn reap(&mut self) -> Result<(), Failure> {
        for daemon in &mut self.daemons {
            let Some(exit) = daemon.reap(self.directory) else {
                continue;
            };
            let name = &daemon.plan.name;
            if exit == Exit::Status(i32::from(CONFIG)) {
                let text = format!(
                    "{name} exited {exit}: it cannot work with this configuration (see its log); stopping all"
                );
                return Err(Failure {
                    status: CONFIG,
                    text,
                });
            }
            if !self.told_ready && daemon.deaths > STILLBORN {
                let text = format!(
                    "{name} died {} times before the system was ready (see its log); giving up",
                    daemon.deaths
                );
                return Err(Failure {
                    status: SYSTEM,
                    text,
                });
            }
            log(&format!(
                "{name} exited {exit} restart in {}s",
                daemon.pause().as_secs()
            ));
        }
        Ok(())
    }

    /// Takes new certificates and lets the daemons read their configuration anew; keeps all as it is if that is bad.
    fn reload(&mut self) {
        let plan = match planning::plan(&self.config)
            .and_then(|plan| planning::doubt(&plan).map(|()| plan))
        {
            Ok(plan) => plan,
            Err(failure) => return log(&format!("not reloaded: {}", failure.text)),
        };
        if stripped(&plan) != stripped(&self.plan) {
            log(
                "listeners, users, directories or limits changed in the configuration: restart needed for these",
            );
        }
        let mut copied = self.plan.clone();
        for daemon in &mut copied.daemons {
            if let Some(new) = plan.daemons.iter().find(|new| new.name == daemon.name) {
                daemon.credentials.clone_from(&new.credentials);
            }
        }
        if let Err(failure) = credentials::copy(&copied) {
            return log(&format!("not reloaded: {}", failure.text));
        }
        self.plan = copied;
        for daemon in &self.daemons {
            daemon.signal(Signal::Reload);
        }
        log("reloaded");
    }

    /// Stops the groups one after the other; who does not go in time is killed.
    fn stop(&mut self) -> Result<(), Failure> {
        for (names, grace) in STOP {
            let last = names.contains(&"deliverd");
            let is_in = |daemon: &Daemon| {
                let name = daemon.plan.name.as_str();
                names.contains(&name)
                    || (names.contains(&"smtpd") && !START.contains(&name))
                    || last
            };
            self.stop_group(is_in, grace)?;
        }
        Ok(())
    }

    fn stop_group(
        &mut self,
        is_in: impl Fn(&Daemon) -> bool,
        grace: Duration,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + grace;
        let mut killed = false;
        for daemon in self.daemons.iter().filter(|daemon| is_in(daemon)) {
            daemon.signal(Signal::Stop);
        }
        loop {
            for daemon in &mut self.daemons {
                if let Some(exit) = daemon.reap(self.directory) {
                    log(&format!("{} exited {exit}", daemon.plan.name));
                }
            }
            if !self
                .daemons
                .iter()
                .any(|daemon| is_in(daemon) && daemon.is_up())
            {
                return Ok(());
            }
            if !killed && Instant::now() >= deadline {
                killed = true;
                for daemon in self
                    .daemons
                    .iter()
                    .filter(|daemon| is_in(daemon) && daemon.is_up())
                {
                    log(&format!(
                        "{} did not stop within {}s: killed",
                        daemon.plan.name,
                        grace.as_secs()
                    ));
                    daemon.signal(Signal::Kill);
                }
            }
            self.wait((!killed).then_some(deadline))?;
            while self.next_signal()?.is_some() {}
        }
    }
}

/// A plan without what a reload can change.
fn stripped(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for daemon in &mut plan.daemons {
        daemon.credentials.clear();
    }
    plan
}
