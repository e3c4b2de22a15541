//! Several messages go over one connection to a server, one after the other, if the same is demanded of it for each; nobody gains by that
//! but by time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::config::DnssecMode::Require;
use ipc::budget::{OwnBudget, OwnBudgets, TenantBudget};
use loopback::free_port;
use relayd::attempt::{Carrier, Finding};
use relayd::dial::Phone;
use relayd::pool::Pool;
use relayd::tls::Wish;
use sha2::{Digest, Sha256};
use smtp::client::Outcome;
use tokio::task::JoinHandle;
use world::deliverd::Deliverd;
use world::house::House;
use world::zones::{Signing, Zone, Zones};
use world::*;

const BODY: &[u8] = b"Subject: hello\r\n\r\nsecret\r\n";
const BYE: [Step; 2] = [Hear("QUIT"), Say(b"221 bye\r\n")];
/// Longer than any test.
const LONG: Duration = Duration::from_mins(10);

/// Keeps connections for so long.
fn keeping(carrier: Carrier, patience: Duration) -> Carrier {
    let phone = Phone {
        config: carrier.phone.config.clone(),
        tls: carrier.phone.tls.clone(),
        pool: Arc::new(Pool::new(patience)),
    };
    Carrier {
        phone: Arc::new(phone),
        ..carrier
    }
}

async fn serve(scripts: &[&[Step]]) -> (SocketAddr, JoinHandle<String>) {
    scripted(scripts.iter().map(|script| script.to_vec()).collect()).await
}

async fn send(carrier: &Carrier) -> Finding {
    let to = ["bob@[127.0.0.1]"];
    attempt_with(carrier, &to, BODY).await.remove(0)
}

fn is_delivered(finding: &Finding) {
    assert_eq!(finding.outcome, Outcome::Delivered, "{finding:?}");
}

#[tokio::test]
async fn messages_follow_one_another_over_one_connection() {
    let refused = [
        Hear("MAIL"),
        Say(b"250 ok\r\n"),
        Hear("RCPT"),
        Say(b"550 5.1.1 nobody\r\n"),
    ];
    let after = [Hear("RSET"), Say(b"250 ok\r\n")];
    let one = delivery("MAIL");
    let script = [&EHLO[..], &one, &one, &refused, &after, &one, &BYE].concat();
    let (address, server) = serve(&[&script]).await;
    let carrier = keeping(carrier(address.port(), NO_DNS.into()), LONG);
    for outcome in [
        Outcome::Delivered,
        Outcome::Delivered,
        Outcome::Permanent,
        Outcome::Delivered,
    ] {
        let finding = send(&carrier).await;
        assert_eq!(finding.outcome, outcome, "{finding:?}");
    }
    carrier.phone.pool.clear();
    let heard = server.await.unwrap();
    assert_eq!(heard.matches("secret").count(), 3, "{heard}");
    assert_eq!(heard.matches("EHLO").count(), 1, "{heard}");
}

#[tokio::test]
async fn a_connection_nobody_wants_any_more_is_ended_politely() {
    let one = [&EHLO[..], &delivery("MAIL"), &BYE].concat();
    let (address, server) = serve(&[&one]).await;
    let carrier = keeping(
        carrier(address.port(), NO_DNS.into()),
        Duration::from_millis(10),
    );
    is_delivered(&send(&carrier).await);
    assert!(server.await.unwrap().ends_with("QUIT\r\n"));
    assert_eq!(carrier.phone.pool.idle_to(address), 0);
}

#[tokio::test]
async fn a_server_that_has_left_meanwhile_costs_no_attempt() {
    let one = delivery("MAIL");
    let whole = [&EHLO[..], &one, &BYE].concat();
    let leaves = [Hear("MAIL"), Say(b"421 4.3.2 too long here\r\n")];
    let leaves_later = [
        Hear("MAIL"),
        Say(b"250 ok\r\n"),
        Hear("RCPT"),
        Say(b"421 4.3.2 too long here\r\n"),
    ];
    let leaves_silently = [Hear("MAIL")];
    let has_left = [Say(b"421 4.3.2 good night\r\n")];
    for end in [&leaves[..], &leaves_later, &leaves_silently, &has_left] {
        let first = [&EHLO[..], &one, end].concat();
        let (address, server) = serve(&[&first, &whole]).await;
        let carrier = keeping(carrier(address.port(), NO_DNS.into()), LONG);
        is_delivered(&send(&carrier).await);
        is_delivered(&send(&carrier).await);
        carrier.phone.pool.clear();
        let heard = server.await.unwrap();
        assert_eq!(heard.matches("secret").count(), 2, "{heard}");
    }
    // On a connection of its own it is one.
    let leaves = [&EHLO[..], &leaves].concat();
    let (address, _server) = serve(&[&leaves]).await;
    let carrier = keeping(carrier(address.port(), NO_DNS.into()), LONG);
    assert_eq!(send(&carrier).await.outcome, Outcome::Temporary);
}

