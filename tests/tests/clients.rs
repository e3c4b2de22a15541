//! Clients that we did not write bring mail: each signs on, sends, and is told why a recipient is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use loopback::Port;
use serde_json::{Value, json};
use system_tests::options::PASSWORD;
use system_tests::patience::wait_for;
use system_tests::postfix::Postfix;
use system_tests::program::Outcome;
use system_tests::smtp::Client;
use system_tests::{Options, System, program, python, skip_unless, skip_without};

const LIMIT: Duration = Duration::from_secs(60);
const LETTER: &str =
    "From: alice@example.test\r\nTo: bob@example.test\r\nSubject: dots\r\n\r\n.\r\n..\r\nend\r\n";

/// Waits for so many messages, and gives them.
fn inbox(system: &System, address: &str, count: usize) -> Vec<String> {
    let files = wait_for(LIMIT, || {
        let files = system.account(address).messages("INBOX");
        (files.len() >= count).then_some(files)
    });
    let files = files.unwrap_or_else(|error| panic!("{address}: {error}\n{}", system.log()));
    assert_eq!(files.len(), count);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    files.iter().map(|file| text(file.bytes())).collect()
}

fn assert_whole(text: &str, protocol: &str) {
    assert!(text.ends_with("\r\n\r\n.\r\n..\r\nend\r\n"), "{text}");
    assert!(text.contains(&format!(" with {protocol}")), "{text}");
}

fn assert_told(outcome: &Outcome) {
    assert!(!outcome.status.success(), "{}", outcome.text());
    assert!(
        outcome.text().contains("no such user here"),
        "{}",
        outcome.text()
    );
}

#[test]
fn msmtp_submits_on_both_ports() {
    skip_without!("msmtp");
    let system = System::start(Options::default());
    let send = |listener: &str, starttls: &str, mechanism: &str, to: &str| {
        let mut msmtp = program::command("msmtp");
        msmtp
            .args(["--file=/dev/null", "--host=localhost", "--tls=on"])
            .arg(format!("--port={}", system.port(listener)))
            .arg(format!("--tls-starttls={starttls}"))
            .arg(format!("--tls-trust-file={}", system.ca_file().display()))
            .args([&format!("--auth={mechanism}"), "--user=alice@example.test"])
            .arg(format!("--passwordeval=echo {PASSWORD}"))
            .args(["--from=alice@example.test", to]);
        program::run(&mut msmtp, LETTER.replace("\r\n", "\n").as_bytes(), LIMIT)
    };
    send("submission", "on", "plain", "bob@example.test").succeeded();
    send("submissions", "off", "login", "bob@example.test").succeeded();
    for text in inbox(&system, "bob@example.test", 2) {
        assert_whole(&text, "ESMTPSA");
    }
    assert_told(&send("submission", "on", "plain", "nobody@example.test"));
}

#[test]
fn curl_brings_mail_to_every_port() {
    skip_without!("curl");
    let system = System::start(Options::default());
    let file = system.dir().join("letter.eml");
    std::fs::write(&file, LETTER).unwrap();
    let send = |scheme: &str, listener: &str, login: &[&str], to: &str| {
        let mut curl = program::command("curl");
        curl.args(["--silent", "--show-error", "--ssl-reqd", "--cacert"])
            .arg(system.ca_file())
            .args(["--mail-from", "alice@example.test", "--mail-rcpt", to])
            .args(["--verbose", "--upload-file"])
            .arg(&file)
            .args(login)
            .arg(format!(
                "{scheme}://localhost:{}/x.test",
                system.port(listener)
            ));
        program::run(&mut curl, b"", LIMIT)
    };
    let account = format!("alice@example.test:{PASSWORD}");
    let login = ["--user", account.as_str()];
    send("smtp", "smtp", &[], "bob@example.test").succeeded();
    send("smtp", "submission", &login, "bob@example.test").succeeded();
    send("smtps", "submissions", &login, "bob@example.test").succeeded();
    let texts = inbox(&system, "bob@example.test", 3);
    for (text, protocol) in texts.iter().zip(["ESMTPS", "ESMTPSA", "ESMTPSA"]) {
        assert_whole(text, protocol);
    }
    assert_told(&send("smtp", "smtp", &[], "nobody@example.test"));
}

