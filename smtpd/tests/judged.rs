//! Mail from other servers is judged: what is found stands on top, forged results are gone, and what is to be refused is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use daemon::config::{Authentication, Measure, Unanswered};
use daemon::limits::Limits;
use daemon::port::Begins;
use dkim::{Signer, SigningKey};
use ipc::delivery::Destination;
use ipc::dns::{Found, Kind, Record};
use mail::address::Domain;
use smtp::server::Role;
use tokio::net::TcpStream;
use world::{Client, Kept, World};

/// Nobody is trusted, so that clients of this machine are judged, and they have these records in DNS.
fn world(change: impl FnOnce(&mut Authentication)) -> World {
    let mut rules = Authentication {
        trusted_clients: Vec::new(),
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
        ("bad.example", "v=spf1 -all exp=why.bad.example"),
        ("why.bad.example", "%{i} is not ours"),
        ("_dmarc.good.example", "v=DMARC1; p=reject"),
        ("_dmarc.bank.example", "v=DMARC1; p=reject"),
        ("_dmarc.shop.example", "v=DMARC1; p=quarantine"),
    ] {
        set(&world, name, Kind::Txt, Record::Txt(text.into()));
    }
    let name = Record::Ptr("client.good.example".into());
    set(&world, "1.0.0.127.in-addr.arpa", Kind::Ptr, name);
    let address = Record::A([127, 0, 0, 1].into());
    set(&world, "client.good.example", Kind::A, address);
    world
}

fn set(world: &World, name: &str, kind: Kind, record: Record) {
    let found = Found::Records(vec![record]);
    let mut zone = world.queue.zone.lock().unwrap();
    zone.insert((name.into(), kind), found);
}

fn silence(world: &World, name: &str) {
    let mut zone = world.queue.zone.lock().unwrap();
    zone.insert((name.into(), Kind::Txt), Found::Fault);
}

async fn send(
    client: &mut Client<TcpStream>,
    sender: &str,
    recipients: &[&str],
    message: &str,
) -> String {
    client.begin(sender, recipients).await;
    client.send(message).await;
    client.send(".\r\n").await;
    client.hear().await
}

const BOB: &[&str] = &["bob@example.org"];

/// Where all find it.
fn destination(kept: &Kept) -> Destination {
    match kept.junk.is_empty() {
        true => Destination::Inbox,
        false => {
            assert_eq!(kept.junk, kept.recipients);
            Destination::Junk
        }
    }
}

/// A message on one line each, with the fold taken out.
fn unfolded(text: &str) -> String {
    text.replace("\r\n\t ", " ").replace("\r\n\t", " ")
}

#[tokio::test]
async fn what_is_found_stands_on_top_and_forged_results_are_gone() {
    let mut world = world(|_| {});
    let mut client = world.visit().await;
    let foreign = "Authentication-Results: mx.far.example; spf=pass\r\n";
    let message = format!(
        "Authentication-Results: mx.example.org;\r\n dmarc=pass\r\n{foreign}From: a@good.example\r\n\
         authentication-results : MX.example.org; spf=pass\r\nSubject: x\r\n\r\n\
         Authentication-Results: mx.example.org; kept\r\n"
    );
    let reply = send(&mut client, "a@good.example", BOB, &message).await;
    assert!(reply.starts_with("250"), "{reply}");
    let text = world.store.kept()[0].text();
    assert!(
        text.starts_with(
            "Return-Path: <a@good.example>\r\nAuthentication-Results: mx.example.org;\r\n"
        ),
        "{text}"
    );
    let end = format!(
        "{foreign}From: a@good.example\r\nSubject: x\r\n\r\nAuthentication-Results: mx.example.org; kept\r\n"
    );
    assert!(text.ends_with(&end), "{text}");
    let plain = unfolded(&text);
    for found in [
        "iprev=pass (client.good.example) policy.iprev=127.0.0.1;",
        "spf=none smtp.helo=client.example;",
        "spf=pass smtp.mailfrom=a@good.example;",
        "dmarc=pass (p=reject) header.from=good.example;",
        "dkim=none\r\nReceived: from client.example",
    ] {
        assert!(plain.contains(found), "{found}\n{plain}");
    }
    assert_eq!(text.matches("mx.example.org;").count(), 2);
}

