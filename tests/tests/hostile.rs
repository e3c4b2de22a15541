//! Input that broke other mail servers: here it is refused or taken as what it is, and nobody else notices.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::time::Duration;

use serde_json::json;
use system_tests::options::PASSWORD;
use system_tests::smtp::Client;
use system_tests::system::DAEMONS;
use system_tests::{Options, System, imap, skip_without};

/// Ends of data that are none (CVE-2023-51764 and its relatives).
const FALSE_ENDS: [&[u8]; 9] = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\n\n.\r\r\n",
    b"\r\r\n.\r\r\n",
];

const SMUGGLED: &[u8] = b"MAIL FROM:<evil@outside.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n";

fn attempt(client: &mut Client, end: &[u8], bytewise: bool, sender: &str) {
    for line in [
        format!("MAIL FROM:<{sender}>"),
        "RCPT TO:<alice@example.test>".into(),
        "DATA".into(),
    ] {
        let reply = client.command(&line).unwrap();
        assert!(matches!(reply.code, 250 | 354), "{line}: {reply:?}");
    }
    let mut bytes = format!("From: {sender}\r\nSubject: carrier\r\n\r\nfirst").into_bytes();
    bytes.extend_from_slice(end);
    bytes.extend_from_slice(SMUGGLED);
    bytes.extend_from_slice(b"\r\n.\r\nQUIT\r\n");
    let chunk = if bytewise { 1 } else { bytes.len() };
    for piece in bytes.chunks(chunk) {
        // The server may close in the middle of it.
        if client.send(piece).is_err() {
            break;
        }
    }
    drop(client.rest(Duration::from_secs(5)).unwrap());
}

#[test]
fn a_message_is_not_smuggled_behind_a_false_end_of_data() {
    let system = System::start(
        Options::alice().config(&json!({"smtp": {"cleartext_auth_on_loopback": true}})),
    );
    let account = system.account("alice@example.test");
    let mut before = 0;
    for end in FALSE_ENDS {
        for (door, bytewise) in [("smtp", false), ("smtp", true), ("submission", false)] {
            let mut client = Client::hello(system.address(door)).unwrap();
            let mut sender = "carol@outside.test";
            if door == "submission" {
                client.login("alice@example.test", PASSWORD).unwrap();
                sender = "alice@example.test";
            }
            attempt(&mut client, end, bytewise, sender);
            let files = account.messages("INBOX");
            assert!(
                files.len() <= before + 1,
                "{end:?} on {door}: one message became {}",
                files.len() - before
            );
            before = files.len();
            for file in files {
                let bytes = file.bytes();
                let head_end = bytes
                    .windows(4)
                    .position(|four| four == b"\r\n\r\n")
                    .unwrap();
                let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
                assert!(!head.contains("smuggled"), "{end:?} on {door}: {head}");
                let stray = bytes.iter().enumerate().any(|(at, byte)| match byte {
                    b'\n' => at == 0 || bytes[at - 1] != b'\r',
                    b'\r' => bytes.get(at + 1) != Some(&b'\n'),
                    byte => *byte == 0,
                });
                assert!(
                    !stray,
                    "{end:?} on {door} was stored with a bare CR, LF or NUL"
                );
            }
        }
    }
}

#[test]
fn commands_in_the_segment_of_starttls_are_never_heard() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    let script = r#"
def inject(port, before, starttls, injected, after, forbidden):
    connection, _ = raw(port)
    for line in before:
        connection.sendall(line)
        connection.recv(4096)
    connection.sendall(starttls + injected)
    answer = connection.recv(4096)
    context = trust()
    context.check_hostname = False
    try:
        secure = context.wrap_socket(connection, server_hostname="localhost")
        secure.settimeout(5)
        secure.sendall(after)
        answer = secure.recv(4096)
    except (ssl.SSLError, ConnectionError, TimeoutError) as error:
        print(f"{port}: closed: {error}")
        return
    assert forbidden not in answer and answer, (port, answer)
    print(f"{port}: discarded: {answer!r}")
    # Nothing said before TLS counts any more.
    return secure
