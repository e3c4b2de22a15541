//! The program relayd: `relayd CONFIG`, started by rmaild or systemd with its sockets.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::start("relayd", relayd::house::run)
}
