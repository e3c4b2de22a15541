//! Proxies that say with XCLIENT for whom they speak.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use daemon::config::{Network, Xclient};
use daemon::port::Begins;
use smtp::server::Role;
use tokio::net::TcpStream;
use tokio::process::Command;
use world::World;

fn network(text: &str) -> Vec<Network> {
    vec![Network::try_from(text.to_string()).unwrap()]
}

fn world(limits: &str) -> World {
    let mut world = World::guarded(limits);
    world.xclient.clients = network("127.0.0.1");
    world
}

#[tokio::test]
async fn the_trace_and_the_limits_are_those_of_the_client() {
    let mut world = world(r#"{"connections": 2, "refused_recipients": 1, "exempt": []}"#);
    let address = world.listen(Role::Exchange, Begins::Clear).await;
    // The proxy's own connections are not counted: two at once are allowed, and two in all.
    let mut proxies = Vec::new();
    for _ in 0..4 {
        proxies.push(world.connect(address).await);
    }
    let [first, second, third, fourth] = &mut proxies[..] else {
        panic!("four");
    };
    first.ask("XCLIENT ADDR=192.0.2.1", "220").await;
    first.ask("EHLO client.example", "250").await;
    first.begin("a@example.com", &["bob@example.org"]).await;
    first.ask("x\r\n.", "250").await;
    let text = world.store.kept()[0].text();
    let received = "Received: from client.example ([192.0.2.1])\r\n";
    assert!(text.contains(received), "{text}");
    first.ask("MAIL FROM:<a@example.com>", "250").await;
    first.ask("RCPT TO:<guess@example.org>", "550").await;
    first.ask("RCPT TO:<bob@example.org>", "450 4.7.1").await;
    second.ask("XCLIENT ADDR=192.0.2.1", "220").await;
    third.ask("XCLIENT ADDR=192.0.2.1", "421 4.7.0").await;
    assert_eq!(third.hear().await, "");
    fourth
        .ask("XCLIENT ADDR=IPV6:2001:db8::1 HELO=c.example", "220")
        .await;
    fourth.begin("a@example.com", &["bob@example.org"]).await;
    fourth.ask("x\r\n.", "250").await;
    assert!(
        world.store.kept()[1]
            .text()
            .contains(" ([IPv6:2001:db8::1])")
    );
}

#[tokio::test]
async fn a_proxy_for_logins_needs_no_password() {
    let mut world = World::guarded(r#"{"connections_per_account": 1}"#);
    world.xclient = Xclient {
        clients: Vec::new(),
        login_clients: network("127.0.0.1"),
    };
    let address = world.listen(Role::Submission, Begins::Clear).await;
    let mut client = world.connect(address).await;
    let refused = "550 5.7.1 carol@elsewhere.example is no account here";
    client
        .ask("XCLIENT LOGIN=carol@elsewhere.example", refused)
        .await;
    client
        .ask("XCLIENT ADDR=192.0.2.1 LOGIN=Alice@example.org", "220")
        .await;
    client.ask("EHLO client.example", "250").await;
    client.ask("MAIL FROM:<bob@example.org>", "553").await;
    client
        .begin("alice@example.org", &["carol@far.example"])
        .await;
    let message = "From: alice@example.org\r\n\r\nx\r\n.";
    client.ask(message, "250").await;
    let envelope = world.queue.kept()[0].envelope.clone().unwrap();
    assert_eq!(envelope.account.as_deref(), Some("alice@example.org"));
    let mut other = world.connect(address).await;
    other
        .ask("XCLIENT LOGIN=alice@example.org", "421 4.7.0")
        .await;
    assert_eq!(other.hear().await, "");
    // Who comes next on the first connection is somebody else.
    client.ask("XCLIENT ADDR=192.0.2.2", "220").await;
    client.ask("EHLO client.example", "250").await;
    client.ask("MAIL FROM:<alice@example.org>", "530").await;
    let mut other = world.connect(address).await;
    other.ask("XCLIENT LOGIN=alice@example.org", "220").await;
    // Whose successor is refused is gone all the same.
    other
        .ask("XCLIENT LOGIN=carol@elsewhere.example", "550 5.7.1")
        .await;
    other.ask("EHLO client.example", "250").await;
    other.ask("MAIL FROM:<alice@example.org>", "530").await;
}

#[tokio::test]
async fn what_the_tls_of_a_proxy_proves_is_not_its_clients() {
    let mut world = World::new();
    world.xclient.login_clients = network("127.0.0.1");
    let address = world.listen(Role::Submission, Begins::Tls).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let mut client = world.secure(stream).await;
    client.expect("220").await;
    let offered = client.ask("EHLO proxy.example", "250").await;
    assert!(offered.contains(" SCRAM-SHA-256-PLUS "), "{offered}");
    client.ask("XCLIENT HELO=client.example", "220").await;
    let offered = client.ask("EHLO client.example", "250").await;
    assert!(!offered.contains("PLUS"), "{offered}");
    client.ask("AUTH SCRAM-SHA-256-PLUS aGVsbG8=", "504").await;
    // deliverd, as it is here, says back what a login can be bound to, if there is anything.
    client
        .ask("AUTH SCRAM-SHA-256 aGVsbG8=", "334 aGVsbG8=")
        .await;
}

#[tokio::test]
async fn nobody_else_may_say_so() {
    let mut world = World::new();
    world.xclient.clients = network("192.0.2.0/24");
    for role in [Role::Exchange, Role::Submission, Role::Delivery] {
        let address = world.listen(role, Begins::Clear).await;
        let mut client = world.connect(address).await;
        client.ask("XCLIENT ADDR=192.0.2.1", "550 5.7.0").await;
    }
    world.xclient.clients = network("127.0.0.1");
    let address = world.listen(Role::Submission, Begins::Clear).await;
    let mut client = world.connect(address).await;
    client.ask("XCLIENT ADDR=192.0.2.1", "220").await;
    client
        .ask("XCLIENT LOGIN=alice@example.org", "550 5.7.0")
        .await;
}

#[tokio::test]
async fn swaks_speaks_for_a_client() {
    let mut world = world("{}");
    let server = world
        .listen(Role::Exchange, Begins::Clear)
        .await
        .to_string();
    let arguments = [
        ["--server", &server],
        ["--from", "a@example.com"],
        ["--to", "bob@example.org"],
        ["--xclient-addr", "192.0.2.7"],
        ["--xclient-name", "spike.example"],
        ["--xclient-helo", "spike.example"],
    ];
    let output = match Command::new("swaks")
        .args(arguments.concat())
        .output()
        .await
    {
        Ok(output) => output,
        Err(error) => return println!("SKIPPED: swaks: {error}"),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(world.store.kept()[0].text().contains(" ([192.0.2.7])\r\n"));
}
