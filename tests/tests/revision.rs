//! UTF8=ACCEPT (RFC 6855) and IMAP4rev2 (RFC 9051) as Python's `imaplib` speaks them, beside a client that knows neither.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use serde_json::json;
use system_tests::{Options, System, skip_without};

const UTF8: &str = r#"
client = imap()
assert "UTF8=ACCEPT" in client.capabilities and "IMAP4REV2" in client.capabilities
ok(client.enable("UTF8=ACCEPT"))
assert client.utf8_enabled
for name in ("Entwürfe", "R&D/日本語", "a b"):
    ok(client.create(f'"{name}"'))
    ok(client.subscribe(f'"{name}"'))
names = {line.decode().rsplit('"/" ', 1)[1].strip('"') for line in ok(client.list())}
assert {"Entwürfe", "R&D/日本語", "R&D", "a b", "INBOX"} <= names, names
assert b'"R&D/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"' in ok(client.status('"R&D/日本語"', "(MESSAGES)"))[0]
# Written decomposed, it is the same mailbox.
ok(client.select('"Entwu\u0308rfe"'))
letter = "From: Jörg <jörg@bücher.example>\r\nSubject: Grüße 日本\r\n\r\nhällo\r\n".encode()
# imaplib puts the words UTF8 ( and ) into the message (CPython 3.11), so the command is written here.
tag = client._new_tag()
client.send(tag + f' APPEND "Entwürfe" (\\Seen) UTF8 (~{{{len(letter)}}}\r\n'.encode())
assert client.readline().startswith(b"+")
client.send(letter + b")\r\n")
while not (line := client.readline()).startswith(tag):
    pass
assert b" OK [APPENDUID" in line, line
assert ok(client.fetch("1", "(BODY.PEEK[])"))[0][1] == letter
for text, found in (("GRÜSSE", b""), ("grüße 日", b"1"), ("GRU\u0308ßE", b"1")):
    answer = client.search(None, f'SUBJECT "{text}"')
    assert answer == ("OK", [found]), (text, answer)
try:
    client.search("UTF-8", "ALL")
    raise AssertionError("CHARSET was taken")
except imaplib.IMAP4.error:
    pass
client.close()

# A client that has not switched it on.
plain = imap()
names = {line.decode().rsplit('"/" ', 1)[1].strip('"') for line in ok(plain.list())}
assert {"Entw&APw-rfe", "R&-D/&ZeVnLIqe-", "R&-D", "a b", "INBOX"} <= names, names
ok(plain.select("Entw&APw-rfe"))
assert ok(plain.fetch("1", "(BODY.PEEK[])"))[0][1] == letter
plain.logout()

# All that is deleted and renamed, by both.
ok(client.rename('"a b"', '"ä b"'))
ok(client.delete('"R&D/日本語"'))
names = {line.decode().rsplit('"/" ', 1)[1].strip('"') for line in ok(client.lsub())}
assert "R&D/日本語" in names, names
client.logout()
"#;

const REV2: &str = r#"
client, plain = imap(), imap()
def told(connection, name):
    """Untagged responses that came meanwhile."""
    found = connection.untagged_responses.pop(name, [])
    return [line for line in found if line is not None]
ok(client.append("INBOX", None, None, b"Subject: one\r\n\r\nhello\r\n"))
ok(client.append("INBOX", None, None, b"Subject: two\r\n\r\nhello\r\n"))
client.enable("IMAP4rev2")
ok(client.select("INBOX"))
assert not told(client, "RECENT") and not told(client, "UNSEEN")
(listed,) = told(client, "LIST")
assert listed.endswith(b'"/" INBOX'), listed
ok(plain.select("INBOX"))
assert told(plain, "RECENT") == [b"0"] and told(plain, "UNSEEN") == [b"1"] and not told(plain, "LIST")
client.search(None, "ALL")
(found,) = told(client, "ESEARCH")
assert found.endswith(b" ALL 1:2"), found
assert ok(plain.search(None, "ALL")) == [b"1 2"]
ok(plain.store("2", "+FLAGS", "(\\Flagged)"))
# deliverd pushes the change to the other session; NOOP asks for all that happened before.
ok(client.noop())
(change,) = told(client, "FETCH")
assert re.fullmatch(br"2 \(UID \d+ FLAGS \(.*\\Flagged.*\)\)", change), change
tag = client._new_tag()
client.send(tag + ' CREATE "Entwu\u0308rfe"\r\n'.encode())
assert client.readline() == '* LIST (\\HasNoChildren) "/" "Entwürfe" ("OLDNAME" ("Entwu\u0308rfe"))\r\n'.encode()
assert client.readline().startswith(tag + b" OK")
tag = client._new_tag()
client.send(tag + ' RENAME "Entwürfe" Drafted\r\n'.encode())
assert client.readline() == '* LIST (\\HasNoChildren) "/" Drafted ("OLDNAME" ("Entwürfe"))\r\n'.encode()
assert client.readline().startswith(tag + b" OK")
try:
    client.status("INBOX", "(RECENT)")
    raise AssertionError("RECENT was taken")
except imaplib.IMAP4.error:
    pass
(status,) = ok(client.status("INBOX", "(MESSAGES DELETED SIZE)"))
assert status == b"INBOX (MESSAGES 2 DELETED 0 SIZE 46)", status
assert ok(plain.status("INBOX", "(RECENT)")) == [b"INBOX (RECENT 0)"]
client.logout()
plain.logout()
"#;

#[test]
fn names_and_headers_are_utf8_for_who_switched_it_on() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    system.python(UTF8, &json!({}));
}

#[test]
fn revisions_of_imap_are_spoken_side_by_side() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    system.python(REV2, &json!({}));
}