#[tokio::test]
async fn a_spoof_is_refused_where_the_domain_asks_for_it() {
    let mut world = world(|_| {});
    let mut client = world.visit().await;
    let spoof = "From: Bank <info@bank.example>\r\n\r\n";
    let reply = send(&mut client, "a@good.example", BOB, spoof).await;
    assert!(
        reply.starts_with("550 5.7.26") && reply.contains("bank.example"),
        "{reply}"
    );
    let two = "From: a@good.example\r\nFrom: info@bank.example\r\n\r\n";
    let reply = send(&mut client, "a@good.example", BOB, two).await;
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
    assert_eq!(world.store.kept().len(), 0);
    let shop = "From: info@shop.example\r\n\r\n";
    let reply = send(&mut client, "a@good.example", BOB, shop).await;
    assert!(reply.starts_with("250"), "{reply}");
    let text = unfolded(&world.store.kept()[0].text());
    assert!(
        text.contains("dmarc=fail (p=quarantine) header.from=shop.example;"),
        "{text}"
    );
}

#[tokio::test]
async fn junk_is_taken_for_the_junk_mailbox_whatever_its_size() {
    let shop = "From: info@shop.example\r\n\r\n";
    let good = "From: a@good.example\r\n\r\n";
    // At some of them it is the head that does not fit into a frame.
    for size in [0, 15_800, 15_900, 16_000, 300_000] {
        let mut world = world(|_| {});
        let mut client = world.visit().await;
        let body = "0123456789abcdef0123456789abcde\r\n".repeat(size / 33 + 1);
        for message in [shop, good] {
            let message = format!("{message}{body}");
            let list = &["list@example.org"];
            let reply = send(&mut client, "a@good.example", list, &message).await;
            assert!(reply.starts_with("250"), "{reply}");
        }
        let kept = world.store.kept();
        let destinations: Vec<_> = kept.iter().map(destination).collect();
        assert_eq!(
            destinations,
            [Destination::Junk, Destination::Inbox],
            "{size}"
        );
        assert_eq!(
            world.queue.kept().len(),
            2,
            "elsewhere it goes on as before"
        );
    }
}

#[tokio::test]
async fn each_measure_may_be_junk_and_the_strictest_counts() {
    let plain = "From: a@bad.example\r\n\r\n";
    let several = "From: a@bad.example\r\nFrom: info@bank.example\r\n\r\n";
    let shop = "From: info@shop.example\r\n\r\n";
    let forged = "DKIM-Signature: v=1; a=ed25519-sha256; d=bad.example; s=s; h=from; bh=eA==; b=eA==\r\n\
                  From: a@bad.example\r\n\r\n";
    type Change = fn(&mut Authentication);
    let cases: [(Change, &str, Option<Destination>); 8] = [
        (|_| {}, plain, Some(Destination::Inbox)),
        (
            |rules| rules.spf_fail = Measure::Junk,
            plain,
            Some(Destination::Junk),
        ),
        (
            |rules| rules.unclear_author = Measure::Junk,
            several,
            Some(Destination::Junk),
        ),
        (|_| {}, forged, Some(Destination::Inbox)),
        (
            |rules| rules.dkim_fail = Measure::Junk,
            forged,
            Some(Destination::Junk),
        ),
        (
            |rules| rules.dmarc_quarantine = Measure::Accept,
            shop,
            Some(Destination::Inbox),
        ),
        (|rules| rules.dmarc_quarantine = Measure::Reject, shop, None),
        (|rules| rules.spf_fail = Measure::Reject, shop, None),
    ];
    for (number, (change, message, wanted)) in cases.into_iter().enumerate() {
        let mut world = world(change);
        let key = Record::Txt(
            b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".to_vec(),
        );
        set(&world, "s._domainkey.bad.example", Kind::Txt, key);
        let mut client = world.visit().await;
        let reply = send(&mut client, "a@bad.example", BOB, message).await;
        let taken = reply.starts_with("250");
        let kept = world.store.kept();
        let destination = kept.first().map(destination);
        assert_eq!(
            (destination, taken),
            (wanted, wanted.is_some()),
            "{number}: {reply}"
        );
    }
}

