//! What keeps the system from starting is told with its place and its remedy, and nothing is left running.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::json;
use system_tests::options::Options;
use system_tests::program::{self, Outcome};
use system_tests::system::{DAEMONS, Home};
use system_tests::{System, skip_unless};

/// sysexits(3), EX_CONFIG.
const CONFIG: i32 = 78;

fn nothing_runs(home: &Home) {
    for daemon in DAEMONS {
        let pid =
            std::fs::read_to_string(home.run_dir().join("pids").join(daemon)).unwrap_or_default();
        assert!(
            pid.is_empty() || !std::path::Path::new("/proc").join(pid.trim()).exists(),
            "{daemon} still runs as {pid}"
        );
    }
    for listener in ["smtp", "imap"] {
        assert!(
            TcpListener::bind(home.address(listener)).is_ok(),
            "{listener} is still served"
        );
    }
}

#[track_caller]
fn says(outcome: &Outcome, words: &[&str]) {
    for word in words {
        assert!(
            outcome.stderr.contains(word),
            "\"{word}\" is missing in: {}",
            outcome.text()
        );
    }
}

fn with_text(change: impl FnOnce(String) -> String) -> (Home, Outcome) {
    let home = Home::prepare(&Options::without_users());
    let text = std::fs::read_to_string(home.config_file()).unwrap();
    home.write_config(&change(text));
    let outcome = home.fail_to_launch();
    nothing_runs(&home);
    (home, outcome)
}

/// The line of the written configuration on which `word` is.
fn line(home: &Home, word: &str) -> usize {
    let text = std::fs::read_to_string(home.config_file()).unwrap();
    text.lines().position(|line| line.contains(word)).unwrap() + 1
}

#[test]
fn an_unknown_key_stops_the_start_with_78_and_is_named_with_its_line() {
    let (home, outcome) =
        with_text(|text| text.replacen("\"submission_port\"", "\"submision_port\"", 1));
    assert_eq!(outcome.code(), CONFIG, "{}", outcome.text());
    let place = format!("config.json:{}:", line(&home, "submision_port"));
    says(
        &outcome,
        &[&place, "smtp.submision_port", "submission_port`"],
    );
}

#[test]
fn a_wrong_type_stops_the_start_with_78_and_is_named_with_its_line() {
    let (home, outcome) = with_text(|text| {
        text.replacen("\"hostname\": \"mail.example.test\"", "\"hostname\": 12", 1)
    });
    assert_eq!(outcome.code(), CONFIG, "{}", outcome.text());
    let place = format!("config.json:{}:", line(&home, "\"hostname\""));
    says(&outcome, &[&place, "hostname", "string"]);
}

#[test]
fn an_impossible_value_stops_the_start_with_78_and_the_allowed_ones_are_told() {
    let (home, outcome) = with_text(|text| {
        text.replacen(
            "\"submission_port\"",
            "\"max_recipients\": 5, \"submission_port\"",
            1,
        )
    });
    assert_eq!(outcome.code(), CONFIG, "{}", outcome.text());
    let place = format!("config.json:{}:", line(&home, "max_recipients"));
    says(&outcome, &[&place, "max_recipients", "at least 100"]);
}

#[test]
fn text_that_is_no_json_stops_the_start_with_78_and_its_line() {
    let (_, outcome) = with_text(|_| "{\n  \"version\": 1,\n  hostname: x\n}\n".into());
    assert_eq!(outcome.code(), CONFIG, "{}", outcome.text());
    says(&outcome, &["config.json:3:"]);
}

#[test]
fn a_missing_configuration_says_how_to_make_one() {
    let home = Home::prepare(&Options::without_users());
    std::fs::remove_file(home.config_file()).unwrap();
    let outcome = home.fail_to_launch();
    assert_eq!(outcome.code(), CONFIG, "{}", outcome.text());
    says(&outcome, &["config.json", "rmailctl init"]);
}

#[test]
fn every_daemon_by_itself_refuses_a_bad_configuration_with_78() {
    let home = Home::prepare(&Options::without_users().config(&json!({"imap": {"prot": 143}})));
    for daemon in DAEMONS {
        let outcome = program::run(
            home.command(daemon).arg(home.config_file()),
            b"",
            Duration::from_secs(20),
        );
        assert_eq!(outcome.code(), CONFIG, "{daemon}: {}", outcome.text());
        says(&outcome, &["config.json:", "imap.prot", "imaps_port"]);
    }
}

#[test]
fn config_check_finds_the_same_fault_without_starting_anything() {
    let home = Home::prepare(&Options::without_users().config(&json!({"imap": {"prot": 143}})));
    let outcome = program::run(
        home.command("rmailctl")
            .args(["config", "check"])
            .arg(home.config_file()),
        b"",
        Duration::from_secs(20),
    );
    assert!(!outcome.status.success());
    says(&outcome, &["config.json:", "imap.prot"]);
}

