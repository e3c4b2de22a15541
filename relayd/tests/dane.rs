//! Servers whose domain says by DANE how they are known get mail only if they are that: signed zones on nsd, and servers with certificates of
//! all kinds.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::fmt::Write;

use daemon::config::DnssecMode::Require;
use loopback::free_port;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use relayd::attempt::{Carrier, Finding};
use relayd::tls::Wish;
use sha2::{Digest, Sha256, Sha512};
use smtp::client::Outcome;
use tokio::task::JoinHandle;
use world::zones::{Signing, Zone, Zones};
use world::*;

const BODY: &[u8] = b"Subject: hello\r\n\r\nsecret\r\n";

/// A certificate with its key.
struct Made {
    der: Vec<u8>,
    spki: Vec<u8>,
    key: Vec<u8>,
}

fn params(names: &[&str], is_expired: bool) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    if is_expired {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    }
    params
}

fn made(certificate: &rcgen::Certificate, key: &KeyPair) -> Made {
    use rcgen::PublicKeyData;
    Made {
        der: certificate.der().to_vec(),
        spki: key.subject_public_key_info(),
        key: key.serialize_der(),
    }
}

/// Signed by itself, for another name, and expired: nobody else would take it.
fn stray() -> Made {
    let key = KeyPair::generate().unwrap();
    let signed = params(&["other.example"], true).self_signed(&key).unwrap();
    made(&signed, &key)
}

fn authority() -> (Made, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = params(&[], false);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signed = params.self_signed(&key).unwrap();
    (made(&signed, &key), Issuer::new(params, key))
}

fn signed_by(issuer: &Issuer<'_, KeyPair>, names: &[&str], is_expired: bool) -> Made {
    let key = KeyPair::generate().unwrap();
    let signed = params(names, is_expired).signed_by(&key, issuer);
    made(&signed.unwrap(), &key)
}

/// The text of a TLSA record.
fn tlsa(usage: u8, selector: u8, matching: u8, of: &Made) -> String {
    let selected = match selector {
        0 => &of.der,
        _ => &of.spki,
    };
    let data = match matching {
        0 => selected.clone(),
        1 => Sha256::digest(selected).to_vec(),
        _ => Sha512::digest(selected).to_vec(),
    };
    record(usage, selector, matching, &data)
}

fn record(usage: u8, selector: u8, matching: u8, data: &[u8]) -> String {
    let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{usage} {selector} {matching} {hex}")
}

/// A server that plays the same for everybody; it ends with what it heard when it is told to.
async fn server(script: Vec<Step>, times: usize) -> (u16, JoinHandle<String>) {
    let (address, server) = scripted_at(([127, 0, 0, 2], 0).into(), vec![script; times]).await;
    (address.port(), server)
}

/// Offers TLS, shows this, and takes a mail.
fn secured(chain: &[&Made]) -> Vec<Step> {
    let ders = chain.iter().map(|one| one.der.clone()).collect();
    let mut script = vec![
        Say(b"220 mx\r\n"),
        Hear("EHLO "),
        Say(b"250-mx\r\n250 STARTTLS\r\n"),
        Hear("STARTTLS"),
        Say(b"220 go\r\n"),
        Step::TlsWith(ders, chain[0].key.clone()),
        Hear("EHLO "),
        Say(b"250 mx\r\n"),
    ];
    script.extend(delivery("MAIL"));
    script.extend(BYE);
    script
}

const BYE: [Step; 2] = [Hear("QUIT"), Say(b"221 bye\r\n")];

/// The zone of `test`: the server of each domain is `mx` below it, at 127.0.0.2, with these records.
fn zone(port: u16, domains: &[(&str, Vec<String>)]) -> String {
    let mut zone = String::new();
    for (name, records) in domains {
        writeln!(zone, "{name} IN MX 10 mx.{name}\nmx.{name} IN A 127.0.0.2").unwrap();
        for record in records {
            writeln!(zone, "_{port}._tcp.mx.{name} IN TLSA {record}").unwrap();
        }
    }
    zone
}

