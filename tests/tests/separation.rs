//! The daemons are separated: looked at from outside, through `/proc` and as their own users. Needs root.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use system_tests::system::DAEMONS;
use system_tests::{Options, System, program, skip_unless, skip_without};

/// Opens a path as a given user, in the file system of a given process (or in our own); prints `opened` or the reason.
const OPEN: &str = r#"
import os, sys
pid, uid, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if pid != "-":
    os.chroot(f"/proc/{pid}/root")
    os.chdir("/")
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
try:
    os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
    print("opened")
except OSError as error:
    print(error.strerror)
"#;

fn open(process: Option<u32>, uid: u32, path: &Path) -> String {
    let process = process.map_or("-".to_owned(), |pid| pid.to_string());
    let output = Command::new("python3")
        .args(["-c", OPEN, &process, &uid.to_string()])
        .arg(path)
        .output()
        .expect("python3 runs");
    let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(
        !answer.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    answer
}

/// A line of `/proc/PID/status`.
fn status(pid: u32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
    line.unwrap_or_else(|| panic!("no {key} in {text}"))
        .trim()
        .to_owned()
}

fn pid(system: &System, daemon: &str) -> u32 {
    system
        .pid(daemon)
        .unwrap_or_else(|| panic!("{daemon} is not running\n{}", system.log()))
}

#[test]
fn five_daemons_run_under_five_users_without_any_right() {
    skip_unless!(
        program::is_root(),
        "only root can give each daemon its own user"
    );
    let system = System::start(Options::without_users());
    let mut users = BTreeSet::new();
    for daemon in DAEMONS {
        let pid = pid(&system, daemon);
        let uid = system.home().uid(daemon).to_string();
        for (key, ids) in [("Uid", 4), ("Gid", 4), ("Groups", 1)] {
            let found = status(pid, key);
            let found: Vec<&str> = found.split_whitespace().collect();
            assert_eq!(found, vec![uid.as_str(); ids], "{daemon}: {key}");
        }
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(pid, set), "0000000000000000", "{daemon}: {set}");
        }
        assert_eq!(status(pid, "NoNewPrivs"), "1", "{daemon}");
        users.insert(uid);
    }
    assert_eq!(users.len(), DAEMONS.len());
}

#[test]
fn only_relayd_has_a_network() {
    skip_unless!(
        program::is_root(),
        "only root can take the network from a daemon"
    );
    let system = System::start(Options::without_users());
    let network = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).expect("root reads it");
    let own = network(std::process::id());
    for daemon in DAEMONS {
        let pid = pid(&system, daemon);
        assert_eq!(network(pid) == own, daemon == "relayd", "{daemon}");
        if daemon != "relayd" {
            let devices =
                fs::read_to_string(format!("/proc/{pid}/net/dev")).expect("root reads it");
            let devices: Vec<&str> = devices
                .lines()
                .skip(2)
                .filter_map(|line| line.split(':').next())
                .map(str::trim)
                .collect();
            assert!(!devices.contains(&"eth0"), "{daemon} sees {devices:?}");
        }
    }
}

#[test]
fn only_deliverd_opens_the_store_only_relayd_the_queue_and_only_keyd_the_keys() {
    skip_unless!(
        program::is_root(),
        "only root can act as the daemons' users"
    );
    skip_without!("python3");
    let system = System::start(Options::without_users());
    for (part, owner) in [("store", "deliverd"), ("queue", "relayd"), ("keys", "keyd")] {
        let path = system.home().mail_root().join(part);
        for daemon in DAEMONS {
            let uid = system.home().uid(daemon);
            let pid = pid(&system, daemon);
            let (outside, inside) = if daemon == owner {
                ("opened", "opened")
            } else {
                ("Permission denied", "No such file or directory")
            };
            assert_eq!(
                open(None, uid, &path),
                outside,
                "{daemon} by the permissions of {part}"
            );
            assert_eq!(
                open(Some(pid), uid, &path),
                inside,
                "{daemon} in its own root, {part}"
            );
            // Even root would not find it there.
            if daemon != owner {
                assert_eq!(
                    open(Some(pid), 0, &path),
                    inside,
                    "root in the root of {daemon}, {part}"
                );
            }
        }
    }
}

#[test]
fn a_daemon_finds_nothing_of_the_machine_in_its_root() {
    skip_unless!(
        program::is_root(),
        "only root can give a daemon its own root"
    );
    let system = System::start(Options::without_users());
    for daemon in DAEMONS {
        let root = format!("/proc/{}/root", pid(&system, daemon));
        // The program itself is there, at its own path: what lies beside that path is not.
        let program =
            fs::read_link(format!("/proc/{}/exe", pid(&system, daemon))).expect("root reads it");
        for path in [
            "/etc/passwd",
            "/etc/shadow",
            "/proc/self",
            "/sys/kernel",
            "/dev/null",
            "/root",
            "/home",
            "/bin/sh",
            "/usr/bin/env",
        ] {
            let seen = Path::new(&root).join(&path[1..]);
            if program.starts_with(path) {
                let inside: Vec<_> = fs::read_dir(&seen)
                    .expect("root reads it")
                    .map(|entry| entry.expect("root reads it").file_name())
                    .collect();
                let next = program.strip_prefix(path).expect("it starts so");
                let next = next.iter().next().expect("the program is no directory");
                assert_eq!(
                    inside,
                    [next],
                    "{daemon} sees more of {path} than its program"
                );
            } else {
                assert!(!seen.exists(), "{daemon} sees {path}");
            }
        }
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", pid(&system, daemon)))
            .expect("root reads it");
        for line in mounts.lines() {
            let [_, place, _, options, ..] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("odd mount {line}")
            };
            let options: BTreeSet<&str> = options.split(',').collect();
            assert!(
                options.contains("nosuid") && options.contains("nodev"),
                "{daemon}: {line}"
            );
            let own = (daemon == "deliverd" && place.ends_with("/store"))
                || (daemon == "relayd" && place.ends_with("/queue"))
                || (daemon == "keyd" && place.ends_with("/keys"));
            assert_eq!(options.contains("rw"), own, "{daemon}: {line}");
            assert!(!own || options.contains("noexec"), "{daemon}: {line}");
        }
    }
}

#[test]
fn a_daemon_reads_no_other_ones_secrets() {
    skip_unless!(
        program::is_root(),
        "only root can act as the daemons' users"
    );
    let system = System::start(Options::without_users());
    let key = system.home().run_dir().join("credentials/smtpd/tls.key");
    let read = |uid: u32| {
        let uid = uid.to_string();
        let mut setpriv = Command::new("setpriv");
        setpriv
            .args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "cat"])
            .arg(&key);
        setpriv.output().expect("setpriv runs").status.success()
    };
    for daemon in DAEMONS {
        assert_eq!(
            read(system.home().uid(daemon)),
            daemon == "smtpd",
            "{daemon}"
        );
    }
}

#[test]
fn root_keeps_few_capabilities() {
    skip_unless!(program::is_root(), "there is no root here");
    let system = System::start(Options::without_users());
    // CHOWN, KILL, SETGID, SETUID, SETPCAP, SYS_ADMIN.
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(
            status(system.supervisor_pid(), set),
            "00000000002001e1",
            "{set}"
        );
    }
    assert_eq!(status(system.supervisor_pid(), "NoNewPrivs"), "1");
}