for port in ("smtp", "submission"):
    inject(port, [b"EHLO x.test\r\n"], b"STARTTLS\r\n", b"NOOP\r\nVRFY evil\r\n", b"XYZZY\r\n", b"25")
    inject(port, [b"EHLO x.test\r\n"], b"STARTTLS\r\n", b"MAIL FROM:<evil@outside.test>\r\n", b"RCPT TO:<alice@example.test>\r\n", b"250")
inject("imap", [], b"a STARTTLS\r\n", b"b NOOP\r\n", b"c NOOP\r\n", b"b OK")
inject("imap", [], b"a STARTTLS\r\n", f'b LOGIN {ALICE} "{password}"\r\n'.encode(), b"c LIST \"\" *\r\n", b"c OK")
"#;
    system.python(script, &json!({}));
}

#[test]
fn a_web_browser_is_sent_away_by_smtp_and_imap() {
    let system = System::start(Options::without_users());
    for door in ["smtp", "submission"] {
        for request in [
            "GET / HTTP/1.1",
            "POST /x HTTP/1.0",
            "HEAD / HTTP/1.1",
            "PUT / HTTP/1.1",
            "OPTIONS * HTTP/1.1",
        ] {
            let (mut client, _) = Client::connect(system.address(door)).unwrap();
            client
                .send(format!("{request}\r\nHost: x\r\n\r\nEHLO x\r\nNOOP\r\n").as_bytes())
                .unwrap();
            let said = client.rest(Duration::from_secs(5)).unwrap();
            assert!(
                !said.contains("250"),
                "{door} went on talking after {request}: {said}"
            );
            assert!(
                client.command("NOOP").is_err(),
                "{door} is still open after {request}"
            );
        }
    }
    for request in ["GET / HTTP/1.1", "POST /x HTTP/1.0", "OPTIONS * HTTP/1.1"] {
        let (mut client, _) = imap::Client::connect(system.address("imap")).unwrap();
        client
            .send(format!("{request}\r\nHost: x\r\n\r\na NOOP\r\n").as_bytes())
            .unwrap();
        let said = client.rest(Duration::from_secs(5)).unwrap();
        assert!(
            !said.contains("a OK"),
            "imap went on talking after {request}: {said}"
        );
    }
}

#[test]
fn what_follows_a_huge_literal_is_not_taken_for_commands() {
    let system = System::start(Options::alice());
    for announced in ["{99999999+}", "{4294967296+}", "{18446744073709551616+}"] {
        let (mut client, _) = imap::Client::connect(system.address("imap")).unwrap();
        client.send(format!("a LOGIN {announced}\r\nb NOOP\r\nc LOGIN alice@example.test \"{PASSWORD}\"\r\nd LIST \"\" *\r\n").as_bytes()).unwrap();
        let said = client.rest(Duration::from_secs(3)).unwrap();
        assert!(
            !said.contains("b OK") && !said.contains("c OK") && !said.contains("d OK"),
            "{announced}: {said}"
        );

        let mut client =
            imap::Client::login(system.address("imap"), "alice@example.test", PASSWORD).unwrap();
        client
            .send(format!("a APPEND INBOX {announced}\r\nb CREATE evil\r\n").as_bytes())
            .unwrap();
        let said = client.rest(Duration::from_secs(3)).unwrap();
        assert!(!said.contains("b OK"), "{announced}: {said}");
    }
    assert!(
        !system
            .account("alice@example.test")
            .mailbox("evil")
            .exists()
    );
}

#[test]
fn endless_tokens_before_login_end_the_connection() {
    let system = System::start(Options::alice());
    let resident = |pid: u32| -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let pid = system.pid("imapd").unwrap();
    let before = resident(pid);
    let mut clients = Vec::new();
    for token in ["(", "x", "\"a\" ", "{1+}\r\nx "] {
        let (mut client, _) = imap::Client::connect(system.address("imap")).unwrap();
        let flood = format!("a SEARCH {}", token.repeat(2_000_000 / token.len()));
        let cut = client.send(flood.as_bytes()).is_err();
        let said = client.rest(Duration::from_secs(5)).unwrap();
        assert!(
            cut || said.contains("BYE") || said.contains("BAD"),
            "{token:?}: {said}"
        );
        clients.push(client);
    }
    assert_eq!(system.pid("imapd"), Some(pid), "imapd lives");
    let grown = resident(pid).saturating_sub(before);
    assert!(grown < 8 * 1024, "imapd grew by {grown} KiB");
}

