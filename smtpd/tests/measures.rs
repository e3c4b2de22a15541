//! What is done about a message differs by the domains of its recipients, and one message may have recipients of several.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use daemon::config::{Authentication, DomainMeasures, Measure, Unanswered};
use ipc::dns::{Found, Kind, Record};
use world::{Client, World};

const BOB: &str = "bob@example.org";
const ALICE: &str = "alice@example.org";
const SOFT: &str = "erin@soft.example";
const STRICT: &str = "frank@strict.example";
/// Leads to bob.
const ALIAS: &str = "info@soft.example";

const SPOOF: &str = "From: info@bank.example\r\n\r\n";
const SHOP: &str = "From: info@shop.example\r\n\r\n";

/// Mail to soft.example is taken whatever it is, to strict.example it is put off or refused where that is wanted, and elsewhere
/// the general measures count.
fn world() -> World {
    let rules = Authentication {
        trusted_clients: Vec::new(),
        domains: vec![
            DomainMeasures {
                names: vec![String::from("soft.example").try_into().unwrap()],
                dmarc_reject: Some(Measure::Accept),
                dmarc_quarantine: Some(Measure::Accept),
                ..DomainMeasures::default()
            },
            DomainMeasures {
                names: vec![String::from("strict.example").try_into().unwrap()],
                dmarc_quarantine: Some(Measure::Reject),
                unclear_author: Some(Measure::Accept),
                unanswered: Some(Unanswered::Defer),
                ..DomainMeasures::default()
            },
        ],
        ..Authentication::default()
    };
    let world = World::judging(rules);
    for (name, text) in [
        ("_dmarc.bank.example", "v=DMARC1; p=reject"),
        ("_dmarc.shop.example", "v=DMARC1; p=quarantine"),
    ] {
        let found = Found::Records(vec![Record::Txt(text.into())]);
        let mut zone = world.queue.zone.lock().unwrap();
        zone.insert((name.into(), Kind::Txt), found);
    }
    let silent = (String::from("silent.example"), Kind::Txt);
    let mut zone = world.queue.zone.lock().unwrap();
    zone.insert(silent, Found::Fault);
    drop(zone);
    world
}

/// The reply, who found the message where, and how many went elsewhere.
async fn send(world: &mut World, sender: &str, to: &[&str], message: &str) -> Sent {
    let mut client = world.visit().await;
    client.begin(sender, to).await;
    client.send(message).await;
    client.send(".\r\n").await;
    let reply = client.hear().await;
    let mut kept = std::mem::take(&mut *world.store.kept.lock().unwrap());
    assert!(kept.len() < 2);
    let kept = kept.pop();
    let (recipients, mut junk) =
        kept.map_or_else(Default::default, |one| (one.recipients, one.junk));
    let mut inbox = recipients;
    inbox.retain(|one| !junk.contains(one));
    inbox.sort();
    junk.sort();
    let elsewhere = std::mem::take(&mut *world.queue.kept.lock().unwrap()).len();
    Sent {
        reply,
        inbox,
        junk,
        elsewhere,
    }
}

#[derive(Debug)]
struct Sent {
    reply: String,
    inbox: Vec<String>,
    junk: Vec<String>,
    elsewhere: usize,
}

impl Sent {
    #[track_caller]
    fn is(&self, reply: &str, inbox: &[&str], junk: &[&str]) {
        assert!(self.reply.starts_with(reply), "{reply}: {self:?}");
        assert_eq!(
            (&self.inbox[..], &self.junk[..]),
            (
                &inbox.iter().map(ToString::to_string).collect::<Vec<_>>()[..],
                &junk.iter().map(ToString::to_string).collect::<Vec<_>>()[..],
            )
        );
    }
}

#[tokio::test]
async fn each_recipient_gets_what_its_domain_wants_whatever_the_size() {
    // In one piece, as a stream because of its head, and as a stream.
    for size in [0, 15_900, 16_000, 300_000] {
        let body = "0123456789abcdef0123456789abcde\r\n".repeat(size / 33 + 1);
        let (spoof, shop) = (format!("{SPOOF}{body}"), format!("{SHOP}{body}"));
        let mut world = world();
        send(&mut world, "", &[BOB], &spoof)
            .await
            .is("550 5.7.26", &[], &[]);
        send(&mut world, "", &[SOFT], &spoof)
            .await
            .is("250", &[SOFT], &[]);
        send(&mut world, "", &[BOB, STRICT], &spoof)
            .await
            .is("550 5.7.26", &[], &[]);
        // Who would refuse it finds it in Junk, and a lenient recipient makes it welcome for nobody else.
        for to in [[BOB, SOFT], [SOFT, BOB]] {
            send(&mut world, "", &to, &spoof)
                .await
                .is("250", &[SOFT], &[BOB]);
        }
        send(&mut world, "", &[BOB, STRICT], &shop)
            .await
            .is("250", &[], &[BOB, STRICT]);
        send(&mut world, "", &[STRICT], &shop)
            .await
            .is("550 5.7.26", &[], &[]);
        send(&mut world, "", &[SOFT, STRICT, BOB], &shop)
            .await
            .is("250", &[SOFT], &[BOB, STRICT]);
    }
}

#[tokio::test]
async fn who_is_reached_on_several_ways_gets_what_the_mildest_says() {
    let mut world = world();
    send(&mut world, "", &[ALIAS], SPOOF)
        .await
        .is("250", &[BOB], &[]);
    send(&mut world, "", &[BOB, ALIAS], SPOOF)
        .await
        .is("250", &[BOB], &[]);
    send(&mut world, "", &[ALIAS, BOB, ALICE], SPOOF)
        .await
        .is("250", &[BOB], &[ALICE]);
    let list = send(
        &mut world,
        "a@far.example",
        &["list@example.org", ALIAS],
        SPOOF,
    )
    .await;
    list.is("250", &[BOB], &[ALICE]);
    assert_eq!(list.elsewhere, 1);
}

#[tokio::test]
async fn nobody_waits_for_dns_who_shares_a_message_with_one_who_takes_it() {
    let mut world = world();
    let plain = "From: a@silent.example\r\n\r\n";
    let sender = "a@silent.example";
    send(&mut world, sender, &[STRICT], plain)
        .await
        .is("451 4.4.3", &[], &[]);
    send(&mut world, sender, &[STRICT, BOB], plain)
        .await
        .is("250", &[BOB, STRICT], &[]);
    // What is refused anyhow does not wait.
    send(&mut world, sender, &[STRICT], SHOP)
        .await
        .is("550", &[], &[]);
    // One waits and one refuses: when it comes again, the first may take it.
    let two = format!("From: a@silent.example\r\n{plain}");
    for to in [[STRICT, BOB], [BOB, STRICT]] {
        send(&mut world, sender, &to, &two)
            .await
            .is("451 4.4.3", &[], &[]);
    }
}

#[tokio::test]
async fn a_refused_recipient_leaves_no_rule_behind() {
    let mut world = world();
    let mut client: Client<_> = world.visit().await;
    client.ask("MAIL FROM:<>", "250").await;
    client.ask("RCPT TO:<nobody@soft.example>", "550").await;
    client.ask(&format!("RCPT TO:<{BOB}>"), "250").await;
    client.ask("DATA", "354").await;
    client.send(SPOOF).await;
    client.send(".\r\n").await;
    assert!(client.hear().await.starts_with("550 5.7.26"));
}
