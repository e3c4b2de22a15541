//! Signatures of strangers are verified, and ours by them: Debian's opendkim and Python's dkimpy.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dkim::{
    Algorithm, Answer, Answers, ChainVerdict, Flaw, Limits, Outcome, Signer, SigningKey, Verdict,
    Verifier,
};
use serde_json::{Value, json};
use system_tests::{program, python, skip_unless, skip_without};

const RSA: &str = "rsa";
const ED25519: &str = "ed25519";
const CANONS: [&str; 4] = [
    "simple/simple",
    "simple/relaxed",
    "relaxed/simple",
    "relaxed/relaxed",
];

/// Keys of example.org, and a directory for what programs read and write.
struct World {
    dir: tempfile::TempDir,
    answers: Answers,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self {
            dir,
            answers: Answers::new(),
        };
        world.openssl(&[
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
            "-out",
            "rsa.pem",
        ]);
        world.openssl(&["genpkey", "-algorithm", "ed25519", "-out", "ed25519.pem"]);
        for kind in [RSA, ED25519] {
            let (pem, der) = (format!("{kind}.pem"), format!("{kind}.der"));
            world.openssl(&[
                "pkcs8", "-topk8", "-nocrypt", "-in", &pem, "-outform", "DER", "-out", &der,
            ]);
            let record = world.key(kind).record().unwrap();
            let answer = Answer::Records(vec![record.into_bytes()]);
            world
                .answers
                .insert(format!("{kind}._domainkey.example.org"), answer);
        }
        world.write_opendkim();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = program::command("openssl");
        command.args(arguments).current_dir(self.dir.path());
        program::run(&mut command, b"", Duration::from_secs(60)).succeeded();
    }

    fn key(&self, kind: &str) -> SigningKey {
        let der = std::fs::read(self.path(&format!("{kind}.der"))).unwrap();
        SigningKey::from_pkcs8(&der).unwrap()
    }

    fn record(&self, kind: &str) -> String {
        self.key(kind).record().unwrap()
    }

    /// opendkim takes keys from a file in its tests, and names without a dot at the end.
    fn write_opendkim(&self) {
        let key = format!("{RSA}._domainkey.example.org {}\n", self.record(RSA));
        let keys = self.write("keys", key.as_bytes());
        let config = format!("TestPublicKeys {}\nRequireSafeKeys no\n", keys.display());
        self.write("opendkim.conf", config.as_bytes());
    }

    fn opendkim(&self, arguments: &[&str], file: &Path) -> program::Outcome {
        let mut command = program::command("opendkim");
        command.arg("-x").arg(self.path("opendkim.conf"));
        command.args(arguments).arg("-v").arg("-t").arg(file);
        program::run(&mut command, b"", Duration::from_secs(60)).succeeded()
    }

    /// Runs a script of dkimpy, which finds the keys as `pem`, `seed` and through `lookup`.
    fn dkimpy(&self, script: &str, more: Value) -> Value {
        // The key itself stands at the end of its PKCS #8 form.
        let der = std::fs::read(self.path("ed25519.der")).unwrap();
        let variables = json!({
            "dir": self.dir.path(),
            "pem_file": self.path("rsa.pem"),
            "seed": mail::encode::base64(&der[der.len() - 32..]),
            "records": {
                "rsa._domainkey.example.org.": self.record(RSA),
                "ed25519._domainkey.example.org.": self.record(ED25519),
            },
            "more": more,
        });
        let prelude = r#"
import dkim, json, pathlib
def lookup(name, timeout=5):
    return records[(name.decode() if isinstance(name, bytes) else name)].encode()
pem = pathlib.Path(pem_file).read_bytes()
secrets = {"rsa": pem, "ed25519": seed.encode()}
dir = pathlib.Path(dir)
"#;
        let mut command = python::command(&format!("{prelude}{script}"), &variables);
        let outcome = program::run(&mut command, b"", Duration::from_secs(120)).succeeded();
        serde_json::from_str(&outcome.stdout).unwrap()
    }

    fn sign(&self, kind: &str, message: &[u8]) -> Vec<u8> {
        let key = self.key(kind);
        let domain = mail::address::Domain::parse("example.org").unwrap();
        let mut signer = Signer::new(&key, domain, kind);
        message.chunks(7).for_each(|piece| signer.feed(piece));
        [signer.end(now()).unwrap().as_bytes(), message].concat()
    }

    fn verify(&self, message: &[u8]) -> Outcome {
        let mut verifier = Verifier::new(Limits::default());
        message.chunks(11).for_each(|piece| verifier.feed(piece));
        verifier.end().judge(&self.answers, now())
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs()
}

