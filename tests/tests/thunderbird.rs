//! Thunderbird, driven by Marionette: an account of alice's is read, sorted, searched, written from and kept current.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use serde_json::json;
use system_tests::{Options, System, skip_without};

/// What the scripts here share: letters on the server, and what the server has, seen by Python's `imaplib`.
const SERVER: &str = r#"
import thunderbird
from thunderbird import Thunderbird, TLS, STARTTLS
client = imap()
def put(*subjects):
    for subject in subjects:
        text = letter(subject, body=f"The word of this one is w{subject.replace(' ', '')}w.\n")
        ok(client.append("INBOX", None, None, text.replace("\n", "\r\n").encode()))
def on_server(mailbox):
    """Flags by subject."""
    found = {}
    count = messages(client, mailbox)
    for part in ok(client.fetch(f"1:{count}", "(FLAGS BODY.PEEK[HEADER])")) if count else []:
        if isinstance(part, tuple):
            subject = email.message_from_bytes(part[1], policy=email.policy.default)["Subject"]
            found[subject] = {flag.decode() for flag in imaplib.ParseFlags(part[0])} - {"\\Recent"}
    return found
OPEN = """
server.performExpand(win.msgWindow);
await until(() => folder("2026"), "folders");
const inbox = await until(() => root.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox), "an inbox");
win.document.getElementById("tabmail").currentAbout3Pane.displayFolder(inbox.URI);
let turns = 0;
await until(() => {
    // Who sees nothing for long asks: two of its connections may have opened the inbox at its start, and wait for one another.
    if (++turns % 100 === 0) inbox.updateFolder(win.msgWindow);
    return args.every(subject => subjects(inbox).includes(subject));
}, "messages");
"""
INBOX = 'const inbox = root.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox); const header = message(inbox, args[0]);'
ok(client.create("Projects/2026"))
for name in ("Projects", "Projects/2026"):
    ok(client.subscribe(name))
"#;

fn run(script: &str) -> System {
    let system = System::start(Options::default());
    system.python(&format!("{SERVER}\n{script}"), &json!({}));
    system
}

