//! The program apid: `apid CONFIG`, started by rmaild or systemd with its sockets.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::start("apid", apid::house::run)
}
