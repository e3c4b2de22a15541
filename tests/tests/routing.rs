//! Where mail goes, from the real binaries: tags and dots, postmasters, backup domains, senders that are rewritten, and how an
//! operator sees it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use serde_json::{Value, json};
use system_tests::postsrsd::Postsrsd;
use system_tests::smtp::Client;
use system_tests::{Options, System, skip_without};

const ALICE: &str = "alice@example.test";
const LETTER: &[u8] = b"From: carol@outside.test\r\nSubject: x\r\n\r\ntext\r\n";

/// What goes out waits: nobody listens where it is sent to.
fn start(options: Options) -> System {
    System::start(options.config(&json!({
        "relay": {"smarthost": "127.0.0.1", "smarthost_port": 1, "retry_seconds": [600, 600]},
    })))
}

fn deliver(system: &System, from: &str, to: &str) {
    let mut client = Client::hello(system.address("smtp")).unwrap();
    client
        .deliver(from, to, LETTER)
        .unwrap_or_else(|error| panic!("{to}: {error}"));
}

/// The reply to RCPT.
fn asked(system: &System, to: &str) -> String {
    let mut client = Client::hello(system.address("smtp")).unwrap();
    client.command("MAIL FROM:<carol@outside.test>").unwrap();
    client.command(&format!("RCPT TO:<{to}>")).unwrap().text()
}

fn inbox(system: &System, address: &str) -> usize {
    system.account(address).messages("INBOX").len()
}

