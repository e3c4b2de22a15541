//! How much nonsense a client may send before it is sent away.

use super::Config;

const MAX_FAILED_LOGINS: usize = 3;

#[derive(Debug)]
pub(super) struct Patience {
    bad: usize,
    idle: usize,
    unserved: usize,
    failed_logins: usize,
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
