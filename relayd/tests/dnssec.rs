//! Whether what DNS says about mail servers is true: signed zones of our own on nsd, and a server in between that lies.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::time::Duration;

use daemon::config::DnssecMode::{Auto, Require};
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use mail::address::Domain;
use relayd::dns::{Dns, NoHost, Place, Route};
use tokio::net::UdpSocket;
use world::zones::{Lie, Signing, Zone, Zones};

const TEST: &str = "\
three IN MX 10 a.three
a.three IN A 127.0.0.2
alias IN CNAME three
elsewhere IN CNAME mail.plain.
outside IN MX 10 mail.plain.
implicit IN A 127.0.0.5
null IN MX 0 .
broken IN MX 10 a.three
forged IN A 127.0.0.9
*.wild IN MX 10 forged
*.wild IN A 127.0.0.7
real.wild IN MX 10 a.three
real.wild IN A 127.0.0.2
*.off IN CNAME mail.plain.
real.off IN MX 10 a.three
";

const PLAIN: &str = "\
@ IN MX 10 mail
mail IN A 127.0.0.3
*.wild IN MX 10 mail
";

async fn zones() -> Option<Zones> {
    let zone = |name, records, signing| Zone {
        name,
        records,
        signing,
    };
    Zones::serve(&[
        zone("test", TEST, Signing::Tampered("127.0.0.9", "127.0.0.10")),
        zone("plain", PLAIN, Signing::None),
        zone("hashed", PLAIN, Signing::With(&["-n"])),
        zone("optout", PLAIN, Signing::With(&["-n", "-p"])),
        zone("rounds", PLAIN, Signing::With(&["-n", "-t", "100"])),
        zone("bomb", PLAIN, Signing::With(&["-n", "-t", "2000"])),
        zone(
            "expired",
            PLAIN,
            Signing::With(&["-i", "20200101", "-e", "20200201"]),
        ),
    ])
    .await
}

async fn route(dns: &Dns, domain: &str) -> Result<Route, NoHost> {
    dns.hosts(&Domain::parse(domain).unwrap()).await
}

async fn place(dns: &Dns, host: &str) -> Place {
    dns.locate(host).await.unwrap()
}

fn is_doubted<T: std::fmt::Debug>(result: Result<T, NoHost>) {
    let error = result.unwrap_err();
    assert!(!error.is_permanent(), "{error}");
    assert!(error.to_string().contains("DNSSEC"), "{error}");
}

#[tokio::test]
async fn what_is_signed_from_the_root_down_is_secure() {
    let Some(zones) = zones().await else { return };
    let dns = zones.dns(Require);
    let three = route(&dns, "three.test").await.unwrap();
    assert!(three.is_secure);
    assert_eq!(three.names, ["three.test"]);
    assert_eq!(place(&dns, "a.three.test").await.bases, ["a.three.test"]);
    let alias = route(&dns, "alias.test").await.unwrap();
    assert!(alias.is_secure);
    assert_eq!(alias.names, ["alias.test", "three.test"]);
    assert!(route(&dns, "implicit.test").await.unwrap().is_secure);
    for name in [
        "some.wild.test",
        "some.wild.hashed",
        "deep.down.wild.test",
        "deep.down.wild.hashed",
    ] {
        assert!(route(&dns, name).await.unwrap().is_secure, "{name}");
    }
    for zone in ["hashed", "optout"] {
        assert!(route(&dns, zone).await.unwrap().is_secure, "{zone}");
        assert!(
            route(&dns, &format!("mail.{zone}"))
                .await
                .unwrap()
                .is_secure
        );
    }
    let missing = route(&dns, "missing.test").await.unwrap_err();
    assert_eq!(missing, NoHost::NoSuchDomain("missing.test".into()));
    let null = route(&dns, "null.test").await.unwrap_err();
    assert_eq!(null, NoHost::NullMx("null.test".into()));
}

#[tokio::test]
async fn what_nobody_signed_is_used_and_not_secure() {
    let Some(zones) = zones().await else { return };
    let dns = zones.dns(Require);
    assert!(!route(&dns, "plain").await.unwrap().is_secure);
    assert!(!route(&dns, "mail.plain").await.unwrap().is_secure);
    let missing = route(&dns, "missing.plain").await.unwrap_err();
    assert_eq!(missing, NoHost::NoSuchDomain("missing.plain".into()));
    let place = place(&dns, "mail.plain").await;
    assert_eq!(place.addresses.len(), 1);
    assert!(place.bases.is_empty());
    // Who the server is is signed; where it is is not.
    assert!(route(&dns, "outside.test").await.unwrap().is_secure);
    // RFC 7672 §2.2.3: the alias is signed, and what it names is not.
    let place = dns.locate("elsewhere.test").await.unwrap();
    assert_eq!(place.bases, ["elsewhere.test"]);
    // The rounds of its hash are too many to be counted: nothing vouches for what there is not.
    assert!(route(&dns, "rounds").await.unwrap().is_secure);
    assert!(!route(&dns, "mail.rounds").await.unwrap().is_secure);
}

#[tokio::test]
async fn what_is_wrongly_signed_is_not_believed() {
    let Some(zones) = zones().await else { return };
    let dns = zones.dns(Require);
    is_doubted(dns.locate("forged.test").await);
    is_doubted(route(&dns, "expired").await);
    is_doubted(route(&dns, "mail.bomb").await);
}