// Whoever may have had it must not get it a second time at once.
#[tokio::test]
async fn a_message_that_may_have_gone_is_not_sent_again_over_another_connection() {
    let lost = [
        Hear("MAIL"),
        Say(b"250 ok\r\n"),
        Hear("RCPT"),
        Say(b"250 ok\r\n"),
        Hear("DATA"),
        Say(b"354 go\r\n"),
        HearBody,
    ];
    let first = [&EHLO[..], &delivery("MAIL"), &lost].concat();
    let (address, server) = serve(&[&first]).await;
    let carrier = keeping(carrier(address.port(), NO_DNS.into()), LONG);
    is_delivered(&send(&carrier).await);
    let finding = send(&carrier).await;
    // Nobody listens any more: whoever calls again is told 4.4.1.
    assert_eq!(finding.status, "4.4.2", "{finding:?}");
    assert_eq!(server.await.unwrap().matches("secret").count(), 2);
}

#[tokio::test]
async fn what_demands_more_does_not_go_over_a_connection_that_was_opened_for_less() {
    let authority = world::https::Authority::new();
    let (certificate, key) = authority.sign(&["mx.a.test"]);
    let digest = Sha256::digest(certificate.der());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut script = vec![
        Say(b"220 mx\r\n"),
        Hear("EHLO "),
        Say(b"250-mx\r\n250 STARTTLS\r\n"),
        Hear("STARTTLS"),
        Say(b"220 go\r\n"),
        Step::TlsAs(certificate.der().to_vec(), key.serialize_der()),
        Hear("EHLO "),
        Say(b"250 mx\r\n"),
    ];
    let one = delivery("MAIL");
    script.extend(one.clone());
    let less = [&script[..], &BYE].concat();
    let more = [&script[..], &one, &BYE].concat();
    let at = ([127, 0, 0, 2], 0).into();
    let (address, server) = scripted_at(at, vec![less, more]).await;
    let port = address.port();
    let records =
        format!("a IN MX 10 mx.a\nmx.a IN A 127.0.0.2\n_{port}._tcp.mx.a IN TLSA 3 0 1 {digest}\n");
    let zone = Zone {
        name: "test",
        records: &records,
        signing: Signing::With(&[]),
    };
    let Some(zones) = Zones::serve(&[zone]).await else {
        return;
    };
    let plain = Carrier {
        dns: zones.dns(Require),
        ..carrier(port, zones.address)
    };
    let carrier = keeping(plain, LONG);
    let to = ["bob@a.test"];
    // With any certificate; the connection is there afterwards.
    is_delivered(&attempt_as(&carrier, &to, BODY, Wish::Waived).await[0]);
    assert_eq!(carrier.phone.pool.idle_to(address), 1);
    // With the one that DANE means, and again: of the other one nothing is left.
    is_delivered(&attempt_as(&carrier, &to, BODY, Wish::AsDemanded).await[0]);
    assert_eq!(carrier.phone.pool.idle_to(address), 1);
    is_delivered(&attempt_as(&carrier, &to, BODY, Wish::AsDemanded).await[0]);
    carrier.phone.pool.clear();
    assert_eq!(server.await.unwrap().matches("secret").count(), 3);
}

// One connection at a time, and twenty messages of one tenant before that of another: the other's is the second or third to go.
#[tokio::test]
async fn who_has_much_for_a_server_keeps_its_connection_no_longer_than_its_turn() {
    let (busy, other) = ("busy@example.test", "other@example.test");
    let mut script = EHLO.to_vec();
    script.extend(delivery("MAIL"));
    let port = free_port();
    let house = House::build(&format!(
        "\"port\": {port}, \"max_connections_per_domain\": 1, \"connection_reuse_seconds\": 60"
    ));
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    for account in [busy, other] {
        let tenant = TenantBudget {
            name: account.into(),
            budget: OwnBudget::default(),
        };
        let budgets = OwnBudgets {
            tenant: Some(tenant),
            ..OwnBudgets::default()
        };
        let mut all = deliverd.budgets.lock().unwrap();
        all.insert(account.into(), budgets);
    }
    // Somebody takes the connection, and says nothing until all is in the queue.
    let at = SocketAddr::from(([127, 0, 0, 9], port));
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    let to = ["x@[127.0.0.9]"];
    let submit = async |account: &str| {
        while house
            .submit_for(Some(account), account, &to, BODY)
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    submit(busy).await;
    let (stream, _) = listener.accept().await.unwrap();
    for _ in 0..19 {
        submit(busy).await;
    }
    submit(other).await;
    for _ in 0..20 {
        script.extend(delivery("MAIL"));
    }
    let server = tokio::spawn(async move { play_over(stream, &script).await });
    house.queue_until(|queue| queue.is_empty()).await;
    let mut house = house;
    assert!(house.terminate());
    let heard = server.await.unwrap();
    assert_eq!(heard.matches("EHLO").count(), 1, "{heard}");
    let senders = heard.lines().filter(|line| line.starts_with("MAIL"));
    let place = senders.take(21).position(|line| line.contains(other));
    assert!(place.is_some_and(|place| place <= 3), "{place:?}\n{heard}");
}
