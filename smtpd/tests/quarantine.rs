//! Mail that its recipients' domain wants in quarantine goes to relayd, with what was found on it, and to nobody else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use daemon::config::{Authentication, DomainMeasures, Measure, Network};
use ipc::Refusal;
use ipc::dns::{Found, Kind, Record};
use ipc::queue::Standing;
use world::{Kept, World};

const BOB: &str = "bob@example.org";
const ALICE: &str = "alice@example.org";
const SOFT: &str = "erin@soft.example";
const STRICT: &str = "frank@strict.example";
const LIST: &str = "list@example.org";
const SPOOF: &str = "From: info@bank.example\r\n\r\n";
const REASON: &str =
    "quarantine by authentication.dmarc_reject: neither SPF nor DKIM speaks for bank.example";

/// example.org wants spoofs in quarantine, soft.example takes them, and strict.example refuses them.
fn world() -> World {
    world_trusting(Vec::new())
}

fn world_trusting(trusted_clients: Vec<Network>) -> World {
    let entry = |name: &str, measure| DomainMeasures {
        names: vec![String::from(name).try_into().unwrap()],
        dmarc_reject: Some(measure),
        ..DomainMeasures::default()
    };
    let rules = Authentication {
        trusted_clients,
        dmarc_reject: Measure::Quarantine,
        domains: vec![
            entry("soft.example", Measure::Accept),
            entry("strict.example", Measure::Reject),
        ],
        ..Authentication::default()
    };
    let world = World::judging(rules);
    publish(&world);
    world
}

/// The author's domain of spoofs wants them refused.
fn publish(world: &World) {
    let found = Found::Records(vec![Record::Txt("v=DMARC1; p=reject".into())]);
    let mut zone = world.queue.zone.lock().unwrap();
    zone.insert(("_dmarc.bank.example".into(), Kind::Txt), found);
}

/// The reply, what deliverd has, and what relayd has.
async fn send(
    world: &mut World,
    sender: &str,
    to: &[&str],
    body: &str,
) -> (String, Vec<Kept>, Vec<Kept>) {
    let mut client = world.visit().await;
    client.ask(&format!("MAIL FROM:<{sender}>"), "250").await;
    for one in to {
        client
            .ask(&format!("RCPT TO:<{one}> NOTIFY=SUCCESS"), "250")
            .await;
    }
    client.ask("DATA", "354").await;
    client.send(&format!("{SPOOF}{body}")).await;
    client.send(".\r\n").await;
    let reply = client.hear().await;
    let here = std::mem::take(&mut *world.store.kept.lock().unwrap());
    let there = std::mem::take(&mut *world.queue.kept.lock().unwrap());
    (reply, here, there)
}

#[tokio::test]
async fn of_mail_that_nobody_judges_no_copy_is_made() {
    let us = String::from("127.0.0.1").try_into().unwrap();
    let mut world = world_trusting(vec![us]);
    let body = "0123456789abcdef0123456789abcde\r\n".repeat(10_000);
    let (reply, here, there) = send(&mut world, "eve@far.example", &[BOB], &body).await;
    assert!(reply.starts_with("250"), "{reply}");
    // Only what the sender wants to be told goes to relayd.
    assert_eq!((here.len(), there.len()), (1, 1));
    assert_eq!(there[0].quarantine, None);
    world.queue.opens(1).await;
}

fn standings(kept: &Kept) -> Vec<(&str, Standing)> {
    let queued = kept.queued.iter();
    queued
        .map(|one| (one.address.as_str(), one.standing))
        .collect()
}

#[tokio::test]
async fn it_goes_to_relayd_alone_whatever_its_size() {
    for size in [0, 15_000, 16_000, 17_000, 300_000] {
        let body = "0123456789abcdef0123456789abcde\r\n".repeat(size / 33 + 1);
        let mut world = world();
        let (reply, here, there) = send(&mut world, "eve@far.example", &[BOB, ALICE], &body).await;
        assert!(reply.starts_with("250"), "{reply}");
        assert_eq!((here.len(), there.len()), (0, 1), "{size}");
        let kept = &there[0];
        assert_eq!(
            standings(kept),
            [(ALICE, Standing::Here), (BOB, Standing::Here)]
        );
        assert_eq!(kept.reverse_path(), "eve@far.example");
        let quarantine = kept.quarantine.as_ref().unwrap();
        assert_eq!(quarantine.domain, "example.org");
        assert_eq!(
            (quarantine.reason.as_str(), &quarantine.onward),
            (REASON, &None)
        );
        let text = kept.text();
        assert!(
            text.starts_with("Authentication-Results: mx.example.org;\r\n")
                && text.contains("dmarc=fail")
                && text.ends_with(&format!("{SPOOF}{body}")),
            "{text}"
        );
        assert_eq!(text.matches("\r\nReceived: ").count(), 1);
        // The sender is told of nothing that is not delivered, when it is.
        assert_eq!(
            kept.queued[0].parameters,
            "NOTIFY=SUCCESS ORCPT=rfc822;alice@example.org"
        );
    }
}

