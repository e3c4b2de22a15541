//! A test in a process of its own, so that nothing it mounts or starts outlives it, even if it is killed.

use std::any::type_name;
use std::ffi::OsStr;
use std::process::Command;

/// Set for the process within.
const WITHIN: &str = "RMAIL_POWER_CUT_WITHIN";
/// A name space for mounts and one for processes: they end with their first process.
const NAME_SPACES: [&str; 5] = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Does `work` in another process that runs nothing but `test`, the caller; `wrapper` is the command to start it with, if any.
pub(in crate::store) fn secluded<T: Fn()>(_test: T, wrapper: &[&str], work: impl FnOnce()) {
    if std::env::var_os(WITHIN).is_some() {
        return work();
    }
    let run = |command: &OsStr, arguments: &[&str]| {
        let run = Command::new("unshare")
            .args(NAME_SPACES)
            .args(wrapper)
            .arg(command)
            .args(arguments)
            .env(WITHIN, "yes")
            .output();
        run.map_err(|error| error.to_string())
    };
    let reason = match run("true".as_ref(), &[]) {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(error),
    };
    if let Some(reason) = reason {
        return skip(&format!(
            "cannot run unshare {}: {reason}",
            wrapper.join(" ")
        ));
    }
    let (_crate, name) = type_name::<T>().split_once("::").unwrap();
    let program = std::env::current_exe().unwrap();
    let output = run(program.as_os_str(), &["--exact", name, "--nocapture"]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"));
}

/// Says why a test does nothing, or fails if it may not.
pub(in crate::store) fn skip(reason: &str) {
    assert!(
        std::env::var_os("RMAIL_REQUIRE_POWER_CUTS").is_none(),
        "power cuts are required: {reason}"
    );
    eprintln!(
        "SKIPPED: {reason}; only root can cut the power, with the Debian packages of tests/PACKAGES"
    );
}
