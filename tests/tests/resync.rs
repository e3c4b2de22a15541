//! Clients that come back (RFC 7162): what Python's `imaplib` hears of a mailbox it has seen before, from a store that was killed, or has
//! lost its index, in between.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};
use system_tests::{Options, System, program, skip_without};

/// What the scripts share: raw commands, whose untagged answers are given back as text.
const TOOLS: &str = r#"
def say(client, command):
    tag = client._new_tag()
    client.send(tag + b" " + command.encode() + b"\r\n")
    lines = []
    while True:
        line = client._get_line()
        if line.startswith(tag):
            assert line.startswith(tag + b" OK"), line
            return [line.decode() for line in lines], line.decode()
        lines.append(line)

def known(client):
    "UIDVALIDITY and HIGHESTMODSEQ, as SELECT says them."
    lines, _ = say(client, "SELECT INBOX (CONDSTORE)")
    text = "\n".join(lines)
    numbers = [re.search(word + r" (\d+)\]", text) for word in ("UIDVALIDITY", "HIGHESTMODSEQ")]
    return [int(number[1]) for number in numbers]
"#;

fn run(system: &System, script: &str, variables: &Value) {
    system.python(&format!("import re\n{TOOLS}\n{script}"), variables);
}

/// Six messages are known to a client; then a message is removed, one changed, and one comes.
fn with_changes() -> System {
    let system = System::start(Options::alice());
    run(
        &system,
        r#"
client = imap()
for n in range(1, 7):
    ok(client.append("INBOX", None, None, f"Subject: {n}\r\n\r\n{n}\r\n".encode()))
validity, modseq = known(client)
other = imap()
ok(other.select("INBOX"))
ok(other.uid("STORE", "4", "+FLAGS", "\\Flagged"))
ok(other.uid("STORE", "2", "+FLAGS.SILENT", "\\Deleted"))
ok(other.expunge())
ok(other.append("INBOX", "\\Seen", None, b"Subject: 7\r\n\r\n7\r\n"))
open(f"{dir}/known", "w").write(f"{validity} {modseq}")
"#,
        &json!({}),
    );
    system
}

