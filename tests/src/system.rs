//! A running rmail of a test's own: `rmaild` and its six daemons on loopback ports, in a directory that goes with it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::certificate::Certificate;
use crate::maildir::Account;
use crate::options::{Options, lay_over};
use crate::patience::wait_for;
use crate::program::{self, Outcome, Service};
use loopback::Port;

/// The daemons, in the order in which a message comes in.
pub const DAEMONS: [&str; 6] = ["smtpd", "deliverd", "imapd", "relayd", "apid", "keyd"];

/// The listeners and the keys of their ports in the configuration.
const LISTENERS: [(&str, &str, &str); 7] = [
    ("smtp", "smtp", "port"),
    ("submission", "smtp", "submission_port"),
    ("submissions", "smtp", "smtps_port"),
    ("imap", "imap", "port"),
    ("imaps", "imap", "imaps_port"),
    ("api", "exchange_api", "port"),
    ("apis", "exchange_api", "secure_port"),
];

/// Users of the daemons when root separates them; no accounts of these numbers need to exist.
const FIRST_UID: u32 = 64_101;

/// An rmail that runs until this is dropped.
#[derive(Debug)]
pub struct System {
    rmaild: Service,
    home: Home,
}

/// Everything a system needs before it starts: directory, ports, certificate, configuration.
#[derive(Debug)]
pub struct Home {
    dir: tempfile::TempDir,
    ports: BTreeMap<&'static str, Port>,
    certificate: Certificate,
    run_as: Option<u32>,
    programs: PathBuf,
    /// The directory with the certificates of authorities that this machine seems to trust.
    authorities: Option<PathBuf>,
}

impl System {
    /// Starts one and waits until all daemons are ready and the users exist.
    #[must_use]
    #[track_caller]
    pub fn start(options: Options) -> Self {
        Self::launch(Home::prepare(&options), &options)
    }

    /// Starts the one prepared in `home` and makes the users.
    #[must_use]
    #[track_caller]
    pub fn launch(home: Home, options: &Options) -> Self {
        let system = home.launch();
        system.make_users(options);
        system
    }

    /// Makes the users of `options`, as [`System::start`] does.
    pub fn make_users(&self, options: &Options) {
        for (address, password) in &options.users {
            self.rmailctl_with(&["user", "add", address, "--password-stdin"], password)
                .succeeded();
        }
    }

    /// The files, ports and certificate.
    #[must_use]
    pub const fn home(&self) -> &Home {
        &self.home
    }

