//! Stands in for `rmailctl` in the supervisor's tests: prints the file `plan` beside the configuration it is given, or, if
//! there is a file `refuse`, its text as an error.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let Some(config) = arguments.pop().map(PathBuf::from) else {
        return ExitCode::from(64);
    };
    // In its jail there are no commands; then, and only then, the supervisor is root and wants users told apart.
    let jailed = !std::path::Path::new("/usr/bin").exists();
    let expected: &[&str] = if jailed {
        &["config", "plan", "--separate"]
    } else {
        &["config", "plan"]
    };
    let program = std::env::current_exe();
    if arguments != expected
        || program.is_err()
        || (jailed && std::net::TcpStream::connect("127.0.0.1:9").is_ok())
    {
        eprintln!("wrongly started: {arguments:?} {program:?}");
        return ExitCode::from(64);
    }
    if let Ok(reason) = std::fs::read_to_string(config.with_file_name("refuse")) {
        eprintln!("{reason}");
        return ExitCode::from(78);
    }
    match std::fs::read_to_string(config.with_file_name("plan")) {
        Ok(plan) => {
            print!("{plan}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("plan: {error}");
            ExitCode::from(66)
        }
    }
}
