//! `fetchmail` and `getmail6` take mail away: each message once, whole, also what arrives while they wait.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use system_tests::options::PASSWORD;
use system_tests::patience::wait_for;
use system_tests::program::{self, Service};
use system_tests::{Options, System, skip_without};

const LIMIT: Duration = Duration::from_secs(90);
const COUNT: usize = 40;

/// The user `nobody`.
const NOBODY: u32 = 65_534;

/// Puts numbered letters into INBOX.
const FILL: &str = r#"
import letters
client = imap()
for number in range(40):
    ok(client.append("INBOX", None, None, letters.letter(number)))
"#;

/// One more, by SMTP.
fn arrive(system: &System) {
    system.python("send(letter('arrival'))", &json!({}));
}

/// Compares the messages in `taken`, as files with LF, with those that were put there.
const COMPARE: &str = r#"
import letters
found = {}
for name in os.listdir(taken):
    with open(os.path.join(taken, name), "rb") as file:
        head, end, body = file.read().partition(b"\n\n")
    # getmail says where it had it from; the rest must be as it was.
    own = (b"Return-Path: <unknown>", b"X-getmail-")
    message = b"\n".join(line for line in head.split(b"\n") if not line.startswith(own)) + end + body
    assert message not in found, name
    found[message] = name
lost = [number for number in range(40) if letters.letter(number).replace(b"\r\n", b"\n") not in found]
assert not lost and len(found) == 40 + more, (lost, len(found))
assert sum(b"Subject: arrival" in message for message in found) == more
"#;

