//! UIDONLY (RFC 9586), MESSAGELIMIT (RFC 9738) and UIDBATCHES (RFC 10022) with real processes and a mailbox of more messages than one
//! command may be about.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use serde_json::json;
use system_tests::{Options, System, skip_without};

const TOOLS: &str = r#"
import re
def say(client, command, literal=b""):
    "The untagged lines and the tagged one."
    tag = client._new_tag()
    client.send(tag + b" " + command.encode() + b"\r\n" + literal)
    lines = []
    while True:
        line = client._get_line()
        if line.startswith(tag + b" "):
            return lines, line[len(tag) + 1:].decode()
        lines.append(line.decode())

def fill(client, mailbox, count):
    while count > 0:
        some = min(count, 400)
        rest = b" {6+}\r\n".join([b"A: 1\r\n"] * some) + b"\r\n"
        assert say(client, f"APPEND {mailbox} {{6+}}", rest)[1].startswith("OK"), mailbox
        count -= some
"#;

#[test]
fn a_mailbox_is_gone_through_in_pieces_by_uid() {
    skip_without!("python3");
    let limits = json!({"imap": {"limits": {"messages": 1000}}});
    let system = System::start(Options::alice().config(&limits));
    let script = r#"
client = imap()
offered = say(client, "CAPABILITY")[0][0].split()
for name in ("MESSAGELIMIT=1000", "UIDONLY", "UIDBATCHES"):
    assert name in offered, offered
assert not any(name.startswith("SAVELIMIT") for name in offered)
fill(client, "INBOX", 1203)
lines, end = say(client, "ENABLE UIDONLY")
assert lines == ["* ENABLED UIDONLY"], lines
lines, end = say(client, "SELECT INBOX")
assert "* 1203 EXISTS" in lines and not any("UNSEEN" in line for line in lines), lines
assert say(client, "FETCH 1 FLAGS")[1].startswith("BAD [UIDREQUIRED]")
lines, end = say(client, "UID FETCH 1:* FLAGS")
assert len(lines) == 1000 and lines[0] == "* 204 UIDFETCH (FLAGS ())", (len(lines), lines[0])
assert end.startswith("OK [MESSAGELIMIT 1000 204]"), end
lines, end = say(client, "UID FETCH 1:203 FLAGS")
assert len(lines) == 203 and end == "OK fetched", end
lines, end = say(client, "UID SEARCH UIDBEFORE 204")
assert len(lines[0].split()) == 2 + 203 and end == "OK searched", end
assert say(client, "UID COPY 1:* Archive")[1].startswith("NO [MESSAGELIMIT 1000 204]")
assert say(client, "UID SORT (DATE) UTF-8 ALL")[1].startswith("NO [MESSAGELIMIT 1000]")
lines, end = say(client, "UIDBATCHES 500")
batches = [tuple(map(int, batch.split(":"))) for batch in lines[0].rsplit(" ", 1)[1].split(",")]
assert batches == [(1203, 704), (703, 204), (203, 1)], batches
for high, low in batches:
    lines, end = say(client, f"UID STORE {high}:{low} +FLAGS.SILENT (\\Deleted)")
    assert end == "OK stored", end
lines, end = say(client, "UID MOVE 1:* Archive")
assert "* VANISHED 204:1203" in lines and end.startswith("OK [MESSAGELIMIT 1000 204]"), end
lines, end = say(client, "EXPUNGE")
assert "* VANISHED 1:203" in lines, lines
assert "(MESSAGES 1000)" in say(client, "STATUS Archive (MESSAGES)")[0][0]
"#;
    system.python(&format!("{TOOLS}\n{script}"), &json!({}));
    // An account whose client does not know that there is a limit has none.
    let account = ["user", "imap", "alice@example.test"];
    let without = ["--without", "MESSAGELIMIT,UIDBATCHES"];
    system
        .rmailctl(&[account.as_slice(), &without].concat())
        .succeeded();
    let script = r#"
client = imap()
offered = say(client, "CAPABILITY")[0][0].split()
assert not any("MESSAGELIMIT" in name or "BATCH" in name for name in offered), offered
ok(client.select("Archive"))
fill(client, "Archive", 1)
lines, end = say(client, "FETCH 1:* UID")
assert len([line for line in lines if "FETCH" in line]) == 1001 and end == "OK fetched", (len(lines), end)
assert say(client, "UIDBATCHES 500")[1].startswith("BAD")
"#;
    system.python(&format!("{TOOLS}\n{script}"), &json!({}));
}
