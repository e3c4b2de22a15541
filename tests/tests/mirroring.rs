//! `mbsync` and `OfflineIMAP` keep a Maildir and an account the same, both ways, byte for byte, though they are killed over it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use system_tests::options::PASSWORD;
use system_tests::patience::wait_for;
use system_tests::program::{self, Service};
use system_tests::{Options, System, skip_without};

const LIMIT: Duration = Duration::from_secs(180);
const MAILBOXES: [&str; 2] = ["INBOX", "Work"];

/// Messages in all, half of them on each side at first; even numbers are in Work, odd ones in INBOX.
const COUNT: usize = 2_000;

fn near(system: &System) -> PathBuf {
    system.dir().join("near")
}

fn mbsync(system: &System) -> Command {
    let file = system.dir().join("mbsyncrc");
    let text = format!(
        "IMAPStore far\nHost localhost\nPort {port}\nUser alice@example.test\nPass \"{PASSWORD}\"\nSSLType IMAPS\n\
         CertificateFile {ca}\nAuthMechs LOGIN\n\n\
         MaildirStore near\nPath {near}/\nInbox {near}/INBOX\nSubFolders Verbatim\n\n\
         Channel all\nFar :far:\nNear :near:\nPatterns INBOX Work\nCreate Both\nExpunge Both\nSync All\nSyncState *\nCopyArrivalDate yes\n",
        port = system.port("imaps"),
        ca = system.ca_file().display(),
        near = near(system).display(),
    );
    std::fs::write(&file, text).unwrap();
    let mut command = program::command("mbsync");
    command.arg("-c").arg(file).arg("all");
    command.env("HOME", system.dir());
    command
}

fn offlineimap(system: &System) -> Command {
    let file = system.dir().join("offlineimaprc");
    let text = format!(
        "[general]\naccounts = alice\nmetadata = {dir}/metadata\nui = basic\nfsync = false\nsocktimeout = 60\n\
         [Account alice]\nlocalrepository = near\nremoterepository = far\n\
         [Repository near]\ntype = Maildir\nlocalfolders = {near}\n\
         [Repository far]\ntype = IMAP\nremotehost = localhost\nremoteport = {port}\nremoteuser = alice@example.test\n\
         remotepass = {PASSWORD}\nssl = yes\nsslcacertfile = {ca}\nmaxconnections = 1\n\
         folderfilter = lambda name: name in (\"INBOX\", \"Work\")\n",
        dir = system.dir().display(),
        near = near(system).display(),
        port = system.port("imaps"),
        ca = system.ca_file().display(),
    );
    std::fs::write(&file, text).unwrap();
    let mut command = program::command("offlineimap");
    command.arg("-c").arg(file).env("HOME", system.dir());
    command
}

/// The messages of the Maildir.
fn near_files(system: &System) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (mailbox, part) in MAILBOXES
        .into_iter()
        .flat_map(|name| [(name, "cur"), (name, "new")])
    {
        let directory = near(system).join(mailbox).join(part);
        let listing = std::fs::read_dir(directory).unwrap();
        files.extend(listing.map(|entry| entry.unwrap().path()));
    }
    files
}

/// The messages of the account.
fn far_files(system: &System) -> Vec<PathBuf> {
    let account = system.account("alice@example.test");
    let files = MAILBOXES
        .iter()
        .flat_map(|mailbox| account.messages(mailbox));
    files.map(|file| file.path).collect()
}

fn all_files(system: &System) -> BTreeSet<PathBuf> {
    near_files(system)
        .into_iter()
        .chain(far_files(system))
        .collect()
}

/// How many changes imapd was told to make until now.
fn orders(system: &System) -> usize {
    let log = system.log();
    ["APPEND", "STORE", "EXPUNGE"]
        .iter()
        .map(|word| log.matches(&format!("command=\"{word}\"")).count())
        .sum()
}

