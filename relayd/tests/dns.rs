//! DNS against a real server: nsd with a zone of our own on a loopback port.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::fs;
use std::net::SocketAddr;

use mail::address::Domain;
use relayd::dns::{Dns, NoHost};
use smtp::client::Outcome;
use world::*;

const ZONE: &str = "\
$ORIGIN test.
$TTL 60
@ IN SOA ns hostmaster 1 3600 600 86400 60
@ IN NS ns
ns IN A 127.0.0.1
three IN MX 20 b.three
three IN MX 10 a.three
three IN MX 30 c.three
a.three IN A 127.0.0.2
a.three IN AAAA ::1
b.three IN A 127.0.0.3
c.three IN A 127.0.0.4
equal IN MX 10 a.three
equal IN MX 10 b.three
equal IN MX 10 c.three
implicit IN A 127.0.0.5
null IN MX 0 .
nothing IN TXT \"no mail here\"
backup IN MX 10 a.three
backup IN MX 20 Relay.Example.test.
backup IN MX 30 c.three
ours IN MX 10 relay.example.test.
odd IN MX 10 a\\010b.three
odd IN MX 20 b.three
alias IN CNAME three
";

struct Server {
    _nsd: Program,
    _home: tempfile::TempDir,
    dns: Dns,
    address: SocketAddr,
}

/// nsd with the zone above, and a zone `broken` whose file is missing.
async fn server() -> Option<Server> {
    let home = tempfile::tempdir().unwrap();
    let (port, path) = (free_port(), home.path().display().to_string());
    fs::write(home.path().join("test.zone"), ZONE).unwrap();
    let config = format!(
        "server:\n ip-address: 127.0.0.1@{port}\n server-count: 1\n username: \"\"\n zonesdir: \"{path}\"\n \
         database: \"\"\n pidfile: \"{path}/pid\"\n xfrdfile: \"{path}/xfrd\"\n zonelistfile: \"{path}/list\"\n \
         xfrdir: \"{path}\"\n logfile: \"{path}/log\"\n\
         remote-control:\n control-enable: no\n\
         zone:\n name: test\n zonefile: test.zone\n\
         zone:\n name: broken\n zonefile: missing.zone\n"
    );
    let file = home.path().join("nsd.conf");
    fs::write(&file, config).unwrap();
    let nsd = Program::start("/usr/sbin/nsd", &["-d", "-c", &file.display().to_string()])?;
    listening(port).await;
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    let dns = Dns::new(&[address], "relay.example.test").unwrap();
    Some(Server {
        _nsd: nsd,
        _home: home,
        dns,
        address,
    })
}

async fn hosts(dns: &Dns, domain: &str) -> Result<Vec<String>, NoHost> {
    let hosts = dns.hosts(&Domain::parse(domain).unwrap()).await?;
    Ok(hosts.into_iter().map(|host| host.name).collect())
}

