//! Domains that want to know are told what mail came in their name (RFC 9990): received, counted, sent, and read by programs we did not
//! write.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::path::Path;
use std::time::Duration;

use loopback::Port;
use serde_json::{Value, json};
use system_tests::dns::NameServer;
use system_tests::patience::wait_for;
use system_tests::program;
use system_tests::smtp::Client;
use system_tests::system::Home;
use system_tests::{Options, System, sink, skip_without};

const ALICE: &str = "alice@example.test";

fn send(system: &System, sender: &str, message: &str) -> Result<(), String> {
    let mut client = Client::hello(system.address("smtp")).unwrap();
    let sent = client.deliver(sender, ALICE, message.as_bytes());
    sent.map_err(|error| error.to_string())
}

/// Domain, messages and rows of what was not sent yet; `None` while relayd is away.
fn pending(system: &System) -> Option<Value> {
    let listed = system.rmailctl(&["reports", "list", "--json"]);
    if !listed.status.success() {
        return None;
    }
    let rows: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    let row = |row: &Value| json!([row["domain"], row["messages"], row["rows"]]);
    Some(rows.iter().map(row).collect())
}

fn wait_for_pending(system: &System, wanted: &Value) {
    let found = wait_for(Duration::from_secs(20), || {
        (pending(system).as_ref() == Some(wanted)).then_some(())
    });
    found.unwrap_or_else(|error| panic!("{error}: {:?}\n{}", pending(system), system.log()));
}

/// Reads the reports as their recipients do, and compares them with what was sent.
const READ: &str = r#"
import glob, gzip, subprocess
import xml.etree.ElementTree as tree
NAMES = {"d": "urn:ietf:params:xml:ns:dmarc-2.0"}
found = {}
for path in glob.glob(f"{mails}/mail.*"):
    text = open(path, "rb").read()
    # smtp-sink writes the envelope in front.
    assert b"X-Mail-Args: <dmarc@example.test>" in text, text[:300]
    recipient = re.search(rb"X-Rcpt-Args: <(.*?)>", text)[1].decode()
    message = email.message_from_bytes(text, policy=email.policy.default)
    assert message["From"].addresses[0].addr_spec == "dmarc@example.test"
    assert message["To"].addresses[0].addr_spec == recipient and message["Auto-Submitted"] == "auto-generated"
    part = next(part for part in message.walk() if part.get_content_type() == "application/gzip")
    document = gzip.decompress(part.get_content())
    root = tree.fromstring(document)
    one = lambda at, path: at.find("/".join("d:" + name for name in path.split("/")), NAMES).text
    domain, identity = one(root, "policy_published/domain"), one(root, "report_metadata/report_id")
    begin, end = one(root, "report_metadata/date_range/begin"), one(root, "report_metadata/date_range/end")
    assert re.sub(r"\s+", " ", message["Subject"]) == f"Report Domain: {domain} Submitter: example.test Report-ID: <{identity}>"
    assert part.get_filename() == f"example.test!{domain}!{begin}!{end}!{identity}.xml.gz", part.get_filename()
    assert message["Message-ID"] == f"<{identity}@example.test>"
    assert int(begin) < int(end) <= time.time() + 5
    rows = sorted(
        tuple(one(record, path) for path in (
            "row/count", "row/policy_evaluated/disposition", "row/policy_evaluated/spf", "row/policy_evaluated/dkim",
            "identifiers/envelope_from", "identifiers/header_from", "identifiers/envelope_to", "auth_results/spf/result"))
        for record in root.findall("d:record", NAMES)
    )
    assert all(one(record, "row/source_ip") == "127.0.0.1" for record in root.findall("d:record", NAMES))
    found[domain, recipient] = one(root, "policy_published/p"), rows
    xml = f"{mails}.xml"
    open(xml, "wb").write(document)
    if xmllint:
        subprocess.run(["xmllint", "--noout", "--nonet", "--schema", schema, xml], check=True)
reported = "reject", [
    ("1", "reject", "fail", "fail", "elsewhere.test", "reported.test", "example.test", "none"),
    ("2", "pass", "pass", "fail", "reported.test", "reported.test", "example.test", "pass"),
]
watched = "none", [("1", "none", "fail", "fail", "elsewhere.test", "sub.watched.test", "example.test", "none")]
assert found == {
    ("reported.test", "in@reported.test"): reported,
    ("reported.test", "reports@outside.test"): reported,
    ("watched.test", "reports@outside.test"): watched,
}, found
"#;

