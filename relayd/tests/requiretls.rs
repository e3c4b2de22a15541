//! Mail with REQUIRETLS (RFC 8689) goes over verified TLS to servers that promise the same and that nobody can have forged, or comes back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use loopback::free_port;
use world::deliverd::Deliverd;
use world::house::{House, envelope, wanting};
use world::https::Authority;
use world::zones::{Signing, Zone, Zones};
use world::{EHLO, Hear, Say, Step, delivery, scripted};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@[127.0.0.1]";
const BODY: &[u8] = b"Subject: hello\r\n\r\nsecret\r\n";

const PROMISE: &[u8] = b"250-mx\r\n250 REQUIRETLS\r\n";

/// What stands between a message and its server.
struct Way {
    /// relayd knows the server's certificate.
    known: bool,
    /// What the server says in clear text, if not that it has STARTTLS.
    clear: Option<&'static [u8]>,
    /// What it offers behind TLS.
    behind: &'static [u8],
}

/// What the server heard, and what alice was told.
async fn carry(way: Way) -> (String, Vec<String>) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let mut script = vec![Say(b"220 mx\r\n"), Hear("EHLO ")];
    match way.clear {
        Some(reply) => script.push(Say(reply)),
        None => {
            script.extend([
                Say(b"250-mx\r\n250 STARTTLS\r\n"),
                Hear("STARTTLS"),
                Say(b"220 go\r\n"),
            ]);
            let key = made.signing_key.serialize_der();
            script.push(Step::TlsAs(made.cert.der().to_vec(), key));
            script.extend([Hear("EHLO "), Say(way.behind)]);
        }
    }
    if way.behind == PROMISE && way.known && way.clear.is_none() {
        script.extend(delivery("MAIL FROM:<alice@example.test> REQUIRETLS"));
    }
    let (address, server) = scripted(vec![script]).await;
    let port = address.port();
    let mut house = House::build(&format!("\"port\": {port}, \"dns\": [\"127.0.0.1:9\"]"));
    house.kill();
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    house.trust(&match way.known {
        true => made.cert.pem(),
        false => other.cert.pem(),
    });
    house.start();
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    let recipients = vec![wanting(BOB, "")];
    let brought = house.submit_as(envelope(ALICE, "RET=FULL REQUIRETLS"), recipients, BODY);
    brought.await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    let heard = server.await.unwrap();
    let inbox = deliverd.inbox.lock().unwrap();
    (
        heard,
        inbox.iter().map(|(_, report)| report.clone()).collect(),
    )
}

#[tokio::test]
async fn a_server_that_is_known_and_promises_the_same_gets_the_mail() {
    let (heard, reports) = carry(Way {
        known: true,
        clear: None,
        behind: PROMISE,
    })
    .await;
    assert!(heard.contains("secret"), "{heard}");
    assert!(reports.is_empty(), "{reports:?}");
}

#[tokio::test]
async fn nobody_else_gets_it_and_the_sender_gets_the_header_back() {
    for way in [
        Way {
            known: true,
            clear: None,
            behind: b"250 mx\r\n",
        },
        Way {
            known: false,
            clear: None,
            behind: PROMISE,
        },
        Way {
            known: true,
            clear: Some(PROMISE),
            behind: b"",
        },
    ] {
        let (heard, reports) = carry(way).await;
        assert!(!heard.contains("MAIL"), "{heard}");
        assert_eq!(reports.len(), 1);
        assert!(reports[0].contains("Status: 5.7.30"), "{}", reports[0]);
        assert!(reports[0].contains("Subject: hello"));
        assert!(!reports[0].contains("secret"), "{}", reports[0]);
    }
}

