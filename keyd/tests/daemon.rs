//! The program itself, with its sockets, as rmaild would start it: killed at any moment, and asked for what cannot be.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use daemon::channel::{CallError, Client};
use ipc::Context;
use ipc::keys::{KeyAnswer, KeyControlEdge, KeyInfo, KeyRequest, KeyState};
use ipc::signing::{Order, SigningAnswer, SigningEdge, SigningRequest};
use sys::packet::PacketListener;

const PATIENCE: Duration = Duration::from_secs(10);
const DOMAIN: &str = "a.example";

struct House {
    home: tempfile::TempDir,
    listeners: [OwnedFd; 2],
    keyd: Child,
    ctl: Client<KeyControlEdge>,
    relayd: Client<SigningEdge>,
}

fn launch(home: &Path, [relayd, ctl]: &[OwnedFd; 2]) -> Child {
    let script = "exec 3<&0 4<&1 </dev/null >/dev/null; \
                  LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=relayd:ctl exec \"$0\" \"$1\"";
    Command::new("/bin/sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_keyd")])
        .arg(home.join("config.json"))
        .stdin(Stdio::from(relayd.try_clone().unwrap()))
        .stdout(Stdio::from(ctl.try_clone().unwrap()))
        .spawn()
        .unwrap()
}

impl House {
    fn build() -> Self {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().display().to_string();
        let config = format!(
            "{{\"version\": 1, \"hostname\": \"mail.example.test\", \"mail_root\": \"{root}\", \"run_dir\": \"{root}\",\
             \"log_level\": \"warn\", \"tls\": {{\"cert_file\": \"{root}/c\", \"key_file\": \"{root}/k\"}}}}"
        );
        std::fs::write(home.path().join("config.json"), config).unwrap();
        let socket = |asker: &str| home.path().join(format!("keyd-{asker}.sock"));
        let listen = |asker| {
            let listener = PacketListener::bind(&socket(asker)).unwrap();
            listener.as_fd().try_clone_to_owned().unwrap()
        };
        let listeners = [listen("relayd"), listen("ctl")];
        Self {
            keyd: launch(home.path(), &listeners),
            ctl: Client::new(socket("ctl")),
            relayd: Client::new(socket("relayd")),
            listeners,
            home,
        }
    }

    fn kill(&mut self) {
        self.keyd.kill().unwrap();
        self.keyd.wait().unwrap();
        self.keyd = launch(self.home.path(), &self.listeners);
    }

    async fn order(&self, request: KeyRequest) -> Result<Vec<KeyInfo>, CallError> {
        let answered = self.ctl.call(Context::default(), PATIENCE, request).await?;
        match answered.answer {
            KeyAnswer::Keys { keys, .. } => Ok(keys),
            KeyAnswer::KeyRemoved => Ok(Vec::new()),
        }
    }

    async fn keys(&self) -> Vec<KeyInfo> {
        let mut all: Vec<KeyInfo> = Vec::new();
        loop {
            let last = all.last();
            let request = KeyRequest::ListKeys {
                domain: None,
                after: last.map(|key| (key.domain.clone(), key.selector.clone())),
            };
            let asked = self.ctl.ask(Context::default(), PATIENCE, request).await;
            match asked.unwrap().answer {
                KeyAnswer::Keys { keys, more } => {
                    all.extend(keys);
                    if !more {
                        return all;
                    }
                }
                KeyAnswer::KeyRemoved => panic!("an answer to another question"),
            }
        }
    }

    async fn create(&self) -> Result<String, CallError> {
        let made = self.order(KeyRequest::CreateKey {
            domain: DOMAIN.into(),
            selector: None,
            kind: "ed25519".into(),
        });
        Ok(made.await?.remove(0).selector)
    }

    async fn activate(&self, selector: &str) -> bool {
        let order = KeyRequest::ActivateKey {
            domain: DOMAIN.into(),
            selector: selector.into(),
        };
        self.order(order).await.is_ok()
    }

