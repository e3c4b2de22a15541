//! Reading with Python's `imaplib`: mailboxes, flags, search, push, and what the files show of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::time::Duration;

use serde_json::json;
use system_tests::patience::wait_for;
use system_tests::{Options, System, maildir, skip_without};

/// Runs a script against a fresh system with alice.
fn with_alice(script: &str) -> System {
    let system = System::start(Options::alice());
    system.python(script, &json!({}));
    system
}

#[test]
fn mailboxes_are_made_listed_renamed_subscribed_and_deleted() {
    skip_without!("python3");
    with_alice(
        r#"
def names(list_answer):
    return sorted(line.decode().rsplit(' "/" ', 1)[1].strip('"') for line in list_answer if line)
client = imap()
before = names(ok(client.list()))
assert "INBOX" in before
ok(client.create("Projects/2026"))
ok(client.create('"With Space"'))
listed = names(ok(client.list()))
assert set(listed) - set(before) == {"Projects", "Projects/2026", "With Space"}, listed
refused(client.create("Projects/2026"))
ok(client.rename("Projects", "Work"))
listed = names(ok(client.list()))
assert "Work/2026" in listed and "Projects/2026" not in listed, listed
assert names(ok(client.list('""', "W%"))) == ["With Space", "Work"]
assert names(ok(client.list('""', "Work/*"))) == ["Work/2026"]
ok(client.subscribe("Work/2026"))
assert "Work/2026" in names(ok(client.lsub()))
ok(client.unsubscribe("Work/2026"))
assert "Work/2026" not in names(ok(client.lsub('""', '"*"')) or [])
ok(client.delete("Work/2026"))
refused(client.delete("Work/2026"))
refused(client.delete("INBOX"))
refused(client.select("Work/2026"))
"#,
    );
}

#[test]
fn a_mailbox_name_in_any_script_goes_to_a_percent_encoded_directory_and_back() {
    skip_without!("python3");
    let system = with_alice(
        r#"
client = imap()
ok(client.create('"Entw&APw-rfe/&U,BTFw-"'))   # Entwürfe/台北 in modified UTF-7 (RFC 3501 section 5.1.3)
listed = [line.decode() for line in ok(client.list())]
assert any('Entw&APw-rfe/&U,BTFw-' in line for line in listed), listed
"#,
    );
    assert!(
        system
            .account("alice@example.test")
            .mailbox("Entw%C3%BCrfe%2F%E5%8F%B0%E5%8C%97")
            .is_dir()
    );
}

#[test]
fn status_append_and_uidplus_tell_the_truth() {
    skip_without!("python3");
    with_alice(
        r#"
client = imap()
ok(client.create("Archive2"))
message = letter("appended").replace("\n", "\r\n").encode()
when = "\"01-Feb-2020 03:04:05 +0100\""
result, data = client.append("Archive2", r"(\Seen \Flagged)", when, message)
assert result == "OK" and re.search(rb"APPENDUID \d+ 1\]", data[0]), data
result, data = client.append("Nowhere", None, None, message)
assert result == "NO" and b"TRYCREATE" in data[0], data
status = ok(client.status("Archive2", "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"))[0].decode()
assert "MESSAGES 1" in status and "UIDNEXT 2" in status and "UNSEEN 0" in status, status
ok(client.select("Archive2"))
data = ok(client.fetch("1", "(FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"))
assert data[0][1] == message
line = data[0][0].decode() + (data[1].decode() if isinstance(data[1], bytes) else "")
assert "\\Seen" in line and "\\Flagged" in line and f"RFC822.SIZE {len(message)}" in line, line
instant = imaplib.Internaldate2tuple(line.encode())
assert time.mktime(instant) == 1580522645, line
"#,
    );
}

