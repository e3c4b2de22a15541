//! IMAP libraries that we did not write: `imapclient`, `imapflow` and `curl` do all that they can do with an account.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::time::Duration;

use serde_json::json;
use system_tests::options::PASSWORD;
use system_tests::program::{self, Outcome};
use system_tests::{Options, System, python, skip_unless, skip_without};

const LIMIT: Duration = Duration::from_secs(120);

/// Flag letters of the files in a mailbox, in the order of UIDs.
fn flags(system: &System, mailbox: &str) -> Vec<String> {
    let files = system.account("alice@example.test").messages(mailbox);
    files.into_iter().map(|file| file.flags).collect()
}

#[test]
fn imapclient_does_all_it_can() {
    skip_unless!(
        python::has("imapclient"),
        "tests/prepare could not fetch imapclient"
    );
    let system = System::start(Options::alice());
    let script = r#"
import datetime
from imapclient import IMAPClient, SEEN, FLAGGED, DELETED, ANSWERED
import imapclient
def connect(**how):
    return IMAPClient("localhost", ssl_context=trust(), timeout=30, **how)
clear = connect(port=ports["imap"], ssl=False)
clear.starttls(trust())
clear.plain_login(ALICE, password)
clear.logout()
client = connect(port=ports["imaps"])
try:
    client.login(ALICE, "wrong")
    raise AssertionError("logged in")
except imapclient.exceptions.LoginError as error:
    assert b"AUTHENTICATIONFAILED" in str(error).encode(), error
client.login(ALICE, password)
assert b"rmail" in client.id_({"name": "test"})[0], client.id_()
assert client.namespace().personal == (("", "/"),), client.namespace()
for capability in ("UIDPLUS", "MOVE", "SORT", "THREAD=REFERENCES", "CONDSTORE"):
    assert client.has_capability(capability), capability
assert client.enable("CONDSTORE") == [b"CONDSTORE"]

# Mailboxes, in every script.
for name in ("Projects/Grüße", "Projects/台北", "A & B"):
    assert client.create_folder(name)
    client.subscribe_folder(name)
    assert client.folder_exists(name)
listed = {name: set(flags) for flags, delimiter, name in client.list_folders()}
assert {"INBOX", "Projects", "Projects/Grüße", "Projects/台北", "A & B"} <= set(listed), listed
assert b"\\HasChildren" in listed["Projects"] and b"\\HasNoChildren" in listed["A & B"], listed
client.rename_folder("A & B", "C & D")
assert not client.folder_exists("A & B") and client.folder_exists("C & D")
client.unsubscribe_folder("A & B")
client.subscribe_folder("C & D")
assert "C & D" in [name for _, _, name in client.list_sub_folders()]
assert client.find_special_folder(imapclient.imapclient.SENT) == "Sent"
assert client.find_special_folder(imapclient.imapclient.TRASH) == "Trash"

# Messages.
when = datetime.datetime(2020, 2, 1, 3, 4, 5, tzinfo=imapclient.fixed_offset.FixedOffset(60))
texts = []
for number in range(6):
    more = f"References: <a@outside.test>\nIn-Reply-To: <a@outside.test>\n" if number in (2, 4) else ""
    text = letter(f"letter {number}", body=f"Schöne Grüße {number}\n", sender=f"s{9 - number}@outside.test", more=more + 'MIME-Version: 1.0\nContent-Type: text/plain; charset="utf-8"\nContent-Transfer-Encoding: 8bit\n')
    text = text.replace("\n", "\r\n").encode()
    texts.append(text)
    answer = client.append("INBOX", text, flags=(SEEN,) if number == 1 else (), msg_time=when)
    assert b"APPENDUID" in answer, answer
status = client.folder_status("INBOX", ["MESSAGES", "UNSEEN", "UIDNEXT", "HIGHESTMODSEQ"])
assert (status[b"MESSAGES"], status[b"UNSEEN"], status[b"UIDNEXT"]) == (6, 5, 7), status
info = client.select_folder("INBOX")
assert info[b"EXISTS"] == 6 and info[b"READ-WRITE"], info
before = info[b"HIGHESTMODSEQ"]
data = client.fetch([1, 2, 3, 4, 5, 6], ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY.PEEK[]", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "BODY.PEEK[TEXT]<0.6>", "MODSEQ"])
assert sorted(data) == [1, 2, 3, 4, 5, 6]
for uid, found in data.items():
    assert found[b"BODY[]"] == texts[uid - 1] and found[b"RFC822.SIZE"] == len(texts[uid - 1])
    assert found[b"ENVELOPE"].subject == b"letter %d" % (uid - 1) and found[b"ENVELOPE"].from_[0].host == b"outside.test"
    assert found[b"ENVELOPE"].date == datetime.datetime.fromtimestamp(1772445600), found[b"ENVELOPE"].date
    assert found[b"INTERNALDATE"].timestamp() == when.timestamp()
    assert found[b"BODYSTRUCTURE"][:3] == (b"text", b"plain", (b"charset", b"utf-8")), found[b"BODYSTRUCTURE"]
    assert found[b"BODY[HEADER.FIELDS (SUBJECT)]"] == b"Subject: letter %d\r\n\r\n" % (uid - 1)
    assert found[b"BODY[TEXT]<0>"] == "Schöne Grüße".encode()[:6]
assert client.search(["SUBJECT", "letter 3"]) == [4]
assert client.search(["BODY", "grüße"], charset="UTF-8") == [1, 2, 3, 4, 5, 6]
assert client.search(["NOT", "SEEN", "SINCE", datetime.date(2020, 1, 1), ["OR", "FROM", "s9", "FROM", "s8"]]) == [1]
assert client.search(["HEADER", "References", "a@outside"]) == [3, 5]
assert client.sort(["FROM"]) == [6, 5, 4, 3, 2, 1]
assert client.sort("REVERSE SUBJECT", ["UNSEEN"]) == [6, 5, 4, 3, 1]
threads = client.thread("REFERENCES")
assert any({"3", "5"} <= set(re.findall(r"\d+", str(thread))) for thread in threads), threads
assert sorted(int(number) for number in re.findall(r"\d+", str(threads))) == [1, 2, 3, 4, 5, 6], threads

# Flags, copies, moves, deletions.
assert client.add_flags([1, 2], [FLAGGED, "$Work"])[1] == (FLAGGED, b"$Work")
assert client.set_flags([3], [ANSWERED])[3] == (ANSWERED,)
assert client.remove_flags([2], [FLAGGED, SEEN])[2] == (b"$Work",)
assert sorted(client.fetch([1, 2, 3, 4, 5, 6], ["FLAGS"], [b"CHANGEDSINCE %d" % before])) == [1, 2, 3]
client.copy([1, 2], "Projects/台北")
client.move([4], "Projects/Grüße")
client.delete_messages([5, 6])
client.uid_expunge([6])
assert client.search() == [1, 2, 3, 5]
client.expunge()
client.unselect_folder()
assert client.folder_status("Projects/台北")[b"MESSAGES"] == 2
client.select_folder("Projects/Grüße", readonly=True)
[found] = client.fetch([1], ["BODY[]"]).values()
assert found[b"BODY[]"] == texts[3]
try:
    client.add_flags([1], [SEEN])
    raise AssertionError("changed what was opened to read")
except imapclient.exceptions.IMAPClientError:
    pass
client.close_folder()

# Push.
client.select_folder("INBOX")
client.idle()
send(letter("pushed"))
seen = []
wait_for(lambda: seen.extend(client.idle_check(timeout=1)) or (4, b"EXISTS") in seen, 60)
other = imap()
ok(other.select("INBOX"))
ok(other.store("1", "+FLAGS.SILENT", r"(\Draft)"))
wait_for(lambda: seen.extend(client.idle_check(timeout=1)) or any(line[:2] == (1, b"FETCH") and rb"\Draft" in line[2][line[2].index(b"FLAGS") + 1] for line in seen), 60)
ok(other.store("2", "+FLAGS.SILENT", r"(\Deleted)"))
ok(other.expunge())
wait_for(lambda: seen.extend(client.idle_check(timeout=1)) or any(line in ((2, b"EXPUNGE"), (b"VANISHED", b"2")) for line in seen), 60)
text, _ = client.idle_done()
assert client.noop()[0] == b"nothing done", client.noop()
client.delete_folder("C & D")
assert not client.folder_exists("C & D")
client.logout()
"#;
    system.python(script, &json!({}));
    assert_eq!(flags(&system, "INBOX"), ["DF", "A", ""]);
    assert_eq!(flags(&system, "Projects%2F%E5%8F%B0%E5%8C%97"), ["F", ""]);
    assert_eq!(flags(&system, "Projects%2FGr%C3%BC%C3%9Fe"), [""]);
}

#[test]
fn imapflow_does_all_it_can() {
    skip_without!("node");
    let Some(modules) = program::fetched("node/node_modules") else {
        eprintln!("SKIPPED: tests/prepare could not fetch imapflow");
        return;
    };
    skip_unless!(
        modules.join("imapflow").exists(),
        "tests/prepare could not fetch imapflow"
    );
    let system = System::start(Options::alice());
    let script = r#"
const assert = require('assert'), fs = require('fs');
const {ImapFlow} = require('imapflow');
const given = JSON.parse(process.env.RMAIL_TEST);
const connect = async more => {
    const client = new ImapFlow({
        host: 'localhost', port: given.ports.imaps, secure: true, logger: false, qresync: true,
        auth: {user: 'alice@example.test', pass: given.password},
        tls: {ca: fs.readFileSync(given.ca_file)}, ...more,
    });
    await client.connect();
    return client;
};
const text = (subject, body) => `From: Jörg <joerg@outside.test>\r\nTo: alice@example.test\r\nSubject: ${subject}\r\nDate: Mon, 02 Mar 2026 10:00:00 +0000\r\n` +
    `Message-ID: <${subject}@outside.test>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n${body}\r\n` +
    `--x\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nSGVsbG8sIHdvcmxkIQ==\r\n--x--\r\n`;
const until = async (question, what) => {
    for (let turn = 0; turn < 600; turn++) {
        const answer = await question();
        if (answer) return answer;
        await new Promise(resolve => setTimeout(resolve, 100));
    }
    throw new Error('never: ' + what);
};
(async () => {
    const clear = await connect({port: given.ports.imap, secure: false, doSTARTTLS: true});
    assert(clear.secureConnection);
    await clear.logout();
    await assert.rejects(connect({auth: {user: 'alice@example.test', pass: 'wrong'}}), error => error.authenticationFailed && error.serverResponseCode === 'AUTHENTICATIONFAILED');

    const client = await connect();
    assert.equal(client.serverInfo.name, 'rmail');
    assert(client.enabled.has('CONDSTORE') && client.enabled.has('QRESYNC'), [...client.enabled].join());
    await client.mailboxCreate(['Projects', 'Grüße']);
    await client.mailboxSubscribe('Projects/Grüße');
    const folders = await client.list({statusQuery: {messages: true, uidNext: true}});
    const folder = path => folders.find(found => found.path === path);
    assert.equal(folder('Projects/Grüße').subscribed, true);
    assert.equal(folder('INBOX').specialUse, '\\Inbox');
    assert.equal(folder('Sent').specialUse, '\\Sent');
    assert.equal(folder('INBOX').status.messages, 0);
    assert.equal((await client.mailboxRename('Projects/Grüße', 'Projects/Küsse')).newPath, 'Projects/Küsse');
    assert.equal((await client.mailboxCreate('Projects/Küsse')).created, false);

    const texts = [0, 1, 2, 3, 4].map(number => text(`letter-${number}`, `Schöne Grüße ${number}`));
    for (const [number, source] of texts.entries()) {
        const answer = await client.append('INBOX', source, number === 1 ? ['\\Seen', '$Work'] : [], new Date('2020-02-01T03:04:05Z'));
        assert.equal(answer.uid, number + 1);
    }
    const status = await client.status('INBOX', {messages: true, unseen: true, uidNext: true, highestModseq: true});
    assert.deepEqual([status.messages, status.unseen, status.uidNext], [5, 4, 6]);
    const lock = await client.getMailboxLock('INBOX');
    const before = client.mailbox.highestModseq;
    assert.equal(client.mailbox.exists, 5);
    const found = [];
    for await (const message of client.fetch('1:*', {uid: true, flags: true, envelope: true, bodyStructure: true, internalDate: true, size: true, source: true, threadId: true, headers: ['subject']})) found.push(message);
    assert.equal(found.length, 5);
    for (const [number, message] of found.entries()) {
        assert.equal(message.source.toString(), texts[number]);
        assert.equal(message.size, message.source.length);
        assert.equal(message.envelope.subject, `letter-${number}`);
        assert.equal(message.envelope.from[0].address, 'joerg@outside.test');
        assert.equal(message.internalDate.toISOString(), '2020-02-01T03:04:05.000Z');
        assert.equal(message.bodyStructure.childNodes[1].dispositionParameters.filename, 'a.pdf');
        assert(message.emailId && message.modseq);
        assert.equal(message.headers.toString(), `Subject: letter-${number}\r\n\r\n`);
    }
    assert.deepEqual([...found[1].flags].sort(), ['$Work', '\\Seen']);
    const {meta, content} = await client.download('3', '2');
    let attachment = '';
    for await (const chunk of content) attachment += chunk;
    assert.deepEqual([attachment, meta.filename, meta.contentType], ['Hello, world!', 'a.pdf', 'application/pdf']);

    assert.deepEqual(await client.search({subject: 'letter-3'}, {uid: true}), [4]);
    assert.deepEqual(await client.search({body: 'GRÜSSE'.toLowerCase().replace('ss', 'ß')}), [1, 2, 3, 4, 5]);
    assert.deepEqual(await client.search({seen: false, or: [{subject: 'letter-0'}, {subject: 'letter-1'}]}), [1]);
    assert.deepEqual(await client.search({emailId: found[2].emailId}), [3]);

    assert(await client.messageFlagsAdd('1:2', ['\\Flagged']));
    assert(await client.messageFlagsRemove('2', ['\\Seen']));
    assert(await client.messageFlagsSet('3', ['\\Answered']));
    const changed = [];
    for await (const message of client.fetch('1:*', {flags: true}, {changedSince: before})) changed.push(message.seq);
    assert.deepEqual(changed, [1, 2, 3]);
    const copied = await client.messageCopy('1:2', 'Projects/Küsse');
    assert.deepEqual([...copied.uidMap], [[1, 1], [2, 2]]);
    const moved = await client.messageMove('4', 'Projects/Küsse', {uid: true});
    assert.deepEqual([...moved.uidMap], [[4, 3]]);
    assert(await client.messageDelete('5', {uid: true}));
    assert.equal(client.mailbox.exists, 3);
    lock.release();

    // Push: imapflow goes into IDLE by itself.
    const other = await connect();
    await client.mailboxOpen('INBOX');
    const events = [];
    for (const name of ['exists', 'flags', 'expunge']) client.on(name, event => events.push([name, event]));
    const idling = client.idle();
    await until(() => client.idling, 'idle');
    await other.mailboxOpen('INBOX');
    const uid = (await other.append('INBOX', texts[0])).uid;
    await until(() => events.some(([name, event]) => name === 'exists' && event.count === 4), 'exists');
    await other.messageFlagsAdd(`${uid}`, ['\\Draft'], {uid: true});
    await until(() => events.some(([name, event]) => name === 'flags' && event.flags.has('\\Draft')), 'flags');
    await other.messageDelete(`${uid}`, {uid: true});
    await until(() => events.some(([name, event]) => name === 'expunge' && (event.uid === uid || event.seq === 4)), 'expunge');
    await other.logout();
    await client.noop();
    await idling;
    assert.equal((await client.mailboxDelete('Archive')).path, 'Archive');
    await client.logout();
})().catch(error => { console.error(error, error.responseText ?? '', error.executedCommand ?? ''); process.exit(1); });
"#;
    let mut node = program::command("node");
    node.env("NODE_PATH", modules)
        .env("RMAIL_TEST", system.variables(&json!({})).to_string())
        .args(["-e", script]);
    program::run(&mut node, b"", LIMIT).succeeded();
    assert_eq!(flags(&system, "INBOX"), ["F", "F", "A"]);
    assert_eq!(flags(&system, "Projects%2FK%C3%BCsse"), ["F", "F", ""]);
}

#[test]
fn curl_reads_searches_and_appends() {
    skip_without!("curl");
    let system = System::start(Options::alice());
    let letter = system.dir().join("letter.eml");
    let text = "From: carol@outside.test\r\nSubject: dots\r\n\r\n.\r\n..\r\nend\r\n";
    std::fs::write(&letter, text).unwrap();
    let curl = |scheme: &str, listener: &str, path: &str, more: &[&str]| -> Outcome {
        let mut curl = program::command("curl");
        curl.args(["--silent", "--show-error", "--ssl-reqd", "--cacert"])
            .arg(system.ca_file())
            .args(["--user", &format!("alice@example.test:{PASSWORD}")])
            .args(more)
            .arg(format!(
                "{scheme}://localhost:{}/{path}",
                system.port(listener)
            ));
        program::run(&mut curl, b"", LIMIT)
    };
    let imaps = |path: &str, more: &[&str]| curl("imaps", "imaps", path, more).succeeded().stdout;
    let file = letter.display().to_string();
    for (scheme, listener) in [("imaps", "imaps"), ("imap", "imap")] {
        curl(scheme, listener, "INBOX", &["--upload-file", &file]).succeeded();
    }
    for mechanism in ["AUTH=PLAIN", "AUTH=LOGIN"] {
        let listed = imaps("", &["--login-options", mechanism]);
        assert!(
            listed.contains("* LIST (\\HasNoChildren) \"/\" INBOX"),
            "{mechanism}: {listed}"
        );
    }
    assert_eq!(imaps("INBOX;UID=1", &[]), text);
    assert_eq!(imaps("INBOX;MAILINDEX=2", &[]), text);
    assert_eq!(imaps("INBOX;UID=1;SECTION=TEXT", &[]), ".\r\n..\r\nend\r\n");
    assert_eq!(
        imaps("INBOX?SUBJECT%20dots", &[]).trim_end(),
        "* SEARCH 1 2"
    );
    let stored = imaps(
        "INBOX",
        &["--request", "STORE 2 +FLAGS (\\Flagged \\Deleted)"],
    );
    assert!(stored.contains("\\Flagged"), "{stored}");
    assert_eq!(flags(&system, "INBOX"), ["S", "FST"]);
    imaps("INBOX", &["--request", "EXPUNGE"]);
    assert_eq!(flags(&system, "INBOX"), ["S"]);
    let examined = imaps("", &["--request", "EXAMINE INBOX"]);
    assert!(examined.contains("* 1 EXISTS"), "{examined}");
    // 78: there is no such file (curl(1)).
    assert_eq!(curl("imaps", "imaps", "INBOX;UID=9", &[]).code(), 78);
    assert_eq!(
        curl(
            "imaps",
            "imaps",
            "",
            &["--user", "alice@example.test:wrong"]
        )
        .code(),
        67
    );
}