    /// Where the listener of that name is: `smtp submission submissions imap imaps api apis`.
    #[must_use]
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.home.address(listener)
    }

    /// Port of the listener of that name.
    #[must_use]
    pub fn port(&self, listener: &str) -> u16 {
        self.home.port(listener)
    }

    /// The directory of this system, for a test's own files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.home.path()
    }

    /// The CA file that clients trust.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.home.certificate.cert
    }

    /// The files of an account.
    #[must_use]
    pub fn account(&self, address: &str) -> Account {
        Account::in_store(&self.home.mail_root().join("store/mailstore"), address)
    }

    /// Process id of a daemon, as `rmaild` wrote it; `None` while it is down or only being started.
    #[must_use]
    pub fn pid(&self, daemon: &str) -> Option<u32> {
        let file = self.home.run_dir().join("pids").join(daemon);
        let pid: u32 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
        is_running(pid).then_some(pid)
    }

    /// Processor time that a daemon has spent until now, in steps of ten milliseconds.
    #[must_use]
    pub fn time_of(&self, daemon: &str) -> Duration {
        let pid = self.pid(daemon).expect("it runs");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let (_, rest) = stat.rsplit_once(')').expect("proc_pid_stat(5)");
        // utime and stime, in hundredths of a second.
        let ticks: u64 = rest
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().expect("proc_pid_stat(5)"))
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Process id of the supervisor.
    #[must_use]
    pub fn supervisor_pid(&self) -> u32 {
        self.rmaild.pid()
    }

    /// Kills a daemon like a crash would. Returns the process id it had.
    pub fn kill(&self, daemon: &str) -> u32 {
        let pid = wait_for(Duration::from_secs(15), || self.pid(daemon))
            .unwrap_or_else(|error| panic!("{daemon} is not running: {error}\n{}", self.log()));
        program::send(pid, Signal::KILL);
        pid
    }

    /// Waits until the daemon runs again under another process id than `before`.
    pub fn wait_for_restart(&self, daemon: &str, before: u32) -> u32 {
        wait_for(Duration::from_secs(30), || {
            self.pid(daemon).filter(|pid| *pid != before)
        })
        .unwrap_or_else(|error| panic!("{daemon} was not started again: {error}\n{}", self.log()))
    }

    /// Runs `rmailctl --config FILE ARGUMENTS`.
    #[track_caller]
    pub fn rmailctl(&self, arguments: &[&str]) -> Outcome {
        self.rmailctl_with(arguments, "")
    }

    /// The same with a line on stdin.
    #[track_caller]
    pub fn rmailctl_with(&self, arguments: &[&str], stdin: &str) -> Outcome {
        let mut command = self.home.command("rmailctl");
        command
            .arg("--config")
            .arg(self.home.config_file())
            .args(arguments);
        program::run(
            &mut command,
            format!("{stdin}\n").as_bytes(),
            Duration::from_secs(30),
        )
    }

    /// What the supervisor and the daemons logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.rmaild.log()
    }

    /// SIGHUP to the supervisor.
    pub fn reload(&self) {
        program::send(self.rmaild.pid(), Signal::HUP);
    }

    /// SIGTERM to the supervisor, and how it ended.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        program::send(self.rmaild.pid(), Signal::TERM);
        self.rmaild
            .end_within(Duration::from_secs(20))
            .unwrap_or_else(|| panic!("rmaild did not stop within 20 s of SIGTERM\n{}", self.log()))
    }

    /// Starts the same system again after [`System::stop`].
    pub fn start_again(&mut self) {
        assert!(self.rmaild.ended().is_some(), "stop it first");
        self.rmaild = self.home.spawn_until_ready();
    }

    fn shut_down(&mut self) {
        let daemons: Vec<u32> = DAEMONS
            .iter()
            .filter_map(|daemon| self.pid(daemon))
            .collect();
        self.rmaild.stop(Duration::from_secs(15));
        for pid in daemons {
            // Without its supervisor nothing stops a daemon that is left over; it must not outlive the test.
            if wait_for(Duration::from_secs(2), || (!is_running(pid)).then_some(())).is_err() {
                program::send(pid, Signal::KILL);
            }
        }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn is_running(pid: u32) -> bool {
    // A process that ended and was not reaped yet is still in /proc, as a zombie.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.trim_start().starts_with('Z'))
    })
}

