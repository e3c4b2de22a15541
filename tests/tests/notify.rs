//! NOTIFY (RFC 5465) with real processes: what happens in mailboxes that are not selected is pushed, and who does not read costs
//! others nothing.

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
def say(client, command):
    tag = client._new_tag()
    client.send(tag + b" " + command.encode() + b"\r\n")
    lines = []
    while True:
        line = client._get_line()
        if line.startswith(tag):
            assert line.startswith(tag + b" OK"), line
            return [line.decode() for line in lines]
        lines.append(line)

def hears(client, wanted):
    "Waits for a line; whatever comes before it is given back with it."
    lines = []
    while True:
        lines.append(client._get_line().decode())
        if re.match(wanted, lines[-1]):
            return lines
"#;

#[test]
fn what_happens_in_mailboxes_that_are_not_selected_is_pushed() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    let script = r#"
client = imap()
ok(client.select("Archive"))
say(client, "NOTIFY SET (selected (MessageNew (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)]) MessageExpunge FlagChange))"
    " (inboxes (MessageNew MessageExpunge FlagChange)) (personal (MailboxName SubscriptionChange))")
other = imap()
# A delivery into INBOX.
server = smtplib.SMTP("localhost", ports["smtp"], timeout=60)
server.sendmail("a@elsewhere.test", ["alice@example.test"], "Subject: hello\r\n\r\nhello\r\n")
assert hears(client, r"\* STATUS INBOX \(MESSAGES 1 UIDNEXT 2 UIDVALIDITY \d+ UNSEEN 1 HIGHESTMODSEQ \d+\)$")
ok(other.select("INBOX"))
ok(other.store("1", "+FLAGS", "\\Seen"))
assert hears(client, r"\* STATUS INBOX \(MESSAGES 1 .* UNSEEN 0 ")
ok(other.create("Projects"))
assert hears(client, r'\* LIST \(\\HasNoChildren\) "/" Projects$')
say(other, "RENAME Projects Plans")
assert hears(client, r'\* LIST \(\\HasNoChildren\) "/" Plans \("OLDNAME" \(Projects\)\)$')
say(other, "SUBSCRIBE Plans")
assert hears(client, r'\* LIST \(.*\\Subscribed\) "/" Plans$')
ok(other.delete("Plans"))
assert hears(client, r'\* LIST \(\\NonExistent .*\) "/" Plans$')
# Of the selected mailbox at once, and shown.
say(other, "COPY 1 Archive")
lines = hears(client, r"\* 1 FETCH ")
assert "* 1 EXISTS" in lines and lines[-1].startswith("* 1 FETCH (UID 1 BODY[HEADER.FIELDS (SUBJECT)] {"), lines
ok(other.select("Archive"))
ok(other.store("1", "+FLAGS", "\\Deleted"))
ok(other.expunge())
assert hears(client, r"\* 1 EXPUNGE$")
# After NONE nothing comes; what is asked for does.
say(client, "NOTIFY NONE")
ok(other.create("Later"))
assert not [line for line in say(client, "NOOP") if "Later" in line]
"#;
    system.python(&format!("import smtplib\n{TOOLS}\n{script}"), &json!({}));
}

#[test]
fn who_does_not_read_what_is_pushed_costs_others_nothing_and_hears_of_it() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    let [imapd, deliverd] = ["imapd", "deliverd"].map(|name| system.pid(name).unwrap());
    let script = r#"
def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())[1])

lazy = imap()
ok(lazy.select("INBOX"))
say(lazy, "NOTIFY SET (selected (MessageNew (BODY.PEEK[]) MessageExpunge)) (personal (SubscriptionChange))")
other = imap()
body = b"Subject: large\r\n\r\n" + (b"x" * 998 + b"\r\n") * 1000
# The first ones warm everything up.
for n in range(4):
    ok(other.append("Archive", None, None, body))
before = [resident(pid) for pid in (imapd, deliverd)]
# More than all buffers between here and there hold, and nobody reads it.
for n in range(40):
    ok(other.append("INBOX", None, None, body))
# More than is kept for anybody; others are served all the while.
for n in range(550):
    say(other, "SUBSCRIBE Later")
    say(other, "UNSUBSCRIBE Later")
after = [resident(pid) for pid in (imapd, deliverd)]
assert all(now - then < 32 * 1024 for then, now in zip(before, after)), (before, after)
# Reading at last, it hears of all messages, and that other things were lost.
lines = hears(lazy, r"\* OK \[NOTIFICATIONOVERFLOW\] ")
assert "* 40 EXISTS" in lines, len(lines)
assert sum(line == "x" * 998 for line in lines) == 40 * 1000
assert not [line for line in say(lazy, "NOOP") if "LIST" in line]
"#;
    system.python(
        &format!("{TOOLS}\n{script}"),
        &json!({ "imapd": imapd, "deliverd": deliverd }),
    );
}
