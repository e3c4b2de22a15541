//! Logins with mechanisms beside a password in the clear, by clients we did not write, and what becomes of those who guess.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::time::Duration;

use serde_json::{Value, json};
use system_tests::options::PASSWORD;
use system_tests::program::{self, Outcome};
use system_tests::{Options, System, skip_without};

const LIMIT: Duration = Duration::from_secs(60);
const ALICE: &str = "alice@example.test";

/// Sends a message to bob over submission with STARTTLS.
fn msmtp(system: &System, mechanism: &str, secret: &str) -> Outcome {
    let mut command = program::command("msmtp");
    command
        .args(["--file=/dev/null", "--host=localhost", "--tls=on"])
        .arg(format!("--port={}", system.port("submission")))
        .arg(format!("--tls-trust-file={}", system.ca_file().display()))
        .args([format!("--auth={mechanism}"), format!("--user={ALICE}")])
        .arg(format!("--passwordeval=echo {secret}"))
        .args([&format!("--from={ALICE}"), "--", "bob@example.test"]);
    let message = format!("From: {ALICE}\nSubject: {mechanism}\n\nhello\n");
    program::run(&mut command, message.as_bytes(), LIMIT)
}

/// Logs in to a listener that begins in clear text, and out again.
fn gsasl(system: &System, protocol: &str, mechanism: &str, password: &str) -> Outcome {
    let listener = match protocol {
        "--smtp" => "submission",
        _ => "imap",
    };
    let mut command = program::command("gsasl");
    command
        .args(["--client", protocol, "--starttls", "--mechanism", mechanism])
        .arg(format!("--connect=localhost:{}", system.port(listener)))
        .arg(format!("--x509-ca-file={}", system.ca_file().display()))
        .args(["--authentication-id", ALICE, "--password", password]);
    // It refuses to log in without binding where it could.
    if !mechanism.ends_with("-PLUS") {
        command.arg("--no-cb");
    }
    program::run(&mut command, b"", LIMIT)
}

/// A token of the API.
fn token(system: &System) -> String {
    let script = r#"
import http.client
api = http.client.HTTPConnection("127.0.0.1", given["ports"]["api"], timeout=30)
login = json.dumps({"username": ALICE, "password": password})
api.request("POST", "/auth/login", login, {"Content-Type": "application/json"})
open(f"{run_dir}/../token", "w").write(json.load(api.getresponse())["token"])
"#;
    system.python(script, &json!({}));
    let file = system.home().run_dir().join("../token");
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn msmtp_logs_in_with_scram_and_with_tokens() {
    skip_without!("msmtp", "python3");
    let system = System::start(Options::default());
    msmtp(&system, "scram-sha-256", PASSWORD).succeeded();
    let token = token(&system);
    msmtp(&system, "oauthbearer", &token).succeeded();
    msmtp(&system, "xoauth2", &token).succeeded();
    let messages = system.account("bob@example.test").messages("INBOX");
    assert_eq!(messages.len(), 3);
    for (mechanism, secret) in [
        ("scram-sha-256", "wrong"),
        ("oauthbearer", "false"),
        ("xoauth2", "false"),
    ] {
        let refused = msmtp(&system, mechanism, secret);
        assert_ne!(refused.code(), 0, "{mechanism}");
        let said = refused.text();
        assert!(said.contains("5.7.8"), "{mechanism}: {said}");
    }
    assert!(!system.log().contains(&token), "a token is in the log");
}

#[test]
fn gsasl_binds_its_login_to_tls() {
    skip_without!("gsasl");
    let system = System::start(Options::alice());
    for mechanism in ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"] {
        for protocol in ["--smtp", "--imap"] {
            let trusted = gsasl(&system, protocol, mechanism, PASSWORD).succeeded();
            let said = trusted.text();
            assert!(said.contains("server trusted"), "{mechanism}: {said}");
            let refused = gsasl(&system, protocol, mechanism, "wrong");
            let said = refused.text();
            assert!(!said.contains("server trusted"), "{mechanism}: {said}");
            assert!(said.contains("wrong user name or password"), "{said}");
        }
    }
}

#[test]
fn python_logs_in_to_imap_with_a_token() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    let token = token(&system);
    let script = r#"
def client():
    return imaplib.IMAP4_SSL("localhost", given["ports"]["imaps"], ssl_context=trust())
good = f"n,a={ALICE},\x01auth=Bearer {given['token']}\x01\x01".encode()
ok(client().authenticate("OAUTHBEARER", lambda _: good))
said = []
def bad(challenge):
    said.append(challenge)
    return f"user={ALICE}\x01auth=Bearer false\x01\x01".encode() if len(said) == 1 else b""
