//! Attempts against servers that behave, misbehave, and against Postfix's smtp-sink.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::time::{Duration, Instant};

use loopback::free_port;
use relayd::attempt::Smarthost;
use relayd::dial::{Begins, Glimpse, Heard, Target};
use relayd::tls::Policy;
use smtp::auth::{Credentials, Secret};
use smtp::client::Outcome;
use world::*;

const BOB: &str = "bob@[127.0.0.1]";
const CAROL: &str = "carol@[127.0.0.1]";
const BODY: &[u8] = b"Subject: x\r\n\r\nhello\r\n.dot\r\n";

fn script(parts: &[&[Step]]) -> Vec<Step> {
    parts.concat()
}

#[tokio::test]
async fn a_message_is_handed_over_with_its_dots_doubled() {
    let rest = [
        Hear("MAIL FROM:<alice@example.test>"),
        Say(b"250 ok\r\n"),
        Hear("RCPT TO:<bob@[127.0.0.1]>"),
        Say(b"250 ok\r\n"),
        Hear("DATA"),
        Say(b"354 go\r\n"),
        HearBody,
        Say(b"250 2.0.0 queued as 7\r\n"),
        Hear("QUIT"),
        Say(b"221 bye\r\n"),
    ];
    let (address, server) = scripted(vec![script(&[&EHLO, &rest])]).await;
    let findings = attempt(address, &[BOB], BODY).await;
    assert_eq!(findings[0].outcome, Outcome::Delivered);
    assert!(findings[0].text.contains("queued as 7"));
    assert!(server.await.unwrap().contains("hello\r\n..dot\r\n.\r\n"));
}

#[tokio::test]
async fn each_recipient_gets_its_own_verdict() {
    let rest = [
        Hear("MAIL"),
        Say(b"250 ok\r\n"),
        Hear("RCPT"),
        Say(b"550 5.1.1 unknown\r\n"),
        Hear("RCPT"),
        Say(b"450 4.2.1 later\r\n"),
    ];
    let (address, _server) = scripted(vec![script(&[&EHLO, &rest])]).await;
    let findings = attempt(address, &[BOB, CAROL], BODY).await;
    assert_eq!(
        (findings[0].outcome, findings[0].status.as_str()),
        (Outcome::Permanent, "5.1.1")
    );
    assert_eq!(
        (findings[1].outcome, findings[1].status.as_str()),
        (Outcome::Temporary, "4.2.1")
    );
    assert!(findings[0].remote);
}