#[tokio::test]
async fn others_get_their_copy() {
    for size in [0, 17_000] {
        let body = "0123456789abcdef0123456789abcde\r\n".repeat(size / 33 + 1);
        let mut world = world();
        let to = [SOFT, BOB, STRICT];
        let (reply, here, there) = send(&mut world, "eve@far.example", &to, &body).await;
        assert!(reply.starts_with("250"), "{reply}");
        let [kept] = &here[..] else {
            panic!("{here:?}")
        };
        assert_eq!(kept.recipients, [SOFT, STRICT]);
        assert_eq!(kept.junk, [STRICT]);
        assert!(
            kept.text()
                .starts_with("Return-Path: <eve@far.example>\r\n")
        );
        let [held, told] = &there[..] else {
            panic!("{there:?}")
        };
        assert_eq!(standings(held), [(BOB, Standing::Here)]);
        // Whose room it takes is who does not get it, not who was named first.
        assert_eq!(held.quarantine.as_ref().unwrap().domain, "example.org");
        assert!(told.quarantine.is_none());
        // Two have it, and one has not.
        assert_eq!(
            standings(told),
            [(SOFT, Standing::Delivered), (STRICT, Standing::Delivered)]
        );
        let (reply, here, there) = send(&mut world, "eve@far.example", &[STRICT], &body).await;
        assert!(reply.starts_with("550 5.7.26"), "{reply}");
        assert_eq!((here.len(), there.len()), (0, 0));
        let (reply, here, there) = send(&mut world, "eve@far.example", &[SOFT], &body).await;
        assert!(reply.starts_with("250"), "{reply}");
        assert_eq!((here.len(), there.len()), (1, 1));
        assert_eq!(there[0].quarantine, None);
    }
}

#[tokio::test]
async fn who_is_elsewhere_gets_it_under_our_name_when_it_is_released() {
    let mut world = world();
    let (reply, here, there) = send(&mut world, "eve@far.example", &[LIST, SOFT], "").await;
    assert!(reply.starts_with("250"), "{reply}");
    let [kept] = &here[..] else {
        panic!("{here:?}")
    };
    assert_eq!(kept.recipients, [SOFT]);
    let [held, told] = &there[..] else {
        panic!("{there:?}")
    };
    assert_eq!(
        standings(held),
        [
            ("carol@far.example", Standing::Waiting),
            (ALICE, Standing::Here),
            (BOB, Standing::Here)
        ]
    );
    assert_eq!(held.reverse_path(), "eve@far.example");
    let onward = held.quarantine.as_ref().unwrap().onward.as_deref();
    assert_eq!(onward, Some("SRS0=eve=far.example@example.org"));
    assert_eq!(standings(told), [(SOFT, Standing::Delivered)]);
    // An alias that leads elsewhere only.
    let (reply, here, there) = send(&mut world, "eve@far.example", &["away@example.org"], "").await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!((here.len(), there.len()), (0, 1));
    assert_eq!(
        standings(&there[0]),
        [("carol@far.example", Standing::Waiting)]
    );
    assert!(there[0].quarantine.is_some());
}

#[tokio::test]
async fn nobody_is_told_that_an_alias_has_what_is_held() {
    let rules = Authentication {
        trusted_clients: Vec::new(),
        dmarc_reject: Measure::Accept,
        domains: vec![DomainMeasures {
            names: vec![String::from("soft.example").try_into().unwrap()],
            dmarc_reject: Some(Measure::Quarantine),
            ..DomainMeasures::default()
        }],
        ..Authentication::default()
    };
    let mut world = World::judging(rules);
    publish(&world);
    let (reply, here, there) =
        send(&mut world, "eve@far.example", &["info@soft.example"], "").await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!((here.len(), there.len()), (0, 1));
    assert_eq!(standings(&there[0]), [(BOB, Standing::Here)]);
}

#[tokio::test]
async fn when_it_is_late_nobody_knows() {
    let world = &mut world();
    let mut client = world.visit().await;
    client
        .ask("MAIL FROM:<eve@far.example> RET=HDRS BY=600;R", "250")
        .await;
    client.ask(&format!("RCPT TO:<{BOB}>"), "250").await;
    client.ask("DATA", "354").await;
    client.ask(&format!("{SPOOF}hi\r\n."), "250").await;
    let kept = &world.queue.kept()[0];
    assert!(kept.quarantine.is_some());
    let envelope = kept.envelope.as_ref().unwrap();
    // It waits for the operator, however long that takes.
    assert_eq!(envelope.parameters, "RET=HDRS");
}

#[tokio::test]
async fn without_room_or_relayd_the_message_is_put_off_and_nobody_has_it() {
    for size in [0, 17_000] {
        let body = "0123456789abcdef0123456789abcde\r\n".repeat(size / 33 + 1);
        let mut world = world();
        for to in [&[BOB][..], &[SOFT, BOB], &[LIST]] {
            *world.queue.is_full.lock().unwrap() = true;
            let (reply, here, there) = send(&mut world, "eve@far.example", to, &body).await;
            assert!(reply.starts_with("452 4.3.1"), "{reply}");
            assert_eq!((here.len(), there.len()), (0, 0));
            *world.queue.is_full.lock().unwrap() = false;
        }
        *world.queue.open_refusal.lock().unwrap() = Some(Refusal::DiskFull);
        let (reply, here, there) = send(&mut world, "eve@far.example", &[SOFT, BOB], &body).await;
        assert!(reply.starts_with("452 4.3.1"), "{reply}");
        assert_eq!((here.len(), there.len()), (0, 0));
    }
}

#[tokio::test]
async fn good_mail_leaves_nothing_with_relayd() {
    let mut world = world();
    let mut client = world.visit().await;
    for size in [0, 300_000] {
        let body = "0123456789abcdef0123456789abcde\r\n".repeat(size / 33 + 1);
        client.begin("a@far.example", &[BOB]).await;
        client
            .send(&format!("From: a@far.example\r\n\r\n{body}"))
            .await;
        client.send(".\r\n").await;
        let reply = client.hear().await;
        assert!(reply.starts_with("250"), "{reply}");
    }
    assert_eq!(world.store.kept().len(), 2);
    assert_eq!(world.queue.kept().len(), 0);
    // Only the large one was begun there.
    world.queue.sees_aborts(1).await;
}
