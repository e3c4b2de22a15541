//! Domains that publish a policy by MTA-STS get mail only as it says: nsd tells of it, Python serves it over HTTPS.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use daemon::config::DnssecMode::{Off, Require};
use daemon::config::{MtaSts, Quarantine};
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::TXT;
use loopback::free_port;
use relayd::attempt::{Carrier, Finding};
use relayd::desk::Desk;
use relayd::dial::Phone;
use relayd::dns::Dns;
use relayd::quarantine::Ward;
use relayd::queue::Queue;
use relayd::sts::Sts;
use relayd::tls::{Tls, Wish};
use smtp::client::Outcome;
use tokio::task::JoinHandle;
use world::https::{Authority, Https};
use world::zones::{Lie, Signing, Zone, Zones};
use world::*;

const BODY: &[u8] = b"Subject: hello\r\n\r\nsecret\r\n";

/// All that there is besides mail servers.
struct World {
    authority: Authority,
    https: Https,
    zones: Zones,
    queue: tempfile::TempDir,
    port: u16,
}

/// Domains `NAME.test`, each with one server `mx.NAME.test` at 127.0.0.2 and a policy of version 1.
async fn world(port: u16, names: &[&str], more: &str) -> Option<World> {
    world_as(port, names, more, Signing::None).await
}

async fn world_as(port: u16, names: &[&str], more: &str, signing: Signing<'_>) -> Option<World> {
    let mut records = more.to_owned();
    let mut hosts = Vec::new();
    for name in names {
        writeln!(
            records,
            "{name} IN MX 10 mx.{name}\nmx.{name} IN A 127.0.0.2\nmta-sts.{name} IN A 127.0.0.1\n_mta-sts.{name} IN TXT \"v=STSv1; id=1;\""
        )
        .unwrap();
        hosts.push(format!("mta-sts.{name}.test"));
    }
    let zone = Zone {
        name: "test",
        records: &records,
        signing,
    };
    let zones = Zones::serve(&[zone]).await?;
    let authority = Authority::new();
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    let https = Https::start(&authority, &hosts).await?;
    Some(World {
        authority,
        https,
        zones,
        queue: tempfile::tempdir().unwrap(),
        port,
    })
}

fn policy(mode: &str, mx: &str) -> String {
    format!(
        "200\nContent-Type: text/plain\n\nversion: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n"
    )
}

impl World {
    fn publish(&self, name: &str, text: &str) {
        self.https.say(&format!("mta-sts.{name}.test"), text);
    }

    fn asked(&self, name: &str) -> usize {
        self.https.asked(&format!("mta-sts.{name}.test"))
    }

    async fn carrier(&self) -> Carrier {
        self.carrier_by(self.zones.dns(Off)).await
    }

    /// As after a start of relayd.
    async fn carrier_by(&self, dns: Dns) -> Carrier {
        let ward = Ward::new(&Quarantine::default());
        let desk = Desk::new(
            Queue::open(
                self.queue.path(),
                (&daemon::config::History::default()).into(),
            )
            .unwrap(),
            None,
            ward,
        );
        let tls = Tls::new(self.authority.roots.clone()).unwrap();
        let rules = MtaSts {
            port: self.https.port,
            ..MtaSts::default()
        };
        let sts = Sts::open(Arc::new(desk), dns.clone(), tls.clone(), &rules);
        let plain = carrier(self.port, self.zones.address);
        Carrier {
            dns,
            sts: sts.await.unwrap(),
            phone: Arc::new(Phone {
                config: plain.phone.config.clone(),
                tls,
                pool: plain.phone.pool.clone(),
            }),
            ..plain
        }
    }
}

/// A server with a certificate of the authority for `mx.good.test`, that takes `times` mails.
async fn server(script: Vec<Step>, times: usize) -> (u16, JoinHandle<String>) {
    let (address, server) = scripted_at(([127, 0, 0, 2], 0).into(), vec![script; times]).await;
    (address.port(), server)
}

fn secured(certificate: &(rcgen::Certificate, rcgen::KeyPair)) -> Vec<Step> {
    let (certificate, key) = certificate;
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
    script.extend(delivery("MAIL"));
    script.extend(BYE);
    script
}

const BYE: [Step; 2] = [Hear("QUIT"), Say(b"221 bye\r\n")];

/// Has no TLS, and is told nothing.
fn bare() -> Vec<Step> {
    [EHLO.to_vec(), BYE.to_vec()].concat()
}

