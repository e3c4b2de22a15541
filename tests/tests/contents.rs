//! BINARY (RFC 3516): contents of parts as Python decodes them, and messages with NUL, through the whole system.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use serde_json::json;
use system_tests::{Options, System, skip_without};

/// Small and large contents in every encoding, whole and in windows; a message that is stored with its NULs.
const CONTENTS: &str = r#"
import email.mime.application, email.mime.multipart, email.mime.text, email.encoders, random
dice = random.Random(3516)
client = imap()
contents = [bytes(dice.randrange(256) for _ in range(size)) for size in (1, 1000, 40_000, 3_000_000)]
contents.append(b"\xff" * 200_000)
message = email.mime.multipart.MIMEMultipart()
message["Subject"] = "contents"
for content in contents:
    message.attach(email.mime.application.MIMEApplication(content))
text = "grüße = an\nalle \n" * 5000
message.attach(email.mime.text.MIMEText(text, "plain", "utf-8"))
quoted = email.mime.application.MIMEApplication(b"a\tb \r\n=\x00" * 1000, _encoder=email.encoders.encode_quopri)
message.attach(quoted)
octets = message.as_bytes(policy=email.policy.SMTP)
ok(client.append("INBOX", None, None, octets))
ok(client.select("INBOX"))
parsed = email.message_from_bytes(octets, policy=email.policy.SMTP)
wanted = [part.get_payload(decode=True) for part in parsed.get_payload()]
assert wanted[:5] == contents

def fetch(item):
    tag = client._new_tag()
    client.send(tag + b" UID FETCH 1 (" + item.encode() + b")\r\n")
    line = client.readline()
    announced = re.search(br"BINARY\[[0-9.]*\](<\d+>)? (~?){(\d+)}\r\n$", line)
    assert announced, line
    content = client.read(int(announced[3]))
    assert client.readline() == b")\r\n"
    line = client.readline()
    assert line.startswith(tag + b" OK"), line
    assert (announced[2] == b"~") == (b"\0" in content), item
    return content

for number, content in enumerate(wanted, 1):
    (told,) = ok(client.fetch("1", f"(BINARY.SIZE[{number}])"))
    assert told == f"1 (BINARY.SIZE[{number}] {len(content)})".encode(), told
    assert fetch(f"BINARY.PEEK[{number}]") == content, number
    for _ in range(5):
        start, count = dice.randrange(len(content) + 1), dice.randrange(1, 100_000)
        assert fetch(f"BINARY.PEEK[{number}]<{start}.{count}>") == content[start:start + count]
assert fetch("BINARY.PEEK[]") == octets

# With NUL, as it was sent.
stored = b"Subject: nul\r\nContent-Transfer-Encoding: binary\r\n\r\n" + bytes(range(256)) * 2000
tag = client._new_tag()
client.send(tag + b" APPEND INBOX ~{%d}\r\n" % len(stored))
assert client.readline().startswith(b"+")
client.send(stored + b"\r\n")
while not (line := client.readline()).startswith(tag):
    pass
assert b" OK [APPENDUID" in line, line
def last(item):
    tag = client._new_tag()
    client.send(tag + b" FETCH 2 (" + item + b")\r\n")
    line = client.readline()
    content = client.read(int(re.search(br"{(\d+)}\r\n$", line)[1]))
    while not client.readline().startswith(tag + b" OK"):
        pass
    return content
assert last(b"BINARY.PEEK[]") == stored
assert last(b"BINARY.PEEK[1]") == stored[stored.index(b"\r\n\r\n") + 4:]
assert last(b"BODY.PEEK[]") == stored.replace(b"\0", b"\x80")
client.logout()
"#;

#[test]
fn contents_are_what_python_decodes_and_nul_is_kept() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    system.python(CONTENTS, &json!({}));
}

/// A message of 50 MiB whose part 1.2 is asked for, and what that costs imapd.
const LARGE: &str = r#"
import re
client = imap()
line = b"x" * 998 + b"\r\n"
inner = b"--b\r\n\r\nshort\r\n--b\r\n\r\nwanted\r\n--b--\r\n"
body = b"--a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + inner + b"\r\n--a\r\n\r\n" + line * 52_000 + b"\r\n--a--\r\n"
message = b"Subject: large\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n" + body
ok(client.append("INBOX", None, None, b"Subject: small\r\n\r\nx\r\n"))
ok(client.append("INBOX", None, None, message))
ok(client.select("INBOX"))
ok(client.fetch("1", "(BODY.PEEK[1] BINARY[1])"))
def peak():
    return int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{given['imapd']}/status").read())[1])
before = peak()
for item, wanted in (("BODY.PEEK[1.2]", b"wanted"), ("BODY.PEEK[1.1.MIME]", b"\r\n"), ("BODY.PEEK[2]<0.3>", b"xxx")):
    assert ok(client.fetch("2", f"({item})"))[0][1] == wanted, item
    assert peak() - before < 16 * 1024, (item, before, peak())
"#;

#[test]
fn a_section_of_a_large_message_takes_little_memory() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    let imapd = system.pid("imapd").unwrap();
    system.python(LARGE, &json!({ "imapd": imapd }));
}