#[test]
fn flags_are_set_and_are_seen_in_the_file_names() {
    skip_without!("python3");
    let system = with_alice(
        r#"
for number in range(4):
    send(letter(f"n{number}"))
client = imap()
assert messages(client) == 4
ok(client.store("1", "+FLAGS", r"(\Answered \Flagged \Seen)"))
ok(client.store("2", "FLAGS", r"(\Draft)"))
ok(client.store("3:4", "+FLAGS.SILENT", r"(\Seen)"))
ok(client.store("4", "-FLAGS", r"(\Seen)"))
ok(client.store("4", "+FLAGS", "($Important)"))
flags = [imaplib.ParseFlags(line) for line in ok(client.fetch("1:4", "(FLAGS)"))]
assert set(flags[0]) - {b"\\Recent"} == {b"\\Answered", b"\\Flagged", b"\\Seen"}, flags
assert b"$Important" in flags[3], flags
ok(client.store("2", "+FLAGS", r"(\Deleted)"))
ok(client.close())
client.logout()
again = imap()
assert messages(again) == 3
flags = [imaplib.ParseFlags(line) for line in ok(again.fetch("1:3", "(FLAGS)"))]
assert b"$Important" in flags[2], flags
"#,
    );
    let expected = [
        "0000/00000001_AFS.eml",
        "0000/00000003_S.eml",
        "0000/00000004_.eml",
    ];
    let account = system.account("alice@example.test");
    let names = || {
        account
            .messages("INBOX")
            .iter()
            .map(maildir::MessageFile::name)
            .collect::<Vec<_>>()
    };
    let settled = wait_for(Duration::from_secs(2), || {
        (names() == expected).then_some(())
    });
    assert!(settled.is_ok(), "{:?}", names());
}

#[test]
fn messages_are_copied_moved_and_expunged() {
    skip_without!("python3");
    with_alice(
        r#"
for number in range(5):
    send(letter(f"n{number}"))
client = imap()
ok(client.create("Copies"))
ok(client.create("Moved"))
assert messages(client) == 5
originals = [fetched(client, number) for number in range(1, 6)]
result, data = client.copy("1,3", "Copies")
assert result == "OK", data
result, data = client._simple_command("MOVE", "2:3", "Moved")
assert result == "OK", data
assert sorted(client.response("EXPUNGE")[1]) in ([b"2", b"2"], [b"2", b"3"])
ok(client.store("1", "+FLAGS", r"(\Deleted)"))
assert ok(client.expunge()) == [b"1"]
assert messages(client) == 2
assert [fetched(client, n) for n in (1, 2)] == [originals[3], originals[4]]
assert messages(client, "Copies") == 2
assert [fetched(client, n) for n in (1, 2)] == [originals[0], originals[2]]
assert messages(client, "Moved") == 2
assert [fetched(client, n) for n in (1, 2)] == [originals[1], originals[2]]
result, data = client.copy("1", "Nowhere")
assert result == "NO" and b"TRYCREATE" in data[0], data
# UID EXPUNGE (RFC 4315) takes only what it names.
ok(client.select("INBOX"))
ok(client.store("1:2", "+FLAGS", r"(\Deleted)"))
ok(client.uid("EXPUNGE", "5"))
assert messages(client) == 1
"#,
    );
}