async fn serve(zone: &str, signing: Signing<'_>) -> Option<Zones> {
    let name = "test";
    let records = zone;
    Zones::serve(&[Zone {
        name,
        records,
        signing,
    }])
    .await
}

fn carrier_to(port: u16, zones: &Zones) -> Carrier {
    Carrier {
        dns: zones.dns(Require),
        ..carrier(port, zones.address)
    }
}

async fn send(carrier: &Carrier, domain: &str) -> Finding {
    let to = format!("bob@{domain}.test");
    attempt_with(carrier, &[&to], BODY).await.remove(0)
}

fn is_refused(finding: &Finding, why: &str) {
    assert_eq!(finding.outcome, Outcome::Temporary, "{finding:?}");
    assert_eq!(finding.status, "4.7.5", "{finding:?}");
    assert!(finding.text.contains(why), "{finding:?}");
}

#[tokio::test]
async fn a_certificate_that_a_record_means_is_good_whatever_its_names_and_dates() {
    let (mine, other) = (stray(), stray());
    let mut domains = Vec::new();
    for (selector, matching) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
        let records = |of: &Made| vec![tlsa(3, selector, matching, of)];
        domains.push((format!("good{selector}{matching}"), records(&mine), true));
        domains.push((format!("bad{selector}{matching}"), records(&other), false));
    }
    let both = |strong, weak| vec![tlsa(3, 1, 2, strong), tlsa(3, 1, 1, weak)];
    domains.push(("strong".into(), both(&mine, &other), true));
    domains.push(("weak".into(), both(&other, &mine), false));
    let one_of_two = vec![tlsa(3, 1, 1, &other), tlsa(3, 1, 1, &mine)];
    domains.push(("rolled".into(), one_of_two, true));
    let beside = vec![tlsa(1, 1, 1, &mine), tlsa(3, 1, 1, &other)];
    domains.push(("beside".into(), beside, false));
    let (port, server) = server(secured(&[&mine]), domains.len()).await;
    let text: Vec<_> = domains
        .iter()
        .map(|(name, records, _)| (name.as_str(), records.clone()))
        .collect();
    let Some(zones) = serve(&zone(port, &text), Signing::With(&[])).await else {
        return;
    };
    let carrier = carrier_to(port, &zones);
    for (name, _, is_good) in &domains {
        let finding = send(&carrier, name).await;
        match is_good {
            true => assert_eq!(finding.outcome, Outcome::Delivered, "{name}: {finding:?}"),
            false => is_refused(&finding, "TLSA"),
        }
    }
    let taken = domains.iter().filter(|(_, _, is_good)| *is_good).count();
    assert_eq!(server.await.unwrap().matches("secret").count(), taken);
}

#[tokio::test]
async fn what_an_authority_signed_must_be_for_the_server_or_the_domain_and_in_time() {
    let (root, issuer) = authority();
    let (stranger, _) = authority();
    for (names, is_expired, shown, of, is_good) in [
        (&["mx.a.test"][..], false, true, &root, true),
        (&["a.test"], false, true, &root, true),
        (&["*.a.test"], false, true, &root, true),
        (&["other.test"], false, true, &root, false),
        (&["mx.a.test"], true, true, &root, false),
        (&["mx.a.test"], false, false, &root, false),
        (&["mx.a.test"], false, true, &stranger, false),
    ] {
        let leaf = signed_by(&issuer, names, is_expired);
        let chain: &[&Made] = if shown { &[&leaf, &root] } else { &[&leaf] };
        let (port, server) = server(secured(chain), 1).await;
        let domains = [("a", vec![tlsa(2, 1, 1, of)])];
        let Some(zones) = serve(&zone(port, &domains), Signing::With(&[])).await else {
            return;
        };
        let finding = send(&carrier_to(port, &zones), "a").await;
        let outcome = match is_good {
            true => Outcome::Delivered,
            false => Outcome::Temporary,
        };
        assert_eq!(finding.outcome, outcome, "{names:?} {shown}: {finding:?}");
        assert_eq!(server.await.unwrap().contains("secret"), is_good);
    }
}

