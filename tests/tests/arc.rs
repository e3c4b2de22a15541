//! Whom a chain of ARC is believed: messages that dkimpy sealed, judged by the running server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use system_tests::dns::NameServer;
use system_tests::smtp::Client;
use system_tests::{Options, System, program, python, skip_unless, skip_without};

const ALICE: &str = "alice@example.test";
const MESSAGE: &str = "From: Dave <dave@honest.test>\r\nSubject: [list] hello\r\n\r\nhello\r\n";

fn openssl(dir: &Path, arguments: &[&str]) -> String {
    let mut command = program::command("openssl");
    command.args(arguments).current_dir(dir);
    let done = program::run(&mut command, b"", Duration::from_secs(60));
    done.succeeded().stdout
}

/// The records of a key that list.test, relay.test and stranger.test share, which is made in `dir`.
fn records(dir: &Path) -> String {
    openssl(dir, &["genrsa", "-traditional", "-out", "key.pem", "2048"]);
    let public = openssl(dir, &["rsa", "-in", "key.pem", "-pubout"]);
    let lines = public.lines().filter(|line| !line.starts_with('-'));
    let key: String = lines.collect();
    // A text in DNS has strings of up to 255 octets.
    let (first, second) = key.split_at(200);
    let of =
        |domain| format!("s._domainkey.{domain} TXT \"v=DKIM1; k=rsa; p={first}\" \"{second}\"\n");
    ["list", "relay", "stranger"].map(of).concat()
}

/// Seals a message once for each hop: who, and what was found there about DMARC.
fn sealed(dir: &Path, hops: &[(&str, &str)]) -> String {
    let script = r#"
import dkim, pathlib
message, pem = text.encode(), (pathlib.Path(dir) / "key.pem").read_bytes()
for number, (name, found) in enumerate(hops):
    name, found = name.encode(), found.encode()
    before = b"arc=pass; " if number else b""
    message = b"Authentication-Results: " + name + b"; " + before + b"dmarc=" + found + b" header.from=honest.test\r\n" + message
    message = b"".join(dkim.arc_sign(message, b"s", name, pem, name)) + message
(pathlib.Path(dir) / "sealed").write_bytes(message)
"#;
    let variables = json!({"dir": dir, "hops": hops, "text": MESSAGE});
    let mut command = python::command(script, &variables);
    program::run(&mut command, b"", Duration::from_secs(120)).succeeded();
    std::fs::read_to_string(dir.join("sealed")).unwrap()
}

fn send(system: &System, message: &str) -> Result<(), String> {
    let mut client = Client::hello(system.address("smtp")).unwrap();
    let sent = client.deliver("bounces@list.test", ALICE, message.as_bytes());
    sent.map_err(|error| error.to_string())
}

/// The newest message, unfolded.
fn newest(system: &System) -> String {
    let messages = system.account(ALICE).messages("INBOX");
    let text = String::from_utf8(messages.last().unwrap().bytes()).unwrap();
    text.replace("\r\n\t ", " ").replace("\r\n\t", " ")
}

#[test]
fn a_chain_is_believed_as_far_as_its_newest_sealers_are() {
    skip_without!("nsd");
    skip_without!("openssl");
    skip_unless!(
        python::has("dkim, authres"),
        "python3-dkim and python3-authres are not installed"
    );
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let names = NameServer::with(&records(dir), &[]);
    let system = |trusted: Value| {
        System::start(Options::alice().config(&json!({
            "authentication": {"trusted_clients": [], "trusted_arc_sealers": trusted},
            "relay": {"dns": [names.address()]},
        })))
    };
    let believing = system(json!(["List.test", "relay.test"]));
    let list = sealed(dir, &[("list.test", "pass")]);
    for (hops, why) in [
        (vec![("list.test", "pass")], "as[1].d=list.test as[1].s=s"),
        // Who changed it knows how it came.
        (
            vec![("list.test", "pass"), ("relay.test", "fail")],
            "as[2].d=relay.test as[2].s=s as[1].d=list.test as[1].s=s",
        ),
        (
            vec![("stranger.test", "fail"), ("list.test", "pass")],
            "as[2].d=list.test as[2].s=s",
        ),
    ] {
        let message = sealed(dir, &hops);
        send(&believing, &message).unwrap_or_else(|error| panic!("{hops:?}: {error}"));
        let text = newest(&believing);
        let dmarc =
            format!("dmarc=fail (p=reject) reason=\"arc=pass {why}\" header.from=honest.test;");
        assert!(text.contains(&dmarc), "{dmarc}\n{text}");
        assert!(
            text.contains(" arc=pass\r\n") || text.contains(" arc=pass;"),
            "{text}"
        );
        let log = believing.log();
        assert!(log.contains("local_policy") && log.contains(why), "{log}");
    }
    for hops in [
        vec![],
        vec![("list.test", "fail")],
        vec![("list.test", "none")],
        vec![("stranger.test", "pass")],
        // What a stranger did with it nobody knows.
        vec![("list.test", "pass"), ("stranger.test", "pass")],
        // And nobody trusted has seen it pass.
        vec![("stranger.test", "pass"), ("list.test", "fail")],
        vec![
            ("list.test", "pass"),
            ("stranger.test", "pass"),
            ("list.test", "fail"),
        ],
    ] {
        let refused = send(&believing, &sealed(dir, &hops)).unwrap_err();
        assert!(refused.contains("550 5.7.26"), "{hops:?}: {refused}");
    }
    for changed in [
        format!("{list}and more\r\n"),
        list.replace("dave@honest.test", "carl@honest.test"),
        list.replace("i=1; list.test;", "i=1; lisp.test;"),
    ] {
        assert_ne!(changed, list);
        let refused = send(&believing, &changed).unwrap_err();
        assert!(refused.contains("550 5.7.26"), "{refused}");
    }
    let doubting = system(json!([]));
    let refused = send(&doubting, &list).unwrap_err();
    assert!(refused.contains("550 5.7.26"), "{refused}");
}