#[test]
fn search_finds_by_flag_header_text_date_and_size() {
    skip_without!("python3");
    with_alice(
        r#"
send(letter("invoice 17", body="Please pay 100 EUR.\n"))
send(letter("holiday", body="The sea was =C3=BCber-warm.\n", sender="dave@outside.test", more="MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n"))
send(letter("big", body="x" * 70 + "\n" + ("y" * 70 + "\n") * 100))
client = imap()
assert messages(client) == 3
ok(client.store("1", "+FLAGS", r"(\Seen)"))
def found(*criteria):
    return ok(client.search(None, *criteria))[0].decode()
assert found("ALL") == "1 2 3"
assert found("UNSEEN") == "2 3"
assert found("SUBJECT", "INVOICE") == "1"
assert found("FROM", '"dave@outside"') == "2"
assert found("BODY", '"100 eur"') == "1"
assert found("LARGER", "5000") == "3"
assert found("NOT", "LARGER", "5000", "SEEN") == "1"
assert found("OR", "SUBJECT", "holiday", "SUBJECT", "invoice") == "1 2"
assert found("SENTON", "2-Mar-2026") == "1 2 3"
assert found("SENTBEFORE", "2-Mar-2026") == ""
assert found("HEADER", "Message-ID", '"invoice"') == "1"
assert found("UID", "2:*") == "2 3"
client.literal = "über-warm".encode()
result, data = client.search("UTF-8", "TEXT")
assert result == "OK" and data[0] == b"2", data
assert ok(client.uid("SEARCH", "SUBJECT", "big"))[0] == b"3"
result, data = client.search("KLINGON", "ALL")
assert result == "NO" and b"BADCHARSET" in data[0], data
"#,
    );
}

#[test]
fn fetch_gives_envelope_structure_sections_and_partials() {
    skip_without!("python3");
    with_alice(
        r#"
from email.message import EmailMessage
message = EmailMessage()
message["From"], message["To"], message["Subject"] = "Carol <carol@outside.test>", ALICE, "two parts"
message["Date"], message["Message-ID"] = "Mon, 02 Mar 2026 10:00:00 +0000", "<parts@outside.test>"
message.set_content("the text\n")
message.add_attachment(bytes(range(256)) * 20, maintype="application", subtype="octet-stream", filename="all bytes.bin")
wire = message.as_bytes(policy=email.policy.SMTP)
send(wire)
client = imap()
assert messages(client) == 1
whole = fetched(client, 1)
assert whole.endswith(wire)
head, body = whole.split(b"\r\n\r\n", 1)
assert fetched(client, 1, "BODY.PEEK[HEADER]") == head + b"\r\n\r\n"
assert fetched(client, 1, "BODY.PEEK[TEXT]") == body
assert fetched(client, 1, "BODY.PEEK[]<10.25>") == whole[10:35]
fields = fetched(client, 1, "BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)]")
assert b"Subject: two parts\r\n" in fields and b"Date:" not in fields, fields
parsed = email.message_from_bytes(whole)
text, attachment = parsed.get_payload()
assert fetched(client, 1, "BODY.PEEK[1]").decode() == text.get_payload()
assert fetched(client, 1, "BODY.PEEK[2]").decode() == attachment.get_payload()
assert b"all bytes.bin" in fetched(client, 1, "BODY.PEEK[2.MIME]")
structure = ok(client.fetch("1", "(BODYSTRUCTURE)"))[0].decode()
assert '"mixed"' in structure.lower() and '"octet-stream"' in structure.lower() and "all bytes.bin" in structure, structure
envelope = ok(client.fetch("1", "(ENVELOPE)"))[0].decode()
assert '"two parts"' in envelope and '"carol" "outside.test"' in envelope and '"<parts@outside.test>"' in envelope, envelope
assert imaplib.ParseFlags(ok(client.fetch("1", "(FLAGS)"))[0]).count(b"\\Seen") == 0
fetched(client, 1, "BODY[TEXT]")
assert b"\\Seen" in imaplib.ParseFlags(ok(client.fetch("1", "(FLAGS)"))[0])
for macro in ("ALL", "FAST", "FULL"):
    ok(client.fetch("1", macro))
"#,
    );
}

#[test]
fn idle_is_told_of_a_mail_within_a_second() {
    skip_without!("python3");
    with_alice(
        r#"
client = imap()
assert messages(client) == 0
client.send(b"x1 IDLE\r\n")
assert client.readline().startswith(b"+")
for number in range(1, 4):
    sent = time.monotonic()
    send(letter(f"push {number}"))
    client.sock.settimeout(1.0)
    while True:
        line = client.readline()
        if line.startswith(b"* %d EXISTS" % number):
            break
        assert line.startswith(b"*"), line
    print(f"pushed {1000 * (time.monotonic() - sent):.0f} ms after connecting to port 25")
client.send(b"DONE\r\n")
client.sock.settimeout(5)
while not (line := client.readline()).startswith(b"x1 "):
    assert line.startswith(b"*"), line
assert line.startswith(b"x1 OK"), line
"#,
    );
}