/// The server of `far.test`, whose certificate is good, and what DNS says of it; then what the server heard, and what alice was told.
async fn carry_to_far(signing: Signing<'_>, mode: &str) -> Option<(String, Vec<String>)> {
    let authority = Authority::new();
    let (certificate, key) = authority.sign(&["mx.far.test"]);
    let mut script = vec![
        Say(b"220 mx\r\n"),
        Hear("EHLO "),
        Say(b"250-mx\r\n250 STARTTLS\r\n"),
        Hear("STARTTLS"),
        Say(b"220 go\r\n"),
        Step::TlsAs(certificate.der().to_vec(), key.serialize_der()),
        Hear("EHLO "),
        Say(PROMISE),
    ];
    script.extend(delivery("MAIL FROM:<alice@example.test> REQUIRETLS"));
    let (address, server) = scripted(vec![script]).await;
    let records = "far IN MX 10 mx.far\nmx.far IN A 127.0.0.1\n";
    let zone = Zone {
        name: "test",
        records,
        signing,
    };
    let zones = Zones::serve(&[zone]).await?;
    let (port, dns, anchor) = (address.port(), zones.address, &zones.anchor);
    let mut house = House::build(&format!(
        "\"port\": {port}, \"dns\": [\"{dns}\"], \"dnssec\": {{\"mode\": \"{mode}\", \"trust_anchors\": [\"{anchor}\"]}}"
    ));
    house.kill();
    house.trust(&authority.pem);
    house.start();
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    let recipients = vec![wanting("bob@far.test", "")];
    let brought = house.submit_as(envelope(ALICE, "REQUIRETLS"), recipients, BODY);
    brought.await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    let reports: Vec<_> = deliverd.inbox.lock().unwrap().clone();
    let heard = match reports.is_empty() {
        true => server.await.unwrap(),
        false => String::new(),
    };
    let reports = reports.into_iter().map(|(_, report)| report).collect();
    Some((heard, reports))
}

#[tokio::test]
async fn whom_a_signed_zone_names_gets_it() {
    let carried = carry_to_far(Signing::With(&[]), "auto").await;
    let Some((heard, reports)) = carried else {
        return;
    };
    assert!(heard.contains("secret"), "{reports:?}");
    assert!(reports.is_empty(), "{reports:?}");
}

#[tokio::test]
async fn nobody_gets_it_whom_only_an_unsigned_zone_names() {
    for (signing, mode) in [(Signing::None, "require"), (Signing::With(&[]), "off")] {
        let Some((_, reports)) = carry_to_far(signing, mode).await else {
            return;
        };
        let report = &reports[0];
        for part in ["Status: 5.7.30", "DNSSEC nor MTA-STS", "Subject: hello"] {
            assert!(report.contains(part), "{report}");
        }
        assert!(!report.contains("secret"), "{report}");
    }
}

const WAIVED: &[u8] = b"Subject: hello\r\nTLS-Required: No\r\n\r\nplain\r\n";

#[tokio::test]
async fn that_tls_is_waived_is_kept_unless_it_is_required_or_the_header_does_not_say_so() {
    let twice = [b"TLS-Required: No\r\n".as_slice(), WAIVED].concat();
    let below = [b"Subject: x\r\n\r\n".as_slice(), WAIVED].concat();
    for (parameters, body, wanted) in [
        ("", WAIVED, true),
        ("REQUIRETLS", WAIVED, false),
        ("", &twice, false),
        ("", &below, false),
        ("", BODY, false),
    ] {
        // Nobody takes it, so it stays.
        let house = House::build(&format!("\"port\": {}", free_port()));
        let recipients = vec![wanting(BOB, "")];
        let brought = house.submit_as(envelope(ALICE, parameters), recipients, body);
        let id = brought.await.unwrap();
        let journal = house.journal(&id);
        let journal = std::fs::read_to_string(journal).unwrap();
        assert_eq!(journal.contains("\"tls_waived\":true"), wanted, "{journal}");
    }
}

#[tokio::test]
async fn who_gets_a_mail_with_tls_waived_sees_that() {
    let mut script = EHLO.to_vec();
    script.extend(delivery("MAIL FROM:<alice@example.test>"));
    let (address, server) = scripted(vec![script]).await;
    let house = House::build(&format!("\"port\": {}", address.port()));
    let recipients = vec![wanting(BOB, "")];
    let brought = house.submit_as(envelope(ALICE, ""), recipients, WAIVED);
    brought.await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    let heard = server.await.unwrap();
    assert!(
        heard.contains("\r\nTLS-Required: No\r\n\r\nplain\r\n"),
        "{heard}"
    );
}