/// Messages whose forms differ in every way that forms can.
fn messages() -> Vec<Vec<u8>> {
    let header = "From: Joe <joe@example.org>\r\nTo: Suzie\r\n\t<suzie@example.net>,\r\n  b@example.net\r\n\
Subject:   Is   dinner\t ready?  \r\nDate: Fri, 11 Jul 2003 21:00:37 -0700\r\nMessage-ID: <1@example.org>\r\n\
MIME-Version: 1.0\r\nX-Empty:\r\nReceived: from a by b; Fri, 11 Jul 2003 21:00:38 -0700\r\n\
Received: from c by a;\r\n Fri, 11 Jul 2003 21:00:37 -0700\r\n\r\n";
    let long = format!("{}\r\n", "words and  more  words ".repeat(40)).repeat(400);
    let bodies = [
        "",
        "Hi.\r\n\r\nWe  lost the game.\t \r\n .\r\n",
        "hello\r\n \t\r\n",
        " \r\n",
        "\r\n\r\n\r\n",
        "blank lines\r\n\r\n  \r\n\r\n",
        " \tindented\r\n\tand tabs\t\there\r\n",
        "Grüße, привет, 你好\r\n",
        &long,
    ];
    bodies
        .iter()
        .map(|body| [header.as_bytes(), body.as_bytes()].concat())
        .collect()
}

/// The one signature of a message.
#[track_caller]
fn only(outcome: &Outcome) -> &dkim::Signature {
    assert_eq!(outcome.signatures.len(), 1, "{outcome:?}");
    &outcome.signatures[0]
}

#[test]
fn opendkim_believes_our_signature_and_no_changed_message() {
    skip_without!("opendkim", "openssl");
    let world = World::new();
    for message in messages() {
        let signed = world.sign(RSA, &message);
        assert!(only(&world.verify(&signed)).passes());
        let said = world.opendkim(&[], &world.write("signed", &signed));
        assert!(said.text().contains("succeeded"), "{}", said.text());
        let text = String::from_utf8(signed).unwrap();
        let changed = text.replace("Is   dinner", "Is no dinner");
        let said = world.opendkim(&[], &world.write("changed", changed.as_bytes()));
        assert!(!said.text().contains("succeeded"), "{}", said.text());
    }
}

#[test]
fn signatures_of_opendkim_are_believed_in_every_form() {
    skip_without!("opendkim", "openssl");
    let world = World::new();
    let key = world.path("rsa.pem");
    for canon in CANONS {
        let arguments = [
            "-b",
            "s",
            "-d",
            "example.org",
            "-s",
            RSA,
            "-c",
            canon,
            "-k",
            key.to_str().unwrap(),
        ];
        for message in messages() {
            // It takes mail as a milter, to which the blanks after the colon are not told.
            let text = String::from_utf8(message).unwrap();
            let message = text.replace("Subject:   ", "Subject: ").into_bytes();
            let file = world.write("message", &message);
            let said = world.opendkim(&arguments, &file).stdout;
            let start = said.find("DKIM-Signature:").expect(&said);
            let field: Vec<_> = said[start..].lines().collect();
            let signed = [field.join("\r\n").as_bytes(), b"\r\n", &message].concat();
            let outcome = world.verify(&signed);
            assert_eq!(only(&outcome).flaw, None, "{canon}: {said}");
            assert_eq!(only(&outcome).algorithm, Some(Algorithm::RsaSha256));
            let changed = [&signed[..], b"."].concat();
            let outcome = world.verify(&changed);
            assert_eq!(only(&outcome).flaw, Some(Flaw::BodyChanged), "{canon}");
        }
    }
}

#[test]
fn sha1_of_opendkim_is_not_believed() {
    skip_without!("opendkim-testmsg", "openssl");
    let world = World::new();
    let mut command = program::command("opendkim-testmsg");
    command.args(["-C", "-d", "example.org", "-s", RSA, "-k"]);
    command.arg(world.path("rsa.pem"));
    let message = &messages()[1];
    let outcome = program::run(&mut command, message, Duration::from_secs(60)).succeeded();
    let signed = outcome.stdout;
    skip_unless!(
        signed.contains("rsa-sha1"),
        "this opendkim-testmsg signs otherwise"
    );
    assert_eq!(
        only(&world.verify(signed.as_bytes())).flaw,
        Some(Flaw::Sha1)
    );
}

#[test]
fn dkimpy_believes_our_signatures() {
    skip_without!("openssl");
    skip_unless!(python::has("dkim, nacl"), "python3-dkim is not installed");
    let world = World::new();
    let mut names = Vec::new();
    for kind in [RSA, ED25519] {
        for (number, message) in messages().iter().enumerate() {
            let signed = world.sign(kind, message);
            assert!(only(&world.verify(&signed)).passes());
            let name = format!("{kind}{number}");
            world.write(&name, &signed);
            names.push(name);
        }
    }
    let script = r#"
for name in more:
    signed = (dir / name).read_bytes()
    assert dkim.verify(signed, dnsfunc=lookup), name
    assert not dkim.verify(signed.replace(b"Is   dinner", b"No  dinner"), dnsfunc=lookup), name
    assert not dkim.verify(b"Subject: added\r\n" + signed, dnsfunc=lookup), name
    assert not dkim.verify(signed + b"x", dnsfunc=lookup), name
print(len(more))
"#;
    assert_eq!(world.dkimpy(script, json!(names)), json!(names.len()));
}