#[tokio::test]
async fn greetings_that_are_none_are_temporary_failures() {
    for greeting in [
        b"421 too busy\r\n".as_slice(),
        b"\x00\x01\x02garbage\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"220 mx\r\n250 injected\r\n",
        b"",
    ] {
        let (address, _server) = scripted(vec![vec![Say(greeting)]]).await;
        let findings = attempt(address, &[BOB], BODY).await;
        assert_eq!(
            findings[0].outcome,
            Outcome::Temporary,
            "{greeting:?}: {findings:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_refuses_everybody_is_a_permanent_failure() {
    let (address, _server) = scripted(vec![vec![Say(b"554 5.7.1 go away\r\n")]]).await;
    let findings = attempt(address, &[BOB], BODY).await;
    assert_eq!(findings[0].outcome, Outcome::Permanent);
}

#[tokio::test]
async fn huge_replies_are_cut_short() {
    for endless in [
        SayAgain(b"220-and so on\r\n", 100_000),
        SayAgain(b"220 xxxxxxxxxxxxxxxx", 1_000_000),
    ] {
        let (address, _server) = scripted(vec![vec![endless]]).await;
        let begun = Instant::now();
        let findings = attempt(address, &[BOB], BODY).await;
        assert_eq!(findings[0].outcome, Outcome::Temporary);
        assert!(findings[0].text.len() <= 600 && begun.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_silent_server_runs_out_of_patience() {
    let (address, _server) = scripted(vec![script(&[
        &EHLO,
        &[Hear("MAIL"), Wait(Duration::from_secs(60))],
    ])])
    .await;
    let begun = Instant::now();
    let findings = attempt(address, &[BOB], BODY).await;
    assert_eq!(
        (findings[0].outcome, findings[0].status.as_str()),
        (Outcome::Temporary, "4.4.2")
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn nobody_listening_is_a_temporary_failure() {
    let findings = attempt(([127, 0, 0, 1], free_port()).into(), &[BOB], BODY).await;
    assert_eq!(
        (findings[0].outcome, findings[0].status.as_str()),
        (Outcome::Temporary, "4.4.1")
    );
}

fn with_starttls(tls: &[Step]) -> Vec<Step> {
    let start = [
        Say(b"220 mx\r\n".as_slice()),
        Hear("EHLO "),
        Say(b"250-mx\r\n250 STARTTLS\r\n"),
        Hear("STARTTLS"),
    ];
    script(&[&start, tls])
}

#[tokio::test]
async fn tls_is_used_when_offered_whatever_the_certificate() {
    let secured = [
        Say(b"220 go\r\n"),
        Step::Tls,
        Hear("EHLO"),
        Say(b"250 mx\r\n"),
    ];
    let (address, _server) =
        scripted(vec![with_starttls(&script(&[&secured, &delivery("MAIL")]))]).await;
    assert_eq!(
        attempt(address, &[BOB], BODY).await[0].outcome,
        Outcome::Delivered
    );
}

#[tokio::test]
async fn a_broken_handshake_is_followed_by_clear_text_to_the_same_host() {
    let broken = with_starttls(&[Say(b"220 go\r\n"), Say(b"this is no TLS\r\n")]);
    let clear = [
        Say(b"220 mx\r\n".as_slice()),
        Hear("EHLO "),
        Say(b"250-mx\r\n250 STARTTLS\r\n"),
    ];
    let (address, _server) = scripted(vec![broken, script(&[&clear, &delivery("MAIL")])]).await;
    assert_eq!(
        attempt(address, &[BOB], BODY).await[0].outcome,
        Outcome::Delivered
    );
}

#[tokio::test]
async fn a_refused_starttls_is_followed_by_clear_text_on_the_same_connection() {
    let refused = [Say(b"454 4.7.0 not now\r\n".as_slice())];
    let (address, _server) =
        scripted(vec![with_starttls(&script(&[&refused, &delivery("MAIL")]))]).await;
    assert_eq!(
        attempt(address, &[BOB], BODY).await[0].outcome,
        Outcome::Delivered
    );
}

fn smarthost(port: u16) -> relayd::attempt::Carrier {
    let credentials = Credentials {
        user: "me".into(),
        password: Secret::new("secret".into()),
    };
    let smarthost = Smarthost {
        host: "127.0.0.1".into(),
        port,
        credentials: Some(credentials),
    };
    relayd::attempt::Carrier {
        smarthost: Some(smarthost),
        ..carrier(25, NO_DNS.into())
    }
}

#[tokio::test]
async fn the_password_goes_to_the_smarthost_under_tls() {
    let secured = [
        Say(b"220 go\r\n".as_slice()),
        Step::Tls,
        Hear("EHLO"),
        Say(b"250-mx\r\n250 AUTH PLAIN LOGIN\r\n"),
        Hear("AUTH PLAIN AG1lAHNlY3JldA=="),
        Say(b"235 2.7.0 welcome\r\n"),
    ];
    let (address, _server) =
        scripted(vec![with_starttls(&script(&[&secured, &delivery("MAIL")]))]).await;
    let findings = attempt_with(&smarthost(address.port()), &["bob@example.org"], BODY).await;
    assert_eq!(findings[0].outcome, Outcome::Delivered);
}

#[tokio::test]
async fn no_password_is_sent_in_clear_text() {
    let clear = [
        Say(b"220 mx\r\n".as_slice()),
        Hear("EHLO "),
        Say(b"250-mx\r\n250 AUTH PLAIN\r\n"),
        Hear("QUIT"),
    ];
    let (address, server) = scripted(vec![clear.to_vec()]).await;
    let findings = attempt_with(&smarthost(address.port()), &["bob@example.org"], BODY).await;
    assert_eq!(
        (findings[0].outcome, findings[0].status.as_str()),
        (Outcome::Temporary, "4.7.5")
    );
    assert!(!server.await.unwrap().contains("AUTH"));
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_gets_no_password() {
    let (address, server) = scripted(vec![with_starttls(&[Say(b"220 go\r\n"), Step::Tls])]).await;
    let carrier = smarthost(address.port());
    let target = Target {
        host: "mx.example.org".into(),
        address,
        policy: Policy::Verified,
        begins: Begins::Clear,
        credentials: carrier
            .smarthost
            .and_then(|smarthost| smarthost.credentials),
    };
    let mut body = tempfile::tempfile().unwrap().into();
    let heard = carrier
        .phone
        .dial(
            &target,
            envelope(&["bob@example.org"]),
            &mut body,
            &mut Glimpse::default(),
        )
        .await;
    assert!(matches!(heard, Heard::TlsBroken(_)), "{heard:?}");
    assert!(!server.await.unwrap().contains("AUTH"));
}

#[tokio::test]
async fn a_wrong_password_keeps_the_mail_in_the_queue() {
    let secured = [
        Say(b"220 go\r\n".as_slice()),
        Step::Tls,
        Hear("EHLO"),
        Say(b"250-mx\r\n250 AUTH PLAIN LOGIN\r\n"),
        Hear("AUTH PLAIN"),
        Say(b"535 5.7.8 wrong\r\n"),
    ];
    let (address, _server) = scripted(vec![with_starttls(&secured)]).await;
    let findings = attempt_with(&smarthost(address.port()), &["bob@example.org"], BODY).await;
    assert_eq!(
        (findings[0].outcome, findings[0].status.as_str()),
        (Outcome::Temporary, "4.7.8")
    );
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

/// Runs `smtp-sink` with `options` and attempts a delivery.
async fn at_sink(options: &[&str]) -> Option<Vec<relayd::attempt::Finding>> {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    // It refuses to run as root.
    let user: &[&str] = if is_root() { &["-u", "nobody"] } else { &[] };
    let arguments: Vec<&str> = user
        .iter()
        .chain(options)
        .copied()
        .chain([address.as_str(), "10"])
        .collect();
    let _sink = Program::start("/usr/sbin/smtp-sink", &arguments)?;
    listening(port).await;
    Some(attempt(([127, 0, 0, 1], port).into(), &[BOB, CAROL], BODY).await)
}

#[tokio::test]
async fn smtp_sink_takes_the_message() {
    if let Some(findings) = at_sink(&[]).await {
        assert!(
            findings
                .iter()
                .all(|finding| finding.outcome == Outcome::Delivered),
            "{findings:?}"
        );
    }
}

#[tokio::test]
async fn smtp_sink_without_pipelining_takes_the_message() {
    if let Some(findings) = at_sink(&["-p"]).await {
        assert!(
            findings
                .iter()
                .all(|finding| finding.outcome == Outcome::Delivered),
            "{findings:?}"
        );
    }
}

#[tokio::test]
async fn smtp_sink_that_knows_no_ehlo_takes_the_message() {
    if let Some(findings) = at_sink(&["-e"]).await {
        assert!(
            findings
                .iter()
                .all(|finding| finding.outcome == Outcome::Delivered),
            "{findings:?}"
        );
    }
}

#[tokio::test]
async fn smtp_sink_with_soft_and_hard_errors_is_understood() {
    for (option, outcome) in [("-r", Outcome::Temporary), ("-f", Outcome::Permanent)] {
        for command in ["mail", "rcpt", "data", "."] {
            if let Some(findings) = at_sink(&[option, command]).await {
                assert!(
                    findings.iter().all(|finding| finding.outcome == outcome),
                    "{option} {command}: {findings:?}"
                );
            }
        }
    }
}
