//! Daemons come and go while the system serves: restart, reload, drain.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::time::Duration;

use serde_json::json;
use system_tests::certificate::Certificate;
use system_tests::options::PASSWORD;
use system_tests::patience::wait_for;
use system_tests::program;
use system_tests::smtp::{Client, stuffed};
use system_tests::system::DAEMONS;
use system_tests::{Options, System, imap, skip_without};

const LETTER: &[u8] = b"Subject: on its way\r\n\r\nhello\r\n";

#[test]
fn a_reload_takes_a_new_certificate_and_cuts_nobody() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    let script = r#"
import subprocess
def fingerprint(port):
    with socket.create_connection(("127.0.0.1", ports[port]), timeout=10) as connection:
        context = ssl._create_unverified_context()
        with context.wrap_socket(connection) as secure:
            return hashlib.sha256(secure.getpeercert(True)).hexdigest()
before = {port: fingerprint(port) for port in ("submissions", "imaps", "apis")}
assert len(set(before.values())) == 1, before
old = imap()
subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", "/CN=mail.example.test", "-keyout", key_file, "-out", ca_file], check=True, capture_output=True)
os.kill(supervisor, 1)
wait_for(lambda: all(fingerprint(port) != before[port] for port in before), 10)
assert len({fingerprint(port) for port in before}) == 1
ok(old.noop())
"#;
    let key = &system.home().certificate().key;
    system.python(
        script,
        &json!({"key_file": key, "supervisor": system.supervisor_pid()}),
    );
}

#[test]
fn a_reload_with_a_bad_configuration_changes_nothing_and_says_so() {
    let system = System::start(Options::without_users());
    system.home().configure(&json!({"smtp": {"prot": 1}}));
    let pids: Vec<_> = DAEMONS.iter().map(|daemon| system.pid(daemon)).collect();
    system.reload();
    let told = wait_for(Duration::from_secs(10), || {
        system.log().contains("not reloaded").then_some(())
    });
    assert!(
        told.is_ok() && system.log().contains("smtp.prot"),
        "{}",
        system.log()
    );
    assert_eq!(
        DAEMONS
            .iter()
            .map(|daemon| system.pid(daemon))
            .collect::<Vec<_>>(),
        pids
    );
    Client::hello(system.address("smtp")).unwrap();
}

#[test]
fn a_reload_takes_a_new_log_level() {
    let system = System::start(Options::without_users().config(&json!({"log_level": "info"})));
    let says = |what: &str| {
        wait_for(Duration::from_secs(10), || {
            system.log().contains(what).then_some(())
        })
    };
    Client::hello(system.address("smtp")).unwrap();
    assert!(says("INFO").is_ok(), "{}", system.log());
    assert!(!system.log().contains("DEBUG"), "{}", system.log());
    system.home().configure(&json!({"log_level": "debug"}));
    system.reload();
    assert!(says("certificates reloaded").is_ok(), "{}", system.log());
    // An unknown address is refused, which is told at the level debug.
    let mut client = Client::hello(system.address("smtp")).unwrap();
    client.command("MAIL FROM:<carol@outside.test>").unwrap();
    let refused = client.command("RCPT TO:<nobody@example.test>").unwrap();
    assert_eq!(refused.code, 550);
    assert!(says("DEBUG").is_ok(), "{}", system.log());
}

#[test]
fn a_message_on_its_way_is_taken_before_the_system_stops() {
    let mut system = System::start(Options::alice());
    let mut client = Client::hello(system.address("smtp")).unwrap();
    for line in [
        "MAIL FROM:<carol@outside.test>",
        "RCPT TO:<alice@example.test>",
        "DATA",
    ] {
        client.command(line).unwrap();
    }
    client.send(b"Subject: slow\r\n\r\nfirst half\r\n").unwrap();
    program::send(system.supervisor_pid(), rustix::process::Signal::TERM);
    std::thread::sleep(Duration::from_millis(700));
    client.send(b"second half\r\n.\r\n").unwrap();
    let reply = client.reply().unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    drop(client);
    assert_eq!(system.stop().code(), Some(0));
    assert_eq!(
        system.account("alice@example.test").messages("INBOX").len(),
        1
    );
}

