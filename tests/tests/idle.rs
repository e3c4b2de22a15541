//! What an idle IMAP connection costs, beside Dovecot in the same run. Measured, not judged, so it runs only when asked for, with
//! the table of docs/performance.md as its output:
//!
//! ```text
//! cargo build --release --workspace --locked
//! cargo nextest run --release --locked -p system-tests --run-ignored only -E 'binary(idle)' --no-capture
//! ```
//!
//! `RMAIL_IDLE` says how many connections there are in place of 10,000; imapd needs two descriptors for each, and with fewer in
//! `ulimit -Hn` there are as many as they are enough for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::path::Path;
use std::time::Duration;

use loopback::Port;
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use system_tests::dovecot::{self, Dovecot};
use system_tests::{Options, System, program, python, skip_unless, skip_without};

/// Connections besides those that are measured, with whatever else a daemon has open.
const SPARE: u64 = 250;
/// Dovecots that have a process for each connection.
const WITH_PROCESSES: u64 = 300;
const PATIENCE: Duration = Duration::from_mins(30);

/// Ways to run Dovecot, and how many connections each is given at most.
const WAYS: [(&str, u64, &str); 3] = [
    (
        "Dovecot, a login process each (its default)",
        WITH_PROCESSES,
        "service imap-login {
  process_limit = 1000
}
service anvil {
  client_limit = 2000
}
service auth {
  client_limit = 2000
}
",
    ),
    (
        "Dovecot, login processes shared",
        WITH_PROCESSES,
        "service imap-login {
  service_count = 0
  process_min_avail = 2
  client_limit = 10000
}
",
    ),
    (
        "Dovecot, login processes shared, hibernated",
        u64::MAX,
        "default_vsz_limit = 4G
imap_hibernate_timeout = 1s
service imap-login {
  service_count = 0
  process_min_avail = 4
  process_limit = 4
  client_limit = 10000
}
service imap {
  process_limit = 2000
  unix_listener imap-master {
    mode = 0666
  }
}
service imap-hibernate {
  client_limit = 20000
  unix_listener imap-hibernate {
    mode = 0666
  }
}
service anvil {
  client_limit = 19000
}
service auth {
  client_limit = 19000
}
",
    ),
];

fn connections() -> u64 {
    let wanted = std::env::var("RMAIL_IDLE").map_or(10_000, |text| text.parse().expect("a number"));
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    wanted.min((most - SPARE) / 2)
}

fn measure(name: &str, variables: &Value) {
    let script = format!("import idle\nidle.measure({name:?}, given)");
    let mut script = python::command(&script, variables);
    let outcome = program::run(&mut script, b"", PATIENCE).succeeded();
    print!("{}", outcome.stdout);
}

/// Dovecot with TLS on a port of its own.
fn start_dovecot(certificate: &Path, port: u16, way: &str) -> Dovecot {
    let directory = certificate.parent().expect("it is in one").display();
    let configuration = format!(
        "ssl = yes
ssl_cert = <{directory}/cert.pem
ssl_key = <{directory}/key.pem
service imap-login {{
  inet_listener imaps {{
    address = 127.0.0.1
    port = {port}
    ssl = yes
  }}
}}
{way}"
    );
    Dovecot::start_with_owners("%d", &configuration)
}

#[test]
#[ignore = "measures for minutes; the command is at the top of this file"]
fn an_idle_imap_connection_is_small() {
    skip_without!("/usr/bin/python3");
    skip_unless!(
        Dovecot::is_possible(),
        "Dovecot must be installed, and only root can start it"
    );
    let count = connections();
    println!("| | connections | state | PSS each, KiB |");
    println!("|---|---:|---|---|");
    let config = json!({
        "log_level": "warn", "limits": {"connections_per_address": 0}, "imap": {"max_connections": 2 * count},
    });
    let mut system = System::start(Options::alice().config(&config));
    assert!(system.stop().success(), "{}", system.log());
    let database = system.home().mail_root().join("store/accounts.db");
    let more = json!({"database": database, "count": count});
    system.python("import idle\nidle.copy_accounts(given)", &more);
    system.start_again();
    let more = json!({
        "port": system.port("imaps"), "count": count, "scram": true, "straight": false,
        "roles": {
            "imapd": system.pid("imapd"), "deliverd": system.pid("deliverd"), "all daemons": system.supervisor_pid(),
        },
    });
    measure("rmail", &system.variables(&more));
    for (name, most, way) in WAYS {
        let port = Port::reserve();
        let dovecot = start_dovecot(system.ca_file(), port.number(), way);
        let more = json!({
            "port": port.number(), "count": count.min(most), "scram": false, "password": dovecot::PASSWORD,
            // Until a client idles it has a process of its own, and ten thousand of those are too many.
            "straight": most > count,
            "roles": {"all processes": dovecot.pid()},
        });
        measure(name, &system.variables(&more));
    }
}
