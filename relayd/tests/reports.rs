//! Aggregate reports of the real program: what smtpd said is kept, ended, and sent to whom takes it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use daemon::channel::CallError;
use ipc::control::{QueueControlAnswer, QueueControlRequest};
use ipc::observation::{
    Disposition, DkimResult, Observation, Policy, Published, SignatureResult, SpfResult,
};
use ipc::queue::{QueueAnswer, QueueRequest};
use ipc::reports::{ReportKind, ReportRow, ReportSummary};
use ipc::{Context, Refusal};
use loopback::free_port;
use world::deliverd::Deliverd;
use world::house::{House, PATIENCE};
use world::*;

const ZONE: &str = "\
$ORIGIN test.
$TTL 60
@ IN SOA ns hostmaster 1 3600 600 86400 60
@ IN NS ns
ns IN A 127.0.0.1
a IN MX 10 ns
agreed IN MX 10 ns
taker IN MX 10 ns
_dmarc.a IN TXT \"v=DMARC1; p=reject; rua=mailto:in@a.test!10m,mailto:out@agreed.test,mailto:no@unasked.test,mailto:tiny@a.test!99\"
a.test._report._dmarc.agreed IN TXT \"v=DMARC1\"
unasked IN MX 10 ns
_dmarc.moved IN TXT \"v=DMARC1; p=none; rua=mailto:old@taker.test\"
moved.test._report._dmarc.taker IN TXT \"v=DMARC1; rua=mailto:new@taker.test\"
_dmarc.stolen IN TXT \"v=DMARC1; p=none; rua=mailto:x@thief.test\"
stolen.test._report._dmarc.thief IN TXT \"v=DMARC1; rua=mailto:in@a.test\"
_dmarc.ours IN TXT \"v=DMARC1; p=none; rua=mailto:bob@example.test\"
ours.test._report._dmarc.example IN TXT \"v=DMARC1\"
_dmarc.changed IN TXT \"v=DMARC1; p=none\"
";

/// relayd with a name server; nobody takes its mail, so that it stays in the queue.
async fn house(rules: &str) -> Option<(House, Program, tempfile::TempDir)> {
    let home = tempfile::tempdir().unwrap();
    let (port, path) = (free_port(), home.path().display().to_string());
    fs::write(home.path().join("test.zone"), ZONE).unwrap();
    let config = format!(
        "server:\n ip-address: 127.0.0.1@{port}\n server-count: 1\n username: \"\"\n zonesdir: \"{path}\"\n \
         database: \"\"\n pidfile: \"{path}/pid\"\n xfrdfile: \"{path}/xfrd\"\n zonelistfile: \"{path}/list\"\n \
         xfrdir: \"{path}\"\n logfile: \"{path}/log\"\n\
         remote-control:\n control-enable: no\n\
         zone:\n name: test\n zonefile: test.zone\n"
    );
    let file = home.path().join("nsd.conf");
    fs::write(&file, config).unwrap();
    let nsd = Program::start("/usr/sbin/nsd", &["-d", "-c", &file.display().to_string()])?;
    listening(port).await;
    let house = House::build(&format!(
        "\"dns\": [\"127.0.0.1:{port}\"], \"port\": {}}}, \"authentication\": {{\"aggregate_reports\": {{\"enabled\": true, \
         \"sender\": \"dmarc@example.test\", \"organization\": \"Us & them\"{rules}}}",
        free_port()
    ));
    Some((house, nsd, home))
}

fn observation(domain: &str, last: u8) -> Observation {
    Observation {
        published: Published {
            domain: domain.into(),
            policy: Policy::Reject,
            below: None,
            missing: None,
            strict_dkim: false,
            strict_spf: false,
            is_test: false,
        },
        source: [192, 0, 2, last].into(),
        header_from: domain.into(),
        envelope_from: "</feedback>]]>&\u{1}".into(),
        envelope_to: Some("example.test".into()),
        disposition: Disposition::Reject,
        reason: None,
        dkim_aligned: false,
        spf_aligned: false,
        signatures: vec![SignatureResult {
            domain: "d.test".into(),
            selector: "s".into(),
            result: DkimResult::Fail,
        }],
        spf_domain: "x.test".into(),
        spf: SpfResult::None,
    }
}

