//! smtpd with deliverd and relayd as they look over IPC.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use std::time::Duration;

use daemon::port::Begins;
use ipc::Refusal;
use smtp::server::Role;
use world::{Client, World};

const MESSAGE: &str = "Subject: x\r\n\r\n..text\r\n.";
const LETTER: &str = "From: alice@example.org\r\nSubject: x\r\n\r\ntext\r\n.";
const LOGIN: &str = "AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHdvbmRlcmxhbmQ=";

/// A message that does not fit into a frame, without its end.
fn large() -> String {
    format!("Subject: x\r\n\r\n{}", "line of text\r\n".repeat(2000))
}

#[tokio::test]
async fn a_message_from_outside_reaches_deliverd_with_its_trace() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client.begin("a@example.com", &["bob@example.org"]).await;
    client.ask(MESSAGE, "250 2.0.0 accepted as ").await;
    let kept = world.store.kept();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].recipients, ["bob@example.org"]);
    let text = kept[0].text();
    let start = "Return-Path: <a@example.com>\r\nReceived: from client.example ([127.0.0.1])\r\n\tby mx.example.org with ESMTP id ";
    assert!(text.starts_with(start), "{text}");
    assert!(text.contains("\r\n\tfor <bob@example.org>;\r\n"), "{text}");
    assert!(text.ends_with("\r\nSubject: x\r\n\r\n.text\r\n"), "{text}");
    assert!(world.queue.kept().is_empty());
    client.ask("QUIT", "221").await;
    assert_eq!(client.hear().await, "");
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client
        .ask(
            "RCPT TO:<who@example.org>",
            "550 5.1.1 <who@example.org>: no such user here",
        )
        .await;
    client
        .ask("RCPT TO:<nobody@example.org>", "550 5.1.1")
        .await;
    client
        .ask(
            "RCPT TO:<full@example.org>",
            "452 4.2.2 <full@example.org>: mailbox full",
        )
        .await;
    client
        .ask(
            "RCPT TO:<x@far.example>",
            "550 5.7.1 <x@far.example>: relay not permitted",
        )
        .await;
    client.ask("RCPT TO:<postmaster>", "250 2.1.5").await;
    client.ask("MAIL FROM:<b@example.com> SIZE=1", "503").await;
    client.ask("RSET", "250").await;
    client
        .ask(
            "MAIL FROM:<b@example.com> SIZE=1000001",
            "552 5.3.4 message larger than 1000000 octets",
        )
        .await;
}

#[tokio::test]
async fn an_alias_may_lead_here_and_elsewhere_and_each_address_gets_one_copy() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client
        .begin(
            "a@example.com",
            &["list@example.org", "bob@example.org", "away@example.org"],
        )
        .await;
    client.ask(MESSAGE, "250").await;
    let (kept, queued) = (world.store.kept(), world.queue.kept());
    assert_eq!(kept[0].recipients, ["alice@example.org", "bob@example.org"]);
    assert_eq!(queued[0].recipients, ["carol@far.example"]);
    assert_eq!(queued[0].reverse_path(), "SRS0=a=example.com@example.org");
    assert_eq!(queued[0].envelope.as_ref().unwrap().account, None);
    let local = kept[0].text();
    assert_eq!(
        local.strip_prefix("Return-Path: <a@example.com>\r\n"),
        Some(&*queued[0].text())
    );
}

#[tokio::test]
async fn more_addresses_elsewhere_than_relayd_takes_are_refused_at_rcpt() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client.ask("RCPT TO:<sixty@example.org>", "250").await;
    client
        .ask("RCPT TO:<others@example.org>", "452 4.5.3")
        .await;
    client.ask("DATA", "354").await;
    client.ask(MESSAGE, "250").await;
    client.begin("a@example.com", &["others@example.org"]).await;
    client.ask(MESSAGE, "250").await;
    let queued = world.queue.kept();
    assert_eq!(
        [queued[0].recipients.len(), queued[1].recipients.len()],
        [60, 60]
    );
}

#[tokio::test]
async fn foreign_recipients_count_with_those_of_aliases() {
    let mut world = World::new();
    let address = world.listen(Role::Submission, Begins::Tls).await;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut client = world.secure(stream).await;
    client.expect("220").await;
    client.ask("EHLO x", "250").await;
    client.ask(LOGIN, "235").await;
    client.ask("MAIL FROM:<alice@example.org>", "250").await;
    client.ask("RCPT TO:<sixty@example.org>", "250").await;
    for n in 0..40 {
        client
            .ask(&format!("RCPT TO:<{n}@far.example>"), "250")
            .await;
    }
    client.ask("RCPT TO:<more@far.example>", "452 4.5.3").await;
    client.ask("RCPT TO:<0@far.example>", "250").await;
}

