//! What a newcomer runs first, the demo and `rmailctl init`, does what it says and leaves nothing behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use system_tests::options::{Options, PASSWORD};
use system_tests::patience::wait_for;
use system_tests::program::{self, Outcome, Service};
use system_tests::system::Home;

/// An ordinary user, `nobody`.
const ORDINARY: u32 = 65_534;

/// A directory in which everybody may make files.
fn open_directory(home: &Home, name: &str) -> PathBuf {
    let path = home.path().join(name);
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    path
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn the_demo_shows_the_round_trip_and_leaves_nothing() {
    let home = Home::prepare(&Options::without_users());
    let temporary = open_directory(&home, "tmp");
    let mut demo = home.command("rmailctl");
    demo.args(["demo", "--once"]).env("TMPDIR", &temporary);
    let outcome = program::run(&mut demo, b"", Duration::from_secs(90)).succeeded();
    assert!(
        outcome.stdout.contains("the round trip is complete"),
        "{}",
        outcome.text()
    );
    assert!(is_empty(&temporary));
}

#[test]
fn a_demo_that_is_interrupted_at_its_start_leaves_nothing() {
    let home = Home::prepare(&Options::without_users());
    let temporary = open_directory(&home, "tmp");
    let mut demo = home.command("rmailctl");
    demo.args(["demo", "--once"]).env("TMPDIR", &temporary);
    let mut demo = Service::start(&mut demo, &home.path().join("demo.log"));
    let rmaild = wait_for(Duration::from_secs(30), || {
        let place = std::fs::read_dir(&temporary).unwrap().next()?.unwrap();
        let pid = std::fs::read_to_string(place.path().join("run/rmaild.pid")).ok()?;
        pid.trim().parse::<u32>().ok()
    })
    .unwrap_or_else(|error| panic!("no rmaild: {error}\n{}", demo.log()));
    program::send(demo.pid(), Signal::INT);
    let status = demo.end_within(Duration::from_secs(60));
    let is_left = Path::new("/proc").join(rmaild.to_string()).exists();
    if is_left {
        program::send(rmaild, Signal::TERM);
    }
    assert!(!is_left, "rmaild outlived the demo\n{}", demo.log());
    assert_eq!(
        status.unwrap().code(),
        Some(70),
        "interrupted before the round trip: {}",
        demo.log()
    );
    assert!(is_empty(&temporary));
}

fn init(home: &Home, place: &Path, password: &str) -> Outcome {
    let mut command = home.command("rmailctl");
    command
        .arg("--config")
        .arg(place.join("config.json"))
        .args(["init", "--hostname", "mail.example.test", "--user", "alice"])
        .args(["--password-stdin", "--base-port", "12000"])
        .arg("--mail-root")
        .arg(place.join("mail"))
        .arg("--run-dir")
        .arg(place.join("run"));
    program::run(
        &mut command,
        format!("{password}\n").as_bytes(),
        Duration::from_secs(60),
    )
}

#[test]
fn an_init_that_failed_can_be_run_again_and_one_that_did_not_cannot() {
    let home = Home::prepare(&Options::without_users().run_as(ORDINARY));
    let place = open_directory(&home, "etc");
    let config = place.join("config.json");

    let refused = init(&home, &place, "short");
    assert_ne!(refused.code(), 0, "{}", refused.text());
    assert!(
        refused.stderr.contains("alice@example.test"),
        "{}",
        refused.text()
    );
    assert!(!config.exists());

    init(&home, &place, PASSWORD).succeeded();
    let mut check = home.command("rmailctl");
    check.args(["config", "check"]).arg(&config);
    program::run(&mut check, b"", Duration::from_secs(10)).succeeded();
    assert!(
        place
            .join("mail/store/mailstore/domains/example.test/users/alice")
            .exists()
    );

    let again = init(&home, &place, PASSWORD);
    assert_eq!(again.code(), 64, "{}", again.text());
}
