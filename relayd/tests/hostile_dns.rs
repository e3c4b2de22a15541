//! DNS servers that mean harm: names that point at themselves, and domains with so many servers that each mail would knock at all of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mail::address::Domain;
use relayd::dns::{Dns, NoHost};
use smtp::client::Outcome;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UdpSocket};
use world::zones::{Signing, Zone, Zones};
use world::*;

/// Begins behind the header and the question: owner, kind MX, class IN, a TTL of a minute, and the data.
fn record(owner: &[u8], data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    [owner, &[0, 15, 0, 1, 0, 0, 0, 60], &length, data].concat()
}

fn pointer(to: usize) -> [u8; 2] {
    (0xc000 | u16::try_from(to).unwrap()).to_be_bytes()
}

/// Makes an answer that begins at this place of the packet.
type Answer = Box<dyn Fn(usize) -> Vec<u8> + Send>;

/// Answers whatever it is asked with what `answer` makes of the place where the answer begins.
async fn server(answer: Arc<Mutex<Answer>>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 1024];
        while let Ok((size, peer)) = socket.recv_from(&mut packet).await {
            // RFC 1035 §4.1.1: QR and RA are set; one answer. What follows the question is left out.
            let mut end = 12;
            while packet[end] != 0 {
                end += usize::from(packet[end]) + 1;
            }
            end += 5;
            let mut reply = packet[..end.min(size)].to_vec();
            (reply[2], reply[3]) = (reply[2] | 0x80, 0x80);
            reply[4..12].copy_from_slice(&[0, 1, 0, 1, 0, 0, 0, 0]);
            let answer = answer.lock().unwrap()(end);
            reply.extend(answer);
            let _ = socket.send_to(&reply, peer).await;
        }
    });
    address
}

#[tokio::test]
async fn a_name_that_points_at_itself_is_no_answer() {
    let good = |_: usize| {
        record(
            &pointer(12),
            &[&[0, 10][..], b"\x02mx", &pointer(12)].concat(),
        )
    };
    let bad: Vec<Answer> = vec![
        // At itself, at each other, ahead, at the end, and through the whole packet a thousand times.
        Box::new(|at| record(&pointer(at), &[0, 10, 0])),
        Box::new(|at| record(&[pointer(at + 2), pointer(at)].concat(), &[0, 10, 0])),
        Box::new(|at| record(&pointer(12), &[&[0, 10][..], &pointer(at + 14)].concat())),
        Box::new(|_| record(&pointer(12), &[&[0, 10][..], &pointer(0x3fff)].concat())),
        Box::new(|at| {
            let chain: Vec<u8> = (0..500)
                .flat_map(|link| [&b"\x01a"[..], &pointer(at + 12 + 4 * (link + 1))].concat())
                .collect();
            record(&pointer(12), &[&[0, 10][..], &chain].concat())
        }),
    ];
    let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(good)));
    let address = server(Arc::clone(&answer)).await;
    for (number, bad) in bad.into_iter().enumerate() {
        let dns = Dns::new(&[address], "relay.example.test").unwrap();
        let domain = |name: &str| Domain::parse(&format!("{name}{number}.test")).unwrap();
        *answer.lock().unwrap() = bad;
        let found = dns.hosts(&domain("bad")).await;
        assert!(
            matches!(found, Err(NoHost::Temporary(..))),
            "{number}: {found:?}"
        );
        // It goes on as before.
        *answer.lock().unwrap() = Box::new(good);
        let found = dns.hosts(&domain("good")).await.unwrap();
        assert_eq!(found.hosts[0].name, format!("mx.good{number}.test"));
    }
}

#[tokio::test]
async fn a_domain_with_very_many_servers_costs_ten_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, knocks) = (
        listener.local_addr().unwrap().port(),
        Arc::<AtomicUsize>::default(),
    );
    let count = Arc::clone(&knocks);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"421 4.3.2 busy\r\n").await;
        }
    });
    let mut records = String::new();
    for number in 0..100 {
        writeln!(
            records,
            "many IN MX {} mx{number}\nmx{number} IN A 127.0.0.1",
            number % 3
        )
        .unwrap();
    }
    let zone = Zone {
        name: "test",
        records: &records,
        signing: Signing::None,
    };
    let Some(zones) = Zones::serve(&[zone]).await else {
        return;
    };
    let carrier = carrier(port, zones.address);
    let findings = attempt_with(&carrier, &["bob@many.test"], b"Subject: x\r\n\r\nx\r\n").await;
    assert_eq!(findings[0].outcome, Outcome::Temporary);
    assert_eq!(knocks.load(Ordering::SeqCst), 10);
}