#[test]
fn after_a_death_of_deliverd_everybody_finds_it_again() {
    let system = System::start(Options::alice());
    let mut old_smtp = Client::hello(system.address("smtp")).unwrap();
    old_smtp
        .deliver("carol@outside.test", "alice@example.test", LETTER)
        .unwrap();
    let mut old_imap =
        imap::Client::login(system.address("imap"), "alice@example.test", PASSWORD).unwrap();
    old_imap.command("SELECT INBOX").unwrap().ok();
    let before = system.kill("deliverd");
    system.wait_for_restart("deliverd", before);
    // A session of the dead one may go on or be ended with a word; it must not hang.
    match old_imap.command("NOOP") {
        Ok(answer) => assert!(
            answer.result.starts_with("OK")
                || answer.untagged.iter().any(|line| line.starts_with("* BYE")),
            "{answer:?}"
        ),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof),
    }
    let delivered = wait_for(Duration::from_secs(10), || {
        let mut client = Client::hello(system.address("smtp")).ok()?;
        client
            .deliver("carol@outside.test", "alice@example.test", LETTER)
            .ok()
    });
    assert!(delivered.is_ok(), "{}", program::end_of(&system.log()));
    // The old SMTP session holds nothing of the dead one either.
    let reply = old_smtp.deliver("carol@outside.test", "alice@example.test", LETTER);
    assert!(reply.is_ok(), "{reply:?}");
    let mut client =
        imap::Client::login(system.address("imap"), "alice@example.test", PASSWORD).unwrap();
    let answer = client.command("SELECT INBOX").unwrap().ok();
    assert!(
        answer.untagged.iter().any(|line| line == "* 3 EXISTS"),
        "{answer:?}"
    );
}

#[test]
fn a_uid_is_never_given_twice_even_after_a_crash() {
    let system = System::start(Options::alice());
    let login =
        || imap::Client::login(system.address("imap"), "alice@example.test", PASSWORD).unwrap();
    let deliver = || {
        wait_for(Duration::from_secs(10), || {
            let mut client = Client::hello(system.address("smtp")).ok()?;
            client
                .deliver("carol@outside.test", "alice@example.test", LETTER)
                .ok()
        })
        .unwrap();
    };
    (0..3).for_each(|_| deliver());
    let mut client = login();
    let selected = client.command("SELECT INBOX").unwrap().ok();
    client.command("STORE 2:3 +FLAGS (\\Deleted)").unwrap().ok();
    client.command("EXPUNGE").unwrap().ok();
    let before = system.kill("deliverd");
    system.wait_for_restart("deliverd", before);
    deliver();
    let mut client = wait_for(Duration::from_secs(10), || {
        let (mut client, _) = imap::Client::connect(system.address("imap")).ok()?;
        let answer = client
            .command(&format!("LOGIN alice@example.test \"{PASSWORD}\""))
            .ok()?;
        answer.result.starts_with("OK").then_some(client)
    })
    .unwrap();
    let validity = |answer: &imap::Answer| {
        answer
            .untagged
            .iter()
            .find(|line| line.contains("UIDVALIDITY"))
            .cloned()
    };
    let again = client.command("SELECT INBOX").unwrap().ok();
    assert_eq!(validity(&again), validity(&selected));
    let uids = client.command("FETCH 1:* (UID)").unwrap().ok();
    assert_eq!(uids.untagged, ["* 1 FETCH (UID 1)", "* 2 FETCH (UID 4)"]);
}

#[test]
fn an_idle_client_hears_of_mail_after_smtpd_and_relayd_were_restarted() {
    let system = System::start(Options::alice());
    let mut client =
        imap::Client::login(system.address("imap"), "alice@example.test", PASSWORD).unwrap();
    client.command("SELECT INBOX").unwrap().ok();
    client.send(b"i IDLE\r\n").unwrap();
    assert!(client.line().unwrap().starts_with('+'));
    for daemon in ["smtpd", "relayd"] {
        let before = system.kill(daemon);
        system.wait_for_restart(daemon, before);
    }
    let mut sender = Client::hello(system.address("smtp")).unwrap();
    sender
        .send(b"MAIL FROM:<carol@outside.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n")
        .unwrap();
    sender.send(&stuffed(LETTER)).unwrap();
    let mut line = client.line().unwrap();
    while line != "* 1 EXISTS" {
        assert!(line.starts_with('*'), "{line}");
        line = client.line().unwrap();
    }
}