#[tokio::test]
async fn the_null_sender_and_a_second_message_are_taken() {
    let mut world = World::new();
    let mut client = world.visit().await;
    for _ in 0..2 {
        client.begin("", &["bob@example.org"]).await;
        client.ask(".", "250").await;
    }
    assert_eq!(world.store.kept().len(), 2);
    assert!(
        world.store.kept()[1]
            .text()
            .starts_with("Return-Path: <>\r\n")
    );
}

#[tokio::test]
async fn when_deliverd_refuses_the_commit_the_queued_copy_is_aborted() {
    let mut world = World::new();
    *world.store.commit_refusal.lock().unwrap() = Some(Refusal::DiskFull);
    let mut client = world.visit().await;
    client.begin("a@example.com", &["list@example.org"]).await;
    client.ask(MESSAGE, "452 4.3.1 out of disk space").await;
    assert!(world.store.kept().is_empty() && world.queue.kept().is_empty());
    world.queue.sees_aborts(1).await;
}

#[tokio::test]
async fn when_relayd_refuses_the_client_is_not_told_250() {
    let mut world = World::new();
    *world.queue.open_refusal.lock().unwrap() = Some(Refusal::RelayDisabled);
    let mut client = world.visit().await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client.ask("RCPT TO:<list@example.org>", "250").await;
    client
        .ask(
            "DATA",
            "550 5.7.1 sending to other servers is switched off here",
        )
        .await;
    world.store.sees_nothing_held().await;
    *world.queue.open_refusal.lock().unwrap() = None;
    *world.queue.commit_refusal.lock().unwrap() = Some(Refusal::StorageFault);
    client.begin("a@example.com", &["away@example.org"]).await;
    client.ask(MESSAGE, "451 4.3.0").await;
    assert!(world.queue.kept().is_empty());
}

#[tokio::test]
async fn an_oversize_message_is_refused_at_its_end_and_not_kept() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client.begin("a@example.com", &["bob@example.org"]).await;
    let line = format!("{}\r\n", "x".repeat(998));
    for _ in 0..1100 {
        client.send(&line).await;
    }
    client
        .ask(".", "552 5.3.4 message larger than 1000000 octets")
        .await;
    world.store.sees_aborts(1).await;
    client.begin("a@example.com", &["bob@example.org"]).await;
    client.ask(MESSAGE, "250").await;
}

#[tokio::test]
async fn what_is_too_large_for_those_behind_us_is_refused_for_good() {
    let mut world = World::new();
    *world.store.max_size.lock().unwrap() = Some(10_000);
    let mut client = world.visit().await;
    client.begin("a@example.com", &["bob@example.org"]).await;
    client
        .send(&format!("{}\r\n", "x".repeat(998)).repeat(900))
        .await;
    client.ask(".", "552 5.3.4 message too large").await;
    assert!(world.store.kept().is_empty());
}

#[tokio::test]
async fn what_could_not_be_carried_over_is_never_acknowledged() {
    let mut world = World::new();
    *world.store.is_deaf.lock().unwrap() = true;
    let mut client = world.visit().await;
    client.begin("a@example.com", &["bob@example.org"]).await;
    client.send(&large()).await;
    client.ask(".", "451 4.3.0").await;
    assert!(world.store.kept().is_empty());
}

#[tokio::test]
async fn a_client_that_is_hung_up_on_still_gets_the_last_reply() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client.begin("a@example.com", &["bob@example.org"]).await;
    // More than the limit and the grace that a client gets to end an oversize message.
    let line = format!("{}\r\n", "x".repeat(998));
    client.send(&line.repeat(2200)).await;
    client
        .expect("552 5.3.4 message larger than 1000000 octets")
        .await;
    assert_eq!(client.hear().await, "");

    let mut client = world.visit().await;
    client.send(&format!("NOOP\n{}", line.repeat(100))).await;
    client.expect("521 5.5.2").await;
    assert_eq!(client.hear().await, "");
}