/// The client comes back and hears of just that. `exact`: of nothing else.
fn comes_back(system: &System, exact: bool) {
    run(
        system,
        r#"
validity, modseq = open(f"{dir}/known").read().split()
client = imap()
say(client, "ENABLE QRESYNC")
lines, _ = say(client, f"SELECT INBOX (QRESYNC ({validity} {modseq} 1:6))")
told = [line for line in lines if "FETCH" in line or "VANISHED" in line]
assert told[0] == "* VANISHED (EARLIER) 2", told
flags = dict(re.match(r"\* \d+ FETCH \(UID (\d+) FLAGS \((.*)\) MODSEQ \(\d+\)\)$", line).groups() for line in told[1:])
assert flags["4"] == "\\Flagged", told
assert not exact or sorted(flags) == ["4"], told
# And of all, with UIDs that it could not know.
lines, _ = say(client, f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")
told = [line for line in lines if "FETCH" in line or "VANISHED" in line]
assert told[0] == "* VANISHED (EARLIER) 2", told
uids = [re.search(r"UID (\d+)", line)[1] for line in told[1:]]
assert "4" in uids and "7" in uids, told
assert not exact or uids == ["4", "7"], told
# Who knows all hears nothing.
lines, _ = say(client, "STATUS INBOX (HIGHESTMODSEQ)")
now = re.search(r"HIGHESTMODSEQ (\d+)", lines[-1])[1]
assert int(now) > int(modseq), (now, modseq)
lines, _ = say(client, f"SELECT INBOX (QRESYNC ({validity} {now}))")
assert not [line for line in lines if "FETCH" in line or "VANISHED" in line], lines
"#,
        &json!({ "exact": exact }),
    );
}

#[test]
fn a_client_that_comes_back_hears_what_changed_and_nothing_else() {
    skip_without!("python3");
    comes_back(&with_changes(), true);
}

#[test]
fn a_store_that_was_killed_tells_no_less() {
    skip_without!("python3");
    let system = with_changes();
    let deliverd = system.pid("deliverd").unwrap();
    program::send(deliverd, Signal::KILL);
    system.wait_for_restart("deliverd", deliverd);
    comes_back(&system, false);
}

#[test]
fn a_store_without_its_index_tells_no_less() {
    skip_without!("python3");
    let system = with_changes();
    let deliverd = system.pid("deliverd").unwrap();
    // Stopped in good order everything is in the files.
    program::send(deliverd, Signal::TERM);
    system.wait_for_restart("deliverd", deliverd);
    let deliverd = system.pid("deliverd").unwrap();
    program::freeze(deliverd);
    let inbox = system.account("alice@example.test").mailbox("INBOX");
    fs::remove_dir_all(inbox.join(".cache")).unwrap();
    program::send(deliverd, Signal::KILL);
    system.wait_for_restart("deliverd", deliverd);
    comes_back(&system, false);
}

#[test]
fn of_two_who_change_the_same_message_one_is_told() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    run(
        &system,
        r#"
import threading
first = imap()
ok(first.append("INBOX", None, None, b"Subject: x\r\n\r\nx\r\n"))
ok(first.select("INBOX"))
second = imap()
ok(second.select("INBOX"))
for round in range(20):
    lines, _ = say(first, "FETCH 1 (MODSEQ)")
    seen = re.search(r"MODSEQ \((\d+)\)", lines[-1])[1]
    answers = {}
    def store(name, client):
        _, answers[name] = say(client, f"STORE 1 (UNCHANGEDSINCE {seen}) +FLAGS.SILENT (round{round}by{name})")
    threads = [threading.Thread(target=store, args=(n, c)) for n, c in (("one", first), ("two", second))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    refused = [name for name, answer in answers.items() if "[MODIFIED 1]" in answer]
    assert len(refused) == 1, answers
    lines, _ = say(first, "FETCH 1 (FLAGS)")
    flags = [line for line in lines if "FETCH" in line][-1]
    [winner] = {"one", "two"} - set(refused)
    assert f"round{round}by{winner}" in flags and f"round{round}by{refused[0]}" not in flags, (flags, answers)
"#,
        &json!({}),
    );
}

#[test]
fn what_a_message_is_known_by_stays_with_it() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    let look = r#"
client = imap()
def ids(mailbox):
    lines, _ = say(client, f"SELECT {mailbox}")
    [box] = re.findall(r"MAILBOXID \((F[0-9a-f]{32})\)", "\n".join(lines))
    lines, _ = say(client, "FETCH 1:* (UID EMAILID SAVEDATE)")
    found = re.findall(r"UID (\d+) EMAILID \((M[0-9a-f]{32})\) SAVEDATE (\"[^\"]+\")", "\n".join(lines))
    return box, {uid: (email, date) for uid, email, date in found}
"#;
    let script = r#"
import json
for n in range(2):
    ok(client.append("INBOX", None, None, f"Subject: {n}\r\n\r\n{n}\r\n".encode()))
ok(client.create("Kept"))
inbox, before = ids("INBOX")
say(client, "COPY 1 Kept")
say(client, "MOVE 2 Kept")
kept, after = ids("Kept")
assert inbox != kept
assert after["1"][0] == before["1"][0] and after["2"][0] == before["2"][0], (before, after)
assert before["1"][0] != before["2"][0]
lines, _ = say(client, f"SEARCH EMAILID {before['2'][0]}")
assert lines == ["* SEARCH 2"], lines
lines, _ = say(client, "SEARCH SAVEDSINCE 1-Jan-2020 NOT SAVEDBEFORE 1-Jan-2020")
assert lines == ["* SEARCH 1 2"], lines
lines, _ = say(client, 'LIST "" Kept RETURN (STATUS (MAILBOXID MESSAGES))')
assert lines == ['* LIST (\\HasNoChildren) "/" Kept', f"* STATUS Kept (MAILBOXID ({kept}) MESSAGES 2)"], lines
open(f"{dir}/known", "w").write(json.dumps([kept, after]))
"#;
    run(&system, &format!("{look}{script}"), &json!({}));
    let deliverd = system.pid("deliverd").unwrap();
    program::send(deliverd, Signal::TERM);
    system.wait_for_restart("deliverd", deliverd);
    let script = r#"
import json
kept, known = json.load(open(f"{dir}/known"))
assert ids("Kept") == (kept, {uid: tuple(one) for uid, one in known.items()}), (ids("Kept"), known)
"#;
    run(&system, &format!("{look}{script}"), &json!({}));
}
