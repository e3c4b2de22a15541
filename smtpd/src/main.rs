//! The program smtpd: `smtpd CONFIG`, started by rmaild or systemd with its sockets.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::start("smtpd", smtpd::house::run)
}
