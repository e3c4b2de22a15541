//! Extensions of IMAP that are switched off for an account.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use serde_json::json;
use system_tests::{Options, System, skip_without};

const ALICE: &str = "alice@example.test";

#[test]
fn what_is_switched_off_for_an_account_is_neither_offered_nor_accepted() {
    skip_without!("python3");
    let system = System::start(Options::alice().user("bob@example.test"));
    let show = || {
        let shown = system.rmailctl(&["user", "imap", ALICE]).succeeded();
        shown.text().trim().to_owned()
    };
    assert_eq!(show(), "");
    let unknown = system.rmailctl(&["user", "imap", ALICE, "--without", "QRESYNC,TELEPATHY"]);
    assert_ne!(unknown.code(), 0);
    assert!(unknown.stderr.contains("TELEPATHY"), "{unknown:?}");
    let fixed = system.rmailctl(&["user", "imap", ALICE, "--without", "IMAP4rev1"]);
    assert_ne!(fixed.code(), 0);
    system
        .rmailctl(&[
            "user",
            "imap",
            ALICE,
            "--without",
            "condstore,COMPRESS=DEFLATE",
        ])
        .succeeded();
    assert_eq!(show(), "CONDSTORE\nCOMPRESS=DEFLATE");
    let nobody = ["user", "imap", "nobody@example.test", "--without", "IDLE"];
    assert_ne!(system.rmailctl(&nobody).code(), 0);
    let script = r#"
client = imap()
capabilities = ok(client.capability())[0].decode().split()
for name in ["CONDSTORE", "QRESYNC", "COMPRESS=DEFLATE"]:
    assert name not in capabilities, capabilities
assert "IDLE" in capabilities, capabilities
try:
    client.xatom("COMPRESS", "DEFLATE")
    raise Exception("compression was accepted")
except imaplib.IMAP4.error as error:
    assert "COMPRESS=DEFLATE is not offered" in str(error), error
"#;
    system.python(script, &json!({}));
    system
        .rmailctl(&["user", "imap", ALICE, "--all"])
        .succeeded();
    assert_eq!(show(), "");
    let script = "assert b'QRESYNC' in ok(imap().capability())[0]";
    system.python(script, &json!({}));
}
