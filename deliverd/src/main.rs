//! The only owner of the mail store and of accounts.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::start_passing_on("deliverd", deliverd::run)
}