try:
    client().authenticate("XOAUTH2", bad)
    raise AssertionError("a false token was taken")
except imaplib.IMAP4.error as error:
    assert "AUTHENTICATIONFAILED" in str(error), error
assert json.loads(said[1])["status"] == "401", said
"#;
    system.python(script, &json!({"token": token}));
}

/// The locks, as `rmailctl ban list --json` shows them.
fn bans(system: &System) -> Vec<Value> {
    let shown = system.rmailctl(&["ban", "list", "--json"]).succeeded();
    let Value::Array(bans) = serde_json::from_str(&shown.text()).unwrap() else {
        panic!("no array: {}", shown.text());
    };
    bans
}

#[test]
fn guesses_at_all_doors_together_lock_an_account_until_it_is_lifted() {
    skip_without!("python3");
    let limits = json!({"limits": {"auth_failures": 3, "auth_failures_per_network": 100, "connections_per_address": 0}});
    let mut system = System::start(Options::default().config(&limits));
    let script = r#"
import http.client
def attempt(how, user, secret):
    try:
        how(user, secret)
        return True
    except (imaplib.IMAP4.error, smtplib.SMTPAuthenticationError, PermissionError):
        return False
def api(user, secret):
    connection = http.client.HTTPConnection("127.0.0.1", given["ports"]["api"], timeout=30)
    login = json.dumps({"username": user, "password": secret})
    connection.request("POST", "/auth/login", login, {"Content-Type": "application/json"})
    if connection.getresponse().status != 200:
        raise PermissionError
if given["guess"]:
    # The same wrong password counts once; each other one counts wherever it is tried.
    for how in [imap, imap, submission, imap, api]:
        assert not attempt(how, ALICE, "the old one")
    assert not attempt(submission, ALICE, "wrong 1")
    assert not attempt(api, ALICE, "wrong 2")
for how in [imap, submission, api]:
    assert attempt(how, ALICE, password) == given["open"], how
    assert attempt(how, BOB, password), how
"#;
    let try_all = |system: &System, guess: bool, open: bool| {
        system.python(script, &json!({"guess": guess, "open": open}));
    };
    try_all(&system, true, false);
    let locked = bans(&system);
    assert_eq!(locked.len(), 1, "{locked:?}");
    assert_eq!(locked[0]["network"], "127.0.0.0/24");
    assert_eq!(locked[0]["account"], ALICE);
    assert_eq!(locked[0]["reason"], "3 failed logins as this account");
    assert!(locked[0]["until"].as_i64() > locked[0]["since"].as_i64());
    let before = system.kill("imapd");
    system.wait_for_restart("imapd", before);
    assert!(system.stop().success());
    system.start_again();
    try_all(&system, false, false);
    system.rmailctl(&["ban", "lift", "127.0.0.1"]).succeeded();
    assert_eq!(bans(&system), Vec::<Value>::new());
    assert_ne!(system.rmailctl(&["ban", "lift", ALICE]).code(), 0);
    try_all(&system, false, true);
}

/// Runs openssl in the system's directory.
fn openssl(system: &System, arguments: &str) {
    let mut command = program::command("openssl");
    command.current_dir(system.dir()).args(arguments.split(' '));
    program::run(&mut command, b"", LIMIT).succeeded();
}

/// Makes an authority `NAME.pem` in the system's directory.
fn make_authority(system: &System, name: &str) {
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(
        system,
        &format!("{new} -subj /CN={name} -keyout {name}.key -out {name}.pem"),
    );
}

/// Makes a client's certificate `NAME.pem` for these names.
fn make_client(system: &System, name: &str, authority: &str, names: &str) {
    let extensions = format!("subjectAltName={names}\nextendedKeyUsage=clientAuth\n");
    std::fs::write(system.dir().join("extensions"), extensions).unwrap();
    let new = "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        system,
        &format!("{new} -subj /CN={name} -keyout {name}.key -out {name}.csr"),
    );
    openssl(
        system,
        &format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -set_serial 1 -days 2 \
             -extfile extensions -out {name}.pem"
        ),
    );
}

