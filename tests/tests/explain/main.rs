//! `rmailctl explain` says what becomes of mail, and what it says is what happens; that it was asked leaves no trace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

mod doors;
mod kept;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use system_tests::dns::NameServer;
use system_tests::options::PASSWORD;
use system_tests::patience::wait_for;
use system_tests::smtp::{Client, stuffed};
use system_tests::{Options, System, skip_without};

use kept::kept;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const CAROL: &str = "carol@outside.test";
const PLAIN: &str = "From: carol@outside.test\r\nSubject: x\r\n\r\ntext\r\n";

/// Mail that might come.
struct Case<'a> {
    name: &'static str,
    client: [u8; 4],
    user: Option<&'a str>,
    sender: &'a str,
    recipients: &'a [&'a str],
    /// Of MAIL and of RCPT.
    parameters: [&'a str; 2],
    message: String,
    /// How each recipient's mail ends.
    outcomes: &'a [&'a str],
    /// A key that has it so.
    key: &'a str,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            name: "",
            client: [192, 0, 2, 77],
            user: None,
            sender: CAROL,
            recipients: &[ALICE],
            parameters: [""; 2],
            message: PLAIN.into(),
            outcomes: &[],
            key: "",
        }
    }
}

impl Case<'_> {
    fn explain(&self, system: &System) -> Value {
        let file = system.dir().join("explained.eml");
        std::fs::write(&file, &self.message).unwrap();
        let client = Ipv4Addr::from(self.client).to_string();
        let mut arguments = vec!["explain", "--json", "--helo", "client.example.net"];
        arguments.extend(["--ip", &client, "--from", self.sender]);
        for recipient in self.recipients {
            arguments.extend(["--to", recipient]);
        }
        let [of_mail, of_rcpt] = self.parameters;
        arguments.extend(["--mail-parameters", of_mail, "--rcpt-parameters", of_rcpt]);
        if let Some(user) = self.user {
            arguments.extend(["--user", user, "--listener", "submission"]);
        }
        arguments.push(file.to_str().unwrap());
        let outcome = system.rmailctl(&arguments);
        let told = serde_json::from_str(&outcome.stdout);
        told.unwrap_or_else(|error| panic!("{}: {error}\n{outcome:?}", self.name))
    }

    /// Sends it in the words of the explanation, and has each reply compared.
    fn send(&self, system: &System, told: &Value) {
        let listener = match self.user {
            Some(_) => "submission",
            None => "smtp",
        };
        let address = system.address(listener);
        let connected = match self.user {
            Some(_) => Client::connect(address),
            None => Client::connect_for(address, self.client.into()),
        };
        let (mut client, greeting) = connected.unwrap();
        let mut is_sent = false;
        for decision in told["decisions"].as_array().unwrap() {
            let said = decision["said"].as_str().unwrap();
            let reply = match decision["stage"].as_str().unwrap() {
                "connection" => greeting.clone(),
                "login" => {
                    let login = client.login(self.user.unwrap(), PASSWORD);
                    assert_eq!(decision["code"], 235, "{}: {login:?}", self.name);
                    continue;
                }
                // Behind TLS more is offered, or less.
                "hello" if self.user.is_some() => {
                    assert_eq!(client.command(said).unwrap().code, 250);
                    continue;
                }
                "message" => {
                    assert_eq!(client.command("DATA").unwrap().code, 354);
                    client.send(&stuffed(self.message.as_bytes())).unwrap();
                    is_sent = true;
                    client.reply().unwrap()
                }
                _ => client.command(said).unwrap(),
            };
            let heard = (json!(reply.code), cut(&reply.lines.join("\n")));
            let text = decision["reply"].as_str().unwrap();
            assert_eq!(
                heard,
                (decision["code"].clone(), cut(text)),
                "{}: {said}\n{told:#}",
                self.name
            );
        }
        let taken = told["recipients"].as_array().unwrap().iter();
        let taken = taken.filter(|one| one["taken"] == true).count();
        assert!(is_sent || taken == 0, "{}", self.name);
    }
}