#[test]
fn signatures_of_dkimpy_are_believed_in_every_form() {
    skip_without!("openssl");
    skip_unless!(python::has("dkim, nacl"), "python3-dkim is not installed");
    let world = World::new();
    for (number, message) in messages().iter().enumerate() {
        world.write(&format!("message{number}"), message);
    }
    let script = r#"
fields = []
for number in range(more["messages"]):
    message = (dir / f"message{number}").read_bytes()
    for kind in ("rsa", "ed25519"):
        for canon in more["canons"]:
            for length in (False, True):
                field = dkim.sign(message, kind.encode(), b"example.org", secrets[kind],
                    canonicalize=tuple(canon.encode().split(b"/")), signature_algorithm=f"{kind}-sha256".encode(), length=length)
                fields.append([number, canon, length, field.decode()])
print(json.dumps(fields))
"#;
    let more = json!({"messages": messages().len(), "canons": CANONS});
    let fields = world.dkimpy(script, more);
    let fields = fields.as_array().unwrap();
    assert_eq!(fields.len(), messages().len() * 2 * 4 * 2);
    for signature in fields {
        let number = usize::try_from(signature[0].as_u64().unwrap()).unwrap();
        let field = signature[3].as_str().unwrap();
        let signed = [field.as_bytes(), &messages()[number]].concat();
        let outcome = world.verify(&signed);
        assert_eq!(only(&outcome).flaw, None, "{signature}");
        assert_eq!(only(&outcome).limited, signature[2].as_bool().unwrap());
        // Where l= says how much was signed, more may follow: the signature holds, and does not count.
        let added = world.verify(&[&signed[..], b"added\r\n"].concat());
        match only(&added).flaw {
            Some(Flaw::Uncovered(octets)) => {
                assert!(only(&added).limited && octets >= 7, "{signature}");
                assert_eq!(only(&added).verdict, Verdict::Policy);
            }
            flaw => {
                assert_eq!(flaw, Some(Flaw::BodyChanged), "{signature}");
                // dkimpy counts a body of no lines as the line end that simple makes of it.
                assert!(!only(&added).limited || number < 5, "{signature}");
            }
        }
    }
}

#[test]
fn chains_of_dkimpy_hold_until_something_changes_behind_the_last_link() {
    skip_without!("openssl");
    skip_unless!(
        python::has("dkim, authres"),
        "python3-dkim and python3-authres are not installed"
    );
    let world = World::new();
    world.write("message", &messages()[1]);
    let script = r#"
message = (dir / "message").read_bytes()
for hop in range(1, 4):
    results = b"" if hop == 1 else b"arc=pass; "
    name = b"lists%d.example.org" % hop
    message = b"Authentication-Results: " + name + b"; " + results + b"spf=pass smtp.mfrom=hop%d.example\r\n" % hop + message
    fields = dkim.arc_sign(message, b"rsa", b"example.org", pem, name)
    assert len(fields) == 3, fields
    message = b"".join(fields) + message
    assert dkim.arc_verify(message, dnsfunc=lookup)[0] == b"pass", hop
    (dir / f"hop{hop}").write_bytes(message)
    # Each list changes the message before it passes it on.
    message = message.replace(b"Subject: ", b"Subject: [list] ") + b"footer %d\r\n" % hop
print(json.dumps(dkim.arc_verify(message, dnsfunc=lookup)[0].decode()))
"#;
    assert_eq!(world.dkimpy(script, json!(null)), json!("fail"));
    for hop in 1..=3 {
        let sealed = std::fs::read(world.path(&format!("hop{hop}"))).unwrap();
        let chain = world.verify(&sealed).chain;
        assert_eq!(chain.flaw, None, "hop {hop}");
        assert_eq!(chain.verdict, ChainVerdict::Pass);
        assert_eq!(chain.sealers.len(), hop);
        assert_eq!(chain.newest().unwrap().domain.as_str(), "example.org");
        let results = chain.newest().unwrap().results.clone();
        let results = String::from_utf8(results).unwrap();
        assert!(
            results.starts_with(&format!("lists{hop}.example.org;")),
            "{results}"
        );
        assert!(
            results.contains(&format!("smtp.mfrom=hop{hop}.example")),
            "{results}"
        );
        let changed = world.verify(&[&sealed[..], b"x"].concat()).chain;
        assert_eq!(
            changed.flaw,
            Some(dkim::ChainFlaw::Message(Flaw::BodyChanged))
        );
        assert!(changed.sealers.is_empty());
        let text = String::from_utf8(sealed).unwrap();
        let changed = text.replace("hop1.example", "evil.example");
        let chain = world.verify(changed.as_bytes()).chain;
        let flaw = dkim::ChainFlaw::Seal(1, Flaw::HeaderChanged);
        assert_eq!(chain.flaw, Some(flaw), "hop {hop}");
    }
}
