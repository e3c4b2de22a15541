//! Mail goes through filters that we did not write, and through some that are broken.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;
use system_tests::filter::{self, Filter};
use system_tests::options::PASSWORD;
use system_tests::patience::wait_for;
use system_tests::smtp::Client;
use system_tests::{Options, System, skip_unless, skip_without};

const LIMIT: Duration = Duration::from_secs(20);

fn start(filters: &[serde_json::Value]) -> System {
    let config = json!({"smtp": {"filters": filters, "cleartext_auth_on_loopback": true}});
    System::start(Options::default().config(&config))
}

/// All messages of an INBOX.
fn all(system: &System, address: &str) -> Vec<String> {
    let files = system.account(address).messages("INBOX");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    files.iter().map(|file| text(file.bytes())).collect()
}

/// The first message of an INBOX.
fn only(system: &System, address: &str) -> String {
    wait_for(LIMIT, || all(system, address).into_iter().next())
        .unwrap_or_else(|error| panic!("{address}: {error}\n{}", system.log()))
}

#[test]
fn opendkim_signs_what_is_submitted_and_verifies_what_comes_in() {
    skip_without!("opendkim", "openssl");
    let dir = filter::directory();
    let signer = Filter::signer(dir.path(), "example.test");
    let verifier = Filter::verifier(dir.path(), "example.test");
    let system = start(&[
        signer.entry("signer", &["submission"]),
        verifier.entry("verifier", &["mx"]),
    ]);
    let mut client = Client::hello(system.address("submission")).unwrap();
    client.login("alice@example.test", PASSWORD).unwrap();
    let text = b"From: alice@example.test\r\nTo: bob@example.test\r\nSubject: folded\r\n\tsubject\r\n\r\n.dots\r\n \r\n";
    client
        .deliver("alice@example.test", "bob@example.test", text)
        .unwrap();
    let signed = only(&system, "bob@example.test");
    assert!(
        signed.contains("DKIM-Signature: v=1;"),
        "{signed}\n{}",
        signer.log()
    );

    // As another server would bring it: without what was put on top here.
    let start = signed.find("DKIM-Signature:").unwrap();
    let mut client = Client::hello(system.address("smtp")).unwrap();
    let broken = signed.replace(".dots", ".spots");
    for (text, result) in [(&signed, "dkim=pass"), (&broken, "dkim=fail")] {
        let before = all(&system, "alice@example.test");
        client
            .deliver(
                "x@example.test",
                "alice@example.test",
                &text.as_bytes()[start..],
            )
            .unwrap();
        let after = all(&system, "alice@example.test");
        let new = after.into_iter().find(|one| !before.contains(one)).unwrap();
        let verdict = new.find("Authentication-Results:").map(|at| &new[at..]);
        let verdict = verdict.unwrap_or_else(|| panic!("{new}\n{}", verifier.log()));
        assert!(
            verdict.starts_with("Authentication-Results: mail.example.test;"),
            "{new}"
        );
        let verdict = &verdict[..verdict.find("DKIM-Signature:").unwrap()];
        assert!(verdict.contains(result), "{new}");
    }
}

#[test]
fn a_filter_that_is_gone_holds_mail_up_only_until_it_is_back() {
    skip_without!("opendkim", "openssl");
    let dir = filter::directory();
    let signer = Filter::signer(dir.path(), "example.test");
    let system = start(&[signer.entry("signer", &["mx"])]);
    let mut client = Client::hello(system.address("smtp")).unwrap();
    drop(signer);
    let refused = client.command("MAIL FROM:<x@outside.test>").unwrap();
    assert!(
        refused.text().starts_with("451 4.7.1 a filter"),
        "{}",
        refused.text()
    );
    assert!(
        system.log().contains("start the filter"),
        "{}",
        system.log()
    );
    let _again = Filter::signer(dir.path(), "example.test");
    client
        .deliver(
            "x@outside.test",
            "bob@example.test",
            b"From: x@outside.test\r\n\r\nhi\r\n",
        )
        .unwrap();
    only(&system, "bob@example.test");
}

/// What filters take for spam (GTUBE).
const TEST_PATTERN: &str = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";

