//! Filters take recipients away and add others; whoever gets a message in the end gets it under the rules of those who are left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use daemon::config::{
    Authentication, DomainMeasures, Filter, FilterListener, Measure, OnFailure, Oversize,
};
use ipc::dns::{Found, Kind, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use world::World;

const BOB: &str = "bob@example.org";
/// An alias that leads to bob.
const INFO: &str = "info@soft.example";
const SOFT: &str = "carol@soft.example";
const BACKED: &str = "dave@backed.example";

/// Spoofs go into quarantine but for recipients in soft.example and backed.example. The filter refuses recipients that begin with
/// this, and at the end of a message says that.
fn world(refuses: &'static str, at_end: Vec<u8>) -> World {
    let entry = DomainMeasures {
        names: ["soft.example", "backed.example"]
            .map(|name| String::from(name).try_into().unwrap())
            .into(),
        dmarc_reject: Some(Measure::Accept),
        ..DomainMeasures::default()
    };
    let mut world = World::judging(Authentication {
        trusted_clients: Vec::new(),
        dmarc_reject: Measure::Quarantine,
        domains: vec![entry],
        ..Authentication::default()
    });
    let found = Found::Records(vec![Record::Txt("v=DMARC1; p=reject".into())]);
    let mut zone = world.queue.zone.lock().unwrap();
    zone.insert(("_dmarc.bank.example".into(), Kind::Txt), found);
    drop(zone);
    let listener = UnixListener::bind(world.socket("one")).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, refuses, at_end.clone()));
        }
    });
    world.filters.push(Filter {
        name: "one".into(),
        // Here relayd does not read the configuration.
        address: String::from("unix:/nowhere/one").try_into().unwrap(),
        listeners: vec![FilterListener::Mx],
        on_failure: OnFailure::TempFail,
        connect_timeout_seconds: 10.try_into().unwrap(),
        timeout_seconds: 10.try_into().unwrap(),
        max_message_size: 100_000.try_into().unwrap(),
        oversize: Oversize::Accept,
    });
    world
}

fn packet(kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 1).unwrap();
    [&length.to_be_bytes()[..], &[kind], data].concat()
}

async fn answer(mut stream: UnixStream, refuses: &str, at_end: Vec<u8>) {
    loop {
        let mut head = [0; 5];
        if stream.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes(head[..4].try_into().unwrap());
        let mut data = vec![0; length as usize - 1];
        stream.read_exact(&mut data).await.unwrap();
        let terms = [6_u32, 0x1df, 0].map(u32::to_be_bytes).concat();
        let said = match head[4] {
            b'O' => packet(b'O', &terms),
            b'D' | b'A' | b'Q' => continue,
            b'R' if !refuses.is_empty() && data.starts_with(refuses.as_bytes()) => {
                packet(b'r', b"")
            }
            b'E' => [at_end.clone(), packet(b'c', b"")].concat(),
            _ => packet(b'c', b""),
        };
        if stream.write_all(&said).await.is_err() {
            return;
        }
    }
}

/// Sends a spoof: who gets it here, for whom it is held, and who gets it elsewhere.
async fn send(world: &mut World, to: &[(&str, &str)]) -> [Vec<String>; 3] {
    let mut client = world.visit().await;
    client.ask("MAIL FROM:<eve@far.example>", "250").await;
    for (one, reply) in to {
        client.ask(&format!("RCPT TO:<{one}>"), reply).await;
    }
    client.ask("DATA", "354").await;
    client
        .ask("From: info@bank.example\r\n\r\nhi\r\n.", "250")
        .await;
    let mut all = [Vec::new(), Vec::new(), Vec::new()];
    for kept in world.store.kept() {
        all[0].extend(kept.recipients);
    }
    for kept in world.queue.kept() {
        let place = if kept.quarantine.is_some() { 1 } else { 2 };
        all[place].extend(kept.queued.into_iter().map(|one| one.address));
    }
    all
}

fn nobody() -> Vec<String> {
    Vec::new()
}

#[tokio::test]
async fn a_recipient_that_a_filter_refuses_leaves_no_rule() {
    let mut world = world("<info@", Vec::new());
    let to = [(INFO, "550 5.7.1"), (BOB, "250")];
    let sent = send(&mut world, &to).await;
    assert_eq!(sent, [nobody(), vec![BOB.to_owned()], nobody()]);
}

#[tokio::test]
async fn a_recipient_that_a_filter_takes_away_leaves_no_rule() {
    let both = [(INFO, "250"), (BOB, "250")];
    // Together they have the milder rule.
    let sent = send(&mut world("", Vec::new()), &both).await;
    assert_eq!(sent, [vec![BOB.to_owned()], nobody(), nobody()]);
    let mut world = world("", packet(b'-', b"<info@soft.example>\0"));
    let sent = send(&mut world, &both).await;
    assert_eq!(sent, [nobody(), vec![BOB.to_owned()], nobody()]);
}

#[tokio::test]
async fn a_recipient_that_a_filter_adds_comes_with_the_rule_of_its_domain() {
    let adds = [
        packet(b'+', format!("<{SOFT}>\0").as_bytes()),
        packet(b'+', format!("<{BACKED}>\0").as_bytes()),
    ];
    let sent = send(&mut world("", adds.concat()), &[(BOB, "250")]).await;
    let one = |address: &str| vec![address.to_owned()];
    assert_eq!(sent, [one(SOFT), one(BOB), one(BACKED)]);
}