#[tokio::test]
async fn replies_do_not_wait_for_a_slow_answer() {
    let mut world = World::new();
    let mut client = world.visit().await;
    world.kill_deliverd().await;
    let begun = std::time::Instant::now();
    client
        .send("MAIL FROM:<a@example.com>\r\nRCPT TO:<bob@example.org>\r\n")
        .await;
    client.expect("250 2.1.0").await;
    assert!(begun.elapsed() < Duration::from_millis(400));
    client.expect("451 4.3.0").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_hold_up_the_commit() {
    let world = World::new();
    *world.store.commit_time.lock().unwrap() = Duration::from_millis(300);
    let mut client = world.narrow(32).await;
    client.ask("EHLO client.example", "250").await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client.ask("RCPT TO:<list@example.org>", "250").await;
    // In one piece, so that the commit begins before 354 is said, for which there is no room.
    client.send("DATA\r\nA: b\r\n.\r\n").await;
    world.queue.keeps(1).await;
    client.expect("354").await;
    client.expect("250 2.0.0 accepted as ").await;
    assert_eq!(world.store.kept().len(), 1);
    client.ask("QUIT", "221").await;
}

#[tokio::test]
async fn a_large_message_arrives_whole() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client.begin("a@example.com", &["list@example.org"]).await;
    let body: String = (0..20_000)
        .map(|n| format!("line {n}, long enough to make a megabyte\r\n"))
        .collect();
    client.send(&format!("Subject: large\r\n\r\n{body}")).await;
    client.ask(".", "250").await;
    assert!(world.store.kept()[0].text().ends_with(&body));
    assert!(world.queue.kept()[0].text().ends_with(&body));
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_nothing() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client.begin("a@example.com", &["list@example.org"]).await;
    client.send("Subject: half a mess").await;
    drop(client);
    // deliverd never heard of it, and is told that no room is needed.
    world.queue.sees_aborts(1).await;
    world.store.sees_nothing_held().await;
    let mut client = world.visit().await;
    client.begin("a@example.com", &["list@example.org"]).await;
    client.send(&large()).await;
    drop(client);
    world.store.sees_aborts(1).await;
    world.queue.sees_aborts(2).await;
    assert!(world.store.kept().is_empty());
}

#[tokio::test]
async fn while_deliverd_is_away_the_answer_is_451() {
    let mut world = World::new();
    let mut client = world.visit().await;
    world.kill_deliverd().await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client
        .ask(
            "RCPT TO:<bob@example.org>",
            "451 4.3.0 mail system temporarily unavailable",
        )
        .await;
    world.start_deliverd();
    client.ask("RCPT TO:<bob@example.org>", "250").await;
    client.ask("DATA", "354").await;
    client.ask(MESSAGE, "250").await;
}

#[tokio::test]
async fn a_restart_of_deliverd_is_waited_for() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    world.kill_deliverd().await;
    client.send("RCPT TO:<bob@example.org>\r\n").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.start_deliverd();
    client.expect("250 2.1.5").await;
}

#[tokio::test]
async fn when_deliverd_dies_within_a_message_nothing_is_acknowledged() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client.begin("a@example.com", &["bob@example.org"]).await;
    client.send(&large()).await;
    world.store.opens(1).await;
    world.kill_deliverd().await;
    world.start_deliverd();
    // Another session gets the same handle from the new deliverd.
    let mut other = world.visit().await;
    other
        .begin("other@example.com", &["alice@example.org"])
        .await;
    other.send(&large()).await;
    world.store.opens(2).await;
    client.ask(".", "451 4.3.0").await;
    assert!(world.store.kept().is_empty());
    other.ask(".", "250").await;
    assert_eq!(world.store.kept()[0].recipients, ["alice@example.org"]);
}

#[tokio::test]
async fn a_small_message_outlives_a_restart_of_deliverd() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client.begin("a@example.com", &["bob@example.org"]).await;
    client.send("Subject: x\r\n").await;
    world.kill_deliverd().await;
    world.start_deliverd();
    client.ask(".", "250").await;
    assert_eq!(world.store.kept().len(), 1);
}

#[tokio::test]
async fn a_message_of_any_size_arrives_as_it_was_sent() {
    let mut world = World::new();
    let mut client = world.visit().await;
    // Around what fits into a frame, also where the client says how much it will be.
    for (octets, said) in [
        (100, 0),
        (15_000, 0),
        (16_384, 0),
        (20_000, 0),
        (20_000, 20_000),
        (15_000, 17_000),
    ] {
        client
            .ask(&format!("MAIL FROM:<a@example.com> SIZE={said}"), "250")
            .await;
        client.ask("RCPT TO:<bob@example.org>", "250").await;
        client.ask("DATA", "354").await;
        let body = format!("{}\r\n", "x".repeat(98)).repeat(octets / 100);
        client.send(&format!("Subject: x\r\n\r\n{body}")).await;
        client.ask(".", "250").await;
        let kept = world.store.kept().pop().unwrap();
        assert!(
            kept.text()
                .starts_with("Return-Path: <a@example.com>\r\nReceived: from ")
        );
        assert!(
            kept.text()
                .ends_with(&format!("\r\nSubject: x\r\n\r\n{body}")),
            "{octets}"
        );
        assert_eq!(kept.recipients, ["bob@example.org"]);
    }
    assert_eq!(world.store.kept().len(), 6);
    world.store.opens(4).await;
}