#[test]
fn domains_are_told_what_came_in_their_name() {
    skip_without!("nsd", "smtp-sink", "python3");
    let names = NameServer::start();
    let options = Options::alice();
    let home = Home::prepare(&options);
    let port = Port::reserve();
    home.configure(&json!({
        "authentication": {
            "trusted_clients": [],
            "aggregate_reports": {"enabled": true, "sender": "dmarc@example.test", "organization": "<&>", "contact": "]]>"},
        },
        "relay": {"dns": [names.address()], "port": port.number()},
    }));
    let system = System::launch(home, &options);
    let dir = system.dir().join("sink");
    let _sink = sink::start(&port, &dir, &[]);
    for _ in 0..2 {
        let honest = "From: Dave <dave@reported.test>\r\n\r\nhello\r\n";
        send(&system, "dave@reported.test", honest).unwrap();
    }
    let spoof = "From: Dave <dave@reported.test>\r\n\r\nhello\r\n";
    send(&system, "eve@elsewhere.test", spoof).unwrap_err();
    let watched = "From: Eve <eve@sub.watched.test>\r\n\r\nhello\r\n";
    send(&system, "eve@elsewhere.test", watched).unwrap();
    let unwatched = "From: Eve <eve@elsewhere.test>\r\n\r\nhello\r\n";
    send(&system, "eve@elsewhere.test", unwatched).unwrap();
    let counted = json!([["reported.test", 3, 2], ["watched.test", 1, 1]]);
    wait_for_pending(&system, &counted);
    let before = system.kill("relayd");
    system.wait_for_restart("relayd", before);
    wait_for_pending(&system, &counted);
    let sent = system.rmailctl(&["reports", "send"]).succeeded();
    assert!(sent.stdout.starts_with("2 reports"), "{}", sent.stdout);
    wait_for_pending(&system, &json!([]));
    let shown = system
        .rmailctl(&["reports", "show", "Reported.test", "--json"])
        .succeeded();
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    let report = &shown["reports"][0];
    assert_eq!(
        json!([
            report["done"],
            report["rows"],
            report["listed"][1]["source"]
        ]),
        json!([true, 2, "127.0.0.1"]),
        "{shown:#}"
    );
    let to = json!(["in@reported.test", "reports@outside.test"]);
    assert_eq!(shown["to"], to, "{shown:#}");
    for address in ["in@reported.test", "reports@outside.test"] {
        let sent = format!("sent to {address} as ");
        assert!(
            report["last"].as_str().unwrap().contains(&sent),
            "{shown:#}"
        );
    }
    let text = system.rmailctl(&["reports", "show", "reported.test"]);
    let text = text.succeeded().stdout;
    for words in [
        "\t3 messages\t2 rows\t0 unlisted\tdone\tsent to in@reported.test as ",
        "\n    2 from 127.0.0.1: From reported.test, MAIL FROM <reported.test>, pass; aligned: dkim=fail spf=pass; spf=pass (reported.test)\n",
        "\nthey go to in@reported.test, reports@outside.test\n",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    let listed = system.rmailctl(&["reports", "list", "--all"]).succeeded();
    assert_eq!(listed.stdout.matches("\tdone\t").count(), 2);
    let nothing = system.rmailctl(&["reports", "show", "nowhere.test"]);
    assert!(
        nothing.stderr.contains("nothing was counted"),
        "{nothing:?}"
    );
    let queue_is_empty = || {
        let listed = system.rmailctl(&["queue", "list", "--json"]).succeeded();
        (listed.stdout.trim() == "[]").then_some(())
    };
    wait_for(Duration::from_secs(30), queue_is_empty)
        .unwrap_or_else(|error| panic!("{error}\n{}", system.log()));
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/dmarc-aggregate.xsd");
    let xmllint = program::find("xmllint").is_some();
    let given = json!({"mails": dir, "schema": schema, "xmllint": xmllint});
    system.python(READ, &given);
}

#[test]
fn without_the_section_there_is_nothing_to_see() {
    let system = System::start(Options::without_users());
    let refused = system.rmailctl(&["reports", "list"]);
    assert!(!refused.status.success());
    assert!(
        refused
            .stderr
            .contains("authentication.aggregate_reports.enabled"),
        "{}",
        refused.stderr
    );
}