#[tokio::test]
async fn each_measure_is_taken_or_not_as_configured() {
    let spoof = "From: Bank <info@bank.example>\r\n\r\n";
    let plain = "From: a@bad.example\r\n\r\n";
    type Change = fn(&mut Authentication);
    let cases: [(Change, &str, &str, &str); 6] = [
        (
            |rules| rules.dmarc_reject = Measure::Accept,
            "a@good.example",
            spoof,
            "250",
        ),
        (
            |rules| rules.enabled = false,
            "a@good.example",
            spoof,
            "250",
        ),
        (|_| {}, "a@bad.example", plain, "250"),
        (
            |rules| rules.spf_fail = Measure::Reject,
            "a@bad.example",
            plain,
            "550 5.7.23 127.0.0.1 may not send mail of bad.example (SPF); bad.example explains: 127.0.0.1 is not ours",
        ),
        (|_| {}, "a@silent.example", plain, "250"),
        (
            |rules| rules.unanswered = Unanswered::Defer,
            "a@silent.example",
            plain,
            "451 4.4.3",
        ),
    ];
    for (change, sender, message, wanted) in cases {
        let mut world = world(change);
        silence(&world, "silent.example");
        let mut client = world.visit().await;
        let reply = send(&mut client, sender, BOB, message).await;
        assert!(reply.starts_with(wanted), "{wanted}\n{reply}");
    }
}

#[tokio::test]
async fn without_dns_mail_is_taken_and_says_so() {
    let mut world = world(|_| {});
    for name in ["good.example", "_dmarc.good.example"] {
        silence(&world, name);
    }
    let mut client = world.visit().await;
    let reply = send(
        &mut client,
        "a@good.example",
        BOB,
        "From: a@good.example\r\n\r\n",
    )
    .await;
    assert!(reply.starts_with("250"), "{reply}");
    let text = unfolded(&world.store.kept()[0].text());
    assert!(
        text.contains("spf=temperror (no answer from DNS) smtp.mailfrom=a@good.example;"),
        "{text}"
    );
    assert!(
        text.contains("dmarc=temperror header.from=good.example;"),
        "{text}"
    );
}

#[tokio::test]
async fn a_crowd_before_dns_makes_no_spoof_welcome() {
    let mut world = world(|_| {});
    *world.queue.busy.lock().unwrap() = 20;
    let mut client = world.visit().await;
    let spoof = "From: Bank <info@bank.example>\r\n\r\n";
    let reply = send(&mut client, "a@good.example", BOB, spoof).await;
    assert!(reply.starts_with("550 5.7.26"), "{reply}");
}

// HOSTILE 18: a signature of a part of the body, b= of nothing, and a thousand signatures.
#[tokio::test]
async fn hostile_signatures_make_no_spoof_welcome() {
    let mut world = world(|_| {});
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let key = SigningKey::from_pkcs8(&pair.serialize_der()).unwrap();
    let record = Record::Txt(key.record().unwrap().into_bytes());
    set(&world, "s._domainkey.bank.example", Kind::Txt, record);
    let message = "From: info@bank.example\r\n\r\nhello\r\n";
    let mut signer = Signer::new(&key, Domain::parse("bank.example").unwrap(), "s");
    signer.feed(message.as_bytes());
    let field = signer.end(1_000_000_000).unwrap();
    let short = "DKIM-Signature: v=1; a=ed25519-sha256; d=bank.example; s=s; h=from; bh=; b=x\r\n";
    let mut client = world.visit().await;
    for hostile in [
        // More than what was signed.
        format!("{field}{message}and more\r\n"),
        format!(
            "{}{message}and more\r\n",
            field.replacen("; s=", "; l=7; s=", 1)
        ),
        format!("{short}{message}"),
        // The good one is beyond those that are looked at.
        format!("{}{field}{message}", short.repeat(1000)),
    ] {
        let reply = send(&mut client, "list@far.example", BOB, &hostile).await;
        assert!(reply.starts_with("550 5.7.26"), "{reply}");
    }
}

