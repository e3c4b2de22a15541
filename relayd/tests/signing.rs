//! What goes out is signed for the domains of its authors, if all of them are its sender's own, and never goes out without.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::net::Ipv4Addr;
use std::time::Duration;

use ipc::Refusal;
use ipc::budget::{OwnBudget, OwnBudgets, TenantBudget};
use ipc::control::QueueControlRequest;
use ipc::signing::{MAX_FIELDS, Waiting};
use loopback::free_port;
use world::deliverd::Deliverd;
use world::house::House;
use world::zones::{Signing, Zone, Zones};
use world::{EHLO, Step, delivery, scripted, scripted_at};

const ALICE: &str = "alice@example.test";
/// A domain of the tenant `customer`, as the other deliverd says.
const TENANTS: &str = "customer.tenant.test";
const MAIL: &str = "MAIL FROM:<alice@example.test>";

fn script(times: usize) -> Vec<Vec<Step>> {
    vec![[EHLO.as_slice(), &delivery(MAIL)].concat(); times]
}

fn relay(port: u16) -> String {
    format!("\"port\": {port}, \"dns\": [\"127.0.0.1:9\"], \"retry_seconds\": [1, 1, 3600]")
}

fn house(port: u16) -> (House, Deliverd) {
    let house = House::build(&relay(port));
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    (house, deliverd)
}

/// What the server hears of a message that `account` sends.
async fn heard(account: Option<&str>, tenant: Option<&str>, keys: &[&str], body: &str) -> String {
    let (address, server) = scripted(script(1)).await;
    let (house, deliverd) = house(address.port());
    if let Some(name) = tenant {
        let tenant = Some(TenantBudget {
            name: name.into(),
            budget: OwnBudget::default(),
        });
        let budgets = OwnBudgets {
            tenant,
            ..OwnBudgets::default()
        };
        deliverd
            .budgets
            .lock()
            .unwrap()
            .insert(ALICE.into(), budgets);
    }
    keys.iter().for_each(|domain| house.keyd.give_key(domain));
    let to = ["bob@[127.0.0.1]"];
    let body = body.as_bytes();
    house.submit_for(account, ALICE, &to, body).await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    server.await.unwrap()
}

#[tokio::test]
async fn mail_of_an_account_goes_out_under_the_signature_of_its_domain() {
    let body = "Received: here\r\nFrom: Alice <alice@Example.TEST>\r\nX: x\r\nsubject: hi\r\n\r\nhello\r\n";
    let (address, server) = scripted(script(1)).await;
    let (house, _deliverd) = house(address.port());
    house.keyd.give_key("example.test");
    let to = ["bob@[127.0.0.1]"];
    let sent = house.submit_for(Some(ALICE), ALICE, &to, body.as_bytes());
    sent.await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    let heard = server.await.unwrap();
    let signed = format!("X-Signed: example.test\r\n{body}");
    assert!(heard.contains(&format!("DATA\r\n{signed}.\r\n")), "{heard}");
    assert!(heard.contains(&format!("SIZE={}", signed.len())), "{heard}");
    // Of the message keyd sees what is signed, and no more.
    let mut extract = dkim::Extract::default();
    extract.feed(body.as_bytes());
    let wanted = extract.end().unwrap();
    let book = house.keyd.book.lock().unwrap();
    let order = ("example.test".to_owned(), wanted.fields, wanted.body_hash);
    assert_eq!(book.orders, [order]);
}

#[tokio::test]
async fn only_who_has_submitted_it_has_it_signed_and_only_for_domains_of_its_own() {
    const ALL: [&str; 4] = [
        "example.test",
        TENANTS,
        "other.tenant.test",
        "foreign.example",
    ];
    let ours = "From: alice@example.test\r\n\r\nhello\r\n";
    let text = heard(Some(ALICE), None, &ALL, ours).await;
    assert!(text.contains("X-Signed: example.test\r\nFrom"), "{text}");
    // What an alias leads elsewhere.
    let text = heard(None, None, &ALL, ours).await;
    assert!(!text.contains("X-Signed"), "{text}");
    for (tenant, from) in [
        (None, "From: eve@foreign.example"),
        (None, "From: alice@customer.tenant.test"),
        (None, "From: alice@example.test, alice@customer.tenant.test"),
        (None, "From: alice@example.test\r\nFrom: alice@example.test"),
        (None, "From: team: alice@example.test;"),
        (None, "Subject: nobody"),
        (Some("customer"), "From: alice@other.tenant.test"),
        (
            Some("customer"),
            "From: alice@customer.tenant.test, eve@other.tenant.test",
        ),
        (
            Some("customer"),
            "From: alice@example.test, eve@foreign.example",
        ),
    ] {
        let text = heard(
            Some(ALICE),
            tenant,
            &ALL,
            &format!("{from}\r\n\r\nhello\r\n"),
        )
        .await;
        assert!(!text.contains("X-Signed"), "{tenant:?} {from}: {text}");
        assert!(text.contains("hello"), "{text}");
    }
}

#[tokio::test]
async fn a_message_of_two_domains_of_one_tenant_is_signed_by_both() {
    let body = "From: alice@example.test, alice@customer.tenant.test\r\n\r\nhello\r\n";
    let keys = ["example.test", TENANTS];
    let text = heard(Some(ALICE), Some("customer"), &keys, body).await;
    let signed = "X-Signed: example.test\r\nX-Signed: customer.tenant.test\r\nFrom";
    assert!(text.contains(signed), "{text}");
    let text = heard(Some(ALICE), Some("customer"), &keys[1..], body).await;
    assert!(text.contains("DATA\r\nX-Signed: customer.tenant.test\r\nFrom"));
}