/// Spam is refused with such words, and other mail is kept with such a field.
fn judges_spam(name: &str, filter: &Filter, refusal: &str, field: &str) {
    let system = start(&[filter.entry(name, &["mx"])]);
    let mut client = Client::hello(system.address("smtp")).unwrap();
    let mut send = |body: &str| {
        let text = format!("From: x@outside.test\r\nSubject: hello\r\n\r\n{body}\r\n");
        client.deliver("x@outside.test", "alice@example.test", text.as_bytes())
    };
    let refused = send(TEST_PATTERN).unwrap_err().to_string();
    assert!(refused.starts_with(refusal), "{refused}\n{}", system.log());
    send("see you at noon").unwrap();
    let kept = only(&system, "alice@example.test");
    assert!(kept.contains(field), "{kept}\n{}", filter.log());
    assert!(kept.ends_with("\r\n\r\nsee you at noon\r\n"), "{kept}");
    assert_eq!(all(&system, "alice@example.test").len(), 1);
}

#[test]
fn rspamd_refuses_spam_and_says_of_other_mail_what_it_found() {
    skip_without!("rspamd");
    let dir = filter::directory();
    let rspamd = Filter::rspamd(dir.path());
    let field = "\r\nX-Spamd-Result: default: False ";
    judges_spam("rspamd", &rspamd, "554 5.7.1 ", field);
}

#[test]
fn spamassassin_refuses_spam_and_says_of_other_mail_what_it_found() {
    skip_without!("spamass-milter", "spamd", "spamc");
    let dir = filter::directory();
    let spamassassin = Filter::spamassassin(dir.path());
    let field = "\r\nX-Spam-Status: No, score=0.0\r\n";
    let refusal = "550 5.7.1 Blocked by SpamAssassin";
    judges_spam("spamassassin", &spamassassin, refusal, field);
}

/// Looks at everything, refuses some, and changes the rest.
const OPINIONATED: &str = r#"
class Filter(Milter.Base):
    def envfrom(self, sender, *params):
        if 'spammer' in sender:
            self.setreply('554', '5.7.1', 'we know you', 'go away')
            return Milter.REJECT
        return Milter.CONTINUE

    def envrcpt(self, to, *params):
        return Milter.TEMPFAIL if to == '<alice@example.test>' else Milter.CONTINUE

    def header(self, name, value):
        if name == 'Subject':
            self.subject = value
        return Milter.CONTINUE

    def body(self, piece):
        return Milter.REJECT if b'virus' in piece else Milter.CONTINUE

    def eom(self):
        self.addheader('X-Filter', 'seen\n\tand liked')
        self.chgheader('Subject', 1, '[list] ' + self.subject)
        self.replacebody(b'replaced\r\n.\r\n')
        self.addrcpt('<alice@example.test>')
        self.chgfrom('<list@example.test>')
        return Milter.ACCEPT
"#;

#[test]
fn a_filter_on_libmilter_refuses_at_each_stage_and_changes_the_rest() {
    skip_unless!(Filter::has_python(), "python3-milter is not installed");
    let dir = filter::directory();
    let filter = Filter::python(dir.path(), OPINIONATED);
    let system = start(&[filter.entry("opinionated", &["mx"])]);
    let mut client = Client::hello(system.address("smtp")).unwrap();
    let refused = client.command("MAIL FROM:<spammer@outside.test>").unwrap();
    assert_eq!(refused.text(), "554 5.7.1 we know you | 5.7.1 go away");
    let text = b"From: x@outside.test\r\nSubject: hello\r\n\r\nno virus\r\n";
    let refused = client.deliver("x@outside.test", "alice@example.test", text);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.starts_with("451 4.7.1 "), "{refused}");
    client.command("RSET").unwrap();
    let refused = client.deliver("x@outside.test", "bob@example.test", text);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.starts_with("550 5.7.1 "), "{refused}");
    let text = b"From: x@outside.test\r\nSubject: hello\r\n\r\nharmless\r\n";
    client
        .deliver("x@outside.test", "bob@example.test", text)
        .unwrap();
    for address in ["bob@example.test", "alice@example.test"] {
        let kept = only(&system, address);
        assert!(
            kept.starts_with("Return-Path: <list@example.test>\r\n"),
            "{kept}"
        );
        let end = "From: x@outside.test\r\nSubject: [list] hello\r\nX-Filter: seen\r\n\tand liked\r\n\r\nreplaced\r\n.\r\n";
        assert!(kept.ends_with(end), "{kept}\n{}", filter.log());
    }
}

