//! DNS against a real server: nsd with a zone of our own on a loopback port.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipc::dns::{Found, Kind, Question, Record};
use ipc::queue::{QueueAnswer, QueueRequest};
use ipc::{Context, Refusal};
use loopback::free_port;
use mail::address::Domain;
use relayd::answer::lookup::LookUps;
use relayd::dns::{Dns, NoHost};
use smtp::client::Outcome;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use world::house::{House, PATIENCE};
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
spf IN TXT \"v=spf1 \" \"-all\"
user+x\\@y._spf IN A 127.0.0.2
1.2.0.192.rev IN PTR Mail.three.test.
1.2.0.192.rev IN PTR odd\\010name.test.
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
    let large = format!("large IN TXT \"{}\"\n", "x".repeat(255));
    let large: String = (0..60)
        .map(|n| large.replacen("xx", &format!("{n:02}"), 1))
        .collect();
    fs::write(home.path().join("test.zone"), format!("{ZONE}{large}")).unwrap();
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
    let route = dns.hosts(&Domain::parse(domain).unwrap()).await?;
    Ok(route.hosts.into_iter().map(|host| host.name).collect())
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

fn question(name: &str, kind: Kind) -> Question {
    let name = name.to_owned();
    Question { name, kind }
}

#[tokio::test]
async fn smtpd_is_told_what_dns_says() {
    let Some(server) = server().await else { return };
    let relay = format!("\"dns\": [\"{}\"]", server.address);
    let house = House::build(&relay);
    let look_up = async |name: &str, kind| {
        let request = QueueRequest::LookUp(question(name, kind));
        let call = house.smtpd.ask(Context::default(), PATIENCE, request);
        match call.await.unwrap().answer {
            QueueAnswer::LookedUp(Found::Records(records)) => Ok(records),
            QueueAnswer::LookedUp(found) => Err(found),
            other => panic!("{other:?}"),
        }
    };
    let one = |record| Ok(vec![record]);
    let text = b"v=spf1 -all".to_vec();
    assert_eq!(
        look_up("SPF.test.", Kind::Txt).await,
        one(Record::Txt(text))
    );
    let address = Record::A([127, 0, 0, 2].into());
    let odd = "user+x@y._spf.test";
    assert_eq!(look_up(odd, Kind::A).await, one(address.clone()));
    assert_eq!(look_up("a.three.test", Kind::A).await, one(address));
    let address = Record::Aaaa("::1".parse().unwrap());
    assert_eq!(look_up("a.three.test", Kind::Aaaa).await, one(address));
    let name = Record::Ptr("mail.three.test".into());
    let reverse = "1.2.0.192.rev.test";
    assert_eq!(look_up(reverse, Kind::Ptr).await, one(name));
    let exchange = |preference, name: &str| Record::Mx {
        preference,
        exchange: name.into(),
    };
    let null = look_up("null.test", Kind::Mx).await;
    assert_eq!(null, one(exchange(0, "")));
    let mut three = look_up("alias.test", Kind::Mx).await.unwrap();
    three.sort_by_key(|record| match record {
        Record::Mx { preference, .. } => *preference,
        _ => 0,
    });
    let names = ["a.three.test", "b.three.test", "c.three.test"];
    let hosts = names.iter().zip([10, 20, 30]);
    assert_eq!(
        three,
        hosts.map(|(name, n)| exchange(n, name)).collect::<Vec<_>>()
    );
    for (name, kind, found) in [
        ("three.test", Kind::Txt, Found::NoData),
        ("missing.test", Kind::A, Found::NoSuchName),
        ("double..dot.test", Kind::A, Found::NoSuchName),
        ("large.test", Kind::Txt, Found::TooLarge),
        ("x.broken", Kind::Txt, Found::Fault),
    ] {
        assert_eq!(look_up(name, kind).await, Err(found), "{name}");
    }
    let long = format!("{}.test", "x".repeat(64));
    assert_eq!(look_up(&long, Kind::A).await, Err(Found::NoSuchName));
    let long = "x.".repeat(500);
    assert_eq!(look_up(&long, Kind::A).await, Err(Found::NoSuchName));
}

/// A server that hears questions and says after a while that there is no such name; counts how often it heard each.
async fn slow_server(wait: Duration) -> (Dns, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    tokio::spawn(async move {
        let mut packet = [0; 512];
        while let Ok((size, peer)) = socket.recv_from(&mut packet).await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(wait).await;
            // RFC 1035 §4.1.1: QR and RA are set, RCODE is 3.
            let mut answer = packet[..size].to_vec();
            answer[2] |= 0x80;
            answer[3] = 0x83;
            let _ = socket.send_to(&answer, peer).await;
        }
    });
    (Dns::new(&[address], "relay.example.test").unwrap(), heard)
}

#[tokio::test]
async fn what_many_ask_at_once_is_asked_once() {
    let (dns, heard) = slow_server(Duration::from_millis(300)).await;
    let look_ups = Arc::new(LookUps::new(dns));
    let mut askers = JoinSet::new();
    for _ in 0..50 {
        let look_ups = Arc::clone(&look_ups);
        askers.spawn(async move { look_ups.look_up(&question("a.test", Kind::A)).await });
    }
    for found in askers.join_all().await {
        assert_eq!(found, Ok(Found::NoSuchName));
    }
    assert_eq!(heard.load(Ordering::SeqCst), 1);
    // It is not remembered: there was no SOA to say for how long (RFC 2308 §5).
    let again = look_ups.look_up(&question("a.test", Kind::A)).await;
    assert_eq!(again, Ok(Found::NoSuchName));
    assert_eq!(heard.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn who_asks_on_goes_on_when_the_first_is_cut_off() {
    let (dns, _) = slow_server(Duration::from_millis(300)).await;
    let look_ups = Arc::new(LookUps::new(dns));
    let ask = || {
        let look_ups = Arc::clone(&look_ups);
        tokio::spawn(async move { look_ups.look_up(&question("a.test", Kind::A)).await })
    };
    let (first, second) = (ask(), ask());
    tokio::task::yield_now().await;
    first.abort();
    assert_eq!(second.await.unwrap(), Ok(Found::NoSuchName));
}

#[tokio::test]
async fn too_many_questions_at_once_are_too_many() {
    let (dns, _) = slow_server(Duration::from_secs(60)).await;
    let look_ups = Arc::new(LookUps::new(dns));
    let mut askers = JoinSet::new();
    for number in 0..300 {
        let look_ups = Arc::clone(&look_ups);
        let question = question(&format!("{number}.test"), Kind::A);
        askers.spawn(async move { look_ups.look_up(&question).await });
    }
    let mut refused = 0;
    while refused < 44 {
        let answer = askers.join_next().await.unwrap().unwrap();
        assert_eq!(answer, Err(Refusal::Busy));
        refused += 1;
    }
    // Who is cut off leaves room behind.
    askers.shutdown().await;
    let question = question("a.test", Kind::A);
    let silent = look_ups.look_up(&question);
    let cut = tokio::time::timeout(Duration::from_millis(10), silent).await;
    assert!(cut.is_err(), "{cut:?}");
}