/// Runs it until there are as many files as that, ends it with the signal then, and checks that it was in the middle of its work.
fn interrupt(
    system: &System,
    client: Client,
    signal: Signal,
    files: fn(&System) -> Vec<PathBuf>,
    count: usize,
) {
    let log = system.dir().join("interrupted.log");
    let mut service = Service::start(&mut client(system), &log);
    let reached = wait_for(LIMIT, || {
        let ended = service.ended();
        assert!(
            ended.is_none(),
            "it ended by itself: {ended:?}\n{}",
            service.log()
        );
        (files(system).len() >= count).then_some(())
    });
    reached.unwrap_or_else(|error| panic!("{error}\n{}", service.log()));
    program::send(service.pid(), signal);
    assert!(
        service.end_within(LIMIT).is_some(),
        "it goes on\n{}",
        service.log()
    );
    assert!(all_files(system).len() < 2 * COUNT, "all was done already");
}

type Client = fn(&System) -> Command;

fn sync(system: &System, client: Client) {
    program::run(&mut client(system), b"", LIMIT).succeeded();
}

/// Puts a thousand letters on each side: 950 of the server's by APPEND, 50 by SMTP; those of the Maildir as files with LF.
const FILL: &str = r#"
import letters
client = imap()
ok(client.create("Work"))
ok(client.subscribe("Work"))
for number in range(count // 2 - 50):
    ok(client.append("INBOX" if number % 2 else "Work", r"(\Seen)" if number % 7 == 0 else None, None, letters.letter(number)))
with smtplib.SMTP("127.0.0.1", ports["smtp"], timeout=30) as door:
    for number in range(count // 2 - 50, count // 2):
        assert not door.sendmail("joerg@outside.test", ALICE, letters.letter(number), mail_options=["BODY=8BITMIME"])
for box in ("INBOX", "Work"):
    for part in ("cur", "new", "tmp"):
        os.makedirs(f"{dir}/near/{box}/{part}", exist_ok=True)
for number in range(count // 2, count):
    box = "INBOX" if number % 2 else "Work"
    flags = "S" if number % 3 == 0 else ""
    with open(f"{dir}/near/{box}/cur/{1700000000 + number}.local_{number}:2,{flags}", "wb") as file:
        file.write(letters.letter(number).replace(b"\r\n", b"\n"))
"#;

/// Both sides hold what they should, each message once, unharmed and with the same flags.
const COMPARE: &str = r#"
import letters
LETTERS = {"S": b"\\Seen", "F": b"\\Flagged", "R": b"\\Answered", "D": b"\\Draft", "T": b"\\Deleted"}
def number_of(message):
    """Which letter it is; a changed byte fails."""
    whole = letters.without_tuid(message)
    number = int(re.search(rb"^Message-ID: <sync-(\d+)@outside.test>", whole, re.M)[1])
    expected = letters.letter(number)
    if count // 2 - 50 <= number < count // 2:
        # What came by SMTP has trace fields in front.
        assert whole.startswith(b"Return-Path: ") and whole.endswith(expected), f"damaged: {whole[:400]!r} ... {whole[-200:]!r}"
    else:
        assert whole == expected, f"damaged: {whole[:400]!r} ... {whole[-200:]!r}"
    return number
client = imap()
far, near = [], []
for box in ("INBOX", "Work"):
    total = messages(client, box)
    for start in range(1, total + 1, 200):
        data = ok(client.fetch(f"{start}:{min(start + 199, total)}", "(FLAGS BODY.PEEK[])"))
        for part, tail in zip(data[::2], data[1::2]):
            flags = set(imaplib.ParseFlags(part[0]) + imaplib.ParseFlags(tail)) - {b"\\Recent"}
            far.append((number_of(part[1]), box, sorted(flags)))
    for part in ("cur", "new"):
        for name in os.listdir(f"{dir}/near/{box}/{part}"):
            shown = name.split(":2,")[1] if ":2," in name else ""
            with open(f"{dir}/near/{box}/{part}/{name}", "rb") as file:
                near.append((number_of(file.read().replace(b"\n", b"\r\n")), box, sorted(LETTERS[letter] for letter in shown)))
far.sort()
near.sort()
"#;

const ALL_THERE: &str = r#"
assert [number for number, _, _ in far] == list(range(count)), ("far", len(far))
assert [number for number, _, _ in near] == list(range(count)), ("near", len(near))
assert far == near, [(f, n) for f, n in zip(far, near) if f != n][:10]
"#;

/// Changes on the server and in the Maildir, of different messages: flags come and go, messages go.
const CHANGE: &str = r#"
client = imap()
for box, parity in (("INBOX", 1), ("Work", 0)):
    total = messages(client, box)
    uids = {}
    for part in ok(client.fetch(f"1:{total}", "(UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")):
        if isinstance(part, tuple):
            uids[int(re.search(rb"sync-(\d+)@", part[1])[1])] = re.search(rb"UID (\d+)", part[0])[1].decode()
    def those(rest):
        return ",".join(uid for number, uid in uids.items() if number % 20 // 2 == rest)
    ok(client.uid("STORE", those(0), "+FLAGS", r"(\Flagged \Answered)"))
    ok(client.uid("STORE", those(1), "-FLAGS", r"(\Seen)"))
    ok(client.uid("STORE", those(2), "+FLAGS", r"(\Deleted)"))
    ok(client.expunge())
    directory = f"{dir}/near/{box}/cur"
    for part in ("new", "cur"):
        for name in os.listdir(f"{dir}/near/{box}/{part}"):
            with open(f"{dir}/near/{box}/{part}/{name}", "rb") as file:
                rest = int(re.search(rb"^Message-ID: <sync-(\d+)@", file.read(), re.M)[1]) % 20 // 2
            if rest in (3, 4):
                os.rename(f"{dir}/near/{box}/{part}/{name}", f"{directory}/{name.split(':')[0]}:2,{'FRS' if rest == 3 else ''}")
            elif rest == 5:
                os.remove(f"{dir}/near/{box}/{part}/{name}")
"#;

const CHANGED: &str = r#"
for side in (far, near):
    assert [number for number, _, _ in side] == [number for number in range(count) if number % 20 // 2 not in (2, 5)], len(side)
    for number, _, flags in side:
        seen = [b"\\Seen"] if (number % 7 == 0 if number < count // 2 - 50 else number % 3 == 0 if number >= count // 2 else False) else []
        expected = {0: [b"\\Answered", b"\\Flagged", *seen], 1: [], 3: [b"\\Answered", b"\\Flagged", b"\\Seen"], 4: []}.get(number % 20 // 2, seen)
        assert flags == expected, (number, flags, expected)
assert far == near
"#;

/// What holds of either client after it was interrupted: it resumes, and then carries changes both ways.
fn resume_and_change(system: &System, client: Client) {
    let count = json!({"count": COUNT});
    sync(system, client);
    system.python(&format!("{COMPARE}{ALL_THERE}"), &count);

    // Nothing changed, so nothing is to do.
    let (files, orders) = (all_files(system), orders(system));
    sync(system, client);
    assert!(all_files(system) == files, "the second run changed files");
    assert_eq!(self::orders(system), orders, "the second run gave orders");

    system.python(CHANGE, &count);
    sync(system, client);
    system.python(&format!("{COMPARE}{CHANGED}"), &count);
}

#[test]
fn mbsync_is_killed_twice_and_mirrors_two_thousand_messages() {
    skip_without!("mbsync", "python3");
    let system = System::start(Options::alice());
    system.python(FILL, &json!({"count": COUNT}));
    let files = |system: &System| all_files(system).into_iter().collect();
    interrupt(&system, mbsync, Signal::KILL, files, COUNT + COUNT / 4);
    interrupt(&system, mbsync, Signal::KILL, files, COUNT + COUNT / 2);
    resume_and_change(&system, mbsync);
}

#[test]
fn offlineimap_is_interrupted_twice_and_mirrors_two_thousand_messages() {
    skip_without!("offlineimap", "python3");
    let system = System::start(Options::alice());
    system.python(FILL, &json!({"count": COUNT}));
    // It takes all of a mailbox before it brings anything; here it is killed while it takes.
    interrupt(
        &system,
        offlineimap,
        Signal::KILL,
        near_files,
        COUNT / 2 + COUNT / 10,
    );
    // While it brings it is asked to stop: killed between an APPEND and its own note of that it would bring the message again.
    interrupt(
        &system,
        offlineimap,
        Signal::TERM,
        far_files,
        COUNT / 2 + COUNT / 10,
    );
    resume_and_change(&system, offlineimap);
}