/// Says in each message that it has seen it, before or after others.
const WITNESS: &str = r#"
class Filter(Milter.Base):
    def eom(self):
        self.addheader('X-Seen', NAME)
        return Milter.CONTINUE
"#;

#[test]
fn a_message_too_large_for_a_filter_passes_by_or_is_refused_as_its_policy_says() {
    skip_unless!(Filter::has_python(), "python3-milter is not installed");
    let dir = filter::directory();
    let filter = Filter::python(dir.path(), &WITNESS.replace("NAME", "'it'"));
    let entry = |listener: &str, policy: &str| {
        let mut entry = filter.entry(&format!("on-{listener}"), &[listener]);
        entry["max_message_size"] = json!(2048);
        entry["oversize"] = json!(policy);
        entry
    };
    let system = start(&[entry("mx", "reject"), entry("submission", "accept")]);
    let text = |size: usize| {
        let header = "From: alice@example.test\r\n\r\n";
        let body = "x".repeat(size - header.len() - 2);
        format!("{header}{body}\r\n").into_bytes()
    };
    let mut client = Client::hello(system.address("smtp")).unwrap();
    client
        .deliver("x@outside.test", "bob@example.test", &text(2048))
        .unwrap();
    assert!(only(&system, "bob@example.test").contains("\r\nX-Seen: it\r\n"));
    let refused = client.deliver("x@outside.test", "bob@example.test", &text(2049));
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.starts_with(
            "552 5.3.4 a filter of this server can check no more than 2048 bytes of a message"
        ),
        "{refused}"
    );
    assert!(
        system.log().contains("larger than the filter is shown"),
        "{}",
        system.log()
    );
    let mut client = Client::hello(system.address("submission")).unwrap();
    client.login("alice@example.test", PASSWORD).unwrap();
    // Date and Message-ID, which are added here, count.
    for size in [1500, 2049] {
        client
            .deliver("alice@example.test", "alice@example.test", &text(size))
            .unwrap();
    }
    let kept = all(&system, "alice@example.test");
    let seen = kept.iter().filter(|text| text.contains("X-Seen: it"));
    assert_eq!((kept.len(), seen.count()), (2, 1));
    assert_eq!(all(&system, "bob@example.test").len(), 1);
}

#[test]
fn the_order_of_filters_is_that_of_the_listener() {
    skip_unless!(Filter::has_python(), "python3-milter is not installed");
    let dir = filter::directory();
    let [one, two] =
        ["'one'", "'two'"].map(|name| Filter::python(dir.path(), &WITNESS.replace("NAME", name)));
    let system = start(&[
        one.entry("one", &["mx"]),
        two.entry("two", &["mx", "submission"]),
        one.entry("one-after-two", &["submission"]),
    ]);
    let text = b"From: alice@example.test\r\n\r\nhi\r\n";
    let order = |address: &str| {
        let kept = only(&system, address);
        let seen = kept
            .lines()
            .filter_map(|line| line.strip_prefix("X-Seen: "));
        seen.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut client = Client::hello(system.address("smtp")).unwrap();
    client
        .deliver("x@outside.test", "bob@example.test", text)
        .unwrap();
    assert_eq!(order("bob@example.test"), ["one", "two"]);
    let mut client = Client::hello(system.address("submission")).unwrap();
    client.login("alice@example.test", PASSWORD).unwrap();
    client
        .deliver("alice@example.test", "alice@example.test", text)
        .unwrap();
    assert_eq!(order("alice@example.test"), ["two", "one"]);
}

#[test]
fn a_hostile_filter_costs_its_own_mail_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut offer = [0; 17];
            // Whether it still listens is what the test looks at.
            let _ = stream.read_exact(&mut offer);
            let answer: &[u8] = match number % 3 {
                0 => &[0xff, 0xff, 0xff, 0xff, b'O'],
                1 => b"HTTP/1.1 400 Bad Request\r\n\r\n",
                _ => &[],
            };
            let _ = stream.write_all(answer);
        }
    });
    let entry = |listener: &str, policy: &str| json!({"name": format!("bad-{listener}"), "address": format!("inet:{place}"), "listeners": [listener], "on_failure": policy});
    let system = start(&[entry("mx", "accept"), entry("submission", "reject")]);
    let before = system.pid("smtpd");
    for _ in 0..3 {
        let mut client = Client::hello(system.address("smtp")).unwrap();
        client
            .deliver(
                "x@outside.test",
                "bob@example.test",
                b"From: x@outside.test\r\n\r\nhi\r\n",
            )
            .unwrap();
    }
    let mut client = Client::hello(system.address("submission")).unwrap();
    client.login("alice@example.test", PASSWORD).unwrap();
    for _ in 0..3 {
        let refused = client.command("MAIL FROM:<alice@example.test>").unwrap();
        assert_eq!(refused.code, 550, "{}", refused.text());
    }
    assert_eq!(all(&system, "bob@example.test").len(), 3);
    assert_eq!(system.pid("smtpd"), before);
}