#[test]
fn thunderbird_reads_flags_moves_searches_and_deletes() {
    skip_without!("thunderbird", "python3");
    let system = run(r#"
put(*(f"letter {number}" for number in range(6)))
with Thunderbird(TLS) as bird:
    bird.run(OPEN, "letter 5")
    folders = bird.run('return root.descendants.map(found => [decodeURIComponent(found.URI).split("localhost/")[1], found.flags]);')
    assert sorted(name for name, _ in folders) == ["Archive", "Drafts", "INBOX", "Junk", "Projects", "Projects/2026", "Sent", "Trash"], folders
    # nsMsgFolderFlags: Trash, SentMail, Drafts, Archive, Inbox, Junk, by which it knows the special ones.
    special = {"Trash": 0x100, "Sent": 0x200, "Drafts": 0x400, "Archive": 0x4000, "INBOX": 0x1000, "Junk": 0x40000000}
    assert all(dict(folders)[name] & bit for name, bit in special.items()), folders

    # Read: what the window shows, and what it marks.
    text = bird.run(INBOX + """
        MailUtils.displayMessageInFolderTab(header);
        const shown = () => win.document.getElementById("tabmail").currentAbout3Pane
            ?.messageBrowser?.contentWindow?.getMessagePaneBrowser?.()?.contentDocument?.body?.textContent ?? "";
        await until(() => shown().includes("The word"), "the text");
        return shown();""", "letter 0")
    assert "The word of this one is wletter0w." in text, text
    wait_for(lambda: on_server("INBOX")["letter 0"] == {"\\Seen"}, 60)

    bird.run(INBOX + "inbox.markMessagesFlagged([header], true);", "letter 1")
    wait_for(lambda: "\\Flagged" in on_server("INBOX")["letter 1"], 60)
    bird.run(INBOX + 'inbox.addKeywordsToMessages([header], "$label1");', "letter 1")
    wait_for(lambda: {"\\Flagged", "$label1"} <= on_server("INBOX")["letter 1"], 60)
    bird.run(INBOX + "inbox.markMessagesRead([header], true);", "letter 2")
    wait_for(lambda: on_server("INBOX")["letter 2"] == {"\\Seen"}, 60)

    # Move.
    bird.run(INBOX + """
        await new Promise((resolve, reject) => MailServices.copy.copyMessages(inbox, [header], folder("2026"), true, {
            onStopCopy(status) { status ? reject(new Error("copy: " + status)) : resolve(); },
            onStartCopy() {}, onProgress() {}, setMessageKey() {}, getMessageId() {},
            QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]),
        }, win.msgWindow, true));""", "letter 2")
    wait_for(lambda: on_server("Projects/2026") == {"letter 2": {"\\Seen"}} and "letter 2" not in on_server("INBOX"), 60)

    # Searches: the server must do them, because it reads bodies that Thunderbird has not got.
    SEARCH = INBOX + """
        const session = Cc["@mozilla.org/messenger/searchSession;1"].createInstance(Ci.nsIMsgSearchSession);
        session.addScopeTerm(Ci.nsMsgSearchScope.onlineMail, inbox);
        const term = session.createTerm(), value = term.value;
        term.attrib = value.attrib = Ci.nsMsgSearchAttrib[args[1]];
        term.op = Ci.nsMsgSearchOp.Contains;
        value.str = args[2];
        term.value = value;
        session.appendTerm(term);
        const hits = [];
        await new Promise((resolve, reject) => {
            session.registerListener({
                onSearchHit(hit) { hits.push(hit.mime2DecodedSubject); },
                onSearchDone(status) { status ? reject(new Error("search: " + status)) : resolve(); },
                onNewSearch() {},
            }, Ci.nsIMsgSearchSession.allNotifications);
            session.search(win.msgWindow);
        });
        return hits.sort();"""
    assert bird.run(SEARCH, "", "Body", "WLETTER3W") == ["letter 3"]
    assert bird.run(SEARCH, "", "Subject", "letter") == [f"letter {number}" for number in (0, 1, 3, 4, 5)]
    assert bird.run(SEARCH, "", "Body", "nowhere") == []

    # Delete: into the trash, and out of it.
    bird.run(INBOX + "inbox.deleteMessages([header], win.msgWindow, false, true, null, true);", "letter 3")
    wait_for(lambda: list(on_server("Trash")) == ["letter 3"] and "letter 3" not in on_server("INBOX"), 60)
    bird.run(INBOX + "inbox.deleteMessages([header], win.msgWindow, true, false, null, false); inbox.compact(null, win.msgWindow);", "letter 4")
    wait_for(lambda: "letter 4" not in on_server("INBOX"), 60)
    assert list(on_server("Trash")) == ["letter 3"]
    bird.run("root.emptyTrash(null);")
    wait_for(lambda: not on_server("Trash"), 60)

    # A folder is made and renamed.
    bird.run('root.createSubfolder("Grüße", win.msgWindow); await until(() => folder("Grüße"), "the new folder");')
    wait_for(lambda: any(b"Gr&APwA3w-e" in line for line in ok(client.list())), 60)
    bird.run('folder("Grüße").rename("Küsse", win.msgWindow); await until(() => folder("Küsse"), "the new name");')
    wait_for(lambda: any(b"K&APw-sse" in line for line in ok(client.list())), 60)
    assert not any(b"Gr&APwA3w-e" in line for line in ok(client.list()))

    # While it is away others change things; it sees them when it comes back, this time by STARTTLS.
    bird.quit()
ok(client.select("INBOX"))
ok(client.store("1", "+FLAGS", r"(\Flagged)"))
ok(client.store("2", "+FLAGS", r"(\Deleted)"))
ok(client.expunge())
put("while away")
with Thunderbird(STARTTLS) as bird:
    bird.run(OPEN, "while away")
    bird.run('await until(() => message(root.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox), "letter 0").isFlagged, "the flag");')
    found = bird.run(INBOX + "return subjects(inbox).sort();", "")
    assert found == ["letter 0", "letter 5", "while away"], found
    bird.quit()
"#);
    let files = system.account("alice@example.test").messages("INBOX");
    let flags: Vec<&str> = files.iter().map(|file| file.flags.as_str()).collect();
    assert_eq!(flags, ["FS", "", ""]);
}

#[test]
fn thunderbird_sees_arrivals_at_once_and_sends() {
    skip_without!("thunderbird", "python3");
    let system = run(r#"
put("first")
with Thunderbird(TLS) as bird:
    bird.run(OPEN, "first")
    # Thunderbird asks for nothing here: every one of these is pushed.
    for number in range(3):
        bird.wait_until_idle()
        send(letter(f"arrival {number}"))
        bird.run(INBOX + 'await until(() => message(inbox, args[0]), "the arrival");', f"arrival {number}")
    ok(client.select("INBOX"))
    bird.wait_until_idle()
    ok(client.store("1", "+FLAGS", r"(\Flagged)"))
    bird.run(INBOX + 'await until(() => header.isFlagged, "the flag of another client");', "first")
    bird.wait_until_idle()
    ok(client.store("2", "+FLAGS", r"(\Deleted)"))
    ok(client.expunge())
    bird.run(INBOX + 'await until(() => !message(inbox, args[0]), "the deletion by another client");', "arrival 0")

    # The window in which a person writes, and its button.
    bird.run("""
        const fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
        [fields.to, fields.subject, fields.body, fields.forcePlainText] = [args[0], "Grüße", "Schöne Grüße!\\r\\n.\\r\\nEnde\\r\\n", true];
        const parameters = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
        [parameters.type, parameters.format] = [Ci.nsIMsgCompType.New, Ci.nsIMsgCompFormat.PlainText];
        parameters.composeFields = fields;
        parameters.identity = MailServices.accounts.defaultAccount.defaultIdentity;
        MailServices.compose.OpenComposeWindowWithParams(null, parameters);
        const compose = await until(() => {
            const opened = Services.wm.getMostRecentWindow("msgcompose");
            return opened?.composeEditorReady && opened.document.getElementById("button-send")?.disabled === false && opened;
        }, "a window to write in");
        compose.goDoCommand("cmd_sendNow");
        await until(() => compose.closed, "sending");""", BOB)
    wait_for(lambda: "Grüße" in on_server("Sent"), 60)
    assert on_server("Sent")["Grüße"] == {"\\Seen"}, on_server("Sent")
    bob = imap(BOB)
    wait_for(lambda: messages(bob) == 1, 60)
    [received] = [part[1] for part in ok(bob.fetch("1", "(BODY.PEEK[])")) if isinstance(part, tuple)]
    ok(client.select("Sent"))
    sent = fetched(client, 1)
    assert received.endswith(sent.partition(b"\r\nMIME-Version")[2]), (received, sent)
    body = email.message_from_bytes(received, policy=email.policy.default).get_content()
    assert body.split() == ["Schöne", "Grüße!", ".", "Ende"], repr(body)
    bird.quit()
"#);
    let log = system.log();
    assert!(log.contains("command=\"IDLE\""), "nothing was pushed");
}
