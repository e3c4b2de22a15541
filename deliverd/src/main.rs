//! The only owner of the mail store and of accounts.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::start("deliverd", deliverd::run)
}