#[tokio::test]
async fn an_authority_that_stands_in_the_record_need_not_be_shown() {
    let (root, issuer) = authority();
    let leaf = signed_by(&issuer, &["mx.a.test"], false);
    let (port, _server) = server(secured(&[&leaf]), 1).await;
    let domains = [("a", vec![tlsa(2, 0, 0, &root)])];
    let Some(zones) = serve(&zone(port, &domains), Signing::With(&[])).await else {
        return;
    };
    let finding = send(&carrier_to(port, &zones), "a").await;
    assert_eq!(finding.outcome, Outcome::Delivered, "{finding:?}");
}

fn clear() -> Vec<Step> {
    [EHLO.to_vec(), delivery("MAIL"), BYE.to_vec()].concat()
}

#[tokio::test]
async fn who_takes_starttls_away_gets_nothing() {
    let mine = stray();
    let (port, server) = server([EHLO.to_vec(), BYE.to_vec()].concat(), 2).await;
    let domains = [
        ("known", vec![tlsa(3, 1, 1, &mine)]),
        ("useless", vec![tlsa(1, 1, 1, &mine)]),
    ];
    let Some(zones) = serve(&zone(port, &domains), Signing::With(&[])).await else {
        return;
    };
    let carrier = carrier_to(port, &zones);
    is_refused(&send(&carrier, "known").await, "STARTTLS");
    is_refused(&send(&carrier, "useless").await, "STARTTLS");
    assert!(!server.await.unwrap().contains("MAIL"));
}

#[tokio::test]
async fn records_of_no_use_demand_tls_with_any_certificate() {
    let (mine, other) = (stray(), stray());
    let (port, _server) = server(secured(&[&mine]), 2).await;
    let domains = [
        ("pkix", vec![tlsa(0, 0, 1, &other), tlsa(1, 1, 1, &other)]),
        ("odd", vec![record(3, 1, 9, &[1, 2, 3])]),
    ];
    let Some(zones) = serve(&zone(port, &domains), Signing::With(&[])).await else {
        return;
    };
    let carrier = carrier_to(port, &zones);
    for (name, _) in domains {
        let finding = send(&carrier, name).await;
        assert_eq!(finding.outcome, Outcome::Delivered, "{finding:?}");
    }
}

#[tokio::test]
async fn who_has_forged_records_is_not_called_at_all() {
    let mine = stray();
    let good = tlsa(3, 1, 1, &mine);
    let hex = good.rsplit(' ').next().unwrap();
    let port = free_port();
    let zone = zone(port, &[("a", vec![good.clone()])]);
    let zeros = "0".repeat(64);
    let forged = Signing::Tampered(hex, &zeros);
    let Some(zones) = serve(&zone, forged).await else {
        return;
    };
    // Whoever is called there does not answer, which would be 4.4.1.
    let finding = send(&carrier_to(port, &zones), "a").await;
    assert_eq!(finding.status, "4.4.3", "{finding:?}");
    assert!(finding.text.contains("DNSSEC"), "{finding:?}");
}

#[tokio::test]
async fn records_that_nobody_signed_demand_nothing() {
    let other = stray();
    let (port, server) = server(clear(), 1).await;
    let domains = [("a", vec![tlsa(3, 1, 1, &other)])];
    let Some(zones) = serve(&zone(port, &domains), Signing::None).await else {
        return;
    };
    let finding = send(&carrier_to(port, &zones), "a").await;
    assert_eq!(finding.outcome, Outcome::Delivered, "{finding:?}");
    assert!(server.await.unwrap().contains("secret"));
}

