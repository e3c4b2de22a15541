//! DKIM: a key is made, published, seen, and signs; what it signs is believed by others; it is rotated, and survives kills.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use loopback::Port;
use serde_json::{Value, json};
use system_tests::dns::NameServer;
use system_tests::options::PASSWORD;
use system_tests::patience::wait_for;
use system_tests::program::{self, Service};
use system_tests::smtp::Client;
use system_tests::system::Home;
use system_tests::{Options, System, python, sink, skip_unless, skip_without};

const ALICE: &str = "alice@example.test";

/// alice, and a server of outside.test that writes what it gets into files.
struct World {
    system: System,
    names: NameServer,
    _sink: Service,
    _port: Port,
    mails: PathBuf,
    dir: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let options = Options::alice();
        let home = Home::prepare(&options);
        let names = NameServer::start();
        let dir = tempfile::Builder::new()
            .prefix("rmail-signing-")
            .tempdir_in("/tmp")
            .unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let (port, mails) = (Port::reserve(), dir.path().join("mails"));
        let sink = sink::start(&port, &mails, &[]);
        home.configure(&json!({
            "relay": {"dns": [names.address()], "port": port.number(), "retry_seconds": [1, 1, 1, 1, 1, 60]},
            "smtp": {"cleartext_auth_on_loopback": true},
        }));
        Self {
            system: System::launch(home, &options),
            names,
            _sink: sink,
            _port: port,
            mails,
            dir,
        }
    }

    fn dkim(&self, arguments: &[&str]) -> Value {
        let words = [&["dkim"], arguments, &["--json"]].concat();
        let said = self.system.rmailctl(&words).succeeded();
        serde_json::from_str(&said.stdout).unwrap()
    }

    /// Puts the records of keys into DNS, and waits until these sign.
    fn publish(&mut self, keys: &[Value]) {
        let mut zone = String::new();
        for key in keys {
            let selector = key["selector"].as_str().unwrap();
            let strings = key["record"]["strings"].as_array().unwrap();
            let strings: Vec<_> = strings.iter().map(Value::to_string).collect();
            zone += &format!("{selector}._domainkey.example TXT {}\n", strings.join(" "));
        }
        self.names.publish(&zone);
        for key in keys {
            self.wait_for_state(key["selector"].as_str().unwrap(), "signing");
        }
    }

    fn state(&self, selector: &str) -> Option<String> {
        let all = self.dkim(&["list", "example.test"]);
        let all = all.as_array().unwrap().iter();
        let mut found = all.filter(|key| key["selector"] == selector);
        Some(found.next()?["state"].as_str()?.to_owned())
    }

    fn wait_for_state(&self, selector: &str, state: &str) {
        let is = || (self.state(selector)? == state).then_some(());
        wait_for(Duration::from_secs(90), is)
            .unwrap_or_else(|error| panic!("{selector}: {error}\n{}", self.system.log()));
    }

    /// alice sends a message as `from`; returns it as it arrives, from the first field that we wrote.
    fn send(&self, from: &str, subject: &str) -> String {
        let mut client = Client::hello(self.system.address("submission")).unwrap();
        client.login(ALICE, PASSWORD).unwrap();
        let text = format!(
            "From: {from}\r\nTo: carol@outside.test\r\nSubject:  {subject}\r\n\r\nHello,  world.\t\r\n\r\n\r\n"
        );
        client
            .deliver(ALICE, "carol@outside.test", text.as_bytes())
            .unwrap();
        let wanted = format!("Subject:  {subject}\n");
        let arrived = || {
            let files = std::fs::read_dir(&self.mails).unwrap();
            let mut texts =
                files.filter_map(|file| std::fs::read_to_string(file.unwrap().path()).ok());
            texts.find(|text| text.contains(&wanted) && text.contains("world."))
        };
        let text = wait_for(Duration::from_secs(60), arrived)
            .unwrap_or_else(|error| panic!("{subject}: {error}\n{}", self.system.log()));
        // What the sink wrote above it has no part in it.
        let ours = ["\nDKIM-Signature:", "\nReceived: from client"];
        let begin = ours.iter().filter_map(|field| text.find(field)).min();
        text[begin.unwrap() + 1..].replace('\n', "\r\n")
    }

    /// Domain and selector of each signature, and whether dkimpy believes it.
    fn dkimpy(&self, message: &str, keys: &[Value]) -> Vec<(String, String, bool)> {
        let records: Value = keys
            .iter()
            .map(|key| {
                let name = format!("{}.", key["record"]["name"].as_str().unwrap());
                (name, key["record"]["value"].clone())
            })
            .collect::<serde_json::Map<_, _>>()
            .into();
        let script = r#"
import dkim, json
def lookup(name, timeout=5):
    return records.get(name.decode() if isinstance(name, bytes) else name, "").encode()
found = []
count = message.count("DKIM-Signature:")
for index in range(count):
    one = dkim.DKIM(message.encode())
    try:
        good = one.verify(idx=index, dnsfunc=lookup)
    except dkim.DKIMException as error:
        good = False
    found.append([one.domain.decode(), one.selector.decode(), good])
print(json.dumps(found))
"#;
        let given = json!({"message": message, "records": records});
        let mut command = python::command(script, &given);
        let said = program::run(&mut command, b"", Duration::from_secs(60)).succeeded();
        let found: Value = serde_json::from_str(&said.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let found = found.as_array().unwrap().iter();
        let mut all: Vec<_> = found
            .map(|one| (text(&one[0]), text(&one[1]), one[2].as_bool().unwrap()))
            .collect();
        all.sort();
        all
    }

    /// Whether opendkim believes an RSA signature.
    fn opendkim(&self, message: &str, key: &Value) -> bool {
        let write = |name: &str, text: &str| {
            let path = self.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let record = &key["record"];
        let (name, value) = (
            record["name"].as_str().unwrap(),
            record["value"].as_str().unwrap(),
        );
        let keys = write("opendkim.keys", &format!("{name} {value}\n"));
        let config = format!("TestPublicKeys {}\nRequireSafeKeys no\n", keys.display());
        let config = write("opendkim.conf", &config);
        // It judges all signatures together, and knows no Ed25519 everywhere.
        let message = write("opendkim.eml", message);
        let mut command = program::command("opendkim");
        command
            .arg("-x")
            .arg(config)
            .args(["-v", "-t"])
            .arg(message);
        let said = program::run(&mut command, b"", Duration::from_secs(60)).succeeded();
        said.text().contains("succeeded")
    }
}

fn signed_with(key: &Value) -> (String, String, bool) {
    let selector = key["selector"].as_str().unwrap().to_owned();
    ("example.test".into(), selector, true)
}

#[test]
fn a_key_signs_once_its_record_is_seen_and_others_believe_it_until_it_is_rotated() {
    skip_without!("nsd", "smtp-sink", "opendkim");
    skip_unless!(python::has("dkim"), "dkimpy is not installed");
    let mut world = World::start();
    assert!(!world.send(ALICE, "before").contains("DKIM-Signature"));

    let rsa = world.dkim(&["create", "example.test"]);
    assert_eq!(
        world.state(rsa["selector"].as_str().unwrap()).unwrap(),
        "pending"
    );
    assert!(
        !world
            .send(ALICE, "not published")
            .contains("DKIM-Signature")
    );
    world.publish(std::slice::from_ref(&rsa));
    let message = world.send(ALICE, "with RSA");
    let keys = [rsa.clone()];
    assert_eq!(world.dkimpy(&message, &keys), [signed_with(&rsa)]);
    assert!(world.opendkim(&message, &rsa), "{message}");
    let changed = message.replace("Hello,", "Hallo,");
    assert!(!world.opendkim(&changed, &rsa));
    assert!(!world.dkimpy(&changed, &keys)[0].2);

    let ed25519 = world.dkim(&["create", "example.test", "--kind", "ed25519"]);
    world.publish(std::slice::from_ref(&ed25519));
    let message = world.send(ALICE, "with both");
    let keys = [rsa.clone(), ed25519.clone()];
    let mut wanted = vec![signed_with(&rsa), signed_with(&ed25519)];
    wanted.sort();
    assert_eq!(world.dkimpy(&message, &keys), wanted);

    // Whom she may write as is not whom we sign for.
    let partner = "team@partner.test";
    world
        .system
        .rmailctl(&["user", "grant", ALICE, partner])
        .succeeded();
    assert!(
        !world
            .send(partner, "as a partner")
            .contains("DKIM-Signature")
    );
    world
        .system
        .rmailctl(&["domain", "add", "tenant.test"])
        .succeeded();
    world
        .system
        .rmailctl(&["user", "grant", ALICE, "x@tenant.test"])
        .succeeded();
    let other = world.dkim(&["create", "tenant.test", "--kind", "ed25519"]);
    let selector = other["selector"].as_str().unwrap();
    let activate = ["dkim", "activate", "tenant.test", selector];
    world.system.rmailctl(&activate).succeeded();
    assert!(
        !world
            .send("x@tenant.test", "of another tenant")
            .contains("DKIM-Signature")
    );

    let successors = world.dkim(&["rotate", "example.test"]);
    let successors = successors.as_array().unwrap().clone();
    assert_eq!(successors.len(), 2);
    let message = world.send(ALICE, "while they wait");
    assert_eq!(world.dkimpy(&message, &keys), wanted);
    world.publish(&successors);
    for key in &keys {
        world.wait_for_state(key["selector"].as_str().unwrap(), "retired");
    }
    let message = world.send(ALICE, "after the rotation");
    let mut wanted: Vec<_> = successors.iter().map(signed_with).collect();
    wanted.sort();
    assert_eq!(world.dkimpy(&message, &successors), wanted);
    assert!(world.opendkim(&message, &successors[1]) || world.opendkim(&message, &successors[0]));
}

#[test]
fn keys_are_as_they_were_acknowledged_however_often_keyd_is_killed_and_mail_waits_for_it() {
    skip_without!("nsd", "smtp-sink");
    let world = World::start();
    let first = world.dkim(&["create", "example.test", "--kind", "ed25519"]);
    let first = first["selector"].as_str().unwrap().to_owned();
    let order = |verb: &str, selector: &str| {
        let said = world
            .system
            .rmailctl(&["dkim", verb, "example.test", selector]);
        said.status.success()
    };
    assert!(order("activate", &first));
    let mut signing = first;
    // rmaild waits longer each time; keyd/tests/daemon.rs kills it often.
    for round in 0..4 {
        let made = world.dkim(&["create", "example.test", "--kind", "ed25519"]);
        let made = made["selector"].as_str().unwrap().to_owned();
        let system = &world.system;
        let is_acknowledged = std::thread::scope(|scope| {
            let killer = scope.spawn(move || {
                std::thread::sleep(Duration::from_micros(2000 * round));
                system.wait_for_restart("keyd", system.kill("keyd"))
            });
            let done = order("activate", &made);
            killer.join().unwrap();
            done
        });
        // Each state is one of those there were, and one key signs.
        let all = world.dkim(&["list", "example.test"]);
        let all = all.as_array().unwrap().clone();
        let of = |state: &str| {
            let keys = all.iter().filter(|key| key["state"] == state);
            let keys = keys.map(|key| key["selector"].as_str().unwrap().to_owned());
            keys.collect::<Vec<_>>()
        };
        let now = of("signing");
        assert_eq!(now.len(), 1, "{all:?}");
        assert!(
            now[0] == made || now[0] == signing && !is_acknowledged,
            "{all:?}"
        );
        assert!(of("damaged").is_empty(), "{all:?}");
        signing.clone_from(&now[0]);
        for other in of("retired").iter().chain(&of("pending")) {
            assert!(order("remove", other), "{other}");
        }
        let message = world.send(ALICE, &format!("round {round}"));
        assert!(message.contains(&format!(" s={signing};")), "{message}");
    }
    let dir: &Path = &world.system.home().mail_root().join("keys");
    let names = std::fs::read_dir(dir).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name != ".lock").collect();
    names.sort();
    assert_eq!(names, [format!("{signing}._domainkey.example.test.key")]);
}
