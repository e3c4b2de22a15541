//! Scripts for Python's own mail libraries: a client side that we did not write.
//!
//! A script finds the functions of `tests/python/rmail_test.py` imported and the names it was given as variables.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::program::{self, Outcome};
use crate::system::System;

/// The interpreter of the distribution (it has the distribution's modules), or the first in the path.
#[must_use]
pub fn interpreter() -> Option<std::path::PathBuf> {
    program::find("/usr/bin/python3").or_else(|| program::find("python3"))
}

/// Whether the interpreter can import `module`.
#[must_use]
pub fn has(module: &str) -> bool {
    interpreter().is_some_and(|python| {
        let mut command = Command::new(python);
        program::run(
            command
                .env("PYTHONPATH", search_path())
                .args(["-c", &format!("import {module}")]),
            b"",
            Duration::from_secs(20),
        )
        .status
        .success()
    })
}

/// Our own modules, and those that `tests/prepare` has fetched.
fn search_path() -> OsString {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let places = std::iter::once(own).chain(program::fetched("python"));
    std::env::join_paths(places).expect("no colon in the name of a directory")
}

/// A command line that runs `script` with `variables`.
#[must_use]
pub fn command(script: &str, variables: &Value) -> Command {
    let mut command = Command::new(interpreter().expect("python3 is not installed"));
    command
        .env("PYTHONPATH", search_path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1")
        .env("RMAIL_TEST", variables.to_string())
        .args([
            "-c",
            &format!("from rmail_test import *\nglobals().update(given)\n{script}"),
        ]);
    command
}

impl System {
    /// Runs a script that knows this system as `hosts`, `ca_file`, `dir`, and what `more` gives; it must succeed.
    #[track_caller]
    pub fn python(&self, script: &str, more: &Value) -> Outcome {
        program::run(
            &mut command(script, &self.variables(more)),
            b"",
            Duration::from_secs(120),
        )
        .succeeded()
    }

    /// What a script is given.
    #[must_use]
    pub fn variables(&self, more: &Value) -> Value {
        let ports = [
            "smtp",
            "submission",
            "submissions",
            "imap",
            "imaps",
            "api",
            "apis",
        ];
        let mut variables = serde_json::json!({
            "ports": ports.iter().map(|name| ((*name).to_owned(), self.port(name))).collect::<std::collections::BTreeMap<_, _>>(),
            "ca_file": self.ca_file(),
            "dir": self.dir(),
            "run_dir": self.home().run_dir(),
            "password": crate::options::PASSWORD,
        });
        crate::options::lay_over(&mut variables, more);
        variables
    }
}