#[tokio::test]
async fn records_demand_nothing_where_anybody_may_name_the_server_or_them() {
    let other = stray();
    let (port, server) = server(clear(), 2).await;
    let bad = tlsa(3, 1, 1, &other);
    let signed = format!(
        "mx.b IN A 127.0.0.2\n_{port}._tcp.mx.b IN TLSA {bad}\n\
         a IN MX 10 mx.a\nmx.a IN A 127.0.0.2\n_{port}._tcp.mx.a IN CNAME known.plain.\n"
    );
    let plain = format!("b IN MX 10 mx.b.test.\nknown IN TLSA {bad}\n");
    let zone = |name, records, signing| Zone {
        name,
        records,
        signing,
    };
    let all = [
        zone("test", &signed, Signing::With(&[])),
        zone("plain", &plain, Signing::None),
    ];
    let Some(zones) = Zones::serve(&all).await else {
        return;
    };
    let carrier = carrier_to(port, &zones);
    for to in ["bob@a.test", "bob@b.plain"] {
        let finding = attempt_with(&carrier, &[to], BODY).await.remove(0);
        assert_eq!(finding.outcome, Outcome::Delivered, "{to}: {finding:?}");
    }
    assert_eq!(server.await.unwrap().matches("secret").count(), 2);
}

#[tokio::test]
async fn another_server_of_the_domain_takes_what_one_must_not_get() {
    let (mine, other) = (stray(), stray());
    let (port, first) = server(secured(&[&mine]), 1).await;
    let (_, second) = scripted_at(([127, 0, 0, 3], port).into(), vec![secured(&[&mine])]).await;
    let mut zone = zone(port, &[("a", vec![tlsa(3, 1, 1, &other)])]);
    let good = tlsa(3, 1, 1, &mine);
    write!(
        zone,
        "a IN MX 20 mx2.a\nmx2.a IN A 127.0.0.3\n_{port}._tcp.mx2.a IN TLSA {good}\n"
    )
    .unwrap();
    let Some(zones) = serve(&zone, Signing::With(&[])).await else {
        return;
    };
    let finding = send(&carrier_to(port, &zones), "a").await;
    assert_eq!(finding.host.as_deref(), Some("mx2.a.test"), "{finding:?}");
    assert_eq!(finding.outcome, Outcome::Delivered);
    assert!(!first.await.unwrap().contains("MAIL"));
    assert!(second.await.unwrap().contains("secret"));
}

#[tokio::test]
async fn a_server_under_an_alias_is_known_by_either_name() {
    let (mine, other) = (stray(), stray());
    let (port, server) = server(secured(&[&mine]), 3).await;
    let (good, bad) = (tlsa(3, 1, 1, &mine), tlsa(3, 1, 1, &other));
    let zone = format!(
        "real IN A 127.0.0.2\n_{port}._tcp.real IN TLSA {good}\n\
         one IN MX 10 mx.one\nmx.one IN CNAME real\n_{port}._tcp.mx.one IN TLSA {bad}\n\
         bare IN A 127.0.0.2\n\
         two IN MX 10 mx.two\nmx.two IN CNAME bare\n_{port}._tcp.mx.two IN TLSA {good}\n\
         implicit IN A 127.0.0.2\n_{port}._tcp.implicit IN TLSA {good}\n"
    );
    let Some(zones) = serve(&zone, Signing::With(&[])).await else {
        return;
    };
    let carrier = carrier_to(port, &zones);
    // RFC 7672 §2.2.2: at the end of the alias first, then where it begins; without MX the domain itself.
    for name in ["one", "two", "implicit"] {
        let finding = send(&carrier, name).await;
        assert_eq!(finding.outcome, Outcome::Delivered, "{name}: {finding:?}");
    }
    let heard = server.await.unwrap();
    // RFC 7672 §8.1: by that name it is asked for its certificate.
    for name in ["real", "mx.two", "implicit"] {
        assert!(heard.contains(&format!("SNI {name}.test\n")), "{heard}");
    }
}

#[tokio::test]
async fn a_sender_who_waives_tls_is_not_held_up_by_it() {
    let (mine, other) = (stray(), stray());
    let (port, server) = server(secured(&[&mine]), 1).await;
    let domains = [("a", vec![tlsa(3, 1, 1, &other)])];
    let Some(zones) = serve(&zone(port, &domains), Signing::With(&[])).await else {
        return;
    };
    let carrier = carrier_to(port, &zones);
    let findings = attempt_as(&carrier, &["bob@a.test"], BODY, Wish::Waived).await;
    assert_eq!(findings[0].outcome, Outcome::Delivered, "{findings:?}");
    assert!(server.await.unwrap().contains("secret"));
}