#[tokio::test]
async fn while_keyd_does_not_sign_mail_waits_and_then_goes_out_signed_even_after_a_crash() {
    let (address, server) = scripted(script(1)).await;
    let (mut house, _deliverd) = house(address.port());
    house.keyd.give_key("example.test");
    house.keyd.book.lock().unwrap().refusal = Some(Refusal::StorageFault);
    let body = b"From: alice@example.test\r\n\r\nhello\r\n";
    let to = ["bob@[127.0.0.1]"];
    let sent = house.submit_for(Some(ALICE), ALICE, &to, body);
    sent.await.unwrap();
    let queue = house
        .queue_until(|queue| queue.iter().any(|one| one.recipients[0].attempts > 0))
        .await;
    let last = format!("{:?}", queue[0].recipients[0]);
    assert!(last.contains("cannot be signed now"), "{last}");
    house.kill();
    house.keyd.book.lock().unwrap().refusal = None;
    house.start();
    let all = QueueControlRequest::RetryMessage { queue_id: None };
    house.order(all).await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    let text = server.await.unwrap();
    assert!(text.contains("X-Signed: example.test\r\nFrom"), "{text}");
}

#[tokio::test]
async fn what_can_never_be_signed_goes_out_without() {
    let (address, server) = scripted(script(2)).await;
    let (house, _deliverd) = house(address.port());
    house.keyd.give_key("example.test");
    house.keyd.book.lock().unwrap().refusal = Some(Refusal::Invalid("no".into()));
    let to = ["bob@[127.0.0.1]"];
    let from = "From: alice@example.test\r\n";
    let refused = format!("{from}\r\nhello\r\n");
    let sent = house.submit_for(Some(ALICE), ALICE, &to, refused.as_bytes());
    sent.await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    house.keyd.book.lock().unwrap().refusal = None;
    let second = format!("{from}\r\nagain\r\n");
    let sent = house.submit_for(Some(ALICE), ALICE, &to, second.as_bytes());
    sent.await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    let text = server.await.unwrap();
    assert!(
        text.contains("DATA\r\nFrom: alice@example.test\r\n\r\nhello"),
        "{text}"
    );
    assert!(text.contains("X-Signed: example.test\r\nFrom: alice@example.test\r\n\r\nagain"));
}

#[tokio::test]
async fn a_header_larger_than_a_frame_comes_to_keyd_whole() {
    let (address, server) = scripted(script(1)).await;
    let (house, _deliverd) = house(address.port());
    house.keyd.give_key("example.test");
    let many = "someone@customer.example,\r\n ".repeat(1500);
    let fields = format!("From: alice@example.test\r\nTo: {many}bob@example.org\r\n");
    assert!((16 * 1024..MAX_FIELDS).contains(&fields.len()));
    let body = format!("{fields}\r\nhello\r\n");
    let to = ["bob@[127.0.0.1]"];
    let sent = house.submit_for(Some(ALICE), ALICE, &to, body.as_bytes());
    sent.await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    assert!(server.await.unwrap().contains("X-Signed: example.test\r\n"));
    assert_eq!(
        house.keyd.book.lock().unwrap().orders[0].1,
        fields.as_bytes()
    );
}

#[tokio::test]
async fn all_destinations_of_a_message_get_the_same_signature() {
    let port = free_port();
    let mut servers = Vec::new();
    for last in 21..24 {
        let address = (Ipv4Addr::new(127, 0, 0, last), port).into();
        servers.push(scripted_at(address, script(1)).await.1);
    }
    let (house, _deliverd) = house(port);
    house.keyd.give_key("example.test");
    let to = ["a@[127.0.0.21]", "b@[127.0.0.22]", "c@[127.0.0.23]"];
    let body = b"From: alice@example.test\r\n\r\nhello\r\n";
    let sent = house.submit_for(Some(ALICE), ALICE, &to, body);
    sent.await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    for server in servers {
        let text = server.await.unwrap();
        assert!(text.contains("X-Signed: example.test\r\nFrom"), "{text}");
    }
    assert_eq!(house.keyd.book.lock().unwrap().orders.len(), 1);
}

#[tokio::test]
async fn a_key_that_waits_is_reported_once_its_record_is_in_dns() {
    let record = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let zone = format!(
        "good._domainkey IN TXT \"v=DKIM1; k=ed25519; \" \"p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"\n\
         other._domainkey IN TXT \"v=DKIM1; k=ed25519; p=22qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"\n\
         two._domainkey IN TXT \"{record}\"\ntwo._domainkey IN TXT \"v=DKIM1; p=\"\n"
    );
    let Some(zones) = Zones::serve(&[Zone {
        name: "signed",
        records: &zone,
        signing: Signing::None,
    }])
    .await
    else {
        return;
    };
    let mut house = House::build(&format!(
        "\"dns\": [\"{}\"], \"dnssec\": {{\"mode\": \"off\"}}",
        zones.address
    ));
    // It looks when it starts, and later.
    house.kill();
    let names = ["absent", "other", "two", "good"].map(|one| format!("{one}._domainkey.signed"));
    let waiting = names.iter().map(|name| Waiting {
        name: name.clone(),
        record: record.into(),
    });
    house.keyd.book.lock().unwrap().waiting = waiting.collect();
    house.start();
    for _ in 0..400 {
        if !house.keyd.book.lock().unwrap().seen.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(house.keyd.book.lock().unwrap().seen, [names[3].clone()]);
}
