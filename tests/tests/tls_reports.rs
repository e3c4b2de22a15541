//! Domains that want to know are told how TLS with their servers went (RFC 8460), and the operator can see why what is demanded of them:
//! sent, counted, reported, and read by a program we did not write.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::time::Duration;

use loopback::Port;
use serde_json::{Value, json};
use system_tests::dns::NameServer;
use system_tests::patience::wait_for;
use system_tests::system::Home;
use system_tests::{Options, System, sink, skip_without};

const SEND: &str = r#"
with submission() as client:
    assert not client.sendmail(ALICE, "bob@outside.test", b"From: alice@example.test\r\nSubject: x\r\n\r\nhello\r\n")
"#;

/// Reads the report as its recipient does.
const READ: &str = r#"
import glob, gzip, json
def arrived():
    found = []
    for path in glob.glob(f"{mails}/mail.*"):
        message = email.message_from_bytes(open(path, "rb").read(), policy=email.policy.default)
        if message["TLS-Report-Domain"]:
            found.append(message)
    return found
wait_for(lambda: len(arrived()) == 1, 20)
message, = arrived()
assert message["TLS-Report-Domain"] == "outside.test" and message["TLS-Report-Submitter"] == "example.test", message
assert message["TLS-Required"] == "No" and message["Auto-Submitted"] == "auto-generated", message
assert message["To"].addresses[0].addr_spec == "tls@outside.test", message
assert message.get_content_type() == "multipart/report" and message.get_param("report-type") == "tlsrpt", message
part = next(part for part in message.walk() if part.get_content_type() == "application/tlsrpt+gzip")
report = json.loads(gzip.decompress(part.get_content()))
assert report["organization-name"] == "example.test" and report["contact-info"] == "tls@example.test", report
subject = re.sub(r"\s+", " ", message["Subject"])
assert subject == f"Report Domain: outside.test Submitter: example.test Report-ID: <{report['report-id']}@example.test>", subject
name = part.get_filename().split("!")
assert name[:2] == ["example.test", "outside.test"] and name[4] == report["report-id"] + ".json.gz", name
policy, = report["policies"]
assert policy["policy"] == {"policy-type": "no-policy-found", "policy-domain": "outside.test"}, report
assert policy["summary"] == {"total-successful-session-count": 0, "total-failure-session-count": 1}, report
failure, = policy["failure-details"]
assert failure["result-type"] == "starttls-not-supported" and failure["failed-session-count"] == 1, report
assert failure["receiving-mx-hostname"] == "mx.outside.test" and failure["receiving-ip"] == "127.0.0.1", report
assert failure["sending-mta-ip"].startswith("127."), report
"#;

fn listed(system: &System) -> Vec<Value> {
    let listed = system.rmailctl(&["reports", "list", "--json"]).succeeded();
    serde_json::from_str(&listed.stdout).unwrap()
}

#[test]
fn a_domain_is_told_how_tls_went_and_the_operator_sees_why() {
    skip_without!("nsd", "smtp-sink", "python3");
    let record = "_smtp._tls.outside TXT \"v=TLSRPTv1; rua=mailto:tls@outside.test\"\n";
    let names = NameServer::with(record, &[]);
    let options = Options::alice();
    let home = Home::prepare(&options);
    let port = Port::reserve();
    home.configure(&json!({
        "authentication": {"aggregate_reports": {"tls": true, "sender": "tls@example.test"}},
        "relay": {
            "dns": [names.address()],
            "port": port.number(),
            "domains": [{"names": ["strict.test"], "tls": "dane"}, {"names": ["bare.test"], "tls": "none"}],
        },
    }));
    let system = System::launch(home, &options);
    let dir = system.dir().join("sink");
    let _sink = sink::start(&port, &dir, &[]);
    system.python(SEND, &json!({}));
    let counted = || (listed(&system).len() == 1).then_some(());
    wait_for(Duration::from_secs(20), counted)
        .unwrap_or_else(|error| panic!("{error}\n{}", system.log()));
    let one = &listed(&system)[0];
    let told = json!([one["kind"], one["domain"], one["messages"], one["rows"]]);
    assert_eq!(told, json!(["tls", "outside.test", 1, 1]));
    let text = system.rmailctl(&["reports", "show", "outside.test"]);
    let text = text.succeeded().stdout;
    for words in [
        "\ttls\toutside.test\t1 connections\t1 rows\t",
        " to mx.outside.test (127.0.0.1) (no-policy-found): starttls-not-supported: STARTTLS is not offered\n",
        "\nthose about TLS go to tls@outside.test\n",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }

    let show = |domain: &str| {
        let shown = system.rmailctl(&["relay", "tls", domain, "--json"]);
        serde_json::from_str::<Value>(&shown.succeeded().stdout).unwrap()
    };
    let outside = show("Outside.test");
    let host = &outside["hosts"][0];
    assert_eq!(
        json!([
            host["name"],
            host["addresses"],
            host["asked"],
            host["why"],
            outside["seen"][0]["result"],
            outside["mta_sts"]
        ]),
        json!([
            "mx.outside.test",
            ["127.0.0.1"],
            "if_offered",
            "no-policy-found",
            "starttls-not-supported",
            null
        ]),
        "{outside:#}"
    );
    let bare = show("bare.test");
    let told = json!([bare["rule"], bare["hosts"][0]["asked"], bare["seen"]]);
    assert_eq!(told, json!(["none", "never", []]), "{bare:#}");
    let nowhere = show("null.test");
    assert!(
        nowhere["no_route"].as_str().unwrap().contains("null MX"),
        "{nowhere:#}"
    );
    let text = system
        .rmailctl(&["relay", "tls", "outside.test"])
        .succeeded()
        .stdout;
    for words in [
        "MTA-STS: no policy\n",
        "10 mx.outside.test [127.0.0.1]: TLS if it is offered, with any certificate (no-policy-found)\n",
        " starttls-not-supported at mx.outside.test (no-policy-found): STARTTLS is not offered\n",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }

    let sent = system.rmailctl(&["reports", "send"]).succeeded();
    assert!(sent.stdout.starts_with("1 reports"), "{}", sent.stdout);
    system.python(READ, &json!({"mails": dir}));
}