#[test]
fn a_port_in_use_is_named_with_the_way_to_find_its_user() {
    let home = Home::prepare(&Options::without_users());
    let other = TcpListener::bind(home.address("imap")).unwrap();
    let outcome = home.fail_to_launch();
    assert_ne!(outcome.code(), 0);
    says(
        &outcome,
        &[
            &home.address("imap").to_string(),
            "ss -ltnp",
            "another port",
        ],
    );
    drop(other);
    nothing_runs(&home);
}

#[test]
fn a_second_supervisor_in_the_same_run_directory_is_refused() {
    let system = System::start(Options::without_users());
    let outcome = system.home().fail_to_launch();
    assert_ne!(outcome.code(), 0);
    says(
        &outcome,
        &["another rmaild", &system.supervisor_pid().to_string()],
    );
    assert!(system.pid("smtpd").is_some(), "the first one lives on");
}

#[test]
fn a_missing_key_file_is_named() {
    let home = Home::prepare(&Options::without_users());
    std::fs::remove_file(&home.certificate().key).unwrap();
    let outcome = home.fail_to_launch();
    assert_ne!(outcome.code(), 0);
    says(&outcome, &["key.pem"]);
    nothing_runs(&home);
}

#[test]
fn a_key_file_that_may_not_be_read_is_named_with_who_wants_to_read_it() {
    skip_unless!(
        program::is_root(),
        "root is needed to make a file that another user cannot read"
    );
    let home = Home::prepare(&Options::without_users().run_as(65_534));
    std::os::unix::fs::chown(&home.certificate().key, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(
        &home.certificate().key,
        std::fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let outcome = home.fail_to_launch();
    assert_ne!(outcome.code(), 0);
    says(&outcome, &["key.pem", "ermission", "65534"]);
    nothing_runs(&home);
}

#[test]
fn a_certificate_that_is_none_is_named() {
    let home = Home::prepare(&Options::without_users());
    std::fs::write(&home.certificate().cert, "no certificate\n").unwrap();
    let outcome = home.fail_to_launch();
    assert_eq!(outcome.code(), CONFIG, "{}", outcome.text());
    says(&outcome, &["tls.crt"]);
    nothing_runs(&home);
}

#[test]
fn a_store_that_belongs_to_somebody_else_is_named_with_the_remedy() {
    skip_unless!(
        program::is_root(),
        "root is needed to make a directory of another user"
    );
    let home = Home::prepare(&Options::without_users());
    let store = home.mail_root().join("store");
    std::os::unix::fs::chown(&store, Some(0), Some(0)).unwrap();
    let outcome = home.fail_to_launch();
    assert_ne!(outcome.code(), 0);
    says(
        &outcome,
        &[
            &store.display().to_string(),
            "chown",
            &home.uid("deliverd").to_string(),
        ],
    );
    nothing_runs(&home);
}

#[test]
fn a_store_that_cannot_be_written_is_named() {
    skip_unless!(
        program::is_root(),
        "root is needed to make a directory of another user"
    );
    let home = Home::prepare(&Options::without_users().run_as(65_534));
    let store = home.mail_root().join("store");
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o500)).unwrap();
    let outcome = home.fail_to_launch();
    assert_ne!(outcome.code(), 0);
    says(&outcome, &[&store.display().to_string(), "ermission"]);
    nothing_runs(&home);
}

#[test]
fn sigterm_stops_everything_with_status_0() {
    let mut system = System::start(Options::without_users());
    let pids: Vec<u32> = DAEMONS
        .iter()
        .map(|daemon| system.pid(daemon).unwrap())
        .collect();
    let status = system.stop();
    assert_eq!(status.code(), Some(0), "{}", system.log());
    for pid in pids {
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "{pid} still runs"
        );
    }
    nothing_runs(system.home());
}

#[test]
fn a_system_that_was_stopped_starts_again_with_its_users_and_mail() {
    let mut system = System::start(Options::alice());
    let letter = b"Subject: stays\r\n\r\nhere\r\n";
    let mut client = system_tests::smtp::Client::hello(system.address("smtp")).unwrap();
    client
        .deliver("carol@outside.test", "alice@example.test", letter)
        .unwrap();
    drop(client);
    system.stop();
    system.start_again();
    let mut client = system_tests::imap::Client::login(
        system.address("imap"),
        "alice@example.test",
        system_tests::options::PASSWORD,
    )
    .unwrap();
    let answer = client.command("EXAMINE INBOX").unwrap().ok();
    assert!(
        answer.untagged.iter().any(|line| line == "* 1 EXISTS"),
        "{answer:?}"
    );
}
