//! Mail comes in from `swaks` and `curl`, and is read by Python's `imaplib` and `curl`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::time::Duration;

use serde_json::json;
use system_tests::options::PASSWORD;
use system_tests::{Options, System, maildir, program, skip_without};

const LIMIT: Duration = Duration::from_secs(30);

const LETTER: &str = "From: Carol <carol@outside.test>\r\nTo: alice@example.test\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\
Date: Mon, 02 Mar 2026 10:00:00 +0000\r\nMessage-ID: <one@outside.test>\r\n\r\n\
Hello Alice,\r\n.one dot\r\n..two dots\r\n\r\nbye\r\n";

#[test]
fn a_mail_from_swaks_is_read_by_imaplib_with_the_bytes_that_were_sent() {
    skip_without!("swaks", "python3");
    let system = System::start(Options::alice());
    let file = system.dir().join("letter.eml");
    // swaks ends the last line by itself.
    std::fs::write(&file, LETTER.strip_suffix("\r\n").unwrap()).unwrap();
    program::run(
        program::command("swaks")
            .args([
                "--server",
                "127.0.0.1",
                "--port",
                &system.port("smtp").to_string(),
            ])
            .args([
                "--from",
                "carol@outside.test",
                "--to",
                "alice@example.test",
                "--data",
            ])
            .arg(format!("@{}", file.display())),
        b"",
        LIMIT,
    )
    .succeeded();
    let script = r#"
client = imap()
assert messages(client) == 1
raw_message = fetched(client, 1)
head, body = raw_message.split(b"\r\n\r\n", 1)
sent = letter_bytes.encode()
assert raw_message.endswith(sent), raw_message
trace = raw_message[:-len(sent)]
assert trace.startswith(b"Return-Path: <carol@outside.test>\r\n"), trace
assert b"\r\nReceived: from " in trace and b" by mail.example.test " in trace.replace(b"\r\n\t", b" ").replace(b"\r\n ", b" "), trace
"#;
    system.python(script, &json!({"letter_bytes": LETTER}));
}

#[test]
fn the_file_of_a_message_is_named_as_documented_and_holds_what_imap_shows() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    let script = r#"
for number in range(3):
    send(letter(f"number {number}"))
client = imap()
assert messages(client) == 3
client.store("2", "+FLAGS", r"(\Seen \Flagged)")
for number in range(1, 4):
    with open(f"{dir}/{number}", "wb") as file:
        file.write(fetched(client, number))
client.logout()
"#;
    system.python(script, &json!({}));
    // Names follow a flag change within a second.
    let expected = [
        "0000/00000001_.eml",
        "0000/00000002_FS.eml",
        "0000/00000003_.eml",
    ];
    let account = system.account("alice@example.test");
    let names = || {
        account
            .messages("INBOX")
            .iter()
            .map(maildir::MessageFile::name)
            .collect::<Vec<_>>()
    };
    let settled = system_tests::patience::wait_for(Duration::from_secs(2), || {
        (names() == expected).then_some(())
    });
    assert!(settled.is_ok(), "{:?}", names());
    for (number, message) in (1..).zip(account.messages("INBOX")) {
        assert_eq!(
            message.bytes(),
            std::fs::read(system.dir().join(format!("{number}"))).unwrap()
        );
    }
    let status = std::fs::read_to_string(account.mailbox("INBOX").join("status.json")).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert!(
        status["uid_validity"].is_u64() && status["uid_next"].is_u64(),
        "{status}"
    );
}

fn curl(system: &System) -> std::process::Command {
    let mut curl = program::command("curl");
    curl.args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
        .arg(system.ca_file());
    curl
}

fn submitted_by_curl(url: &str, more: &[&str]) -> System {
    let system = System::start(Options::default());
    let url = format!(
        "{url}:{}/client.example.net",
        system.port(if url.starts_with("smtps") {
            "submissions"
        } else {
            "submission"
        })
    );
    let letter =
        "From: alice@example.test\r\nTo: bob@example.test\r\nSubject: from curl\r\n\r\n.dots\r\n";
    program::run(
        curl(&system)
            .args([
                "--url",
                &url,
                "--user",
                &format!("alice@example.test:{PASSWORD}"),
            ])
            .args([
                "--mail-from",
                "alice@example.test",
                "--mail-rcpt",
                "bob@example.test",
                "--upload-file",
                "-",
            ])
            .args(more),
        letter.as_bytes(),
        LIMIT,
    )
    .succeeded();
    system
}

fn read_by_curl(system: &System, url: &str, more: &[&str]) {
    let credentials = format!("bob@example.test:{PASSWORD}");
    let shown = program::run(
        curl(system)
            .args(["--user", &credentials, "--url", url])
            .args(more),
        b"",
        LIMIT,
    )
    .succeeded();
    assert!(
        shown.stdout.contains("Subject: from curl\r\n")
            && shown.stdout.ends_with("\r\n\r\n.dots\r\n"),
        "{}",
        shown.text()
    );
}

#[test]
fn curl_submits_on_587_with_starttls_and_reads_on_143_with_starttls() {
    skip_without!("curl");
    let system = submitted_by_curl("smtp://localhost", &["--ssl-reqd"]);
    read_by_curl(
        &system,
        &format!("imap://localhost:{}/INBOX;MAILINDEX=1", system.port("imap")),
        &["--ssl-reqd"],
    );
}

