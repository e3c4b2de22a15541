//! What is said of a listener that is off, and of one where nobody else gets in.

use serde_json::{Value, json};
use system_tests::smtp::Client;
use system_tests::{Options, System};

use super::{ALICE, keys};

fn explain(system: &System, listener: &str) -> (Value, Vec<String>) {
    let arguments = [
        "explain",
        "--json",
        "--ip",
        "127.0.0.1",
        "--from",
        "carol@outside.test",
        "--to",
        ALICE,
        "--listener",
        listener,
    ];
    let told: Value = serde_json::from_str(&system.rmailctl(&arguments).stdout).unwrap();
    let keys = keys(&told).into_iter().map(str::to_owned).collect();
    (told, keys)
}

#[test]
fn a_listener_that_is_off_or_full_is_said_to_be_and_by_which_key() {
    let config = json!({"smtp": {"max_connections": 1}});
    let system = System::start(Options::alice().config(&config));
    let (told, keys) = explain(&system, "lmtp");
    let text = told.to_string();
    assert!(text.contains("the listener is switched off"), "{told:#}");
    assert!(text.contains("nobody listens"), "{told:#}");
    assert!(keys.contains(&"smtp.lmtp_port".to_owned()), "{keys:?}");

    let (told, _) = explain(&system, "smtp");
    assert_eq!(told["decisions"][0]["code"], 220, "{told:#}");
    let (_only_one, greeting) = Client::connect(system.address("smtp")).unwrap();
    assert_eq!(greeting.code, 220);
    let (told, keys) = explain(&system, "smtp");
    assert_eq!(told["decisions"][0]["code"], 421, "{told:#}");
    assert!(
        told.to_string().contains("connections in all: 1 of 1"),
        "{told:#}"
    );
    assert!(
        keys.contains(&"smtp.max_connections".to_owned()),
        "{keys:?}"
    );
    // And so it is.
    let (_, greeting) = Client::connect(system.address("smtp")).unwrap();
    assert_eq!(told["decisions"][0]["code"], greeting.code, "{told:#}");
    assert_eq!(
        told["decisions"][0]["reply"].as_str().unwrap(),
        greeting.lines.join("\n")
    );
}