#[tokio::test]
async fn submission_wants_tls_then_a_login_then_ones_own_address() {
    let mut world = World::new();
    let address = world.listen(Role::Submission, Begins::Clear).await;
    let mut client = world.connect(address).await;
    let reply = client.ask("EHLO x", "250").await;
    assert!(
        reply.contains("STARTTLS") && !reply.contains("AUTH"),
        "{reply}"
    );
    client
        .ask(
            "MAIL FROM:<alice@example.org>",
            "530 5.7.0 Must issue a STARTTLS command first",
        )
        .await;
    client.ask(LOGIN, "538 5.7.11").await;
    client.ask("STARTTLS", "220").await;
    let mut client = world.secure(client.into_inner()).await;
    let reply = client.ask("EHLO x", "250").await;
    assert!(
        !reply.contains("STARTTLS") && reply.contains(" PLAIN LOGIN"),
        "{reply}"
    );
    client
        .ask(
            "MAIL FROM:<alice@example.org>",
            "530 5.7.0 Authentication required",
        )
        .await;
    client
        .ask("AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHdyb25n", "535 5.7.8")
        .await;
    client.ask(LOGIN, "235").await;
    client
        .ask(
            "MAIL FROM:<bob@example.org>",
            "553 5.7.1 <bob@example.org>: not an address of alice@example.org",
        )
        .await;
    client
        .begin(
            "alice@example.org",
            &["dave@far.example", "bob@example.org"],
        )
        .await;
    client.ask(LETTER, "250").await;
    let queued = world.queue.kept();
    assert_eq!(queued[0].recipients, ["dave@far.example"]);
    assert_eq!(
        queued[0].envelope.as_ref().unwrap().account.as_deref(),
        Some("alice@example.org")
    );
    let text = queued[0].text();
    assert!(
        text.contains(" with ESMTPSA\r\n\t(TLSv1.3 TLS13_"),
        "{text}"
    );
    assert!(
        text.contains("\r\nDate: ") && text.contains("\r\nMessage-ID: <"),
        "{text}"
    );
}

#[tokio::test]
async fn submissions_begins_with_tls() {
    let mut world = World::new();
    let address = world.listen(Role::Submission, Begins::Tls).await;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut client = world.secure(stream).await;
    client.expect("220 mx.example.org").await;
    client.ask("EHLO x", "250").await;
    client.ask(LOGIN, "235").await;
    client
        .begin("alice@example.org", &["bob@example.org"])
        .await;
    client.ask(LETTER, "250").await;
    assert_eq!(world.store.kept().len(), 1);
}

#[tokio::test]
async fn whoever_logged_in_writes_in_their_own_name() {
    let mut world = World::new();
    let address = world.listen(Role::Submission, Begins::Tls).await;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut client = world.secure(stream).await;
    client.expect("220").await;
    client.ask("EHLO x", "250").await;
    client.ask(LOGIN, "235").await;
    let unclear = "550 5.7.1 the header must have exactly one From field";
    let foreign =
        "550 5.7.1 <bob@example.org> in the From field is not an address of alice@example.org";
    let other = "550 5.7.1 <bob@example.org> in the Sender or Resent field is not an address of alice@example.org";
    let (own, group) = ("From: alice@example.org", "From: x: alice@example.org;");
    let both = "From: alice@example.org, team@example.org";
    for (header, reply) in [
        ("Subject: x".to_owned(), unclear),
        (format!("{own}\r\n{own}"), unclear),
        (group.to_owned(), unclear),
        ("From: bob@example.org".to_owned(), foreign),
        (
            format!("{own}, bob@example.org\r\nSender: alice@example.org"),
            foreign,
        ),
        (
            both.to_owned(),
            "550 5.7.1 a From field with several addresses needs a Sender",
        ),
        (format!("{own}\r\nSender: bob@example.org"), other),
        (format!("{own}\r\nResent-Sender: bob@example.org"), other),
        (
            format!("{own}\r\nResent-From: alice@example.org, bob@example.org"),
            other,
        ),
        (
            format!("{own}\r\nSender: x"),
            "550 5.7.1 the header may have one Sender",
        ),
        (format!("{both}\r\nSender: team@example.org"), "250"),
        (format!("{own}\r\nResent-From: team@example.org"), "250"),
    ] {
        client
            .begin("alice@example.org", &["bob@example.org"])
            .await;
        client
            .ask(&format!("{header}\r\n\r\ntext\r\n."), reply)
            .await;
    }
    assert_eq!(world.store.kept().len(), 2);
}