#[tokio::test]
async fn hosts_come_by_preference_with_all_their_addresses() {
    let Some(server) = server().await else { return };
    assert_eq!(
        hosts(&server.dns, "three.test").await.unwrap(),
        ["a.three.test", "b.three.test", "c.three.test"]
    );
    assert_eq!(hosts(&server.dns, "alias.test").await.unwrap().len(), 3);
    let addresses = server.dns.addresses("a.three.test").await.unwrap();
    assert_eq!(
        addresses,
        [
            "::1".parse::<std::net::IpAddr>().unwrap(),
            "127.0.0.2".parse().unwrap()
        ]
    );
    assert!(
        server
            .dns
            .addresses("nothing.test")
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn hosts_of_equal_preference_are_shuffled() {
    let Some(server) = server().await else { return };
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..60 {
        firsts.insert(hosts(&server.dns, "equal.test").await.unwrap().remove(0));
    }
    assert_eq!(firsts.len(), 3);
}

#[tokio::test]
async fn a_domain_without_mx_is_its_own_host() {
    let Some(server) = server().await else { return };
    assert_eq!(
        hosts(&server.dns, "implicit.test").await.unwrap(),
        ["implicit.test"]
    );
}

#[tokio::test]
async fn what_can_never_work_is_permanent() {
    let Some(server) = server().await else { return };
    for (domain, status) in [
        ("null.test", "5.1.10"),
        ("missing.test", "5.1.2"),
        ("ours.test", "5.4.6"),
    ] {
        let error = hosts(&server.dns, domain).await.unwrap_err();
        assert_eq!(
            (error.status(), error.is_permanent()),
            (status, true),
            "{domain}"
        );
    }
}

#[tokio::test]
async fn a_domain_with_neither_mail_server_nor_address_has_no_route() {
    let Some(server) = server().await else { return };
    assert_eq!(
        hosts(&server.dns, "nothing.test")
            .await
            .unwrap_err()
            .status(),
        "5.4.4"
    );
}

#[tokio::test]
async fn a_broken_zone_and_a_silent_server_are_temporary() {
    let Some(server) = server().await else { return };
    assert_eq!(
        hosts(&server.dns, "x.broken").await.unwrap_err().status(),
        "4.4.3"
    );
    assert_eq!(
        hosts(&server.dns, "not.served").await.unwrap_err().status(),
        "4.4.3"
    );
    let silent = Dns::new(
        &[([127, 0, 0, 1], free_port()).into()],
        "relay.example.test",
    )
    .unwrap();
    assert_eq!(
        hosts(&silent, "three.test").await.unwrap_err().status(),
        "4.4.3"
    );
}

#[tokio::test]
async fn hosts_no_better_than_ourselves_are_cut() {
    let Some(server) = server().await else { return };
    assert_eq!(
        hosts(&server.dns, "backup.test").await.unwrap(),
        ["a.three.test"]
    );
}

#[tokio::test]
async fn names_that_are_no_host_names_are_passed_over() {
    let Some(server) = server().await else { return };
    assert_eq!(
        hosts(&server.dns, "odd.test").await.unwrap(),
        ["b.three.test"]
    );
}

#[tokio::test]
async fn the_next_host_is_tried_when_the_best_one_has_no_time() {
    let Some(server) = server().await else { return };
    // a.three.test at ::1 does not listen, at 127.0.0.2 it is too busy; b.three.test at 127.0.0.3 takes the message.
    let busy = vec![vec![Say(b"421 4.3.2 too busy\r\n")]];
    let (address, _busy) = scripted_at(([127, 0, 0, 2], 0).into(), busy).await;
    let willing = vec![[EHLO.to_vec(), delivery("MAIL")].concat()];
    let (_, _willing) = scripted_at(([127, 0, 0, 3], address.port()).into(), willing).await;
    let carrier = carrier(address.port(), server.address);
    let findings = attempt_with(&carrier, &["bob@three.test"], b"x\r\n").await;
    assert_eq!(findings[0].outcome, Outcome::Delivered, "{findings:?}");
    assert_eq!(findings[0].host.as_deref(), Some("b.three.test"));
}

#[tokio::test]
async fn a_domain_that_does_not_exist_fails_for_good_without_a_connection() {
    let Some(server) = server().await else { return };
    let findings = attempt_with(
        &carrier(25, server.address),
        &["bob@missing.test"],
        b"x\r\n",
    )
    .await;
    assert_eq!(
        (findings[0].outcome, findings[0].status.as_str()),
        (Outcome::Permanent, "5.1.2")
    );
    assert!(!findings[0].remote);
}

#[tokio::test]
async fn an_address_literal_needs_no_server() {
    let dns = Dns::new(&[NO_DNS.into()], "relay.example.test").unwrap();
    assert_eq!(hosts(&dns, "[127.0.0.1]").await.unwrap(), ["127.0.0.1"]);
    assert_eq!(hosts(&dns, "[IPv6:::1]").await.unwrap(), ["::1"]);
}