fn clear() -> Vec<Step> {
    [EHLO.to_vec(), delivery("MAIL"), BYE.to_vec()].concat()
}

async fn send(carrier: &Carrier, domain: &str) -> Finding {
    let to = format!("bob@{domain}.test");
    attempt_with(carrier, &[&to], BODY).await.remove(0)
}

fn is_taken(finding: &Finding) {
    assert_eq!(finding.outcome, Outcome::Delivered, "{finding:?}");
}

fn is_refused(finding: &Finding, why: &str) {
    assert_eq!(finding.outcome, Outcome::Temporary, "{finding:?}");
    assert_eq!(finding.status, "4.7.5", "{finding:?}");
    assert!(finding.text.contains(why), "{finding:?}");
}

#[tokio::test]
async fn an_enforced_policy_wants_a_certificate_that_is_good_for_the_server() {
    let port = free_port();
    let Some(world) = world(port, &["good", "bad", "bare"], "").await else {
        return;
    };
    for name in ["good", "bad", "bare"] {
        world.publish(name, &policy("enforce", &format!("*.{name}.test")));
    }
    let carrier = world.carrier().await;
    let at = ([127, 0, 0, 2], port).into();
    let good = world.authority.sign(&["mx.good.test"]);
    let script = secured(&good);
    let (_, server) = scripted_at(at, vec![script.clone(), script, bare()]).await;
    is_taken(&send(&carrier, "good").await);
    is_refused(&send(&carrier, "bad").await, "certificate");
    is_refused(&send(&carrier, "bare").await, "STARTTLS");
    assert_eq!(server.await.unwrap().matches("secret").count(), 1);
}

#[tokio::test]
async fn a_server_that_the_policy_does_not_name_is_not_called() {
    let authority_of_nobody = Authority::new();
    let certificate = authority_of_nobody.sign(&["mx.a.test"]);
    let more = "a IN MX 20 second.a\nsecond.a IN A 127.0.0.3\n";
    let (port, first) = server(secured(&certificate), 1).await;
    let Some(world) = world(port, &["a", "b"], more).await else {
        return;
    };
    world.publish("a", &policy("enforce", "second.a.test"));
    world.publish("b", &policy("enforce", "other.b.test"));
    let good = world.authority.sign(&["second.a.test"]);
    let at = ([127, 0, 0, 3], port).into();
    let (_, second) = scripted_at(at, vec![secured(&good)]).await;
    let carrier = world.carrier().await;
    let finding = send(&carrier, "a").await;
    is_taken(&finding);
    assert_eq!(finding.host.as_deref(), Some("second.a.test"));
    is_refused(&send(&carrier, "b").await, "MTA-STS policy of b.test");
    assert!(second.await.unwrap().contains("secret"));
    assert!(!first.is_finished());
}

#[tokio::test]
async fn a_policy_in_testing_or_none_holds_nothing_up() {
    let stray = Authority::new().sign(&["other.test"]);
    let (port, server) = server(secured(&stray), 4).await;
    let Some(world) = world(port, &["testing", "none", "unnamed"], "").await else {
        return;
    };
    world.publish("testing", &policy("testing", "mx.testing.test"));
    world.publish("none", &policy("none", "mx.none.test"));
    world.publish("unnamed", &policy("testing", "elsewhere.test"));
    let carrier = world.carrier().await;
    for name in ["testing", "none", "unnamed"] {
        is_taken(&send(&carrier, name).await);
    }
    // The first calls twice: once to see whether it would do.
    assert_eq!(server.await.unwrap().matches("secret").count(), 3);
}

#[tokio::test]
async fn a_policy_in_testing_holds_nothing_up_where_there_is_no_tls() {
    let port = free_port();
    let at = ([127, 0, 0, 2], port).into();
    let (_, server) = scripted_at(at, vec![bare(), clear()]).await;
    let Some(world) = world(port, &["a"], "").await else {
        return;
    };
    world.publish("a", &policy("testing", "mx.a.test"));
    is_taken(&send(&world.carrier().await, "a").await);
    assert!(server.await.unwrap().contains("secret"));
}