/// Each message has its own id.
fn cut(text: &str) -> String {
    let text = text
        .split_once("accepted as ")
        .map_or(text, |(head, _)| head);
    text.to_owned()
}

fn outcomes(told: &Value) -> Vec<&str> {
    let all = told["recipients"].as_array().unwrap().iter();
    all.map(|one| one["outcome"].as_str().unwrap()).collect()
}

fn keys(told: &Value) -> Vec<&str> {
    let decisions = told["decisions"].as_array().unwrap().iter();
    let facts = decisions.flat_map(|one| one["facts"].as_array().unwrap());
    facts.map(|fact| fact["key"].as_str().unwrap()).collect()
}

fn start(names: &NameServer, more: &Value) -> System {
    let config = json!({
        "relay": {"dns": [names.address()], "smarthost": "127.0.0.1", "smarthost_port": 1, "retry_seconds": [600, 600]},
        "smtp": {
            "proxies": ["127.0.0.1"],
            "cleartext_auth_on_loopback": true,
            "max_message_size": 200_000,
            "max_text_line": 1000,
            "max_header_size": 65536,
            "max_header_fields": 1000,
            "max_hops": 100,
            "limits": {
                "greeting_delay_ms": 0, "exempt": [], "refused_recipients": 2, "network_factor": 0, "block_factor": 0,
                "connections": 0,
            },
        },
    });
    let system = System::start(Options::alice().user(BOB).config(&config).config(more));
    for alias in [&["away", CAROL][..], &["both", ALICE, CAROL]] {
        let arguments = [&["alias", "add", "example.test", "exact"], alias].concat();
        system.rmailctl(&arguments).succeeded();
    }
    system
}

