//! `mbsync` keeps a Maildir and an account the same, both ways, byte for byte.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::time::Duration;

use serde_json::json;
use system_tests::options::PASSWORD;
use system_tests::program;
use system_tests::{Options, System, skip_without};

fn write_mbsyncrc(system: &System) -> std::path::PathBuf {
    let near = system.dir().join("near");
    std::fs::create_dir_all(&near).unwrap();
    let file = system.dir().join("mbsyncrc");
    let text = format!(
        "IMAPStore far\nHost localhost\nPort {port}\nUser alice@example.test\nPass \"{PASSWORD}\"\nSSLType IMAPS\n\
         CertificateFile {ca}\nAuthMechs LOGIN\n\n\
         MaildirStore near\nPath {near}/\nInbox {near}/INBOX\nSubFolders Verbatim\n\n\
         Channel all\nFar :far:\nNear :near:\nPatterns INBOX Work\nCreate Both\nExpunge Both\nSync All\nSyncState *\nCopyArrivalDate yes\n",
        port = system.port("imaps"),
        ca = system.ca_file().display(),
        near = near.display(),
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn mbsync(system: &System, rc: &std::path::Path) {
    let mut command = program::command("mbsync");
    command
        .arg("-c")
        .arg(rc)
        .arg("all")
        .env("HOME", system.dir());
    program::run(&mut command, b"", Duration::from_secs(120)).succeeded();
}

/// All message files of both sides.
fn all_files(system: &System) -> Vec<std::path::PathBuf> {
    let account = system.account("alice@example.test");
    let mut files: Vec<_> = ["INBOX", "Work"]
        .iter()
        .flat_map(|mailbox| account.messages(mailbox))
        .map(|file| file.path)
        .collect();
    for directory in ["INBOX/cur", "INBOX/new", "Work/cur", "Work/new"] {
        let listing = std::fs::read_dir(system.dir().join("near").join(directory)).unwrap();
        files.extend(listing.map(|entry| entry.unwrap().path()));
    }
    files.sort();
    files
}

/// How many changes imapd was told to make until now.
fn orders(system: &System) -> usize {
    let log = system.log();
    ["APPEND", "STORE", "EXPUNGE"]
        .iter()
        .map(|word| log.matches(&format!("command=\"{word}\"")).count())
        .sum()
}

/// Puts 150 letters on each side: 100 of the server's by APPEND, 50 by SMTP; those of the Maildir as files with LF.
const FILL: &str = r#"
import letters
client = imap()
ok(client.create("Work"))
for number in range(100):
    ok(client.append("INBOX" if number % 2 else "Work", r"(\Seen)" if number % 7 == 0 else None, None, letters.letter(number)))
with smtplib.SMTP("127.0.0.1", ports["smtp"], timeout=30) as door:
    for number in range(100, 150):
        assert not door.sendmail("joerg@outside.test", ALICE, letters.letter(number), mail_options=["BODY=8BITMIME"])
for box in ("INBOX", "Work"):
    for part in ("cur", "new", "tmp"):
        os.makedirs(f"{dir}/near/{box}/{part}", exist_ok=True)
for number in range(150, 300):
    box = "INBOX" if number % 2 else "Work"
    flags = "S" if number % 3 == 0 else ""
    with open(f"{dir}/near/{box}/cur/{1700000000 + number}.local_{number}:2,{flags}", "wb") as file:
        file.write(letters.letter(number).replace(b"\r\n", b"\n"))
"#;

/// Both sides hold all 300, unharmed, with the same flags.
const COMPARE: &str = r#"
import letters
expected = {letters.digest(letters.letter(number)): number for number in range(300)}
def number_of(message):
    whole = letters.without_tuid(message)
    if letters.digest(whole) in expected:
        return expected[letters.digest(whole)]
    # What came by SMTP has trace fields in front: the rest is as it was sent.
    for number in range(100, 150):
        if whole.endswith(letters.letter(number)):
            assert whole.startswith(b"Return-Path: "), whole[:80]
            return number
    raise AssertionError(f"damaged: {message[:400]!r} ... {message[-200:]!r}")
client = imap()
far, near = {}, {}
for box in ("INBOX", "Work"):
    count = messages(client, box)
    data = ok(client.fetch(f"1:{count}", "(FLAGS BODY.PEEK[])"))
    for part, tail in zip(data[::2], data[1::2]):
        flags = set(imaplib.ParseFlags(part[0]) + imaplib.ParseFlags(tail)) - {b"\\Recent"}
        far.setdefault(number_of(part[1]), (box, flags))
    for part in ("cur", "new"):
        for name in os.listdir(f"{dir}/near/{box}/{part}"):
            letters_of_name = name.split(":2,")[1] if ":2," in name else ""
            flags = {{"S": b"\\Seen", "F": b"\\Flagged", "R": b"\\Answered", "D": b"\\Draft", "T": b"\\Deleted"}[c] for c in letters_of_name}
            with open(f"{dir}/near/{box}/{part}/{name}", "rb") as file:
                near.setdefault(number_of(file.read().replace(b"\n", b"\r\n")), (box, flags))
assert sorted(far) == sorted(near) == sorted(wanted), (len(far), len(near), set(wanted) - set(far), set(wanted) - set(near))
assert far == near, [(n, far[n], near[n]) for n in far if far[n] != near[n]][:10]
print(f"{len(far)} messages the same on both sides")
"#;

#[test]
fn three_hundred_messages_are_synced_both_ways_without_a_changed_byte() {
    skip_without!("mbsync", "python3");
    let system = System::start(Options::alice());
    let rc = write_mbsyncrc(&system);
    system.python(FILL, &json!({}));
    mbsync(&system, &rc);
    let all: Vec<u32> = (0..300).collect();
    system.python(COMPARE, &json!({"wanted": all}));
    for mailbox in ["INBOX", "Work"] {
        let count = system.account("alice@example.test").messages(mailbox).len();
        assert!((125..=175).contains(&count), "{mailbox} has {count} files");
    }

    // Nothing changed, so nothing is to do.
    let (files, orders) = (all_files(&system), orders(&system));
    mbsync(&system, &rc);
    assert_eq!(all_files(&system), files);
    assert_eq!(
        self::orders(&system),
        orders,
        "mbsync changed something at its second run"
    );

    // Flags and deletions go both ways.
    let change = r#"
client = imap()
ok(client.select("Work"))
for number in (0, 2):
    uid = ok(client.uid("SEARCH", "HEADER", "Message-ID", f'"<sync-{number}@outside.test>"'))[0].decode()
    ok(client.uid("STORE", uid, "+FLAGS", r"(\Flagged)" if number == 0 else r"(\Deleted)"))
ok(client.expunge())
for name in os.listdir(f"{dir}/near/INBOX/cur"):
    if "local_151" in name:
        os.rename(f"{dir}/near/INBOX/cur/{name}", f"{dir}/near/INBOX/cur/{name.split(':')[0]}:2,FRS")
    if "local_153" in name:
        os.remove(f"{dir}/near/INBOX/cur/{name}")
"#;
    system.python(change, &json!({}));
    mbsync(&system, &rc);
    let left: Vec<u32> = (0..300)
        .filter(|number| ![2, 153].contains(number))
        .collect();
    system.python(COMPARE, &json!({"wanted": left}));
}
