//! `rmaild` itself, with small daemons in Python and an `rmailctl` that prints a plan; as root (where the test is) and as nobody.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails loudly and at once; the helpers here are never linked into a daemon"
)]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use sys::plan::{Address, Bind, Credential, Daemon, Plan, Socket, SocketFile};

const NOBODY: u32 = 65534;
const NAMES: [&str; 5] = ["smtpd", "imapd", "apid", "relayd", "deliverd"];
const PATIENCE: Duration = Duration::from_secs(20);

/// A home with program, plan and daemons, and the supervisor that runs in it.
struct World {
    home: tempfile::TempDir,
    plan: Plan,
    uid: u32,
    rmaild: Option<Child>,
    log: Option<Receiver<String>>,
    heard: Vec<String>,
}

fn is_root() -> bool {
    sys::user::is_root()
}

/// As whom the tests run the supervisor: root cannot be tried without being root.
fn everybody() -> Vec<u32> {
    if is_root() {
        vec![0, NOBODY]
    } else {
        vec![sys::user::myself().uid]
    }
}

impl World {
    fn new(uid: u32) -> Self {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_rmaild"), at("rmaild")).unwrap();
        let rmailctl = Path::new(env!("CARGO_BIN_EXE_rmaild"))
            .with_file_name("examples")
            .join("rmailctl");
        fs::copy(rmailctl, at("rmailctl")).unwrap();
        fs::write(at("config.json"), "{}").unwrap();
        fs::write(at("key.pem"), "first\n").unwrap();
        fs::set_permissions(at("key.pem"), Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(at("scripts")).unwrap();
        let mut plan = Plan {
            run_dir: at("run"),
            daemons: Vec::new(),
            sockets: Vec::new(),
        };
        for (name, number) in NAMES.iter().zip(4_100_000..) {
            let script = at("scripts").join(format!("{name}.py"));
            fs::write(&script, include_str!("daemon.py")).unwrap();
            plan.daemons.push(Daemon {
                name: (*name).into(),
                program: fs::canonicalize("/usr/bin/python3").unwrap(),
                config: script,
                uid: number,
                gid: number,
                jail: true,
                network: *name == "relayd",
                nofile: 256,
                binds: if *name == "deliverd" {
                    vec![Bind {
                        path: at("state/store"),
                        writable: true,
                    }]
                } else {
                    Vec::new()
                },
                credentials: vec![Credential {
                    name: "tls.key".into(),
                    source: at("key.pem"),
                }],
            });
            let address = Address::Tcp(([127, 0, 0, 1], loopback::free_port()).into());
            plan.sockets.push(Socket {
                name: format!("port-{name}"),
                owner: (*name).into(),
                address,
            });
        }
        let address = Address::Packet(SocketFile {
            path: at("run/deliverd-smtpd.sock"),
            uid: 4_100_000,
            gid: 4_100_000,
            mode: 0o600,
        });
        plan.sockets.push(Socket {
            name: "smtpd".into(),
            owner: "deliverd".into(),
            address,
        });
        if is_root() {
            for entry in [home.path().to_owned(), at("key.pem")] {
                chown(entry, Some(uid), Some(uid)).unwrap();
            }
        }
        Self {
            home,
            plan,
            uid,
            rmaild: None,
            log: None,
            heard: Vec::new(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn start(&mut self) {
        fs::write(self.at("plan"), self.plan.to_string()).unwrap();
        let mut command = Command::new(self.at("rmaild"));
        command
            .arg(self.at("config.json"))
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .env("SECRET", "x")
            .env("RMAIL_LOG_FORMAT", "json");
        if is_root() {
            command.uid(self.uid).gid(self.uid);
        }
        let mut child = command.spawn().unwrap();
        let (line_to_test, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if line_to_test.send(line).is_err() {
                    return;
                }
            }
        });
        self.rmaild = Some(child);
        self.log = Some(log);
        self.heard.clear();
    }

    fn started(uid: u32) -> Self {
        let mut world = Self::new(uid);
        world.start();
        world.hear("rmaild: ready");
        world
    }

    /// Waits for a line of the log that contains `text`.
    fn hear(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.as_ref().unwrap().recv_timeout(left) {
                Ok(line) => {
                    self.heard.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!(
                    "no line with {text:?} ({error}) in:\n{}",
                    self.heard.join("\n")
                ),
            }
        }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.rmaild.as_ref().unwrap().id()).unwrap()
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill {signal} {}", self.pid());
        // The one of the shell: not every machine has a program of that name.
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    fn end(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.rmaild.as_mut().unwrap().try_wait().unwrap() {
                self.rmaild = None;
                return status.code().unwrap_or(-1);
            }
            assert!(
                Instant::now() < deadline,
                "rmaild did not end:\n{}",
                self.heard.join("\n")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask(&self, daemon: &str, order: &str) -> String {
        let address = self
            .plan
            .sockets
            .iter()
            .find(|socket| socket.owner == daemon)
            .unwrap();
        let Address::Tcp(address) = address.address else {
            panic!("not tcp")
        };
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        writeln!(stream, "{order}").unwrap();
        let mut answer = String::new();
        // A daemon that dies on purpose resets the connection.
        let _ = stream.read_to_string(&mut answer);
        answer.trim().into()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut rmaild) = self.rmaild.take() {
            let _ = sys::process::terminate(rmaild.id());
            let _ = rmaild.wait();
        }
    }
}

#[test]
fn every_daemon_gets_its_sockets_user_and_credentials_and_nothing_else() {
    for uid in everybody() {
        let mut world = World::started(uid);
        for (name, number) in NAMES.iter().zip(4_100_000_u32..) {
            let answer = world.ask(name, "who");
            let words: Vec<&str> = answer.split(' ').collect();
            let (user, groups) = if uid == 0 {
                (number, format!("[{number}]"))
            } else {
                (uid, String::new())
            };
            assert_eq!(words[1], user.to_string(), "{answer}");
            if uid == 0 {
                assert_eq!(words[3], groups);
            }
            assert!(answer.contains(&format!("port-{name}")));
            assert_eq!(
                fs::read_to_string(world.at(&format!("run/pids/{name}")))
                    .unwrap()
                    .trim(),
                words[0]
            );
            assert_eq!(world.ask(name, "credential"), "first 0");
            let environment = world.ask(name, "environment");
            assert!(
                !environment.contains("SECRET")
                    && ["LISTEN_FDNAMES", "RMAIL_LOG_FORMAT"]
                        .iter()
                        .all(|name| environment.contains(name)),
                "{environment}"
            );
            let descriptors: Vec<String> = world
                .ask(name, "descriptors")
                .split(' ')
                .map(str::to_owned)
                .collect();
            // 0 1 2, the sockets, and the connection that asks.
            assert_eq!(
                descriptors.len(),
                if *name == "deliverd" { 6 } else { 5 },
                "{descriptors:?}"
            );
        }
        assert_eq!(
            fs::read_to_string(world.at("run/rmaild.pid"))
                .unwrap()
                .trim(),
            world.pid().to_string()
        );
        if uid == 0 {
            assert_eq!(
                fs::metadata(world.at("run/deliverd-smtpd.sock"))
                    .unwrap()
                    .uid(),
                4_100_000
            );
        } else {
            assert!(world.heard.iter().any(|line| {
                line.contains("not started as root: all daemons run as uid 65534") || !is_root()
            }));
        }
        world.signal("-TERM");
        assert_eq!(world.end(), 0);
        assert!(
            !world.at("run/deliverd-smtpd.sock").exists()
                && !world.at("run/credentials/smtpd").exists()
        );
    }
}

#[test]
fn as_root_a_daemon_sees_only_what_it_was_promised() {
    if !is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let world = World::started(0);
    let store = world.at("state/store/x");
    assert_eq!(
        world.ask("deliverd", &format!("open {}", store.display())),
        "opened"
    );
    assert_eq!(
        world.ask("smtpd", &format!("open {}", store.display())),
        "No such file or directory"
    );
    assert_eq!(
        world.ask("smtpd", &format!("read {}", store.display())),
        "No such file or directory"
    );
    if !kernel_before(6, 10) {
        assert_eq!(
            world.ask(
                "deliverd",
                &format!("link {}", store.with_file_name("linked").display())
            ),
            "linked"
        );
    }
    assert_eq!(world.ask("smtpd", "open /x"), "Read-only file system");
    assert_eq!(
        world.ask(
            "smtpd",
            &format!("open {}", world.at("scripts/new").display())
        ),
        "Read-only file system"
    );
    assert_eq!(
        world.ask("smtpd", "read /etc/passwd"),
        "No such file or directory"
    );
    let root = world.ask("smtpd", "see");
    assert!(
        !root.contains("proc") && !root.contains("home") && !root.contains("root"),
        "{root}"
    );
    let status = |pid: &str| fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for name in NAMES {
        let pid = fs::read_to_string(world.at(&format!("run/pids/{name}"))).unwrap();
        let status = status(pid.trim());
        for line in [
            "CapInh:\t",
            "CapPrm:\t",
            "CapEff:\t",
            "CapBnd:\t",
            "CapAmb:\t",
        ] {
            assert!(
                status.contains(&format!("{line}0000000000000000")),
                "{name}: {status}"
            );
        }
        assert!(status.contains("NoNewPrivs:\t1"));
        let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        assert_eq!(
            space(pid.trim()) == space("self"),
            name == "relayd",
            "{name}"
        );
    }
    // CHOWN, KILL, SETGID, SETUID, SETPCAP, SYS_ADMIN.
    assert!(
        status(&world.pid().to_string()).contains("CapEff:\t00000000002001e1"),
        "{}",
        status(&world.pid().to_string())
    );
}

fn kernel_before(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|number| number.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (major, minor)
}

#[test]
fn a_daemon_that_dies_is_started_again_and_waiting_clients_are_served() {
    for uid in everybody() {
        let mut world = World::started(uid);
        let before = world.ask("smtpd", "who");
        world.ask("smtpd", "die");
        let after = world.ask("smtpd", "who");
        assert!(!after.is_empty() && before != after);
        world.hear("smtpd exited status=3 restart in 0s");
        world.ask("smtpd", "die");
        world.hear("smtpd exited status=3 restart in 1s");
        assert!(
            !world.ask("smtpd", "who").is_empty(),
            "a client that came while it was down was not served"
        );
    }
}

#[test]
fn a_daemon_that_says_78_stops_all() {
    for uid in everybody() {
        let mut world = World::started(uid);
        world.ask("imapd", "useless");
        assert_eq!(world.end(), 78);
    }
}

#[test]
fn a_daemon_that_never_lives_ends_the_start() {
    for uid in everybody() {
        let world = World::new(uid);
        fs::write(
            world.home.path().join("scripts/relayd.py"),
            "raise SystemExit(70)",
        )
        .unwrap();
        let (status, line) = refused(world, "giving up");
        assert_eq!(status, 71);
        assert!(line.contains("relayd died 4 times"), "{line}");
    }
}

#[test]
fn those_who_ask_are_stopped_before_those_who_answer() {
    for uid in everybody() {
        let mut world = World::started(uid);
        world.signal("-TERM");
        world.hear("rmaild: stopped");
        let order: Vec<&str> = world
            .heard
            .iter()
            .filter(|line| line.ends_with(" stopping"))
            .map(|line| line.split(' ').nth(1).unwrap())
            .collect();
        assert_eq!(order.len(), 5, "{:?}", world.heard);
        assert_eq!(order[3..], ["relayd", "deliverd"]);
        assert_eq!(world.end(), 0);
    }
}

#[test]
fn reload_brings_new_credentials_and_survives_a_bad_configuration() {
    for uid in everybody() {
        let mut world = World::started(uid);
        fs::write(world.at("key.pem"), "second\n").unwrap();
        world.signal("-HUP");
        world.hear("rmaild: reloaded");
        assert_eq!(
            world.ask("smtpd", "credential").split(' ').next().unwrap(),
            "second"
        );
        fs::write(world.at("plan"), "nonsense").unwrap();
        world.signal("-HUP");
        world.hear("not reloaded: line 1 of the launch plan");
        assert_eq!(
            world.ask("smtpd", "credential").split(' ').next().unwrap(),
            "second"
        );
        world.plan.daemons[0].nofile = 300;
        fs::write(world.at("plan"), world.plan.to_string()).unwrap();
        world.signal("-HUP");
        world.hear("restart needed");
    }
}

#[test]
fn a_reload_that_cannot_read_one_credential_replaces_none() {
    for uid in everybody() {
        let mut world = World::started(uid);
        fs::write(world.at("key.pem"), "second\n").unwrap();
        let source = world.at("missing.pem");
        for daemon in &mut world.plan.daemons {
            daemon.credentials.push(Credential {
                name: "tls.crt".into(),
                source: source.clone(),
            });
        }
        fs::write(world.at("plan"), world.plan.to_string()).unwrap();
        world.signal("-HUP");
        world.hear("not reloaded: cannot copy");
        assert_eq!(world.ask("smtpd", "credential"), "first 0");
    }
}

/// Starts a world that must not come up; gives the status and the last line that holds `text`.
fn refused(mut world: World, text: &str) -> (i32, String) {
    world.start();
    let line = world.hear(text);
    (world.end(), line)
}

#[test]
fn what_is_wrong_at_start_is_told_with_what_to_do() {
    for uid in everybody() {
        let mut world = World::new(uid);
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        world.plan.sockets[0].address = Address::Tcp(address);
        let (status, line) = refused(world, "cannot listen on");
        assert_eq!(status, 71);
        assert!(
            line.contains(&address.to_string())
                && line.contains("port-smtpd")
                && line.contains("ss -ltnp"),
            "{line}"
        );

        let mut world = World::new(uid);
        world.plan.daemons[1].program = "/usr/bin/no-such-program".into();
        let (status, line) = refused(world, "cannot start imapd");
        assert_eq!(status, 71);
        assert!(line.contains("/usr/bin/no-such-program"), "{line}");

        let mut world = World::new(uid);
        world.plan.daemons[1].credentials[0].source = world.at("missing.pem");
        let (status, line) = refused(world, "cannot copy");
        assert_eq!(status, 78);
        assert!(line.contains("missing.pem for imapd"), "{line}");

        let world = World::new(uid);
        fs::write(world.at("refuse"), "config.json: smtp.prot: unknown key").unwrap();
        assert_eq!(refused(world, "nothing was started").0, 78);

        let world = World::new(uid);
        fs::create_dir(world.at("run")).unwrap();
        if is_root() {
            chown(world.at("run"), Some(uid), None).unwrap();
        }
        fs::set_permissions(world.at("run"), Permissions::from_mode(0o777)).unwrap();
        assert_eq!(refused(world, "can be written by others").0, 77);
    }
}

#[test]
fn a_second_supervisor_is_refused_and_a_killed_one_replaced() {
    for uid in everybody() {
        let mut world = World::started(uid);
        let mut command = Command::new(world.at("rmaild"));
        if is_root() {
            command.uid(uid).gid(uid);
        }
        let second = command.arg(world.at("config.json")).output().unwrap();
        assert_eq!(second.status.code(), Some(71));
        assert!(
            String::from_utf8_lossy(&second.stderr)
                .contains(&format!("another rmaild (pid {})", world.pid()))
        );
        let smtpd = world.ask("smtpd", "who");
        let pid = smtpd.split(' ').next().unwrap().to_owned();
        world.signal("-KILL");
        assert_eq!(world.end(), -1);
        let deadline = Instant::now() + PATIENCE;
        while is_running(&pid) {
            assert!(
                Instant::now() < deadline,
                "a daemon outlived its supervisor"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        world.start();
        world.hear("rmaild: ready");
    }
}

/// An orphan that ended may stay unreaped in a container without an init.
fn is_running(pid: &str) -> bool {
    fs::read_to_string(Path::new("/proc").join(pid).join("stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn as_root_the_programs_may_lie_where_nobody_can_go() {
    if !is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let mut world = World::new(0);
    let closed = world.at("closed");
    fs::create_dir(&closed).unwrap();
    for name in ["rmaild", "rmailctl"] {
        fs::rename(world.at(name), closed.join(name)).unwrap();
    }
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(closed.join("rmaild"), world.at("rmaild")).unwrap();
    world.start();
    world.hear("rmaild: ready");
}

#[test]
fn as_root_a_plan_that_makes_a_daemon_root_is_refused() {
    if !is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let mut world = World::new(0);
    world.plan.daemons[0].uid = 0;
    assert_eq!(refused(world, "would run as root").0, 78);
}

#[test]
fn as_nobody_a_low_port_is_refused_with_advice() {
    let uid = if is_root() {
        NOBODY
    } else {
        sys::user::myself().uid
    };
    if fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .is_ok_and(|start| start.trim() == "0")
    {
        eprintln!("SKIPPED: this machine lets everybody bind low ports");
        return;
    }
    let mut world = World::new(uid);
    world.plan.sockets[0].address = Address::Tcp("127.0.0.1:25".parse().unwrap());
    assert_eq!(refused(world, "need root").0, 77);
}
