//! Programs that want a terminal and a person: `tmux` is the one, a test plays the other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::patience::wait_for;
use crate::program;

const LIMIT: Duration = Duration::from_secs(60);

/// A screen of 40 lines of 120 characters, with one program on it until this is dropped.
#[derive(Debug)]
pub struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// Runs a shell command line on a new screen; the socket of its `tmux` is made in `dir`.
    #[must_use]
    #[track_caller]
    pub fn start(dir: &Path, line: &str) -> Self {
        let terminal = Self {
            socket: dir.join("terminal"),
        };
        // The last screen stays to be read when the program has ended.
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "120",
            "-y",
            "40",
            line,
            ";",
            "set-option",
            "-g",
            "remain-on-exit",
            "on",
        ]);
        terminal
    }

    /// Presses keys, by the names that tmux(1) gives them: `Enter`, `C-u`.
    #[track_caller]
    pub fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a text, and Enter.
    #[track_caller]
    pub fn enter(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.press(&["Enter"]);
    }

    /// What is on the screen.
    #[must_use]
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as the question wants it.
    #[track_caller]
    pub fn wait_until(&self, what: &str, question: impl Fn(&str) -> bool) {
        let seen = wait_for(LIMIT, || question(&self.screen()).then_some(()));
        seen.unwrap_or_else(|error| panic!("{what}: {error}\n{}", self.screen()));
    }

    /// Waits until the text is on the screen.
    #[track_caller]
    pub fn wait_to_see(&self, text: &str) {
        self.wait_until(text, |screen| screen.contains(text));
    }

    /// Waits until the program has ended.
    #[track_caller]
    pub fn wait_for_end(&self) {
        let ended = wait_for(LIMIT, || {
            let dead = self.tmux(&["display-message", "-p", "#{pane_dead}"]);
            (dead.trim() == "1").then_some(())
        });
        ended.unwrap_or_else(|error| panic!("it does not end: {error}\n{}", self.screen()));
    }

    fn command(&self) -> Command {
        let mut command = program::command("tmux");
        command.arg("-S").arg(&self.socket);
        // The programs here are asked in English and draw in UTF-8.
        command.env("LC_ALL", "C.UTF-8").env("TERM", "xterm");
        command
    }

    #[track_caller]
    fn tmux(&self, arguments: &[&str]) -> String {
        program::run(self.command().args(arguments), b"", LIMIT)
            .succeeded()
            .stdout
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Without its server the program on the screen ends too.
        drop(program::run(self.command().arg("kill-server"), b"", LIMIT));
    }
}
