//! The program itself keeps what domains demand of TLS, by DANE and by MTA-STS: what may go goes, and the rest waits.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::fmt::Write;

use sha2::{Digest, Sha256};
use world::house::House;
use world::https::{Authority, Https};
use world::zones::{Signing, Zone, Zones};
use world::*;

const BODY: &[u8] = b"Subject: hello\r\n\r\nsecret\r\n";
/// Domains, what their server's certificate is known by, and whether the one it has will do.
const DOMAINS: [(&str, bool); 8] = [
    ("dane", true),
    ("forged", false),
    ("sts", true),
    ("unnamed", false),
    ("testing", true),
    ("both", true),
    // What the configuration says about them is stricter, and not so strict.
    ("strict", false),
    ("lax", true),
];

fn zone(port: u16, digest: &str) -> String {
    let mut zone = String::new();
    for (name, _) in DOMAINS {
        writeln!(zone, "{name} IN MX 10 mx.{name}\nmx.{name} IN A 127.0.0.2").unwrap();
    }
    for name in ["sts", "unnamed", "testing", "both"] {
        writeln!(zone, "mta-sts.{name} IN A 127.0.0.1").unwrap();
        writeln!(zone, "_mta-sts.{name} IN TXT \"v=STSv1; id=1;\"").unwrap();
    }
    let zeros = "0".repeat(64);
    for (name, digest) in [
        ("dane", digest),
        ("forged", &zeros),
        ("both", digest),
        ("lax", &zeros),
    ] {
        writeln!(zone, "_{port}._tcp.mx.{name} IN TLSA 3 0 1 {digest}").unwrap();
    }
    zone
}

#[tokio::test]
async fn mail_goes_only_to_whom_the_domain_means() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign(&["mx.sts.test"]);
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
    script.extend([Hear("QUIT"), Say(b"221 bye\r\n")]);
    // Two that are refused at their certificate: by DANE, and in testing, which is then tried again.
    let calls = DOMAINS.iter().filter(|(_, is_good)| *is_good).count() + 2;
    let (address, server) = scripted_at(([127, 0, 0, 2], 0).into(), vec![script; calls]).await;
    let digest = Sha256::digest(certificate.der());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = "test";
    let records = &zone(address.port(), &digest);
    let signing = Signing::With(&[]);
    let zones = Zones::serve(&[Zone {
        name,
        records,
        signing,
    }])
    .await;
    let hosts = ["sts", "unnamed", "testing", "both"].map(|name| format!("mta-sts.{name}.test"));
    let https = Https::start(&authority, &hosts.each_ref().map(String::as_str)).await;
    let (Some(zones), Some(https)) = (zones, https) else {
        return;
    };
    for (host, mode) in hosts
        .iter()
        .zip(["enforce", "enforce", "testing", "enforce"])
    {
        let mx = match host.as_str() {
            "mta-sts.sts.test" | "mta-sts.testing.test" => host.replace("mta-sts.", "mx."),
            _ => "other.test".into(),
        };
        https.say(
            host,
            &format!("200\nContent-Type: text/plain\n\nversion: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n"),
        );
    }
    let (port, dns, anchor) = (address.port(), zones.address, &zones.anchor);
    let mut house = House::build(&format!(
        "\"port\": {port}, \"dns\": [\"{dns}\"], \"mta_sts\": {{\"port\": {}}}, \
         \"domains\": [{{\"names\": [\"strict.test\"], \"tls\": \"dane\"}}, {{\"names\": [\"lax.test\"], \"tls\": \"may\"}}], \
         \"dnssec\": {{\"mode\": \"require\", \"trust_anchors\": [\"{anchor}\"]}}",
        https.port
    ));
    house.kill();
    house.trust(&authority.pem);
    house.start();
    let from = "alice@example.test";
    for (domain, is_good) in DOMAINS {
        let to = format!("bob@{domain}.test");
        house.submit(from, &[&to], BODY).await.unwrap();
        // One after the other, as the server serves them.
        house
            .queue_until(|queue| {
                let mut recipients = queue.iter().flat_map(|one| &one.recipients);
                match recipients.find(|one| one.address == to) {
                    Some(waiting) => !is_good && waiting.attempts > 0,
                    None => is_good,
                }
            })
            .await;
    }
    let heard = server.await.unwrap();
    for (domain, is_good) in DOMAINS {
        let to = format!("RCPT TO:<bob@{domain}.test>");
        assert_eq!(heard.contains(&to), is_good, "{domain}: {heard}");
    }
    // What was fetched is there after a start, too.
    let kept = std::fs::read_to_string(house.home.path().join("queue/.policies")).unwrap();
    assert_eq!(kept.lines().count(), 3, "{kept}");
}