async fn note(house: &House, domain: &str, last: u8) {
    let request = QueueRequest::Note(Box::new(observation(domain, last)));
    let answered = house.smtpd.ask(Context::default(), PATIENCE, request).await;
    assert_eq!(answered.unwrap().answer, QueueAnswer::Noted);
}

async fn pending(house: &House) -> Vec<ReportSummary> {
    list(house, false).await
}

async fn list(house: &House, sent: bool) -> Vec<ReportSummary> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let request = QueueControlRequest::ListReports {
            kind: ReportKind::Dmarc,
            after,
            all: sent,
        };
        let QueueControlAnswer::Reports { reports, more } = house.order(request).await.unwrap()
        else {
            panic!("another answer");
        };
        after = reports.last().map(|one| (one.begin, one.domain.clone()));
        all.extend(reports);
        if !more {
            return all;
        }
    }
}

/// The first one, once it is so.
async fn listed_until(house: &House, is_so: impl Fn(&ReportSummary) -> bool) -> ReportSummary {
    for _ in 0..400 {
        if let Some(one) = list(house, true).await.into_iter().find(&is_so) {
            return one;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{:?}", list(house, true).await);
}

/// All rows of a report, a page after the other.
async fn rows(house: &House, begin: i64, domain: &str) -> Result<Vec<ReportRow>, CallError> {
    let mut all: Vec<ReportRow> = Vec::new();
    loop {
        let request = QueueControlRequest::ShowReport {
            kind: ReportKind::Dmarc,
            begin,
            domain: domain.into(),
            skip: u32::try_from(all.len()).unwrap(),
        };
        let QueueControlAnswer::ReportRows { rows, more } = house.order(request).await? else {
            panic!("another answer");
        };
        all.extend(rows);
        if !more {
            return Ok(all);
        }
    }
}

async fn send_all(house: &House) -> u64 {
    let answer = house.order(QueueControlRequest::SendReports).await.unwrap();
    let QueueControlAnswer::ReportsDue { reports } = answer else {
        panic!("{answer:?}");
    };
    for _ in 0..400 {
        if pending(house).await.is_empty() {
            return reports;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("reports that wait: {:?}", pending(house).await);
}

/// The documents of the reports in the queue, by the address they are for, and the first lines of its journal.
fn queued(house: &House) -> BTreeMap<String, (String, String)> {
    let mut found = BTreeMap::new();
    for name in house.files() {
        let Some(id) = name.strip_suffix(".eml") else {
            continue;
        };
        let queue = house.home.path().join("queue");
        let text = fs::read_to_string(queue.join(&name)).unwrap();
        let journal = fs::read_to_string(queue.join(format!("{id}.env"))).unwrap();
        let to = text.split("\r\nTo: <").nth(1).unwrap();
        let to = to.split('>').next().unwrap().to_owned();
        found.insert(to, (document(&text), journal));
    }
    found
}

fn document(text: &str) -> String {
    let part = text.split("application/gzip").nth(1).unwrap();
    gunzip(part.split("\r\n\r\n").nth(1).unwrap())
}

fn values<'a>(document: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let pieces = document.split(open.as_str()).skip(1);
    pieces
        .map(|piece| piece.split(close.as_str()).next().unwrap())
        .collect()
}

#[tokio::test]
async fn what_was_counted_survives_kills_and_goes_to_those_who_take_it() {
    let Some((mut house, _nsd, _home)) = house("").await else {
        return;
    };
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    for last in [1, 2, 1] {
        note(&house, "a.test", last).await;
        house.kill();
        house.start();
    }
    for domain in [
        "a.test",
        "moved.test",
        "stolen.test",
        "ours.test",
        "changed.test",
    ] {
        note(&house, domain, 1).await;
    }
    let listed = pending(&house).await;
    assert_eq!(listed.len(), 5);
    let (messages, rows) = (listed[0].messages, listed[0].rows);
    assert_eq!(
        (listed[0].domain.as_str(), messages, rows),
        ("a.test", 4, 2)
    );
    assert_eq!(listed[0].end, None);
    assert_eq!(send_all(&house).await, 5);
    let queued = queued(&house);
    let addresses: Vec<_> = queued.keys().map(String::as_str).collect();
    assert_eq!(
        addresses,
        ["in@a.test", "new@taker.test", "out@agreed.test"]
    );
    let (document, journal) = &queued["in@a.test"];
    assert_eq!(values(document, "count"), ["3", "1"]);
    assert_eq!(values(document, "source_ip"), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(values(document, "org_name"), ["Us &amp; them"]);
    let hostile = "&lt;/feedback&gt;]]&gt;&amp;?";
    assert_eq!(values(document, "envelope_from"), [hostile, hostile]);
    assert!(
        journal.contains("NOTIFY=NEVER")
            && journal.contains("\"reverse_path\":\"dmarc@example.test\"")
    );
    assert_eq!(&queued["out@agreed.test"].0, document);
    let inbox = deliverd.inbox.lock().unwrap().clone();
    assert_eq!(inbox.len(), 1);
    assert!(
        inbox[0]
            .1
            .starts_with("Return-Path: <dmarc@example.test>\r\n"),
        "{}",
        inbox[0].1
    );
    assert_eq!(
        values(&self::document(&inbox[0].1), "domain")[0],
        "ours.test"
    );
    // What became of it is known for some time, also by the next process.
    let listed = list(&house, true).await;
    assert!(listed.iter().all(|one| one.is_done && one.end.is_some()));
    let last: Vec<&str> = listed.iter().map(|one| one.last.as_str()).collect();
    for (last, words) in last.iter().zip([
        &[
            "sent to in@a.test as ",
            "; sent to out@agreed.test as ",
            "; too large for tiny@a.test: ",
        ][..],
        &["nobody takes a report about it"],
        &["sent to new@taker.test as "],
        &["delivered to bob@example.test"],
        &["nobody takes a report about it"],
    ]) {
        assert!(words.iter().all(|one| last.contains(one)), "{last}");
    }
    house.kill();
    house.start();
    let again = list(&house, true).await;
    assert_eq!(again.len(), 5);
    assert!(again.iter().all(|one| one.is_done));
    assert!(
        again[0]
            .last
            .starts_with("sent to in@a.test, out@agreed.test"),
        "{:?}",
        again[0]
    );
    // What comes now is of the next period, with another report.
    note(&house, "moved.test", 1).await;
    assert_eq!(list(&house, true).await.len(), 6);
    assert_eq!(send_all(&house).await, 1);
    let messages = house.queue().await.len();
    assert_eq!(messages, 4);
}

#[tokio::test]
async fn a_report_that_is_made_again_is_recognised_and_one_that_is_too_old_is_given_up() {
    let Some((mut house, _nsd, _home)) = house(", \"spread_hours\": 0").await else {
        return;
    };
    note(&house, "moved.test", 1).await;
    // Without deliverd it waits.
    house.order(QueueControlRequest::SendReports).await.unwrap();
    let now = listed_until(&house, |one| !one.last.is_empty()).await;
    assert!(!now.is_done && now.due > now.end.unwrap() + 3000, "{now:?}");
    let queue = house.home.path().join("queue");
    let name = house
        .files()
        .into_iter()
        .find(|name| name.starts_with(".observed"));
    let name = name.unwrap();
    let file = fs::read(queue.join(&name)).unwrap();
    house.kill();
    let _deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    let mut made = Vec::new();
    // As if it had died each time before it was written down that the report is sent.
    for _ in 0..2 {
        fs::write(queue.join(&name), &file).unwrap();
        house.start();
        house.queue_until(|queue| queue.len() == 1).await;
        house.kill();
        house.empty_log();
        for name in house.files() {
            let path = queue.join(&name);
            if name.ends_with(".eml") {
                let text = fs::read_to_string(&path).unwrap();
                made.push(text.split_once("\r\n").unwrap().1.to_owned());
            }
            fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(made[0], made[1]);
    assert!(made[0].contains("Report-ID: <") && made[0].contains("Message-ID: <"));
    let old = queue.join(".observed-86400");
    // Without its last line, which says when it ended.
    let rows = file.strip_suffix(b"\n").unwrap();
    let rows = rows.iter().rposition(|byte| *byte == b'\n').unwrap();
    fs::write(&old, &file[..=rows]).unwrap();
    house.start();
    // Of a period that is not known there are no rows.
    let nothing = self::rows(&house, 7, "moved.test").await;
    assert_eq!(nothing, Err(CallError::Refused(Refusal::NotFound)));
    for _ in 0..400 {
        if !old.exists() {
            assert!(house.queue().await.is_empty());
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("what is long past is still there");
}

#[tokio::test]
async fn what_is_beyond_the_bounds_is_counted_and_what_cannot_be_is_refused() {
    let Some((house, _nsd, _home)) = house(", \"max_rows\": 3, \"max_domains\": 2").await else {
        return;
    };
    let _deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    for last in 0..8 {
        note(&house, "a.test", last).await;
    }
    for domain in ["moved.test", "ours.test", "stolen.test"] {
        note(&house, domain, 1).await;
    }
    let listed = pending(&house).await;
    let told: Vec<_> = listed.iter().map(|one| (one.rows, one.unlisted)).collect();
    assert_eq!(told, [(3, 5), (1, 0)]);
    let running = rows(&house, listed[0].begin, "a.test").await.unwrap();
    let told: Vec<_> = running
        .iter()
        .map(|row| (row.count, row.source.as_str()))
        .collect();
    assert_eq!(told, [(1, "192.0.2.0"), (1, "192.0.2.1"), (1, "192.0.2.2")]);
    assert_eq!(
        running[0].dkim,
        [("d.test".into(), "s".into(), "fail".into())]
    );
    let nothing = rows(&house, listed[0].begin, "ours.test").await;
    assert_eq!(nothing, Err(CallError::Refused(Refusal::NotFound)));
    let mut bad = observation("a.test", 1);
    bad.published.domain = "a.test\r\nBcc: x".into();
    let request = QueueRequest::Note(Box::new(bad));
    let refused = house.smtpd.ask(Context::default(), PATIENCE, request).await;
    assert!(
        matches!(refused, Err(CallError::Refused(Refusal::Invalid(_)))),
        "{refused:?}"
    );
    send_all(&house).await;
    assert_eq!(
        rows(&house, listed[0].begin, "a.test").await.unwrap(),
        running
    );
    let targets = async |domain: &str| {
        let domain = domain.to_owned();
        let answered = house
            .order(QueueControlRequest::FindReportTargets {
                kind: ReportKind::Dmarc,
                domain,
            })
            .await;
        match answered {
            Ok(QueueControlAnswer::ReportTargets { targets }) => targets,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        targets("a.test").await,
        ["in@a.test", "out@agreed.test", "tiny@a.test"]
    );
    assert_eq!(targets("changed.test").await, Vec::<String>::new());
    let domain = "a\r\nb".to_owned();
    let refused = house
        .order(QueueControlRequest::FindReportTargets {
            kind: ReportKind::Dmarc,
            domain,
        })
        .await;
    assert!(matches!(
        refused,
        Err(CallError::Refused(Refusal::Invalid(_)))
    ));
    let queued = queued(&house);
    let document = &queued["in@a.test"].0;
    assert_eq!(values(document, "record").len(), 3);
    assert!(values(document, "error")[0].starts_with("5 more messages"));
}