impl Home {
    /// Makes the directory, the certificate and `config.json`; starts nothing.
    #[must_use]
    pub fn prepare(options: &Options) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("rmail-")
            .tempdir_in(&options.below)
            .expect("a directory to make ours in is writable");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))
            .expect("our own directory");
        let certificate = Certificate::make(&dir.path().join("tls"), "mail.example.test");
        let ports = LISTENERS
            .iter()
            .map(|(name, ..)| (*name, Port::reserve()))
            .collect();
        let mut home = Self {
            dir,
            ports,
            certificate,
            run_as: options.run_as.filter(|_| program::is_root()),
            programs: built_programs(),
            authorities: None,
        };
        if home.run_as.is_some() && !is_open_to_others(&home.programs) {
            home.bring_programs();
        }
        home.make_directories();
        let mut config = home.default_config();
        lay_over(&mut config, &options.config);
        home.write_config(&serde_json::to_string_pretty(&config).expect("JSON"));
        home
    }

    /// From the next start on the daemons see this certificate as that of the only authority this machine trusts. Only root can do that: in
    /// a mount namespace of theirs.
    pub fn trust(&mut self, certificate: &Path) {
        let directory = self.path().join("authorities");
        std::fs::create_dir_all(&directory).expect("our own directory");
        std::fs::copy(certificate, directory.join("ca-certificates.crt"))
            .expect("our own directory");
        self.authorities = Some(directory);
    }

    /// Writes another text into `config.json`.
    pub fn write_config(&self, text: &str) {
        std::fs::write(self.config_file(), text).expect("our own file");
    }

    /// Lays `patch` over `config.json` as it is now.
    pub fn configure(&self, patch: &Value) {
        let text = std::fs::read_to_string(self.config_file()).expect("our own file");
        let mut config: Value = serde_json::from_str(&text).expect("we wrote it");
        lay_over(&mut config, patch);
        self.write_config(&serde_json::to_string_pretty(&config).expect("JSON"));
    }

    /// The configuration the harness writes when a test asks for nothing special.
    #[must_use]
    pub fn default_config(&self) -> Value {
        let mut config = json!({
            "version": 1,
            "hostname": "mail.example.test",
            "domains": ["example.test"],
            "mail_root": self.mail_root(),
            "run_dir": self.run_dir(),
            "log_level": "debug",
            "tls": {"cert_file": self.certificate.cert, "key_file": self.certificate.key},
            "smtp": {"host": "127.0.0.1"},
            "imap": {"host": "127.0.0.1", "cleartext_login_on_loopback": true},
            "exchange_api": {"host": "127.0.0.1"},
            "limits": {"connections_per_address": 0, "auth_failures": 0, "auth_failures_per_network": 0},
            // A name server that answers nothing: no test asks the machine's own.
            "relay": {"dns": ["127.0.0.1:9"]},
        });
        for (name, section, key) in LISTENERS {
            config[section][key] = json!(self.port(name));
        }
        if self.separates_users() {
            for (number, daemon) in (FIRST_UID..).zip(DAEMONS) {
                config["users"][daemon] = json!(number);
            }
        }
        config
    }

    /// Whether the supervisor is root here and so gives every daemon its own user.
    #[must_use]
    pub fn separates_users(&self) -> bool {
        program::is_root() && self.run_as.is_none()
    }

    /// The user a daemon runs as.
    #[must_use]
    pub fn uid(&self, daemon: &str) -> u32 {
        let place = (FIRST_UID..).zip(DAEMONS).find(|(_, name)| *name == daemon);
        match place {
            Some((uid, _)) if self.separates_users() => uid,
            Some(_) => self
                .run_as
                .unwrap_or_else(|| rustix::process::geteuid().as_raw()),
            None => panic!("there is no daemon {daemon}"),
        }
    }

    /// Copies our own programs to where every user may start them.
    fn bring_programs(&mut self) {
        let copies = self.path().join("programs");
        std::fs::create_dir(&copies).expect("our own directory");
        for name in DAEMONS.into_iter().chain(["rmaild", "rmailctl"]) {
            std::fs::copy(built(&self.programs, name), copies.join(name))
                .expect("our own directory has room for the programs");
        }
        self.programs = copies;
    }

    fn make_directories(&self) {
        for (path, owner, mode) in [
            (self.mail_root(), None, 0o755),
            (self.mail_root().join("store"), Some("deliverd"), 0o700),
            (self.mail_root().join("queue"), Some("relayd"), 0o700),
            (self.mail_root().join("keys"), Some("keyd"), 0o700),
            (self.run_dir(), None, 0o755),
        ] {
            std::fs::create_dir_all(&path).expect("our own directory");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
                .expect("our own directory");
            let uid = owner.map(|daemon| self.uid(daemon)).or(self.run_as);
            if let (true, Some(uid)) = (program::is_root(), uid) {
                std::os::unix::fs::chown(&path, Some(uid), Some(uid)).expect("root may");
            }
        }
        if let Some(uid) = self.run_as {
            std::os::unix::fs::chown(&self.certificate.key, Some(uid), Some(uid))
                .expect("root may");
        }
    }

    /// Starts `rmaild` here and waits until it says that everything is ready.
    #[must_use]
    #[track_caller]
    pub fn launch(self) -> System {
        System {
            rmaild: self.spawn_until_ready(),
            home: self,
        }
    }

    /// Runs `rmaild` here although it cannot start, and returns what it says.
    #[track_caller]
    pub fn fail_to_launch(&self) -> Outcome {
        let mut command = self.command("rmaild");
        program::run(
            command.arg(self.config_file()),
            b"",
            Duration::from_secs(30),
        )
    }

    #[track_caller]
    fn spawn_until_ready(&self) -> Service {
        let notify = self.path().join("notify");
        // The socket of an earlier start may be left; anything else in the way fails the bind below.
        drop(std::fs::remove_file(&notify));
        let socket = UnixDatagram::bind(&notify).expect("our own directory");
        std::fs::set_permissions(&notify, std::fs::Permissions::from_mode(0o777))
            .expect("our own socket");
        socket.set_nonblocking(true).expect("a socket");
        let mut command = match &self.authorities {
            None => self.command("rmaild"),
            Some(authorities) => {
                let enter = "mount --bind \"$0\" /etc/ssl/certs && exec \"$@\"";
                let mut command = program::command("unshare");
                command
                    .args(["--mount", "--propagation", "private", "sh", "-c", enter])
                    .arg(authorities)
                    .arg(built(&self.programs, "rmaild"));
                command
            }
        };
        command
            .arg(self.config_file())
            .env("NOTIFY_SOCKET", &notify);
        let mut rmaild = Service::start(&mut command, &self.path().join("rmaild.log"));
        let outcome = wait_for(Duration::from_secs(60), || {
            if let Some(status) = rmaild.ended() {
                return Some(Err(status));
            }
            heard_ready(&socket).then_some(Ok(()))
        });
        match outcome {
            Ok(Ok(())) => rmaild,
            Ok(Err(status)) => panic!("rmaild ended at its start: {status}\n{}", rmaild.log()),
            Err(error) => panic!("rmaild is not ready: {error}\n{}", rmaild.log()),
        }
    }

    /// A command line for one of our own programs.
    #[must_use]
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(built(&self.programs, name));
        if let Some(uid) = self.run_as {
            command.uid(uid).gid(uid).current_dir("/");
        }
        command
    }

    /// The directory of everything here.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `mail_root` of the configuration.
    #[must_use]
    pub fn mail_root(&self) -> PathBuf {
        self.path().join("mail")
    }

    /// `run_dir` of the configuration.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.path().join("run")
    }

    /// `config.json`.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.path().join("config.json")
    }

    /// The certificate.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Port of the listener of that name.
    #[must_use]
    pub fn port(&self, listener: &str) -> u16 {
        self.ports
            .get(listener)
            .unwrap_or_else(|| panic!("there is no listener {listener}"))
            .number()
    }

    /// Address of the listener of that name.
    #[must_use]
    pub fn address(&self, listener: &str) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port(listener)).into()
    }
}

fn heard_ready(socket: &UnixDatagram) -> bool {
    let mut packet = [0; 4096];
    while let Ok(length) = socket.recv(&mut packet) {
        if String::from_utf8_lossy(&packet[..length])
            .lines()
            .any(|line| line == "READY=1")
        {
            return true;
        }
    }
    false
}

/// Whether every directory down to that one can be searched by others.
fn is_open_to_others(directory: &Path) -> bool {
    directory.ancestors().all(|path| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    })
}

/// Where our own programs are, from the same build as this one.
fn built_programs() -> PathBuf {
    let this = std::env::current_exe().expect("Linux knows");
    // target/PROFILE/deps/TEST, or target/PROFILE/PROGRAM
    let directory = this.parent().expect("a program is in a directory");
    let profile = directory
        .parent()
        .filter(|_| directory.ends_with("deps"))
        .unwrap_or(directory);
    profile.to_path_buf()
}

fn built(programs: &Path, name: &str) -> PathBuf {
    let path = programs.join(name);
    assert!(
        path.is_file(),
        "{} does not exist; run `cargo build --workspace` first",
        path.display()
    );
    path
}