#[tokio::test]
async fn what_is_pipelined_behind_starttls_is_not_obeyed() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client
        .send("STARTTLS\r\nMAIL FROM:<injected@example.com>\r\n")
        .await;
    client.expect("220").await;
    let mut client = world.secure(client.into_inner()).await;
    client
        .ask("MAIL FROM:<a@example.com>", "503 5.5.1 say EHLO first")
        .await;
    client.ask("EHLO x", "250").await;
    client.begin("a@example.com", &["bob@example.org"]).await;
    client.ask(MESSAGE, "250").await;
    assert!(world.store.kept()[0].text().contains(" with ESMTPS\r\n"));
}

#[tokio::test]
async fn clear_text_on_a_tls_port_ends_that_connection_only() {
    let mut world = World::new();
    let address = world.listen(Role::Submission, Begins::Tls).await;
    let mut client = Client::new(tokio::net::TcpStream::connect(address).await.unwrap());
    client.send("EHLO x\r\n").await;
    client.hear().await;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    world.secure(stream).await.expect("220").await;
}

#[tokio::test]
async fn stopping_ends_idle_sessions_and_lets_transactions_finish() {
    let mut world = World::new();
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let mut idle = world.connect(address).await;
    let mut busy = world.connect(address).await;
    busy.ask("EHLO x", "250").await;
    busy.begin("a@example.com", &["bob@example.org"]).await;
    world.stop_smtpd();
    idle.expect("421 4.3.2 mx.example.org is shutting down")
        .await;
    assert_eq!(idle.hear().await, "");
    assert!(!world.ports[0].is_finished());
    busy.ask(MESSAGE, "250").await;
    busy.expect("421 4.3.2").await;
    let port = world.ports.remove(0);
    tokio::time::timeout(Duration::from_secs(5), port)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(world.store.kept().len(), 1);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_at_once_are_all_served() {
    let mut world = World::new();
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    let clients = (0..100).map(|n| {
        tokio::spawn(async move {
            let mut client = Client::new(tokio::net::TcpStream::connect(address).await.unwrap());
            client.expect("220").await;
            // All in one piece, as pipelining allows.
            let envelope = format!(
                "EHLO x\r\nMAIL FROM:<c{n}@example.com>\r\nRCPT TO:<list@example.org>\r\nDATA\r\n"
            );
            client.send(&envelope).await;
            for code in ["250", "250", "250", "354"] {
                client.expect(code).await;
            }
            client
                .ask(
                    &format!("Subject: {n}\r\n\r\n{}\r\n.", "x".repeat(5000)),
                    "250",
                )
                .await;
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    assert_eq!(world.store.kept().len(), 100);
    assert_eq!(world.queue.kept().len(), 100);
    for kept in world.store.kept() {
        let text = kept.text();
        let sender = text
            .strip_prefix("Return-Path: <c")
            .unwrap()
            .split_once('@')
            .unwrap()
            .0;
        assert!(
            text.contains(&format!("\r\nSubject: {sender}\r\n")),
            "bodies were mixed up"
        );
    }
}

#[tokio::test]
async fn room_is_set_aside_until_the_message_is_opened_or_the_transaction_is_over() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    for recipient in ["bob@example.org", "alice@example.org"] {
        client.ask(&format!("RCPT TO:<{recipient}>"), "250").await;
    }
    let first = world.store.held.lock().unwrap().clone();
    assert!(first.len() == 2 && first[0] == first[1] && first[0] != 0);
    // The next transaction frees what the one before it leaves.
    client.ask("RSET", "250").await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    world.store.sees_nothing_held().await;
    client.ask("RCPT TO:<bob@example.org>", "250").await;
    assert_ne!(world.store.held.lock().unwrap()[0], first[0]);
    client.ask("DATA", "354").await;
    assert!(!world.store.held.lock().unwrap().is_empty());
    client.ask(MESSAGE, "250").await;
    assert!(world.store.held.lock().unwrap().is_empty());
    // One that is said to be large is opened at once.
    client
        .ask("MAIL FROM:<a@example.com> SIZE=100000", "250")
        .await;
    client.ask("RCPT TO:<bob@example.org>", "250").await;
    assert!(!world.store.held.lock().unwrap().is_empty());
    client.ask("DATA", "354").await;
    assert!(world.store.held.lock().unwrap().is_empty());
    client.ask(MESSAGE, "250").await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client.ask("RCPT TO:<bob@example.org>", "250").await;
    drop(client);
    world.store.sees_nothing_held().await;
}