#[test]
fn what_is_explained_is_what_happens_and_explaining_leaves_no_trace() {
    skip_without!("nsd");
    let names = NameServer::start();
    let lists = json!([{"zone": "bl.test", "replies": [{"reply": "127.0.0.4-7", "score": 10}]}]);
    let system = start(&names, &json!({"smtp": {"dns_lists": {"lists": lists}}}));
    let quota = ["user", "quota", BOB, "--max-messages", "1"];
    system.rmailctl(&quota).succeeded();
    let header = "From: carol@outside.test\r\n";
    let from = |address: &str| PLAIN.replace(CAROL, address);
    let cases = [
        Case {
            name: "good mail",
            outcomes: &["taken: into INBOX of alice@example.test"],
            key: "authentication.enabled",
            ..Case::default()
        },
        Case {
            name: "the only message there is room for",
            recipients: &[BOB],
            outcomes: &["taken: into INBOX of bob@example.test"],
            key: "rmailctl user quota",
            ..Case::default()
        },
        Case {
            name: "over quota beside one who is not",
            recipients: &[BOB, ALICE],
            outcomes: &["not taken now: 452", "taken: into INBOX of alice@"],
            key: "rmailctl tenant quota",
            ..Case::default()
        },
        Case {
            name: "unknown user",
            recipients: &["nobody@example.test"],
            outcomes: &["refused: 550 5.1.1"],
            key: "rmailctl alias test",
            ..Case::default()
        },
        Case {
            name: "relay",
            client: [192, 0, 2, 78],
            recipients: &["x@elsewhere.test"],
            outcomes: &["refused: 550 5.7.1"],
            key: "rmailctl domain add",
            ..Case::default()
        },
        Case {
            name: "a spoof whose domain wants it refused",
            sender: "dave@honest.test",
            message: from("dave@honest.test"),
            outcomes: &["refused: 550 5.7.26"],
            key: "authentication.dmarc_reject",
            ..Case::default()
        },
        Case {
            name: "a spoof whose domain wants it put aside",
            sender: "eve@elsewhere.test",
            message: from("dave@careful.test"),
            outcomes: &["taken: into the junk mailbox of alice@example.test"],
            key: "authentication.dmarc_quarantine",
            ..Case::default()
        },
        Case {
            name: "a client on a list",
            client: [192, 0, 2, 9],
            outcomes: &["refused: 550 5.7.1"],
            key: "smtp.dns_lists.reject_score",
            ..Case::default()
        },
        Case {
            name: "an alias that leads outside",
            recipients: &["away@example.test"],
            outcomes: &["taken: out to carol@outside.test from <SRS0="],
            key: "rmailctl alias test",
            ..Case::default()
        },
        Case {
            name: "an alias that leads here and outside",
            recipients: &["both@example.test"],
            outcomes: &["taken: into INBOX of alice@example.test; out to carol@outside.test"],
            ..Case::default()
        },
        Case {
            name: "too big",
            message: format!("{header}\r\n{}", "0123456789abcdef\r\n".repeat(12_000)),
            outcomes: &["refused: 552 5.3.4"],
            key: "smtp.max_message_size",
            ..Case::default()
        },
        Case {
            name: "more than is handed over in one piece",
            message: format!("{header}\r\n{}", "0123456789abcdef\r\n".repeat(8_000)),
            outcomes: &["taken: into INBOX of alice@example.test"],
            ..Case::default()
        },
        Case {
            name: "a bare LF",
            message: format!("{header}\r\na\nb\r\n"),
            outcomes: &["refused: 554 5.6.0"],
            key: "smtp.stray_line_ends",
            ..Case::default()
        },
        Case {
            name: "a long line",
            message: format!("{header}\r\n{}\r\n", "x".repeat(999)),
            outcomes: &["refused: 554 5.6.0"],
            key: "smtp.max_text_line",
            ..Case::default()
        },
        Case {
            name: "a large header",
            message: format!("X: x\r\n {}", "x\r\n ".repeat(20_000)) + "\r\n" + PLAIN,
            outcomes: &["refused: 552 5.3.4"],
            key: "smtp.max_header_size",
            ..Case::default()
        },
        Case {
            name: "many fields",
            message: "X: x\r\n".repeat(1000) + PLAIN,
            outcomes: &["refused: 552 5.3.4"],
            key: "smtp.max_header_fields",
            ..Case::default()
        },
        Case {
            name: "a mail that goes in circles",
            message: "Received: x\r\n".repeat(101) + PLAIN,
            outcomes: &["refused: 554 5.4.6"],
            key: "smtp.max_hops",
            ..Case::default()
        },
        Case {
            name: "dots",
            message: format!("{header}\r\n.\r\n..\r\n.QUIT\r\n"),
            outcomes: &["taken: "],
            ..Case::default()
        },
        Case {
            name: "a user's own mail",
            client: [127, 0, 0, 1],
            user: Some(ALICE),
            sender: ALICE,
            recipients: &["dave@elsewhere.test"],
            message: from(ALICE),
            outcomes: &["taken: out to dave@elsewhere.test from <alice@example.test>"],
            key: "relay.budgets",
            ..Case::default()
        },
        Case {
            name: "a user with somebody else's From",
            client: [127, 0, 0, 1],
            user: Some(ALICE),
            sender: ALICE,
            recipients: &["dave@elsewhere.test"],
            message: from(BOB),
            outcomes: &["refused: 550 5.7.1"],
            key: "rmailctl user grant",
            ..Case::default()
        },
        Case {
            name: "a user with somebody else's sender",
            client: [127, 0, 0, 1],
            user: Some(ALICE),
            sender: BOB,
            outcomes: &["refused: 553 5.7.1"],
            key: "rmailctl user grant",
            ..Case::default()
        },
    ];
    for case in &cases {
        let before = kept(&system);
        // What it leaves would be seen by the next one.
        for _ in 0..3 {
            case.explain(&system);
        }
        let told = case.explain(&system);
        assert_eq!(kept(&system), before, "{}", case.name);
        let said = outcomes(&told);
        assert_eq!(said.len(), case.outcomes.len(), "{}: {said:?}", case.name);
        for (said, wanted) in said.iter().zip(case.outcomes) {
            assert!(said.starts_with(wanted), "{}: {said}\n{told:#}", case.name);
        }
        let keys = keys(&told);
        let is_named = case.key.is_empty() || keys.iter().any(|key| key.contains(case.key));
        // Without a tenant there is no quota of one.
        let is_named = is_named || keys.contains(&"rmailctl domain quota");
        assert!(is_named, "{}: {keys:?}", case.name);
        case.send(&system, &told);
        // It lands where it was said.
        let after = kept(&system);
        let new: Vec<&PathBuf> = after
            .keys()
            .filter(|path| !before.contains_key(*path))
            .collect();
        let lands = |place: &str| {
            new.iter()
                .any(|path| path.to_str().unwrap().contains(place))
        };
        let all = said.join("\n");
        for (place, words) in [
            ("users/alice/mailboxes/INBOX/", "INBOX of alice@"),
            ("users/bob/mailboxes/INBOX/", "INBOX of bob@"),
            ("/mailboxes/Junk/", "the junk mailbox"),
            ("/queue/", "out to"),
        ] {
            assert_eq!(
                lands(place),
                all.contains(words),
                "{}: {new:?}\n{all}",
                case.name
            );
        }
    }
    // A session of its own counts, and only that.
    let limited = |name| Case {
        name,
        client: [198, 51, 100, 5],
        recipients: &["nobody@example.test", "nobody@example.test", ALICE],
        outcomes: &["refused: 550", "refused: 550", "not taken now: 450"],
        ..Case::default()
    };
    for _ in 0..3 {
        let told = limited("a client that guesses").explain(&system);
        assert!(
            outcomes(&told)[2].starts_with("not taken now: 450"),
            "{told:#}"
        );
    }
    let told = limited("a client that guesses").explain(&system);
    limited("a client that guesses").send(&system, &told);
    let again = limited("a client that has guessed");
    let told = again.explain(&system);
    assert!(
        outcomes(&told)[0].starts_with("not taken now: 450 4.7.1"),
        "{told:#}"
    );
    assert!(keys(&told).contains(&"smtp.limits.refused_recipients"));
    again.send(&system, &told);
}