#[test]
fn strange_addresses_and_logins_are_only_strange() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    let script = r#"
import base64
def say(connection, line):
    connection.sendall(line + b"\r\n")
    return connection.recv(4096)
for sender in (b"<;sleep 5;>", b"<|touch /tmp/x>", b"<`id`@x.test>", b"<a@b@c>", b"<\"a\r@x.test>", b"<@@>", b"<" + b"a" * 400 + b"@x.test>"):
    connection, _ = raw("smtp")
    say(connection, b"EHLO x.test")
    begun = time.monotonic()
    answer = say(connection, b"MAIL FROM:" + sender)
    assert answer[:1] in (b"2", b"5", b""), (sender, answer)
    assert time.monotonic() - begun < 2
for recipient in (b'<""@example.test>', b'<"x\'/**/UNION SELECT 1--"@example.test>', b"<\xff\xfe@example.test>", b"<../../bob@example.test>", b"<alice\0@example.test>"):
    connection, _ = raw("smtp")
    say(connection, b"EHLO x.test")
    say(connection, b"MAIL FROM:<carol@outside.test>")
    answer = say(connection, b"RCPT TO:" + recipient)
    assert answer[:1] == b"5", (recipient, answer)
for user in ("*)(uid=*", "x' OR 1=1 --", "alice@example.test\0x", "../alice@example.test", "a" * 3000 + "@example.test"):
    client = imaplib.IMAP4("127.0.0.1", ports["imap"])
    token = f"\0{user}\0{password}".encode()
    try:
        client.authenticate("PLAIN", lambda _: token)
    except (imaplib.IMAP4.error, OSError):
        continue
    raise AssertionError(f"{user!r} was let in")
# RFC 4616: to act as somebody else is nobody's right here.
client = imaplib.IMAP4("127.0.0.1", ports["imap"])
try:
    client.authenticate("PLAIN", lambda _: f"bob@example.test\0{ALICE}\0{password}".encode())
except imaplib.IMAP4.error:
    pass
else:
    raise AssertionError("alice became bob")
# Cut off in the middle of a login, and nonsense instead of base64.
for nonsense in (b"=", b"not base64!", b"*", b"A" * 100000):
    connection, _ = raw("imap")
    connection.sendall(b"a AUTHENTICATE PLAIN\r\n")
    connection.recv(4096)
    connection.sendall(nonsense + b"\r\n")
    assert b"a OK" not in rest(connection, 1.0)
for _ in range(200):
    connection, _ = raw("imap")
    connection.sendall(b"a AUTHENTICATE PLAIN\r\n")
    connection.close()
assert imap().state == "AUTH"
"#;
    system.python(script, &json!({}));
}

#[test]
fn garbage_on_the_sockets_between_the_daemons_harms_nobody() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    let pids: Vec<_> = DAEMONS.iter().map(|daemon| system.pid(daemon)).collect();
    let script = r#"
import random
dice = random.Random(1)
bystander = imap()
assert messages(bystander) == 0
sockets = sorted(name for name in os.listdir(run_dir) if name.endswith(".sock"))
assert {"deliverd-smtpd.sock", "deliverd-imapd.sock", "deliverd-ctl.sock", "relayd-smtpd.sock"} <= set(sockets), sockets
def connect(name):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(2)
    connection.connect(f"{run_dir}/{name}")
    return connection
