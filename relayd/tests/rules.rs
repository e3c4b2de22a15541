//! What the configuration asks of the servers of some domains counts, whatever these and the senders want.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::collections::HashMap;
use std::sync::Arc;

use daemon::config::DnssecMode::Off;
use daemon::config::TlsDemand;
use relayd::attempt::{Carrier, Finding};
use relayd::dial::Phone;
use relayd::tls::{Tls, Wish};
use smtp::client::Outcome;
use world::https::Authority;
use world::zones::{Signing, Zone, Zones};
use world::*;

const BODY: &[u8] = b"Subject: hello\r\n\r\nsecret\r\n";
const BYE: [Step; 2] = [Hear("QUIT"), Say(b"221 bye\r\n")];
const OFFER: [Step; 3] = [
    Say(b"220 mx\r\n"),
    Hear("EHLO "),
    Say(b"250-mx\r\n250 STARTTLS\r\n"),
];

/// What a server is like.
enum Server {
    /// It has no TLS.
    Bare,
    /// Nobody should use the TLS it offers.
    Offering,
    /// Its certificate is good for its name.
    Good,
    /// Nobody knows who signed its certificate.
    Stray,
}

/// Sends a mail to a domain that demands nothing, with this rule about it; says what came of it, and whether the server got it.
async fn send(rule: TlsDemand, wish: Wish, server: Server) -> Option<(Finding, bool)> {
    let authority = Authority::new();
    let certificate = match server {
        Server::Stray => Authority::new().sign(&["mx.a.test"]),
        _ => authority.sign(&["mx.a.test"]),
    };
    let taking = || [delivery("MAIL"), BYE.to_vec()].concat();
    let script = match server {
        Server::Bare if rule == TlsDemand::May => [EHLO.to_vec(), taking()].concat(),
        Server::Bare => [EHLO.to_vec(), BYE.to_vec()].concat(),
        Server::Offering => [OFFER.to_vec(), taking()].concat(),
        Server::Good | Server::Stray => {
            let (certificate, key) = certificate;
            let tls = Step::TlsAs(certificate.der().to_vec(), key.serialize_der());
            let begin = [Hear("STARTTLS"), Say(b"220 go\r\n"), tls];
            let hello = [Hear("EHLO "), Say(b"250 mx\r\n")];
            [OFFER.to_vec(), begin.to_vec(), hello.to_vec(), taking()].concat()
        }
    };
    let (address, server) = scripted_at(([127, 0, 0, 2], 0).into(), vec![script]).await;
    let zone = Zone {
        name: "test",
        records: "a IN MX 10 mx.a\nmx.a IN A 127.0.0.2\n",
        signing: Signing::None,
    };
    let zones = Zones::serve(&[zone]).await?;
    let plain = carrier(address.port(), zones.address);
    let carrier = Carrier {
        dns: zones.dns(Off),
        rules: HashMap::from([("a.test".to_owned(), rule)]),
        phone: Arc::new(Phone {
            config: plain.phone.config.clone(),
            tls: Tls::new(authority.roots.clone()).unwrap(),
            pool: plain.phone.pool.clone(),
        }),
        ..plain
    };
    let finding = attempt_as(&carrier, &["bob@a.test"], BODY, wish)
        .await
        .remove(0);
    let is_called = !matches!(rule, TlsDemand::Sts | TlsDemand::Dane) && finding.status != "5.7.30";
    let heard = match is_called {
        true => server.await.unwrap(),
        false => String::new(),
    };
    Some((finding, heard.contains("secret")))
}

#[tokio::test]
async fn each_rule_asks_for_what_it_says() {
    use Server::{Bare, Good, Offering, Stray};
    use TlsDemand::{Dane, Encrypt, May, None, Sts, Verify};
    use Wish::{AsDemanded, Required, Waived};
    for (rule, wish, server, status) in [
        (None, AsDemanded, Offering, "2.0.0"),
        (None, Waived, Offering, "2.0.0"),
        (None, Required, Offering, "5.7.30"),
        (May, AsDemanded, Stray, "2.0.0"),
        (May, AsDemanded, Bare, "2.0.0"),
        (Encrypt, AsDemanded, Stray, "2.0.0"),
        (Encrypt, AsDemanded, Bare, "4.7.5"),
        (Encrypt, Waived, Bare, "4.7.5"),
        (Verify, AsDemanded, Good, "2.0.0"),
        (Verify, AsDemanded, Stray, "4.7.5"),
        (Verify, Waived, Stray, "4.7.5"),
        (Sts, AsDemanded, Good, "4.7.5"),
        (Dane, AsDemanded, Good, "4.7.5"),
        (Dane, Waived, Good, "4.7.5"),
    ] {
        let Some((finding, is_taken)) = send(rule, wish, server).await else {
            return;
        };
        assert_eq!(finding.status, status, "{rule:?} {wish:?}: {finding:?}");
        let is_good = finding.outcome == Outcome::Delivered;
        assert_eq!(is_taken, is_good, "{rule:?} {wish:?}");
    }
}