#[test]
fn room_beside_others_and_reports_are_as_they_are_told() {
    skip_without!("nsd");
    let names = NameServer::start();
    let system = start(&names, &json!({}));
    let quota = |messages: &str| {
        let arguments = [
            "domain",
            "quota",
            "example.test",
            "--max-messages",
            messages,
        ];
        system.rmailctl(&arguments).succeeded();
    };
    quota("1");
    let both = Case {
        name: "room for one of two",
        recipients: &[ALICE, BOB],
        ..Case::default()
    };
    for _ in 0..2 {
        let told = both.explain(&system);
        let said = outcomes(&told);
        assert_eq!(said[0], "taken: into INBOX of alice@example.test");
        assert!(said[1].starts_with("not taken now: 452 4.2.2"), "{said:?}");
        assert!(
            keys(&told)
                .iter()
                .any(|key| key.contains("rmailctl domain quota")),
            "{told:#}"
        );
    }
    both.send(&system, &both.explain(&system));
    quota("100");
    let told_of = Case {
        name: "a sender who wants to be told",
        parameters: ["RET=HDRS ENVID=abc", "NOTIFY=SUCCESS"],
        ..Case::default()
    };
    let before = kept(&system);
    let told = told_of.explain(&system);
    assert_eq!(kept(&system), before);
    assert_eq!(
        outcomes(&told),
        ["taken: into INBOX of alice@example.test; the sender is told that it was delivered"]
    );
    told_of.send(&system, &told);
    let is_told = || {
        let listed = system.rmailctl(&["queue", "list"]).succeeded().stdout;
        listed.contains(CAROL).then_some(())
    };
    wait_for(Duration::from_secs(20), is_told).unwrap();
    let wrong = Case {
        name: "a parameter that is none",
        parameters: ["", "NOTIFY=NEVER,SUCCESS"],
        ..Case::default()
    };
    let told = wrong.explain(&system);
    assert!(
        outcomes(&told)[0].starts_with("refused: 501 5.5.4"),
        "{told:#}"
    );
    wrong.send(&system, &told);
}