#[tokio::test]
async fn the_same_stands_on_messages_of_every_size_wherever_they_go() {
    // At some of them it is the head that does not fit into a frame.
    for size in [
        0, 12_000, 15_000, 15_800, 15_850, 15_900, 15_950, 16_000, 16_500, 300_000,
    ] {
        let mut world = world(|_| {});
        let mut client = world.visit().await;
        let body = "0123456789abcdef0123456789abcde\r\n".repeat(size / 33 + 1);
        let message = format!("From: a@good.example\r\n\r\n{body}");
        let reply = send(
            &mut client,
            "a@good.example",
            &["list@example.org"],
            &message,
        )
        .await;
        assert!(reply.starts_with("250"), "{reply}");
        let here = world.store.kept()[0].text();
        let there = world.queue.kept()[0].text();
        assert_eq!(here, format!("Return-Path: <a@good.example>\r\n{there}"));
        assert!(
            there.starts_with("Authentication-Results: mx.example.org;\r\n"),
            "{size}"
        );
        assert!(
            there.contains("dmarc=pass") && there.ends_with(&message),
            "{size}"
        );
        assert_eq!(there.matches("\r\nReceived: ").count(), 1);
    }
}

#[tokio::test]
async fn signatures_are_verified_over_what_came() {
    let mut world = world(|rules| rules.dkim_fail = Measure::Reject);
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let key = SigningKey::from_pkcs8(&pair.serialize_der()).unwrap();
    let record = Record::Txt(key.record().unwrap().into_bytes());
    set(&world, "s._domainkey.bank.example", Kind::Txt, record);
    // The forged field was there when it was signed, and is taken out only behind the verifier.
    let message = "Authentication-Results: mx.example.org; none\r\nFrom: info@bank.example\r\nSubject: x\r\n\r\nhello\r\n";
    let mut signer = Signer::new(&key, Domain::parse("bank.example").unwrap(), "s");
    signer.feed(message.as_bytes());
    let signed = signer.end(1_000_000_000).unwrap() + message;
    let mut client = world.visit().await;
    let reply = send(&mut client, "list@far.example", BOB, &signed).await;
    assert!(reply.starts_with("250"), "{reply}");
    let text = unfolded(&world.store.kept()[0].text());
    assert!(text.contains("dkim=pass header.d=bank.example"), "{text}");
    assert!(
        text.contains("dmarc=pass (p=reject) header.from=bank.example;"),
        "{text}"
    );
    assert!(!text.contains("Authentication-Results: mx.example.org; none"));
    let changed = signed.replace("hello", "hallo");
    let reply = send(&mut client, "list@far.example", BOB, &changed).await;
    assert!(reply.starts_with("550 5.7.26"), "{reply}");
    let changed = signed.replace("bank.example", "plain.example");
    let reply = send(&mut client, "list@far.example", BOB, &changed).await;
    assert!(
        reply.starts_with("250"),
        "no key, so nothing was forged: {reply}"
    );
}

#[tokio::test]
async fn nobody_else_is_judged() {
    let spoof = "From: Bank <info@bank.example>\r\n\r\n";
    // A trusted client.
    let mut trusting = World::new();
    let mut client = trusting.visit().await;
    let reply = send(&mut client, "a@good.example", BOB, spoof).await;
    assert!(reply.starts_with("250"), "{reply}");
    assert!(
        !trusting.store.kept()[0]
            .text()
            .contains("Authentication-Results")
    );
    // LMTP.
    let mut world = world(|_| {});
    let address = world.listen(Role::Delivery, Begins::Clear).await;
    let mut client = world.connect(address).await;
    client.ask("LHLO client.example", "250").await;
    let reply = send(&mut client, "a@good.example", BOB, spoof).await;
    assert!(reply.starts_with("250"), "{reply}");
    assert!(
        world.store.kept()[0]
            .text()
            .starts_with("Return-Path: <a@good.example>\r\nReceived: ")
    );
}
