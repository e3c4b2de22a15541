//! How much nonsense a client may send before it is sent away.

use core::time::Duration;

use super::Config;

const MAX_FAILED_LOGINS: usize = 3;
/// How often a reply is held back longer than the one before.
const STEPS: usize = 10;

#[derive(Debug)]
pub(super) struct Patience {
    bad: usize,
    idle: usize,
    unserved: usize,
    failed_logins: usize,
    undelayed: usize,
    delay: Duration,
    max_bad: usize,
    max_idle: usize,
    max_unserved: usize,
}

impl Patience {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            bad: 0,
            idle: 0,
            unserved: 0,
            failed_logins: 0,
            undelayed: config.undelayed_errors,
            delay: config.error_delay,
            max_bad: config.max_bad_commands,
            max_idle: config.max_idle_commands,
            // A client that pipelines sends one for each recipient when its sender was refused.
            max_unserved: config
                .max_idle_commands
                .saturating_add(config.max_recipients),
        }
    }

    /// Counts a command that is none, or malformed; true when it was one too many.
    pub(super) fn bad_command(&mut self) -> bool {
        self.bad += 1;
        self.bad > self.max_bad
    }

    /// Counts a command that brings no message nearer; true when it was one too many.
    pub(super) fn idle_command(&mut self) -> bool {
        self.idle += 1;
        self.idle > self.max_idle
    }

    /// Counts a recipient that is refused; true when it was one too many.
    pub(super) fn unserved_recipient(&mut self) -> bool {
        self.unserved += 1;
        self.unserved > self.max_unserved
    }

    /// For how long the reply to what was counted last is held back: whoever is of no use shall not keep us busy.
    pub(super) fn delay(&self) -> Option<Duration> {
        let errors = self.bad + self.idle + self.unserved;
        let steps = errors.saturating_sub(self.undelayed).min(STEPS);
        let delay = self.delay * u32::try_from(steps).unwrap_or(u32::MAX);
        (!delay.is_zero()).then_some(delay)
    }

    /// Counts a failed login; true when it was the last one allowed.
    pub(super) fn failed_login(&mut self) -> bool {
        self.failed_logins += 1;
        self.failed_logins >= MAX_FAILED_LOGINS
    }

    /// A message was taken: the client is of use.
    pub(super) fn renew(&mut self) {
        self.bad = 0;
        self.idle = 0;
        self.unserved = 0;
    }
}
