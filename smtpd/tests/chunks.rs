//! BDAT and BINARYMIME, from the wire to those who keep the message.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use daemon::port::Begins;
use smtp::server::Role;
use tokio::io::AsyncWriteExt;
use world::World;

#[tokio::test]
async fn a_message_in_chunks_reaches_all_who_keep_it() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client.ask("MAIL FROM:<a@example.com>", "250").await;
    client.ask("RCPT TO:<list@example.org>", "250").await;
    let line = "a line that is long enough to make a message larger than any piece\r\n";
    let body = line.repeat(5000);
    // All in one piece, as pipelining allows.
    client
        .send(&format!(
            "BDAT 14\r\nSubject: x\r\n\r\nBDAT {}\r\n{body}BDAT 5 LAST\r\n.\r\n..NOOP\r\n",
            body.len()
        ))
        .await;
    client.expect("250 2.0.0 14 octets taken").await;
    client.expect("250 2.0.0 3").await;
    client.expect("250 2.0.0 accepted as ").await;
    client.expect("250 2.0.0 ok").await;
    let end = format!("\r\nSubject: x\r\n\r\n{body}.\r\n..\r\n");
    assert!(world.store.kept()[0].text().ends_with(&end));
    assert!(world.queue.kept()[0].text().ends_with(&end));
}

#[tokio::test]
async fn a_binary_message_is_kept_as_it_is_and_never_relayed() {
    let mut world = World::new();
    let mut client = world.visit().await;
    let mail = "MAIL FROM:<a@example.com> BODY=BINARYMIME";
    client.ask(mail, "250").await;
    for recipient in ["list@example.org", "away@example.org"] {
        client
            .ask(&format!("RCPT TO:<{recipient}>"), "554 5.6.3")
            .await;
    }
    client.ask("RCPT TO:<bob@example.org>", "250").await;
    client
        .ask("DATA", "503 5.5.1 binary messages come with BDAT")
        .await;
    client
        .send("BDAT 15 LAST\r\nA: b\r\n\r\n\0\n\r.\r\r\n")
        .await;
    client.expect("250 2.0.0 accepted as ").await;
    let kept = world.store.kept();
    assert_eq!(kept[0].recipients, ["bob@example.org"]);
    assert!(kept[0].bytes.ends_with(b"\r\nA: b\r\n\r\n\0\n\r.\r\r\n"));
    assert!(world.queue.kept().is_empty());
    // The next message is an ordinary one again.
    client.begin("a@example.com", &["list@example.org"]).await;
    client.ask("x\r\n.", "250").await;
}

#[tokio::test]
async fn who_logged_in_is_told_that_a_binary_message_cannot_leave() {
    let mut world = World::new();
    let address = world.listen(Role::Submission, Begins::Tls).await;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut client = world.secure(stream).await;
    client.expect("220").await;
    client.ask("EHLO x", "250").await;
    client
        .ask("AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHdvbmRlcmxhbmQ=", "235")
        .await;
    client
        .ask("MAIL FROM:<alice@example.org> BODY=BINARYMIME", "250")
        .await;
    client.ask("RCPT TO:<dave@far.example>", "554 5.6.3").await;
    client.ask("RCPT TO:<bob@example.org>", "250").await;
}

#[tokio::test]
async fn what_comes_behind_the_end_of_tls_is_no_part_of_a_chunk() {
    let mut world = World::new();
    let mut client = world.visit().await;
    client.ask("STARTTLS", "220").await;
    let mut client = world.secure(client.into_inner()).await;
    client.ask("EHLO x", "250").await;
    // So large that deliverd has it open from the start.
    client
        .ask("MAIL FROM:<a@example.com> SIZE=100000", "250")
        .await;
    client.ask("RCPT TO:<bob@example.org>", "250").await;
    client.send("BDAT 4 LAST\r\nabc").await;
    // Says close_notify, and one octet more in the clear.
    let (mut stream, mut tls) = client.into_inner().into_inner();
    tls.send_close_notify();
    let mut last = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut last).unwrap();
    }
    last.push(b'd');
    stream.write_all(&last).await.unwrap();
    world.store.sees_aborts(1).await;
    assert!(world.store.kept().is_empty());
}

#[tokio::test]
async fn a_client_that_leaves_between_two_chunks_leaves_nothing() {
    let mut world = World::new();
    let mut client = world.visit().await;
    // So large that deliverd has it open from the start.
    client
        .ask("MAIL FROM:<a@example.com> SIZE=100000", "250")
        .await;
    client.ask("RCPT TO:<list@example.org>", "250").await;
    client.send("BDAT 3\r\nabc").await;
    client.expect("250 2.0.0 3 octets taken").await;
    drop(client);
    world.store.sees_aborts(1).await;
    world.queue.sees_aborts(1).await;
}
