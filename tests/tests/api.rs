//! The HTTP side with `curl`: health and login.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::time::Duration;

use serde_json::{Value, json};
use system_tests::options::PASSWORD;
use system_tests::patience::wait_for;
use system_tests::{Options, System, program, skip_without};

/// The status code and the body.
fn curl(system: &System, url: &str, body: Option<&Value>) -> (String, String) {
    let mut curl = program::command("curl");
    curl.args([
        "--silent",
        "--max-time",
        "20",
        "--write-out",
        "\n%{http_code}",
        "--cacert",
    ])
    .arg(system.ca_file());
    if let Some(body) = body {
        curl.args([
            "--header",
            "Content-Type: application/json",
            "--data",
            &body.to_string(),
        ]);
    }
    let answer = program::run(curl.arg(url), b"", Duration::from_secs(30)).succeeded();
    let (body, code) = answer.stdout.rsplit_once('\n').unwrap();
    (code.to_owned(), body.to_owned())
}

#[test]
fn health_is_told_over_http_and_https() {
    skip_without!("curl");
    let system = System::start(Options::without_users());
    for url in [
        format!("http://127.0.0.1:{}/healthz", system.port("api")),
        format!("https://localhost:{}/healthz", system.port("apis")),
    ] {
        assert_eq!(curl(&system, &url, None).0, "200", "{url}");
    }
}

#[test]
fn health_is_bad_while_the_store_is_frozen_and_good_again_after() {
    skip_without!("curl");
    let system = System::start(Options::without_users());
    let url = format!("http://127.0.0.1:{}/healthz", system.port("api"));
    let deliverd = system.pid("deliverd").unwrap();
    program::freeze(deliverd);
    let frozen = curl(&system, &url, None).0;
    program::send(deliverd, rustix::process::Signal::CONT);
    assert_eq!(frozen, "503");
    let again = wait_for(Duration::from_secs(10), || {
        (curl(&system, &url, None).0 == "200").then_some(())
    });
    assert!(again.is_ok());
}

#[test]
fn a_login_gives_a_token_and_a_wrong_password_gives_401() {
    skip_without!("curl");
    let system = System::start(Options::alice());
    let url = format!("https://localhost:{}/auth/login", system.port("apis"));
    let (code, body) = curl(
        &system,
        &url,
        Some(&json!({"username": "alice@example.test", "password": PASSWORD})),
    );
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert!(
        code == "200" && answer["token"].as_str().unwrap().len() >= 32,
        "{code} {body}"
    );
    for (user, password) in [
        ("alice@example.test", "wrong"),
        ("nobody@example.test", PASSWORD),
    ] {
        let (code, body) = curl(
            &system,
            &url,
            Some(&json!({"username": user, "password": password})),
        );
        assert_eq!(code, "401", "{body}");
    }
    assert!(!system.log().contains(PASSWORD), "a password is in the log");
}
