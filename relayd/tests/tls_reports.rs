//! The program itself tells domains how TLS with their servers went, whatever is wrong with it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use ipc::control::{QueueControlAnswer, QueueControlRequest};
use ipc::reports::{ReportKind, ReportSummary, TlsReportRow};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use world::deliverd::Deliverd;
use world::house::House;
use world::https::{Authority, Https};
use world::zones::{Signing, Zone, Zones};
use world::*;

const BODY: &[u8] = b"Subject: hello\r\n\r\nsecret\r\n";
const FROM: &str = "alice@example.test";

/// Domains, and who takes reports about them.
const DOMAINS: [(&str, &str); 7] = [
    ("good", "mailto:reports@good.test"),
    ("bad", "mailto:reports@bad.test,https://bad.test/x"),
    ("testing", "mailto:reports@good.test"),
    ("unnamed", "mailto:reports@good.test"),
    ("lost", "mailto:reports@good.test"),
    ("plain", "mailto:reports@good.test"),
    ("unwanted", ""),
];

fn zone(port: u16, digest: &str) -> String {
    let mut zone = String::new();
    for (name, rua) in DOMAINS {
        let last = if name == "plain" { 3 } else { 2 };
        writeln!(
            zone,
            "{name} IN MX 10 mx.{name}\nmx.{name} IN A 127.0.0.{last}"
        )
        .unwrap();
        if !rua.is_empty() {
            let record = format!("v=TLSRPTv1; rua={rua}");
            writeln!(
                zone,
                "_smtp._tls.{name} IN TXT \"{}\"",
                record.replace(';', "\\;")
            )
            .unwrap();
        }
    }
    for name in ["testing", "unnamed", "lost"] {
        writeln!(zone, "mta-sts.{name} IN A 127.0.0.1").unwrap();
        writeln!(zone, "_mta-sts.{name} IN TXT \"v=STSv1; id=1;\"").unwrap();
    }
    let zeros = "0".repeat(64);
    for (name, digest) in [("good", digest), ("bad", &zeros)] {
        writeln!(zone, "_{port}._tcp.mx.{name} IN TLSA 3 0 1 {digest}").unwrap();
    }
    zone
}

async fn list(house: &House, all: bool) -> Vec<ReportSummary> {
    let request = QueueControlRequest::ListReports {
        kind: ReportKind::Tls,
        after: None,
        all,
    };
    match house.order(request).await.unwrap() {
        QueueControlAnswer::Reports { reports, .. } => reports,
        answer => panic!("{answer:?}"),
    }
}