#[test]
fn msmtp_logs_in_with_a_certificate_that_names_its_account() {
    skip_without!("msmtp", "openssl");
    let mut system = System::start(Options::default());
    for authority in ["ours", "theirs"] {
        make_authority(&system, authority);
    }
    make_client(
        &system,
        "good",
        "ours",
        "DNS:x.test,email:alice@example.test",
    );
    make_client(&system, "nameless", "ours", "DNS:alice.example.test");
    make_client(&system, "bob", "ours", "email:bob@example.test");
    make_client(&system, "forged", "theirs", "email:alice@example.test");
    let submit = |system: &System, client: &str| {
        let file = |end: &str| system.dir().join(format!("{client}.{end}"));
        let mut command = program::command("msmtp");
        command
            .args(["--file=/dev/null", "--host=localhost", "--tls=on"])
            .arg(format!("--port={}", system.port("submission")))
            .arg(format!("--tls-trust-file={}", system.ca_file().display()))
            .arg(format!("--tls-cert-file={}", file("pem").display()))
            .arg(format!("--tls-key-file={}", file("key").display()))
            .arg(format!("--user={ALICE}"))
            .args(["--auth=external", &format!("--from={ALICE}"), "--"])
            .arg("bob@example.test");
        let message = format!("From: {ALICE}\nSubject: {client}\n\nhello\n");
        program::run(&mut command, message.as_bytes(), LIMIT)
    };
    assert_ne!(submit(&system, "good").code(), 0, "not configured");
    assert!(system.stop().success());
    let authority = system.dir().join("ours.pem");
    system
        .home()
        .configure(&json!({"tls": {"client_ca_file": authority}}));
    system.start_again();
    submit(&system, "good").succeeded();
    for client in ["nameless", "bob", "forged"] {
        let refused = submit(&system, client);
        assert_ne!(refused.code(), 0, "{client}");
    }
    // Without a certificate a password is as good as ever.
    msmtp(&system, "scram-sha-256", PASSWORD).succeeded();
    let messages = system.account("bob@example.test").messages("INBOX");
    assert_eq!(messages.len(), 2);
}

#[test]
fn python_logs_in_to_imap_with_a_certificate_that_names_its_account() {
    skip_without!("python3", "openssl");
    let mut system = System::start(Options::default());
    for authority in ["ours", "theirs"] {
        make_authority(&system, authority);
    }
    let alice = "email:alice@example.test";
    make_client(&system, "good", "ours", alice);
    make_client(
        &system,
        "two",
        "ours",
        &format!("{alice},email:bob@example.test"),
    );
    make_client(&system, "nameless", "ours", "DNS:alice.example.test");
    make_client(&system, "nobody", "ours", "email:nobody@example.test");
    make_client(&system, "forged", "theirs", alice);
    let script = r#"
import ssl
def client(name):
    context = trust()
    if name:
        context.load_cert_chain(f"{given['dir']}/{name}.pem", f"{given['dir']}/{name}.key")
    return imaplib.IMAP4_SSL("localhost", given["ports"]["imaps"], ssl_context=context)
def external(name, identity):
    connection = client(name)
    assert "AUTH=EXTERNAL" in connection.capabilities, connection.capabilities
    ok(connection.authenticate("EXTERNAL", lambda _: identity))
    return connection
def refused(name, identity):
    try:
        external(name, identity)
    except imaplib.IMAP4.error as error:
        assert "AUTHENTICATIONFAILED" in str(error), error
        return True
def offered(name):
    return "AUTH=EXTERNAL" in client(name).capabilities

if not given["configured"]:
    assert not offered("good")
    raise SystemExit
assert not offered(None) and not offered("nameless")
ok(external("good", b"").append("INBOX", None, None, b"Subject: mine\r\n\r\nx\r\n"))
for name, identity in (("good", ALICE.encode()), ("two", ALICE.encode())):
    mine = external(name, identity)
    assert ok(mine.select("INBOX")) == [b"1"], name
assert ok(external("two", BOB.encode()).select("INBOX")) == [b"0"]
for name, identity in (("good", BOB.encode()), ("two", b""), ("nobody", b""), ("nobody", ALICE.encode())):
    assert refused(name, identity), (name, identity)
try:
    client("forged")
    raise AssertionError("a forged certificate was taken")
except (ssl.SSLError, OSError, imaplib.IMAP4.abort):
    pass
# STARTTLS asks for one, too; without one a password is as good as ever.
context = trust()
context.load_cert_chain(f"{given['dir']}/good.pem", f"{given['dir']}/good.key")
upgraded = imaplib.IMAP4("localhost", given["ports"]["imap"])
ok(upgraded.starttls(context))
ok(upgraded.authenticate("EXTERNAL", lambda _: b""))
ok(imap().select("INBOX"))
"#;
    let mut given = json!({"dir": system.dir(), "configured": false});
    system.python(script, &given);
    assert!(system.stop().success());
    let authority = system.dir().join("ours.pem");
    system
        .home()
        .configure(&json!({"tls": {"client_ca_file": authority}}));
    system.start_again();
    given["configured"] = json!(true);
    system.python(script, &given);
}