#[test]
fn one_connection_sees_what_another_changes() {
    skip_without!("python3");
    with_alice(
        r#"
for number in range(3):
    send(letter(f"n{number}"))
one, two = imap(), imap()
assert messages(one) == 3 and messages(two) == 3
ok(two.store("2", "+FLAGS", r"(\Flagged)"))
ok(two.store("3", "+FLAGS", r"(\Deleted)"))
ok(two.expunge())
def seen():
    ok(one.noop())
    return one.response("EXPUNGE")[1] != [None]
wait_for(seen, 2)
assert b"\\Flagged" in imaplib.ParseFlags(ok(one.fetch("2", "(FLAGS)"))[0])
assert len(ok(one.fetch("1:*", "(UID)"))) == 2
"#,
    );
}

#[test]
fn a_message_put_into_the_store_by_hand_is_there_after_a_new_select() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    system.python(
        r#"send(letter("by smtp"))
assert messages(imap()) == 1"#,
        &json!({}),
    );
    let shard = system
        .account("alice@example.test")
        .mailbox("INBOX")
        .join("0000");
    let file = shard.join("00000007_FS.eml");
    std::fs::write(
        &file,
        "From: admin@example.test\r\nSubject: by hand\r\n\r\ncopied with cp\r\n",
    )
    .unwrap();
    if system.home().separates_users() {
        let uid = system.home().uid("deliverd");
        std::os::unix::fs::chown(&file, Some(uid), Some(uid)).unwrap();
    }
    let script = r#"
client = imap()
assert messages(client) == 2
data = ok(client.fetch("2", "(UID FLAGS BODY.PEEK[])"))
assert b"Subject: by hand" in data[0][1] and b"UID 7" in data[0][0], data
rest_of_it = data[0][0] + data[1]
assert b"\\Flagged" in rest_of_it and b"\\Seen" in rest_of_it, data
send(letter("after it"))
assert messages(client) == 3
assert b"UID 8" in ok(client.fetch("3", "(UID)"))[0]
"#;
    system.python(script, &json!({}));
}

#[test]
fn starttls_login_and_authenticate_plain_work_on_143() {
    skip_without!("python3");
    with_alice(
        r#"
client = imaplib.IMAP4("localhost", ports["imap"])
assert "STARTTLS" in client.capabilities
client.starttls(trust())
assert "STARTTLS" not in client.capabilities and "AUTH=PLAIN" in client.capabilities, client.capabilities
result, data = client.authenticate("PLAIN", lambda _: f"\0{ALICE}\0{password}".encode())
assert result == "OK", data
ok(client.noop())
result, data = client.xatom("ID", "NIL")
assert result == "OK", data
result, data = client._simple_command("NAMESPACE")
assert result == "OK", data
result, data = client.logout()
assert result == "BYE", (result, data)
"#,
    );
}

#[test]
fn special_mailboxes_are_marked() {
    skip_without!("python3");
    with_alice(
        r#"
lines = b"\n".join(ok(imap().list())).decode()
for use in ("\\Sent", "\\Trash", "\\Drafts", "\\Junk"):
    assert use in lines, lines
"#,
    );
}