fn compare(system: &System, taken: &Path, more: usize) {
    system.python(COMPARE, &json!({"taken": taken, "more": more}));
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

fn left(system: &System) -> usize {
    system.account("alice@example.test").messages("INBOX").len()
}

fn wait_until(what: &str, service: &Service, mut question: impl FnMut() -> bool) {
    wait_for(LIMIT, || question().then_some(()))
        .unwrap_or_else(|error| panic!("{what}: {error}\n{}", service.log()));
}

/// A file that only its owner may read, as both programs want it.
fn private_file(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// fetchmail, which gives each message to a script that keeps it as a file in `taken`.
fn fetchmail(system: &System, listener: &str, taken: &Path, options: &str) -> Command {
    std::fs::create_dir_all(taken).unwrap();
    let keep = system.dir().join("keep");
    let text = format!(
        "#!/bin/sh\nset -e\nfile=$(mktemp {dir}/incoming.XXXXXX)\ncat >\"$file\"\nmv \"$file\" {taken}/\n",
        dir = system.dir().display(),
        taken = taken.display(),
    );
    private_file(&keep, &text);
    let file = system.dir().join("fetchmailrc");
    let text = format!(
        "set no bouncemail\nset invisible\n\
         poll localhost protocol imap port {port}\n\
         user \"alice@example.test\" password \"{PASSWORD}\" no rewrite\n\
         sslcertck sslcertfile \"{ca}\" mda \"{keep}\" {options}\n",
        port = system.port(listener),
        ca = system.ca_file().display(),
        keep = keep.display(),
    );
    private_file(&file, &text);
    let mut command = program::command("fetchmail");
    command
        .arg("--fetchmailrc")
        .arg(file)
        .env("FETCHMAILHOME", system.dir())
        .env("HOME", system.dir());
    command
}

#[test]
fn fetchmail_takes_every_message_and_waits_for_more() {
    skip_without!("fetchmail", "python3");
    let system = System::start(Options::alice());
    system.python(FILL, &json!({}));

    // By STARTTLS, and leaving everything where it is: only marked as seen.
    let copies = system.dir().join("copies");
    let mut command = fetchmail(&system, "imap", &copies, "keep");
    program::run(&mut command, b"", LIMIT).succeeded();
    compare(&system, &copies, 0);
    let seen = system.account("alice@example.test").messages("INBOX");
    assert!(seen.len() == COUNT && seen.iter().all(|file| file.flags == "S"));
    // 1: there is nothing new (fetchmail(1)).
    let mut command = fetchmail(&system, "imap", &copies, "keep");
    assert_eq!(program::run(&mut command, b"", LIMIT).code(), 1);

    // By TLS, taking everything, and then waiting for more.
    let taken = system.dir().join("taken");
    let mut command = fetchmail(&system, "imaps", &taken, "ssl no keep fetchall idle");
    let mut service = Service::start(
        command.args(["-v", "--nodetach"]),
        &system.dir().join("fetchmail.log"),
    );
    wait_until("taken", &service, || {
        files(&taken) == COUNT && left(&system) == 0
    });
    let waiting = |service: &Service| service.log().matches("IDLE\n").count();
    let before = waiting(&service);
    assert!(before <= 1, "{}", service.log());
    wait_until("waits", &service, || waiting(&service) == 1);
    arrive(&system);
    wait_until("pushed", &service, || files(&taken) == COUNT + 1);
    wait_until("deleted", &service, || left(&system) == 0);
    compare(&system, &taken, 1);
    service.stop(LIMIT);
}

/// A private file of the user whom getmail runs as.
fn own_file(path: &Path, text: &str) {
    private_file(path, text);
    if program::is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// Makes a directory that the user whom getmail runs as may write.
fn own_directory(path: &Path) {
    std::fs::create_dir_all(path).unwrap();
    if program::is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// getmail6, which gives each message to a script that keeps it as a file in `taken`; it would not as root.
fn getmail(system: &System, taken: &Path, options: &str) -> Command {
    let home = system.dir().join("getmail");
    own_directory(&home);
    own_directory(taken);
    let keep = home.join("keep");
    // getmail never hears of a child that ends before it begins to wait: the script waits until it sleeps.
    let text = format!(
        "#!/bin/sh\nset -e\nfile=$(mktemp {home}/incoming.XXXXXX)\ncat >\"$file\"\nmv \"$file\" {taken}/\n\
         until grep -q '^State:.S' /proc/$PPID/status; do sleep 0.01; done\n",
        home = home.display(),
        taken = taken.display(),
    );
    own_file(&keep, &text);
    let file = home.join("getmailrc");
    let text = format!(
        "[retriever]\ntype = SimpleIMAPSSLRetriever\nserver = localhost\nport = {port}\nusername = alice@example.test\n\
         password = {PASSWORD}\nmailboxes = (\"INBOX\",)\nca_certs = {ca}\n\
         [destination]\ntype = MDA_external\npath = {keep}\n\
         [options]\ndelivered_to = false\nreceived = false\n{options}\n",
        port = system.port("imaps"),
        ca = system.ca_file().display(),
        keep = keep.display(),
    );
    own_file(&file, &text);
    let mut command = program::command("getmail");
    command
        .arg("--getmaildir")
        .arg(&home)
        .arg("--rcfile")
        .arg(&file);
    command.env("HOME", &home).current_dir(&home);
    if program::is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

#[test]
fn getmail_takes_every_message_and_waits_for_more() {
    skip_without!("getmail", "python3");
    let system = System::start(Options::alice());
    system.python(FILL, &json!({}));

    // Leaving everything where it is; it knows by UID what it has.
    let copies = system.dir().join("copies");
    let options = "read_all = false\ndelete = false";
    for _ in 0..2 {
        let mut command = getmail(&system, &copies, options);
        program::run(&mut command, b"", LIMIT).succeeded();
        compare(&system, &copies, 0);
        assert_eq!(left(&system), COUNT);
    }
    arrive(&system);
    let mut command = getmail(&system, &copies, options);
    program::run(&mut command, b"", LIMIT).succeeded();
    compare(&system, &copies, 1);
    let remove = "client = imap()\nmessages(client)\nok(client.store('41', '+FLAGS', r'(\\Deleted)'))\nok(client.expunge())";
    system.python(remove, &json!({}));

    // Taking everything, and then waiting for more.
    let taken = system.dir().join("taken");
    let options = "read_all = true\ndelete = true";
    let mut command = getmail(&system, &taken, options);
    let mut service = Service::start(
        command.args(["--idle", "INBOX", "--trace"]),
        &system.dir().join("getmail.log"),
    );
    wait_until("taken", &service, || {
        files(&taken) == COUNT && left(&system) == 0
    });
    arrive(&system);
    wait_until("pushed", &service, || {
        files(&taken) == COUNT + 1 && left(&system) == 0
    });
    compare(&system, &taken, 1);
    service.stop(LIMIT);
}
