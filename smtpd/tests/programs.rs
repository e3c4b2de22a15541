//! smtpd talks to programs we did not write.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use daemon::port::Begins;
use smtp::server::Role;
use tokio::process::Command;
use world::World;

/// Runs a program; `None`, with the reason printed, where it is not installed.
async fn run(program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let output = match Command::new(program).args(arguments).output().await {
        Ok(output) => output,
        Err(error) => {
            println!("SKIPPED: {program}: {error}");
            return None;
        }
    };
    let text = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

#[tokio::test]
async fn swaks_brings_a_message_to_port_25_with_and_without_tls() {
    let mut world = World::new();
    let server = world
        .listen(Role::Exchange, Begins::Clear)
        .await
        .to_string();
    for tls in [&[][..], &["--tls"]] {
        let envelope = ["--server", &server, "--from", "a@example.com"];
        let rest = ["--to", "bob@example.org,alice@example.org", "--pipeline"];
        let arguments = [&envelope[..], &rest, tls].concat();
        let Some((done, text)) = run("swaks", &arguments).await else {
            return;
        };
        assert!(done, "{text}");
    }
    let kept = world.store.kept();
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0].recipients, ["alice@example.org", "bob@example.org"]);
    assert!(kept[0].text().contains(" with ESMTP id "));
    assert!(kept[1].text().contains(" with ESMTPS\r\n"));
}

#[tokio::test]
async fn swaks_hears_a_reply_for_each_recipient_over_lmtp() {
    let mut world = World::new();
    let server = world
        .listen(Role::Delivery, Begins::Clear)
        .await
        .to_string();
    let envelope = ["--server", &server, "--from", "a@example.com"];
    let rest = ["--to", "bob@example.org,alice@example.org"];
    let arguments = [&envelope[..], &rest, &["--protocol", "LMTP"]].concat();
    let Some((done, text)) = run("swaks", &arguments).await else {
        return;
    };
    assert!(done, "{text}");
    for recipient in ["bob", "alice"] {
        let reply = format!("250 2.1.5 <{recipient}@example.org> accepted as ");
        assert!(text.contains(&reply), "{text}");
    }
    assert!(world.store.kept()[0].text().contains(" with LMTP id "));
}

#[tokio::test]
async fn swaks_is_told_why_its_recipient_is_refused() {
    let mut world = World::new();
    let server = world
        .listen(Role::Exchange, Begins::Clear)
        .await
        .to_string();
    let arguments = [
        "--server",
        &server,
        "--from",
        "a@example.com",
        "--to",
        "who@example.org",
    ];
    let Some((done, text)) = run("swaks", &arguments).await else {
        return;
    };
    assert!(!done);
    assert!(
        text.contains("550 5.1.1 <who@example.org>: no such user here"),
        "{text}"
    );
}

#[tokio::test]
async fn swaks_submits_with_every_mechanism() {
    let mut world = World::new();
    let server = world
        .listen(Role::Submission, Begins::Clear)
        .await
        .to_string();
    for mechanism in ["PLAIN", "LOGIN"] {
        let arguments = [
            "--server",
            &server,
            "--tls",
            "--auth",
            mechanism,
            "--auth-user",
            "alice@example.org",
            "--auth-password",
            "wonderland",
            "--from",
            "alice@example.org",
            "--to",
            "dave@far.example",
        ];
        let Some((done, text)) = run("swaks", &arguments).await else {
            return;
        };
        assert!(done, "{text}");
    }
    assert_eq!(world.queue.kept().len(), 2);
}

#[tokio::test]
async fn curl_submits_over_tls_from_the_start() {
    let mut world = World::new();
    let server = world.listen(Role::Submission, Begins::Tls).await;
    let url = format!("smtps://{server}/client.example");
    let file = world.write_file(
        "message.eml",
        b"From: alice@example.org\nSubject: dots\n\n.\n..\nend\n",
    );
    let arguments = [
        "--silent",
        "--show-error",
        "--insecure",
        "--crlf",
        "--url",
        &url,
        "--user",
        "alice@example.org:wonderland",
        "--mail-from",
        "alice@example.org",
        "--mail-rcpt",
        "bob@example.org",
        "--upload-file",
        &file,
    ];
    let Some((done, text)) = run("curl", &arguments).await else {
        return;
    };
    assert!(done, "{text}");
    let kept = world.store.kept();
    assert!(
        kept[0].text().ends_with("\r\n\r\n.\r\n..\r\nend\r\n"),
        "{}",
        kept[0].text()
    );
}