#[tokio::test]
async fn what_is_not_served_as_it_should_be_is_no_policy() {
    let good = policy("enforce", "nobody.test");
    let texts = [
        ("missing", None),
        (
            "moved",
            Some(good.replace(
                "200",
                "301\nLocation: https://mta-sts.good.test/.well-known/mta-sts.txt",
            )),
        ),
        ("error", Some(good.replace("200", "500"))),
        ("page", Some(good.replace("text/plain", "text/html"))),
        ("invalid", Some(good.replace("enforce", "Enforce"))),
        (
            "endless",
            Some("200\nContent-Type: text/plain\n\nENDLESS".into()),
        ),
        ("large", Some(format!("{good}{}", "x: y\n".repeat(20_000)))),
        (
            "heads",
            Some(good.replace("200", &format!("200\nX: {}", "x".repeat(60_000)))),
        ),
    ];
    let names: Vec<_> = texts.iter().map(|(name, _)| *name).collect();
    let (port, server) = server(clear(), texts.len()).await;
    let Some(world) = world(port, &names, "").await else {
        return;
    };
    world.publish("good", &good);
    for (name, text) in &texts {
        if let Some(text) = text {
            world.publish(name, text);
        }
    }
    let carrier = world.carrier().await;
    for name in names {
        is_taken(&send(&carrier, name).await);
        assert_eq!(world.asked(name), 1, "{name}");
    }
    assert_eq!(world.asked("good"), 0);
    assert_eq!(server.await.unwrap().matches("secret").count(), texts.len());
}

#[tokio::test]
async fn a_host_whose_certificate_is_not_good_for_its_name_serves_no_policy() {
    let (port, server) = server(clear(), 1).await;
    let Some(world) = world(
        port,
        &["a"],
        "b IN MX 10 mx.a\n_mta-sts.b IN TXT \"v=STSv1; id=1;\"\nmta-sts.b IN A 127.0.0.1\n",
    )
    .await
    else {
        return;
    };
    world.publish("b", &policy("enforce", "nobody.test"));
    is_taken(&send(&world.carrier().await, "b").await);
    assert_eq!(world.asked("b"), 0);
    assert!(server.await.unwrap().contains("secret"));
}

/// Changes what is told of versions of policies; `None` tells of none.
fn tell(lie: &Lie, version: Option<&'static str>) {
    lie.set(move |answer: &mut Message| {
        for record in &mut answer.answers {
            if let RData::TXT(_) = record.data {
                let text = version.map_or("gone".into(), |id| format!("v=STSv1; id={id};"));
                record.data = RData::TXT(TXT::new(vec![text]));
            }
        }
    });
}

#[tokio::test]
async fn what_was_fetched_is_kept_until_there_is_something_new() {
    let port = free_port();
    let Some(world) = world(port, &["a"], "").await else {
        return;
    };
    let lie = Lie::default();
    let liar = world.zones.liar(lie.clone()).await;
    // Each time relayd is started anew, and remembers no answers.
    let send = async |script: Option<Vec<Step>>| {
        let at = ([127, 0, 0, 2], port).into();
        let server = match script {
            Some(script) => Some(scripted_at(at, vec![script]).await.1),
            None => None,
        };
        let carrier = world.carrier_by(world.zones.dns_by(liar, Off)).await;
        let finding = attempt_with(&carrier, &["bob@a.test"], BODY)
            .await
            .remove(0);
        if let Some(server) = server {
            server.abort();
            let _ = server.await;
        }
        finding
    };
    world.publish("a", &policy("enforce", "other.a.test"));
    is_refused(&send(None).await, "MTA-STS");
    is_refused(&send(None).await, "MTA-STS");
    assert_eq!(world.asked("a"), 1);
    // Nobody tells of it any more, or it cannot be fetched.
    tell(&lie, None);
    is_refused(&send(None).await, "MTA-STS");
    assert_eq!(world.asked("a"), 1);
    world.publish("a", "404\n\n");
    tell(&lie, Some("2"));
    is_refused(&send(None).await, "MTA-STS");
    assert_eq!(world.asked("a"), 2);
    world.publish("a", &policy("none", "x.test"));
    is_taken(&send(Some(clear())).await);
    assert_eq!(world.asked("a"), 3);
    // That there is none any more is remembered, too.
    is_taken(&send(Some(clear())).await);
    assert_eq!(world.asked("a"), 3);
}

#[tokio::test]
async fn a_policy_ends_with_its_time_and_is_fetched_anew_each_day() {
    let (port, _server) = server(clear(), 1).await;
    let Some(world) = world(port, &["over", "old"], "").await else {
        return;
    };
    let now = relayd::clock::now();
    let line = |domain: &str, fetched: i64| {
        format!(
            "{{\"domain\":\"{domain}\",\"id\":\"1\",\"fetched\":{fetched},\"policy\":{{\"mode\":\"enforce\",\"max_age\":100000,\"mx\":[\"x.test\"]}}}}\n"
        )
    };
    let lines = line("over.test", now - 100_001) + "torn {\n" + &line("old.test", now - 90_000);
    write(world.queue.path(), &lines);
    let carrier = world.carrier().await;
    is_taken(&send(&carrier, "over").await);
    assert_eq!(world.asked("over"), 1);
    // It is not served any more, but holds.
    is_refused(&send(&carrier, "old").await, "MTA-STS");
    assert_eq!(world.asked("old"), 1);
    // That it could not be fetched is not tried again at once.
    is_refused(&send(&carrier, "old").await, "MTA-STS");
    assert_eq!(world.asked("old"), 1);
}