#[test]
fn the_status_command_shows_five_running_daemons() {
    let system = System::start(Options::without_users());
    let shown = system.rmailctl(&["status", "--json"]).succeeded();
    let status: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let text = status.to_string();
    for daemon in DAEMONS {
        assert!(text.contains(daemon), "{daemon} is missing in {text}");
    }
}

#[test]
fn after_a_death_of_the_supervisor_the_next_one_starts_cleanly() {
    let mut system = System::start(Options::alice());
    let mut client = Client::hello(system.address("smtp")).unwrap();
    client
        .deliver("carol@outside.test", "alice@example.test", LETTER)
        .unwrap();
    drop(client);
    let orphans: Vec<u32> = DAEMONS
        .iter()
        .filter_map(|daemon| system.pid(daemon))
        .collect();
    program::send(system.supervisor_pid(), rustix::process::Signal::KILL);
    // Daemons without a supervisor end, so that the next one finds ports and sockets free.
    let alone = |pid: &u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
    let gone = wait_for(Duration::from_secs(30), || {
        (!orphans.iter().any(alone)).then_some(())
    });
    if gone.is_err() {
        orphans
            .iter()
            .for_each(|pid| program::send(*pid, rustix::process::Signal::KILL));
    }
    assert!(gone.is_ok(), "daemons outlive their supervisor");
    system.start_again();
    let mut client =
        imap::Client::login(system.address("imap"), "alice@example.test", PASSWORD).unwrap();
    let answer = client.command("SELECT INBOX").unwrap().ok();
    assert!(
        answer.untagged.iter().any(|line| line == "* 1 EXISTS"),
        "{answer:?}"
    );
}

#[test]
fn a_certificate_of_another_key_is_refused_at_reload_and_the_old_one_stays() {
    skip_without!("python3");
    let system = System::start(Options::without_users());
    let other = Certificate::make(&system.dir().join("other"), "mail.example.test");
    std::fs::copy(&other.cert, &system.home().certificate().cert).unwrap();
    let log_before = system.log().len();
    system.reload();
    std::thread::sleep(Duration::from_millis(1500));
    let script = r#"
for port in ("submissions", "imaps"):
    with socket.create_connection(("127.0.0.1", ports[port]), timeout=10) as connection:
        with ssl._create_unverified_context().wrap_socket(connection) as secure:
            assert secure.version() == "TLSv1.3"
"#;
    system.python(script, &json!({}));
    let said = system.log()[log_before..].to_owned();
    assert!(
        said.contains("ERROR") || said.contains("WARN") || said.contains("not reloaded"),
        "nobody said a word: {said}"
    );
}

#[test]
fn while_the_store_is_frozen_mail_is_put_off_and_never_refused_for_good() {
    let system = System::start(Options::alice());
    let deliverd = system.pid("deliverd").unwrap();
    let mut client = Client::hello(system.address("smtp")).unwrap();
    let mut reader = imap::Client::connect(system.address("imap")).unwrap().0;
    program::freeze(deliverd);
    let (said, login) = std::thread::scope(|scope| {
        let said = scope.spawn(|| {
            client.command("MAIL FROM:<carol@outside.test>")?;
            client.command("RCPT TO:<alice@example.test>")
        });
        let login = reader.command(&format!("LOGIN alice@example.test \"{PASSWORD}\""));
        (said.join().unwrap(), login)
    });
    program::send(deliverd, rustix::process::Signal::CONT);
    let (said, login) = (said.unwrap(), login.unwrap());
    assert!((400..500).contains(&said.code), "{said:?}");
    assert!(login.result.starts_with("NO [UNAVAILABLE]"), "{login:?}");
    let delivered = wait_for(Duration::from_secs(10), || {
        let mut client = Client::hello(system.address("smtp")).ok()?;
        client
            .deliver("carol@outside.test", "alice@example.test", LETTER)
            .ok()
    });
    assert!(delivered.is_ok());
}
