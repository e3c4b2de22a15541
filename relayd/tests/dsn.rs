//! What senders want to be told (RFC 3461), from the order of smtpd to the next server and to the report.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

mod world;

use std::io::Write;

use ipc::control::QueueControlRequest;
use ipc::queue::{Recipient, Standing};
use loopback::free_port;
use relayd::queue::QueueId;
use relayd::queue::journal::{self, Header, Particular, Record, VERSION};
use relayd::turns::Party;
use world::deliverd::Deliverd;
use world::house::{House, envelope, wanting};
use world::{Hear, HearBody, Say, Step, scripted};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@[127.0.0.1]";
const BODY: &[u8] = b"From: alice@example.test\r\nSubject: hello\r\n\r\nsecret\r\n";

/// A server that says `ehlo` and answers `RCPT` with `rcpt`.
fn server(ehlo: &'static [u8], rcpt: &'static [u8]) -> Vec<Step> {
    let mut script = vec![Say(b"220 mx\r\n"), Hear("EHLO "), Say(ehlo)];
    script.extend([Hear("MAIL"), Say(b"250 ok\r\n"), Hear("RCPT"), Say(rcpt)]);
    if rcpt.starts_with(b"250") {
        script.extend([
            Hear("DATA"),
            Say(b"354 go\r\n"),
            HearBody,
            Say(b"250 ok\r\n"),
        ]);
    }
    script
}

/// Has one recipient served like that; returns what the server heard, and alice's reports.
async fn carry(script: Vec<Step>, of_mail: &str, recipient: Recipient) -> (String, Vec<String>) {
    let (address, server) = scripted(vec![script]).await;
    let port = address.port();
    let house = House::build(&format!("\"port\": {port}, \"dns\": [\"127.0.0.1:9\"]"));
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    let brought = house.submit_as(envelope(ALICE, of_mail), vec![recipient], BODY);
    brought.await.unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    (server.await.unwrap(), reports(&deliverd))
}

fn reports(deliverd: &Deliverd) -> Vec<String> {
    let inbox = deliverd.inbox.lock().unwrap();
    inbox.iter().map(|(_, report)| report.clone()).collect()
}

#[track_caller]
fn has(text: &str, needles: &[&str]) {
    for needle in needles {
        assert!(text.contains(needle), "{needle} in {text}");
    }
}

#[tokio::test]
async fn a_server_with_dsn_hears_it_all_and_reports_itself() {
    let script = server(b"250-mx\r\n250 DSN\r\n", b"250 ok\r\n");
    let recipient = wanting(BOB, "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@example.test");
    let (heard, reports) = carry(script, "RET=FULL ENVID=x+2By", recipient).await;
    has(
        &heard,
        &[
            "MAIL FROM:<alice@example.test> RET=FULL ENVID=x+2By\r\n",
            "RCPT TO:<bob@[127.0.0.1]> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@example.test\r\n",
        ],
    );
    assert!(reports.is_empty(), "{reports:?}");
}

#[tokio::test]
async fn where_a_server_has_no_dsn_the_sender_is_told_that_the_mail_was_relayed() {
    let script = server(b"250 mx\r\n", b"250 ok\r\n");
    let recipient = wanting(BOB, "NOTIFY=SUCCESS ORCPT=rfc822;b@example.test");
    let (heard, reports) = carry(script, "RET=FULL ENVID=x+2By", recipient).await;
    assert!(
        !heard.contains("NOTIFY") && !heard.contains("RET="),
        "{heard}"
    );
    assert_eq!(reports.len(), 1);
    has(
        &reports[0],
        &[
            "Original-Envelope-Id: x+y\r\n",
            "Original-Recipient: rfc822; b@example.test\r\nFinal-Recipient: rfc822; bob@[127.0.0.1]\r\nAction: relayed\r\n",
            "Subject: hello",
        ],
    );
    assert!(
        !reports[0].contains("secret"),
        "of what went well only the header is returned"
    );
}

#[tokio::test]
async fn failures_are_reported_to_those_who_want_it_with_as_much_of_the_message() {
    for (of_mail, of_rcpt, is_told, is_full) in [
        ("", "", true, false),
        ("RET=HDRS", "NOTIFY=FAILURE", true, false),
        ("RET=FULL", "NOTIFY=FAILURE", true, true),
        ("RET=FULL", "NOTIFY=NEVER", false, false),
        ("", "NOTIFY=SUCCESS,DELAY", false, false),
    ] {
        let script = server(b"250 mx\r\n", b"550 5.1.1 no such user\r\n");
        let (_, reports) = carry(script, of_mail, wanting(BOB, of_rcpt)).await;
        assert_eq!(reports.len(), usize::from(is_told), "{of_mail} {of_rcpt}");
        for report in reports {
            has(&report, &["Action: failed\r\nStatus: 5.1.1\r\n"]);
            assert_eq!(report.contains("secret"), is_full, "{of_mail} {report}");
        }
    }
}