fn write(queue: &Path, lines: &str) {
    fs::write(queue.join(".policies"), lines).unwrap();
}

#[tokio::test]
async fn many_mails_at_once_fetch_it_once() {
    let port = free_port();
    let Some(world) = world(port, &["a"], "").await else {
        return;
    };
    world.publish("a", &policy("enforce", "other.a.test"));
    let carrier = world.carrier().await;
    let to = ["bob@a.test"];
    let send = || attempt_with(&carrier, &to, BODY);
    let (one, two, three) = tokio::join!(send(), send(), send());
    for findings in [one, two, three] {
        is_refused(&findings[0], "MTA-STS");
    }
    assert_eq!(world.asked("a"), 1);
}

#[tokio::test]
async fn a_sender_who_waives_tls_is_not_held_up_by_it() {
    let (port, server) = server(clear(), 1).await;
    let Some(world) = world(port, &["a"], "").await else {
        return;
    };
    world.publish("a", &policy("enforce", "other.a.test"));
    let carrier = world.carrier().await;
    let findings = attempt_as(&carrier, &["bob@a.test"], BODY, Wish::Waived).await;
    is_taken(&findings[0]);
    assert_eq!(world.asked("a"), 0);
    assert!(server.await.unwrap().contains("secret"));
}

#[tokio::test]
async fn whom_an_enforced_policy_names_may_get_mail_that_requires_tls() {
    let port = free_port();
    let Some(world) = world(port, &["a", "b"], "").await else {
        return;
    };
    world.publish("a", &policy("enforce", "mx.a.test"));
    world.publish("b", &policy("testing", "mx.b.test"));
    let good = world.authority.sign(&["mx.a.test"]);
    let at = ([127, 0, 0, 2], port).into();
    let (_, server) = scripted_at(at, vec![secured(&good)]).await;
    let carrier = world.carrier().await;
    let findings = attempt_as(&carrier, &["bob@a.test"], BODY, Wish::Required).await;
    is_taken(&findings[0]);
    assert!(server.await.unwrap().contains("secret"));
    let findings = attempt_as(&carrier, &["bob@b.test"], BODY, Wish::Required).await;
    assert_eq!(findings[0].status, "5.7.30", "{findings:?}");
}

#[tokio::test]
async fn what_dane_demands_counts_before_what_mta_sts_does() {
    use sha2::{Digest, Sha256};
    let port = free_port();
    let authority = Authority::new();
    let certificate = authority.sign(&["elsewhere.test"]);
    let digest = |octets: &[u8]| -> String {
        let digest = Sha256::digest(octets);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let (good, bad) = (digest(certificate.0.der()), digest(b"other"));
    let more =
        format!("_{port}._tcp.mx.a IN TLSA 3 0 1 {good}\n_{port}._tcp.mx.b IN TLSA 3 0 1 {bad}\n");
    let Some(world) = world_as(port, &["a", "b"], &more, Signing::With(&[])).await else {
        return;
    };
    world.publish("a", &policy("enforce", "other.a.test"));
    world.publish("b", &policy("testing", "mx.b.test"));
    let at = ([127, 0, 0, 2], port).into();
    let (_, server) = scripted_at(at, vec![secured(&certificate); 2]).await;
    let carrier = world.carrier_by(world.zones.dns(Require)).await;
    is_taken(&send(&carrier, "a").await);
    is_refused(&send(&carrier, "b").await, "TLSA");
    assert_eq!(server.await.unwrap().matches("secret").count(), 1);
}

#[tokio::test]
async fn a_host_that_never_answers_holds_mail_up_for_a_while_only() {
    let (port, server) = server(clear(), 1).await;
    let Some(world) = world(port, &["a"], "").await else {
        return;
    };
    world.publish("a", "200\nContent-Type: text/plain\n\nSILENCE");
    is_taken(&send(&world.carrier().await, "a").await);
    assert!(server.await.unwrap().contains("secret"));
}
