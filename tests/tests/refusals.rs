//! Bad input is answered clearly, with what to do about it: senders and users first.

use serde_json::json;
use system_tests::dns::NameServer;
use system_tests::smtp::Client;
use system_tests::{Options, System, imap, skip_without};

#[test]
fn an_unknown_user_is_refused_with_550_5_1_1() {
    let system = System::start(Options::without_users());
    let mut client = Client::hello(system.address("smtp")).unwrap();
    client.command("MAIL FROM:<carol@outside.test>").unwrap();
    let reply = client.command("RCPT TO:<nobody@example.test>").unwrap();
    assert!(reply.text().starts_with("550 5.1.1 "), "{reply:?}");
    assert!(reply.text().to_lowercase().contains("user"), "{reply:?}");
}

#[test]
fn a_relay_attempt_is_refused_with_550_5_7_1() {
    let system = System::start(Options::without_users());
    let mut client = Client::hello(system.address("smtp")).unwrap();
    client.command("MAIL FROM:<carol@outside.test>").unwrap();
    let reply = client.command("RCPT TO:<dave@elsewhere.test>").unwrap();
    assert!(reply.text().starts_with("550 5.7.1 "), "{reply:?}");
}

#[test]
fn a_submission_without_login_is_refused_with_530() {
    let system = System::start(Options::without_users());
    let mut client = Client::hello(system.address("submission")).unwrap();
    let reply = client.command("MAIL FROM:<alice@example.test>").unwrap();
    assert!(reply.text().starts_with("530 5.7.0 "), "{reply:?}");
}

#[test]
fn login_is_not_offered_on_clear_text() {
    let system = System::start(
        Options::alice().config(&json!({"imap": {"cleartext_login_on_loopback": false}})),
    );
    let mut client = Client::connect(system.address("submission")).unwrap().0;
    let offer = client.command("EHLO client.example.net").unwrap();
    assert!(
        !offer.lines.iter().any(|line| line.starts_with("AUTH")),
        "{offer:?}"
    );
    assert!(
        offer.lines.iter().any(|line| line == "STARTTLS"),
        "{offer:?}"
    );
    let reply = client
        .command("AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABjb3JyZWN0IGhvcnNlIGJhdHRlcnk=")
        .unwrap();
    assert!(
        matches!(reply.code, 530 | 538 | 503 | 504 | 502),
        "{reply:?}"
    );

    let (mut client, _) = imap::Client::connect(system.address("imap")).unwrap();
    let capability = client.command("CAPABILITY").unwrap().ok();
    assert!(
        capability
            .untagged
            .iter()
            .any(|line| line.contains("LOGINDISABLED") && line.contains("STARTTLS")),
        "{capability:?}"
    );
    let answer = client
        .command("LOGIN alice@example.test \"correct horse battery\"")
        .unwrap();
    assert!(answer.result.starts_with("NO"), "{answer:?}");
}

#[test]
fn a_wrong_password_is_refused_with_535_and_no() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    let script = r#"
for user, secret in [(ALICE, "wrong"), ("nobody@example.test", password), (ALICE, "")]:
    try:
        submission(user, secret)
    except smtplib.SMTPAuthenticationError as error:
        # An empty password is no password at all by the grammar (RFC 4616 section 2).
        code, text = error.smtp_code, error.smtp_error
        assert code == 535 and text.startswith(b"5.7.8") or (not secret and code == 501), error
    else:
        raise AssertionError(f"{user} was let in")
    try:
        imap(user, secret)
    except imaplib.IMAP4.error as error:
        assert "AUTHENTICATIONFAILED" in str(error), error
    else:
        raise AssertionError(f"{user} was let in")
assert imap().state == "AUTH"
"#;
    system.python(script, &json!({}));
}

#[test]
fn many_wrong_passwords_lock_the_door_for_a_while() {
    skip_without!("python3");
    let system = System::start(
        Options::alice()
            .config(&json!({"limits": {"auth_failures": 3, "auth_window_seconds": 600}})),
    );
    let script = r#"
def attempt(secret):
    try:
        imap(ALICE, secret)
        return True
    except (imaplib.IMAP4.error, OSError):
        return False
for number in range(4):
    assert not attempt(f"wrong {number}")
assert not attempt(password), "the right password was heard although the door is locked"
"#;
    system.python(script, &json!({}));
}

