//! Mail programs for the terminal: `mutt` and `neomutt` read, flag, search, save, delete, are pushed to, and send.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::time::Duration;

use serde_json::json;
use system_tests::options::PASSWORD;
use system_tests::patience::wait_for;
use system_tests::program;
use system_tests::terminal::Terminal;
use system_tests::{Options, System, skip_without};

const LIMIT: Duration = Duration::from_secs(60);

const FILL: &str = r#"
client = imap()
ok(client.create("Work"))
for number in range(6):
    text = letter(f"letter {number}", body=f"The word of this one is word{number}word.\n")
    ok(client.append("INBOX", None, None, text.replace("\n", "\r\n").encode()))
"#;

/// Subjects of a mailbox and the flag letters of their files, in the order of UIDs.
fn on_server(system: &System, address: &str, mailbox: &str) -> Vec<(String, String)> {
    let files = system.account(address).messages(mailbox);
    let subject = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Subject: "));
        line.unwrap_or_default().to_owned()
    };
    let read = files.into_iter().map(|file| {
        // It may be renamed while it is looked at.
        let bytes = std::fs::read(&file.path).unwrap_or_default();
        (subject(bytes), file.flags)
    });
    read.collect()
}

fn wait_for_mailbox(system: &System, address: &str, mailbox: &str, expected: &[(&str, &str)]) {
    let is_so = || {
        let found = on_server(system, address, mailbox);
        let found = found
            .iter()
            .map(|(subject, flags)| (subject.as_str(), flags.as_str()));
        found.eq(expected.iter().copied()).then_some(())
    };
    wait_for(LIMIT, is_so).unwrap_or_else(|error| {
        let found = on_server(system, address, mailbox);
        panic!("{mailbox}: {error}: {found:?}, not {expected:?}");
    });
}

/// Whether the line of that message has that mark in front of the subject.
fn is_marked(screen: &str, subject: &str, mark: char) -> bool {
    let line = screen.lines().find_map(|line| line.split_once(subject));
    line.is_some_and(|(marks, _)| marks.contains(mark))
}

/// What mutt and neomutt have in common, which is nearly all.
fn drive(name: &str, scheme: &str, listener: &str) {
    // Offered SCRAM-SHA-256-PLUS to send mail, both take it, have no channel binding for it, and then try nothing else.
    let mechanisms = json!({"submission": {"mechanisms": ["SCRAM-SHA-256", "PLAIN", "LOGIN"]}});
    let system = System::start(Options::default().config(&mechanisms));
    system.python(FILL, &json!({}));
    let file = system.dir().join("muttrc");
    let text = format!(
        "set folder=\"{scheme}://localhost:{port}/\"\nset spoolfile=\"+INBOX\"\nset record=\"+Sent\"\n\
         set imap_user=\"alice@example.test\"\nset imap_pass=\"{PASSWORD}\"\nset imap_idle\n\
         set smtp_url=\"smtps://alice@example.test@localhost:{smtp}/\"\nset smtp_pass=\"{PASSWORD}\"\n\
         set from=\"alice@example.test\"\nset realname=\"Alice\"\nset use_from\n\
         set ssl_starttls ssl_force_tls\nset ssl_ca_certificates_file=\"{ca}\"\nset certificate_file=\"{ca}\"\n\
         set index_format=\"%4C [%Z] %s\"\nset sort=mailbox-order\nset delete=yes quit=yes move=no\nset nomark_old nobeep noconfirmappend noconfirmcreate\n\
         set timeout=1\nset pager_stop nowait_key\nset sleep_time=0\n",
        port = system.port(listener),
        smtp = system.port("submissions"),
        ca = system.ca_file().display(),
    );
    std::fs::write(&file, text).unwrap();
    let program = program::find(name).unwrap();
    let line = format!(
        "HOME={} {} -n -F {}",
        system.dir().display(),
        program.display(),
        file.display()
    );
    let terminal = Terminal::start(system.dir(), &line);
    terminal.wait_to_see("letter 5");

    // Read one, and come back to the list.
    terminal.enter("1");
    terminal.press(&["Enter"]);
    terminal.wait_to_see("The word of this one is word0word.");
    terminal.press(&["i"]);
    terminal.wait_to_see("letter 5");

    terminal.enter("2");
    terminal.press(&["F"]);
    terminal.wait_until("the flag", |screen| is_marked(screen, "letter 1", '!'));

    // The server searches, in text that the client has not got.
    terminal.press(&["l", "C-u"]);
    terminal.enter("=b word3WORD");
    terminal.wait_until("the one that was found", |screen| {
        screen.contains("letter 3") && !screen.contains("letter 1")
    });
    terminal.press(&["l", "C-u"]);
    terminal.enter("all");
    terminal.wait_to_see("letter 5");

    terminal.enter("3");
    terminal.press(&["s", "C-u"]);
    terminal.enter("=Work");
    terminal.wait_until("saved", |screen| is_marked(screen, "letter 2", 'D'));
    terminal.enter("4");
    terminal.press(&["d"]);
    terminal.wait_until("deleted", |screen| is_marked(screen, "letter 3", 'D'));
    terminal.press(&["$"]);
    terminal.wait_until("gone", |screen| {
        screen.contains("letter 4") && !screen.contains("letter 3")
    });
    wait_for_mailbox(&system, "alice@example.test", "Work", &[("letter 2", "")]);
    let inbox = [
        ("letter 0", "S"),
        ("letter 1", "F"),
        ("letter 4", ""),
        ("letter 5", ""),
    ];
    wait_for_mailbox(&system, "alice@example.test", "INBOX", &inbox);

    // What arrives, and what another client does, is seen without a key.
    system.python("send(letter('arrival'))", &json!({}));
    terminal.wait_to_see("arrival");
    let change =
        "client = imap()\nmessages(client)\nok(client.store('4', '+FLAGS', r'(\\Flagged)'))";
    system.python(change, &json!({}));
    terminal.wait_until("the flag of another", |screen| {
        is_marked(screen, "letter 5", '!')
    });
    terminal.press(&["q"]);
    terminal.wait_for_end();
    drop(terminal);

    // It sends, and mutt keeps a copy; neomutt does that only when it has a person before it.
    let mut command = program::command(name);
    command
        .args(["-n", "-F"])
        .arg(&file)
        .args(["-s", "Greetings", "bob@example.test"])
        .env("HOME", system.dir());
    program::run(&mut command, b"Hello Bob.\n.\nEnd\n", LIMIT).succeeded();
    wait_for_mailbox(&system, "bob@example.test", "INBOX", &[("Greetings", "")]);
    let bytes = |address: &str, mailbox: &str| {
        let text = String::from_utf8(system.account(address).messages(mailbox)[0].bytes());
        let text = text.unwrap();
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    assert_eq!(
        bytes("bob@example.test", "INBOX"),
        "Hello Bob.\r\n.\r\nEnd\r\n"
    );
    if name == "mutt" {
        wait_for_mailbox(&system, "alice@example.test", "Sent", &[("Greetings", "S")]);
        assert_eq!(
            bytes("alice@example.test", "Sent"),
            "Hello Bob.\r\n.\r\nEnd\r\n"
        );
    }
}

#[test]
fn mutt_is_a_good_client() {
    skip_without!("mutt", "tmux", "python3");
    drive("mutt", "imaps", "imaps");
}

#[test]
fn neomutt_is_a_good_client() {
    skip_without!("neomutt", "tmux", "python3");
    drive("neomutt", "imap", "imap");
}
