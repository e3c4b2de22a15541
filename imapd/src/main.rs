//! The program imapd: `imapd CONFIG`, started by rmaild or systemd with its sockets.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::start("imapd", imapd::house::run)
}
