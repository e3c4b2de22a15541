//! How much nonsense a client may send before it is sent away.

// Commands that are no commands, or malformed ones.
const MAX_BAD: usize = 10;
// Commands that bring no message nearer. A client that pipelines sends one for each recipient when
// its sender was refused, so the number of recipients comes on top.
const MAX_IDLE: usize = 100;
const MAX_FAILED_LOGINS: usize = 3;

#[derive(Debug)]
pub(super) struct Patience {
    bad: usize,
    idle: usize,
    max_idle: usize,
    failed_logins: usize,
}

impl Patience {
    pub(super) fn new(max_recipients: usize) -> Self {
        Self {
            bad: 0,
            idle: 0,
            max_idle: MAX_IDLE.saturating_add(max_recipients),
            failed_logins: 0,
        }
    }

    /// Counts a bad command; true when it was one too many.
    pub(super) fn bad_command(&mut self) -> bool {
        self.bad += 1;
        self.bad > MAX_BAD
    }

    /// Counts a command without effect; true when it was one too many.
    pub(super) fn idle_command(&mut self) -> bool {
        self.idle += 1;
        self.idle > self.max_idle
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
    }
}
