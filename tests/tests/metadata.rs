//! Annotations (METADATA) from end to end: two accounts, a restart, and what LIST tells.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use serde_json::json;
use system_tests::{Options, System, skip_without};

const BOB: &str = "bob@example.test";

const TOOLS: &str = r#"
def ask(client, name, *arguments):
    result, data = client.xatom(name, *arguments)
    assert result == "OK", data
    return client.response("METADATA")[1]
"#;

#[test]
fn what_one_user_writes_down_stays_and_is_nobody_elses() {
    skip_without!("python3");
    let settings = json!({"imap": {"metadata": {"admin": "mailto:postmaster@example.test"}}});
    let mut system = System::start(Options::alice().user(BOB).config(&settings));
    let write = r#"
client = imap()
assert ask(client, "GETMETADATA", '""', "/shared/admin") == [b'"" (/shared/admin "mailto:postmaster@example.test")']
ask(client, "SETMETADATA", "Archive", '(/shared/comment "for all" /private/vendor/x "1")')
ask(client, "SETMETADATA", '""', '(/private/comment "only mine")')
ok(client.rename("Archive", "Attic"))
result, data = client.xatom("SETMETADATA", "Attic", '(/private/specialuse "\\\\Junk")')
assert result == "NO" and b"CANNOT" in data[0], data
"#;
    system.python(&format!("{TOOLS}{write}"), &json!({}));
    system.stop();
    system.start_again();
    let read = r#"
client = imap()
told = ask(client, "GETMETADATA", "(DEPTH infinity)", "Attic", "(/shared /private)")
assert told == [b'Attic (/private/specialuse "\\\\Archive" /private/vendor/x "1" /shared/comment "for all")'], told
assert ask(client, "GETMETADATA", '""', "/private/comment") == [b'"" (/private/comment "only mine")']
told = ask(client, "LIST", '""', '"%"', "RETURN (METADATA (/shared/comment))")
assert b'Attic (/shared/comment "for all")' in told and b"INBOX (/shared/comment NIL)" in told, told
other = imap(bob)
assert ask(other, "GETMETADATA", '""', "/private/comment") == [b'"" (/private/comment NIL)']
told = ask(other, "GETMETADATA", "(DEPTH infinity)", "Archive", "/shared")
assert told == [None], told
"#;
    system.python(&format!("{TOOLS}{read}"), &json!({"bob": BOB}));
}