    async fn sign(&self) -> String {
        let order = Order {
            domain: DOMAIN.into(),
            kept: None,
            fields: b"From: a@a.example\r\n".to_vec(),
            body_hash: [0; 32],
        };
        let request = SigningRequest::Sign(order);
        let asked = self.relayd.ask(Context::default(), PATIENCE, request).await;
        match asked.unwrap().answer {
            SigningAnswer::Signed { fields } => fields,
            answer => panic!("{answer:?}"),
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.keyd.kill().unwrap();
        self.keyd.wait().unwrap();
    }
}

#[tokio::test]
async fn whenever_it_dies_one_key_signs_and_what_was_acknowledged_is_so() {
    let mut house = House::build();
    let first = house.create().await.unwrap();
    assert!(house.activate(&first).await);
    let mut signing = first;
    for round in 0..60_u64 {
        let made = house.create().await.unwrap();
        let acknowledged = {
            let activate = house.activate(&made);
            tokio::pin!(activate);
            // From before it is heard to after it is done; a few hundred microseconds is what it takes.
            let moment = tokio::time::sleep(Duration::from_micros(round * 150));
            tokio::select! {
                biased;
                done = &mut activate => done,
                () = moment => false,
            }
        };
        house.kill();
        let all = house.keys().await;
        let of = |state| {
            let keys = all.iter().filter(move |key| key.state == state);
            keys.map(|key| key.selector.clone()).collect::<Vec<_>>()
        };
        let now = of(KeyState::Signing);
        assert_eq!(now.len(), 1, "round {round}: {all:?}");
        assert!(
            now[0] == made || (now[0] == signing && !acknowledged),
            "round {round}: {all:?}"
        );
        assert!(of(KeyState::Damaged).is_empty(), "{all:?}");
        signing.clone_from(&now[0]);
        assert!(house.sign().await.contains(&format!(" s={signing};")));
        for selector in of(KeyState::Pending)
            .into_iter()
            .chain(of(KeyState::Retired))
        {
            let domain = DOMAIN.into();
            let remove = KeyRequest::RemoveKey { domain, selector };
            house.order(remove).await.unwrap();
        }
    }
    let names = std::fs::read_dir(house.home.path().join("keys")).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            ".lock".to_owned(),
            format!("{signing}._domainkey.a.example.key")
        ]
    );
}

#[tokio::test]
async fn orders_that_cannot_be_are_refused_in_words_for_the_operator() {
    let house = House::build();
    let selector = |text: &str| Some(text.to_owned());
    let create = |domain: &str, selector, kind: &str| KeyRequest::CreateKey {
        domain: domain.into(),
        selector,
        kind: kind.into(),
    };
    let remove = |selector: &str| KeyRequest::RemoveKey {
        domain: DOMAIN.into(),
        selector: selector.into(),
    };
    let rotate = |domain: &str| KeyRequest::RotateKeys {
        domain: domain.into(),
    };
    house
        .order(create(DOMAIN, selector("s1"), "ed25519"))
        .await
        .unwrap();
    for (order, words) in [
        (create("not a domain", None, "ed25519"), "is not a domain"),
        (create("../../etc", None, "ed25519"), "is not a domain"),
        (
            create(DOMAIN, selector("../x"), "ed25519"),
            "is not a selector",
        ),
        (
            create(DOMAIN, selector("s1"), "ed25519"),
            "choose another selector",
        ),
        (create(DOMAIN, None, "rsa1024"), "rsa2048"),
        (remove("s2"), "rmailctl dkim list"),
        (rotate(DOMAIN), "no key signs"),
        (rotate("[192.0.2.1]"), "is not a domain"),
    ] {
        let said = house.order(order.clone()).await.unwrap_err().to_string();
        assert!(said.contains(words), "{order:?}: {said}");
    }
    assert_eq!(house.keys().await.len(), 1);
    assert!(house.activate("s1").await);
    assert_eq!(house.order(rotate(DOMAIN)).await.unwrap().len(), 1);
    let said = house.order(rotate(DOMAIN)).await.unwrap_err().to_string();
    assert!(said.contains("waits already"), "{said}");
}