#[tokio::test]
async fn of_mail_that_was_delivered_here_the_sender_is_told() {
    let house = House::build("\"port\": 9, \"dns\": [\"127.0.0.1:9\"]");
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    let parameters = "NOTIFY=SUCCESS ORCPT=rfc822;b@x";
    for (address, standing) in [
        ("bob@example.test", Standing::Delivered),
        ("list@example.test", Standing::Expanded),
    ] {
        let recipient = Recipient {
            standing,
            ..wanting(address, parameters)
        };
        let brought = house.submit_as(envelope(ALICE, ""), vec![recipient], BODY);
        brought.await.unwrap();
    }
    house.queue_until(|queue| queue.is_empty()).await;
    let reports = reports(&deliverd).join("");
    has(
        &reports,
        &[
            "Final-Recipient: rfc822; bob@example.test\r\nAction: delivered\r\n",
            "Final-Recipient: rfc822; list@example.test\r\nAction: expanded\r\n",
        ],
    );
    assert!(house.files().is_empty());
}

/// Puts a message into the queue that came `hours` ago, as an earlier relayd would have left it.
fn leave_behind(house: &House, hours: i64, particulars: Vec<Particular>) {
    let id = QueueId::generate().unwrap();
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let header = Header {
        version: VERSION,
        queued: i64::try_from(now).unwrap() - hours * 3600,
        size: BODY.len() as u64,
        reverse_path: ALICE.into(),
        account: None,
        party: Party::Nobody,
        smtp_utf8: false,
        eight_bit: false,
        hold: None,
        quarantine: None,
        recipients: vec![BOB.into()],
        parameters: String::new(),
        tls_waived: false,
        sign: Vec::new(),
        particulars,
    };
    let mut line = Vec::new();
    journal::encode(&Record::Message(Box::new(header)), &mut line).unwrap();
    let queue = house.home.path().join("queue");
    let write = |suffix: &str, bytes: &[u8]| {
        let mut file = std::fs::File::create(queue.join(format!("{id}.{suffix}"))).unwrap();
        file.write_all(bytes).unwrap();
    };
    write("eml", BODY);
    write("env", &line);
}

fn never_warned() -> Vec<Particular> {
    vec![Particular {
        recipient: 0,
        parameters: "NOTIFY=FAILURE".into(),
        standing: journal::Standing::Waiting,
    }]
}

#[tokio::test]
async fn a_sender_is_warned_once_that_a_mail_has_to_wait() {
    let relay = |hours: &str| {
        let port = free_port();
        format!("\"port\": {port}, \"dns\": [\"127.0.0.1:9\"]{hours}")
    };
    for (config, hours, particulars, warnings) in [
        ("", 5, Vec::new(), 1),
        ("", 5, never_warned(), 0),
        ("", 3, Vec::new(), 0),
        (", \"delay_warning_hours\": 0", 5, Vec::new(), 0),
    ] {
        let mut house = House::build(&relay(config));
        let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
        // It makes the directory before it answers.
        house.queue().await;
        house.kill();
        leave_behind(&house, hours, particulars);
        // A second start finds in the journal that it was done.
        for _ in 0..2 {
            house.start();
            house
                .queue_until(|queue| queue.len() == 1 && queue[0].recipients[0].attempts > 0)
                .await;
            settle(&deliverd, warnings).await;
            assert!(house.terminate());
            assert_eq!(reports(&deliverd).len(), warnings);
        }
        for warning in reports(&deliverd) {
            has(
                &warning,
                &[
                    "Action: delayed\r\nStatus: 4.",
                    "Subject: Delayed mail",
                    "Subject: hello",
                ],
            );
        }
    }
}

/// Hurries the only message until so many attempts have begun; each begins when all that the one before led to is written down.
async fn try_until(house: &House, attempts: u32) {
    for _ in 0..400 {
        let hurry = QueueControlRequest::RetryMessage { queue_id: None };
        house.order(hurry).await.unwrap();
        let queue = house.queue().await;
        if queue[0].recipients[0].attempts >= attempts {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{:?}", house.queue().await);
}

#[tokio::test]
async fn a_sender_who_was_warned_is_not_warned_again_after_a_kill() {
    let (port, waits) = (free_port(), ["3600"; 100].join(","));
    let mut house = House::build(&format!(
        "\"port\": {port}, \"dns\": [\"127.0.0.1:9\"], \"retry_seconds\": [{waits}]"
    ));
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    // It makes the directory before it answers.
    house.queue().await;
    house.kill();
    leave_behind(&house, 5, Vec::new());
    for attempts in [2, 4] {
        house.start();
        try_until(&house, attempts).await;
        house.kill();
        assert_eq!(reports(&deliverd).len(), 1);
    }
}

/// Waits for so many reports.
async fn settle(deliverd: &Deliverd, reports: usize) {
    for _ in 0..100 {
        if deliverd.inbox.lock().unwrap().len() >= reports {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_null_sender_is_told_nothing() {
    let script = server(b"250 mx\r\n", b"250 ok\r\n");
    let (address, server) = scripted(vec![script]).await;
    let port = address.port();
    let house = House::build(&format!("\"port\": {port}, \"dns\": [\"127.0.0.1:9\"]"));
    let deliverd = Deliverd::start(&house.socket("deliverd-relayd.sock"));
    let recipients = vec![wanting(BOB, "NOTIFY=SUCCESS")];
    house
        .submit_as(envelope("", ""), recipients, BODY)
        .await
        .unwrap();
    house.queue_until(|queue| queue.is_empty()).await;
    server.await.unwrap();
    assert!(reports(&deliverd).is_empty());
}