/// Waits until so many connections of these domains have been counted.
async fn counted(house: &House, wanted: &[(&str, u64)]) {
    let mut counts = Vec::new();
    for _ in 0..400 {
        let listed = list(house, false).await;
        counts = listed
            .into_iter()
            .map(|one| (one.domain, one.messages))
            .collect();
        let name = |(name, count): &(&str, u64)| (format!("{name}.test"), *count);
        if counts == wanted.iter().map(name).collect::<Vec<_>>() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{counts:?}");
}

/// Waits until something that was counted is written down, so that a kill does not take it.
async fn written(queue: &Path) {
    let is_written = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with(".sessions-") && entry.metadata().unwrap().len() > 0
    };
    while !std::fs::read_dir(queue).unwrap().flatten().any(is_written) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends a mail and waits until it is known what became of it.
async fn send(house: &House, domain: &str) {
    let to = format!("bob@{domain}.test");
    // The channel to a relayd that was killed is of no use any more.
    while house.submit(FROM, &[&to], BODY).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    house
        .queue_until(|queue| {
            let mut recipients = queue.iter().flat_map(|one| &one.recipients);
            let waits = recipients.find(|one| one.address == to);
            waits.is_none_or(|one| one.attempts > 0)
        })
        .await;
}

/// The documents in what a server heard, by domain.
fn documents(heard: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for text in heard.split("\nTLS-Report-Domain: ").skip(1) {
        let domain = text.lines().next().unwrap().trim();
        let part = text.split("application/tlsrpt+gzip").nth(1).unwrap();
        let base64 = part.replace('\r', "");
        let base64 = base64.split("\n\n").nth(1).unwrap();
        let document = serde_json::from_str(&gunzip(base64)).unwrap();
        found.insert(domain.to_owned(), document);
    }
    found
}

fn brief(document: &Value) -> Value {
    let policies = document["policies"].as_array().unwrap().iter();
    let brief = policies.map(|one| {
        let failures = one["failure-details"].as_array();
        let failures = failures.into_iter().flatten();
        let failures: Vec<_> = failures
            .map(|one| {
                json!([
                    one["result-type"],
                    one["receiving-ip"],
                    one["failed-session-count"]
                ])
            })
            .collect();
        let good = &one["summary"]["total-successful-session-count"];
        json!([one["policy"]["policy-type"], good, failures])
    });
    brief.collect()
}

#[tokio::test]
async fn domains_are_told_how_tls_with_their_servers_went_whatever_is_wrong_with_it() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign(&["mx.other.test"]);
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
    let bye = [Hear("QUIT"), Say(b"221 bye\r\n")];
    script.extend(delivery("MAIL"));
    script.extend(bye.clone());
    // Twice to good, and to testing, once to bad, unnamed, lost and unwanted; then six reports.
    let scripts = vec![script; 8 + 6];
    let (address, server) = scripted_at(([127, 0, 0, 2], 0).into(), scripts).await;
    let port = address.port();
    let clear = [EHLO.to_vec(), delivery("MAIL"), bye.to_vec()].concat();
    scripted_at(([127, 0, 0, 3], port).into(), vec![clear; 2]).await;
    let digest = Sha256::digest(certificate.der());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let zones = Zones::serve(&[Zone {
        name: "test",
        records: &zone(port, &digest),
        signing: Signing::With(&[]),
    }])
    .await;
    let hosts = ["testing", "unnamed", "lost"].map(|name| format!("mta-sts.{name}.test"));
    let https = Https::start(&authority, &hosts.each_ref().map(String::as_str)).await;
    let (Some(zones), Some(https)) = (zones, https) else {
        return;
    };
    for (host, mx) in hosts.iter().zip(["mx.testing.test", "mx.other.test"]) {
        let policy = format!("version: STSv1\nmode: testing\nmx: {mx}\nmax_age: 86400\n");
        https.say(host, &format!("200\nContent-Type: text/plain\n\n{policy}"));
    }
    let (dns, anchor) = (zones.address, &zones.anchor);
    let mut house = House::build(&format!(
        "\"port\": {port}, \"dns\": [\"{dns}\"], \"retry_seconds\": [7200], \"mta_sts\": {{\"port\": {}}}, \
         \"dnssec\": {{\"mode\": \"require\", \"trust_anchors\": [\"{anchor}\"]}}}}, \"authentication\": {{\"aggregate_reports\": \
         {{\"tls\": true, \"sender\": \"tls@example.test\", \"organization\": \"Us\"}}",
        https.port
    ));
    let _deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    house.kill();
    house.trust(&authority.pem);
    house.start();
    send(&house, "good").await;
    counted(&house, &[("good", 1)]).await;
    written(&house.socket("queue")).await;
    house.kill();
    house.start();
    for (domain, _) in DOMAINS {
        send(&house, domain).await;
    }
    let all = [
        ("bad", 1),
        ("good", 2),
        ("lost", 2),
        ("plain", 1),
        ("testing", 1),
        ("unnamed", 1),
    ];
    counted(&house, &all).await;
    let bad = &list(&house, false).await[0];
    let request = QueueControlRequest::ShowReport {
        kind: ReportKind::Tls,
        begin: bad.begin,
        domain: bad.domain.clone(),
        skip: 0,
    };
    let QueueControlAnswer::TlsReportRows { rows, more: false } =
        house.order(request).await.unwrap()
    else {
        panic!("another answer");
    };
    let zeros = "0".repeat(64);
    let wanted = TlsReportRow {
        count: 1,
        policy: "tlsa".into(),
        lines: vec![format!("3 0 1 {zeros}")],
        hosts: Vec::new(),
        result: "tlsa-invalid".into(),
        from: rows[0].from.clone(),
        host: "mx.bad.test".into(),
        to: "127.0.0.2".into(),
        reason: rows[0].reason.clone(),
    };
    assert!(rows[0].from.starts_with("127.0.0."), "{rows:?}");
    assert!(rows[0].reason.contains("TLSA"), "{rows:?}");
    assert_eq!(rows, [wanted]);
    let answer = house.order(QueueControlRequest::SendReports).await.unwrap();
    assert_eq!(answer, QueueControlAnswer::ReportsDue { reports: 6 });
    // All reports go, the one to bad.test, too; the mail for bob there has to wait.
    let heard = server.await.unwrap();
    assert!(!heard.contains("RCPT TO:<bob@bad.test>"), "{heard}");
    assert!(heard.contains("RCPT TO:<reports@bad.test>"), "{heard}");
    assert!(heard.contains("MAIL FROM:<tls@example.test>"), "{heard}");
    let documents = documents(&heard);
    let briefs: BTreeMap<_, _> = documents
        .iter()
        .map(|(domain, document)| (domain.as_str(), brief(document)))
        .collect();
    let failed = |kind: &str| json!([[kind, "127.0.0.2", 1]]);
    let wanted = BTreeMap::from([
        ("bad.test", json!([["tlsa", 0, failed("tlsa-invalid")]])),
        ("good.test", json!([["tlsa", 2, []]])),
        (
            "lost.test",
            json!([
                ["sts", 0, [["sts-policy-fetch-error", null, 1]]],
                ["no-policy-found", 1, []]
            ]),
        ),
        (
            "plain.test",
            json!([[
                "no-policy-found",
                0,
                [["starttls-not-supported", "127.0.0.3", 1]]
            ]]),
        ),
        (
            "testing.test",
            json!([["sts", 0, failed("certificate-host-mismatch")]]),
        ),
        (
            "unnamed.test",
            json!([["sts", 0, failed("validation-failure")]]),
        ),
    ]);
    assert_eq!(briefs, wanted);
    let testing = &documents["testing.test"];
    assert_eq!(
        testing["policies"][0]["policy"]["mx-host"],
        json!(["mx.testing.test"])
    );
    // Connections that bring reports are in none.
    house.queue_until(|queue| queue.len() == 1).await;
    send(&house, "plain").await;
    counted(&house, &[("plain", 1)]).await;
}