/// Sender and recipients of what waits to go out, oldest first.
fn queued(system: &System) -> Vec<(String, Vec<String>)> {
    let listing = system.rmailctl(&["queue", "list", "--json"]).succeeded();
    let queue: Vec<Value> = serde_json::from_str(&listing.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let recipients = |value: &Value| {
        let all = value["recipients"].as_array().unwrap();
        all.iter().map(|one| text(&one["address"])).collect()
    };
    queue
        .iter()
        .map(|message| (text(&message["reverse_path"]), recipients(message)))
        .collect()
}

#[test]
fn tags_and_dots_count_as_the_domain_says() {
    let system = start(Options::alice());
    deliver(&system, "carol@outside.test", "Alice+news@example.test");
    assert_eq!(inbox(&system, ALICE), 1);
    for to in ["alice-news@example.test", "a.lice@example.test"] {
        assert!(asked(&system, to).starts_with("550 5.1.1 "), "{to}");
    }
    let set = [
        "domain",
        "set",
        "example.test",
        "--subaddress",
        "-",
        "--dots",
        "off",
    ];
    system.rmailctl(&set).succeeded();
    deliver(&system, "carol@outside.test", "A.lice-news@example.test");
    assert_eq!(inbox(&system, ALICE), 2);
    assert!(asked(&system, "alice+news@example.test").starts_with("550 5.1.1 "));
    let listing = system.rmailctl(&["domain", "list", "--json"]).succeeded();
    let domains: Value = serde_json::from_str(&listing.stdout).unwrap();
    let rules = ["subaddress", "dots", "case", "backup_mx"].map(|key| domains[0][key].clone());
    assert_eq!(
        rules,
        [json!("-"), json!("off"), json!("off"), json!("off")]
    );
    let wrong = ["domain", "set", "example.test", "--subaddress", "."];
    let refused = system.rmailctl(&wrong);
    assert_eq!(refused.code(), 65);
    assert!(refused.stderr.contains("+-_=#~"), "{}", refused.stderr);
}

#[test]
fn letter_case_matters_where_the_domain_says_so() {
    let system = start(Options::alice());
    let run = |command: &[&str]| system.rmailctl(command).succeeded();
    let case = |switch: &str| system.rmailctl(&["domain", "set", "example.test", "--case", switch]);
    case("on").succeeded();
    let alias = [
        "alias",
        "add",
        "example.test",
        "exact",
        "Ab",
        "alice@example.test",
    ];
    run(&alias);
    run(&[
        "alias",
        "add",
        "example.test",
        "regex",
        "t-([a-z]+)",
        "$1@far.test",
    ]);
    for to in [
        "alice@example.test",
        "Ab@example.test",
        "PostMaster@example.test",
    ] {
        deliver(&system, "carol@outside.test", to);
    }
    assert_eq!(inbox(&system, ALICE), 3);
    for to in ["Alice", "ab", "aB", "T-x", "t-X"] {
        let reply = asked(&system, &format!("{to}@example.test"));
        assert!(reply.starts_with("550 5.1.1 "), "{to}: {reply}");
    }
    // The name of a user is one spelling; whoever logs in writes it as they like, but sends under addresses that are theirs.
    let refused = system.rmailctl_with(
        &["user", "add", "Bob@example.test", "--password-stdin"],
        "a password of bob",
    );
    assert_eq!(refused.code(), 65);
    assert!(
        refused.stderr.contains("bob@example.test"),
        "{}",
        refused.stderr
    );
    let refused = case("off");
    assert_eq!(refused.code(), 65);
    assert!(refused.stderr.contains("\"Ab\""), "{}", refused.stderr);
    run(&["alias", "remove", "example.test", "exact", "Ab"]);
    case("off").succeeded();
    deliver(&system, "carol@outside.test", "ALICE@example.test");
    assert_eq!(inbox(&system, ALICE), 4);
    // RFC 5321 §2.4: what goes on keeps its letters.
    deliver(&system, "", "T-Xy@example.test");
    assert_eq!(
        queued(&system),
        [(String::new(), vec!["Xy@far.test".to_owned()])]
    );
}

#[test]
fn postmaster_and_abuse_are_taken_in_every_domain() {
    let system = start(Options::alice());
    system
        .rmailctl(&["domain", "add", "other.test"])
        .succeeded();
    for (number, to) in [
        "postmaster",
        "postmaster@other.test",
        "Abuse@other.test",
        "abuse@example.test",
    ]
    .into_iter()
    .enumerate()
    {
        deliver(&system, "", to);
        assert_eq!(inbox(&system, ALICE), number + 1, "{to}");
    }
    assert!(asked(&system, "hostmaster@other.test").starts_with("550 5.1.1 "));
    let elsewhere = json!({"routing": {"postmaster": "admin@far.test"}});
    let system = start(Options::alice().config(&elsewhere));
    deliver(&system, "", "postmaster");
    assert_eq!(
        queued(&system),
        [(String::new(), vec!["admin@far.test".to_owned()])]
    );
}

#[test]
fn an_operator_sees_each_step_from_an_address() {
    let system = start(Options::alice());
    for alias in [
        &["regex", "team-(.*)", "$1@example.test", "x@far.test"][..],
        &["exact", "info", "team-alice@example.test"],
    ] {
        let command = [&["alias", "add", "example.test"], alias].concat();
        system.rmailctl(&command).succeeded();
    }
    let shown = system
        .rmailctl(&["alias", "test", "Info+x@example.test"])
        .succeeded();
    let expected = "Info+x@example.test: the alias info leads to team-alice@example.test\n\
        \x20 team-alice@example.test: the regular expression team-(.*) leads to alice@example.test x@far.test\n\
        \x20   alice@example.test: goes to the user alice@example.test\n\
        \x20   x@far.test: goes out to the servers of that domain\n";
    assert_eq!(shown.stdout, expected);
    let refused = system.rmailctl(&["alias", "test", "nobody@example.test", "--json"]);
    assert_eq!(refused.code(), 1);
    assert!(
        refused.stderr.contains("add a user or an alias"),
        "{}",
        refused.stderr
    );
    let object: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!(object["refused"], json!("no such user"));
    assert_eq!(object["steps"][0]["rule"], json!("nobody"));
    let foreign = system.rmailctl(&["alias", "test", "x@far.test"]);
    assert_eq!(foreign.code(), 1);
    // More steps than one frame holds come in pages.
    for number in 0..3 {
        let targets: Vec<String> = (0..20)
            .map(|at| format!("{number}-{at}@far.test"))
            .chain([format!("list{}@example.test", number + 1)])
            .collect();
        let name = format!("list{number}");
        let mut command = vec!["alias", "add", "example.test", "exact", &name];
        command.extend(targets.iter().map(String::as_str));
        system.rmailctl(&command).succeeded();
    }
    let shown = system
        .rmailctl(&["alias", "test", "list0@example.test", "--json"])
        .succeeded();
    let object: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(object["steps"].as_array().unwrap().len(), 3 + 60 + 1);
    let reply = asked(&system, "list0@example.test");
    assert!(reply.starts_with("250 "), "{reply}");
}

#[test]
fn a_sender_is_rewritten_when_an_alias_leads_outside_and_reports_find_back() {
    let system = start(Options::alice());
    let alias = [
        "alias",
        "add",
        "example.test",
        "exact",
        "away",
        "x@far.test",
    ];
    system.rmailctl(&alias).succeeded();
    deliver(&system, "carol@outside.test", "away@example.test");
    let waiting = queued(&system);
    let [(sender, recipients)] = waiting.as_slice() else {
        panic!("{waiting:?}");
    };
    assert_eq!(recipients, &["x@far.test"]);
    assert!(sender.starts_with("SRS0="), "{sender}");
    assert!(
        sender.ends_with("=outside.test=carol@example.test"),
        "{sender}"
    );
    let forged = sender.replace("=carol@", "=victim@");
    assert!(asked(&system, &forged).starts_with("550 5.1.1 "));
    deliver(&system, "", sender);
    let back = (String::new(), vec!["carol@outside.test".to_owned()]);
    let waiting = queued(&system);
    assert!(waiting.len() == 2 && waiting.contains(&back), "{waiting:?}");
    let shown = system.rmailctl(&["alias", "test", sender]).succeeded();
    assert!(
        shown.stdout.contains("the sender carol@outside.test"),
        "{}",
        shown.stdout
    );
    // What does not fit into an address is kept, over a restart as well.
    let long = format!("{}@bounces.outside.test", "0100018c-".repeat(6));
    deliver(&system, &long, "away@example.test");
    let short = queued(&system)
        .into_iter()
        .map(|(sender, _)| sender)
        .find(|sender| sender.contains("=="))
        .unwrap();
    let before = system.kill("deliverd");
    system.wait_for_restart("deliverd", before);
    deliver(&system, "", &short);
    assert!(queued(&system).contains(&(String::new(), vec![long])));
}

#[test]
fn what_postsrsd_and_we_rewrote_after_one_another_finds_back_through_both() {
    skip_without!("postsrsd");
    let theirs = Postsrsd::start("forwarder.test");
    let system = start(Options::alice());
    let alias = [
        "alias",
        "add",
        "example.test",
        "exact",
        "away",
        "x@far.test",
    ];
    system.rmailctl(&alias).succeeded();
    let rewrite = |sender: &str| {
        let before = queued(&system);
        deliver(&system, sender, "away@example.test");
        let new = queued(&system)
            .into_iter()
            .find(|one| !before.contains(one));
        new.unwrap().0
    };
    let finds_back_to = |rewritten: &str, sender: &str| {
        deliver(&system, "", rewritten);
        let back = (String::new(), vec![sender.to_owned()]);
        assert!(
            queued(&system).contains(&back),
            "{rewritten}: {:?}",
            queued(&system)
        );
    };
    // First they, then we.
    let first = theirs.rewrite("carol@outside.test");
    let second = rewrite(&first);
    assert!(second.starts_with("SRS1="), "{second}");
    let rest = first.strip_prefix("SRS0").unwrap();
    let rest = rest.strip_suffix("@forwarder.test").unwrap();
    let whole = format!("=forwarder.test={rest}@example.test");
    assert!(second.ends_with(&whole), "{second}");
    finds_back_to(&second, &first);
    assert_eq!(theirs.restore(&first), "carol@outside.test");
    // First we, then they, then we again.
    let first = rewrite("dave@outside.test");
    let second = theirs.rewrite(&first);
    assert!(second.starts_with("SRS1="), "{second}");
    assert!(second.ends_with("@forwarder.test"), "{second}");
    assert_eq!(theirs.restore(&second), first);
    let third = rewrite(&second);
    assert_ne!(third, first);
    finds_back_to(&third, "dave@outside.test");
}

#[test]
fn a_backup_passes_mail_on_for_anybody_or_for_those_who_are_listed() {
    let system = start(Options::alice());
    let add = ["domain", "add", "backed.test", "--backup-mx", "anybody"];
    system.rmailctl(&add).succeeded();
    deliver(&system, "carol@outside.test", "Who+ever@backed.test");
    let sent = |to: &str| ("carol@outside.test".to_owned(), vec![to.to_owned()]);
    assert_eq!(queued(&system), [sent("Who+ever@backed.test")]);
    let set = ["domain", "set", "backed.test", "--backup-mx", "listed"];
    system.rmailctl(&set).succeeded();
    assert!(asked(&system, "who@backed.test").starts_with("550 5.1.1 "));
    let list = [
        "alias",
        "add",
        "backed.test",
        "exact",
        "info",
        "info@backed.test",
    ];
    system.rmailctl(&list).succeeded();
    for to in ["info@backed.test", "postmaster@backed.test"] {
        deliver(&system, "carol@outside.test", to);
        assert!(queued(&system).contains(&sent(to)), "{to}");
    }
    let shown = system
        .rmailctl(&["alias", "test", "postmaster@backed.test"])
        .succeeded();
    assert!(
        shown.stdout.contains("better mail servers"),
        "{}",
        shown.stdout
    );
    let user = ["user", "add", "bob@backed.test", "--password-stdin"];
    let refused = system.rmailctl_with(&user, "correct horse battery");
    assert_eq!(refused.code(), 65);
}
