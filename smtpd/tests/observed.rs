//! relayd is told what DMARC came to, for the reports that domains want.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use std::time::Duration;

use daemon::config::{AggregateReports, Authentication, Measure};
use daemon::limits::Limits;
use ipc::dns::{Found, Kind, Record};
use ipc::observation::{Disposition, Observation, Policy, Reason, SpfResult};
use tokio::time::sleep;
use world::World;

fn world(change: impl FnOnce(&mut Authentication)) -> World {
    let reports = AggregateReports {
        enabled: true,
        sender: Some(String::from("dmarc@example.org").try_into().unwrap()),
        unreported_recipients: vec![String::from("bob@example.org").try_into().unwrap()],
        ..AggregateReports::default()
    };
    let mut rules = Authentication {
        trusted_clients: Vec::new(),
        aggregate_reports: reports,
        ..Authentication::default()
    };
    change(&mut rules);
    let limits = Limits {
        total: 0,
        per_address: 0,
    };
    let world = World::with_rules(limits, rules);
    for (name, text) in [
        ("good.example", "v=spf1 ip4:127.0.0.1 -all"),
        (
            "_dmarc.good.example",
            "v=DMARC1; p=reject; rua=mailto:d@good.example",
        ),
        (
            "_dmarc.bank.example",
            "v=DMARC1; p=reject; sp=quarantine; rua=mailto:d@bank.example",
        ),
        ("_dmarc.quiet.example", "v=DMARC1; p=reject"),
    ] {
        let found = Found::Records(vec![Record::Txt(text.into())]);
        let mut zone = world.queue.zone.lock().unwrap();
        zone.insert((name.into(), Kind::Txt), found);
    }
    world
}

async fn send(world: &mut World, author: &str, recipients: &[&str]) {
    let mut client = world.visit().await;
    client.begin("a@good.example", recipients).await;
    client
        .send(&format!("From: {author}\r\n\r\nx\r\n.\r\n"))
        .await;
    client.hear().await;
}

/// What relayd heard, when it has heard so much.
async fn heard(world: &World, count: usize) -> Vec<Observation> {
    for _ in 0..500 {
        let heard = world.queue.noted.lock().unwrap().clone();
        if heard.len() >= count {
            return heard;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?}", world.queue.noted.lock().unwrap());
}

const LIST: &[&str] = &["list@example.org"];

#[tokio::test]
async fn what_was_found_is_told_of_domains_that_want_to_know() {
    let mut world = world(|_| {});
    send(&mut world, "a@quiet.example", LIST).await;
    send(&mut world, "a@nothing.example", LIST).await;
    // Reports themselves are not reported.
    send(&mut world, "a@good.example", &["bob@example.org"]).await;
    send(
        &mut world,
        "a@good.example",
        &["bob@example.org", "list@example.org"],
    )
    .await;
    heard(&world, 1).await;
    send(&mut world, "x@sub.bank.example", LIST).await;
    let heard = heard(&world, 2).await;
    assert_eq!(heard.len(), 2, "{heard:?}");
    let [pass, spoof] = &heard[..] else { panic!() };
    assert_eq!(pass.published.domain, "good.example");
    assert_eq!(
        (pass.disposition, pass.reason.clone()),
        (Disposition::Pass, None)
    );
    assert!(pass.spf_aligned && !pass.dkim_aligned);
    assert_eq!(
        (pass.spf, pass.spf_domain.as_str()),
        (SpfResult::Pass, "good.example")
    );
    assert_eq!(pass.envelope_to.as_deref(), Some("example.org"));
    assert_eq!(pass.source.to_string(), "127.0.0.1");
    assert_eq!(spoof.published.domain, "bank.example");
    assert_eq!(spoof.published.policy, Policy::Reject);
    assert_eq!(spoof.published.below, Some(Policy::Quarantine));
    assert_eq!(spoof.header_from, "sub.bank.example");
    assert_eq!(spoof.envelope_from, "good.example");
    assert_eq!(
        (spoof.disposition, spoof.reason.clone()),
        (Disposition::Quarantine, None)
    );
    assert!(!spoof.spf_aligned);
}

#[tokio::test]
async fn what_is_refused_is_told_of_and_so_is_what_we_decide_otherwise() {
    let mut refusing = world(|_| {});
    send(&mut refusing, "x@bank.example", LIST).await;
    let told = heard(&refusing, 1).await;
    assert_eq!(
        (told[0].disposition, told[0].reason.clone()),
        (Disposition::Reject, None)
    );
    let mut lenient = world(|rules| rules.dmarc_reject = Measure::Accept);
    send(&mut lenient, "x@bank.example", LIST).await;
    let told = heard(&lenient, 1).await;
    let wanted = (Disposition::None, Some(Reason::LocalPolicy(None)));
    assert_eq!((told[0].disposition, told[0].reason.clone()), wanted);
}

#[tokio::test]
async fn who_does_not_want_that_tells_nothing() {
    let mut world = world(|rules| rules.aggregate_reports.enabled = false);
    send(&mut world, "x@bank.example", LIST).await;
    send(&mut world, "a@good.example", LIST).await;
    // The second message is judged after the first.
    assert!(world.queue.noted.lock().unwrap().is_empty());
}