#[test]
fn many_sessions_that_change_one_mailbox_lose_and_double_nothing() {
    skip_without!("python3");
    with_alice(
        r#"
import random, threading
client = imap(tls=False)
ok(client.create("Other"))
for number in range(40):
    ok(client.append("INBOX", None, None, letter(f"numbered {number}").replace("\n", "\r\n").encode()))
problems = []
def work(seed):
    dice = random.Random(seed)
    mine = imap(tls=False)
    end = time.monotonic() + 4
    while time.monotonic() < end:
        source, target = dice.choice([("INBOX", "Other"), ("Other", "INBOX")])
        if messages(mine, source) == 0:
            continue
        uids = ok(mine.uid("SEARCH", "ALL"))[0].split()
        if not uids:
            continue
        some = b",".join(dice.sample(uids, min(3, len(uids)))).decode()
        order = dice.randint(0, 2)
        if order == 0:
            answer = mine.uid("MOVE", some, target)
        elif order == 1:
            answer = mine.uid("STORE", some, dice.choice(("+FLAGS", "-FLAGS")), r"(\Seen \Flagged)")
        else:
            answer = mine.uid("FETCH", some, "(FLAGS BODY.PEEK[HEADER])")
        if answer[0] != "OK":
            problems.append((order, answer))
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
subjects = []
for box in ("INBOX", "Other"):
    count = messages(client, box)
    if count:
        data = ok(client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))
        subjects += [part[1].decode().strip() for part in data if isinstance(part, tuple)]
assert not problems, problems[:5]
assert sorted(subjects) == sorted(f"Subject: numbered {n}" for n in range(40)), sorted(subjects)
"#,
    );
}

#[test]
fn readers_see_the_same_while_somebody_deletes_and_damages_what_is_kept_for_them() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    let inbox = system.account("alice@example.test").mailbox("INBOX");
    let script = r#"
import random, shutil, threading
client = imap(tls=False)
more = "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n"
for number in range(60):
    message = letter(f"numbered {number}", body=f"=C3=9Cbung {number % 7} ends\n", more=more)
    ok(client.append("INBOX", None, None, message.replace("\n", "\r\n").encode()))
def asked(client):
    answers = [ok(client.fetch("1:*", item)) for item in ("(UID ENVELOPE)", "(BODYSTRUCTURE)", "(BODY RFC822.SIZE)")]
    for key, text in (("TEXT", "übung 3"), ("SUBJECT", "numbered 1"), ("BODY", "nowhere"), ("TEXT", "ENDS")):
        client.literal = text.encode()
        answers.append(ok(client.search("UTF-8", key)))
    return answers
assert messages(client) == 60
expected = asked(client)
assert expected[3] == [b"4 11 18 25 32 39 46 53 60"] and len(expected[0]) == 60 and expected[5] == [b""], expected[3:]
def kept():
    return [os.path.join(where, name) for where, _, names in os.walk(cache) for name in names if name.isdigit()]
wait_for(lambda: len(kept()) == 2)
problems = []
def read():
    mine = imap(tls=False)
    messages(mine)
    for _ in range(25):
        if asked(mine) != expected:
            problems.append("another answer")
readers = [threading.Thread(target=read) for _ in range(3)]
for reader in readers:
    reader.start()
dice = random.Random(1)
harm = 0
while any(reader.is_alive() for reader in readers):
    with contextlib.suppress(FileNotFoundError):
        for path in kept():
            size = os.path.getsize(path)
            what = dice.randrange(5)
            if what == 0:
                os.remove(path)
            elif what == 1:
                os.truncate(path, dice.randrange(size + 1))
            elif what == 2:
                shutil.rmtree(cache, ignore_errors=True)
            else:
                with open(path, "r+b") as file:
                    for _ in range(dice.randrange(1, 200)):
                        file.seek(dice.randrange(max(size, 1)))
                        file.write(bytes([dice.randrange(256)]))
            harm += 1
    time.sleep(0.002)
assert not problems and harm > 20, (problems, harm)
shutil.rmtree(cache, ignore_errors=True)
assert asked(client) == expected
wait_for(lambda: len(kept()) == 2)
assert asked(client) == expected
print(f"damaged {harm} times")
"#;
    system.python(script, &json!({ "cache": inbox.join(".cache") }));
}