#[test]
fn pythons_smtplib_submits_on_both_ports() {
    skip_without!("python3");
    let system = System::start(Options::default());
    let script = r#"
def send(client):
    with client:
        client.login(ALICE, password)
        refused = client.sendmail(ALICE, [BOB, "nobody@example.test"], letter)
        assert refused["nobody@example.test"][0] == 550, refused
clear = smtplib.SMTP("localhost", ports["submission"], timeout=30)
clear.starttls(context=trust())
send(clear)
send(smtplib.SMTP_SSL("localhost", ports["submissions"], context=trust(), timeout=30))
"#;
    system.python(script, &json!({"letter": LETTER}));
    for text in inbox(&system, "bob@example.test", 2) {
        assert_whole(&text, "ESMTPSA");
    }
}

#[test]
fn aiosmtplib_submits_on_both_ports_and_many_at_once() {
    skip_unless!(
        python::has("aiosmtplib"),
        "python3-aiosmtplib is not installed"
    );
    let system = System::start(Options::default());
    let script = r#"
import asyncio
import aiosmtplib

async def send(port, **how):
    async with aiosmtplib.SMTP(hostname="localhost", port=port, tls_context=trust(), **how) as client:
        await client.login(ALICE, password)
        refused, _ = await client.sendmail(ALICE, [BOB, "nobody@example.test"], letter)
        assert refused["nobody@example.test"].code == 550, refused

async def main():
    await asyncio.gather(*(send(ports["submission"], start_tls=True) for _ in range(10)), *(send(ports["submissions"], use_tls=True) for _ in range(10)))

asyncio.run(main())
"#;
    system.python(script, &json!({"letter": LETTER}));
    for text in inbox(&system, "bob@example.test", 20) {
        assert_whole(&text, "ESMTPSA");
    }
}

#[test]
fn nodemailer_submits_on_both_ports() {
    skip_without!("node");
    skip_unless!(
        Path::new("/usr/share/nodejs/nodemailer").exists(),
        "node-nodemailer is not installed"
    );
    let system = System::start(Options::default());
    let script = r#"
const fs = require('fs'), nodemailer = require('nodemailer');
const given = JSON.parse(process.env.RMAIL_TEST);
async function send(port, secure) {
    const transport = nodemailer.createTransport({
        host: 'localhost', port, secure, requireTLS: true,
        auth: {user: 'alice@example.test', pass: given.password},
        tls: {ca: fs.readFileSync(given.ca_file)},
    });
    const envelope = {from: 'alice@example.test', to: ['bob@example.test', 'nobody@example.test']};
    const info = await transport.sendMail({envelope, raw: given.letter});
    if (info.rejected.join() !== 'nobody@example.test' || info.rejectedErrors[0].responseCode !== 550)
        throw new Error(JSON.stringify(info));
    transport.close();
}
(async () => {
    await send(given.ports.submission, false);
    await send(given.ports.submissions, true);
})().catch(error => { console.error(error); process.exit(1); });
"#;
    let mut node = program::command("node");
    node.env("NODE_PATH", "/usr/share/nodejs")
        .env(
            "RMAIL_TEST",
            system.variables(&json!({"letter": LETTER})).to_string(),
        )
        .args(["-e", script]);
    program::run(&mut node, b"", LIMIT).succeeded();
    for text in inbox(&system, "bob@example.test", 2) {
        assert_whole(&text, "ESMTPSA");
    }
}