#[test]
fn a_stranger_stays_one_until_he_comes() {
    skip_without!("nsd");
    let names = NameServer::start();
    let grey = json!({"smtp": {"greylisting": {"enabled": true, "delay_seconds": 1}}});
    let system = start(&names, &grey);
    let case = Case {
        name: "a stranger",
        ..Case::default()
    };
    let before = kept(&system);
    for _ in 0..3 {
        // Who was waited for would have less to wait.
        let told = case.explain(&system);
        let said = outcomes(&told)[0];
        assert!(said.contains("450 4.7.1"), "{said}");
        assert!(said.contains("try again in 1 second"), "{said}");
        assert!(keys(&told).contains(&"smtp.greylisting"));
    }
    assert_eq!(kept(&system), before);
    // Whom explaining had made known would have waited long enough now, and be let in.
    let wait = || std::thread::sleep(Duration::from_millis(2100));
    wait();
    let told = case.explain(&system);
    assert!(outcomes(&told)[0].contains("450 4.7.1"), "{told:#}");
    case.send(&system, &told);
    // He did come, and that is seen.
    wait();
    let told = case.explain(&system);
    assert!(outcomes(&told)[0].starts_with("taken: "), "{told:#}");
    case.send(&system, &told);
}

#[test]
fn what_goes_into_quarantine_is_said_with_its_reason() {
    skip_without!("nsd");
    let names = NameServer::start();
    let measures = json!({"dmarc_quarantine": "quarantine"});
    let system = start(&names, &json!({"authentication": measures}));
    let case = Case {
        name: "a spoof whose domain wants it in quarantine",
        sender: "eve@elsewhere.test",
        recipients: &[ALICE, "both@example.test"],
        message: PLAIN.replace(CAROL, "dave@careful.test"),
        ..Case::default()
    };
    let before = kept(&system);
    let told = case.explain(&system);
    assert_eq!(kept(&system), before);
    let of = |address: &str| {
        format!(
            "into quarantine (quarantine by authentication.dmarc_quarantine: neither SPF nor DKIM speaks for careful.test) \
             until rmailctl queue release, for {address}"
        )
    };
    assert_eq!(
        outcomes(&told),
        [
            format!("taken: {}", of(ALICE)),
            format!("taken: {}; {}", of(ALICE), of(CAROL)),
        ]
    );
    assert!(keys(&told).contains(&"authentication.dmarc_quarantine"));
    case.send(&system, &told);
    let listed = system.rmailctl(&["queue", "list"]).succeeded().stdout;
    let reason = "held: quarantine by authentication.dmarc_quarantine: neither SPF nor DKIM speaks for careful.test";
    assert!(listed.contains(reason), "{listed}");
    assert!(system.account(ALICE).messages("INBOX").is_empty());
}

#[test]
fn no_domain_is_told_of_what_is_only_explained() {
    skip_without!("nsd");
    let names = NameServer::start();
    let reports = json!({"enabled": true, "sender": "dmarc@example.test"});
    let config = json!({"authentication": {"aggregate_reports": reports}});
    let system = start(&names, &config);
    let case = Case {
        name: "mail of a domain that wants reports",
        sender: "dave@reported.test",
        message: PLAIN.replace(CAROL, "dave@reported.test"),
        ..Case::default()
    };
    let counted = || {
        let listed = system.rmailctl(&["reports", "list", "--json"]).succeeded();
        let rows: Value = serde_json::from_str(&listed.stdout).unwrap();
        rows[0]["messages"].as_u64()
    };
    let told = case.explain(&system);
    assert_eq!(counted(), None);
    case.send(&system, &told);
    // What was explained would be there before what came later.
    wait_for(Duration::from_secs(20), counted).unwrap();
    assert_eq!(counted(), Some(1));
}