#[test]
fn curl_submits_on_465_and_reads_on_993() {
    skip_without!("curl");
    let system = submitted_by_curl("smtps://localhost", &[]);
    read_by_curl(
        &system,
        &format!("imaps://localhost:{}/INBOX;UID=1", system.port("imaps")),
        &[],
    );
}

#[test]
fn swaks_submits_with_each_login_mechanism() {
    skip_without!("swaks");
    let system = System::start(Options::default());
    for mechanism in ["PLAIN", "LOGIN"] {
        program::run(
            program::command("swaks")
                .args([
                    "--server",
                    "127.0.0.1",
                    "--port",
                    &system.port("submission").to_string(),
                    "--tls",
                ])
                .args([
                    "--auth",
                    mechanism,
                    "--auth-user",
                    "alice@example.test",
                    "--auth-password",
                    PASSWORD,
                ])
                .args(["--from", "alice@example.test", "--to", "bob@example.test"]),
            b"",
            LIMIT,
        )
        .succeeded();
    }
    assert_eq!(
        system.account("bob@example.test").messages("INBOX").len(),
        2
    );
}

#[test]
fn one_message_for_several_people_reaches_each_of_them() {
    skip_without!("python3");
    let system = System::start(Options::default());
    system.python(r#"send(letter("all of you"), to=[ALICE, BOB])"#, &json!({}));
    for address in ["alice@example.test", "bob@example.test"] {
        assert_eq!(
            system.account(address).messages("INBOX").len(),
            1,
            "{address}"
        );
    }
}

#[test]
fn aliases_are_followed_exact_then_regex_then_catch_all() {
    skip_without!("python3");
    let system = System::start(Options::default().user("eve@example.test"));
    system
        .rmailctl(&[
            "alias",
            "add",
            "example.test",
            "exact",
            "sales",
            "alice@example.test",
        ])
        .succeeded();
    system
        .rmailctl(&[
            "alias",
            "add",
            "example.test",
            "regex",
            "sal.*",
            "bob@example.test",
        ])
        .succeeded();
    system
        .rmailctl(&[
            "alias",
            "add",
            "example.test",
            "catch-all",
            "eve@example.test",
        ])
        .succeeded();
    let script = r#"
send(letter("exact"), to="sales@example.test")
send(letter("regex"), to="salad@example.test")
send(letter("catch all"), to="anything@example.test")
"#;
    system.python(script, &json!({}));
    for (address, subject) in [("alice", "exact"), ("bob", "regex"), ("eve", "catch all")] {
        let messages = system
            .account(&format!("{address}@example.test"))
            .messages("INBOX");
        assert_eq!(messages.len(), 1, "{address}");
        let text = String::from_utf8(messages[0].bytes()).unwrap();
        assert!(
            text.contains(&format!("\r\nSubject: {subject}\r\n")),
            "{address} got {text}"
        );
    }
}

#[test]
fn an_ordinary_user_runs_the_whole_system_with_reduced_separation() {
    skip_without!("python3");
    let system = System::start(Options::alice().run_as(65_534));
    system.python(
        r#"send(letter("small rights"))
assert messages(imap()) == 1"#,
        &json!({}),
    );
    if !system.home().separates_users() {
        assert!(
            system.log().contains("separation is reduced"),
            "{}",
            system.log()
        );
    }
}

#[test]
fn a_large_message_is_never_held_in_memory_by_any_daemon() {
    let system =
        System::start(Options::alice().config(&json!({"smtp": {"max_message_size": 100_000_000}})));
    let mut client = system_tests::smtp::Client::hello(system.address("smtp")).unwrap();
    // Once small, so that what is made once is made.
    client
        .deliver(
            "carol@outside.test",
            "alice@example.test",
            LETTER.as_bytes(),
        )
        .unwrap();
    let daemons = ["smtpd", "deliverd", "imapd"];
    let before = daemons.map(|daemon| peak(&system, daemon));
    let mut message = b"Subject: large\r\n\r\n".to_vec();
    while message.len() < 60_000_000 {
        message.extend_from_slice(&[b'x'; 76]);
        message.extend_from_slice(b"\r\n");
    }
    client
        .deliver("carol@outside.test", "alice@example.test", &message)
        .unwrap();
    let mut reader =
        system_tests::imap::Client::login(system.address("imap"), "alice@example.test", PASSWORD)
            .unwrap();
    reader.command("SELECT INBOX").unwrap().ok();
    let fetched = reader.command("FETCH 2 (BODY.PEEK[])").unwrap().ok();
    assert!(
        fetched.untagged[0].contains(std::str::from_utf8(&message).unwrap()),
        "the bytes are not the same"
    );
    for (daemon, before) in daemons.iter().zip(before) {
        let grown = peak(&system, daemon) - before;
        eprintln!("{daemon} grew by {grown} KiB");
        assert!(grown < 10_000, "{daemon} grew by {grown} KiB");
    }
}

/// The most memory a daemon ever had, in KiB.
fn peak(system: &System, daemon: &str) -> u64 {
    let text =
        std::fs::read_to_string(format!("/proc/{}/status", system.pid(daemon).unwrap())).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
