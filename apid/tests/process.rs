//! The program itself, started the way rmaild and systemd start it: sockets by descriptor, signals, exit statuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at what it did not expect, and plays the world around apid"
)]

mod world;

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::stop;
use ipc::api::ApiEdge;
use sys::packet::PacketListener;
use tempfile::TempDir;
use tokio::net::TcpStream;
use world::{Deliverd, exchange, get, login, secure, write_certificate};

/// apid as a child, with both its ports.
struct Process {
    child: Child,
    api: SocketAddr,
    apis: SocketAddr,
    home: TempDir,
}

// The shell moves the listeners from 0 and 1 to where sd_listen_fds(3) wants them, and knows its own pid.
const START: &str = r#"exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=api:apis exec "$0" "$1""#;

fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    write_certificate(home.path());
    let at = |name: &str| home.path().join(name).display().to_string();
    let config = serde_json::json!({
        "version": 1, "hostname": "mail.example.test", "run_dir": home.path(),
        "tls": {"cert_file": at("tls.crt"), "key_file": at("tls.key")}
    });
    std::fs::write(home.path().join("config.json"), config.to_string()).unwrap();
    home
}

fn start() -> Process {
    let home = home();
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (api, apis) = (bind(), bind());
    let notify = UnixDatagram::bind(home.path().join("notify")).unwrap();
    notify
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let addresses = (api.local_addr().unwrap(), apis.local_addr().unwrap());
    let child = Command::new("sh")
        .args(["-c", START, env!("CARGO_BIN_EXE_apid")])
        .arg(home.path().join("config.json"))
        .env("CREDENTIALS_DIRECTORY", home.path())
        .env("NOTIFY_SOCKET", home.path().join("notify"))
        .stdin(OwnedFd::from(api))
        .stdout(OwnedFd::from(apis))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0; 64];
    let length = notify.recv(&mut word).expect("apid says that it is ready");
    assert_eq!(word[..length].trim_ascii_end(), b"READY=1");
    Process {
        child,
        api: addresses.0,
        apis: addresses.1,
        home,
    }
}

impl Process {
    fn signal(&self, name: &str) {
        // The shell's own kill: the program of that name is not on every machine.
        let order = format!("kill -s {name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &order]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end; exit status and log.
    fn end(&mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "apid does not end"
            );
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut log = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        (status.code(), log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has usually ended; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open_deliverd(home: &Path) -> stop::StopSender {
    let listener = PacketListener::bind(&home.join("deliverd-apid.sock")).unwrap();
    let (sender, stop) = stop::channel();
    tokio::spawn(daemon::channel::serve::<ApiEdge, _>(
        listener,
        Arc::new(Deliverd::default()),
        stop,
    ));
    sender
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_reloads_and_drains_and_no_secret_is_in_its_log() {
    let mut process = start();
    let _deliverd = open_deliverd(process.home.path());
    let mut stream = TcpStream::connect(process.api).await.unwrap();
    assert_eq!(exchange(&mut stream, get("/healthz")).await.status, 200);
    let wrong = login(r#"{"username":"alice@example.test","password":"hunter2"}"#);
    assert_eq!(exchange(&mut stream, wrong).await.status, 401);
    let ca = process.home.path().join("tls.crt");
    let dial = || async { TcpStream::connect(process.apis).await.unwrap() };
    let mut tls = secure(&ca, dial().await).await.unwrap();
    let right = login(r#"{"username":"alice@example.test","password":"p\"ass"}"#);
    let response = exchange(&mut tls, right).await;
    assert_eq!(response.json()["token"], world::TOKEN);

    write_certificate(process.home.path());
    process.signal("HUP");
    let begun = Instant::now();
    while secure(&ca, dial().await).await.is_err() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "the new certificate is not used"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(exchange(&mut tls, get("/healthz")).await.status, 200);

    process.signal("TERM");
    let (status, log) = process.end();
    assert_eq!(status, Some(0), "{log}");
    for word in [
        "ready",
        "logged in",
        "login refused",
        "certificates reloaded",
        "stopped",
    ] {
        assert!(log.contains(word), "{word} is missing:\n{log}");
    }
    for secret in ["hunter2", "p\"ass", "p\\\"ass", world::TOKEN] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_certificate_at_reload_leaves_the_old_one_in_use() {
    let mut process = start();
    let ca = process.home.path().join("old.crt");
    std::fs::copy(process.home.path().join("tls.crt"), &ca).unwrap();
    std::fs::write(process.home.path().join("tls.crt"), "no certificate").unwrap();
    process.signal("HUP");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stream = TcpStream::connect(process.apis).await.unwrap();
    assert!(secure(&ca, stream).await.is_ok());
    process.signal("TERM");
    let (status, log) = process.end();
    assert_eq!(status, Some(0));
    assert!(
        log.contains("the old certificates stay in use") && log.contains("tls.cert_file"),
        "{log}"
    );
}

fn refusal(arguments: &[&Path]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_apid"))
        .args(arguments)
        .env_remove("LISTEN_PID")
        .env("RMAIL_LOG", "apid=loud")
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_start_without_sockets_ends_with_78_and_says_who_should_start_it() {
    let home = home();
    let (status, log) = refusal(&[&home.path().join("config.json")]);
    assert_eq!(status, Some(78));
    assert!(
        log.contains("start me through rmaild or a .socket unit"),
        "{log}"
    );
}

#[test]
fn a_log_filter_that_cannot_be_understood_is_told() {
    let home = home();
    let (_, log) = refusal(&[&home.path().join("config.json")]);
    assert!(log.contains("RMAIL_LOG cannot be understood"), "{log}");
}

#[test]
fn a_start_with_a_bad_configuration_ends_with_78_and_the_place() {
    let home = home();
    let path = home.path().join("config.json");
    std::fs::write(&path, "{\n \"version\": 1,\n \"hostnam\": \"x\"\n}").unwrap();
    let (status, log) = refusal(&[&path]);
    assert_eq!(status, Some(78));
    assert!(
        log.contains("config.json:3:") && log.contains("hostnam"),
        "{log}"
    );
}

#[test]
fn a_start_without_arguments_ends_with_64_and_the_usage() {
    let (status, log) = refusal(&[]);
    assert_eq!(status, Some(64));
    assert!(log.contains("usage: apid CONFIG"), "{log}");
}