#[test]
fn held_mail_is_foreseen_and_foreseeing_costs_nothing() {
    // Budgets are new at midnight (UTC).
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let left = 86_400 - now.unwrap().as_secs() % 86_400;
    if left < 60 {
        std::thread::sleep(std::time::Duration::from_secs(left + 1));
    }
    let config = json!({
        "relay": {"budgets": {"account": {"messages": 1}}, "smarthost": "127.0.0.1", "smarthost_port": 1},
        "smtp": {"cleartext_auth_on_loopback": true},
    });
    let system = System::start(Options::alice().config(&config));
    let case = Case {
        name: "a budget",
        client: [127, 0, 0, 1],
        user: Some(ALICE),
        sender: ALICE,
        recipients: &["dave@elsewhere.test"],
        message: PLAIN.replace(CAROL, ALICE),
        ..Case::default()
    };
    for _ in 0..3 {
        let told = case.explain(&system);
        assert!(
            outcomes(&told)[0].starts_with("taken: out to dave@"),
            "{told:#}"
        );
    }
    let told = case.explain(&system);
    case.send(&system, &told);
    let told = case.explain(&system);
    let said = outcomes(&told)[0];
    assert!(
        said.starts_with("taken: held in the queue (relay.budgets.account.messages allows "),
        "{said}"
    );
    case.send(&system, &told);
    let listed = system.rmailctl(&["queue", "list"]).succeeded().stdout;
    assert_eq!(listed.matches("held: ").count(), 1, "{listed}");
}

#[test]
fn text_says_it_in_order_and_the_status_tells_how_it_ends() {
    let config = json!({"authentication": {"patience_seconds": 1}});
    let mut system = System::start(Options::alice().config(&config));
    let ask = |arguments: &[&str]| {
        let fixed = ["explain", "--ip", "192.0.2.1", "--from", CAROL];
        system.rmailctl_with(&[&fixed, arguments].concat(), "From: a@b.test\n\n.\nhi")
    };
    let told = ask(&["--to", ALICE]);
    assert_eq!(told.code(), 0, "{told:?}");
    let order = [
        "connection: 220 ",
        "> EHLO [192.0.2.1]",
        "sender: 250 ",
        "recipient: 250 ",
    ];
    let places = order.map(|words| {
        told.stdout
            .find(words)
            .unwrap_or_else(|| panic!("{words}: {told:?}"))
    });
    assert!(places.is_sorted(), "{told:?}");
    let last = told.stdout.lines().last().unwrap();
    assert!(
        last.starts_with("alice@example.test: taken so far, to alice@example.test here"),
        "{last}"
    );
    // Lines of a file of this machine.
    let told = ask(&["--to", ALICE, "-"]);
    let last = told.stdout.lines().last().unwrap().to_owned();
    assert!(
        last.ends_with("taken: into INBOX of alice@example.test"),
        "{told:?}"
    );
    let told = ask(&["--to", ALICE, "--to", "x@example.test"]);
    assert_eq!(told.code(), 1, "{told:?}");
    let told = ask(&["--to", "a\r\nb@example.test"]);
    assert_eq!(told.code(), 65, "{told:?}");
    let told = ask(&["--to", ALICE, "--listener", "lmtp"]);
    assert!(told.stdout.contains("[smtp.lmtp_port]"), "{told:?}");
    let told = ask(&["--to", ALICE, "--listener", "submission"]);
    assert!(told.stdout.contains("sender: 530 5.7.0"), "{told:?}");
    let told = ask(&["--to", ALICE, "--user", ALICE, "--listener", "submission"]);
    assert!(told.stdout.contains("login: 235 "), "{told:?}");
    assert!(told.stdout.contains("sender: 553 5.7.1 "), "{told:?}");
    assert!(system.account(ALICE).messages("INBOX").is_empty());
    system.stop();
    let told = system.rmailctl(&["explain", "--ip", "192.0.2.1", "--to", ALICE]);
    assert_eq!(told.code(), 69, "{told:?}");
    assert!(told.stderr.contains("is the system running"), "{told:?}");
}