#[test]
fn an_oversize_message_is_refused_by_its_announced_size() {
    let system =
        System::start(Options::alice().config(&json!({"smtp": {"max_message_size": 65536}})));
    let (mut client, _) = Client::connect(system.address("smtp")).unwrap();
    let offer = client.command("EHLO client.example.net").unwrap();
    assert!(
        offer.lines.iter().any(|line| line == "SIZE 65536"),
        "{offer:?}"
    );
    let reply = client
        .command("MAIL FROM:<carol@outside.test> SIZE=65537")
        .unwrap();
    assert!(reply.text().starts_with("552 5.3.4 "), "{reply:?}");
    assert!(
        reply.text().contains("65536"),
        "the limit is told: {reply:?}"
    );
}

#[test]
fn a_message_of_exactly_the_advertised_size_is_taken_here_and_for_elsewhere() {
    skip_without!("python3");
    let system = System::start(Options::alice().config(&json!({
        "smtp": {"max_message_size": 65536},
        "relay": {"smarthost": "127.0.0.1", "smarthost_port": 9},
    })));
    let mut message = b"From: <alice@example.test>\r\nSubject: just fits\r\n\r\n".to_vec();
    while message.len() < 65536 - 100 {
        message.extend_from_slice(&[b'x'; 98]);
        message.extend_from_slice(b"\r\n");
    }
    message.resize(65536 - 2, b'x');
    message.extend_from_slice(b"\r\n");
    let mut client = Client::hello(system.address("smtp")).unwrap();
    client
        .deliver("carol@outside.test", "alice@example.test", &message)
        .unwrap();
    assert_eq!(
        system.account("alice@example.test").messages("INBOX").len(),
        1
    );
    let text = String::from_utf8(message).unwrap();
    system.python(
        r#"with submission() as client:
    client.sendmail(ALICE, ["carol@outside.test"], text)"#,
        &json!({ "text": text }),
    );
}

#[test]
fn an_oversize_message_is_refused_while_it_streams_and_nothing_of_it_stays() {
    let system =
        System::start(Options::alice().config(&json!({"smtp": {"max_message_size": 65536}})));
    let mut client = Client::hello(system.address("smtp")).unwrap();
    let mut message = b"Subject: big\r\n\r\n".to_vec();
    for _ in 0..2000 {
        message.extend_from_slice(&[b'x'; 98]);
        message.extend_from_slice(b"\r\n");
    }
    let error = client
        .deliver("carol@outside.test", "alice@example.test", &message)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("552 5.3.4 "), "{error}");
    // The session lives on, and a small message still comes through.
    client
        .deliver(
            "carol@outside.test",
            "alice@example.test",
            b"Subject: small\r\n\r\nhi\r\n",
        )
        .unwrap();
    let messages = system.account("alice@example.test").messages("INBOX");
    assert_eq!(messages.len(), 1, "{messages:?}");
}

#[test]
fn a_full_mailbox_is_told_to_the_sender_and_to_the_user() {
    skip_without!("python3");
    let system = System::start(Options::without_users());
    system
        .rmailctl_with(
            &[
                "user",
                "add",
                "alice@example.test",
                "--quota",
                "20K",
                "--password-stdin",
            ],
            "correct horse battery",
        )
        .succeeded();
    let mut client = Client::hello(system.address("smtp")).unwrap();
    let mut message = b"Subject: big\r\n\r\n".to_vec();
    for _ in 0..150 {
        message.extend_from_slice(&[b'x'; 98]);
        message.extend_from_slice(b"\r\n");
    }
    client
        .deliver("carol@outside.test", "alice@example.test", &message)
        .unwrap();
    let error = client
        .deliver("carol@outside.test", "alice@example.test", &message)
        .unwrap_err()
        .to_string();
    // RFC 3463 §3.3: X.2.2, mailbox full.
    assert!(
        error.contains(" 4.2.2 ") || error.contains(" 5.2.2 "),
        "{error}"
    );
    let script = r#"
client = imap()
answer = refused(client.append("INBOX", None, None, b"Subject: x\r\n\r\n" + b"y" * 15000 + b"\r\n"))
assert "OVERQUOTA" in answer, answer
"#;
    system.python(script, &json!({}));
}

