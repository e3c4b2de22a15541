//! Postfix's `smtp-sink`: a mail server that writes whatever it gets into files.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::program::{self, Service};
use loopback::Port;

/// Starts one that writes messages to `mail.*` in `dir`, with these options besides.
#[must_use]
pub fn start(port: &Port, dir: &Path, more: &[&str]) -> Service {
    start_at(Ipv4Addr::LOCALHOST, port, dir, more)
}

/// The same at another loopback address.
#[must_use]
pub fn start_at(address: Ipv4Addr, port: &Port, dir: &Path, more: &[&str]) -> Service {
    std::fs::create_dir_all(dir).expect("our own directory");
    let mut command = program::command("smtp-sink");
    if program::is_root() {
        // It insists on another user; the directory must be that user's.
        command.args(["-u", "nobody"]);
        std::os::unix::fs::chown(dir, Some(65_534), None).expect("our own directory");
    }
    let address = format!("{address}:{}", port.number());
    command
        .args(more)
        .args(["-d", "mail.", &address, "100"])
        .current_dir(dir);
    Service::start(&mut command, &dir.with_extension("log"))
}