/// Postfix brings a message, and reports the recipient that is refused.
fn relay_through(system: &System, transport: &str, protocol: &str) {
    let postfix = Postfix::with_transport(transport);
    let mut client = Client::hello(postfix.address()).unwrap();
    for to in ["bob@example.test", "nobody@example.test"] {
        client
            .deliver("carol@outside.test", to, LETTER.as_bytes())
            .unwrap();
    }
    let texts = inbox(system, "bob@example.test", 1);
    assert_whole(&texts[0], protocol);
    let report = postfix.wait_for_delivery(LIMIT);
    let report = String::from_utf8(report).unwrap();
    assert!(report.contains("no such user here"), "{report}");
}

fn with_lmtp(config: &Value) -> System {
    System::start(Options::default().config(config))
}

#[test]
fn postfix_brings_mail_over_smtp() {
    skip_unless!(
        Postfix::is_possible(),
        "Postfix must be installed, and only root can start it"
    );
    let system = System::start(Options::default());
    let transport = format!("smtp:[127.0.0.1]:{}", system.port("smtp"));
    relay_through(&system, &transport, "ESMTPS");
}

#[test]
fn postfix_brings_mail_over_lmtp_on_a_port() {
    skip_unless!(
        Postfix::is_possible(),
        "Postfix must be installed, and only root can start it"
    );
    let port = Port::reserve();
    let system = with_lmtp(&json!({"smtp": {"lmtp_port": port.number()}}));
    let transport = format!("lmtp:inet:127.0.0.1:{}", port.number());
    relay_through(&system, &transport, "LMTP");
}

#[test]
fn postfix_brings_mail_over_lmtp_on_a_socket() {
    skip_unless!(
        Postfix::is_possible(),
        "Postfix must be installed, and only root can start it"
    );
    let system = with_lmtp(&json!({"smtp": {"lmtp_socket_user": "postfix"}}));
    let socket = system.home().run_dir().join("lmtp.sock");
    relay_through(&system, &format!("lmtp:unix:{}", socket.display()), "LMTP");
}

#[test]
fn opensmtpd_brings_mail_to_every_port() {
    let Some(program) = program::fetched("opensmtpd/usr/bin/smtp") else {
        eprintln!("SKIPPED: tests/prepare could not fetch opensmtpd");
        return;
    };
    let port = Port::reserve();
    let lmtp = json!({"smtp": {"lmtp_port": port.number()}});
    let mut options = Options::default().config(&lmtp);
    // Where the client reads it there can be no spaces.
    for (_, password) in &mut options.users {
        *password = "wonderland".into();
    }
    let system = System::start(options);
    let send = |server: &str, to: &str| {
        let mut smtp = Command::new(&program);
        smtp.args(["-C", "-F", "alice@example.test", "-s", server, to])
            .env("SSL_CERT_FILE", system.ca_file());
        program::run(&mut smtp, LETTER.replace("\r\n", "\n").as_bytes(), LIMIT)
    };
    let place = |scheme: &str, port: u16| format!("{scheme}://127.0.0.1:{port}");
    let account = |scheme: &str, listener: &str| {
        let port = system.port(listener);
        format!("{scheme}://alice@example.test:wonderland@127.0.0.1:{port}")
    };
    for (server, protocol) in [
        (place("smtp+notls", system.port("smtp")), "ESMTP"),
        (place("smtp+tls", system.port("smtp")), "ESMTPS"),
        (account("smtp+tls", "submission"), "ESMTPSA"),
        (account("smtps", "submissions"), "ESMTPSA"),
        (place("lmtp+notls", port.number()), "LMTP"),
    ] {
        send(&server, "bob@example.test").succeeded();
        let texts = system.account("bob@example.test").messages("INBOX");
        let text = String::from_utf8(texts.last().unwrap().bytes()).unwrap();
        assert_whole(&text, protocol);
        // It says so, and ends as if all were well.
        let told = send(&server, "nobody@example.test").text();
        assert!(told.contains("550 5.1.1"), "{told}");
    }
}