#[test]
fn a_connection_too_many_from_one_address_is_told_so() {
    let system = System::start(Options::without_users().config(&json!({
        "limits": {"connections_per_address": 2},
        "smtp": {"limits": {"exempt": [], "greeting_delay_ms": 0}},
    })));
    let open: Vec<Client> = (0..2)
        .map(|_| Client::hello(system.address("smtp")).unwrap())
        .collect();
    let greeting = Client::connect(system.address("smtp")).unwrap().1;
    assert_eq!(greeting.code, 421, "{greeting:?}");
    drop(open);
    let again = system_tests::patience::wait_for(std::time::Duration::from_secs(5), || {
        Client::hello(system.address("smtp")).ok()
    });
    assert!(again.is_ok());
}

#[test]
fn what_one_client_may_do_is_in_the_configuration() {
    let limits =
        json!({"exempt": [], "greeting_delay_ms": 300, "commands": 12, "refused_recipients": 1});
    let config = json!({"smtp": {"limits": limits}});
    let system = System::start(Options::alice().config(&config));
    let address = system.address("smtp");
    let mut hasty = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut hasty, b"EHLO client.example.net\r\n").unwrap();
    let mut words = String::new();
    std::io::Read::read_to_string(&mut hasty, &mut words).unwrap();
    assert!(words.starts_with("521 5.5.1 "), "{words}");
    let mut client = Client::hello(address).unwrap();
    client.command("MAIL FROM:<a@example.net>").unwrap();
    let mut told = |line: &str| client.command(line).unwrap().text();
    let guess = told("RCPT TO:<guessed@example.test>");
    assert!(guess.starts_with("550 "), "{guess}");
    let next = told("RCPT TO:<alice@example.test>");
    assert!(next.starts_with("450 4.7.1 "), "{next}");
    let last = (0..9).map(|_| told("NOOP")).last().unwrap();
    assert!(last.starts_with("421 4.7.0 "), "{last}");
    let log = system.log();
    for key in [
        "smtp.limits.greeting_delay_ms",
        "smtp.limits.refused_recipients",
        "smtp.limits.commands",
    ] {
        assert!(log.contains(key), "{key} is not in the log: {log}");
    }
}

#[test]
fn what_a_listed_proxy_says_of_its_client_counts() {
    let config = json!({"smtp": {"xclient": {"login_clients": ["127.0.0.1"]}}});
    let system = System::start(Options::alice().config(&config));
    let mut client = Client::hello(system.address("submission")).unwrap();
    let mut told = |line: &str| client.command(line).unwrap().text();
    let unknown = told("XCLIENT ADDR=192.0.2.7 LOGIN=nobody@example.test");
    assert!(unknown.starts_with("550 5.7.1 "), "{unknown}");
    let again = told("XCLIENT ADDR=192.0.2.7 LOGIN=alice@example.test");
    assert!(again.starts_with("220 mail.example.test "), "{again}");
    let offer = told("EHLO client.example.net");
    assert!(
        offer.contains(" XCLIENT ") && !offer.contains("AUTH"),
        "{offer}"
    );
    let sender = told("MAIL FROM:<alice@example.test>");
    assert!(sender.starts_with("250 "), "{sender}");
    // Unless the configuration says otherwise, nobody is believed.
    let system = System::start(Options::alice());
    let mut client = Client::hello(system.address("submission")).unwrap();
    let refused = client.command("XCLIENT ADDR=192.0.2.7").unwrap().text();
    assert!(refused.starts_with("550 5.7.0 "), "{refused}");
}

#[test]
fn mail_from_a_listed_address_is_refused_with_the_reason() {
    skip_without!("nsd");
    let names = NameServer::start();
    let lists = json!([
        {"zone": "bl.test", "replies": [{"reply": "127.0.0.4-7", "score": 10}]},
        {"zone": "gone.test"},
    ]);
    let config = json!({
        "relay": {"dns": [names.address()]},
        "smtp": {"xclient": {"clients": ["127.0.0.1"]}, "dns_lists": {"lists": lists}},
    });
    let system = System::start(Options::alice().config(&config));
    // The lists are tested soon after the start.
    let tested = system_tests::patience::wait_for(std::time::Duration::from_secs(10), || {
        system.log().contains("1.0.0.127.gone.test").then_some(())
    });
    assert!(tested.is_ok(), "{}", system.log());
    let mut client = Client::hello(system.address("smtp")).unwrap();
    let mut told = |line: &str| client.command(line).unwrap().text();
    told("XCLIENT ADDR=192.0.2.9 HELO=client.example.net");
    told("MAIL FROM:<carol@outside.test>");
    let refused = told("RCPT TO:<alice@example.test>");
    assert!(refused.starts_with("550 5.7.1 "), "{refused}");
    assert!(refused.contains("bl.test: wrote-to-traps"), "{refused}");
    let reached = told("RCPT TO:<postmaster>");
    assert!(!reached.contains("bl.test"), "{reached}");
    told("RSET");
    told("XCLIENT ADDR=192.0.2.10 HELO=client.example.net");
    told("MAIL FROM:<carol@outside.test>");
    let taken = told("RCPT TO:<alice@example.test>");
    assert!(taken.starts_with("250 "), "{taken}");
}