#[tokio::test]
async fn once_signatures_were_seen_nobody_can_take_them_away() {
    let Some(zones) = zones().await else { return };
    let lie = Lie::default();
    let dns = zones.dns_by(zones.liar(lie.clone()).await, Auto);
    assert!(route(&dns, "three.test").await.unwrap().is_secure);
    lie.set(strip);
    // Nothing of the root zone is remembered any more.
    tokio::time::sleep(Duration::from_secs(2)).await;
    is_doubted(route(&dns, "real.wild.test").await);
    is_doubted(route(&dns, "missing.test").await);
    is_doubted(dns.locate("a.three.test").await);
}

#[tokio::test]
async fn a_server_that_passes_no_signatures_on_is_used_unless_they_are_required() {
    let Some(zones) = zones().await else { return };
    let lie = Lie::default();
    lie.set(strip);
    let liar = zones.liar(lie.clone()).await;
    let dns = zones.dns_by(liar, Auto);
    assert!(!route(&dns, "three.test").await.unwrap().is_secure);
    assert!(place(&dns, "a.three.test").await.bases.is_empty());
    is_doubted(route(&zones.dns_by(liar, Require), "three.test").await);
}

fn strip(answer: &mut Message) {
    let is_signature = |record: &Record| record.record_type() == RecordType::RRSIG;
    answer.answers.retain(|record| !is_signature(record));
    answer.authorities.retain(|record| !is_signature(record));
}

#[tokio::test]
async fn that_there_is_nothing_cannot_be_said_by_an_unsigned_zone_elsewhere() {
    let Some(zones) = zones().await else { return };
    let lie = Lie::default();
    let dns = zones.dns_by(zones.liar(lie.clone()).await, Require);
    let soa = unsigned_soa(&zones).await;
    lie.set(move |answer| {
        let query = answer.queries[0].clone();
        if query.query_type() == RecordType::MX && query.name().to_string().contains("test") {
            answer.answers.clear();
            answer.authorities = vec![soa.clone()];
        }
    });
    is_doubted(route(&dns, "three.test").await);
    assert!(!route(&dns, "plain").await.unwrap().is_secure);
}

/// What proves, truly, that there is no other record at mail.plain.
async fn unsigned_soa(zones: &Zones) -> Record {
    let mut query = Message::query();
    query.add_query(hickory_resolver::proto::op::Query::query(
        Name::from_ascii("mail.plain.").unwrap(),
        RecordType::TXT,
    ));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let query = query.to_vec().unwrap();
    socket.send_to(&query, zones.address).await.unwrap();
    let mut packet = [0; 4096];
    let size = socket.recv(&mut packet).await.unwrap();
    let answer = Message::from_vec(&packet[..size]).unwrap();
    let soa = |record: &&Record| matches!(record.data, RData::SOA(_));
    answer.authorities.iter().find(soa).unwrap().clone()
}

#[tokio::test]
async fn a_wildcard_cannot_stand_for_a_name_that_exists() {
    let Some(zones) = zones().await else { return };
    let lie = Lie::default();
    let dns = zones.dns_by(zones.liar(lie.clone()).await, Require);
    // The second is an alias for a name of a zone that nobody signed, and that says so.
    for zone in ["wild.test", "off.test"] {
        let mut wild = ask(&zones, &format!("some.{zone}.")).await;
        let soa = unsigned_soa(&zones).await;
        let real = Name::from_ascii(format!("real.{zone}.")).unwrap();
        for record in &mut wild.answers {
            record.name = real.clone();
        }
        lie.set(move |answer| {
            let query = answer.queries[0].clone();
            if query.query_type() == RecordType::MX && *query.name() == real {
                answer.answers.clone_from(&wild.answers);
                answer.authorities = vec![soa.clone()];
            }
        });
        is_doubted(route(&dns, &format!("real.{zone}")).await);
    }
}

/// The signed answer about mail servers.
async fn ask(zones: &Zones, name: &str) -> Message {
    use hickory_resolver::proto::op::{Edns, Query};
    let mut query = Message::query();
    let name = Name::from_ascii(name).unwrap();
    query.add_query(Query::query(name, RecordType::MX));
    query.edns.get_or_insert_with(Edns::new).enable_dnssec();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let query = query.to_vec().unwrap();
    socket.send_to(&query, zones.address).await.unwrap();
    let mut packet = [0; 4096];
    let size = socket.recv(&mut packet).await.unwrap();
    Message::from_vec(&packet[..size]).unwrap()
}

#[tokio::test]
async fn names_that_point_in_circles_are_no_answer() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 512];
        while let Ok((size, peer)) = socket.recv_from(&mut packet).await {
            // RFC 1035 §4.1.4: a record whose name points at itself.
            let mut answer = packet[..size].to_vec();
            answer[2] |= 0x80;
            answer[7] = 1;
            let here = u16::try_from(size).unwrap() | 0xc000;
            answer.extend(here.to_be_bytes());
            answer.extend([0, 15, 0, 1, 0, 0, 0, 60, 0, 4, 0, 10]);
            answer.extend(here.to_be_bytes());
            let _ = socket.send_to(&answer, peer).await;
        }
    });
    let dns = Dns::new(&[address], "relay.example.test").unwrap();
    assert!(!route(&dns, "three.test").await.unwrap_err().is_permanent());
}