/// Refuses spammers and a recipient, writes into the header of the rest, and into a file what it has seen.
const WATCHFUL: &str = r#"
class Filter(Milter.Base):
    def envfrom(self, sender, *params):
        with open(SEEN, 'a') as file:
            file.write(f'{sender} {self.getsymval("{tls_version}")}\n')
        return Milter.REJECT if 'spammer' in sender else Milter.CONTINUE

    def envrcpt(self, to, *params):
        return Milter.TEMPFAIL if to == '<bob@example.test>' else Milter.CONTINUE

    def body(self, piece):
        return Milter.REJECT if b'virus' in piece else Milter.CONTINUE

    def eom(self):
        self.addrcpt('<bob@example.test>')
        return Milter.ACCEPT
"#;

#[test]
fn filters_are_asked_only_if_that_is_wanted() {
    skip_unless!(Filter::has_python(), "python3-milter is not installed");
    let dir = filter::directory();
    let seen = dir.path().join("seen");
    let script = WATCHFUL.replace("SEEN", &format!("'{}'", seen.display()));
    let watchful = Filter::python(dir.path(), &script);
    let filters = [watchful.entry("watchful", &["mx"])];
    let config = json!({"smtp": {"filters": filters}, "authentication": {"patience_seconds": 1}});
    let system = System::start(Options::default().config(&config));
    let ask = |from: &str, to: &str, letter: &str, more: &[&str]| {
        let fixed = [
            "explain",
            "--ip",
            "192.0.2.1",
            "--from",
            from,
            "--to",
            to,
            "-",
        ];
        let told = system.rmailctl_with(&[&fixed, more].concat(), letter);
        (told.code(), told.stdout)
    };
    let harmless = "From: a@b.test\n\nhi";
    let (code, told) = ask("spammer@outside.test", "alice@example.test", harmless, &[]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("the filter watchful would be asked, and is not now  [smtp.filters]"));
    assert!(!seen.exists());
    for (from, to, letter, stage) in [
        (
            "spammer@outside.test",
            "alice@example.test",
            harmless,
            "sender: 550 5.7.1 ",
        ),
        (
            "carol@outside.test",
            "bob@example.test",
            harmless,
            "recipient: 451 4.7.1 ",
        ),
        (
            "carol@outside.test",
            "alice@example.test",
            "From: a@b.test\n\nvirus",
            "message: 550 5.7.1 ",
        ),
    ] {
        let (code, told) = ask(from, to, letter, &["--filters"]);
        assert_eq!(code, 1, "{told}");
        let (_, decided) = told.split_once(stage).unwrap_or_else(|| panic!("{told}"));
        let why =
            "a filter, or what is to be done while one does not work, has it so  [smtp.filters]";
        assert!(decided.contains(why), "{told}");
    }
    let (code, told) = ask(
        "carol@outside.test",
        "alice@example.test",
        harmless,
        &["--filters", "--tls"],
    );
    assert_eq!(code, 0, "{told}");
    let passed =
        "the filters (watchful) let the message pass, and may have changed it  [smtp.filters]";
    assert!(told.contains(passed), "{told}");
    assert!(told.contains("\n    REQUIRETLS"), "{told}");
    for address in ["alice@example.test", "bob@example.test"] {
        assert!(all(&system, address).is_empty(), "{address}");
    }
    let queue = system.rmailctl(&["queue", "list", "--json"]).succeeded();
    assert_eq!(queue.stdout.trim(), "[]");
    let seen = std::fs::read_to_string(seen).unwrap();
    let wanted = [
        "<spammer@outside.test> None",
        "<carol@outside.test> None",
        "<carol@outside.test> None",
        "<carol@outside.test> TLSv1.3",
    ];
    assert_eq!(seen.lines().collect::<Vec<_>>(), wanted);
}