#[test]
fn mail_beyond_a_budget_is_accepted_and_held() {
    // Budgets are new at midnight (UTC).
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let left = 86_400 - now.unwrap().as_secs() % 86_400;
    if left < 30 {
        std::thread::sleep(std::time::Duration::from_secs(left + 1));
    }
    let config = json!({
        "relay": {"budgets": {"account": {"messages": 1}}},
        "smtp": {"xclient": {"login_clients": ["127.0.0.1"]}},
    });
    let system = System::start(Options::alice().config(&config));
    let alice = "alice@example.test";
    let mut client = Client::hello(system.address("submission")).unwrap();
    let login = client.command("XCLIENT LOGIN=alice@example.test").unwrap();
    assert_eq!(login.code, 220, "{login:?}");
    client.command("EHLO client.example.net").unwrap();
    for subject in ["first", "second"] {
        let text = format!("From: {alice}\r\nSubject: {subject}\r\n\r\nx\r\n");
        client
            .deliver(alice, "dave@elsewhere.test", text.as_bytes())
            .unwrap();
    }
    let list = || system.rmailctl(&["queue", "list"]).succeeded().stdout;
    let listed = list();
    let reason =
        "held: relay.budgets.account.messages allows alice@example.test no more than 1 a day";
    assert_eq!(listed.matches("held: ").count(), 1, "{listed}");
    assert!(listed.contains(reason), "{listed}");
    let released = system
        .rmailctl(&["queue", "release", "--account", alice])
        .succeeded();
    assert!(released.stdout.starts_with("1 messages "), "{released:?}");
    let listed = list();
    assert!(!listed.contains("held: "), "{listed}");
    let id = listed.split('\t').next().unwrap().to_owned();
    system.rmailctl(&["queue", "hold", &id]).succeeded();
    let listed = list();
    assert!(listed.contains("held: held by the operator"), "{listed}");
    system.rmailctl(&["queue", "release", &id]).succeeded();
    assert!(!list().contains("held: "));
    // Nothing or both makes no sense.
    for arguments in [
        &["queue", "release"][..],
        &["queue", "release", &id, "--account", alice],
    ] {
        assert!(!system.rmailctl(arguments).status.success());
    }
}

#[test]
fn a_first_message_is_put_off_once_and_that_is_known_after_a_restart() {
    let config = json!({"smtp": {
        "xclient": {"clients": ["127.0.0.1"]},
        "greylisting": {"enabled": true, "delay_seconds": 1},
    }});
    let mut system = System::start(Options::alice().config(&config));
    let told = |system: &System, client: &str| {
        let mut connection = Client::hello(system.address("smtp")).unwrap();
        let mut told = |line: &str| connection.command(line).unwrap().text();
        told(&format!("XCLIENT ADDR={client} HELO=client.example.net"));
        told("MAIL FROM:<carol@outside.test>");
        told("RCPT TO:<alice@example.test>")
    };
    let first = told(&system, "192.0.2.9");
    assert!(first.starts_with("450 4.7.1 "), "{first}");
    let came_back = system_tests::patience::wait_for(std::time::Duration::from_secs(10), || {
        told(&system, "192.0.2.10")
            .starts_with("250 ")
            .then_some(())
    });
    assert!(came_back.is_ok());
    system.stop();
    system.start_again();
    let known = told(&system, "192.0.2.11");
    assert!(known.starts_with("250 "), "{known}");
    let other = told(&system, "198.51.100.9");
    assert!(other.starts_with("450 4.7.1 "), "{other}");
}