def say(connection, packet, descriptors=()):
    try:
        socket.send_fds(connection, [packet], list(descriptors))
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True
for name in sockets:
    hellos = []
    for packet in (b"", b"\0", b"\xff" * 16, dice.randbytes(100), dice.randbytes(16384), b"A" * 60000, b"GET / HTTP/1.1\r\n\r\n"):
        with connect(name) as connection, open("/dev/null") as null:
            say(connection, packet)
            say(connection, packet, [null.fileno()] * 3)
            for _ in range(20):
                if not say(connection, dice.randbytes(dice.randint(0, 300))):
                    break
            try:
                hellos.append(connection.recv(65536))
            except (TimeoutError, ConnectionResetError):
                pass
    # What the daemon says first is a hello of the right form: send it back, then garbage.
    for hello in [packet for packet in hellos if packet][:1]:
        for _ in range(200):
            with connect(name) as connection:
                say(connection, hello)
                for _ in range(5):
                    say(connection, dice.randbytes(dice.choice((0, 1, 2, 8, 40, 300))))
    # Many that say nothing.
    idle = [connect(name) for _ in range(50)]
    for connection in idle:
        connection.close()
ok(bystander.noop())
send(letter("life goes on"))
wait_for(lambda: messages(bystander) == 1, 5)
assert messages(imap()) == 1
"#;
    system.python(script, &json!({}));
    assert_eq!(
        DAEMONS
            .iter()
            .map(|daemon| system.pid(daemon))
            .collect::<Vec<_>>(),
        pids,
        "a daemon died\n{}",
        system.log()
    );
    system.rmailctl(&["status"]).succeeded();
}

#[test]
fn one_user_cannot_name_anything_of_another() {
    skip_without!("python3");
    let system = System::start(Options::default());
    let script = r##"
send(letter("for bob only"), to=BOB)
bob = imap(BOB)
assert messages(bob) == 1
ok(bob.create("Secret"))
client = imap(ALICE)
ok(client.create("Own"))
for pattern in ("*", "%", "../*", "../../bob/*", "/*"):
    for reference in ('""', '"../../bob/"', '"/"'):
        try:
            lines = [line.decode() for line in ok(client.list(reference, f'"{pattern}"')) if line]
        except imaplib.IMAP4.error:
            continue
        assert not any("Secret" in line for line in lines), lines
names = ["../../bob/mailboxes/INBOX", "../bob", "..", ".", "../INBOX", "/", "//", "INBOX/../../../bob/mailboxes/Secret",
         "bob@example.test/INBOX", "user/bob", "~bob/INBOX", "#shared/bob", "/etc/passwd", "%2e%2e%2fbob", "..%2F..%2Fbob",
         "&AC4ALg-/bob", "Secret", "0000", ".keywords", "status.json", "INBOX/0000"]
for name in names:
    quoted = '"' + name + '"'
    for answer in (lambda: client.select(quoted), lambda: client.select(quoted, readonly=True), lambda: client.status(quoted, "(MESSAGES)"), lambda: client.delete(quoted), lambda: client.rename(quoted, '"taken"'),
                   lambda: client.append(quoted, None, None, b"Subject: x\r\n\r\nx\r\n")):
        try:
            result, data = answer()
        except imaplib.IMAP4.error:
            continue
        assert result in ("NO", "BAD"), (name, result, data)
# A mailbox may be made with an odd name, but then it is alice's own.
for name in names:
    quoted = '"' + name + '"'
    for attempt in (lambda: client.create(quoted), lambda: client.rename('"Own"', quoted), lambda: client.rename(quoted, '"Own"')):
        try:
            print(name, attempt())
        except imaplib.IMAP4.error as error:
            print(name, error)
assert messages(bob) == 1
assert [line for line in ok(bob.list('""', "*")) if b"Secret" in line], "bob's mailbox is gone"
"##;
    system.python(script, &json!({}));
    let users = system
        .account("alice@example.test")
        .mailbox("x")
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned();
    let mut names: Vec<String> = std::fs::read_dir(&users)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["alice", "bob"],
        "nothing was made beside the accounts"
    );
    let bob = system.account("bob@example.test");
    assert_eq!(bob.messages("INBOX").len(), 1);
}
