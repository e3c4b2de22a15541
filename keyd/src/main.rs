//! The only holder of the private keys that sign mail.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::start("keyd", keyd::run)
}
